"""`wellkept import diskcache`: entries of `diskcache.Cache` and `FanoutCache`, without diskcache."""

from __future__ import annotations

import inspect
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from wellkept.codecs.safe_types import Named
from wellkept.errors import ConfigError, NotKept, StoreError
from wellkept.integrations.importers.taking import (
    Found,
    Given,
    Item,
    Progress,
    Refusal,
    Taken,
    body_of,
    call_of,
    check_function,
    content,
    names_of,
    read,
    reading,
    take,
    unpickled,
)

if TYPE_CHECKING:
    from wellkept.memo import Kept

_ROWS = (
    "SELECT key, raw, store_time, expire_time, mode, filename, value, tag FROM Cache ORDER BY rowid"
)
_CONSTANT = object()
_RAW, _BINARY, _TEXT, _PICKLE = 1, 2, 3, 4


def from_diskcache(
    path: str | os.PathLike[str],
    function: Kept[..., Any] | None = None,
    *,
    name: str | None = None,
    ignore: Iterable[int | str] = (),
    stampede: bool | None = None,
    into: Entries | None = None,
    trust: bool = False,
    dry_run: bool = False,
    progress: Progress = None,
) -> Taken:
    """Take over what diskcache kept in a directory, which is only read.

    Naming a function says that its results are those of its code today, as diskcache does not look at code.

    Args:
        path: the directory of a `Cache` or a `FanoutCache`.
        function: a kept function that was memoized there: only its results are taken.
        name: what `memoize(name=)` was, if anything.
        ignore: what `memoize(ignore=)` was.
        stampede: whether it was `memoize_stampede`; has to be said where results look as if it was.
        into: a `wellkept.integrations.diskcache.Cache` or `FanoutCache` where all entries go, if there is no
            `function`.
        trust: unpickle keys and values of any type, which may run code.
        dry_run: only say what would be done.
        progress: called with how many entries were looked at, and of how many.

    Raises:
        ConfigError: neither a kept function nor `into` is given, or both, or a parameter is ignored by the
            function and `ignore` does not say so.
        NotKept: there is no such cache.
        StoreError: one of the two can't be read or written. What was taken stays.
    """
    if (function is None) == (into is None):
        raise ConfigError(
            "say either function=, whose results are taken, or into=, for all entries"
        )
    done = Taken()
    root = Path(path).expanduser()
    shards = [root] if (root / "cache.db").is_file() else sorted(root.glob("[0-9][0-9][0-9]"))
    shards = [shard for shard in shards if (shard / "cache.db").is_file()]
    if not shards:
        raise NotKept(f"{root} is no cache of diskcache: there is no cache.db in it")
    rows = (
        (shard, row, place, total)
        for shard in shards
        for place, total, row in _rows(shard, progress)
    )
    if into is not None:
        for shard, row, _, _ in rows:
            _take_entry(shard, row, into, done, trust, dry_run)
        return done
    check_function(function)
    assert function is not None
    ignored = frozenset(ignore)
    if function.options.ignore and not ignored:
        raise ConfigError(
            f"{function.function_name} ignores {', '.join(function.options.ignore)}: say with ignore= what "
            "memoize(ignore=) was"
        )
    bases = {name} if name else {f"{module}.{of}" for module, of in names_of(function)}
    found: Iterator[Found] = (
        one
        for shard, row, _, _ in rows
        if (one := _result(shard, row, function, bases, ignored, stampede, trust)) is not None
    )
    take(found, function, done, origin="diskcache", dry_run=dry_run)
    return done


def _rows(shard: Path, progress: Progress) -> Iterator[tuple[int, int, tuple[Any, ...]]]:
    with reading(shard / "cache.db", "Cache") as c:
        (total,) = c.execute("SELECT COUNT(*) FROM Cache").fetchone()
        for place, row in enumerate(c.execute(_ROWS)):
            if progress is not None:
                progress(place, total)
            yield place, total, row


def _key(row: tuple[Any, ...], trust: bool) -> Any:
    key, raw = row[:2]
    return key if raw else unpickled(_bytes(key), trust, _constant)


def _bytes(data: Any) -> bytes:
    # A number would be taken as a size.
    if type(data) is not bytes:
        raise Refusal("it is not what diskcache would write")
    return data


def _constant(module: str, name: str) -> Named | None:
    # One ends the keys of what is not a result: that a thread computes one.
    if (module, name) != ("diskcache.core", "Constant"):
        return None
    return Named(_CONSTANT, new=lambda *_: _CONSTANT, takes=True)


def _is_constant(part: Any) -> bool:
    return part is _CONSTANT or type(part).__name__ == "Constant"


def _value(shard: Path, row: tuple[Any, ...], trust: bool) -> Any:
    mode, filename, value = row[4:7]
    if mode == _RAW:
        return value
    data = _bytes(value if filename is None else content(shard, filename, trust))
    if mode == _BINARY:
        return data
    if mode == _TEXT:
        # As Python reads a file of text.
        return data.decode().replace("\r\n", "\n").replace("\r", "\n")
    if mode == _PICKLE:
        return unpickled(data, trust)
    raise Refusal(f"its mode {mode!r:.20} is none of diskcache's")


# -- results of memoized functions ----------------------------------------------------------------


def _result(
    shard: Path,
    row: tuple[Any, ...],
    function: Kept[..., Any],
    bases: set[str],
    ignored: frozenset[int | str],
    stampede: bool | None,
    trust: bool,
) -> Found | None:
    """Return a result of the function; None if an entry is something else."""
    base = next(iter(sorted(bases)))
    try:
        key = read(lambda: _key(row, trust))
    except Refusal as refusal:
        # It may be another function's, but nobody can tell.
        why = f"its key: {refusal}"
        if type(row[0]) is bytes and not any(base.encode() in row[0] for base in bases):
            return None
        return Found(base, lambda: _refuse(why), expires=row[3])
    if not _is_memoized(key) or key[0] not in bases or _is_constant(key[-1]):
        return None

    def both() -> tuple[Given, Any]:
        given = _given(key[1:], function, ignored)
        value = _value(shard, row, trust)
        looks = type(value) is tuple and len(value) == 2 and type(value[1]) is float
        if stampede is None and looks:
            raise Refusal(
                "its result may be one of memoize_stampede, with a time: say stampede=True, or False"
            )
        if stampede and not looks:
            raise Refusal("its result is none of memoize_stampede: it has no time")
        return given, value[0] if stampede else value

    shown = f"{key[0]}({', '.join(f'{part!r:.40}' for part in key[1:])})"
    return Found(shown, both, created=row[2], expires=row[3])


def _refuse(why: str) -> Any:
    raise Refusal(why)


def _is_memoized(key: Any) -> bool:
    return type(key) is tuple and len(key) > 1 and type(key[0]) is str and None in key[1:]


def _given(parts: Sequence[Any], function: Kept[..., Any], ignored: frozenset[Any]) -> Given:
    """Return the arguments that a key was made of: those by position, a None, and those by name with their
    names.

    Raises:
        Refusal: it was made of others, or may have been made of several.
    """
    found: dict[bytes, Given] = {}
    why = "its arguments fit no call of the function"
    for at, part in enumerate(parts):
        rest = parts[at + 1 :]
        names, values = rest[::2], rest[1::2]
        ordered = all(type(name) is str for name in names) and sorted({*names}) == list(names)
        if part is not None or len(rest) % 2 or not ordered:
            continue
        try:
            given = _bound(parts[:at], dict(zip(names, values, strict=True)), function, ignored)
        except Refusal as refusal:
            why = str(refusal)
            continue
        found[bytes.fromhex(function.key(*given[0], **given[1]))] = given
    if len(found) > 1:
        raise Refusal(
            "its arguments may be those of several calls: diskcache does not tell them apart"
        )
    if not found:
        raise Refusal(why)
    return next(iter(found.values()))


def _bound(
    args: Sequence[Any], kwargs: dict[str, Any], function: Kept[..., Any], ignored: frozenset[Any]
) -> Given:
    signature = inspect.signature(body_of(function))
    left, by_position = list(args), list[Any]()
    while left or len(by_position) in ignored:
        by_position.append(None if len(by_position) in ignored else left.pop(0))
        if len(by_position) > len(args) + len(ignored):
            break
    try:
        given = signature.bind_partial(*by_position, **kwargs).arguments
    except TypeError as error:
        raise Refusal("its arguments fit no call of the function") from error
    names = list(signature.parameters)
    gone = {names[place] for place in ignored if type(place) is int and place < len(names)}
    # By its name, one counts that is only ignored by its place, and the other way round.
    gone = {name for name in gone if name not in kwargs}
    gone |= {name for name in ignored if type(name) is str and name not in given}
    known = {name: value for name, value in given.items() if name not in gone}
    return call_of(function, known, gone & set(names))


# -- all entries ----------------------------------------------------------------------------------


class Entries(Protocol):
    """What takes the place of diskcache's `Cache`."""

    def __contains__(self, key: object) -> bool: ...

    def add(self, key: Any, value: Any, *, expire: float | None, tag: Any, retry: bool) -> bool: ...


def _take_entry(
    shard: Path, row: tuple[Any, ...], into: Entries, done: Taken, trust: bool, dry_run: bool
) -> None:
    what = f"{row[0]!r:.60}"
    try:
        key = read(lambda: _key(row, trust))
        what = f"{key!r:.60}"
        if type(key) is tuple and any(map(_is_constant, key)):
            raise Refusal("it only marks that a result is computed")  # noqa: TRY301  told below
        left = None if row[3] is None else row[3] - time.time()
        if left is not None and not left > 0:
            raise Refusal("it has expired")  # noqa: TRY301  told below
        value = read(lambda: _value(shard, row, trust))
        there = key in into or not (
            dry_run or into.add(key, value, expire=left, tag=row[7], retry=True)
        )
    except Refusal as refusal:
        done.items.append(Item(what, "refused", str(refusal)))
    except StoreError:
        raise
    except Exception as error:  # noqa: BLE001  a row may have any fault
        why = f"it can't be kept: {type(error).__name__}: {error}"
        done.items.append(Item(what, "refused", why[:300]))
    else:
        done.items.append(Item(what, "same" if there else "taken"))
