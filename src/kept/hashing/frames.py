"""Frames: pandas, polars and xarray, by columns, dtypes, index, categories and order."""

from __future__ import annotations

import sys
from typing import Any

from .arrow import column
from .buffers import Known
from .names import class_name, library_name
from .numeric import content, dtype_text
from .objects import NOTHING_HELPS, generic
from .registry import Reducer, Refused
from .texts import joined

__all__ = ["EXACT", "FAMILIES"]


def _dtype(value: Any) -> Any:
    """What a pandas dtype is: its class, its text, and what the text leaves out."""
    numpy = sys.modules["numpy"]
    if isinstance(value, numpy.dtype):
        return dtype_text(value)
    storage = getattr(value, "storage", None)
    if storage is not None:
        return library_name(type(value)), str(value), storage, value.na_value
    return library_name(type(value)), str(value)


def _values(array: Any, known: Known | None) -> Any:
    """The elements of a column: a numpy array, or one of pandas' own."""
    numpy = sys.modules["numpy"]
    if isinstance(array, numpy.ndarray):
        return dtype_text(array.dtype), content(array, known)
    kind = type(array).__name__
    dtype = _dtype(array.dtype)
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
        freq = None if freq is None else freq.freqstr
        return dtype, _zone(array), freq, content(numpy.asarray(raw), known)
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
    """A zone's own text; the dtype's leaves out how it is made."""
    zone = getattr(array, "tz", None)
    return None if zone is None else (class_name(type(zone)), str(zone))


def _columns(frame: Any) -> list[Any]:
    quick = getattr(frame, "_get_column_array", None)
    if quick is not None:
        return [quick(number) for number in range(frame.shape[1])]
    return [frame.iloc[:, number].array for number in range(frame.shape[1])]


def _extra(value: Any) -> Any:
    """What a frame carries beside its data: attrs, flags, and what a subclass declares."""
    known = [value.attrs, value.flags.allows_duplicate_labels]
    names = [name for name in type(value)._metadata if name not in ("_name", "name")]
    return [*known, {name: getattr(value, name, None) for name in names}]


def _frame(value: Any, known: Known | None) -> tuple[Any, ...]:
    return (
        "pandas frame",
        library_name(type(value)),
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
    return (
        "pandas series",
        library_name(type(value)),
        value.name,
        value.index,
        _values(data, known),
        *_extra(value),
    )


def _index(value: Any, known: Known | None) -> tuple[Any, ...]:
    kind = library_name(type(value))
    name = type(value).__name__
    if name == "RangeIndex":
        return "pandas index", kind, value.name, value.start, value.stop, value.step
    if name == "MultiIndex":
        parts = [
            _values(_plain(value.get_level_values(number)), known)
            for number in range(value.nlevels)
        ]
        return "pandas index", kind, tuple(value.names), len(value), parts
    freq = getattr(value, "freqstr", None) if name in ("DatetimeIndex", "TimedeltaIndex") else None
    return "pandas index", kind, value.name, freq, _values(_plain(value), known)


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
    kind = str(data.dtype)
    try:
        return kind, column(data.to_arrow(), known)
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


def _variable(value: Any, known: Known | None) -> Any:
    data = value._data if hasattr(value, "_data") else value.data
    if not isinstance(data, sys.modules["numpy"].ndarray):
        data = value.values
    return tuple(value.dims), data, dict(value.attrs)


def _indexes(value: Any) -> list[tuple[str, str]]:
    """Which coordinates are indexed, and how; what they hold is among the coordinates."""
    found = value.xindexes.items()
    return sorted((repr(name), library_name(type(index))) for name, index in found)


def _xarray_variable(value: Any, known: Known | None) -> tuple[Any, ...]:
    return "xarray variable", library_name(type(value)), _variable(value, known)


def _data_array(value: Any, known: Known | None) -> tuple[Any, ...]:
    coords = {name: _variable(held.variable, known) for name, held in value.coords.items()}
    indexed = _indexes(value)
    return (
        "xarray array",
        library_name(type(value)),
        value.name,
        _variable(value.variable, known),
        coords,
        indexed,
    )


def _dataset(value: Any, known: Known | None) -> tuple[Any, ...]:
    names = list(value.variables)
    return (
        "xarray dataset",
        library_name(type(value)),
        {name: _variable(value.variables[name], known) for name in names},
        list(map(str, value.data_vars)),
        dict(value.attrs),
        _indexes(value),
    )


def _by_pickle(value: Any, known: Known | None) -> tuple[Any, ...]:
    return generic(type(value))(value, known)


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
FAMILIES: dict[str, Reducer] = {
    **_PANDAS,
    "polars.dataframe.frame.DataFrame": _polars,
    "polars.series.series.Series": _polars,
    "polars.lazyframe.frame.LazyFrame": _lazy,
    "polars.datatypes.classes.DataType": _polars_type,
    "xarray.core.dataarray.DataArray": _data_array,
    "xarray.core.dataset.Dataset": _dataset,
    "xarray.core.variable.Variable": _xarray_variable,
}
