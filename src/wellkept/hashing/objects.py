"""Objects of Python classes: by the fields that a class declares, else as pickle sees them."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable
from itertools import islice
from types import FunctionType
from typing import Any

from .buffers import Known
from .definitions import TAG, class_code
from .names import class_name, module_of
from .registry import HEAP, Reducer, Refused

__all__ = [
    "NOTHING_HELPS",
    "Fields",
    "attributes",
    "cached_names",
    "fields_of",
    "generic",
    "library_of",
    "own_attributes",
    "reduce_class",
    "slots_beside",
    "slots_held",
]

Fields = tuple[tuple[Any, ...], tuple[str, ...], bool]
"""Of a class: (tag, its name, field names joined by commas), the field names, whether all slots. Of
one of a project, its code and the tag that says so stand before the tag.
"""

NOTHING_HELPS = (
    "leave the argument out with `ignore`, or say what stands for it with register_digest"
)

_GENERATED = ("dataclasses", "attr._make")
"""Modules whose decorators write `__getstate__` into slotted classes; it says nothing new."""

_declared_by: dict[type, Fields] = {}


def _is_plain(kind: type) -> bool:
    """Whether instances hold nothing but attributes, and pickle as attributes."""
    for base in kind.__mro__[:-1]:
        if not base.__flags__ & HEAP:
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
    fields = _declared_by.get(kind)
    if fields is None:
        return None
    code = class_code(kind)
    return fields if code is None else ((f"{TAG}{code}", *fields[0]), *fields[1:])


def forget_fields() -> None:
    """After a registration: it may be for such a class."""
    _declared_by.clear()


_CACHING = re.compile(
    r"cached_?property|lazy_?property|memoized_?(?:property|attribute)|reify", re.IGNORECASE
)
"""Names of the decorators that put the value of a property into the instance's `__dict__`."""

_KEPT_BY_LIBRARIES = frozenset({"_attrs_cached_hash", "__networkx_cache__", "_memoized_keys"})
"""Attributes in which libraries keep what they worked out, whatever the class."""


def cached_names(kind: type) -> frozenset[str]:
    """Return the attributes that reading an instance of a class leaves behind, which don't count.

    They are known by their descriptors; an attribute that a program fills itself is its state.
    """
    found = set(_KEPT_BY_LIBRARIES)
    looked_up: set[str] = set()
    for base in kind.__mro__[:-1]:
        for name, item in base.__dict__.items():
            if name in looked_up:  # a class nearer to the instance says what it is
                continue
            looked_up.add(name)
            if any(_CACHING.fullmatch(at.__name__.strip("_")) for at in type(item).__mro__):
                # pandas keeps the values of all cached properties in one dict
                pandas = type(item).__module__ == "pandas._libs.properties"
                found.add("_cache" if pandas else name)
    return frozenset(found)


def _without(held: Any, names: frozenset[str]) -> Any:
    """A dict of attributes without some of them; None if nothing is left."""
    if not isinstance(held, dict) or names.isdisjoint(held):
        return held
    return {name: item for name, item in held.items() if name not in names} or None


def _of_state(state: Any, cached: frozenset[str]) -> Any:
    """The state of a pickle reduction as it was before the object was looked at."""
    if type(state) is tuple and len(state) == 2 and isinstance(state[1], dict):
        held, slots = _without(state[0], cached), _without(state[1], cached)
        return held if slots is None else (held, slots)
    return _without(state, cached)


def _extras(value: Any, names: tuple[str, ...], cached: frozenset[str]) -> dict[str, Any]:
    """Attributes beyond the fields."""
    held = getattr(value, "__dict__", None)
    if not held or held.keys() <= set(names):
        return {}
    return {name: item for name, item in held.items() if name not in names and name not in cached}


def _declared(kind: type, fields: Fields) -> Reducer:
    head, names, _ = fields
    cached = cached_names(kind)

    def reduce(value: Any, known: Known | None) -> tuple[Any, ...]:
        extras = _extras(value, names, cached)
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
    cached = cached_names(kind)

    def reduce(value: Any, known: Known | None) -> tuple[Any, ...]:
        extras = _without(getattr(value, "__dict__", None), cached)
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
        return _declared(kind, fields)
    if issubclass(kind, tuple) and isinstance(getattr(kind, "_fields", None), tuple):
        return _namedtuple(kind)
    if issubclass(kind, type):
        return reduce_class
    if issubclass(kind, (set, frozenset)):
        return _set(kind)
    return _pickled(kind)


def reduce_class(value: Any, known: Known | None) -> tuple[Any, ...]:
    """The reducer for classes: the name, and of those of a project the code."""
    code = class_code(value)
    content = "class", class_name(value)
    return content if code is None else (f"{TAG}{code}", *content)


def _refuse(reason: str) -> Reducer:
    def reduce(value: Any, known: Known | None) -> tuple[Any, ...]:
        raise Refused(reason)

    return reduce


def _set(kind: type) -> Reducer:
    """A subclass of set: pickle would list its elements in the order of their hashes."""
    name, cached = class_name(kind), cached_names(kind)
    base: Callable[[Any], Any] = frozenset if issubclass(kind, frozenset) else set

    def reduce(value: Any, known: Known | None) -> tuple[Any, ...]:
        state = _of_state(value.__getstate__(), cached)
        plain = ("object", name, base(value))
        return plain if state is None else (*plain, state)

    return reduce


_MOST_ITEMS = 100_000_000
"""List or dict items that a reduction may give; an iterator of one may have no end."""


def _pickled(kind: type) -> Reducer:
    import copyreg
    from collections import OrderedDict

    name, cached = class_name(kind), cached_names(kind)
    ordered = issubclass(kind, OrderedDict)
    is_error = issubclass(kind, BaseException)
    # tblib (dask loads it) registers all exceptions, so that their tracebacks are pickled too.
    registered = {} if is_error else copyreg.dispatch_table
    unknown = _unknown_to_reduction(kind)

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
            listed = _listed(pairs)
            pairs = listed if ordered else _as_dict(listed)
        listing = None if items is None else _listed(items)
        if type(state) is not dict or not cached.isdisjoint(state):
            state = None if state is None else _of_state(state, cached)
        # The `__dict__` of an exception is made when it is looked at.
        if is_error and type(state) is dict and not state:
            state = None
        content: list[Any] = [function, arguments, state, listing, pairs, setter]
        while content[-1] is None:
            content.pop()
            if not content:
                break
        beyond = {} if unknown is None else _beyond(value, state, cached, unknown)
        if is_error and (told := _told_with(value)) is not None:
            beyond["told with"] = told
        return ("k2:object", name, beyond, *content) if beyond else ("object", name, *content)

    return reduce


def _listed(items: Any) -> list[Any]:
    listed = list(islice(items, _MOST_ITEMS))
    if len(listed) == _MOST_ITEMS:
        raise Refused(f"its reduction gives {_MOST_ITEMS} items or more: {NOTHING_HELPS}")
    return listed


def _unknown_to_reduction(kind: type) -> tuple[str, ...] | None:
    """The slots that the inherited `__reduce__` of another library's class can't know.

    A subclass of `datetime`, `Fraction` or an exception may have attributes that its base leaves
    out when it is pickled. None if the class is taken apart by itself, its own library, or pickle.
    """
    above: list[type] = []
    for base in kind.__mro__[:-1]:
        if "__reduce_ex__" in base.__dict__ or "__reduce__" in base.__dict__:
            top = library_of(base)
            if library_of(kind) == top:
                return None
            return tuple(slots_beside(above, top))
        above.append(base)
    return None


def slots_of(kind: type) -> list[str]:
    """The slots that a class itself adds, by the names that `getattr` takes."""
    slots = kind.__dict__.get("__slots__", ())
    names = [slots] if isinstance(slots, str) else [str(name) for name in slots]
    within = kind.__name__.lstrip("_")
    return [
        f"_{within}{name}" if within and name[:2] == "__" and name[-2:] != "__" else name
        for name in names
        if name not in ("__dict__", "__weakref__")
    ]


def library_of(kind: type) -> str:
    """The first part of the name of a class's module."""
    return str(kind.__module__).partition(".")[0]


def slots_beside(kinds: Iterable[type], library: str) -> list[str]:
    """The slots that classes add which are not of a library."""
    return [name for kind in kinds if library_of(kind) != library for name in slots_of(kind)]


def slots_held(value: Any, names: Iterable[str]) -> dict[str, Any]:
    """What is in an object's slots; one that nothing was put into is left out."""
    return {name: getattr(value, name) for name in names if hasattr(value, name)}


def _beyond(
    value: Any, state: Any, cached: frozenset[str], slots: tuple[str, ...]
) -> dict[str, Any]:
    """What an object holds and its reduction does not give."""
    held = {} if state is not None else _without(attributes(value), cached) or {}
    return {**held, **slots_held(value, slots)}


def _told_with(error: BaseException) -> tuple[Any, ...] | None:
    """What an exception is shown with, and pickle leaves out: (cause, context, whether it is hidden)."""
    hidden = error.__suppress_context__
    told = error.__cause__, None if hidden else error.__context__, hidden
    return None if told == (None, None, False) else told


def _as_dict(pairs: list[Any]) -> Any:
    made = dict(pairs)
    return made if len(made) == len(pairs) else pairs


def attributes(value: Any) -> dict[str, Any]:
    """An instance's `__dict__` as a plain dict; empty if it has none."""
    return dict(getattr(value, "__dict__", None) or {})


def own_attributes(value: Any) -> dict[str, Any]:
    """The same, without what reading the object left there."""
    held = attributes(value)
    return held and (_without(held, cached_names(type(value))) or {})
