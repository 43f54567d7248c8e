"""Leases as records, for media whose locks can't be relied on: network file systems, servers.

An owner's record says who it is and has a heartbeat that it moves on once a second. A waiter never
compares clocks: it takes over when the heartbeat that it watches has stood still for `DEAD` seconds
of its own clock, or at once when the owner is a process of this host that is no more. A slow owner
whose heart beats is never pre-empted. Each lease of a key has a larger fencing token than the one
before, so that an owner that was taken for dead can be told from its successor.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
import weakref
from collections.abc import Callable
from typing import NamedTuple, Protocol

from wellkept._process import began, host_name
from wellkept.errors import KeptError
from wellkept.interrupts import Guard

__all__ = [
    "BEAT",
    "DEAD",
    "LOOKED",
    "SOMEBODY",
    "Lease",
    "LeaseRecords",
    "Leases",
    "Owner",
]

BEAT = 1.0
"""Seconds between the heartbeats of an owner."""
DEAD = 4.0
"""Seconds without one after which a waiter takes over."""
LOOKED = 2
"""What `acquire` gives in place of True where the lease came with the look before it: nobody can have
kept a result since, so there is no need to look again."""
_PAUSE = 0.05  # seconds between looks at the record of a lease that somebody else has


class Owner:
    """Who holds a lease in this process. Once it is over, the lease is whoever's in the process asks for
    it: an exception may have come before it was let go of.
    """

    __slots__ = ("over",)

    def __init__(self) -> None:
        self.over = False


SOMEBODY = Owner()
"""Who gives no name."""


class Lease(NamedTuple):
    """The right to compute one key."""

    owner: str
    """`host|pid|start of the process|which of its lease tables`."""
    token: int
    """Larger than that of each earlier lease of the key."""
    beat: int
    """Moved on while the owner lives."""
    deadline: float
    """When it ends unless it is renewed, by the owner's clock: for people, never compared."""


class LeaseRecords(Protocol):
    """Where leases are: one record a key, changed by compare-and-set. Two verbs are all it takes."""

    def read(self, key: bytes) -> Lease | None:
        """The record, as it is now."""
        ...

    def swap(self, key: bytes, old: Lease | None, new: Lease | None) -> bool:
        """Make `new` of `old` (None: no record) atomically; False if it was not `old`."""
        ...


class Leases:
    """`acquire` and `release`, as byte-range locks have them, over records.

    Args:
        records: where they are.
        host: the name of this host; what it says of processes is believed for this host only.
    """

    def __init__(self, records: LeaseRecords, host: str | None = None) -> None:
        self._records = records
        self._host = host_name() if host is None else host
        self._name = os.urandom(6).hex()
        self._held: dict[bytes, tuple[Lease | None, Owner]] = {}  # None: while it is taken
        self._dropped: dict[bytes, Lease] = {}  # releases that failed, to be tried again
        self._watched: dict[
            bytes, tuple[Lease, float]
        ] = {}  # others' records, since when unchanged
        self._again: dict[bytes, float] = {}  # when to look again
        self._guard = Guard()
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()
        _all.add(self)

    @property
    def owner(self) -> str:
        return f"{self._host}|{os.getpid()}|{began(os.getpid())}|{self._name}"

    def acquire(self, key: bytes, owner: Owner = SOMEBODY) -> bool:
        """Try once, without waiting; whether the lease is the owner's now.

        Raises:
            StoreError: the records can't be read or written.
        """
        with self._guard:
            now = time.monotonic()
            held = self._held.get(key)
            if held is not None and not held[1].over:
                return False
            if held is None and now < self._again.get(key, 0.0):
                return False
            # So that another thread does not try meanwhile; and before there is a record, so that the
            # owner lets go of it whatever comes in between.
            self._held[key] = None, owner
        try:
            mine = self._take(key, now)
        except KeptError:
            self._failed(key, owner)
            raise
        if mine is None:
            self._failed(key, owner)
            return False
        with self._guard:
            self._held[key] = mine, owner
            self._dropped.pop(key, None)
            self._watched.pop(key, None)
            self._again.pop(key, None)
            self._beat_on()
        return True

    def _failed(self, key: bytes, owner: Owner) -> None:
        with self._guard:
            if self._held.get(key) == (None, owner):
                del self._held[key]
            self._again[key] = time.monotonic() + _PAUSE

    def _take(self, key: bytes, now: float) -> Lease | None:
        found = self._records.read(key)
        if found is not None and not self._dead(key, found, now):
            return None
        # The clock only makes tokens grow where a record, and its token with it, was removed.
        token = max(time.time_ns(), found.token + 1 if found else 0)
        mine = Lease(self.owner, token, 0, time.time() + DEAD)
        return mine if self._records.swap(key, found, mine) else None

    def _dead(self, key: bytes, found: Lease, now: float) -> bool:
        host, pid, started, name = found.owner.rsplit("|", 3)
        if host == self._host:
            if not pid.isdigit() or began(int(pid)) != started:
                return True
            if int(pid) == os.getpid() and name == self._name:
                return True  # our own, whose release failed
        with self._guard:
            seen, since = self._watched.get(key, (None, now))
            if seen != found:
                if len(self._watched) > 10_000:
                    self._watched.clear()
                    self._again.clear()
                self._watched[key] = found, now
                return False
            return now - since > DEAD

    def release(self, key: bytes, owner: Owner | None = None) -> None:
        """Let go. Where the record can't be removed now, the heartbeat's thread tries on.

        Args:
            owner: nothing is done unless it has the lease; None: whoever has it.
        """
        with self._guard:
            held = self._held.get(key)
        if held is None or (owner is not None and held[1] is not owner):
            return
        mine = held[0]
        if mine is None:
            if owner is None:  # a thread is taking it
                return
            mine = self._taken(key)
        if mine is not None and not self._removed(key, mine):
            with self._guard:
                self._dropped[key] = mine
                self._beat_on()
        with self._guard:
            now = self._held.get(key)
            if now is not None and now[1] is held[1]:
                del self._held[key]

    def _taken(self, key: bytes) -> Lease | None:
        """The record of a lease that is ours, and of which nothing was noted any more."""
        with contextlib.suppress(KeptError):
            found = self._records.read(key)
            if found is not None and found.owner == self.owner:
                return found
        return None

    def _removed(self, key: bytes, mine: Lease) -> bool:
        try:
            if not self._records.swap(key, mine, None):
                found = self._records.read(key)  # a heartbeat was under way
                if found is not None and (found.owner, found.token) == (mine.owner, mine.token):
                    return self._records.swap(key, found, None)
        except KeptError:
            return False
        return True

    def token(self, key: bytes) -> int | None:
        """The fencing token of a lease that is ours."""
        held = self._held.get(key)
        return None if held is None or held[0] is None else held[0].token

    def holds(self, key: bytes) -> bool:
        """Whether a lease is ours, so far as we know."""
        return key in self._held

    def holder(self, key: bytes) -> Owner | None:
        """Who has a lease in this process."""
        held = self._held.get(key)
        return None if held is None else held[1]

    # -- heartbeats -------------------------------------------------------------------------------

    def _beat_on(self) -> None:
        if self._thread is None or not self._thread.is_alive():
            self._stop = threading.Event()
            self._thread = threading.Thread(
                target=self._beat, args=(self._stop,), name="wellkept-leases", daemon=True
            )
            self._thread.start()

    def _beat(self, stop: threading.Event) -> None:
        while not stop.wait(BEAT):
            with self._guard:
                held = [(key, mine) for key, (mine, _) in self._held.items() if mine is not None]
                dropped = list(self._dropped.items())
                if not held and not dropped:
                    self._thread = None
                    return
            for key, mine in held:
                with contextlib.suppress(KeptError):  # the next beat may get through
                    self._renew(key, mine)
            for key, mine in dropped:
                if self._removed(key, mine):
                    with self._guard:
                        if self._dropped.get(key) is mine:
                            del self._dropped[key]

    def _renew(self, key: bytes, mine: Lease) -> None:
        later = mine._replace(beat=mine.beat + 1, deadline=time.time() + DEAD)
        renewed = self._records.swap(key, mine, later)
        with self._guard:
            held = self._held.get(key)
            if held is not None and held[0] is mine:
                if renewed:
                    self._held[key] = later, held[1]
                # Otherwise somebody took us for dead and computes too. The body goes on, and what it
                # keeps is as right as theirs.
                return
        if renewed:  # released meanwhile, under the beat before
            self._removed(key, later)

    def close(self) -> None:
        """Release everything."""
        for key in list(self._held):
            self.release(key)
        self._pause()

    def _pause(self) -> None:
        thread, self._thread = self._thread, None
        if thread is not None:
            self._stop.set()
            if thread is not threading.current_thread() and thread.is_alive():
                thread.join(5.0)

    # -- fork -------------------------------------------------------------------------------------

    def _before_fork(self) -> None:
        self._pause()  # a process that forks has no thread of ours, so no lock is held in the child

    def _after_fork_in_parent(self) -> None:
        with self._guard:
            if self._held or self._dropped:
                self._beat_on()

    def _after_fork_in_child(self) -> None:
        self._guard = Guard()
        self._name = os.urandom(6).hex()
        self._thread = None
        self._held, self._dropped, self._watched, self._again = {}, {}, {}, {}


_all: weakref.WeakSet[Leases] = weakref.WeakSet()


def _each(method: Callable[[Leases], None]) -> Callable[[], None]:
    def run() -> None:
        for leases in list(_all):
            method(leases)

    return run


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_each(Leases._before_fork),
        after_in_parent=_each(Leases._after_fork_in_parent),
        after_in_child=_each(Leases._after_fork_in_child),
    )
