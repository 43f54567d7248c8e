"""What a cache holds: by function, call by call, and in all."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from wellkept.caches.cache import Cache
from wellkept.caches.evict import matches
from wellkept.errors import DecodeError, NotKept
from wellkept.records import Call
from wellkept.stores import summary
from wellkept.stores.backend import each_call
from wellkept.stores.embedded import Embedded
from wellkept.stores.medium import Medium
from wellkept.stores.summary import FunctionRow

__all__ = ["FunctionRow", "Totals", "calls", "chosen", "functions", "totals"]


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
    while hasattr(backend, "backend") and not hasattr(backend, "where"):
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
