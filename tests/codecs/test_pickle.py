"""The default codec: whatever Python can pickle, and what cloudpickle can."""

import collections
import contextlib
import dataclasses
import datetime
import decimal
import enum
import functools
import io
import pathlib
import pickle
import threading
import uuid
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wellkept import codecs, digest
from wellkept.codecs import LARGE, decode, decoder, encode
from wellkept.codecs import pickle as pickle_codec
from wellkept.errors import ConfigError, DecodeError, EncodeError


class Colour(enum.Enum):
    RED = 1


@dataclasses.dataclass
class Row:
    name: str
    data: Any = None


Pair = collections.namedtuple("Pair", "a b")


class Loud(Exception):
    pass


class Raises:
    def __reduce__(self) -> Any:
        raise Loud("no")


PLAIN: list[Any] = [
    None, True, 0, -1, 2**100, 1.5, float("inf"), 2j, "", "é\ud800", b"",
    b"x" * 100_000, "y" * 100_000,
    (), [], {}, set(), frozenset({1}), [1, [2, (3, {4: 5})]], {"b": 1, "a": 2}, bytearray(b"ab"),
    range(3), slice(1, 2), ..., NotImplemented, int, len, Row("a", [1]), Pair(1, 2), Colour.RED,
    datetime.datetime(2020, 1, 2, tzinfo=datetime.UTC), decimal.Decimal("1.0"), uuid.UUID(int=3),
    pathlib.PurePosixPath("a/b"), collections.OrderedDict(a=1), collections.Counter("aab"),
    collections.deque([1], 3), collections.defaultdict(list, {1: [2]}),
    np.float32(1.5), np.datetime64("2020-01-01"), np.dtype("f4,i8"),
]  # fmt: skip


@pytest.mark.parametrize("codec", ["pickle", "cloudpickle"])
@pytest.mark.parametrize("i", range(len(PLAIN)))
def test_plain_values_come_back(codec: str, i: int) -> None:
    value = PLAIN[i]
    made = encode(value, codec)
    assert made.codec == codec
    got = decode(made)
    assert type(got) is type(value)
    assert got == value
    if isinstance(value, (dict, collections.deque)):
        assert list(got) == list(value)


@pytest.mark.parametrize("codec", ["pickle", "cloudpickle"])
@pytest.mark.parametrize(
    "array",
    [
        np.arange(100_000.0),
        np.arange(100_000.0).reshape(100, 1000).T,
        np.asfortranarray(np.arange(90_000).reshape(300, 300)),
        np.arange(200_000)[::2],
        np.array(3.0),
        np.empty((0, 5)),
        np.array(["a", None, [1]], dtype=object),
        np.zeros(30_000, dtype=[("a", "f8"), ("b", "S3")]),
        np.ma.array(np.arange(20_000.0), mask=np.arange(20_000) % 2),
        np.arange(50_000).astype(">i8"),
    ],
    ids=str,
)
def test_arrays_come_back(codec: str, array: Any) -> None:
    made = encode({"x": [array]}, codec)
    got = decode(made)["x"][0]
    assert type(got) is type(array)
    assert (got.dtype, got.shape) == (array.dtype, array.shape)
    assert (got == array).all() or got.dtype.hasobject
    assert got.tolist() == array.tolist()
    contiguous = type(array) is np.ndarray and array.flags.forc and not array.dtype.hasobject
    if contiguous and array.nbytes >= LARGE:
        assert made.buffers


def test_large_buffers_leave_the_pickle_without_a_copy() -> None:
    array = np.arange(LARGE // 8 + 1, dtype="f8")
    made = encode(Row("a", {"deep": [array]}))
    (buffer,) = made.buffers
    assert np.shares_memory(np.frombuffer(buffer, "f8"), array)
    assert len(made.head) < 1000
    assert made.size == array.nbytes + len(made.head)
    small = encode(np.arange(LARGE // 8 - 1, dtype="f8"))
    assert not small.buffers


@given(st.recursive(st.integers() | st.text() | st.floats(allow_nan=False) | st.binary(), st.lists))
def test_anything_comes_back(value: Any) -> None:
    assert decode(encode(value)) == value


def test_what_pickle_cannot_goes_to_cloudpickle() -> None:
    base = 10

    class Local:
        def __init__(self, n: int) -> None:
            self.n = n

        def plus(self) -> int:
            return self.n + base

    for made, check in (
        (lambda x: x + base, lambda f: f(1) == 11),
        (Local, lambda c: c(1).plus() == 11),
        (Local(2), lambda o: o.plus() == 12),
        ([functools.partial(lambda a, b: a - b, 5)], lambda p: p[0](3) == 2),
    ):
        value = encode(made)
        assert value.codec == "cloudpickle"
        assert check(decode(value))


def test_an_array_in_a_closure_leaves_the_pickle_too() -> None:
    array = np.arange(100_000.0)
    made = encode(lambda i: array[i])
    assert len(made.buffers) == 1
    assert decode(made)(7) == 7.0


def test_a_shared_part_is_shared_again() -> None:
    inner = [1]
    array = np.arange(20_000.0)
    one, two, three, four = decode(encode([inner, inner, array, array]))
    assert one is two
    assert three is four


def test_a_cycle() -> None:
    value: list[Any] = [1]
    value.append(value)
    got = decode(encode(value))
    assert got[1] is got


@pytest.mark.parametrize(
    "value",
    [
        threading.Lock(),
        (i for i in range(3)),
        Raises(),
        {"a": [threading.RLock()]},
        memoryview(b"abc"),
        [io.TextIOWrapper(io.BytesIO(b"x"))],
    ],
    ids=lambda value: type(value).__name__,
)
@pytest.mark.parametrize("codec", ["pickle", "cloudpickle"])
def test_what_nobody_can_is_refused(codec: str, value: Any) -> None:
    with pytest.raises(EncodeError, match="can't encode a") as caught:
        encode(value, codec)
    assert caught.value.__cause__ is not None


def test_refused_generators_are_not_consumed() -> None:
    items = (i for i in range(3))
    with pytest.raises(EncodeError):
        encode([items])
    assert list(items) == [0, 1, 2]


def test_depth_is_refused_not_fatal() -> None:
    value: list[Any] = []
    for _ in range(100_000):
        value = [value]
    with pytest.raises(EncodeError):
        encode(value)
    while value:
        value = value.pop()  # an interpreter may not survive freeing it in one go


@pytest.mark.parametrize("codec", ["pickle", "cloudpickle", "json", "dill"])
def test_cut_bytes_are_an_error_or_the_value(codec: str) -> None:
    value = {"a": [1, 2.5, "text", None], "b": {"c": "é" * 20}}
    made = encode(value, codec)
    for n in range(len(made.head)):
        with pytest.raises(DecodeError):
            decoder(codec)(made.head[:n], ())


def test_a_class_that_is_gone_is_a_decode_error(monkeypatch: pytest.MonkeyPatch) -> None:
    made = encode(Row("a"))
    monkeypatch.delattr(f"{__name__}.Row")
    with pytest.raises(DecodeError, match="Row"):
        decode(made)


def test_missing_buffers_are_a_decode_error() -> None:
    made = encode(np.arange(100_000.0))
    with pytest.raises(DecodeError):
        decoder(made.codec)(made.head, ())


def test_unknown_codecs() -> None:
    with pytest.raises(ConfigError, match=r"yaml.*pickle, cloudpickle, json"):
        encode(1, "yaml")
    with pytest.raises(DecodeError, match="yaml"):
        decoder("yaml")


def test_encoding_changes_nothing() -> None:
    array = np.arange(100_000.0)
    before = pickle.dumps(array)
    value = decode(encode([array]))
    assert pickle.dumps(array) == before
    assert np.shares_memory(value[0], array)  # out of band: copies are the store's business


class TestSlices:
    """Of a slice of an Arrow table its own rows are kept, and they are what they were."""

    def shapes(self) -> dict[str, Any]:
        pa, pd, pl = map(pytest.importorskip, ("pyarrow", "pandas", "polars"))
        many = 20_000
        table = pa.table(
            {
                "n": pa.array(range(many)),
                "s": [f"row {i}" for i in range(many)],
                "maybe": pa.array([None if i % 3 else i for i in range(many)]),
                "list": pa.array([[i, i + 1] for i in range(many)]),
                "kind": pa.array(["a", "b"] * (many // 2)).dictionary_encode(),
                "struct": pa.array([{"x": i} for i in range(many)]),
            }
        )
        return {
            "table": table.slice(500, 10),
            "array": table["s"].chunk(0).slice(500, 10),
            "of a slice": table["s"].chunk(0).slice(500, 1000).slice(3, 7),
            "chunked": table["s"].slice(500, 10),
            "batch": table.to_batches()[0].slice(500, 10),
            "held": {"x": table.slice(500, 10), "y": [table["list"].slice(1, 2)]},
            "none": table.slice(500, 0),
            "views": table["s"].cast(pa.string_view()).chunk(0).slice(500, 10),
            "pandas": table.to_pandas(types_mapper=pd.ArrowDtype).iloc[500:510],
            "text of pandas": pd.Series(["some text"] * many, dtype="string[pyarrow]").iloc[
                500:510
            ],
            "polars": pl.from_arrow(table).slice(500, 10),
        }

    @pytest.mark.parametrize("codec", ["pickle", "cloudpickle", "dill"])
    def test_size_and_content(self, codec: str) -> None:
        for name, value in self.shapes().items():
            made = codecs.encode(value, codec)
            assert made.size < 50_000, name
            found = codecs.decode(made._replace(buffers=[*map(bytearray, made.buffers)]))
            assert type(found) is type(value), name
            assert digest(found) == digest(value), name

    def test_in_the_format_of_arrow(self) -> None:
        for name, value in self.shapes().items():
            with contextlib.suppress(EncodeError):
                assert codecs.encode(value, "arrow").size < 50_000, name

    def test_what_is_whole_is_as_it_was(self) -> None:
        pa = pytest.importorskip("pyarrow")
        whole = pa.table({"n": range(100_000)})
        assert pickle_codec.encode(whole).head == pickle_codec.encode(whole).head
        assert len(pickle_codec.encode(whole).buffers) == 1
