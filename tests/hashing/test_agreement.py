"""The fast walk writes the bytes that the definition says; `marshal` writes atoms as it says."""

from __future__ import annotations

import dataclasses
import decimal
import enum
import marshal
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from wellkept.hashing import digest, digest_bytes, fast
from wellkept.hashing import encoding as enc
from wellkept.hashing.cycles import cyclic_digest
from wellkept.hashing.encoding import Cyclic, pack, reference_digest


@dataclasses.dataclass
class Point:
    x: Any
    y: Any = 1


@dataclasses.dataclass(slots=True)
class Slotted:
    x: Any


class Plain:
    def __init__(self, held: Any) -> None:
        self.held = held


class Colour(enum.Enum):
    RED = 1


atoms = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-(2**40), 2**40),
    st.integers(-(2**2000), 2**2000),
    st.floats(),
    st.complex_numbers(),
    st.text(st.characters(codec=None, exclude_categories=()), max_size=8),
    st.binary(max_size=8),
    st.just(...),
)
hashable = st.recursive(
    st.one_of(atoms, st.just(Colour.RED), st.decimals(allow_nan=False)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(tuple), st.frozensets(inner, max_size=3)
    ),
    max_leaves=5,
)
values = st.recursive(
    st.one_of(atoms, hashable, st.just(Point), st.just(range(3))),
    lambda inner: st.one_of(
        st.lists(inner, max_size=5),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(st.text(max_size=2), inner, max_size=4),
        st.dictionaries(hashable, inner, max_size=4),
        st.sets(hashable, max_size=4),
        st.builds(Point, inner, inner),
        st.builds(Slotted, inner),
        st.builds(Plain, inner),
        # the same shape many times over, as tables have
        st.lists(st.fixed_dictionaries({"b": inner, "a": atoms}), max_size=4),
        inner.map(lambda one: [one, one]),
    ),
    max_leaves=25,
)


def reference(value: Any) -> bytes:
    try:
        return reference_digest(value)
    except Cyclic:
        return cyclic_digest(value)


@given(atoms)
def test_atoms_are_written_as_marshal_writes_them(value: Any) -> None:
    assert pack(value) == marshal.dumps(value, 2)


@given(values)
def test_fast_and_reference_agree(value: Any) -> None:
    assert digest_bytes(value) == reference(value)


@pytest.mark.parametrize(
    ("nodes", "height", "size"), [(3, 50, 4), (10, 3, 4), (6, 2, 1), (1, 1, 0)]
)
@given(value=values)
def test_they_agree_on_what_is_large(nodes: int, height: int, size: int, value: Any) -> None:
    """The limits are lowered, so that parts of small examples are written as their digests."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (enc, fast):
            patch.setattr(module, "MAX_NODES", nodes)
            patch.setattr(module, "MAX_HEIGHT", height)
            patch.setattr(module, "MAX_BYTES", size)
        assert digest_bytes(value) == reference(value)


@given(values, values)
def test_values_that_differ_have_digests_that_differ(one: Any, other: Any) -> None:
    if digest(one) == digest(other):
        assert same(one, other)


def same(one: Any, other: Any) -> bool:
    """Equality that tells apart what Python's does not: types, signs of zero."""
    if type(one) is not type(other):
        return False
    if isinstance(one, float | complex | decimal.Decimal):
        return repr(one) == repr(other)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict):
        return same_sets(list(one.items()), list(other.items()))
    if isinstance(one, set | frozenset):
        return same_sets(list(one), list(other))
    if isinstance(one, Point):
        return same((one.x, one.y), (other.x, other.y))
    if isinstance(one, Slotted):
        return same(one.x, other.x)
    if isinstance(one, Plain):
        return same(one.held, other.held)
    return bool(one == other)


def same_sets(one: list[Any], other: list[Any]) -> bool:
    left = list(other)
    for item in one:
        found = next((n for n, candidate in enumerate(left) if same(item, candidate)), None)
        if found is None:
            return False
        del left[found]
    return not left


TABLE = {f"k{i}": {"id": i, "name": f"n{i}", "x": i / 2, "tags": [i, i + 1]} for i in range(3000)}


@pytest.mark.parametrize(
    "value",
    [
        TABLE,
        [TABLE, TABLE],
        {"config": TABLE, "other": [1, 2]},
        {"deep": {"deeper": {"deepest": [TABLE, 1]}}},
        [list(range(9_998)), list(range(9_999)), list(range(10_000))],
        [[[i] * 30 for i in range(500)], [[i] * 3 for i in range(500)]],
        tuple([i, [i] * (i % 40)] for i in range(2000)),
        [Point(i, {"a": i}) for i in range(3000)],
        [Point(i) if i % 2 else Slotted(i) for i in range(3000)],
        [{f"{i}": i, "same": [i]} for i in range(3000)],
        [{i: i, "same": [i]} for i in range(3000)],
        {i: {str(i)} for i in range(12_000)},
        {(i, str(i)) for i in range(12_000)},
        [b"x" * 65_537, b"x" * 65_536, 1],
        [Plain([b"x" * 70_000] * 3)] * 4000,
        [digest(1), [digest(2)]],
        {"a": digest(1)},
    ],
    ids=lambda value: type(value).__name__,
)
def test_they_agree_on_large_values(value: Any) -> None:
    assert digest_bytes(value) == reference(value)


@pytest.mark.parametrize("height", range(47, 56))
def test_they_agree_about_the_last_levels(height: int) -> None:
    for leaf in (1, [], {}, (), [1], {"a": 1}, {1: 2}, {(1,): 2}, {(1,)}, Point(1), Slotted([])):
        value: Any = leaf
        for number in range(height):
            value = [[value], (value,), {"a": value}, Slotted(value), {1: value}][number % 5]
        assert digest_bytes(value) == reference(value)
        assert digest_bytes([value, [value, 1]]) == reference([value, [value, 1]])


@pytest.mark.parametrize("count", range(9_994, 10_004))
def test_they_agree_about_the_last_nodes(count: int) -> None:
    items = list(range(count))
    for part in (items, tuple(items), set(items), [items[:-2], 1], Slotted(items[:-4])):
        assert digest_bytes([part, 1]) == reference([part, 1])
        assert digest_bytes({"a": part, "b": {"c": part}}) == reference(
            {"a": part, "b": {"c": part}}
        )
    half = dict.fromkeys(map(str, range(count // 2)), 1)
    assert digest_bytes([half]) == reference([half])


def test_keys_that_are_written_alike_go_by_their_values() -> None:
    def keyed(*values: Any) -> dict[Any, Any]:
        return {float("nan"): value for value in values}

    assert len(keyed(1, 2)) == 2
    assert digest(keyed(1, 2)) == digest(keyed(2, 1)) != digest(keyed(1, 1))
    assert digest([keyed(1, 2), {}]) == digest([keyed(2, 1), {}])
    assert digest([keyed(1, 2), {}]).raw == reference([keyed(2, 1), {}])


def test_a_digest_stands_for_what_it_names() -> None:
    large = list(range(20_000))
    assert digest(digest(large)) == digest(large)
    assert digest([digest(large)]) == digest([large])
    assert digest([digest(1)]) != digest([str(digest(1))])


class Whole(int):
    pass


@pytest.mark.parametrize("kind", [list, tuple])
@pytest.mark.parametrize("number", [int, float])
def test_long_rows_of_numbers_are_written_whole(kind: Any, number: Any) -> None:
    row = [number(n - 1000) for n in range(3000)]
    assert fast._numbers(kind(row)) is not None
    assert digest_bytes(kind(row)) == reference_digest(kind(row))
    assert digest_bytes(kind(row)) != digest_bytes(kind([*row[:-1], row[-1] + 1]))
    # These take as many bytes as the numbers around them, or begin with the same letter.
    for odd in (
        True,
        None,
        2.5,
        7,
        2**31,
        -(2**31),
        "iii",
        "gggg",
        b"",
        b"i" * 4,
        (),
        [1],
        "i" * 7,
    ):
        for at in (0, 1, 1234, 2999):
            other = [*row[:at], odd, *row[at + 1 :]]
            assert digest_bytes(kind(other)) == reference_digest(kind(other))
            assert (fast._numbers(kind(other)) is None) == (type(odd) is not number or odd == 2**31)


def test_a_long_row_of_numbers_with_a_subclass_is_not_one_of_numbers() -> None:
    row: list[Any] = list(range(3000))
    for odd in (Whole(5), np.int64(5), np.float64(5.0), np.arange(3)):
        row[1234] = odd
        assert fast._numbers(row) is None
        assert digest_bytes(row) != digest_bytes([*row[:1234], 5, *row[1235:]])
