"""Results that are told together are kept together: one transaction for hundreds, where each had one."""

from __future__ import annotations

import contextlib
import copy
import time
import weakref
from collections import deque
from collections.abc import Sequence
from itertools import groupby
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from wellkept._process import Worker, at_fork
from wellkept.caches import Cache
from wellkept.errors import StoreError
from wellkept.interrupts import Guard
from wellkept.memo.target import Target, lost
from wellkept.records import Call, Value

if TYPE_CHECKING:
    from wellkept.memo.inflight import Flight, Landing

Made = tuple[bytes, Any, Call, Value]
"""The key and the result of a call, and what `Cache.made` gave of it."""
MOST = 1_000
"""Results that are written at once."""
SOON = 0.1
"""Seconds after which what waits is written with the next result, however little there is."""
LATE = 0.3
"""Seconds after which it is written where there is no next one, as a body takes long."""
# Bytes of encoded results that wait.
_ROOM = 8 * 1024 * 1024
# Results that fail one after the other, after which the rest of a batch is not tried.
_FAILURES = 3


class _Waits:
    """A result that is not written yet."""

    __slots__ = ("done", "flight", "landing", "leased", "made", "target")

    def __init__(self, target: Target, made: Made) -> None:
        self.target, self.made = target, made
        self.done = False
        self.flight: Flight | None = None
        """Who has the lease of the call until then."""
        self.landing: Landing | None = None
        self.leased = b""
        """The key of that lease."""

    def end(self) -> Flight | None:
        """It is written, or given up; return who has the lease."""
        # In this order: see `Batch.add`, and of what is read after that `Batch.holds`.
        self.done = True
        self.target.cache.waiting.pop(self.made[0], None)
        return self.flight


class Batch:
    """The results of calls whose caller is told of all of them at the end, as that of `map` is.

    Each is encoded as soon as it is there, and written with others. Until then its lease is held, and
    whoever asks for it in this process has all of them written. Leaving the `with` block writes the rest, so
    nothing is told as kept that is not; a process that is killed loses what it has told nobody.
    """

    def __init__(self) -> None:
        self._waiting: deque[_Waits] = deque()
        self._writing = Guard()
        """Held while some are written, which is done in one thread at a time."""
        self._since = 0.0
        self._bytes = 0
        self._last: _Waits | None = None
        self._left = False
        self._carried: list[tuple[Flight, Landing]] = []

    def carry(self, flight: Flight, landing: Landing) -> None:
        """End a computation with this block, after what it gave is written."""
        self._carried.append((flight, landing))

    def add(self, target: Target, made: Made) -> None:
        """Have a result written, at the latest when the block is left.

        Raises:
            StoreError: it can't be written, and the function is strict.
        """
        now, value = time.monotonic(), made[3]
        first = not self._waiting
        if first:
            self._since, self._bytes = now, 0
        self._last = waits = _Waits(target, made)
        # First: an interrupt may come before it can be found by its key, but not the other way round.
        self._waiting.append(waits)
        target.cache.waiting[made[0]] = self
        if waits.done:
            # Another thread has written it in between.
            target.cache.waiting.pop(made[0], None)
        self._bytes += len(value.head)
        if (
            len(self._waiting) >= MOST
            or now - self._since >= SOON
            or self._bytes >= _ROOM
            # They are views of the result's own memory, which the caller may change.
            or value.buffers
            # A task may outlive the `map` that it was part of.
            or self._left
            # A body that takes long may follow, and no thread can begin that sees to it.
            or (first and not _writes.begin())
        ):
            self.flush()

    def holds(self, target: Target, flight: Flight, landing: Landing | None = None) -> bool:
        """Take the lease of a call over, if its result waits here.

        Args:
            landing: of the flight, unless something else sees to its end.
        """
        waits, self._last = self._last, None
        if waits is None or waits.target is not target:
            return False
        assert flight.key is not None
        waits.leased, waits.flight, waits.landing = flight.key, flight, landing
        # Another thread may have written it before it could know of the lease.
        return not waits.done

    def write(self) -> bool:
        """Write what waits; return whether that was done. What could not be waits on."""
        with self._writing:
            # They wait until they are written and over: an exception may come between any two instructions.
            some = list(self._waiting)
            for waits in some:
                # Interrupted, and told to nobody. Since then another may have kept what is newer.
                if waits.flight is not None and waits.flight.ended(waits.leased):
                    self._over((waits,))
            some = [waits for waits in some if not waits.done]
            try:
                for cache, those in groupby(some, _cache):
                    cache.keep_all([waits.made for waits in those])
            except StoreError:
                return False
            self._over(some)
        return True

    def flush(self) -> None:
        """Write what waits; what can't be written is told, as a miss of its own would.

        Raises:
            StoreError: something can't be written, and its function is strict.
        """
        if self.write():
            return
        failures, last, strict = 0, None, None
        with self._writing:
            for waits in list(self._waiting):
                try:
                    if failures < _FAILURES or last is None:
                        waits.target.cache.keep_all((waits.made,))
                        failures = 0
                    else:
                        raise last
                except StoreError as error:
                    failures, last = failures + 1, error
                    target = copy.copy(waits.target)
                    # Many calls may share one.
                    target.key = waits.made[0]
                    if lost(target, error):
                        strict = error
                finally:
                    self._over((waits,))
        if strict is not None:
            raise strict

    def _over(self, some: Sequence[_Waits]) -> None:
        leased: dict[Flight, list[bytes]] = {}
        for waits in some:
            flight = waits.end()
            if flight is not None:
                leased.setdefault(flight, []).append(waits.leased)
            if self._waiting and self._waiting[0] is waits:
                self._waiting.popleft()
            else:
                # A signal's handler may have written it meanwhile.
                with contextlib.suppress(ValueError):
                    self._waiting.remove(waits)
        for flight, keys in leased.items():
            flight.end_of_all(keys)

    def write_late(self) -> None:
        """Write what has waited for long. What fails is told by the thread that it belongs to."""
        if self._waiting and time.monotonic() - self._since >= LATE:
            self.write()

    def abandon(self) -> None:
        """Write nothing of what waits: in a forked child it is the parent's."""
        for waits in list(self._waiting):
            waits.flight = None
            self._over((waits,))

    def __enter__(self) -> Self:
        _open.add(self)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._left = True
        try:
            self.flush()
        finally:
            for flight, _ in self._carried:
                flight.end()
        # Where an interrupt comes before this, what waits is let go of late.
        _open.discard(self)


def _cache(waits: _Waits) -> Cache:
    return waits.target.cache


_open: weakref.WeakSet[Batch] = weakref.WeakSet()


def _write_late() -> bool:
    for batch in list(_open):
        batch.write_late()
    return bool(_open)


_writes = Worker("wellkept-batches", _write_late, lambda: LATE / 3)


def _after_fork() -> None:
    for batch in list(_open):
        batch.abandon()


at_fork(in_child=_after_fork)
