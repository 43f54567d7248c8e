"""A part of a store, as a store of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Generic, TypeVar

from wellkept.errors import ConfigError
from wellkept.stores.base import Store, Where, check_key, check_prefix
from wellkept.stores.wrappers.abilities import close, lend

__all__ = ["Prefix"]

V = TypeVar("V")


class Prefix(Generic[V]):
    """What `store` holds under keys that begin with `prefix`, which its own keys are without.

    Raises:
        ConfigError: no key begins with the prefix, or it does not end with `/`.
    """

    def __init__(self, store: Store[V], prefix: str) -> None:
        check_prefix(prefix)
        if not prefix.endswith("/"):  # or "a" would hold the keys of "ab" too
            raise ConfigError(f"a prefix ends with '/', and {prefix!r} does not")
        self.store, self.prefix = store, prefix
        self._any: Any = store  # the optional operations are there if the store has them
        lend(self, store, self._make)

    def _make(self, name: str) -> Callable[..., Any] | None:
        many = {
            "get_many": self._get_many,
            "put_many": self._put_many,
            "delete_many": self._delete_many,
            "find": self._find,
            "count": lambda prefix="": self._any.count(self._within(prefix)),
            "now": getattr(self._any, "now", None),
        }
        if name in many:
            return many[name]
        inner: Callable[..., Any] = getattr(self.store, name)
        return lambda key, *args, **options: inner(self._key(key), *args, **options)

    def _key(self, key: str) -> str:
        return self.prefix + check_key(key)

    def _within(self, prefix: str) -> str:
        return self.prefix + check_prefix(prefix)

    def get(self, key: str) -> V | None:
        return self.store.get(self._key(key))

    def put(self, key: str, item: V, **options: Any) -> None:
        self.store.put(self._key(key), item, **options)

    def delete(self, key: str) -> None:
        self.store.delete(self._key(key))

    def keys(self, prefix: str = "") -> Iterator[str]:
        found = self.store.keys(self._within(prefix))
        return (key[len(self.prefix) :] for key in found)

    def _get_many(self, keys: Iterable[str]) -> dict[str, V]:
        found = self._any.get_many([self._key(key) for key in keys])
        return {key[len(self.prefix) :]: item for key, item in found.items()}

    def _put_many(self, items: Mapping[str, V], **options: Any) -> None:
        self._any.put_many({self._key(key): item for key, item in items.items()}, **options)

    def _delete_many(self, keys: Iterable[str]) -> None:
        self._any.delete_many([self._key(key) for key in keys])

    def _find(self, where: Where, prefix: str = "") -> Iterator[str]:
        found = self._any.find(where, self._within(prefix))
        return (key[len(self.prefix) :] for key in found)

    def close(self) -> None:
        close(self.store)

    def __reduce__(self) -> tuple[Any, ...]:
        return Prefix, (self.store, self.prefix)
