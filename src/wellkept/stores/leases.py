"""Leases: the right to compute one key, which its owner has until it lets go of it or is dead.

One class has them among the threads and tasks of a process; what derives from it has them among
processes, by locks of the kernel, and among hosts, by records with heartbeats. `lease_records` says
where such records are.
"""

from __future__ import annotations

import contextlib
import os
import time
import weakref
from collections.abc import Collection, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from wellkept._process import Instances, Worker, began, host_name
from wellkept._system import FREE, KIND, READ, WRITE, set_mode, set_range
from wellkept.errors import KeptError, StoreError
from wellkept.interrupts import Guard, Owner
from wellkept.stores.filesystem import open_regular

BEAT = 1.0
"""Seconds between the heartbeats of an owner."""
DEAD = 4.0
"""Seconds without one after which a waiter takes over."""
# Seconds between looks at the record of a lease that somebody else has.
_PAUSE = 0.05


SOMEBODY = Owner()
"""Who gives no name."""


class Leases:
    """Leases named by 32-byte keys, one owner each, among the threads and tasks of one process."""

    shared = False
    """Whether other processes meet here."""
    waits: Any = None
    """Where those who wait for long may say so: a directory, or `WaitItems`."""
    _quick = True
    """Whether `_take` may be asked while other threads wait for their turn here."""

    def __init__(self) -> None:
        self._forked()
        _all.add(self)

    def _forked(self) -> None:
        self._guard = Guard()
        self._held: dict[bytes, Owner] = {}

    def acquire(self, key: bytes, owner: Owner = SOMEBODY) -> bool:
        """Try once, without waiting; return whether the lease is the owner's now.

        Raises:
            StoreError: it can't be found out.
        """
        with self._guard:
            held = self._held.get(key)
            if held is not None and not held.over:
                return False
            if held is None and self._is_early(key):
                return False
            # Before others are asked, so that no other thread asks meanwhile, and the owner lets go of
            # it whatever comes in between.
            self._held[key] = owner
            if self._quick:
                return self._taken(key, owner)
        return self._taken(key, owner)

    def _taken(self, key: bytes, owner: Owner) -> bool:
        try:
            if self._take(key):
                return True
        except KeptError:
            self._missed(key, owner)
            raise
        self._missed(key, owner)
        return False

    def _is_early(self, key: bytes) -> bool:
        """Return whether it is too early to ask again."""
        return False

    def _take(self, key: bytes) -> bool:
        """Take the lease among processes; return whether that is done."""
        return True

    def _missed(self, key: bytes, owner: Owner) -> None:
        if self._held.get(key) is owner:
            del self._held[key]

    def release(self, key: bytes, owner: Owner | None = None) -> None:
        """Let go.

        Args:
            owner: nothing is done unless it has the lease; None: whoever has it.
        """
        with self._guard:
            held = self._held.get(key)
            if held is not None and (owner is None or held is owner):
                del self._held[key]

    def release_all(self, keys: Collection[bytes], owner: Owner) -> None:
        """Let go of those of the keys that the owner has."""
        for key in keys:
            self.release(key, owner)

    def holder(self, key: bytes) -> Owner | None:
        """Return who has a lease in this process."""
        return self._held.get(key)

    def holds(self, key: bytes) -> bool:
        """Return whether a lease is ours, so far as we know."""
        return key in self._held

    def writing_blobs(self) -> AbstractContextManager[None]:
        """While blobs are written whose record is not committed yet: nobody collects, where that can be
        seen to.
        """
        return nullcontext()

    def collecting_blobs(self, patience: float = 10.0) -> AbstractContextManager[None]:
        """While unreferenced blobs are removed: nobody writes any, where that can be seen to.

        Raises:
            StoreError: writers did not leave a gap within `patience` seconds.
        """
        return nullcontext()

    def close(self) -> None:
        """Release everything."""
        with self._guard:
            self._held.clear()


_all: Instances[Leases] = Instances(in_child=lambda leases: leases._forked())


# -- locks of the kernel --------------------------------------------------------------------------


# Past every key's offset.
_KEYS = 1 << 62
_BLOBS = _KEYS + 1


class RangeLeases(Leases):
    """Leases on one host: byte-range locks on a single file, at an offset taken from the key.

    The kernel releases a lock when its owner dies, so a waiter takes over at once and nothing has to
    be cleaned up. Open-file-description locks (Linux, macOS) belong to the descriptor; where a system
    has none, ordinary POSIX locks stand in: they work because this process has a table of its own locks
    and never closes another descriptor of the file.

    Args:
        path: the file whose byte ranges stand for keys; made when needed, never written to.
        mode: of the file; who may not open it for writing has no leases.
    """

    shared = True

    path: Path

    def __init__(self, path: Path, mode: int = 0o600) -> None:
        self.path, self._mode = path, mode
        self._fd = -1
        self._looked = 0.0
        super().__init__()

    def _forked(self) -> None:
        super()._forked()
        self._sharing: set[weakref.ref[_Sharing]] = set()
        # The child's descriptor shares the parent's locks; kept open, it would hold the parent's
        # leases after the parent's death.
        if self._fd >= 0:
            if KIND == "open-file-description":
                os.close(self._fd)
            self._fd = -1

    def acquire(self, key: bytes, owner: Owner = SOMEBODY) -> bool:
        """See `Leases`. Each miss comes here: this is that method with `_set` in its midst."""
        with self._guard:
            held = self._held.get(key)
            if held is not None and not held.over:
                return False
            self._held[key] = owner
            try:
                if len(self._held) == 1 and not self._sharing:
                    now = time.monotonic()
                    if now - self._looked >= 1.0:
                        self._looked = now
                        self._follow()
                if self._fd < 0:
                    self._fd = self._open()
                if set_range(self._fd, WRITE, int.from_bytes(key[:8], "big") >> 2):
                    return True
            except OSError as error:
                self._missed(key, owner)
                raise self._failed(error) from error
            self._missed(key, owner)
            return False

    def release(self, key: bytes, owner: Owner | None = None) -> None:
        """See `Leases`."""
        with self._guard:
            held = self._held.get(key)
            if held is not None and (owner is None or held is owner):
                try:
                    set_range(self._fd, FREE, int.from_bytes(key[:8], "big") >> 2)
                except OSError:
                    # The result is there; the call must not fail.
                    pass
                del self._held[key]

    def release_all(self, keys: Collection[bytes], owner: Owner) -> None:
        """See `Leases`. The kernel walks through all locks for each that is let go of, so most of them are
        let go of by what is left: each gap between that is one range.
        """
        with self._guard:
            held = self._held
            gone = {key for key in keys if held.get(key) is owner}
            if 2 * len(gone) <= len(held):
                super().release_all(gone, owner)
                return
            # As in `release`, the call must not fail.
            with contextlib.suppress(StoreError):
                at = 0
                for left in sorted(
                    int.from_bytes(key[:8], "big") >> 2 for key in held.keys() - gone
                ):
                    if left > at:
                        self._set(FREE, at, left - at)
                    at = left + 1
                self._set(FREE, at, _KEYS - at)
            for key in gone:
                del held[key]

    def _follow(self) -> None:
        # Somebody may have removed the file: others would lock another one. Once a second, and only
        # while nothing is locked, because closing releases.
        if self._fd < 0:
            return
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
                self._wait(READ, 60.0)

    def unshare(self, sharing: weakref.ref[_Sharing]) -> None:
        """See `writing_blobs`."""
        with self._guard:
            self._sharing.discard(sharing)
            if not self._sharing and self._fd >= 0:
                # As in `release`, the call must not fail.
                with contextlib.suppress(StoreError):
                    self._set(FREE, _BLOBS)

    @contextlib.contextmanager
    def collecting_blobs(self, patience: float = 10.0) -> Iterator[None]:
        """While unreferenced blobs are removed: nobody writes any.

        Raises:
            StoreError: writers did not leave a gap within `patience` seconds.
        """
        # This process's own writers wait for the guard.
        with self._guard:
            deadline = time.monotonic() + patience
            while self._sharing and time.monotonic() < deadline:
                self._guard.release()
                time.sleep(0.005)
                self._guard.acquire()
            if self._sharing:
                raise StoreError(f"{self.path}: writers are busy; try again later")
            self._wait(WRITE, patience)
            try:
                yield
            finally:
                self._set(FREE, _BLOBS)

    def _wait(self, kind: int, patience: float) -> None:
        deadline = time.monotonic() + patience
        while not self._set(kind, _BLOBS):
            if time.monotonic() > deadline:
                raise StoreError(f"{self.path}: the blobs stay locked by another process")
            time.sleep(0.005)

    def _set(self, kind: int, at: int, width: int = 1) -> bool:
        try:
            if self._fd < 0:
                self._fd = self._open()
            return set_range(self._fd, kind, at, width)
        except OSError as error:
            raise self._failed(error) from error

    def _failed(self, error: OSError) -> StoreError:
        return StoreError(f"can't lock {self.path}: {error}")

    def _open(self) -> int:
        flags = os.O_RDWR
        with contextlib.suppress(FileNotFoundError):
            return open_regular(self.path, flags)
        fd = open_regular(self.path, flags | os.O_CREAT, self._mode)
        # Another user was faster.
        with contextlib.suppress(PermissionError):
            # The umask may be stricter.
            set_mode(fd, self.path, self._mode)
        return fd

    def close(self) -> None:
        """Release everything."""
        with self._guard:
            if self._fd >= 0:
                os.close(self._fd)
                self._fd = -1
            self._held.clear()


class _Sharing:
    """One writer of blobs. It ends with its block, or with whoever was in that."""

    __slots__ = ("__weakref__", "_locks", "_noted")

    def __init__(self, locks: RangeLeases) -> None:
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


# -- records with heartbeats ----------------------------------------------------------------------


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
        """Return the record, as it is now."""
        ...

    def swap(self, key: bytes, old: Lease | None, new: Lease | None) -> bool:
        """Make `new` of `old` (None: no record) atomically; False if it was not `old`."""
        ...


class RecordLeases(Leases):
    """Leases as records, for media whose locks can't be relied on: network file systems, servers.

    An owner's record says who it is and has a heartbeat that it moves on once a second. A waiter never
    compares clocks: it takes over when the heartbeat that it watches has stood still for `DEAD` seconds
    of its own clock, of which at most a quarter counts between two looks, or at once when the owner is a
    process of this host that is no more. A slow owner whose heart beats is never pre-empted. Each lease of
    a key has a larger fencing token than the one before, so that an owner that was taken for dead can be
    told from its successor.

    Args:
        records: where they are.
        host: the name of this host; what it says of processes is believed for this host only.
        blobs: locks that keep collectors from writers of blobs. Whether they hold between hosts depends
            on the server, so what must be right does not rest on them.
        pause: seconds between two looks of who waits for long: at a server, thousands may wait at once.
    """

    shared = True
    _quick = False

    records: LeaseRecords

    def __init__(
        self,
        records: LeaseRecords,
        host: str | None = None,
        *,
        blobs: RangeLeases | None = None,
        pause: float | None = None,
    ) -> None:
        self.records, self._blobs = records, blobs
        self._host = host_name() if host is None else host
        if pause is not None:
            self.pause = pause
        self._heart = Worker("wellkept-leases", self._beat, lambda: BEAT)
        super().__init__()

    def _forked(self) -> None:
        super()._forked()
        self._name = os.urandom(6).hex()
        self._mine: dict[bytes, Lease] = {}
        # Releases that failed, to be tried again.
        self._dropped: dict[bytes, Lease] = {}
        # Others' records, for how long unchanged, when looked at, and when to look again.
        self._watched: dict[bytes, tuple[Lease, float, float]] = {}
        self._again: dict[bytes, float] = {}

    @property
    def owner(self) -> str:
        """What its records say of their owner."""
        return f"{self._host}|{os.getpid()}|{began(os.getpid())}|{self._name}"

    def token(self, key: bytes) -> int | None:
        """Return the fencing token of a lease that is ours."""
        mine = self._mine.get(key)
        return None if mine is None else mine.token

    def _is_early(self, key: bytes) -> bool:
        return time.monotonic() < self._again.get(key, 0.0)

    def _take(self, key: bytes) -> bool:
        with self._guard:
            # An owner that is over may have left it.
            self._mine.pop(key, None)
        found = self.records.read(key)
        if found is not None and not self._dead(key, found):
            return False
        # The clock only makes tokens grow where a record, and its token with it, was removed.
        token = max(time.time_ns(), found.token + 1 if found else 0)
        mine = Lease(self.owner, token, 0, time.time() + DEAD)
        if not self.records.swap(key, found, mine):
            return False
        with self._guard:
            self._mine[key] = mine
            self._dropped.pop(key, None)
            self._watched.pop(key, None)
            self._again.pop(key, None)
        self._heart.begin()
        return True

    def _missed(self, key: bytes, owner: Owner) -> None:
        with self._guard:
            super()._missed(key, owner)
            self._again[key] = time.monotonic() + _PAUSE

    def _dead(self, key: bytes, found: Lease) -> bool:
        host, pid, started, name = found.owner.rsplit("|", 3)
        if host == self._host:
            if not pid.isdigit() or began(int(pid)) != started:
                return True
            if int(pid) == os.getpid() and name == self._name:
                # Our own, whose release failed.
                return True
        now = time.monotonic()
        with self._guard:
            seen, still, looked = self._watched.get(key, (None, 0.0, now))
            if seen != found:
                if len(self._watched) > 10_000:
                    self._watched.clear()
                    self._again.clear()
                self._watched[key] = found, 0.0, now
                return False
            # Where this whole machine stood still, its owner may have stood with it, and beats in a moment.
            still += min(now - looked, DEAD / 4)
            self._watched[key] = found, still, now
            return still > DEAD

    def release(self, key: bytes, owner: Owner | None = None) -> None:
        """Let go. Where the record can't be removed now, that is tried again with each heartbeat.

        Args:
            owner: nothing is done unless it has the lease; None: whoever has it.
        """
        with self._guard:
            held, mine = self._held.get(key), self._mine.get(key)
        if held is None or (owner is not None and held is not owner):
            return
        if mine is None:
            # A thread is taking it.
            if owner is None:
                return
            mine = self._found(key)
        if mine is not None and not self._removed(key, mine):
            with self._guard:
                self._dropped[key] = mine
            self._heart.begin()
        with self._guard:
            if self._held.get(key) is held:
                self._mine.pop(key, None)
                del self._held[key]

    def _found(self, key: bytes) -> Lease | None:
        """Return the record of a lease that is ours, and of which nothing was noted any more."""
        with contextlib.suppress(KeptError):
            found = self.records.read(key)
            if found is not None and found.owner == self.owner:
                return found
        return None

    def _removed(self, key: bytes, mine: Lease) -> bool:
        try:
            if not self.records.swap(key, mine, None):
                # A heartbeat was under way.
                found = self.records.read(key)
                if found is not None and (found.owner, found.token) == (mine.owner, mine.token):
                    return self.records.swap(key, found, None)
        except KeptError:
            return False
        return True

    def _beat(self) -> bool:
        """Move the heartbeats on; return whether there is something left to do."""
        with self._guard:
            mine, dropped = list(self._mine.items()), list(self._dropped.items())
        for key, lease in mine:
            # The next beat may get through.
            with contextlib.suppress(KeptError):
                self._renew(key, lease)
        for key, lease in dropped:
            if self._removed(key, lease):
                with self._guard:
                    if self._dropped.get(key) is lease:
                        del self._dropped[key]
        return bool(self._mine or self._dropped)

    def _renew(self, key: bytes, mine: Lease) -> None:
        later = mine._replace(beat=mine.beat + 1, deadline=time.time() + DEAD)
        renewed = self.records.swap(key, mine, later)
        with self._guard:
            if self._mine.get(key) is mine:
                if renewed:
                    self._mine[key] = later
                # Otherwise somebody took us for dead and computes too. The body goes on, and what it
                # keeps is as right as theirs.
                return
        # Released meanwhile, under the beat before.
        if renewed:
            self._removed(key, later)

    @contextlib.contextmanager
    def writing_blobs(self) -> Iterator[None]:
        """See `Leases`. Where the server gives no locks, nobody can collect either."""
        with contextlib.ExitStack() as stack:
            if self._blobs is not None:
                try:
                    stack.enter_context(self._blobs.writing_blobs())
                except StoreError as error:
                    if not isinstance(error.__cause__, OSError):
                        raise
            yield

    def collecting_blobs(self, patience: float = 10.0) -> AbstractContextManager[None]:
        """See `Leases`."""
        return nullcontext() if self._blobs is None else self._blobs.collecting_blobs(patience)

    def close(self) -> None:
        """Release everything."""
        for key in list(self._held):
            self.release(key)
        self._heart.stop()
        if self._blobs is not None:
            self._blobs.close()
