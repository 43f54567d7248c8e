"""Caches on their way to another process, which opens each once; functions that take one along."""

from __future__ import annotations

import contextlib
import inspect
import pickle
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any, Generic, ParamSpec, TypeVar

from wellkept._process import at_fork
from wellkept.caches.active import use
from wellkept.caches.cache import Cache
from wellkept.caches.core import close_all
from wellkept.errors import ConfigError, StoreError, tell
from wellkept.stores.backend import inner

P = ParamSpec("P")
R = TypeVar("R")

NEARBY = b""
"""Stands for a cache that no other process reaches: a memory of that process's own."""

_MOST = 32  # caches that a process keeps open for others
_packed: weakref.WeakKeyDictionary[Cache, bytes] = weakref.WeakKeyDictionary()
_opened: dict[bytes, Cache] = {}
_guard = threading.Lock()
_closes_at_exit = False


def pack(cache: Cache) -> bytes:
    """What another process opens the same cache by; `NEARBY` if it can't."""
    found = _packed.get(cache)
    if found is None:
        found = _packed[cache] = _pack(cache) if _reachable(cache) else NEARBY
    return found


def unpack(packed: bytes) -> Cache:
    """The cache, one for all who ask here.

    Raises:
        StoreError: it can't be opened here.
    """
    with _guard:
        found: Cache | None = _opened.get(packed)
        if found is None:
            if packed == NEARBY:
                from wellkept.stores.memory import Memory

                store: Memory[bytes] = Memory()
                found = Cache(store, store)
            else:
                found = _loaded(packed)
            while len(_opened) >= _MOST:
                del _opened[next(iter(_opened))]
            _opened[packed] = found
            _close_at_exit()
        return found


def _loaded(packed: bytes) -> Cache:
    try:
        return pickle.loads(packed)  # type: ignore[no-any-return]  # noqa: S301  as trusted as the call it came with
    except Exception as error:
        raise StoreError(f"can't open the cache that a call was sent with: {error!r}") from error


def opened(packed: bytes, broke: Callable[[Exception], bool | None]) -> Cache:
    """The same; one that can't be opened keeps nothing.

    Args:
        broke: called with the error; returns whether it is raised.
    """
    try:
        return unpack(packed)
    except Exception as error:
        if broke(error):
            raise
        from wellkept.stores.memory import Void

        return Cache(Void(), Void(), memory=0)


class Carrier:
    """What takes a cache along, to other threads and processes, where it becomes the active one.

    Args:
        cache: None: whatever is active there.
    """

    _packed: bytes | None = None

    def __init__(self, cache: Cache | None) -> None:
        self.cache = cache

    @contextlib.contextmanager
    def entered(self, broke: Callable[[Exception], bool | None] | None = None) -> Iterator[None]:
        """Be where the cache is active.

        Args:
            broke: told of one that can't be opened; see `opened`.
        """
        if self.cache is None and self._packed is not None:
            self.cache = opened(self._packed, broke or _told)
        with contextlib.nullcontext() if self.cache is None else use(self.cache):
            yield

    def __getstate__(self) -> dict[str, Any]:
        if self.cache is not None:
            self._packed = pack(self.cache)
        return self.__dict__ | {"cache": None}


def _told(error: Exception) -> None:
    tell(f"nothing is kept by a function that was sent here: {error}")


class BoundFunction(Carrier, Generic[P, R]):
    """A function that runs with its cache active, wherever it is called. It pickles if the function does.

    What can be called of it (`.key`, `.load`, `.query` of a kept one) runs with the cache too.
    """

    def __init__(self, function: Callable[P, R], cache: Cache | None) -> None:
        super().__init__(cache)
        self.function = function
        # Dashboards show this name.
        self.__name__: Any | str = getattr(function, "__name__", type(function).__name__)

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> R:
        if inspect.iscoroutinefunction(self.function):
            return self._await(args, kwargs)  # type: ignore[return-value]  # a coroutine function's R
        with self.entered():
            return self.function(*args, **kwargs)

    async def _await(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        with self.entered():
            return await self.function(*args, **kwargs)  # type: ignore[misc]  # as above

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name == "function":  # not there yet while it is unpickled
            raise AttributeError(name)
        found = getattr(self.function, name)
        return BoundFunction(found, self.cache) if callable(found) else found

    def __repr__(self) -> str:
        return f"<{self.function!r} in {self.cache}>"


def bound(function: Callable[P, R], cache: Cache) -> BoundFunction[P, R]:
    """See `Cache.bind`."""
    if not callable(function):
        raise ConfigError(f"a function is bound to a cache, not {function!r}")
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise ConfigError(
            f"a generator function is not bound to a cache: {function!r} runs when its items are asked "
            "for. Ask for them in a function, and bind that, or write `with wellkept.use(cache):`"
        )
    return BoundFunction(function, cache)


def _pack(cache: Cache) -> bytes:
    import cloudpickle  # a filter may be any function

    try:
        return cloudpickle.dumps(cache)  # type: ignore[no-any-return]  # it ships no types
    except Exception:  # noqa: BLE001  what has no pickle stays here
        return NEARBY


def _close_at_exit() -> None:
    """The children of multiprocessing leave without atexit, and counts and notes are still held."""
    global _closes_at_exit
    process: Any = sys.modules.get("multiprocessing.process")
    if not _closes_at_exit and process is not None and process.parent_process() is not None:
        from multiprocessing import util

        util.Finalize(None, close_all, exitpriority=5)
        _closes_at_exit = True


def _reachable(cache: Cache) -> bool:
    """Whether another process can reach the same place: memory is where it is."""
    # Imported with the first cache that is sent.
    from wellkept.caches.derived import Derived, Pool, Stack
    from wellkept.stores.memory import Memory, Void

    if isinstance(cache, Stack):
        return any(map(_reachable, cache.caches if cache.write == "all" else cache.caches[:1]))
    if isinstance(cache, Pool):
        return any(map(_reachable, cache.caches))
    if isinstance(cache, Derived):
        return _reachable(cache.source)
    stores = inner(cache.backend, write=False).byte_stores
    return not any(isinstance(_innermost(store), (Memory, Void)) for store in stores)


def _after_fork() -> None:
    global _guard, _closes_at_exit
    _guard, _closes_at_exit = threading.Lock(), False  # another thread may have held it


at_fork(in_child=_after_fork)


def _innermost(store: Any) -> Any:
    while (held := getattr(store, "store", None)) is not None:
        store = held
    return store
