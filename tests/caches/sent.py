"""Functions that other processes import by their names: without pytest, which takes a while."""

from typing import Any

import numpy as np

import wellkept


def anything(call: wellkept.Call) -> bool:
    return True


def parts(i: int) -> list[Any]:
    """Some of them new, and some what others have had and lost."""
    return [np.full(9000, i), np.full(9000, i % 7), np.full(9000, -(i // 10))]
