"""What a signature may say of a parameter, inside `Annotated`, and what stands for an argument."""

from __future__ import annotations

from typing import Any

__all__ = ["GIVEN", "LEFT", "Ignored", "Left", "Ordered", "Required"]


class Ignored:
    """Marks a parameter that does not count: `verbose: Annotated[bool, wellkept.Ignored]`."""


class Ordered:
    """Marks a parameter in which the order of dicts counts: `steps: Annotated[dict, wellkept.Ordered]`."""


class Required:
    """Marks what a call is not kept without: `data: Annotated[Data, wellkept.Required]`."""


class Left:
    """What stands for an argument that was left out, where that is another call than its default."""

    __slots__ = ()


LEFT = Left()

GIVEN: Any = object()
"""Before arguments by position and by keyword, in place of values: of a call that can't be bound."""
