"""A table: as text that fits the terminal, as rows, as a data frame, as HTML."""

from __future__ import annotations

import html
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import import_module
from typing import Any

from wellkept.errors import ConfigError

__all__ = ["Column", "Table", "duration"]

_WIDE = 160  # columns where there is no terminal to fit
_SHOWN = 50  # rows of a text
_LEAST = 8  # columns that a text is cut to, at the least

Row = Mapping[str, Any]
Column = tuple[str, Callable[[Row], str]]
"""A title, and what the text shows of a row under it."""


class Table:
    """Rows that have the same names. Prints as text; iterates as dicts.

    Args:
        rows: plain data, all of it.
        columns: what the text shows, of at most 50 rows.
        flexible: the title of the column that is cut where the terminal is narrow.
        summary: a line below.
    """

    def __init__(
        self,
        rows: Sequence[dict[str, Any]],
        columns: Sequence[Column],
        flexible: str,
        summary: str = "",
    ) -> None:
        self.rows = list(rows)
        self._columns, self._flexible, self._summary = list(columns), flexible, summary

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
        cells = [[_plain(show(row)) for _, show in self._columns] for row in self.rows[:rows]]
        widths = [max(map(len, column)) for column in zip(titles, *cells, strict=True)]
        at = titles.index(self._flexible)
        over = sum(widths) + 2 * (len(widths) - 1) - width
        if over > 0:
            widths[at] = max(min(widths[at], _LEAST), widths[at] - over)
        lines = [_line(line, widths, self._left) for line in (titles, *cells)]
        if len(self.rows) > rows:
            lines.append(f"{len(self.rows) - rows:,} more")
        if self._summary:
            lines.append(self._summary)
        return "\n".join(_cut(line, width) for line in lines)

    @property
    def _left(self) -> list[bool]:
        """Which columns are text; the others are numbers, to the right."""
        return [
            not any(isinstance(row.get(title), (int, float)) for row in self.rows[:100])
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
            + "".join(f"<td>{html.escape(_plain(show(row)))}</td>" for _, show in self._columns)
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


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: max(0, width - 1)]}…"


def _plain(text: str) -> str:
    """One line, without what could do something to a terminal."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def duration(seconds: float | None) -> str:
    """`12 us`, `3.4 ms`, `5.6 s`, `12 min`, `3.4 h`."""
    if seconds is None:
        return ""
    for limit, scale, unit in (
        (1e-3, 1e6, "us"),
        (1.0, 1e3, "ms"),
        (100.0, 1.0, "s"),
        (6000.0, 1 / 60, "min"),
        (float("inf"), 1 / 3600, "h"),
    ):
        if seconds < limit:
            count = seconds * scale
            return f"{count:.0f} {unit}" if count >= 99.5 or not count else f"{count:.2g} {unit}"
    return "?"
