"""Values taken apart, so that two of them can be told apart later."""

from __future__ import annotations

import collections
import dataclasses
import datetime
import enum
import types
from decimal import Decimal
from pathlib import PurePosixPath
from typing import Any, NamedTuple

import numpy as np
import pytest

import wellkept
from wellkept.hashing.leaves import MOST, leaves_of


@dataclasses.dataclass
class Mesh:
    dtype: str
    sizes: tuple[int, ...]


class Point(NamedTuple):
    x: int
    y: float


class Plain:
    def __init__(self, **held: Any) -> None:
        self.__dict__.update(held)


class Slotted:
    __slots__ = ("a", "b")

    def __init__(self) -> None:
        self.a, self.b = 1, [2]


class Colour(enum.Enum):
    RED = 1


def test_each_part_has_its_path() -> None:
    config = {"mesh": Mesh("float32", (1, 2)), 3: None}
    name = f"={__name__}:Mesh"
    assert leaves_of(config) == [
        ("", "=dict"),
        ("['mesh']", name),
        *[leaf for leaf in leaves_of(config) if leaf[0] == "['mesh'].__class__"],
        ("['mesh'].dtype", "'float32'"),
        ("['mesh'].sizes", "=tuple"),
        ("['mesh'].sizes[0]", "1"),
        ("['mesh'].sizes[1]", "2"),
        ("[3]", "None"),
    ]
    assert leaves_of({"a": True}) == [("", "=dict"), ('["a"]', "True")]


@pytest.mark.parametrize(
    ("value", "paths"),
    [
        (Point(1, 2.5), ["", ".__class__", ".x", ".y"]),
        (Plain(a=1, b="c"), ["", ".__class__", ".a", ".b"]),
        (Slotted(), ["", ".__class__", ".a", ".b", ".b[0]"]),
        (types.SimpleNamespace(n=1), ["", ".n"]),
        (collections.OrderedDict(a=1), ["", '["a"]']),
        (collections.defaultdict(int, a=1), ["", '["a"]']),
        (collections.deque([5]), ["", "[0]"]),
        ({3, "a"}, ["", "{'a'}", "{3}"]),
        ([[]], ["", "[0]"]),
        (np.arange(3), [""]),
        (Colour.RED, [""]),
        (len, [""]),
    ],
)
def test_kinds_of_containers(value: Any, paths: list[str]) -> None:
    assert [path for path, _ in leaves_of(value)] == paths


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (1, 1.0),
        (1, True),
        (0.0, -0.0),
        ("1", 1),
        ([1], (1,)),
        ({"a": 1}, collections.OrderedDict(a=1)),
        (np.arange(3), np.arange(3.0)),
        (np.arange(3), np.array([0, 1, 3])),
        (np.float64(1), 1.0),
        ("x" * 300, "x" * 299 + "y"),
        (Decimal("1"), Decimal("1.0")),
        (Mesh("a", ()), Mesh("b", ())),
        (frozenset({1}), frozenset({2})),
        (datetime.date(2024, 1, 1), datetime.date(2024, 1, 2)),
        (PurePosixPath("a"), PurePosixPath("b")),
    ],
)
def test_what_differs_differs_in_a_leaf(one: Any, other: Any) -> None:
    assert leaves_of([one]) != leaves_of([other])
    assert leaves_of(one) == leaves_of(one)


def test_what_a_person_knows_it_by() -> None:
    found = dict(
        leaves_of(
            {
                "array": np.zeros((2, 3)),
                "day": datetime.date(2024, 1, 2),
                "colour": Colour.RED,
                "long": "x" * 300,
            }
        )
    )
    assert found['["array"]'].startswith("float64 (2, 3) <")
    assert found['["day"]'].startswith("datetime.date(2024, 1, 2) <")
    assert found['["colour"]'].startswith("Colour.RED <")
    assert found['["long"]'].startswith("'xxxx")
    assert len(found['["long"]']) < 100


def test_nothing_is_shown_where_nothing_is_to_be() -> None:
    secret = {"token": "abc123", "n": 7, "more": ["abc123", Colour.RED], "day": datetime.date.max}
    texts = [text for _, text in leaves_of(secret, shown=False)]
    assert not any(
        "abc123" in text or text == "7" or "RED" in text or "9999" in text for text in texts
    )
    assert texts != [text for _, text in leaves_of(secret | {"n": 8}, shown=False)]


def test_there_is_a_most() -> None:
    assert len(leaves_of(list(range(MOST)))) == MOST + 1
    assert len(leaves_of(list(range(MOST + 1)))) == 1
    big = {f"k{n}": list(range(n)) for n in range(200)}
    found = leaves_of(big)
    assert len(found) <= MOST + 1
    assert [path for path, text in found if path.endswith('["k199"]')] == ['["k199"]']
    assert found != leaves_of(big | {"k199": [*list(range(198)), 5]})


def test_a_deep_or_cyclic_value_ends() -> None:
    deep: list[Any] = []
    for _ in range(500):
        deep = [deep]
    assert len(leaves_of(deep)) < 100
    deep.append(deep)
    assert len(leaves_of(deep)) <= MOST + 1


def test_a_root_that_is_known_is_not_hashed_again() -> None:
    raw = wellkept.digest("anything").raw
    assert leaves_of(np.zeros(3), raw) == [("", f"float64 (3,) <{raw.hex()[:20]}>")]


def test_large_arrays_are_not_hashed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wellkept.hashing.leaves._BYTES", 100)
    found = leaves_of([np.zeros(10), np.zeros(10)])
    assert found[1][1] != "float64 (10,) <?>"
    assert found[2][1] == "float64 (10,) <?>"
