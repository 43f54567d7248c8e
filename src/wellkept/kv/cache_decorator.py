"""Results of functions as entries of a store: with a TTL, in a scope, seen and cleared like any other.

`@keep` is for what stays true; this is for what is true for a while, or for one scope.
"""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, Protocol, TypeVar, overload

from wellkept.errors import ConfigError, KeptError, tell
from wellkept.hashing import digest_bytes
from wellkept.kv.execution_store import ExecutionStore, seconds_of

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
        ...

    def uncached(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """The function itself."""
        ...

    def clear_cache(self, *args: P.args, **kwargs: P.kwargs) -> bool:
        """Forget the result of these arguments; whether there was one."""
        ...

    def clear_all(self, *args: P.args, **kwargs: P.kwargs) -> None:
        """Forget every result of the scope that these arguments have."""
        ...

    def store_of(self, *args: P.args, **kwargs: P.kwargs) -> ExecutionStore:
        """The store that the results of these arguments are in."""
        ...


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
    if function is None:
        return lambda function: _made(function, ttl, scope, key, ignore, version, store, cache)
    return _made(function, ttl, scope, key, ignore, version, store, cache)


def _made(
    function: Callable[..., Any],
    ttl: Any,
    scope: Any,
    key: Callable[..., Any] | None,
    ignore: Iterable[str],
    version: str | None,
    store: str | None,
    cache: Any,
) -> Any:
    found = _Cached(function, seconds_of(ttl), scope, key, ignore, version, store, cache)
    wrapper: Any
    if inspect.iscoroutinefunction(function):
        wrapper = found.awaited()
    elif inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise ConfigError(f"{function.__qualname__} is a generator: use @keep, which records it")
    else:
        wrapper = found.called()
    wrapper.clear_cache = found.clear
    wrapper.clear_all = found.clear_all
    wrapper.store_of = found.store_of
    wrapper.uncached = function
    return wrapper


def _name_of(function: Callable[..., Any]) -> str:
    """Module and name; of what a script defines, the script in place of the module."""
    module = function.__module__
    if module in ("__main__", "__mp_main__"):
        file = getattr(getattr(function, "__code__", None), "co_filename", "")
        path = Path(file).absolute()
        module = f"{path.stem}-{digest_bytes(str(path)).hex()[:8]}"  # two scripts may share a name
    return f"{module}:{function.__qualname__}"


class _Cached:
    """What a cached function needs to know."""

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
        self.function, self.ttl, self.scope, self.key = function, ttl, scope, key
        self.version, self.cache = version, cache
        self.name = store or _name_of(function)
        self.signature = inspect.signature(function)
        self.ignored = frozenset([ignore] if isinstance(ignore, str) else ignore)
        if unknown := self.ignored - set(self.signature.parameters):
            raise ConfigError(
                f"{self.name} has no parameter {', '.join(sorted(unknown))} to ignore"
            )
        self._told = False

    def called(self) -> Callable[..., Any]:
        function = self.function

        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            backend = self._backend(args, kwargs)
            found = _MISSING if backend is None else self._read(backend)
            if found is not _MISSING:
                return found
            result = function(*args, **kwargs)
            if backend is not None:
                self._write(backend, result)
            return result

        return call

    def awaited(self) -> Callable[..., Any]:
        import asyncio  # who has coroutines has imported it

        function = self.function

        @functools.wraps(function)
        async def call(*args: Any, **kwargs: Any) -> Any:
            backend = await asyncio.to_thread(self._backend, args, kwargs)
            found = _MISSING if backend is None else await asyncio.to_thread(self._read, backend)
            if found is not _MISSING:
                return found
            result = await function(*args, **kwargs)
            if backend is not None:
                await asyncio.to_thread(self._write, backend, result)
            return result

        return call

    def clear(self, *args: Any, **kwargs: Any) -> bool:
        """Forget the result of these arguments; whether there was one."""
        return self.store_of(*args, **kwargs).delete(self._key(args, kwargs))

    def clear_all(self, *args: Any, **kwargs: Any) -> None:
        """Forget every result of the scope that these arguments have."""
        self.store_of(*args, **kwargs).clear()

    def store_of(self, *args: Any, **kwargs: Any) -> ExecutionStore:
        """The store that results of these arguments are in."""
        scope = self.scope(*args, **kwargs) if callable(self.scope) else self.scope
        return ExecutionStore.create(self.name, scope, "evict", cache=self.cache)

    # -- caching must never break the caller ------------------------------------------------------

    def _backend(
        self, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[ExecutionStore, str] | None:
        self.signature.bind(*args, **kwargs)  # a wrong call fails as it does without a cache
        try:
            return self.store_of(*args, **kwargs), self._key(args, kwargs)
        except KeptError as error:
            self._tell(error)
            return None

    def _key(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
        if self.key is not None:
            counts = self.key(*args, **kwargs)
        else:
            bound = self.signature.bind(*args, **kwargs)
            # A wrapper may have defaults of its own, and tell a position from a keyword: what its inner
            # function says of itself is no answer. There a call counts as it was given.
            wrapped = hasattr(self.function, "__wrapped__")
            if not wrapped:
                bound.apply_defaults()
            counts = {name: v for name, v in bound.arguments.items() if name not in self.ignored}
            if wrapped:
                return digest_bytes((self.version, counts, len(args))).hex()
        return digest_bytes((self.version, counts)).hex()

    def _read(self, backend: tuple[ExecutionStore, str]) -> Any:
        try:
            return backend[0].get(backend[1], _MISSING)
        except KeptError as error:  # away, or damaged: it is computed again
            self._tell(error)
            return _MISSING

    def _write(self, backend: tuple[ExecutionStore, str], result: Any) -> None:
        try:
            backend[0].set_cache(backend[1], result, self.ttl)
        except KeptError as error:
            self._tell(error)

    def _tell(self, error: KeptError) -> None:
        if not self._told:
            self._told = True
            tell(f"a result of {self.name} is not cached: {error}")
