"""A kept call that was found: its record, and what it names, loaded when it is looked at."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from kept.errors import KeptError
from kept.records import Call, Digest

__all__ = ["LoadedArguments", "Loads", "Match"]


class Loads(Protocol):
    """What loads values: a cache."""

    def load(self, digest: str) -> Any: ...
    def find(self, key: bytes) -> Any: ...
    def value(self, key: bytes, entry: Any, *, hit: bool = True) -> Any: ...


class Match:
    """One call of an answer.

    Attributes:
        call: its record. `key`, `function`, `code`, `state`, `created`, `seconds`, `size`, `expires`,
            `uses`, `used` and `metadata` are the record's, too.
    """

    __slots__ = ("_cache", "call")

    def __init__(self, cache: Loads, call: Call) -> None:
        self._cache = cache
        self.call = call

    @property
    def key(self) -> Digest:
        """The digest that names the call."""
        return self.call.key

    @property
    def digest(self) -> Digest:
        """The result's digest."""
        return self.call.result

    @property
    def result(self) -> Any:
        """The result, loaded now; of a recorded generator the list of its items. A kept exception is
        raised.

        Raises:
            NotKept: it was evicted.
            DecodeError: it is damaged.
            StoreError: it can't be read.
        """
        value = self._load()
        if self.call.state == "failed":
            raise value[0]
        return value[0] if self.call.state == "items" else value

    @property
    def error(self) -> BaseException | None:
        """The kept exception, loaded now; None where the call returned. Raises as `result` does."""
        return self._load()[0] if self.call.state == "failed" else None

    def _load(self) -> Any:
        key = self.call.key.raw
        entry = self._cache.find(key)
        if entry is not None and entry.body.result == self.call.result.raw:
            return self._cache.value(key, entry, hit=False)
        return self._cache.load(self.call.result)

    @property
    def arguments(self) -> LoadedArguments:
        """The arguments by name; one that the record does not show is loaded when it is looked at,
        which works if it is a kept result."""
        return LoadedArguments(self._cache, self.call)

    def __getattr__(self, name: str) -> Any:
        if name in _FIELDS:
            return getattr(self.call, name)
        raise AttributeError(f"a match has no {name}")

    def __repr__(self) -> str:
        return f"<{self.call.function.rpartition(':')[2]}({self.arguments!r})>"


_FIELDS = frozenset(Call._fields) - {"key", "result", "arguments"}


class LoadedArguments(Mapping[str, Any]):
    """The values of a call's arguments."""

    __slots__ = ("_cache", "_call")

    def __init__(self, cache: Loads, call: Call) -> None:
        self._cache, self._call = cache, call

    def __getitem__(self, name: str) -> Any:
        found = self._call.arguments[name]
        return found.value if found.shown else self._cache.load(found.digest)

    def __iter__(self) -> Iterator[str]:
        return iter(self._call.arguments)

    def __len__(self) -> int:
        return len(self._call.arguments)

    def digest(self, name: str) -> Digest:
        """The digest of an argument, without loading it."""
        return self._call.arguments[name].digest

    def get(self, name: str, default: Any = None) -> Any:
        """The value, or `default` where there is none or it is not kept."""
        try:
            return self[name]
        except (KeyError, KeptError):
            return default

    def __repr__(self) -> str:
        return ", ".join(
            f"{name}={found.value!r}" if found.shown else f"{name}=<{found.digest[:8]}>"
            for name, found in self._call.arguments.items()
        )
