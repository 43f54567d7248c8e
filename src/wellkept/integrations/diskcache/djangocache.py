"""A cache backend of Django over a `FanoutCache`."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from wellkept.errors import ConfigError
from wellkept.integrations.diskcache.recipes import F, memoized
from wellkept.integrations.diskcache.sequences import Deque, Index
from wellkept.integrations.diskcache.sharded import FanoutCache
from wellkept.integrations.diskcache.single import Cache

try:
    from django.core.cache.backends.base import DEFAULT_TIMEOUT, BaseCache
except ImportError as _missing:
    raise ConfigError("DjangoCache needs Django: pip install django") from _missing


class DjangoCache(BaseCache):  # type: ignore[misc]  # Django ships no types
    """`"BACKEND": "wellkept.integrations.diskcache.DjangoCache"` in Django's `CACHES`.

    Args:
        directory: its `LOCATION`.
        params: `SHARDS` (8), `DATABASE_TIMEOUT` in seconds (0.01), `OPTIONS` (settings of a `Cache`), and what
            every backend of Django has.

    Raises as `FanoutCache`.
    """

    def __init__(self, directory: str | os.PathLike[str], params: Mapping[str, Any]) -> None:
        super().__init__(params)
        options = {
            key: value
            for key, value in params.get("OPTIONS", {}).items()
            if key not in ("MAX_ENTRIES", "CULL_FREQUENCY")  # Django's own, which it has read
        }
        self._cache = FanoutCache(
            directory, params.get("SHARDS", 8), params.get("DATABASE_TIMEOUT", 0.010), **options
        )

    @property
    def directory(self) -> str:
        """Its directory."""
        return self._cache.directory

    def cache(self, name: str) -> Cache:
        """See `FanoutCache.cache`."""
        return self._cache.cache(name)

    def deque(self, name: str, maxlen: float | None = None) -> Deque:
        """See `FanoutCache.deque`."""
        return self._cache.deque(name, maxlen)

    def index(self, name: str) -> Index:
        """See `FanoutCache.index`."""
        return self._cache.index(name)

    # -- items ------------------------------------------------------------------------------------

    def add(
        self,
        key: Any,
        value: Any,
        timeout: Any = DEFAULT_TIMEOUT,
        version: int | None = None,
        read: bool = False,
        tag: Any = None,
        retry: bool = True,
    ) -> bool:
        """Set a value if there is none; whether that is done. Args as of `set`."""
        made = self.make_key(key, version=version)
        return self._cache.add(made, value, self.get_backend_timeout(timeout), read, tag, retry)

    def get(
        self,
        key: Any,
        default: Any = None,
        version: int | None = None,
        read: bool = False,
        expire_time: bool = False,
        tag: bool = False,
        retry: bool = False,
    ) -> Any:
        """A value, or `default`. Other args as of `Cache.get`."""
        made = self.make_key(key, version=version)
        return self._cache.get(made, default, read, expire_time, tag, retry)

    def read(self, key: Any, version: int | None = None) -> Any:
        """A value's file, open for reading.

        Raises:
            KeyError: it is not there.
        """
        return self._cache.read(self.make_key(key, version=version))

    def set(
        self,
        key: Any,
        value: Any,
        timeout: Any = DEFAULT_TIMEOUT,
        version: int | None = None,
        read: bool = False,
        tag: Any = None,
        retry: bool = True,
    ) -> bool:
        """Set a value; whether that is done.

        Args:
            timeout: seconds, None for ever, 0 not at all; Django's setting by default.
            read, tag, retry: as of `Cache.set`.
        """
        made = self.make_key(key, version=version)
        return self._cache.set(made, value, self.get_backend_timeout(timeout), read, tag, retry)

    def touch(
        self,
        key: Any,
        timeout: Any = DEFAULT_TIMEOUT,
        version: int | None = None,
        retry: bool = True,
    ) -> bool:
        """Give a value another timeout; whether it is there."""
        made = self.make_key(key, version=version)
        return self._cache.touch(made, self.get_backend_timeout(timeout), retry)

    def pop(
        self,
        key: Any,
        default: Any = None,
        version: int | None = None,
        expire_time: bool = False,
        tag: bool = False,
        retry: bool = True,
    ) -> Any:
        """A value, removing it, or `default`."""
        return self._cache.pop(
            self.make_key(key, version=version), default, expire_time, tag, retry
        )

    def delete(self, key: Any, version: int | None = None, retry: bool = True) -> bool:
        """Remove a value; whether it was there."""
        return self._cache.delete(self.make_key(key, version=version), retry)

    def incr(
        self,
        key: Any,
        delta: float = 1,
        version: int | None = None,
        default: float | None = None,
        retry: bool = True,
    ) -> Any:
        """Add to a number; the sum.

        Raises:
            ValueError: it is not there, and `default` is None.
        """
        made = self.make_key(key, version=version)
        try:
            return self._cache.incr(made, delta, default, retry)
        except KeyError:
            raise ValueError(f"Key {made!r} not found") from None

    def decr(
        self,
        key: Any,
        delta: float = 1,
        version: int | None = None,
        default: float | None = None,
        retry: bool = True,
    ) -> Any:
        """Subtract from a number; the difference. Raises as `incr`."""
        return self.incr(key, -delta, version, default, retry)

    def has_key(self, key: Any, version: int | None = None) -> bool:
        """Whether a value is there."""
        return self.make_key(key, version=version) in self._cache

    def memoize(
        self,
        name: str | None = None,
        timeout: Any = DEFAULT_TIMEOUT,
        version: int | None = None,
        typed: bool = False,
        tag: Any = None,
        ignore: Iterable[int | str] = (),
    ) -> Callable[[F], F]:
        """A decorator that keeps what a function returns; other args as of `Cache.memoize`."""
        made: Callable[[F], F] = memoized(self, name, typed, timeout, tag, ignore, version=version)
        return made

    # -- all of them ------------------------------------------------------------------------------

    def expire(self) -> int:
        """Remove what has expired; how many they were."""
        return self._cache.expire()

    def stats(self, enable: bool = True, reset: bool = False) -> tuple[int, int]:
        """See `Cache.stats`."""
        return self._cache.stats(enable, reset)

    def create_tag_index(self) -> None:
        """See `Cache.create_tag_index`."""
        self._cache.create_tag_index()

    def drop_tag_index(self) -> None:
        """See `Cache.drop_tag_index`."""
        self._cache.drop_tag_index()

    def evict(self, tag: Any) -> int:
        """Remove the values with a tag; how many they were."""
        return self._cache.evict(tag)

    def cull(self) -> int:
        """See `Cache.cull`."""
        return self._cache.cull()

    def clear(self) -> int:
        """Remove all values; how many they were."""
        return self._cache.clear()

    def close(self, **_: Any) -> None:
        """Let go of the files; the next use opens them again."""
        self._cache.close()

    def get_backend_timeout(self, timeout: Any = DEFAULT_TIMEOUT) -> float | None:
        """Seconds until a value with that timeout expires; None: never."""
        if timeout is DEFAULT_TIMEOUT:
            timeout = self.default_timeout
        # What has timed out already was in the past for any clock.
        return -1 if timeout == 0 else timeout
