"""A progress bar."""

from __future__ import annotations

import sys
from typing import Any

from kept.cli import text

__all__ = ["Bar"]


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
                console=text.console(stderr=True),
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
