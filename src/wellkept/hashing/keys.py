"""The key of a call, from what its record says: what proves that a record is whole."""

from __future__ import annotations

import marshal
from collections.abc import Iterable
from typing import Any

from blake3 import blake3

from ..records import SCHEME

__all__ = ["call_key", "default_digest"]

_ESCAPE = StopIteration  # what begins a tagged tuple; see the digest spec


def call_key(function: str, code: str, arguments: Iterable[tuple[str, bytes]]) -> bytes:
    """The 32 bytes that name a call.

    Args:
        function: its identity.
        code: its code identity or version, as a call record has it.
        arguments: names and digests (32 bytes), in any order.
    """
    flat: list[Any] = [_ESCAPE, "call", SCHEME, function, code]
    for pair in sorted(arguments):
        flat += pair
    return blake3(marshal.dumps(tuple(flat), 2)).digest()


def default_digest(name: str) -> bytes:
    """What stands for a parameter's own default where that is a bare `object()`, which has no digest.

    Args:
        name: the parameter's.
    """
    return blake3(marshal.dumps((_ESCAPE, "default", name), 2)).digest()
