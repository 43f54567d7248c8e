"""The calls of `map` where nothing is unusual: looked up hundreds at once, and computed one after the other.

A sweep makes thousands of calls of a plain function with plain arguments. What holds for all of them is asked
once for hundreds, and what may change between two calls is asked at each; see `plain_calls`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from wellkept.caches import Cache
from wellkept.errors import KeptError, StoreError
from wellkept.memo.futures import PENDING
from wellkept.memo.inflight import Flight, Landing, flights
from wellkept.memo.plain_calls import Same, Started, located, parent, same_of
from wellkept.memo.refresh import OPEN as REFRESHING
from wellkept.runs.collectors import blocks
from wellkept.runs.listeners import LISTENERS
from wellkept.runs.recorder import OPEN

if TYPE_CHECKING:
    from wellkept.memo.batch_commits import Batch
    from wellkept.memo.kept import Kept

# Calls that are looked up at once.
_ONCE = 500
# Calls that are left to the flow before it is asked again whether anything is unusual.
_PATIENCE = 50


class Flights(Flight):
    """The computations of one `map`, one after the other.

    Its leases are those of the call that is computed and of results that are not written yet. It is not
    among those that `settle` ends, for most of them belong to no frame: they end with the `map`.
    """

    __slots__ = ("keys",)

    def __init__(self, parent: Flight | None, locks: Any, landing: Landing) -> None:
        # First: it ends with the landing, which an interrupt may let go of before the rest is there.
        self.keys: set[bytes] = set()
        super().__init__(parent, locks, None, None, landing)

    def take(self) -> bool:
        assert self.key is not None
        # Before the lease is taken: an exception may come in between.
        self.keys.add(self.key)
        if self.locks.acquire(self.key, self):
            return True
        self.keys.discard(self.key)
        return False

    def end_of(self, key: bytes) -> None:
        self.locks.release(key, self)
        self.keys.discard(key)

    def end_of_all(self, keys: Collection[bytes]) -> None:
        self.locks.release_all(keys, self)
        self.keys.difference_update(keys)

    def ended(self, key: bytes) -> bool:
        return self.over or key not in self.keys

    def end(self) -> None:
        self.over = True
        self.end_of_all(tuple(self.keys))
        self._landing = None


def results(kept: Kept[..., Any], items: Sequence[tuple[Any, ...]], batch: Batch) -> Iterator[Any]:
    """Make the calls, one for each tuple of positional arguments; give the results in order."""
    at = 0
    flight: Flights | None = None
    while at < len(items):
        found = same_of(kept)
        if found is None:
            # The first call of a function in a process is unusual, and after it the next may not be.
            some = items[at : at + (_PATIENCE if at else 1)]
            at += len(some)
            for args in some:
                yield kept.in_batch(batch, *args)
            continue
        cache, same = found
        locks = cache.backend.locks
        if flight is None or flight.locks is not locks:
            landing = Landing()
            flight = Flights(flights.caller(), locks, landing)
            batch.carry(flight, landing)
            # Nobody but the batch has it.
            del landing
        # What waits to be written is of this cache.
        same = same._replace(target=same.whole(kept, cache))
        yield from _some(kept, cache, same, items[at : at + _ONCE], batch, flight)
        at += _ONCE


def _some(
    kept: Kept[..., Any],
    cache: Cache,
    same: Same,
    items: Sequence[tuple[Any, ...]],
    batch: Batch,
    flight: Flights,
) -> Iterator[Any]:
    """Make some hundreds of calls; give their results in order."""
    coding, by = same.coding, parent(flight.parent)
    locator, binder, follows = kept.locator, kept._binder, kept._cache is None
    calls = located(kept, coding, _bound(kept, items))
    keys = [None if call is None else call[1] for call in calls]
    # Where others keep something all the time, few are looked up at once.
    looked, window = 0, len(keys)
    seen, lacks = _lacking(cache, keys)
    for at, (args, call) in enumerate(zip(items, calls, strict=True)):
        if at >= looked + window:
            looked, window = at, 2 * window
            seen, lacks = _lacking(cache, keys[at : at + window])
        if (
            call is None
            or call[1] not in lacks
            # Two may be the same call.
            or call[1] in cache.waiting
            # What a body may have changed since the last one.
            or (LISTENERS or OPEN or REFRESHING or PENDING or blocks.get())
            or locator._coding is not coding
            or not binder.same()
            or coding.facts[0] is not cache.noted
            or (follows and _goes_elsewhere(kept, cache))
        ):
            if call is not None:
                # Most often it is a hit, which then needs no digests of its arguments.
                locator.remember(call[0], call[1], coding)
            yield kept.in_batch(batch, *args)
            continue
        key = flight.key = call[1]
        try:
            leased = flight.take()
            if leased and cache.token() != seen:
                # Somebody has kept something since.
                looked, window = at, max(1, 2 * (at - looked))
                seen, lacks = _lacking(cache, keys[at : at + window])
        except StoreError:
            # The flow meets it too, and deals with it.
            leased = False
        if not leased or key not in lacks or not (coding.all_same is None or coding.all_same()):
            flight.end_of(key)
            yield kept.in_batch(batch, *args)
            continue
        yield _computed(Started(kept, cache, same, call, by, batch), flight, args)


def _computed(started: Started, flight: Flights, args: tuple[Any, ...]) -> Any:
    """Make a call that is leased and not kept."""
    # Of its own: what the body has begun may outlive it.
    here = Flight(flight, flight.locks, flight.key)
    try:
        started.begin(flight, here)
        try:
            result = started.body(*args)
        except BaseException as error:
            started.failed(error)
            raise
        return started.done(result)
    finally:
        here.over = True
        started.end()


def _goes_elsewhere(kept: Kept[..., Any], cache: Cache) -> bool:
    """Whether calls go to another cache by now, as far as can be told."""
    try:
        return kept.cache is not cache
    except KeptError:
        # As in `same_of`.
        return True


def _bound(kept: Kept[..., Any], items: Iterable[tuple[Any, ...]]) -> Iterator[tuple[Any, ...]]:
    """Give the values of each call's arguments; for a call that the function does not take, what `located`
    refuses."""
    bind = kept._bind
    for args in items:
        try:
            yield bind(*args)
        except TypeError:
            yield (kept,)


def _lacking(cache: Cache, keys: Iterable[bytes | None]) -> tuple[Any, Collection[bytes]]:
    """Return the keys that have no call, and the token of the commit after which that was so."""
    try:
        return cache.lacking([key for key in keys if key is not None])
    except StoreError:
        # As above.
        return None, ()
