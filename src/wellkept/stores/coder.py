"""Records onto bytes: what turns any `Store[bytes]` into a store of calls, and of values.

A call's item (sealed under its key, see `tables.seal`)::

    seal 16 | "kc" | version u8 | flags u8 | body | len(envelope) u32 | envelope | JSON of the rest

A small result's envelope stands in it, so that a hit is one trip. A larger one has an item of its own,
`values/<digest>.<seal>`, which is sealed under its digest; its seal, which the bytes are in, stands
in the envelope's stead (flag 2, version 2): results of one digest may differ in what digests leave out.
Large buffers are items named by their BLAKE3, as bare bytes. A call with neither had its result
evicted. `values/<digest>` was put by hand, or by an earlier kept (flag 1).
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from itertools import chain, islice
from typing import Any

from wellkept.codecs import LARGE, Blob, Envelope
from wellkept.codecs.compression import decompress, is_plain
from wellkept.errors import DamagedValue, DecodeError, StoreError
from wellkept.hashing import buffer_digest
from wellkept.records import Buffer, Call, Digest, Value
from wellkept.stores.base import Store, delete_many, get_many, put_many
from wellkept.stores.body import BODY_SIZE, STATES, Body, seal, unseal
from wellkept.stores.callterms import terms_of
from wellkept.stores.tables import arguments_text, read_arguments

__all__ = [
    "INLINE",
    "CodedCalls",
    "CodedValues",
    "pack_call",
    "pack_uses",
    "unpack_body",
    "unpack_call",
    "unpack_uses",
    "value_key",
]

INLINE = LARGE
"""Envelopes of at most this many bytes travel with their call."""

_VERSION = 2
_ELSEWHERE = 1  # the envelope has an item of its own, by its digest alone
_NAMED = 2  # the envelope has an item of its own, by its digest and seal
_SEAL = 16
_HEAD = struct.Struct("<2sBB")
_LENGTH = struct.Struct("<I")
_PAGE = 200  # records that are read at once
_VERIFIED = 100_000  # blobs whose stamps are remembered


def pack_call(call: Call, envelope: bytes, value: str = "") -> bytes:
    """The item of a call, whose envelope is empty where it has an item of its own, or none.

    Args:
        value: the key of that item.
    """
    version, flags = 1, 0
    if value:
        _, _, name = value.partition(".")
        version, flags = (_VERSION, _NAMED) if name else (1, _ELSEWHERE)
        envelope = bytes.fromhex(name)
    rest = {
        "function": call.function,
        "code": call.code,
        "arguments": arguments_text(call),
        "metadata": dict(call.metadata),
    }
    content = b"".join(
        (
            _HEAD.pack(b"kc", version, flags),
            Body.of(call).pack(),
            _LENGTH.pack(len(envelope)),
            envelope,
            json.dumps(rest).encode(),
        )
    )
    return seal(call.key.raw, content)


def unpack_body(key: bytes, item: bytes) -> tuple[Body, Envelope | None, bytes]:
    """Body, envelope if it is in the item, and the JSON of the rest.

    Raises:
        DamagedValue: the item is not what was written under this key.
        DecodeError: a newer wellkept wrote it.
    """
    content = unseal(key, bytes(item))
    try:
        magic, version, flags = _HEAD.unpack_from(content)
        if magic != b"kc":
            raise DamagedValue("an item is not a call's")
        if version > _VERSION:
            raise DecodeError(
                f"a newer wellkept wrote this call (format {version}): upgrade wellkept"
            )
        at = _HEAD.size
        body = Body.unpack(content[at : at + BODY_SIZE])
        (length,) = _LENGTH.unpack_from(content, at + BODY_SIZE)
    except struct.error as error:
        raise DamagedValue("a call's item is cut short") from error
    at += BODY_SIZE + _LENGTH.size
    held = length and not flags & _NAMED
    envelope = Envelope.unpack(content[at : at + length]) if held else None
    return body, envelope, content[at + length :]


def value_key(item: bytes) -> str:
    """The key of the item that has the result of a call, whose own item was verified; empty where
    the result is in that, or was thrown away.
    """
    if item[_SEAL : _SEAL + 2] != b"kc":
        item = bytes(decompress(item))
    _, _, flags = _HEAD.unpack_from(item, _SEAL)
    at = _SEAL + _HEAD.size
    result = f"values/{item[at : at + 32].hex()}"
    if not flags & _NAMED:
        return result if flags & _ELSEWHERE else ""
    at += BODY_SIZE + _LENGTH.size
    return f"{result}.{item[at : at + _SEAL].hex()}"


def unpack_call(key: str, item: bytes, counted: bytes | None = None) -> Call:
    """The record of a call, with its item of uses; raises as `unpack_body`."""
    body, _, rest = unpack_body(bytes.fromhex(key), item)
    try:
        known = json.loads(rest)
        uses, used = unpack_uses(counted)
        return Call(
            key=Digest(key),
            function=known["function"],
            code=known["code"],
            arguments=read_arguments(known["arguments"]),
            result=Digest.of(body.result),
            state=STATES[body.state],
            created=body.created,
            seconds=body.seconds,
            size=body.size,
            expires=None if body.expires == float("inf") else body.expires,
            uses=uses,
            used=used,
            metadata=known["metadata"],
        )
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise DamagedValue("a call's item can't be read") from error


def pack_uses(uses: int, used: float) -> bytes:
    """The item that says how often and when last a call was used."""
    return json.dumps({"uses": uses, "used": used}).encode()


def unpack_uses(item: bytes | None) -> tuple[int, float | None]:
    """What `pack_uses` wrote; counts are not worth an error."""
    if item is not None:
        try:
            known = json.loads(item)
            return int(known["uses"]), float(known["used"])
        except (ValueError, KeyError, TypeError):
            pass
    return 0, None


class CodedCalls:
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

    def all(self) -> Iterator[tuple[str, Call | DecodeError]]:
        """Every key and its record (of a damaged one the error), many in one trip."""
        keys = self.keys()
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
        names = list(value.names) or [buffer_digest(buffer) for buffer in value.buffers]
        content = list(value.buffers)
        if len(value.head) > LARGE:
            content.append(value.head)
            names.append(buffer_digest(value.head))
        if not content:  # nor a trip, or a transaction, for nothing
            return Envelope(value.codec, value.head, (), value.signature)
        put_many(
            self.items,
            {f"blobs/{name.hex()}": part for part, name in zip(content, names, strict=True)},
        )
        blobs = [
            Blob(memoryview(part).nbytes, name) for part, name in zip(content, names, strict=True)
        ]
        payload = None if len(content) > len(value.buffers) else value.head
        return Envelope(value.codec, payload, tuple(blobs), value.signature)

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
