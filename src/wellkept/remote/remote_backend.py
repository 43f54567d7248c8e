"""A cache on another machine as a backend of this library."""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

from wellkept.codecs import Blob, Envelope
from wellkept.errors import DamagedValue, DecodeError, KeptError
from wellkept.hashing import buffer_digest
from wellkept.records import Buffer, Call, Digest, Value
from wellkept.remote import wire
from wellkept.remote.lease_requests import RemoteLocks
from wellkept.remote.staging import Download
from wellkept.remote.wire import Kind, Request, Row, Uncarried, WireError, write_query
from wellkept.stores.backend import Backend, CallStore, Lookup, Progress, scan
from wellkept.stores.base import check_key, check_prefix
from wellkept.stores.byte_store import Near
from wellkept.stores.lease_records import WaitItems
from wellkept.stores.notes import Notes
from wellkept.stores.parts import opened
from wellkept.stores.record_format import Body, laid_out, pack_call, unpack_call
from wellkept.stores.reports import Chosen, Collected, Evicted, Problem, Report, Totals

if TYPE_CHECKING:
    from wellkept.conditions import Query


# Keys in a request; the wire takes no more texts in one.
_MANY = 1000
# Bytes of metadata records in a request; well below the longest message of the wire.
_BYTES = 4 * 1024 * 1024


def listed(backend: RemoteBackend, kind: Kind, prefix: str) -> Iterator[str]:
    """Return the keys of a kind, when the whole answer has come."""
    parts = backend.parts(wire.List(kind, prefix))
    return iter(parts.decode("ascii", "replace").split())


def records(parts: bytes) -> Iterator[tuple[str, Call | DecodeError]]:
    """Yield key and record of each call in a stream of them.

    Raises:
        WireError: the bytes are no such stream.
    """
    content = memoryview(parts)
    at = 0
    while at < len(content):
        head = bytes(content[at : at + 38])
        size, used = int.from_bytes(head[32:36], "little"), int.from_bytes(head[36:], "little")
        at += 38
        if at + size + used > len(content):
            raise WireError("records on the wire are cut short")
        item, uses = bytes(content[at : at + size]), bytes(content[at + size : at + size + used])
        at += size + used
        key = head[:32].hex()
        try:
            yield key, unpack_call(key, item, uses or None)
        except DecodeError as error:
            yield key, error


class RemoteCalls(CallStore):
    """The call records, as a `Store[Call]`."""

    def __init__(self, backend: RemoteBackend) -> None:
        self._backend = backend

    def get(self, key: str) -> Call | None:
        key = str(Digest(key))
        item = self._backend.line.ask(wire.Get("call", [key])).get(key)
        for found, call in records(item or b""):
            if isinstance(call, DecodeError):
                raise call
            if found == key:
                return call
        return None

    def put(self, key: str, item: Call) -> None:
        """Change a record, whose result must be in the store already."""
        self._backend.line.ask(wire.Put("call", {str(Digest(key)): pack_call(item, b"")}))

    def delete(self, key: str) -> None:
        self._backend.line.ask(wire.Delete("call", [str(Digest(key))]))

    def keys(self, prefix: str = "") -> Iterator[str]:
        return listed(self._backend, "call", prefix)

    def pairs(self) -> Iterator[tuple[str, Call | DecodeError]]:
        """Return every key and its record, in one trip."""
        return records(self._backend.parts(wire.Find()))


class RemoteValues:
    """The encoded values, as a `Store[Value]`."""

    def __init__(self, backend: RemoteBackend) -> None:
        self._backend = backend

    def get(self, key: str) -> Value | None:
        digest = Digest(key)
        packed = self._backend.line.ask(wire.Get("value", [str(digest)])).get(str(digest))
        if packed is None:
            return None
        envelope = self._backend.trusted(digest.raw, Envelope.unpack(packed))
        payload, buffers = opened(self._backend.load, envelope)
        return Value(envelope.codec, bytes(payload), buffers, (), envelope.signature)

    def put(self, key: str, item: Value) -> None:
        digest = Digest(key)
        envelope, sent = self._backend.send_blobs(digest.raw, item)
        self._backend.line.ask(wire.Put("value", {str(digest): envelope.pack()}, sent))

    def delete(self, key: str) -> None:
        self.delete_many((key,))

    def delete_many(self, keys: Iterable[str]) -> None:
        """Forget the values; the records of their calls stay."""
        for some in _some(str(Digest(key)) for key in keys):
            self._backend.line.ask(wire.Delete("value", some))

    def keys(self, prefix: str = "") -> Iterator[str]:
        return listed(self._backend, "value", prefix)


class RemoteNotes(Notes):
    """The metadata records; see `wellkept.stores.notes`."""

    def __init__(self, backend: RemoteBackend) -> None:
        self._backend = backend

    def create(self, key: str, item: Buffer) -> bool:
        """Keep the record if there is none under the key; return whether there was none.

        Raises:
            StoreError: also if the connection broke before the server answered.
        """
        return bool(self._backend.line.ask(wire.Create(check_key(key), bytes(item))))

    def keys(self, prefix: str = "") -> Iterator[str]:
        return listed(self._backend, "meta", check_prefix(prefix))

    def get_many(self, keys: Iterable[str]) -> dict[str, bytes]:
        found: dict[str, bytes] = {}
        for some in _some([check_key(key) for key in keys]):
            found.update(self._backend.line.ask(wire.Get("meta", some)))
        return found

    def put_many(self, items: Mapping[str, Buffer]) -> None:
        """Keep each record. Other clients may see some of them before the rest is written."""
        self._put(items, wait=True)

    def put_unheard(self, items: Mapping[str, Buffer]) -> None:
        """Keep each record without waiting for an answer; they are written before any later request."""
        self._put(items, wait=False)

    def _put(self, items: Mapping[str, Buffer], *, wait: bool) -> None:
        some: dict[str, bytes] = {}
        size = 0
        for key, item in items.items():
            content = bytes(item)
            if some and (len(some) >= _MANY or size + len(content) > _BYTES):
                self._backend.line.ask(wire.Put("meta", some), wait=wait)
                some, size = {}, 0
            some[check_key(key)] = content
            size += len(content)
        if some:
            self._backend.line.ask(wire.Put("meta", some), wait=wait)

    def delete_many(self, keys: Iterable[str]) -> None:
        for some in _some([check_key(key) for key in keys]):
            self._backend.line.ask(wire.Delete("meta", some))


def _some(keys: Iterable[str]) -> Iterator[list[str]]:
    left = iter(keys)
    while some := list(islice(left, _MANY)):
        yield some


ROOM = 1024 * 1024
"""Bytes of blobs that travel with a row or a commit; larger ones are sent by themselves, in parts."""
# Calls in a request: their answer has to fit one message, so that a trip is not repeated for many of them.
_MANY_CALLS = 500
# What broken input makes the parsers raise.
_UNREADABLE = (TypeError, ValueError, AttributeError, LookupError, ArithmeticError, struct.error)


class RemoteBackend(Backend):
    """The cache of a server.

    Args:
        line: the connection to the server.
        trusts: which signatures are accepted, and the key that signs: `Trusts`.
    """

    claims = True
    fetches_many = True

    def __init__(self, line: Any, trusts: Any) -> None:
        self.line = line
        self._trusts = trusts
        self.calls: RemoteCalls = RemoteCalls(self)
        self.values: RemoteValues = RemoteValues(self)
        self.notes: RemoteNotes = RemoteNotes(self)
        self.locks: Any = RemoteLocks(line)
        self.locks.waits = WaitItems(self.notes)
        self._near: Near | None = None

    def parts(self, request: Request) -> bytes:
        """Return an answer that comes in parts, when all of it has come; raises as `Line.ask`."""
        parts: list[bytes] = []
        self.line.ask(request, lambda part: parts.append(bytes(part)))
        return b"".join(parts)

    # -- one trip ---------------------------------------------------------------------------------

    def fetch(self, key: bytes) -> Lookup | None:
        """Return the call under a key and its result's envelope, verified.

        Raises:
            DamagedValue: an item is damaged on the server.
            StoreError: the server can't be reached, or refuses.
        """
        return self._read(self._rows(wire.Fetch([key], ROOM))[0])

    def claim(self, key: bytes) -> Lookup | None:
        """Like `fetch`; on a miss the server gives the lease with the answer, which spares a trip."""
        self.locks.unclaimed()
        (row,) = self._rows(wire.Fetch([key], ROOM, lease=True))
        if row.leased:
            self.locks.granted(key)
        return self._read(row)

    def glance(self, key: bytes) -> Lookup | None:
        """Return None: nothing of this backend can be read without a trip."""

    def fetch_many(self, keys: Iterable[bytes]) -> dict[bytes, Lookup]:
        """Return what is found under the keys, in one trip for several hundred of them."""
        wanted = list(dict.fromkeys(keys))
        found: dict[bytes, Lookup] = {}
        for at in range(0, len(wanted), _MANY_CALLS):
            some = wanted[at : at + _MANY_CALLS]
            for key, row in zip(some, self._rows(wire.Fetch(some, 4 * ROOM)), strict=True):
                # A damaged one is left out here, and raises when it is fetched by itself.
                with contextlib.suppress(DecodeError):
                    made = self.fetch(key) if row.later else self._read(row)
                    if made is not None:
                        found[key] = made
        return found

    def _rows(self, request: wire.Fetch) -> list[Row]:
        rows: list[Row] = self.line.ask(request)
        if len(rows) != len(request.keys):
            raise WireError(f"{self.line.where}: the answer is for other keys than were asked for")
        return rows

    def _read(self, row: Row) -> Lookup | None:
        if row.damaged is not None:
            raise DamagedValue(row.damaged)
        if row.body is None:
            return None
        try:
            body = Body.unpack(row.body)
        except _UNREADABLE as error:
            raise WireError(f"{self.line.where}: a row that can't be read") from error
        if row.envelope is None:
            return Lookup(body, None)
        envelope = Envelope.unpack(row.envelope)
        if row.blobs is not None and len(row.blobs) != len(envelope.blobs):
            raise WireError(f"{self.line.where}: the blobs do not fit their envelope")
        return Lookup(body, self.trusted(body.result, envelope)._replace(source=row.blobs))

    def trusted(self, digest: bytes, envelope: Envelope) -> Envelope:
        """Return an envelope with the codec by which it may be decoded here."""
        codec = self._trusts.codec(digest, envelope)
        return envelope._replace(codec=codec)

    def load(self, envelope: Any) -> tuple[Buffer, Sequence[Buffer]]:
        """Return payload and buffers of an envelope, verified; the caller may change them.

        Raises:
            DamagedValue: a blob is missing or damaged.
            StoreError: a blob can't be read.
        """
        if not envelope.blobs:
            return envelope.payload or b"", ()
        if self._near is None:
            return self._load(envelope)
        return self._near.load(envelope, self._load)

    def _load(self, envelope: Any) -> tuple[Buffer, list[Buffer]]:
        sent = envelope.source
        buffers: list[Any] = []
        for i, blob in enumerate(envelope.blobs):
            try:
                buffers.append(self._blob(blob) if sent is None else _verified(blob, sent[i]))
            except DamagedValue:
                # The server checks it and removes it if it is damaged there, so that it can be sent again. A
                # client that may only read leaves that to others.
                with contextlib.suppress(KeptError):
                    self.line.ask(wire.Delete("blob", [blob.name.hex()]))
                raise
        if envelope.payload is None:
            return buffers.pop(), buffers
        return envelope.payload, buffers

    def _blob(self, blob: Blob) -> Buffer:
        with Download(blob) as content:
            self.line.ask(wire.Read(blob.name, blob.size), content.write)
            return content.buffer()

    # -- keeping ----------------------------------------------------------------------------------

    def commit(self, call: Call, value: Value, uses: Mapping[bytes, int] | None = None) -> None:
        """Keep a call and its result; large blobs are sent first.

        Raises:
            StoreError: the server can't be reached, or refuses.
        """
        key = call.key.raw
        envelope, sent = self.send_blobs(call.result.raw, value)
        # The server releases the lease with the commit: that spares a trip, and a waiter that gets the lease
        # then finds the result.
        release = self.locks.holds(key)
        record = pack_call(call, envelope.pack())
        self.line.ask(wire.Commit(key, record, sent, dict(uses or {}), release))
        if release:
            self.locks.released(key)

    def send_blobs(self, digest: bytes, value: Value) -> tuple[Envelope, list[bytes | None]]:
        """Return the signed envelope of a value, and those of its blobs that travel with it.

        The others are on the server when this returns.
        """
        envelope, parts = laid_out(value)
        names = [blob.name for blob in envelope.blobs]
        views = [memoryview(part).cast("B") for part in parts]
        envelope = self._trusts.signed(digest, envelope)
        room = ROOM
        sent: list[bytes | None] = []
        for view in views:
            fits = len(view) <= room
            room -= len(view) if fits else 0
            sent.append(bytes(view) if fits else None)
        # A blob that is too large to travel with the record is sent by itself, and only if the server lacks it.
        left = [i for i, item in enumerate(sent) if item is None]
        if left:
            sizes = self.line.ask(wire.Have([names[i] for i in left]))
            if len(sizes) != len(left):
                raise WireError(
                    f"{self.line.where}: the answer is for other blobs than were asked for"
                )
            for i, size in zip(left, sizes, strict=True):
                if size != len(views[i]):
                    self.line.send(names[i], views[i])
        return envelope, sent

    def count(self, uses: Mapping[bytes, int]) -> None:
        """Add to the counts of uses."""
        self.line.ask(wire.Use(dict(uses)))

    # -- finding ----------------------------------------------------------------------------------

    def find(self, query: Query) -> Iterator[Call]:
        """Return the calls that fit, found by the server."""
        try:
            parts = self.parts(wire.Find(write_query(query)))
        except Uncarried:
            # The query holds a value that the wire would change: every record is read and tested here.
            return scan(self.calls, query)
        return (call for _, call in records(parts) if isinstance(call, Call))

    def found(self, query: Query) -> int | None:
        """Return how many calls fit; None if records must be read to tell."""
        try:
            found = self.parts(wire.Find(write_query(query), count=True))
        except Uncarried:
            return None
        if not found[:20].isdigit():
            return None
        return int(found[:20])

    # -- maintenance ------------------------------------------------------------------------------

    def hold(self, limit: int) -> None:
        """Hold large blobs in memory, up to `limit` bytes."""
        self._near = Near(limit) if limit else None

    def collect(self, grace: float, dry_run: bool) -> Collected:
        """Remove what nothing references; see `Cache.gc`. Needs the right "admin"."""
        return Collected(*self.line.ask(wire.Collect(grace, dry_run)))

    def free(self, digests: Sequence[str]) -> Collected:
        """Remove values, and what only they needed; see `Backend.free`."""
        values = [bytes.fromhex(digest) for digest in digests]
        return Collected(*self.line.ask(wire.Collect(values=values)))

    def evict(self, chosen: Chosen, dry_run: bool) -> Evicted:
        """Remove calls, and what only they referenced; see `Cache.evict`. Needs the right "admin"."""
        keys = None if chosen.keys is None else [bytes.fromhex(key) for key in chosen.keys]
        request = wire.Evict(chosen.function, chosen.before, keys, dry_run)
        calls, values, blobs, size = self.line.ask(request)
        return Evicted(calls, values, blobs, size, dry_run)

    def verify(self, repair: bool, discard: bool, tell: Progress) -> Report:
        """Check every item; see `Cache.verify`. A repair needs the right "admin"."""
        said = self.line.ask(wire.Verify(repair, discard))
        try:
            return Report(**{**said, "problems": tuple(Problem(*one) for one in said["problems"])})
        except _UNREADABLE as error:
            raise WireError(f"{self.line.where}: its report can't be read") from error

    def totals(self) -> Totals:
        """Return counts and sums of all; see `Cache.size`."""
        said = self.line.ask(wire.Totals())
        try:
            return Totals(**said)
        except _UNREADABLE as error:
            raise WireError(f"{self.line.where}: its totals can't be read") from error

    def close(self) -> None:
        """End the connection; the next use makes a new one."""
        self.locks.close()
        self.line.close()


def _verified(blob: Blob, content: bytes) -> Buffer:
    if len(content) != blob.size or buffer_digest(content) != blob.name:
        raise DamagedValue(f"the blob {blob.name.hex()} is not what its name says")
    # A bytearray, so that an array over it is as writable as the one that was kept.
    return bytearray(content)
