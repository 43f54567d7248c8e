"""Bytes, or whatever else, in this process's memory: for tests, and for caches that may be lost."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Generic, TypeVar

__all__ = ["Memory", "Void"]

V = TypeVar("V")


class Memory(Generic[V]):
    """A dict that is a store. Items are kept as they are, so they must not be changed afterwards."""

    def __init__(self) -> None:
        self._items: dict[str, V] = {}
        self._lock = threading.Lock()

    def get(self, key: str) -> V | None:
        return self._items.get(key)

    def put(self, key: str, item: V) -> None:
        self._items[key] = item

    def create(self, key: str, item: V) -> bool:
        with self._lock:
            if key in self._items:
                return False
            self._items[key] = item
            return True

    def delete(self, key: str) -> None:
        self._items.pop(key, None)

    def keys(self, prefix: str = "") -> Iterator[str]:
        return (key for key in list(self._items) if key.startswith(prefix))


class Void(Generic[V]):
    """Keeps nothing: every get is a miss."""

    def get(self, key: str) -> V | None:
        return None

    def put(self, key: str, item: V) -> None:
        """Gone."""

    def create(self, key: str, item: V) -> bool:
        return True

    def delete(self, key: str) -> None:
        """Nothing to forget."""

    def keys(self, prefix: str = "") -> Iterator[str]:
        return iter(())
