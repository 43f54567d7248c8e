"""Ending read transactions that nobody reads in any more.

Beginning and ending a read transaction is half of what a point read costs, so a burst of reads shares
one (it is as current as a new one for as long as the WAL index header has not changed). But an open
one keeps SQLite from recycling its log, so it must not outlive the burst: a thread ends it.
"""

from __future__ import annotations

import os
import threading
from typing import Protocol

from wellkept.interrupts import Guard

__all__ = ["PAUSE", "watch"]

PAUSE = 0.1  # seconds without a read after which a snapshot ends; at most twice as long


class Reads(Protocol):
    """What has a snapshot open."""

    def end_if_idle(self) -> bool:
        """End the snapshot if nothing was read since the last call; whether none is open now."""
        ...


_open: set[Reads] = set()
_guard = Guard()
_stop = threading.Event()
_thread: threading.Thread | None = None


def watch(reader: Reads) -> None:
    """Have the snapshot of `reader` ended when it is idle."""
    with _guard:
        _open.add(reader)
        _ensure_thread()


def _ensure_thread() -> None:
    global _thread
    if _thread is None or not _thread.is_alive():  # it may have been interrupted at its start
        _stop.clear()
        _thread = threading.Thread(target=_run, name="wellkept-snapshots", daemon=True)
        _thread.start()


def _run() -> None:
    global _thread
    idle = 0
    while not _stop.wait(PAUSE):
        for reader in list(_open):
            if reader.end_if_idle():
                with _guard:
                    _open.discard(reader)
        idle = 0 if _open else idle + 1
        if idle > 100:
            with _guard:
                if not _open:
                    _thread = None
                    return


def _before_fork() -> None:
    # A process that forks should have no thread of ours: Python warns of forking with threads, and
    # the lock of a database must not be held in the child by a thread that is not there.
    thread = _thread
    if thread is not None and thread is not threading.current_thread():
        _stop.set()
        if thread.is_alive():
            thread.join()


def _after_fork_in_parent() -> None:
    global _thread
    with _guard:
        _thread = None
        if _open:
            _ensure_thread()


def _after_fork_in_child() -> None:
    global _thread, _guard, _stop
    _guard = Guard()
    _stop = threading.Event()
    _thread = None
    _open.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork,
        after_in_parent=_after_fork_in_parent,
        after_in_child=_after_fork_in_child,
    )
