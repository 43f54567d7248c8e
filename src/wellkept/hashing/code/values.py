"""Constants, containers and objects that code reaches, as nodes of its identity.

What they hold is followed: by position, key or attribute where it is known how the object holds it.
Of anything else, the code that it refers to counts, and all of the module where it is bound.

Objects without a digest count between processes by the names of their types alone, so that a function that
takes a lock has the same identity in each. In one process a function may be given another connection, and
what it gave with the first one is not what it gives with that: `tell_apart`.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable
from marshal import dumps
from types import (
    BuiltinFunctionType,
    CellType,
    FunctionType,
    GetSetDescriptorType,
    MappingProxyType,
    MemberDescriptorType,
    MethodType,
    ModuleType,
    SimpleNamespace,
)
from typing import Any

from blake3 import blake3

from wellkept.hashing.code.classes import (
    SCALARS,
    STATELESS,
    code_in,
    digested,
    is_code,
    slots_of,
    sorting,
)
from wellkept.hashing.code.nodes import Graph
from wellkept.hashing.names import class_name, library_name, module_of

_lock = threading.Lock()
# What a function was met with first: by its name, a type, and which of several.
_first: dict[tuple[str, str, int], Callable[[], Any]] = {}
_others: dict[int, tuple[Callable[[], Any], bytes]] = {}


def tell_apart(root: Any, found: Iterable[tuple[list[Any], Any]]) -> None:
    """Add to the nodes of objects that a function was not met with first what no other one has.

    Args:
        root: the function.
        found: its objects without a digest, with their nodes.
    """
    name = f"{getattr(root, '__module__', '')}:{getattr(root, '__qualname__', type(root).__name__)}"
    counts: dict[str, int] = {}
    with _lock:
        for node, value in found:
            kind = class_name(type(value))
            at = counts[kind] = counts.get(kind, 0) + 1
            if _first.setdefault((name, kind, at), _reference_to(value))() is not value:
                node.append(_token(value))


def _token(value: Any) -> bytes:
    found = _others.get(id(value))
    if found is None or found[0]() is not value:
        found = _others[id(value)] = _reference_to(value), os.urandom(16)
    return found[1]


def _reference_to(value: Any) -> Callable[[], Any]:
    try:
        return weakref.ref(value)
    except TypeError:
        return lambda: value


_SETS = (set, frozenset)
_MAPPINGS = (dict, MappingProxyType)
# Items from which a container without code is digested as a whole.
_LARGE = 1000
_MOST_DECORATORS = 20
# What objects hold besides their items, of types that keep it out of `__dict__`.
_ATTRIBUTES = {
    "collections.defaultdict": ("default_factory",),
    "collections.deque": ("maxlen",),
    "builtins.BaseException": ("args",),
}
_PARSER = ("_sections", "_defaults", "_dict", "_interpolation", "_delimiters")
# Attributes that all others are made from, of types whose others hold addresses or bare objects.
_MADE_FROM = {
    "pydantic.type_adapter:TypeAdapter": ("_type", "_config"),
    "configparser:ConfigParser": _PARSER,
    "configparser:RawConfigParser": _PARSER,
}


def object_node(graph: Graph, value: Any) -> list[Any]:
    """Return the node of anything but functions, classes and modules."""
    kind = type(value)
    if kind in SCALARS:
        if kind is str:
            graph.names_module(value)
        return digested(value) or []
    if kind in (dict, list, tuple, set, frozenset):
        return _container(graph, value)
    held = _held(value)
    if held is not None:
        tag, *parts = held
        return [tag, *map(graph.node, parts)]
    if isinstance(value, BuiltinFunctionType):
        owner = value.__self__
        if owner is None or isinstance(owner, ModuleType):
            return ["external", f"{module_of(value.__module__)}:{value.__qualname__}"]
        return ["bound", value.__name__, graph.node(owner)]
    if isinstance(value, (MemberDescriptorType, GetSetDescriptorType)):
        return ["slot", value.__name__]
    name = f"{kind.__module__}:{kind.__qualname__}"
    if name in STATELESS or name == "builtins:object":
        return ["type", name, graph.ordinal(value)]
    if kind is CellType:
        return ["cell", *map(graph.node, _cell(value))]
    if graph.project.owns_class(kind):
        return ["object", graph.ordinal(value), graph.node(kind), *_of_object(graph, value)]
    return _of_library(graph, value)


def _cell(value: Any) -> list[Any]:
    try:
        return [value.cell_contents]
    except ValueError:
        return []


def _held(value: Any) -> tuple[Any, ...] | None:
    """Return what a wrapper of the standard library holds, after its tag."""
    from functools import cached_property, partial, partialmethod

    kind = type(value)
    if kind in (staticmethod, classmethod):
        return kind.__name__, value.__func__
    if kind is property:
        return "property", value.fget, value.fset, value.fdel
    if kind in (partial, partialmethod):
        return "partial", value.func, value.args, value.keywords, vars(value) or None
    if kind is MethodType:
        return "method", value.__func__, value.__self__
    if kind is cached_property:
        return "property", value.func
    return None


# -- containers ------------------------------------------------------------------------------------


def _container(graph: Graph, value: Any) -> list[Any]:
    """Return the node of a container; the order of a dict counts, as it is part of the program."""
    kind = type(value)
    if kind is dict and graph.project.owns_space(value):
        return ["namespace", *graph.namespace(value)]
    if isinstance(value, _SETS):
        return [kind.__name__, graph.ordinal(value), *_unordered(graph, value)]
    plain = _plain(graph, value)
    if kind is tuple:
        return plain or ["tuple", *map(graph.node, value)]
    if plain is not None:
        return [*plain, graph.ordinal(value)]
    if len(value) > _LARGE:
        found = _as_a_whole(graph, value)
        if found is not None:
            return [kind.__name__, *found, graph.ordinal(value)]
    return [kind.__name__, graph.ordinal(value), *_items(graph, value)]


def _plain(graph: Graph, value: Any) -> list[Any] | None:
    """Return the node of a list, tuple or dict of scalars: one digest; None if it holds others."""
    if type(value) is dict:
        inner: Any = [*value, *value.values()]
    else:
        inner = value
    if not SCALARS.issuperset(map(type, inner)):
        return None
    for item in inner:
        if type(item) is str and len(item) < 200:
            graph.names_module(item)
    found = digested(list(value.items()) if type(value) is dict else value)
    return None if found is None else [type(value).__name__, *found]


def _as_a_whole(graph: Graph, value: Any) -> list[Any] | None:
    """Return the node of a large container without code: a digest in which the order of dicts counts."""
    waiting, flat = [value], True
    while waiting and flat:
        item = waiting.pop()
        for part in (*item, *item.values()) if type(item) is dict else item:
            if type(part) not in SCALARS:
                flat = type(part) in (list, tuple, dict)
                if not flat:
                    break
                waiting.append(part)
    # `marshal` tells all of these apart, and writes them the same in every Python.
    if flat:
        try:
            return ["value", blake3(dumps(value, 2)).digest()]
        except ValueError:
            # The value is nested too deeply for `marshal`.
            pass
    return digested(value, ordered=True) if code_in(value, graph.project) == [] else None


def _items(graph: Graph, value: Any) -> list[Any]:
    if isinstance(value, _MAPPINGS):
        return [part for key, item in value.items() for part in (graph.node(key), graph.node(item))]
    return list(map(graph.node, value))


def _unordered(graph: Graph, value: Any) -> list[Any]:
    """Return the items of a set: in the order of their digests or, of code, of their names."""
    plain = [item for item in value if type(item) in SCALARS]
    others = [item for item in value if type(item) not in SCALARS]
    found = digested(frozenset(plain)) or []
    return [*found, *map(graph.node, sorted(others, key=sorting))]


# -- objects ---------------------------------------------------------------------------------------


def _of_object(graph: Graph, value: Any) -> list[Any]:
    """Return the nodes of what an object of a project's class holds."""
    from enum import Enum

    kind: Any = type(value)  # mypy takes the reductions of all classes for object's
    if isinstance(value, Enum):
        return [value.name]
    if any("__digest__" in base.__dict__ for base in kind.__mro__):
        found = digested(value)
        return found if found is not None else _not_understood(graph, value)
    known = _contents(graph, value)
    if known is not None:
        return [*known, *_beside(graph, value)]
    found = digested(value)
    return found if found is not None else _not_understood(graph, value)


_SHOWN = frozenset({object, dict, OrderedDict, list, tuple, set, frozenset, deque, int, float})
_SHOWN |= {complex, str, bytes, BaseException}


def _beside(graph: Graph, value: Any, held: Iterable[Any] = ()) -> list[Any]:
    """Return what a base class of a library may keep where no attribute shows it."""
    if not _hides(type(value)):
        return []
    spaces = any(type(item) is dict for item in held)
    # The digest of a namespace would be of all that is bound there.
    found = None if spaces else digested(value)
    return found if found is not None else _not_understood(graph, value)


def _hides(kind: type[Any]) -> bool:
    """Return whether objects have more room than their attributes and items take."""
    for base in kind.__mro__:
        below: Any = base.__base__
        if base in _SHOWN or below is None or issubclass(base, BaseException):
            continue
        own = vars(base)
        slots = sum(type(item) is MemberDescriptorType for item in own.values())
        slots += ("__dict__" in own) + ("__weakref__" in own)
        items = base.__itemsize__ != below.__itemsize__
        if items or base.__basicsize__ > below.__basicsize__ + 8 * slots:
            return True
    return False


def _contents(graph: Graph, value: Any) -> list[Any] | None:
    """Return items and attributes of an object; None: it may hold what neither of them shows."""
    from functools import cached_property

    kind = type(value)
    out: list[Any] = []
    if isinstance(value, _SETS):
        base: Any = frozenset if isinstance(value, frozenset) else set
        out += ["items", *_unordered(graph, base(value))]
    elif isinstance(value, OrderedDict):
        out += ["items", *_items(graph, OrderedDict(value))]
    elif isinstance(value, dict):
        out += ["items", *_items(graph, dict.copy(value))]
    elif isinstance(value, MappingProxyType):
        out += ["items", *_items(graph, value)]
    elif isinstance(value, deque):
        out += ["items", *_items(graph, deque(value))]
    elif isinstance(value, (list, tuple)):
        plain: Any = list if isinstance(value, list) else tuple
        out += ["items", *_items(graph, [*plain.__iter__(value)])]
    for base in kind.__mro__:
        for scalar in (int, float, complex, str, bytes):
            if base is scalar:
                out += [
                    "is",
                    *(digested(scalar.__str__(value) if scalar is str else scalar(value)) or []),
                ]
        for name in _ATTRIBUTES.get(f"{base.__module__}.{base.__qualname__}", ()):
            out += [name, graph.node(getattr(value, name))]
    held = getattr(value, "__dict__", None)
    if type(held) is dict:
        for name, item in held.items():
            if not isinstance(getattr(kind, name, None), cached_property):
                out += [name, graph.attribute(value, name, item)]
    for name in slots_of(kind):
        if name not in ("__weakref__", "__dict__"):
            try:
                item = object.__getattribute__(value, name)
            except AttributeError:
                continue
            out += [name, graph.attribute(value, name, item)]
    if not out and _hides(kind):
        return None
    return ["contents", *out]


def _of_library(graph: Graph, value: Any) -> list[Any]:
    """Return the node of an object of a library's class."""
    kind = type(value)
    name = library_name(kind)
    if kind.__name__ == "ContextVar":
        now = map(graph.node, graph.current(value))
        return ["variable", value.name, graph.ordinal(value), *now]
    if kind.__module__ in ("typing", "types") and (special := _special(value)) is not None:
        return [name, *map(graph.node, special)]
    if kind is SimpleNamespace or isinstance(value, (dict, deque, MappingProxyType)):
        inner = _contents(graph, value) or []
        return [name, graph.ordinal(value), *inner]
    # These are the attributes by which numba, click and others keep the function.
    for attribute in ("__wrapped__", "py_func", "callback", "func"):
        wrapped = getattr(value, attribute, None) if callable(value) else None
        if isinstance(wrapped, FunctionType) or (is_code(wrapped) and attribute == "__wrapped__"):
            return ["wrapped", name, graph.node(wrapped), *_settings(graph, value, wrapped)]
    if name in _MADE_FROM:
        return [name, *(graph.node(getattr(value, each, None)) for each in _MADE_FROM[name])]
    if issubclass(kind, weakref.ref):
        return ["weak", graph.node(value())]
    if kind.__module__ == "_struct":
        return [name, value.format]
    if name == "_thread:_local":
        return [name, graph.ordinal(value), *(_contents(graph, value) or [])]
    held = code_in(value, graph.project)
    if held == []:
        if callable(value) and isinstance(getattr(value, "__qualname__", None), str):
            module = module_of(getattr(value, "__module__", None))
            return ["external", f"{module}:{value.__qualname__}"]
        found = digested(value)
        if found is not None:
            return found
    elif held is not None:
        known = _contents(graph, value)
        if known is not None:
            # The code once more, as it may be where no attribute shows it.
            inside = map(graph.node, sorted(held, key=sorting))
            return [name, graph.ordinal(value), *known, *inside, *_beside(graph, value, held)]
        reduced = _reduced(value)
        if reduced is not None:
            return [name, *map(graph.node, reduced)]
    return [name, *_not_understood(graph, value, held)]


def _special(value: Any) -> list[Any] | None:
    """Return what a type that is written with brackets, or a variable of types, is made of."""
    if hasattr(value, "__supertype__"):
        return [value.__name__, value.__supertype__]
    if hasattr(value, "__bound__"):
        return [value.__name__, value.__bound__, *getattr(value, "__constraints__", ())]
    if hasattr(value, "__forward_arg__"):
        return [value.__forward_arg__]
    if hasattr(value, "__args__"):
        return [
            getattr(value, "__origin__", None),
            *value.__args__,
            *getattr(value, "__metadata__", ()),
        ]
    return None


def _settings(graph: Graph, value: Any, wrapped: Any) -> list[Any]:
    """Return what a wrapper was told besides the function that it wraps."""
    told = getattr(value, "cache_parameters", None)
    if told is not None:
        return [graph.node(told())]
    # As a decorator, it stands with what it was told in the definition of what it wraps; not if it
    # was called for another one, or something was added to it.
    if isinstance(wrapped, FunctionType) and graph.is_decorated(wrapped):
        held = code_in(value, graph.project)
        if held is not None and all(each is wrapped for each in held) and _stands(wrapped, value):
            return []
        return _not_understood(graph, value, held)
    return _not_understood(graph, value)


def _stands(wrapped: FunctionType, value: Any) -> bool:
    """Return whether a wrapper is what its function's name stands for."""
    found: Any = wrapped.__globals__
    for name in wrapped.__qualname__.split("."):
        held = found if type(found) is dict else getattr(found, "__dict__", {})
        found = held.get(name)
    for _ in range(_MOST_DECORATORS):
        if found is value or found is None:
            break
        found = getattr(found, "__wrapped__", None)
    return found is value


def _reduced(value: Any) -> list[Any] | None:
    kind = type(value)
    if "__reduce__" not in vars(kind) and "__reduce_ex__" not in vars(kind):
        return None
    try:
        got = value.__reduce_ex__(4)
    except Exception:  # noqa: BLE001  somebody's object may do anything
        return None
    if not isinstance(got, tuple) or len(got) > 3:
        return None
    return [item for item in got if item is not value]


def _not_understood(graph: Graph, value: Any, held: list[Any] | None = None) -> list[Any]:
    """Let all of the module where the value is bound count, and return a node of the code in it."""
    if held is None:
        held = code_in(value, graph.project)
    graph.not_understood(value, held is None)
    return [
        "type",
        class_name(type(value)),
        graph.ordinal(value),
        *map(graph.node, sorted(held or (), key=sorting)),
    ]
