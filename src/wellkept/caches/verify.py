"""Checking all that is kept, and its repair."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from wellkept.errors import StoreError
from wellkept.stores.backend import inner
from wellkept.stores.check import Check, Problem
from wellkept.stores.embedded import Embedded
from wellkept.stores.layers import Layers
from wellkept.stores.medium import Medium
from wellkept.stores.mediumcheck import MediumCheck

if TYPE_CHECKING:
    from wellkept.caches.cache import Cache

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
