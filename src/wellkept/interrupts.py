"""Locks that an exception between two instructions does not leave held, and what else it may leave.

An exception that a signal's handler raises, or another thread sends, comes after any instruction: also
after a lock was taken and before the block begins that lets go of it. Python sees to it that none comes
there for `with` on a lock that is written in C; a tracer's may, and no `try` of our own is without such
gaps. So besides the blocks there is `settle`, which the outermost call of the library asks for when an
exception leaves it that is none of its own.
"""

from __future__ import annotations

import contextlib
import functools
import os
import sys
import threading
import time
import weakref
from collections.abc import Callable
from contextvars import copy_context
from types import FrameType
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

F = TypeVar("F", bound=Callable[..., Any])
R = TypeVar("R")

_HERE = os.path.dirname(__file__) + os.sep  # noqa: PTH120  this is imported first, and Path is not needed
_INNER = tuple(f"{_HERE}{room}{os.sep}" for room in ("stores", "kv", "caches"))

if TYPE_CHECKING:

    class RLock:
        """What `threading.RLock` gives: the class has no public name, but may be derived from."""

        def acquire(self, blocking: bool = True, timeout: float = -1) -> bool: ...
        def release(self) -> None: ...
        def __enter__(self) -> bool: ...
        def __exit__(self, *_: object) -> None: ...
        def _is_owned(self) -> bool: ...
        def _at_fork_reinit(self) -> None: ...

else:
    RLock = type(threading.RLock())


class Guard(RLock):
    """A reentrant lock, as fast as `threading.RLock`; `settle` releases what an interrupt left held."""

    def __init__(self) -> None:
        _guards.add(self)


class Settles(Protocol):
    """Something that may have to be repaired."""

    def settle(self) -> None:
        """Make right what this thread left. Raises nothing."""
        ...


_guards: weakref.WeakSet[Guard] = weakref.WeakSet()
_others: weakref.WeakSet[Any] = weakref.WeakSet()


def settles(other: Settles) -> None:
    """Have something repaired with the locks, once they are free."""
    _others.add(other)


def settle() -> None:
    """Let go of all that this thread still holds of the library's, unless it is at work there: if a
    signal's handler or a finalizer calls while that goes on, what is held is held with reason.
    """
    if _at_work():
        return
    # Another thread may make a guard meanwhile.
    with contextlib.suppress(RuntimeError):
        for guard in list(_guards):
            while guard._is_owned():
                guard.release()
        for other in list(_others):
            # Who uses it next meets the error again.
            with contextlib.suppress(Exception):
                other.settle()


def settling(function: F) -> F:
    """The function, followed by `settle` when an exception leaves it that is no `Exception`."""

    @functools.wraps(function)
    def run(*arguments: Any, **options: Any) -> Any:
        try:
            return function(*arguments, **options)
        except BaseException as error:
            if not isinstance(error, Exception):
                settle()
            raise

    return run  # type: ignore[return-value]  # of the same signature


def undisturbed(do: Callable[..., R], *arguments: Any, **options: Any) -> R:
    """What `do(…)` gives, in a thread of its own, where no signal's handler interrupts it.

    For what imports a driver: half of one can be imported neither again nor on, so that each later
    call would fail. Who is interrupted meanwhile leaves that thread to its work.
    """
    results: list[R] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(context.run(do, *arguments, **options))
        except BaseException as error:  # noqa: BLE001  raised below
            errors.append(error)

    context = copy_context()
    thread = threading.Thread(target=run, name="wellkept-opening", daemon=True)
    try:
        thread.start()
    except RuntimeError:
        # An interpreter that is about to end begins no threads.
        return do(*arguments, **options)
    thread.join()
    for error in errors:
        try:
            raise error
        finally:
            # It has this frame, and would keep itself alive.
            errors.clear()
    return results[0]


def on_stack(frame: FrameType | None) -> bool:
    """Whether this thread is still inside the call with that frame."""
    if frame is not None:
        at: FrameType | None = sys._getframe(1)
        while at is not None:
            if at is frame:
                return True
            at = at.f_back
    return False


def _at_work() -> bool:
    """Whether a frame that may hold something lies below the library's call that is being made."""
    at: FrameType | None = sys._getframe(2)
    while at is not None and _is_ours(at):
        at = at.f_back
    while at is not None:
        if at.f_code.co_filename.startswith(_INNER):
            return True
        at = at.f_back
    return False


def _is_ours(frame: FrameType) -> bool:
    name = frame.f_code.co_filename
    return name.startswith(_HERE) or name == contextlib.__file__


# Seconds for which a fork waits for an import.
_PATIENCE = 5.0
_interval: list[float] = []


def _importing() -> bool:
    """Whether another thread is in the midst of an import that this library asked for."""
    me = threading.get_ident()
    for thread, frame in sys._current_frames().items():
        at: FrameType | None = None if thread == me else frame
        imports = False
        while at is not None:
            name = at.f_code.co_filename
            if name.startswith(_HERE) and imports:
                return True
            imports = imports or name.startswith("<frozen importlib")
            at = at.f_back
    return False


def _before_fork() -> None:
    # The lock of a module that another thread imports would be held for ever in the child: the first
    # call there that imports the same module would never return. This is registered before all else
    # of the library, so it runs last, and no other thread is to run between the look and the fork.
    deadline = time.monotonic() + _PATIENCE
    _interval.append(sys.getswitchinterval())
    sys.setswitchinterval(1.0)
    time.sleep(0)
    while _importing() and time.monotonic() < deadline:
        time.sleep(0.001)


def _after_fork() -> None:
    while _interval:
        sys.setswitchinterval(_interval.pop())


def _after_fork_in_child() -> None:
    _after_fork()
    for guard in list(_guards):
        # Another thread, which is not here, may have held it.
        if not guard._is_owned():
            guard._at_fork_reinit()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork_in_child
    )


class Owner:
    """Who holds a lease in this process. Once it is over, the lease is free for whoever in the process
    asks for it: an exception may have come before it was let go of.
    """

    over = False
    looked = False
    """Whether the lease came with the look before it: nobody can have kept a result since, so there
    is no need to look again."""
