"""Values of which a program says that they never change."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any, TypeVar

__all__ = ["constant", "is_constant"]

T = TypeVar("T")

_constants: dict[int, Callable[[], Any]] = {}


def constant(value: T) -> T:
    """Say that a global never changes, and return it: `TABLE = wellkept.constant(load())`.

    What a kept function reads counts by its content, and is looked at before each call, as it may
    change in place: an array is hashed each time. A constant is looked at once.
    """
    key = id(value)
    try:
        _constants[key] = weakref.ref(value, lambda _: _constants.pop(key, None))
    except TypeError:  # of a type that takes no weak references: it stays
        _constants[key] = lambda: value
    return value


def is_constant(value: Any) -> bool:
    """Whether a program said so of this very object."""
    found = _constants.get(id(value))
    return found is not None and found() is value
