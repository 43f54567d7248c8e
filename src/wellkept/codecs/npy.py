"""Arrays in NumPy's own format, which many programs read. A small array is a whole `.npy` file."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from importlib import import_module
from typing import Any

from wellkept.codecs.pickle import LARGE
from wellkept.errors import ConfigError, DecodeError, EncodeError
from wellkept.records import Buffer, Value

# Kinds of dtypes that a header describes exactly: all but objects, which `.npy` would pickle.
_KINDS = "biufcSUVMm"


def encode(value: Any) -> Value:
    """Encode a NumPy array; nothing of it is pickled. A large one's data is a buffer beside the header.

    Raises:
        EncodeError: the value is not a plain array, or its dtype would come back changed.
        ConfigError: NumPy is not installed.
    """
    np = require()
    if type(value) is not np.ndarray:
        raise EncodeError(
            f"the npy codec holds NumPy arrays, not a {type(value).__qualname__}; "
            "use the default codec"
        )
    dtype = value.dtype
    if not exact(np, dtype):
        raise EncodeError(f"the npy codec can't hold the dtype {dtype}; use the default codec")
    fortran = value.flags.f_contiguous and not value.flags.c_contiguous
    flat = value if fortran or value.flags.c_contiguous else np.ascontiguousarray(value)
    head = io.BytesIO()
    # `ascontiguousarray` makes an array without dimensions one of one dimension; the header needs the shape.
    header = np.lib.format.header_data_from_array_1_0(flat.reshape(value.shape))
    try:
        # Always version 2: NumPy would choose by the header's size, and readers know both.
        np.lib.format.write_array_header_2_0(head, header)
    except ValueError as error:
        raise EncodeError(f"the npy codec can't hold the dtype {dtype}: {error}") from error
    data = flat.reshape(-1, order="F" if fortran else "C").view(np.uint8) if flat.nbytes else b""
    if value.nbytes < LARGE:
        return Value("npy", head.getvalue() + bytes(data))
    return Value("npy", head.getvalue(), [memoryview(data)])


def exact(np: Any, dtype: Any) -> bool:
    if dtype.hasobject or dtype.kind not in _KINDS or _has_metadata(dtype):
        return False
    descr = np.lib.format.dtype_to_descr(dtype)
    again = np.lib.format.descr_to_dtype(descr)
    return bool(again == dtype and again.isalignedstruct == dtype.isalignedstruct)


def _has_metadata(dtype: Any) -> bool:
    if dtype.metadata is not None:
        return True
    if dtype.subdtype is not None:
        return _has_metadata(dtype.subdtype[0])
    return any(_has_metadata(field[0]) for field in (dtype.fields or {}).values())


def decode(payload: Buffer, buffers: Sequence[Buffer]) -> Any:
    """Return the array; a large one is made over the buffer itself, without a copy.

    Raises:
        DecodeError: these bytes are not an array.
        ConfigError: NumPy is not installed.
    """
    np = require()
    file = io.BytesIO(payload)
    try:
        version = np.lib.format.read_magic(file)
        shape, fortran, dtype = np.lib.format.read_array_header_2_0(file, max_header_size=1 << 20)
    except Exception as error:
        raise DecodeError(f"can't decode a kept array: {type(error).__name__}: {error}") from error
    # A bytearray, so that a small array is as writable as the one that was kept.
    data = buffers[0] if buffers else bytearray(memoryview(payload).cast("B")[file.tell() :])
    size = memoryview(data).nbytes
    if version != (2, 0) or dtype.hasobject or any(n < 0 for n in shape):
        raise DecodeError("a kept array has a header that wellkept does not write")
    if math.prod(shape) * dtype.itemsize != size:
        raise DecodeError(f"a kept array of shape {shape} does not fit {size:,} bytes")
    try:
        flat = np.frombuffer(data, np.uint8).view(dtype) if size else np.empty(0, dtype)
        return flat.reshape(shape, order="F" if fortran else "C")
    except Exception as error:
        raise DecodeError(f"can't decode a kept array: {type(error).__name__}: {error}") from error


def require() -> Any:
    """Import NumPy and return it.

    Raises:
        ConfigError: NumPy is not installed.
    """
    try:
        numpy: Any = import_module("numpy")
    except ImportError as error:
        raise ConfigError("the npy codec needs NumPy: pip install 'wellkept[numpy]'") from error
    return numpy
