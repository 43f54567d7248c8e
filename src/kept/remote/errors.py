"""Errors on their way: what a server's trouble is called on the wire, and what it is here."""

from __future__ import annotations

from typing import Any

from kept.errors import (
    AmbiguousDigest,
    ConfigError,
    DamagedValue,
    DecodeError,
    KeptError,
    NewerSchema,
    NotKept,
    StoreError,
    UntrustedSource,
)

__all__ = ["Refused", "raised", "told"]


class Refused(StoreError):  # noqa: N818  says what happened, as kept's errors do
    """The server does not let this client do that."""


_KINDS: dict[str, type[KeptError]] = {
    kind.__name__: kind
    for kind in (
        DamagedValue,
        DecodeError,
        NewerSchema,
        UntrustedSource,
        Refused,
        StoreError,
        ConfigError,
        AmbiguousDigest,
        NotKept,
    )
}


def told(error: Exception) -> dict[str, Any]:
    """An error as it goes over the wire: its kind and its message, nothing of where it was raised."""
    for name, kind in _KINDS.items():
        if isinstance(error, kind):
            return {"kind": name, "text": str(error)[:2000]}
    return {"kind": "StoreError", "text": f"the server failed: {type(error).__name__}"}


def raised(said: Any, where: str) -> KeptError:
    """The error that a server told of."""
    known = isinstance(said, dict) and isinstance(said.get("text"), str)
    kind = _KINDS.get(str(said.get("kind")), StoreError) if known else StoreError
    text = said["text"] if known else "an answer that can't be read"
    return kind(f"{where}: {text}")
