"""Limits: what goes first when a cache holds too much."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from wellkept.caches.cache import Cache
from wellkept.caches.gc import freed
from wellkept.caches.sizes import parse_size
from wellkept.errors import ConfigError
from wellkept.stores.backend import each_call, inner
from wellkept.stores.body import BODY_SIZE
from wellkept.stores.embedded import Embedded

__all__ = ["POLICIES", "Limit", "Room", "limit_of", "shrink"]

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
    if isinstance(backend, Embedded) and not hasattr(cache.backend, "where"):
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
