"""The leases that a server holds for its clients, as long as their hearts beat by its own clock."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterable
from typing import Any

from kept.errors import KeptError
from kept.stores.leases import DEAD

__all__ = ["Holding"]


class Holding:
    """What clients hold of a place's own leases, so that they meet its local users too.

    Args:
        locks: the place's.
        patience: seconds without a heartbeat after which a client's leases are free.
    """

    def __init__(self, locks: Any, patience: float = DEAD) -> None:
        self._locks, self._patience = locks, patience
        self._held: dict[bytes, tuple[str, float]] = {}  # key: whose, and until when
        self._guard = threading.Lock()

    def acquire(self, owner: str, key: bytes, *, again: bool = False) -> bool:
        """Whether the lease is the owner's now.

        Args:
            again: the answer to this was lost, so that the owner may hold it already.
        """
        now = time.monotonic()
        with self._guard:
            self._expire(now)
            if again and self._held.get(key, ("", 0.0))[0] == owner:
                return True
            if key in self._held:
                return False
            if not self._locks.acquire(key):
                return False
            self._held[key] = owner, now + self._patience
            return True

    def release(self, owner: str, key: bytes) -> None:
        """Let go of what is the owner's."""
        with self._guard:
            if self._held.get(key, ("", 0.0))[0] == owner:
                del self._held[key]
                self._locks.release(key)

    def beat(self, owner: str, keys: Iterable[bytes]) -> list[bytes]:
        """The owner lives; which of these leases are its own still, or again."""
        now, own = time.monotonic(), []
        with self._guard:
            self._expire(now)
            for key in keys:
                holder = self._held.get(key)
                if holder is None and not self._locks.acquire(key):
                    continue
                if holder is None or holder[0] == owner:
                    self._held[key] = owner, now + self._patience
                    own.append(key)
        return own

    def tick(self) -> None:
        """Free what nobody's heart beats for; local users wait for it too."""
        with self._guard:
            self._expire(time.monotonic())

    def drop(self, owner: str | None = None) -> None:
        """Release all that an owner (or anybody) holds."""
        with self._guard:
            for key, (holder, _) in list(self._held.items()):
                if owner is None or holder == owner:
                    del self._held[key]
                    with contextlib.suppress(KeptError):
                        self._locks.release(key)

    def _expire(self, now: float) -> None:
        for key, (_, until) in list(self._held.items()):
            if until < now:
                del self._held[key]
                with contextlib.suppress(KeptError):
                    self._locks.release(key)
