"""Hamilton's runs as runs of this library: each node is an event, on a clock that the stores share."""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Mapping
from contextvars import Token
from functools import lru_cache, partial
from types import FrameType
from typing import Any, NamedTuple

from hamilton.caching.cache_key import decode_key

from wellkept._process import Worker, at_fork
from wellkept.caches import Cache
from wellkept.errors import KeptError, StoreError
from wellkept.records import Call, Event, RunRecord, Value
from wellkept.runs.recorder import (
    HEADS,
    OPEN,
    Recorder,
    current,
    new_id,
    notes_of,
    pack_record,
    unpack_record,
)
from wellkept.runs.run import Run, begin
from wellkept.stores.base import get_many

# Between the adapter's execution of a node and a store, and what a store is about when it warns.
_FRAMES, _DEEP = 5, 25


class Span:
    """One node under way: when it began, and what the metadata store was asked and told since."""

    __slots__ = ("asked", "began", "cost", "found", "key", "waits", "was_set")

    def __init__(self) -> None:
        self.began: float = time.perf_counter()
        self.asked: str | None = None
        """The cache key that was looked up last."""
        self.key: bytes = b""
        """The key of its call."""
        self.found: str | None = None
        """Its data version, if there was one."""
        self.cost: float = 0.0
        """Seconds that it took when it was kept."""
        self.was_set: bool = False
        """Whether a data version was kept, and so the node was computed."""
        self.waits: tuple[Cache, Call, Value] | None = None
        """What is to be kept with the node's result, and where."""


class Bare(NamedTuple):
    """What a metadata store that nobody watches for was asked by Hamilton's adapter last."""

    run_id: str
    cache_key: str
    found: str | None
    """The data version, if there was one."""
    record: Callable[[], None]
    """Notes a hit in the run."""
    began: float


class Clock(threading.local):
    """The nodes under way in this thread, the innermost last.

    Hamilton's adapter tells a metadata store neither of hits nor of times. So the one that hears of
    nodes (`Watch`) begins and ends them here, and the store reads and writes what lies between.
    """

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self._bare: Bare | None = None

    def begin(self) -> None:
        """A node begins."""
        self.spans.append(Span())

    def end(self) -> Span:
        """The innermost node ended."""
        return self.spans.pop() if self.spans else Span()

    def wait(self, cache: Cache, call: Call, value: Value) -> bool:
        """Keep a call with the result of the node under way; False where there is none."""
        if not self.spans or self.spans[-1].waits is not None:
            return False
        self.spans[-1].waits = cache, call, value
        return True

    def waiting(self, cache: Cache) -> tuple[Call, Value] | None:
        """What is to be kept together with what is kept now; whoever takes it keeps it."""
        if not self.spans:
            return None
        span = self.spans[-1]
        if span.waits is None or span.waits[0] is not cache:
            return None
        _, call, value = span.waits
        span.waits = None
        return call, value

    def asked(self, cache_key: str, key: bytes, found: str | None, cost: float = 0.0) -> None:
        """A cache key was looked up."""
        if self.spans:
            span = self.spans[-1]
            span.asked, span.key, span.found, span.cost = cache_key, key, found, cost

    def alone(self, cache_key: str, found: str | None, record: Callable[[str], None]) -> None:
        """A cache key was looked up, and nobody tells when nodes begin and end.

        Args:
            record: notes a hit in a run.
        """
        run_id = None if self.spans else _asking("do_node_execute").get("run_id")
        self._bare = (
            None
            if run_id is None
            else Bare(run_id, cache_key, found, partial(record, run_id), time.perf_counter())
        )

    def answered(self, data_version: str) -> None:
        """A result was loaded: a hit, if it is of the data version that was asked for."""
        bare, self._bare = self._bare, None
        if bare is not None and bare.found == data_version:
            bare.record()

    def was_set(self, cache_key: str | None = None) -> float:
        """A data version was kept; the seconds since its node began, 0 where nobody can say."""
        if not self.spans:
            bare, self._bare = self._bare, None
            if bare is None or bare.cache_key != cache_key:
                return 0.0
            return time.perf_counter() - bare.began
        self.spans[-1].was_set = True
        return time.perf_counter() - self.spans[-1].began


def _asking(*names: str, most: int = _FRAMES) -> Mapping[str, Any]:
    """The variables of the nearest function of one of these names that is under way here: Hamilton's adapter
    tells a store neither for which run nor for which node it asks, but its own frame knows.
    """
    frame: FrameType | None = sys._getframe(3)
    for _ in range(most):
        if frame is None:
            break
        if frame.f_code.co_name in names:
            return frame.f_locals
        frame = frame.f_back
    return {}


def of_node(text: str) -> str:
    """A text with the name of the node that is under way here, or none where there is no node."""
    node = _asking("do_node_execute", "post_node_execute", most=_DEEP).get("node_")
    return "" if node is None else text.format(node.name)


CLOCK = Clock()
"""Of this process: an adapter and the stores that it makes in a worker know nothing of each other."""


# Seconds between tries to write the ends of runs.
_SOON = 0.25
# How often a store that is busy is asked to take the end of a run.
_TRIES = 20


class Ending:
    """Ends runs in a thread of its own, soon after they ended."""

    def __init__(self) -> None:
        self._worker = Worker("wellkept-ending", self._work, lambda: _SOON, patience=5.0)
        self.forget()

    def forget(self) -> None:
        """Nothing is to be written: at first, and in a forked child, whose parent does it."""
        self._ended: deque[tuple[Recorder, str | None, float]] = deque()
        self._tries = 0
        self._lock = threading.Lock()

    def add(self, recorder: Recorder, error: str | None) -> None:
        """Write soon what a run recorded, and that it ended now."""
        self._ended.append((recorder, error, time.time()))
        if not self._worker.begin():
            self.finish()

    def _work(self) -> bool:
        # The run has warned of it; the next one still has to end.
        with contextlib.suppress(Exception):
            self.finish()
        # What a busy store did not take is written later.
        return bool(self._ended)

    def finish(self) -> None:
        """Write all of them now; what the store does not take waits for the next time."""
        with self._lock:
            left = []
            while self._ended:
                one = self._ended.popleft()
                try:
                    done = write_end(*one)
                except Exception:  # noqa: BLE001  of one, which keeps no other from its end
                    done = False
                if not done:
                    left.append(one)
            self._tries = self._tries + 1 if left else 0
            if self._tries < _TRIES:
                self._ended.extendleft(reversed(left))


def write_end(recorder: Recorder, error: str | None, at: float) -> bool:
    """Write what a run recorded, and when and how it ended; whether the store took it."""
    recorder.close()
    record = recorder.record._replace(ended=at, error=error)
    if recorder.cache is not None:
        try:
            recorder.notes.put(f"{HEADS}{record.id}", pack_record(record))
        except KeptError:
            # It reads as one that crashed, until it is written.
            return False
    return not recorder.unwritten()


ending: Ending = Ending()
"""Of this process."""
atexit.register(ending.finish)
at_fork(in_child=ending.forget)


ENGINE = "hamilton"
# Runs of which no end is recorded, and which are still written to.
_HELD = 32


class History:
    """The runs that Hamilton began over one cache. Each has Hamilton's own id for its name.

    Args:
        cache: beside whose calls they are kept.
    """

    def __init__(self, cache: Cache) -> None:
        self._cache = cache
        self._recorders: dict[str, Recorder] = {}
        self._tokens: dict[str, Token[Recorder | None]] = {}
        self._lock = threading.Lock()
        # A store may be dropped, and a process end, without anybody saying that a run did.
        weakref.finalize(self, _end_all, self._recorders)

    # -- writing ----------------------------------------------------------------------------------

    def begin(self, run_id: str) -> None:
        """Record that a run began. A store that does not take it is a warning.

        Raises:
            ConfigError: the configuration is wrong.
        """
        recorder = begin(RunRecord(new_id(time.time()), run_id, engine=ENGINE), self._cache)
        # Hamilton does not tell a store that a run ended.
        OPEN.remove(recorder)
        self._hold(run_id, recorder)

    def enter(self, run_id: str) -> None:
        """Have the kept functions that nodes call be part of a run, until `end`."""
        recorder = self._recorders.get(run_id)
        if recorder is not None:
            recorder.open()
            self._tokens[run_id] = current.set(recorder)

    def _hold(self, run_id: str, recorder: Recorder) -> None:
        with self._lock:
            self._recorders[run_id] = recorder
            while len(self._recorders) > _HELD:
                _end_all({"": self._recorders.pop(next(iter(self._recorders)))})

    def recorder(self, run_id: str) -> Recorder:
        """Return what records the events of a run in this process."""
        found = self._recorders.get(run_id)
        if found is None:
            # In a worker, whose store may not answer: the node is computed all the same, and `begin`
            # warns of what can't be written.
            with contextlib.suppress(StoreError):
                for run in self._runs():
                    if run.name == run_id:
                        found = Recorder(run.record, self._cache, None)
                        self._hold(run_id, found)
                        return found
            self.begin(run_id)
            found = self._recorders[run_id]
        return found

    def put(self, run_id: str, event: Event) -> None:
        """Record what became of a node.

        In the process that began the run it is written within a few seconds, and before anything
        is read here; in a worker process at once, as a worker may be gone any moment.
        """
        recorder = self._recorders.get(run_id) or self.recorder(run_id)
        recorder.put(event)
        if recorder.record.owner.get("pid") != os.getpid():
            recorder.flush()

    def end(self, run_id: str, error: BaseException | None = None) -> None:
        """Record that a run ended, and how: written soon, and before anything is read here, so that
        who runs flows that are all hits does not wait for it.
        """
        with self._lock:
            recorder = self._recorders.pop(run_id, None)
        token = self._tokens.pop(run_id, None)
        if token is not None:
            # It was begun in another context.
            with contextlib.suppress(ValueError):
                current.reset(token)
        if recorder is not None:
            with contextlib.suppress(ValueError):
                OPEN.remove(recorder)
            ending.add(recorder, None if error is None else type(error).__qualname__)

    # -- reading ----------------------------------------------------------------------------------

    def _runs(self) -> list[Run]:
        """All runs, the newest first."""
        ending.finish()
        notes = notes_of(self._cache)
        found = get_many(notes, list(notes.keys(HEADS)))
        records = [unpack_record(note) for note in found.values()]
        mine = [record for record in records if record is not None and record.engine == ENGINE]
        mine.sort(key=lambda record: (record.started, record.id), reverse=True)
        return [Run(record, self._cache) for record in mine]

    def run_ids(self) -> list[str]:
        """Hamilton's ids of all runs, the oldest first.

        Raises:
            StoreError: the store can't be read.
        """
        return [run.name for run in reversed(self._runs())]

    def run(self, run_id: str) -> Run:
        """The run that Hamilton calls so; of several, the newest.

        Raises:
            IndexError: there is no such run.
            StoreError: the store can't be read.
        """
        for recorder in list(self._recorders.values()):
            recorder.flush()
        for run in self._runs():
            if run.name == run_id:
                return run
        raise IndexError(f"no run {run_id!r} is known in {self._cache}; get_run_ids() lists them")

    def clear(self) -> None:
        """Forget all of Hamilton's runs, and no others.

        Raises:
            StoreError: the store can't be written.
        """
        with self._lock:
            recorders = list(self._recorders.values())
            self._recorders.clear()
        for recorder in recorders:
            recorder.close()
        for run in self._runs():
            # A run that is under way can't be forgotten.
            run.end()
            run.forget()


def _end_all(recorders: dict[str, Recorder]) -> None:
    for recorder in list(recorders.values()):
        # Too late for anybody to hear of it.
        with contextlib.suppress(Exception):
            if recorder.record.owner.get("pid") == os.getpid():
                write_end(recorder, None, time.time())
            else:
                recorder.flush()


@lru_cache(10_000)
def dependencies(cache_key: str | None) -> Mapping[str, str]:
    """The data versions that a cache key was made of; none of a key that Hamilton's adapter did not
    make.
    """
    try:
        found: Mapping[str, str] = decode_key(cache_key)["dependencies_data_versions"]
    except Exception:  # noqa: BLE001  whatever decoding something else raises
        return {}
    return found
