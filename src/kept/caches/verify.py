"""Checking all that is kept, and its repair."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kept.errors import DecodeError
from kept.hashing import buffer_digest
from kept.stores.check import Check, Problem
from kept.stores.embedded import Embedded

if TYPE_CHECKING:
    from kept.caches.cache import Cache

__all__ = ["Problem", "Report", "verify"]


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
    tell = progress or (lambda stage, done, total: None)
    place: Any = cache.place
    try:
        if isinstance(place, Embedded):
            check = Check(place, repair, discard, tell)
            check.run()
            return Report(
                tuple(check.problems),
                check.calls,
                check.values,
                check.blobs,
                check.bytes,
                check.salvaged_calls,
                check.salvaged_values,
            )
        return _scanned(cache, repair, tell)
    finally:
        if repair:
            cache.tier.clear()


def _scanned(cache: Cache, repair: bool, tell: Callable[[str, int, int], None]) -> Report:
    """Of any two stores: what they say of their items, and what names the items."""
    calls, values = cache.calls, cache.values
    problems: list[Problem] = []
    blobs = size = 0
    digests = list(values.keys())
    for i, digest in enumerate(digests):
        tell("values", i, len(digests))
        try:
            value = values.get(digest)
            wrong = value is not None and [*value.names] not in (
                [],
                [buffer_digest(buffer) for buffer in value.buffers],
            )
            detail = "its buffers are not what their names say" if wrong else ""
            blobs += len(value.buffers) if value else 0
            size += value.size if value else 0
        except DecodeError as error:
            detail = str(error)
        if detail:
            if repair:
                values.delete(digest)
            problems.append(Problem("value", digest, detail, repair))
    there = set(values.keys())
    keys = list(calls.keys())
    for i, key in enumerate(keys):
        tell("calls", i, len(keys))
        kind, detail = "call", ""
        try:
            call = calls.get(key)
            if call is not None and call.key != key:
                detail = "it stands in the place of another"
            elif call is not None and call.result not in there:
                kind, detail = "missing result", "its result is not kept"
        except DecodeError as error:
            detail = str(error)
        if detail:
            if repair:
                calls.delete(key)
            problems.append(Problem(kind, key, detail, repair))
    return Report(tuple(problems), len(keys), len(digests), blobs, size)
