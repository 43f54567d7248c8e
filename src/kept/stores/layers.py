"""Several places as one: read near to far, back-filled on the way; written to the first or to all.

A far place that does not answer is a warning and a miss, never an error: whoever stacks caches wants
the near one to go on.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

from kept.errors import DecodeError, StoreError, tell
from kept.records import Buffer, Call, Value
from kept.stores.base import Store

__all__ = ["Layers"]

V = TypeVar("V")
_PAUSE = 10.0  # seconds for which a place that did not answer is not asked again


class Held(NamedTuple):
    """A frame, and the place that can load it."""

    codec: str
    payload: bytes | memoryview | None
    blobs: Sequence[Any]
    place: Any
    frame: Any


class Found(NamedTuple):
    """What a fetch finds."""

    body: Any
    frame: Held | None
    exact: bool = True
    """Whether the near place has it too, whose changes can be seen."""


class Layers:
    """A place made of places, the nearest first.

    Args:
        places: two or more; the first is the near one.
        write: `"first"`, `"all"` or `"none"`.
        names: how each is called in a warning.
    """

    def __init__(self, places: Sequence[Any], write: str, names: Sequence[str]) -> None:
        self.places = list(places)
        self.write = write
        self.near = self.places[0]
        self._written = {"first": self.places[:1], "all": self.places, "none": []}[write]
        self._names = {id(place): name for place, name in zip(places, names, strict=True)}
        self._down: dict[int, float] = {}
        self.calls: Store[Call] = Union(self, "calls")
        self.values: Store[Value] = Union(self, "values")
        self.locks = _Locks(self)

    # -- asking a place ---------------------------------------------------------------------------

    def ask(self, place: Any, question: Callable[[], V]) -> V | None:
        """The answer of one place; None from one that is far and does not answer.

        Raises:
            StoreError: the near place does not answer.
        """
        if place is not self.near and self._down.get(id(place), 0.0) > time.monotonic():
            return None
        try:
            return question()
        except StoreError as error:
            if place is self.near:
                raise
            if id(place) not in self._down:
                tell(f"{self._names[id(place)]} does not answer and is left out: {error}")
            self._down[id(place)] = time.monotonic() + _PAUSE
            return None

    # -- one trip ---------------------------------------------------------------------------------

    def fetch(self, key: bytes) -> Found | None:
        """The nearest that has the call with its result; the places before it get it too.

        Raises:
            DecodeError: the near place's item is damaged, and no other has it.
        """
        record, trouble = None, None
        for i, place in enumerate(self.places):
            try:
                row = self.ask(place, lambda place=place: place.fetch(key))  # type: ignore[misc]  # bound now
            except DecodeError as error:
                trouble = error
                continue
            if row is not None and row.frame is not None:
                if i and self._written:
                    row, place = self._fill(key, i, row)
                return Found(row.body, _held(row.frame, place), place is self.near)
            record = record or row
        if record is None and trouble is not None:
            raise trouble
        return None if record is None else Found(record.body, None)

    def _fill(self, key: bytes, found: int, row: Any) -> tuple[Any, Any]:
        """Copy what the place `found` has to those before it; the row and place to read it from."""
        far = self.places[found]
        with contextlib.suppress(StoreError, DecodeError):
            call = far.calls.get(key.hex())
            value = far.values.get(call.result) if call is not None else None
            if call is not None and value is not None:
                for place in self.places[:found]:
                    self.ask(place, lambda place=place: place.commit(call, value))  # type: ignore[misc]  # bound now
                near = self.near.fetch(key)
                if near is not None and near.frame is not None:
                    return near, self.near
        return row, far

    def load(self, frame: Held) -> tuple[Buffer, Sequence[Buffer]]:
        found: tuple[Buffer, Sequence[Buffer]] = frame.place.load(frame.frame)
        return found

    def commit(self, call: Call, value: Value, uses: Mapping[bytes, int] | None = None) -> Any:
        """Keep in the first place, or in all of them; returns what the near place does.

        Raises:
            StoreError: the near place does not take it.
        """
        done = None
        for place in self._written:
            if place is self.near:
                done = place.commit(call, value, uses)
                if done is not None:
                    step, body, frame = done
                    done = step, body, _held(frame, place)
            else:
                self.ask(place, lambda place=place: place.commit(call, value))  # type: ignore[misc]  # bound now
        return done

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
        for place in self.places:
            with contextlib.suppress(StoreError):
                place.close()


def _held(frame: Any, place: Any) -> Held:
    return Held(frame.codec, frame.payload, frame.blobs, place, frame)


class Union(Generic[V]):
    """The calls, or the values, of all the places as one store."""

    def __init__(self, layers: Layers, what: str) -> None:
        self._layers = layers
        self._what = what

    def _each(self) -> Iterator[tuple[Any, Any]]:
        for place in self._layers.places:
            yield place, getattr(place, self._what)

    def get(self, key: str) -> V | None:
        for place, store in self._each():
            found: V | None = self._layers.ask(place, lambda store=store: store.get(key))  # type: ignore[misc]  # bound now
            if found is not None:
                return found
        return None

    def put(self, key: str, item: V) -> None:
        if not self._layers._written:
            raise StoreError("a pool of caches is written to nowhere")
        for place in self._layers._written:
            store = getattr(place, self._what)
            self._layers.ask(place, lambda store=store: store.put(key, item))  # type: ignore[misc]  # bound now

    def delete(self, key: str) -> None:
        if not self._layers._written:
            raise StoreError("a pool of caches is written to nowhere")
        for place, store in self._each():
            self._layers.ask(place, lambda store=store: store.delete(key))  # type: ignore[misc]  # bound now

    def keys(self, prefix: str = "") -> Iterator[str]:
        seen: set[str] = set()
        for place, store in self._each():
            for key in self._layers.ask(place, lambda store=store: list(store.keys(prefix))) or ():  # type: ignore[misc]  # bound now
                if key not in seen:
                    seen.add(key)
                    yield key


class _Locks:
    """Leases of the near place, and of the farthest that is written to, where others meet us."""

    def __init__(self, layers: Layers) -> None:
        self._layers = layers
        written = layers._written or layers.places[:1]
        self._far: Any = written[-1] if written[-1] is not layers.near else None
        self._held: set[bytes] = set()

    def acquire(self, key: bytes) -> bool:
        near = self._layers.near.locks
        if not near.acquire(key):
            return False
        if self._far is not None:
            got = self._layers.ask(self._far, lambda: self._far.locks.acquire(key))
            if got is False:
                near.release(key)
                return False
            if got:
                self._held.add(key)
        return True

    def release(self, key: bytes) -> None:
        if key in self._held:
            self._held.discard(key)
            self._layers.ask(self._far, lambda: self._far.locks.release(key))
        self._layers.near.locks.release(key)
