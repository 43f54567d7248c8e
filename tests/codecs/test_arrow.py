"""Frames as Arrow IPC: every kind comes back exactly, or is refused."""

import datetime
import sys
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from wellkept import digest
from wellkept.codecs import decode, decoder, encode
from wellkept.errors import ConfigError, DecodeError, EncodeError
from wellkept.records import Value

DAYS = pd.date_range("2020", periods=3)

EXACT: dict[str, Any] = {
    "integers": pd.DataFrame({"a": [1, 2, 3], "b": np.array([1, 2, 3], "i1")}),
    "floats": pd.DataFrame({"a": [1.0, np.nan, -0.0], "h": np.array([1, np.inf, 3], "f2")}),
    "text": pd.DataFrame({"a": ["x", None, "é"], "b": pd.array(["x", None, ""], "string")}),
    "categories": pd.DataFrame({"a": pd.Categorical(["x", "y", None], ["y", "x", "z"], True)}),
    "numbered categories": pd.DataFrame({"a": pd.Categorical([1, 2, 1])}),
    "times": pd.DataFrame(
        {
            "a": DAYS,
            "b": pd.date_range("2020", periods=3, tz="Europe/Berlin"),
            "c": pd.to_timedelta([1, 2, 3], "s"),
            "d": np.array(["2020-01-01", "NaT", "2021-01-01"], "M8[s]"),
        }
    ),
    "range index": pd.DataFrame({"a": [1, 2, 3]}, index=pd.RangeIndex(5, 11, 2, name="r")),
    "index": pd.DataFrame({"a": [1, 2, 3]}, index=[5, 7, 1]),
    "text index": pd.DataFrame({"a": [1, 2, 3]}, index=pd.Index(["a", "b", "c"], name="n")),
    "two indices": pd.DataFrame(
        {"a": [1, 2]}, index=pd.MultiIndex.from_tuples([(1, "a"), (1, "b")], names=["x", None])
    ),
    "columns with a name": pd.DataFrame([[1, 2]], columns=pd.Index(["a", "b"], name="c")),
    "nullable": pd.DataFrame(
        {"a": pd.array([1, None], "Int64"), "b": pd.array([True, None], "boolean")}
    ),
    "arrow dtypes": pd.DataFrame({"a": pd.array([1, None], dtype=pd.ArrowDtype(pa.int64()))}),
    "periods": pd.DataFrame({"a": pd.period_range("2020", periods=2, freq="D")}),
    "no rows": pd.DataFrame({"a": np.array([], "i4")}),
    "large": pd.DataFrame({"a": np.arange(100_000.0), "b": np.arange(100_000)}),
    "polars": pl.DataFrame({"a": [1, None], "b": ["x", "y"], "c": [1.5, float("nan")]}),
    "polars types": pl.DataFrame(
        {
            "a": pl.Series(["x", "y"], dtype=pl.Categorical),
            "e": pl.Series(["x", "y"], dtype=pl.Enum(["y", "x"])),
            "l": [[1], []],
            "s": [{"a": 1}, {"a": None}],
            "d": [datetime.date(2020, 1, 1)] * 2,
            "t": [datetime.timedelta(1)] * 2,
            "n": [None, None],
        }
    ),
    "polars empty": pl.DataFrame(),
    "polars large": pl.DataFrame({"a": np.arange(100_000.0)}),
    "table": pa.table({"a": [1, None], "b": ["x", "y"]}),
    "table metadata": pa.table({"a": [1]}).replace_schema_metadata({"x": "y"}),
    "table dictionary": pa.table({"a": pa.array(["x", "y", "x"]).dictionary_encode()}),
    "table chunks": pa.concat_tables([pa.table({"a": [1]}), pa.table({"a": [2, 3]})]),
    "table slice": pa.table({"a": list(range(10))}).slice(3, 4),
    "table empty": pa.table({}),
    "table large": pa.table({"a": np.arange(100_000.0)}),
    "batch": pa.record_batch({"a": [1, 2]}),
    "batch empty": pa.record_batch({"a": pa.array([], pa.int8())}),
    "batch large": pa.record_batch({"a": np.arange(100_000)}),
}


def with_attrs() -> Any:
    frame = pd.DataFrame({"a": [1]})
    frame.attrs["unit"] = "m"
    return frame


REFUSED: dict[str, Any] = {
    "objects": pd.DataFrame({"a": np.array(["x", 1], object)}),
    "text as objects": pd.DataFrame({"a": pd.Series(["x", "y"], dtype=object)}),
    "object index": pd.DataFrame({"a": [1, 2]}, index=pd.Index(["x", "y"], dtype=object)),
    "object categories": pd.DataFrame(
        {"a": pd.Categorical([1, "x"], pd.Index([1, "x"], dtype=object))}
    ),
    "two columns of a name": pd.DataFrame([[1, 2]], columns=["a", "a"]),
    "complex": pd.DataFrame({"a": [1j]}),
    "a negative NaN": pd.DataFrame({"a": [1.0, -np.nan]}),
    "an index with a frequency": pd.DataFrame({"a": [1, 2, 3]}, index=DAYS),
    "attrs": with_attrs(),
    "flags": pd.DataFrame({"a": [1]}).set_flags(allows_duplicate_labels=False),
    "a subclass": type("Frame", (pd.DataFrame,), {})({"a": [1]}),
    "a series": pd.Series([1]),
    "a list": [1],
    "polars objects": pl.DataFrame({"a": pl.Series([object()], dtype=pl.Object)}),
    "a polars series": pl.Series([1]),
    "an arrow array": pa.array([1]),
}


@pytest.mark.parametrize("name", EXACT)
def test_frames_come_back_exactly(name: str) -> None:
    frame = EXACT[name]
    before = digest(frame)
    value = encode(frame, "arrow")
    assert value.codec == "arrow"
    assert bool(value.buffers) is ("large" in name)
    again = decode(value)
    assert type(again) is type(frame)
    assert digest(again) == before


@pytest.mark.parametrize("name", REFUSED)
def test_what_would_change_is_refused(name: str) -> None:
    with pytest.raises(EncodeError, match="arrow codec"):
        encode(REFUSED[name], "arrow")


def test_a_table_lies_over_its_buffer() -> None:
    value = encode(EXACT["table large"], "arrow")
    (buffer,) = value.buffers
    start = np.frombuffer(buffer, np.uint8).__array_interface__["data"][0]
    data = decode(value)["a"].chunk(0).buffers()[1]
    assert start <= data.address < start + memoryview(buffer).nbytes, "it was copied"


def test_the_buffer_is_what_other_programs_read() -> None:
    value = encode(EXACT["large"], "arrow")
    table = pa.ipc.open_stream(value.buffers[0]).read_all()
    assert table.column_names == ["a", "b"]


def test_a_pandas_frame_can_be_changed_and_nothing_else_changes_with_it() -> None:
    kept = encode(EXACT["large"], "arrow")
    mapped = Value(kept.codec, kept.head, [memoryview(bytearray(kept.buffers[0]))])
    frame = decode(mapped)
    frame.loc[0, "a"] = 7.0
    frame.iloc[1, 1] = 9
    assert frame["a"][0] == 7.0
    assert digest(decode(kept)) == digest(EXACT["large"])


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\n",
        b"{}\n",
        b"[]\n",
        b'{"version": 1, "kind": "table"}\n',
        b'{"version": 1, "kind": "no such"}\nx',
        b'{"version": 1, "kind": "table"}\nnot arrow',
        b'{"version": 1, "kind": "polars"}\nnot arrow',
        b'{"version": 1, "kind": "pandas"}\n' + b"\xff" * 100,
        b'{"version": 2, "kind": "table"}\n',
    ],
)
def test_what_is_no_frame(payload: bytes) -> None:
    with pytest.raises(DecodeError):
        decoder("arrow")(payload, ())


def test_without_pyarrow(monkeypatch: pytest.MonkeyPatch) -> None:
    value = encode(EXACT["table"], "arrow")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ConfigError, match=r"pip install 'wellkept\[arrow\]'"):
        encode(EXACT["integers"], "arrow")
    with pytest.raises(DecodeError, match=r"pip install 'wellkept\[arrow\]'"):
        decode(value)
