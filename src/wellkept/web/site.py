"""One cache that is looked at: what is asked of it on each page, and the sums that take longer."""

from __future__ import annotations

import shlex
import threading
import time
from collections.abc import Callable
from functools import cached_property
from typing import Any, Generic, NamedTuple, TypeVar

from wellkept.caches import Cache, health, maintenance
from wellkept.caches.option_text import redacted
from wellkept.conditions import Condition, Equal, Query
from wellkept.errors import KeptError
from wellkept.query import Matches
from wellkept.runs.summary import Summary, summarize
from wellkept.stores.reports import Totals

T = TypeVar("T")

# Seconds that a page waits for sums; then it shows older ones, or none yet.
_WAIT = 0.15
# Calls of a large cache; seconds until its sums are begun.
_MANY, _ASIDE = 50_000, 0.7
# KiB of an index that are held in memory.
_ROOM = 16 * 1024
# Sums that took so long are not made again for this many times as long.
_REST = 4.0


class Price(NamedTuple):
    """What an hour of processor time costs."""

    amount: float
    unit: str

    def of(self, seconds: float) -> str:
        """Return what so many seconds cost: `12.40 EUR`."""
        return f"{seconds / 3600 * self.amount:,.2f} {self.unit}".strip()


class Lately(Generic[T]):
    """Something that takes a while to find out: made in a thread, and made anew when it may have changed.

    Args:
        make: finds it out.
        mark: what differs when it may have changed.
    """

    def __init__(self, make: Callable[[], T], mark: Callable[[], Any]) -> None:
        self._make, self._mark = make, mark
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._seen: Any = None
        self._took = self._ended = 0.0
        self.value: T | None = None
        self.error: Exception | None = None

    def get(self, wait: float = _WAIT) -> T | None:
        """Return it, if it is there within so many seconds; otherwise what was found out before, or None.

        Raises:
            KeptError: it can't be found out.
        """
        with self._lock:
            mark = self._mark()
            rested = time.monotonic() - self._ended > _REST * self._took
            fresh = self._ended and mark is not None and mark == self._seen
            if (
                self._thread is None
                and not fresh
                and (rested or mark is None or self._took < _WAIT)
            ):
                self._seen = mark
                self._thread = threading.Thread(target=self._run, name="wellkept-ui", daemon=True)
                self._thread.start()
            thread = self._thread
        if thread is not None:
            thread.join(wait)
        if self.error is not None and self.value is None:
            raise self.error
        return self.value

    def _run(self) -> None:
        began = time.monotonic()
        try:
            value, error = self._make(), None
        except KeptError as found:
            value, error = self.value, found  # type: ignore[assignment]  # what was known stays
        except Exception as found:  # noqa: BLE001  whatever it is, the page tells of it
            value, error = self.value, found  # type: ignore[assignment]  # as above
        with self._lock:
            self.value, self.error = value, error
            self._ended = time.monotonic()
            self._took, self._thread = self._ended - began, None


def _renew(cache: Cache) -> Cache:
    """Return a cache, which opens anew if it was removed or replaced."""
    if cache.backend.stale():
        cache.backend.close()
    return cache


class Site:
    """What the pages are about.

    Args:
        cache: the cache.
        where: how the command line names it; nothing for the active one.
        write: whether the pages may change it.
        price: of an hour of processor time, where that is known.
        behind: the same cache once more, for sums: what takes long must not hold up the pages.
        later: where there is no cache yet, and `cache` stands in for it: gives it and `behind` once it is
            there, and None until then.
        name: of a cache that is not there yet.
    """

    cache: Cache
    write: bool
    price: Price | None

    def __init__(
        self,
        cache: Cache,
        *,
        where: str = "",
        write: bool = False,
        price: Price | None = None,
        behind: Cache | None = None,
        later: Callable[[], tuple[Cache, Cache] | None] | None = None,
        name: str = "",
    ) -> None:
        self._later, self._name, self.price = later, name, price
        self._may_write, self._where = write, redacted(where)
        self._show(cache, cache if behind is None else behind)

    def _show(self, cache: Cache, behind: Cache) -> None:
        """Be about a cache, of which nothing is known yet."""
        self.cache, self._behind = cache, behind
        self.write = self._may_write and bool(cache.backend.writable)
        for one in (cache, behind):
            one.backend.hold_index(_ROOM)
        self.summaries: Lately[Summary] = Lately(self._summarize, self._mark)
        self.shares: Lately[list[maintenance.Share]] = Lately(
            lambda: maintenance.shares(self._aside()), self._mark
        )
        self._indexed: Lately[int] = Lately(lambda: self._aside().query().count(), lambda: 0)
        self.totals: Lately[Totals] = Lately(lambda: self._aside().size(), self._mark)
        self.verified: Lately[list[health.Check]] | None = None
        """What a check of every byte found, once one was asked for."""
        self.progress: tuple[str, int, int] = ("", 0, 0)
        for counted in ("counts", "_large"):
            self.__dict__.pop(counted, None)

    @property
    def name(self) -> str:
        """The cache, as people know it."""
        return self._name or str(self.cache)

    def look(self) -> None:
        """Before a page is made: whether the cache has come, or was removed or replaced."""
        if self._later is not None and (found := self._later()) is not None:
            # Sums of what stood in for it must not be shown as its own.
            self._show(*found)
            self._later, self._name = None, ""
        _renew(self.cache)

    def _aside(self) -> Cache:
        """Return the cache that sums are made of, as it is now; in the thread that makes them, which may
        hold it for seconds.
        """
        return _renew(self._behind)

    def ready(self) -> bool:
        """Return whether the index can be asked; of a large cache that was never asked it is made first."""
        return not self.cache.backend.indexed or self._indexed.get(0.5) is not None

    def calls_of(self, function: str) -> Matches:
        """Return the calls of the function of exactly this name; of all functions if it is empty."""
        named = (Condition("function", (), Equal(function)),)
        return Matches(self.cache, Query(named if function else ()))

    def _mark(self) -> Any:
        """Return what differs after each commit; elsewhere, every few seconds."""
        return self.cache.token() or int(time.time() // 5)

    @cached_property
    def counts(self) -> bool:
        """Whether calls are counted by an index, without reading them all."""
        return self.cache.backend.found(Query()) is not None

    @cached_property
    def _large(self) -> bool:
        """Whether the sums take so long that no page waits for them."""
        return self.cache.query().count() > _MANY

    def summary(self, wait: float = _WAIT) -> Summary | None:
        """Return the sums, as of a moment ago; None while they are made for the first time."""
        return self.summaries.get(0.0 if self._large and wait <= _WAIT else wait)

    def _summarize(self) -> Summary:
        if self._large and self.summaries.value is None:
            # The first page has the processor for itself.
            time.sleep(_ASIDE)
        return summarize(self._aside())

    def command(self, *parts: str) -> str:
        """Return a command of `wellkept` about this cache, to copy."""
        beside = ["--cache", self._where] if self._where else []
        return shlex.join(["wellkept", *parts, *beside])

    def verify(self) -> None:
        """Begin to check every byte, unless that is under way."""
        if self.verified is None or self.verified.value is not None:
            self.progress = ("begins", 0, 0)
            self.verified = Lately(self._check, lambda: 0)
            self.verified.get(0.0)

    def _check(self) -> list[health.Check]:
        def tell(stage: str, done: int, total: int) -> None:
            self.progress = stage, done, total

        return health.verified(self._aside().verify(progress=tell))

    def close(self) -> None:
        """Let go of the second opening of the cache."""
        if self._behind is not self.cache:
            self._behind.close()
