"""Runs that have ended, and whose last events and end are still to be written."""

from __future__ import annotations

import atexit
import contextlib
import os
import threading
import time
from collections import deque

from kept.errors import KeptError
from kept.runs.events import pack_record
from kept.runs.notes import HEADS
from kept.runs.recording import Recorder

__all__ = ["ending", "write_end"]

_SOON = 0.25  # seconds
_TRIES = 20  # how often a store that is busy is asked to take the end of a run


class Ending:
    """Ends runs in a thread of its own, soon after they ended."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Nothing is to be written: at first, and in a forked child, whose parent does it."""
        self._ended: deque[tuple[Recorder, str | None, float]] = deque()
        self._tries = 0
        self._wake = threading.Event()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def add(self, recorder: Recorder, error: str | None) -> None:
        """Write soon what a run recorded, and that it ended now."""
        self._ended.append((recorder, error, time.time()))
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="kept-ending", daemon=True)
            try:
                self._thread.start()
            except RuntimeError:  # no threads any more: the interpreter ends
                self.finish()
        self._wake.set()

    def _work(self) -> None:
        while True:
            self._wake.wait()
            self._wake.clear()
            time.sleep(_SOON)
            with contextlib.suppress(Exception):  # warned of by the run; the next one still ends
                self.finish()
                if self._ended:  # what a busy store did not take is written later
                    self._wake.set()

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
        except KeptError:  # it reads as one that crashed, until it is written
            return False
    return not recorder.unwritten()


ending = Ending()
"""Of this process."""
atexit.register(ending.finish)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=ending.forget)
