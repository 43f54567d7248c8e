"""The calls of `map` where nothing is unusual: looked up hundreds at once, and computed one after the other.

A sweep makes thousands of calls of a plain function with plain arguments. Here such a call takes the steps
of `flow` without its generators: what holds for all is asked once for hundreds, and what may change between
two calls is asked at each. Whatever is unusual (a hit, a lease of somebody else, code that changed, a
listener) is left to the flow, which looks again.
"""

from __future__ import annotations

import copy
import sys
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from time import perf_counter
from typing import TYPE_CHECKING, Any, NamedTuple

from wellkept.caches import Cache
from wellkept.caches.active import inherited
from wellkept.errors import KeptError, StoreError, Undigestible
from wellkept.hashing import SCALARS, digest_bytes
from wellkept.hashing.digests import call_key
from wellkept.memo import observed
from wellkept.memo.flow import ALONE, ended, left
from wellkept.memo.futures import PENDING
from wellkept.memo.inflight import Flight, Landing, flights
from wellkept.memo.kept_target import KeptTarget
from wellkept.memo.key import Coding
from wellkept.memo.refresh import OPEN as REFRESHING
from wellkept.memo.target import TROUBLES, Items, Raise, hidden, lost, recorded
from wellkept.records import Arguments, Metadata, is_short
from wellkept.runs.collectors import begin, blocks, configured, directory, taken
from wellkept.runs.listeners import INFO, LISTENERS, MISSES, SLOW, listening
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


class _Same(NamedTuple):
    """What is the same for hundreds of calls."""

    cache: Cache
    coding: Coding
    target: KeptTarget
    """A call without arguments."""
    noted: set[str]
    """What was noted in the cache by then; see `Target.facts`."""
    facts: str
    parent: str
    """Of the record of each: what is known of the process, and of the call that makes it."""
    shown: Callable[[Any], bool]
    """Which arguments a record shows."""


_Located = tuple[tuple[Any, ...], bytes, Items]
"""Of a call: the values of its arguments, its key, and the arguments that count."""


def results(kept: Kept[..., Any], items: Sequence[tuple[Any, ...]], batch: Batch) -> Iterator[Any]:
    """Make the calls, one for each tuple of positional arguments; give the results in order."""
    at = 0
    flight: Flights | None = None
    while at < len(items):
        same = _same(kept)
        if same is None:
            # The first call of a function in a process is unusual, and after it the next may not be.
            some = items[at : at + (_PATIENCE if at else 1)]
            at += len(some)
            for args in some:
                yield kept.in_batch(batch, *args)
            continue
        locks = same.cache.backend.locks
        if flight is None or flight.locks is not locks:
            landing = Landing()
            flight = Flights(flights.caller(), locks, landing)
            batch.carry(flight, landing)
            # Nobody but the batch has it.
            del landing
        yield from _some(kept, same, items[at : at + _ONCE], batch, flight)
        at += _ONCE


def _same(kept: Kept[..., Any]) -> _Same | None:
    """Return what is the same for the next calls; None while something is unusual."""
    options, own, every, said = kept.options, kept.collectors, configured(), inherited(blocks)
    binder, coding = kept._binder, kept.locator._coding
    if (
        not (options.usual() and kept.locator.quick and binder.same())
        or not (binder.simple and binder.exact and not binder.ordered)
        or (said or own is None or own.by_name or every.by_name)
        or (coding is None or coding.mocked or coding.classes)
        or not (coding.same is None or coding.same())
        or (coding.deep is not None and coding.deep.depends)
    ):
        return None
    try:
        cache = kept.cache
    except KeptError:
        # The flow meets it too, and deals with it.
        return None
    if (
        not cache.backend.commits_many
        or cache.backend.codec != "pickle"
        or (coding.base and coding.wider_note not in cache.noted)
    ):
        return None
    target = KeptTarget(kept, ())
    target.cache, target.scalars = cache, True
    target.name, target.code, target.same = coding.name, coding.tag, coding.all_same
    target.asked = every
    facts, caller = target.facts(), flights.caller()
    parent = "" if caller is None or caller.key is None else f',"parent":"{caller.key.hex()}"'
    shown = hidden if recorded(options) == "digests" else is_short
    return _Same(cache, coding, target, cache.noted, facts, parent, shown)


def _some(
    kept: Kept[..., Any],
    same: _Same,
    items: Sequence[tuple[Any, ...]],
    batch: Batch,
    flight: Flights,
) -> Iterator[Any]:
    """Make some hundreds of calls; give their results in order."""
    cache, coding, *_ = same
    locator, binder, follows = kept.locator, kept._binder, kept._cache is None
    calls = [_located(kept, coding, args) for args in items]
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
            or cache.noted is not same.noted
            or (follows and _elsewhere(kept, cache))
        ):
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
        yield _computed(same, args, call, batch, flight)


def _elsewhere(kept: Kept[..., Any], cache: Cache) -> bool:
    """Whether calls go to another cache by now, as far as can be told."""
    try:
        return kept.cache is not cache
    except KeptError:
        # As in `_same`.
        return True


def _located(kept: Kept[..., Any], coding: Coding, args: tuple[Any, ...]) -> _Located | None:
    """Return where a call is; None where that is known already, or not as plain as this."""
    try:
        values = kept._bind(*args)
        types = tuple(map(type, values))
        if not SCALARS.issuperset(types) or values in coding.known.get(types, ()):
            return None
    except TypeError:
        # The function takes no such arguments, or a class can't be hashed.
        return None
    items, pairs = [], []
    try:
        for name, value in zip(kept._binder.names, values, strict=True):
            raw = digest_bytes(value)
            items.append((name, value, raw))
            pairs.append((name, raw))
    except Undigestible:
        return None
    key = call_key(coding.name, coding.tag, pairs)
    kept.locator.remember(values, key, coding)
    return values, key, items


def _lacking(cache: Cache, keys: Iterable[bytes | None]) -> tuple[Any, Collection[bytes]]:
    """Return the keys that have no call, and the token of the commit after which that was so."""
    try:
        return cache.lacking([key for key in keys if key is not None])
    except StoreError:
        # As above.
        return None, ()


def _computed(
    same: _Same, args: tuple[Any, ...], call: _Located, batch: Batch, flight: Flights
) -> Any:
    """Make a call that is leased and not kept."""
    model = same.target
    _, key, items = call
    bodies, options, holds = model.bodies, model.options, model.same
    model.key = key
    target, where = model, directory()
    # Of its own: what the body has begun may outlive it.
    here = Flight(flight, flight.locks, key)
    try:
        here.enter()
        try:
            began = begin()
            body, alone = None, ALONE[0]
            threads = None if holds is None else threading.enumerate()
            started = perf_counter()
            try:
                body = observed.begin(bodies, options.observe)
                result = model.call(*args)
            except BaseException as error:
                left(bodies, body, started)
                target = _target(same, call, batch, here, where)
                ended(target, Raise(error), flight.parent, began, body, threads, alone)
                raise
            bodies.spent = took = perf_counter() - started
            if (
                body is not None
                or type(result) not in SCALARS
                or took >= SLOW
                or here.outdated
                or alone != ALONE[0]
                or key in TROUBLES
                or REFRESHING
                or OPEN
                or (
                    MISSES[0].isEnabledFor(INFO)
                    if MISSES
                    else "logging" in sys.modules and listening()
                )
                or not (holds is None or holds())
                or same.cache.noted is not same.noted
            ):
                if body is not None:
                    body.leave()
                target = _target(same, call, batch, here, where)
                return ended(target, result, flight.parent, began, body, threads, alone)
            model.counts.computed += 1
            try:
                text = f"{{{taken(began)},{same.facts}{where}{same.parent}}}"
                made = same.cache.made(
                    key,
                    result,
                    model.name,
                    model.code,
                    Arguments(items, same.shown),
                    "done",
                    perf_counter() - began[1],
                    options.ttl,
                    "pickle",
                    Metadata(text),
                )
                batch.add(model, (key, result, *made))
            except Exception as error:
                if lost(_target(same, call, batch, here, where), error):
                    raise
            return result
        finally:
            here.over = True
            here.leave()
    finally:
        if not batch.holds(target, flight):
            flight.end_of(key)


def _target(same: _Same, call: _Located, batch: Batch, here: Flight, where: str) -> KeptTarget:
    """Return a call as the flow sees it."""
    target = copy.copy(same.target)
    target.values, target.key, target.items = call
    target.batch, target.flight, target.before = batch, here, {"": where}
    return target
