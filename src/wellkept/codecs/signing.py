"""Signatures of encoded values: who made one, as far as those tell who share a key.

A signature is the first 8 bytes of the key's name and a keyed BLAKE3 of 32 bytes, over the digest of
the value and its envelope (codec, names of blobs, payload). So nobody without the key can make bytes that
pass for a value, or pass one value for another.
"""

from __future__ import annotations

import hmac
import os
from collections.abc import Mapping
from typing import NamedTuple

from blake3 import blake3

from wellkept.codecs.envelope import Envelope

__all__ = ["Key", "sign", "signed_by"]

_NAME = "kept 2026 name of a signing key"
_MAC = "kept 2026 signature of a value"


class Key(NamedTuple):
    """A secret of 32 bytes, known to those who trust each other."""

    secret: bytes

    @classmethod
    def new(cls) -> Key:
        return cls(os.urandom(32))

    @property
    def name(self) -> bytes:
        """8 bytes by which it is known; they tell nothing of the secret."""
        return blake3(self.secret, derive_key_context=_NAME).digest(8)

    def __repr__(self) -> str:
        return f"Key({self.name.hex()})"


def sign(key: Key, digest: bytes, envelope: Envelope) -> Envelope:
    """The envelope of the value with this digest, signed in place of any signature that it had."""
    return envelope._replace(signature=key.name + _mac(key, digest, envelope))


def signed_by(keys: Mapping[bytes, Key], digest: bytes, envelope: Envelope) -> Key | None:
    """Which of these keys, by name, signed the envelope for this digest; None: none of them."""
    signature = bytes(envelope.signature)
    key = keys.get(signature[:8])
    if key is None or not hmac.compare_digest(signature[8:], _mac(key, digest, envelope)):
        return None
    return key


def _mac(key: Key, digest: bytes, envelope: Envelope) -> bytes:
    bare = Envelope(envelope.codec, envelope.payload, envelope.blobs)
    own = blake3(key.secret, derive_key_context=_MAC).digest()
    return blake3(digest + bare.pack(), key=own).digest()
