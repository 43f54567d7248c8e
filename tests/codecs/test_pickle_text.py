"""What a pickle says, told without unpickling."""

from __future__ import annotations

import collections
import datetime
import os
import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wellkept.codecs import pickle_text

plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.tuples(inner, inner),
    max_leaves=12,
)


@given(plain, st.integers(2, 5))
def test_plain_values_are_told_as_they_are(value: Any, protocol: int) -> None:
    found = pickle_text.read(pickle.dumps(value, protocol))
    # Which has no bytes of its own.
    if protocol > 2:
        assert found == value
    pickle_text.text(found)


@given(st.dictionaries(st.text(), st.integers()))
def test_dicts_are_pairs(value: dict[str, int]) -> None:
    assert dict(pickle_text.read(pickle.dumps(value))) == value


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("false",)


def test_what_would_be_called_is_only_named() -> None:
    assert pickle_text.text(pickle_text.read(pickle.dumps(Evil()))) == "posix.system('false')"
    shown = pickle_text.text(pickle_text.read(pickle.dumps(datetime.date(2026, 1, 31))))
    assert shown.startswith("datetime.date(")
    ordered = pickle_text.read(pickle.dumps(collections.OrderedDict(a=1, b=2)))
    assert pickle_text.text(ordered) == "collections.OrderedDict() with [('a', 1), ('b', 2)]"


@given(st.binary(max_size=300))
def test_any_bytes_are_told_or_refused(data: bytes) -> None:
    try:
        pickle_text.text(pickle_text.read(data))
    except ValueError:
        pass


@given(plain, st.integers(0, 200), st.binary(min_size=1, max_size=3))
def test_damaged_pickles_are_told_or_refused(value: Any, at: int, other: bytes) -> None:
    data = pickle.dumps(value)
    at %= len(data)
    try:
        pickle_text.text(pickle_text.read(data[:at] + other + data[at + len(other) :]))
    except ValueError:
        pass


def test_what_holds_itself_and_what_grows_ends() -> None:
    itself: list[Any] = []
    itself.append(itself)
    assert pickle_text.text(pickle_text.read(pickle.dumps(itself))).endswith("]")
    doubled: list[Any] = ["x"]
    for _ in range(60):
        doubled = [doubled, doubled]
    assert len(pickle_text.text(pickle_text.read(pickle.dumps(doubled)))) < 7000
    with pytest.raises(ValueError, match="too long"):
        pickle_text.read(bytes(pickle_text.LONGEST + 1))
    huge = pickle_text.read(pickle.dumps(10**6000))
    assert pickle_text.text(huge) == "<an integer of 19,932 bits>"
