"""Leases of a server, taken in the same trip as the lookup where that is possible."""

from __future__ import annotations

import contextlib
import threading
import time
from typing import Any

from wellkept._process import Instances, Worker
from wellkept.errors import KeptError
from wellkept.interrupts import Guard, Owner
from wellkept.remote.wire import Lease
from wellkept.stores.leases import BEAT, SOMEBODY

# Seconds between requests for a lease that another client has.
_PAUSE = 0.05


class RemoteLocks:
    """Takes and releases leases at a server, by whose clock a lease without heartbeats expires.

    Args:
        line: the connection to the server.
    """

    waits: Any = None
    """Records of those who wait for long: see `wellkept.memo.inflight`."""
    pause = _PAUSE
    """Seconds that a waiter sleeps at the most."""

    def __init__(self, line: Any) -> None:
        self._line = line
        # A beat may be waiting for a server that is cut off; a fork does not wait that long.
        self._heart = Worker("wellkept-leases", self._beat, lambda: BEAT, patience=1.0)
        self._forked()
        _all.add(self)

    def _forked(self) -> None:
        self._guard = Guard()
        self._held: dict[bytes, Owner] = {}
        # Leases that came with a lookup, and the thread whose lookup that was.
        self._granted: dict[bytes, int] = {}
        # When to ask again for a lease that was refused.
        self._again: dict[bytes, float] = {}

    def granted(self, key: bytes) -> None:
        """Note a lease that the server gave with the answer to a lookup of this thread."""
        # For this thread alone: a lookup of another thread may be older than a result that was kept meanwhile.
        with self._guard:
            self._granted[key] = threading.get_ident()
            self._heart.begin()

    def unclaimed(self) -> None:
        """Release the leases that came with earlier lookups of this thread, and that it did not use."""
        if self._granted:
            me = threading.get_ident()
            for key in [key for key, thread in list(self._granted.items()) if thread == me]:
                if self._granted.pop(key, None) is not None:
                    self._let_go(key)

    def acquire(self, key: bytes, owner: Owner = SOMEBODY) -> bool:
        """Try once to take a lease, without waiting.

        Sets `owner.looked` if the lease came with the lookup, so that no result can have been kept since.

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
                self._heart.begin()
            else:
                # Forgetting them only means to ask sooner.
                if len(self._again) > 10_000:
                    self._again.clear()
                self._again[key] = time.monotonic() + _PAUSE
        return got

    def holds(self, key: bytes) -> bool:
        """Return whether this client has the lease."""
        return key in self._held

    def released(self, key: bytes) -> None:
        """Note that the server released the lease, as it does with a commit."""
        self._held.pop(key, None)

    def release(self, key: bytes, owner: Owner | None = None) -> None:
        """Release a lease, without waiting for the server's answer. See `Leases`."""
        with self._guard:
            held = self._held.get(key)
            ours = held is not None and (owner is None or held is owner)
            granted = held is None and self._granted.pop(key, None) is not None
        if ours or granted:
            self._let_go(key)
            # Only now: until the release is on its way, another thread of this process must not ask for the
            # lease, or the server might answer first and then release what it just gave.
            if ours:
                self._held.pop(key, None)

    def holder(self, key: bytes) -> Owner | None:
        """Return the computation of this process that has the lease; see `Leases`."""
        return self._held.get(key)

    def _let_go(self, key: bytes) -> None:
        # A release that is lost does no harm: without heartbeats the lease expires.
        with contextlib.suppress(KeptError):
            self._line.ask(Lease([key], "release"), wait=False)

    # -- heartbeats -------------------------------------------------------------------------------

    def _beat(self) -> bool:
        with self._guard:
            keys, more = [*self._held], bool(self._held or self._granted)
        # A lease that came with a lookup is renewed only once it is taken, so one that its thread forgot
        # expires.
        if keys:
            # The next beat may get through.
            with contextlib.suppress(KeptError):
                self._line.ask(Lease(keys, "keep"))
        return more

    def close(self) -> None:
        """Release everything."""
        with self._guard:
            keys = [*self._held, *self._granted]
            self._held.clear()
            self._granted.clear()
        self._heart.stop()
        for key in keys:
            self._let_go(key)


_all: Instances[RemoteLocks] = Instances(in_child=RemoteLocks._forked)
