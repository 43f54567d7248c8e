"""Frames of pandas in an unsigned pickle: the functions that may make them, and the checks before each.

pandas does not check what a pickle says of a frame: where a block of columns stands, that codes stay below the
number of their categories, that all parts are as long as the index. Its C code would read past the end of an
array, so all of that is checked first. State that is only a cache of pandas is left out.
"""

from __future__ import annotations

import datetime
import math
import re
from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import Any

from wellkept.codecs.envelope import Refused
from wellkept.codecs.safe_types import Named, Unfinished, is_array, is_zone

# The largest start, stop and step of a RangeIndex, which has rows without taking memory for them.
_MANY = 2**40
_INT64 = 2**63
_UNITS = ("s", "ms", "us", "ns")
_PERIOD = re.compile(r"period\[\w[\w-]{0,20}\]").fullmatch
_MASKED = {"IntegerArray": "iu", "FloatingArray": "f", "BooleanArray": "b"}
_INDEXES = ("Index", "RangeIndex", "MultiIndex", "CategoricalIndex", "PeriodIndex")
_NAMED_INDEXES = ("DatetimeIndex", "TimedeltaIndex", "IntervalIndex")
# Arrays that pandas makes from an array of NumPy, by one function written in Cython.
_BACKED = ("DatetimeArray", "TimedeltaArray", "PeriodArray", "Categorical", "StringArray")


def find(module: str, name: str) -> Named | None:
    """Return what stands for a name of pandas; None if an unsigned pickle may not use that name."""
    if module.partition(".")[0] != "pandas":
        return None
    call = _CALLS.get((module, name))
    if call is not None:
        return Named(getattr(import_module(module), name), call)
    if module == "pandas._libs.tslibs.offsets":
        return _offset(name)
    return _class(module, name)


def _class(module: str, name: str) -> Named | None:
    pandas = import_module("pandas")
    if (module, name) == ("pandas", "NA"):
        return Named(pandas.NA)
    found = getattr(import_module(module), name, None) if name in _CLASSES else None
    # Releases move classes between modules, so any module is accepted if its class is the one that pandas
    # exports.
    if found is None or found is not _shown(pandas, name):
        return None
    return _CLASSES[name](found)


def _shown(pandas: Any, name: str) -> Any:
    if name in ("BlockManager", "SingleBlockManager"):
        return getattr(import_module("pandas.core.internals.managers"), name)
    for place in (pandas, pandas.arrays):
        if (found := getattr(place, name, None)) is not None:
            return found
    return getattr(import_module("pandas.core.arrays.string_arrow"), name, None)


def _wrong(what: str) -> Refused:
    return Refused(f"it holds an invalid {what}")


def _members(what: str, state: Any, *names: str) -> dict[str, Any]:
    """Return the members of a state by name.

    Raises:
        Refused: the state is no dict, or has members beyond these names and pandas' caches.
    """
    if type(state) is not dict or not set(state) <= {*names, "_cache", "_readonly"}:
        raise _wrong(what)
    return {name: state.get(name) for name in names}


def _is_int(found: Any) -> bool:
    return type(found) is int and -_INT64 <= found < _INT64


# -- scalars ---------------------------------------------------------------------------------------


def _unit(found: Any) -> bool:
    # pandas numbers the units s, ms, us and ns so.
    return type(found) is int and 7 <= found <= 10


def _timestamp(_: Any, *given: Any) -> Any:
    value, freq, zone, unit = given if len(given) == 4 else (*given, 10)
    if not _is_int(value) or freq is not None or not is_zone(zone) or not _unit(unit):
        raise _wrong("Timestamp")
    return _made("pandas._libs.tslibs.timestamps", "_unpickle_timestamp")(value, None, zone, unit)


def _timedelta(_: Any, value: Any, unit: Any) -> Any:
    if not _is_int(value) or not _unit(unit):
        raise _wrong("Timedelta")
    return _made("pandas._libs.tslibs.timedeltas", "_timedelta_unpickle")(value, unit)


def _nat(_: Any, *given: Any) -> Any:
    return import_module("pandas").NaT


def _made(module: str, name: str) -> Any:
    return getattr(import_module(module), name)


def _offset(name: str) -> Named | None:
    offsets = import_module("pandas._libs.tslibs.offsets")
    kind = getattr(offsets, name, None) if name.isidentifier() else None
    if not isinstance(kind, type) or not issubclass(kind, offsets.BaseOffset):
        return None

    def call(_: Any, *given: Any) -> Any:
        parts = (int, bool, type(None), datetime.timedelta)
        # pandas takes the numbers of an offset as C integers.
        small = all(type(part) is not int or abs(part) < 2**31 for part in given)
        if not small or not all(type(part) in parts for part in given):
            raise _wrong(name)
        return kind(*given)

    return Named(kind, call)


# -- dtypes ----------------------------------------------------------------------------------------


def _string_dtype(_: Any, storage: Any, missing: Any) -> Any:
    pandas = import_module("pandas")
    number = type(missing) is float and math.isnan(missing)
    if storage not in ("python", "pyarrow") or not (missing is pandas.NA or number):
        raise _wrong("StringDtype")
    return pandas.StringDtype(storage, missing)


def _period_dtype(_: Any, text: Any) -> Any:
    if type(text) is not str or not _PERIOD(text):
        raise _wrong("PeriodDtype")
    return import_module("pandas").PeriodDtype(text[7:-1])


def _build_zoned(_: Any, made: Any, state: Any) -> None:
    said = _members("DatetimeTZDtype", state, "unit", "tz")
    if said["unit"] not in _UNITS or said["tz"] is None or not is_zone(said["tz"]):
        raise _wrong("DatetimeTZDtype")
    made.__setstate__(said)


def _build_categories(_: Any, made: Any, state: Any) -> None:
    said = _members("CategoricalDtype", state, "categories", "ordered")
    index = said["categories"]
    pandas = import_module("pandas")
    if not isinstance(index, pandas.Index) or said["ordered"] not in (True, False):
        raise _wrong("CategoricalDtype")
    # `__setstate__` skips the checks of the constructor.
    if not index.is_unique or index.hasnans:
        raise _wrong("CategoricalDtype")
    made.__setstate__(said)


def _build_interval(_: Any, made: Any, state: Any) -> None:
    said = _members("IntervalDtype", state, "subtype", "closed")
    dtype = import_module("pandas").IntervalDtype(said["subtype"], said["closed"])
    made.__setstate__({"subtype": dtype.subtype, "closed": dtype.closed})


def _build_arrow_dtype(_: Any, made: Any, state: Any) -> None:
    said = _members("ArrowDtype", state, "_storage", "pyarrow_dtype")
    if not isinstance(said["pyarrow_dtype"], import_module("pyarrow").DataType):
        raise _wrong("ArrowDtype")
    # The class has no `__setstate__`: pickle, too, would set its members past its constructor.
    made.__dict__.update(pyarrow_dtype=said["pyarrow_dtype"], _storage="pyarrow")


# -- arrays ----------------------------------------------------------------------------------------


def _backed(_: Any, kind: Any, checksum: Any, state: Any) -> Unfinished:
    pandas = import_module("pandas")
    names = [name for name in _BACKED if kind is _shown(pandas, name)]
    if not names or type(checksum) is not int or state is not None:
        raise _wrong("array")
    return Unfinished(kind.__new__(kind), partial(_build_backed, names[0]))


def _build_backed(name: str, _: Any, made: Any, state: Any) -> None:
    numpy, pandas = import_module("numpy"), import_module("pandas")
    if type(state) is not tuple or len(state) not in (2, 3):
        raise _wrong(name)
    parts = list(state[:2])
    # Some classes write dtype and data, others data and dtype.
    if isinstance(parts[0], numpy.ndarray):
        parts.reverse()
    dtype, data = parts
    right = isinstance(data, numpy.ndarray) and type(data) is numpy.ndarray
    if not right or data.ndim not in (1, 2):
        raise _wrong(name)
    if name in ("DatetimeArray", "TimedeltaArray"):
        kind = "M" if name == "DatetimeArray" else "m"
        plain = (
            numpy.dtype(f"{kind}8[{dtype.unit}]")
            if _is(pandas, dtype, "DatetimeTZDtype")
            else dtype
        )
        unit = numpy.datetime_data(data.dtype)[0] if data.dtype.kind == kind else ""
        right = unit in _UNITS and data.dtype == plain and data.dtype.isnative
    elif name == "PeriodArray":
        right = _is(pandas, dtype, "PeriodDtype") and data.dtype == numpy.dtype("i8")
    elif name == "Categorical":
        right = _is(pandas, dtype, "CategoricalDtype") and data.dtype in ("i1", "i2", "i4", "i8")
        count = len(dtype.categories) if right else 0
        # pandas looks codes up without a check of their range; -1 is a missing value.
        right = right and bool(((data >= -1) & (data < count)).all())
    else:
        right = _is(pandas, dtype, "StringDtype") and dtype.storage == "python"
        right = right and data.dtype == object
        right = right and all(_is_text(pandas, item) for item in data.ravel())
    if not right:
        raise _wrong(name)
    rest = state[2] if len(state) == 3 else {}
    freq = _members(name, rest, "_freq")["_freq"]
    offsets = import_module("pandas._libs.tslibs.offsets")
    if freq is not None and not isinstance(freq, offsets.BaseOffset):
        raise _wrong(name)
    made.__setstate__((dtype, data, {"_freq": freq} if freq is not None else {}))


def _is(pandas: Any, found: Any, name: str) -> bool:
    return type(found) is getattr(pandas, name)


def _is_text(pandas: Any, item: Any) -> bool:
    return type(item) is str or item is pandas.NA or (type(item) is float and math.isnan(item))


def _build_masked(name: str, _: Any, made: Any, state: Any) -> None:
    said = _members(name, state, "_data", "_mask", "_dtype")
    data, mask = said["_data"], said["_mask"]
    if not is_array(data, _MASKED[name], (1, 2)) or not is_array(mask, "b", (1, 2)):
        raise _wrong(name)
    if data.shape != mask.shape or not data.dtype.isnative or data.dtype.itemsize > 8:
        raise _wrong(name)
    pandas = import_module("pandas")
    made.__dict__.update(_data=data, _mask=mask)
    if name == "BooleanArray":
        made.__dict__["_dtype"] = pandas.BooleanDtype()


def _build_arrow(name: str, _: Any, made: Any, state: Any) -> None:
    said = _members(name, state, "_pa_array", "_dtype")
    data, dtype = said["_pa_array"], said["_dtype"]
    arrow, pandas = import_module("pyarrow"), import_module("pandas")
    if not isinstance(data, (arrow.Array, arrow.ChunkedArray)):
        raise _wrong(name)
    kind = data.type
    if name == "ArrowStringArray":
        text = arrow.types.is_large_string(kind) or arrow.types.is_string(kind)
        right = text and _is(pandas, dtype, "StringDtype") and dtype.storage == "pyarrow"
    else:
        right = _is(pandas, dtype, "ArrowDtype") and dtype.pyarrow_dtype == kind
    if not right:
        raise _wrong(name)
    made.__setstate__({"_pa_array": data, "_dtype": dtype, "_cache": {}})


def _interval_array(_: Any, kind: Any, checksum: Any, state: Any) -> Unfinished:
    if kind is not import_module("pandas").arrays.IntervalArray or type(checksum) is not int:
        raise _wrong("IntervalArray")
    made = import_module("pandas._libs.interval").IntervalMixin.__new__(kind)
    return Unfinished(made, _build_intervals)


def _build_intervals(_: Any, made: Any, state: Any) -> None:
    pandas = import_module("pandas")
    # Cython's state is a tuple of the members in C, of which there are none here, and the dict of the object.
    said = state[0] if type(state) is tuple and len(state) == 1 else state
    said = _members("IntervalArray", said, "_left", "_right", "_dtype")
    left, right, dtype = said["_left"], said["_right"], said["_dtype"]
    plain = all(_is_data(pandas, data) and data.ndim == 1 for data in (left, right))
    if not plain or not _is(pandas, dtype, "IntervalDtype") or left.dtype != right.dtype:
        raise _wrong("IntervalArray")
    found = pandas.arrays.IntervalArray.from_arrays(left, right, dtype.closed)
    for name in ("_left", "_right", "_dtype"):
        setattr(made, name, getattr(found, name))


def _is_data(pandas: Any, found: Any) -> bool:
    numpy = import_module("numpy")
    return type(found) is numpy.ndarray or isinstance(found, pandas.api.extensions.ExtensionArray)


# -- indexes ---------------------------------------------------------------------------------------


def _index(_: Any, kind: Any, said: Any) -> Any:
    pandas = import_module("pandas")
    name = next((name for name in _INDEXES if kind is getattr(pandas, name)), "")
    if name == "RangeIndex":
        said = _members(name, said, "name", "start", "stop", "step")
        numbers = [said[part] for part in ("start", "stop", "step")]
        if not all(type(n) is int and abs(n) <= _MANY for n in numbers) or not numbers[2]:
            raise _wrong(name)
        return pandas.RangeIndex(*numbers, name=_name(said["name"]))
    if name == "MultiIndex":
        said = _members(name, said, "levels", "codes", "sortorder", "names")
        levels, codes = said["levels"], said["codes"]
        plain = type(levels) is list and type(codes) is list and len(levels) == len(codes)
        if not plain or not all(isinstance(level, pandas.Index) for level in levels):
            raise _wrong(name)
        if not levels or not all(is_array(part, "i") for part in codes):
            raise _wrong(name)
        order, names = said["sortorder"], said["names"]
        if type(order) not in (int, type(None)) or type(names) is not list:
            raise _wrong(name)
        # `verify_integrity` checks that codes fit their levels, that levels are unique, and the sort order.
        return pandas.MultiIndex(
            levels, codes, order, [_name(each) for each in names], verify_integrity=True
        )
    said = _members(name or "index", said, "data", "name")
    data = said["data"]
    wanted = {"CategoricalIndex": "Categorical", "PeriodIndex": "PeriodArray"}.get(name)
    right = _is_data(pandas, data) if wanted is None else type(data) is _shown(pandas, wanted)
    if not name or not right or data.ndim != 1:
        raise _wrong(name or "index")
    said["name"] = _name(said["name"])
    return _made("pandas.core.indexes.base", "_new_Index")(kind, said)


def _dated(name: str, _: Any, kind: Any, said: Any) -> Any:
    pandas = import_module("pandas")
    said = _members(name, said, "data", "name", "freq", "tz")
    data, array = said["data"], name.replace("Index", "Array")
    right = kind is getattr(pandas, name) and type(data) is _shown(pandas, array)
    if not right or data.ndim != 1:
        raise _wrong(name)
    made, freq = kind._simple_new(data.copy(), name=_name(said["name"])), said["freq"]
    if freq is None or isinstance(freq, import_module("pandas._libs.tslibs.offsets").BaseOffset):
        # Setting it, unlike passing it, makes pandas check that the dates have that distance.
        made.freq = freq
        return made
    raise _wrong(name)


def _intervals(_: Any, kind: Any, said: Any) -> Any:
    pandas = import_module("pandas")
    said = _members("IntervalIndex", said, "left", "right", "closed", "name")
    left, right = said["left"], said["right"]
    plain = isinstance(left, pandas.Index) and isinstance(right, pandas.Index)
    if kind is not pandas.IntervalIndex or not plain or type(said["closed"]) is not str:
        raise _wrong("IntervalIndex")
    return pandas.IntervalIndex.from_arrays(left, right, said["closed"], _name(said["name"]))


def _name(found: Any) -> Any:
    # pandas relies on hashable names, and raises for others only later. This raises now.
    hash(found)
    return found


# -- frames ----------------------------------------------------------------------------------------


def _block(_: Any, *given: Any) -> Any:
    values, place, dimensions = given
    pandas = import_module("pandas")
    if not _is_data(pandas, values) or type(dimensions) is not int or dimensions not in (1, 2):
        raise _wrong("block")
    rows = values.shape[0] if values.ndim == 2 else 1
    if values.ndim != dimensions and isinstance(values, import_module("numpy").ndarray):
        raise _wrong("block")
    # Each row of a block's values is a column of the frame, so it needs one place.
    if dimensions == 2 and _places(place) != rows:
        raise _wrong("block")
    return _made("pandas._libs.internals", "_unpickle_block")(values, place, dimensions)


def _places(place: Any) -> int:
    """Return how many columns a placement names; -1 if it is no placement."""
    if type(place) is slice:
        parts = (place.start, place.stop, 1 if place.step is None else place.step)
        if all(type(n) is int and 0 <= n < 2**31 for n in parts) and parts[2]:
            return len(range(*parts))
    elif is_array(place, "i"):
        return len(place) if bool(((place >= 0) & (place < 2**31)).all()) else -1
    return -1


def _manager(machine: Any, *given: Any) -> Any:
    pandas, numpy = import_module("pandas"), import_module("numpy")
    if len(given) != 2:
        raise _wrong("frame")
    blocks, axes = given
    kind = import_module("pandas.core.internals.blocks").Block
    plain = type(blocks) is tuple and type(axes) is list and len(axes) == 2
    if not plain or not all(isinstance(block, kind) for block in blocks):
        raise _wrong("frame")
    if not all(isinstance(axis, pandas.Index) for axis in axes):
        raise _wrong("frame")
    columns, rows = map(len, axes)
    total = sum(len(block.mgr_locs) for block in blocks)
    if total != columns or any(block.ndim != 2 for block in blocks):
        raise _wrong("frame")
    # pandas makes two arrays of 8 bytes a column, to find the block of each.
    machine.spend(16 * columns)
    there = numpy.zeros(columns, bool)
    # Every column must be in exactly one block, inside the frame: pandas indexes by these places unchecked.
    for block in blocks:
        places = block.mgr_locs.as_array
        long = block.values.shape[-1] if block.values.ndim else -1
        if (len(places) and (places.max() >= columns or there[places].any())) or long != rows:
            raise _wrong("frame")
        there[places] = True
    if not there.all():
        raise _wrong("frame")
    made = _made("pandas.core.internals.managers", "BlockManager")(blocks, axes)
    made._verify_integrity()
    return made


def _build_single(_: Any, made: Any, state: Any) -> None:
    pandas = import_module("pandas")
    said = state[-1] if type(state) is tuple and len(state) == 4 else None
    said = said.get("0.14.1") if type(said) is dict else None
    said = _members("series", said, "axes", "blocks")
    axes, blocks = said["axes"], said["blocks"]
    plain = type(axes) is list and type(blocks) is list and len(axes) == len(blocks) == 1
    if not plain or not isinstance(axes[0], pandas.Index):
        raise _wrong("series")
    block = _members("series", blocks[0], "values", "mgr_locs")
    values = block["values"]
    right = _is_data(pandas, values) and values.ndim == 1 and len(values) == len(axes[0])
    if not right:
        raise _wrong("series")
    # A series is one block in one place, whatever the pickle says of it.
    place = slice(0, len(values), 1)
    whole = {"0.14.1": {"axes": axes, "blocks": [{"values": values, "mgr_locs": place}]}}
    made.__setstate__((axes, [values], axes, whole))


def _build_frame(name: str, _: Any, made: Any, state: Any) -> None:
    names = ("_mgr", "_typ", "_metadata", "attrs", "_flags", "_name")
    said = _members(name, state, *names)
    manager, kind = said["_mgr"], "SingleBlockManager" if name == "Series" else "BlockManager"
    flags = said["_flags"]
    own = ["_name"] if name == "Series" else []
    if (
        type(manager) is not _made("pandas.core.internals.managers", kind)
        or said["_typ"] != name.lower()
        or said["_metadata"] != own
        or type(said["attrs"]) is not dict
        or type(flags) is not dict
        or list(flags) != ["allows_duplicate_labels"]
        or type(flags["allows_duplicate_labels"]) is not bool
    ):
        raise _wrong(name)
    if name == "Series":
        said["_name"] = _name(said["_name"])
    else:
        del said["_name"]
    made.__setstate__(said)


def _empty(build: Callable[[Any, Any, Any], None]) -> Callable[[Any], Named]:
    """Return what stands for a class whose objects are made empty and must be given state."""

    def named(kind: Any) -> Named:
        return Named(kind, new=lambda: Unfinished(kind.__new__(kind), build))

    return named


def _as_it_is(kind: Any) -> Named:
    """Return what stands for a dtype without members."""

    def build(_: Any, made: Any, state: Any) -> None:
        _members(kind.__name__, state)

    return Named(kind, new=lambda: Unfinished(kind(), build, must=False))


_CALLS: dict[tuple[str, str], Callable[..., Any]] = {
    ("pandas._libs.arrays", "__pyx_unpickle_NDArrayBacked"): _backed,
    ("pandas._libs.internals", "_unpickle_block"): _block,
    ("pandas._libs.interval", "__pyx_unpickle_IntervalMixin"): _interval_array,
    ("pandas._libs.tslibs.nattype", "_nat_unpickle"): _nat,
    ("pandas._libs.tslibs.timedeltas", "_timedelta_unpickle"): _timedelta,
    ("pandas._libs.tslibs.timestamps", "_unpickle_timestamp"): _timestamp,
    ("pandas.core.indexes.base", "_new_Index"): _index,
    ("pandas.core.indexes.datetimes", "_new_DatetimeIndex"): partial(_dated, "DatetimeIndex"),
    ("pandas.core.indexes.timedeltas", "_new_TimedeltaIndex"): partial(_dated, "TimedeltaIndex"),
    ("pandas.core.indexes.interval", "_new_IntervalIndex"): _intervals,
}
_CLASSES: dict[str, Callable[[Any], Named]] = {
    **dict.fromkeys((*_INDEXES, *_NAMED_INDEXES, *_BACKED, "IntervalArray"), Named),
    **dict.fromkeys(
        (
            *(f"{sign}Int{bits}Dtype" for sign in ("", "U") for bits in (8, 16, 32, 64)),
            *("Float32Dtype", "Float64Dtype", "BooleanDtype"),
        ),
        _as_it_is,
    ),
    **{name: _empty(partial(_build_masked, name)) for name in _MASKED},
    **{
        name: _empty(partial(_build_arrow, name))
        for name in ("ArrowStringArray", "ArrowExtensionArray")
    },
    **{name: _empty(partial(_build_frame, name)) for name in ("DataFrame", "Series")},
    "StringDtype": lambda kind: Named(kind, _string_dtype),
    "PeriodDtype": lambda kind: Named(kind, _period_dtype),
    "DatetimeTZDtype": _empty(_build_zoned),
    "CategoricalDtype": _empty(_build_categories),
    "IntervalDtype": _empty(_build_interval),
    "ArrowDtype": _empty(_build_arrow_dtype),
    "BlockManager": lambda kind: Named(kind, _manager),
    "SingleBlockManager": _empty(_build_single),
}
