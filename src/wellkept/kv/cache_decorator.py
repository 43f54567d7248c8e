"""Results of functions as entries of a store: with a TTL, in a scope, seen and cleared like any other.

`@keep` is for what stays true; this is for what is true for a while, or for one scope.
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
import inspect
import math
import os
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterable
from types import MethodType, ModuleType
from typing import TYPE_CHECKING, Any, ParamSpec, Protocol, TypeVar, overload

from wellkept.errors import ConfigError, DecodeError, KeptError, tell
from wellkept.hashing import digest_bytes
from wellkept.hashing.functions import identify
from wellkept.hashing.names import placed
from wellkept.kv.entry import NAME, Step, dump, load
from wellkept.kv.execution_store import ExecutionStore
from wellkept.kv.locks import Lock, NotHeld, asker
from wellkept.kv.service import seconds_of

if TYPE_CHECKING:
    from datetime import timedelta

    from wellkept.caches import Cache


P = ParamSpec("P")
R = TypeVar("R", covariant=True)
_MISSING = object()
_DONE, _REFRESH = object(), object()
Way = Generator[Any, Any, Any]
"""What a call asks for: seconds to wait, `_REFRESH`, or what is under way while the body runs; it is sent
the body's result, and returns the call's."""
_under_way: contextvars.ContextVar[frozenset[Any]] = contextvars.ContextVar(
    "wellkept_cached", default=frozenset()
)
"""The results that are computed by those who called this."""
_tasks: set[Any] = set()


def _stepped(way: Way, given: Any) -> tuple[Any, Any]:
    """What a way asks for next, or `_DONE` and its result. (No thread can hand on a `StopIteration`.)"""
    try:
        return way.send(given), None
    except StopIteration as end:
        return _DONE, end.value


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
    stale: float | str | timedelta | None = None,
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
    stale: float | str | timedelta | None = None,
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
        stale: how long after that it is still served while one computes it again in the background.
        scope: text or an id, or a function of the arguments that gives one.
        key: a function of the arguments; what it gives stands for them. By default all arguments
            count, by their digests, however they are given.
        ignore: parameters that don't count, such as `["ctx"]`.
        version: another one keeps other results.
        store: the store's name; the function's module and name by default.
        cache: on whose medium it is; the active cache, at each call.

    The function has `clear_cache(…)`, which forgets the result of these arguments, `clear_all(…)`, which
    forgets all of their scope, `uncached`, and `store_of(…)`, the store of these arguments. Of all who ask
    for one result at once, in all processes, one computes it, and the others wait for that.

    Raises:
        ConfigError: an option is wrong, or `ignore` names what is no parameter.
    """
    if stale is not None and ttl is None:
        raise ConfigError("stale= needs a ttl=: how long after it a result may still be served")
    options = {"ttl": seconds_of(ttl), "stale": seconds_of(stale) or 0.0, "scope": scope}
    options |= {"key": key, "ignore": ignore, "version": version, "store": store, "cache": cache}
    if function is None:
        return lambda function: _cached(function, options)
    return _cached(function, options)


def _cached(function: Any, options: dict[str, Any]) -> Any:
    if isinstance(function, (classmethod, staticmethod)):
        made = _cached(function.__func__, options)
        made.method = type(function)
        return made
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise ConfigError(f"{function.__qualname__} is a generator: use @keep, which records it")
    awaits = inspect.iscoroutinefunction(function)
    return (_CachedCoroutine if awaits else _Cached)(function, **options)


def _tag_of(function: Any) -> tuple[str, ...]:
    """The code and the values of a function that shares its name with others of another content: of a
    lambda, or one that encloses variables."""
    code = getattr(function, "__code__", None)
    if code is None or (code.co_name != "<lambda>" and not {*code.co_freevars} - {"__class__"}):
        return ()
    return (identify(function).code,)


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

    method: type | None = None
    """`classmethod` or `staticmethod`, if it is one."""

    def __init__(
        self,
        function: Callable[..., Any],
        ttl: float | None,
        stale: float,
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
        self._ttl, self._stale, self._scope, self._of = ttl, stale, scope, key
        self._version, self._cache = version, cache
        self._name = store or _name_of(function)
        self._tag = () if store else _tag_of(function)
        """Of a function that its name does not tell from others."""
        self._signature = inspect.signature(function)
        self._ignored = frozenset([ignore] if isinstance(ignore, str) else ignore)
        if unknown := self._ignored - set(self._signature.parameters):
            raise ConfigError(
                f"{self._name} has no parameter {', '.join(sorted(unknown))} to ignore"
            )
        self._told = False
        self._refreshing: set[Any] = set()

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        return self._driven(self._way(args, kwargs), args, kwargs)

    def _driven(self, way: Way, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        given: Any = None
        while True:
            asked, given = _stepped(way, given)
            if asked is _DONE:
                return given
            if asked is _REFRESH:
                thread = threading.Thread(
                    target=contextvars.copy_context().run,
                    args=(self._refresh, args, kwargs),
                    name="wellkept-refresh",
                    daemon=True,
                )
                with contextlib.suppress(RuntimeError):  # the interpreter ends
                    thread.start()
            elif type(asked) is float:
                time.sleep(asked)
            else:
                token = _under_way.set(asked)
                try:
                    given = self.uncached(*args, **kwargs)
                except BaseException:
                    way.close()
                    raise
                finally:
                    _under_way.reset(token)

    def _refresh(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        try:
            self._driven(self._way(args, kwargs, refresh=True), args, kwargs)
        except Exception as error:  # noqa: BLE001  nobody else would hear of it
            self._tell_of_refresh(error)

    def clear_cache(self, /, *args: Any, **kwargs: Any) -> bool:
        """Forget the result of these arguments; whether there was one."""
        store, key = self.store_of(*args, **kwargs), self._key(args, kwargs)
        # First what lets a computation that is under way write its result.
        store.delete(f"{key}/0")
        return store.delete(key)

    def clear_all(self, /, *args: Any, **kwargs: Any) -> None:
        """Forget every result of the scope that these arguments have."""
        self.store_of(*args, **kwargs).clear()

    def store_of(self, /, *args: Any, **kwargs: Any) -> ExecutionStore:
        """The store that results of these arguments are in."""
        scope = self._scope(*args, **kwargs) if callable(self._scope) else self._scope
        return ExecutionStore.create(self._name, scope, "evict", cache=self._cache)

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        if self.method is classmethod:
            return _BoundCached(self, type(instance) if owner is None else owner)
        return self if instance is None or self.method else _BoundCached(self, instance)

    def __reduce__(self) -> str:
        return str(self.__qualname__)  # type: ignore[attr-defined]  # `update_wrapper` sets it

    def __repr__(self) -> str:
        return f"<wellkept.kv.cached {self._name}>"

    # -- the way of a call, which asks its driver for the body, and to wait ----------------------

    def _way(
        self,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        caller: Any = None,
        *,
        refresh: bool = False,
    ) -> Way:
        bound = self._signature.bind(*args, **kwargs)  # a wrong call fails as without a cache
        place: Any = None
        lock: Lock | None = None
        try:
            try:
                store, key = self.store_of(*args, **kwargs), self._key(args, kwargs, bound)
                place = id(store.service.entries), store.name, key
                found, late = self._find(store, key)
            except KeptError as error:
                self._tell(error)
                return None if refresh else (yield _under_way.get())
            if found is not _MISSING and not refresh:
                if late and place not in self._refreshing:
                    self._refreshing.add(place)
                    yield _REFRESH
                return found
            under_way = _under_way.get()
            if place in under_way:  # it calls itself, and would wait for itself
                return None if refresh else (yield under_way)
            caller, trying, pause = caller or asker(), Lock(store, key), 0.005
            try:
                while not trying.take(caller, first=pause == 0.005):
                    if refresh:
                        return None  # somebody else is at it
                    yield pause
                    pause = min(pause * 1.5, 0.1)
                    found, late = self._find(store, key)
                    if found is not _MISSING:
                        return found
                lock = trying
                found, late = self._find(store, key)  # somebody may just have finished
            except KeptError as error:
                self._tell(error)
            if found is not _MISSING and (not late or not lock):
                return found
            begun = time.monotonic()
            result = yield under_way | {place}
            if lock is not None:
                held, lock = lock, None
                self._write(held, caller, key, result, time.monotonic() - begun)
            return result
        finally:
            if refresh:
                self._refreshing.discard(place)
            if lock is not None:
                with contextlib.suppress(KeptError):
                    lock.give(caller)

    def _find(self, store: ExecutionStore, key: str) -> tuple[Any, bool]:
        """A result, and whether it is stale; `_MISSING` if there is none."""
        entries = store.service.entries
        try:
            entry = entries.get(store.name, key)
            if entry is None:
                return _MISSING, False
            late = 0.0
            life = math.inf if entry.expires is None else entry.expires - entry.updated
            if self._ttl is not None and life > self._ttl + 0.01:
                late = entries.now() - entry.updated - self._ttl
                if late >= self._stale:
                    return _MISSING, False
            return load(entry.data), late > 0
        except DecodeError as error:  # it is computed again
            self._tell(error)
            return _MISSING, False

    def _write(self, lock: Lock, caller: Any, key: str, result: Any, seconds: float) -> None:
        # In one transaction with the release: what was cleared meanwhile, or computed by another one as
        # this process stood still, is not written over by what was true before.
        steps = []
        try:
            life = None if self._ttl is None else self._ttl + self._stale
            steps.append(Step(key, dump(result), life, "evict"))
        except KeptError as error:
            self._tell(error)
        try:
            lock.give(caller, *steps)
        except KeptError as error:
            # Else it was cleared meanwhile: no news to who did that.
            if not isinstance(error, NotHeld) or seconds > lock.ttl:
                self._tell(error)

    def _key(
        self,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        bound: inspect.BoundArguments | None = None,
    ) -> str:
        if self._of is not None:
            counts = self._of(*args, **kwargs)
        else:
            bound = bound or self._signature.bind(*args, **kwargs)
            # A wrapper may have defaults of its own, and tell a position from a keyword: what its inner
            # function says of itself is no answer. There a call counts as it was given.
            wrapped = hasattr(self.uncached, "__wrapped__")
            if not wrapped:
                bound.apply_defaults()
            counts = {name: v for name, v in bound.arguments.items() if name not in self._ignored}
            if wrapped:
                return digest_bytes((self._version, counts, len(args), *self._tag)).hex()
        return digest_bytes((self._version, counts, *self._tag)).hex()

    def _tell_of_refresh(self, error: Exception) -> None:
        tell(f"refreshing a stale result of {self._name} failed: {error!r}")

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
        return await self._awaited(self._way(args, kwargs, asker()), args, kwargs)

    async def _awaited(self, way: Way, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        import asyncio  # a program with coroutines has imported it

        given: Any = None
        while True:
            asked, given = await asyncio.to_thread(_stepped, way, given)
            if asked is _DONE:
                return given
            if asked is _REFRESH:
                task = asyncio.create_task(self._refreshed(args, kwargs))
                _tasks.add(task)  # or it might be collected before it ends
                task.add_done_callback(_tasks.discard)
            elif type(asked) is float:
                await asyncio.sleep(asked)
            else:
                token = _under_way.set(asked)
                try:
                    given = await self.uncached(*args, **kwargs)
                except GeneratorExit:  # its loop is closed, so nothing can be awaited
                    way.close()
                    raise
                except BaseException:
                    await asyncio.shield(asyncio.to_thread(way.close))
                    raise
                finally:
                    with contextlib.suppress(ValueError):  # of a context that is over
                        _under_way.reset(token)

    async def _refreshed(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        try:
            await self._awaited(self._way(args, kwargs, asker(), refresh=True), args, kwargs)
        except Exception as error:  # noqa: BLE001  nobody else would hear of it
            self._tell_of_refresh(error)


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
