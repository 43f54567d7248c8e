"""Objects of Python classes: by the fields that a class declares, else as pickle sees them."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FunctionType
from typing import Any

from .buffers import Known
from .names import class_name, module_of
from .registry import Reducer, Refused

__all__ = ["NOTHING_HELPS", "Fields", "fields_of", "generic"]

Fields = tuple[tuple[str, str, str], tuple[str, ...], bool]
"""Of a class: (tag, its name, field names joined by commas), the field names, whether all slots."""

NOTHING_HELPS = (
    "leave the argument out with `ignore`, or say what stands for it with register_digest"
)

_HEAP = 1 << 9
"""`Py_TPFLAGS_HEAPTYPE`: the class was made at run time, by Python or by a C module's spec."""

_GENERATED = ("dataclasses", "attr._make")
"""Modules whose decorators write `__getstate__` into slotted classes; it says nothing new."""

_declared_by: dict[type, Fields] = {}


def _is_plain(kind: type) -> bool:
    """Whether instances hold nothing but attributes, and pickle as attributes."""
    for base in kind.__mro__[:-1]:
        if not base.__flags__ & _HEAP:
            return False
        for name in ("__reduce__", "__reduce_ex__", "__getstate__", "__getnewargs__"):
            method = base.__dict__.get(name)
            if method is not None and getattr(method, "__module__", "") not in _GENERATED:
                return False
    reduce: Any = kind.__reduce_ex__
    return reduce is object.__reduce_ex__


def _slots(kind: type) -> set[str]:
    import copyreg

    names = copyreg._slotnames(kind)  # type: ignore[attr-defined]
    return {str(name) for name in names}


def _find_fields(kind: type) -> Fields | None:
    if "__dataclass_fields__" in dir(kind):
        import dataclasses  # loaded already: it made the class

        tag, names = "dataclass", tuple(field.name for field in dataclasses.fields(kind))
    elif "__attrs_attrs__" in dir(kind):
        tag, names = "attrs", tuple(field.name for field in kind.__attrs_attrs__)  # type: ignore[attr-defined]
    else:
        return None
    slots = _slots(kind)
    has_dict = "__dict__" in dir(kind) and kind.__dictoffset__ != 0
    if not _is_plain(kind) or (slots and (has_dict or not slots <= set(names))):
        return None
    return (tag, class_name(kind), ",".join(names)), names, not has_dict


def fields_of(kind: type) -> Fields | None:
    """The fields of a class whose reducer goes by them alone; asked after `reducer_of(kind)`."""
    return _declared_by.get(kind)


def forget_fields() -> None:
    """After a registration: it may be for such a class."""
    _declared_by.clear()


def _extras(value: Any, names: tuple[str, ...]) -> dict[str, Any]:
    """Attributes beyond the fields, without what `functools.cached_property` left there."""
    held = getattr(value, "__dict__", None)
    if not held or held.keys() <= set(names):
        return {}
    return {
        name: item
        for name, item in held.items()
        if name not in names and not _is_cached(type(value), name)
    }


def _is_cached(kind: type, name: str) -> bool:
    return type(getattr(kind, name, None)).__name__ == "cached_property"


def _declared(fields: Fields) -> Reducer:
    head, names, _ = fields

    def reduce(value: Any, known: Known | None) -> tuple[Any, ...]:
        extras = _extras(value, names)
        try:
            content = [getattr(value, name) for name in names]
        except AttributeError:
            present = [name for name in names if hasattr(value, name)]
            content = [getattr(value, name) for name in present]
            return (*head[:2], ",".join(present), *content, extras)
        return (*head, *content, extras) if extras else (*head, *content)

    return reduce


def _namedtuple(kind: type) -> Reducer:
    head = ("namedtuple", class_name(kind), ",".join(kind._fields))  # type: ignore[attr-defined]

    def reduce(value: Any, known: Known | None) -> tuple[Any, ...]:
        extras = getattr(value, "__dict__", None)
        return (*head, *tuple(value), dict(extras)) if extras else (*head, *tuple(value))

    return reduce


def _overrides(kind: type, *names: str) -> bool:
    """Whether a Python class among the bases defines one of the methods."""
    return any(
        isinstance(base.__dict__.get(name), FunctionType)
        for base in kind.__mro__[:-1]
        for name in names
    )


def generic(kind: type) -> Reducer:
    """The reducer for a type that no table names."""
    if kind is object:  # a sentinel: all it has is which one it is, and that ends with the process
        return _refuse(f"a bare object() has no identity that lasts: {NOTHING_HELPS}")
    if hasattr(kind, "__next__") and hasattr(kind, "__iter__"):
        own = _overrides(kind, "__reduce__", "__reduce_ex__", "__getstate__")
        if not own or module_of(kind.__module__).partition(".")[0] in sys.stdlib_module_names:
            return _refuse(
                f"a {kind.__qualname__} is an iterator: reading it would use it up. "
                f"Pass a list, or {NOTHING_HELPS}"
            )
    for name, what in (("__await__", "an awaitable"), ("__anext__", "an asynchronous iterator")):
        if hasattr(kind, name) and not _overrides(kind, "__reduce__", "__reduce_ex__"):
            return _refuse(f"{what} ({kind.__qualname__}) has no identity: {NOTHING_HELPS}")
    fields = _find_fields(kind)
    if fields is not None:
        if len(_declared_by) > 4096:
            _declared_by.clear()
        _declared_by[kind] = fields
        return _declared(fields)
    if issubclass(kind, tuple) and isinstance(getattr(kind, "_fields", None), tuple):
        return _namedtuple(kind)
    if issubclass(kind, type):
        return lambda value, known: ("class", class_name(value))
    if issubclass(kind, (set, frozenset)):
        return _set(kind)
    return _pickled(kind)


def _refuse(reason: str) -> Reducer:
    def reduce(value: Any, known: Known | None) -> tuple[Any, ...]:
        raise Refused(reason)

    return reduce


def _set(kind: type) -> Reducer:
    """A subclass of set: pickle would list its elements in the order of their hashes."""
    name = class_name(kind)
    base: Callable[[Any], Any] = frozenset if issubclass(kind, frozenset) else set

    def reduce(value: Any, known: Known | None) -> tuple[Any, ...]:
        state = value.__getstate__()
        plain = ("object", name, base(value))
        return plain if state is None else (*plain, state)

    return reduce


def _pickled(kind: type) -> Reducer:
    import copyreg
    from collections import OrderedDict

    name = class_name(kind)
    ordered = issubclass(kind, OrderedDict)
    # tblib (dask loads it) registers all exceptions, so that their tracebacks are pickled too.
    registered = {} if issubclass(kind, BaseException) else copyreg.dispatch_table

    def reduce(value: Any, known: Known | None) -> tuple[Any, ...]:
        special = registered.get(kind)
        try:
            got = special(value) if special is not None else value.__reduce_ex__(4)
        except Exception as error:
            raise Refused(
                f"a {name} has no identity, since pickle can't take it apart "
                f"({type(error).__name__}: {error}); {NOTHING_HELPS}"
            ) from error
        if isinstance(got, str):
            return "global", module_of(getattr(value, "__module__", None) or kind.__module__), got
        if not isinstance(got, tuple) or not 2 <= len(got) <= 6:
            what = type(got).__name__
            raise Refused(f"a {name} has no identity: its __reduce_ex__ returned a {what}")
        padded: list[Any] = [*got, None, None, None, None]
        function, arguments, state, items, pairs, setter = padded[:6]
        if getattr(function, "__name__", "") in ("__newobj__", "__newobj_ex__"):
            if arguments and arguments[0] is kind:
                function, arguments = function.__name__ == "__newobj_ex__" or None, arguments[1:]
        elif function is kind:
            function = False
        if pairs is not None:
            listed = list(pairs)
            pairs = listed if ordered else _as_dict(listed)
        listing = None if items is None else list(items)
        content: list[Any] = [function, arguments, state, listing, pairs, setter]
        while content[-1] is None:
            content.pop()
            if not content:
                break
        return ("object", name, *content)

    return reduce


def _as_dict(pairs: list[Any]) -> Any:
    made = dict(pairs)
    return made if len(made) == len(pairs) else pairs


def attributes(value: Any) -> dict[str, Any]:
    """An instance's `__dict__` as a plain dict; empty if it has none."""
    return dict(getattr(value, "__dict__", None) or {})
