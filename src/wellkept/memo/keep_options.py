"""What `@keep` takes, checked once, and the marks that a signature may carry inside `Annotated`."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, TypeVar, Union

from wellkept.caches import Cache
from wellkept.caches.config import ARGUMENTS
from wellkept.caches.option_text import parse_duration
from wellkept.codecs import NAMES
from wellkept.errors import ConfigError, Undigestible, nearest
from wellkept.hashing import digest_bytes
from wellkept.runs.collectors import parse

if TYPE_CHECKING:
    from datetime import timedelta

    from wellkept.memo.depends import Dependency

T = TypeVar("T")

if TYPE_CHECKING:
    # For a type checker, what is marked is of the type in the brackets.
    Ignored = Annotated[T, "ignored"]
    Ordered = Annotated[T, "ordered"]
    Required = Annotated[T, "required"]
else:

    class _Mark:
        def __class_getitem__(cls, item):
            return Annotated[item, cls]

    class Ignored(_Mark):
        """Marks a parameter that does not count: `verbose: wellkept.Ignored[bool]`, or `wellkept.Ignored`
        alone, or `Annotated[bool, wellkept.Ignored]`.
        """

    class Ordered(_Mark):
        """Marks a parameter in which the order of dicts counts, as `Ignored` does."""

    class Required(_Mark):
        """Marks a parameter that has to be given for a call to be kept, as `Ignored` does."""


class Left:
    """What stands for an argument that was left out, where that is another call than its default."""

    __slots__ = ()


LEFT = Left()

GIVEN: Any = object()
"""Before arguments by position and by keyword, in place of values: of a call that can't be bound."""


Span = Union[float, str, "timedelta"]
Codec = Literal["pickle", "cloudpickle", "json", "dill", "hdf5", "arrow", "npy", "chunks"]
"""`wellkept.codecs.NAMES`, for who writes one in an editor."""


class Options(NamedTuple):
    """The options of one kept function; `keep` documents each."""

    version: Any = None
    code: str = "deep"
    name: str | None = None
    ignore: tuple[str, ...] = ()
    require: tuple[str, ...] = ()
    ordered: tuple[str, ...] = ()
    ignore_globals: tuple[str, ...] = ()
    key: Callable[..., Any] | None = None
    when: Callable[[Any], bool] | None = None
    ttl: float | None = None
    stale: float = 0.0
    arguments: str | None = None
    """None: as the configuration says."""
    share: int | None = None
    """How deep a part of a result is at the least that is kept by itself; None: none is."""
    errors: tuple[type[BaseException], ...] = ()
    codec: str = "pickle"
    cache: Cache | str | None = None
    isolate: bool = False
    tempdir: bool = False
    strict: bool = False
    meta: Any = None
    depends: tuple[Dependency, ...] = ()
    verify: float = 0.0
    observe: bool | None = None
    output: bool = False
    cost: Mapping[str, Callable[[Any], float]] = {}
    replicate: int = 0
    secret: tuple[str, ...] = ()
    each: str = ""
    batch: int = 256

    def usual(self) -> bool:
        """Whether a call goes the way of most: nothing is asked of its result, and nothing else kept."""
        return not (
            self.when or self.share is not None or self.cost or self.output or self.verify
        ) and (self.codec == "pickle" and self.code != "warn")

    @classmethod
    def of(
        cls,
        *,
        version: Any,
        code: str,
        name: str | None,
        ignore: Iterable[str] | str | None,
        require: Iterable[str] | str | None,
        ordered: Iterable[str] | str | None = (),
        ignore_globals: Iterable[str] | str | None = (),
        key: Callable[..., Any] | None,
        when: Callable[[Any], bool] | None,
        ttl: Span | None,
        stale: Span | None,
        arguments: str | None,
        errors: type[BaseException] | Iterable[type[BaseException]],
        codec: str,
        cache: Cache | str | os.PathLike[str] | None,
        isolate: bool,
        tempdir: bool = False,
        strict: bool,
        meta: Any = None,
        depends: Any = (),
        verify: float = 0.0,
        observe: bool | None = None,
        output: bool = False,
        cost: Mapping[str, Callable[[Any], float]] | None = None,
        replicate: int = 0,
        secret: Iterable[str] | str | None = (),
        share: Any = None,
        each: str | None = None,
        batch: int | None = None,
    ) -> Options:
        """Check what a user gave.

        Raises:
            ConfigError: an option is not what it may be.
        """
        try:
            digest_bytes(version, label="version")
        except Undigestible as error:
            raise ConfigError(f"version= takes a value that has a digest: {error}") from error
        parse(meta)
        flags = {"isolate": isolate, "tempdir": tempdir, "strict": strict, "output": output}
        for label, flag in flags.items():
            if not isinstance(flag, bool):
                raise ConfigError(f"{label}= is True or False, not {flag!r}")
        if isolate and tempdir:
            raise ConfigError(
                "isolate= says that the working directory counts, tempdir= that each body has its own"
            )
        if each is not None and (not isinstance(each, str) or not each):
            raise ConfigError(
                f"each= takes the name of the argument that has the items, not {each!r}"
            )
        if batch is not None and (type(batch) is not int or batch < 1):
            raise ConfigError(
                f"batch= is the most items that the body gets, from 1 up, not {batch!r}"
            )
        if batch is not None and each is None:
            raise ConfigError("batch= goes with each=, which names the argument that has the items")
        if each is not None and (tempdir or output):
            raise ConfigError(
                f"{'tempdir' if tempdir else 'output'}= says nothing beside each=: many calls share a body"
            )
        if observe is not None and not isinstance(observe, bool):
            raise ConfigError(f"observe= is True, False or None, not {observe!r}")
        for label, function in (("key", key), ("when", when)):
            if function is not None and not callable(function):
                raise ConfigError(f"{label}= takes a function, not {function!r}")
        if when is not None and not _takes_one(when):
            raise ConfigError(
                "when= is called with the result alone, and takes other arguments: write "
                f"when=lambda result: …, not {titled(when)}"
            )
        if isinstance(verify, bool) or not isinstance(verify, (int, float)) or not 0 <= verify <= 1:
            raise ConfigError(f"verify= is a share of the hits, from 0 to 1, not {verify!r}")
        if code not in ("deep", "own", "off", "warn"):
            raise ConfigError(
                f"code= is 'deep', 'own', 'off' or 'warn', not {code!r}"
                f"{nearest(code, ('deep', 'own', 'off', 'warn'))}"
            )
        if code == "warn" and version is not None:
            raise ConfigError(
                "code='warn' says nothing beside version=, which alone stands for the code"
            )
        pair = ("elements", 0) if isinstance(share, str) and share == "elements" else share
        if share is not None and not (
            isinstance(pair, tuple)
            and len(pair) == 2
            and pair[0] == "elements"
            and type(pair[1]) is int
            and pair[1] >= 0
        ):
            raise ConfigError(
                f"share= is 'elements', or ('elements', depth) with a depth from 0 up, not {share!r}"
            )
        if arguments is not None and arguments not in ARGUMENTS:
            raise ConfigError(
                f"arguments= is one of {', '.join(ARGUMENTS)}, not {arguments!r}"
                f"{nearest(arguments, ARGUMENTS)}"
            )
        if codec not in NAMES:
            raise ConfigError(
                f"codec= is one of {', '.join(NAMES)}, not {codec!r}{nearest(codec, NAMES)}"
            )
        if stale is not None and ttl is None:
            raise ConfigError("stale= needs a ttl=: how long after it a result may still be served")
        if name is not None and (not isinstance(name, str) or not name):
            raise ConfigError(f"name= takes text, not {name!r}")
        ignored = _names("ignore", ignore)
        in_order = _names("ordered", ordered)
        hidden = _names("secret", secret)
        for label, names in (("ignore", ignored), ("ordered", in_order), ("secret", hidden)):
            if key is not None and names:
                raise ConfigError(
                    f"{label}= says nothing beside key=, which alone names what counts"
                )
        if isinstance(cache, os.PathLike):
            # A path, even if it looks like a name.
            cache = str(Path(cache).expanduser().absolute())
        elif cache == "":
            raise ConfigError("cache= takes a cache, a name, a path or a URL, not an empty text")
        elif isinstance(cache, str):
            pass
        elif cache is not None and not isinstance(cache, Cache):
            raise ConfigError(f"cache= takes a cache, a name, a path or a URL, not {cache!r}")
        return cls(
            version=version,
            code=code,
            name=name,
            ignore=(*ignored, *hidden),
            require=_names("require", require),
            ordered=in_order,
            ignore_globals=_names("ignore_globals", ignore_globals, "globals"),
            key=key,
            when=when,
            ttl=_ttl(ttl, stale),
            stale=0.0 if stale is None else _span("stale", stale),
            arguments=arguments,
            errors=_errors(errors),
            codec=codec,
            cache=cache,
            isolate=isolate,
            tempdir=tempdir,
            strict=strict,
            meta=meta,
            depends=_depends(depends),
            verify=float(verify),
            observe=observe,
            output=output,
            cost=_costs(cost),
            replicate=checked_replicate(replicate),
            secret=hidden,
            share=None if share is None else pair[1],
            each=each or "",
            batch=batch or 256,
        )


def _costs(given: Any) -> Mapping[str, Callable[[Any], float]]:
    if given is None:
        return {}
    if not isinstance(given, Mapping) or not all(
        isinstance(name, str) and name and callable(of) for name, of in given.items()
    ):
        raise ConfigError(
            "cost= takes functions of the result by what they count, such as "
            f'{{"usd": lambda result: 0.02}}, not {given!r:.80}'
        )
    return dict(given)


def checked_replicate(number: Any) -> int:
    """Return the number of a replicate.

    Raises:
        ConfigError: it is no number from 0 up.
    """
    if type(number) is not int or number < 0:
        raise ConfigError(f"replicate= is a number from 0 up, not {number!r:.80}")
    return number


def _depends(given: Any) -> tuple[Dependency, ...]:
    if not isinstance(given, (tuple, list)) or given:
        # Most functions depend on nothing else.
        from wellkept.memo.depends import parse

        return parse(given)
    return ()


def _span(label: str, said: Span) -> float:
    return parse_duration(said, option=label)


def _ttl(ttl: Span | None, stale: Span | None) -> float | None:
    seconds = None if ttl is None else _span("ttl", ttl)
    if seconds == 0 and stale is None:
        raise ConfigError(
            f"ttl={ttl!r} keeps nothing, as each result expires at once: give a time such as '12 h' (units "
            "are ms, s, min, h, d and w), or with stale= how long an old result is served meanwhile"
        )
    return seconds


def _names(
    label: str, given: Iterable[str] | str | None, what: str = "parameters"
) -> tuple[str, ...]:
    if given is None:
        return ()
    try:
        names = (given,) if isinstance(given, str) else tuple(given)
    except TypeError:
        names = (None,)  # type: ignore[assignment]  # refused below
    if not all(isinstance(name, str) for name in names):
        raise ConfigError(f"{label}= takes names of {what}, not {given!r}")
    return names


def _errors(
    given: type[BaseException] | Iterable[type[BaseException]],
) -> tuple[type[BaseException], ...]:
    try:
        kinds: Any = (given,) if isinstance(given, (type, str)) else tuple(given)
    except TypeError:
        kinds = (given,)
    for kind in kinds:
        if not (isinstance(kind, type) and issubclass(kind, Exception)):
            stops = isinstance(kind, type) and issubclass(kind, BaseException)
            why = ": what stops a program is not kept" if stops else ""
            raise ConfigError(
                f"errors= takes exception types, such as errors=ValueError or errors=(ValueError, OSError), "
                f"not {kind!r}{why}"
            )
    found: tuple[type[BaseException], ...] = kinds
    return found


def titled(function: Any) -> str:
    """Return the name of a function, for a message."""
    return str(getattr(function, "__qualname__", None) or repr(function))


def _takes_one(function: Callable[..., Any]) -> bool:
    # Loaded on first use: it takes a while.
    import inspect

    try:
        accepted = inspect.signature(function)
    except (TypeError, ValueError):
        # Not every callable tells.
        return True
    try:
        accepted.bind(None)
    except TypeError:
        return False
    return True
