"""A stack of backends: read from the nearest to the farthest, back-filled, and written to the first or to all.

A far backend that does not answer is a warning and a miss, never an error: work with the near one goes on.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from wellkept.codecs import Envelope
from wellkept.errors import DecodeError, StoreError, tell
from wellkept.records import Buffer, Call, Value
from wellkept.stores.backend import Backend, CallStore, Lookup, Progress, ordered
from wellkept.stores.base import (
    Store,
)
from wellkept.stores.lease_records import StackLeases
from wellkept.stores.notes import Notes

if TYPE_CHECKING:
    from wellkept.conditions import Query
    from wellkept.stores.reports import Chosen, Collected, Evicted, Report
    from wellkept.stores.write_behind import Behind


V = TypeVar("V")
PAUSE = 10.0
"""Seconds for which a backend that did not answer is not asked again."""


class StackBackend(Backend):
    """A backend made of backends, the nearest first.

    Args:
        backends: two or more; the first is the near one.
        write: `"first"`, `"all"`, `"none"`, or `"behind"`: the first at once, the others later.
        names: the name of each, for warnings.
    """

    claims = True
    fetches_many = True

    def __init__(self, backends: Sequence[Any], write: str, names: Sequence[str]) -> None:
        self.backends: list[Backend] = list(backends)
        self.write = write
        self.near: Backend = self.backends[0]
        near = self.backends[:1]
        self._written = {"first": near, "all": self.backends, "none": [], "behind": near}[write]
        self._names = {id(backend): name for backend, name in zip(backends, names, strict=True)}
        self._down: dict[int, float] = {}
        self.calls: UnionCalls = UnionCalls(self, "calls")
        self.values: Store[Value] = Union(self, "values")
        self.notes: StackNotes = StackNotes(self)
        self.locks: Any = StackLeases(
            self._written, lambda one, asked: self.ask(one, lambda _: asked(), proof=False)
        )
        self.behind: list[Behind] = []
        if write == "behind":
            # Loaded on first use: few stacks write behind.
            from wellkept.stores.write_behind import Behind

            for far in self.backends[1:]:
                deliver = partial(self._deliver, far)
                self.behind.append(Behind(self.near, self._names[id(far)], deliver))

    @property
    def writable(self) -> bool:  # type: ignore[override]  # it may be a pool
        return bool(self._written)

    # -- asking a backend -------------------------------------------------------------------------

    def ask(self, backend: Any, question: Callable[[Any], V], *, proof: bool = True) -> V | None:
        """Return the answer of one backend; None if it is a far one and does not answer.

        Args:
            backend: the one to ask.
            question: what to ask of it.
            proof: whether an answer shows that the backend can be reached. Locks of this machine are
                taken without it.

        Raises:
            StoreError: the near backend does not answer.
        """
        if backend is not self.near and self._down.get(id(backend), 0.0) > time.monotonic():
            return None
        try:
            answer = question(backend)
        except StoreError as error:
            if backend is self.near:
                raise
            self._missing(backend, error)
            return None
        if proof:
            self._down.pop(id(backend), None)
        return answer

    def _missing(self, backend: Any, error: StoreError) -> None:
        if id(backend) not in self._down:
            tell(f"{self._names[id(backend)]} does not answer and is left out: {error}")
        self._down[id(backend)] = time.monotonic() + PAUSE

    def each(self, question: Callable[[Backend], V], *, write: bool) -> list[V]:
        """Return the answers of all backends that give one.

        Raises:
            StoreError: `write` is set and the stack is read-only, or the near backend does not answer.
        """
        if write:
            self.check_writable()
        answers = [self.ask(backend, question) for backend in self.backends]
        return [answer for answer in answers if answer is not None]

    # -- the whole --------------------------------------------------------------------------------

    def hold_index(self, room: int) -> None:
        """See `Backend.hold_index`."""
        for backend in self.backends:
            backend.hold_index(room)

    def collect(self, grace: float, dry_run: bool) -> Collected:
        # Loaded on first use: keeps `import wellkept` small.
        from wellkept.stores.reports import Collected

        return Collected.sum(self.each(lambda one: one.collect(grace, dry_run), write=True))

    def free(self, digests: Sequence[str]) -> Collected:
        # Loaded on first use: keeps `import wellkept` small.
        from wellkept.stores.reports import Collected

        return Collected.sum(self.each(lambda one: one.free(digests), write=True))

    def evict(self, chosen: Chosen, dry_run: bool) -> Evicted:
        """Delete calls; see `Cache.evict`. A call that is in several backends counts for each."""
        # Loaded on first use: keeps `import wellkept` small.
        from wellkept.stores.reports import Evicted

        parts = self.each(lambda one: one.evict(chosen, dry_run), write=True)
        return Evicted(
            sum(part.calls for part in parts),
            sum(part.values for part in parts),
            sum(part.blobs for part in parts),
            sum(part.bytes for part in parts),
            dry_run,
        )

    def verify(self, repair: bool, discard: bool, tell: Progress) -> Report:
        """Check all backends; see `Cache.verify`. Raises StoreError if one can't be reached."""
        # Loaded on first use: keeps `import wellkept` small.
        from wellkept.stores.reports import Report

        if repair:
            self.check_writable()
        return Report.sum(one.verify(repair, discard, tell) for one in self.backends)

    # -- one trip ---------------------------------------------------------------------------------

    def fetch(self, key: bytes) -> Lookup | None:
        """Return the call from the nearest backend that has its result; nearer ones get a copy.

        Raises:
            DecodeError: the near backend's item is damaged, and no other has it.
        """
        return self._fetch(key, None)

    def claim(self, key: bytes) -> Lookup | None:
        """Like `fetch`; on a miss the farthest backend that is written to may give its lease too."""
        return self._fetch(key, self.locks.far)

    def glance(self, key: bytes) -> Lookup | None:
        """Return the call from the near backend."""
        row = self.near.fetch(key)
        return None if row is None or row.envelope is None else _found(row, self.near, exact=True)

    def _fetch(self, key: bytes, claimed: Any) -> Lookup | None:
        record, trouble = None, None
        for behind in self.behind:
            behind.begin()
        for i, backend in enumerate(self.backends):
            try:
                row = self.ask(
                    backend, lambda one: one.claim(key) if one is claimed else one.fetch(key)
                )
                if row is not None and row.envelope is not None:
                    if i and self._written:
                        row, backend = self._fill(key, i, row)
                    return _found(row, backend, exact=backend is self.near)
            except DecodeError as error:
                trouble = error
                continue
            record = record if record is not None else row
        if record is None and trouble is not None:
            raise trouble
        return None if record is None else Lookup(record.body, None)

    def fetch_many(self, keys: Sequence[bytes]) -> dict[bytes, Lookup]:
        """The same for many keys: each place is asked once for what the nearer ones have not."""
        found: dict[bytes, Lookup] = {}

        def fetch(one: Backend) -> dict[bytes, Lookup]:
            return one.fetch_many([key for key in keys if key not in found])

        for i, backend in enumerate(self.backends):
            for key, row in (self.ask(backend, fetch) or {}).items():
                source = backend
                if row.envelope is not None:
                    if i and self._written:
                        row, source = self._fill(key, i, row)
                    found[key] = Lookup(row.body, _held(row.envelope, source), source is self.near)
        return found

    def _fill(self, key: bytes, found: int, row: Any) -> tuple[Any, Any]:
        """Copy a call from the backend `found` to those before it; return where to read it."""
        far = self.backends[found]
        call = self.ask(far, lambda one: one.calls.get(key.hex()))
        if call is None or call.result.raw != row.body.result:
            return row, far
        try:
            value = value_of(far, row)
        except StoreError as error:
            self._missing(far, error)
            return row, far
        for backend in self.backends[:found] if self.write == "all" else self._written:
            # A copy that can't be kept is no loss: the far backend has the result.
            with contextlib.suppress(StoreError):
                self.ask(backend, lambda one: one.commit(call, value))
        with contextlib.suppress(StoreError, DecodeError):
            near = self.near.fetch(key)
            if near is not None and near.envelope is not None:
                return near, self.near
        return row, far

    def find(self, query: Query) -> Iterator[Call]:
        """Return the calls that match; of a call in several backends, the nearest one's record."""
        every = query._replace(limit=None)
        fitting: dict[str, Call] = {}
        for i, backend in enumerate(self.backends):
            found = self.ask(backend, lambda one: list(one.find(every)))
            for call in found or ():
                if call.key not in fitting and not self._has(self.backends[:i], call.key):
                    fitting[call.key] = call
        return ordered(fitting.values(), query)

    def _has(self, backends: Sequence[Any], key: str) -> bool:
        return any(self.ask(backend, lambda one: one.calls.get(key)) for backend in backends)

    def load(self, envelope: Envelope) -> tuple[Buffer, Sequence[Buffer]]:
        """Return payload and buffers of an envelope; raises DecodeError if a far backend does not answer."""
        # A DecodeError makes it a miss, so that the result is computed and not waited for.
        backend, inside = envelope.source
        try:
            found: tuple[Buffer, Sequence[Buffer]] = backend.load(inside)
        except StoreError as error:
            if backend is self.near:
                raise
            self._missing(backend, error)
            raise DecodeError(f"{self._names[id(backend)]} does not answer") from error
        return found

    def commit(self, call: Call, value: Value, uses: Mapping[bytes, int] | None = None) -> Any:
        """Keep a call in the first backend, or in all of them; return what the near one does.

        Raises:
            StoreError: the near backend can't be written. The others were written nevertheless.
        """
        done = failed = None
        for backend in self._written:
            if backend is not self.near:
                self.ask(backend, lambda one: one.commit(call, value))
                continue
            try:
                done = backend.commit(call, value, uses)
            except StoreError as error:
                failed = error
            else:
                if done is not None:
                    step, body, envelope = done
                    done = step, body, _held(envelope, backend)
        if failed is not None:
            raise failed
        for behind in self.behind:
            behind.owe(call.key.raw)
        return done

    def _deliver(self, far: Any, key: bytes) -> None:
        """Commit a call of the near backend to a far one, unless it was deleted meanwhile."""
        call, row = self.near.calls.get(key.hex()), self.near.fetch(key)
        if (
            call is None
            or row is None
            or row.envelope is None
            or row.body.result != call.result.raw
        ):
            return
        far.commit(call, value_of(self.near, row))
        # It may have been deleted between the two, and would come back from the far backend.
        if self.near.calls.get(key.hex()) is None:
            far.calls.delete(key.hex())

    def count(self, uses: Mapping[bytes, int]) -> None:
        if self._written:
            self.near.count(uses)

    # -- currency ---------------------------------------------------------------------------------

    @property
    def words(self) -> Any:
        """Return the near backend's: a call that it has is served from it, whatever the far ones do."""
        return self.near.words if self._written else None

    def listen(self, told: Callable[[], None]) -> None:
        self.near.listen(told)

    def token(self) -> Any:
        """Return the near backend's; see `words`."""
        return self.near.token() if self._written else None

    def epoch(self, token: Any) -> Any:
        return self.near.epoch(token)

    def stale(self) -> bool:
        return bool(self.near.stale())

    def close(self) -> None:
        for behind in self.behind:
            behind.close()
        for backend in self.backends:
            with contextlib.suppress(StoreError):
                backend.close()


def value_of(backend: Any, row: Any) -> Value:
    """Return the value of a row that a backend fetched, as it can be kept in another backend.

    Raises:
        DecodeError: it is damaged.
        StoreError: it can't be read.
    """
    envelope = row.envelope
    payload, buffers = backend.load(envelope)
    names = [blob.name for blob in envelope.blobs][: len(buffers)]
    return Value(envelope.codec, bytes(payload), tuple(buffers), names, envelope.signature)


def _found(row: Any, backend: Any, *, exact: bool) -> Lookup:
    return Lookup(row.body, _held(row.envelope, backend), exact)


def _held(envelope: Any, backend: Any) -> Envelope:
    """Return the envelope with the backend that can load it as its source."""
    return Envelope(
        envelope.codec, envelope.payload, envelope.blobs, envelope.signature, (backend, envelope)
    )


class Union(Generic[V]):
    """The calls, or the values, of all backends as one store."""

    def __init__(self, layers: StackBackend, what: str) -> None:
        self._layers = layers
        self._what = what

    def _of(self, backend: Any) -> Any:
        return getattr(backend, self._what)

    def get(self, key: str) -> V | None:
        for backend in self._layers.backends:
            found: V | None = self._layers.ask(backend, lambda one: self._of(one).get(key))
            if found is not None:
                return found
        return None

    def put(self, key: str, item: V) -> None:
        if not self._layers._written:
            raise StoreError("a pool of caches is read-only")
        for backend in self._layers._written:
            self._layers.ask(backend, lambda one: self._of(one).put(key, item))

    def delete(self, key: str) -> None:
        if not self._layers._written:
            raise StoreError("a pool of caches is read-only")
        for backend in self._layers.backends:
            self._layers.ask(backend, lambda one: self._of(one).delete(key))

    def keys(self, prefix: str = "") -> Iterator[str]:
        seen: set[str] = set()
        for backend in self._layers.backends:
            found = self._layers.ask(backend, lambda one: list(self._of(one).keys(prefix)))
            for key in found or ():
                if key not in seen:
                    seen.add(key)
                    yield key


class UnionCalls(Union[Call], CallStore):
    """The calls of all the backends."""


class StackNotes(Notes):
    """The notes of all backends: read from the nearest to the farthest, written where calls are written."""

    def __init__(self, layers: StackBackend) -> None:
        self._layers = layers

    def get(self, key: str) -> bytes | None:
        for backend in self._layers.backends:
            found: bytes | None = self._layers.ask(
                backend,
                lambda one: one.notes.get(key),
            )
            if found is not None:
                return found
        return None

    def create(self, key: str, item: Buffer) -> bool:
        """Keep the note if there is none; return whether there was none."""
        # The farthest backend that is written to and answers decides, as that is the one that others share.
        written = self._written()
        for backend in reversed(written):
            made = self._layers.ask(
                backend,
                lambda one: one.notes.create(key, item),
            )
            if made is None:
                continue
            if made:
                for other in written:
                    if other is not backend:
                        self._layers.ask(other, lambda one: one.notes.put(key, item))
            return bool(made)
        raise StoreError(f"can't create the note {key}: no backend answers")

    def keys(self, prefix: str = "") -> Iterator[str]:
        seen: set[str] = set()
        for backend in self._layers.backends:
            for key in self._layers.ask(backend, lambda one: list(one.notes.keys(prefix))) or ():
                if key not in seen:
                    seen.add(key)
                    yield key

    def get_many(self, keys: Iterable[str]) -> dict[str, bytes]:
        wanted = list(keys)
        found: dict[str, bytes] = {}

        def get(one: Backend) -> dict[str, bytes]:
            return one.notes.get_many([key for key in wanted if key not in found])

        for backend in self._layers.backends:
            if len(found) < len(set(wanted)):
                found.update(self._layers.ask(backend, get) or {})
        return found

    def put_many(self, items: Mapping[str, Buffer]) -> None:
        for backend in self._written():
            self._layers.ask(backend, lambda one: one.notes.put_many(items))

    def delete_many(self, keys: Iterable[str]) -> None:
        gone = list(keys)
        self._written()
        for backend in self._layers.backends:
            self._layers.ask(backend, lambda one: one.notes.delete_many(gone))

    def _written(self) -> list[Any]:
        if not self._layers._written:
            raise StoreError("a pool of caches is read-only")
        return list(self._layers._written)
