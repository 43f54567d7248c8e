"""A result on its way into a store: encoded, its large parts named, and its digest."""

from __future__ import annotations

from typing import Any

from wellkept.caches.surviving import survives
from wellkept.codecs import encode
from wellkept.codecs.paths import stamped
from wellkept.errors import Undigestible
from wellkept.hashing import address, buffer_digest, digest_bytes
from wellkept.records import Value

__all__ = ["encoded"]


def encoded(result: Any, codec: str, *, compared: bool = False) -> tuple[Value, bytes]:
    """The encoded result and its digest (32 bytes); each large buffer is hashed once for both.

    A result that has no digest is named by the digest of its bytes.

    Args:
        compared: whether it is seen to that the result is the same when it is decoded.

    Raises:
        EncodeError: it can't be encoded, or would come back as another value.
    """
    value = encode(result, codec)
    if not value.buffers:
        try:
            digest = digest_bytes(result)
        except Undigestible:
            digest = buffer_digest(value.codec.encode() + b"\0" + value.head)
        else:
            if compared:
                survives(result, value, digest)
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
    else:
        if compared:
            survives(result, value, digest)
    return stamped(result, value._replace(names=names)), digest
