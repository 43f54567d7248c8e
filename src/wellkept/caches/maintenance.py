"""What one does with the whole of a cache: throwing away what is chosen, and keeping within limits."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, NamedTuple

from wellkept.caches.by_hand import unneeded
from wellkept.caches.cache import Cache
from wellkept.caches.option_text import parse_duration, parse_size
from wellkept.conditions import matches
from wellkept.errors import ConfigError, DecodeError, KeptError, NotKept, nearest
from wellkept.interrupts import Guard
from wellkept.records import Call, Digest
from wellkept.stores.backend import each_call
from wellkept.stores.reports import EVER, Candidate, Chosen, Collected, Evicted, FunctionRow, Policy


def chosen(cache: Cache, pattern: str) -> list[FunctionRow]:
    """The functions whose name fits a pattern; see `matches`.

    Raises:
        NotKept: there is none.
        StoreError: the store can't be read.
    """
    rows = cache.backend.functions()
    found = [row for row in rows if matches(row.function, pattern)]
    if not found:
        names = {row.function.rpartition(":")[2] for row in rows}
        hint = nearest(pattern.rpartition(":")[2], names)
        raise NotKept(f"no function {pattern} has calls in {cache}{hint}")
    return found


def freed(cache: Cache, digests: list[str]) -> Collected:
    """Throw results away, and what only they needed; the records of their calls stay.

    Raises:
        StoreError: the store can't be written.
    """
    done = cache.backend.free(digests)
    cache.tier.clear()
    return done


def evict(
    cache: Cache,
    *,
    function: Any = None,
    older: float | str | timedelta | None = None,
    keys: Iterable[str] | None = None,
    dry_run: bool = False,
) -> Evicted:
    """See `Cache.evict`."""
    if isinstance(function, Digest):
        raise ConfigError(
            f"evict() takes a function, its name or a query; a key goes into keys=[…]: {function}"
        )
    if isinstance(keys, str):
        raise ConfigError(f"keys= takes several, not one text: {keys!r}")
    wanted = None if keys is None else frozenset(_known(cache, key) for key in keys)
    if function is not None and not isinstance(function, str):
        # A query finds the calls of a function exactly, where a name may be that of several.
        from wellkept.query import Matches

        found = function if isinstance(function, Matches) else cache.query(function)
        every = frozenset(call.key for call in found.calls())
        function, wanted = None, every if wanted is None else every & wanted
    chosen = Chosen(
        function,
        None if older is None else time.time() - parse_duration(older, option="older"),
        wanted,
    )
    if chosen == Chosen():
        raise ConfigError("nothing says what to evict: give function=, older= or keys=")
    cache.flush()
    done = evicted(cache, chosen, dry_run)
    return done if dry_run else _with(done, without_arguments(cache, 0.0))


def without_arguments(cache: Cache, grace: float, dry_run: bool = False) -> Evicted:
    """Throw away the values of arguments that no call has any more; raises as `Cache.evict`.

    Args:
        grace: seconds that one stays whose call may still be computed.
    """
    gone = unneeded(cache.backend, time.time() - grace)
    if not gone:
        return Evicted(0, 0, 0, 0, dry_run)
    return evicted(cache, Chosen(keys=frozenset(gone)), dry_run)


def collect(cache: Cache, grace: float, dry_run: bool) -> Collected:
    """See `Cache.gc`."""
    gone = without_arguments(cache, grace, dry_run)
    more = Collected(gone.values + gone.blobs, gone.bytes)
    return Collected.sum((more, cache.backend.collect(grace, dry_run)))


def _with(done: Evicted, more: Evicted) -> Evicted:
    """What was thrown away; the records of arguments are no calls."""
    return replace(
        done,
        values=done.values + more.values,
        blobs=done.blobs + more.blobs,
        bytes=done.bytes + more.bytes,
    )


def clear(cache: Cache, dry_run: bool) -> Evicted:
    """See `Cache.clear`."""
    cache.flush()
    return evicted(cache, Chosen(before=EVER), dry_run)


def evicted(cache: Cache, chosen: Chosen, dry_run: bool) -> Evicted:
    """Throw calls away; raises as `Cache.evict`."""
    done = cache.backend.evict(chosen, dry_run)
    cache.tier.clear()
    return done


def _known(cache: Cache, prefix: str) -> Digest:
    key = cache.expand(prefix)
    try:
        there = cache.calls.get(key) is not None
    except DecodeError:
        there = True  # damaged, and may go all the same
    if not there:
        raise NotKept(f"no call {prefix} is kept in {cache}")
    return key


_TO = 0.9  # what is over a limit is brought down to this share of it, not to do it at each commit

_LOOKS = 5  # at the most, while other threads write on

_PATIENCE = 30.0  # seconds that a writer waits for another one to have made room


POLICIES: dict[str, Callable[[Candidate], Any]] = {
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
    policy: Policy


def limit_of(size: int | str | None, calls: int | None, policy: Policy) -> Limit:
    """Check what a user gave.

    Raises:
        ConfigError: it limits nothing, or is not what it may be.
    """
    if not callable(policy) and policy not in [*POLICIES]:
        names = ", ".join(POLICIES)
        raise ConfigError(f"policy= is one of {names}, or a function of a call, not {policy!r}")
    if size is None and calls is None:
        raise ConfigError("nothing is limited: give bytes= or calls=")
    if calls is not None and (type(calls) is not int or calls < 0):
        raise ConfigError(f"calls= is a number of calls, not {calls!r}")
    try:
        return Limit(None if size is None else parse_size(size), calls, policy)
    except ConfigError as error:
        raise ConfigError(f"bytes={size!r}: {error}") from None


class Room:
    """How much a cache may take before somebody has to look again."""

    def __init__(self, cache: Cache, limit: Limit) -> None:
        self._cache, self._limit = cache, limit
        self._guard, self._making = Guard(), Guard()
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
        """Make room, after another thread that does so already.

        Raises:
            StoreError: the store can't be read or written.
        """
        # Writers wait for the one that makes room. If they went on they could write faster than it
        # removes, and what the last of them wrote would stay, since nothing is looked at afterwards.
        if not self._making.acquire(timeout=_PATIENCE):
            return
        try:
            with self._guard:
                if self._left is not None and min(self._left) >= 0:
                    return
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


def _by_own_policy(cache: Cache, policy: Callable[[Call], Any]) -> list[Candidate]:
    """What may go, the first to go first: what has no result or no readable record, then as the policy
    says.
    """
    found = {call.key: call for call in cache.backend.candidates()}
    worths = {
        Digest(key): policy(call)
        for key, call in each_call(cache.calls)
        if call is not None and key in found and found[Digest(key)].there
    }
    first = [call for key, call in found.items() if key not in worths]
    return first + [found[key] for key in sorted(worths, key=worths.__getitem__)]


def _sum(held: Iterable[Candidate]) -> int:
    """Return the bytes of the different results."""
    return sum({call.result: call.size for call in held}.values())


def _least(held: Iterable[Candidate], total: int, most: float) -> tuple[list[str], int]:
    """Return the results that go, of calls in the order in which they should, until at most so many bytes
    are left; and how many are left."""
    listed = list(held)
    givers = Counter(call.result for call in listed)
    doomed: list[str] = []
    for call in listed:
        if total <= most:
            break
        givers[call.result] -= 1
        if not givers[call.result]:  # the last that gave this result
            doomed.append(call.result)
            total -= call.size
    return doomed, total


@dataclass(frozen=True)
class Freed:
    """What went to make room, or would go."""

    results: int
    calls: int
    """Whose results these were; their records stay."""
    bytes: int
    seconds: float
    """What computing them again takes."""
    dry_run: bool = False


def free(cache: Cache, size: int | str, *, dry_run: bool = False) -> Freed:
    """Throw results away until so many bytes are free, those first that are cheapest to have again; the
    records of their calls stay.

    Args:
        size: bytes, or text such as `"20 GB"`.
        dry_run: only say what would go.

    Raises:
        ConfigError: the size is none.
        StoreError: the store can't be read or written.
    """
    wanted = parse_size(size)
    cache.flush()
    held = sorted((call for call in cache.backend.candidates() if call.there), key=POLICIES["cost"])
    total = _sum(held)
    doomed, left = _least(held, total, total - wanted)
    gone = set(doomed)
    costs = [call.seconds for call in held if call.result in gone]
    if doomed and not dry_run:
        freed(cache, doomed)
    return Freed(len(doomed), len(costs), total - left, sum(costs), dry_run)


class Share(NamedTuple):
    """Results that are worth about the same to keep."""

    worth: float
    calls: int
    bytes: int
    seconds: float
    functions: Mapping[str, int]
    """Bytes by function."""


_FINE = 4  # shares from one power of two to the next


def shares(cache: Cache) -> list[Share]:
    """Return what `free` would throw away, the first to go first: added up in one pass that holds no calls.

    A result that several calls gave counts with each of them.

    Raises:
        StoreError: the store can't be read.
    """
    worth = POLICIES["cost"]
    found: dict[int, list[Any]] = {}
    for call in cache.backend.candidates():
        if call.there:
            value = worth(call)
            at = math.floor(math.log2(value) * _FINE) if value > 0 else -(1 << 30)
            row = found.setdefault(at, [0, 0, 0.0, {}])
            row[0], row[1], row[2] = row[0] + 1, row[1] + call.size, row[2] + call.seconds
            row[3][call.function] = row[3].get(call.function, 0) + call.size
    return [Share(0.0 if at < -9999 else 2 ** (at / _FINE), *found[at]) for at in sorted(found)]


def shrink(cache: Cache, limit: Limit) -> tuple[float, float]:
    """Bring a cache within a limit; how many bytes and calls it may take before the next look.

    Where there are too many bytes, results go and their records stay; where there are too many
    calls, records go too.

    Raises:
        StoreError: the store can't be read or written.
    """
    if callable(limit.policy):
        try:
            held = _by_own_policy(cache, limit.policy)
        except KeptError:
            raise
        except Exception as error:  # noqa: BLE001  a user's function may raise anything
            # What the policy would have spared must not go by another one.
            cache.warn("policy", f"nothing is evicted, as the policy failed: {error!r}")
            return 0.0, 0.0
    else:
        worth = POLICIES[limit.policy]
        held = sorted(cache.backend.candidates(), key=lambda call: (call.there, worth(call)))
    if limit.calls is not None and len(held) > limit.calls:
        excess = len(held) - int(limit.calls * _TO)
        cache.flush()
        evicted(cache, Chosen(keys=frozenset(call.key for call in held[:excess])), False)
        held = held[excess:]
    count = len(held)
    held = [call for call in held if call.there]
    total = _sum(held)
    if limit.bytes is not None and total > limit.bytes:
        doomed, total = _least(held, total, limit.bytes * _TO)
        freed(cache, doomed)
    return (
        float("inf") if limit.bytes is None else limit.bytes - total,
        float("inf") if limit.calls is None else limit.calls - count,
    )
