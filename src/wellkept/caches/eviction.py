"""Which calls were thrown away, and when: remembered for who asks why one is computed again.

A note `gone/<milliseconds>-<random>` has the keys of one eviction, cut to 12 bytes each. The latest are
kept.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from itertools import islice
from typing import Any, NamedTuple

from wellkept.caches.cache import Cache
from wellkept.caches.maintenance import freed, trial
from wellkept.caches.option_text import parse_duration, parse_size
from wellkept.conditions import matches
from wellkept.errors import ConfigError, DecodeError, KeptError, NotKept, StoreError
from wellkept.records import Call, Digest
from wellkept.stores.backend import each_call, inner
from wellkept.stores.base import get_many
from wellkept.stores.byte_store import Medium
from wellkept.stores.collect import Collected, collect_blobs, free_with, without_values
from wellkept.stores.embedded import Embedded
from wellkept.stores.record_format import BODY_SIZE, rowid
from wellkept.stores.stack import Layers
from wellkept.stores.views import FilteredView

_GONE = "gone/"
_CUT = 12  # bytes of a key; a mistaken one would cost nothing but a wrong word in a text
_KEYS = 20_000  # of one eviction
_EVICTIONS = 64


def remember(backend: Any, keys: Iterable[bytes]) -> None:
    """Note that these calls were evicted. A place that does not take it goes without."""
    cut = b"".join(key[:_CUT] for key in islice(keys, _KEYS))
    if not cut:
        return
    with contextlib.suppress(KeptError):
        name = f"{_GONE}{int(time.time() * 1000):015d}-{os.urandom(3).hex()}"
        backend.notes.put(name, cut)
        old = sorted(backend.notes.keys(_GONE))[:-_EVICTIONS]
        if old:
            backend.notes.delete_many(old)


def evicted_at(backend: Any, key: bytes) -> float | None:
    """When a call was last evicted, as far as that is remembered.

    Raises:
        StoreError: the place can't be read.
    """
    names = sorted(backend.notes.keys(_GONE), reverse=True)
    notes = get_many(backend.notes, names)
    for name in names:
        cut = notes.get(name, b"")
        at = cut.find(key[:_CUT])
        while at >= 0 and at % _CUT:
            at = cut.find(key[:_CUT], at + 1)
        if at >= 0:
            return int(name[len(_GONE) :].partition("-")[0]) / 1000
    return None


@dataclass(frozen=True)
class Evicted:
    """What was thrown away, or would be."""

    calls: int
    values: int
    """Results that no other call gave."""
    blobs: int
    bytes: int
    """Of records, results and blobs. The index file keeps its size; its room is used again."""
    dry_run: bool = False


@dataclass(frozen=True)
class Choice:
    """Which calls: those that fit everything that is said."""

    function: str | None = None
    before: float | None = None
    """Computed before this time."""
    keys: frozenset[str] | None = None

    def fits(self, key: str, call: Call | None) -> bool:
        """Whether a call is chosen; a damaged one (None) only by its key alone."""
        if call is None:
            return self.keys is not None and key in self.keys and self == Choice(keys=self.keys)
        return (
            (self.keys is None or call.key in self.keys)
            and (self.before is None or call.created < self.before)
            and (self.function is None or matches(call.function, self.function))
        )


def evict(
    cache: Cache,
    *,
    function: str | None = None,
    older: float | str | timedelta | None = None,
    keys: Iterable[str] | None = None,
    dry_run: bool = False,
) -> Evicted:
    """See `Cache.evict`."""
    if isinstance(keys, str):
        raise ConfigError(f"keys= takes several, not one text: {keys!r}")
    chosen = Choice(
        function,
        None if older is None else time.time() - parse_duration(older),
        None if keys is None else frozenset(_known(cache, key) for key in keys),
    )
    if chosen == Choice():
        raise ConfigError("nothing says what to evict: give function=, older= or keys=")
    cache.flush()
    return evicted(cache, _seen_by(cache, chosen), dry_run)


def evicted(cache: Cache, chosen: Choice, dry_run: bool) -> Evicted:
    """Throw calls away; raises as `Cache.evict`."""
    done = _evict(inner(cache.backend, write=True), chosen, dry_run)
    cache.tier.clear()
    return done


def _seen_by(cache: Cache, chosen: Choice) -> Choice:
    """The same choice by keys, where a cache does not see all that its place holds."""
    backend: Any = cache.backend
    while not isinstance(backend, FilteredView):
        backend = backend.backend
        if backend is None:
            return chosen
    return Choice(
        keys=frozenset(key for key, call in each_call(cache.calls) if chosen.fits(key, call))
    )


def _evict(backend: Any, chosen: Choice, dry_run: bool) -> Evicted:
    if isinstance(backend, Layers):
        return backend.each(
            lambda layer: _evict(inner(layer, write=True), chosen, dry_run),
            lambda parts: _sum(list(parts), dry_run),
        )
    if isinstance(backend, Embedded):
        return _embedded(backend, chosen, dry_run)
    if isinstance(backend, Medium):
        return _medium(backend, chosen, dry_run)
    if (away := getattr(backend, "evict", None)) is not None:  # where it is
        calls, values, blobs, size = away(chosen.function, chosen.before, chosen.keys, dry_run)
        return Evicted(calls, values, blobs, size, dry_run)
    raise StoreError(f"can't evict from {type(backend).__name__}")


def _sum(parts: list[Evicted], dry_run: bool) -> Evicted:
    """Of layers: a call that is in several counts for each."""
    return Evicted(
        sum(part.calls for part in parts),
        sum(part.values for part in parts),
        sum(part.blobs for part in parts),
        sum(part.bytes for part in parts),
        dry_run,
    )


def _known(cache: Cache, prefix: str) -> Digest:
    key = cache.expand(prefix)
    try:
        there = cache.calls.get(key) is not None
    except DecodeError:
        there = True  # damaged, and may go all the same
    if not there:
        raise NotKept(f"no call {prefix} is kept in {cache}")
    return key


def _embedded(store: Embedded, chosen: Choice, dry_run: bool) -> Evicted:
    database = store.database
    if database.readonly:
        raise StoreError(f"can't evict from {store.root}: it is read-only")
    where, values = _condition(store, chosen)
    counted: list[int] = []
    small = Collected(0, 0)
    doomed: list[tuple[bytes]] = []

    def change(c: Any) -> Collected:
        nonlocal small
        small = Collected(*c.execute(_SMALL.format(where), values * 2).fetchone())
        doomed[:] = c.execute(f"SELECT key FROM calls WHERE {where}", values).fetchall()
        c.execute(_LEAVES.format(where), values)
        counted.append(c.execute(f"DELETE FROM calls WHERE {where}", values).rowcount)
        return without_values(c)

    if dry_run:  # all is as it would be, is looked at, and is put back
        freed, blobs = trial(store, change)
    else:
        with database.writing() as c:
            freed = change(c)
        blobs = collect_blobs(store)
        remember(store, (key for (key,) in doomed))
    count = small.items + freed.items
    size = small.bytes + freed.bytes + blobs.bytes
    return Evicted(counted[-1], count, blobs.items, size, dry_run)


# Small results stand in the rows of their calls.
_SMALL = """SELECT count(DISTINCT CASE WHEN value IS NULL AND result NOT IN
(SELECT result FROM calls WHERE NOT ({0})) THEN result END), coalesce(sum(length(body)), 0)
FROM calls WHERE {0}"""
# What their arguments were made of goes with them.
_LEAVES = """DELETE FROM notes WHERE key IN
(SELECT 'leaves/' || lower(hex(key)) FROM calls WHERE {0})"""


def _condition(store: Embedded, chosen: Choice) -> tuple[str, list[Any]]:
    parts = ["1"]
    values: list[Any] = []
    if chosen.function is not None:
        rows = store.database.rows("SELECT id, CAST(name AS BLOB) FROM functions")
        names = ((id_, bytes(name or b"").decode(errors="replace")) for id_, name in rows)
        parts.append("function IN (SELECT value FROM json_each(?))")
        values.append(json.dumps([id_ for id_, name in names if matches(name, chosen.function)]))
    if chosen.before is not None:
        parts.append("created < ?")
        values.append(chosen.before)
    if chosen.keys is not None:
        parts.append("id IN (SELECT value FROM json_each(?))")
        values.append(json.dumps([rowid(bytes.fromhex(key)) for key in chosen.keys]))
    return " AND ".join(parts), values


def _medium(backend: Medium, chosen: Choice, dry_run: bool) -> Evicted:
    """On any store of bytes: by reading every call."""
    doomed: list[str] = []
    results: dict[str, int] = {}
    wanted: set[str] = set()
    for key, call in each_call(backend.calls):
        if chosen.fits(key, call):
            doomed.append(key)
            if call is not None:
                results[call.result] = call.size
        elif call is not None:
            wanted.add(call.result)
    only = results.keys() - wanted
    there = only & set(backend.values.keys())
    size = sum(results[digest] for digest in there)
    blobs = free_with(backend, doomed, only, dry_run=dry_run)
    if not dry_run:
        backend.notes.delete_many([f"leaves/{key}" for key in doomed])
        remember(backend, (bytes.fromhex(key) for key in doomed))
    return Evicted(len(doomed), len(there), blobs, size, dry_run)


_TO = 0.9  # what is over a limit is brought down to this share of it, not to do it at each commit

_LOOKS = 5  # at the most, while other threads write on


class Held(NamedTuple):
    """What a policy judges a call by. Seconds since the epoch, seconds, bytes."""

    key: str
    result: str
    created: float
    seconds: float
    size: int
    uses: int
    used: float
    there: bool
    """Whether its result is; a record may have outlived it."""


POLICIES: dict[str, Callable[[Held], Any]] = {
    "fifo": lambda call: call.created,
    "lru": lambda call: max(call.created, call.used),
    "lfu": lambda call: (call.uses, max(call.created, call.used)),
    # GreedyDual-Size-Frequency without the ageing term (Cherkasova 1998): what it costs to compute
    # again, times how often it is wanted, per byte that it takes.
    "cost": lambda call: call.seconds * (1 + call.uses) / (call.size + 512),
}
"""What is smallest goes first."""


class Limit(NamedTuple):
    """At most so many bytes of results and so many calls; None: as many as there are."""

    bytes: int | None
    calls: int | None
    policy: str


def limit_of(size: int | str | None, calls: int | None, policy: str) -> Limit:
    """Check what a user gave.

    Raises:
        ConfigError: it limits nothing, or is not what it may be.
    """
    if policy not in POLICIES:
        raise ConfigError(f"policy= is one of {', '.join(POLICIES)}, not {policy!r}")
    if size is None and calls is None:
        raise ConfigError("nothing is limited: give bytes= or calls=")
    if calls is not None and (type(calls) is not int or calls < 0):
        raise ConfigError(f"calls= is a number of calls, not {calls!r}")
    return Limit(None if size is None else parse_size(size), calls, policy)


class Room:
    """How much a cache may take before somebody has to look again."""

    def __init__(self, cache: Cache, limit: Limit) -> None:
        self._cache, self._limit = cache, limit
        self._guard, self._making = threading.Lock(), threading.Lock()
        self._left: tuple[float, float] | None = None  # bytes and calls; None: not known
        self._taken = (0, 0)  # since somebody began to look

    def takes(self, size: int) -> bool:
        """Count one more call; whether room has to be made."""
        with self._guard:
            self._taken = self._taken[0] + size, self._taken[1] + 1
            if self._left is not None:
                self._left = self._left[0] - size, self._left[1] - 1
            return self._left is None or min(self._left) < 0

    def make(self) -> None:
        """Make room, unless another thread is at it: that one looks again.

        Raises:
            StoreError: the store can't be read or written.
        """
        if not self._making.acquire(blocking=False):
            return
        try:
            for _ in range(_LOOKS):
                with self._guard:
                    self._taken = 0, 0
                left = shrink(self._cache, self._limit)
                with self._guard:
                    self._left = left[0] - self._taken[0], left[1] - self._taken[1]
                    if min(self._left) >= 0:
                        return
        finally:
            self._making.release()


def shrink(cache: Cache, limit: Limit) -> tuple[float, float]:
    """Bring a cache within a limit; how many bytes and calls it may take before the next look.

    Where there are too many bytes, results go and their records stay; where there are too many
    calls, records go too.

    Raises:
        StoreError: the store can't be read or written.
    """
    worth = POLICIES[limit.policy]
    held = sorted(_held(cache), key=lambda call: (call.there, worth(call)))
    if limit.calls is not None and len(held) > limit.calls:
        excess = len(held) - int(limit.calls * _TO)
        cache.evict(keys=[call.key for call in held[:excess]])
        held = held[excess:]
    count = len(held)
    held = [call for call in held if call.there]
    total = sum({call.result: call.size for call in held}.values())
    if limit.bytes is not None and total > limit.bytes:
        givers = Counter(call.result for call in held)
        doomed = []
        for call in held:
            if total <= limit.bytes * _TO:
                break
            givers[call.result] -= 1
            if not givers[call.result]:  # the last that gave this result
                doomed.append(call.result)
                total -= call.size
        freed(cache, doomed)
    return (
        float("inf") if limit.bytes is None else limit.bytes - total,
        float("inf") if limit.calls is None else limit.calls - count,
    )


_QUERY = f"""SELECT c.key, c.body, c.created, c.seconds, c.size, u.uses, u.used,
length(c.body) > {16 + BODY_SIZE} OR c.value IN (SELECT id FROM "values")
FROM calls c LEFT JOIN uses u ON u.id = c.id"""


def _held(cache: Cache) -> Iterator[Held]:
    backend = inner(cache.backend, write=False)
    if isinstance(backend, Embedded) and not isinstance(cache.backend, FilteredView):
        for key, body, created, seconds, size, uses, used, there in backend.database.rows(_QUERY):
            result = bytes(body[16:48]).hex()
            yield Held(
                key.hex(), result, created, seconds, size, uses or 0, used or 0.0, bool(there)
            )
        return
    results = set(cache.values.keys())
    for key, call in each_call(cache.calls):
        if call is not None:
            there = call.result in results
            row = (call.result, call.created, call.seconds, call.size, call.uses)
            yield Held(key, *row, call.used or 0.0, there)
