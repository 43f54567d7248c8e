"""Messages in a stream of bytes: what lets many requests share one connection.

A server begins with its banner, `\\0kept-wire VERSION\\n`; whatever a login script wrote before it is
passed over. Then each side sends messages::

    length u32 | kind u8 | id u32 | content

The length is that of the content. A request has an id of its client's choice, which its answer has
too; content that is too large for one message comes in `CHUNK`s of the same id, ended by an `END`.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import Any

from kept.remote.wire import WireError

__all__ = [
    "ANSWER",
    "BANNER",
    "CHUNK",
    "CHUNK_SIZE",
    "END",
    "ERROR",
    "HEADER",
    "LONGEST",
    "REQUEST",
    "VERSION",
    "messages",
]

VERSION = 1
BANNER = b"\0kept-wire %d\n"
HEADER = struct.Struct("<IBI")
REQUEST, ANSWER, ERROR, CHUNK, END = range(1, 6)
LONGEST = 16 * 1024 * 1024
"""Bytes of the longest message."""
CHUNK_SIZE = 512 * 1024


def messages(read: Callable[[int], bytes]) -> Iterator[tuple[int, int, Any]]:
    """Kind, id and content of each message, until the stream ends.

    Args:
        read: gives some bytes, at most as many as asked for; none at the end of the stream.

    Raises:
        WireError: these are no messages, or the stream ends inside one.
    """
    while True:
        head = _exactly(read, HEADER.size, start=True)
        if not head:
            return
        length, kind, number = HEADER.unpack(head)
        if length > LONGEST or not REQUEST <= kind <= END:
            raise WireError("what came over the wire is no message")
        yield kind, number, _exactly(read, length)


def _exactly(read: Callable[[int], bytes], size: int, *, start: bool = False) -> Any:
    first = read(size) if size else b""
    if len(first) == size or (start and not first):
        return first
    content = bytearray(first)
    while len(content) < size:
        more = read(size - len(content))
        if not more:
            raise WireError("the connection ended inside a message")
        content += more
    return memoryview(content)
