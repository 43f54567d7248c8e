"""What a cache needs of where its records live."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from kept.records import Buffer, Call, Value
from kept.stores.base import Store

__all__ = ["Place"]


class Place(Protocol):
    """What a cache needs of where its records live: the embedded store, or a pair of stores."""

    words: Any
    changed: Any
    locks: Any

    @property
    def calls(self) -> Store[Call]: ...
    @property
    def values(self) -> Store[Value]: ...
    def fetch(self, key: bytes) -> Any: ...
    def load(self, frame: Any) -> tuple[Buffer, Sequence[Buffer]]: ...
    def commit(self, call: Call, value: Value, uses: Mapping[bytes, int] | None = ...) -> Any: ...
    def count(self, uses: Mapping[bytes, int]) -> None: ...
    def token(self) -> tuple[int, int] | None: ...
    def stale(self) -> bool: ...
    def close(self) -> None: ...
