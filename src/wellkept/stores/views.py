"""Views of a backend: read-only, and filtered.

A view forwards everything to the backend that it holds; a subclass overrides what is different.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from wellkept.codecs import Envelope
from wellkept.conditions import Query
from wellkept.errors import StoreError
from wellkept.records import Buffer, Call, Value
from wellkept.stores.backend import Backend, CallStore, Lookup, Progress, each_call
from wellkept.stores.base import Store
from wellkept.stores.epoch import Token
from wellkept.stores.notes import Notes
from wellkept.stores.record_format import Body

if TYPE_CHECKING:
    from wellkept.stores.reports import (
        Candidate,
        Chosen,
        Collected,
        Evicted,
        FunctionRow,
        Report,
        Totals,
    )

V = TypeVar("V")


class View(Backend):
    """Forwards everything to the backend that it holds."""

    # A view has a memory tier of its own, so a lease never comes with an answer: `claims` stays False.

    backend: Backend

    calls: CallStore
    values: Store[Value]
    notes: Notes

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.calls, self.values, self.notes = backend.calls, backend.values, backend.notes
        self.locks: Any = backend.locks
        self.fetches_many: bool = backend.fetches_many

    def fetch(self, key: bytes) -> Lookup | None:
        return self.backend.fetch(key)

    def fetch_many(self, keys: Sequence[bytes]) -> dict[bytes, Lookup]:
        return self.backend.fetch_many(keys)

    def load(self, envelope: Envelope) -> tuple[Buffer, Sequence[Buffer]]:
        return self.backend.load(envelope)

    def probe(self, envelope: Envelope, most: int) -> None:
        self.backend.probe(envelope, most)

    def commit(self, call: Call, value: Value, uses: Mapping[bytes, int] | None = None) -> Any:
        return self.backend.commit(call, value, uses)

    def commit_over(self, call: Call, value: Value, before: Body | None) -> bool:
        return self.backend.commit_over(call, value, before)

    def count(self, uses: Mapping[bytes, int]) -> None:
        self.backend.count(uses)

    def find(self, query: Query) -> Iterator[Call]:
        return self.backend.find(query)

    def peek(self, query: Query) -> Iterator[Call]:
        return self.backend.peek(query)

    def found(self, query: Query) -> int | None:
        return self.backend.found(query)

    def table(self, query: Query) -> Any:
        return self.backend.table(query)

    @property
    def words(self) -> memoryview | None:
        return self.backend.words

    def token(self) -> Token | None:
        return self.backend.token()

    def epoch(self, token: Token) -> Token | None:
        return self.backend.epoch(token)

    def listen(self, told: Callable[[], None]) -> None:
        self.backend.listen(told)

    def stale(self) -> bool:
        return self.backend.stale()

    def hold_index(self, room: int) -> None:
        self.backend.hold_index(room)

    def collect(self, grace: float, dry_run: bool) -> Collected:
        self.check_writable()
        return self.backend.collect(grace, dry_run)

    def free(self, digests: Sequence[str]) -> Collected:
        self.check_writable()
        return self.backend.free(digests)

    def evict(self, chosen: Chosen, dry_run: bool) -> Evicted:
        self.check_writable()
        return self.backend.evict(chosen, dry_run)

    def verify(self, repair: bool, discard: bool, tell: Progress) -> Report:
        if repair:
            self.check_writable()
        return self.backend.verify(repair, discard, tell)

    def functions(self) -> list[FunctionRow]:
        return self.backend.functions()

    def calls_of(self, names: Sequence[str], limit: int | None = None) -> Iterator[Call]:
        return self.backend.calls_of(names, limit)

    def totals(self) -> Totals:
        return self.backend.totals()

    def candidates(self) -> Iterator[Candidate]:
        return self.backend.candidates()

    def close(self) -> None:
        """Do nothing: the backend belongs to the cache that this view was made from."""


class NoLocks:
    """Leases of a cache that keeps nothing, where waiting for another's result would be in vain."""

    waits = None

    def acquire(self, key: bytes, owner: object = None) -> bool:
        return True

    def release(self, key: bytes, owner: object = None) -> None:
        """Do nothing: there are no waiters."""


class ReadOnlyView(View):
    """Forwards reads. Computed results are dropped; all other writes are refused."""

    writable: bool = False

    def __init__(self, backend: Backend) -> None:
        super().__init__(backend)
        self.locks: Any = NoLocks()
        self.calls: ReadOnlyCalls = ReadOnlyCalls(backend.calls)
        self.values: ReadOnlyStore[Value] = ReadOnlyStore(backend.values)
        self.notes: ReadOnlyNotes = ReadOnlyNotes(backend.notes)

    def commit(self, call: Call, value: Value, uses: Mapping[bytes, int] | None = None) -> None:
        """Drop the call: the caller has its result."""

    def commit_over(self, call: Call, value: Value, before: Body | None) -> bool:
        """Dropped."""
        return True

    def count(self, uses: Mapping[bytes, int]) -> None:
        """Drop the counts."""


class ReadOnlyStore(Generic[V]):
    """A store that can only be read."""

    def __init__(self, store: Store[V]) -> None:
        self._store = store

    def get(self, key: str) -> V | None:
        return self._store.get(key)

    def put(self, key: str, item: V) -> None:
        raise StoreError(f"can't keep {key}: this cache is read-only")

    def delete(self, key: str) -> None:
        raise StoreError(f"can't forget {key}: this cache is read-only")

    def keys(self, prefix: str = "") -> Iterator[str]:
        return self._store.keys(prefix)


class ReadOnlyCalls(ReadOnlyStore[Call], CallStore):
    """Calls that can only be read."""


class ReadOnlyNotes(Notes):
    """Notes that can only be read."""

    def __init__(self, notes: Notes) -> None:
        self._notes = notes

    def get(self, key: str) -> bytes | None:
        return self._notes.get(key)

    def get_many(self, keys: Iterable[str]) -> dict[str, bytes]:
        return self._notes.get_many(keys)

    def keys(self, prefix: str = "") -> Iterator[str]:
        return self._notes.keys(prefix)

    def create(self, key: str, item: Buffer) -> bool:
        raise StoreError(f"can't keep {key}: this cache is read-only")

    def put_many(self, items: Mapping[str, Buffer]) -> None:
        for key in items:
            raise StoreError(f"can't keep {key}: this cache is read-only")

    def delete_many(self, keys: Iterable[str]) -> None:
        for key in keys:
            raise StoreError(f"can't forget {key}: this cache is read-only")


class FilteredView(View):
    """Shows only the calls for which `where` holds, and keeps no others."""

    where: Callable[[Call], bool]

    def __init__(self, backend: Backend, where: Callable[[Call], bool]) -> None:
        super().__init__(backend)
        self.where = where
        self.calls: FilteredCalls = FilteredCalls(backend.calls, where)
        # The filter needs the record of each call, which is a trip of its own.
        self.fetches_many = False

    def fetch(self, key: bytes) -> Lookup | None:
        found = self.backend.fetch(key)
        return found if found is not None and self.calls.get(key.hex()) is not None else None

    def commit(self, call: Call, value: Value, uses: Mapping[bytes, int] | None = None) -> Any:
        return self.backend.commit(call, value, uses) if self.where(call) else None

    def commit_over(self, call: Call, value: Value, before: Body | None) -> bool:
        return not self.where(call) or self.backend.commit_over(call, value, before)

    def find(self, query: Query) -> Iterator[Call]:
        return self._fitting(self.backend.find, query)

    def peek(self, query: Query) -> Iterator[Call]:
        return self._fitting(self.backend.peek, query)

    def _fitting(self, find: Callable[[Query], Iterator[Call]], query: Query) -> Iterator[Call]:
        calls = (call for call in find(query._replace(limit=None)) if self.where(call))
        return islice(calls, query.limit)

    def evict(self, chosen: Chosen, dry_run: bool) -> Evicted:
        """Delete calls; see `Cache.evict`. Hidden calls stay."""
        # Loaded on first use: keeps `import wellkept` small.
        from wellkept.stores.reports import Chosen

        keys = (key for key, call in each_call(self.calls) if chosen.fits(key, call))
        return self.backend.evict(Chosen(keys=frozenset(keys)), dry_run)

    if not TYPE_CHECKING:
        # The filter must be evaluated for every call, so these can't be forwarded.
        fetch_many = Backend.fetch_many
        found = Backend.found
        table = Backend.table
        functions = Backend.functions
        calls_of = Backend.calls_of
        totals = Backend.totals
        candidates = Backend.candidates


class FilteredCalls(CallStore):
    """The calls for which `where` holds."""

    def __init__(self, store: CallStore, where: Callable[[Call], bool]) -> None:
        self._store, self._where = store, where

    def get(self, key: str) -> Call | None:
        call = self._store.get(key)
        return call if call is not None and self._where(call) else None

    def put(self, key: str, item: Call) -> None:
        if self._where(item):
            self._store.put(key, item)

    def delete(self, key: str) -> None:
        if self.get(key) is not None:
            self._store.delete(key)

    def keys(self, prefix: str = "") -> Iterator[str]:
        return (key for key in self._store.keys(prefix) if self.get(key) is not None)
