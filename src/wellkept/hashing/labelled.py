"""Labelled arrays of xarray: variables with their coordinates, attributes, encoding and indexes."""

from __future__ import annotations

import sys
from typing import Any

from .buffers import Known
from .frames import TIMES, is_pandas, second_scheme
from .names import library_name
from .objects import library_of
from .registry import Reducer

__all__ = ["EXACT", "FAMILIES"]


def _variable(value: Any, known: Known | None) -> Any:
    """(dimensions, data, attributes), and what those leave out."""
    held = value._data if hasattr(value, "_data") else value.data
    numpy = sys.modules["numpy"]
    more: dict[str, Any] = {}
    data = held
    if isinstance(held, numpy.ndarray):
        pass
    elif library_of(type(held)) != "xarray":
        if hasattr(held, "__dask_graph__"):
            more["chunks"], data = (library_name(type(held)), held.chunks), value.values
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
    """Whether a pandas array or index is more than the values that it has as a numpy array."""
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
    """Which coordinates are indexed, and how; and the index, where the coordinates don't say all."""
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
    if value.parent is not None:  # the others of its tree can be reached from it
        return "k2:xarray tree", name, value.root, value.path
    return "k2:xarray tree", name, value.name, _nodes(value, known)


def _nodes(tree: Any, known: Known | None) -> tuple[Any, ...]:
    inside = [(name, _nodes(child, known)) for name, child in tree.children.items()]
    return _dataset(tree.to_dataset(inherit=False), known), inside


EXACT: dict[str, Reducer] = {}
FAMILIES: dict[str, Reducer] = {
    "xarray.core.dataarray.DataArray": _data_array,
    "xarray.core.dataset.Dataset": _dataset,
    "xarray.core.variable.Variable": _xarray_variable,
    "xarray.core.datatree.DataTree": _tree,
}
