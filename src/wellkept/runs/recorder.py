"""What records the events of a run: gathered in memory, and written as notes beside the calls."""

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
ENVS = "env/"
"""`<short digest>`: what calls have in common."""
LEAVES = "leaves/"
"""`<key>`: what the arguments of a call were made of."""


def notes_of(cache: Cache) -> Store[bytes]:
    """The notes beside a cache's calls."""
    return cache.backend.notes


def note_once(cache: Cache, key: str, item: bytes) -> None:
    """Write a note that always says the same, unless this process did already. A cache that does
    not take it goes without."""
    if key not in cache.noted:
        cache.noted.add(key)
        with contextlib.suppress(KeptError):
            notes_of(cache).put(key, item)


def new_id(now: float) -> str:
    """A name for a run that nobody else has: `20260131-142530-3f9a2c`."""
    return f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime(now))}-{os.urandom(3).hex()}"


def writer() -> str:
    """A name for one process that writes events of a run."""
    return f"{os.getpid()}-{os.urandom(4).hex()}"


class Totals(NamedTuple):
    """A run's events, added up. Seconds of wall time."""

    hits: int = 0
    computed: int = 0
    failed: int = 0
    spent: float = 0.0
    """What computing took, failures included."""
    saved: float = 0.0
    """What the hits took when they were computed."""
    lost: int = 0
    """Events that could not be written."""

    def add(self, event: Event) -> Totals:
        """With one more."""
        if event.outcome == "hit":
            saved = self.saved + event.count * event.seconds
            return self._replace(hits=self.hits + event.count, saved=saved)
        spent = self.spent + event.count * event.seconds
        if event.outcome == "failed":
            return self._replace(failed=self.failed + event.count, spent=spent)
        return self._replace(computed=self.computed + event.count, spent=spent)

    def plus(self, other: Totals) -> Totals:
        """Both together."""
        return Totals(
            hits=self.hits + other.hits,
            computed=self.computed + other.computed,
            failed=self.failed + other.failed,
            spent=self.spent + other.spent,
            saved=self.saved + other.saved,
            lost=self.lost + other.lost,
        )


def pack(events: Iterable[Event]) -> bytes:
    """Events as a note: compressed JSON, the names of functions once."""
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
    """What `pack` wrote; nothing of what is damaged."""
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
    """What `pack_totals` wrote; none of what is damaged."""
    with contextlib.suppress(ValueError, TypeError):
        return Totals(*json.loads(note or b""))
    return Totals()


def pack_record(record: RunRecord) -> bytes:
    return json.dumps(record._asdict()).encode()


def unpack_record(note: bytes | None) -> RunRecord | None:
    """What `pack_record` wrote; None of what is damaged, and without what is not known here."""
    with contextlib.suppress(ValueError, TypeError):
        found: dict[str, Any] = json.loads(note or b"")
        known = {name: item for name, item in found.items() if name in RunRecord._fields}
        return RunRecord(**known)
    return None


# Seconds between writes, of a young run and of an old one.
_FIRST, _LATER = 0.5, 5.0
# Events that are written sooner.
_MANY = 2_000
# Different hits that are counted in one table.
_HELD = 10_000
# Notes that wait for a store that does not take them.
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
    """The innermost run that is open here, or where this thread was started."""
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

A list, as it is made in a third of the time of an object: who calls a thousand kept functions once each
waits for none. An `Event` is made when it is written.
"""


def _event_now(at: Asked, hit: Hit, count: int) -> Event:
    """So many of them."""
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
        cache: beside whose calls it is written; None: it is only held in memory.
        outer: the run that is open around it.

    It pickles as a recorder of the same run in another process, which writes events of its own.
    """

    def __init__(self, record: RunRecord, cache: Cache | None, outer: Recorder | None) -> None:
        self.record, self.cache, self.outer = record, cache, outer
        self.notes: Store[bytes]
        if cache is None:
            # Imported with the first run that no cache holds.
            from wellkept.stores.memory import Memory

            self.notes = Memory()
        else:
            self.notes = notes_of(cache)
        self.closed = False
        self.own = False
        """Whether the `with` block of the run is in this process."""
        self._joins = 0
        self.hits: dict[Asked, Hit] = {}
        """By key and parent. Only ever counted up, so that no thread loses what another counts."""
        self._begin()
        self._told = False
        _all.add(self)

    def _begin(self) -> None:
        """Nothing is gathered: at first, and in a forked child, whose parent writes the rest."""
        self.hits = {}
        # Tables that were full lately, and before that: a thread may still count in one.
        self._full: list[dict[Asked, Hit]] = []
        self._older = self._full
        self._events: deque[Event] = deque()
        self.totals = Totals()
        # Notes that were not taken yet.
        self._waiting: dict[str, bytes] = {}
        self._writer, self._number = writer(), 0
        self._lock = threading.RLock()
        self._pause = _FIRST
        reference = weakref.ref(self)
        # By a weak reference: a thread must not keep a run alive that nobody has any more.
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
        # Another thread was faster.
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
            # The writer is behind: who is fast waits for it.
            if len(self._events) >= 20 * _MANY:
                self.flush()

    def _start(self) -> None:
        with self._lock:
            if not self._begun and not self.closed:
                self._begun = True
                # Where no thread can begin any more, it is written at exit.
                self._writing.begin()
                if os.getpid() != _main:
                    _at_child_exit(weakref.ref(self))

    # -- writing ----------------------------------------------------------------------------------

    def flush(self) -> None:
        """Write what is new. Where the store does not take it, it waits for the next time."""
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
        """What the store has not taken."""
        with self._lock:
            return [event for note in list(self._waiting.values()) for event in unpack(note)]

    def close(self) -> None:
        """Write all, and record nothing more."""
        self.closed = True
        with contextlib.suppress(ValueError):
            OPEN.remove(self)
        self._writing.wake()
        self.flush()

    def open(self) -> None:
        """Let calls find that there is something to record."""
        reach_threads(current)
        if self not in OPEN:
            OPEN.append(self)

    @contextlib.contextmanager
    def joined(self) -> Iterator[None]:
        """Record what happens in a block, here and now, whatever run it would be part of."""
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
                    # A worker may be gone any moment.
                    self.flush()

    @property
    def travels(self) -> bool:
        """Whether another process can write events of the run too."""
        return self.cache is not None and self.cache.url is not None

    def __reduce__(self) -> tuple[Any, ...]:
        return _rejoined, (self.record, self.cache)


def flush_all() -> None:
    """Write what this process has gathered, so that whoever reads the notes finds it there."""
    for found in list(_all):
        # Told of by the run itself.
        with contextlib.suppress(Exception):
            found.flush()


def _rejoined(record: RunRecord, cache: Cache) -> Recorder:
    """The recorder of a run in this process."""
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
    # A bug here must not end the writing.
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
    """The children of multiprocessing leave without atexit."""
    # In a child of it, it is there.
    from multiprocessing import util

    util.Finalize(None, _flush_one, args=(reference,), exitpriority=10)


def _flush_one(reference: Any) -> None:
    found = reference()
    if found is not None:
        found.flush()


# After the caches are, so it runs before they close.
atexit.register(flush_all)


_all: Instances[Recorder] = Instances(in_child=Recorder._forked)
