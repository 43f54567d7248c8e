"""HDF5: exact or refused, and readable with h5py."""

import collections
import datetime
import decimal
import io
import sys
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest

from wellkept import digest
from wellkept.codecs import decode, decoder, encode
from wellkept.errors import ConfigError, DecodeError, EncodeError

EXACT: list[Any] = [
    *(None, True, 1, 2**70, -(2**63), 1.5, -0.0, float("nan"), 1j, "", "é", "\ud800"),
    *(b"", b"a\0", bytearray(b"ab"), (1, 2), [], [None, [1]], {}, {"a": 1}, {1: 2}, {"a/b": 1}),
    *({1, 2}, frozenset([1]), np.float64(1), np.int32(3), np.arange(6).reshape(2, 3).T),
    *(np.zeros((0, 3)), np.array(["a", "bb"]), np.array([b"a", b"b\0"]), np.array([1, None])),
    *(np.array(["2020-01-01"], "M8[D]"), np.zeros(3, "f2"), np.zeros(3, "?"), np.zeros(3, "c16")),
    np.zeros(2, [("a", "i4"), ("b", "f8")]),
    collections.OrderedDict(a=1),
    datetime.datetime(2020, 1, 1),
    decimal.Decimal("1.0"),
    pd.DataFrame({"a": [1, 2], "b": ["x", "y"]}),
    {"nested": [np.arange(3), {"deep": (1, "x")}]},
]


@pytest.mark.parametrize("value", EXACT, ids=lambda value: repr(value)[:30])
def test_values_come_back_exactly(value: Any) -> None:
    kept = encode(value, "hdf5")
    assert kept.codec == "hdf5"
    assert digest(decode(kept)) == digest(value)


MASKED = np.ma.array([1, 2], mask=[0, 1])  # its fill value is an array without dimensions


def refused() -> list[Any]:
    local = type("Local", (), {})()
    return ["a\0b", {".": 1}, np.array(5.0), [{"x": np.array(5.0)}], MASKED, lambda x: x, local]


@pytest.mark.parametrize("value", refused(), ids=lambda value: repr(value)[:20])
def test_what_is_refused(value: Any) -> None:
    with pytest.raises(EncodeError, match="use the default codec"):
        encode(value, "hdf5")


def test_other_programs_can_read_it() -> None:
    kept = encode({"data": np.arange(5.0)}, "hdf5")
    with h5py.File(io.BytesIO(kept.head), "r") as file:
        found: list[Any] = []
        file.visititems(
            lambda _, part: found.append(part[()]) if getattr(part, "shape", ()) == (5,) else None
        )
    assert len(found) == 1
    assert (found[0] == np.arange(5.0)).all()


@pytest.mark.parametrize("payload", [b"", b"no HDF5", b"\x89HDF\r\n\x1a\n" + bytes(100)])
def test_what_is_no_file(payload: bytes) -> None:
    with pytest.raises(DecodeError):
        decoder("hdf5")(payload, ())


def test_a_file_that_is_cut_short() -> None:
    head = encode(list(range(50)), "hdf5").head
    for part in range(1, 10):
        with pytest.raises(DecodeError):
            decoder("hdf5")(head[: len(head) * part // 10], ())


def test_nothing_is_left_on_disk(home: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import tempfile

    monkeypatch.setattr(tempfile, "tempdir", str(home))
    decode(encode([1], "hdf5"))
    with pytest.raises(EncodeError):
        encode("a\0b", "hdf5")
    assert [path for path in home.rglob("*") if path.suffix == ".h5"] == []


@pytest.mark.parametrize("package", ["h5py", "bagofholding"])
def test_without_its_packages(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = encode(1, "hdf5")
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ConfigError, match=r"pip install 'wellkept\[hdf5\]'"):
        encode(1, "hdf5")
    with pytest.raises(DecodeError, match=r"pip install 'wellkept\[hdf5\]'"):
        decode(kept)
