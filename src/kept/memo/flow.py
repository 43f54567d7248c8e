"""One kept call, as a generator that a sync and an async driver run.

It yields a tuple of bound values where the body is to be called with them (and is sent the result,
or thrown the exception), and a float where to wait for so many seconds. What it returns is the
caller's.
"""

from __future__ import annotations

import time
from collections.abc import Generator
from typing import TYPE_CHECKING, Any, NamedTuple

from kept.caches import Cache
from kept.caches.tier import FAILED, Entry
from kept.errors import (
    ConfigError,
    DecodeError,
    EncodeError,
    KeptError,
    NewerSchema,
    NotKept,
    StoreError,
    Undigestible,
)
from kept.memo.flights import Flight, current, flights
from kept.records import Digest

if TYPE_CHECKING:
    from kept.memo.kept import Kept

__all__ = ["MISSING", "Flow", "Located", "Raise", "keeping", "kind_of", "look", "store"]

Flow = Generator[tuple[Any, ...] | float, Any, Any]

MISSING: Any = object()
_FIRST_WAIT, _LONGEST_WAIT = 0.0005, 0.02  # seconds between looks at a lock that somebody holds


def keeping(kept: Kept[..., Any], values: tuple[Any, ...], again: bool = False) -> Flow:
    """The flow of one call.

    Args:
        again: compute even where a result is kept, and replace it.
    """
    try:
        found = kept.locate(values)
        if found is None:
            return (yield values)
        cache, key = found.cache, found.key
        if not again:
            result = look(kept, cache, key, values)
            if result is not MISSING:
                return result
        values = _resolved(cache, values)
    except (ConfigError, NewerSchema, NotKept):
        raise
    except Exception as error:
        if kept.broke(error):
            raise
        return (yield values)
    return (yield from _miss(kept, found, values, again))


class Located(NamedTuple):
    """Where a call's result is or will be, and the arguments that its key is made of."""

    cache: Cache
    key: bytes
    items: list[tuple[str, Any, bytes]]
    """Name, value and digest of each argument that counts."""


class Raise:
    """A kept exception on its way to be raised."""

    __slots__ = ("error",)

    def __init__(self, error: BaseException) -> None:
        self.error = error


def look(
    kept: Kept[..., Any], cache: Cache, key: bytes, values: tuple[Any, ...] | None = None
) -> Any:
    """The kept result, or `MISSING`; a kept exception comes as a `Raise`.

    Args:
        values: what to call again in the background where a stale result is served; None: none is.
    """
    entry = cache.find(key)
    if entry is None or not _current(kept, entry, values):
        return MISSING
    try:
        value = cache.value(key, entry)
    except DecodeError as error:
        cache.damage(key, error)
        kept.counts.damaged += 1
        return MISSING
    kept.hit(cache, key, entry)
    return Raise(value) if entry.body.state == FAILED else value


def _current(kept: Kept[..., Any], entry: Entry, values: tuple[Any, ...] | None) -> bool:
    late = time.time() - entry.body.expires
    if late < 0:
        return True
    if values is not None and late < kept.options.stale:
        kept.counts.stale += 1
        kept.refresh(values)
        return True
    return False


def _resolved(cache: Cache, values: tuple[Any, ...]) -> tuple[Any, ...]:
    """Arguments given as digests, replaced by the values that they name."""
    if Digest not in map(type, values):
        return values
    return tuple(cache.load(v) if type(v) is Digest else v for v in values)


def _miss(kept: Kept[..., Any], found: Located, values: tuple[Any, ...], again: bool) -> Flow:
    cache, key, _ = found
    locks = cache.place.locks
    leased = False
    caller = current.get()
    table = id(locks)
    try:
        seen = cache.token()
        delay = _FIRST_WAIT
        while not (leased := locks.acquire(key)):
            if again:
                break
            try:
                holder = flights.wait(table, key, caller)
            except RuntimeError:  # the holder waits for us: better computed twice than never
                break
            try:
                if delay == _FIRST_WAIT:
                    kept.counts.waited += 1
                yield delay
            finally:
                flights.done(caller, holder)
            delay = min(delay * 1.5, _LONGEST_WAIT)
            result = look(kept, cache, key)
            if result is not MISSING:
                return result
        if leased and not again and (seen is None or cache.token() != seen):
            result = look(kept, cache, key)  # kept between our look and our lock
            if result is not MISSING:
                locks.release(key)
                return result
    except (ConfigError, NewerSchema):
        raise
    except Exception as error:
        if kept.broke(error):
            raise
    flight = Flight(caller)
    if leased:
        flights.begin(table, key, flight)
    token = current.set(flight)
    try:
        return (yield from _compute(kept, found, values))
    finally:
        try:
            current.reset(token)
        except ValueError:  # an async generator was closed from another context
            pass
        if leased:
            flights.end(table, key)
            locks.release(key)


def _compute(kept: Kept[..., Any], found: Located, values: tuple[Any, ...]) -> Flow:
    began = time.perf_counter()
    try:
        result = yield values
    except kept.options.errors as error:
        kept.counts.failed += 1
        store(kept, found, error, time.perf_counter() - began, "failed")
        raise
    except BaseException:
        kept.counts.failed += 1
        raise
    kept.counts.computed += 1
    store(kept, found, result, time.perf_counter() - began)
    return result


def store(
    kept: Kept[..., Any], found: Located, result: Any, seconds: float, state: str = "done"
) -> None:
    """Keep a result, unless `when` says no or it can't be kept."""
    options = kept.options
    try:
        if options.when is not None and state == "done" and not options.when(result):
            return
        found.cache.keep(
            found.key,
            result,
            function=kept.function_name,
            code=kept.code_tag,
            arguments=kept.arguments(found),
            state=state,
            seconds=seconds,
            ttl=options.ttl,
            codec="pickle" if state == "failed" else options.codec,
        )
    except Exception as error:
        if kept.broke(error):
            raise


def kind_of(error: Exception) -> str:
    """Which count of `Stats` a failure of caching goes to."""
    if isinstance(error, Undigestible):
        return "undigestible"
    if isinstance(error, EncodeError):
        return "unstorable"
    if isinstance(error, (StoreError, KeptError, OSError)):
        return "unavailable"
    return "unstorable"
