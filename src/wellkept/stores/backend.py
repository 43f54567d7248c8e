"""The interface of what a cache keeps its records in, and what lies beneath a backend made of another."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from wellkept.errors import StoreError
from wellkept.records import Buffer, Call, Value
from wellkept.stores.base import Store
from wellkept.stores.each import each_call
from wellkept.stores.notes import Notes

if TYPE_CHECKING:
    from wellkept.conditions import Query

__all__ = ["Backend", "each_call", "inner"]


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
