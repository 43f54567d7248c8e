"""How far many calls are: a bar on a terminal, a line that changes in a notebook, lines in a log."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

# Seconds between two changes of a notebook's line, and between two lines of a log.
_SHOWN, _LOGGED = 0.2, 10.0


@contextlib.contextmanager
def progress_bar(title: str, total: int, show: bool | None) -> Iterator[Callable[[], None]]:
    """Show how many calls are done; yields what advances that by one.

    Args:
        show: None: on a terminal alone.
    """
    if not (sys.stderr.isatty() if show is None else show) or total == 0:
        yield lambda: None
        return
    if sys.stderr.isatty():
        with _bar(title, total) as advance:
            yield advance
        return
    lines = _Lines(title, total)
    try:
        yield lines.advance
    finally:
        lines.end()


@contextlib.contextmanager
def _bar(title: str, total: int) -> Iterator[Callable[[], None]]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(title, total=total)
        yield lambda: bar.advance(task)


class _Lines:
    """Without a terminal: nothing is redrawn, and a notebook needs no widgets for it."""

    def __init__(self, title: str, total: int) -> None:
        self._title, self._total = title, total
        self._done, self._said = 0, -1
        self._began = self._last = time.monotonic()
        self._display = _display()
        self._pause = _LOGGED if self._display is None else _SHOWN
        if self._display is not None:
            self._say()

    def advance(self) -> None:
        self._done += 1
        if time.monotonic() - self._last >= self._pause:
            self._say()

    def end(self) -> None:
        """Say how far it came, whatever ended it."""
        if self._said != self._done:
            self._say()

    def _say(self) -> None:
        self._last, self._said = time.monotonic(), self._done
        taken = self._last - self._began
        text = f"{self._title}: {self._done} of {self._total}, {taken:.0f} s"
        if 0 < self._done < self._total:
            left = taken * (self._total - self._done) / self._done
            text += f", about {left:.0f} s left"
        if self._display is None:
            print(text, file=sys.stderr, flush=True)
        else:
            self._display({"text/plain": text})


def _display() -> Callable[[Any], None] | None:
    """Return what shows data in the cell of a notebook that runs, in place of what it showed before."""
    interactive = sys.modules.get("IPython")
    shell: Any = None if interactive is None else interactive.get_ipython()
    if shell is None or not hasattr(shell, "kernel"):
        return None
    from IPython.display import display

    shown: list[Any] = []

    def change(data: Any) -> None:
        if shown:
            shown[0].update(data, raw=True)
        else:
            shown.append(display(data, raw=True, display_id=True))  # type: ignore[no-untyped-call]  # IPython's

    return change
