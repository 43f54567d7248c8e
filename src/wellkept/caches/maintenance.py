"""Removing what nothing references: values that no call gave, blobs that no value has."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from wellkept.caches.cache import Cache
from wellkept.conditions import matches
from wellkept.errors import DecodeError, NotKept, StoreError
from wellkept.records import Call
from wellkept.stores import summary
from wellkept.stores.backend import each_call, inner
from wellkept.stores.byte_store import Medium
from wellkept.stores.check import Check, MediumCheck, Problem
from wellkept.stores.collect import (
    Collected,
    collect_blobs,
    free,
    sweep,
    unreferenced,
    without_values,
)
from wellkept.stores.embedded import Embedded
from wellkept.stores.query_index import tidy
from wellkept.stores.stack import Layers
from wellkept.stores.summary import FunctionRow
from wellkept.stores.views import FilteredView


def collect(cache: Cache, grace: float, *, dry_run: bool = False) -> Collected:
    """See `Cache.gc`."""
    return _collect(inner(cache.backend, write=True), grace, dry_run)


def _collect(backend: Any, grace: float, dry_run: bool) -> Collected:
    if isinstance(backend, Layers):
        return backend.each(
            lambda layer: _collect(inner(layer, write=True), grace, dry_run), _sum_collected
        )
    if isinstance(backend, Medium):
        return sweep(backend, grace, dry_run=dry_run)
    if (away := getattr(backend, "collect", None)) is not None:  # where it is
        return Collected(*away(grace, dry_run))
    if not isinstance(backend, Embedded):
        raise StoreError(f"{type(backend).__name__} can't be collected from here")
    if backend.database.readonly:
        raise StoreError(f"can't collect in {backend.root}: it is read-only")
    if dry_run:
        return _sum_collected(trial(backend, without_values))
    with backend.database.writing() as c:
        values = without_values(c)
        tidy(c)
    return _sum_collected((values, collect_blobs(backend)))


def trial(backend: Embedded, change: Callable[[Any], Collected]) -> tuple[Collected, Collected]:
    """What a change of the index would do, and which blobs it would leave unreferenced."""
    found: list[Collected] = []
    try:
        with backend.database.writing() as c:
            found.append(change(c))
            found.append(collectable(backend))
            raise _PutBackError  # noqa: TRY301  that rolls it back
    except _PutBackError:
        return found[0], found[1]


class _PutBackError(Exception):
    """Ends a transaction that was only tried."""


def collectable(store: Embedded) -> Collected:
    """The blobs that `collect_blobs` would remove now."""
    names = unreferenced(store)
    size = 0
    for name in names:
        try:
            size += store.blobs.path(name).stat().st_size
        except OSError:
            continue
    return Collected(len(names), size)


def freed(cache: Cache, digests: list[str]) -> Collected:
    """Throw results away, and what only they needed; the records of their calls stay.

    Raises:
        StoreError: the store can't be written.
    """
    done = _freed(inner(cache.backend, write=True), digests)
    cache.tier.clear()
    return done


def _freed(backend: Any, digests: list[str]) -> Collected:
    if isinstance(backend, Layers):
        return backend.each(lambda layer: _freed(inner(layer, write=True), digests), _sum_collected)
    if isinstance(backend, Medium):
        return free(backend, digests)
    if (away := getattr(backend, "free", None)) is not None:  # where it is
        return Collected(*away(digests))
    if not isinstance(backend, Embedded):
        raise StoreError(f"{type(backend).__name__} can't be freed from here")
    backend.values.delete_many(digests)
    return _sum_collected((Collected(len(digests), 0), collect_blobs(backend)))


def _sum_collected(parts: Iterable[Collected]) -> Collected:
    listed = list(parts)
    return Collected(sum(p.items for p in listed), sum(p.bytes for p in listed))


@dataclass(frozen=True)
class Report:
    """What was looked at, and what is wrong."""

    problems: tuple[Problem, ...]
    calls: int
    values: int
    blobs: int
    bytes: int
    """Of the blobs."""
    salvaged_calls: int = 0
    salvaged_values: int = 0
    """Large results; small ones come with their calls."""

    @property
    def left(self) -> tuple[Problem, ...]:
        """The problems that were not repaired."""
        return tuple(problem for problem in self.problems if not problem.repaired)

    @property
    def ok(self) -> bool:
        """Whether no problem is left."""
        return not self.left


def verify(
    cache: Cache,
    *,
    repair: bool = False,
    discard: bool = False,
    progress: Callable[[str, int, int], None] | None = None,
) -> Report:
    """See `Cache.verify`."""
    cache.flush()
    try:
        return _verified(inner(cache.backend, write=repair), repair, discard, progress or _silent)
    finally:
        if repair:
            cache.tier.clear()


def _silent(stage: str, done: int, total: int) -> None:
    """Nobody wants to know."""


def _verified(
    backend: Any, repair: bool, discard: bool, tell: Callable[[str, int, int], None]
) -> Report:
    if isinstance(backend, Layers):
        return _sum(_verified(layer, repair, discard, tell) for layer in backend.backends)
    check: Check | MediumCheck
    if isinstance(backend, Embedded):
        check = Check(backend, repair, discard, tell)
    elif isinstance(backend, Medium):
        check = MediumCheck(backend, repair, tell)
    elif (away := getattr(backend, "verify", None)) is not None:  # where it is
        return Report(**away(repair, discard))
    else:
        raise StoreError(f"{type(backend).__name__} can't be verified from here")
    check.run()
    return Report(
        tuple(check.problems),
        check.calls,
        check.values,
        check.blobs,
        check.bytes,
        getattr(check, "salvaged_calls", 0),
        getattr(check, "salvaged_values", 0),
    )


def _sum(reports: Iterable[Report]) -> Report:
    """Of several caches, one after the other."""
    total = Report((), 0, 0, 0, 0)
    for each in reports:
        sums = {name: getattr(total, name) + getattr(each, name) for name in vars(each)}
        total = Report(**sums)
    return total


@dataclass(frozen=True)
class Totals:
    """The whole of a cache."""

    functions: int = 0
    calls: int = 0
    values: int = 0
    """Different results."""
    result_bytes: int = 0
    """Of the results as encoded; one that several calls gave counts each time."""
    seconds: float = 0.0
    """What computing them took."""
    uses: int = 0
    """Hits, as far as they have been written down."""
    seconds_saved: float = 0.0
    blobs: int = 0
    blob_bytes: int = 0
    bytes: int = 0
    """On disk: index and blobs. Of other places than a directory: the different results that they
    hold."""
    damaged_files: int = 0
    """Index files that were set aside and not salvaged yet."""
    schema: int | None = None
    journal: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """As plain data."""
        return asdict(self)


def functions(cache: Cache) -> list[FunctionRow]:
    """A row a function, the one with the most bytes first.

    Raises:
        StoreError: the store can't be read.
    """
    backend = _backend(cache)
    if isinstance(backend, Embedded):
        return summary.functions(backend)
    return _rows(_all(cache))


def chosen(cache: Cache, pattern: str) -> list[FunctionRow]:
    """The functions whose name fits a pattern; see `matches`.

    Raises:
        NotKept: there is none.
        StoreError: the store can't be read.
    """
    rows = functions(cache)
    found = [row for row in rows if matches(row.function, pattern)]
    if not found:
        names = {row.function.rpartition(":")[2] for row in rows}
        near = difflib.get_close_matches(pattern.rpartition(":")[2], names, 1, 0.5)
        hint = f"; there is {near[0]}" if near else ""
        raise NotKept(f"no function {pattern} has calls in {cache}{hint}")
    return found


def calls(cache: Cache, names: list[str], limit: int | None = None) -> Iterator[Call]:
    """The calls of some functions, the latest first; damaged ones are left out.

    Raises:
        StoreError: the store can't be read.
    """
    backend = _backend(cache)
    if isinstance(backend, Embedded):
        for row in summary.calls_of(backend, names, limit):
            try:
                yield row.read()[0]
            except DecodeError:
                continue
    else:
        found = [call for call in _all(cache) if call.function in names]
        found.sort(key=lambda call: -call.created)
        yield from found[:limit]


def totals(cache: Cache) -> Totals:
    """Counts and sums of all.

    Raises:
        StoreError: the store can't be read.
    """
    backend: Any = _backend(cache)
    if (away := getattr(backend, "totals", None)) is not None:  # where it is
        return Totals(**away())
    found = [] if isinstance(backend, Embedded) else list(_all(cache))
    rows = summary.functions(backend) if isinstance(backend, Embedded) else _rows(found)
    sums = Totals(
        functions=len(rows),
        calls=sum(row.calls for row in rows),
        result_bytes=sum(row.bytes for row in rows),
        seconds=sum(row.seconds for row in rows),
        uses=sum(row.uses for row in rows),
        seconds_saved=sum(row.saved for row in rows),
    ).to_dict()
    if isinstance(backend, Embedded):
        return Totals(**sums | summary.totals(backend) | summary.disk(backend))
    sizes = {call.result: call.size for call in found}
    there = set(cache.values.keys())
    held = sum(size for digest, size in sizes.items() if digest in there)
    rest = {"values": len(there), "bytes": held}
    if isinstance(backend, Medium):
        rest["blobs"] = sum(1 for _ in backend.values.items.keys("blobs/"))
    return Totals(**sums | rest)


def _all(cache: Cache) -> Iterator[Call]:
    return (call for _, call in each_call(cache.calls) if call is not None)


def _backend(cache: Cache) -> Any:
    """What can be asked in SQL, if nothing stands before it that hides part of it."""
    backend: Any = cache.backend
    while backend.backend is not None and not isinstance(backend, FilteredView):
        backend = backend.backend
    return backend


def _rows(calls: Iterable[Call]) -> list[FunctionRow]:
    found: dict[str, list[Call]] = {}
    for call in calls:
        found.setdefault(call.function, []).append(call)
    rows = [_row(name, calls) for name, calls in found.items()]
    return sorted(rows, key=lambda row: (-row.bytes, row.function))


def _row(name: str, calls: list[Call]) -> FunctionRow:
    return FunctionRow(
        function=name,
        codes=len({call.code for call in calls}),
        calls=len(calls),
        bytes=sum(call.size for call in calls),
        seconds=sum(call.seconds for call in calls),
        uses=sum(call.uses for call in calls),
        saved=sum(call.uses * call.seconds for call in calls),
        created=max(call.created for call in calls),
        used=max((call.used for call in calls if call.used is not None), default=None),
    )
