"""The layout of calls, arguments, uses and notes as bytes, and the checksums that bind them to their digest."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Callable, Iterator, Mapping
from json.encoder import encode_basestring_ascii as _quote
from typing import Any, NamedTuple

from blake3 import blake3

from wellkept.codecs import LARGE, Blob, Envelope
from wellkept.codecs.envelope import COMMON
from wellkept.errors import DamagedValue, DecodeError
from wellkept.hashing import buffer_digest, digest_bytes
from wellkept.records import Argument, Arguments, Buffer, Call, Digest, Metadata, Value
from wellkept.stores.base import (
    check_key,
)

_BODY = struct.Struct("<32sBdddQ")
BODY_SIZE = _BODY.size
pack_body: Callable[..., bytes] = _BODY.pack
"""What `Body.pack` does, of the fields."""
fields: Callable[..., tuple[Any, ...]] = _BODY.unpack_from
"""Bulk variant of `Body.unpack`: returns a plain tuple."""
INLINE = 2048
"""Envelopes of at most this many bytes are part of the call's own row."""

STATES = ("done", "failed", "items")


class Body(NamedTuple):
    """The header of a call, which a hit relies on. Times are seconds since the epoch; `expires` may be inf."""

    result: bytes
    state: int
    """Index into `STATES`."""
    created: float
    seconds: float
    expires: float
    size: int

    @classmethod
    def of(cls, call: Call) -> Body:
        expires = math.inf if call.expires is None else call.expires
        state = STATES.index(call.state)
        return cls(call.result.raw, state, call.created, call.seconds, expires, call.size)

    def pack(self) -> bytes:
        return _BODY.pack(*self)

    @classmethod
    def unpack(cls, raw: bytes) -> Body:
        """Return the body at the beginning of `raw`."""
        # Like `_make`, in a third of the time.
        return tuple.__new__(cls, _BODY.unpack_from(raw))


def rowid(digest: bytes) -> int:
    """Return the id of the row that a digest names: its first eight bytes as a signed integer."""
    return int.from_bytes(digest[:8], "big", signed=True)


def seal(name: bytes, content: bytes) -> bytes:
    """Return the content behind a checksum of 16 bytes, which binds it to the digest that it belongs to."""
    return blake3(name + content).digest(16) + content


def unseal(name: bytes, sealed: bytes) -> bytes:
    """Return the content behind a checksum.

    Raises:
        DamagedValue: it is not what was sealed under this digest.
    """
    # A damaged row may hold a value of any type.
    if type(sealed) is not bytes:
        raise DamagedValue("a row of the index is damaged")
    content = sealed[16:]
    if blake3(name + content).digest(16) != sealed[:16]:
        # Loaded on first use: only damaged and compressed items come here.
        from wellkept.codecs.compression import decompress, is_plain

        # It may have been written through a store that compresses, and be read without it.
        if not is_plain(sealed):
            return unseal(name, bytes(decompress(sealed)))
        raise DamagedValue("a row of the index is damaged")
    return content


def readable_body(key: bytes, sealed: bytes, head: bytes | None) -> Body | None:
    """Return the body of a row of the index, if it and the envelope of its result are as they were written."""
    try:
        content = unseal(key, sealed)
        body = Body.unpack(content)
        if len(content) > BODY_SIZE:
            Envelope.unpack(content[BODY_SIZE:])
        elif head is not None:
            Envelope.unpack(unseal(body.result, head))
    except DecodeError:
        return None
    return body


def arguments_text(call: Call) -> str:
    """Return a call's arguments as JSON.

    Each is `[name, value]` for a shown scalar, whose digest follows from it, and otherwise `[name, null,
    digest]`.
    """
    # Put together by hand, as this is part of every miss.
    rows = []
    given = call.arguments
    if type(given) is Arguments:
        for name, value, raw in given.items_given:
            if not given.shown(value):
                rows.append(f'[{_quote(name)},null,"{raw.hex()}"]')
            elif type(value) is int:
                rows.append(f"[{_quote(name)},{value!r}]")
            else:
                rows.append(f"[{_quote(name)},{_scalar(value)}]")
        return f"[{','.join(rows)}]"
    for name, (digest, value, shown) in given.items():
        rows.append(
            f"[{_quote(name)},{_scalar(value)}]" if shown else f'[{_quote(name)},null,"{digest}"]'
        )
    return f"[{','.join(rows)}]"


def _scalar(value: Any) -> str:
    kind = type(value)
    if kind is int or kind is float:
        # This takes a third of json.dumps, and gives the same text.
        return repr(value)
    if kind is str:
        return _quote(value)
    return json.dumps(value)


class ReadArguments(Mapping[str, Argument]):
    """Arguments as they were written; the digest of a shown one is computed when it is read."""

    __slots__ = ("_items",)

    def __init__(self, items: dict[str, Any]) -> None:
        self._items = items

    def __getitem__(self, name: str) -> Argument:
        found = self._items[name]
        if type(found) is not Argument:
            found = self._items[name] = Argument(Digest.of(digest_bytes(found[1])), found[1], True)
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __repr__(self) -> str:
        return repr(dict(self))

    def __reduce__(self) -> tuple[Any, ...]:
        return dict, (dict(self),)


def read_arguments(text: str) -> Mapping[str, Argument]:
    """Return the arguments that `arguments_text` wrote.

    Raises:
        DamagedValue: the text is not what was written.
    """
    try:
        return ReadArguments({_name(item[0]): _item(item) for item in json.loads(text)})
    except (ValueError, TypeError, LookupError, RecursionError) as error:
        raise DamagedValue("a call's arguments are damaged") from error


def read_metadata(text: Any) -> dict[str, Any]:
    """Return a call's metadata; an empty dict for a damaged text, as no result relies on it."""
    try:
        found = json.loads(text) if text else {}
    except (ValueError, TypeError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _name(found: Any) -> str:
    if type(found) is not str:
        raise TypeError
    return found


def _item(item: list[Any]) -> Any:
    if len(item) == 2 and type(item[1]) in _SCALARS:
        return item
    _, _, digest = item
    return Argument(Digest(digest))


_SCALARS = frozenset({str, int, float, bool, type(None)})


# Items of byte stores. A call's item is, behind its checksum::
#
#     "kc" | version u8 | flags u8 | body | length of the envelope u32 | envelope | the rest as JSON
_VERSION = 2
# The envelope has an item of its own, named by its digest alone.
_ELSEWHERE = 1
# The envelope has an item of its own, named by its digest and its checksum, which is here in the envelope's
# place.
_NAMED = 2
_SEAL = 16
_HEAD = struct.Struct("<2sBB")
_LENGTH = struct.Struct("<I")


def pack_call(call: Call, envelope: bytes, value: str = "") -> bytes:
    """Return the item of a call.

    Args:
        call: the record.
        envelope: of its result; empty if that has an item of its own, or is not kept.
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
    """Return body, envelope if it is in the item, and the JSON of the rest.

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
    """Return the key of the item that has a call's result; empty if the call's item has it, or it was evicted.

    Args:
        item: of the call, verified.
    """
    if item[_SEAL : _SEAL + 2] != b"kc":
        # Loaded on first use: few stores compress.
        from wellkept.codecs.compression import decompress

        item = bytes(decompress(item))
    _, _, flags = _HEAD.unpack_from(item, _SEAL)
    at = _SEAL + _HEAD.size
    result = f"values/{item[at : at + 32].hex()}"
    if not flags & _NAMED:
        return result if flags & _ELSEWHERE else ""
    at += BODY_SIZE + _LENGTH.size
    return f"{result}.{item[at : at + _SEAL].hex()}"


def unpack_call(key: str, item: bytes, counted: bytes | None = None) -> Call:
    """Return the record of a call, with the counts of its item of uses; raises as `unpack_body`."""
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
    """Return the item of how often and when last a call was used."""
    return json.dumps({"uses": uses, "used": used}).encode()


def unpack_uses(item: bytes | None) -> tuple[int, float | None]:
    """Return what `pack_uses` wrote; zero uses for a damaged item."""
    # Counts are not worth an error.
    if item is not None:
        try:
            known = json.loads(item)
            return int(known["uses"]), float(known["used"])
        except (ValueError, KeyError, TypeError):
            pass
    return 0, None


def sealed_note(key: str, item: Buffer) -> bytes:
    """Return a note as it is stored."""
    return seal(buffer_digest(check_key(key).encode()), bytes(item))


def unsealed_note(key: str, stored: Any) -> bytes | None:
    """Return the note; None if nothing is stored, or not what was sealed under this key."""
    if stored is None:
        return None
    try:
        content = bytes(stored) if isinstance(stored, (bytearray, memoryview)) else stored
        return unseal(buffer_digest(key.encode()), content)
    except DamagedValue:
        return None


def laid_out(value: Value, *, apart: bool = False) -> tuple[Envelope, list[Buffer]]:
    """Return the envelope of a value, and its large parts in the order of the envelope's blobs.

    Args:
        value: the encoded value.
        apart: whether the head is a part too, however small it is.
    """
    names = list(value.names) or [buffer_digest(buffer) for buffer in value.buffers]
    parts = list(value.buffers)
    payload: bytes | memoryview | None = value.head
    if apart or len(value.head) > LARGE:
        payload = None
        parts.append(value.head)
        names.append(buffer_digest(value.head))
    sizes = (memoryview(part).nbytes for part in parts)
    blobs = tuple(map(Blob, sizes, names))
    return Envelope(value.codec, payload, blobs, value.signature), parts


def rows_of(call: Call, envelope: Envelope) -> tuple[Body, list[Any], tuple[Any, ...] | None]:
    """Return the rows of a call in an index: its body, its row with the function in place of its number, and
    the row of the envelope if that stands apart.
    """
    # All at once, which takes a third of the time.
    named, function, code, _, given, state, created, seconds, size, expires, _, _, metadata = call
    key, result = bytes.fromhex(named), bytes.fromhex(given)
    end = math.inf if expires is None else expires
    said = (result, STATES.index(state), created, seconds, end, size)
    body, content = tuple.__new__(Body, said), pack_body(*said)
    codec, payload, blobs, signature, _ = envelope
    if codec == "pickle" and payload is not None and not blobs and not signature:
        # Most are.
        head = COMMON + payload
    else:
        head = envelope.pack()
    value = None
    if len(head) <= INLINE:
        content += head
    else:
        # A value is found by its seal, which its bytes are in, and not by its digest: results of one
        # digest may differ in what digests leave out, such as the order of a dict.
        sealed = seal(result, head)
        value = rowid(sealed), result, sealed, size
    if type(metadata) is Metadata:
        text: str | None = metadata.text
    else:
        text = json.dumps(dict(metadata)) if metadata else None
    row = [
        int.from_bytes(key[:8], "big", signed=True),
        key,
        # See `seal`.
        blake3(key + content).digest(16) + content,
        None if value is None else value[0],
        int.from_bytes(result[:8], "big", signed=True),
        (function, code),
        arguments_text(call),
        created,
        seconds,
        size,
        expires,
        text,
    ]
    return body, row, value
