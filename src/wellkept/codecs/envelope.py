"""The layout of an encoded value: an envelope that names codec, version, buffers and signature.

::

    "kv" | version u8 | flags u8 | len(codec) u8 | codec | count u32 | (size u64, BLAKE3 32)* | payload

Little-endian. A buffer is a blob of its own, named by its BLAKE3; with flag 1 the payload is a blob
too (the last of the list), because it is too large for a row.

With flag 2, in version 2, a signature of 40 bytes stands before the payload: the first 8 bytes of the
key's name, and a keyed BLAKE3 of 32 bytes over the digest of the value and its envelope (codec, names of
blobs, payload). So without the key one can neither make bytes that pass for a value nor pass one value off
as another.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Mapping
from typing import Any, NamedTuple

from blake3 import blake3

from wellkept.errors import DamagedValue, DecodeError, UntrustedSource

# BLAKE3 contexts: they keep the name and the signature, both derived from one secret, independent. They are
# parts of the format, so they still say `kept`, which is what the library was called when it was fixed.
_NAME = "kept 2026 name of a signing key"
_MAC = "kept 2026 signature of a value"

# The newest version that is read. Only signed values are written as version 2; all others stay version 1, so
# that releases that know no signatures can read them.
VERSION = 2
# Bytes of a signature.
SIGNATURE = 40
_PAYLOAD_IS_BLOB, _SIGNED = 1, 2
_FIXED = struct.Struct("<2sBBB")
_COUNT = struct.Struct("<I")
_BLOB = struct.Struct("<Q32s")

# The beginning of most envelopes: version 1, codec pickle, no flags and no buffers. Comparing it at once is
# what makes packing and unpacking a small value cheap.
COMMON = b"kv\x01\x00\x06pickle\0\0\0\0"
_COMMON_SIZE = len(COMMON)


class Blob(NamedTuple):
    """A named range of bytes: its size and the BLAKE3 of its content (32 bytes)."""

    size: int
    name: bytes


class Envelope(NamedTuple):
    """What the head of a value holds. `payload` is None if it is the last blob."""

    codec: str
    payload: bytes | memoryview | None
    blobs: tuple[Blob, ...] = ()
    signature: bytes = b""
    # The backend that has the blobs, if it is another one than gave the envelope. It is not encoded.
    source: Any = None

    def pack(self) -> bytes:
        signature = self.signature
        if not self.blobs and self.payload is not None and self.codec == "pickle" and not signature:
            return COMMON + self.payload
        flags = (_PAYLOAD_IS_BLOB if self.payload is None else 0) | (_SIGNED if signature else 0)
        name = self.codec.encode()
        return b"".join(
            (
                _FIXED.pack(b"kv", VERSION if signature else 1, flags, len(name)),
                name,
                _COUNT.pack(len(self.blobs)),
                *(_BLOB.pack(*blob) for blob in self.blobs),
                signature,
                self.payload or b"",
            )
        )

    def alone(self, n: int) -> Envelope:
        """Return an envelope of one of the blobs, as its only buffer, which the same backend loads."""
        source = self.source
        if isinstance(source, tuple):
            # The backend of a stack that has it, and its envelope there.
            source = source[0], source[1].alone(n)
        elif source is not None:
            # The blobs that came with the envelope.
            source = [source[n]]
        return Envelope(self.codec, b"", (self.blobs[n],), b"", source)

    @classmethod
    def unpack(cls, head: bytes) -> Envelope:
        """Parse an envelope.

        Raises:
            DamagedValue: these bytes are not an envelope.
            DecodeError: a newer version of wellkept wrote it.
        """
        if head.startswith(COMMON):
            # This is faster than `_make`, and most hits come here.
            return tuple.__new__(cls, ("pickle", head[_COMMON_SIZE:], (), b"", None))
        try:
            magic, version, flags, n = _FIXED.unpack_from(head)
            if magic != b"kv":
                raise DamagedValue(
                    "a stored value does not begin as one; it will be computed again"
                )
            if version > VERSION:
                raise DecodeError(
                    f"a newer wellkept wrote this value (format {version}): upgrade wellkept"
                )
            at = 5 + n
            codec = str(head[5:at], "ascii")
            (count,) = _COUNT.unpack_from(head, at)
            at += 4
            blobs = tuple(Blob(*_BLOB.unpack_from(head, at + i * _BLOB.size)) for i in range(count))
            at += count * _BLOB.size
            signature = bytes(head[at : at + SIGNATURE]) if flags & _SIGNED else b""
            if flags & _SIGNED and (version < VERSION or len(signature) < SIGNATURE):
                raise DamagedValue("a stored value's signature is cut short")
            at += len(signature)
        except (struct.error, UnicodeDecodeError) as error:
            raise DamagedValue("a stored value is cut short") from error
        payload = None if flags & _PAYLOAD_IS_BLOB else head[at:]
        return cls(codec, payload, blobs, signature)


class Key(NamedTuple):
    """A secret of 32 bytes, shared by those who trust each other."""

    secret: bytes

    @classmethod
    def new(cls) -> Key:
        return cls(os.urandom(32))

    @property
    def name(self) -> bytes:
        """Return the 8 bytes that name the key; they reveal nothing of the secret."""
        return blake3(self.secret, derive_key_context=_NAME).digest(8)

    def __repr__(self) -> str:
        return f"Key({self.name.hex()})"


def sign(key: Key, digest: bytes, envelope: Envelope) -> Envelope:
    """Return the envelope of the value with this digest, signed; an earlier signature is replaced."""
    return envelope._replace(signature=key.name + _mac(key, digest, envelope))


def signed_by(keys: Mapping[bytes, Key], digest: bytes, envelope: Envelope) -> Key | None:
    """Return the key, out of these by name, that signed the envelope for this digest; None if none did."""
    # Loaded on first use: it loads OpenSSL, which only signed values need.
    import hmac

    signature = bytes(envelope.signature)
    key = keys.get(signature[:8])
    # A comparison that stops at the first difference would tell a forger, by its time, how much is right.
    if key is None or not hmac.compare_digest(signature[8:], _mac(key, digest, envelope)):
        return None
    return key


def _mac(key: Key, digest: bytes, envelope: Envelope) -> bytes:
    # The signature covers the envelope as it is without a signature, and the value's digest, so that neither
    # codec nor blobs nor payload can be exchanged, nor one signed value put in the place of another.
    bare = Envelope(envelope.codec, envelope.payload, envelope.blobs)
    own = blake3(key.secret, derive_key_context=_MAC).digest()
    return blake3(digest + bare.pack(), key=own).digest()


class Refused(DecodeError, UntrustedSource):  # noqa: N818  says what happened, as wellkept's errors do
    """A value from elsewhere is neither signed by a key that is trusted here nor of plain types."""

    # The short reason that reports show.
    what = "not trusted"

    def __init__(self, why: str) -> None:
        self.why = why
        super().__init__(
            f"a value from elsewhere is not signed by a key that is trusted here, and {why}, which "
            "is no plain type: share a key (`wellkept keys`), register its dataclass "
            "(`wellkept.register_plain`), or open that place with trust=True"
        )
