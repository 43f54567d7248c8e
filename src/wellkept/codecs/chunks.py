"""Arrays in chunks, which are read when they are asked for: dask's, zarr's, and xarray's objects over dask's.

The payload is a pickle of plain data, which is read without running anything. It says what there is, and of
each piece its size and its digest. Pieces lie one after the other in buffers: small ones share a buffer.
"""

from __future__ import annotations

import itertools
import json
import math
import mmap
import operator
import pickle
import tempfile
import threading
import uuid
from array import array as numbers
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from importlib import import_module
from typing import Any

from blake3 import blake3

from wellkept.codecs import npy, safe_pickle
from wellkept.codecs import pickle as plain_pickle
from wellkept.codecs.envelope import Refused
from wellkept.codecs.pickle import LARGE
from wellkept.errors import DecodeError, EncodeError
from wellkept.hashing import buffer_digest, digest_bytes
from wellkept.hashing.lazy import content_of, keys_of, mark, visit
from wellkept.records import Buffer, Value

_VERSION = 1
_DIGEST = 32


def encode(value: Any) -> Value:
    """Encode a dask array or frame, a zarr array or group, or a Dataset or DataArray of xarray.

    What is computed or read for it goes to an unnamed temporary file, chunk by chunk, and is mapped from there.

    Raises:
        EncodeError: the value is of another type, or would come back changed.
        ConfigError: NumPy is not installed.
    """
    require()
    kind = _kind(value)
    if kind not in _WRITERS:
        raise EncodeError(
            "the chunks codec holds dask arrays and frames, zarr arrays and groups, Datasets and DataArrays "
            f"of xarray, not a {type(value).__qualname__}; use the default codec"
        )
    pieces = _Written()
    try:
        return pieces.value({"kind": kind, **_WRITERS[kind](value, pieces)})
    except EncodeError:
        raise
    except Exception as error:
        raise EncodeError(
            f"the chunks codec can't hold this {type(value).__qualname__}: {type(error).__name__}: {error}"
        ) from error


def is_on_demand(value: Any) -> bool:
    """Return whether a value of this codec is not in memory, at least in part."""
    kind = _kind(value)
    if kind.startswith("xarray."):
        if kind not in _WRITERS:
            return False
        held = list(value.variables.values()) if kind == "xarray.Dataset" else [value.variable]
        held += [coord.variable for coord in value.coords.values()]
        return any(each.chunks is not None for each in held)
    return kind in _WRITERS


def _kind(value: Any) -> str:
    return f"{type(value).__module__.partition('.')[0]}.{type(value).__qualname__}"


def decode(payload: Buffer, buffers: Sequence[Buffer]) -> Any:
    """Return the value. A piece of it is taken out of `buffers` when it is read, and not before.

    Raises:
        DecodeError: these bytes are no such value, or its library is not installed.
    """
    return _decoded(payload, buffers, signed=True)


def decode_plain(payload: Buffer, buffers: Sequence[Buffer]) -> Any:
    """Return an unsigned value from elsewhere; raises as `decode`.

    What it says of the digests of its pieces is not believed, as it could pass for another value.
    """
    return _decoded(payload, buffers, signed=False)


def _decoded(payload: Buffer, buffers: Sequence[Buffer], *, signed: bool) -> Any:
    try:
        about = safe_pickle.decode(payload, ())
        version = int(about["version"])
        if version == _VERSION:
            held = buffers if about["inline"] is None else (about["inline"],)
            pieces = Pieces(about["sizes"], about["digests"] if signed else None, held)
            return _READERS[about["kind"]](about, pieces)
    except DecodeError:
        raise
    except Exception as error:
        raise DecodeError(
            f"can't decode a value that is kept in chunks: {type(error).__name__}: {error}"
        ) from error
    raise DecodeError(f"a newer wellkept wrote this value (format {version}): upgrade wellkept")


def require() -> Any:
    """Import NumPy and return it.

    Raises:
        ConfigError: it is not installed.
    """
    return npy.require()


# -- pieces ---------------------------------------------------------------------------------------


def _places(sizes: Iterable[int]) -> list[tuple[int, int]]:
    """Return which buffer each piece is in, and where in it. A buffer of several is at most twice `LARGE`."""
    places, buffer, at = [], 0, 0
    for size in sizes:
        if at and size and (at >= LARGE or size >= LARGE):
            buffer, at = buffer + 1, 0
        places.append((buffer, at))
        at += size
    return places


class _Written:
    """The pieces of a value that is being encoded, in a temporary file that has no name."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile(prefix="wellkept-")  # noqa: SIM115  it lives as long as this
        self._lock = threading.Lock()
        self.sizes: list[int] = []
        self.digests: list[bytes] = []
        self._starts: list[int] = []
        self._end = 0

    def reserve(self, sizes: Sequence[int]) -> int:
        """Make room for pieces, which may then be put in any order; return the number of the first."""
        first = len(self.sizes)
        self._starts += itertools.accumulate(sizes[:-1], initial=self._end) if sizes else ()
        self.sizes += sizes
        self.digests += [b""] * len(sizes)
        self._end += sum(sizes)
        return first

    def put(self, n: int, content: Any, digest: bytes) -> None:
        view = memoryview(content)
        with self._lock:
            self._file.seek(self._starts[n])
            self._file.write(view)
            self.digests[n] = digest

    def add(self, content: Any, digest: bytes | None = None) -> int:
        """Add a piece, whose digest is by default the BLAKE3 of it; return its number."""
        with self._lock:
            n = self.reserve([memoryview(content).nbytes])
        self.put(n, content, buffer_digest(content) if digest is None else digest)
        return n

    def value(self, about: dict[str, Any]) -> Value:
        """Return the encoded value.

        Raises:
            EncodeError: there is something in it that is not read back without running code.
        """
        self._file.flush()
        inline, buffers = None, list[Buffer]()
        if self._end < LARGE:
            self._file.seek(0)
            inline = self._file.read()
        else:
            whole = memoryview(mmap.mmap(self._file.fileno(), self._end, access=mmap.ACCESS_READ))
            places = _places(self.sizes)
            # A piece of no bytes begins where the next one does.
            begun = {start for (_, at), start in zip(places, self._starts, strict=True) if not at}
            starts = sorted(begun)
            ends = [*starts[1:], self._end]
            buffers = [whole[start:end] for start, end in zip(starts, ends, strict=True)]
        self._file.close()
        head = {
            "version": _VERSION,
            **about,
            "sizes": numbers("Q", self.sizes).tobytes(),
            "digests": b"".join(self.digests),
            "inline": inline,
        }
        payload = pickle.dumps(head, 5)
        try:
            safe_pickle.decode(payload, ())
        except Refused as error:
            raise EncodeError(
                f"the chunks codec holds plain data beside its chunks: {error}"
            ) from error
        return Value("chunks", payload, buffers)


class Pieces:
    """The pieces of a value that is decoded.

    Args:
        sizes: of each, in bytes; 8 bytes a number.
        digests: 32 bytes of each; None if they are not to be believed.
        buffers: where the pieces are.
    """

    def __init__(self, sizes: bytes, digests: bytes | None, buffers: Sequence[Buffer]) -> None:
        self._sizes = numbers("Q")
        self._sizes.frombytes(sizes)
        self._places = _places(self._sizes)
        self._digests, self._buffers = digests, buffers
        alone = Counter(buffer for buffer, _ in self._places)
        self._alone = {buffer for buffer, count in alone.items() if count == 1}
        if digests is not None and len(digests) != _DIGEST * len(self._sizes):
            raise DecodeError("a value that is kept in chunks has not a digest for each")

    def __len__(self) -> int:
        return len(self._sizes)

    def __getitem__(self, n: int) -> Buffer:
        """Return a piece, as memory that belongs to the caller."""
        buffer, at = self._places[n]
        held = memoryview(self._buffers[buffer]).cast("B")
        piece = held[at : at + self._sizes[n]]
        if len(piece) != self._sizes[n]:
            raise DecodeError("a chunk of a kept value is cut short")
        # Buffers that are loaded anew each time are nobody else's.
        if type(self._buffers) in (list, tuple) or buffer not in self._alone or piece.readonly:
            return bytearray(piece)
        return piece

    def digest(self, n: int) -> bytes | None:
        """Return the digest of a piece, without reading it, if it is known."""
        return None if self._digests is None else self._digests[n * _DIGEST :][:_DIGEST]


# -- dask -----------------------------------------------------------------------------------------


def _add_dask(value: Any, pieces: _Written) -> dict[str, Any]:
    """Compute a dask array into pieces, one a chunk; return what its chunks are."""
    np = require()
    dtype = value.dtype
    if not npy.exact(np, dtype):
        raise EncodeError(f"the chunks codec can't hold the dtype {dtype}")
    if any(math.isnan(size) for axis in value.chunks for size in axis):
        raise EncodeError(
            "the chunks codec holds arrays whose chunks have known sizes: call compute_chunk_sizes() first"
        )
    chunks = tuple(tuple(int(size) for size in axis) for axis in value.chunks)
    shapes = list(itertools.product(*chunks))
    first = pieces.reserve([math.prod(shape) * dtype.itemsize for shape in shapes])
    number = False

    def see(n: int, block: Any) -> None:
        nonlocal number
        # A reduction to nothing gives a number.
        number = isinstance(block, np.generic)
        plain = np.asarray(block) if number else block
        if type(plain) is not np.ndarray or (plain.dtype, plain.shape) != (dtype, shapes[n]):
            what = f"{type(block).__qualname__} of {getattr(block, 'dtype', None)}"
            raise EncodeError(
                f"a chunk of this array is a {what} with the shape {getattr(block, 'shape', None)}, and should "
                f"be a NumPy array of {dtype} with the shape {shapes[n]}"
            )
        flat = np.ascontiguousarray(plain).reshape(-1)
        pieces.put(first + n, flat.view(np.uint8) if flat.nbytes else b"", digest_bytes(block))

    visit(value, see)
    descr = np.lib.format.dtype_to_descr(dtype)
    return {"dtype": descr, "chunks": chunks, "first": first, "number": number}


class _Chunks:
    """Reads the chunks of one array; it is what the tasks of a loaded dask array call."""

    def __init__(self, about: dict[str, Any], pieces: Pieces) -> None:
        self._about, self._pieces = about, pieces

    def __getitem__(self, n: int) -> Any:
        np, about = require(), self._about
        chunks = about["chunks"]
        place = np.unravel_index(n, tuple(map(len, chunks))) if chunks else ()
        shape = tuple(axis[at] for axis, at in zip(chunks, place, strict=True))
        found = _as_array(self._pieces[about["first"] + n], about["dtype"], shape)
        return found[()] if about["number"] else found


def _as_array(content: Buffer, descr: Any, shape: tuple[int, ...]) -> Any:
    np = require()
    dtype = np.lib.format.descr_to_dtype(descr)
    if dtype.hasobject:
        raise DecodeError("a kept chunk is of objects, which wellkept does not write")
    if math.prod(shape) * dtype.itemsize != memoryview(content).nbytes:
        raise DecodeError(f"a kept chunk does not fit its shape {shape}")
    flat = np.frombuffer(content, np.uint8).view(dtype) if len(content) else np.empty(0, dtype)
    return flat.reshape(shape)


def _dask(about: dict[str, Any], pieces: Pieces) -> Any:
    da: Any = import_module("dask.array")
    graphs: Any = import_module("dask.highlevelgraph")
    np = require()
    chunks, first = tuple(map(tuple, about["chunks"])), int(about["first"])
    # Counted before they are listed: whoever wrote this may have meant to fill memory.
    if not 0 <= first <= first + math.prod(map(len, chunks)) <= len(pieces):
        raise DecodeError("a kept array has not as many chunks as it says")
    places = list(itertools.product(*(range(len(axis)) for axis in chunks)))
    dtype = np.lib.format.descr_to_dtype(about["dtype"])
    digests = [pieces.digest(first + n) for n in range(len(places))]
    said = [one for one in digests if one is not None]
    name = f"wellkept-{_token(about['dtype'], chunks, said)}"
    source = _Chunks(about, pieces)
    tasks = {(name, *place): (operator.getitem, source, n) for n, place in enumerate(places)}
    graph = graphs.HighLevelGraph.from_collections(name, tasks)
    made = da.Array(graph, name, chunks, meta=np.empty((0,) * len(chunks), dtype))
    if len(said) == len(places):
        mark(made, name, said)
    return made


def _token(*content: Any) -> str:
    """Return what dask may name tasks by, which takes tasks of one name for one task."""
    if not content[-1]:
        # What the digests are of is not known to be what they say.
        return uuid.uuid4().hex
    return blake3(repr(content).encode()).hexdigest()


def _write_frame(value: Any, pieces: _Written) -> dict[str, Any]:
    """Compute a dask frame into pieces, one a partition."""
    found: dict[int, int] = {}

    def see(n: int, part: Any) -> None:
        found[n] = pieces.add(_packed(part), digest_bytes(part))

    visit(value, see)
    numbers = [found[n] for n in range(len(found))]
    meta, divisions = _packed(value._meta), tuple(value.divisions)
    return {"meta": meta, "divisions": divisions, "numbers": numbers}


def _packed(part: Any) -> bytes:
    """Return a partition as a pickle that is read without running anything."""
    value = plain_pickle.encode(part)
    packed = pickle.dumps((value.head, [bytes(buffer) for buffer in value.buffers]), 5)
    try:
        _unpacked(packed)
    except Refused as error:
        raise EncodeError(f"the chunks codec holds frames of plain data: {error}") from error
    return packed


def _unpacked(packed: Buffer) -> Any:
    head, buffers = safe_pickle.decode(packed, ())
    return safe_pickle.decode(head, [bytearray(buffer) for buffer in buffers])


class _Partitions:
    """Reads the partitions of one frame; see `_Chunks`."""

    def __init__(self, token: str, pieces: Pieces) -> None:
        self._token, self._pieces = token, pieces

    def __call__(self, n: int) -> Any:
        return _unpacked(self._pieces[n])

    def __dask_tokenize__(self) -> str:
        return self._token


def _read_frame(about: dict[str, Any], pieces: Pieces) -> Any:
    frames: Any = import_module("dask.dataframe")
    numbers, divisions = list(about["numbers"]), tuple(about["divisions"])
    meta = _unpacked(about["meta"])
    digests = [pieces.digest(n) for n in numbers]
    said = [one for one in digests if one is not None]
    read = _Partitions(_token(about["meta"], divisions, said), pieces)
    made = frames.from_map(read, numbers, meta=meta, divisions=divisions, label="wellkept")
    if len(said) == len(numbers):
        mark(made, made._name, said)
    return made


# -- zarr -----------------------------------------------------------------------------------------


def _write_zarr(value: Any, pieces: _Written) -> dict[str, Any]:
    # Loaded with zarr.
    from wellkept.codecs.zarr_store import check, is_document

    place = value.store_path
    keys, documents = [], {}
    for key in keys_of(place.store, place.path):
        content = content_of(place.store, key)
        if is_document(key):
            documents[key] = bytes(content)
        else:
            keys.append(key)
            pieces.add(content)
    check(documents)
    about = {"kind": _kind(value), "path": place.path, "format": value.metadata.zarr_format}
    shown = digest_bytes(_shown(value))
    own = getattr(value.metadata, "consolidated_metadata", None) is not None
    # What a group was told of those inside may be its parent's, and it has none itself.
    for consolidated in dict.fromkeys((own, False)):
        about["consolidated"] = consolidated
        with suppress(ValueError):
            if digest_bytes(_shown(_opened(place.store, about))) == shown:
                return about | {"keys": keys, "documents": documents}
    raise EncodeError(f"the metadata of {place} were changed after this was opened: open it again")


def _shown(value: Any) -> Any:
    """Return what a zarr array or group shows of its metadata, and of those of what is inside."""
    inside = value.members(max_depth=None) if _kind(value) == "zarr.Group" else ()
    found = {name: member.metadata.to_dict() for name, member in (("", value), *inside)}
    for said in found.values():
        said.pop("consolidated_metadata", None)
    return found


def _opened(store: Any, about: dict[str, Any]) -> Any:
    zarr: Any = import_module("zarr")
    where = {"path": about["path"], "mode": "r", "zarr_format": about["format"]}
    if about["kind"] == "zarr.Array":
        return zarr.open_array(store, **where)
    return zarr.open_group(store, **where, use_consolidated=bool(about["consolidated"]))


def _read_zarr(about: dict[str, Any], pieces: Pieces) -> Any:
    # Loaded with zarr.
    from wellkept.codecs.zarr_store import PieceStore

    return _opened(PieceStore(pieces, about["keys"], about["documents"]), about)


# -- xarray ---------------------------------------------------------------------------------------

_ITSELF = "wellkept:array"
"""The name under which a DataArray's own values stand among its coordinates."""


def _write_xarray(value: Any, pieces: _Written) -> dict[str, Any]:
    np = require()
    single = type(value).__qualname__ == "DataArray"
    whole = value.to_dataset(name=_ITSELF) if single else value
    variables: dict[Any, Any] = {}
    read: dict[Any, Any] = {}
    for name, variable in whole.variables.items():
        encoding, codecs = _without_codecs(variable.encoding)
        about = {"dims": variable.dims, "attrs": dict(variable.attrs), "encoding": encoding}
        if variable.chunks is not None:
            about["chunks"] = _add_dask(variable.data, pieces)
        else:
            # What is read on demand, and in no chunks, is an array as soon as it is looked at.
            # An index of pandas is more than its values: it has a frequency, for example.
            index = getattr(variable._data, "array", None)
            own = isinstance(index, import_module("pandas").Index)
            held: Any = index if own else variable.values
            read[name] = held
            if own or held.nbytes < LARGE or not npy.exact(np, held.dtype):
                about["data"] = held
            else:
                flat = np.ascontiguousarray(held).reshape(-1).view(np.uint8)
                about["dtype"] = np.lib.format.dtype_to_descr(held.dtype)
                about["shape"], about["piece"] = held.shape, pieces.add(flat)
        variables[name] = about | {"codecs": codecs}
    encoding, codecs = _without_codecs(whole.encoding)
    about = {
        "variables": variables,
        "coords": list(whole.coords),
        "indexes": list(whole.xindexes),
        "attrs": dict(whole.attrs),
        "encoding": encoding,
        "codecs": codecs,
        "name": value.name if single else None,
    }
    there = whole.drop_vars([name for name in variables if name not in read])
    if digest_bytes(_assembled(about, read)) != digest_bytes(there):
        raise EncodeError(
            f"the chunks codec would change this {type(value).__qualname__}: it holds coordinates with plain "
            "indexes (reset_index() makes plain coordinates of a MultiIndex), and variables of NumPy or dask"
        )
    return about


def _read_xarray(about: dict[str, Any], pieces: Pieces) -> Any:
    data = {}
    for name, one in about["variables"].items():
        if "chunks" in one:
            data[name] = _dask(one["chunks"], pieces)
        elif "piece" in one:
            data[name] = _as_array(pieces[one["piece"]], one["dtype"], one["shape"])
        else:
            data[name] = one["data"]
    whole = _assembled(about, data)
    if about["kind"] == "xarray.Dataset":
        return whole
    found = whole[_ITSELF]
    found.name = about["name"]
    return found


def _assembled(about: dict[str, Any], data: dict[Any, Any]) -> Any:
    """Return the dataset of those variables for which there is data."""
    xarray: Any = import_module("xarray")
    made: dict[Any, Any] = {}
    for name, one in about["variables"].items():
        if name in data:
            encoding = _with_codecs(one["encoding"], one["codecs"])
            made[name] = xarray.Variable(one["dims"], data[name], one["attrs"], encoding)
    coords = {name: made.pop(name) for name in about["coords"] if name in made}
    whole = xarray.Dataset(made, coords, about["attrs"])
    whole.encoding = _with_codecs(about["encoding"], about["codecs"])
    return whole.drop_indexes([name for name in whole.xindexes if name not in about["indexes"]])


def _without_codecs(encoding: Any) -> tuple[dict[Any, Any], dict[Any, Any]]:
    """Return an encoding without zarr's codecs, which are no plain data, and what those are made from."""
    plain, codecs = dict(encoding), {}
    for name, held in encoding.items():
        each = held if isinstance(held, (list, tuple)) else (held,)
        texts = [
            json.dumps(one.to_dict())
            for one in each
            if type(one).__module__.startswith("zarr.codecs.")
        ]
        if texts and len(texts) == len(each):
            del plain[name]
            codecs[name] = texts, type(held).__name__ if each is held else ""
    return plain, codecs


def _with_codecs(plain: dict[Any, Any], codecs: dict[Any, Any]) -> dict[Any, Any]:
    made = dict(plain)
    for name, (texts, row) in codecs.items():
        # Loaded with zarr.
        from wellkept.codecs.zarr_store import codec

        found = [codec(json.loads(text)) for text in texts]
        made[name] = found[0] if not row else tuple(found) if row == "tuple" else found
    return made


_WRITERS: dict[str, Callable[[Any, _Written], dict[str, Any]]] = {
    "dask.Array": _add_dask,
    "dask.DataFrame": _write_frame,
    "zarr.Array": _write_zarr,
    "zarr.Group": _write_zarr,
    "xarray.Dataset": _write_xarray,
    "xarray.DataArray": _write_xarray,
}
_READERS: dict[str, Callable[[dict[str, Any], Pieces], Any]] = {
    "dask.Array": _dask,
    "dask.DataFrame": _read_frame,
    "zarr.Array": _read_zarr,
    "zarr.Group": _read_zarr,
    "xarray.Dataset": _read_xarray,
    "xarray.DataArray": _read_xarray,
}
