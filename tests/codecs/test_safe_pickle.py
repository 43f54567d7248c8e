"""Pickles that nobody vouches for: plain values come back, and nothing that they name is run."""

from __future__ import annotations

import collections
import copyreg
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

from wellkept import ConfigError, DecodeError, UntrustedSource
from wellkept.codecs import pickle as pickle_codec
from wellkept.codecs import safe_pickle


def there_and_back(value: Any) -> Any:
    made = pickle_codec.encode(value)
    return safe_pickle.decode(made.head, [bytearray(buffer) for buffer in made.buffers])


@safe_pickle.register_plain
@dataclasses.dataclass
class Point:
    x: int
    y: list[float]


@safe_pickle.register_plain
@dataclasses.dataclass(frozen=True, slots=True)
class Fixed:
    x: int


@safe_pickle.register_plain
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
        safe_pickle.decode(content, [])
    assert isinstance(caught.value, DecodeError)
    assert not path.exists()


def test_older_protocols_and_other_opcodes(tmp_path: Path) -> None:
    path = str(tmp_path / "was run")
    for protocol in range(5):
        with pytest.raises(DecodeError):
            safe_pickle.decode(pickle.dumps(Reduces(touch, (path,)), protocol), [])
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
            safe_pickle.decode(content, [])
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
        safe_pickle.decode(pickle.dumps(value, 5), [])


@pytest.mark.parametrize(
    "state",
    [
        (3, "<", None, ("a",), {"a": (np.dtype("f8"), 1000)}, 8, 1, 16),
        (3, "|", None, ("a",), {"a": (np.dtype("O"), 0)}, 8, 1, 0),
        (3, "|", None, ("a",), {"a": (np.dtype("O"), 2**31 - 1)}, 8, 1, 27),
        (3, "|", None, ("a",), {"a": (np.dtype("f8"), -8)}, 8, 1, 16),
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
        safe_pickle.decode(pickle.dumps([np.arange(2), Lies()], 5), [])


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
            safe_pickle.register_plain(kind)  # type: ignore[type-var]  # what is no dataclass is refused


# -- what a stream says by itself, operation by operation ------------------------------------------


def text(value: str) -> bytes:
    return b"\x8c" + bytes([len(value)]) + value.encode()


def named(module: str, name: str) -> bytes:
    return text(module) + text(name) + b"\x93"


def number(value: int) -> bytes:
    raw = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8a" + bytes([len(raw)]) + raw


def stream(body: bytes) -> bytes:
    return b"\x80\x05" + body + b"."


def state(**said: bytes) -> bytes:
    return b"}(" + b"".join(text(name) + value for name, value in said.items()) + b"u"


def untouched(at: int = 1, *, key: str = "x") -> Any:
    return at, key


_HERE = __name__
_POINT, _PATH = named(_HERE, "Point"), named("pathlib", "PosixPath")
_DTYPE = named("numpy", "dtype") + text("O8") + b"\x89\x88\x87R"
_DTYPE += b"(K\x03" + text("|") + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x3ftb"
_EMPTY = named("numpy._core.multiarray", "_reconstruct") + named("numpy", "ndarray")
_EMPTY += b"K\x00\x85C\x01b\x87R"
_ONE = b"(K\x01K\x01\x85" + _DTYPE + b"\x89](K\x01etb"

CHANGES = {
    "state of a class, as attributes": _PATH + b"N" + state(_str=text("/stolen")) + b"\x86b",
    "state of a class": _PATH + state(_str=text("/stolen")) + b"b",
    "state of a registered class": _POINT + b"N" + state(x=b"K\x05") + b"\x86b",
    "state of a registered class, as a dict": _POINT + state(__doc__=b"K\x05") + b"b",
    "state of an enumeration": named(_HERE, "Color") + state(RED=b"K\x05") + b"b",
    "state of a member": named(_HERE, "Color")
    + text("red")
    + b"\x85R"
    + state(_value_=b"N")
    + b"b",
    "state of an exception's class": named("builtins", "ValueError") + state(x=b"N") + b"b",
    "defaults of a function": named("numpy._core.numeric", "_frombuffer")
    + b"N"
    + state(__defaults__=b")")
    + b"\x86b",
    "state of a singleton": named("pandas", "NA") + state(x=b"N") + b"b",
    "state of a dtype that is shared": named("numpy", "dtype") + b"N" + state(x=b"N") + b"\x86b",
    "a class of an object": _POINT + b")\x81" + state(__class__=_PATH) + b"b",
    "a dict of an object": _POINT + b")\x81" + state(__dict__=b"}") + b"b",
    "a method of an object": _POINT + b")\x81" + state(__eq__=b"K\x01") + b"b",
    "a cause of an exception": named("builtins", "ValueError")
    + b")R"
    + state(__cause__=b"N")
    + b"b",
    "state of an object, twice": _POINT
    + b")\x81"
    + state(x=b"K\x01")
    + b"b"
    + state(x=b"N")
    + b"b",
    "an array, twice": _EMPTY + _ONE + _ONE,
    "items of a class": _POINT + b"(" + text("x") + b"K\x01u",
    "items of an object": _POINT + b")\x81(" + text("x") + b"K\x01u",
    "items of an array": _EMPTY + _ONE + b"(K\x00K\x05u",
    "more of a bytearray": b"\x96" + (1).to_bytes(8, "little") + b"x(K\x01e",
    "more of a path": _PATH + text("a") + b"\x85R(K\x01e",
    "more of a frozenset": b"(\x91(K\x01\x90",
    "an __init__": _POINT + b"K\x01]\x86R",
    "an object with arguments": _POINT + b"K\x01]\x86\x81",
    "an object with names": _POINT + b")}\x92",
    "an array before its state": _EMPTY + b"\x85",
    "an array in its own state": _EMPTY + b"\x94(K\x01K\x01\x85" + _DTYPE + b"\x89](h\x00etb",
    "a dotted name": named("pathlib", "PosixPath.touch"),
    "a name that is no text": b"K\x01" + text("x") + b"\x93",
    "a number that is called": b"K\x01)R",
    "a list that is called": b"])R",
    "an extension": b"\x82\x01",
    "a name as older protocols write it": b"cpathlib\nPosixPath\n",
    "what is elsewhere": text("x") + b"Q",
    "a memo as older protocols write it": b"Nr\xff\xff\xff\x7f",
    "twice the same": b"N2\x86",
}


@pytest.mark.parametrize("name", CHANGES)
def test_nothing_that_was_there_is_changed(name: str) -> None:
    before = {kind: dict(vars(kind)) for kind in (Point, Color, type(Path()), ValueError)}
    dtype = str(np.dtype("O"))
    with pytest.raises(DecodeError):
        safe_pickle.decode(stream(CHANGES[name]), [])
    for kind, attributes in before.items():
        assert dict(vars(kind)) == attributes
    assert str(np.dtype("O")) == dtype
    assert np._core.numeric._frombuffer.__defaults__ == (None,)  # type: ignore[attr-defined]  # NumPy's own


def _array(shape: Any, dtype: Any, data: Any) -> Any:
    class Lies:
        def __reduce__(self) -> Any:
            function, given, _ = np.array([None], object).__reduce__()  # type: ignore[misc]  # three of it
            return function, given, (1, shape, np.dtype(dtype), False, data)

    return Lies()


def _frame(place: Any) -> Any:
    made = pd.DataFrame({"a": [1], "b": [2]})
    block = Reduces(pd._libs.internals._unpickle_block, (np.array([[1], [2]]), place, 2))
    manager = Reduces(type(made._mgr), ((block,), list(made._mgr.axes)))

    return _made_of(pd.DataFrame, {**made.__getstate__(), "_mgr": manager})


def _made_of(kind: Any, said: Any) -> Any:
    """What pickles as an empty object of a class and its state."""

    class Lies:
        __class__ = kind

        def __reduce_ex__(self, protocol: Any) -> Any:
            return copyreg.__newobj__, (kind,), said  # type: ignore[attr-defined]  # pickle's own

    return Lies()


def _categories(codes: Any) -> Any:
    made = pd.Categorical(["x"])
    function, given, _ = made.__reduce__()[:3]
    return Reduces(function, given, (made.dtype, np.array(codes, "i1")))


def _levels(codes: Any) -> Any:
    said = {
        "levels": [pd.Index([1])],
        "codes": [np.array(codes)],
        "sortorder": None,
        "names": [None],
    }
    return Reduces(pd.core.indexes.base._new_Index, (pd.MultiIndex, said))


def _masked(mask: Any) -> Any:
    made = pd.array([1, None], dtype="Int64")

    return _made_of(type(made), {**vars(made), "_mask": mask})


LIES: dict[str, Any] = {
    "a list that is shorter than its shape": lambda: _array((10**6,), "O", [1]),
    "a list that is longer": lambda: _array((1,), "O", [1, 2]),
    "no list": lambda: _array((1,), "O", b"12345678"),
    "bytes that are fewer": lambda: _array((10**6,), "i8", bytes(8)),
    "a list for numbers": lambda: _array((1,), "i8", [1]),
    "a negative shape": lambda: _array((-1, -8), "i1", bytes(8)),
    "a shape that is too large to count": lambda: _array((2**62, 2**62), "i8", bytes(8)),
    "as many as can be of nothing": lambda: _array((2**40,), "V0", b""),
    "a shape with a bool": lambda: _array((True,), "i1", bytes(1)),
    "many axes": lambda: _array((1,) * 70, "i1", bytes(1)),
    "objects from bytes": lambda: Reduces(
        np._core.numeric._frombuffer,  # type: ignore[attr-defined]  # NumPy's own
        (bytes(8), np.dtype("O"), (1,), "C"),
    ),
    "a buffer that is shorter": lambda: Reduces(
        np._core.numeric._frombuffer,  # type: ignore[attr-defined]  # NumPy's own
        (bytes(8), np.dtype("i8"), (2,), "C"),
    ),
    "a number that is shorter": lambda: Reduces(np._core.multiarray.scalar, (np.dtype("i8"), b"1")),
    "an object as a number": lambda: Reduces(np._core.multiarray.scalar, (np.dtype("O"), bytes(8))),
    "a block that stands far out": lambda: _frame(slice(10**8, 10**8 + 2, 1)),
    "a block that stands before": lambda: _frame(slice(-2, 0, 1)),
    "two columns in one place": lambda: _frame(np.array([0, 0])),
    "a column too many": lambda: _frame(slice(0, 3, 1)),
    "a place that is none": lambda: _frame(np.array([0.0, 1.0])),
    "codes beyond the categories": lambda: _categories([0, 100]),
    "codes before them": lambda: _categories([-2]),
    "codes beyond the levels": lambda: _levels([0, 10**6]),
    "codes that are no numbers": lambda: _levels([0.0]),
    "a mask that is shorter": lambda: _masked(np.array([True])),
    "a mask that is none": lambda: _masked(np.array([1, 2])),
    "a date that can't be": lambda: Reduces(datetime.date, (b"\x07\xea\x02\xff",)),
    "a time that can't be": lambda: Reduces(datetime.time, (b"\xff\xff\xff\xff\xff\xff",)),
    "a zone that is a path": lambda: Reduces(
        getattr, (__import__("zoneinfo").ZoneInfo, "_unpickle")
    ),
}


@pytest.mark.parametrize("name", LIES)
def test_sizes_and_places_are_counted_before_they_are_believed(name: str) -> None:
    content = pickle.dumps([np.arange(2), LIES[name]()], 5)
    if name == "a zone that is a path":
        content = content[:-2] + text("../x") + b"\x88\x86Re."  # and what is found is called
    with pytest.raises(DecodeError):
        safe_pickle.decode(content, [])


def _long(code: int, size: int) -> bytes:
    return bytes([code]) + size.to_bytes(8, "little")


_BLOB = b"B" + (2**20).to_bytes(4, "little") + bytes(2**20)
BOMBS = {
    "bytes": _long(0x8E, 2**50),
    "a bytearray": _long(0x96, 2**33),
    "text": _long(0x8D, 2**62),
    "a frame": _long(0x95, 2**62) + b"N",
    "a number": b"\x8b\xff\xff\xff\x7f",
    "a memo": b"Nr\xff\xff\xff\xff",
    "another memo": b"Np4000000000\n",
    "what the memo lacks": b"j\xff\xff\xff\xff",
    "tuples in tuples, as a key": b"})" + b"\x85" * 200_000 + b"Ns",
    "tuples in tuples, by the memo": b"\x8f()\x94"
    + b"".join(b"0h" + bytes([i]) + b"\x85\x94" for i in range(255))
    + b"\x85" * 300
    + b"\x90",
    "containers in containers": b"(" * 10**6 + b"t" * 10**6,
    "other containers in containers": b")(" * 10**6 + b"e" * 10**6,
    "slices in slices": named("builtins", "slice") + b"\x940h\x00h\x00NNN\x87RNN\x87R",
    "a range": named("builtins", "range") + number(2**70) + b"\x85R",
    "one array many times": named("numpy._core.multiarray", "_reconstruct")
    + b"\x940"
    + named("numpy", "ndarray")
    + b"\x940"
    + _BLOB
    + b"\x940"
    + named("numpy", "dtype")
    + text("i1")
    + b"\x89\x88\x87R(K\x03"
    + text("|")
    + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x940]("
    + (b"h\x00h\x01K\x00\x85C\x01b\x87R(K\x01" + number(2**20) + b"\x85h\x03\x89h\x02tb") * 2000
    + b"e",
}


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", BOMBS)
def test_what_would_become_large_is_refused(name: str) -> None:
    with pytest.raises(DecodeError):
        safe_pickle.decode(stream(BOMBS[name]), [])


def test_a_registered_class_is_made_without_running_it() -> None:
    ran = []

    @safe_pickle.register_plain
    @dataclasses.dataclass
    class Watched:
        x: int = 0

        def __new__(cls, *given: Any) -> Any:
            ran.append("new")
            return super().__new__(cls)

        def __post_init__(self) -> None:
            ran.append("post")

        def __setattr__(self, name: str, value: Any) -> None:
            ran.append("set")

    body = text(Watched.__module__) + text(Watched.__qualname__) + b"\x93)\x81"
    found = safe_pickle.decode(stream(body + state(x=b"K\x05") + b"b"), [])
    assert type(found) is Watched
    assert found.x == 5
    assert ran == []


def test_one_that_inherits_how_it_is_unpickled_is_not_registered() -> None:
    class Base:
        def __setstate__(self, said: Any) -> None:
            os.abort()

    @dataclasses.dataclass
    class Derived(Base):
        x: int

    with pytest.raises(ConfigError):
        safe_pickle.register_plain(Derived)
