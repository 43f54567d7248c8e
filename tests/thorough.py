"""How much of a long test is done: some of it each time, so that many runs see all, or all of it at once.

`WELLKEPT_THOROUGH=1` asks for all of it.
"""

from __future__ import annotations

import os
import random
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")
# Read before a test clears its environment.
THOROUGH = os.environ.get("WELLKEPT_THOROUGH") == "1"
_chance = random.SystemRandom()  # whatever a test seeds


def often(few: int, many: int) -> int:
    """Return how often something is to be done: a few times, or many where all is asked for."""
    return many if THOROUGH else few


def some(things: Sequence[T], few: int) -> list[T]:
    """Return about so many of them, at even distances from a random one on, or all where that is asked for."""
    step = max(1, len(things) // often(few, len(things)))
    return list(things[_chance.randrange(step) :: step])


def new_seed() -> int:
    """Return a seed that is another in each run, for a test to say when it fails."""
    return _chance.randrange(10**6)
