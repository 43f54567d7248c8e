"""The fields of a request, checked: what is not what it should be is told, not tried."""

from __future__ import annotations

from typing import Any

from kept.codecs import Frame
from kept.remote.wire import WireError

__all__ = ["blobs_of", "key_of", "keys_of", "text_of", "uses_of"]


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


def blobs_of(fields: Any, frame: Frame) -> dict[bytes, bytes]:
    """The blobs that came with a frame; raises as `key_of`."""
    sent = fields.get("blobs") or []
    if len(sent) > len(frame.blobs) or not all(s is None or type(s) is bytes for s in sent):
        raise WireError("blobs on the wire can't be read")
    named = zip(frame.blobs, sent, strict=False)
    return {blob.name: content for blob, content in named if content is not None}
