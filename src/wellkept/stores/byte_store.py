"""Large blobs of a medium that can't map them, held near: in this process's memory, mapped from there.

A blob is named by its content, so what is held can never be out of date. Whether a call still has it
is asked of the medium each time, before anything is taken from here.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

from wellkept.codecs import LARGE, Envelope
from wellkept.codecs.compression import decompress, is_plain
from wellkept.errors import ConfigError, DamagedValue, DecodeError, StoreError
from wellkept.hashing import buffer_digest
from wellkept.interrupts import Guard
from wellkept.records import Buffer, Call, Digest, Value
from wellkept.stores.backend import Backend, CallStore, Lookup, Progress, ordered, scan
from wellkept.stores.base import Creates, Replaces, Store, delete_many, get_many, put_many
from wellkept.stores.lease_records import leases_for
from wellkept.stores.memory import Memory
from wellkept.stores.notes import ItemNotes
from wellkept.stores.record_format import (
    _SEAL,
    Body,
    laid_out,
    pack_call,
    pack_uses,
    seal,
    unpack_body,
    unpack_call,
    unpack_uses,
    unseal,
    value_key,
)
from wellkept.stores.terms import terms_of, terms_wanted

if TYPE_CHECKING:
    from wellkept.conditions import Query
    from wellkept.stores.reports import Chosen, Collected, Evicted, Report, Totals


Loaded = tuple[Buffer, Sequence[Buffer]]


class Near:
    """The blobs that were loaded last, up to `limit` bytes.

    Args:
        limit: bytes.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._held: Memory[Any] = Memory()
        self._sizes: OrderedDict[str, int] = OrderedDict()
        self._total = 0
        self._lock = Guard()

    def load(self, envelope: Envelope, far: Callable[[Envelope], Loaded]) -> Loaded:
        """Payload and buffers of an envelope that has blobs, each free to be changed.

        Args:
            far: what loads them from the medium, verified.
        """
        names = [blob.name.hex() for blob in envelope.blobs]
        found = [self._held.map(name) for name in names]
        if None not in found:
            blobs: list[Any] = found
            with self._lock:
                for name in names:
                    if name in self._sizes:
                        self._sizes.move_to_end(name)
            return (
                (envelope.payload, blobs) if envelope.payload is not None else (blobs.pop(), blobs)
            )
        payload, buffers = far(envelope)
        blobs = [*buffers] if envelope.payload is not None else [*buffers, payload]
        for name, blob in zip(names, blobs, strict=True):
            self._hold(name, blob)
        return payload, buffers

    def _hold(self, name: str, blob: Buffer) -> None:
        size = memoryview(blob).nbytes
        if size > self.limit:
            return
        with self._lock:
            if name not in self._sizes:
                self._held.put(name, blob)
                self._sizes[name] = size
                self._total += size
            while self._total > self.limit:
                gone, size = self._sizes.popitem(last=False)
                self._held.delete(gone)
                self._total -= size

    def __reduce__(self) -> tuple[Any, ...]:
        return Near, (self.limit,)


INLINE = LARGE
"""Envelopes of at most this many bytes travel with their call."""

_PAGE = 200  # records that are read at once
_VERIFIED = 100_000  # blobs whose stamps are remembered


class CodedCalls(CallStore):
    """The calls of a medium, as a `Store[Call]`.

    Args:
        items: where they are, under `calls/<key>`.
        envelope_of: the envelope of a kept value, by digest: what `put` lets travel with the call.
    """

    def __init__(
        self, items: Store[bytes], envelope_of: Callable[[str], tuple[Envelope, str] | None]
    ) -> None:
        self.items = items
        self._envelope_of = envelope_of

    def get(self, key: str) -> Call | None:
        call, counted = f"calls/{Digest(key)}", f"uses/{key}"
        found = get_many(self.items, (call, counted))
        item = found.get(call)
        return None if item is None else unpack_call(key, item, found.get(counted))

    def pairs(self) -> Iterator[tuple[str, Call | DecodeError]]:
        """Return every key and its record (of a damaged one the error), many in one trip."""
        return self._records(self.keys())

    def _records(self, keys: Iterator[str]) -> Iterator[tuple[str, Call | DecodeError]]:
        while some := list(islice(keys, _PAGE)):
            names = [f"{kind}/{key}" for key in some for kind in ("calls", "uses")]
            found = get_many(self.items, names)
            for key in some:
                item = found.get(f"calls/{key}")
                if item is not None:
                    try:
                        yield key, unpack_call(key, item, found.get(f"uses/{key}"))
                    except DecodeError as error:
                        yield key, error

    def envelopes(self) -> Iterator[tuple[str, Body, Envelope | None, str]]:
        """Every readable key, its body, and its result's envelope if that travels with it, or the key
        of the item that it has.
        """
        keys = self.keys()
        while some := list(islice(keys, _PAGE)):
            found = get_many(self.items, [f"calls/{key}" for key in some])
            for name, item in found.items():
                with suppress(DecodeError):
                    body, envelope, _ = unpack_body(bytes.fromhex(name[6:]), item)
                    yield name[6:], body, envelope, "" if envelope else value_key(bytes(item))

    def put(self, key: str, item: Call) -> None:
        old = self.items.get(f"calls/{key}")
        envelope, value = b"", ""
        if old is not None:
            body, found, _ = unpack_body(item.key.raw, old)
            if body.result == item.result.raw:
                envelope = b"" if found is None else found.pack()
                value = "" if found is not None else value_key(bytes(old))
        if not envelope and not value:
            known = self._envelope_of(item.result)
            if known is None:
                raise StoreError(f"can't keep the call {key}: its result {item.result} is not kept")
            envelope, value = known[0].pack(), known[1]
        self.write(item, envelope, value)

    def write(self, call: Call, envelope: bytes, value: str = "") -> None:
        """Write a call's item; where the medium can find, with what it is found by. See `pack_call`."""
        put: Any = self.items.put
        item = pack_call(call, envelope, value)
        if hasattr(self.items, "find"):
            put(f"calls/{call.key}", item, terms=terms_of(call))
        else:
            put(f"calls/{call.key}", item)

    def delete(self, key: str) -> None:
        delete_many(self.items, (f"calls/{Digest(key)}", f"uses/{key}"))

    def keys(self, prefix: str = "") -> Iterator[str]:
        return (key[6:] for key in self.items.keys(f"calls/{prefix}"))

    def find(self, query: Query) -> Iterator[Call]:
        """Return the calls that fit, in the order asked for; damaged ones are left out.

        They are found by the terms that their items were put with, where the byte store finds by terms,
        and otherwise by reading every record.

        Raises:
            StoreError: the byte store can't be read.
        """
        wanted = terms_wanted(query)
        search: Any = getattr(self.items, "find", None)
        if search is None or not wanted:
            return scan(self, query)
        try:
            keys = search(wanted, prefix="calls/")
        except ConfigError:
            # A store has no such term, so it can't find by it.
            return scan(self, query)
        found = self._records(name[6:] for name in keys)
        fitting = (call for _, call in found if isinstance(call, Call) and query(call))
        return ordered(fitting, query)


class CodedValues:
    """The values of a medium, as a `Store[Value]`: `values/<digest>…` and `blobs/<name>`.

    Where several values have one digest, the one that was put under it by hand is what the digest
    names, or any of those that calls gave.
    """

    def __init__(self, items: Store[bytes], calls: Store[bytes]) -> None:
        self.items = items
        self._calls = calls
        self._verified: dict[bytes, Any] = {}  # blob: the stamp that its verified bytes had
        self.trusts: Any = None  # as of the medium
        self.codec: str = getattr(items, "codec", "pickle")
        """What results are encoded by here unless a function says otherwise; a file format other
        than pickle stands in a blob, whose bytes have nothing before them."""

    def get(self, key: str) -> Value | None:
        found = self.envelope(key)
        if found is None:
            return None
        envelope = found[0] if self.trusts is None else self.trusts.read(Digest(key).raw, found[0])
        payload, buffers = self.load(envelope)
        return Value(envelope.codec, bytes(payload), buffers, (), envelope.signature)

    def envelope(self, key: str) -> tuple[Envelope, str] | None:
        """The envelope of a value, and the key of the item that it has, if it has one."""
        raw = Digest(key).raw
        for own in chain((f"values/{key}",), self.items.keys(f"values/{key}.")):
            item = self.items.get(own)
            if item is not None:
                return Envelope.unpack(unseal(raw, bytes(item))), own
        for name in self._giving(key):
            call = self._calls.get(f"calls/{name}")
            if call is not None:
                body, envelope, _ = unpack_body(bytes.fromhex(name), call)
                if envelope is not None and body.result == raw:
                    return envelope, ""
        return None

    def _giving(self, key: str) -> Iterator[str]:
        """Keys of calls whose result this may be."""
        find = getattr(self._calls, "find", None)
        if find is not None:
            return (name[6:] for name in find({"result": str(key)}, prefix="calls/"))
        raw = Digest(key).raw
        calls = CodedCalls(self._calls, self.envelope)
        return (name for name, body, _, _ in calls.envelopes() if body.result == raw)

    def put(self, key: str, item: Value) -> None:
        envelope, raw = self.write_blobs(item), Digest(key).raw
        self.write(
            raw, (envelope if self.trusts is None else self.trusts.signed(raw, envelope)).pack()
        )

    def write(self, digest: bytes, envelope: bytes) -> None:
        """Put a value whose blobs are there under its digest by hand."""
        self.items.put(f"values/{digest.hex()}", seal(digest, envelope))

    def add(self, digest: bytes, envelope: bytes) -> str:
        """Write the item of a value that a call gave, whose blobs are there; its key."""
        sealed = seal(digest, envelope)
        key = f"values/{digest.hex()}.{sealed[:_SEAL].hex()}"
        self.items.put(key, sealed)
        return key

    def write_blobs(self, value: Value) -> Envelope:
        """Write a value's large parts; the envelope that names them."""
        envelope, parts = laid_out(value, apart=self.is_apart(value))
        if parts:  # or it would be a trip, or a transaction, for nothing
            names = [f"blobs/{blob.name.hex()}" for blob in envelope.blobs]
            put_many(self.items, dict(zip(names, parts, strict=True)))
        return envelope

    def is_apart(self, value: Value) -> bool:
        """Return whether a value is a file that other tools read, however small it is."""
        return value.codec == self.codec != "pickle"

    def load(self, envelope: Envelope) -> tuple[Buffer, list[Buffer]]:
        """Payload and buffers, each verified and free to be changed.

        Raises:
            DamagedValue: a blob is missing or damaged; a damaged one is removed.
        """
        if not envelope.blobs:
            return envelope.payload or b"", []
        maps: Any = getattr(self.items, "map", None)
        stamps: Any = getattr(self.items, "map_stamped", None)
        found: dict[str, Any] = {}
        if maps is None:
            found = get_many(self.items, [f"blobs/{blob.name.hex()}" for blob in envelope.blobs])
        buffers = []
        for size, name in envelope.blobs:
            key = f"blobs/{name.hex()}"
            stamp = None
            if stamps is not None:
                content, stamp = stamps(key) or (None, None)
            else:
                content = found.get(key) if maps is None else maps(key)
            if content is None:
                raise DamagedValue(f"the blob {name.hex()} is missing")
            known = stamp is not None and self._verified.get(name) == stamp
            right = memoryview(content).nbytes == size and (known or buffer_digest(content) == name)
            if not right and not is_plain(content):  # see `unseal`
                content, stamp = decompress(content, size), None
                right = buffer_digest(content) == name
            if not right:
                with suppress(StoreError):  # one that may only be read keeps it
                    self.items.delete(key)
                raise DamagedValue(f"the blob {name.hex()} is not what its name says")
            if stamp is not None and not known:
                if len(self._verified) >= _VERIFIED:
                    self._verified.clear()
                self._verified[name] = stamp
            buffers.append(bytearray(content) if isinstance(content, bytes) else content)
        if envelope.payload is None:
            return buffers.pop(), buffers
        return envelope.payload, buffers

    def delete(self, key: str) -> None:
        self.delete_many((key,))

    def delete_many(self, keys: Iterable[str]) -> None:
        """Forget values, wherever they are: in one pass where the medium can't find them."""
        names = {str(Digest(key)) for key in keys}
        calls = CodedCalls(self._calls, self.envelope)
        if hasattr(self._calls, "find"):
            giving = {name for digest in names for name in self._giving(digest)}
        else:
            giving = {name for name, body, _, _ in calls.envelopes() if body.result.hex() in names}
        own = {f"values/{name}" for name in names}
        for name in giving:
            item = self._calls.get(f"calls/{name}")
            if item is not None:
                call = unpack_call(name, item)
                if call.result in names:
                    own.add(value_key(bytes(item)))
                    calls.write(call, b"")
        if len(names) == 1:  # what no call gives any more, too; of many, a collection finds it
            own.update(self.items.keys(f"values/{next(iter(names))}."))
        delete_many(self.items, own - {""})

    def keys(self, prefix: str = "") -> Iterator[str]:
        seen = set()
        for key in self.items.keys(f"values/{prefix}"):
            digest = key[7:71]
            if digest not in seen:
                seen.add(digest)
                yield digest
        for _, body, envelope, _ in CodedCalls(self._calls, self.envelope).envelopes():
            digest = body.result.hex()
            if envelope is not None and digest.startswith(prefix) and digest not in seen:
                seen.add(digest)
                yield digest


_TRIES = 5
_UNPACKED = 2000  # items in memory whose parts are remembered


class ByteStoreBackend(Backend):
    """Calls in one store of bytes, values in the same or another.

    Args:
        calls: where call records are, with small results in them.
        values: where larger results and buffers are; `calls` by default.
        locks: leases; by default what the medium allows.
    """

    fetches_many = True
    trusts: Any = None
    """Who signs what is kept, and whose signatures are believed: `wellkept.stores.keyring.Trusts`. None: who
    can write there is trusted.
    """
    values: CodedValues
    calls: CodedCalls

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
        self.codec = self.values.codec
        self.calls = CodedCalls(calls, self.values.envelope)
        self.byte_stores = calls, items
        self.notes = ItemNotes(calls)
        self.locks = leases_for(calls) if locks is None else locks
        self._near: Near | None = None
        self._unpacked: dict[bytes, tuple[bytes, Lookup]] = {}

    def fetch(self, key: bytes) -> Lookup | None:
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
            self._unpacked[key] = item, Lookup(body, envelope)
        return Lookup(body, envelope)

    def _trusted(self, item: bytes, body: Body, envelope: Envelope | None) -> Lookup:
        """What was found, with the codec by which it may be decoded; raises as `fetch`."""
        if envelope is None and (name := value_key(bytes(item))):
            own = self.values.items.get(name)
            envelope = None if own is None else Envelope.unpack(unseal(body.result, bytes(own)))
        return Lookup(body, None if envelope is None else self.trusts.read(body.result, envelope))

    def fetch_many(self, keys: Sequence[bytes]) -> dict[bytes, Lookup]:
        """What is under those keys that have a call, in two trips where the medium has `get_many`.

        One whose item is damaged is left out: `fetch` tells of it.

        Raises:
            StoreError: the medium can't be read.
        """
        names = {f"calls/{key.hex()}": key for key in keys}
        found: dict[bytes, Lookup] = {}
        apart: dict[str, list[tuple[bytes, Body]]] = {}
        for name, item in get_many(self.calls.items, names).items():
            key = names[name]
            with suppress(DecodeError):
                body, envelope, _ = unpack_body(key, item)
                if envelope is not None and self.trusts is not None:
                    envelope = self.trusts.read(body.result, envelope)
                found[key] = Lookup(body, envelope)
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
                    found[key] = Lookup(body, envelope)
        return found

    def find(self, query: Query) -> Iterator[Call]:
        """The calls that fit: found by their terms where the medium can, or by reading all."""
        return self.calls.find(query)

    def load(self, envelope: Envelope) -> tuple[Buffer, Sequence[Buffer]]:
        if self._near is None or not envelope.blobs:
            return self.values.load(envelope)
        return self._near.load(envelope, self.values.load)

    def collect(self, grace: float, dry_run: bool) -> Collected:
        """See `Cache.gc`."""
        from wellkept.stores import byte_maintenance  # who only calls has no need of it

        return byte_maintenance.sweep(self, grace, dry_run=dry_run)

    def free(self, digests: Sequence[str]) -> Collected:
        """See `Backend.free`."""
        from wellkept.stores import byte_maintenance  # as above

        return byte_maintenance.free(self, digests)

    def evict(self, chosen: Chosen, dry_run: bool) -> Evicted:
        """See `Cache.evict`."""
        from wellkept.stores import byte_maintenance  # as above

        return byte_maintenance.evict(self, chosen, dry_run)

    def verify(self, repair: bool, discard: bool, tell: Progress) -> Report:
        """See `Cache.verify`."""
        from wellkept.stores.byte_maintenance import ItemCheck  # as above

        return ItemCheck(self, repair, tell).run()

    def totals(self) -> Totals:
        """See `Cache.size`."""
        from dataclasses import replace  # it takes long to import

        return replace(super().totals(), blobs=sum(1 for _ in self.values.items.keys("blobs/")))

    def probe(self, envelope: Envelope, most: int) -> None:
        """See `Backend.probe`."""
        if sum(size for size, _ in envelope.blobs) > most:
            return
        for size, name in envelope.blobs:
            content = self.values.items.get(f"blobs/{name.hex()}")
            if content is None:
                raise DamagedValue(f"the blob {name.hex()} is missing")
            # One of another length is compressed, and is verified when it is read.
            if memoryview(content).nbytes == size and buffer_digest(content) != name:
                raise DamagedValue(f"the blob {name.hex()} is not what its name says")

    def sign(self, trusts: Any) -> None:
        self.trusts = self.values.trusts = trusts

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
        large = value.buffers or 2 * len(value.head) > self._inline or self.values.is_apart(value)
        made: AbstractContextManager[None] = self.locks.writing_blobs() if large else nullcontext()
        return made

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

    def close(self) -> None:
        if hasattr(self.locks, "close"):
            self.locks.close()
        for items in {id(s): s for s in (self.calls.items, self.values.items)}.values():
            close = getattr(items, "close", None)
            if close is not None:
                close()
