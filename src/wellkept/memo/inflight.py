"""Computations under way: who called whom, who holds which lease, who waits for whom, in this process
and over processes, and from where a call was sent."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
import weakref
from collections.abc import Collection, Iterator, Mapping
from contextvars import ContextVar
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple, Self

from wellkept._process import at_fork, is_left, part_name
from wellkept._system import unlink
from wellkept.caches.active import inherited, reach_threads
from wellkept.interrupts import Guard, Owner, settles
from wellkept.memo.refresh import Refresh, refreshing, within
from wellkept.runs.collectors import said_here, saying
from wellkept.runs.recorder import OPEN, Recorder, recorder


class Flight(Owner):
    """One computation: its key, the computation that called it, and the lease that it may have.

    Args:
        parent: the computation that called it.
        locks: the lock table in which it may hold the lease of its key.
        loop: the event loop that it is awaited in; None: it runs in its thread until it ends.
        landing: what nobody but the frame that computes has: the flight ends with it.
    """

    __slots__ = (
        "_entered",
        "_landing",
        "key",
        "locks",
        "loop",
        "lost",
        "outdated",
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
        landing: Landing | None = None,
    ) -> None:
        self.parent: Flight | None = parent
        self.key: bytes | None = key
        self.locks: Any = locks
        """The lock table in which it may hold the lease of its key."""
        self.thread: int = threading.get_ident()
        self.loop: Any = loop
        """The event loop that it is awaited in; None: it runs in its thread until it ends."""
        self.waits_for: list[Flight] = []
        self.outdated: bool = False
        """Whether its body took what the former code of a function gave."""
        self.lost: bool = False
        """Whether it ended without a word to its context, which may still name it."""
        self._entered: Any = None
        self._landing = None if landing is None else weakref.ref(landing, lambda _: self.end())

    @property
    def lease(self) -> tuple[Any, bytes] | None:
        """The lock table and the key whose lease it holds."""
        if self.locks is not None and self.key is not None and self.locks.holder(self.key) is self:
            return self.locks, self.key
        return None

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

    def ended(self, key: bytes) -> bool:
        """Whether the call under a key is over, and another may have made it since."""
        return self.over

    def end_of(self, key: bytes) -> None:
        """The call under a key is over: let go of its lease. Raises nothing."""
        self.end()

    def end_of_all(self, keys: Collection[bytes]) -> None:
        """The same of several keys."""
        self.end()

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


flights: Flights = Flights()


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
    said: Mapping[str, Any] = {}
    """What the blocks there say of calls."""
    block: Refresh | None = None
    """The block there in which calls are computed again."""

    @classmethod
    def here(cls) -> Self:
        """This place."""
        return cls(recorder() if OPEN else None, flights.caller(), said_here() or {}, refreshing())

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """Be there for a block: a worker may have been forked, or started, somewhere else."""
        token = current.set(self.caller)
        try:
            with (
                contextlib.nullcontext() if self.run is None else self.run.joined(),
                saying(self.said),
                within(self.block),
            ):
                yield
        finally:
            current.reset(token)

    def __reduce__(self) -> tuple[Any, ...]:
        run = self.run if self.run is not None and self.run.travels else None
        key = None if self.caller is None else self.caller.key
        return _elsewhere, (run, key, self.said, self.block)


def _elsewhere(run: Recorder | None, key: bytes | None, *rest: Any) -> Origin:
    return Origin(run, None if key is None else Flight(None, None, key), *rest)


PATIENCE = 1.0
"""Seconds after which a wait is published to other processes."""
# Seconds between looks.
_AGAIN = 0.3


class Waiting:
    """One wait of `caller` for `key`, from its first pause to `done`: does the holder wait for us?

    A call that waits for long while it holds leases says so in a small file under the cache directory:
    what it holds, and what it waits for. Each that waits follows these from holder to holder. Where they
    lead back, one of the circle, the same one for all, computes without the lease: twice, but not never.
    What runs in threads that a body started holds nothing here: Python does not say who started them.
    """

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
        """Whether to go on without the lease, because its owner waits for us."""
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
                        unlink(backend / self._name)
                else:
                    backend.remove(self._name)
            self._name = ""


def waits_of(locks: Any) -> list[dict[str, Any]]:
    """Return who waits for long while holding leases: `host`, `pid`, the keys it `holds`, and the key that
    it `waits` for. For people who look.
    """
    import json

    found = []
    backend = getattr(locks, "waits", None)
    for name, text in [] if backend is None else _read(backend):
        host, _, rest = name.partition("~")
        with contextlib.suppress(ValueError, KeyError, TypeError):
            said = json.loads(text)
            holds, waits = [str(key) for key in said["holds"]], str(said["waits"])
            found.append({"host": host, "pid": rest.split("~")[0], "holds": holds, "waits": waits})
    return found


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
