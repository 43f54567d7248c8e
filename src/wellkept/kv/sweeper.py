"""Removing what has expired, in the background, a little at a time.

An expired entry is not there for anybody, so this only gives its room back, and tells those who watch.
"""

from __future__ import annotations

import contextlib
import os
import random
import threading
import time
import weakref

from wellkept.errors import KeptError
from wellkept.interrupts import Guard
from wellkept.kv.entry import Entries

__all__ = ["BATCH", "forget", "sweep", "sweeping"]

BATCH = 200
"""Entries that are removed at once."""
_LOOK = 1.0  # seconds between looks while something is to expire
_FAR = 60.0  # seconds after which it is looked for again, whatever is to expire
_PAUSE = 0.005  # seconds between batches, in which others write

_swept: weakref.WeakKeyDictionary[Entries, float] = weakref.WeakKeyDictionary()
"""When to look at each again, by this process's clock."""
_guard = Guard()
_working = Guard()
"""Held while a batch is removed, so that `forget` can wait for its end."""
_thread: threading.Thread | None = None
_stop = threading.Event()


def sweep(entries: Entries) -> int:
    """Remove all that has expired by now; how many."""
    removed = 0
    while True:
        count = entries.remove(None, "expired", BATCH)
        removed += count
        if count < BATCH:
            return removed
        time.sleep(_PAUSE)


def sweeping(entries: Entries) -> None:
    """See that a medium's expired entries are removed, for as long as there are some to expire."""
    if _swept.get(entries) == 0.0:
        return
    with _guard:
        _swept[entries] = 0.0
        _ensure_thread()


def forget(entries: Entries) -> None:
    """Sweep a medium no more until it is used again; returns when no sweep of it is under way.

    A sweep after its `close()` would open the database again, and write to a file that its owner may be
    about to move or replace.
    """
    with _guard:
        _swept.pop(entries, None)
    if threading.current_thread() is not _thread:
        with _working:
            pass


def _ensure_thread() -> None:
    global _thread
    if _thread is None or not _thread.is_alive():  # it may have been interrupted at its start
        _stop.clear()
        _thread = threading.Thread(target=_run, name="wellkept-sweeper", daemon=True)
        _thread.start()


def _run() -> None:
    global _thread
    while not _stop.wait(_LOOK * random.uniform(0.5, 1.5)):
        for entries, at in list(_swept.items()):
            if at <= time.monotonic():
                _look(entries)
        with _guard:
            if not _swept:
                _thread = None
                return


def _look(entries: Entries) -> None:
    with _guard:
        if entries not in _swept:
            return
        _swept[entries] = time.monotonic() + _FAR  # unless somebody sets a TTL from here on
    # An error is no end: the server may be back at the next look.
    with contextlib.suppress(KeptError):
        # A fork, and a `forget`, wait for no more than one batch.
        while _removed(entries) == BATCH and not _stop.wait(_PAUSE):
            pass
        with _working:
            if entries not in _swept:
                return
            due = entries.due()
            wait = None if due is None else max(0.0, due - entries.now())
        with _guard:
            if _swept.get(entries, 0.0) != 0.0:
                if wait is None:
                    _swept.pop(entries, None)
                else:
                    _swept[entries] = time.monotonic() + min(wait, _FAR)


def _removed(entries: Entries) -> int:
    """Remove one batch, unless the medium was closed meanwhile."""
    with _working:
        return entries.remove(None, "expired", BATCH) if entries in _swept else 0


def _before_fork() -> None:
    # A process that forks should have no thread of ours, nor a lock that one of them holds.
    thread = _thread
    if thread is not None and thread is not threading.current_thread():
        _stop.set()
        if thread.is_alive():
            thread.join()


def _after_fork_in_parent() -> None:
    global _thread
    with _guard:
        _thread = None
        if _swept:
            _ensure_thread()


def _after_fork_in_child() -> None:
    global _thread, _guard, _working, _stop
    _guard = Guard()
    _working = Guard()
    _stop = threading.Event()
    _thread = None
    _swept.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork,
        after_in_parent=_after_fork_in_parent,
        after_in_child=_after_fork_in_child,
    )
