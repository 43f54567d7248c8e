"""The interface of what a cache keeps its records in, and what lies beneath a backend made of another."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, Protocol

from wellkept.conditions import Query, order_of
from wellkept.errors import DecodeError, StoreError
from wellkept.records import Buffer, Call, Value
from wellkept.stores.base import Store
from wellkept.stores.notes import Notes


def each_call(calls: Store[Call]) -> Iterator[tuple[str, Call | None]]:
    """Every key and its record (None: it is damaged), in as few trips as the store can."""
    from wellkept.stores.byte_store import CodedCalls  # most caches need none of it

    pairs = calls.all if isinstance(calls, CodedCalls) else getattr(calls, "pairs", None)
    if pairs is not None:
        for key, found in pairs():
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


def scan(calls: Store[Call], query: Query) -> Iterator[Call]:
    """The calls that fit, in the order asked for; damaged ones are left out."""
    fitting = (call for _, call in each_call(calls) if call is not None and query(call))
    return ordered(fitting, query)


def ordered(calls: Iterable[Call], query: Query) -> Iterator[Call]:
    """Calls in the order that a query asks for, as many as it asks for."""
    order, limit = query.order, query.limit
    if limit is None:
        yield from sorted(calls, key=lambda call: order_of(order, call), reverse=order.descending)
        return
    best = heapq.nlargest if order.descending else heapq.nsmallest
    yield from islice(best(limit, calls, key=lambda call: order_of(order, call)), limit)


class Backend(Protocol):
    """What a cache needs of what its records live in: the embedded store, or a byte store."""

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
    def find(self, query: Query) -> Iterator[Call]:
        """The calls that fit, in the order that is asked for."""
        ...

    def found(self, query: Query) -> int | None:
        """How many calls fit; None where records must be read to tell."""
        ...

    def fetch(self, key: bytes) -> Any: ...
    def load(self, envelope: Any) -> tuple[Buffer, Sequence[Buffer]]: ...
    def commit(self, call: Call, value: Value, uses: Mapping[bytes, int] | None = ...) -> Any: ...
    def count(self, uses: Mapping[bytes, int]) -> None: ...
    def token(self) -> tuple[int, int] | None: ...
    def listen(self, told: Callable[[], None]) -> None: ...
    def stale(self) -> bool: ...
    def close(self) -> None: ...


def inner(backend: Any, *, write: bool) -> Any:
    """Return the backend at the bottom of derived ones.

    Raises:
        StoreError: it is to be written, and one of them is not written to.
    """
    while True:
        if write and not getattr(backend, "writable", True):
            raise StoreError(
                "this cache is only read from; do that with the cache it was made from"
            )
        beneath = getattr(backend, "backend", None)
        if beneath is None:
            return backend
        backend = beneath
