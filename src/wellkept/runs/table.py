"""Tables and labels: rows as text, as a data frame and as HTML; calls and events as people read them."""

from __future__ import annotations

import html
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple

from wellkept.errors import ConfigError, KeptError
from wellkept.readable import duration, plain

if TYPE_CHECKING:
    from rich.text import Text

    from wellkept.caches import Cache
    from wellkept.records import Call, Event
    from wellkept.stores.reports import FunctionRow

# Columns where there is no terminal to fit.
_WIDE = 160
# Rows of a text.
_SHOWN = 50
# Columns that a text is cut to, at the least; those of it that are worth more than further columns, and
# those of a function's name.
_LEAST, _ENOUGH, _WHOLE = 8, 44, 60

Row = Mapping[str, Any]
Column = tuple[str, Callable[[Row], str]]
"""A title, and what the text shows of a row under it."""


class Table:
    """Rows that have the same names. Prints as text; iterates as dicts.

    Args:
        rows: plain data, all of it.
        columns: what the text shows, of at most 50 rows.
        flexible: the title of the column that is cut where the terminal is narrow: `function` in the
            middle, others at the end.
        summary: a line below.
        drop: titles of columns that are left out before that, the first first.
        right: titles of columns that are set to the right, beside those of numbers.
    """

    def __init__(
        self,
        rows: Sequence[dict[str, Any]],
        columns: Sequence[Column],
        flexible: str,
        summary: str = "",
        *,
        drop: Sequence[str] = (),
        right: Sequence[str] = (),
    ) -> None:
        self.rows: list[dict[str, Any]] = list(rows)
        self._columns, self._flexible, self._summary = list(columns), flexible, summary
        self._drop, self._right = drop, right

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self.rows)

    def __getitem__(self, at: int) -> dict[str, Any]:
        return self.rows[at]

    def text(self, width: int | None = None, rows: int = _SHOWN) -> str:
        """As text.

        Args:
            width: columns; those of the terminal by default.
            rows: at most so many.
        """
        if width is None:
            width = shutil.get_terminal_size((_WIDE, 24)).columns
        titles = [title for title, _ in self._columns]
        cells = [[plain(show(row)) for _, show in self._columns] for row in self.rows[:rows]]
        widths = [max(map(len, column)) for column in zip(titles, *cells, strict=True)]
        at, shown = titles.index(self._flexible), [*range(len(titles))]
        named = self._flexible == "function"
        over = sum(widths) + 2 * (len(widths) - 1) - width
        for title in self._drop:
            if over <= max(0, widths[at] - (_WHOLE if named else _ENOUGH)):
                break
            dropped = titles.index(title)
            shown.remove(dropped)
            over -= widths[dropped] + 2
        if over > 0:
            widths[at] = max(min(widths[at], _LEAST), widths[at] - over)
        if named:
            for row in cells:
                row[at] = shortened(row[at], widths[at])
        left = self._left
        lines = [
            _line(*([part[i] for i in shown] for part in (line, widths, left)))
            for line in (titles, *cells)
        ]
        if len(self.rows) > rows:
            lines.append(f"{len(self.rows) - rows:,} more")
        if self._summary:
            lines.append(self._summary)
        return "\n".join(_cut(line, width) for line in lines)

    @property
    def _left(self) -> list[bool]:
        """Which columns are text; the others are numbers, to the right."""
        return [
            title not in self._right
            and not any(isinstance(row.get(title), (int, float)) for row in self.rows[:100])
            for title, _ in self._columns
        ]

    def to_pandas(self) -> Any:
        """As a `pandas.DataFrame`, all rows and all they have.

        Raises:
            ConfigError: pandas is not there.
        """
        try:
            pandas: Any = import_module("pandas")
        except ImportError as error:
            raise ConfigError(
                "a table of pandas needs it: pip install 'wellkept[pandas]'"
            ) from error
        return pandas.DataFrame(self.rows)

    def __str__(self) -> str:
        return self.text()

    def __repr__(self) -> str:
        return self.text()

    def _repr_html_(self) -> str:
        head = "".join(f"<th>{html.escape(title)}</th>" for title, _ in self._columns)
        body = "".join(
            "<tr>"
            + "".join(f"<td>{html.escape(plain(show(row)))}</td>" for _, show in self._columns)
            + "</tr>"
            for row in self.rows[:_SHOWN]
        )
        more = f"{len(self.rows) - _SHOWN:,} more. " if len(self.rows) > _SHOWN else ""
        below = html.escape(f"{more}{self._summary}")
        below = f"<p>{below}</p>" if below else ""
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{below}"


def _line(cells: Sequence[str], widths: Sequence[int], left: Sequence[bool]) -> str:
    parts = []
    for cell, width, to_left in zip(cells, widths, left, strict=True):
        cell = _cut(cell, width)
        parts.append(cell.ljust(width) if to_left else cell.rjust(width))
    return "  ".join(parts).rstrip()


def shortened(text: str, width: int) -> str:
    """A name or a path in so many columns: where it is too long, without its middle."""
    if len(text) <= width:
        return text
    # The end says more than the beginning.
    tail = 2 * (width - 1) // 3
    return f"{text[: width - 1 - tail]}…{text[len(text) - tail :]}" if width > 1 else text[:width]


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: max(0, width - 1)]}…"


class Tabled:
    """What is shown as a table."""

    def table(self) -> Table:
        """As a table."""
        raise NotImplementedError

    def __str__(self) -> str:
        return str(self.table())

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        return self.table()._repr_html_()


class Line(NamedTuple):
    """A line of a text."""

    title: str
    text: str
    style: str = ""
    """`good`, `bad`, `added`, `removed`, `dim` or nothing."""


class Lines:
    """What is shown line by line: as text, with colours in a terminal, as a table in a notebook."""

    def lines(self) -> Iterator[Line]:
        """The text, line by line."""
        raise NotImplementedError

    def __str__(self) -> str:
        return "\n".join(_joined(line).rstrip() for line in self.lines())

    def __repr__(self) -> str:
        return str(self)

    def __rich__(self) -> Text:
        # Only in terminals.
        from rich.text import Text

        colours = {"good": "bold green", "bad": "bold red", "added": "green", "removed": "red"}
        made = Text()
        for line in self.lines():
            made.append(_joined(line).rstrip() + "\n", style=colours.get(line.style, line.style))
        made.rstrip()
        return made

    def _repr_html_(self) -> str:
        rows = []
        for line in self.lines():
            text = html.escape(line.text)
            if line.style in ("good", "bad") and not line.title:
                rows.append(f'<tr><th colspan="2" style="text-align:left">{text}</th></tr>')
                continue
            colour = {"added": "green", "removed": "firebrick"}.get(line.style)
            style = "text-align:left;white-space:pre-wrap" + (f";color:{colour}" if colour else "")
            head = f'<td style="text-align:left">{html.escape(line.title)}</td>'
            rows.append(f'<tr>{head}<td style="{style}">{text}</td></tr>')
        return f"<table>{''.join(rows)}</table>"


def _joined(line: Line) -> str:
    if not line.title and line.style in ("good", "bad"):
        return plain(line.text)
    return f"  {line.title:<13} {plain(line.text)}"


# Characters of one value.
_LONG = 60


def short(function: str) -> str:
    """A function's name without its module."""
    return function.rpartition(":")[2]


def called(function: str, call: Call) -> str:
    """A call in one line, as its record has it."""
    shown = (
        f"{name}={_value(found.value)}" if found.shown else f"{name}=<{found.digest[:8]}>"
        for name, found in call.arguments.items()
    )
    return f"{short(function)}({', '.join(shown)})"


def function_data(row: FunctionRow) -> dict[str, Any]:
    """A function as JSON shows it."""
    return {
        "function": row.function,
        "codes": row.codes,
        "calls": row.calls,
        "bytes": row.bytes,
        "seconds": row.seconds,
        "uses": row.uses,
        "seconds_saved": row.saved,
        "last_computed": row.created,
        "last_used": row.used,
    }


def call_data(call: Call) -> dict[str, Any]:
    """A call as JSON shows it."""
    return {
        "key": str(call.key),
        "function": call.function,
        "code": call.code,
        "arguments": {
            name: {"digest": str(argument.digest)}
            | ({"value": argument.value} if argument.shown else {})
            for name, argument in call.arguments.items()
        },
        "result": str(call.result),
        "state": call.state,
        "bytes": call.size,
        "seconds": call.seconds,
        "uses": call.uses,
        "computed": call.created,
        "last_used": call.used,
        "expires": call.expires,
        "metadata": dict(call.metadata),
    }


def event_label(event: Event, call: Call | None) -> str:
    """What an event was about, in one line: by the record of the call, where there is one.

    (What another engine keeps has a record under the engine's own name.)
    """
    if call is not None and call.function == event.function:
        return called(event.function, call)
    if not event.arguments:
        return short(event.function)
    shown = (
        f"{name}={_value(event.shown[name])}" if name in event.shown else f"{name}=<{digest[:8]}>"
        for name, digest in event.arguments.items()
    )
    return f"{short(event.function)}({', '.join(shown)})"


def _value(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _LONG else f"{text[: _LONG - 1]}…"


def records(cache: Cache | None, keys: Iterable[str | None]) -> dict[str, Call]:
    """The records of calls that are still kept, by key. What can't be read is left out."""
    wanted = [key for key in dict.fromkeys(keys) if key is not None and len(key) == 64]
    if cache is None or not wanted:
        return {}
    # Tables without calls, and the help of the command line, need no stores.
    from wellkept.stores.base import get_many

    try:
        found: dict[str, Call] = get_many(cache.calls, wanted)
    # One is damaged.
    except KeptError:
        found = {}
        for key in wanted:
            try:
                call = cache.calls.get(key)
            except KeptError:
                continue
            if call is not None:
                found[key] = call
    return found


def summed(events: list[Event]) -> list[Event]:
    """Events with one for each call, outcome and error; their counts added, the order kept."""
    found: dict[tuple[Any, ...], Event] = {}
    for i, event in enumerate(events):
        own = event.key if event.key is not None else i
        at = own, event.outcome, event.error, event.function, event.result
        if at in found:
            event = found[at]._replace(count=found[at].count + event.count)
        found[at] = event
    return list(found.values())


def by_call(events: list[Event], cache: Cache | None, summary: str) -> Table:
    """Return the events of a run with a row for each call and outcome.

    Args:
        cache: where the records of the calls are.
        summary: the line below.
    """
    events = summed(events)
    rows = [
        {
            "outcome": event.outcome,
            "function": event.function,
            "count": event.count,
            "seconds": event.seconds,
            "at": event.at,
            "key": event.key,
            "result": event.result,
            "parent": event.parent,
            "error": event.error,
            "code": event.code,
        }
        for event in events
    ]
    by_row = {id(row): event for row, event in zip(rows, events, strict=True)}
    known: dict[str, Call] = {}

    def label(row: Any) -> str:
        # Only what is shown is looked up.
        if not known:
            known.update(records(cache, [event.key for event in events[:50]]))
        event = by_row[id(row)]
        text = event_label(event, known.get(event.key or ""))
        return f"{text}: {event.error}" if event.error else text

    columns = [
        ("outcome", lambda row: str(row["outcome"])),
        ("call", label),
        ("count", lambda row: f"{row['count']:,}"),
        ("seconds", lambda row: duration(row["seconds"])),
        ("key", lambda row: str(row["key"] or "-")[:12]),
    ]
    return Table(rows, columns, "call", summary)


def by_function(events: list[Event], summary: str) -> Table:
    """Return the events of a run with a row for each function."""
    rows: dict[str, dict[str, Any]] = {}
    for event in events:
        row = rows.setdefault(
            event.function,
            {
                "function": event.function,
                "hits": 0,
                "computed": 0,
                "failed": 0,
                "spent": 0.0,
                "saved": 0.0,
            },
        )
        name = "hits" if event.outcome == "hit" else event.outcome
        row[name] += event.count
        row["saved" if name == "hits" else "spent"] += event.count * event.seconds
    columns = [
        ("function", lambda row: short(row["function"])),
        ("hits", lambda row: f"{row['hits']:,}"),
        ("computed", lambda row: f"{row['computed']:,}"),
        ("failed", lambda row: f"{row['failed']:,}"),
        ("spent", lambda row: duration(row["spent"])),
        ("saved", lambda row: duration(row["saved"])),
    ]
    return Table(list(rows.values()), columns, "function", summary)
