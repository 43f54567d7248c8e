"""Why calls of this process were not kept, the latest of them, for who asks."""

from __future__ import annotations

import time
from typing import NamedTuple

__all__ = ["TROUBLES", "Trouble", "note"]

_MOST = 1_000


class Trouble(NamedTuple):
    """What stood in the way of keeping a result."""

    kind: str
    """`unstorable`, `unavailable`, `declined` (`when=` said no) or `raised`."""
    text: str
    at: float


TROUBLES: dict[bytes, Trouble] = {}
"""By key of the call."""


def note(key: bytes, kind: str, text: str) -> None:
    """Remember it, and of too many forget the oldest."""
    TROUBLES.pop(key, None)
    TROUBLES[key] = Trouble(kind, text, time.time())
    while len(TROUBLES) > _MOST:
        TROUBLES.pop(next(iter(TROUBLES)), None)
