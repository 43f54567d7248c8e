"""What a thread is doing between the beginning and the end of a node.

Hamilton's adapter sets a node's data version and then its result. A transaction costs more than what
is written in it, so the first waits for the second, or for the end of the node.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from types import FrameType
from typing import NamedTuple

from kept.caches import Cache
from kept.records import Call, Value

__all__ = ["CLOCK", "Bare", "Span"]

_FRAMES = 5  # between the adapter's execution of a node and a store


class Span:
    """One node under way: when it began, and what the metadata store was asked and told since."""

    __slots__ = ("asked", "began", "cost", "found", "key", "waits", "was_set")

    def __init__(self) -> None:
        self.began = time.perf_counter()
        self.asked: str | None = None
        """The cache key that was looked up last."""
        self.key = b""
        """The key of its call."""
        self.found: str | None = None
        """Its data version, if there was one."""
        self.cost = 0.0
        """Seconds that it took when it was kept."""
        self.was_set = False
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

    Hamilton's adapter tells a metadata store neither of hits nor of times. So whoever hears of
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
        run_id = None if self.spans else _asker()
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


def _asker() -> str | None:
    """The run for which Hamilton's adapter executes a node here: it does not tell a store when it asks
    for a data version, but its own frame knows.
    """
    frame: FrameType | None = sys._getframe(3)
    for _ in range(_FRAMES):
        if frame is None:
            return None
        if frame.f_code.co_name == "do_node_execute":
            run_id = frame.f_locals.get("run_id")
            return run_id if isinstance(run_id, str) else None
        frame = frame.f_back
    return None


CLOCK = Clock()
"""Of this process: an adapter and the stores that it makes in a worker know nothing of each other."""
