"""The one seam: four verbs. An optional ability is a protocol of its own with one method."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol, TypeVar, runtime_checkable

__all__ = ["Creates", "Store"]

V = TypeVar("V")
T = TypeVar("T", contravariant=True)


@runtime_checkable
class Store(Protocol[V]):
    """Keeps items by text keys. V is bytes, Value or Call.

    Every method may raise `StoreError`; a missing key is None, never an exception.
    """

    def get(self, key: str) -> V | None:
        """The item, or None."""
        ...

    def put(self, key: str, item: V) -> None:
        """Keep the item; what was under the key is replaced, atomically."""
        ...

    def delete(self, key: str) -> None:
        """Forget the key; one that is not there is no error."""
        ...

    def keys(self, prefix: str = "") -> Iterator[str]:
        """The keys that begin with `prefix`, each once, in any order."""
        ...


@runtime_checkable
class Creates(Protocol[T]):
    """Can put only what is absent, atomically: what leases and compare-and-set need."""

    def create(self, key: str, item: T) -> bool:
        """Keep the item if the key is absent; whether it was."""
        ...
