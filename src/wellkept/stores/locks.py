"""Leases on one host: byte-range locks on a single file, at an offset taken from the key.

The kernel releases a lock when its owner dies, so a waiter takes over at once and nothing has to
be cleaned up. Open-file-description locks (Linux, macOS) belong to the descriptor; where a system
has none, ordinary POSIX locks stand in: they work because this process has a table of its own locks
and never closes another descriptor of the file.
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
from typing import Any

from wellkept.errors import StoreError
from wellkept.interrupts import Guard
from wellkept.stores.filesystem import open_regular
from wellkept.stores.leases import SOMEBODY, Owner

__all__ = ["KIND", "Locks"]

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
        _all.add(self)

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


_all: weakref.WeakSet[Locks] = weakref.WeakSet()


def _after_fork() -> None:
    for locks in list(_all):
        locks._forked()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
