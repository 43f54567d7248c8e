"""What a kept function did in this process."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["Stats"]


@dataclass(slots=True)
class Stats:
    """Counts since the function was made, in this process."""

    hits: int = 0
    computed: int = 0
    """Bodies that ran to the end, for whatever reason."""
    failed: int = 0
    """Bodies that raised."""
    waited: int = 0
    """Calls that waited for somebody else's computation."""
    stale: int = 0
    """Hits that were served after their ttl, inside `stale`."""
    undigestible: int = 0
    """Calls whose arguments have no identity: computed, not kept."""
    unstorable: int = 0
    """Results that could not be encoded: returned, not kept."""
    unavailable: int = 0
    """Calls that found no working store, or results that it did not take."""
    damaged: int = 0
    """Kept results that were damaged and were computed again."""
    seconds_saved: float = 0.0
    """What the hits took to compute when they were kept."""

    def to_dict(self) -> dict[str, Any]:
        """As plain data."""
        return asdict(self)
