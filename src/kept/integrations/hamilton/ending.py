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


class Ending:
    """Ends runs in a thread of its own, soon after they ended."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Nothing is to be written: at first, and in a forked child, whose parent does it."""
        self._ended: deque[tuple[Recorder, str | None, float]] = deque()
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

    def finish(self) -> None:
        """Write all of them now."""
        with self._lock:
            while self._ended:
                recorder, error, at = self._ended.popleft()
                write_end(recorder, error, at)


def write_end(recorder: Recorder, error: str | None, at: float) -> None:
    """Write what a run recorded, and when and how it ended."""
    recorder.close()
    record = recorder.record._replace(ended=at, error=error)
    if recorder.cache is not None:
        with contextlib.suppress(KeptError):  # it then reads as one that crashed
            recorder.notes.put(f"{HEADS}{record.id}", pack_record(record))


ending = Ending()
"""Of this process."""
atexit.register(ending.finish)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=ending.forget)
