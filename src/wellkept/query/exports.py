"""Tables of matches: pandas, polars, pyarrow, HTML."""

from __future__ import annotations

import datetime
import functools
import html
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TextIO

from wellkept.conditions import Order
from wellkept.errors import ConfigError
from wellkept.query.matches import Match
from wellkept.query.noted import part
from wellkept.query.operators import path_of
from wellkept.stores.record_format import read_metadata

if TYPE_CHECKING:
    from wellkept.query.matches import Matches


_TIMES = ("created", "used", "expires")
_FIELDS = (
    "key",
    "function",
    "code",
    "state",
    "created",
    "seconds",
    "size",
    "uses",
    "used",
    "expires",
)
# Rows that an HTML table shows.
_SHOWN = 20


def columns(matches: Matches, *, results: bool, metadata: Sequence[str]) -> dict[str, list[Any]]:
    """Return the columns as lists by name; an argument with the name of a field is `arguments.<name>`."""
    quick = None if results else matches.table()
    if quick is not None:
        found: dict[str, list[Any]] = quick.fields
        found |= {_title(name): column for name, column in quick.arguments.items()}
        said = [read_metadata(text) for text in quick.metadata] if metadata else []
        for name in metadata:
            found[f"metadata.{name}"] = _parts(matches, said, name)
        return _ordered(found)
    calls = list(matches.calls())
    table: dict[str, list[Any]] = {
        name: [getattr(call, name) for call in calls] for name in _FIELDS
    }
    table["key"] = [str(key) for key in table["key"]]
    held = [call.arguments for call in calls]
    names = dict.fromkeys(name for arguments in held for name in arguments)
    for name in names:
        table[_title(name)] = [_argument(arguments, name) for arguments in held]
    for text in metadata:
        table[f"metadata.{text}"] = _parts(matches, [call.metadata for call in calls], text)
    if results:
        table["result"] = [Match(matches.cache, call).result for call in calls]
    return _ordered(table)


def _ordered(table: dict[str, list[Any]]) -> dict[str, list[Any]]:
    """What was given and what came out first, where a screen shows it; then the record."""
    said = [*_FIELDS, *(name for name in table if name.startswith("metadata."))]
    first = [name for name in table if name not in said and name != "result"]
    names = [*first, *(("result",) if "result" in table else ()), *said]
    return {name: table[name] for name in names}


def _title(name: str) -> str:
    return f"arguments.{name}" if name in (*_FIELDS, "result") else name


def _argument(arguments: Any, name: str) -> Any:
    found = arguments.get(name)
    if found is None:
        return None
    return found.value if found.shown else str(found.digest)


def _parts(matches: Matches, said: Sequence[Any], name: str) -> list[Any]:
    path, notes = path_of(name), _Read(matches.cache.backend.notes)
    return [part(notes, one, path) for one in said]


class _Read:
    """Notes, each read once."""

    def __init__(self, notes: Any) -> None:
        self.get = functools.cache(notes.get)


def to_pandas(matches: Matches, *, results: bool, metadata: Sequence[str]) -> Any:
    """See `Matches.to_pandas`."""
    pandas = _library("pandas", "'wellkept[pandas]'")
    table = columns(matches, results=results, metadata=metadata)
    for name in _TIMES:
        table[name] = pandas.to_datetime(
            pandas.Series(table[name], dtype="float64"), unit="s", utc=True
        )
    # A list of arrays is no column of numbers.
    if results:
        table["result"] = pandas.Series(table["result"], dtype=object)
    return pandas.DataFrame(table)


def to_polars(matches: Matches, *, results: bool, metadata: Sequence[str]) -> Any:
    """See `Matches.to_polars`."""
    polars = _library("polars", "polars")
    table = _dated(columns(matches, results=results, metadata=metadata))
    series = [_series(polars, name, values) for name, values in table.items()]
    return polars.DataFrame(series)


def _series(polars: Any, name: str, values: list[Any]) -> Any:
    if name in _TIMES:
        return polars.Series(name, values, dtype=polars.Datetime("us", "UTC"))
    if name == "result" or _mixed(values):
        return polars.Series(name, values, dtype=polars.Object)
    return polars.Series(name, values)


def to_arrow(matches: Matches, *, results: bool, metadata: Sequence[str]) -> Any:
    """See `Matches.to_arrow`."""
    arrow = _library("pyarrow", "'wellkept[arrow]'")
    table = _dated(columns(matches, results=results, metadata=metadata))
    made = {}
    for name, values in table.items():
        if name in _TIMES:
            made[name] = arrow.array(values, arrow.timestamp("us", "UTC"))
        else:
            texts = [value if value is None else repr(value) for value in values]
            try:
                made[name] = arrow.array(texts if _mixed(values) else values)
            except (arrow.ArrowInvalid, arrow.ArrowTypeError) as error:
                raise ConfigError(f"pyarrow has no type for the column {name}: {error}") from error
    return arrow.table(made)


def _mixed(values: list[Any]) -> bool:
    """Whether the scalars of a column are of several types; int and float together are float."""
    kinds = {type(value) for value in values} - {type(None)}
    return len(kinds) > 1 and not kinds <= {int, float}


def _dated(table: dict[str, list[Any]]) -> dict[str, list[Any]]:
    utc = datetime.UTC
    for name in _TIMES:
        table[name] = [
            None if at is None else datetime.datetime.fromtimestamp(at, utc) for at in table[name]
        ]
    return table


def write_csv(matches: Matches, file: TextIO) -> None:
    """Write a line for each call: first its arguments, then its fields."""
    import csv

    # Times as text that other programs read; numbers as they are.
    table = _dated(columns(matches, results=False, metadata=()))
    order = sorted(table, key=lambda name: name in _FIELDS)
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(order)
    for row in zip(*(table[name] for name in order), strict=True):
        writer.writerow(
            one.isoformat() if isinstance(one, datetime.datetime) else one for one in row
        )


def to_html(matches: Matches) -> str:
    """The first of them as a table for a notebook."""
    some = (
        matches
        if matches.steps or matches.query.order != Order()
        else matches.order_by("created", descending=True)
    )
    found = list(some.limit(_SHOWN))
    total = matches.count()
    titles = ("key", "call", "computed", "seconds", "size", "uses")
    rows = []
    for match in found:
        at = datetime.datetime.fromtimestamp(match.created).strftime("%Y-%m-%d %H:%M:%S")
        cells = (
            match.key[:12],
            repr(match)[1:-1],
            at,
            f"{match.seconds:.3g}",
            match.size,
            match.uses,
        )
        rows.append("".join(f"<td>{html.escape(str(cell))}</td>" for cell in cells))
    head = "".join(f"<th>{title}</th>" for title in titles)
    body = "".join(f"<tr>{row}</tr>" for row in rows)
    more = f"<p>{total:,} calls, the first {len(found)} of them</p>" if total > len(found) else ""
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{more}"


def _library(name: str, package: str) -> Any:
    try:
        return __import__(name)
    except ImportError as error:
        raise ConfigError(f"a table of {name} needs it: pip install {package}") from error
