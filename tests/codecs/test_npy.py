"""Arrays in NumPy's own format: exact or refused, and nothing hostile is believed."""

import io
import struct
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from wellkept import digest
from wellkept.codecs import decode, decoder, encode
from wellkept.errors import ConfigError, DecodeError, EncodeError
from wellkept.records import Value

DTYPES = st.one_of(
    npst.scalar_dtypes(),
    npst.unicode_string_dtypes(),
    npst.byte_string_dtypes(),
    npst.array_dtypes(),
)


@given(
    array=npst.arrays(DTYPES, npst.array_shapes(min_dims=0, min_side=0)),
    order=st.sampled_from("CFT"),
)
def test_arrays_come_back_exactly(array: Any, order: str) -> None:
    assume(repr(array.dtype.descr).isascii())  # other names of fields are refused, see below
    array = array.T if order == "T" else np.asarray(array, order=order)
    again = decode(encode(array, "npy"))
    assert type(again) is np.ndarray
    assert digest(again) == digest(array)
    assert again.dtype == array.dtype
    assert again.flags.writeable
    if array.size > 1 and array.flags.f_contiguous:
        assert again.flags.f_contiguous


@pytest.mark.parametrize(
    "array",
    [
        np.arange(200_000),
        np.arange(200_000)[::2],
        np.asfortranarray(np.arange(200_000.0).reshape(400, 500)),
        np.zeros((1, 70_000), "M8[ns]"),
        np.zeros(9000, [("a", "i4"), ("b", "f8", 3)]),
    ],
)
def test_large_arrays_lie_over_their_buffer(array: Any) -> None:
    value = encode(array, "npy")
    (buffer,) = value.buffers
    assert memoryview(buffer).nbytes == array.nbytes
    mapped = Value("npy", value.head, [memoryview(bytearray(buffer))])
    again = decode(mapped)
    assert digest(again) == digest(array)
    assert np.shares_memory(again, np.frombuffer(mapped.buffers[0], np.uint8))
    again.reshape(-1, order="A")[:1] = np.zeros(1, array.dtype)
    assert digest(decode(value)) == digest(array)


def test_a_small_one_is_a_file_that_numpy_reads() -> None:
    array = np.arange(12.0).reshape(3, 4)
    assert (np.load(io.BytesIO(encode(array, "npy").head), allow_pickle=False) == array).all()


@pytest.mark.parametrize(
    "value",
    [
        np.array([1, None], object),
        np.zeros(2, [("a", object)]),
        np.ma.array([1], mask=[True]),
        np.rec.array([(1, 2.0)]),
        np.zeros(2, np.dtype("i4", metadata={"unit": "m"})),
        np.zeros(2, np.dtype([("a", np.dtype("i4", metadata={"unit": "m"}))])),
        np.zeros(2, np.dtype([("a", "u1"), ("b", "f8")], align=True)),
        np.zeros(2, [("名", "i4")]),
        np.float64(1),
        [1],
        None,
    ],
)
def test_what_is_refused(value: Any) -> None:
    with pytest.raises(EncodeError, match="npy codec"):
        encode(value, "npy")


def npy(header: str, data: bytes = b"", version: bytes = b"\x02\x00") -> bytes:
    text = header.encode().ljust(117) + b"\n"
    return b"\x93NUMPY" + version + struct.pack("<I", len(text)) + text + data


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\x93NUMPY",
        npy("{'descr': '<f8', 'fortran_order': False, 'shape': (2,)}", bytes(8)),
        npy("{'descr': '<f8', 'fortran_order': False, 'shape': (2,)}", bytes(17)),
        npy("{'descr': '<f8', 'fortran_order': False, 'shape': (-1, -1)}", bytes(8)),
        npy("{'descr': '<f8', 'fortran_order': False, 'shape': (4611686018427387905,)}", bytes(8)),
        npy(f"{{'descr': '<f8', 'fortran_order': False, 'shape': ({2**61},)}}", b""),
        npy("{'descr': '|O', 'fortran_order': False, 'shape': (1,)}", bytes(8)),
        npy("{'descr': '<f8', 'fortran_order': 3, 'shape': (1,)}", bytes(8)),
        npy("{'descr': 'no such', 'fortran_order': False, 'shape': (1,)}", bytes(8)),
        npy("__import__('os')", bytes(8)),
        npy("{'descr': '<f8', 'fortran_order': False, 'shape': (1,)}", bytes(8), b"\x09\x00"),
        npy("(" * 100),
    ],
)
def test_what_is_no_array(payload: bytes) -> None:
    with pytest.raises(DecodeError):
        decoder("npy")(payload, ())


def test_without_numpy(monkeypatch: pytest.MonkeyPatch) -> None:
    value = encode(np.arange(3), "npy")
    monkeypatch.setitem(sys.modules, "numpy", None)
    with pytest.raises(ConfigError, match=r"pip install 'wellkept\[numpy\]'"):
        encode([1], "npy")
    with pytest.raises(DecodeError, match=r"pip install 'wellkept\[numpy\]'"):
        decode(value)
