"""What options name: which cache is meant, and which kept function."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wellkept.conditions import ORDERS
from wellkept.errors import AmbiguousDigest, ConfigError, KeptError, NotKept

if TYPE_CHECKING:
    from wellkept.caches import Cache
    from wellkept.caches.config import Spec
    from wellkept.query import Match, Matches
    from wellkept.records import Call, Digest


def chosen(cache: str | None) -> tuple[Spec, str]:
    """What `--cache` names, or the active cache, and where that was said.

    Raises:
        ConfigError: there is none, or the configuration is malformed.
    """
    from wellkept.caches import settings
    from wellkept.caches.config import Spec, no_such
    from wellkept.caches.opening import resolve_url

    if cache is None:
        found = settings()
        return found.active, found.source
    if not cache:
        raise ConfigError("--cache: an empty path names no cache")
    if re.fullmatch(r"\w[\w-]*", cache):
        found = settings()
        if cache not in found.caches and not Path(cache).is_dir():
            raise ConfigError(f"--cache: {no_such(cache, found.caches)}")
        if cache in found.caches:
            return found.caches[cache], found.source
    return Spec(resolve_url(cache, Path.cwd())), "--cache"


def exists(spec: Spec) -> bool | None:
    """Whether there is a cache already; None where only its server, or its parts, know."""
    from wellkept.caches.opening import without_limit
    from wellkept.stores.openers import local_path, scheme_of

    if spec.url is None or "${" in spec.url:
        return None
    url, _ = without_limit(spec.url)
    if scheme_of(url):
        local = local_path(url)
        return None if local is None else local.exists()
    path = Path(url).expanduser()
    return any(path.glob("index*.sqlite")) or path.is_file()


@contextlib.contextmanager
def opened(
    cache: str | None, *, make: bool = False, must: bool = True, memory: int = 0
) -> Iterator[tuple[Cache, str]]:
    """The cache that is meant, and its URL without secrets.

    Args:
        make: make it if it is not there; otherwise an empty one stands in for the active one.
        must: one that `--cache` names has to be there, unless it is made.
        memory: bytes of its memory tier; most commands ask nothing twice.

    Raises:
        ConfigError: there is none of that name.
        NotKept: it is not there, and it must.
        StoreError: it can't be opened.
    """
    from wellkept.caches import open_cache
    from wellkept.caches.active import named
    from wellkept.caches.building import build

    spec, source = chosen(cache)
    if exists(spec) is False and not make:
        if must and cache is not None:
            raise NotKept(f"there is no cache in {spec.shown}")
        found = open_cache("memory:")
        # Messages name what it stands in for.
        found.url = spec.shown
    else:
        try:
            # A pool and a view have no tier of their own.
            held = {} if spec.pool or spec.of else {"memory": memory}
            found = build(spec._replace(options={**spec.options, **held}), named)
        except ConfigError as error:
            raise ConfigError(f"{source}: {error}") from error
    with found:
        yield found, spec.shown


_KEY = re.compile(r"[0-9a-fA-F]{4,64}")
# What --where compares, and those of it that are times.
_FIELDS = ("seconds", "size", "uses", "created", "used", "expires")
_TIMES = _FIELDS[3:]
# Calls whose arguments are named in a message, and that are.
_LOOKED_AT, _NAMED = 200, 4


def named(function: str) -> str:
    """The name under which a function is kept, of `script.py:name`; another text as it is."""
    path, _, name = function.rpartition(":")
    if not path.endswith(".py") or not Path(path).is_file():
        return function
    from wellkept.hashing.names import script_of

    return f"{script_of(path)}:{name}"


def matching(
    cache: Cache,
    function: str | None = None,
    *,
    arg: list[str] | None = None,
    tag: list[str] | None = None,
    where: list[str] | None = None,
    **filters: Any,
) -> Matches:
    """The calls that options choose.

    Args:
        function: a name, or a pattern; it has to have calls.
        filters: of `Cache.query`; None is left out.

    Raises:
        ConfigError: an option is no filter, or no call has such an argument.
        NotKept: no function has that name.
    """
    # It takes long to import, and most commands choose no calls.
    from datetime import datetime, timedelta

    from wellkept.caches.filter_text import asked, when
    from wellkept.caches.maintenance import chosen as some
    from wellkept.query import ANY

    of = {}
    if function is not None:
        function = named(function)
        # A misspelt name is an error, not an answer.
        some(cache, function)
        of = {"function": function}
    found = cache.query(**of, **{name: said for name, said in filters.items() if said is not None})
    arguments = [read("--arg", asked, said) for said in arg or ()]
    for name, test in arguments:
        found = found.where(arguments={name: test})
        if not cache.query(**of, arguments={name: ANY}).exists():
            _unknown("--arg", name, cache.query(**of))
    for said in tag or ():
        name, test = read("--tag", asked, said)
        found = found.where(tags={name: test} if re.search("[=<>]", said) else name)
    for said in where or ():
        name, sign, value = re.fullmatch(r"([^=<>]*)([=<>]*)(.*)", said, re.DOTALL).groups()  # type: ignore[union-attr]  # it always does
        if name.strip() not in _FIELDS or not sign:
            raise ConfigError(
                f"--where {said!r}: say FIELD>VALUE, of {', '.join(_FIELDS)}; arguments are chosen by --arg"
            )
        name, test = read("--where", asked, said)
        if name in _TIMES:
            at = when(value)
            at = (datetime.now() - at if isinstance(at, timedelta) else at).timestamp()
            name, test = asked(f"{name}{sign}{at!r}")
        try:
            found = found.where(**{name: test})
        except ConfigError as error:
            raise ConfigError(f"--where {said!r}: {error}") from None
    return found


def read(option: str, reader: Callable[[str], Any], said: str) -> Any:
    """What an option says, as `reader` reads it; its ConfigError names the option."""
    try:
        return reader(said)
    except ConfigError as error:
        raise ConfigError(f"{option}: {error}") from None


def _unknown(option: str, name: str, among: Matches, more: str = "") -> None:
    """Raise ConfigError, with the arguments that there are; where there are no calls, nothing is wrong."""
    some = among.order_by("-created").limit(_LOOKED_AT).calls()
    known = dict.fromkeys(one for call in some for one in call.arguments if one[:1] != "@")
    if known:
        raise ConfigError(
            f"{option} {name}: no such call has an argument of that name; there are "
            f"{', '.join(known)}{more}"
        )


def checked_order(order: str, found: Matches) -> str:
    """`--order`, if it is a field or an argument that a call has.

    Raises:
        ConfigError: it is neither.
    """
    from wellkept.query import ANY
    from wellkept.query.operators import order as order_of

    by = order_of(order, None)
    if by.field == "argument" and not found.where(arguments={by.path[0]: ANY}).exists():
        _unknown("--order", by.path[0], found, f"; fields are {', '.join(ORDERS)}")
    return order


def is_key(what: str) -> bool:
    """Whether it may be a key, a digest, or the beginning of one."""
    return _KEY.fullmatch(what) is not None


def key_of(cache: Cache, what: str) -> Digest | None:
    """The key that is meant; None where a function is.

    Raises:
        NotKept: it looks like a key, and neither is there.
        AmbiguousDigest: several keys begin so, or a function is called so, too.
    """
    from wellkept.conditions import matches

    if not is_key(what):
        return None
    function = next(
        (row.function for row in cache.backend.functions() if matches(row.function, what)), None
    )
    try:
        key = cache.expand(what)
    except NotKept:
        if function is not None:
            return None
        raise
    if function is not None:
        # What is deleted must not be the other of the two.
        raise AmbiguousDigest(
            f"{what} is a function and the beginning of the key {key[:16]}: say {function!r} or more digits"
        )
    return key


def one_call(cache: Cache, what: str, arg: list[str] | None = None) -> Call:
    """The call that a key names, or a function with arguments.

    Raises:
        AmbiguousDigest: it names several.
        NotKept: it names none.
        ConfigError: an argument is not known.
    """
    key = key_of(cache, what)
    if key is not None:
        if arg:
            raise ConfigError(f"--arg goes with a function, and {what} is a key")
        call = cache.calls.get(key)
        if call is None:
            raise NotKept(f"no call {what} is kept in {cache}")
        return call
    found = matching(cache, what, arg=arg)
    # Of one call that several versions of the code computed, the latest.
    calls = list(found.order_by("-created").unique(_given).limit(_NAMED + 1).calls())
    if not calls:
        raise NotKept(f"no call of {what} in {cache} has {' and '.join(arg or ())}")
    if len(calls) > 1:
        from wellkept.query.noted import described

        some = (f"{call.key[:12]} ({described(cache.backend.notes, call):.60})" for call in calls)
        raise AmbiguousDigest(
            f"{what} names {found.count():,} calls: {', '.join([*some][:_NAMED])}"
            f"{', …' if len(calls) > _NAMED else ''}; choose one by --arg NAME=VALUE, or give its key"
        )
    return calls[0]


def _given(match: Match) -> Any:
    call = match.call
    return call.function, tuple((name, one.digest) for name, one in call.arguments.items())


def span(option: str, said: str | None) -> float | None:
    """Seconds from what an option says, which has to name their unit: what is deleted depends on it.

    Raises:
        ConfigError: it does not, or is no duration.
    """
    from wellkept.caches.option_text import parse_duration

    return (
        None if said is None else read(option, lambda text: parse_duration(text, unit=True), said)
    )


def size(option: str, said: str) -> int:
    """Bytes from what an option says, with their unit; raises as `span`."""
    from wellkept.caches.option_text import parse_size

    if said.strip().isdecimal() and int(said):
        raise ConfigError(f"{option}: {said} of what? Give the unit, such as {said}MB or {said}GB")
    return read(option, parse_size, said)  # type: ignore[no-any-return]  # it is a size


def sure(what: str, yes: bool) -> None:
    """Have somebody agree that something is deleted; where nobody is at a terminal, --yes has to be said.

    Raises:
        ConfigError: nobody can be asked.
        KeptError: the answer was no.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        raise ConfigError(f"to {what}, say --yes: there is no terminal to ask at")
    import typer

    if not typer.confirm(f"{what[0].upper()}{what[1:]}?", err=True):
        raise KeptError("nothing was deleted")


@contextlib.contextmanager
def imported(
    said: str, cache: str | None, *, make: bool = False, must: bool = True
) -> Iterator[tuple[Any, str]]:
    """A kept function that goes to the cache that is meant, and that cache's URL without secrets.

    Args:
        said: see `looked_up`.
        cache: what `--cache` names; None: the cache that the function goes to.
        make, must: see `opened`.

    Raises: as `looked_up` and `opened`.
    """
    from wellkept.caches.option_text import redacted

    function = looked_up(said)
    if cache is None:
        yield function, redacted(str(function.cache))
        return
    with opened(cache, make=make, must=must) as (found, url):
        options = function.options._replace(cache=found)
        yield type(function)(function.__wrapped__, options, function._method), url


def find_modules() -> None:
    """Have modules of the working directory be found, as results may be of their classes."""
    # The program `wellkept`, unlike `python -m wellkept`, begins in its own directory.
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.insert(0, here)


def looked_up(said: str) -> Any:
    """A kept function from `module:name`, as `wellkept ls` shows it, or `script.py:name`.

    A script is run as a pool's worker runs it: what stands under `if __name__ == "__main__"` is not.

    Raises:
        ConfigError: it can't be imported, or is no kept function.
    """
    from wellkept.memo import Kept

    module, colon, name = said.rpartition(":")
    if not colon or not module or not name:
        raise ConfigError(f"{said!r} is no function: say module:name, or script.py:name")
    found: Any = _module(module, said)
    for part in name.split("."):
        try:
            found = vars(found)[part] if isinstance(found, type) else getattr(found, part)
        except (AttributeError, KeyError):
            raise ConfigError(f"there is no {part} in {module} ({said})") from None
    found = getattr(found, "__func__", found)
    if not isinstance(found, Kept):
        raise ConfigError(
            f"{said} is no kept function but a {type(found).__name__}: put @keep on a function"
        )
    return found


def _module(name: str, said: str) -> Any:
    script = Path(name)
    is_script = script.suffix == ".py" or script.is_file()
    beside = str(script.resolve().parent) if is_script else str(Path.cwd())
    if beside not in sys.path:
        sys.path.insert(0, beside)
    try:
        return _script(script) if is_script else importlib.import_module(name)
    except Exception as error:
        raise ConfigError(
            f"{said}: importing {name} failed with {type(error).__name__}: {error}"
        ) from error


def _script(path: Path) -> Any:
    """As multiprocessing's children have the program's script, so that its functions are the same."""
    spec = importlib.util.spec_from_file_location("__mp_main__", path.resolve(strict=True))
    if spec is None or spec.loader is None:
        raise ConfigError(f"{path} is no Python script")
    module = importlib.util.module_from_spec(spec)
    sys.modules["__mp_main__"] = module
    spec.loader.exec_module(module)
    return module
