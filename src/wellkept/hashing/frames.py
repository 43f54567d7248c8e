"""Frames: pandas and polars, by columns, dtypes, index, categories and order."""

from __future__ import annotations

import sys
from typing import Any

from .arrow import column
from .buffers import Known
from .names import class_name, library_name
from .numeric import content, dtype_text
from .objects import NOTHING_HELPS, generic, library_of
from .registry import Reducer, Refused
from .texts import joined

__all__ = ["EXACT", "FAMILIES", "TIMES", "is_pandas", "second_scheme"]


def _dtype(value: Any) -> Any:
    """What a pandas dtype is: its class, its text, and what the text leaves out."""
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
    """Whether a class is pandas' own."""
    return library_of(kind) == "pandas"


_ORDINARY = frozenset({"Day", "Hour", "Minute", "Second", "Milli", "Micro", "Nano"})
"""Frequencies that are nothing but their text."""


def _frequency(freq: Any) -> Any:
    """The text of a frequency; itself where the text leaves something out, such as holidays."""
    if freq is None or type(freq).__name__ in _ORDINARY:
        return None if freq is None else freq.freqstr
    try:
        known = sys.modules["pandas"].tseries.frequencies.to_offset(freq.freqstr)
    except Exception:  # noqa: BLE001  an offset of another library says what it likes
        known = None
    return freq.freqstr if known is not None and known == freq else freq


def _values(array: Any, known: Known | None) -> Any:
    """The elements of a column: a numpy array, one of pandas' own, or one of another library."""
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
"""What pandas keeps in the `__dict__` of frames, series and indexes."""


def _whole(value: Any, tag: str, *content: Any) -> tuple[Any, ...]:
    """The reduction of a frame, series or index, with attributes that a program gave it."""
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
    """What a class or one of its bases holds under a name, as it is; None if nothing."""
    return next((base.__dict__[name] for base in kind.__mro__ if name in base.__dict__), None)


def second_scheme(tag: str) -> str:
    """A tag with the prefix of what the scheme k1 left out."""
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
FAMILIES: dict[str, Reducer] = {
    **_PANDAS,
    "polars.dataframe.frame.DataFrame": _polars,
    "polars.series.series.Series": _polars,
    "polars.lazyframe.frame.LazyFrame": _lazy,
    "polars.expr.expr.Expr": _expression,
    "polars.datatypes.classes.DataType": _polars_type,
}
