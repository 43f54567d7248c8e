"""diskcache's `FanoutCache`: several caches as one, so that several can write at once."""

from __future__ import annotations

import contextlib
import itertools
import os
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from wellkept.errors import ConfigError
from wellkept.integrations.diskcache.disks import ENOVAL, Disk
from wellkept.integrations.diskcache.item_table import (
    DEFAULT_SETTINGS,
    OfDirectory,
    directory_of,
    tell_of_diskcache,
)
from wellkept.integrations.diskcache.sequences import Deque, Index
from wellkept.integrations.diskcache.single import Cache
from wellkept.kv.ordered_items import Timeout

P = ParamSpec("P")
R = TypeVar("R")


class _Shard(Cache):
    _tells = False


def _in_time(late: R, do: Callable[P, R], *args: P.args, **options: P.kwargs) -> R:
    """What it gives; `late` if that takes too long."""
    try:
        return do(*args, **options)
    except Timeout:
        return late


class FanoutCache(OfDirectory):
    """A cache in several parts, by its keys; of a method that has to wait for longer than the timeout, the
    answer is that of a miss.

    Args:
        directory: made when needed; None: a temporary one, which stays.
        shards: how many parts; the same for all who use the directory.
        timeout: seconds to wait for others that write.
        disk, trust, settings: as of a `Cache`; `size_limit` is of all parts together.

    Raises:
        ConfigError: an argument or a setting is wrong.
        UntrustedSource: others can write to the directory, and it is not trusted.
        StoreError: the directory can't be used.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str] | None = None,
        shards: int = 8,
        timeout: float = 0.010,
        disk: type[Disk] = Disk,
        *,
        trust: bool = False,
        **settings: Any,
    ) -> None:
        if type(shards) is not int or shards < 1:
            raise ConfigError(f"shards is how many parts there are, above 0, not {shards!r:.80}")
        self._directory = directory_of(directory)
        self._count, self._disk, self._trust = shards, disk, trust
        settings["size_limit"] = settings.get("size_limit", DEFAULT_SETTINGS["size_limit"]) / shards
        place = Path(self._directory)
        tell_of_diskcache(
            place,
            place / "000",
            "`wellkept.integrations.importers.from_diskcache(old, into=FanoutCache(new))`",
        )
        self._shards = tuple(
            _Shard(
                os.path.join(self._directory, f"{number:03d}"),  # noqa: PTH118  text, as disks have it
                timeout,
                disk,
                trust=trust,
                **settings,
            )
            for number in range(shards)
        )
        self._hash = self._shards[0].disk.hash
        self._parts: dict[tuple[str, str], Any] = {}

    def __getattr__(self, name: str) -> Any:
        if name in DEFAULT_SETTINGS or name in ("timeout", "disk"):
            return getattr(self._shards[0], name)
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def _shard(self, key: Any) -> Cache:
        return self._shards[self._hash(key) % self._count]

    @contextlib.contextmanager
    def transact(self, retry: bool = True) -> Iterator[None]:
        """Return a block that is one transaction of all parts: others wait to write, and an error undoes all
        of it. A process that dies just as the block ends may have changed some parts alone.

        Raises:
            ConfigError: `retry` is False: parts that are held already would have to be let go of again.
        """
        if not retry:
            raise ConfigError("retry is True in a FanoutCache, whose parts are locked one by one")
        with contextlib.ExitStack() as stack:
            for shard in self._shards:
                stack.enter_context(shard.transact(retry=True))
            yield

    # -- items ------------------------------------------------------------------------------------

    def set(
        self,
        key: Any,
        value: Any,
        expire: float | None = None,
        read: bool = False,
        tag: Any = None,
        retry: bool = False,
    ) -> bool:
        """Set an item; whether that is done. Args as of `Cache.set`."""
        return _in_time(False, self._shard(key).set, key, value, expire, read, tag, retry)

    def __setitem__(self, key: Any, value: Any) -> None:
        self._shard(key)[key] = value

    def touch(self, key: Any, expire: float | None = None, retry: bool = False) -> bool:
        """Let an item expire so many seconds from now, or with None never; whether that is done."""
        return _in_time(False, self._shard(key).touch, key, expire, retry)

    def add(
        self,
        key: Any,
        value: Any,
        expire: float | None = None,
        read: bool = False,
        tag: Any = None,
        retry: bool = False,
    ) -> bool:
        """Set an item if there is none, atomically; whether that is done. Args as of `Cache.set`."""
        return _in_time(False, self._shard(key).add, key, value, expire, read, tag, retry)

    def incr(
        self, key: Any, delta: float = 1, default: float | None = 0, retry: bool = False
    ) -> Any:
        """Add to a number, atomically; the sum, or None. Args and errors as of `Cache.incr`."""
        return _in_time(None, self._shard(key).incr, key, delta, default, retry)

    def decr(
        self, key: Any, delta: float = 1, default: float | None = 0, retry: bool = False
    ) -> Any:
        """Subtract from a number, atomically; the difference, or None."""
        return _in_time(None, self._shard(key).decr, key, delta, default, retry)

    def get(
        self,
        key: Any,
        default: Any = None,
        read: bool = False,
        expire_time: bool = False,
        tag: bool = False,
        retry: bool = False,
    ) -> Any:
        """An item's value, or `default`. Args as of `Cache.get`."""
        # `_in_time` would make a hit dearer.
        try:
            return self._shard(key).get(key, default, read, expire_time, tag, retry)
        except Timeout:
            return default

    def __getitem__(self, key: Any) -> Any:
        return self._shard(key)[key]

    def read(self, key: Any) -> Any:
        """An item's file, open for reading.

        Raises:
            KeyError: it is not there.
        """
        return self._shard(key).read(key, retry=True)

    def __contains__(self, key: Any) -> bool:
        return key in self._shard(key)

    def pop(
        self,
        key: Any,
        default: Any = None,
        expire_time: bool = False,
        tag: bool = False,
        retry: bool = False,
    ) -> Any:
        """An item's value, removing it, or `default`; atomically. Args as of `Cache.get`."""
        return _in_time(default, self._shard(key).pop, key, default, expire_time, tag, retry)

    def delete(self, key: Any, retry: bool = False) -> bool:
        """Remove an item; whether that is done."""
        return _in_time(False, self._shard(key).delete, key, retry)

    def __delitem__(self, key: Any) -> None:
        del self._shard(key)[key]

    # -- all of them ------------------------------------------------------------------------------

    def check(self, fix: bool = False, retry: bool = False) -> list[warnings.WarningMessage]:
        """Warnings of what is not as it should be. Args as of `Cache.check`."""
        return [found for shard in self._shards for found in shard.check(fix, retry)]

    def expire(self, retry: bool = False) -> int:
        """Remove what has expired; how many they were."""
        now = time.time()
        return self._removed(lambda shard: shard.expire(now, retry=retry))

    def evict(self, tag: Any, retry: bool = False) -> int:
        """Remove the items with a tag; how many they were."""
        return self._removed(lambda shard: shard.evict(tag, retry=retry))

    def cull(self, retry: bool = False) -> int:
        """Remove what has expired, and then what goes first until the size is within its limit."""
        return self._removed(lambda shard: shard.cull(retry=retry))

    def clear(self, retry: bool = False) -> int:
        """Remove all items; how many they were."""
        return self._removed(lambda shard: shard.clear(retry=retry))

    def _removed(self, remove: Callable[[Cache], int]) -> int:
        total = 0
        for shard in self._shards:
            while True:
                try:
                    total += remove(shard)
                except Timeout as timeout:
                    total += timeout.args[0]
                else:
                    break
        return total

    def stats(self, enable: bool = True, reset: bool = False) -> tuple[int, int]:
        """How many reads were hits, and how many misses. Args as of `Cache.stats`."""
        hits, misses = zip(*(shard.stats(enable, reset) for shard in self._shards), strict=True)
        return sum(hits), sum(misses)

    def volume(self) -> int:
        """About how many bytes the items have."""
        return sum(shard.volume() for shard in self._shards)

    def reset(self, key: str, value: Any = ENOVAL) -> Any:
        """A setting, read anew, or set in all parts; `size_limit` is that of one part."""
        result = None
        for shard in self._shards:
            while True:
                try:
                    result = shard.reset(key, value)
                except Timeout:
                    continue
                break
        return result

    def __iter__(self) -> Iterator[Any]:
        """The keys, part by part, in each in the order in which they were inserted."""
        return itertools.chain.from_iterable([iter(shard) for shard in self._shards])

    def __reversed__(self) -> Iterator[Any]:
        return itertools.chain.from_iterable([reversed(shard) for shard in reversed(self._shards)])

    def __len__(self) -> int:
        return sum(map(len, self._shards))

    # -- what else is in its directory ------------------------------------------------------------

    def cache(
        self, name: str, timeout: float = 60, disk: type[Disk] | None = None, **settings: Any
    ) -> Cache:
        """A `Cache` of that name in the directory `cache/`.

        Args:
            timeout, disk, settings: as of a `Cache`; the disk of this cache by default.
        """
        made: Cache = self._part("cache", name, timeout, disk, lambda cache: cache, settings)
        return made

    def deque(self, name: str, maxlen: float | None = None) -> Deque:
        """A `Deque` of that name in the directory `deque/`."""
        made: Deque = self._part(
            "deque",
            name,
            60,
            None,
            lambda cache: Deque.fromcache(cache, maxlen=maxlen),
            {"eviction_policy": "none"},
        )
        return made

    def index(self, name: str) -> Index:
        """An `Index` of that name in the directory `index/`."""
        made: Index = self._part(
            "index", name, 60, None, Index.fromcache, {"eviction_policy": "none"}
        )
        return made

    def _part(
        self,
        kind: str,
        name: str,
        timeout: float,
        disk: type[Disk] | None,
        make: Callable[[Cache], Any],
        settings: dict[str, Any],
    ) -> Any:
        if (kind, name) not in self._parts:
            below = name.split("/")
            if not all(part.strip(".") for part in below):
                raise ConfigError(f"the name of a {kind} is that of a directory, not {name!r:.80}")
            directory = os.path.join(self._directory, kind, *below)  # noqa: PTH118  as above
            chosen = self._disk if disk is None else disk
            cache = Cache(directory, timeout, chosen, trust=self._trust, **settings)
            self._parts[kind, name] = make(cache)
        return self._parts[kind, name]

    # -- its life ---------------------------------------------------------------------------------

    def close(self) -> None:
        """Let go of the files; the next use opens them again."""
        for shard in self._shards:
            shard.close()
        self._parts.clear()

    def __getstate__(self) -> tuple[Any, ...]:
        return self._directory, self._count, self.timeout, self._disk, self._trust

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        directory, shards, timeout, disk, trust = state
        self.__init__(directory, shards, timeout, disk, trust=trust)  # type: ignore[misc]  # as diskcache's
