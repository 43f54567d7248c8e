"""What a signature may say of a parameter, inside `Annotated`."""

from __future__ import annotations

__all__ = ["Ignored", "Ordered", "Required"]


class Ignored:
    """Marks a parameter that does not count: `verbose: Annotated[bool, kept.Ignored]`."""


class Ordered:
    """Marks a parameter in which the order of dicts counts: `steps: Annotated[dict, kept.Ordered]`."""


class Required:
    """Marks what a call is not kept without: `data: Annotated[Data, kept.Required]`."""
