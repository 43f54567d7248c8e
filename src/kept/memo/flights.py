"""Computations under way in this process, so that nobody waits for somebody who waits for them."""

from __future__ import annotations

import os
import threading
from contextvars import ContextVar
from typing import Any

from kept.caches.threads import inherited, reach_threads

__all__ = ["Flight", "Flights", "current"]


class Flight:
    """One computation: its key, and the computation that called it."""

    __slots__ = ("key", "lease", "parent", "waits_for")

    def __init__(
        self,
        parent: Flight | None,
        lease: tuple[Any, bytes] | None = None,
        key: bytes | None = None,
    ) -> None:
        self.parent = parent
        self.key = key
        self.lease = lease
        """The lock table and the key whose lease it holds."""
        self.waits_for: list[Flight] = []

    def line(self) -> list[Flight]:
        """Itself and all that called it."""
        found = [self]
        while (parent := found[-1].parent) is not None:
            found.append(parent)
        return found


current: ContextVar[Flight | None] = ContextVar("kept.flight", default=None)


class Flights:
    """Who computes what, by lock table and key."""

    def __init__(self) -> None:
        self._by_key: dict[tuple[int, bytes], Flight] = {}
        self._guard = threading.Lock()
        self._reaching = False

    def caller(self) -> Flight | None:
        """The computation that calls here, from its own thread or one that it started."""
        if not self._reaching:
            self._reaching = True
            reach_threads(current)
        return inherited(current)

    def begin(self, table: int, key: bytes, flight: Flight) -> None:
        self._by_key[table, key] = flight

    def end(self, table: int, key: bytes) -> None:
        self._by_key.pop((table, key), None)

    def wait(self, table: int, key: bytes, waiter: Flight | None) -> Flight | None:
        """Note that `waiter` waits for the holder of a key; the holder, if it is in this process.

        Raises:
            RuntimeError: the holder waits for the waiter, so neither would ever go on.
        """
        with self._guard:
            holder = self._by_key.get((table, key))
            if holder is None or waiter is None:
                return None
            line = waiter.line()
            todo, seen = [holder], set()
            while todo:
                flight = todo.pop()
                if flight in line:
                    raise RuntimeError("waiting for each other")
                if flight not in seen:
                    seen.add(flight)
                    todo += flight.waits_for
            for flight in line:
                flight.waits_for.append(holder)
            return holder

    def done(self, waiter: Flight | None, holder: Flight | None) -> None:
        """The wait is over."""
        if waiter is not None and holder is not None:
            with self._guard:
                for flight in waiter.line():
                    flight.waits_for.remove(holder)


flights = Flights()


def _after_fork() -> None:
    flights._guard = threading.Lock()  # another thread may have held it at the fork


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
