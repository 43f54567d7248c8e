"""One kept call, as a generator that a sync and an async driver run.

It yields the arguments as they were given where the body is to be called with them (and is sent the
result, or a `Raise` of what the body raised), and a float where to wait for so many seconds. What it
returns is the caller's; a `Raise` is to be raised.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Generator
from random import SystemRandom
from time import perf_counter
from typing import TYPE_CHECKING, Any, NamedTuple

from wellkept.caches import Cache
from wellkept.caches.tier import FAILED, Entry
from wellkept.errors import ConfigError, DecodeError, NewerSchema, NotKept
from wellkept.hashing import SCALARS
from wellkept.interrupts import settle
from wellkept.memo import observed
from wellkept.memo.futures import PENDING, is_future, join
from wellkept.memo.inflight import Flight, flights, running_loop
from wellkept.memo.record import Watch, follow_up, note_trouble, record, store, store_error
from wellkept.memo.waits import Waiting
from wellkept.records import Call, Digest
from wellkept.runs.collectors import begin
from wellkept.runs.recorder import OPEN
from wellkept.stores.leases import LOOKED, Owner

if TYPE_CHECKING:
    from wellkept.memo.kept import Kept


Given = tuple[tuple[Any, ...], dict[str, Any]]
"""The arguments of a call as the caller gave them, by position and by keyword."""

Flow = Generator[Given | float, Any, Any]

MISSING: Any = object()
_CHANGED: Any = object()
"""In place of a result: the key was no longer right when the body was about to run."""
_TRIES = 5  # for keys that are no longer right when the body is about to run
_FIRST_WAIT, _LONGEST_WAIT = 0.0005, 0.02  # seconds between looks at a lock that somebody holds
STANDING = 1.0
"""Seconds for which a computation is waited for whose event loop does not run."""


# The program's own random numbers are left alone: it may have seeded them.
_random = SystemRandom().random


def keeping(
    kept: Kept[..., Any], values: tuple[Any, ...], given: Given, again: bool = False
) -> Flow:
    """The flow of one call.

    Args:
        values: the arguments by the names of the signature, which the key is made of.
        given: the same as they were given, which the body is called with.
        again: compute even where a result is kept, and replace it.
    """
    for _ in range(_TRIES):
        found: Located | None = None
        seen = None
        try:
            found = kept.locate(values)
            if found is not None and not again:
                seen = found.cache.token()
                result = look(kept, found.cache, found.key, given, found.cache.claim)
                if result is not MISSING:
                    share = kept.options.verify
                    if not share or type(result) is Raise or _random() >= share:
                        return result
                    return (yield from _verified(kept, found, given, result))
        except (ConfigError, NewerSchema, NotKept):
            raise
        except Exception as error:
            if kept.broke(error):
                raise
            found = None
        if found is None:
            break
        if kept.locator.followed and kept.locator.learn(found.cache):
            continue
        if PENDING and not again:
            future = PENDING.get((id(found.cache.backend.locks), found.key))
            if future is not None:
                kept.counts.waited += 1
                return join(future)
        result = yield from _miss(kept, found, resolved(kept, given), again, seen)
        if result is not _CHANGED:
            return result
        kept.locator.renew()
    else:
        kept.warn("changed", "what it reads is another at each look, so nothing is kept of it")
    return (yield from _compute(kept, None, resolved(kept, given), flights.caller()))


class Located(NamedTuple):
    """Where a call's result is or will be, and the arguments that its key is made of."""

    cache: Cache
    key: bytes
    values: tuple[Any, ...]
    items: list[tuple[str, Any, bytes]] | None
    """Name, value and digest of each argument that counts; None where nothing had to be hashed."""
    leaves: bytes | None = None
    """What the arguments are made of, taken before the body may change them; see `runs.leaves`."""
    code: str = ""
    """The code identity or version that is part of the key; the body may make it another. "": ask."""
    same: Callable[[], bool] | None = None
    """Whether all that the code identity rests on is what it was; None: nothing of it can change."""

    def holds(self) -> bool:
        """Whether the key is still that of the call, as far as the code goes."""
        return self.same is None or self.same()

    def noted(self, kept: Kept[..., Any]) -> Located:
        """The same with `leaves`, if there are any that a record does not tell."""
        for item in self.items or ():
            if type(item[1]) not in SCALARS:
                break
        else:
            return self
        if kept.collectors is None:
            return self
        from wellkept.runs.nearest import packed  # most calls have scalars alone

        given = kept.locator.arguments(self)
        return self._replace(leaves=packed(given.items_given, given.shown))


class Raise:
    """An exception on its way to be raised: a kept one, or what a body raised."""

    __slots__ = ("error",)

    def __init__(self, error: BaseException) -> None:
        self.error = error

    @classmethod
    def of(cls, chain: list[BaseException]) -> Raise:
        """From a kept exception and its causes, which a pickle leaves out."""
        for error, cause in itertools.pairwise(chain):
            error.__cause__ = cause
        return cls(chain[0])


def outcome(result: Any) -> Any:
    """What a call gives: the result, unless that is an exception, which is raised."""
    if type(result) is Raise:
        raise result.error
    return result


def look(
    kept: Kept[..., Any],
    cache: Cache,
    key: bytes,
    given: Given | None = None,
    find: Callable[[bytes], Entry | None] | None = None,
) -> Any:
    """The kept result, or `MISSING`; a kept exception comes as a `Raise`.

    Args:
        given: what to call again with in the background where a stale result is served; None: none is.
        find: how it is looked for: `cache.find`, `claim` or `again`.
    """
    entry = (find or cache.find)(key)
    if entry is None or not _current(kept, entry, given):
        return MISSING
    try:
        value = cache.value(key, entry)
    except DecodeError as error:
        cache.tier.clear()
        if cache.find(key) is not None:  # otherwise it was evicted between finding and loading
            kept.counts.damaged += cache.damage(key, error)
        return MISSING
    kept.hit(cache, key, entry)
    return Raise.of(value) if entry.body.state == FAILED else value


def _current(kept: Kept[..., Any], entry: Entry, given: Given | None) -> bool:
    late = time.time() - entry.body.expires
    if late < 0:
        return True
    if given is not None and late < kept.options.stale:
        kept.counts.stale += 1
        kept.refresh(given)
        return True
    return False


def _verified(kept: Kept[..., Any], found: Located, given: Given, result: Any) -> Flow:
    """Compute again what is kept, and tell if it is another."""
    cache, key = found.cache, found.key
    before = cache.find(key)
    kept.locator.asked = True
    try:
        fresh = yield from _miss(kept, found, resolved(kept, given), True, None)
    except Exception as error:  # noqa: BLE001  a hit was asked for, and there is one
        fresh = Raise(error)
    finally:
        kept.locator.asked = False
    if type(fresh) is Raise:
        if not isinstance(fresh.error, Exception):
            return fresh
        said = f"raised {type(fresh.error).__name__}: {fresh.error}"
    else:
        if fresh is _CHANGED:
            return result  # of what was there when it was asked for
        after = cache.find(key)
        if not (before and after) or before.body.result == after.body.result:
            return fresh
        said, result = "gave another result", fresh
    kept.counts.drifted += 1
    kept.warn(
        "drift",
        f"a kept call was computed again and {said}: "
        f"{kept.__qualname__}{kept.locator.shown(found)} depends on more than its arguments and code",
    )
    return result


def resolved(kept: Kept[..., Any], given: Given) -> Given:
    """Arguments given as digests, replaced by the values that they name.

    No body may run on a name in place of a value, so what can't be loaded is an error here.

    Raises:
        NotKept: there is no such value.
        KeptError: it can't be loaded.
    """
    args, kwargs = given
    if Digest in map(type, args):
        args = kept.loaded(args)
    if kwargs and Digest in map(type, kwargs.values()):
        kwargs = dict(zip(kwargs, kept.loaded(tuple(kwargs.values())), strict=True))
    return args, kwargs


def _miss(
    kept: Kept[..., Any],
    found: Located,
    given: Given,
    again: bool,
    seen: tuple[int, int] | None,
) -> Flow:
    cache, key = found.cache, found.key
    locks = cache.backend.locks
    caller = flights.caller()
    flight = Flight(caller, locks, key, running_loop() if kept.awaits else None)
    landing = flight.landing()  # an exception may come anywhere below, also where nothing ends it
    waiting: Waiting | None = None
    try:
        try:
            delay, until = _FIRST_WAIT, None
            while True:
                leased: int = flight.take()
                if leased or again:
                    break
                holder = locks.holder(key)
                try:
                    noted = flights.wait(holder, caller)
                except RuntimeError:  # the holder waits for us: better computed twice than never
                    break
                try:
                    if isinstance(holder, Flight):
                        if holder.gone():
                            holder.end()
                            continue
                        if holder.stands():
                            until = until or time.monotonic() + STANDING
                            if holder.thread == flight.thread or time.monotonic() > until:
                                break  # it goes on, perhaps, but not while we wait
                    if waiting is None:
                        kept.counts.waited += 1
                        waiting = Waiting(caller, locks, key)
                    elif waiting.stuck():  # the same, over processes
                        break
                    yield delay
                finally:
                    flights.done(caller, noted)
                delay = min(delay * 1.5, getattr(locks, "pause", _LONGEST_WAIT))
                result = look(kept, cache, key)
                if result is not MISSING:
                    return result
            if leased and not again and (seen is None or cache.token() != seen):
                # Kept between our look and our lock, unless both came in one answer.
                find = cache.again if leased == LOOKED else cache.find
                result = look(kept, cache, key, None, find)
                if result is not MISSING:
                    return result
        except (ConfigError, NewerSchema):
            raise
        except Exception as error:
            if kept.broke(error):
                raise
        finally:
            if waiting is not None:
                waiting.done()
        if not found.holds():
            return _CHANGED
        flight.enter()
        try:
            return (yield from _compute(kept, found, given, caller))
        finally:
            flight.leave()
    finally:
        flight.end()
        del landing


def _compute(
    kept: Kept[..., Any], found: Located | None, given: Given, caller: Flight | None
) -> Flow:
    if found is not None:
        found = found.noted(kept)
    began = begin()
    call: Call | None = None
    watch = None if found is None or found.same is None else Watch(kept, found)
    looked = None
    started = perf_counter()
    try:
        looked = observed.begin(kept)
        result = yield given
    finally:
        kept.locator.spent = perf_counter() - started
        if looked is not None:
            looked.leave()
    if looked is not None and found is not None and not is_future(result):
        found = looked.located(found)
    if type(result) is Raise:
        error = result.error
        kept.counts.failed += 1
        if found is not None:
            note_trouble(found.key, "raised", type(error).__qualname__)
        try:
            wanted = isinstance(error, kept.options.errors)
            if found is not None and wanted and (watch is None or watch.ended()):
                call = store_error(kept, found, error, caller, began)
        finally:
            if OPEN:
                record(kept, found, caller, began, call, error)
        return result
    kept.counts.computed += 1
    if found is not None and is_future(result):
        follow_up(kept, found, result, caller, began, watch)
        return result
    try:
        if found is not None and (watch is None or watch.ended()):
            call = store(kept, found, result, caller, began)
    finally:
        if OPEN:
            record(kept, found, caller, began, call)
    return result


def advance(flow: Flow, sent: Any = None) -> tuple[Given | None, Any]:
    """Run a flow until the body is to be called: its arguments. At the end: None, and the outcome.

    Args:
        sent: what the body gave, or a `Raise` of what it raised.
    """
    try:
        step = flow.send(sent)
        while type(step) is not tuple:
            time.sleep(step)  # type: ignore[arg-type]  # a float; see `Flow`
            step = next(flow)
    except StopIteration as stop:
        return None, stop.value
    except BaseException as error:
        if not isinstance(error, Exception):
            settle()  # it may have come between any two instructions
        raise
    return step, None


async def advance_async(flow: Flow, sent: Any = None) -> tuple[Given | None, Any]:
    """The same in an event loop."""
    try:
        step = flow.send(sent)
        while type(step) is not tuple:
            import asyncio  # loaded: a loop runs

            await asyncio.sleep(step)  # type: ignore[arg-type]  # a float; see `Flow`
            step = next(flow)
    except StopIteration as stop:
        return None, stop.value
    except BaseException as error:
        if not isinstance(error, Exception):
            settle()  # it may have come between any two instructions
        raise
    return step, None


def drive(kept: Kept[..., Any], values: tuple[Any, ...], given: Given, again: bool = False) -> Any:
    """Run the flow of one call to its end; what it gives. `Kept.__call__` does the same in its place.

    Args:
        again: compute even where a result is kept, and replace it.
    """
    flow = keeping(kept, values, given, again)
    try:
        step, result = advance(flow)
        while step is not None:
            try:
                result = kept.__wrapped__(*step[0], **step[1])
            except BaseException as error:
                step, result = advance(flow, Raise(error))
                if type(result) is Raise and result.error is error:
                    # Raised on from here, it has no frame of the flow, and its context stays.
                    result = None
                    raise
            else:
                step, result = advance(flow, result)
    finally:
        flow.close()
    return outcome(result)


def refresh(kept: Kept[..., Any], given: Given) -> None:
    """Compute a stale result again in the background, once at a time."""
    found = kept._located(kept._values(*given))
    locks, look = found.cache.backend.locks, Owner()
    taken = False
    try:
        taken = locks.acquire(found.key, look)  # whether somebody is at it already
    finally:
        look.over = True
        locks.release(found.key, look)
    if taken:
        thread = threading.Thread(
            target=_refresh, args=(kept, given), name="wellkept-refresh", daemon=True
        )
        thread.start()


def _refresh(kept: Kept[..., Any], given: Given) -> None:
    try:
        kept._run(*given, again=True)
    except Exception as error:  # noqa: BLE001  nobody else would hear of it
        kept.warn("refresh", f"refreshing a stale result failed: {error!r}")
