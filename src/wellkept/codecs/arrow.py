"""Frames as Arrow IPC, which many languages read; exact, or refused.

The payload is one line of JSON (what kind of frame it was), then the stream if it is small; a large
stream is a buffer of its own, which polars' and pyarrow's frames are made over without a copy.
"""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any

from wellkept.codecs.pickle import LARGE
from wellkept.errors import ConfigError, DecodeError, EncodeError
from wellkept.records import Buffer, Value

_VERSION = 1


def encode(value: Any) -> Value:
    """Encode a pandas or polars DataFrame, a pyarrow Table or RecordBatch.

    Raises:
        EncodeError: the value is not such a frame, or would come back changed.
        ConfigError: pyarrow is not installed.
    """
    require()
    kind = _kind(value)
    if kind is None:
        raise EncodeError(
            "the arrow codec holds frames (of pandas, polars, pyarrow), not a "
            f"{type(value).__qualname__}; use the default codec"
        )
    try:
        stream, about = _WRITERS[kind](value)
    except EncodeError:
        raise
    except Exception as error:
        raise EncodeError(
            f"the arrow codec can't hold this frame: {type(error).__name__}: {error}; "
            "use the default codec"
        ) from error
    head = json.dumps({"version": _VERSION, "kind": kind, **about}).encode() + b"\n"
    view = memoryview(stream)
    # A small stream stays in the record: a blob of its own would cost a file and a second read.
    if view.nbytes < LARGE:
        return Value("arrow", head + view)
    return Value("arrow", head, [view])


def decode(payload: Buffer, buffers: Sequence[Buffer]) -> Any:
    """Return the frame.

    Raises:
        DecodeError: these bytes are not a frame, or the package of the frame is not installed.
    """
    content = bytes(payload)
    line, _, rest = content.partition(b"\n")
    try:
        about = json.loads(line)
        version, kind = int(about["version"]), about["kind"]
        if version == _VERSION:
            return _READERS[kind](buffers[0] if buffers else rest, about)
    except Exception as error:
        raise DecodeError(f"can't decode a kept frame: {type(error).__name__}: {error}") from error
    raise DecodeError(f"a newer wellkept wrote this frame (format {version}): upgrade wellkept")


def _kind(value: Any) -> str | None:
    """Return which kind of frame the value is; None if it is no frame."""
    # A value of a library's type can only exist once that library is loaded, so nothing is imported here.
    for kind, (module, name) in _TYPES.items():
        loaded = sys.modules.get(module)
        if loaded is not None and type(value) is getattr(loaded, name, None):
            return kind
    return None


_TYPES = {
    "pandas": ("pandas", "DataFrame"),
    "polars": ("polars", "DataFrame"),
    "table": ("pyarrow", "Table"),
    "batch": ("pyarrow", "RecordBatch"),
}


# -- pyarrow --------------------------------------------------------------------------------------


def _write_arrow(value: Any) -> tuple[Any, dict[str, Any]]:
    arrow = require()
    sink = arrow.BufferOutputStream()
    with arrow.ipc.new_stream(sink, value.schema) as writer:
        writer.write(value)
    stream = sink.getvalue()
    # An extension type that is not registered would come back as the type that it is stored as.
    if not arrow.ipc.open_stream(stream).schema.equals(value.schema, check_metadata=True):
        raise EncodeError("the arrow codec can't hold this schema; use the default codec")
    return stream, {}


def _read_table(stream: Buffer, about: dict[str, Any]) -> Any:
    arrow = require()
    table = arrow.ipc.open_stream(arrow.py_buffer(stream)).read_all()
    # Arrow trusts offsets and lengths in a stream; this checks the cheap ones, so that a stream that lies is an
    # error here and not a read past the end of a buffer.
    table.validate()
    return table


def _read_batch(stream: Buffer, about: dict[str, Any]) -> Any:
    arrow = require()
    batch = arrow.ipc.open_stream(arrow.py_buffer(stream)).read_next_batch()
    batch.validate()
    return batch


# -- polars ---------------------------------------------------------------------------------------


def _write_polars(value: Any) -> tuple[Any, dict[str, Any]]:
    file = io.BytesIO()
    # Compressed columns could not be mapped: reading them would copy.
    value.write_ipc(file, compression="uncompressed")
    stream = file.getbuffer()
    again = _read_polars(stream, {})
    if again.schema != value.schema or not again.equals(value):
        raise EncodeError("the arrow codec would change this polars frame; use the default codec")
    return stream, {}


def _read_polars(stream: Buffer, about: dict[str, Any]) -> Any:
    polars: Any = import_module("polars")
    return polars.read_ipc(io.BytesIO(stream))


# -- pandas ---------------------------------------------------------------------------------------


def _write_pandas(value: Any) -> tuple[Any, dict[str, Any]]:
    arrow = require()
    if value.attrs or not value.flags.allows_duplicate_labels:
        raise EncodeError("the arrow codec can't hold a frame's attrs or flags")
    for dtype in [*value.dtypes, *_dtypes(value.index)]:
        # Arrow infers a type for a column of objects, and would bring back objects of that type.
        categories = getattr(dtype, "categories", None)
        if "object" in (str(dtype), str(getattr(categories, "dtype", ""))):
            raise EncodeError(
                "the arrow codec can't hold columns of objects; use the default codec"
            )
    table = arrow.Table.from_pandas(value)
    stream, _ = _write_arrow(table)
    # The metadata that pandas puts into the schema does not bring back everything, so the frame is read back
    # and compared: one pass in C over what has just been written.
    _compare(_read_pandas(stream, {}), value)
    return stream, {}


def _dtypes(index: Any) -> list[Any]:
    return list(index.dtypes) if hasattr(index, "dtypes") else [index.dtype]


def _compare(again: Any, value: Any) -> None:
    numpy: Any = import_module("numpy")
    pandas: Any = import_module("pandas")
    try:
        pandas.testing.assert_frame_equal(
            again, value, check_exact=True, check_freq=True, check_column_type=True
        )
    except AssertionError as error:
        first = str(error).partition("\n")[0]
        raise EncodeError(f"the arrow codec would change this frame: {first}") from error
    same = (
        type(again.columns) is type(value.columns)
        and type(again.index) is type(value.index)
        and list(map(type, again.columns)) == list(map(type, value.columns))
        and again.dtypes.tolist() == value.dtypes.tolist()
    )
    for n, dtype in enumerate(value.dtypes):
        if same and isinstance(dtype, numpy.dtype) and dtype.kind == "f":
            # The comparison above takes every NaN for equal, but a NaN's sign and payload count too.
            mine, theirs = (frame.iloc[:, n].to_numpy() for frame in (again, value))
            bits = f"u{dtype.itemsize}"
            same = bool((mine.view(bits) == theirs.view(bits)).all())
    if not same:
        raise EncodeError("the arrow codec would change this frame; use the default codec")


def _read_pandas(stream: Buffer, about: dict[str, Any]) -> Any:
    return _read_table(stream, about).to_pandas()


_WRITERS = {
    "pandas": _write_pandas,
    "polars": _write_polars,
    "table": _write_arrow,
    "batch": _write_arrow,
}
_READERS = {
    "pandas": _read_pandas,
    "polars": _read_polars,
    "table": _read_table,
    "batch": _read_batch,
}


def require() -> Any:
    """Import pyarrow and return it.

    Raises:
        ConfigError: pyarrow is not installed.
    """
    try:
        arrow: Any = import_module("pyarrow")
        import_module("pyarrow.ipc")
    except ImportError as error:
        raise ConfigError("the arrow codec needs pyarrow: pip install 'wellkept[arrow]'") from error
    return arrow
