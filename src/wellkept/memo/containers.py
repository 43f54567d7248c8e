"""What items come in, and what their results are given in: lists, tuples, dicts, arrays, Series, frames."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping, Sequence
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
        self.kind = next((kind for kind, fits in kinds.items() if fits), "")
        if not self.kind or (self.kind == "array" and not given.ndim):
            name = "items" if kept is None else kept.options.each
            title = "" if kept is None else f"{kept.__qualname__}: "
            raise ConfigError(
                f"{title}{name}= takes many items: a list, tuple or dict, an array, or a Series or frame, "
                f"not {type(given).__name__}"
            )

    def items(self) -> list[Any]:
        """Each item, as it is part of the key of its call. The index of a Series or frame is none of it,
        as the body never sees it.
        """
        given = self.given
        if self.kind == "dict":
            return list(given.items())
        if self.kind == "array":
            return [given[at] for at in range(len(given))]
        if self.kind == "frame":
            about = tuple((name, str(kind)) for name, kind in given.dtypes.items())
            rows = given.itertuples(index=False, name=None)
            return [(about, row) for row in rows]
        return list(given)

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
        pd: Any = sys.modules.get("pandas") or importlib.import_module("pandas")

        index = self.given.index if self.kind in ("series", "frame") else None
        if name == "series":
            return pd.Series(list(results), dtype=kind["dtype"], name=kind["name"], index=index)
        columns = [column for column, _ in kind["columns"]]
        found = pd.DataFrame.from_records(list(results), columns=columns, index=index)
        return found.astype(dict(kind["columns"]))


def _array(kind: Kind, results: Sequence[Any]) -> Any:
    import numpy as np

    if kind["dtype"] == "O" and not kind["inner"]:
        found = np.empty(len(results), dtype=object)
        found[:] = results
        return found
    if kind["inner"]:
        return np.stack(results)
    # The width of texts follows from the longest.
    return np.array(results, dtype=None if kind["dtype"][1:] in ("U", "S") else kind["dtype"])


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
        text = (
            result.dtype.str
            if result.dtype.kind not in "US"
            else f"{result.dtype.str[0]}{result.dtype.kind}"
        )
        text = "O" if result.dtype.kind == "O" else text
        # A row is copied, for it is kept, and the whole is not.
        found = [row.copy() if result.ndim > 1 else row for row in result]
        kind = {"in": "array", "dtype": text, "inner": list(result.shape[1:])}
    elif _is(result, "pandas", "Series"):
        found = list(result.array)
        kind = {"in": "series", "dtype": str(result.dtype), "name": result.name}
    elif _is(result, "pandas", "DataFrame"):
        found = list(result.itertuples(index=False, name=None))
        kind = {"in": "frame", "columns": [[n, str(d)] for n, d in result.dtypes.items()]}
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
