"""What is seen of a result: numbers, text, JSON, tables of arrays and frames, images. Nothing is unpickled."""

from __future__ import annotations

import ast
import json
import re
import struct
from collections.abc import Sequence
from typing import Any

from wellkept.caches import Cache
from wellkept.codecs import Envelope, pickle_text
from wellkept.codecs.file import says
from wellkept.codecs.pickle_text import Made, Named, Outside
from wellkept.errors import KeptError
from wellkept.records import Buffer, Call

# Bytes of a result that is read to be shown.
_LARGEST = 64 << 20
_ROWS, _COLUMNS = 10, 12
_LETTERS = 6000
_IMAGES = {
    b"\x89PNG\r\n\x1a\n": "image/png",
    b"\xff\xd8\xff": "image/jpeg",
    b"GIF87a": "image/gif",
    b"GIF89a": "image/gif",
}


def preview(cache: Cache, call: Call) -> dict[str, Any]:
    """Return what is seen of a call's result, as plain data.

    `kind` is `text`, `table`, `image` or `none`; `about` is a line, `text`, `columns` and `rows` hold what
    is shown.
    """
    try:
        found = cache.backend.fetch(call.key.raw)
        if found is None or found.envelope is None:
            return _about(None) | _none(
                "its result is not kept any more: the next call computes it"
            )
        envelope = found.envelope
        size = sum(blob.size for blob in envelope.blobs)
        if size > _LARGEST:
            return _none(f"{size / 1e6:,.0f} MB, which is too much to look into", envelope)
        payload, buffers = _loaded(cache, envelope)
    except KeptError as error:
        return _about(None) | _none(f"it can't be read: {error}")
    try:
        made = _SHOWN.get(envelope.codec, _other)(payload, buffers)
    except (ValueError, TypeError, LookupError, ImportError, struct.error, RecursionError) as error:
        made = _none(f"it can't be shown: {error}"[:200])
    return _about(envelope) | made


def image(cache: Cache, call: Call) -> tuple[str, bytes] | None:
    """Return the kind and the bytes of a result that is an image; None of any other.

    Raises:
        KeptError: it can't be read.
    """
    found = cache.backend.fetch(call.key.raw)
    envelope = None if found is None else found.envelope
    if envelope is None or sum(blob.size for blob in envelope.blobs) > _LARGEST:
        return None
    payload, buffers = _loaded(cache, envelope)
    data = (
        b"".join(map(bytes, buffers))
        if envelope.codec == "file"
        else _plain_bytes(envelope, payload, buffers)
    )
    kind = _image_kind(data)
    return (kind, data) if kind else None


def _loaded(cache: Cache, envelope: Envelope) -> tuple[bytes, Sequence[Buffer]]:
    # Who loads a damaged blob removes it; who looks changes nothing.
    cache.backend.probe(envelope, _LARGEST)
    payload, buffers = cache.backend.load(envelope)
    return bytes(payload), buffers


def _plain_bytes(envelope: Envelope, payload: bytes, buffers: Sequence[Buffer]) -> bytes:
    try:
        value = pickle_text.read(payload) if _SHOWN.get(envelope.codec) is _pickle else b""
    except ValueError:
        return b""
    return _bytes(value, buffers) or b""


def _image_kind(data: bytes) -> str:
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    return next((kind for begin, kind in _IMAGES.items() if data.startswith(begin)), "")


def _none(about: str, envelope: Envelope | None = None) -> dict[str, Any]:
    made = {"kind": "none", "about": about}
    return made if envelope is None else _about(envelope) | made


def _about(envelope: Envelope | None) -> dict[str, Any]:
    if envelope is None:
        return {"codec": None, "blobs": 0}
    return {"codec": envelope.codec, "blobs": len(envelope.blobs)}


def _text(about: str, text: str) -> dict[str, Any]:
    shown = text if len(text) <= _LETTERS else f"{text[:_LETTERS]}…"
    return {"kind": "text", "about": about, "text": shown}


def _other(payload: bytes, buffers: Sequence[Buffer]) -> dict[str, Any]:
    return _none("values of this codec are not looked into")


def _json(payload: bytes, buffers: Sequence[Buffer]) -> dict[str, Any]:
    if len(payload) > 1 << 20:
        return _text("JSON", payload[:_LETTERS].decode(errors="replace") + "…")
    value = json.loads(payload)
    if isinstance(value, list) and value and all(isinstance(row, dict) for row in value[:_ROWS]):
        names = list(dict.fromkeys(name for row in value[:_ROWS] for name in row))[:_COLUMNS]
        rows = [[_cell(row.get(name, "")) for name in names] for row in value[:_ROWS]]
        return _table(f"JSON, {len(value):,} rows", names, rows)
    return _text("JSON", json.dumps(value, indent=2, ensure_ascii=False))


def _file(payload: bytes, buffers: Sequence[Buffer]) -> dict[str, Any]:
    said = says(payload)
    about = f"a file of the format {said['format']}, read by {said['loader']}"
    data = b"".join(map(bytes, buffers))
    if _image_kind(data):
        return {"kind": "image", "about": about}
    try:
        return _text(about, data[: 4 * _LETTERS].decode())
    except UnicodeDecodeError:
        return _none(f"{about}, {len(data):,} bytes")


def _pickle(payload: bytes, buffers: Sequence[Buffer]) -> dict[str, Any]:
    if len(payload) > pickle_text.LONGEST:
        return _none(f"a pickle of {len(payload) / 1e6:,.1f} MB, which is too much to look into")
    value = pickle_text.read(payload)
    if (data := _bytes(value, buffers)) is not None:
        if _image_kind(data):
            return {"kind": "image", "about": f"{_image_kind(data)}, {len(data):,} bytes"}
        return _text(f"{len(data):,} bytes", pickle_text.scalar_text(data))
    if (array := _array_of(value, buffers)) is not None:
        return array
    about = value.what if isinstance(value, Made) else _PLAIN.get(type(value), type(value).__name__)
    if type(value) is str:
        return _text(f"text, {len(value):,} characters", value)
    return _text(about, pickle_text.text(value))


_PLAIN = {pickle_text.Pairs: "dict", pickle_text.Items: "set", Named: "a name"}


def _bytes(value: Any, buffers: Sequence[Buffer]) -> bytes | None:
    if type(value) in (bytes, bytearray):
        return bytes(value)
    if type(value) is Outside and value.at < len(buffers):
        return bytes(buffers[value.at])
    return None


def _array_of(value: Any, buffers: Sequence[Buffer]) -> dict[str, Any] | None:
    """Return an array or a number of NumPy, as its pickle says it."""
    if not isinstance(value, Made) or not value.what.startswith("numpy."):
        return None
    if value.what.endswith("._frombuffer") and len(value.given) == 4:
        data, dtype, shape, order = value.given
        raw = _bytes(data, buffers)
        return None if raw is None else _array(_dtype(dtype), shape, order == "F", raw)
    if value.what.endswith(".scalar") and len(value.given) == 2:
        raw = _bytes(value.given[1], buffers)
        return None if raw is None else _array(_dtype(value.given[0]), (), False, raw)
    return None


def _dtype(made: Any) -> str:
    """Return the type of an array's items, from its pickle: `<f8`."""
    if isinstance(made, Made) and made.what == "numpy.dtype" and type(made.given[0]) is str:
        order = made.state[1] if type(made.state) is tuple and len(made.state) > 1 else "|"
        return f"{order if order in ('<', '>') else '|'}{made.given[0].lstrip('<>|=')}"
    raise ValueError("an array of no plain type")


_DTYPE = re.compile(r"[<>|=]?[biufcSU?]\d{0,5}|[<>|=]?[mM]8(\[[a-zA-Z0-9]{1,8}\])?")


def _array(dtype: str, shape: Any, fortran: bool, data: Buffer) -> dict[str, Any]:
    if type(shape) is int:
        shape = (shape,)
    if not (type(shape) is tuple and all(type(n) is int and n >= 0 for n in shape)):
        raise ValueError("an array of no shape")
    about = f"array of {dtype}, {' x '.join(f'{n:,}' for n in shape) or 'a number'}"
    if _DTYPE.fullmatch(dtype) is None:
        return _none(about)
    # Who has kept arrays has it.
    import numpy as np

    flat = np.frombuffer(data, np.dtype(dtype))
    array = flat.reshape(shape, order="F" if fortran else "C")
    if array.ndim == 0:
        return _text(about, str(array[()]))
    while array.ndim > 2:
        array, about = array[0], f"{about}; the first of it"
    if array.ndim == 1:
        names, some = ["", "value"], array[:_ROWS]
        rows = [[f"{i}", _cell(value)] for i, value in enumerate(some.tolist())]
    else:
        some = array[:_ROWS, :_COLUMNS]
        names = ["", *map(str, range(some.shape[1]))]
        rows = [[f"{i}", *map(_cell, row)] for i, row in enumerate(some.tolist())]
    if array.size and array.dtype.kind in "iuf":
        about += f"; from {_cell(array.min().item())} to {_cell(array.max().item())}"
    return _table(about, names, rows)


def _npy(payload: bytes, buffers: Sequence[Buffer]) -> dict[str, Any]:
    if payload[:8] != b"\x93NUMPY\x02\x00":
        raise ValueError("no array in NumPy's format")
    (length,) = struct.unpack("<I", payload[8:12])
    if length > 1 << 16:
        raise ValueError("a header that is too long")
    said = ast.literal_eval(payload[12 : 12 + length].decode("latin-1"))
    data = buffers[0] if buffers else payload[12 + length :]
    return _array(str(said["descr"]), said["shape"], bool(said["fortran_order"]), data)


def _arrow(payload: bytes, buffers: Sequence[Buffer]) -> dict[str, Any]:
    from wellkept.codecs.arrow import require

    line, _, rest = payload.partition(b"\n")
    stream, arrow = (buffers[0] if buffers else rest), require()
    if bytes(stream[:6]) == b"ARROW1":
        batch = arrow.ipc.open_file(arrow.py_buffer(stream)).get_batch(0)
    else:
        batch = arrow.ipc.open_stream(arrow.py_buffer(stream)).read_next_batch()
    said = json.loads(line)
    names = [str(name) for name in batch.schema.names[:_COLUMNS]]
    some = batch.slice(0, _ROWS)
    columns = [some.column(i).to_pylist() for i in range(len(names))]
    rows = [[_cell(value) for value in row] for row in zip(*columns, strict=True)]
    about = f"{said.get('kind', 'frame')} of {batch.num_rows:,} x {batch.num_columns:,}"
    return _table(about, names, rows)


def _table(about: str, columns: list[str], rows: list[list[str]]) -> dict[str, Any]:
    return {"kind": "table", "about": about, "columns": columns, "rows": rows}


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    text = value if isinstance(value, str) else pickle_text.scalar_text(value)
    return text if len(text) <= 60 else f"{text[:59]}…"


_SHOWN = {
    "json": _json,
    "npy": _npy,
    "arrow": _arrow,
    "file": _file,
    "pickle": _pickle,
    "plain": _pickle,
    "cloudpickle": _pickle,
    "dill": _pickle,
}
