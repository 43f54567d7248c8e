"""What a pickle from whom nobody vouches for may name, and what may be done with it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

__all__ = ["Named", "Unfinished"]


class Named(NamedTuple):
    """Something that may be named."""

    it: Any
    """What stands for the name on the machine's stack."""
    call: Callable[..., Any] | None = None
    """Makes an object, given the machine and what the stream calls it with; None: it is not called."""
    new: Callable[[], Any] | None = None
    """Makes an empty object; None: none is made."""


class Unfinished(NamedTuple):
    """An object that may be given state, once."""

    it: Any
    build: Callable[[Any, Any, Any], None]
    """Gives it, given the machine, the object and the state."""
    must: bool = True
    """Whether nothing may use it before."""
