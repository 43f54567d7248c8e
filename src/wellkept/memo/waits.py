"""Waiting for another process that waits for us: seen, and broken.

A call that waits for long while it holds leases says so in a small file under the cache directory:
what it holds, and what it waits for. Each that waits follows these from holder to holder. Where they
lead back, one of the circle, the same one for all, computes without the lease: twice, but not never.
What runs in threads that a body started holds nothing here: Python does not say who started them.
"""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import Any

from wellkept._process import is_left, part_name
from wellkept.memo.inflight import Flight

__all__ = ["PATIENCE", "Waiting"]

PATIENCE = 1.0
"""Seconds after which a wait is told to others."""
# Seconds between looks.
_AGAIN = 0.3


class Waiting:
    """One wait of `caller` for `key`, from its first pause to `done`."""

    def __init__(self, caller: Flight | None, locks: Any, key: bytes) -> None:
        line = caller.line() if caller is not None else []
        leases = [flight.lease for flight in line if flight.lease is not None]
        self._holds = [held.hex() for _, held in leases]
        self._key = key.hex()
        backends = [
            getattr(table, "waits", None) for table in (locks, *(lock for lock, _ in leases))
        ]
        self._backends = list(dict.fromkeys(backend for backend in backends if backend is not None))
        self._next = time.monotonic() + PATIENCE
        self._name = ""
        self._suspected: tuple[str, ...] = ()

    def stuck(self) -> bool:
        """Whether to go on without the lease, because whoever holds it waits for us."""
        if not self._holds or not self._backends:
            return False
        now = time.monotonic()
        if now < self._next:
            return False
        self._next = now + _AGAIN
        if not self._name:
            self._publish()
            return False
        circle = self._circle()
        # Files are not read at one instant: what is seen twice, unchanged, stands still.
        suspected, self._suspected = self._suspected, circle
        return bool(circle) and circle == suspected and min(circle) == self._name

    def _publish(self) -> None:
        # Only a long wait needs it.
        import json

        self._name = f"{part_name()}.wait"
        text = json.dumps({"holds": self._holds, "waits": self._key}).encode()
        for backend in self._backends:
            if not isinstance(backend, Path):
                backend.publish(self._name, text)
                continue
            part = backend / self._name.removesuffix(".wait")
            with contextlib.suppress(OSError):
                part.write_bytes(text)
                part.rename(backend / self._name)

    def _circle(self) -> tuple[str, ...]:
        # Only a long wait needs it.
        import json

        # Key -> who holds it, and what for it waits.
        holders: dict[str, tuple[str, str]] = {}
        for backend in self._backends:
            for name, text in _read(backend):
                with contextlib.suppress(ValueError, KeyError, TypeError):
                    wait = json.loads(text)
                    for key in wait["holds"]:
                        holders[key] = name, wait["waits"]
        mine = set(self._holds)
        key, names = self._key, [self._name]
        while key not in mine:
            if key not in holders or holders[key][0] in names:
                # The holder does not wait, or there is a circle that this wait is no part of.
                return ()
            name, key = holders[key]
            names.append(name)
        return tuple(sorted(names))

    def done(self) -> None:
        """The wait is over."""
        if self._name:
            for backend in self._backends:
                if isinstance(backend, Path):
                    with contextlib.suppress(OSError):
                        (backend / self._name).unlink()
                else:
                    backend.remove(self._name)
            self._name = ""


def _read(backend: Any) -> list[tuple[str, bytes]]:
    """What those who live say; what the dead said is swept with the other leftovers."""
    # It is a medium without directories.
    if not isinstance(backend, Path):
        return [(name, text) for name, text in backend.read() if not is_left(name)]
    found = []
    with contextlib.suppress(OSError):
        for path in backend.glob("*.wait"):
            if not is_left(path.name):
                with contextlib.suppress(OSError):
                    found.append((path.name, path.read_bytes()))
    return found
