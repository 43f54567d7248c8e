"""The way around a store: what looks at its medium without using the store itself."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

__all__ = ["Accessor"]


class Accessor(Protocol):
    """Reads and writes a store's medium by other means than the store, so that the two can be
    compared: a store that loses what it is given, and never misses it, agrees only with itself.
    """

    def read(self, key: str) -> Any:
        """The item that is in the medium under a key, or None."""
        ...

    def write(self, key: str, item: Any) -> None:
        """Put an item there."""
        ...

    def keys(self) -> Iterable[str]:
        """Every key that is there."""
        ...

    def damage(self, key: str) -> bool:
        """Change the bytes of the item under a key; False where the medium has no bytes."""
        ...
