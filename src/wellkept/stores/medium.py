"""Any one or two stores of bytes as the place that a cache needs.

A hit on a small result is one `get`, keeping one is one `put`. Leases are records where the medium
can `create` and `replace`; where it can't, they hold within this process.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from wellkept.codecs import Envelope
from wellkept.errors import DecodeError
from wellkept.records import Buffer, Call, Value
from wellkept.stores.base import Creates, Replaces, Store, get_many
from wellkept.stores.body import Body, unseal
from wellkept.stores.coder import (
    INLINE,
    CodedCalls,
    CodedValues,
    pack_uses,
    unpack_body,
    unpack_uses,
    value_key,
)
from wellkept.stores.itemlocks import locks_for
from wellkept.stores.locks import Locks
from wellkept.stores.memory import Memory
from wellkept.stores.near import Near
from wellkept.stores.notes import ItemNotes

if TYPE_CHECKING:
    from wellkept.conditions import Query

__all__ = ["Held", "Medium"]


_TRIES = 5
_UNPACKED = 2000  # items in memory whose parts are remembered


class Held(NamedTuple):
    """What a fetch finds: the call's body, and its encoded result if that is kept."""

    body: Body
    envelope: Envelope | None
    exact: bool = False
    """No memory tier stands before a medium: its `words` tell nothing."""


class Medium:
    """Calls in one store of bytes, values in the same or another.

    Args:
        calls: where call records are, with small results in them.
        values: where larger results and buffers are; `calls` by default.
        locks: leases; by default what the medium allows.
    """

    words: memoryview | None = None
    trusts: Any = None
    """Who signs what is kept, and whose signatures are believed: `wellkept.stores.keyring.Trusts`. None: who
    can write to the medium is trusted.
    """

    def __init__(
        self,
        calls: Store[bytes],
        values: Store[bytes] | None = None,
        *,
        locks: Any = None,
        inline: int = INLINE,
    ) -> None:
        items = calls if values is None else values
        # A result travels in its call's item only where both stand in one medium, or
        # `Cache(values=…)` would not be where values are.
        self._inline = inline if values is None or values is calls else 0
        self.values = CodedValues(items, calls)
        self.calls = CodedCalls(calls, self.values.envelope)
        self.notes = ItemNotes(calls)
        self.locks = locks_for(calls) if locks is None else locks
        self._near: Near | None = None
        self._unpacked: dict[bytes, tuple[bytes, Held]] = {}

    def fetch(self, key: bytes) -> Held | None:
        """The call under a key and its result's envelope, verified.

        Raises:
            DamagedValue: an item is damaged.
            StoreError: the medium can't be read.
        """
        item = self.calls.items.get(f"calls/{key.hex()}")
        if item is None:
            return None
        known = self._unpacked.get(key)
        if known is not None and known[0] is item:
            return known[1]
        body, envelope, _ = unpack_body(key, item)
        if self.trusts is not None:
            return self._trusted(item, body, envelope)
        if envelope is None:
            name = value_key(bytes(item))
            own = self.values.items.get(name) if name else None
            envelope = None if own is None else Envelope.unpack(unseal(body.result, bytes(own)))
        elif isinstance(
            self.calls.items, Memory
        ):  # which gives the same bytes, the object, each time
            if len(self._unpacked) >= _UNPACKED:
                self._unpacked.clear()
            self._unpacked[key] = item, Held(body, envelope)
        return Held(body, envelope)

    def _trusted(self, item: bytes, body: Body, envelope: Envelope | None) -> Held:
        """What was found, with the codec by which it may be decoded; raises as `fetch`."""
        if envelope is None and (name := value_key(bytes(item))):
            own = self.values.items.get(name)
            envelope = None if own is None else Envelope.unpack(unseal(body.result, bytes(own)))
        return Held(body, None if envelope is None else self.trusts.read(body.result, envelope))

    def fetch_many(self, keys: Sequence[bytes]) -> dict[bytes, Held]:
        """What is under those keys that have a call, in two trips where the medium has `get_many`.

        One whose item is damaged is left out: `fetch` tells of it.

        Raises:
            StoreError: the medium can't be read.
        """
        names = {f"calls/{key.hex()}": key for key in keys}
        found: dict[bytes, Held] = {}
        apart: dict[str, list[tuple[bytes, Body]]] = {}
        for name, item in get_many(self.calls.items, names).items():
            key = names[name]
            with suppress(DecodeError):
                body, envelope, _ = unpack_body(key, item)
                if envelope is not None and self.trusts is not None:
                    envelope = self.trusts.read(body.result, envelope)
                found[key] = Held(body, envelope)
                if envelope is None and (own := value_key(bytes(item))):
                    apart.setdefault(own, []).append((key, body))
        for name, item in (get_many(self.values.items, apart) if apart else {}).items():
            for key, body in apart[name]:
                try:
                    envelope = Envelope.unpack(unseal(body.result, bytes(item)))
                    if self.trusts is not None:
                        envelope = self.trusts.read(body.result, envelope)
                except DecodeError:
                    del found[key]
                else:
                    found[key] = Held(body, envelope)
        return found

    def find(self, query: Query) -> Iterator[Call]:
        """The calls that fit: found by their terms where the medium can, or by reading all."""
        from wellkept.stores.termfinding import find  # who only calls has no need of it

        return find(self.calls, query)

    def found(self, query: Query) -> int | None:
        """Nothing is counted."""

    def load(self, envelope: Envelope) -> tuple[Buffer, Sequence[Buffer]]:
        if self._near is None or not envelope.blobs:
            return self.values.load(envelope)
        return self._near.load(envelope, self.values.load)

    def hold(self, limit: int) -> None:
        """Hold large blobs in memory, up to `limit` bytes, if the medium can't map them."""
        mapped = hasattr(self.values.items, "map")
        self._near = Near(limit) if limit and not mapped else None

    def commit(self, call: Call, value: Value, uses: Mapping[bytes, int] | None = None) -> None:
        """Keep a call and its result: blobs, then the envelope, then the call.

        Raises:
            StoreError: the medium does not take it.
        """
        with self._writing(value):
            self.record(call, self.values.write_blobs(value), uses)

    def record(
        self, call: Call, envelope: Envelope, uses: Mapping[bytes, int] | None = None
    ) -> None:
        """Keep a call and the envelope of its result, whose blobs are there; raises as `commit`."""
        if self.trusts is not None:
            envelope = self.trusts.signed(call.result.raw, envelope)
        packed, value = envelope.pack(), ""
        if len(packed) > self._inline:
            value = self.values.add(call.result.raw, packed)
        self.calls.write(call, packed, value)
        if uses:
            self.count(uses)

    def _writing(self, value: Value) -> AbstractContextManager[None]:
        """Until the call names them, nobody collects the items of its value, if it has some."""
        if isinstance(self.locks, Locks) and (value.buffers or 2 * len(value.head) > self._inline):
            return self.locks.writing_blobs()
        return nullcontext()

    def count(self, uses: Mapping[bytes, int]) -> None:
        """Add to the counts of uses. Where the medium has no compare-and-set, two processes that do
        it at once may lose some.
        """
        items: Any = self.calls.items
        exact = isinstance(items, Creates) and isinstance(items, Replaces)
        now = time.time()
        for key, n in uses.items():
            name = f"uses/{key.hex()}"
            for _ in range(_TRIES):
                old = items.get(name)
                new = pack_uses(n + unpack_uses(old)[0], now)
                if not exact:
                    items.put(name, new)
                    break
                if items.create(name, new) if old is None else items.replace(name, old, new):
                    break

    def token(self) -> tuple[int, int] | None:
        """Differs after any commit by any process; None where the medium can't tell."""
        asked = getattr(self.calls.items, "token", None)
        return None if asked is None else asked()

    def listen(self, told: Callable[[], None]) -> None:
        """`words` never change."""

    def stale(self) -> bool:
        return False

    def close(self) -> None:
        if hasattr(self.locks, "close"):
            self.locks.close()
        for items in {id(s): s for s in (self.calls.items, self.values.items)}.values():
            close = getattr(items, "close", None)
            if close is not None:
                close()
