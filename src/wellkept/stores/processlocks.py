"""Leases among the threads and tasks of one process, where nothing better can be had."""

from __future__ import annotations

import os
import weakref

from wellkept.interrupts import Guard
from wellkept.stores.leases import SOMEBODY, Owner

__all__ = ["ProcessLocks"]


class ProcessLocks:
    """Leases among the threads and tasks of one process."""

    def __init__(self) -> None:
        self._held: dict[bytes, Owner] = {}
        self._guard = Guard()
        _all.add(self)

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


_all: weakref.WeakSet[ProcessLocks] = weakref.WeakSet()


def _after_fork() -> None:
    for locks in list(_all):
        locks._forked()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
