"""What a kept function did in this process."""

from __future__ import annotations

from typing import Any, ClassVar

__all__ = ["Stats"]


class Stats:
    """Counts since the function was made, in this process."""

    hits: int
    computed: int
    """Bodies that ran to the end, for whatever reason."""
    failed: int
    """Bodies that raised."""
    waited: int
    """Calls that waited for somebody else's computation."""
    stale: int
    """Hits that were served after their ttl, inside `stale`."""
    outdated: int
    """Hits of what the function's former code gave (`code="warn"`)."""
    undigestible: int
    """Calls whose arguments have no identity: computed, not kept."""
    unstorable: int
    """Results that could not be encoded: returned, not kept."""
    unavailable: int
    """Calls that found no working store, or results that it did not take."""
    damaged: int
    """Kept results that were damaged and were computed again."""
    drifted: int
    """Hits that were computed again (`verify`) and gave another result than what was kept."""
    widened: int
    """Bodies that ran code of the project which their identity did not cover, and so was widened."""
    seconds_saved: float
    """What the hits took to compute when they were kept."""

    __slots__ = (
        "computed",
        "damaged",
        "drifted",
        "failed",
        "hits",
        "outdated",
        "seconds_saved",
        "stale",
        "unavailable",
        "undigestible",
        "unstorable",
        "waited",
        "widened",
    )

    def __init__(self, **counts: float) -> None:
        for name in self.__slots__:
            setattr(self, name, counts.pop(name, 0))
        if counts:
            raise TypeError(f"there are no counts of {', '.join(counts)}")

    def add(self, other: Stats) -> None:
        """Add what another one has counted."""
        for name in self.__slots__:
            setattr(self, name, getattr(self, name) + getattr(other, name))

    def to_dict(self) -> dict[str, Any]:
        """As plain data."""
        return {name: getattr(self, name) for name in self.__slots__}

    def __repr__(self) -> str:
        return f"Stats({', '.join(f'{name}={value}' for name, value in self.to_dict().items())})"

    def _repr_html_(self) -> str:
        # Only notebooks need it.
        from wellkept.readable import duration, facts

        counts = self.to_dict()
        saved = duration(counts.pop("seconds_saved"))
        always = ("hits", "computed", "failed")
        shown = {name: n for name in (*always, *counts) if (n := counts[name]) or name in always}
        return facts("Stats of this process", {**shown, "time saved": saved})

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Stats) and self.to_dict() == other.to_dict()

    __hash__: ClassVar[None] = None  # type: ignore[assignment]  # it changes with every call
