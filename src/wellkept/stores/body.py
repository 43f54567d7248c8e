"""The fixed part of a call, and the seals that bind stored bytes to the digest they belong to."""

from __future__ import annotations

import math
import struct
from typing import NamedTuple

from blake3 import blake3

from wellkept.errors import DamagedValue
from wellkept.records import Call

__all__ = ["BODY_SIZE", "INLINE", "STATES", "Body", "fields", "rowid", "seal", "unseal"]

_BODY = struct.Struct("<32sBdddQ")
BODY_SIZE = _BODY.size
fields = _BODY.unpack_from
"""What `Body.unpack` makes a body of, for who has many."""
INLINE = 2048
"""Envelopes of at most this many bytes stand in the call's own row."""

STATES = ("done", "failed", "items")


class Body(NamedTuple):
    """What a hit relies on. Times are seconds since the epoch; `expires` is inf if nothing does."""

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
        """From the beginning of `raw`."""
        return tuple.__new__(cls, _BODY.unpack_from(raw))  # as `_make`, in a third of the time


def rowid(digest: bytes) -> int:
    """The row of a digest: its first eight bytes as a signed integer."""
    return int.from_bytes(digest[:8], "big", signed=True)


def seal(name: bytes, content: bytes) -> bytes:
    """`content` behind 16 bytes that bind it to the digest it belongs to."""
    return blake3(name + content).digest(16) + content


def unseal(name: bytes, sealed: bytes) -> bytes:
    """The content.

    Raises:
        DamagedValue: it is not what was sealed under this digest.
    """
    if type(sealed) is not bytes:  # a damaged row may have a value of any type
        raise DamagedValue("a row of the index is damaged")
    content = sealed[16:]
    if blake3(name + content).digest(16) != sealed[:16]:
        from wellkept.codecs.compression import (  # only where something is wrong
            decompress,
            is_plain,
        )

        if not is_plain(sealed):  # written through a store that compresses, and read without it
            return unseal(name, bytes(decompress(sealed)))
        raise DamagedValue("a row of the index is damaged")
    return content
