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
from typing import Any

from kept.errors import StoreError

__all__ = ["DEPTH", "WireError", "pack", "unpack"]

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
