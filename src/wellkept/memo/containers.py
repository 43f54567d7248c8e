"""What items come in, and what their results are given in: lists, tuples, dicts, arrays, Series, frames."""

from __future__ import annotations

import ast
import importlib
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from wellkept.errors import ConfigError

if TYPE_CHECKING:
    from wellkept.memo.kept import Kept

Kind = dict[str, Any]
"""`in`: list, tuple, dict, array, series or frame; and what else is needed to put results together. Plain
data for JSON."""


def _is(value: Any, module: str, name: str) -> bool:
    """Whether a value is of a class of a package, without importing it."""
    found = sys.modules.get(module)
    return found is not None and type(value) is getattr(found, name)


class Container:
    """Items as a caller gave them.

    Args:
        given: a list, tuple or dict, a numpy array (its rows), or a pandas Series or frame (its rows).
        kept: the function, for a message.

    Raises:
        ConfigError: it is something else.
    """

    def __init__(self, given: Any, kept: Kept[..., Any] | None = None) -> None:
        self.given = given
        kinds = {
            "list": type(given) is list,
            "tuple": type(given) is tuple,
            "dict": type(given) is dict,
            "array": _is(given, "numpy", "ndarray"),
            "series": _is(given, "pandas", "Series"),
            "frame": _is(given, "pandas", "DataFrame"),
        }
        self.kind: str = next((kind for kind, fits in kinds.items() if fits), "")
        if not self.kind or (self.kind == "array" and not given.ndim):
            name = "items" if kept is None else kept.options.each
            title = "" if kept is None else f"{kept.__qualname__}: "
            raise ConfigError(
                f"{title}{name}= takes many items: a list, tuple or dict, an array, or a Series or frame, "
                f"not {type(given).__name__}"
            )

    def items(self) -> list[Any]:
        """Each item, as it is part of the key of its call: with its type where it does not tell that itself,
        as the row of a frame. The index of a Series or frame is none of it, as the body never sees it.
        """
        given = self.given
        if self.kind == "dict":
            return list(given.items())
        if self.kind == "array":
            return [given[at] for at in range(len(given))]
        if self.kind == "frame":
            about = tuple((name, _told(kind)) for name, kind in given.dtypes.items())
            rows = given.itertuples(index=False, name=None)
            return [(about, row) for row in rows]
        if self.kind == "series" and not _tells(given.dtype):
            return [(_told(given.dtype), one) for one in given]
        return list(given)

    def about(self) -> list[Any]:
        """What its results are given in may follow from, besides the items."""
        given = self.given
        if self.kind == "array":
            text = given.dtype.kind in "US"
            return [self.kind, given.dtype.kind if text else str(given.dtype), given.shape[1:]]
        if self.kind == "series":
            return [self.kind, repr(_told(given.dtype)), given.name is None]
        if self.kind == "frame":
            return [self.kind, *(repr((n, _told(d))) for n, d in given.dtypes.items())]
        return [self.kind]

    def some(self, places: Sequence[int]) -> Any:
        """The items at these places, in a container of the same kind, for the body."""
        given = self.given
        if self.kind == "dict":
            keys = list(given)
            return {keys[at]: given[keys[at]] for at in places}
        if self.kind in ("list", "tuple"):
            return type(given)([given[at] for at in places])
        if self.kind == "array":
            return given[list(places)]
        return given.iloc[list(places)].reset_index(drop=True)

    def joined(self, kind: Kind, results: Sequence[Any]) -> Any:
        """All results together, as the body would have given them."""
        name = kind["in"]
        if name == "list":
            return list(results)
        if name == "tuple":
            return tuple(results)
        if name == "dict":
            return dict(zip(self.given, results, strict=True))
        if name == "array":
            return _array(kind, results)
        pd = _pandas()
        if name == "series":
            found = pd.Series(list(results), dtype=_made(kind["dtype"]))
            found.name = self.given.name if kind["name"] == "its" else kind["name"][0]
        else:
            columns = [
                pd.Series([row[at] for row in results], dtype=_made(dtype))
                for at, (_, dtype) in enumerate(kind["columns"])
            ]
            found = pd.DataFrame(dict(enumerate(columns)), index=range(len(results)))
            found.columns = pd.Index([name for name, _ in kind["columns"]])
        if self.kind in ("series", "frame"):
            found.index = self.given.index
        return found


def _tells(dtype: Any) -> bool:
    """Whether what is in a Series tells of what type that is."""
    return str(dtype) in ("int64", "float64", "bool", "object", "str") or dtype.kind in "mM"


def _told(dtype: Any) -> Any:
    """A type of pandas, as it counts."""
    if _is(dtype, "pandas", "CategoricalDtype"):
        return "category", dtype.categories.tolist(), dtype.ordered
    return str(dtype)


def _said(dtype: Any) -> Any:
    """The same as plain data."""
    told = _told(dtype)
    return told if type(told) is str else list(told)


def _made(said: Any) -> Any:
    return said if type(said) is str else _pandas().CategoricalDtype(*said[1:])


def _pandas() -> Any:
    return sys.modules.get("pandas") or importlib.import_module("pandas")


def _array(kind: Kind, results: Sequence[Any]) -> Any:
    import numpy as np

    text = kind["dtype"][1:] in ("U", "S")
    # The width of texts follows from the longest.
    dtype = None if text else _numpy(kind["dtype"])
    if kind["inner"]:
        found = np.stack(results)
        return found if text else found.astype(dtype, copy=False)
    if text or (dtype is not None and dtype.kind not in "OV"):
        return np.array(results, dtype=dtype)
    found = np.empty(len(results), dtype=dtype)
    for at, result in enumerate(results):
        found[at] = result
    return found


def _numpy(text: str) -> Any:
    import numpy as np

    said: Any = ast.literal_eval(text) if text[:1] == "[" else text
    return np.lib.format.descr_to_dtype(said)


def kind_of(kind: Kind) -> str:
    """Name a kind in a message."""
    name = {"array": "an array", "series": "a Series", "frame": "a frame"}.get(kind["in"])
    rest = {key: value for key, value in kind.items() if key != "in"}
    return f"{name or 'a ' + kind['in']}{f' ({rest})' if rest else ''}"


def split(kept: Kept[..., Any], result: Any, given: Any) -> tuple[Kind, list[Any]]:
    """Take apart what a body gave for some items: its kind, and the result of each.

    Raises:
        ConfigError: it is no container of results, or has another number of them.
    """
    items = given.given if isinstance(given, Container) else given
    name = kept.options.each
    if type(result) is dict:
        if not isinstance(items, Mapping) or result.keys() != items.keys():
            raise ConfigError(
                f"{kept.__qualname__} returned a dict; with each={name!r} it has to have the keys of the dict "
                "of items that it got"
            )
        return {"in": "dict"}, [result[key] for key in items]
    kind: Kind
    if type(result) in (list, tuple):
        kind, found = {"in": type(result).__name__}, list(result)
    elif _is(result, "numpy", "ndarray") and result.ndim:
        import numpy as np

        dtype = result.dtype
        text = f"{dtype.str[0]}{dtype.kind}" if dtype.kind in "US" else dtype.str
        text = "O" if dtype.kind == "O" else text
        if dtype.names is not None:
            text = repr(np.lib.format.dtype_to_descr(dtype))
        # A row is copied, for it is kept, and the whole is not.
        inside = result.ndim > 1 or dtype.names is not None
        found = [row.copy() if inside else row for row in result]
        kind = {"in": "array", "dtype": text, "inner": list(result.shape[1:])}
        if dtype.kind not in "US" and _numpy(text) != dtype:
            raise _refused(kept, f"an array of {dtype}", "an array of another dtype")
    elif _is(result, "pandas", "Series"):
        found = list(result.array)
        its = _is(items, "pandas", "Series") and items.name == result.name
        kind = {
            "in": "series",
            "dtype": _said(result.dtype),
            "name": "its" if its else [result.name],
        }
        _check(kept, result, kind, [result.dtype], [] if its else [result.name])
    elif _is(result, "pandas", "DataFrame"):
        found = list(result.itertuples(index=False, name=None))
        kind = {"in": "frame", "columns": [[n, _said(d)] for n, d in result.dtypes.items()]}
        _check(kept, result, kind, result.dtypes, [*result.columns, *result.columns.names])
        if result.columns.names != [None]:
            raise _refused(kept, "a frame whose columns have a name", "a frame of plain columns")
    else:
        raise ConfigError(
            f"{kept.__qualname__} returned {type(result).__name__}; with each={name!r} it returns one result "
            "an item, in a list, tuple, array, Series, frame or dict"
        )
    if len(found) != len(items):
        raise ConfigError(
            f"{kept.__qualname__} returned {len(found):,} results for {len(items):,} items; with each={name!r} "
            "it returns one an item, in their order"
        )
    return kind, found


def _check(
    kept: Kept[..., Any], result: Any, kind: Kind, dtypes: Iterable[Any], names: Iterable[Any]
) -> None:
    """See that a Series or frame can be put together again.

    Raises:
        ConfigError: it can't.
    """
    pd, what = _pandas(), kind_of({"in": kind["in"]})
    if not result.index.equals(pd.RangeIndex(len(result))):
        raise _refused(kept, f"{what} with an index of its own", "it with .reset_index(drop=True)")
    for name in names:
        if type(name) not in (str, int, bool, type(None)):
            raise _refused(kept, f"{what} with the name {name!r}", "it with names that are texts")
    for dtype in dtypes:
        made = pd.api.types.pandas_dtype(_again(_said(dtype)))
        if made != dtype or repr(made) != repr(dtype):
            raise _refused(kept, f"{what} of {dtype!r}", "it of a type that its name tells")


def _again(said: Any) -> Any:
    """What comes of it in a note."""
    try:
        return _made(json.loads(json.dumps(said)))
    except TypeError:
        return "object"


def _refused(kept: Kept[..., Any], what: str, instead: str) -> ConfigError:
    return ConfigError(
        f"{kept.__qualname__} returned {what}, which can't be put together again of the results of items; with "
        f"each={kept.options.each!r}, return {instead}, or a list"
    )
