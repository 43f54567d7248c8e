"""Frames: columns, dtypes, index, categories and order count; chunks, slices and blocks do not."""

from __future__ import annotations

import copy
import datetime as dt
import decimal
import pickle
from collections.abc import Callable
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import xarray as xr
from hypothesis import given

from wellkept.errors import Undigestible
from wellkept.hashing import digest, digest_bytes
from wellkept.hashing.encoding import reference_digest

FRAME = pd.DataFrame({"a": [1, 2, 3], "b": [1.0, 2.0, np.nan], "c": ["x", None, "z"]})


def with_attrs() -> Any:
    made = FRAME.copy()
    made.attrs["unit"] = "m"
    return made


def categories(*args: Any, **options: Any) -> Any:
    return pd.Categorical(*args, **options)


PANDAS: list[Any] = [
    FRAME,
    FRAME["a"],
    FRAME[["a"]],
    FRAME["c"],
    FRAME["a"].rename("b"),
    FRAME.rename(columns={"a": "d"}),
    FRAME[["b", "a", "c"]],
    FRAME[::-1],
    FRAME.iloc[1:],
    FRAME.reset_index(drop=True).set_axis([1, 2, 3]),
    FRAME.set_axis(pd.Index([0, 1, 2])),
    FRAME.rename_axis("i"),
    FRAME.rename_axis(columns="j"),
    FRAME.set_index("a"),
    FRAME.set_index(["a", "b"]),
    FRAME.astype({"a": "int32"}),
    FRAME.astype({"a": "Int64"}),
    FRAME.astype({"a": "int64[pyarrow]"}),
    FRAME.astype({"a": float}),
    FRAME.astype({"a": object}),
    FRAME.astype({"c": object}),
    FRAME.astype({"c": "category"}),
    FRAME.astype({"c": "string[python]"}),
    FRAME.astype({"c": "string[pyarrow]"}),
    FRAME.astype({"c": pd.StringDtype("python", na_value=np.nan)}),
    FRAME.astype({"c": pd.ArrowDtype(pa.string())}),
    FRAME.fillna({"c": ""}),
    FRAME.T,
    with_attrs(),
    FRAME.set_flags(allows_duplicate_labels=False),
    pd.DataFrame(),
    pd.DataFrame(index=[1]),
    pd.DataFrame(columns=["a"]),
    pd.DataFrame({"a": pd.Series([], dtype=float)}),
    pd.Series([None, 1], dtype=object),
    pd.Series([np.nan, 1], dtype=object),
    pd.Series([pd.NA, 1], dtype=object),
    pd.Series([pd.NaT, 1], dtype=object),
    pd.Series([1, 2, None], dtype="Int64"),
    pd.Series([1, 2, None], dtype="Float64"),
    pd.Series([True, False, None], dtype="boolean"),
    pd.Series([[1], [2]]),
    categories(["a", "b"]),
    categories(["a", "b"], categories=["b", "a"]),
    categories(["a", "b"], categories=["a", "b", "c"]),
    categories(["a", "b"], ordered=True),
    categories(["a", None], categories=["a", "b"]),
    pd.Series(["a", "b"], dtype="category"),
    pd.CategoricalIndex(["a", "b"]),
    pd.date_range("2020", periods=3),
    pd.date_range("2020", periods=3, unit="s"),
    pd.DatetimeIndex(list(pd.date_range("2020", periods=3))),
    pd.date_range("2020", periods=3, tz="UTC"),
    pd.date_range("2020", periods=3, tz="Europe/Paris"),
    pd.Series(pd.date_range("2020", periods=3)),
    pd.timedelta_range("1D", periods=3),
    pd.period_range("2020", periods=3, freq="M"),
    pd.period_range("2020", periods=3, freq="D"),
    pd.interval_range(0, 3),
    pd.interval_range(0, 3, closed="left"),
    pd.arrays.SparseArray([0, 0, 1]),
    pd.arrays.SparseArray([0, 0, 1], fill_value=1),
    pd.array([1, 2]),
    pd.array([1.0, 2.0]),
    pd.array(["a", None]),
    pd.RangeIndex(3),
    pd.RangeIndex(0, 6, 2),
    pd.Index([0, 1, 2]),
    pd.Index([0, 1, 2], name="n"),
    pd.Index([0.0, 1, 2]),
    pd.Index(["a", "b"]),
    pd.Index(["a", "b"], dtype=object),
    pd.MultiIndex.from_product([[1, 2], ["a", "b"]]),
    pd.MultiIndex.from_product([[1, 2], ["a", "b"]], names=["x", "y"]),
    pd.MultiIndex.from_product([[2, 1], ["a", "b"]]),
    pd.Timestamp("2020"),
    pd.Timestamp("2020", tz="UTC"),
    pd.Timestamp("2020-01-01 00:00:00.000000001"),
    pd.Timestamp("2020").as_unit("s"),
    pd.Timedelta("1D"),
    pd.Timedelta("1D").as_unit("ns"),
    pd.Period("2020"),
    pd.Period("2020", "D"),
    pd.Interval(0, 1),
    pd.NA,
    pd.NaT,
    pd.CategoricalDtype(["a"]),
    pd.CategoricalDtype(["a"], ordered=True),
    pd.Int64Dtype(),
    pd.StringDtype(),
    pd.DatetimeTZDtype(tz="UTC"),
    pd.offsets.Day(1),
    pd.offsets.MonthEnd(1),
    np.datetime64("2020"),
    dt.datetime(2020, 1, 1),
]
ARROW: list[Any] = [
    pa.array([1, 2, 3]),
    pa.array([1, 2, None]),
    pa.array([1, 2, 0]),
    pa.array([1, 2, 3], pa.int32()),
    pa.array([1.0, 2, 3]),
    pa.array([True, False, None]),
    pa.array([True, False, False]),
    pa.array(["a", "bc", None]),
    pa.array(["a", "bc", ""]),
    pa.array(["ab", "c", ""]),
    pa.array(["a", "bc", None], pa.large_string()),
    pa.array(["a", "bc", None], pa.string_view()),
    pa.array([b"a", b"bc", None]),
    pa.array([b"ab", b"cd"], pa.binary(2)),
    pa.array([None, None]),
    pa.array([], pa.int64()),
    pa.array([], pa.string()),
    pa.array([dt.date(2020, 1, 1)]),
    pa.array([dt.datetime(2020, 1, 1)]),
    pa.array([decimal.Decimal("1.0"), None]),
    pa.array([{"a": 1, "b": "x"}, None]),
    pa.array([{"a": 1, "b": "x"}, {"a": None, "b": None}]),
    pa.array([[1], None, [2, 3]]),
    pa.array([[1], [], [2, 3]]),
    pa.array([[1, 2], [3], []]),
    pa.array([[1, 2], [3, 4]], pa.list_(pa.int64(), 2)),
    pa.array([[1, 2], [3, 4]], pa.large_list(pa.int64())),
    pa.array([[["a"]], [[], ["b"]]]),
    pa.array([[("k", 1)]], pa.map_(pa.string(), pa.int64())),
    pa.array(["a", "b", "a"]).dictionary_encode(),
    pa.chunked_array([[1, 2, 3]]),
    pa.scalar(1),
    pa.scalar("a"),
    pa.scalar(None),
    pa.int64(),
    pa.list_(pa.int64()),
    pa.field("a", pa.int64()),
    pa.schema([("a", pa.int64())]),
    pa.schema([("a", pa.int64())], {"k": "v"}),
    pa.table({"a": [1, 2]}),
    pa.table({"b": [1, 2]}),
    pa.table({"a": [1, 2]}).replace_schema_metadata({"k": "v"}),
    pa.record_batch({"a": [1, 2]}),
    pa.table({}),
    pa.py_buffer(b"ab"),
]
POLARS: list[Any] = [
    pl.DataFrame({"a": [1, 2], "b": ["x", None]}),
    pl.DataFrame({"b": ["x", None], "a": [1, 2]}),
    pl.DataFrame({"a": [1, 2], "b": ["x", ""]}),
    pl.DataFrame({"a": [1.0, 2], "b": ["x", None]}),
    pl.DataFrame({"a": pl.Series([1, 2], dtype=pl.Int32), "b": ["x", None]}),
    pl.DataFrame(),
    pl.Series("a", [1, 2]),
    pl.Series("b", [1, 2]),
    pl.Series("a", [1, None]),
    pl.Series("a", [1.0, float("nan")]),
    pl.Series("a", [[1], [2, 3]]),
    pl.Series("a", [{"x": 1, "y": "b"}]),
    pl.Series("a", ["a", "b"]),
    pl.Series("a", ["a", "b"], dtype=pl.Categorical),
    pl.Series("a", ["a", "b"], dtype=pl.Enum(["a", "b"])),
    pl.Series("a", ["a", "b"], dtype=pl.Enum(["b", "a"])),
    pl.Series("a", [dt.date(2020, 1, 1)]),
    pl.Series("a", [dt.datetime(2020, 1, 1)]),
    pl.Series("a", [decimal.Decimal("1.0")]),
    pl.Series("a", [True, None]),
    pl.Int64,
    pl.Int64(),
]
XARRAY: list[Any] = [
    xr.DataArray([[1, 2], [3, 4]]),
    xr.DataArray([[1, 2], [3, 4]], dims=("x", "y")),
    xr.DataArray([[1, 2], [3, 4]], dims=("y", "x")),
    xr.DataArray([[1, 2], [3, 4]], dims=("x", "y"), name="n"),
    xr.DataArray([[1, 2], [3, 4]], dims=("x", "y"), attrs={"u": "m"}),
    xr.DataArray([[1, 2], [3, 4]], dims=("x", "y"), coords={"x": [1, 2]}),
    xr.DataArray([[1, 2], [3, 4]], dims=("x", "y"), coords={"x": [1, 3]}),
    xr.DataArray([[1, 2], [3, 4]], dims=("x", "y"), coords={"z": 1}),
    xr.Dataset({"a": ("x", [1, 2])}),
    xr.Dataset({"b": ("x", [1, 2])}),
    xr.Dataset({"a": ("x", [1, 2])}, coords={"x": [1, 2]}),
    xr.Dataset({"a": ("x", [1, 2])}, attrs={"u": "m"}),
    xr.Dataset(coords={"a": ("x", [1, 2])}),
    xr.Variable("x", [1, 2]),
]
ALL = [*PANDAS, *ARROW, *POLARS, *XARRAY]


@pytest.mark.parametrize("make", [pd.Series, pd.Index, lambda data: pd.DataFrame({"a": data})])
def test_columns_of_equal_bytes_and_other_types_differ(make: Callable[[Any], Any]) -> None:
    numbers = np.array([1, 2, -3])
    kinds = ["M8[ns]", "M8[us]", "M8[s]", "m8[ns]", "m8[us]", "m8[s]", "i8", "u8", "f8"]
    made = [make(numbers.view(kind)) for kind in kinds]
    assert len({digest(one) for one in made}) == len(kinds)
    zoned = make(pd.DatetimeIndex(numbers.view("M8[ns]"), tz="UTC"))
    other = make(pd.DatetimeIndex(numbers.view("M8[ns]"), tz="Europe/Berlin"))
    assert len({digest(one) for one in (*made, zoned, other)}) == len(kinds) + 2


def test_all_differ() -> None:
    seen: dict[bytes, Any] = {}
    for value in ALL:
        found = digest_bytes(value)
        assert found not in seen, (value, seen[found])
        seen[found] = value


@pytest.mark.parametrize("value", ALL, ids=lambda v: type(v).__name__)
def test_copies_agree(value: Any) -> None:
    found = digest(value)
    assert reference_digest(value) == found.raw
    for many in ([value], [value, 1], [value, value], {"a": value}):
        assert digest_bytes(many) == reference_digest(many)
    try:
        again = pickle.loads(pickle.dumps(value))
    except (TypeError, pickle.PicklingError):
        again = copy.copy(value)
    assert digest(again) == found


def test_how_a_frame_lies_in_memory_does_not_count() -> None:
    block = pd.DataFrame(np.arange(12.0).reshape(4, 3), columns=list("abc"))
    columns = pd.DataFrame({name: block[name].to_numpy().copy() for name in "abc"})
    assert digest(block) == digest(columns) == digest(block.copy())
    assert digest(FRAME.iloc[1:]) == digest(FRAME.iloc[1:].copy(deep=True))
    assert digest(block[::2]) == digest(block[::2].copy(deep=True))
    joined = pd.concat([FRAME["c"].iloc[:1], FRAME["c"].iloc[1:]])
    assert digest(joined) == digest(FRAME["c"].set_axis(joined.index))


class Array(xr.DataArray):
    __slots__ = ("note",)


class Dataset(xr.Dataset):
    __slots__ = ("note",)


class Variable(xr.Variable):
    __slots__ = ("note",)


@pytest.mark.parametrize(
    "make", [lambda: Array([1]), lambda: Dataset({"a": 1}), lambda: Variable("x", [1])]
)
def test_what_a_subclass_of_xarrays_adds_counts(make: Callable[[], Any]) -> None:
    found = [digest(make()), digest(make())]
    for note in (1, 2):
        made = make()
        made.note = note
        found.append(digest(made))
    assert found[0] == found[1]
    assert len({*found}) == 3


def test_a_subclass_counts() -> None:
    class Mine(pd.DataFrame):
        _metadata = ("unit",)

    one, other = Mine({"a": [1]}), Mine({"a": [1]})
    one.unit, other.unit = "m", "s"
    assert len({digest(one), digest(other), digest(pd.DataFrame({"a": [1]}))}) == 3


KINDS: list[tuple[Any, Any]] = [
    (pa.int64(), st.integers(-(2**63), 2**63 - 1)),
    (pa.float64(), st.floats()),
    (pa.string(), st.text(max_size=4)),
    (pa.large_string(), st.text(max_size=4)),
    (pa.bool_(), st.booleans()),
    (pa.list_(pa.string()), st.lists(st.none() | st.text(max_size=3), max_size=3)),
    (pa.struct([("a", pa.int8())]), st.fixed_dictionaries({"a": st.none() | st.integers(-9, 9)})),
    (pa.list_(pa.int8(), 2), st.lists(st.integers(-9, 9), min_size=2, max_size=2)),
    (pa.binary(2), st.binary(min_size=2, max_size=2)),
]


@given(st.data())
def test_chunks_and_slices_do_not_count(data: Any) -> None:
    kind, elements = data.draw(st.sampled_from(KINDS))
    items = data.draw(st.lists(st.none() | elements, max_size=20))
    more = data.draw(st.lists(st.none() | elements, max_size=5))
    whole = pa.array(items, kind)
    cut = pa.array([*more, *items, *more], kind)[len(more) : len(more) + len(items)]
    assert digest(whole) == digest(cut)
    at = data.draw(st.integers(0, len(items)))
    chunks = pa.chunked_array([cut[:at], cut[at:]], kind)
    assert digest(pa.chunked_array([whole], kind)) == digest(chunks)
    if items:
        place = data.draw(st.integers(0, len(items) - 1))
        changed = data.draw(st.none() | elements)
        other = pa.array([*items[:place], changed, *items[place + 1 :]], kind)
        if repr(other.to_pylist()) != repr(whole.to_pylist()):
            assert digest(other) != digest(whole)


def test_what_lies_under_a_null_does_not_count() -> None:
    bits = pa.py_buffer(b"\x05")
    one = pa.Array.from_buffers(pa.int32(), 3, [bits, pa.py_buffer(np.array([1, 2, 3], "i4"))])
    other = pa.Array.from_buffers(pa.int32(), 3, [bits, pa.py_buffer(np.array([1, 9, 3], "i4"))])
    assert one.equals(other)
    assert digest(one) == digest(other) == digest(pa.array([1, None, 3], pa.int32()))
    ends = pa.py_buffer(np.array([0, 1, 3, 4], "i4"))
    text = pa.Array.from_buffers(pa.string(), 3, [bits, ends, pa.py_buffer(b"axxb")])
    assert digest(text) == digest(pa.array(["a", None, "b"]))


def test_plans_are_refused() -> None:
    with pytest.raises(Undigestible, match="collect"):
        digest(pl.DataFrame({"a": [1]}).lazy())


def test_nothing_is_refused_by_a_frame_of_objects() -> None:
    frame = pd.DataFrame({"a": [{"x": 1}, [1, 2]]})
    assert digest(frame) != digest(pd.DataFrame({"a": [{"x": 1}, [1, 3]]}))
    with pytest.raises(Undigestible, match="generator"):
        digest(pd.DataFrame({"a": [(i for i in []), 1]}))


def test_an_expression_that_calls_a_function_of_python_is_refused() -> None:
    assert digest(pl.col("a") + 1) != digest(pl.col("a") + 2)
    for hiding in (
        pl.col("a").map_batches(with_attrs, return_dtype=pl.Int64),
        (pl.col("a") + pl.col("b").map_batches(lambda s: s, return_dtype=pl.Int64)).alias("c"),
    ):
        with pytest.raises(Undigestible, match="hides its code"):
            digest(hiding)
