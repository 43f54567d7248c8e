"""What a kept function returns is what a fresh call would, whatever was asked before it."""

import itertools
import math
import struct
from decimal import Decimal
from enum import Enum, IntEnum
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import wellkept
from wellkept import keep

RAN: list[Any] = []


class Colour(Enum):
    RED = 1


class Level(IntEnum):
    LOW = 1


class MyInt(int):
    pass


class MyStr(str):
    __slots__ = ()


LOOKALIKES: list[Any] = [
    1, 1.0, True, "1", b"1", 1 + 0j, np.int64(1), np.int32(1), np.float64(1), np.bool_(True),
    Decimal("1"), Decimal("1.0"), Fraction(1), MyInt(1), MyStr("1"), Colour.RED, Level.LOW,
    0, 0.0, -0.0, False, complex(0, 1), complex(-0.0, 1), complex(1, 0.0), complex(1, -0.0),
    complex(0.0, 0.0), complex(-0.0, -0.0), complex(0.0, -0.0), "", b"", None, "None", (), [], {},
    set(), frozenset(), (1,), [1], {1}, frozenset({1}), {1: None}, {"1": None}, (1.0,), (True,),
    float("inf"), float("-inf"), float("nan"), 2**64, float(2**64), -1, -2, -1.0, -2.0,
    bytearray(b"1"), range(1), slice(1), ..., NotImplemented, int, bool,
]  # fmt: skip


@keep
def shown(x: Any) -> str:
    return exact(x)


@keep
def same(x: Any) -> Any:
    return x


@keep
def pair(x: Any, y: Any = 0) -> Any:
    return x, y


def exact(value: Any) -> str:
    """Type and content of a value, to the bit and whatever the order of sets and dicts."""
    kind = type(value).__qualname__
    if isinstance(value, complex):
        return f"{kind}:{struct.pack('<dd', value.real, value.imag).hex()}"
    if isinstance(value, float):
        return f"{kind}:{'nan' if math.isnan(value) else struct.pack('<d', value).hex()}"
    if isinstance(value, (list, tuple)):
        return f"{kind}[{', '.join(map(exact, value))}]"
    if isinstance(value, (set, frozenset)):
        return f"{kind}{sorted(map(exact, value))}"
    if isinstance(value, dict):
        return f"{kind}{sorted((exact(k), exact(v)) for k, v in value.items())}"
    return f"{kind}:{value!r}"


@pytest.mark.parametrize("order", [1, -1])
def test_values_that_compare_equal_are_never_mixed(order: int) -> None:
    for _ in range(3):
        for value in LOOKALIKES[::order]:
            assert shown(value) == exact(value)
            assert exact(same(value)) == exact(value)
    keys = [shown.key(value) for value in LOOKALIKES]
    for (one, a), (two, b) in itertools.combinations(zip(LOOKALIKES, keys, strict=True), 2):
        assert (a == b) == (exact(one) == exact(two)), (one, two)


@pytest.mark.parametrize("memory", ["256 MB", 0])
def test_the_same_with_and_without_a_memory_tier(memory: Any) -> None:
    with wellkept.open("cache-here", memory=memory) as cache, wellkept.use(cache):
        for value in [*LOOKALIKES, *reversed(LOOKALIKES), *LOOKALIKES]:
            assert shown(value) == exact(value)


def test_two_arguments_do_not_change_places() -> None:
    values = [0, 0.0, -0.0, False, 1, 1.0, True, "a", b"a", None]
    for _ in range(2):
        for x, y in itertools.product(values, repeat=2):
            assert exact(pair(x, y)) == exact((x, y))


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-3, 3)
    | st.integers()
    | st.sampled_from([0.0, -0.0, 1.0, -1.0, float("nan"), float("inf")])
    | st.floats()
    | st.complex_numbers()
    | st.sampled_from(["", "a", "1", "é", "\ud800", "a" * 300])
    | st.text(max_size=5)
    | st.binary(max_size=5)
)
KEYS = st.none() | st.booleans() | st.integers(-3, 3) | st.text(max_size=3) | st.floats(-2, 2)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(KEYS, inner, max_size=4)
        | st.sets(KEYS, max_size=4)
        | st.frozensets(KEYS, max_size=4)
    ),
    max_leaves=12,
)


@given(st.lists(VALUES, min_size=1, max_size=6), st.data())
def test_any_values_in_any_order(values: list[Any], data: st.DataObject) -> None:
    expected = [exact(value) for value in values]
    for _ in range(3):
        i = data.draw(st.integers(0, len(values) - 1))
        got, again = same(values[i]), same(values[i])
        assert exact(got) == exact(again) == expected[i]
        if isinstance(again, (list, dict, set)):
            assert again is not got
            assert again is not values[i]
            again.clear()
            assert exact(same(values[i])) == expected[i]


@given(VALUES, VALUES)
def test_one_key_means_one_content(one: Any, two: Any) -> None:
    assert (same.key(one) == same.key(two)) == (exact(one) == exact(two))


def test_the_key_is_the_same_whichever_way_it_is_found() -> None:
    cold = keep(pair.__wrapped__).key(1, "a")
    for _ in range(3):
        pair(1, "a")
        assert pair.key(1, "a") == cold
    assert pair.call(1, "a").key == cold


def test_long_texts_and_many_calls() -> None:
    text = "x" * 100_000
    assert shown(text) == shown(text) == exact(text)
    for i in range(300):
        assert same(i) == i
    for i in range(300):
        assert same(i) == i


def test_a_record_tells_the_arguments_however_it_was_made() -> None:
    pair(1, "a")
    first = pair.call(1, "a").arguments
    assert {name: argument.value for name, argument in first.items()} == {"x": 1, "y": "a"}
    pair.forget(1, "a")
    pair(1, "a")
    assert pair.call(1, "a").arguments == first
    pair.rerun(1, "a")
    assert pair.call(1, "a").arguments == first
    with wellkept.open("another") as other, wellkept.use(other):
        pair(1, "a")
        assert pair.call(1, "a").arguments == first
        with pytest.raises(wellkept.NotKept, match=r"pair\(x=2, y='a'\)"):
            pair.load(2, "a")
        pair.forget(1, "a")
        with pytest.raises(wellkept.NotKept, match=r"pair\(x=1, y='a'\)"):
            pair.load(1, "a")


def test_arrays_and_frames() -> None:
    import pandas as pd

    array = np.arange(12.0).reshape(3, 4)
    for value in (array, np.asfortranarray(array), array.T, array.astype("f4"), array[:0]):
        for _ in range(2):
            got = same(value)
            assert (got.dtype, got.shape) == (value.dtype, value.shape)
            assert (got == value).all()
    assert same.key(array) == same.key(np.asfortranarray(array)) != same.key(array.T)
    frame = pd.DataFrame({"a": [1, 2], "b": ["x", "y"]})
    same(frame)
    pd.testing.assert_frame_equal(same(frame), frame)
    assert same.key(frame) != same.key(frame.rename(columns={"a": "c"}))
