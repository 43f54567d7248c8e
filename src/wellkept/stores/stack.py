"""Several places as one: read near to far, back-filled on the way; written to the first or to all.

A far place that does not answer is a warning and a miss, never an error: whoever stacks caches wants
the near one to go on.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

from wellkept.errors import DecodeError, StoreError, tell
from wellkept.records import Buffer, Call, Value
from wellkept.stores.base import Store
from wellkept.stores.layerlocks import LayerLocks
from wellkept.stores.notes import LayeredNotes

if TYPE_CHECKING:
    from wellkept.conditions import Query
    from wellkept.stores.write_behind import Behind


V = TypeVar("V")
PAUSE = 10.0
"""Seconds for which a place that did not answer is not asked again."""


class Held(NamedTuple):
    """An envelope, and the place that can load it."""

    codec: str
    payload: bytes | memoryview | None
    blobs: Sequence[Any]
    backend: Any
    envelope: Any
    signature: bytes = b""


class Found(NamedTuple):
    """What a fetch finds."""

    body: Any
    envelope: Held | None
    exact: bool = True
    """Whether the near place has it too, whose changes can be seen."""


class Layers:
    """A place made of places, the nearest first.

    Args:
        places: two or more; the first is the near one.
        write: `"first"`, `"all"`, `"none"`, or `"behind"`: the first at once, the others later.
        names: how each is called in a warning.
    """

    def __init__(self, backends: Sequence[Any], write: str, names: Sequence[str]) -> None:
        self.backends = list(backends)
        self.write = write
        self.near = self.backends[0]
        near = self.backends[:1]
        self._written = {"first": near, "all": self.backends, "none": [], "behind": near}[write]
        self._names = {id(backend): name for backend, name in zip(backends, names, strict=True)}
        self._down: dict[int, float] = {}
        self.calls: Store[Call] = Union(self, "calls")
        self.values: Store[Value] = Union(self, "values")
        self.notes = LayeredNotes(self)
        self.locks = LayerLocks(self)
        self.behind: list[Behind] = []
        if write == "behind":
            from wellkept.stores.write_behind import Behind  # few do

            for far in self.backends[1:]:
                deliver = partial(self._deliver, far)
                self.behind.append(Behind(self.near, self._names[id(far)], deliver))

    @property
    def writable(self) -> bool:
        return bool(self._written)

    # -- asking a place ---------------------------------------------------------------------------

    def ask(self, backend: Any, question: Callable[[], V]) -> V | None:
        """The answer of one place; None from one that is far and does not answer.

        Raises:
            StoreError: the near place does not answer.
        """
        if backend is not self.near and self._down.get(id(backend), 0.0) > time.monotonic():
            return None
        try:
            answer = question()
        except StoreError as error:
            if backend is self.near:
                raise
            self._missing(backend, error)
            return None
        self._down.pop(id(backend), None)  # it is back
        return answer

    def _missing(self, backend: Any, error: StoreError) -> None:
        if id(backend) not in self._down:
            tell(f"{self._names[id(backend)]} does not answer and is left out: {error}")
        self._down[id(backend)] = time.monotonic() + PAUSE

    def each(self, question: Callable[[Any], V], total: Callable[[Iterable[V]], V]) -> V:
        """The answers of all places that give one, added up."""
        answers = [
            self.ask(backend, lambda backend=backend: question(backend))  # type: ignore[misc]  # bound now
            for backend in self.backends
        ]
        return total(answer for answer in answers if answer is not None)

    # -- one trip ---------------------------------------------------------------------------------

    def fetch(self, key: bytes) -> Found | None:
        """The nearest that has the call with its result; the places before it get it too.

        Raises:
            DecodeError: the near place's item is damaged, and no other has it.
        """
        return self._fetch(key, None)

    def claim(self, key: bytes) -> Found | None:
        """`fetch`, for who computes what is not there: the farthest that is written to gives its
        lease with the answer, if it can.
        """
        return self._fetch(key, self.locks.far)

    def glance(self, key: bytes) -> Found | None:
        """What is near."""
        row = self.near.fetch(key)
        return None if row is None or row.envelope is None else _found(row, self.near, exact=True)

    def _fetch(self, key: bytes, claimed: Any) -> Found | None:
        record, trouble = None, None
        for behind in self.behind:
            behind.begin()
        for i, backend in enumerate(self.backends):
            try:
                look = (
                    getattr(backend, "claim", backend.fetch)
                    if backend is claimed
                    else backend.fetch
                )
                row = self.ask(backend, lambda look=look: look(key))  # type: ignore[misc]  # bound now
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
        return None if record is None else Found(record.body, None)

    def fetch_many(self, keys: Sequence[bytes]) -> dict[bytes, Found]:
        """The same for many keys: each place is asked once for what the nearer ones have not."""
        found: dict[bytes, Found] = {}
        for i, backend in enumerate(self.backends):
            left = [key for key in keys if key not in found]
            many = getattr(backend, "fetch_many", None) or _one_by_one(backend)
            for key, row in (self.ask(backend, partial(many, left)) or {}).items():
                source = backend
                if row.envelope is not None:
                    if i and self._written:
                        row, source = self._fill(key, i, row)
                    found[key] = Found(row.body, _held(row.envelope, source), source is self.near)
        return found

    def _fill(self, key: bytes, found: int, row: Any) -> tuple[Any, Any]:
        """Copy what the place `found` has to those before it; the row and place to read it from."""
        far = self.backends[found]
        call = self.ask(far, lambda: far.calls.get(key.hex()))
        if call is None or call.result.raw != row.body.result:
            return row, far
        try:
            value = value_of(far, row)
        except StoreError as error:
            self._missing(far, error)
            return row, far
        for backend in self.backends[:found] if self.write == "all" else self._written:
            with contextlib.suppress(StoreError):  # it could not be kept there: it is here
                self.ask(backend, lambda backend=backend: backend.commit(call, value))  # type: ignore[misc]  # bound now
        with contextlib.suppress(StoreError, DecodeError):
            near = self.near.fetch(key)
            if near is not None and near.envelope is not None:
                return near, self.near
        return row, far

    def find(self, query: Query) -> Iterator[Call]:
        """The calls that fit. One that several places have is what the nearest says of it."""
        every = query._replace(limit=None)
        fitting: dict[str, Call] = {}
        for i, backend in enumerate(self.backends):
            found = self.ask(backend, lambda backend=backend: list(backend.find(every)))  # type: ignore[misc]  # bound now
            for call in found or ():
                if (
                    call.key not in fitting
                    and not any(
                        self.ask(near, lambda near=near, call=call: near.calls.get(call.key))  # type: ignore[misc]  # bound now
                        for near in self.backends[:i]
                    )
                ):
                    fitting[call.key] = call
        from wellkept.stores.backend import ordered  # who only calls has no need of it

        return ordered(fitting.values(), query)

    def found(self, query: Query) -> int | None:
        """Only the records tell which calls are in several places."""

    def load(self, envelope: Held) -> tuple[Buffer, Sequence[Buffer]]:
        """See `Medium.load`; a far place that does not answer makes it a miss."""
        try:
            found: tuple[Buffer, Sequence[Buffer]] = envelope.backend.load(envelope.envelope)
        except StoreError as error:
            if envelope.backend is self.near:
                raise
            self._missing(envelope.backend, error)
            raise DecodeError(f"{self._names[id(envelope.backend)]} does not answer") from error
        return found

    def commit(self, call: Call, value: Value, uses: Mapping[bytes, int] | None = None) -> Any:
        """Keep in the first place, or in all of them; returns what the near place does.

        Raises:
            StoreError: the near place does not take it. The others were asked to nevertheless.
        """
        done = failed = None
        for backend in self._written:
            if backend is not self.near:
                self.ask(backend, lambda backend=backend: backend.commit(call, value))  # type: ignore[misc]  # bound now
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
        """Commit to a far place what the near one has; nothing, if it was forgotten meanwhile."""
        call, row = self.near.calls.get(key.hex()), self.near.fetch(key)
        if (
            call is None
            or row is None
            or row.envelope is None
            or row.body.result != call.result.raw
        ):
            return
        far.commit(call, value_of(self.near, row))
        if self.near.calls.get(key.hex()) is None:  # or what was forgotten would come back
            far.calls.delete(key.hex())

    def count(self, uses: Mapping[bytes, int]) -> None:
        if self._written:
            self.near.count(uses)

    # -- currency ---------------------------------------------------------------------------------

    @property
    def words(self) -> Any:
        """The near place's: what is in it is served from it, whatever the far ones do."""
        return self.near.words if self._written else None

    def listen(self, told: Callable[[], None]) -> None:
        self.near.listen(told)

    def token(self) -> Any:
        """The near place's; see `words`."""
        return self.near.token() if self._written else None

    def stale(self) -> bool:
        return bool(self.near.stale())

    def close(self) -> None:
        for behind in self.behind:
            behind.close()
        for backend in self.backends:
            with contextlib.suppress(StoreError):
                backend.close()


def value_of(backend: Any, row: Any) -> Value:
    """The value that a place fetched, as it can be kept in another.

    Raises:
        DecodeError: it is damaged.
        StoreError: it can't be read.
    """
    envelope = row.envelope
    payload, buffers = backend.load(envelope)
    names = [blob.name for blob in envelope.blobs][: len(buffers)]
    return Value(envelope.codec, bytes(payload), tuple(buffers), names, envelope.signature)


def _one_by_one(backend: Any) -> Callable[[Sequence[bytes]], dict[bytes, Any]]:
    """Many keys of a place that is asked for each."""

    def fetch(keys: Sequence[bytes]) -> dict[bytes, Any]:
        rows = {}
        for key in keys:
            with contextlib.suppress(DecodeError):  # `fetch` tells of it
                row = backend.fetch(key)
                if row is not None:
                    rows[key] = row
        return rows

    return fetch


def _found(row: Any, backend: Any, *, exact: bool) -> Found:
    return Found(row.body, _held(row.envelope, backend), exact)


def _held(envelope: Any, backend: Any) -> Held:
    return Held(
        envelope.codec, envelope.payload, envelope.blobs, backend, envelope, envelope.signature
    )


class Union(Generic[V]):
    """The calls, or the values, of all the places as one store."""

    def __init__(self, layers: Layers, what: str) -> None:
        self._layers = layers
        self._what = what

    def _each(self) -> Iterator[tuple[Any, Any]]:
        for backend in self._layers.backends:
            yield backend, getattr(backend, self._what)

    def get(self, key: str) -> V | None:
        for backend, store in self._each():
            found: V | None = self._layers.ask(backend, lambda store=store: store.get(key))  # type: ignore[misc]  # bound now
            if found is not None:
                return found
        return None

    def put(self, key: str, item: V) -> None:
        if not self._layers._written:
            raise StoreError("a pool of caches is written to nowhere")
        for backend in self._layers._written:
            store = getattr(backend, self._what)
            self._layers.ask(backend, lambda store=store: store.put(key, item))  # type: ignore[misc]  # bound now

    def delete(self, key: str) -> None:
        if not self._layers._written:
            raise StoreError("a pool of caches is written to nowhere")
        for backend, store in self._each():
            self._layers.ask(backend, lambda store=store: store.delete(key))  # type: ignore[misc]  # bound now

    def keys(self, prefix: str = "") -> Iterator[str]:
        seen: set[str] = set()
        for backend, store in self._each():
            found = self._layers.ask(backend, lambda store=store: list(store.keys(prefix)))  # type: ignore[misc]  # bound now
            for key in found or ():
                if key not in seen:
                    seen.add(key)
                    yield key
