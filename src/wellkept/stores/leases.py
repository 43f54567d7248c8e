"""Leases as records, for media whose locks can't be relied on: network file systems, servers.

An owner's record says who it is and has a heartbeat that it moves on once a second. A waiter never
compares clocks: it takes over when the heartbeat that it watches has stood still for `DEAD` seconds
of its own clock, or at once when the owner is a process of this host that is no more. A slow owner
whose heart beats is never pre-empted. Each lease of a key has a larger fencing token than the one
before, so that an owner that was taken for dead can be told from its successor.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import struct
import sys
import time
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from wellkept._process import Instances, Worker, began, host_name
from wellkept.errors import KeptError, StoreError
from wellkept.interrupts import Guard
from wellkept.stores.filesystem import open_regular

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
        self._beats = Worker("wellkept-leases", self._beat, lambda: BEAT, patience=5.0)
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
            self._beats.begin()
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
                self._beats.begin()
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

    def _beat(self) -> bool:
        with self._guard:
            held = [(key, mine) for key, (mine, _) in self._held.items() if mine is not None]
            dropped = list(self._dropped.items())
        for key, mine in held:
            with contextlib.suppress(KeptError):  # the next beat may get through
                self._renew(key, mine)
        for key, mine in dropped:
            if self._removed(key, mine):
                with self._guard:
                    if self._dropped.get(key) is mine:
                        del self._dropped[key]
        return bool(held or dropped)

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
        self._beats.stop()

    # -- fork -------------------------------------------------------------------------------------

    def _forked(self) -> None:
        self._guard = Guard()
        self._name = os.urandom(6).hex()
        self._held, self._dropped, self._watched, self._again = {}, {}, {}, {}


_all: Instances[Leases] = Instances(in_child=Leases._forked)


class ProcessLocks:
    """Leases among the threads and tasks of one process."""

    def __init__(self) -> None:
        self._held: dict[bytes, Owner] = {}
        self._guard = Guard()
        _process_locks.add(self)

    def acquire(self, key: bytes, owner: Owner = SOMEBODY) -> bool:
        """See `Locks`."""
        with self._guard:
            held = self._held.get(key)
            if held is not None and not held.over:
                return False
            self._held[key] = owner
            return True

    def release(self, key: bytes, owner: Owner | None = None) -> None:
        """See `Locks`."""
        with self._guard:
            if owner is None or self._held.get(key) is owner:
                self._held.pop(key, None)

    def holder(self, key: bytes) -> Owner | None:
        """See `Locks`."""
        return self._held.get(key)

    def _forked(self) -> None:
        self._held = {}
        self._guard = Guard()


_process_locks: Instances[ProcessLocks] = Instances(in_child=ProcessLocks._forked)


_LOCK = getattr(fcntl, "F_OFD_SETLK", None) or fcntl.F_SETLK
KIND = "open-file-description" if hasattr(fcntl, "F_OFD_SETLK") else "posix"
"""Which locks this system gives."""

_LINUX = sys.platform == "linux"
_FLOCK = struct.Struct("hhqqi4x" if _LINUX else "qqihh")  # struct flock of <fcntl.h>
_BLOBS = (1 << 62) + 1  # past every key's offset
_BUSY = (errno.EAGAIN, errno.EACCES)


class Locks:
    """Exclusive locks named by 32-byte keys, one owner each, among threads, tasks and processes.

    Args:
        path: the file whose byte ranges stand for keys; made when needed, never written to.
        mode: of the file; who may not open it for writing has no locks.
    """

    def __init__(self, path: Path, mode: int = 0o600) -> None:
        self.path, self._mode = path, mode
        self.waits: Any = None
        """Where those who wait for long may say so: a directory, or `WaitItems`."""
        self._fd = -1
        self._held: dict[int, Owner] = {}
        self._sharing: set[weakref.ref[_Sharing]] = set()
        self._looked = 0.0
        self._guard = Guard()
        _range_locks.add(self)

    def acquire(self, key: bytes, owner: Owner = SOMEBODY) -> bool:
        """Try once, without waiting; whether the lock is the owner's now.

        Raises:
            StoreError: the file system gives no locks.
        """
        at = _offset(key)
        with self._guard:
            held = self._held.get(at)
            if held is not None and not held.over:
                return False
            if not self._held and not self._sharing:
                self._follow()
            # Before the kernel is asked, so that the owner lets go of it whatever comes in between.
            self._held[at] = owner
            try:
                if self._set(fcntl.F_WRLCK, at):
                    return True
            except StoreError:
                del self._held[at]
                raise
            del self._held[at]
            return False

    def release(self, key: bytes, owner: Owner | None = None) -> None:
        """Let go.

        Args:
            owner: nothing is done unless it has the lock; None: whoever has it.
        """
        at = _offset(key)
        with self._guard:
            held = self._held.get(at)
            if held is not None and (owner is None or held is owner):
                with contextlib.suppress(StoreError):  # the result is there; the call must not fail
                    self._set(fcntl.F_UNLCK, at)
                del self._held[at]

    def holder(self, key: bytes) -> Owner | None:
        """Who has a lock in this process."""
        return self._held.get(_offset(key))

    def _follow(self) -> None:
        # Somebody may have removed the file: others would lock another one. Once a second, and only
        # while nothing is locked, because closing releases.
        now = time.monotonic()
        if self._fd < 0 or now - self._looked < 1.0:
            return
        self._looked = now
        try:
            same = os.path.samestat(os.fstat(self._fd), self.path.stat())
        except OSError:
            same = False
        if not same:
            os.close(self._fd)
            self._fd = -1

    def writing_blobs(self) -> _Sharing:
        """While blobs are written whose record is not committed yet: nobody collects."""
        return _Sharing(self)

    def share(self, sharing: weakref.ref[_Sharing]) -> None:
        """See `writing_blobs`."""
        with self._guard:
            first = not self._sharing
            self._sharing.add(sharing)
            if first:
                self._wait(fcntl.F_RDLCK, 60.0)

    def unshare(self, sharing: weakref.ref[_Sharing]) -> None:
        """See `writing_blobs`."""
        with self._guard:
            self._sharing.discard(sharing)
            if not self._sharing and self._fd >= 0:
                with contextlib.suppress(StoreError):  # as of `release`
                    self._set(fcntl.F_UNLCK, _BLOBS)

    @contextlib.contextmanager
    def collecting_blobs(self, patience: float = 10.0) -> Iterator[None]:
        """While unreferenced blobs are removed: nobody writes any.

        Raises:
            StoreError: writers did not leave a gap within `patience` seconds.
        """
        with self._guard:  # this process's own writers wait for the guard
            deadline = time.monotonic() + patience
            while self._sharing and time.monotonic() < deadline:
                self._guard.release()
                time.sleep(0.005)
                self._guard.acquire()
            if self._sharing:
                raise StoreError(f"{self.path}: writers are busy; try again later")
            self._wait(fcntl.F_WRLCK, patience)
            try:
                yield
            finally:
                self._set(fcntl.F_UNLCK, _BLOBS)

    def _wait(self, kind: int, patience: float) -> None:
        deadline = time.monotonic() + patience
        while not self._set(kind, _BLOBS):
            if time.monotonic() > deadline:
                raise StoreError(f"{self.path}: the blobs stay locked by another process")
            time.sleep(0.005)

    def _set(self, kind: int, at: int) -> bool:
        try:
            if self._fd < 0:
                self._fd = self._open()
            fcntl.fcntl(
                self._fd,
                _LOCK,
                _FLOCK.pack(kind, 0, at, 1, 0) if _LINUX else _FLOCK.pack(at, 1, 0, kind, 0),
            )
        except OSError as error:
            if error.errno in _BUSY and self._fd >= 0:  # not: the file may not be opened
                return False
            raise StoreError(f"can't lock {self.path}: {error}") from error
        return True

    def _open(self) -> int:
        flags = os.O_RDWR
        with contextlib.suppress(FileNotFoundError):
            return open_regular(self.path, flags)
        fd = open_regular(self.path, flags | os.O_CREAT, self._mode)
        with contextlib.suppress(PermissionError):  # another user was faster
            os.fchmod(fd, self._mode)  # the umask may be stricter
        return fd

    def close(self) -> None:
        """Release everything."""
        with self._guard:
            if self._fd >= 0:
                os.close(self._fd)
                self._fd = -1
            self._held.clear()

    def _forked(self) -> None:
        # The child's descriptor shares the parent's locks; kept open, it would hold the parent's
        # leases after the parent's death.
        self._guard = Guard()
        self._held = {}
        self._sharing = set()
        if self._fd >= 0:
            if KIND == "open-file-description":
                os.close(self._fd)
            self._fd = -1


class _Sharing:
    """One writer of blobs. It ends with its block, or with whoever was in that."""

    __slots__ = ("__weakref__", "_locks", "_noted")

    def __init__(self, locks: Locks) -> None:
        self._locks = locks
        self._noted = weakref.ref(self, locks.unshare)

    def __enter__(self) -> None:
        try:
            self._locks.share(self._noted)
        except BaseException:
            self._locks.unshare(self._noted)
            raise

    def __exit__(self, *_: object) -> None:
        self._locks.unshare(self._noted)


def _offset(key: bytes) -> int:
    return int.from_bytes(key[:8], "big") >> 2


_range_locks: Instances[Locks] = Instances(in_child=Locks._forked)
