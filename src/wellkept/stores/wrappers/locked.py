"""One thread at a time, for a store that can't stand more."""

from __future__ import annotations

import contextlib
import os
import threading
import weakref
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any, Generic, TypeVar

from wellkept.stores.base import Store
from wellkept.stores.wrappers.abilities import close, lend

__all__ = ["Locked"]

V = TypeVar("V")
_NO_KEY = ("keys", "find", "count", "now")
_MANY = ("get_many", "put_many", "delete_many")


class Locked(Generic[V]):
    """Lets one thread at a time into `store`, or one at a time to each key.

    With `per_key`, different keys don't wait for each other, and listing and finding for nobody.
    The locks are reentrant and can be held over several operations::

        with store.lock("a"):
            store.put("a", change(store.get("a")))
    """

    def __init__(self, store: Store[V], *, per_key: bool = False) -> None:
        self.store, self.per_key = store, per_key
        self._forked()
        _all.add(self)
        lend(self, store, lambda name: partial(self._call, name))

    def _forked(self) -> None:
        self._one = threading.RLock()  # of everything, or of the table of keys' locks
        self._locks: dict[str, list[Any]] = {}  # key: its lock, and how many hold or want it

    @contextlib.contextmanager
    def lock(self, *keys: str) -> Iterator[None]:
        """Hold what lets nobody else at these keys (without `per_key`: at anything)."""
        if not self.per_key:
            with self._one:
                yield
            return
        with contextlib.ExitStack() as stack:
            for key in sorted(set(keys)):  # in one order, or two threads would wait for each other
                stack.enter_context(self._lock(key))
            yield

    @contextlib.contextmanager
    def _lock(self, key: str) -> Iterator[None]:
        with self._one:
            entry = self._locks.setdefault(key, [threading.RLock(), 0])
            entry[1] += 1
        try:
            with entry[0]:
                yield
        finally:
            with self._one:
                entry[1] -= 1
                if not entry[1]:
                    self._locks.pop(key, None)

    def _call(self, name: str, *args: Any, **options: Any) -> Any:
        operation = getattr(self.store, name)
        if name in _MANY:
            first = args[0]
            if not isinstance(first, (dict, list, tuple)):
                first = list(first) if isinstance(first, Iterable) else first
                args = (first, *args[1:])
            keys = tuple(first)
        else:
            keys = () if name in _NO_KEY else args[:1]
        with self.lock(*keys):
            found = operation(*args, **options)
            # What is listed later would be listed outside the lock.
            return iter(list(found)) if name in ("keys", "find") else found

    def get(self, key: str) -> V | None:
        found: V | None = self._call("get", key)
        return found

    def put(self, key: str, item: V, **options: Any) -> None:
        self._call("put", key, item, **options)

    def delete(self, key: str) -> None:
        self._call("delete", key)

    def keys(self, prefix: str = "") -> Iterator[str]:
        found: Iterator[str] = self._call("keys", prefix)
        return found

    def close(self) -> None:
        with self._one:
            close(self.store)

    def __reduce__(self) -> tuple[Any, ...]:
        return _again, (self.store, self.per_key)


def _again(store: Store[Any], per_key: bool) -> Locked[Any]:
    return Locked(store, per_key=per_key)


_all: weakref.WeakSet[Locked[Any]] = weakref.WeakSet()


def _after_fork() -> None:
    for locked in list(_all):
        locked._forked()  # a thread that is not in the child may have held them


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
