"""Values on the wire: None, bool, int, float, str, bytes, lists and mappings by text; nothing else.

A value is one byte that says its type, then its content, little-endian::

    N  T  F                             None, True, False
    i  i64                              an integer of 64 bits
    d  f64                              a float
    s  u32 length, UTF-8                text
    b  u32 length, bytes                bytes
    l  u32 count, values                a list
    m  u32 count, (text, value)*        a mapping; its keys are text without the `s`

What is decoded is bounded before it is made: by the bytes that are there, by depth and by count.
Nothing is ever unpickled.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import Any

from blake3 import blake3

from wellkept import conditions
from wellkept.codecs import Envelope
from wellkept.conditions import Choice, Condition, Is, Order, Query
from wellkept.errors import (
    AmbiguousDigest,
    ConfigError,
    DamagedValue,
    DecodeError,
    KeptError,
    NewerSchema,
    NotKept,
    StoreError,
    UntrustedSource,
)
from wellkept.records import Digest

DEPTH = 16
"""How deep values may be nested."""

_I64, _F64, _U32 = struct.Struct("<q"), struct.Struct("<d"), struct.Struct("<I")
_LIMIT = 1 << 32


class WireError(StoreError):
    """What came over the wire is none of its messages, or what should go is none."""


def pack(value: Any) -> bytes:
    """The bytes of a value.

    Raises:
        WireError: it has a type that the wire does not carry, or is too deep or too large.
    """
    parts: list[Any] = []
    _pack(value, parts, 0)
    return b"".join(parts)


def _pack(value: Any, parts: list[Any], depth: int) -> None:
    if value is None:
        parts.append(b"N")
    elif value is True:
        parts.append(b"T")
    elif value is False:
        parts.append(b"F")
    elif isinstance(value, int):
        if not -(1 << 63) <= value < 1 << 63:
            raise WireError("the wire carries integers of 64 bits, and this one is larger")
        parts += (b"i", _I64.pack(value))
    elif isinstance(value, float):
        parts += (b"d", _F64.pack(value))
    elif isinstance(value, str):
        parts.append(b"s")
        _sized(value.encode("utf-8", "surrogatepass"), parts)
    elif isinstance(value, (bytes, bytearray, memoryview)):
        parts.append(b"b")
        _sized(value if isinstance(value, bytes) else memoryview(value).cast("B"), parts)
    elif depth >= DEPTH:
        raise WireError(f"the wire carries nothing that is nested deeper than {DEPTH}")
    elif isinstance(value, dict):
        parts += (b"m", _U32.pack(len(value)))
        for name, item in value.items():
            if not isinstance(name, str):
                raise WireError(f"a mapping on the wire has text as keys, not {name!r}"[:100])
            _sized(name.encode("utf-8", "surrogatepass"), parts)
            _pack(item, parts, depth + 1)
    elif isinstance(value, (list, tuple)):
        parts += (b"l", _U32.pack(len(value)))
        for item in value:
            _pack(item, parts, depth + 1)
    else:
        raise WireError(f"the wire does not carry a {type(value).__qualname__}")


def _sized(content: Any, parts: list[Any]) -> None:
    if len(content) >= _LIMIT:
        raise WireError("the wire carries large content in parts, not in one message")
    parts += (_U32.pack(len(content)), content)


def unpack(content: bytes | bytearray | memoryview) -> Any:
    """The value whose bytes these are, all of them.

    Raises:
        WireError: they are not exactly one value.
    """
    view = memoryview(content)
    try:
        value, at = _unpack(view, 0, 0)
    except (struct.error, IndexError, UnicodeDecodeError) as error:
        raise WireError("a message on the wire is cut short or garbled") from error
    if at != len(view):
        raise WireError("a message on the wire has more than it says")
    return value


def _unpack(view: memoryview, at: int, depth: int) -> tuple[Any, int]:
    tag = view[at]
    at += 1
    if tag == 0x62:  # b
        stop = _stop(view, at)
        return bytes(view[at + 4 : stop]), stop
    if tag == 0x73:  # s
        stop = _stop(view, at)
        return str(view[at + 4 : stop], "utf-8", "surrogatepass"), stop
    if tag == 0x69:  # i
        return _I64.unpack_from(view, at)[0], at + 8
    if tag == 0x64:  # d
        return _F64.unpack_from(view, at)[0], at + 8
    if tag == 0x4E:  # N
        return None, at
    if tag in (0x54, 0x46):  # T, F
        return tag == 0x54, at
    if tag not in (0x6C, 0x6D) or depth >= DEPTH:  # l, m
        raise WireError("a message on the wire has what is no type of it, or is too deep")
    (count,) = _U32.unpack_from(view, at)
    at += 4
    if count > len(view) - at:  # each item takes a byte at the least
        raise WireError("a message on the wire says more than it has")
    if tag == 0x6C:
        items = []
        for _ in range(count):
            item, at = _unpack(view, at, depth + 1)
            items.append(item)
        return items, at
    found: dict[str, Any] = {}
    for _ in range(count):
        stop = _stop(view, at)
        name = str(view[at + 4 : stop], "utf-8", "surrogatepass")
        found[name], at = _unpack(view, stop, depth + 1)
    return found, at


def _stop(view: memoryview, at: int) -> int:
    (length,) = _U32.unpack_from(view, at)
    stop: int = at + 4 + length
    if stop > len(view):
        raise WireError("a message on the wire is cut short")
    return stop


def digest(content: bytes) -> str:
    """What goes with a message, and is not the same for any other."""
    return blake3(content).hexdigest(16)


class Refused(StoreError):  # noqa: N818  says what happened, as wellkept's errors do
    """The server does not let this client do that."""


_KINDS: dict[str, type[KeptError]] = {
    kind.__name__: kind
    for kind in (
        DamagedValue,
        DecodeError,
        NewerSchema,
        UntrustedSource,
        Refused,
        StoreError,
        ConfigError,
        AmbiguousDigest,
        NotKept,
    )
}


def told(error: Exception) -> dict[str, Any]:
    """An error as it goes over the wire: its kind and its message, nothing of where it was raised."""
    for name, kind in _KINDS.items():
        if isinstance(error, kind):
            return {"kind": name, "text": str(error)[:2000]}
    return {"kind": "StoreError", "text": f"the server failed: {type(error).__name__}"}


def raised(said: Any, where: str) -> KeptError:
    """The error that a server told of."""
    known = isinstance(said, dict) and isinstance(said.get("text"), str)
    kind = _KINDS.get(str(said.get("kind")), StoreError) if known else StoreError
    text = said["text"] if known else "an answer that can't be read"
    return kind(f"{where}: {text}")


VERSION = 1
BANNER = b"\0kept-wire %d\n"
HEADER = struct.Struct("<IBI")
REQUEST, ANSWER, ERROR, CHUNK, END = range(1, 6)
LONGEST = 16 * 1024 * 1024
"""Bytes of the longest message."""
CHUNK_SIZE = 512 * 1024
_ROOM = CHUNK_SIZE
_AHEAD = 64 * 1024  # bytes that are read before it is known how many are wanted
_SHORT = "the connection ended inside a message"


def messages(read: Callable[[memoryview], int]) -> Iterator[tuple[int, int, memoryview]]:
    """Kind, id and content of each message, until the stream ends. The content is overwritten by the
    next one.

    Args:
        read: fills some of a buffer, and says how much; nothing at the end of the stream.

    Raises:
        WireError: these are no messages, or the stream ends inside one.
    """
    room = memoryview(bytearray(_ROOM))
    start = end = 0  # what was read ahead
    while True:
        while end - start < HEADER.size:
            if start:
                room[: end - start] = bytes(room[start:end])
                start, end = 0, end - start
            got = read(room[end:_AHEAD])
            if not got:
                if end > start:
                    raise WireError(_SHORT)
                return
            end += got
        length, kind, number = HEADER.unpack_from(room, start)
        start += HEADER.size
        if length > LONGEST or not REQUEST <= kind <= END:
            raise WireError("what came over the wire is no message")
        have = min(length, end - start)
        if have == length:
            yield kind, number, room[start : start + length]
            start += length
            continue
        # What was read ahead begins this one, and is all that was.
        content = room[:length] if length <= _ROOM else memoryview(bytearray(length))
        content[:have] = bytes(room[start:end])
        start = end = 0
        while have < length:
            got = read(content[have:])
            if not got:
                raise WireError(_SHORT)
            have += got
        yield kind, number, content


def key_of(fields: Any, name: str) -> bytes:
    """A field of 32 bytes.

    Raises:
        WireError: it is none.
    """
    found = fields.get(name)
    if type(found) is not bytes or len(found) != 32:
        raise WireError(f"a request without {name}, which is 32 bytes")
    return found


def keys_of(fields: Any, name: str, most: int) -> list[bytes]:
    """A field of so many keys at the most; raises as `key_of`."""
    found = fields.get(name)
    if not isinstance(found, list) or len(found) > most:
        raise WireError(f"a request without {name}, or with more than {most:,} of them")
    if not all(type(key) is bytes and len(key) == 32 for key in found):
        raise WireError(f"a request whose {name} are not 32 bytes each")
    return found


def text_of(fields: Any, name: str) -> str:
    """A field of text; raises as `key_of`."""
    found = fields.get(name)
    if not isinstance(found, str) or len(found) > 1000:
        raise WireError(f"a request without {name}, which is text")
    return found


def uses_of(said: Any) -> dict[bytes, int]:
    """Counts of uses by key; raises as `key_of`."""
    if not said:
        return {}
    try:
        found = {bytes.fromhex(key): int(n) for key, n in said.items()}
    except (AttributeError, TypeError, ValueError) as error:
        raise WireError("counts of uses on the wire can't be read") from error
    if not all(len(key) == 32 and 0 <= n < 1 << 40 for key, n in found.items()):
        raise WireError("counts of uses on the wire can't be right")
    return found


def blobs_of(fields: Any, envelope: Envelope) -> dict[bytes, bytes]:
    """The blobs that came with an envelope; raises as `key_of`."""
    sent = fields.get("blobs") or []
    if len(sent) > len(envelope.blobs) or not all(s is None or type(s) is bytes for s in sent):
        raise WireError("blobs on the wire can't be read")
    named = zip(envelope.blobs, sent, strict=False)
    return {blob.name: content for blob, content in named if content is not None}


_TESTS: dict[str, Any] = {
    kind.__name__: kind
    for kind in (
        conditions.Present,
        conditions.Equal,
        conditions.Is,
        conditions.Begins,
        conditions.Span,
        conditions.Like,
        conditions.Has,
        conditions.Choice,
    )
}


def write_query(query: Query) -> dict[str, Any]:
    """A query as what the wire carries; what it does not carry is told when it is packed."""
    return {
        "conditions": [[c.field, list(c.path), _write(c.test)] for c in query.conditions],
        "order": [query.order.field, list(query.order.path), query.order.descending],
        "limit": query.limit,
    }


def _write(test: Any) -> list[Any]:
    name = type(test).__name__
    if name not in _TESTS:
        raise WireError(f"the wire does not carry a {name}")
    if isinstance(test, Choice):
        return [name, [_write(one) for one in test.tests]]
    return [name, *test]


def read_query(said: Any) -> Query:
    """The query that a client sent.

    Raises:
        WireError: it is none.
    """
    try:
        field, path, descending = said["order"]
        found = tuple(
            Condition(str(field), tuple(map(str, path)), _read(test, 0))
            for field, path, test in said["conditions"]
        )
        limit = said["limit"]
        order = Order(str(field), tuple(map(str, path)), bool(descending))
        return Query(found, order, None if limit is None else int(limit))
    except (KeyError, TypeError, ValueError) as error:
        raise WireError("a query on the wire can't be read") from error


def _read(said: Any, depth: int) -> Any:
    name, *fields = said
    kind = _TESTS[name]
    if kind is Choice:
        if depth > 4:
            raise WireError("a query on the wire is too deep")
        return Choice(tuple(_read(one, depth + 1) for one in fields[0]))
    if kind is Is:
        return Is(Digest(fields[0]), *fields[1:])
    return kind(*fields)
