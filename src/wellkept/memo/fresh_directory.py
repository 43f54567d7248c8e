"""Bodies that each run in a fresh temporary directory."""

from __future__ import annotations

import contextlib
import tempfile
import threading
from collections.abc import Iterator

from wellkept._process import at_fork
from wellkept.memo.inflight import Flight, flights

_turn = threading.RLock()
_holder: Flight | None = None
"""Stands in the line of all that is called by the body whose turn it is."""


@contextlib.contextmanager
def fresh_directory() -> Iterator[None]:
    """Be in a new temporary directory for a block, after which it is removed.

    A process has one working directory, so bodies in several threads take turns.

    Raises:
        RuntimeError: a body that has its turn waits for this one, in another thread.
        OSError: there is no room for the directory.
    """
    global _holder
    own, turn = flights.caller(), _turn
    if not turn.acquire(blocking=False):
        if own is not None and _holder in own.line():
            raise RuntimeError(
                "a function with tempdir=True was called in a thread that belongs to a call of another "
                "one: a process has one working directory, so the two would wait for each other. Call "
                "it in the same thread, or in another process"
            )
        turn.acquire()
    # What is called from here on has this one in its line, whichever thread it is in.
    flight = Flight(own, None, None if own is None else own.key)
    before, _holder = _holder, flight
    flight.enter()
    try:
        # What a body leaves open may not be removable; that is no reason to fail.
        with (
            tempfile.TemporaryDirectory(prefix="wellkept-", ignore_cleanup_errors=True) as made,
            contextlib.chdir(made),
        ):
            yield
    finally:
        flight.leave()
        flight.over = True
        _holder = before
        turn.release()


def _after_fork() -> None:
    global _turn, _holder
    # Another thread may have had its turn, and it is not here.
    _turn, _holder = threading.RLock(), None


at_fork(in_child=_after_fork)
