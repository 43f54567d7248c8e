"""Sizes, times and names as people read them; tables; JSON."""

from __future__ import annotations

import json
import math
import os
import shutil
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table as RichTable

    from wellkept.runs.table import Table


_WIDE = 160  # columns where there is no terminal to fit


def duration(seconds: float) -> str:
    """`1.2 ms`, `4.5 s`, `3 min 20 s`, `5 h 10 min`, `12 d 3 h`."""
    if seconds < 0 or seconds != seconds:
        return "?"
    for limit, scale, unit in ((1e-3, 1e6, "us"), (1, 1e3, "ms"), (99.95, 1, "s")):
        if seconds < limit:
            count = seconds * scale
            return f"{count:.0f} {unit}" if count >= 99.5 or not count else f"{count:.1f} {unit}"
    for below, large, small, whole, part in (
        (5970, 60, 1, "min", "s"),
        (171000, 3600, 60, "h", "min"),
        (float("inf"), 86400, 3600, "d", "h"),
    ):
        if seconds < below:
            count, rest = divmod(round(seconds / small), large // small)
            return (
                f"{count:,} {whole} {rest} {part}" if rest and count < 100 else f"{count:,} {whole}"
            )
    return "?"


def plain(text: str, limit: int = 2000) -> str:
    """Text that can't do anything to a terminal: control characters are shown, not sent."""
    text = text if len(text) <= limit else f"{text[: limit - 1]}…"
    return "".join(c if c.isprintable() or c == "\n" else repr(c)[1:-1] for c in text)


def line(text: str, limit: int) -> str:
    """As `plain`, in one line."""
    return plain(text, limit).replace("\n", " ")


def width() -> int:
    """Columns of the terminal; where there is none, as many as COLUMNS says, or 160."""
    said = os.environ.get("COLUMNS", "")
    if said.isdecimal() and int(said):
        return int(said)
    return shutil.get_terminal_size((_WIDE, 24)).columns if sys.stdout.isatty() else _WIDE


def show(table: Table, rows: int | None = None) -> None:
    """Print a table that fits the terminal.

    Args:
        rows: at most so many; all by default.
    """
    print(table.text(width(), len(table) if rows is None else rows))


def console(*, stderr: bool = False) -> Console:
    """Where people read: as wide as the terminal, with colours if it is one."""
    from rich.console import Console

    file = sys.stderr if stderr else sys.stdout
    return Console(file=file, width=width(), highlight=False, markup=False, emoji=False)


def table(*columns: str, left: Sequence[str] = ()) -> RichTable:
    """A table without lines; numbers to the right."""
    from rich.table import Table

    made = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for column in columns:
        made.add_column(column, justify="left" if column in left else "right", no_wrap=True)
    return made


def emit(data: Any) -> None:
    """JSON on standard output: ASCII, so that no text in it can fail to be written."""
    try:
        content = json.dumps(data, indent=2, allow_nan=False)
    except ValueError:
        content = json.dumps(_finite(data), indent=2)
    print(content)


def _finite(data: Any) -> Any:
    """`data` with null for what JSON has no number for."""
    if isinstance(data, dict):
        return {key: _finite(item) for key, item in data.items()}
    if isinstance(data, (list, tuple)):
        return [_finite(item) for item in data]
    return None if isinstance(data, float) and not math.isfinite(data) else data


class Bar:
    """A progress bar on standard error, if that is a terminal."""

    def __init__(self) -> None:
        self._bar: Any = None
        self._task: Any = None
        self._stage = ""

    def __enter__(self) -> Bar:
        if sys.stderr.isatty():
            from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

            self._bar = Progress(
                TextColumn("{task.description:<18}"),
                BarColumn(),
                TaskProgressColumn(),
                console=console(stderr=True),
                transient=True,
            )
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def advance(self, stage: str, done: int, total: int) -> None:
        """What is being checked, how far, and of how much (0: not known)."""
        if self._bar is None:
            return
        if stage != self._stage:
            self._stage = stage
            if self._task is not None:
                self._bar.remove_task(self._task)
            self._task = self._bar.add_task(stage, total=None)
        self._bar.update(self._task, completed=done, total=total or None)
