"""What all importers share: results of other libraries become those of kept functions, or are refused and why.

Nothing is guessed: an entry is taken if its function, its arguments and its result are known, and is counted as
refused otherwise. What other libraries pickled is read by the reader of plain types, which runs no code.
"""

from __future__ import annotations

import contextlib
import inspect
import math
import pickle
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

from wellkept.codecs import safe_pickle
from wellkept.codecs.envelope import Refused
from wellkept.codecs.safe_types import Named
from wellkept.errors import ConfigError, StoreError
from wellkept.memo import Kept

Names = Callable[[str, str], Named | None]
Progress = Callable[[int, int], None] | None
Given = tuple[Sequence[Any], Mapping[str, Any]]

LARGEST = 1 << 30  # bytes of a file, and that a compressed value may become, unless it is trusted
_NEVER = 1e11  # seconds since the epoch: no expiry that a library would write
_KINDS = inspect.Parameter
_OTHER = "wellkept: what is ignored"


class Item(NamedTuple):
    """What became of one entry."""

    what: str
    """The call, as text, or the key."""
    outcome: Literal["taken", "same", "refused"]
    """`same`: it was there already."""
    why: str = ""
    """Of what is refused."""


@dataclass
class Taken:
    """What was taken over, or would be."""

    items: list[Item] = field(default_factory=list)
    """Each entry that was looked at."""

    def count(self, outcome: Literal["taken", "same", "refused"]) -> int:
        """Return how many entries came to this."""
        return sum(item.outcome == outcome for item in self.items)

    @property
    def refused(self) -> dict[str, int]:
        """Why entries were refused, and how many; the most common first."""
        found = Counter(item.why for item in self.items if item.outcome == "refused")
        return dict(found.most_common())

    def __repr__(self) -> str:
        said = ", ".join(f"{self.count(one)} {one}" for one in ("taken", "same", "refused"))
        return f"<wellkept.Taken {said}>"


class Refusal(Exception):  # noqa: N818  it says what happened, as the library's errors do
    """An entry is not taken; its text is the reason."""


class Found(NamedTuple):
    """An entry of another library's cache."""

    what: str
    read: Callable[[], tuple[Given, Any]]
    """Gives the arguments and the result, or raises `Refusal`, or whatever a broken file makes it raise."""
    created: float | None = None
    seconds: float = 0.0
    expires: float | None = None


def check_function(function: Any) -> None:
    """See that there is a kept function to take results for.

    Raises:
        ConfigError: there is none.
    """
    if not isinstance(function, Kept):
        raise ConfigError(f"function= is a function with @keep, not {function!r:.80}")
    body = body_of(function)
    name = function.function_name
    if function.options.each:
        raise ConfigError(f"{name} is a function of many items (each=), whose calls are others")
    code = getattr(body, "__code__", None)
    if code is None or code.co_name == "<lambda>" or {*code.co_freevars} - {"__class__"}:
        raise ConfigError(
            f"{name} is a lambda, encloses variables, or is no Python function: the other library does not "
            "tell it from others of its name, so its results may be theirs"
        )


def take(
    found: Iterable[Found],
    function: Kept[..., Any],
    done: Taken,
    *,
    origin: str,
    dry_run: bool,
) -> None:
    """Keep results as those of a function.

    Args:
        done: where it is noted what becomes of each.
        origin: the library, which the records name.

    Raises:
        StoreError: they can't be written.
    """
    for entry in found:
        try:
            given, result = read(entry.read)
            outcome = _keep(entry, given, result, function, origin, dry_run)
        except Refusal as refusal:
            done.items.append(Item(entry.what, "refused", str(refusal)))
        except StoreError:
            raise
        except Exception as error:  # noqa: BLE001  arguments may be of any kind, and have any fault
            why = f"it can't be kept: {type(error).__name__}: {error}"
            done.items.append(Item(entry.what, "refused", why[:300]))
        else:
            done.items.append(Item(entry.what, outcome))


def read(reader: Callable[[], Any]) -> Any:
    """Return what is read of an entry.

    Raises:
        Refusal: it is broken, or not to be trusted.
    """
    try:
        return reader()
    except Refusal:
        raise
    except Refused as error:
        raise Refusal(f"{error.why}, which is read only with trust") from error
    except Exception as error:
        raise Refusal(f"it can't be read: {type(error).__name__}: {error}"[:300]) from error


def _keep(
    entry: Found, given: Given, result: Any, function: Kept[..., Any], origin: str, dry_run: bool
) -> Literal["taken", "same"]:
    args, kwargs = given
    now = time.time()
    call = function.call(*args, **kwargs)
    if call.state != "not kept" and (call.expires is None or call.expires > now):
        return "same"
    created = now if entry.created is None else min(_number(entry.created), now)
    ends = [entry.expires, None if function.options.ttl is None else created + function.options.ttl]
    expires = min((end for end in ends if end is not None), default=None)
    if expires is not None and not now < expires < _NEVER:
        raise Refusal("it has expired")
    if function.options.when is not None and not function.options.when(result):
        raise Refusal("when= of the function says that it is not kept")
    value, state = function._as_kept(result)
    if not dry_run:
        made = call.replace(
            state=state,
            created=created,
            seconds=_number(entry.seconds),
            expires=expires,
            metadata={"imported": {"from": origin}},
        )
        function.cache.save(
            made, value if state == "done" else value[0], codec=function.options.codec
        )
    return "taken"


def _number(given: Any) -> float:
    """Return a time or a duration, as far as it is one."""
    number = float(given) if type(given) in (int, float) else 0.0
    return number if 0 <= number < math.inf else 0.0


# -- arguments ------------------------------------------------------------------------------------


def body_of(function: Kept[..., Any]) -> Any:
    """Return the function that is kept, as the other library was given it."""
    return function.__wrapped__


def names_of(function: Kept[..., Any]) -> set[tuple[str, str]]:
    """Return the module and the qualified name that another library may know a function by."""
    body = body_of(function)
    modules = {body.__module__}
    if body.__module__ == "__mp_main__":
        modules.add("__main__")
    return {(module, body.__qualname__) for module in modules}


def call_of(function: Kept[..., Any], given: Mapping[str, Any], ignored: Iterable[str]) -> Given:
    """Return arguments as a call is made with them.

    Args:
        given: by the names of the parameters; of `*args` a sequence, of `**kwargs` a mapping.
        ignored: parameters without a value, as the other library did not look at it.

    Raises:
        Refusal: the function has other parameters, or does not ignore these.
    """
    signature = inspect.signature(body_of(function))
    missing = set(ignored)
    if unknown := {*given, *missing} - set(signature.parameters):
        raise Refusal(f"the function has no parameter {', '.join(sorted(unknown))}")
    made = [
        _arranged(signature, {**given, **dict.fromkeys(missing, value)}) for value in (None, _OTHER)
    ]
    if missing and function.key(*made[0][0], **made[0][1]) != function.key(
        *made[1][0], **made[1][1]
    ):
        raise Refusal(
            f"{', '.join(sorted(missing))} did not count: the kept function has to ignore it too"
        )
    return made[0]


def _arranged(signature: inspect.Signature, given: Mapping[str, Any]) -> Given:
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    by_name = False
    more = any(
        p.kind is _KINDS.VAR_POSITIONAL and given.get(p.name) for p in signature.parameters.values()
    )
    for name, parameter in signature.parameters.items():
        kind = parameter.kind
        if kind is _KINDS.VAR_POSITIONAL:
            args += given.get(name, ())
        elif kind is _KINDS.VAR_KEYWORD:
            kwargs |= given.get(name, {})
        elif name not in given:
            if parameter.default is _KINDS.empty or more:
                raise Refusal(f"its argument {name} is not known")
            by_name = True
        elif kind is _KINDS.KEYWORD_ONLY or (by_name and kind is not _KINDS.POSITIONAL_ONLY):
            kwargs[name] = given[name]
        elif by_name:
            raise Refusal(f"its argument {name} can only be given after others that are not known")
        else:
            args.append(given[name])
    return args, kwargs


# -- values ---------------------------------------------------------------------------------------


def unpickled(data: bytes, trust: bool, names: Names | None = None) -> Any:
    """Return what a pickle holds: of plain types, or of any if it is trusted.

    Args:
        names: what stands for names of the other library.

    Raises:
        Refused: it is of other types, and not trusted.
    """
    if trust:
        return pickle.loads(data)  # noqa: S301  the user says that it is trusted
    return safe_pickle.decode(data, (), names)


def content(root: Path, name: str, trust: bool = False) -> bytes:
    """Return what is in a file of a directory, by the name that an index says.

    Raises:
        Refusal: it is another directory's, no file, or larger than what is taken of an unknown place.
        OSError: it can't be read.
    """
    path = (root / name).resolve()
    if not path.is_relative_to(root.resolve()):
        raise Refusal("its file is outside of the directory")
    if not path.is_file():
        raise Refusal("its file is gone")
    # It may be of holes, and so take no room where it lies.
    if not trust and path.stat().st_size > LARGEST:
        raise Refusal("its file has more than 1 GiB, which is read only with trust")
    return path.read_bytes()


@contextlib.contextmanager
def reading(file: Path, *tables: str) -> Iterator[sqlite3.Connection]:
    """A database of SQLite that is only read, which has these tables; a view could compute without end.

    Raises:
        StoreError: it can't be read.
    """
    try:
        with contextlib.closing(
            sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True)
        ) as c:
            c.execute("PRAGMA trusted_schema = OFF")
            for table in tables:
                kind = c.execute(
                    "SELECT type FROM sqlite_master WHERE name = ?", (table,)
                ).fetchone()
                if kind != ("table",):
                    raise StoreError(f"can't read {file}: it has no table {table}")
            yield c
    except (sqlite3.Error, ValueError, TypeError) as error:
        raise StoreError(f"can't read {file}: {error}") from error


def decompressed(stream: Any, trust: bool) -> bytes:
    """Return what a stream of compressed bytes gives.

    Raises:
        Refusal: it would be larger than what is taken of an unknown place.
    """
    with stream:
        found: bytes = stream.read() if trust else stream.read(LARGEST + 1)
    if len(found) > LARGEST and not trust:
        raise Refusal("it becomes more than 1 GiB, which is read only with trust")
    return found
