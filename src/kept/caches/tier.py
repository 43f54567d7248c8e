"""The memory tier: entries that were fetched or committed, in front of the index, and exact.

Everything in it was current when the index looked as `seen` says. A commit by any process changes
what the store's `words` show, and then nothing in it is served until it has been fetched again.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

from kept.codecs import decoder
from kept.records import Buffer
from kept.stores.tables import Body

__all__ = ["PLAIN", "Entry", "Tier"]

PLAIN = frozenset((type(None), bool, int, float, complex, str, bytes))
"""Exact types that nobody can change: the object itself may be handed out again."""

_OVERHEAD = 600  # bytes of an entry beside its payload, measured with tracemalloc


class Entry:
    """A fetched call: its body, and its result as an object or as encoded bytes."""

    __slots__ = ("body", "cost", "expires", "frame", "hot", "plain", "read", "value")

    read: Callable[[Buffer, Sequence[Buffer]], Any] | None

    def __init__(self, body: Body, frame: Any) -> None:
        self.body = body
        self.expires = body.expires
        self.frame = frame
        self.read = None
        self.plain = self.hot = False
        self.value: Any = None
        self.cost = _OVERHEAD

    def fix(self, value: Any) -> None:
        """Keep the decoded object where its type allows that."""
        if type(value) in PLAIN and self.body.state == "done":
            self.value = value
            self.plain = True
            self.frame = None

    def decode(self, payload: Buffer, buffers: Sequence[Buffer]) -> Any:
        """The value, a new object each time."""
        if self.read is None:
            self.read = decoder(self.frame.codec)
        return self.read(payload, buffers)


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
        self._lock = threading.Lock()

    def add(self, key: bytes, entry: Entry, token: tuple[int, int]) -> None:
        """Add what was fetched after `token` was read."""
        entry.cost = _OVERHEAD + _size(entry)
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
            entry.cost = _OVERHEAD + _size(entry)
        with self._lock:
            if step is None or step[0] != self.seen:
                self._clear(step[1] if step else None)
            else:
                self.seen = step[1]
            if entry is None or entry.cost > self.limit or self.seen is None:
                self._drop(key)
            else:
                self._put(key, entry)

    def clear(self) -> None:
        with self._lock:
            self._clear(None)

    def _clear(self, token: tuple[int, int] | None) -> None:
        self.entries = {}
        self._bytes = 0
        self.seen = token

    def _drop(self, key: bytes) -> None:
        old = self.entries.pop(key, None)
        if old is not None:
            self._bytes -= old.cost

    def _put(self, key: bytes, entry: Entry) -> None:
        self._drop(key)
        self.entries[key] = entry
        self._bytes += entry.cost
        while self._bytes > self.limit:
            oldest = next(iter(self.entries))
            candidate = self.entries.pop(oldest)
            if candidate.hot:  # a second chance
                candidate.hot = False
                self.entries[oldest] = candidate
            else:
                self._bytes -= candidate.cost


def _size(entry: Entry) -> int:
    if entry.plain:
        value = entry.value
        return len(value) * 4 if isinstance(value, (str, bytes)) else 32
    payload = entry.frame.payload if hasattr(entry.frame, "payload") else entry.frame.head
    return len(payload or b"") + 100 * len(getattr(entry.frame, "blobs", ()))
