"""Many calls: `map` with a progress bar, `submit` to an executor."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from typing import Any

__all__ = ["progress_bar", "run_all", "submit"]


def run_all(
    call: Callable[..., Any], iterables: tuple[Iterable[Any], ...], progress: bool | None
) -> list[Any]:
    """Call for each tuple across the iterables, as the builtin `map` would."""
    items = list(zip(*iterables, strict=False))
    name = getattr(call, "__name__", "")
    results = []
    with progress_bar(name, len(items), progress) as advance:
        for args in items:
            results.append(call(*args))
            advance()
    return results


@contextlib.contextmanager
def progress_bar(title: str, total: int, show: bool | None) -> Iterator[Callable[[], None]]:
    """A bar on standard error; yields what advances it by one."""
    if not (sys.stderr.isatty() if show is None else show) or total == 0:
        yield lambda: None
        return
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


class Awaited:
    """A bound call of a coroutine function, awaited where it runs: a coroutine does not travel."""

    def __init__(self, call: Any) -> None:
        self.call = call

    def __call__(self) -> Any:
        import asyncio

        return asyncio.run(self.call())


def submit(executor: Any, call: Any) -> Future[Any]:
    """Run a bound call in an executor, unless it is kept: then its future is done."""
    kept = call.kept
    work = Awaited(call) if kept.awaits else call
    try:
        if kept.contains(*call.args, **call.kwargs):
            load = kept.load_now if kept.awaits else kept.load
            result = load(*call.args, **call.kwargs)
        else:
            return executor.submit(work)  # type: ignore[no-any-return]  # any executor's future
    except Exception:  # noqa: BLE001  what can't be looked up, or is a kept failure, runs there
        return executor.submit(work)  # type: ignore[no-any-return]  # as above
    done: Future[Any] = Future()
    done.set_result(result)
    return done
