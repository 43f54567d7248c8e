"""Futures that kept functions return: kept when they are done, and done when they are loaded."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from wellkept._process import at_fork
from wellkept.interrupts import Guard
from wellkept.memo.inflight import Origin

if TYPE_CHECKING:
    from concurrent.futures import Future


PENDING: dict[tuple[int, bytes], Future[Any]] = {}
"""By lock table and key: what equal calls wait for meanwhile."""
_guard = Guard()


class Done:
    """What a future gave. It stands for that future in a store, and is loaded as one that is done."""

    value: Any
    error: BaseException | None

    def __init__(self, value: Any, error: BaseException | None = None) -> None:
        self.value, self.error = value, error

    def future(self) -> Future[Any]:
        return _done(self.value, self.error)

    def __reduce__(self) -> tuple[Any, ...]:
        return _done, (self.value, self.error)

    def __digest__(self) -> Any:
        return "future", self.value


def _done(value: Any, error: BaseException | None) -> Future[Any]:
    from concurrent.futures import Future

    future: Future[Any] = Future()
    if error is None:
        future.set_result(value)
    else:
        future.set_exception(error)
    return future


def is_future(result: Any) -> bool:
    """Whether it is one of `concurrent.futures`, or of a library that makes its own of them."""
    futures: Any = sys.modules.get("concurrent.futures")
    # Its type, and not what it says of itself: a proxy may raise for want of what it stands for.
    return futures is not None and issubclass(type(result), futures.Future)


def settled(result: Any) -> Any:
    """A result that can travel: for a future, what it gives, once it does."""
    if not is_future(result):
        return result
    error = result.exception()
    return Done(None, error) if error is not None else Done(result.result())


def follow(
    name: tuple[int, bytes], future: Future[Any], keep: Callable[[Done], None], origin: Origin
) -> None:
    """Have a future's result kept when there is one; equal calls get a future of the same result.

    Args:
        name: lock table and key of the call.
        keep: keeps it. An error there is a warning.
    """
    with _guard:
        PENDING[name] = future

    def end(future: Future[Any]) -> None:
        try:
            if not future.cancelled():
                with origin.entered():
                    keep(settled(future))
        finally:
            with _guard:
                if PENDING.get(name) is future:
                    del PENDING[name]

    future.add_done_callback(end)


def join(future: Future[Any]) -> Future[Any]:
    """Another future of the same result: cancelling it leaves the other alone."""
    from concurrent.futures import Future

    mine: Future[Any] = Future()

    def end(future: Future[Any]) -> None:
        if future.cancelled():
            mine.cancel()
        if not mine.set_running_or_notify_cancel():
            return
        if (error := future.exception()) is not None:
            mine.set_exception(error)
        else:
            mine.set_result(copied(future.result()))

    future.add_done_callback(end)
    return mine


def copied(value: Any) -> Any:
    """A copy for another caller; what can't be copied is shared."""
    try:
        return copy.deepcopy(value)
    except Exception:  # noqa: BLE001  see above
        return value


def _after_fork() -> None:
    global _guard
    # Another thread may have held it at the fork.
    _guard = Guard()
    # In a child nothing completes what the parent waits for.
    PENDING.clear()


at_fork(in_child=_after_fork)
