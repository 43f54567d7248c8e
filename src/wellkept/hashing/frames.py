"""Reducers of Arrow's columns, data frames of pandas and polars, and xarray's labelled arrays."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any

from blake3 import blake3

from wellkept.hashing.arrays import content, dtype_text
from wellkept.hashing.buffers import (
    PARALLEL,
    Known,
    buffer_digest,
    joined,
    known_digest,
    new_hasher,
)
from wellkept.hashing.names import Refused, class_name, library_name
from wellkept.hashing.reducers import (
    NOTHING_HELPS,
    Reducer,
    generic,
    library_of,
    own_attributes,
    slots_beside,
    slots_held,
)

_OF_BYTES = frozenset({"string", "large_string", "binary", "large_binary"})
# Rows whose offsets or validity are worked out at a time.
_MANY = 1 << 20


def column(data: Any, known: Known | None, *, codes: bool = True) -> tuple[Any, ...]:
    """Return what an Array or ChunkedArray holds: (type, rows, nulls, content).

    Args:
        codes: whether it counts in which order the values of a dictionary are, and which are unused.
    """
    pa = sys.modules["pyarrow"]
    chunks = data.chunks if isinstance(data, pa.ChunkedArray) else [data]
    return (_described(data.type), len(data), *_part(data.type, chunks, known, codes))


def _described(kind: Any) -> Any:
    """Return a type: its text, with what that leaves out: metadata of fields, parameters of extensions."""
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
    elif hasattr(kind, "value_type"):
        # It is a dictionary, or has runs of equal values.
        return _more(kind.value_type)
    found = [(dict(field.metadata or {}), _more(field.type)) for field in fields]
    return found if any(each != ({}, None) for each in found) else None


def _part(kind: Any, chunks: list[Any], known: Known | None, codes: bool) -> tuple[Any, ...]:
    return _chunks(kind, [chunk for chunk in chunks if len(chunk)], known, codes)


def _chunks(kind: Any, chunks: list[Any], known: Known | None, codes: bool) -> tuple[Any, ...]:
    """Return (nulls, content) of chunks of one type, none of them empty."""
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
    """Return the values and the codes: of all chunks together where they share the values."""
    # Dictionaries that were met, and what they hold.
    made: list[tuple[Any, Any]] = []
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
    """Return the bytes of an element, if all have the same; otherwise None."""
    types = sys.modules["pyarrow"].types
    if types.is_nested(kind) or types.is_dictionary(kind):
        return None
    try:
        bits = int(kind.bit_width)
    except ValueError:
        return None
    return bits // 8 if bits and bits % 8 == 0 else None


def _validity(chunks: list[Any]) -> bytes | None:
    """Return the BLAKE3 of a byte for each row, 1 if it has a value; None if all rows have one."""
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
    """Return the same elements with zero bytes under the nulls."""
    pa = sys.modules["pyarrow"]
    blank = pa.Array.from_buffers(kind, 1, [None, pa.py_buffer(bytes(width))])
    compute = import_module("pyarrow.compute")
    return compute.if_else(chunk.is_valid(), chunk, blank[0])


def _texts(kind: Any, chunks: list[Any], known: Known | None) -> tuple[bytes, bytes]:
    """Return the BLAKE3 of the ends of the elements (int64, counted from the first), and of the bytes."""
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


_ARROW: dict[str, Reducer] = {
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


def _dtype(value: Any) -> Any:
    """Return what a pandas dtype is: its class, its text, and what the text leaves out."""
    numpy = sys.modules["numpy"]
    if isinstance(value, numpy.dtype):
        return dtype_text(value)
    if not is_pandas(type(value)):
        # what tells two of its dtypes apart is for its author to say
        held = {name: getattr(value, name, None) for name in getattr(value, "_metadata", ())}
        return (library_name(type(value)), str(value), *([held] if held else ()))
    storage = getattr(value, "storage", None)
    if storage is not None:
        return library_name(type(value)), str(value), storage, value.na_value
    return library_name(type(value)), str(value)


def is_pandas(kind: type) -> bool:
    """Return whether a class is pandas' own."""
    return library_of(kind) == "pandas"


# Frequencies that are nothing but their text.
_ORDINARY = frozenset({"Day", "Hour", "Minute", "Second", "Milli", "Micro", "Nano"})


def _frequency(freq: Any) -> Any:
    """Return the text of a frequency; itself where the text leaves something out, such as holidays."""
    if freq is None or type(freq).__name__ in _ORDINARY:
        return None if freq is None else freq.freqstr
    try:
        known = sys.modules["pandas"].tseries.frequencies.to_offset(freq.freqstr)
    except Exception:  # noqa: BLE001  an offset of another library says what it likes
        known = None
    return freq.freqstr if known is not None and known == freq else freq


def _values(array: Any, known: Known | None) -> Any:
    """Return the elements of a column: a numpy array, one of pandas' own, or one of another library."""
    numpy = sys.modules["numpy"]
    if isinstance(array, numpy.ndarray):
        return dtype_text(array.dtype), content(array, known)
    kind = type(array).__name__
    dtype = _dtype(array.dtype)
    if not is_pandas(type(array)):
        return "k2:extension", dtype, generic(type(array))(array, known)
    if hasattr(array, "_pa_array") and hasattr(array, "__arrow_array__"):
        return dtype, column(array.__arrow_array__(), known)
    if kind == "Categorical":
        return dtype, array.ordered, array.categories, content(array.codes, known)
    if kind in ("BooleanArray", "IntegerArray", "FloatingArray"):
        mask = array.isna() if not hasattr(array, "_mask") else array._mask
        data = array.to_numpy(dtype=array.dtype.numpy_dtype, na_value=0)
        return dtype, content(data, known), content(numpy.asarray(mask), known)
    if kind in ("DatetimeArray", "TimedeltaArray"):
        freq = getattr(array, "freq", None)
        raw = array.view("i8") if hasattr(array, "view") else array.asi8
        return dtype, _zone(array), _frequency(freq), content(numpy.asarray(raw), known)
    if kind == "PeriodArray":
        return dtype, content(numpy.asarray(array.asi8), known)
    if kind == "IntervalArray":
        return dtype, array.closed, array.left, array.right
    if kind == "SparseArray":
        return dtype, array.fill_value, content(numpy.asarray(array), known)
    if kind in ("StringArray", "ObjectStringArrayMixin", "NumpyExtensionArray"):
        return dtype, _objects(array)
    return dtype, list(array)


def _objects(array: Any) -> Any:
    items = array.to_numpy(dtype=object).tolist()
    return joined(items) or items


def _zone(array: Any) -> Any:
    """Return a zone's own text; the dtype's leaves out how it is made."""
    zone = getattr(array, "tz", None)
    return None if zone is None else (class_name(type(zone)), str(zone))


def _columns(frame: Any) -> list[Any]:
    quick = getattr(frame, "_get_column_array", None)
    if quick is not None:
        return [quick(number) for number in range(frame.shape[1])]
    return [frame.iloc[:, number].array for number in range(frame.shape[1])]


def _extra(value: Any) -> Any:
    """Return what a frame carries beside its data: attrs, flags, and what a subclass declares."""
    known = [value.attrs, value.flags.allows_duplicate_labels]
    names = [name for name in type(value)._metadata if name not in ("_name", "name")]
    return [*known, {name: getattr(value, name, None) for name in names}]


# What pandas keeps in the `__dict__` of frames, series and indexes.
_OWN = frozenset(
    (
        "_mgr",
        "_attrs",
        "_flags",
        "_name",
        "_item_cache",
        "_is_copy",
        "_cacher",
        "_cache",
        "_id",
        "_data",
        "_codes",
        "_levels",
        "_names",
        "_references",
        "_range",
        "_typ",
        "sortorder",
        "_index",
        "_engine",
        "_freq",
        "_tz",
        "_dtype",
        "_cached_data",
        "name",
    )
)


def _whole(value: Any, tag: str, *content: Any) -> tuple[Any, ...]:
    """Return the reduction of a frame, series or index, with attributes that a program gave it."""
    kind = type(value)
    if value.__dict__.keys() <= _OWN:
        return tag, library_name(kind), *content
    declared = getattr(kind, "_metadata", ())
    added = {
        name: item
        for name, item in value.__dict__.items()
        if name not in _OWN
        and name not in declared
        and not type(vars_of(kind, name)).__name__.endswith("Accessor")
    }
    if added:
        tag, content = second_scheme(tag), (*content, added)
    return tag, library_name(kind), *content


def vars_of(kind: type, name: str) -> Any:
    """Return what a class or one of its bases holds under a name, as it is; None if nothing."""
    return next((base.__dict__[name] for base in kind.__mro__ if name in base.__dict__), None)


def second_scheme(tag: str) -> str:
    """Return a tag with the prefix of what the scheme k1 left out."""
    return tag if tag.startswith("k2:") else f"k2:{tag}"


def _frame(value: Any, known: Known | None) -> tuple[Any, ...]:
    return _whole(
        value,
        "pandas frame",
        value.columns,
        value.index,
        [_values(array, known) for array in _columns(value)],
        *_extra(value),
    )


def _series(value: Any, known: Known | None) -> tuple[Any, ...]:
    numpy = sys.modules["numpy"]
    data = value.array
    if type(data).__name__ in ("NumpyExtensionArray", "PandasArray"):
        data = value.to_numpy() if isinstance(value.dtype, numpy.dtype) else data
    return _whole(
        value,
        "pandas series",
        value.name,
        value.index,
        _values(data, known),
        *_extra(value),
    )


def _index(value: Any, known: Known | None) -> tuple[Any, ...]:
    name = type(value).__name__
    if name == "RangeIndex":
        return _whole(value, "pandas index", value.name, value.start, value.stop, value.step)
    if isinstance(value, sys.modules["pandas"].MultiIndex):
        return _whole(
            value,
            "k2:pandas index",
            tuple(value.names),
            list(value.levels),
            [content(codes.astype("<i8"), known) for codes in value.codes],
            value.sortorder,
        )
    freq = _frequency(getattr(value, "freq", None)) if name in TIMES else None
    tag = "pandas index" if freq is None or type(freq) is str else "k2:pandas index"
    return _whole(value, tag, value.name, freq, _values(_plain(value), known))


TIMES = ("DatetimeIndex", "TimedeltaIndex")


def _plain(index: Any) -> Any:
    numpy = sys.modules["numpy"]
    if isinstance(index.dtype, numpy.dtype) and index.dtype.kind not in "mM":
        return index.to_numpy()
    return index.array


def _extension(value: Any, known: Known | None) -> tuple[Any, ...]:
    return "pandas array", library_name(type(value)), len(value), _values(value, known)


def _timestamp(value: Any, known: Known | None) -> tuple[Any, ...]:
    if value is sys.modules["pandas"].NaT:
        return "global", "pandas", "NaT"
    return "timestamp", int(value._value), value.unit, value.fold, value.tzinfo


def _timedelta(value: Any, known: Known | None) -> tuple[Any, ...]:
    return "timedelta64", int(value._value), value.unit


def _pandas_dtype(value: Any, known: Known | None) -> tuple[Any, ...]:
    if type(value).__name__ == "CategoricalDtype":
        return "pandas dtype", "category", value.categories, value.ordered
    return "pandas dtype", _dtype(value)


def _polars_series(data: Any, known: Known | None) -> Any:
    # The codes of a categorical depend on what else the process has met, so they don't count.
    kind = str(data.dtype)
    try:
        return kind, column(data.to_arrow(), known, codes=False)
    except Exception as error:
        if "Object" not in kind:
            raise Refused(
                f"a polars column of {kind} has no digest ({error}): {NOTHING_HELPS}"
            ) from error
        return kind, data.to_list()


def _polars(value: Any, known: Known | None) -> tuple[Any, ...]:
    if type(value).__name__ == "Series":
        return "polars series", library_name(type(value)), value.name, _polars_series(value, known)
    columns = [_polars_series(data, known) for data in value.get_columns()]
    return "polars frame", library_name(type(value)), tuple(value.columns), value.height, columns


def _polars_type(value: Any, known: Known | None) -> tuple[Any, ...]:
    return "polars type", str(value)


def _lazy(value: Any, known: Known | None) -> tuple[Any, ...]:
    raise Refused(f"a LazyFrame is a plan, not data: collect() it, or {NOTHING_HELPS}")


def _expression(value: Any, known: Known | None) -> tuple[Any, ...]:
    # A function of Python stands in it as cloudpickle writes it: by its name, or by its byte code.
    if b"PLPYFN" in value.__getstate__():
        raise Refused(
            f"a polars expression that calls a function of Python hides its code: {NOTHING_HELPS}"
        )
    reduce = _expressions.get(type(value))
    if reduce is None:
        reduce = _expressions[type(value)] = generic(type(value))
    return reduce(value, known)


_expressions: dict[type[Any], Reducer] = {}

EXACT: dict[str, Reducer] = {
    "pandas._libs.tslibs.nattype.NaTType": lambda value, known: ("global", "pandas", "NaT"),
    "pandas.NaT": lambda value, known: ("global", "pandas", "NaT"),
    "pandas._libs.missing.NAType": lambda value, known: ("global", "pandas", "NA"),
    "pandas.api.typing.NAType": lambda value, known: ("global", "pandas", "NA"),
    "pandas.api.typing.NaTType": lambda value, known: ("global", "pandas", "NaT"),
}
_PANDAS: dict[str, Reducer] = {
    "pandas.core.frame.DataFrame": _frame,
    "pandas.DataFrame": _frame,
    "pandas.core.series.Series": _series,
    "pandas.Series": _series,
    "pandas.core.indexes.base.Index": _index,
    "pandas.Index": _index,
    "pandas.core.arrays.base.ExtensionArray": _extension,
    "pandas.api.extensions.ExtensionArray": _extension,
    "pandas.core.dtypes.base.ExtensionDtype": _pandas_dtype,
    "pandas.api.extensions.ExtensionDtype": _pandas_dtype,
    "pandas._libs.tslibs.timestamps.Timestamp": _timestamp,
    "pandas.Timestamp": _timestamp,
    "pandas._libs.tslibs.timedeltas.Timedelta": _timedelta,
    "pandas.Timedelta": _timedelta,
}


def _variable(value: Any, known: Known | None) -> Any:
    """Return (dimensions, data, attributes), and the state that those leave out."""
    held = value._data if hasattr(value, "_data") else value.data
    numpy = sys.modules["numpy"]
    more: dict[str, Any] = {}
    data = held
    if isinstance(held, numpy.ndarray):
        pass
    elif library_of(type(held)) != "xarray":
        if hasattr(held, "__dask_graph__"):
            more["chunks"] = library_name(type(held))
    elif _is_special(getattr(held, "array", None)):
        data = held.array
    else:
        data = value.values
    if data is not held and not isinstance(data, numpy.ndarray):
        more["data"] = library_name(type(data))
    if value.encoding:
        more["encoding"] = dict(value.encoding)
    return tuple(value.dims), data, dict(value.attrs), *([more] if more else ())


def _is_special(data: Any) -> bool:
    """Return whether a pandas array or index is more than the values that it has as a numpy array."""
    pandas = sys.modules["pandas"]
    kind = type(data).__name__
    if isinstance(data, pandas.MultiIndex) or not is_pandas(type(data)):
        return False
    if isinstance(data, pandas.Index) and (
        kind not in ("Index", *TIMES) or getattr(data, "freq", None) is not None
    ):
        return kind != "RangeIndex"
    dtype = getattr(data, "dtype", None)
    extension = isinstance(dtype, pandas.api.extensions.ExtensionDtype)
    return extension and not isinstance(dtype, (pandas.StringDtype, pandas.DatetimeTZDtype))


def _indexes(value: Any) -> list[tuple[Any, ...]]:
    """Return which coordinates are indexed, and how; and the index, where the coordinates don't say all."""
    found: list[tuple[Any, ...]] = []
    pandas = sys.modules["pandas"]
    for name, index in value.xindexes.items():
        held = getattr(index, "index", None)
        plain = type(index).__name__ == "PandasIndex" and not (
            _is_special(held) or isinstance(held, (pandas.MultiIndex, pandas.RangeIndex))
        )
        what = () if plain else (index if held is None else held,)
        found.append((repr(name), library_name(type(index)), *what))
    return sorted(found, key=lambda each: each[0])


def _xarray_variable(value: Any, known: Known | None) -> tuple[Any, ...]:
    variable = _variable(value, known)
    tag = "xarray variable" if len(variable) == 3 else "k2:xarray variable"
    return tag, library_name(type(value)), variable


def _of_xarray(tag: str, variables: Any, indexes: list[tuple[Any, ...]]) -> str:
    exact = all(len(each) == 3 for each in variables) and all(len(each) == 2 for each in indexes)
    return tag if exact else f"k2:{tag}"


def _data_array(value: Any, known: Known | None) -> tuple[Any, ...]:
    coords = {name: _variable(held.variable, known) for name, held in value.coords.items()}
    variable, indexed = _variable(value.variable, known), _indexes(value)
    return (
        _of_xarray("xarray array", (variable, *coords.values()), indexed),
        library_name(type(value)),
        value.name,
        variable,
        coords,
        indexed,
    )


def _dataset(value: Any, known: Known | None) -> tuple[Any, ...]:
    variables = {name: _variable(held, known) for name, held in value.variables.items()}
    indexed = _indexes(value)
    tag, encoding = _of_xarray("xarray dataset", variables.values(), indexed), dict(value.encoding)
    plain = (
        library_name(type(value)),
        variables,
        list(map(str, value.data_vars)),
        dict(value.attrs),
        indexed,
    )
    return (second_scheme(tag), *plain, encoding) if encoding else (tag, *plain)


def _tree(value: Any, known: Known | None) -> tuple[Any, ...]:
    name = library_name(type(value))
    # The others of its tree can be reached from it.
    if value.parent is not None:
        return "k2:xarray tree", name, value.root, value.path
    return "k2:xarray tree", name, value.name, _nodes(value, known)


def _nodes(tree: Any, known: Known | None) -> tuple[Any, ...]:
    inside = [(name, _nodes(child, known)) for name, child in tree.children.items()]
    return _dataset(tree.to_dataset(inherit=False), known), inside


def _with_added(reduce: Reducer) -> Reducer:
    """Return a reducer that counts what a subclass adds to what another one gives."""

    def reduced(value: Any, known: Known | None) -> tuple[Any, ...]:
        content = reduce(value, known)
        if library_of(kind := type(value)) == "xarray":
            return content
        added = own_attributes(value) | slots_held(value, slots_beside(kind.__mro__, "xarray"))
        return ("k2:added", added, *content) if added else content

    return reduced


_XARRAY: dict[str, Reducer] = {
    "xarray.core.dataarray.DataArray": _with_added(_data_array),
    "xarray.core.dataset.Dataset": _with_added(_dataset),
    "xarray.core.variable.Variable": _with_added(_xarray_variable),
    "xarray.core.datatree.DataTree": _with_added(_tree),
}


FAMILIES: dict[str, Reducer] = {
    **_ARROW,
    **_PANDAS,
    **_XARRAY,
    "polars.dataframe.frame.DataFrame": _polars,
    "polars.series.series.Series": _polars,
    "polars.lazyframe.frame.LazyFrame": _lazy,
    "polars.expr.expr.Expr": _expression,
    "polars.datatypes.classes.DataType": _polars_type,
}
