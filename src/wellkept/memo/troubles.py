"""Failures of caching: their kinds, how they are counted and told of, and the latest of them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, NamedTuple

from wellkept.errors import EncodeError, KeptError, NotKept, Undigestible
from wellkept.guards import settle

if TYPE_CHECKING:
    from wellkept.memo.flow import Located
    from wellkept.memo.kept import Kept

__all__ = ["TROUBLES", "Trouble", "broke", "kind_of", "not_kept", "note"]

_MOST = 1_000


class Trouble(NamedTuple):
    """What stood in the way of keeping a result."""

    kind: str
    """`unstorable`, `unavailable`, `declined` (`when=` said no) or `raised`."""
    text: str
    at: float


TROUBLES: dict[bytes, Trouble] = {}
"""By key of the call."""


def kind_of(error: Exception) -> str:
    """Which count of `Stats` a failure of caching goes to."""
    if isinstance(error, Undigestible):
        return "undigestible"
    if isinstance(error, EncodeError):
        return "unstorable"
    return "unavailable" if isinstance(error, (KeptError, OSError)) else "unstorable"


def broke(kept: Kept[..., Any], error: Exception) -> bool:
    """Count and tell of a failure of caching; whether the caller is to get it (`strict`)."""
    if not isinstance(error, KeptError):
        settle()  # a signal's handler may have raised it, between any two instructions
    kind = kind_of(error)
    setattr(kept.counts, kind, getattr(kept.counts, kind) + 1)
    if not kept.options.strict:
        done = {"undigestible": "computed, not kept", "unstorable": "returned, not kept"}
        kept.warn(kind, f"{done.get(kind, 'computed without the cache')}: {error}")
    return kept.options.strict


def not_kept(kept: Kept[..., Any], found: Located) -> NotKept:
    """What to raise where a call is not kept that has to be."""
    call = f"{kept.__qualname__}{kept.locator.shown(found)}"
    return NotKept(f"{call} is not kept in {found.cache}")


def note(key: bytes, kind: str, text: str) -> None:
    """Remember it, and of too many forget the oldest."""
    TROUBLES.pop(key, None)
    TROUBLES[key] = Trouble(kind, text, time.time())
    while len(TROUBLES) > _MOST:
        TROUBLES.pop(next(iter(TROUBLES)), None)
