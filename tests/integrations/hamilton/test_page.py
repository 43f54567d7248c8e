"""The page on coming from Hamilton: what it says of Hamilton is so, and it names all that its stores have."""

import inspect
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hamilton.caching.fingerprinting import hash_value
from hamilton.caching.stores import base, file, memory, sqlite

import wellkept
from wellkept.integrations import hamilton as ours

PAGE = Path(__file__).parents[3] / "docs/how-to/coming-from-hamilton.md"


class One:
    def __init__(self, held: Any) -> None:
        self.held = held


class Two:
    def __init__(self, held: Any) -> None:
        self.held = held


def deep(levels: int, leaf: Any) -> Any:
    for _ in range(levels):
        leaf = [leaf]
    return leaf


CONFUSED: list[tuple[Any, Any]] = [
    (1, "1"),
    (1, b"1"),
    (1.0, "1.0"),
    (1.0, b"1.0"),
    (True, "True"),
    (True, b"True"),
    ("1", b"1"),
    (np.float64(1), 1.0),
    (np.str_("1"), "1"),
    ([1], (1,)),
    ([1], {1}),
    ([], {}),
    ({"a": 1}, ["a", 1]),
    (One(1), Two(1)),
    (One(1), {"held": 1}),
    ([Decimal(1)], [Decimal(2)]),
    ([np.int64(1)], [np.int64(2)]),
    ({"at": 1j}, {"at": 2j}),
    (np.zeros(4), np.zeros((2, 2))),
    (np.zeros(2, "f4"), np.zeros(1, "f8")),
    (pd.DataFrame({"a": [1]}), pd.DataFrame({"b": [1]})),
    (pd.DataFrame({"a": [1, 2]}, index=[0, 0]), pd.DataFrame({"a": [9, 2]}, index=[0, 0])),
    (deep(7, One(1)), deep(7, One(2))),
]


@pytest.mark.parametrize(("one", "other"), CONFUSED)
def test_what_hamiltons_fingerprints_confuse(one: Any, other: Any) -> None:
    assert hash_value(one) == hash_value(other)
    assert wellkept.digest(one) != wellkept.digest(other)


def test_what_they_tell_apart() -> None:
    assert len({hash_value(each) for each in (1, 1.0, True)}) == 3
    assert hash_value(deep(8, 1)) != hash_value(deep(8, 2))
    assert hash_value(deep(6, One(1))) != hash_value(deep(6, One(2)))


# Hamilton's class, and ours.
CLASSES = [
    (base.MetadataStore, ours.KeptMetadataStore),
    (base.ResultStore, ours.KeptResultStore),
    (sqlite.SQLiteMetadataStore, ours.KeptMetadataStore),
    (file.FileResultStore, ours.KeptResultStore),
    (memory.InMemoryMetadataStore, ours.InMemoryMetadataStore),
    (memory.InMemoryResultStore, ours.InMemoryResultStore),
]
# A database's connection, and what `wellkept evict --older` does.
ELSEWHERE = {"connection", "delete_expired"}


@pytest.mark.parametrize(("theirs", "mine"), CLASSES)
def test_every_name_and_parameter_is_there_and_on_the_page(theirs: Any, mine: Any) -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert f"`{theirs.__name__}" in page
    for name in (*(name for name in vars(theirs) if name[0] != "_"), "__init__"):
        if name != "__init__":
            assert f"`.{name}" in page or f"`{name}" in page, name
        if name in ELSEWHERE:
            continue
        found = getattr(mine, name)
        if callable(found):
            taken = inspect.signature(found).parameters
            for parameter in inspect.signature(getattr(theirs, name)).parameters:
                assert parameter in (*taken, "args", "kwargs"), (name, parameter)


def test_the_page_has_the_functions_and_errors() -> None:
    page = PAGE.read_text(encoding="utf-8")
    for name in ("ResultRetrievalError", "search_data_adapter_registry"):
        assert getattr(ours, name) is getattr(base, name)
        assert f"`{name}" in page
