"""Reducers by type: the function that takes an object apart is found once for each type, then looked up.

A *reducer* turns an object into a tuple `(tag, *content)`: a text that says what it is, and values
that the encoding goes on with. Tables name types by `module.qualname`, so that no module is
imported to learn about types that no value has.
"""

from __future__ import annotations

import re
import sys
import warnings
import weakref
from collections.abc import Callable, Iterable
from importlib import import_module
from itertools import islice
from types import FunctionType
from typing import Any, TypeVar

from wellkept.errors import KeptWarning, Undigestible
from wellkept.hashing.buffers import Known
from wellkept.hashing.functions import TAG, class_code
from wellkept.hashing.names import HEAP, Bounded, Refused, class_name, module_of, type_key

Reducer = Callable[[Any, "Known | None"], tuple[Any, ...]]


# The first part of a type's module -> the module of this package that knows its types.
_PROVIDERS = {
    "numpy": "arrays",
    "scipy": "arrays",
    "torch": "models",
    "sklearn": "models",
    "tokenizers": "models",
    "transformers": "models",
    "pandas": "frames",
    "pyarrow": "frames",
    "polars": "frames",
    "xarray": "frames",
    "dask": "lazy",
    "distributed": "lazy",
    "zarr": "lazy",
}

# From entry points, by type or by the type's name. They are loaded when a type is met that no table names, and
# tables go before them, so that what was met earlier makes no difference.
_late: dict[type, Callable[[Any], Any]] = {}
_late_named: dict[str, Callable[[Any], Any]] = {}

_registered: dict[type, Callable[[Any], Any]] = {}
_found: dict[type, Reducer] = {}
_entry_points = "unread"

# Types remembered; a program that makes classes without end must not fill memory.
_MOST_TYPES = 4096


def register_digest(kind: type, function: Callable[[Any], Any]) -> None:
    """Have objects of `kind` and its subclasses digested as `function(obj)`.

    The result must be digestible and hold all that functions can tell apart. The class of the
    object counts besides, so two types may return the same.

    Raises:
        TypeError: `kind` is not a class, or `function` can't be called.
    """
    if not isinstance(kind, type):
        raise TypeError(f"register_digest: a class is needed, not {kind!r}")
    if not callable(function):
        raise TypeError(f"register_digest: a function of the object is needed, not {function!r}")

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
        except Undigestible as error:
            # It says what it is that has none.
            raise Refused(str(error)) from error
        except Exception as error:
            raise Refused(
                f"the digest of a {class_name(type(value))} failed with "
                f"{type(error).__name__}: {error}"
            ) from error
        return "digest", class_name(type(value)), content

    return reduce


def has_own_digest(kind: type) -> bool:
    """Return whether something was registered for a type or one of its bases, or it has `__digest__`."""
    return (_own(kind) or _installed(kind)) is not None


def _own(kind: type) -> Reducer | None:
    """Return what was registered for a type or one of its bases, or the type's own `__digest__`."""
    for base in kind.__mro__:
        function = _registered.get(base)
        if function is not None:
            return _standing(function)
        if "__digest__" in base.__dict__:
            return _standing(lambda value: type(value).__digest__(value))
    return None


def _installed(kind: type) -> Reducer | None:
    """Return what an installed package registered for a type or one of its bases."""
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

        reducer = generic(kind)
    return _of_project(kind, reducer)


def _of_project(kind: type, reducer: Reducer) -> Reducer:
    """Return a reducer that adds the code of a project's class to what another one gives."""
    if not kind.__flags__ & HEAP or issubclass(kind, type):
        return reducer
    from wellkept.hashing.functions import TAG, class_code

    if class_code(kind) is None:
        return reducer

    def reduce(value: Any, known: Known | None) -> tuple[Any, ...]:
        content = reducer(value, known)
        return f"{TAG}{class_code(kind)}", *content

    reduce.__module__ = reducer.__module__
    reduce.__wrapped__ = reducer  # type: ignore[attr-defined]  # functions have what they are given
    return reduce


def reducer_of(kind: type) -> Reducer:
    """Return the reducer for objects of exactly this type."""
    reducer = _found.get(kind)
    if reducer is None:
        if len(_found) >= _MOST_TYPES:
            _found.clear()
        reducer = _found[kind] = _find(kind)
    return reducer


# Of a class: (tag, its name, field names joined by commas), the field names, whether all slots. Of one of a
# project, its code and the tag that says so stand before the tag.
Fields = tuple[tuple[Any, ...], tuple[str, ...], bool]

NOTHING_HELPS = (
    "leave the argument out with `ignore`, or say what stands for it with register_digest"
)

# Modules whose decorators write `__getstate__` into slotted classes; it says nothing new.
_GENERATED = ("dataclasses", "attr._make")

_declared_by: Bounded[type, Fields] = Bounded(4096)


def _is_plain(kind: type) -> bool:
    """Return whether instances hold nothing but attributes, and pickle as attributes."""
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
        # It is loaded already, since it made the class.
        import dataclasses

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
    """Return the fields of a class whose reducer goes by them alone; asked after `reducer_of(kind)`."""
    fields = _declared_by.get(kind)
    if fields is None:
        return None
    code = class_code(kind)
    return fields if code is None else ((f"{TAG}{code}", *fields[0]), *fields[1:])


def forget_fields() -> None:
    """Forget what was found for classes, after a registration that may be for one of them."""
    _declared_by.clear()


# Names of the decorators that put the value of a property into the instance's `__dict__`.
_CACHING = re.compile(
    r"cached_?property|lazy_?property|memoized_?(?:property|attribute)|reify", re.IGNORECASE
)

# Attributes in which libraries keep what they worked out, whatever the class.
_KEPT_BY_LIBRARIES = frozenset(
    {"_attrs_cached_hash", "__networkx_cache__", "_memoized_keys", "_deprecated_key_to_warnings"}
)


def cached_names(kind: type) -> frozenset[str]:
    """Return the attributes that reading an instance of a class leaves behind, which don't count.

    They are known by their descriptors; an attribute that a program fills itself is its state.
    """
    found = set(_KEPT_BY_LIBRARIES)
    looked_up: set[str] = set()
    for base in kind.__mro__[:-1]:
        for name, item in base.__dict__.items():
            # A class nearer to the instance says what it is.
            if name in looked_up:
                continue
            looked_up.add(name)
            if any(_CACHING.fullmatch(at.__name__.strip("_")) for at in type(item).__mro__):
                # pandas keeps the values of all cached properties in one dict
                pandas = type(item).__module__ == "pandas._libs.properties"
                found.add("_cache" if pandas else name)
    return frozenset(found)


def _without(held: Any, names: frozenset[str]) -> Any:
    """Return a dict of attributes without some of them; None if nothing is left."""
    if not isinstance(held, dict) or names.isdisjoint(held):
        return held
    return {name: item for name, item in held.items() if name not in names} or None


def _of_state(state: Any, cached: frozenset[str]) -> Any:
    """Return the state of a pickle reduction as it was before the object was looked at."""
    if type(state) is tuple and len(state) == 2 and isinstance(state[1], dict):
        held, slots = _without(state[0], cached), _without(state[1], cached)
        return held if slots is None else (held, slots)
    return _without(state, cached)


def _extras(value: Any, names: tuple[str, ...], cached: frozenset[str]) -> dict[str, Any]:
    """Return attributes beyond the fields."""
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
    """Return whether a Python class among the bases defines one of the methods."""
    return any(
        isinstance(base.__dict__.get(name), FunctionType)
        for base in kind.__mro__[:-1]
        for name in names
    )


def generic(kind: type) -> Reducer:
    """Return the reducer for a type that no table names."""
    # A sentinel has nothing but which one it is, and that ends with the process.
    if kind is object:
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
    """Return the reducer for classes: the name, and of those of a project the code."""
    code = class_code(value)
    content = "class", class_name(value)
    return content if code is None else (f"{TAG}{code}", *content)


def _refuse(reason: str) -> Reducer:
    def reduce(value: Any, known: Known | None) -> tuple[Any, ...]:
        raise Refused(reason)

    return reduce


def _set(kind: type) -> Reducer:
    """Return a reducer for a subclass of set: pickle would list its elements in the order of hashes."""
    name, cached = class_name(kind), cached_names(kind)
    base: Callable[[Any], Any] = frozenset if issubclass(kind, frozenset) else set

    def reduce(value: Any, known: Known | None) -> tuple[Any, ...]:
        state = _of_state(value.__getstate__(), cached)
        plain = ("object", name, base(value))
        return plain if state is None else (*plain, state)

    return reduce


# List or dict items that a reduction may give; an iterator of one may have no end.
_MOST_ITEMS = 100_000_000


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
    """Return the slots that the inherited `__reduce__` of another library's class can't know.

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
    """Return the slots that a class itself adds, by the names that `getattr` takes."""
    slots = kind.__dict__.get("__slots__", ())
    names = [slots] if isinstance(slots, str) else [str(name) for name in slots]
    within = kind.__name__.lstrip("_")
    return [
        f"_{within}{name}" if within and name[:2] == "__" and name[-2:] != "__" else name
        for name in names
        if name not in ("__dict__", "__weakref__")
    ]


def library_of(kind: type) -> str:
    """Return the first part of the name of a class's module."""
    return str(kind.__module__).partition(".")[0]


def slots_beside(kinds: Iterable[type], library: str) -> list[str]:
    """Return the slots that classes add which are not of a library."""
    return [name for kind in kinds if library_of(kind) != library for name in slots_of(kind)]


def slots_held(value: Any, names: Iterable[str]) -> dict[str, Any]:
    """Return what is in an object's slots; one that nothing was put into is left out."""
    return {name: getattr(value, name) for name in names if hasattr(value, name)}


def _beyond(
    value: Any, state: Any, cached: frozenset[str], slots: tuple[str, ...]
) -> dict[str, Any]:
    """Return what an object holds and its reduction does not give."""
    held = {} if state is not None else _without(attributes(value), cached) or {}
    return {**held, **slots_held(value, slots)}


def _told_with(error: BaseException) -> tuple[Any, ...] | None:
    """Return what an exception is shown with, and pickle leaves out: (cause, context, whether it is hidden)."""
    hidden = error.__suppress_context__
    told = error.__cause__, None if hidden else error.__context__, hidden
    return None if told == (None, None, False) else told


def _as_dict(pairs: list[Any]) -> Any:
    made = dict(pairs)
    return made if len(made) == len(pairs) else pairs


def attributes(value: Any) -> dict[str, Any]:
    """Return an instance's `__dict__` as a plain dict; empty if it has none."""
    return dict(getattr(value, "__dict__", None) or {})


def own_attributes(value: Any) -> dict[str, Any]:
    """Return the same, without what reading the object left there."""
    held = attributes(value)
    return held and (_without(held, cached_names(type(value))) or {})


T = TypeVar("T")

_constants: dict[int, Callable[[], Any]] = {}


def constant(value: T) -> T:
    """Declare that a global never changes, and return it: `TABLE = wellkept.constant(load())`.

    What a kept function reads counts by its content, and is looked at before each call, as it may
    change in place: an array is hashed each time. A constant is looked at once.
    """
    key = id(value)
    try:
        _constants[key] = weakref.ref(value, lambda _: _constants.pop(key, None))
    except TypeError:
        # A type may take no weak references; such a value is held for good.
        _constants[key] = lambda: value
    return value


def is_constant(value: Any) -> bool:
    """Return whether a program said so of this very object."""
    found = _constants.get(id(value))
    return found is not None and found() is value
