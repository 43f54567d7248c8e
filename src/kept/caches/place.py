"""What a cache needs of where its records live, and what lies beneath a place made of another."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from kept.errors import DecodeError, StoreError
from kept.records import Buffer, Call, Value
from kept.stores.base import Store
from kept.stores.notes import Notes

__all__ = ["Place", "each_call", "inner"]


class Place(Protocol):
    """What a cache needs of where its records live: the embedded store, or a medium."""

    @property
    def words(self) -> Any: ...
    @property
    def locks(self) -> Any: ...
    @property
    def calls(self) -> Store[Call]: ...
    @property
    def values(self) -> Store[Value]: ...
    @property
    def notes(self) -> Notes: ...
    def fetch(self, key: bytes) -> Any: ...
    def load(self, frame: Any) -> tuple[Buffer, Sequence[Buffer]]: ...
    def commit(self, call: Call, value: Value, uses: Mapping[bytes, int] | None = ...) -> Any: ...
    def count(self, uses: Mapping[bytes, int]) -> None: ...
    def token(self) -> tuple[int, int] | None: ...
    def listen(self, told: Callable[[], None]) -> None: ...
    def stale(self) -> bool: ...
    def close(self) -> None: ...


def inner(place: Any, *, write: bool) -> Any:
    """The place at the bottom of derived ones.

    Raises:
        StoreError: it is to be written, and one of them is not written to.
    """
    while True:
        if write and not getattr(place, "writable", True):
            raise StoreError(
                "this cache is only read from; do that with the cache it was made from"
            )
        beneath = getattr(place, "place", None)
        if beneath is None:
            return place
        place = beneath


def each_call(calls: Store[Call]) -> Iterator[tuple[str, Call | None]]:
    """Every key and its record (None: it is damaged), in as few trips as the store can."""
    from kept.stores.coder import CodedCalls  # most caches need none of it

    if isinstance(calls, CodedCalls):
        for key, found in calls.all():
            yield key, found if isinstance(found, Call) else None
        return
    for key in list(calls.keys()):
        try:
            call = calls.get(key)
        except DecodeError:
            yield key, None
        else:
            if call is not None:
                yield key, call
