"""A result on its way into a store: encoded, its large parts named, and its digest."""

from __future__ import annotations

from typing import Any

from kept.codecs import encode
from kept.codecs.paths import stamped
from kept.errors import Undigestible
from kept.hashing import address, buffer_digest, digest_bytes
from kept.records import Value

__all__ = ["encoded"]


def encoded(result: Any, codec: str) -> tuple[Value, bytes]:
    """The encoded result and its digest (32 bytes); each large buffer is hashed once for both.

    A result that has no digest is named by the digest of its bytes.

    Raises:
        EncodeError: it can't be encoded.
    """
    value = encode(result, codec)
    if not value.buffers:
        try:
            digest = digest_bytes(result)
        except Undigestible:
            digest = buffer_digest(value.codec.encode() + b"\0" + value.head)
        return stamped(result, value), digest
    names = [buffer_digest(buffer) for buffer in value.buffers]
    known = {
        (address(buffer), memoryview(buffer).nbytes): name
        for buffer, name in zip(value.buffers, names, strict=True)
    }
    try:
        digest = digest_bytes(result, known=known)
    except Undigestible:
        digest = buffer_digest(value.codec.encode() + b"\0" + value.head + b"".join(names))
    return stamped(result, value._replace(names=names)), digest
