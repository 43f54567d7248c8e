"""Leases of a server, as a cache needs them: taken with the look that found nothing, where it can be."""

from __future__ import annotations

import contextlib
import threading
import time
from typing import Any

from wellkept._process import Instances
from wellkept.errors import KeptError
from wellkept.interrupts import Guard
from wellkept.remote.wire import Lease
from wellkept.stores.leases import BEAT, SOMEBODY, Owner

_PAUSE = 0.05  # seconds between requests for a lease that somebody else has


class RemoteLocks:
    """`acquire` and `release` at a server, by whose clock a lease runs out without a heartbeat.

    Args:
        line: what reaches the server.
    """

    waits: Any = None
    """Where those who wait for long say so: see `wellkept.memo.inflight`."""
    pause = _PAUSE
    """Seconds that a waiter sleeps at the most."""

    def __init__(self, line: Any) -> None:
        self._line = line
        self._forked()
        _all.add(self)

    def _forked(self) -> None:
        self._guard = Guard()
        self._held: dict[bytes, Owner] = {}
        self._granted: dict[bytes, int] = {}  # with a look, and for which thread
        self._again: dict[bytes, float] = {}
        self._stop: threading.Event | None = None

    def granted(self, key: bytes) -> None:
        """A look found nothing, and the server gave the lease with that answer."""
        # For this thread alone: another that looked before must not take it for its own look.
        with self._guard:
            self._granted[key] = threading.get_ident()
            self._beat_on()

    def unclaimed(self) -> None:
        """This thread did not use what the look before gave it."""
        if self._granted:
            me = threading.get_ident()
            for key in [key for key, thread in list(self._granted.items()) if thread == me]:
                if self._granted.pop(key, None) is not None:
                    self._let_go(key)

    def acquire(self, key: bytes, owner: Owner = SOMEBODY) -> bool:
        """Try once, without waiting; `owner.looked` where nobody can have kept a result since the look.

        Raises:
            StoreError: the server can't be reached.
        """
        with self._guard:
            if self._granted.get(key) == threading.get_ident():
                self._held[key] = owner
                del self._granted[key]
                owner.looked = True
                return True
            held = self._held.get(key)
            if (held is not None and not held.over) or time.monotonic() < self._again.get(key, 0.0):
                return False
        if held is not None:
            self.release(key, held)
        got = key in self._line.ask(Lease([key]))
        with self._guard:
            if got:
                self._held[key] = owner
                self._again.pop(key, None)
                self._beat_on()
            else:
                if len(self._again) > 10_000:
                    self._again.clear()
                self._again[key] = time.monotonic() + _PAUSE
        return got

    def holds(self, key: bytes) -> bool:
        """Whether it is ours."""
        return key in self._held

    def released(self, key: bytes) -> None:
        """The server let go of it already."""
        self._held.pop(key, None)

    def release(self, key: bytes, owner: Owner | None = None) -> None:
        """Let go; nobody waits for that. See `Leases`."""
        with self._guard:
            held = self._held.get(key)
            ours = held is not None and (owner is None or held is owner)
            granted = held is None and self._granted.pop(key, None) is not None
        if ours or granted:
            self._let_go(key)
            if ours:
                self._held.pop(key, None)

    def holder(self, key: bytes) -> Owner | None:
        """See `Leases`."""
        return self._held.get(key)

    def _let_go(self, key: bytes) -> None:
        with contextlib.suppress(KeptError):  # it runs out
            self._line.ask(Lease([key], "release"), wait=False)

    # -- heartbeats -------------------------------------------------------------------------------

    def _beat_on(self) -> None:
        if self._stop is None:
            self._stop = threading.Event()
            threading.Thread(
                target=self._beat, args=(self._stop,), name="wellkept-leases", daemon=True
            ).start()

    def _beat(self, stop: threading.Event) -> None:
        while not stop.wait(BEAT):
            with self._guard:
                if not self._held and not self._granted:
                    self._stop = None
                    return
                keys = [*self._held]
            if keys:
                with contextlib.suppress(KeptError):  # the next beat may get through
                    self._line.ask(Lease(keys, "keep"))

    def close(self) -> None:
        """Release everything."""
        with self._guard:
            keys = [*self._held, *self._granted]
            self._held.clear()
            self._granted.clear()
            if self._stop is not None:
                self._stop.set()
                self._stop = None
        for key in keys:
            self._let_go(key)


_all: Instances[RemoteLocks] = Instances(in_child=RemoteLocks._forked)
