"""Results of functions as entries of a store: with a TTL, in a scope, seen and cleared like any other.

`@keep` is for what stays true; this is for what is true for a while, or for one scope.
"""

from __future__ import annotations

import functools
import inspect
import os
import sys
from collections.abc import Callable, Iterable
from types import MethodType, ModuleType
from typing import TYPE_CHECKING, Any, ParamSpec, Protocol, TypeVar, overload

from wellkept.errors import ConfigError, KeptError, tell
from wellkept.hashing import digest_bytes
from wellkept.hashing.functions import identify
from wellkept.hashing.names import placed
from wellkept.kv.entry import NAME
from wellkept.kv.execution_store import ExecutionStore
from wellkept.kv.service import seconds_of

if TYPE_CHECKING:
    from datetime import timedelta

    from wellkept.caches import Cache


P = ParamSpec("P")
R = TypeVar("R", covariant=True)
_MISSING = object()


class Cached(Protocol[P, R]):
    """What `cached` makes of a function; its methods take the function's arguments."""

    __wrapped__: Callable[..., Any]

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """The result, computed or found."""

    def uncached(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """The function itself."""

    def clear_cache(self, *args: P.args, **kwargs: P.kwargs) -> bool:
        """Forget the result of these arguments; whether there was one."""

    def clear_all(self, *args: P.args, **kwargs: P.kwargs) -> None:
        """Forget every result of the scope that these arguments have."""

    def store_of(self, *args: P.args, **kwargs: P.kwargs) -> ExecutionStore:
        """The store that the results of these arguments are in."""

    def __get__(self, instance: object, owner: type | None = None) -> Cached[..., R]:
        """A method, whose verbs are called as it is itself."""


@overload
def cached(function: Callable[P, R]) -> Cached[P, R]: ...
@overload
def cached(
    *,
    ttl: float | str | timedelta | None = None,
    scope: Any = None,
    key: Callable[..., Any] | None = None,
    ignore: Iterable[str] = (),
    version: str | None = None,
    store: str | None = None,
    cache: Cache | str | os.PathLike[str] | None = None,
) -> Callable[[Callable[P, R]], Cached[P, R]]: ...
def cached(
    function: Callable[..., Any] | None = None,
    *,
    ttl: float | str | timedelta | None = None,
    scope: Any = None,
    key: Callable[..., Any] | None = None,
    ignore: Iterable[str] = (),
    version: str | None = None,
    store: str | None = None,
    cache: Cache | str | os.PathLike[str] | None = None,
) -> Any:
    """Keep a function's results in a store, as keys that may be evicted.

    Args:
        ttl: seconds (or text such as `"5 min"`) after which a result is computed again.
        scope: text or an id, or a function of the arguments that gives one.
        key: a function of the arguments; what it gives stands for them. By default all arguments
            count, by their digests, however they are given.
        ignore: parameters that don't count, such as `["ctx"]`.
        version: another one keeps other results.
        store: the store's name; the function's module and name by default.
        cache: on whose medium it is; the active cache, at each call.

    The function has `clear_cache(…)`, which forgets the result of these arguments, `clear_all(…)`, which
    forgets all of their scope, `uncached`, and `store_of(…)`, the store of these arguments.

    Raises:
        ConfigError: an option is wrong, or `ignore` names what is no parameter.
    """
    options = {"ttl": seconds_of(ttl), "scope": scope, "key": key, "ignore": ignore}
    options |= {"version": version, "store": store, "cache": cache}
    if function is None:
        return lambda function: cached(function, **options)
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise ConfigError(f"{function.__qualname__} is a generator: use @keep, which records it")
    awaits = inspect.iscoroutinefunction(function)
    return (_CachedCoroutine if awaits else _Cached)(function, **options)


def _name_of(function: Callable[..., Any]) -> str:
    """The name that `@keep` gives a function whose code does not count, as far as a store can have it:
    by its place in the project, so that a checkout that is moved keeps its results."""
    held = getattr(function, "__self__", None)
    if not hasattr(function, "__qualname__") or not isinstance(held, ModuleType | None):
        raise ConfigError(
            f"cached() can't tell {function!r:.80} from others of its kind: give store=, the name of a "
            "store for its results, or use @keep, which counts what it holds"
        )
    name = placed(identify(function, "off").name, function)
    if len(name.encode()) <= NAME:
        return name
    return f"{name.encode()[-NAME // 2 :].decode(errors='ignore')}-{digest_bytes(name).hex()[:16]}"


class _Cached:
    """A cached function."""

    def __init__(
        self,
        function: Callable[..., Any],
        ttl: float | None,
        scope: Any,
        key: Callable[..., Any] | None,
        ignore: Iterable[str],
        version: str | None,
        store: str | None,
        cache: Any,
    ) -> None:
        if not callable(function):
            raise ConfigError(f"cached() takes a function, not {function!r:.80}")
        functools.update_wrapper(self, function)
        self.uncached = function
        self._ttl, self._scope, self._of = ttl, scope, key
        self._version, self._cache = version, cache
        self._name = store or _name_of(function)
        self._signature = inspect.signature(function)
        self._ignored = frozenset([ignore] if isinstance(ignore, str) else ignore)
        if unknown := self._ignored - set(self._signature.parameters):
            raise ConfigError(
                f"{self._name} has no parameter {', '.join(sorted(unknown))} to ignore"
            )
        self._told = False

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        backend = self._backend(args, kwargs)
        found = _MISSING if backend is None else self._read(backend)
        if found is not _MISSING:
            return found
        result = self.uncached(*args, **kwargs)
        if backend is not None:
            self._write(backend, result)
        return result

    def clear_cache(self, /, *args: Any, **kwargs: Any) -> bool:
        """Forget the result of these arguments; whether there was one."""
        return self.store_of(*args, **kwargs).delete(self._key(args, kwargs))

    def clear_all(self, /, *args: Any, **kwargs: Any) -> None:
        """Forget every result of the scope that these arguments have."""
        self.store_of(*args, **kwargs).clear()

    def store_of(self, /, *args: Any, **kwargs: Any) -> ExecutionStore:
        """The store that results of these arguments are in."""
        scope = self._scope(*args, **kwargs) if callable(self._scope) else self._scope
        return ExecutionStore.create(self._name, scope, "evict", cache=self._cache)

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        return self if instance is None else _BoundCached(self, instance)

    def __reduce__(self) -> str:
        return str(self.__qualname__)  # type: ignore[attr-defined]  # `update_wrapper` sets it

    def __repr__(self) -> str:
        return f"<wellkept.kv.cached {self._name}>"

    # -- caching must never break the caller ------------------------------------------------------

    def _backend(
        self, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[ExecutionStore, str] | None:
        self._signature.bind(*args, **kwargs)  # a wrong call fails as it does without a cache
        try:
            return self.store_of(*args, **kwargs), self._key(args, kwargs)
        except KeptError as error:
            self._tell(error)
            return None

    def _key(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
        if self._of is not None:
            counts = self._of(*args, **kwargs)
        else:
            bound = self._signature.bind(*args, **kwargs)
            # A wrapper may have defaults of its own, and tell a position from a keyword: what its inner
            # function says of itself is no answer. There a call counts as it was given.
            wrapped = hasattr(self.uncached, "__wrapped__")
            if not wrapped:
                bound.apply_defaults()
            counts = {name: v for name, v in bound.arguments.items() if name not in self._ignored}
            if wrapped:
                return digest_bytes((self._version, counts, len(args))).hex()
        return digest_bytes((self._version, counts)).hex()

    def _read(self, backend: tuple[ExecutionStore, str]) -> Any:
        try:
            return backend[0].get(backend[1], _MISSING)
        except KeptError as error:  # away, or damaged: it is computed again
            self._tell(error)
            return _MISSING

    def _write(self, backend: tuple[ExecutionStore, str], result: Any) -> None:
        try:
            backend[0].set_cache(backend[1], result, self._ttl)
        except KeptError as error:
            self._tell(error)

    def _tell(self, error: KeptError) -> None:
        if not self._told:
            self._told = True
            tell(f"a result of {self._name} is not cached: {error}")


class _CachedCoroutine(_Cached):
    """A cached coroutine function; the store is asked in a thread."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        if sys.version_info >= (3, 12):
            inspect.markcoroutinefunction(self)

    async def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        import asyncio  # a program with coroutines has imported it

        backend = await asyncio.to_thread(self._backend, args, kwargs)
        found = _MISSING if backend is None else await asyncio.to_thread(self._read, backend)
        if found is not _MISSING:
            return found
        result = await self.uncached(*args, **kwargs)
        if backend is not None:
            await asyncio.to_thread(self._write, backend, result)
        return result


class _BoundCached:
    """A cached function as a method: all that takes its arguments is given the object first."""

    def __init__(self, cached: _Cached, instance: Any) -> None:
        functools.update_wrapper(self, cached)
        self.__self__, self.__func__ = instance, cached
        self.__wrapped__ = MethodType(cached.uncached, instance)
        if sys.version_info >= (3, 12) and isinstance(cached, _CachedCoroutine):
            inspect.markcoroutinefunction(self)
        for name in ("clear_cache", "clear_all", "store_of", "uncached"):
            setattr(self, name, functools.partial(getattr(cached, name), instance))

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        return self.__func__(self.__self__, *args, **kwargs)
