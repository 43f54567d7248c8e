"""The json codec: exactly what was given, or refused."""

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wellkept.codecs import decode, encode
from wellkept.errors import DecodeError, EncodeError

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(
        st.text(st.characters(exclude_categories=["Cs"]), max_size=4), inner, max_size=4
    ),
)  # fmt: skip


def same(one: Any, two: Any) -> bool:
    if type(one) is not type(two):
        return False
    if isinstance(one, list):
        return len(one) == len(two) and all(map(same, one, two))
    if isinstance(one, dict):
        return list(one) == list(two) and all(same(one[k], two[k]) for k in one)
    if isinstance(one, float):
        return one == two and math.copysign(1, one) == math.copysign(1, two)
    return bool(one == two)


@given(JSON)
def test_what_it_takes_comes_back_the_same(value: Any) -> None:
    made = encode(value, "json")
    assert made.codec == "json"
    assert not made.buffers
    assert same(decode(made), value)


def test_it_is_readable() -> None:
    made = encode({"name": "é", "scores": [1, 2.5, None, True]}, "json")
    assert made.head == '{"name":"é","scores":[1,2.5,null,true]}'.encode()
    assert json.loads(made.head) == decode(made)


class Text(str):
    __slots__ = ()


@pytest.mark.parametrize(
    ("value", "where"),
    [
        ((1, 2), "a tuple at result"),
        ({1: 2}, "a int as a key at result"),
        ({"a": {None: 1}}, r"a NoneType as a key at result\['a'\]"),
        ([float("nan")], r"nan at result\[0\]"),
        ([1, float("-inf")], r"-inf at result\[1\]"),
        ({1, 2}, "a set"),
        (b"x", "a bytes"),
        (1j, "a complex"),
        (np.float64(1), "a float64"),
        ([np.int64(1)], "a int64"),
        (Text("x"), "a Text"),
        ({Text("x"): 1}, "a Text as a key"),
        (True + 0j, "a complex"),
        (object(), "a object"),
        ("\ud800", "surrogate"),
        ({"\udfff": 1}, "surrogate"),
    ],
)
def test_what_it_would_change_is_refused(value: Any, where: str) -> None:
    with pytest.raises(EncodeError, match=where):
        encode(value, "json")


def test_depth_and_cycles_are_refused() -> None:
    value: list[Any] = []
    value.append(value)
    with pytest.raises(EncodeError, match="deep"):
        encode(value, "json")


def test_huge_integers() -> None:
    assert decode(encode(10**4000, "json")) == 10**4000
    with pytest.raises(EncodeError, match="digits"):
        encode([10**5000], "json")


def test_damaged_text_is_a_decode_error() -> None:
    from wellkept.codecs import decoder

    for head in (b"", b"{", b'"a', b"\xff", b"[1,]"):
        with pytest.raises(DecodeError):
            decoder("json")(head, ())
