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
