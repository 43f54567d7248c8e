"""Removing what has expired, in the background, a little at a time.

An expired entry is not there for anybody, so this only gives its room back, and tells those who watch.
"""

from __future__ import annotations

import contextlib
import time
import weakref

from wellkept._process import Worker, at_fork, chance
from wellkept.errors import KeptError
from wellkept.interrupts import Guard
from wellkept.kv.plan import Entries

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
    _sweeps.begin()


def forget(entries: Entries) -> None:
    """Sweep a medium no more until it is used again; returns when no sweep of it is under way.

    A sweep after its `close()` would open the database again, and write to a file that its owner may be
    about to move or replace.
    """
    with _guard:
        _swept.pop(entries, None)
    if not _sweeps.is_here():
        with _working:
            pass


def _look_at_due() -> bool:
    for entries, at in list(_swept.items()):
        if at <= time.monotonic():
            _look(entries)
    return bool(_swept)


def _look(entries: Entries) -> None:
    with _guard:
        if entries not in _swept:
            return
        _swept[entries] = time.monotonic() + _FAR  # unless somebody sets a TTL from here on
    # An error is no end: the server may be back at the next look.
    with contextlib.suppress(KeptError):
        # A fork, and a `forget`, wait for no more than one batch.
        while _removed(entries) == BATCH and not _sweeps.waited(_PAUSE):
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


_sweeps = Worker("wellkept-sweeper", _look_at_due, lambda: _LOOK * (0.5 + chance()))
at_fork(in_child=_swept.clear)
