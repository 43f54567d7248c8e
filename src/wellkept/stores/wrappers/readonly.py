"""A store that can be read, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Generic, NoReturn, TypeVar

from wellkept.errors import StoreError
from wellkept.stores.base import Store
from wellkept.stores.wrappers.abilities import READING, close, lend

__all__ = ["ReadOnly"]

V = TypeVar("V")


class ReadOnly(Generic[V]):
    """Reads what `store` holds; every write raises `StoreError`, and reaches nothing."""

    def __init__(self, store: Store[V]) -> None:
        self.store = store
        lend(self, store, self._make)

    def _make(self, name: str) -> Callable[..., Any]:
        if name in READING:
            made: Callable[..., Any] = getattr(self.store, name)
            return made
        return partial(self._refuse, name)

    def get(self, key: str) -> V | None:
        return self.store.get(key)

    def keys(self, prefix: str = "") -> Iterator[str]:
        return self.store.keys(prefix)

    def put(self, key: str, item: V, **options: Any) -> None:
        self._refuse("put", key)

    def delete(self, key: str) -> None:
        self._refuse("delete", key)

    def _refuse(self, what: str, *args: Any, **options: Any) -> NoReturn:
        about = f" of {args[0]}" if args and isinstance(args[0], str) else ""
        raise StoreError(f"the {what}{about} is refused: this store was opened to be read only")

    def close(self) -> None:
        close(self.store)

    def __reduce__(self) -> tuple[Any, ...]:
        return ReadOnly, (self.store,)
