"""Arrow columns: by type, validity and content, however they are sliced or cut into chunks."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any

from blake3 import blake3

from .buffers import PARALLEL, Known, buffer_digest, known_digest, new_hasher
from .names import class_name
from .registry import Reducer

__all__ = ["EXACT", "FAMILIES", "column"]

_OF_BYTES = frozenset({"string", "large_string", "binary", "large_binary"})
_MANY = 1 << 20
"""Rows whose offsets or validity are worked out at a time."""


def column(data: Any, known: Known | None, *, codes: bool = True) -> tuple[Any, ...]:
    """What an Array or ChunkedArray holds: (type, rows, nulls, content).

    Args:
        codes: whether it counts in which order the values of a dictionary are, and which are unused.
    """
    pa = sys.modules["pyarrow"]
    chunks = data.chunks if isinstance(data, pa.ChunkedArray) else [data]
    return (_described(data.type), len(data), *_part(data.type, chunks, known, codes))


def _described(kind: Any) -> Any:
    """A type: its text, with what that leaves out: metadata of fields, parameters of extensions."""
    found = _more(kind)
    return str(kind) if found is None else ("k2:type", str(kind), found)


def _more(kind: Any) -> Any:
    pa = sys.modules["pyarrow"]
    if isinstance(kind, pa.BaseExtensionType):
        told = getattr(kind, "__arrow_ext_serialize__", None)
        own = None if told is None else bytes(told())
        # the text of a type of Arrow's own says all of it
        name = "" if own is None else class_name(type(kind))
        return kind.extension_name, name, own, _described(kind.storage_type)
    types = pa.types
    fields: list[Any] = []
    if types.is_struct(kind) or types.is_union(kind):
        fields = [kind.field(number) for number in range(kind.num_fields)]
    elif types.is_map(kind):
        fields = [kind.key_field, kind.item_field]
    elif hasattr(kind, "value_field"):
        fields = [kind.value_field]
    elif hasattr(kind, "value_type"):  # a dictionary, or runs
        return _more(kind.value_type)
    found = [(dict(field.metadata or {}), _more(field.type)) for field in fields]
    return found if any(each != ({}, None) for each in found) else None


def _part(kind: Any, chunks: list[Any], known: Known | None, codes: bool) -> tuple[Any, ...]:
    return _chunks(kind, [chunk for chunk in chunks if len(chunk)], known, codes)


def _chunks(kind: Any, chunks: list[Any], known: Known | None, codes: bool) -> tuple[Any, ...]:
    """(nulls, content) of chunks of one type, none empty."""
    types = sys.modules["pyarrow"].types
    nulls = _validity(chunks)
    if types.is_null(kind):
        return (nulls, None)
    if isinstance(kind, sys.modules["pyarrow"].BaseExtensionType):
        storage = [chunk.storage for chunk in chunks]
        return (nulls, _chunks(kind.storage_type, storage, known, codes))
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
            fields.append(
                (kind.field(number).name, _chunks(kind.field(number).type, parts, known, codes))
            )
        return (nulls, fields)
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        hasher = new_hasher()
        for chunk in chunks:
            lengths = chunk.value_lengths().fill_null(0).cast("int64")
            raw = memoryview(lengths.buffers()[1]).cast("B")
            hasher.update(raw[lengths.offset * 8 :][: 8 * len(lengths)])
        parts = [part for part in (chunk.flatten() for chunk in chunks) if len(part)]
        return (nulls, hasher.digest(), _chunks(kind.value_type, parts, known, codes))
    if types.is_dictionary(kind):
        if codes:
            return (nulls, _dictionary(kind, chunks, known))
        values = [chunk.dictionary_decode() for chunk in chunks]
        return (nulls, _chunks(kind.value_type, values, known, codes))
    if types.is_union(kind):
        which = [bytes(memoryview(c.buffers()[1])[c.offset :][: len(c)]) for c in chunks]
        held = [item for chunk in chunks for item in chunk.to_pylist()]
        return (nulls, ("k2:union", b"".join(which), held))
    return (nulls, [item for chunk in chunks for item in chunk.to_pylist()])


def _dictionary(kind: Any, chunks: list[Any], known: Known | None) -> tuple[Any, ...]:
    """The values and the codes: of all chunks together where they share the values."""
    made: list[tuple[Any, Any]] = []  # dictionaries, and what they hold
    runs: list[tuple[Any, list[Any]]] = []
    for chunk in chunks:
        held = chunk.dictionary
        found = next((content for other, content in made if other.equals(held)), None)
        if found is None:
            found = _part(kind.value_type, [held], known, True), len(held)
            made.append((held, found))
        if not runs or runs[-1][0] != found:
            runs.append((found, []))
        runs[-1][1].append(chunk.indices)
    coded = [
        (values, sum(map(len, codes)), _chunks(kind.index_type, codes, known, True))
        for values, codes in runs
    ]
    return ("k2:dictionary", *coded)


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
        return "k2:arrow dictionary", column(value, known)
    return "arrow array", column(value, known)


def _chunked(value: Any, known: Known | None) -> tuple[Any, ...]:
    return "arrow chunked array", column(value, known)


def _schema(value: Any, known: Known | None) -> tuple[Any, ...]:
    fields = [(f.name, _described(f.type), f.nullable, dict(f.metadata or {})) for f in value]
    return "arrow schema", fields, dict(value.metadata or {})


def _table(tag: str) -> Reducer:
    def reduce(value: Any, known: Known | None) -> tuple[Any, ...]:
        return tag, value.schema, value.num_rows, [column(data, known) for data in value.columns]

    return reduce


def _scalar(value: Any, known: Known | None) -> tuple[Any, ...]:
    pa = sys.modules["pyarrow"]
    return "arrow scalar", column(pa.array([value], type=value.type), known)


def _type(value: Any, known: Known | None) -> tuple[Any, ...]:
    return "arrow type", _described(value)


def _field(value: Any, known: Known | None) -> tuple[Any, ...]:
    described = _described(value.type)
    return "arrow field", value.name, described, value.nullable, dict(value.metadata or {})


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
