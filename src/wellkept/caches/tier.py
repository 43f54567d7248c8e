"""The memory tier: entries that were fetched or committed, in front of the index, and exact.

Everything in it was current when the index looked as `seen` says. A commit by any process changes
what the store's `words` show, and then nothing in it is served until it is known that all commits since
have only added calls (see `stores.epoch`), or until it has been fetched again.
"""

from __future__ import annotations

import sys
import weakref
from time import monotonic
from typing import Any

from wellkept.hashing import SCALARS
from wellkept.interrupts import Guard
from wellkept.stores.epoch import Step, Token
from wellkept.stores.record_format import STATES, Body

__all__ = ["FAILED", "Entry", "Look", "Tier", "Told"]

FAILED = STATES.index("failed")

_OVERHEAD = 600  # bytes of an entry beside its payload, measured with tracemalloc
_DOUBT = 0.2  # seconds for which a commit may be about to say what it changed, behind other threads
_NOTHING: Any = object()


class Entry:
    """A fetched call: its body, and its result as an object or as encoded bytes."""

    __slots__ = ("body", "cost", "envelope", "hot", "value")

    cost: int
    """Bytes of memory that it counts for, once it is in a tier."""

    def __init__(self, body: Body, envelope: Any) -> None:
        self.body: Body = body
        self.envelope: Any = envelope
        self.hot: bool = False
        self.value: Any = _NOTHING

    @property
    def plain(self) -> bool:
        """Whether `value` is the result itself."""
        return self.value is not _NOTHING

    def fix(self, value: Any) -> None:
        """Keep the decoded object where its type allows that."""
        if type(value) in SCALARS and self.body.state == 0:
            self.value = value
            self.envelope = None


class Tier:
    """Entries by key, bounded by bytes; the ones not used since the last round go first.

    Args:
        limit: bytes; 0 switches the tier off.
    """

    held: int

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.entries: dict[bytes, Entry] = {}
        self.seen: Token | None = None
        self._epoch: Token | None = None
        """The epoch of `seen`, where it is known."""
        self._doubt = 0.0
        """Since when it has been in doubt whether what is held is current."""
        self.held = 0
        """Bytes of memory, about."""
        self._lock = Guard()

    def follow(self, token: Token, epoch: Token | None) -> bool:
        """Bring what is held to `token`, emptied where it may have been changed; whether it is there.

        Args:
            epoch: the one that the token belongs to; None: it is not known.
        """
        with self._lock:
            if epoch is not None and (epoch == self._epoch or token == self.seen):
                self.seen, self._epoch = token, epoch
            elif token != self.seen:
                now = monotonic()
                if epoch is None and self._epoch is not None:
                    # Perhaps the commit is the library's and has just been made. Nothing is served
                    # meanwhile, but it is not thrown away either.
                    self._doubt = self._doubt or now
                    if now - self._doubt < _DOUBT:
                        return False
                self._clear(token, epoch)
            self._doubt = 0.0
            return True

    def add(self, key: bytes, entry: Entry, token: Token) -> None:
        """Add what was fetched after `token` was read and followed; nothing, where the tier is not there."""
        with self._lock:
            if token == self.seen:
                self._put(key, entry)

    def advance(self, step: Step | None, key: bytes, entry: Entry | None) -> None:
        """Follow a commit of our own, which changed nothing but `key`."""
        with self._lock:
            # In this order: wherever an exception comes in between, what is there is current.
            self._drop(key)
            if step is None:
                self._clear(None)
            elif step.before == self.seen or (step.epoch and step.epoch == self._epoch):
                self.seen, self._epoch = step.after, step.now
            else:
                self._clear(step.after, step.now)
            if entry is not None and self.seen is not None:
                self._put(key, entry)

    def clear(self) -> None:
        with self._lock:
            self._clear(None)

    def _clear(self, token: Token | None, epoch: Token | None = None) -> None:
        self.seen = self._epoch = None
        self.entries = {}
        self.held = 0
        self.seen, self._epoch = token, epoch

    def _drop(self, key: bytes) -> None:
        old = self.entries.pop(key, None)
        if old is not None:
            self.held -= old.cost

    def _put(self, key: bytes, entry: Entry) -> None:
        """Hold an entry in place of what its key has, unless it is larger than all there may be."""
        envelope = entry.envelope
        if envelope is None:
            entry.cost = _OVERHEAD + sys.getsizeof(entry.value)
        else:
            entry.cost = _OVERHEAD + len(envelope.payload or b"") + 100 * len(envelope.blobs)
        old = self.entries.pop(key, None)
        if old is not None:
            self.held -= old.cost
        if entry.cost > self.limit:
            return
        self.held += entry.cost
        self.entries[key] = entry
        while self.held > self.limit and self.entries:
            oldest = next(iter(self.entries))
            candidate = self.entries.pop(oldest)
            if candidate.hot:  # a second chance
                candidate.hot = False
                self.entries[oldest] = candidate
            else:
                self.held -= candidate.cost


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
