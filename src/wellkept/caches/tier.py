"""The memory tier: entries that were fetched or committed, in front of the index, and exact.

Everything in it was current when the index looked as `seen` says. A commit by any process changes
what the store's `words` show, and then nothing in it is served until it has been fetched again.
"""

from __future__ import annotations

import sys
import weakref
from typing import Any

from wellkept.hashing import SCALARS
from wellkept.interrupts import Guard
from wellkept.stores.record_format import STATES, Body

__all__ = ["FAILED", "Entry", "Look", "Tier", "Told"]

FAILED = STATES.index("failed")

_OVERHEAD = 600  # bytes of an entry beside its payload, measured with tracemalloc
_NOTHING: Any = object()


class Entry:
    """A fetched call: its body, and its result as an object or as encoded bytes."""

    __slots__ = ("body", "cost", "envelope", "hot", "value")

    cost: int
    """Bytes of memory that it counts for, once it is in a tier."""

    def __init__(self, body: Body, envelope: Any) -> None:
        self.body = body
        self.envelope = envelope
        self.hot = False
        self.value = _NOTHING

    @property
    def plain(self) -> bool:
        """Whether `value` is the result itself."""
        return self.value is not _NOTHING

    def fix(self, value: Any) -> None:
        """Keep the decoded object where its type allows that."""
        if type(value) in SCALARS and self.body.state == 0:
            self.value = value
            self.envelope = None

    def measure(self) -> int:
        """Bytes of memory, about."""
        envelope = self.envelope
        if envelope is None:
            return _OVERHEAD + sys.getsizeof(self.value)
        return _OVERHEAD + len(envelope.payload or b"") + 100 * len(envelope.blobs)


class Tier:
    """Entries by key, bounded by bytes; the ones not used since the last round go first.

    Args:
        limit: bytes; 0 switches the tier off.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.entries: dict[bytes, Entry] = {}
        self.seen: tuple[int, int] | None = None
        self._bytes = 0
        self._lock = Guard()

    def add(self, key: bytes, entry: Entry, token: tuple[int, int]) -> None:
        """Add what was fetched after `token` was read."""
        entry.cost = entry.measure()
        if entry.cost > self.limit:
            return
        with self._lock:
            if token != self.seen:
                self._clear(token)
            self._put(key, entry)

    def advance(
        self, step: tuple[tuple[int, int], tuple[int, int]] | None, key: bytes, entry: Entry | None
    ) -> None:
        """Follow a commit of our own, which changed nothing but `key`."""
        if entry is not None:
            entry.cost = entry.measure()
        with self._lock:
            # In this order: wherever an exception comes in between, what is there is current.
            self._drop(key)
            if step is None or step[0] != self.seen:
                self._clear(step[1] if step else None)
            else:
                self.seen = step[1]
            if entry is not None and entry.cost <= self.limit and self.seen is not None:
                self._put(key, entry)

    def clear(self) -> None:
        with self._lock:
            self._clear(None)

    def _clear(self, token: tuple[int, int] | None) -> None:
        self.seen = None
        self.entries = {}
        self._bytes = 0
        self.seen = token

    def _drop(self, key: bytes) -> None:
        old = self.entries.pop(key, None)
        if old is not None:
            self._bytes -= old.cost

    def _put(self, key: bytes, entry: Entry) -> None:
        self._drop(key)
        self._bytes += entry.cost
        self.entries[key] = entry
        while self._bytes > self.limit and self.entries:
            oldest = next(iter(self.entries))
            candidate = self.entries.pop(oldest)
            if candidate.hot:  # a second chance
                candidate.hot = False
                self.entries[oldest] = candidate
            else:
                self._bytes -= candidate.cost


class Look:
    """One way to look into a place that is far away, without keeping its cache alive."""

    __slots__ = ("_cache", "_how")

    def __init__(self, cache: Any, how: str) -> None:
        self._cache, self._how = weakref.ref(cache), how

    def __call__(self, key: bytes) -> Entry | None:
        found = self._cache()
        return None if found is None else found.find(key, getattr(found.backend, self._how))


class Told:
    """What a place tells a cache, without keeping it alive."""

    __slots__ = ("_cache",)

    def __init__(self, cache: Any) -> None:
        self._cache = weakref.ref(cache)

    def __call__(self) -> None:
        found = self._cache()
        if found is not None:
            found.changed()

    def noted(self, step: Any) -> None:
        found = self._cache()
        if found is not None:
            found.tier.advance(step, b"", None)
