"""Hamilton's runs as kept runs: each node of a run is an event of it."""

from __future__ import annotations

import contextlib
import os
import threading
import time
import weakref
from contextvars import Token

from kept.caches import Cache
from kept.integrations.hamilton.ending import ending, write_end
from kept.records import Event, RunRecord
from kept.runs.beginning import begin
from kept.runs.events import unpack_record
from kept.runs.notes import HEADS, new_id, notes_of
from kept.runs.recording import OPEN, Recorder, current
from kept.runs.run import Run
from kept.stores.base import get_many

__all__ = ["ENGINE", "History"]

ENGINE = "hamilton"
_HELD = 32  # runs that nobody says have ended, and are still written to


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
        OPEN.remove(recorder)  # Hamilton does not tell a store that a run ended
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
        """What records the events of a run in this process.

        Raises:
            StoreError: the store can't be read.
        """
        found = self._recorders.get(run_id)
        if found is None:
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

        Raises:
            StoreError: the store can't be read.
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
            with contextlib.suppress(ValueError):  # begun in another context
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
            run.end()  # what runs can't be forgotten
            run.forget()


def _end_all(recorders: dict[str, Recorder]) -> None:
    for recorder in list(recorders.values()):
        with contextlib.suppress(Exception):  # too late for anybody to hear of it
            if recorder.record.owner.get("pid") == os.getpid():
                write_end(recorder, None, time.time())
            else:
                recorder.flush()
