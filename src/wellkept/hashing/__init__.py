"""Digests of values and functions: the scheme k1 (docs/reference/digest-spec.md)."""

from typing import Any

from wellkept.hashing.buffers import MAPPED, address, buffer_digest
from wellkept.hashing.digests import digest_bytes
from wellkept.hashing.functions import Identity, Receiver, identify
from wellkept.hashing.reducers import register_digest
from wellkept.records import Digest

__all__ = [
    "MAPPED",
    "SCALARS",
    "Identity",
    "Receiver",
    "address",
    "buffer_digest",
    "digest",
    "digest_bytes",
    "identify",
    "register_digest",
]

# Exact types that are immutable, hold nothing, and digest without a walk.
SCALARS = frozenset({type(None), bool, int, float, complex, str, bytes})


def digest(value: Any) -> Digest:
    """Return the identity of a value: same type and content, same digest, in every process.

    Raises:
        Undigestible: a part of it has no identity; the message names the path to it.
    """
    return Digest.of(digest_bytes(value))
