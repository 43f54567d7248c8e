"""The arguments of the rows: the same content in every process that builds them."""

from __future__ import annotations

from typing import Any

ARRAY_ITEMS = 12_500_000  # float64: 100 MB
GIGABYTE_ITEMS = 125_000_000
SMALL_CALLS = 100


def small(again: bool = False) -> list[tuple[Any, ...]]:
    return [(number, f"label{number % 7}", number / 8) for number in range(SMALL_CALLS)]


def array(again: bool = False) -> list[tuple[Any, ...]]:
    import numpy as np

    return [(np.random.default_rng(1).random(ARRAY_ITEMS),)]


def frame(again: bool = False) -> list[tuple[Any, ...]]:
    import numpy as np
    import pandas as pd

    rows = 1_000_000
    random = np.random.default_rng(2)
    labels = np.array([f"label{number}" for number in range(100)], dtype=object)
    columns = {
        "number": np.arange(rows),
        "weight": random.random(rows),
        "label": pd.Series(labels[random.integers(0, len(labels), rows)]).astype("str"),
    }
    return [(pd.DataFrame(columns),)]


def nested(again: bool = False) -> list[tuple[Any, ...]]:
    """20,000 keys and 100,000 leaves; `again` puts the equal dict together in another order."""
    numbers = range(20_000)
    return [({f"key{n}": [n, n + 1, n + 2, n + 3, n + 4] for n in sorted(numbers, reverse=again)},)]


def numbers(again: bool = False) -> list[tuple[Any, ...]]:
    return [(list(range(100_000)),)]
