"""A cache seen in another way: read-only, filtered, limited. Each holds the cache it came from."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from wellkept.caches.cache import Cache
from wellkept.errors import ConfigError
from wellkept.records import Call, Value
from wellkept.stores.backend import Backend
from wellkept.stores.stack import StackBackend
from wellkept.stores.views import FilteredView, ReadOnlyView, View

if TYPE_CHECKING:
    from wellkept.caches.maintenance import Limit
    from wellkept.stores.record_format import Body

    pass


V = TypeVar("V")


class Derived(Cache):
    """A cache over another one's place. It pickles as the call that made it."""

    def __init__(
        self, source: Cache, backend: Backend, how: str, options: Mapping[str, Any]
    ) -> None:
        super().__init__(backend=backend, memory=source.tier.limit)
        self.source = source
        self.made_by: tuple[str, dict[str, Any]] = how, dict(options)
        """The method of `source`, and what it was given."""

    def __repr__(self) -> str:
        return f"<{self.made_by[0]} {self.source!r}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return _derive, (self.source, *self.made_by)


def _derive(source: Cache, how: str, options: dict[str, Any]) -> Cache:
    made: Cache = getattr(source, how)(**options)
    return made


def readonly(source: Cache) -> Cache:
    """Return a cache that reads from `source` and writes nothing."""
    return Derived(source, ReadOnlyView(source.backend), "readonly", {})


def filtered(source: Cache, where: Callable[[Call], bool]) -> Cache:
    """Return a cache that shows only the calls of `source` that fit."""
    return Derived(source, FilteredView(source.backend, where), "filtered", {"where": where})


def limited(source: Cache, limit: Limit) -> Cache:
    """Return a cache that keeps `source` within a limit at each write through it."""
    backend = _Limited(source, limit)
    made = Derived(source, backend, "limited", limit._asdict())
    source.bounded = made.bounded = True
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


class _Limited(View):
    """Keeps what it holds within a limit."""

    def __init__(self, source: Cache, limit: Limit) -> None:
        super().__init__(source.backend)
        self.flush: Callable[[], None] = source.flush
        from wellkept.caches.maintenance import Room  # few limit a cache

        self._room = Room(source, limit)

    def commit(self, call: Call, value: Value, uses: Mapping[bytes, int] | None = None) -> Any:
        done = self.backend.commit(call, value, uses)
        self._make_room(call)
        return done

    def commit_over(self, call: Call, value: Value, before: Body | None) -> bool:
        done = self.backend.commit_over(call, value, before)
        if done:
            self._make_room(call)
        return done

    def _make_room(self, call: Call) -> None:
        if self._room.takes(call.size):
            self.flush()  # or what was just used would look unused
            self._room.make()


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
        self.caches: tuple[Cache, ...] = _checked(caches)
        if write == "behind" and str(caches[0].url).startswith(("memory:", "void:")):
            raise ConfigError(
                "write='behind' needs a nearest cache that outlives the program, or what it could not "
                "deliver would be lost: a directory, say"
            )
        self.write = write
        backends = [cache.backend for cache in caches]
        super().__init__(
            backend=StackBackend(backends, write, [repr(c) for c in caches]), memory=memory
        )
        self.memory = memory

    _public = Cache._public | {"caches", "delivered"}

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

    _public = Cache._public | {"caches"}

    def __init__(self, *caches: Cache) -> None:
        self.caches: tuple[Cache, ...] = _checked(caches)
        backends = [cache.backend for cache in caches]
        super().__init__(
            backend=StackBackend(backends, "none", [repr(c) for c in caches]), memory=0
        )

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
