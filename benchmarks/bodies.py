"""The functions that every library keeps: a module of its own, which any process can import.

Each body tells `OUTSIDE` that it ran, which is how a hit is known from a miss. `OUTSIDE` has a
digest that never changes, so that a library which follows what a function reaches by name does not
take the counter for a part of the code.
"""

from __future__ import annotations

from typing import Any


class Outside:
    """What the bodies share with the benchmark: a counter, and the large array they return."""

    def __init__(self) -> None:
        self.ticks = 0
        self._blocks: dict[int, Any] = {}

    def __digest__(self) -> str:
        return "0" * 64

    def tick(self) -> None:
        self.ticks += 1

    def block(self, number: int, size: int) -> Any:
        """One array a size, made once a process; its first and last items make its content new."""
        block = self._blocks.get(size)
        if block is None:
            import numpy as np

            block = self._blocks[size] = np.random.default_rng(20).random(size)
        block[0] = block[-1] = number
        return block


OUTSIDE = Outside()


def score(number: int, label: str, weight: float) -> float:
    OUTSIDE.tick()
    return number * weight + len(label)


def size(value: Any) -> float:
    OUTSIDE.tick()
    return float(len(value))


def large(number: int, items: int) -> Any:
    OUTSIDE.tick()
    return OUTSIDE.block(number, items)


def following(number: int) -> int:
    OUTSIDE.tick()
    return number + 1
