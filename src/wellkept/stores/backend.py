"""Where a cache keeps its records: one base class, whose optional abilities are methods with defaults.

A backend gives `calls`, `values`, `notes`, `locks`, `fetch`, `load` and `commit`. All else has a default
that is right, if slow; a backend overrides what it can do in fewer trips.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

from wellkept.codecs import Envelope
from wellkept.errors import DecodeError, StoreError
from wellkept.records import Buffer, Call, Value
from wellkept.stores.base import Store
from wellkept.stores.notes import Notes
from wellkept.stores.record_format import Body

if TYPE_CHECKING:
    from pathlib import Path

    from wellkept.conditions import Query
    from wellkept.stores.blobs import Blobs
    from wellkept.stores.reports import (
        Candidate,
        Chosen,
        Collected,
        Evicted,
        FunctionRow,
        Report,
        Totals,
    )

Progress = Callable[[str, int, int], None]
"""Called with what is being checked, how far it is, and of how much (0: not known)."""

Token = tuple[int, int]
"""Differs after any commit by any process."""


class Lookup(NamedTuple):
    """What is under a key: the call's verified body, and the verified envelope of its result if that is
    kept."""

    body: Body
    envelope: Envelope | None
    exact: bool = False
    """Whether a change of it would show in the backend's `token`."""


class CallStore:
    """The calls of a backend, as a `Store[Call]`."""

    def get(self, key: str) -> Call | None:
        """Return the record, or None."""
        raise NotImplementedError

    def put(self, key: str, item: Call) -> None:
        """Change a record, whose result must be kept already."""
        raise NotImplementedError

    def delete(self, key: str) -> None:
        """Forget the record."""
        raise NotImplementedError

    def keys(self, prefix: str = "") -> Iterator[str]:
        """Return the keys that begin with `prefix`, each once."""
        raise NotImplementedError

    def pairs(self) -> Iterator[tuple[str, Call | DecodeError]]:
        """Return every key and its record (of a damaged one the error)."""
        # Listed first: the caller may delete some on the way.
        for key in list(self.keys()):
            try:
                call = self.get(key)
            except DecodeError as error:
                yield key, error
            else:
                if call is not None:
                    yield key, call


def each_call(calls: CallStore) -> Iterator[tuple[str, Call | None]]:
    """Every key and its record (None: it is damaged), in as few trips as the store can."""
    for key, found in calls.pairs():
        yield key, found if isinstance(found, Call) else None


def scan(calls: CallStore, query: Query) -> Iterator[Call]:
    """The calls that fit, in the order asked for; damaged ones are left out."""
    fitting = (call for _, call in each_call(calls) if call is not None and query(call))
    return ordered(fitting, query)


def ordered(calls: Iterable[Call], query: Query) -> Iterator[Call]:
    """Calls in the order that a query asks for, as many as it asks for."""
    # Imported with the first query.
    import heapq

    from wellkept.conditions import order_of

    order, limit = query.order, query.limit
    if limit is None:
        yield from sorted(calls, key=lambda call: order_of(order, call), reverse=order.descending)
        return
    best = heapq.nlargest if order.descending else heapq.nsmallest
    yield from islice(best(limit, calls, key=lambda call: order_of(order, call)), limit)


class Backend:
    """Holds calls, values and notes, and gives leases."""

    calls: CallStore
    values: Store[Value]
    notes: Notes
    locks: Any
    writable: bool | property = True
    """Whether anything is written to it."""
    backend: Backend | None = None
    """What lies beneath one that shows another in another way."""
    backends: Sequence[Backend] = ()
    """The tiers of one that is made of several, the nearest first."""
    claims = False
    """Whether what is asked is far away, or some of it: then a lease can come with the answer."""
    codec: str = "pickle"
    """What results are encoded by here unless a function names a codec."""
    fetches_many = False
    """Whether `fetch_many` takes fewer trips than a `fetch` each."""
    indexed = False
    """Whether calls are found by what they were given without reading them all."""
    where: Callable[[Call], bool] | None = None
    """Which calls it shows of the backend beneath it; None: all."""
    root: Path | None = None
    """The directory that it has to itself."""
    blobs: Blobs | None = None
    """The files in that directory that hold large parts of results, by what is in them."""
    byte_stores: Sequence[Store[bytes]] = ()
    """The stores of bytes that it is made of: the one with the calls, and the one with the values."""

    # -- one trip ---------------------------------------------------------------------------------

    def fetch(self, key: bytes) -> Lookup | None:
        """Return what is under a key.

        Raises:
            DamagedValue: it is damaged.
            StoreError: the backend can't be read.
        """
        raise NotImplementedError

    def fetch_many(self, keys: Sequence[bytes]) -> dict[bytes, Lookup]:
        """Return what is under those keys that have a call. One that is damaged is left out: `fetch`
        tells of it.
        """
        found = {}
        for key in keys:
            with suppress(DecodeError):
                row = self.fetch(key)
                if row is not None:
                    found[key] = row
        return found

    def claim(self, key: bytes) -> Lookup | None:
        """`fetch`, for a caller who computes what is not there: the lease may come with the answer."""
        return self.fetch(key)

    def glance(self, key: bytes) -> Lookup | None:
        """`fetch`, but only what is near."""
        return self.fetch(key)

    def load(self, envelope: Envelope) -> tuple[Buffer, Sequence[Buffer]]:
        """Return the payload and the buffers of an envelope, verified.

        Raises:
            DamagedValue: a blob is missing or damaged.
            StoreError: one can't be read.
        """
        raise NotImplementedError

    def probe(self, envelope: Envelope, most: int) -> None:
        """See that an envelope's blobs are there and, if they have up to `most` bytes together, that they
        are what their names say. Unlike `load` it changes nothing: a damaged blob stays.

        Raises:
            DamagedValue: one is missing or damaged. A backend that is far away does not look.
            StoreError: one can't be read.
        """

    def commit(
        self, call: Call, value: Value, uses: Mapping[bytes, int] | None = None
    ) -> tuple[Any, Body, Envelope] | None:
        """Keep a call and its result, and add to the counts of uses.

        Returns the tokens before and after, and what a fetch would now find; None where a memory tier
        can't follow.

        Raises:
            StoreError: it can't be written.
        """
        raise NotImplementedError

    def count(self, uses: Mapping[bytes, int]) -> None:
        """Add to the counts of uses."""
        raise NotImplementedError

    # -- finding ----------------------------------------------------------------------------------

    def find(self, query: Query) -> Iterator[Call]:
        """Return the calls that fit, in the order that is asked for."""
        return scan(self.calls, query)

    def peek(self, query: Query) -> Iterator[Call]:
        """`find`, without writing anything, such as an index that is brought up to date."""
        return self.find(query)

    def found(self, query: Query) -> int | None:
        """Return how many calls fit; None where records must be read to tell."""
        return None

    def codes(self, function: str) -> Iterator[str] | None:
        """Return the code identities and versions under which a function has calls, the latest first;
        None where records must be read to tell.
        """
        return None

    def table(self, query: Query) -> Any:
        """Return the calls that fit as columns; None where records must be read."""
        return None

    def related(self) -> Any:
        """Return what finds calls by each other; None where records must be read."""
        return None

    # -- currency ---------------------------------------------------------------------------------

    @property
    def words(self) -> memoryview | None:
        """What a memory tier watches: see `WalIndex`. None: there is nothing to watch."""
        return None

    def token(self) -> Token | None:
        """Return what differs after any commit by any process; None where that can't be seen."""
        return None

    def listen(self, told: Callable[[], None]) -> None:
        """Have `told` called whenever `words` has become another, or none."""

    def stale(self) -> bool:
        """Whether what it is kept in was removed or replaced under us."""
        return False

    # -- the whole --------------------------------------------------------------------------------

    def sign(self, trusts: Any) -> None:
        """Sign what is kept, and believe only signatures that `trusts` does; see
        `wellkept.stores.keyring.Trusts`. A server's results are signed anyhow.
        """

    def hold(self, limit: int) -> None:
        """Hold large blobs in memory, up to `limit` bytes, if the backend is far and has none mapped."""

    def collect(self, grace: float, dry_run: bool) -> Collected:
        """Remove what nothing references; see `Cache.gc`."""
        raise StoreError(f"{type(self).__name__} can't be collected from here")

    def free(self, digests: Sequence[str]) -> Collected:
        """Throw results away, and what only they needed; the records of their calls stay."""
        raise StoreError(f"{type(self).__name__} can't be freed from here")

    def evict(self, chosen: Chosen, dry_run: bool) -> Evicted:
        """Throw calls away, and what only they referenced; see `Cache.evict`."""
        raise StoreError(f"can't evict from {type(self).__name__}")

    def verify(self, repair: bool, discard: bool, tell: Progress) -> Report:
        """Check all that is kept; see `Cache.verify`."""
        raise StoreError(f"{type(self).__name__} can't be verified from here")

    def functions(self) -> list[FunctionRow]:
        """Return a row a function, the one with the most bytes first."""
        from wellkept.stores.reports import FunctionRow  # who only calls has no need of it

        return FunctionRow.of(self._all())

    def calls_of(self, names: Sequence[str], limit: int | None = None) -> Iterator[Call]:
        """Return the calls of some functions, the latest first; damaged ones are left out."""
        found = [call for call in self._all() if call.function in names]
        found.sort(key=lambda call: -call.created)
        yield from found[:limit]

    def totals(self) -> Totals:
        """Return counts and sums of all."""
        from wellkept.stores.reports import FunctionRow, Totals  # who only calls has no need of it

        found = list(self._all())
        sizes = {call.result: call.size for call in found}
        there = set(self.values.keys())
        held = sum(size for digest, size in sizes.items() if digest in there)
        return Totals.of(FunctionRow.of(found), values=len(there), bytes=held)

    def candidates(self) -> Iterator[Candidate]:
        """Return what a policy judges each call by."""
        from wellkept.stores.reports import Candidate  # who only calls has no need of it

        results = set(self.values.keys())
        for key, call in each_call(self.calls):
            if call is not None:
                there = call.result in results
                row = (call.result, call.created, call.seconds, call.size, call.uses)
                yield Candidate(key, *row, call.used or 0.0, there)

    def _all(self) -> Iterator[Call]:
        return (call for _, call in each_call(self.calls) if call is not None)

    def check_writable(self) -> None:
        """Raise if nothing is written to it.

        Raises:
            StoreError: it is so.
        """
        if not self.writable:
            raise StoreError(
                "this cache is only read from; do that with the cache it was made from"
            )

    def close(self) -> None:
        """Let go of what is open; it opens again when it is used."""


def inner(backend: Backend, *, write: bool) -> Any:
    """Return the backend at the bottom of derived ones.

    Raises:
        StoreError: it is to be written, and one of them is not written to.
    """
    while True:
        if write:
            backend.check_writable()
        if backend.backend is None:
            return backend
        backend = backend.backend
