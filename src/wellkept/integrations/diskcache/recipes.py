"""diskcache's recipes: averages, locks, semaphores, throttles, barriers, and decorators that keep results.

Locks are those of named state, in the cache's directory: nothing evicts them, only who holds one releases it,
and it is renewed while its holder lives.
"""

from __future__ import annotations

import functools
import math
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any, Self, TypeVar

from wellkept import kv
from wellkept._process import chance
from wellkept.errors import ConfigError, DecodeError
from wellkept.hashing import digest_bytes
from wellkept.integrations.diskcache.disks import ENOVAL

F = TypeVar("F", bound=Callable[..., Any])
_TTL = 30.0


class Averager:
    """An average that grows, of all processes.

    Args:
        cache: a `Cache` or a `FanoutCache`.
        key: the item that has the sum and the count.
        expire: seconds after the last value at which it begins anew.
        tag: of the item.
    """

    def __init__(self, cache: Any, key: Any, expire: float | None = None, tag: Any = None) -> None:
        self._cache, self._key, self._options = cache, key, {"expire": expire, "tag": tag}

    def add(self, value: float) -> None:
        """Count a value in."""
        with self._cache.transact(retry=True):
            total, count = self._cache.get(self._key, (0.0, 0))
            self._cache.set(self._key, (total + value, count + 1), retry=True, **self._options)

    def get(self) -> float | None:
        """The average; None before the first value."""
        return _average(self._cache.get(self._key, (0.0, 0), retry=True))

    def pop(self) -> float | None:
        """The average, and begin anew."""
        return _average(self._cache.pop(self._key, (0.0, 0), retry=True))


def _average(found: tuple[float, int]) -> float | None:
    total, count = found
    return total / count if count else None


class BoundedSemaphore:
    """At most so many at a time, of all processes.

    Args:
        cache: a `Cache` or a `FanoutCache`, in whose directory it is.
        key: which one.
        value: how many.
        expire: seconds after which what a process holds that died is free; 30 by default.
        tag: taken and passed over: what is held is not evicted.
    """

    _what = "semaphore"

    def __init__(
        self, cache: Any, key: Any, value: int = 1, expire: float | None = None, tag: Any = None
    ) -> None:
        self._of = kv.BoundedSemaphore(*_place(cache, key), value, ttl=expire or _TTL)

    def acquire(self) -> None:
        """Wait for one, and take it."""
        self._of.acquire()

    def release(self) -> None:
        """Give it back.

        Raises:
            AssertionError: this thread has none, or has lost it.
        """
        try:
            self._of.release()
        except kv.NotHeld as error:
            raise AssertionError(f"cannot release un-acquired {self._what}: {error}") from error

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(self, *error: object) -> None:
        self.release()


class Lock(BoundedSemaphore):
    """One at a time, of all processes. Args as of a `BoundedSemaphore`."""

    _what = "lock"
    _kind: type[kv.Lock] = kv.Lock

    def __init__(self, cache: Any, key: Any, expire: float | None = None, tag: Any = None) -> None:
        self._of = self._kind(*_place(cache, key), ttl=expire or _TTL)

    def locked(self) -> bool:
        """Whether anybody holds it."""
        return self._of.locked()


class RLock(Lock):
    """One at a time, who may take it again; free when it was released as often. Args as of a `Lock`."""

    _kind = kv.RLock


def _place(cache: Any, key: Any) -> tuple[kv.ExecutionStore, str]:
    """The store of named state, and the name there, of a lock with any key."""
    store = cache.store
    plain = isinstance(key, str) and len(key) <= 200 and key.isprintable()
    return store, f"key {key}" if plain else f"digest {digest_bytes(key).hex()}"


def throttle(
    cache: Any,
    count: float,
    seconds: float,
    name: str | None = None,
    expire: float | None = None,
    tag: Any = None,
    time_func: Callable[[], float] = time.time,
    sleep_func: Callable[[float], object] = time.sleep,
) -> Callable[[F], F]:
    """A decorator: no more than so many calls in so many seconds, of all processes; further ones wait.

    Args:
        cache: a `Cache` or a `FanoutCache`.
        count, seconds: how many, in how long.
        name: of the item that counts; the function's module and name by default.
        expire, tag: of that item.
        time_func, sleep_func: the clock.
    """
    if not (count > 0 and seconds > 0):
        raise ConfigError(f"count and seconds are above 0, not {count!r} and {seconds!r}")

    def decorate(function: Any) -> Any:
        key = named(function, name)
        rate = count / seconds
        cache.set(key, (time_func(), count), expire=expire, tag=tag, retry=True)

        @functools.wraps(function)
        def run(*args: Any, **kwargs: Any) -> Any:
            while True:
                with cache.transact(retry=True):
                    now = time_func()
                    last, left = cache.get(key, (now, count))
                    left = min(left + (now - last) * rate, count)
                    if left >= 1:
                        cache.set(key, (now, left - 1), expire=expire, tag=tag, retry=True)
                        break
                sleep_func((1 - left) / rate)
            return function(*args, **kwargs)

        return run

    return decorate


def barrier(
    cache: Any,
    lock_factory: Callable[..., Any],
    name: str | None = None,
    expire: float | None = None,
    tag: Any = None,
) -> Callable[[F], F]:
    """A decorator: a call holds a lock.

    Args:
        cache: a `Cache` or a `FanoutCache`.
        lock_factory: `Lock`, `RLock` or `BoundedSemaphore`.
        name: of the lock; the function's module and name by default.
        expire, tag: of the lock.
    """

    def decorate(function: Any) -> Any:
        lock = lock_factory(cache, named(function, name), expire=expire, tag=tag)

        @functools.wraps(function)
        def run(*args: Any, **kwargs: Any) -> Any:
            with lock:
                return function(*args, **kwargs)

        return run

    return decorate


def memoize_stampede(
    cache: Any,
    expire: float,
    name: str | None = None,
    typed: bool = False,
    tag: Any = None,
    beta: float = 1,
    ignore: Iterable[int | str] = (),
) -> Callable[[F], F]:
    """A decorator like `Cache.memoize` whose results are computed again, by one thread in the background,
    some time before they expire: the more likely, the nearer that is and the longer the function takes.

    Args:
        cache: a `Cache` or a `FanoutCache`.
        expire: seconds.
        name, typed, tag, ignore: as of `Cache.memoize`.
        beta: above 1 earlier, below 1 later.
    """
    unknown = frozenset(ignore)

    def decorate(function: Any) -> Any:
        key_of = keys_of(function, name, typed, unknown)

        def computed(key: Any, args: Any, kwargs: Any) -> Any:
            begun = time.time()
            result = function(*args, **kwargs)
            pair = (result, time.time() - begun)
            cache.set(key, pair, expire=expire, tag=tag, retry=True)
            return result

        @functools.wraps(function)
        def run(*args: Any, **kwargs: Any) -> Any:
            key = key_of(*args, **kwargs)
            try:
                pair, at = cache.get(key, ENOVAL, expire_time=True, retry=True)
            except DecodeError:
                pair = ENOVAL
            if pair is ENOVAL:
                return computed(key, args, kwargs)
            result, seconds = pair
            left = math.inf if at is None else at - time.time()
            early = -seconds * beta * math.log(chance() or 1e-300) >= left
            # One of all who come while that takes.
            if early and cache.add((*key, "refresh"), None, expire=seconds, tag=tag, retry=True):
                threading.Thread(target=computed, args=(key, args, kwargs), daemon=True).start()
            return result

        run.__cache_key__ = key_of  # type: ignore[attr-defined]  # a public one, of diskcache
        return run

    return decorate


def memoized(
    cache: Any,
    name: str | None,
    typed: bool,
    expire: float | None,
    tag: Any,
    ignore: Iterable[int | str],
    **options: Any,
) -> Any:
    """The decorator that a cache's `memoize` gives; `options` are for its `get` and its `set`."""
    if name is not None and not isinstance(name, str):
        raise TypeError("name cannot be callable: memoize is called before it decorates")
    unknown = frozenset(ignore)

    def decorate(function: Any) -> Any:
        key_of = keys_of(function, name, typed, unknown)

        @functools.wraps(function)
        def run(*args: Any, **kwargs: Any) -> Any:
            key = key_of(*args, **kwargs)
            try:
                result = cache.get(key, ENOVAL, retry=True, **options)
            except DecodeError:
                # It is computed again.
                result = ENOVAL
            if result is ENOVAL:
                result = function(*args, **kwargs)
                # Django's default stands for a number that only it knows.
                if not (isinstance(expire, int | float) and expire <= 0):
                    cache.set(key, result, expire, tag=tag, retry=True, **options)
            return result

        run.__cache_key__ = key_of  # type: ignore[attr-defined]  # a public one, of diskcache
        return run

    return decorate


def keys_of(
    function: Any, name: str | None, typed: bool, ignore: frozenset[int | str]
) -> Callable[..., Any]:
    """What makes the key of a call: positions and names stand apart, so that no two calls share one."""
    base = named(function, name)

    def key_of(*args: Any, **kwargs: Any) -> Any:
        counted = tuple(arg for at, arg in enumerate(args) if at not in ignore)
        named = tuple(item for item in sorted(kwargs.items()) if item[0] not in ignore)
        key: tuple[Any, ...] = (base, counted, named)
        if typed:
            values = (*counted, *(value for _, value in named))
            key += (tuple(f"{type(v).__module__}.{type(v).__qualname__}" for v in values),)
        return key

    return key_of


def named(function: Any, name: str | None) -> str:
    return f"{function.__module__}.{function.__qualname__}" if name is None else name
