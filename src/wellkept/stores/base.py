"""The protocol of a store: four verbs. An optional ability is a small protocol of its own.

A byte store is a `Store[bytes]`, and it has an ability exactly if `isinstance(store, Creates)` and so on say
so. If an ability can be replaced by the four verbs, a function of its name here does that.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol, TypeVar, runtime_checkable

from wellkept.errors import ConfigError
from wellkept.records import Buffer

__all__ = [
    "Creates",
    "Finds",
    "Many",
    "Maps",
    "Paths",
    "Replaces",
    "Stamps",
    "Store",
    "Term",
    "Where",
    "check_key",
    "check_prefix",
    "delete_many",
    "get_many",
    "put_many",
]

V = TypeVar("V")
T = TypeVar("T", contravariant=True)

Term = str | int | float | None
"""What an item can be found by."""

Where = Mapping[str, Term | tuple[Term, Term]]
"""Names of terms to a value, or to a pair: from the lowest to the highest, both included; an end
that is None is open. Numbers are found by numbers, text by text; 1, 1.0 and True are one number."""


@runtime_checkable
class Store(Protocol[V]):
    """Keeps items by text keys. V is bytes, Value or Call.

    Keys of a byte store are 1 to 200 characters of `A-Za-z0-9._/-` without `..` or a leading `/`.
    Every method may raise `StoreError`; a missing key is None, never an exception.
    """

    def get(self, key: str) -> V | None:
        """Return the item, or None."""
        ...

    def put(self, key: str, item: V) -> None:
        """Keep the item; an earlier one under the key is replaced, atomically."""
        ...

    def delete(self, key: str) -> None:
        """Delete the item; a missing key is no error."""
        ...

    def keys(self, prefix: str = "") -> Iterator[str]:
        """Return the keys that begin with `prefix`, each once, in any order."""
        ...


@runtime_checkable
class Creates(Protocol[T]):
    """Can put an item only if its key is absent, atomically; leases and compare-and-set need it."""

    def create(self, key: str, item: T) -> bool:
        """Keep the item if the key is absent; return whether it was."""
        ...


@runtime_checkable
class Replaces(Protocol):
    """Can put an item only over a known one, atomically."""

    def replace(self, key: str, old: bytes, item: Buffer) -> bool:
        """Keep the item if exactly `old` is under the key; return whether it was."""
        ...


@runtime_checkable
class Many(Protocol):
    """Takes many keys in fewer trips than one each; see the functions of the same names."""

    def get_many(self, keys: Iterable[str]) -> dict[str, bytes]:
        """Return the items that exist, by key."""
        ...

    def put_many(self, items: Mapping[str, Buffer]) -> None:
        """Keep each item. All or nothing only if the store says so."""
        ...

    def delete_many(self, keys: Iterable[str]) -> None:
        """Delete each item."""
        ...


@runtime_checkable
class Paths(Protocol):
    """Its items are files."""

    def path(self, key: str) -> Path | None:
        """Return the file that holds exactly the item, or None. It must not be written to."""
        ...


@runtime_checkable
class Maps(Protocol):
    """Gives large items as memory that costs no copy until it is changed."""

    def map(self, key: str) -> Buffer | None:
        """Return the item as a private, writable buffer (copy-on-write), or None."""
        ...


@runtime_checkable
class Stamps(Protocol):
    """Maps items, and tells whether the bytes may differ from those of last time."""

    def map_stamped(self, key: str) -> tuple[Buffer, Hashable] | None:
        """Return what `map` returns, and a stamp that changes whenever the stored bytes do.

        A stamp of None says nothing. Bytes that were verified need not be again while the stamp is equal.
        """
        ...


@runtime_checkable
class Ranges(Protocol):
    """Reads parts of items."""

    def size_of(self, key: str) -> int | None:
        """Return the bytes of an item, without reading it; None if there is none."""
        ...

    def read_range(self, key: str, start: int, end: int) -> bytes | None:
        """Return the bytes from `start` to before `end`, as many as there are; None if there is no item."""
        ...


@runtime_checkable
class PutsFiles(Protocol):
    """Keeps the content of a file without reading all of it into memory."""

    def put_file(self, key: str, path: Path) -> None:
        """Keep the content of the file."""
        ...


@runtime_checkable
class Finds(Protocol):
    """Finds items by terms that were put with them, touching only the matches."""

    def put(self, key: str, item: Buffer, terms: Mapping[str, Term] | None = None) -> None:
        """Keep the item with the terms, in place of earlier ones."""
        ...

    def find(self, where: Where, prefix: str = "") -> Iterator[str]:
        """Return the keys that begin with `prefix` and have all these terms, each once, in any order."""
        ...


# ASCII only, no `..` and no leading `/`: a key is a path below the root of files and buckets, and must not lead
# out.
_KEY = re.compile(r"(?!/)(?!.*\.\.)[A-Za-z0-9._/-]{1,200}", re.ASCII).fullmatch
_PREFIX = re.compile(r"(?!/)(?!.*\.\.)[A-Za-z0-9._/-]{0,200}", re.ASCII).fullmatch


def check_key(key: str) -> str:
    """Return the key, if it is valid; no byte store sees any other.

    Raises:
        ConfigError: it is not a valid key.
    """
    if not isinstance(key, str) or not _KEY(key):
        raise ConfigError(
            f"not a key: {str(key)[:80]!r}; a key is 1 to 200 characters of A-Z a-z 0-9 . _ / - "
            "without '..' or a leading '/'"
        )
    return key


def check_prefix(prefix: str) -> str:
    """Return the prefix, if keys can begin with it; raises as `check_key`."""
    if not isinstance(prefix, str) or not _PREFIX(prefix):
        raise ConfigError(f"no key begins with {str(prefix)[:80]!r}")
    return prefix


def get_many(store: Store[Any], keys: Iterable[str]) -> dict[str, Any]:
    """Return the items that exist, by key, in as few trips as the store can."""
    if isinstance(store, Many):
        return store.get_many(keys)
    found = ((key, store.get(key)) for key in dict.fromkeys(keys))
    return {key: item for key, item in found if item is not None}


def put_many(store: Store[Any], items: Mapping[str, Any]) -> None:
    """Keep each item, in as few trips as the store can."""
    if isinstance(store, Many):
        store.put_many(items)
    else:
        for key, item in items.items():
            store.put(key, item)


def delete_many(store: Store[Any], keys: Iterable[str]) -> None:
    """Delete each item, in as few trips as the store can."""
    if isinstance(store, Many):
        store.delete_many(keys)
    else:
        for key in list(keys):
            store.delete(key)
