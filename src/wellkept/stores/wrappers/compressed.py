"""Smaller items."""

from __future__ import annotations

import os
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from wellkept.codecs import compression
from wellkept.errors import StoreError
from wellkept.records import Buffer
from wellkept.stores.base import Store
from wellkept.stores.filesystem import open_regular
from wellkept.stores.wrappers.abilities import close, lend

__all__ = ["Compressed"]


class Compressed:
    """Compresses what is put into `store`, and gives back whatever was put by any method.

    What can't be made smaller is stored as it is, so blobs of random numbers keep their files and
    their mappings.

    Args:
        store: what is held: a medium.
        method: `"zstd"` or `"gzip"`.
        level: the method's own; its usual one by default.
        limit: bytes that one item may hold at most when it is read.

    Raises:
        ConfigError: there is no such method or level, or zstd is not installed.
    """

    def __init__(
        self,
        store: Store[bytes],
        method: str = "zstd",
        level: int | None = None,
        *,
        limit: int | None = None,
    ) -> None:
        self.store, self.method, self.limit = store, method, limit
        self.level = compression.check(method, level)
        self._any: Any = store  # the optional operations are there if the store has them
        lend(self, store, self._make)

    def _make(self, name: str) -> Callable[..., Any] | None:
        if name in ("delete_many", "find", "count", "now"):
            made: Callable[..., Any] = getattr(self.store, name)
            return made
        own: dict[str, Callable[..., Any]] = {
            "create": self._create,
            "replace": self._replace,
            "get_many": self._get_many,
            "put_many": self._put_many,
            "path": self._path,
            "map": self._map,
            "map_stamped": self._map_stamped,
        }
        return own.get(name)

    def _in(self, item: Buffer) -> Any:
        return compression.compress(item, self.method, self.level)

    def _out(self, item: Buffer) -> bytes:
        return bytes(compression.decompress(item, self.limit))

    def get(self, key: str) -> bytes | None:
        """The item.

        Raises:
            DamagedValue: it is not what was compressed.
        """
        item = self.store.get(key)
        return None if item is None else self._out(item)

    def put(self, key: str, item: Buffer, **options: Any) -> None:
        self.store.put(key, self._in(item), **options)

    def delete(self, key: str) -> None:
        self.store.delete(key)

    def keys(self, prefix: str = "") -> Iterator[str]:
        return self.store.keys(prefix)

    def _create(self, key: str, item: Buffer, **options: Any) -> bool:
        return bool(self._any.create(key, self._in(item), **options))

    def _replace(self, key: str, old: bytes, item: Buffer, **options: Any) -> bool:
        # The same content may be stored in several ways, so what is stored is compared and set.
        packed = self._in(item)
        while True:
            stored = self.store.get(key)
            if stored is None or self._out(stored) != old:
                return False
            if self._any.replace(key, stored, packed, **options):
                return True

    def _get_many(self, keys: Iterable[str]) -> dict[str, bytes]:
        return {key: self._out(item) for key, item in self._any.get_many(keys).items()}

    def _put_many(self, items: Mapping[str, Buffer], **options: Any) -> None:
        self._any.put_many({key: self._in(item) for key, item in items.items()}, **options)

    def _path(self, key: str) -> Path | None:
        """The file of an item that is stored as it is; None for a compressed one."""
        path: Path | None = self._any.path(key)
        if path is None:
            return None
        try:
            with os.fdopen(open_regular(path), "rb") as file:
                return path if compression.is_plain(file.read(8)) else None
        except OSError as error:
            raise StoreError(f"can't read {path}: {error}") from error

    def _map(self, key: str) -> Buffer | None:
        mapped: Buffer | None = self._any.map(key)
        return None if mapped is None else self._unpacked(mapped)

    def _map_stamped(self, key: str) -> tuple[Buffer, Hashable] | None:
        found = self._any.map_stamped(key)
        return None if found is None else (self._unpacked(found[0]), found[1])

    def _unpacked(self, mapped: Buffer) -> Buffer:
        if compression.is_plain(mapped):
            return mapped
        return bytearray(compression.decompress(mapped, self.limit))

    def close(self) -> None:
        close(self.store)

    def __reduce__(self) -> tuple[Any, ...]:
        return _again, (self.store, self.method, self.level, self.limit)


def _again(store: Store[bytes], method: str, level: int, limit: int | None) -> Compressed:
    return Compressed(store, method, level, limit=limit)
