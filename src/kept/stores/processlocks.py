"""Leases among the threads and tasks of one process, where nothing better can be had."""

from __future__ import annotations

import os
import threading
import weakref

__all__ = ["ProcessLocks"]


class ProcessLocks:
    """Leases among the threads and tasks of one process."""

    def __init__(self) -> None:
        self._held: set[bytes] = set()
        self._guard = threading.Lock()
        _all.add(self)

    def acquire(self, key: bytes) -> bool:
        with self._guard:
            if key in self._held:
                return False
            self._held.add(key)
            return True

    def release(self, key: bytes) -> None:
        self._held.discard(key)

    def _forked(self) -> None:
        self._held = set()
        self._guard = threading.Lock()


_all: weakref.WeakSet[ProcessLocks] = weakref.WeakSet()


def _after_fork() -> None:
    for locks in list(_all):
        locks._forked()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
