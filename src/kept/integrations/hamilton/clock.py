"""What a thread is doing between the beginning and the end of a node.

Hamilton's adapter sets a node's data version and then its result. A transaction costs more than what
is written in it, so the first waits for the second, or for the end of the node.
"""

from __future__ import annotations

import threading
import time

from kept.caches import Cache
from kept.records import Call, Value

__all__ = ["CLOCK", "Span"]


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


class Clock(threading.local):
    """The nodes under way in this thread, the innermost last.

    Hamilton's adapter tells a metadata store neither of hits nor of times. So whoever hears of
    nodes (`Watch`) begins and ends them here, and the store reads and writes what lies between.
    """

    def __init__(self) -> None:
        self.spans: list[Span] = []

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

    def was_set(self) -> float:
        """A data version was kept; the seconds since its node began, 0 where nobody said so."""
        if not self.spans:
            return 0.0
        self.spans[-1].was_set = True
        return time.perf_counter() - self.spans[-1].began


CLOCK = Clock()
"""Of this process: an adapter and the stores that it makes in a worker know nothing of each other."""
