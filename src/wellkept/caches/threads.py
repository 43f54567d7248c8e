"""Context variables that reach the threads which are started while they are set.

A new thread begins with an empty context, and only `Thread.start` knows who starts it. So it is
wrapped, when the first variable asks for it; it then notes the values on the thread, and no more.
"""

from __future__ import annotations

import threading
from contextvars import ContextVar
from typing import Any, TypeVar

from wellkept.interrupts import Guard

__all__ = ["inherited", "reach_threads"]

T = TypeVar("T")
_reaching: list[ContextVar[Any]] = []
_guard = Guard()


def reach_threads(variable: ContextVar[Any]) -> None:
    """From now on the variable's value reaches new threads; its default must be None."""
    with _guard:
        if variable in _reaching:
            return
        if not _reaching:
            _wrap()
        _reaching.append(variable)


def inherited(variable: ContextVar[T | None]) -> T | None:
    """The variable's value here, or where this thread was started."""
    value = variable.get()
    if value is None and _reaching:
        noted = getattr(threading.current_thread(), "_kept_context", None)
        value = noted.get(variable) if noted else None
    return value


def _wrap() -> None:
    original = threading.Thread.start

    def start(self: threading.Thread) -> None:
        noted = {variable: inherited(variable) for variable in _reaching}
        if any(value is not None for value in noted.values()):
            self._kept_context = noted  # type: ignore[attr-defined]  # read by `inherited`
        original(self)

    start.__wrapped__ = original  # type: ignore[attr-defined]  # for who looks beneath
    threading.Thread.start = start  # type: ignore[method-assign]  # see above
