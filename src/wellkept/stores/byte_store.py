"""The backend over byte stores, and a local cache of large blobs for stores that can't map them.

A blob is named by its content, so a cached one can never be out of date. Whether a call still has it is read
from the store each time, before a blob is taken from the cache.
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
from wellkept.stores.base import (
    Creates,
    Finds,
    Maps,
    Replaces,
    Stamps,
    Store,
    delete_many,
    get_many,
    put_many,
)
from wellkept.stores.lease_records import leases_for
from wellkept.stores.memory import Memory
from wellkept.stores.notes import ItemNotes
from wellkept.stores.parts import opened
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
    """The blobs that were loaded last, in this process's memory.

    Args:
        limit: bytes that are held at the most.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._held: Memory[Any] = Memory()
        self._sizes: OrderedDict[str, int] = OrderedDict()
        self._total = 0
        self._lock = Guard()

    def load(self, envelope: Envelope, far: Callable[[Envelope], Loaded]) -> Loaded:
        """Return payload and buffers of an envelope that has blobs, as writable memory.

        Args:
            envelope: of a value.
            far: loads them from the store, verified.
        """
        # Each load maps the memory anew, copy-on-write, so no caller sees what another has changed.
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
"""Envelopes of at most this many bytes are part of their call's item."""

# Records that are read at once.
_PAGE = 200
# Blobs whose stamps are remembered.
_VERIFIED = 100_000


class CodedCalls(CallStore):
    """The calls of a byte store, as a `Store[Call]`.

    Args:
        items: the store, which has them under `calls/<key>`.
        envelope_of: returns the envelope of a kept value by its digest; `put` makes it part of the call's item.
    """

    def __init__(
        self, items: Store[bytes], envelope_of: Callable[[str], tuple[Envelope, str] | None]
    ) -> None:
        self.items = items
        self._finds = isinstance(items, Finds)
        self._envelope_of = envelope_of

    def get(self, key: str) -> Call | None:
        call, counted = f"calls/{Digest(key)}", f"uses/{key}"
        found = get_many(self.items, (call, counted))
        item = found.get(call)
        return None if item is None else unpack_call(key, item, found.get(counted))

    def pairs(self) -> Iterator[tuple[str, Call | DecodeError]]:
        """Yield every key with its record, or with the error if it is damaged; many in one trip."""
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
        """Yield every readable key, its body, and its result's envelope or the key of the result's item."""
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
        """Write a call's item, with its terms if the store finds by terms. See `pack_call`."""
        put: Any = self.items.put
        item = pack_call(call, envelope, value)
        if self._finds:
            put(f"calls/{call.key}", item, terms=terms_of(call))
        else:
            put(f"calls/{call.key}", item)

    def delete(self, key: str) -> None:
        delete_many(self.items, (f"calls/{Digest(key)}", f"uses/{key}"))

    def keys(self, prefix: str = "") -> Iterator[str]:
        return (key[6:] for key in self.items.keys(f"calls/{prefix}"))

    def find(self, query: Query) -> Iterator[Call]:
        """Return the calls that match, in the query's order; damaged ones are left out.

        They are found by the terms that their items were put with, if the store finds by terms, and otherwise
        by reading every record.

        Raises:
            StoreError: the store can't be read.
        """
        wanted = terms_wanted(query)
        if not isinstance(self.items, Finds) or not wanted:
            return scan(self, query)
        try:
            keys = self.items.find(wanted, prefix="calls/")
        except ConfigError:
            # This store can't hold such a term, so no call was put with it.
            return scan(self, query)
        found = self._records(name[6:] for name in keys)
        fitting = (call for _, call in found if isinstance(call, Call) and query(call))
        return ordered(fitting, query)


class CodedValues:
    """The values of a byte store, as a `Store[Value]`: `values/<digest>…` and `blobs/<name>`.

    If several values have one digest, `get` returns the one that was put under it by hand, or else any of those
    that calls gave.
    """

    def __init__(self, items: Store[bytes], calls: Store[bytes]) -> None:
        self.items = items
        self._calls = calls
        # For each blob, the stamp of the bytes that were verified.
        self._verified: dict[bytes, Any] = {}
        # The backend's `trusts`.
        self.trusts: Any = None
        self.codec: str = getattr(items, "codec", "pickle")
        """The codec of results whose function names none. If it is not pickle, each result is a blob of its
        own, so that its file is nothing but that format."""

    def get(self, key: str) -> Value | None:
        found = self.envelope(key)
        if found is None:
            return None
        envelope = found[0] if self.trusts is None else self.trusts.read(Digest(key).raw, found[0])
        payload, buffers = opened(self.load, envelope)
        return Value(envelope.codec, bytes(payload), buffers, (), envelope.signature)

    def envelope(self, key: str) -> tuple[Envelope, str] | None:
        """Return the envelope of a value, and the key of the item that it has, if it has one."""
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
        """Return keys of calls whose result this may be."""
        if isinstance(self._calls, Finds):
            found = self._calls.find({"result": str(key)}, prefix="calls/")
            return (name[6:] for name in found)
        raw = Digest(key).raw
        calls = CodedCalls(self._calls, self.envelope)
        return (name for name, body, _, _ in calls.envelopes() if body.result == raw)

    def put(self, key: str, item: Value) -> None:
        envelope, raw = self.write_blobs(item), Digest(key).raw
        self.write(
            raw, (envelope if self.trusts is None else self.trusts.signed(raw, envelope)).pack()
        )

    def write(self, digest: bytes, envelope: bytes) -> None:
        """Put a value, whose blobs exist, under its digest by hand."""
        self.items.put(f"values/{digest.hex()}", seal(digest, envelope))

    def add(self, digest: bytes, envelope: bytes) -> str:
        """Write the item of a value that a call gave, and whose blobs exist; return the item's key."""
        # By its checksum too, as two values of one digest may differ in their bytes.
        sealed = seal(digest, envelope)
        key = f"values/{digest.hex()}.{sealed[:_SEAL].hex()}"
        self.items.put(key, sealed)
        return key

    def write_blobs(self, value: Value) -> Envelope:
        """Write a value's large parts; return the envelope that names them."""
        envelope, parts = laid_out(value, apart=self.is_apart(value))
        # Without parts it would be a trip, or a transaction, for nothing.
        if parts:
            names = [f"blobs/{blob.name.hex()}" for blob in envelope.blobs]
            put_many(self.items, dict(zip(names, parts, strict=True)))
        return envelope

    def is_apart(self, value: Value) -> bool:
        """Return whether a value is a file that other tools read, however small it is."""
        return value.codec == self.codec != "pickle"

    def load(self, envelope: Envelope) -> tuple[Buffer, list[Buffer]]:
        """Return payload and buffers, each verified, as writable memory.

        Raises:
            DamagedValue: a blob is missing or damaged; a damaged one is removed.
        """
        if not envelope.blobs:
            return envelope.payload or b"", []
        items, found = self.items, dict[str, Any]()
        if not isinstance(items, Maps):
            found = get_many(items, [f"blobs/{blob.name.hex()}" for blob in envelope.blobs])
        buffers = []
        for size, name in envelope.blobs:
            key = f"blobs/{name.hex()}"
            content: Any
            stamp: Any = None
            if isinstance(items, Stamps):
                content, stamp = items.map_stamped(key) or (None, None)
            else:
                content = items.map(key) if isinstance(items, Maps) else found.get(key)
            if content is None:
                raise DamagedValue(f"the blob {name.hex()} is missing")
            known = stamp is not None and self._verified.get(name) == stamp
            right = memoryview(content).nbytes == size and (known or buffer_digest(content) == name)
            # It may have been written through a store that compresses, and be read without it.
            if not right and not is_plain(content):
                content, stamp = decompress(content, size), None
                right = buffer_digest(content) == name
            if not right:
                # A store that is read-only keeps it.
                with suppress(StoreError):
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
        """Delete values, in items of their own or of calls; in one pass if the store can't find them."""
        names = {str(Digest(key)) for key in keys}
        calls = CodedCalls(self._calls, self.envelope)
        if isinstance(self._calls, Finds):
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
        # Also items that no call names any more. For many values that would be a listing each, and a garbage
        # collection finds them.
        if len(names) == 1:
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


# Attempts to add to a count of uses that others change too. Counts are not worth more.
_TRIES = 5
# Items in memory whose parsed form is remembered.
_UNPACKED = 2000


class ByteStoreBackend(Backend):
    """A backend with calls in one byte store, and values in the same or another.

    Args:
        calls: the store of call records, with small results in them.
        values: the store of larger results and buffers; `calls` by default.
        locks: leases; by default those that the store allows.
        inline: results of up to this many bytes are part of their call's item.
    """

    fetches_many = True
    trusts: Any = None
    """The key that signs, and which signatures are accepted: `wellkept.stores.keyring.Trusts`. None if
    everyone who can write to the store is trusted."""
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
        # A result is part of its call's item only if both are in one store, or values would not be in the store
        # that `Cache(values=…)` names.
        self._inline = inline if values is None or values is calls else 0
        self.values = CodedValues(items, calls)
        self.codec: str = self.values.codec
        self.calls = CodedCalls(calls, self.values.envelope)
        self.byte_stores: tuple[Store[bytes], Store[bytes]] = calls, items
        self.notes: ItemNotes = ItemNotes(calls)
        self.locks: Any = leases_for(calls) if locks is None else locks
        self._near: Near | None = None
        self._unpacked: dict[bytes, tuple[bytes, Lookup]] = {}

    def fetch(self, key: bytes) -> Lookup | None:
        """Return the call under a key and its result's envelope, verified.

        Raises:
            DamagedValue: an item is damaged.
            StoreError: the store can't be read.
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
        # A store in memory returns the same object each time, so what was parsed of it is found by identity.
        elif isinstance(self.calls.items, Memory):
            if len(self._unpacked) >= _UNPACKED:
                self._unpacked.clear()
            self._unpacked[key] = item, Lookup(body, envelope)
        return Lookup(body, envelope)

    def _trusted(self, item: bytes, body: Body, envelope: Envelope | None) -> Lookup:
        """Return what was found, with the codec by which it may be decoded; raises as `fetch`."""
        if envelope is None and (name := value_key(bytes(item))):
            own = self.values.items.get(name)
            envelope = None if own is None else Envelope.unpack(unseal(body.result, bytes(own)))
        return Lookup(body, None if envelope is None else self.trusts.read(body.result, envelope))

    def fetch_many(self, keys: Sequence[bytes]) -> dict[bytes, Lookup]:
        """Return the calls under several keys, in two trips if the store has `get_many`.

        A damaged one is left out, and raises with `fetch`.

        Raises:
            StoreError: the store can't be read.
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
        """Return the calls that match, found by their terms if the store can, or by reading all."""
        return self.calls.find(query)

    def load(self, envelope: Envelope) -> tuple[Buffer, Sequence[Buffer]]:
        if self._near is None or not envelope.blobs:
            return self.values.load(envelope)
        return self._near.load(envelope, self.values.load)

    def collect(self, grace: float, dry_run: bool) -> Collected:
        # Loaded on first use, as in the next three methods: keeps `import wellkept` small.
        from wellkept.stores import byte_maintenance

        return byte_maintenance.sweep(self, grace, dry_run=dry_run)

    def free(self, digests: Sequence[str]) -> Collected:
        from wellkept.stores import byte_maintenance

        return byte_maintenance.free(self, digests)

    def evict(self, chosen: Chosen, dry_run: bool) -> Evicted:
        from wellkept.stores import byte_maintenance

        return byte_maintenance.evict(self, chosen, dry_run)

    def verify(self, repair: bool, discard: bool, tell: Progress) -> Report:
        from wellkept.stores.byte_maintenance import ItemCheck

        return ItemCheck(self, repair, tell).run()

    def totals(self) -> Totals:
        # Loaded on first use: dataclasses take long to import.
        from dataclasses import replace

        return replace(super().totals(), blobs=sum(1 for _ in self.values.items.keys("blobs/")))

    def probe(self, envelope: Envelope, most: int) -> None:
        if sum(size for size, _ in envelope.blobs) > most:
            return
        for size, name in envelope.blobs:
            content = self.values.items.get(f"blobs/{name.hex()}")
            if content is None:
                raise DamagedValue(f"the blob {name.hex()} is missing")
            # An item of another length is compressed, and is verified when it is read.
            if memoryview(content).nbytes == size and buffer_digest(content) != name:
                raise DamagedValue(f"the blob {name.hex()} is not what its name says")

    def sign(self, trusts: Any) -> None:
        self.trusts = self.values.trusts = trusts

    def hold(self, limit: int) -> None:
        mapped = isinstance(self.values.items, Maps)
        self._near = Near(limit) if limit and not mapped else None

    def commit(self, call: Call, value: Value, uses: Mapping[bytes, int] | None = None) -> None:
        """Keep a call and its result.

        Raises:
            StoreError: the store can't be written.
        """
        # Blobs, then the envelope, then the call: an item never names another that is not there yet.
        with self._writing(value):
            self.record([(call, self.values.write_blobs(value))], uses)

    def record(
        self, items: Sequence[tuple[Call, Envelope]], uses: Mapping[bytes, int] | None = None
    ) -> None:
        """Keep calls and the envelopes of their results, whose blobs exist; raises as `commit`."""
        for call, envelope in items:
            if self.trusts is not None:
                envelope = self.trusts.signed(call.result.raw, envelope)
            packed, value = envelope.pack(), ""
            if len(packed) > self._inline:
                value = self.values.add(call.result.raw, packed)
            self.calls.write(call, packed, value)
        if uses:
            self.count(uses)

    def _writing(self, value: Value) -> AbstractContextManager[None]:
        """Keep garbage collection from the items of a value until its call names them, if it has any."""
        # Twice the head, as signing and the envelope make it longer; too careful costs only a lock.
        large = value.buffers or 2 * len(value.head) > self._inline or self.values.is_apart(value)
        made: AbstractContextManager[None] = self.locks.writing_blobs() if large else nullcontext()
        return made

    def count(self, uses: Mapping[bytes, int]) -> None:
        """Add to the counts of uses.

        If the store has no compare-and-set, two processes that do so at once may lose some.
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
        """Return a value that changes with every commit of any process; None if the store has none."""
        asked = getattr(self.calls.items, "token", None)
        return None if asked is None else asked()

    def close(self) -> None:
        if hasattr(self.locks, "close"):
            self.locks.close()
        for items in {id(s): s for s in (self.calls.items, self.values.items)}.values():
            close = getattr(items, "close", None)
            if close is not None:
                close()
