"""Caches on their way to another process, which opens each once."""

from __future__ import annotations

import pickle
import sys
import threading
import weakref
from collections.abc import Callable
from typing import Any

from wellkept._process import at_fork
from wellkept.caches.cache import Cache, close_all
from wellkept.caches.derived import Derived, Pool, Stack
from wellkept.errors import StoreError
from wellkept.stores.backend import inner
from wellkept.stores.memory import Memory, Void

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
        return Cache(Void(), Void(), memory=0)


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
