"""One kept call, as a generator that a sync and an async driver run.

It yields the arguments as they were given where the body is to be called with them (and is sent the
result, or a `Raise` of what the body raised), and a float where to wait for so many seconds. What it
returns is the caller's; a `Raise` is to be raised.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Generator
from time import perf_counter
from typing import Any

from wellkept._process import chance
from wellkept.caches.tier import FAILED, Entry
from wellkept.codecs import check
from wellkept.errors import REPLAYING, ConfigError, DecodeError, NewerSchema, NotKept, StoreError
from wellkept.hashing import SCALARS
from wellkept.interrupts import settle
from wellkept.memo import observed
from wellkept.memo.futures import PENDING, is_future, join
from wellkept.memo.inflight import Flight, Landing, Waiting, flights, running_loop
from wellkept.memo.observed import Bodies, Observed
from wellkept.memo.refresh import OPEN as REFRESHING
from wellkept.memo.refresh import refreshing
from wellkept.memo.storing import follow_up, metadata_of, prepare, record, store, store_error
from wellkept.memo.target import (
    MISSING,
    Given,
    Raise,
    Target,
    Threads,
    note_trouble,
    outcome,
    recording,
    replayed,
    stayed,
    tell_miss,
)
from wellkept.records import Call
from wellkept.runs.collectors import Began, begin
from wellkept.runs.listeners import INFO, LISTENERS, MISSES, SLOW, listening
from wellkept.runs.recorder import LEAVES, OPEN
from wellkept.stores.backend import inner

Flow = Generator[Given | float, Any, Any]

_PLAIN = SCALARS | {list, tuple, dict, set, Raise}
_CHANGED: Any = object()
"""In place of a result: the key was no longer right when the body was about to run."""
# For keys that are no longer right when the body is about to run.
_TRIES = 5
# Seconds between looks at a lock that somebody holds.
_FIRST_WAIT, _LONGEST_WAIT = 0.0005, 0.02
STANDING = 1.0
"""Seconds for which a computation is waited for whose event loop does not run."""


def keeping(target: Target, given: Given, again: bool = False) -> Flow:
    """The flow of one call.

    Args:
        given: the arguments as they were given, which the body is called with.
        again: compute even where a result is kept, and replace it.
    """
    for _ in range(_TRIES):
        located = False
        seen = None
        try:
            located = target.locate()
            if located and not again:
                cache = target.cache
                seen = cache.token()
                # A lease that came with the answer would be nobody's where a former result is served.
                warns = target.options.code == "warn"
                result = look(target, given, cache.find if warns else cache.claim)
                if result is not MISSING:
                    share = target.options.verify
                    if not share or type(result) is Raise or chance() >= share:
                        return result
                    return (yield from _verified(target, given, result))
        except (ConfigError, NewerSchema, NotKept):
            raise
        except Exception as error:
            if target.broke(error):
                raise
            located = False
        if not located:
            break
        if target.bodies.followed and target.learn():
            continue
        if target.options.code == "warn" and not again and target.holds():
            result = formerly(target)
            if result is not MISSING:
                return result
        if PENDING and not again:
            future = PENDING.get((id(target.cache.backend.locks), target.key))
            if future is not None:
                target.counts.waited += 1
                return join(future)
        if target.options.codec != "pickle":
            # Before the body runs, or its result would be lost.
            check(target.options.codec)
        result = yield from _miss(target, target.resolved(given), again, seen)
        if result is not _CHANGED:
            return result
        target.renew()
    else:
        target.warn("changed", "what it reads is another at each look, so nothing is kept of it")
    target.key = b""
    body = _heard if LISTENERS else _compute
    return (yield from body(target, target.resolved(given), flights.caller()))


def look(
    target: Target,
    given: Given | None = None,
    find: Callable[[bytes], Entry | None] | None = None,
    *,
    old: bool = False,
) -> Any:
    """Return the kept result, or `MISSING`; a kept exception comes as a `Raise`.

    Args:
        given: what to call again with in the background where a stale result is served; None: none is.
        find: how it is looked for: `cache.find`, `claim` or `again`.
        old: what is to be computed again, as in a `refresh` block, too.
    """
    cache, key = target.cache, target.key
    entry = (find or cache.find)(key)
    if entry is None or (REFRESHING and not old and not serves(key, entry)):
        return MISSING
    late = time.time() - entry.body.expires
    if late >= 0:
        if given is None or late >= target.options.stale:
            return MISSING
        target.counts.stale += 1
        target.refresh(given)
    try:
        value = target.value(entry)
    except DecodeError as error:
        cache.tier.clear()
        # Otherwise it was evicted between finding and loading.
        if cache.find(key) is not None:
            target.counts.damaged += cache.damage(key, error)
        return MISSING
    if target.options.output and not replayed(target):
        return MISSING
    target.hit(entry)
    return Raise.of(value) if entry.body.state == FAILED else value


def formerly(target: Target) -> Any:
    """Return what the former code of a function gave, where that is to be served; otherwise `MISSING`."""
    caller = flights.caller()
    if caller is None and _is_child():
        # Perhaps a body in another process waits for it, and would keep what it makes of it.
        return MISSING
    # Loaded on first use: few functions ask for it.
    from wellkept.memo.former import serve

    try:
        if target.cache.find(target.key) is not None:
            # It has expired, or is to be computed again.
            return MISSING
        result = serve(target, look)
    except Exception as error:
        if target.broke(error):
            raise
        return MISSING
    if result is not MISSING:
        # What is made of it is no result of today's code, whose key it would be kept under.
        SERVED[0] += 1
        if caller is None:
            ALONE[0] += 1
        flight = caller
        while flight is not None:
            flight.outdated = True
            flight = flight.parent
    return result


SERVED = [0]
"""How often that was done in this process."""
ALONE = [0]
"""How often by a thread of which it is not known whether a body waits for it."""


def _is_child() -> bool:
    """Whether `multiprocessing` has started this process."""
    processes = sys.modules.get("multiprocessing.process")
    return processes is not None and processes.parent_process() is not None


def not_of_today(target: Target) -> None:
    """Have a result not be kept whose body took what the former code of a function gave."""
    if target.key:
        note_trouble(target.key, "outdated", "")
        target.warn(
            "outdated",
            "a result is not kept, for its body took what the former code of a function gave "
            "(code='warn'): accept or forget that first, with `wellkept review`",
        )
        target.key = b""


def serves(key: bytes, entry: Entry) -> bool:
    """Whether an entry stands for a call here, and is not to be computed again."""
    block = refreshing() if REFRESHING else None
    return block is None or block.serves(key, entry.body)


def _verified(target: Target, given: Given, result: Any) -> Flow:
    """Compute again what is kept, and tell if it is another."""
    cache, key = target.cache, target.key
    before = cache.find(key)
    target.bodies.asked = True
    try:
        fresh = yield from _miss(target, target.resolved(given), True, None)
    except Exception as error:  # noqa: BLE001  a hit was asked for, and there is one
        fresh = Raise(error)
    finally:
        target.bodies.asked = False
    if type(fresh) is Raise:
        if not isinstance(fresh.error, Exception):
            return fresh
        said = f"raised {type(fresh.error).__name__}: {fresh.error}"
    else:
        if fresh is _CHANGED:
            # This is what was there when it was asked for.
            return result
        after = cache.find(key)
        if not (before and after) or before.body.result == after.body.result:
            return fresh
        said, result = "gave another result", fresh
    target.counts.drifted += 1
    target.warn(
        "drift",
        f"a kept call was computed again and {said}: "
        f"{target.title}{target.shown()} depends on more than its arguments and code",
    )
    return result


def _miss(target: Target, given: Given, again: bool, seen: tuple[int, int] | None) -> Flow:
    cache, key = target.cache, target.key
    locks = cache.backend.locks
    caller = flights.caller()
    # An exception may come anywhere below, also where nothing ends the flight.
    landing = Landing()
    flight = Flight(caller, locks, key, running_loop() if target.awaits else None, landing)
    waiting: Waiting | None = None
    try:
        try:
            delay, until = _FIRST_WAIT, None
            while True:
                leased = flight.take()
                if leased or again:
                    break
                holder = locks.holder(key)
                try:
                    noted = flights.wait(holder, caller)
                except RuntimeError:
                    # The holder waits for us: better computed twice than never.
                    break
                try:
                    if isinstance(holder, Flight):
                        if holder.gone():
                            holder.end_of(key)
                            continue
                        if holder.stands():
                            until = until or time.monotonic() + STANDING
                            if holder.thread == flight.thread or time.monotonic() > until:
                                # It goes on, perhaps, but not while we wait.
                                break
                    if waiting is None:
                        target.counts.waited += 1
                        waiting = Waiting(caller, locks, key)
                    elif waiting.stuck():
                        # Processes may wait for each other as well.
                        break
                    yield delay
                finally:
                    flights.done(caller, noted)
                delay = min(delay * 1.5, getattr(locks, "pause", _LONGEST_WAIT))
                result = look(target)
                if result is not MISSING:
                    return result
            if leased and not again and (seen is None or cache.token() != seen):
                # Kept between our look and our lock, unless both came in one answer.
                result = look(target, None, cache.again if flight.looked else cache.find)
                if result is not MISSING:
                    return result
        except (ConfigError, NewerSchema):
            raise
        except Exception as error:
            if target.broke(error):
                raise
        finally:
            if waiting is not None:
                waiting.done()
        if target.same is not None and not target.same():
            return _CHANGED
        flight.enter()
        target.flight = flight
        try:
            return (yield from (_heard if LISTENERS else _compute)(target, given, caller))
        finally:
            flight.leave()
    finally:
        batch = target.batch
        if batch is None or not batch.holds(target, flight, landing):
            flight.end()
        del landing


def _compute(target: Target, given: Given, caller: Flight | None) -> Flow:
    prepare(target)
    began = begin()
    threads = None if target.same is None or target.awaits else threading.enumerate()
    body = place = None
    alone = ALONE[0]
    started = perf_counter()
    try:
        body = observed.begin(target.bodies, target.options.observe)
        if target.options.output:
            target.output = recording()
        if target.options.tempdir:
            place = _in_fresh_directory()
        result = yield given
    finally:
        if place is not None:
            place.close()
        if target.output is not None:
            target.output.end()
        left(target.bodies, body, started)
    return ended(target, result, caller, began, body, threads, alone)


def left(bodies: Bodies, body: Observed | None, started: float) -> None:
    """Note that a body has ended, which began at `started` of `perf_counter`."""
    bodies.spent = perf_counter() - started
    if body is not None:
        body.leave()


def ended(
    target: Target,
    result: Any,
    caller: Flight | None,
    began: Began,
    body: Observed | None,
    threads: Threads | None,
    alone: int,
) -> Any:
    """Keep what a body gave, where it is to be kept; return what the call gives.

    Args:
        result: of the body, or a `Raise` of what it raised.
        caller: the computation that made the call.
        began: when the body did.
        body: what was seen of it, if it was looked at.
        threads: see `stayed`.
        alone: what `ALONE` said when it began.
    """
    call: Call | None = None
    if target.flight is not None and (target.flight.outdated or alone != ALONE[0]):
        not_of_today(target)
    kind = type(result)
    future = kind not in _PLAIN and is_future(result)
    if body is not None and target.key and not future and not target.widen(body):
        target.key = b""
    # Before the result is kept, as what is there tells why this was a miss.
    if target.key and (
        target.bodies.spent >= SLOW
        or (MISSES[0].isEnabledFor(INFO) if MISSES else "logging" in sys.modules and listening())
    ):
        tell_miss(target)
    if kind is Raise:
        error = result.error
        target.counts.failed += 1
        if target.key:
            note_trouble(target.key, "raised", type(error).__qualname__)
        try:
            if target.key and isinstance(error, target.options.errors) and stayed(target, threads):
                call = store_error(target, error, caller, began)
        finally:
            if OPEN:
                record(target, caller, began, call, error)
        return result
    target.counts.computed += 1
    if future and target.key:
        target.batch = None
        follow_up(target, result, caller, began, threads)
        return result
    try:
        if target.key and (target.same is None or stayed(target, threads)):
            call = store(target, result, caller, began)
    finally:
        if OPEN:
            record(target, caller, began, call)
    return result


def _in_fresh_directory() -> contextlib.ExitStack:
    # Loaded on first use: few functions need one.
    from wellkept.memo.fresh_directory import fresh_directory

    place = contextlib.ExitStack()
    place.enter_context(fresh_directory())
    return place


def _heard(target: Target, given: Given, caller: Flight | None) -> Flow:
    """Compute, and have the listeners hear of the begin and the end."""
    function = target.identity()[0]
    ends = [listener.begin(function, target.key.hex()) for listener in LISTENERS]
    error: BaseException | None = None
    try:
        result = yield from _compute(target, given, caller)
    except BaseException as raised:
        error = raised
        raise
    else:
        error = result.error if type(result) is Raise else None
        return result
    finally:
        for end in reversed(ends):
            end(error)


def put(target: Target, result: Any, state: str) -> Call:
    """Keep what a program says a call gives; its record, which costs nothing to compute.

    Raises:
        EncodeError, StoreError: it can't be kept.
    """
    inner(target.cache.backend, write=True)
    began = begin()
    prepare(target)
    asked = result[0] if state == "items" else result
    said = metadata_of(target, None, began, (0.0, state, asked))
    call = target.keep(result, state, 0.0, target.options.codec, said)
    if call is None or target.cache.calls.get(call.key) is None:
        raise StoreError(f"{target.cache} takes no such call of {target.title}")
    if target.leaves is not None:
        target.cache.note(LEAVES + target.key.hex(), target.leaves)
    return call


# -- the drivers ----------------------------------------------------------------------------------


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
            # The interrupt may have come between any two instructions.
            settle()
        raise
    return step, None


def drive(target: Target, given: Given, again: bool = False) -> Any:
    """Run the flow of one call to its end, and return what it gives. `Kept.__call__` does the same in
    its place.

    Args:
        again: compute even where a result is kept, and replace it.
    """
    flow = keeping(target, given, again)
    try:
        step, result = advance(flow)
        while step is not None:
            try:
                result = target.call(*step[0], **step[1])
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


async def _advance_async(flow: Flow, sent: Any = None) -> tuple[Given | None, Any]:
    try:
        step = flow.send(sent)
        while type(step) is not tuple:
            # It is loaded, for a loop runs.
            import asyncio

            await asyncio.sleep(step)  # type: ignore[arg-type]  # a float; see `Flow`
            step = next(flow)
    except StopIteration as stop:
        return None, stop.value
    except BaseException as error:
        if not isinstance(error, Exception):
            # The interrupt may have come between any two instructions.
            settle()
        raise
    return step, None


async def drive_async(
    begin: Callable[[Any, Given], tuple[Target | None, Any]],
    about: Any,
    given: Given,
    again: bool = False,
) -> Any:
    """Do as `drive` in an event loop; the body may give an awaitable.

    Args:
        begin: called with the next two once somebody awaits: the target, or None and the result of a
            hit that is found at once.
    """
    target, result = begin(about, given)
    if target is None:
        return result
    # It is loaded, for a loop runs.
    from inspect import isawaitable

    flow = keeping(target, given, again)
    try:
        step, result = await _advance_async(flow)
        while step is not None:
            try:
                result = target.call(*step[0], **step[1])
                if target.awaits or isawaitable(result):
                    result = await result
            except BaseException as error:
                step, result = await _advance_async(flow, Raise(error))
                if type(result) is Raise and result.error is error:
                    # See `drive`.
                    result = None
                    raise
            else:
                step, result = await _advance_async(flow, result)
    finally:
        flow.close()
    if type(result) is Raise:
        raise result.error
    return result


REPLAYING.add(drive_async.__code__)


def as_it_is(target: Target, given: Given) -> tuple[Target, Any]:
    """Begin with a target, for `drive_async`, and look for a hit in the flow."""
    return target, None
