"""Many calls: `map`, here or in an executor, with a progress bar; `submit`."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from wellkept.caches.many import can_find_many

if TYPE_CHECKING:
    from concurrent.futures import Future

    from wellkept.memo.kept import Kept

__all__ = ["map_async", "map_calls", "progress_bar", "submit"]


def map_calls(
    kept: Kept[..., Any],
    iterables: tuple[Iterable[Any], ...],
    progress: bool | None,
    executor: Any,
    ordered: bool,
) -> Any:
    """Call for each tuple across the iterables, as the builtin `map` would: a list of the results,
    or where they need not be in order an iterator that gives them as they are done.
    """
    items = list(zip(*iterables, strict=False))
    if executor is None:
        results = _here(kept, items, progress)
    else:
        results = _elsewhere(kept, items, progress, executor, ordered)
    return list(results) if ordered else results


def _here(kept: Kept[..., Any], items: list[Any], progress: bool | None) -> Iterator[Any]:
    with progress_bar(kept.__name__, len(items), progress) as advance:
        for call in _looked_up(kept, items):
            yield call()
            advance()


def _looked_up(kept: Kept[..., Any], items: list[Any]) -> Iterator[Callable[[], Any]]:
    """The calls; where the store answers many look-ups at once, what is kept is only opened."""
    here: list[Callable[[], Any]] = [lambda args=args: kept(*args) for args in items]  # type: ignore[misc]  # bound now
    try:
        quick = len(items) < 2 or kept.awaits or not can_find_many(kept.cache)
    except Exception:  # noqa: BLE001  the calls meet it too, and deal with it
        quick = True
    if quick:
        yield from here
        return
    from wellkept.memo.lookups import look_up_all  # where it saves trips

    looked = look_up_all(kept.bind(*args) for args in items)
    for call, (_, opened) in zip(here, looked, strict=True):
        yield call if opened is None else lambda call=call, opened=opened: _result(opened(call))  # type: ignore[misc]  # bound now


def _result(value: Any) -> Any:
    from wellkept.memo.flow import Raise

    if type(value) is Raise:
        raise value.error
    return value


def _elsewhere(
    kept: Kept[..., Any], items: list[Any], progress: bool | None, executor: Any, ordered: bool
) -> Iterator[Any]:
    from concurrent.futures import as_completed  # who only calls here has no need of it

    from wellkept.memo.executor import wrapped

    futures = wrapped(executor).send_all(kept, items, {})
    waiting = set(futures)
    try:
        with progress_bar(kept.__name__, len(items), progress) as advance:
            for future in futures if ordered else as_completed(futures):
                result = future.result()
                waiting.discard(future)
                yield result
                advance()
    finally:
        for future in waiting:
            future.cancel()


async def map_async(
    kept: Kept[..., Any],
    iterables: tuple[Iterable[Any], ...],
    progress: bool | None,
    executor: Any,
) -> list[Any]:
    """The same of a coroutine function: all at once, here or in an executor; the results, in order."""
    import asyncio

    items = list(zip(*iterables, strict=False))
    calls: list[Any] = []
    if executor is not None:
        from wellkept.memo.executor import wrapped

        calls = list(map(asyncio.wrap_future, wrapped(executor).send_all(kept, items, {})))
    with progress_bar(kept.__name__, len(items), progress) as advance:

        async def one(call: Any) -> Any:
            result = await call
            advance()
            return result

        return list(await asyncio.gather(*map(one, calls or (kept(*args) for args in items))))


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


def submit(executor: Any, call: Any) -> Future[Any]:
    """Run a bound call in an executor, unless it is kept: then its future is done."""
    from wellkept.memo.executor import wrapped

    return wrapped(executor).submit(call)
