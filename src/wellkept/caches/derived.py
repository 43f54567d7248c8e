"""A cache seen in another way: read-only, filtered, limited. Each holds the cache it came from."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from wellkept.caches.cache import Cache
from wellkept.caches.eviction import Limit, Room
from wellkept.errors import ConfigError, StoreError
from wellkept.records import Buffer, Call, Value
from wellkept.stores.backend import Backend
from wellkept.stores.base import Store
from wellkept.stores.notes import Notes
from wellkept.stores.stack import Layers

if TYPE_CHECKING:
    from wellkept.conditions import Query


V = TypeVar("V")


class Derived(Cache):
    """A cache over another one's place. It pickles as the call that made it."""

    def __init__(
        self, source: Cache, backend: Backend, how: str, options: Mapping[str, Any]
    ) -> None:
        super().__init__(backend=backend, memory=source.tier.limit)
        self.source = source
        self.made_by = how, dict(options)
        """The method of `source`, and what it was given."""

    def __repr__(self) -> str:
        return f"<{self.made_by[0]} {self.source!r}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return _derive, (self.source, *self.made_by)


def _derive(source: Cache, how: str, options: dict[str, Any]) -> Cache:
    made: Cache = getattr(source, how)(**options)
    return made


def readonly(source: Cache) -> Cache:
    """See `Cache.readonly`."""
    return Derived(source, _Through(source.backend), "readonly", {})


def filtered(source: Cache, where: Callable[[Call], bool]) -> Cache:
    """See `Cache.filtered`."""
    return Derived(source, _Filtered(source.backend, where), "filtered", {"where": where})


def limited(source: Cache, limit: Limit) -> Cache:
    """See `Cache.limited`."""
    backend = _Limited(source, limit)
    made = Derived(source, backend, "limited", limit._asdict())
    backend.flush = _flushing(made)
    return made


def _flushing(cache: Cache) -> Callable[[], None]:
    """What writes the cache's counts of uses, without keeping it alive."""
    reference = weakref.ref(cache)

    def flush() -> None:
        found = reference()
        if found is not None:
            found.flush()

    return flush


class _NoLocks:
    """Leases where nothing is kept: waiting for another's result would be in vain."""

    def acquire(self, key: bytes, owner: object = None) -> bool:
        return True

    def release(self, key: bytes, owner: object = None) -> None:
        """Nobody waits."""


class _Through:
    """A place that passes reads on, and refuses or drops writes."""

    writable = False

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.locks: Any = _NoLocks()
        self.calls: Store[Call] = _ReadOnly(backend.calls)
        self.values: Store[Value] = _ReadOnly(backend.values)
        self.notes: Notes = _ReadOnlyNotes(backend.notes)
        self.fetch_many = getattr(backend, "fetch_many", None)

    @property
    def words(self) -> Any:
        return self.backend.words

    def fetch(self, key: bytes) -> Any:
        return self.backend.fetch(key)

    def find(self, query: Query) -> Iterator[Call]:
        return self.backend.find(query)

    def found(self, query: Query) -> int | None:
        return self.backend.found(query)

    def table(self, query: Query) -> Any:
        quick: Callable[[Query], Any] | None = getattr(self.backend, "table", None)
        return None if quick is None else quick(query)

    def load(self, envelope: Any) -> tuple[Buffer, Sequence[Buffer]]:
        return self.backend.load(envelope)

    def commit(self, call: Call, value: Value, uses: Mapping[bytes, int] | None = None) -> Any:
        """Dropped: the caller has its result."""

    def count(self, uses: Mapping[bytes, int]) -> None:
        """Dropped."""

    def token(self) -> tuple[int, int] | None:
        return self.backend.token()

    def listen(self, told: Callable[[], None]) -> None:
        self.backend.listen(told)

    def stale(self) -> bool:
        return self.backend.stale()

    def close(self) -> None:
        """The place belongs to the cache that this one came from."""


class _ReadOnly(Generic[V]):
    """A store that can only be read."""

    def __init__(self, store: Store[V]) -> None:
        self._store = store

    def get(self, key: str) -> V | None:
        return self._store.get(key)

    def put(self, key: str, item: V) -> None:
        raise StoreError(f"can't keep {key}: this cache is read-only")

    def delete(self, key: str) -> None:
        raise StoreError(f"can't forget {key}: this cache is read-only")

    def keys(self, prefix: str = "") -> Iterator[str]:
        return self._store.keys(prefix)


class _ReadOnlyNotes(_ReadOnly[bytes]):
    """The same, with what notes can do beside."""

    def __init__(self, notes: Notes) -> None:
        super().__init__(notes)
        self.get_many = notes.get_many

    def create(self, key: str, item: bytes) -> bool:
        raise StoreError(f"can't keep {key}: this cache is read-only")

    def put_many(self, items: Mapping[str, Buffer]) -> None:
        for key in items:
            self.put(key, b"")

    def delete_many(self, keys: Iterable[str]) -> None:
        for key in keys:
            self.delete(key)


class _Filtered(_Through):
    """Has only the calls for which `where` holds, and takes no others."""

    writable = True

    def __init__(self, backend: Backend, where: Callable[[Call], bool]) -> None:
        super().__init__(backend)
        self.locks = backend.locks
        self.where = where
        self.fetch_many = None  # whether it has one is asked of each
        self.calls = _FilteredCalls(backend.calls, where)
        self.values, self.notes = backend.values, backend.notes

    def fetch(self, key: bytes) -> Any:
        found = self.backend.fetch(key)
        return found if found is not None and self.calls.get(key.hex()) is not None else None

    def find(self, query: Query) -> Iterator[Call]:
        calls = (call for call in self.backend.find(query._replace(limit=None)) if self.where(call))
        return islice(calls, query.limit)

    def found(self, query: Query) -> int | None:
        """Which of them it has is to be asked of each."""

    def table(self, query: Query) -> Any:
        """The same."""

    def commit(self, call: Call, value: Value, uses: Mapping[bytes, int] | None = None) -> Any:
        return self.backend.commit(call, value, uses) if self.where(call) else None

    def count(self, uses: Mapping[bytes, int]) -> None:
        self.backend.count(uses)


class _FilteredCalls:
    def __init__(self, store: Store[Call], where: Callable[[Call], bool]) -> None:
        self._store, self._where = store, where

    def get(self, key: str) -> Call | None:
        call = self._store.get(key)
        return call if call is not None and self._where(call) else None

    def put(self, key: str, item: Call) -> None:
        if self._where(item):
            self._store.put(key, item)

    def delete(self, key: str) -> None:
        if self.get(key) is not None:
            self._store.delete(key)

    def keys(self, prefix: str = "") -> Iterator[str]:
        return (key for key in self._store.keys(prefix) if self.get(key) is not None)


class _Limited(_Through):
    """Keeps what it holds within a limit."""

    writable = True

    def __init__(self, source: Cache, limit: Limit) -> None:
        super().__init__(source.backend)
        self.locks = source.backend.locks
        self.calls, self.values = source.backend.calls, source.backend.values
        self.notes = source.backend.notes
        self.flush: Callable[[], None] = source.flush
        self._room = Room(source, limit)

    def commit(self, call: Call, value: Value, uses: Mapping[bytes, int] | None = None) -> Any:
        done = self.backend.commit(call, value, uses)
        if self._room.takes(call.size):
            self.flush()  # or what was just used would look unused
            self._room.make()
        return done

    def count(self, uses: Mapping[bytes, int]) -> None:
        self.backend.count(uses)


class Stack(Cache):
    """Caches in layers: reads go near to far, and what a far one has is copied to the nearer ones.

    Args:
        caches: the nearest first.
        write: `"all"` keeps results in every layer, `"first"` in the nearest only, `"behind"` in the
            nearest at once and in the others in the background: what these don't take is delivered
            when they do, by a later program if need be.
        memory: see `wellkept.open`; of the stack, as the layers' own tiers are not used.

    A far layer that does not answer is a warning and a miss. Forgetting and evicting reach all.

    Raises:
        ConfigError: these are no caches, or the same is there twice.
    """

    def __init__(self, *caches: Cache, write: str = "all", memory: int | str = "256 MB") -> None:
        if write not in ("all", "first", "behind"):
            raise ConfigError(f"write= is 'all', 'first' or 'behind', not {write!r}")
        self.caches = _checked(caches)
        if write == "behind" and str(caches[0].url).startswith(("memory:", "void:")):
            raise ConfigError(
                "write='behind' needs a nearest cache that outlives the program, or what it could not "
                "deliver would be lost: a directory, say"
            )
        self.write = write
        backends = [cache.backend for cache in caches]
        super().__init__(backend=Layers(backends, write, [repr(c) for c in caches]), memory=memory)
        self.memory = memory

    def delivered(self, seconds: float = 30.0) -> bool:
        """Wait until the other layers have what is written behind; whether they do.

        Args:
            seconds: the longest wait. One that does not take it now is not waited for.
        """
        layers: Any = self.backend
        return not sum([behind.flush(seconds) for behind in layers.behind])

    def __repr__(self) -> str:
        return f"<wellkept.{type(self).__name__} {', '.join(map(repr, self.caches))}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return _stack, (self.caches, self.write, self.memory)


class Pool(Cache):
    """Caches to read from: the first that has a result gives it; nothing is written to any.

    Args:
        caches: one or more, in the order of asking.
    """

    def __init__(self, *caches: Cache) -> None:
        self.caches = _checked(caches)
        backends = [cache.backend for cache in caches]
        super().__init__(backend=Layers(backends, "none", [repr(c) for c in caches]), memory=0)

    def __repr__(self) -> str:
        return f"<wellkept.Pool {', '.join(map(repr, self.caches))}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return Pool, self.caches


def _checked(caches: tuple[Cache, ...]) -> tuple[Cache, ...]:
    for cache in caches:
        if not isinstance(cache, Cache):
            raise ConfigError(f"not a cache: {cache!r}; wellkept.open(…) makes one")
    if len({id(cache.backend) for cache in caches}) < len(caches):
        raise ConfigError("the same cache is there twice")
    if not caches:
        raise ConfigError("of which caches? None was given")
    return caches


def _stack(caches: tuple[Cache, ...], write: str, memory: int | str) -> Stack:
    return Stack(*caches, write=write, memory=memory)
