"""The base class of backends, whose optional abilities are methods with defaults.

A backend has to provide `calls`, `values`, `notes`, `locks`, `fetch`, `load` and `commit`. Everything else has
a default that is correct, if slow; a backend overrides what it can do in fewer trips.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

from wellkept.codecs import Envelope
from wellkept.errors import DecodeError, StoreError
from wellkept.interrupts import Owner
from wellkept.records import Buffer, Call, Value
from wellkept.stores.base import Store
from wellkept.stores.epoch import Token
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


class Lookup(NamedTuple):
    """The call under a key: its verified body, and the verified envelope of its result if that is kept."""

    body: Body
    envelope: Envelope | None
    exact: bool = False
    """Whether a change of the call would change the backend's `token`."""


class OtherFound(Exception):  # noqa: N818  it is no error
    """Something else is under a key than was seen there, so nothing is written."""


class CallStore:
    """The calls of a backend, as a `Store[Call]`."""

    def get(self, key: str) -> Call | None:
        """Return the record, or None."""
        raise NotImplementedError

    def put(self, key: str, item: Call) -> None:
        """Change a record, whose result must be kept already."""
        raise NotImplementedError

    def delete(self, key: str) -> None:
        """Delete the record."""
        raise NotImplementedError

    def keys(self, prefix: str = "") -> Iterator[str]:
        """Return the keys that begin with `prefix`, each once."""
        raise NotImplementedError

    def pairs(self) -> Iterator[tuple[str, Call | DecodeError]]:
        """Yield every key with its record, or with the error if it is damaged."""
        # Listed first, as the caller may delete some meanwhile.
        for key in list(self.keys()):
            try:
                call = self.get(key)
            except DecodeError as error:
                yield key, error
            else:
                if call is not None:
                    yield key, call


def each_call(calls: CallStore) -> Iterator[tuple[str, Call | None]]:
    """Yield every key with its record (None if it is damaged), in as few trips as the store can."""
    for key, found in calls.pairs():
        yield key, found if isinstance(found, Call) else None


def scan(calls: CallStore, query: Query) -> Iterator[Call]:
    """Return the calls that match a query, in its order, by reading every record; damaged ones are left out."""
    fitting = (call for _, call in each_call(calls) if call is not None and query(call))
    return ordered(fitting, query)


def ordered(calls: Iterable[Call], query: Query) -> Iterator[Call]:
    """Return calls in the order of a query, up to its limit."""
    # Loaded on first use: keeps `import wellkept` small.
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
    """Whether it can be written to."""
    backend: Backend | None = None
    """The backend that a view shows."""
    backends: Sequence[Backend] = ()
    """The tiers of a stack, the nearest first."""
    claims = False
    """Whether a lookup may leave this host; then the lease can come with the answer."""
    codec: str = "pickle"
    """The codec of results whose function names none."""
    fetches_many = False
    """Whether `fetch_many` takes fewer trips than a `fetch` each."""
    measures = False
    """Whether `footprint` knows what it takes on a disk."""
    commits_many = False
    """Whether `commit_many` takes fewer transactions than a `commit` each."""
    indexed = False
    """Whether calls are found by their arguments without reading them all."""
    where: Callable[[Call], bool] | None = None
    """The filter of a view; None if it shows all calls."""
    root: Path | None = None
    """The directory that belongs to it."""
    blobs: Blobs | None = None
    """The files in that directory that hold large parts of results, named by their content."""
    byte_stores: Sequence[Store[bytes]] = ()
    """The stores of bytes that it is made of: the one with the calls, and the one with the values."""

    # -- one trip ---------------------------------------------------------------------------------

    def fetch(self, key: bytes) -> Lookup | None:
        """Return the call under a key, or None.

        Raises:
            DamagedValue: it is damaged.
            StoreError: the backend can't be read.
        """
        raise NotImplementedError

    def fetch_many(self, keys: Sequence[bytes]) -> dict[bytes, Lookup]:
        """Return the calls under several keys; a damaged one is left out, and raises with `fetch`."""
        found = {}
        for key in keys:
            with suppress(DecodeError):
                row = self.fetch(key)
                if row is not None:
                    found[key] = row
        return found

    def lacking(self, keys: Sequence[bytes]) -> Collection[bytes]:
        """Return those of the keys that surely have no call, as far as that is quick to tell.

        Raises:
            StoreError: the backend can't be read.
        """
        return ()

    def claim(self, key: bytes) -> Lookup | None:
        """Like `fetch`; on a miss the lease may come with the answer, which spares a trip."""
        return self.fetch(key)

    def glance(self, key: bytes) -> Lookup | None:
        """Like `fetch`, but never leaves this host."""
        return self.fetch(key)

    def load(self, envelope: Envelope) -> tuple[Buffer, Sequence[Buffer]]:
        """Return the payload and the buffers of an envelope, verified.

        Raises:
            DamagedValue: a blob is missing or damaged.
            StoreError: one can't be read.
        """
        raise NotImplementedError

    def probe(self, envelope: Envelope, most: int) -> None:
        """Check that an envelope's blobs exist and, up to `most` bytes in all, that their content is right.

        Unlike `load` this changes nothing: a damaged blob stays. A remote backend does not check.

        Raises:
            DamagedValue: a blob is missing or damaged.
            StoreError: a blob can't be read.
        """

    def commit(
        self, call: Call, value: Value, uses: Mapping[bytes, int] | None = None
    ) -> tuple[Any, Body, Envelope] | None:
        """Keep a call and its result, and add to the counts of uses.

        Returns the tokens before and after, and what a fetch would now find; None if a memory tier can't
        follow the backend.

        Raises:
            StoreError: it can't be written.
        """
        raise NotImplementedError

    def commit_many(
        self, items: Sequence[tuple[Call, Value]], uses: Mapping[bytes, int] | None = None
    ) -> Sequence[tuple[Any, Body, Envelope] | None]:
        """Keep many calls as `commit` does: in as few transactions as the backend can, in their order.

        Returns what `commit` does, of each.

        Raises:
            StoreError: one can't be written. Those before it may be kept.
        """
        done = []
        for call, value in items:
            done.append(self.commit(call, value, uses))
            uses = None
        return done

    def seen(self, key: bytes) -> Body | None:
        """Return the body of what is under a key; None if there is nothing that can be read.

        Raises:
            StoreError: it can't be read.
        """
        with suppress(DecodeError):
            found = self.fetch(key)
            return None if found is None else found.body
        return None

    def commit_over(self, call: Call, value: Value, before: Body | None) -> bool:
        """Keep a call and its result if `before` is still what is under its key; return whether it was.

        The lease of the key is held meanwhile, so nobody who computes the call comes between. A backend
        that can compare in the transaction does that instead, and then nobody does.

        Raises:
            StoreError: it can't be written.
        """
        key, owner = call.key.raw, Owner()
        if not self.locks.acquire(key, owner):
            return False
        try:
            if self.seen(key) != before:
                return False
            self.commit(call, value)
            return True
        finally:
            owner.over = True
            self.locks.release(key, owner)

    def count(self, uses: Mapping[bytes, int]) -> None:
        """Add to the counts of uses."""
        raise NotImplementedError

    # -- finding ----------------------------------------------------------------------------------

    def find(self, query: Query) -> Iterator[Call]:
        """Return the calls that match, in the query's order."""
        return scan(self.calls, query)

    def peek(self, query: Query) -> Iterator[Call]:
        """Like `find`, but writes nothing, not even to bring an index up to date."""
        return self.find(query)

    def found(self, query: Query) -> int | None:
        """Return how many calls match; None if records must be read to tell."""
        return None

    def codes(self, function: str) -> Iterator[str] | None:
        """Return the code identities and versions under which a function has calls, the latest first.

        None if records must be read to tell.
        """
        return None

    def table(self, query: Query) -> Any:
        """Return the calls that match as columns; None if records must be read."""
        return None

    def related(self) -> Any:
        """Return an index of calls by their arguments, results and callers; None if records must be read."""
        return None

    # -- currency ---------------------------------------------------------------------------------

    @property
    def words(self) -> memoryview | None:
        """Return the mapped memory that a memory tier compares (see `WalIndex`); None if there is none."""
        return None

    def token(self) -> Token | None:
        """Return a value that changes with every commit of any process; None if there is none."""
        return None

    def epoch(self, token: Token) -> Token | None:
        """Return the epoch of a token: between two tokens of one, calls were only added. None: it is not
        known, and what was read at another token may be another now.
        """
        return None

    def listen(self, told: Callable[[], None]) -> None:
        """Call `told` whenever `words` has changed to another mapping, or to None."""

    def stale(self) -> bool:
        """Return whether its files were removed or replaced by others."""
        return False

    # -- the whole --------------------------------------------------------------------------------

    def sign(self, trusts: Any) -> None:
        """Sign results that are kept, and accept only the signatures that `trusts` accepts.

        See `wellkept.stores.keyring.Trusts`. Results that go to a server are signed anyhow.
        """

    def hold(self, limit: int) -> None:
        """Hold up to `limit` bytes of large blobs in memory, if the backend can't map them."""

    def hold_index(self, room: int) -> None:
        """Hold no more than so many KiB of an index in memory, if it has one that is a file."""

    def collect(self, grace: float, dry_run: bool) -> Collected:
        """Remove what nothing references; see `Cache.gc`."""
        raise StoreError(f"{type(self).__name__} can't be collected from here")

    def free(self, digests: Sequence[str]) -> Collected:
        """Delete results, and what only they needed; the records of their calls stay."""
        raise StoreError(f"{type(self).__name__} can't be freed from here")

    def evict(self, chosen: Chosen, dry_run: bool) -> Evicted:
        """Delete calls, and what only they referenced; see `Cache.evict`."""
        raise StoreError(f"can't evict from {type(self).__name__}")

    def verify(self, repair: bool, discard: bool, tell: Progress) -> Report:
        """Check all that is kept; see `Cache.verify`."""
        raise StoreError(f"{type(self).__name__} can't be verified from here")

    def functions(self) -> list[FunctionRow]:
        """Return a row for each function, the one with the most bytes first."""
        # Loaded on first use: keeps `import wellkept` small.
        from wellkept.stores.reports import FunctionRow

        return FunctionRow.of(self._all())

    def calls_of(self, names: Sequence[str], limit: int | None = None) -> Iterator[Call]:
        """Return the calls of some functions, the latest first; damaged ones are left out."""
        found = [call for call in self._all() if call.function in names]
        found.sort(key=lambda call: -call.created)
        yield from found[:limit]

    def totals(self) -> Totals:
        """Return counts and sums of all."""
        # Loaded on first use: keeps `import wellkept` small.
        from wellkept.stores.reports import FunctionRow, Totals

        found = list(self._all())
        sizes = {call.result: call.size for call in found}
        there = set(self.values.keys())
        held = sum(size for digest, size in sizes.items() if digest in there)
        return Totals.of(FunctionRow.of(found), values=len(there), bytes=held)

    def footprint(self) -> int | None:
        """Return the bytes that it takes on a disk of this machine; None where that is not known at once,
        or a limit holds them.
        """
        return None

    def candidates(self) -> Iterator[Candidate]:
        """Yield each call as an eviction policy judges it."""
        # Loaded on first use: keeps `import wellkept` small.
        from wellkept.stores.reports import Candidate

        results = set(self.values.keys())
        for key, call in each_call(self.calls):
            if call is not None:
                there = call.result in results
                row = (call.result, call.created, call.seconds, call.size, call.uses)
                yield Candidate(key, *row, call.used or 0.0, there, call.function)

    def _all(self) -> Iterator[Call]:
        return (call for _, call in each_call(self.calls) if call is not None)

    def check_writable(self) -> None:
        """Check that the backend can be written to.

        Raises:
            StoreError: it is read-only.
        """
        if not self.writable:
            raise StoreError("this cache is read-only; do that with the cache it was made from")

    def close(self) -> None:
        """Close its files and connections; the next use opens them again."""


def inner(backend: Backend, *, write: bool) -> Any:
    """Return the backend that a chain of views ends with.

    Raises:
        StoreError: `write` is set, and one of them is read-only.
    """
    while True:
        if write:
            backend.check_writable()
        if backend.backend is None:
            return backend
        backend = backend.backend
