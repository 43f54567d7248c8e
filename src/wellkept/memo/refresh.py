"""`wellkept.refresh`: a block in which kept calls are computed again, once each."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from wellkept.caches.active import inherited, reach_threads

if TYPE_CHECKING:
    from wellkept.stores.record_format import Body


class Refresh:
    """One block. What was computed since it began is a hit in it, and nothing else.

    Args:
        since: when it began, in seconds since the epoch.

    It pickles, for the workers to which calls of it are sent.
    """

    def __init__(self, since: float) -> None:
        self.since = since
        self._done: dict[bytes, float] = {}
        """When each key that was computed in it, in this process, was: clocks may be set, and differ."""

    def serves(self, key: bytes, body: Body) -> bool:
        """Whether a kept result is new enough: its computation began in the block, here or elsewhere."""
        done = self._done.get(key)
        if done is not None:
            # What was computed may not be written yet.
            return body.created >= done
        return body.created - body.seconds > self.since

    def computed(self, key: bytes, created: float) -> None:
        """A call was computed in the block, and is kept, or about to be."""
        self._done[key] = created

    def __reduce__(self) -> tuple[Any, ...]:
        return Refresh, (self.since,)


OPEN: list[Refresh] = []
"""The blocks of this process. While there are none, a call has nothing to look for."""
_NONE = Refresh(0.0)
"""In place of a block: a thread may have been started in one that is not this call's."""
_current: ContextVar[Refresh | None] = ContextVar("wellkept.refresh", default=None)


def refreshing() -> Refresh | None:
    """The block that a call is in here, or where this thread was started."""
    found = inherited(_current) if OPEN else None
    # A task or a thread may outlive its block.
    return found if found in OPEN else None


@contextlib.contextmanager
def within(block: Refresh | None) -> Iterator[None]:
    """Be in a block, or in none, whatever is around."""
    if block is not None:
        reach_threads(_current)
        OPEN.append(block)
    token = _current.set(block or _NONE)
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):
            # It is left in another context than it was entered in.
            _current.reset(token)
        if block is not None:
            OPEN.remove(block)


@contextlib.contextmanager
def refresh() -> Iterator[None]:
    """A block in which a kept call is computed again and replaces what is kept, once each: afterwards what
    was computed in the block is a hit there.

    It reaches the kept calls that bodies make, and the tasks, the threads and the sent calls that begin in
    the block.
    """
    with within(Refresh(time.time())):
        yield
