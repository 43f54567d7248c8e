"""Arrow columns: by type, validity and content, however they are sliced or cut into chunks."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any

from blake3 import blake3

from .buffers import PARALLEL, Known, buffer_digest, known_digest, new_hasher
from .registry import Reducer

__all__ = ["EXACT", "FAMILIES", "column"]

_OF_BYTES = frozenset({"string", "large_string", "binary", "large_binary"})
_MANY = 1 << 20
"""Rows whose offsets or validity are worked out at a time."""


def column(data: Any, known: Known | None) -> tuple[Any, ...]:
    """What an Array or ChunkedArray holds: (type, rows, nulls, content)."""
    pa = sys.modules["pyarrow"]
    chunks = data.chunks if isinstance(data, pa.ChunkedArray) else [data]
    chunks = [chunk for chunk in chunks if len(chunk)]
    return (str(data.type), len(data), *_chunks(data.type, chunks, known))


def _chunks(kind: Any, chunks: list[Any], known: Known | None) -> tuple[Any, ...]:
    """(nulls, content) of chunks of one type, none empty."""
    types = sys.modules["pyarrow"].types
    nulls = _validity(chunks)
    if types.is_null(kind):
        return (nulls, None)
    if isinstance(kind, sys.modules["pyarrow"].BaseExtensionType):
        return (nulls, _chunks(kind.storage_type, [chunk.storage for chunk in chunks], known))
    if str(kind) in _OF_BYTES:
        return (nulls, *_texts(kind, chunks, known))
    if types.is_boolean(kind):
        hasher = new_hasher()
        for chunk in chunks:
            filled = chunk.fill_null(False) if chunk.null_count else chunk
            hasher.update(_bytes_of_bools(filled))
        return (nulls, hasher.digest())
    width = _width(kind)
    if width is not None:
        return (nulls, _fixed(kind, width, chunks, known))
    if types.is_struct(kind):
        fields = []
        for number in range(kind.num_fields):
            # `field` keeps what lies under null structs; `flatten` makes it null
            parts = [chunk.flatten()[number] for chunk in chunks]
            fields.append((kind.field(number).name, _chunks(kind.field(number).type, parts, known)))
        return (nulls, fields)
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        hasher = new_hasher()
        for chunk in chunks:
            lengths = chunk.value_lengths().fill_null(0).cast("int64")
            raw = memoryview(lengths.buffers()[1]).cast("B")
            hasher.update(raw[lengths.offset * 8 :][: 8 * len(lengths)])
        parts = [part for part in (chunk.flatten() for chunk in chunks) if len(part)]
        return (nulls, hasher.digest(), _chunks(kind.value_type, parts, known))
    if types.is_dictionary(kind):
        values = [chunk.dictionary_decode() for chunk in chunks]
        return (nulls, _chunks(kind.value_type, values, known))
    return (nulls, [item for chunk in chunks for item in chunk.to_pylist()])


def _width(kind: Any) -> int | None:
    """Bytes an element takes, if all take the same."""
    types = sys.modules["pyarrow"].types
    if types.is_nested(kind) or types.is_dictionary(kind):
        return None
    try:
        bits = int(kind.bit_width)
    except ValueError:
        return None
    return bits // 8 if bits and bits % 8 == 0 else None


def _validity(chunks: list[Any]) -> bytes | None:
    """BLAKE3 of a byte a row, 1 where there is a value; None if there is everywhere."""
    if not any(chunk.null_count for chunk in chunks):
        return None
    hasher = new_hasher()
    for chunk in chunks:
        for at in range(0, len(chunk), _MANY):
            hasher.update(_bytes_of_bools(chunk[at : at + _MANY].is_valid()))
    return hasher.digest()


def _bytes_of_bools(chunk: Any) -> Any:
    numbers = chunk.cast("uint8")
    return memoryview(numbers.buffers()[1])[numbers.offset :][: len(numbers)]


def _fixed(kind: Any, width: int, chunks: list[Any], known: Known | None) -> bytes:
    views = []
    for chunk in chunks:
        if chunk.null_count:
            chunk = _zeroed(kind, width, chunk)
        raw = memoryview(chunk.buffers()[1]).cast("B")
        views.append(raw[chunk.offset * width :][: len(chunk) * width])
    return _joined(views, known)


def _joined(views: list[Any], known: Known | None) -> bytes:
    if len(views) == 1:
        return known_digest(memoryview(views[0]), known)
    hasher = new_hasher() if sum(len(view) for view in views) >= PARALLEL else blake3()
    for view in views:
        hasher.update(view)
    return hasher.digest()


def _zeroed(kind: Any, width: int, chunk: Any) -> Any:
    """The same elements with zero bytes under the nulls."""
    pa = sys.modules["pyarrow"]
    blank = pa.Array.from_buffers(kind, 1, [None, pa.py_buffer(bytes(width))])
    compute = import_module("pyarrow.compute")
    return compute.if_else(chunk.is_valid(), chunk, blank[0])


def _texts(kind: Any, chunks: list[Any], known: Known | None) -> tuple[bytes, bytes]:
    """BLAKE3 of where each element ends (int64, counted from the first), and of the bytes."""
    import numpy as np

    dtype = "<i8" if str(kind).startswith("large") else "<i4"
    ends = new_hasher()
    views = []
    before = 0
    for chunk in chunks:
        if chunk.null_count:
            chunk = chunk.fill_null("" if "string" in str(kind) else b"")
        _, offsets, data = chunk.buffers()
        marks: Any = np.frombuffer(offsets, dtype)[chunk.offset : chunk.offset + len(chunk) + 1]
        first, last = int(marks[0]), int(marks[-1])
        if dtype == "<i8" and first == before:
            ends.update(memoryview(marks[1:].view("u1")))
        else:
            for at in range(1, len(marks), _MANY):
                piece = marks[at : at + _MANY].astype("<i8")
                piece += before - first
                ends.update(memoryview(piece.view("u1")))
        before += last - first
        views.append(memoryview(data).cast("B")[first:last] if data is not None else b"")
    return ends.digest(), _joined(views, known)


def _array(value: Any, known: Known | None) -> tuple[Any, ...]:
    if type(value).__name__ == "DictionaryArray":
        return "arrow dictionary", column(value, known)
    return "arrow array", column(value, known)


def _chunked(value: Any, known: Known | None) -> tuple[Any, ...]:
    return "arrow chunked array", column(value, known)


def _schema(value: Any, known: Known | None) -> tuple[Any, ...]:
    fields = [(f.name, str(f.type), f.nullable, dict(f.metadata or {})) for f in value]
    return "arrow schema", fields, dict(value.metadata or {})


def _table(tag: str) -> Reducer:
    def reduce(value: Any, known: Known | None) -> tuple[Any, ...]:
        return tag, value.schema, value.num_rows, [column(data, known) for data in value.columns]

    return reduce


def _scalar(value: Any, known: Known | None) -> tuple[Any, ...]:
    pa = sys.modules["pyarrow"]
    return "arrow scalar", column(pa.array([value], type=value.type), known)


def _type(value: Any, known: Known | None) -> tuple[Any, ...]:
    return "arrow type", str(value)


def _field(value: Any, known: Known | None) -> tuple[Any, ...]:
    return "arrow field", value.name, str(value.type), value.nullable, dict(value.metadata or {})


def _buffer(value: Any, known: Known | None) -> tuple[Any, ...]:
    return "arrow buffer", value.size, buffer_digest(value)


EXACT: dict[str, Reducer] = {}
FAMILIES: dict[str, Reducer] = {
    "pyarrow.lib.Array": _array,
    "pyarrow.lib.ChunkedArray": _chunked,
    "pyarrow.lib.Table": _table("arrow table"),
    "pyarrow.lib.RecordBatch": _table("arrow batch"),
    "pyarrow.lib.Schema": _schema,
    "pyarrow.lib.Scalar": _scalar,
    "pyarrow.lib.DataType": _type,
    "pyarrow.lib.Field": _field,
    "pyarrow.lib.Buffer": _buffer,
}
