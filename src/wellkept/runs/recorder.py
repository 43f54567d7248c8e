"""The recorder of a run: events are gathered in memory, and written as notes beside the calls."""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import threading
import time
import weakref
import zlib
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextvars import ContextVar
from typing import Any, NamedTuple

from wellkept._process import Instances, Worker
from wellkept.caches import Cache
from wellkept.caches.active import inherited, reach_threads
from wellkept.errors import KeptError, tell
from wellkept.records import Event, RunRecord
from wellkept.stores.base import Store, put_many

HEADS = "runs/heads/"
"""`<id>`: the record of a run."""
EVENTS = "runs/events/"
"""`<id>/<writer>/<number>`: some of its events."""
TOTALS = "runs/totals/"
"""`<id>/<writer>`: all events that one process wrote, added up."""
INNER = "runs/inner/"
"""`<id>/<id>`: a run, and one inside it."""
COSTS = "costs"
"""That a call of the cache cost more than time."""
ENVS = "env/"
"""`<short digest>`: what calls have in common."""
LEAVES = "leaves/"
"""`<key>`: what the arguments of a call were made of."""


def notes_of(cache: Cache) -> Store[bytes]:
    """Return the notes of a cache."""
    return cache.backend.notes


def note_once(cache: Cache, key: str, item: bytes) -> None:
    """Write a note whose content never changes, unless this process did so already."""
    # A note that can't be written is no reason for the call to fail.
    if key not in cache.noted:
        cache.noted.add(key)
        with contextlib.suppress(KeptError):
            notes_of(cache).put(key, item)


def new_id(now: float) -> str:
    """Return a new name for a run: `20260131-142530-3f9a2c`."""
    return f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime(now))}-{os.urandom(3).hex()}"


def writer() -> str:
    """Return a new name for a process that writes events of a run."""
    return f"{os.getpid()}-{os.urandom(4).hex()}"


class Totals(NamedTuple):
    """A run's events, added up. Seconds of wall time."""

    hits: int = 0
    computed: int = 0
    failed: int = 0
    spent: float = 0.0
    """Seconds that computing took, failures included."""
    saved: float = 0.0
    """Seconds that the hits took when they were computed."""
    lost: int = 0
    """Events that could not be written."""

    def add(self, event: Event) -> Totals:
        """Return the totals with one more event."""
        if event.outcome == "hit":
            saved = self.saved + event.count * event.seconds
            return self._replace(hits=self.hits + event.count, saved=saved)
        spent = self.spent + event.count * event.seconds
        if event.outcome == "failed":
            return self._replace(failed=self.failed + event.count, spent=spent)
        return self._replace(computed=self.computed + event.count, spent=spent)

    def plus(self, other: Totals) -> Totals:
        """Return the sum of both."""
        return Totals(
            hits=self.hits + other.hits,
            computed=self.computed + other.computed,
            failed=self.failed + other.failed,
            spent=self.spent + other.spent,
            saved=self.saved + other.saved,
            lost=self.lost + other.lost,
        )


def pack(events: Iterable[Event]) -> bytes:
    """Return events as a note: compressed JSON, which has the names of functions once."""
    functions: dict[tuple[str, str], int] = {}
    rows = []
    for event in events:
        at = functions.setdefault((event.function, event.code), len(functions))
        row = [
            event.outcome,
            at,
            event.key,
            event.result,
            round(event.at, 6),
            event.seconds,
            event.count,
            event.parent,
            event.error,
            dict(event.arguments) or None,
            dict(event.shown) or None,
        ]
        while row[-1] is None:
            row.pop()
        rows.append(row)
    text = json.dumps([list(functions), rows], separators=(",", ":"))
    return zlib.compress(text.encode(), 1)


def unpack(note: bytes | None) -> list[Event]:
    """Return the events that `pack` wrote; none if the note is damaged."""
    with contextlib.suppress(ValueError, TypeError, IndexError, zlib.error):
        functions, rows = json.loads(zlib.decompress(bytes(note or b"")))
        return [_event(functions, *row) for row in rows]
    return []


def _event(
    functions: list[list[str]],
    outcome: str,
    function: int,
    key: str | None,
    result: str | None,
    at: float,
    seconds: float,
    count: int,
    parent: str | None = None,
    error: str | None = None,
    arguments: Mapping[str, str] | None = None,
    shown: Mapping[str, Any] | None = None,
) -> Event:
    name, code = functions[function]
    given = arguments or {}
    return Event(
        outcome, name, key, result, at, seconds, count, parent, code, given, error, shown or {}
    )


def pack_totals(totals: Totals) -> bytes:
    return json.dumps(totals).encode()


def unpack_totals(note: bytes | None) -> Totals:
    """Return what `pack_totals` wrote; zeros if the note is damaged."""
    with contextlib.suppress(ValueError, TypeError):
        return Totals(*json.loads(note or b""))
    return Totals()


def pack_record(record: RunRecord) -> bytes:
    return json.dumps(record._asdict()).encode()


def unpack_record(note: bytes | None) -> RunRecord | None:
    """Return what `pack_record` wrote; None if the note is damaged."""
    # Fields that this release does not know are left out: a newer one may have written the note.
    with contextlib.suppress(ValueError, TypeError):
        found: dict[str, Any] = json.loads(note or b"")
        known = {name: item for name, item in found.items() if name in RunRecord._fields}
        return RunRecord(**known)
    return None


# Seconds between writes: of a young run, so that a watcher sees it begin, and of an old one.
_FIRST, _LATER = 0.5, 5.0
# From so many events on, they are written at once.
_MANY = 2_000
# Different hits that are counted in one table.
_HELD = 10_000
# Notes that wait for a store that does not accept them; more would fill the memory.
_UNWRITTEN = 100

Asked = bytes | tuple[bytes, bytes]
"""The key of a call, and of the call whose body made it, if one did."""

HEARD: list[Any] = []
"""What hears of hits: the recorders, and listeners. While it is empty, a hit has nothing to look for."""


class _Open(list["Recorder"]):
    """Recorders, each of which hears of hits."""

    def append(self, recorder: Recorder) -> None:
        super().append(recorder)
        HEARD.append(recorder)

    def remove(self, recorder: Recorder) -> None:
        super().remove(recorder)
        HEARD.remove(recorder)


OPEN = _Open()
"""The recorders of this process. While it is empty, a miss has nothing to look for."""
current: ContextVar[Recorder | None] = ContextVar("wellkept.run", default=None)


def recorder() -> Recorder | None:
    """Return the innermost run that is open here, or where this thread was started."""
    found = current.get()
    if found is None:
        found = inherited(current)
    # A task or a thread may outlive its run.
    while found is not None and found.closed:
        found = found.outer
    return found


Hit = list[Any]
"""Hits of one call by one parent: how many, how many of them are written, since when, the function's
name and code, and the body of the record.

A list takes a third of the time of an object, which counts for a program that calls a thousand kept functions
once each. An `Event` is made when it is written.
"""


def _event_now(at: Asked, hit: Hit, count: int) -> Event:
    """Return the event of `count` hits."""
    key, parent = at if isinstance(at, tuple) else (at, None)
    _, _, since, (function, code), body = hit
    return Event(
        outcome="hit",
        function=function,
        key=key.hex(),
        result=body.result.hex(),
        at=since,
        seconds=body.seconds,
        count=count,
        parent=None if parent is None else parent.hex(),
        code=code,
    )


class Recorder:
    """Gathers and writes the events of one run in this process.

    Args:
        record: of the run.
        cache: the cache whose notes have it; None if it is only held in memory.
        outer: the run that is open around it.

    Unpickled in another process, it is a recorder of the same run that writes its own events.
    """

    record: RunRecord
    cache: Cache | None
    outer: Recorder | None

    def __init__(self, record: RunRecord, cache: Cache | None, outer: Recorder | None) -> None:
        self.record, self.cache, self.outer = record, cache, outer
        self.notes: Store[bytes]
        if cache is None:
            # Imported with the first run that no cache holds.
            from wellkept.stores.memory import Memory

            self.notes = Memory()
        else:
            self.notes = notes_of(cache)
        self.closed: bool = False
        self.own: bool = False
        """Whether the `with` block of the run is in this process."""
        self._joins = 0
        self.hits: dict[Asked, Hit] = {}
        """By key and parent. Only ever counted up, so that no thread loses what another counts."""
        self._begin()
        self._told = False
        _all.add(self)

    def _begin(self) -> None:
        """Start with no events; a forked child does so too, as its parent writes those of before."""
        self.hits = {}
        # Full tables, and those that were full at the last write: a thread may still count in one.
        self._full: list[dict[Asked, Hit]] = []
        self._older = self._full
        self._events: deque[Event] = deque()
        self.totals: Totals = Totals()
        # Notes that the store has not accepted yet.
        self._waiting: dict[str, bytes] = {}
        self._writer, self._number = writer(), 0
        self._lock = threading.RLock()
        self._pause = _FIRST
        reference = weakref.ref(self)
        # By a weak reference, as the thread must not keep a run alive that is not used any more.
        self._writing = Worker(
            "wellkept-run",
            lambda: _write_again(reference),
            lambda: _next_pause(reference),
            patience=5.0,
        )
        self._begun = False

    def _forked(self) -> None:
        self.own = False
        self._begin()

    # -- gathering --------------------------------------------------------------------------------

    def first(self, at: Asked, hit: Hit) -> None:
        """Count a hit, and others like it there from now on."""
        if len(self.hits) >= _HELD:
            with self._lock:
                if len(self.hits) >= _HELD:
                    self._full.append(self.hits)
                    self.hits = {}
            self._writing.wake()
        found = self.hits.setdefault(at, hit)
        # Another thread was faster; `setdefault` returned its list.
        if found is not hit:
            found[0] += 1
        if not self._begun:
            self._start()

    def put(self, event: Event) -> None:
        """Record an event."""
        self._events.append(event)
        if not self._begun:
            self._start()
        elif len(self._events) >= _MANY:
            self._writing.wake()
            # The writer is behind, so this thread writes too, or events would fill the memory.
            if len(self._events) >= 20 * _MANY:
                self.flush()

    def _start(self) -> None:
        with self._lock:
            if not self._begun and not self.closed:
                self._begun = True
                # When the interpreter ends no thread can begin; then the events are written at exit.
                self._writing.begin()
                if os.getpid() != _main:
                    _at_child_exit(weakref.ref(self))

    # -- writing ----------------------------------------------------------------------------------

    def flush(self) -> None:
        """Write new events. If the store does not accept them, they wait for the next time."""
        with self._lock:
            events = [self._events.popleft() for _ in range(len(self._events))]
            events += self._counted()
            for event in events:
                self.totals = self.totals.add(event)
            for i in range(0, len(events), _MANY):
                self._number += 1
                name = f"{EVENTS}{self.record.id}/{self._writer}/{self._number:06}"
                self._waiting[name] = pack(events[i : i + _MANY])
            while len(self._waiting) > _UNWRITTEN:
                lost = unpack(self._waiting.pop(next(iter(self._waiting))))
                count = sum(event.count for event in lost)
                self.totals = self.totals._replace(lost=self.totals.lost + count)
            if self._waiting:
                self._write()

    def _counted(self) -> Iterator[Event]:
        tables = [*self._older, *self._full, self.hits]
        self._older, self._full = self._full, []
        for table in tables:
            for at, hit in list(table.items()):
                new = hit[0] - hit[1]
                if new:
                    hit[1] += new
                    yield _event_now(at, hit, new)
                    hit[2] = time.time()

    def _write(self) -> None:
        totals = {f"{TOTALS}{self.record.id}/{self._writer}": pack_totals(self.totals)}
        try:
            put_many(self.notes, self._waiting | totals)
        except KeptError as error:
            if not self._told:
                self._told = True
                tell(f"the events of the run {self.record.id} can't be written: {error}")
        else:
            self._waiting = {}

    def unwritten(self) -> list[Event]:
        """Return the events that the store has not accepted yet."""
        with self._lock:
            return [event for note in list(self._waiting.values()) for event in unpack(note)]

    def close(self) -> None:
        """Write all events, and record no more."""
        self.closed = True
        with contextlib.suppress(ValueError):
            OPEN.remove(self)
        self._writing.wake()
        self.flush()

    def open(self) -> None:
        """Make calls record their events here."""
        reach_threads(current)
        if self not in OPEN:
            OPEN.append(self)

    @contextlib.contextmanager
    def joined(self) -> Iterator[None]:
        """Record the calls of a block in this run, whatever run is open around it."""
        if self.closed or current.get() is self:
            yield
            return
        with self._lock:
            self._joins += 1
            self.open()
        token = current.set(self)
        try:
            yield
        finally:
            current.reset(token)
            with self._lock:
                self._joins -= 1
                if not self.own:
                    if not self._joins and self in OPEN:
                        OPEN.remove(self)
                    # A worker process may be ended at any moment.
                    self.flush()

    @property
    def travels(self) -> bool:
        """Return whether another process can write events of the run too."""
        return self.cache is not None and self.cache.url is not None

    def __reduce__(self) -> tuple[Any, ...]:
        return _rejoined, (self.record, self.cache)


def flush_all() -> None:
    """Write all events that this process has gathered, so that readers of the notes find them."""
    for found in list(_all):
        # The run itself warns of errors.
        with contextlib.suppress(Exception):
            found.flush()


def _rejoined(record: RunRecord, cache: Cache) -> Recorder:
    """Return the recorder of a run in this process."""
    known: list[Recorder] = [*OPEN, *_elsewhere]
    for found in known:
        if found.record.id == record.id:
            return found
    found = Recorder(record, cache, None)
    _elsewhere.append(found)
    return found


_elsewhere: deque[Recorder] = deque(maxlen=8)


def _write_again(reference: weakref.ref[Recorder]) -> bool:
    found = reference()
    if found is None or found.closed:
        return False
    # An unexpected error must not end the thread, and with it all further writing.
    with contextlib.suppress(Exception):
        found.flush()
    return True


def _next_pause(reference: weakref.ref[Recorder]) -> float:
    found = reference()
    if found is None:
        return 0.0
    pause, found._pause = found._pause, min(found._pause * 1.5, _LATER)
    return pause


_main = os.getpid()


def _at_child_exit(reference: weakref.ref[Recorder]) -> None:
    """Write the events at the end of a child of multiprocessing, which does not run `atexit` functions."""
    # Loaded on first use: in such a child it is loaded already.
    from multiprocessing import util

    util.Finalize(None, _flush_one, args=(reference,), exitpriority=10)


def _flush_one(reference: Any) -> None:
    found = reference()
    if found is not None:
        found.flush()


# Registered after the caches' own function, so it runs before theirs, which closes them.
atexit.register(flush_all)


_all: Instances[Recorder] = Instances(in_child=Recorder._forked)
