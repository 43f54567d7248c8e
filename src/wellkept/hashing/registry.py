"""Which function takes apart objects of which type; found once a type, then looked up.

A *reducer* turns an object into a tuple `(tag, *content)`: a text that says what it is, and values
that the encoding goes on with. Tables name types by `module.qualname`, so that no module is
imported to learn about types that no value has.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from importlib import import_module
from typing import Any

from ..errors import KeptWarning
from .buffers import Known
from .names import class_name, type_key

__all__ = ["Reducer", "Refused", "reducer_of", "register_digest"]

Reducer = Callable[[Any, "Known | None"], tuple[Any, ...]]


class Refused(Exception):  # noqa: N818 - becomes an Undigestible once the path is known
    """This value has no identity; the text says why and what to do."""


_PROVIDERS = {
    "numpy": "numeric",
    "scipy": "numeric",
    "torch": "numeric",
    "pandas": "frames",
    "pyarrow": "arrow",
    "polars": "frames",
    "xarray": "labelled",
}
"""The first part of a type's module -> the module of this package that knows its types."""

_late: dict[type, Callable[[Any], Any]] = {}
_late_named: dict[str, Callable[[Any], Any]] = {}
"""From entry points, by type or by the type's name. They are loaded when a type is met that no
table names, and tables go before them, so that what was met earlier makes no difference."""

_registered: dict[type, Callable[[Any], Any]] = {}
_found: dict[type, Reducer] = {}
_entry_points = "unread"

HEAP = 1 << 9
"""`Py_TPFLAGSHEAPTYPE`: the class was made at run time, by Python or by a C module's spec."""

_MOST_TYPES = 4096
"""Types remembered; a program that makes classes without end must not fill memory."""


def register_digest(kind: type, function: Callable[[Any], Any]) -> None:
    """Let `function(obj)` stand for objects of `kind` and its subclasses.

    The result must be digestible and hold all that functions can tell apart. The class of the
    object counts besides, so two types may return the same.

    Raises:
        TypeError: `kind` is not a class, or `function` can't be called.
    """
    if not isinstance(kind, type):
        raise TypeError(f"register_digest: a class is needed, not {kind!r}")
    if not callable(function):
        raise TypeError(f"register_digest: a function of the object is needed, not {function!r}")
    from .objects import forget_fields

    (_late if _entry_points == "loading" else _registered)[kind] = function
    _found.clear()
    forget_fields()


def _load_entry_points() -> None:
    """Run the registrations of installed packages, once.

    An entry point of the group `wellkept.digest` names a function without arguments that calls
    `register_digest`, or, if its own name is a `module.qualname`, a function of the object.
    """
    global _entry_points
    if _entry_points != "unread":
        return
    _entry_points = "loading"
    from importlib.metadata import entry_points

    for point in entry_points(group="wellkept.digest"):
        try:
            loaded = point.load()
            if "." in point.name:
                _late_named[point.name] = loaded
            else:
                loaded()
        except Exception as error:  # noqa: BLE001 - somebody else's package must not break a call
            warnings.warn(
                f"the entry point {point.name!r} ({point.value}) of the group wellkept.digest failed: "
                f"{type(error).__name__}: {error}",
                KeptWarning,
                stacklevel=2,
            )
    _entry_points = "loaded"


def _standing(function: Callable[[Any], Any]) -> Reducer:
    def reduce(value: Any, known: Known | None) -> tuple[Any, ...]:
        try:
            content = function(value)
        except Refused:
            raise
        except Exception as error:
            raise Refused(
                f"the digest of a {class_name(type(value))} failed with "
                f"{type(error).__name__}: {error}"
            ) from error
        return "digest", class_name(type(value)), content

    return reduce


def _own(kind: type) -> Reducer | None:
    """What was registered for a type or one of its bases, or the type's own `__digest__`."""
    for base in kind.__mro__:
        function = _registered.get(base)
        if function is not None:
            return _standing(function)
        if "__digest__" in base.__dict__:
            return _standing(lambda value: type(value).__digest__(value))
    return None


def _installed(kind: type) -> Reducer | None:
    """What an installed package registered for a type or one of its bases."""
    _load_entry_points()
    for base in kind.__mro__ if _late or _late_named else ():
        function = _late.get(base) or _late_named.get(type_key(base))
        if function is not None:
            return _standing(function)
    return None


def _tabled(kind: type) -> Reducer | None:
    for base in kind.__mro__[:-1]:
        key = type_key(base)
        top = key.partition(".")[0]
        provider = _PROVIDERS[top] if top in _PROVIDERS and top in sys.modules else "stdlib"
        tables = import_module(f"{__package__}.{provider}")
        reducer: Reducer | None = tables.EXACT.get(key) if base is kind else None
        if reducer is None:
            reducer = tables.FAMILIES.get(key)
        if reducer is not None:
            return reducer
    return None


def _find(kind: type) -> Reducer:
    told = _own(kind)
    if told is not None:
        return told
    reducer = _tabled(kind)
    if reducer is None:
        told = _installed(kind)
        if told is not None:
            return told
        from .objects import generic

        reducer = generic(kind)
    return _of_project(kind, reducer)


def _of_project(kind: type, reducer: Reducer) -> Reducer:
    """A reducer that adds the code of a project's class to what another one gives."""
    if not kind.__flags__ & HEAP or issubclass(kind, type):
        return reducer
    from .definitions import TAG, class_code

    if class_code(kind) is None:
        return reducer

    def reduce(value: Any, known: Known | None) -> tuple[Any, ...]:
        content = reducer(value, known)
        return f"{TAG}{class_code(kind)}", *content

    reduce.__module__ = reducer.__module__
    reduce.__wrapped__ = reducer  # type: ignore[attr-defined]  # functions have what they are given
    return reduce


def reducer_of(kind: type) -> Reducer:
    """The reducer for objects of exactly this type."""
    reducer = _found.get(kind)
    if reducer is None:
        if len(_found) >= _MOST_TYPES:
            _found.clear()
        reducer = _found[kind] = _find(kind)
    return reducer
