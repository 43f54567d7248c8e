"""Computations under way in this process: who called whom, who holds which lease, and from where a
call was sent."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import weakref
from collections.abc import Iterator
from contextvars import ContextVar
from types import FrameType
from typing import Any, NamedTuple, Self

from wellkept._process import at_fork
from wellkept.caches.active import inherited, reach_threads
from wellkept.interrupts import Guard, settles
from wellkept.runs.recorder import OPEN, Recorder, recorder
from wellkept.stores.leases import Owner


class Flight(Owner):
    """One computation: its key, the computation that called it, and the lease that it may have."""

    __slots__ = (
        "_entered",
        "_landing",
        "key",
        "locks",
        "loop",
        "lost",
        "parent",
        "thread",
        "waits_for",
    )

    def __init__(
        self,
        parent: Flight | None,
        locks: Any = None,
        key: bytes | None = None,
        loop: Any = None,
    ) -> None:
        super().__init__()
        self.parent = parent
        self.key = key
        self.locks = locks
        """The lock table in which it may hold the lease of its key."""
        self.thread = threading.get_ident()
        self.loop = loop
        """The event loop that it is awaited in; None: it runs in its thread until it ends."""
        self.waits_for: list[Flight] = []
        self.lost = False
        """Whether it ended without a word to its context, which may still name it."""
        self._entered: Any = None
        self._landing: weakref.ref[Landing] | None = None

    @property
    def lease(self) -> tuple[Any, bytes] | None:
        """The lock table and the key whose lease it holds."""
        if self.locks is not None and self.key is not None and self.locks.holder(self.key) is self:
            return self.locks, self.key
        return None

    def landing(self) -> Landing:
        """Keep it as long as you compute."""
        made = Landing()
        self._landing = weakref.ref(made, lambda _: self.end())
        return made

    def take(self) -> bool:
        """Try to take the lease; see `Leases.acquire`."""
        _leased.add(self)
        got: bool = self.locks.acquire(self.key, self)
        return got

    def enter(self) -> None:
        """From here on, what is called is called by it."""
        self.lost = True
        self._entered = current.set(self)

    def leave(self) -> None:
        """See `enter`."""
        try:
            current.reset(self._entered)
        except ValueError:
            # It was closed from another context.
            pass
        self.lost = False

    def end(self) -> None:
        """It is over: let go of its lease. Once more does no harm, and ends what was begun."""
        self.over = True
        if self in _leased:
            self.locks.release(self.key, self)
            _leased.discard(self)
        self._landing = None

    def line(self) -> list[Flight]:
        """Itself and all that called it."""
        found = [self]
        while (parent := found[-1].parent) is not None:
            found.append(parent)
        return found

    def gone(self) -> bool:
        """Whether it has stopped without an end. Ask only for one that did not call you: one in your
        thread that did not is not there any more, as it would run on top of you.
        """
        if self.loop is not None:
            return bool(self.loop.is_closed())
        if self.thread == threading.get_ident():
            return True
        frame = sys._current_frames().get(self.thread)
        return frame is None or not _drives(frame)

    def stands(self) -> bool:
        """Whether it can't go on while this thread waits: its event loop does not run, or is run by
        this thread, which waits without it.
        """
        if self.loop is None or self.loop.is_closed():
            return False
        if not self.loop.is_running():
            return True
        return self.thread == threading.get_ident() and running_loop() is not self.loop


class Landing:
    """What the frame of a computation has and nobody else: when it is gone, whatever way, the flight is
    over. No `__del__`, which would run at each end, and swallow the interrupt that comes there.
    """

    __slots__ = ("__weakref__",)


_leased: set[Flight] = set()
"""Those that have a lease, or may have."""
current: ContextVar[Flight | None] = ContextVar("wellkept.flight", default=None)


_HERE = os.path.dirname(__file__) + os.sep  # noqa: PTH120  compared with what frames say


def _drives(frame: FrameType) -> bool:
    """Whether a call of a kept function is among what a thread does."""
    at: FrameType | None = frame
    while at is not None:
        if at.f_code.co_filename.startswith(_HERE):
            return True
        at = at.f_back
    return False


def running_loop() -> Any:
    """The event loop that runs in this thread."""
    asyncio: Any = sys.modules.get("asyncio.events")
    return None if asyncio is None else asyncio._get_running_loop()


class Flights:
    """Who computes what."""

    def __init__(self) -> None:
        self._guard = Guard()
        self._reaching = False
        settles(self)

    def caller(self) -> Flight | None:
        """The computation that calls here, from its own thread or one that it started."""
        if not self._reaching:
            reach_threads(current)
            self._reaching = True
        found = inherited(current)
        while found is not None and found.over and found.lost:
            found = found.parent
        return found

    def wait(self, holder: Any, waiter: Flight | None) -> Flight | None:
        """Note that `waiter` waits for the holder of a lease; the holder, if that is noted.

        Raises:
            RuntimeError: the holder waits for the waiter, so neither would ever go on.
        """
        if waiter is None or not isinstance(holder, Flight):
            return None
        with self._guard:
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
                    if holder in flight.waits_for:
                        flight.waits_for.remove(holder)

    def settle(self) -> None:
        """See `wellkept.interrupts.settle`: end what this thread does not do any more."""
        here = current.get()
        line = [] if here is None else here.line()
        me = threading.get_ident()
        for flight in list(_leased):
            if flight.thread == me and flight.loop is None and flight not in line:
                flight.end()


flights = Flights()


def _after_fork() -> None:
    # Another thread may have held it at the fork.
    flights._guard = Guard()
    # These leases are the parent's.
    _leased.clear()


at_fork(in_child=_after_fork)


class Origin(NamedTuple):
    """A place in the order of calls. It pickles, as far as it means something elsewhere."""

    run: Recorder | None
    caller: Flight | None

    @classmethod
    def here(cls) -> Self:
        """This place."""
        return cls(recorder() if OPEN else None, flights.caller())

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """Be there for a block: a worker may have been forked, or started, somewhere else."""
        token = current.set(self.caller)
        try:
            with contextlib.nullcontext() if self.run is None else self.run.joined():
                yield
        finally:
            current.reset(token)

    def __reduce__(self) -> tuple[Any, ...]:
        run = self.run if self.run is not None and self.run.travels else None
        key = None if self.caller is None else self.caller.key
        return _elsewhere, (run, key)


def _elsewhere(run: Recorder | None, key: bytes | None) -> Origin:
    return Origin(run, None if key is None else Flight(None, None, key))
