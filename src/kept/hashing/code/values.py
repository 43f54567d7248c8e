"""Constants, containers and objects that code reaches, as nodes of its identity."""

from __future__ import annotations

from types import (
    BuiltinFunctionType,
    FunctionType,
    GetSetDescriptorType,
    MemberDescriptorType,
    MethodType,
    ModuleType,
)
from typing import TYPE_CHECKING, Any

from ...errors import Undigestible
from ..names import class_name, library_name, module_of

if TYPE_CHECKING:
    from .reach import Reach

__all__ = ["SCALARS", "digested", "object_node"]

SCALARS = frozenset({type(None), bool, int, float, complex, str, bytes, type(Ellipsis)})
_ORDERED = frozenset({list, tuple})
_SETS = frozenset({set, frozenset})
_MOST = 10_000  # items of a container that are looked at one by one
_DESCRIPTORS = (MemberDescriptorType, GetSetDescriptorType)


def digested(value: Any) -> list[Any]:
    """A value by its digest, or by the name of its type if it has none."""
    from ..digests import digest_bytes

    try:
        return ["value", digest_bytes(value)]
    except Undigestible:
        return ["type", class_name(type(value))]


def is_code(value: Any) -> bool:
    """Whether something is a function, a class, or a wrapper of one."""
    kind = type(value)
    # By its type alone: a proxy may say that it is of another, or raise.
    if kind is FunctionType or issubclass(kind, type) or hasattr(kind, "__followed__"):
        return True
    return kind is MethodType or kind.__name__ == "_lru_cache_wrapper"


def code_in(value: Any) -> list[tuple[Any, Any]]:
    """The functions and classes that a container holds, with what tells them apart in it."""
    kind = type(value)
    if kind is dict and len(value) <= _MOST:
        found = [(digested(key)[1], item) for key, item in value.items() if is_code(item)]
    elif kind in _ORDERED and len(value) <= _MOST:
        return [(at, item) for at, item in enumerate(value) if is_code(item)]
    elif kind in _SETS and len(value) <= _MOST:
        found = [(getattr(item, "__qualname__", ""), item) for item in value if is_code(item)]
    else:
        return []
    return sorted(found, key=lambda pair: str(pair[0]))


def object_node(reach: Reach, value: Any) -> list[Any]:
    """The node of anything but functions, classes and modules.

    What it holds is followed as far as it may hold code: containers and objects of the project.
    """
    kind = type(value)
    if kind in SCALARS:
        return digested(value)
    if kind in _ORDERED or kind is dict or kind in _SETS:
        return _container(reach, value)
    held = _held(value)
    if held is not None:
        tag, *parts = held
        return [tag, *map(reach.node, parts)]
    if isinstance(value, BuiltinFunctionType):
        owner = value.__self__
        if owner is None or isinstance(owner, ModuleType):
            return ["external", f"{module_of(value.__module__)}:{value.__qualname__}"]
        return ["bound", value.__name__, reach.node(owner)]
    wrapped = getattr(value, "__wrapped__", None) if callable(value) else None
    if wrapped is not None and wrapped is not value:
        return ["wrapped", class_name(kind), reach.node(wrapped)]
    if not reach.project.owns_class(kind):
        for name in ("py_func", "callback", "func"):  # of numba, click, and others like them
            inner = getattr(value, name, None) if callable(value) else None
            if isinstance(inner, FunctionType):
                return ["wrapped", library_name(kind), reach.node(inner)]
        if callable(value) and isinstance(getattr(value, "__qualname__", None), str):
            module = module_of(getattr(value, "__module__", None))
            return ["external", f"{module}:{value.__qualname__}"]
        return digested(value)
    return ["object", reach.node(kind), _state(reach, value)]


def _held(value: Any) -> tuple[Any, ...] | None:
    """What a wrapper of the standard library holds, after its tag."""
    from functools import cached_property, partial, partialmethod

    if isinstance(value, (staticmethod, classmethod)):
        return type(value).__name__, value.__func__
    if isinstance(value, property):
        return "property", value.fget, value.fset, value.fdel
    if isinstance(value, (partial, partialmethod)):
        return "partial", value.func, value.args, value.keywords
    if isinstance(value, MethodType):
        return "method", value.__func__, value.__self__
    if isinstance(value, cached_property):
        return "property", value.func
    return None


def _container(reach: Reach, value: Any) -> list[Any]:
    kind = type(value)
    if len(value) > _MOST or _plain(value):
        return digested(value)
    if kind is dict:
        keys = [(digested(key)[1], key) for key in value]
        try:
            keys.sort(key=lambda pair: pair[0])
        except TypeError:  # one without a digest, beside others
            return digested(value)
        return ["dict", *(item for d, key in keys for item in (d, reach.node(value[key])))]
    if kind in _SETS:
        return digested(value)
    return [kind.__name__, *map(reach.node, value)]


def _plain(value: Any) -> bool:
    if type(value) is dict:
        return SCALARS.issuperset(map(type, value.values()))
    return SCALARS.issuperset(map(type, value))


def _state(reach: Reach, value: Any) -> Any:
    """What an object of a project's class holds."""
    from enum import Enum

    kind: Any = type(value)  # mypy takes the reductions of all classes for object's
    if isinstance(value, Enum):
        return value.name
    if any("__digest__" in base.__dict__ for base in kind.__mro__):
        return digested(value)
    plain = (
        kind.__reduce_ex__ is object.__reduce_ex__
        and kind.__reduce__ is object.__reduce__
        and not hasattr(kind, "__slots__")
        and isinstance(getattr(value, "__dict__", None), dict)
    )
    if not plain:
        return digested(value)
    # Not by its digest, which has the name of the module in it, and so would not survive a move.
    from functools import cached_property

    return _container(
        reach,
        {
            name: item
            for name, item in vars(value).items()
            if not isinstance(getattr(kind, name, None), cached_property)
        },
    )
