"""Pickles that nobody vouches for: plain values come back, and nothing that they name is run."""

from __future__ import annotations

import collections
import dataclasses
import datetime
import decimal
import enum
import fractions
import os
import pickle
import uuid
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pandas as pd
import pytest

from kept import ConfigError, DecodeError, UntrustedSource
from kept.codecs import pickled, plain


def there_and_back(value: Any) -> Any:
    made = pickled.encode(value)
    return plain.decode(made.head, [bytearray(buffer) for buffer in made.buffers])


@plain.register_plain
@dataclasses.dataclass
class Point:
    x: int
    y: list[float]


@plain.register_plain
@dataclasses.dataclass(frozen=True, slots=True)
class Fixed:
    x: int


@plain.register_plain
class Color(enum.Enum):
    RED = "red"


@dataclasses.dataclass
class Stranger:
    x: int


PLAIN = [
    *(None, True, 1, 10**40, 1.5, 1j, "text", b"bytes", bytearray(b"a"), [1, [2]], (1,), {1: {2}}),
    *(frozenset([1]), range(3), slice(1, 2), ValueError("x"), KeyError("k", 1)),
    *(datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC), datetime.timedelta(1)),
    *(decimal.Decimal("1.50"), fractions.Fraction(1, 3), uuid.UUID(int=5), Path("a/b")),
    *(PurePosixPath("/a"), collections.OrderedDict(a=1), collections.deque([1], 3)),
    *(collections.Counter("aab"), Point(1, [2.0]), Fixed(3), [Color.RED, {"p": Point(0, [])}]),
]


@pytest.mark.parametrize("value", PLAIN, ids=lambda value: type(value).__name__)
def test_plain_values_come_back(value: Any) -> None:
    found = there_and_back(value)
    assert type(found) is type(value)
    assert repr(found) == repr(value)


ARRAYS = [
    *(np.arange(3.0), np.arange(20_000).reshape(100, 200), np.asfortranarray(np.ones((2, 3)))),
    *(np.array(["a", "bcd"]), np.array([b"x"]), np.array([1, "a", None], dtype=object)),
    *(np.array(["2020", "NaT"], dtype="M8[s]"), np.array([5], dtype="m8[25us]"), np.float32(1.5)),
    *(np.arange(3, dtype=">i4"), np.datetime64("2020-01-01"), np.zeros((0, 3)), np.array(5)),
    *(np.zeros(2, dtype=[("a", "f8"), ("b", "i4", (2,))]), np.arange(6).reshape(2, 3).T[::2]),
    np.zeros(3, dtype=np.dtype([("a", "i1"), ("b", "f8")], align=True)),
    np.zeros(3, dtype=[("o", "O"), ("n", [("z", "U3")])]),
]


@pytest.mark.parametrize("value", ARRAYS, ids=lambda value: str(value.dtype))
def test_arrays_come_back(value: Any) -> None:
    found = there_and_back({"array": value, "again": value})["array"]
    assert type(found) is type(value)
    assert found.dtype == value.dtype
    np.testing.assert_array_equal(found, value)


FRAMES = {
    "mixed": pd.DataFrame({"a": [1, 2], "b": [1.5, None], "c": ["x", "y"], "d": [True, False]}),
    "times": pd.DataFrame({"t": pd.date_range("2020", periods=3, tz="Europe/Berlin"), "u": 1}),
    "large": pd.DataFrame({"a": np.arange(50_000), "b": np.arange(50_000) * 0.5}),
    "objects": pd.DataFrame({"o": [(1, 2), None]}),
    "categories": pd.DataFrame({"c": pd.Categorical(["x", "y", "x"])}),
    "masked": pd.DataFrame({"i": pd.array([1, None], dtype="Int64"), "b": pd.array([True, None])}),
    "multi": pd.DataFrame({"a": [1]}, index=pd.MultiIndex.from_tuples([(1, "a")])),
    "series": pd.Series([1.0, 2.0], name="s", index=["a", "b"]),
    "index": pd.date_range("2020", periods=3),
    "periods": pd.period_range("2020", periods=2, freq="M"),
    "interval": pd.interval_range(0, 3),
    "stamp": pd.Timestamp("2020", tz="UTC"),
}


@pytest.mark.parametrize("name", FRAMES)
def test_frames_come_back(name: str) -> None:
    value = FRAMES[name]
    found = there_and_back(value)
    assert type(found) is type(value)
    check = getattr(pd.testing, f"assert_{type(value).__name__}_equal".lower(), None)
    if isinstance(value, pd.DataFrame):
        pd.testing.assert_frame_equal(found, value)
    elif isinstance(value, pd.Series):
        pd.testing.assert_series_equal(found, value)
    elif isinstance(value, pd.Index):
        pd.testing.assert_index_equal(found, value)
    else:
        assert check is None
        assert found == value


class Reduces:
    def __init__(self, *reduced: Any) -> None:
        self.reduced = reduced

    def __reduce__(self) -> Any:
        return self.reduced


def touch(path: str) -> None:
    Path(path).touch()


HOSTILE = {
    "a function": lambda path: Reduces(os.system, (f"touch {path}",)),
    "eval": lambda path: Reduces(eval, (f"__import__('pathlib').Path({path!r}).touch()",)),
    "of the project's own": lambda path: Reduces(touch, (path,)),
    "beside an array": lambda path: [np.arange(3), Reduces(touch, (path,))],
    "in an array": lambda path: np.array([Reduces(touch, (path,)), None], dtype=object),
    "in a frame": lambda path: pd.DataFrame({"a": [Reduces(touch, (path,)), None]}),
    "in a dataclass": lambda path: Point(Reduces(touch, (path,)), []),  # type: ignore[arg-type]  # hostile
    "an attribute": lambda path: Reduces(getattr, (Path, "touch")),
    "an attribute beside an array": lambda path: [np.arange(3), Reduces(getattr, (Path, "touch"))],
    "numpy's own": lambda path: Reduces(np.load, (path,)),
    "numpy's f2py": lambda path: [np.arange(2), Reduces(np.fromfile, (path,))],
    "pandas' own": lambda path: [np.arange(3), Reduces(pd.read_pickle, (path,))],
    "pandas' eval": lambda path: [np.arange(3), Reduces(pd.eval, ("1+1",))],
    "a stranger's": lambda path: Stranger(1),
    "a class by name": lambda path: Stranger,
    "a partial": lambda path: __import__("functools").partial(touch, path),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_nothing_that_is_named_is_run(name: str, tmp_path: Path) -> None:
    path = tmp_path / "was run"
    content = pickle.dumps(HOSTILE[name](str(path)), 5)
    with pytest.raises(UntrustedSource, match="plain type") as caught:
        plain.decode(content, [])
    assert isinstance(caught.value, DecodeError)
    assert not path.exists()


def test_older_protocols_and_other_opcodes(tmp_path: Path) -> None:
    path = str(tmp_path / "was run")
    for protocol in range(5):
        with pytest.raises(DecodeError):
            plain.decode(pickle.dumps(Reduces(touch, (path,)), protocol), [])
    for content in (
        b"cposix\nsystem\n(S'touch x'\ntR.",
        b"(S'touch x'\niposix\nsystem\n.",
        b"\x80\x02(cposix\nsystem\nU\x07touch xo.",
        b"\x80\x02\x82\x01.",
        b"Pid\n.",
        pickle.dumps(np.arange(2), 5)[:-1] + b"0cposix\nsystem\n(S'touch x'\ntR.",
        pickle.dumps(np.arange(2), 5)[:-1] + b"0(I1\ninumpy\nndarray\n.",
        b"\x80\x04\x8c\x08builtins\x8c\x12complex.__class__\x93.",
        b"",
        b"\x80\x05",
        b"\x80\x05\x97.",
    ):
        with pytest.raises(DecodeError):
            plain.decode(content, [])
    assert not (tmp_path / "was run").exists()


ENDLESS = [
    Reduces(collections.deque, (range(10**15),)),
    Reduces(collections.Counter, (range(10**15),)),
    Reduces(collections.OrderedDict, (range(10**15),)),
    Reduces(fractions.Fraction, ("1e999999999",)),
    Reduces(ExceptionGroup, ("x", range(10**15))),
    Reduces(SystemExit, (1,)),
    [np.arange(2), Reduces(pd.core.indexes.base._new_Index, (pd.Index, {"data": range(10**12)}))],
]


@pytest.mark.timeout(20)
@pytest.mark.parametrize("value", ENDLESS)
def test_nothing_takes_for_ever(value: Any) -> None:
    with pytest.raises(UntrustedSource):
        plain.decode(pickle.dumps(value, 5), [])


@pytest.mark.parametrize(
    "state",
    [
        (3, "<", None, ("a",), {"a": (np.dtype("f8"), 1000)}, 8, 1, 16),
        (3, "|", None, ("a",), {"a": (np.dtype("O"), 0)}, 8, 1, 0),
        (3, "|", None, None, None, 1 << 40, 1, 0),
        (3, "|", (np.dtype("f8"), (1000,)), None, None, 8, 1, 0),
        "none",
    ],
)
def test_a_dtype_that_lies_is_refused(state: Any) -> None:
    class Lies:
        def __reduce__(self) -> Any:
            return np.dtype, ("V8", False, True), state

    with pytest.raises(UntrustedSource):
        plain.decode(pickle.dumps([np.arange(2), Lies()], 5), [])


def test_only_dataclasses_and_enumerations_can_be_registered() -> None:
    class Other:
        pass

    @dataclasses.dataclass
    class Own:
        x: int

        def __setstate__(self, state: Any) -> None:
            os.abort()

    for kind in (Other, Own, 5):
        with pytest.raises(ConfigError):
            plain.register_plain(kind)  # type: ignore[type-var]  # what is no dataclass is refused
