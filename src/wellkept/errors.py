"""What can go wrong, as one tree.

::

    KeptError
    ├── Undigestible       a value has no identity: an open file, a lock, an iterator (a TypeError)
    ├── EncodeError        a value can't be turned into bytes
    ├── DecodeError        bytes can't be turned back into a value
    │   └── DamagedValue   … because they are not the bytes that were written
    ├── StoreError         a store is unavailable, full, or refuses
    │   ├── NewerSchema      a newer wellkept made it; nothing was touched
    │   └── UntrustedSource  values from a place that others can write to
    ├── ConfigError        wellkept.toml, an environment variable, an option or a URL is wrong (a ValueError)
    ├── AmbiguousDigest    a short digest fits more than one (a ValueError)
    └── NotKept            nothing is kept under that key (a KeyError)

A message says what was attempted, on what, and what to do. An error that a driver raised is
translated where the driver was called, with the cause chained.
"""

from __future__ import annotations

import functools
import os
import sys
import typing
import warnings

if typing.TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import CodeType, TracebackType
    from typing import Any

__all__ = [
    "AmbiguousDigest",
    "ConfigError",
    "DamagedValue",
    "DecodeError",
    "EncodeError",
    "KeptError",
    "KeptWarning",
    "NewerSchema",
    "NotKept",
    "StoreError",
    "Undigestible",
    "UntrustedSource",
]


class KeptError(Exception):
    """The root of everything that wellkept raises."""


class Undigestible(KeptError, TypeError):
    """A value has no identity; the message names the path to the leaf."""


class EncodeError(KeptError):
    """A value can't be turned into bytes."""


class DecodeError(KeptError):
    """Bytes can't be turned back into a value."""

    # What a kept result is of which it is raised, as a warning says it.
    what = "damaged"


class DamagedValue(DecodeError):
    """Stored bytes are not those that were written."""


class StoreError(KeptError):
    """A store is unavailable, full, or refuses the operation."""


class NewerSchema(StoreError):
    """A newer version of wellkept made the store; it is left alone."""


class UntrustedSource(StoreError):
    """Values come from a place that others can write to."""


class ConfigError(KeptError, ValueError):
    """A configuration file, an environment variable, an option or a URL is wrong."""


class AmbiguousDigest(KeptError, ValueError):
    """A short digest fits more than one."""


class NotKept(KeptError, KeyError):
    """Nothing is kept under that key."""

    def __str__(self) -> str:  # KeyError would show the message's repr
        return str(self.args[0]) if self.args else ""


class KeptWarning(UserWarning):
    """Caching did less than it was asked to; the caller got the right result."""


def nearest(name: Any, names: Iterable[str]) -> str:
    """Return `; did you mean …?` for the end of a message, or nothing where no name is near."""
    # Nobody has mistyped yet.
    import difflib

    known = {one.lower(): one for one in names}
    near = difflib.get_close_matches(str(name).lower(), known, 1, 0.6)
    return f"; did you mean {known[near[0]]!r}?" if near else ""


_HERE = os.path.dirname(__file__) + os.sep  # noqa: PTH120  this is imported first, and Path is not needed

_IMPORTING = "<frozen importlib._bootstrap"


def tell(text: str) -> None:
    """Warn, at the first line on the stack that is not this library's."""
    level, frame = 1, sys._getframe()
    while frame.f_code.co_filename.startswith((_HERE, _IMPORTING)) and frame.f_back is not None:
        # Python does not count the frames of an import.
        level += not frame.f_code.co_filename.startswith(_IMPORTING)
        frame = frame.f_back
    warnings.warn(text, KeptWarning, stacklevel=level)
    # A signal's handler may call in the midst of its import.
    logger = getattr(sys.modules.get("logging"), "getLogger", None)
    if logger is not None:
        log = logger("wellkept.troubles")
        # Without a handler, logging itself would show what the warning has shown.
        if log.hasHandlers():
            log.warning("%s", text)


F = typing.TypeVar("F", bound="Callable[..., Any]")


REPLAYING: set[CodeType] = set()
"""The code of functions that raise kept exceptions, and so stand last in their tracebacks."""


def shorten(error: BaseException) -> None:
    """Leave out of a traceback the frames of this library that stand between a caller and the body that
    failed, or that raise a kept exception; an error of the library itself shows them all.

    A bare `raise` after it does not add its own frame either.
    """
    left: list[TracebackType] = []
    ours: list[TracebackType] = []
    at = error.__traceback__
    while at is not None:
        if at.tb_frame.f_code.co_filename.startswith(_HERE):
            ours.append(at)
        else:
            left.append(at)
            ours = []
        at = at.tb_next
    if ours and ours[-1].tb_frame.f_code in REPLAYING:
        # Who shortens it again has to know.
        ours = ours[-1:]
    left += ours
    following = None
    for at in reversed(left):
        at.tb_next = following
        following = at
    error.__traceback__ = following


def shortening(function: F) -> F:
    """The function, followed by `shorten` when an exception leaves it."""

    @functools.wraps(function)
    def run(*arguments: Any, **options: Any) -> Any:
        try:
            return function(*arguments, **options)
        except BaseException as error:
            shorten(error)
            raise

    return run  # type: ignore[return-value]  # of the same signature
