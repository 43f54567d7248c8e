"""A function by itself: what validates its arguments holds all of its module."""

from typing import Any


def validated(x: int, y: int = "7", *rest: int, z: int = 1) -> Any:  # type: ignore[assignment]
    return x, y, rest, z
