"""Classes and objects: the attributes that a class body defines, and the code that an object refers to."""

from __future__ import annotations

import ast
import gc
import sys
import weakref
from collections import deque
from collections.abc import Mapping
from types import FunctionType, GetSetDescriptorType, MemberDescriptorType, MethodType, ModuleType
from typing import Any

from wellkept.errors import Undigestible
from wellkept.hashing.code.definitions import functions_of
from wellkept.hashing.code.modules import Project
from wellkept.hashing.names import class_name

SCALARS = frozenset({type(None), bool, int, float, complex, str, bytes, type(Ellipsis)})
# The most objects that are searched for code that they may hold.
_MOST = 200_000
# Types whose objects hold nothing that a result could depend on, as far as it is reproducible.
STATELESS = frozenset(
    {
        *("_thread:lock", "_thread:RLock", "threading:_RLock", "threading:Condition"),
        *("threading:Event", "logging:Logger", "logging:RootLogger"),
        *("logging:LoggerAdapter", "_abc:_abc_data"),
    }
)


def digested(value: Any, *, ordered: bool = False) -> list[Any] | None:
    """Return a value by its digest; None: it has none.

    Args:
        ordered: whether the order of dicts in it counts.
    """
    from wellkept.hashing.digests import digest_bytes

    try:
        return ["value", digest_bytes(value, ordered=ordered)]
    except Undigestible:
        return None


def is_code(value: Any) -> bool:
    """Return whether something is a function, a class, or a wrapper of one."""
    kind = type(value)
    # By its type alone: a proxy may say that it is of another, or raise.
    if kind is FunctionType or issubclass(kind, type) or hasattr(kind, "__followed__"):
        return True
    return kind is MethodType or kind.__name__ == "_lru_cache_wrapper"


def is_mock(kind: type[Any]) -> bool:
    """Return whether objects of a class stand in for others in tests."""
    return any(base.__module__ in ("unittest.mock", "mock.mock") for base in kind.__mro__)


def code_in(value: Any, project: Project, most: int = _MOST) -> list[Any] | None:
    """Return the functions, classes, modules and namespaces of modules of a project that an object refers to,
    in whatever way.

    Returns None if it refers to more objects than can be looked at.
    """
    found: dict[int, Any] = {}
    seen = {id(value)}
    waiting = deque([value])
    while waiting:
        item = waiting.popleft()
        kind = type(item)
        if kind in SCALARS:
            continue
        if kind is FunctionType:
            if project.owns_function(item):
                found[id(item)] = item
                continue
            inner: Any = [*(item.__closure__ or ()), *(item.__defaults__ or ())]
            inner += [*(item.__kwdefaults__ or {}).values(), *vars(item).values()]
        elif issubclass(kind, type):
            if project.owns_class(item):
                found[id(item)] = item
            continue
        elif kind is ModuleType:
            if project.owns_module(item):
                found[id(item)] = item
            continue
        elif hasattr(kind, "__followed__") or (kind is dict and project.owns_space(item)):
            found[id(item)] = item
            continue
        elif issubclass(kind, weakref.ref):
            inner = [item()]
        elif f"{kind.__module__}:{kind.__qualname__}" in STATELESS:
            continue
        else:
            if project.owns_class(kind):
                found[id(kind)] = kind
            inner = _referred(item)
        for each in inner:
            if type(each) not in SCALARS and id(each) not in seen:
                seen.add(id(each))
                waiting.append(each)
        if len(seen) > most:
            return None
    return list(found.values())


def _referred(value: Any) -> list[Any]:
    kind = type(value)
    if kind.__module__ == "numpy" and getattr(getattr(value, "dtype", None), "hasobject", False):
        return list(value.ravel().tolist()) if kind.__name__ == "ndarray" else []
    return [item for item in gc.get_referents(value) if item is not kind]


def slots_of(kind: type[Any]) -> list[str]:
    """Return the names of the slots of a class and of its bases."""
    return [
        name
        for base in reversed(kind.__mro__)
        for name, item in vars(base).items()
        if type(item) is MemberDescriptorType and base.__flags__ & (1 << 9)
    ]


def sorting(value: Any) -> tuple[str, str]:
    """Return what a set, or what `code_in` found, is put in order by."""
    if type(value) is ModuleType:
        return "", value.__name__
    # A dict here is the namespace of a module, since no set holds one.
    if type(value) is dict:
        return "", str(value["__name__"])
    name = getattr(value, "__qualname__", None)
    if isinstance(name, str):
        return name, str(getattr(value, "__module__", ""))
    found = digested(value)
    return class_name(type(value)), found[1].hex() if found else ""


# Libraries whose decorators and base classes don't read annotations and docstrings.
_BLIND = frozenset((
    "numpy", "pandas", "scipy", "sklearn", "torch", "numba", "joblib", "polars", "pyarrow", "xarray",
    "networkx", "toolz", "cytoolz", "tenacity", "cachetools", "wellkept", "matplotlib", "PIL", "sympy",
    "dask", "ray", "tqdm", "wrapt", "decorator", "pytest", "jax", "lightning",
))  # fmt: skip
# Attributes that Python and its libraries give to classes, out of what the body says.
_OWN = frozenset((
    "__dict__", "__weakref__", "__module__", "__doc__", "__qualname__", "__annotations__",
    "__static_attributes__", "__firstlineno__", "__match_args__", "__dataclass_params__", "__hash__",
    "_abc_impl", "__abstractmethods__", "__parameters__", "__orig_bases__", "__annotate__",
    "__annotate_func__", "__annotations_cache__", "__type_params__", "__dataclass_fields__",
    "__attrs_attrs__", "__attrs_own_setattr__", "__attrs_props__", "__orig_class__", "__subclasshook__",
    "__is_protocol__", "_is_protocol", "__slots__", "__protocol_attrs__", "__callable_proto_members_only__",
    "__non_callable_proto_members__", "__getstate__", "__setstate__", "__replace__", "_is_runtime_protocol",
    "__attrs_init__",
))  # fmt: skip


def hint_level(module: object) -> int:
    """Return whether a library may read annotations and docstrings of what it is given: 0, or 2."""
    # the classes of functions that Cython made have a descriptor there
    top = module.partition(".")[0] if isinstance(module, str) else ""
    return 0 if top in sys.stdlib_module_names or top in _BLIND or not top else 2


class ClassParts:
    """What counts of a class beside its text.

    Attributes:
        attributes: names and values.
        hidden: attributes that are not understood.
        cells: what its functions hold in closures.
        hints: whether annotations count: 0: where something reads them, 1: their text, 2: what they
            name too.
    """

    def __init__(self) -> None:
        self.attributes: list[tuple[str, Any]] = []
        self.hidden: list[str] = []
        self.cells: dict[str, Any] = {}
        self.hints = 0
        self._inside: set[str] = set()

    def inside(self, label: str) -> bool:
        """Return whether it is a function of the body under its own name, which the text has."""
        return label in self._inside


def class_parts(kind: type[Any], nodes: list[ast.ClassDef], project: Project) -> ClassParts:
    """Look at a class; `nodes`: its definition, if it has a source."""
    parts = ClassParts()
    parts.hints = _hints(kind, project)
    for function in functions_of(kind):
        parts.cells |= zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
    members: Any = vars(kind).get("_member_map_")
    if isinstance(members, dict):
        parts.attributes.append(
            ("@members", [(name, item._value_) for name, item in members.items()])
        )
        for label, item in members.items():
            parts.attributes += [(f"@{label}.{n}", v) for n, v in set_on_member(item).items()]
    if not nodes:
        parts.attributes += _made(kind)
    generated = _is_generated(kind)
    bound = _bound(nodes)
    for name, value in sorted(vars(kind).items(), key=lambda pair: str(pair[0])):
        if name in _OWN or type(value) in (MemberDescriptorType, GetSetDescriptorType):
            continue
        if isinstance(members, dict) and (
            name in members
            or (name[:1] == "_" and not isinstance(value, FunctionType))
            or type(value) is kind
        ):
            continue
        if type(value).__name__ in ("_tuplegetter", "member", "nonmember"):
            continue
        inner = _innermost(value)
        if inner:
            if all(_written(each, kind, name) for each in inner):
                parts._inside.add(name)
            elif generated and all(_generated(each) for each in inner):
                continue
        elif name[:2] == "__" and name[-2:] == "__" and not isinstance(value, type):
            continue
        elif isinstance(value, type) and value.__qualname__ == f"{kind.__qualname__}.{name}":
            parts._inside.add(name)
        elif _is_library(value, project) and (parts.hints > 1 or name not in bound) and nodes:
            if name not in bound and name[:1] != "_":
                parts.hidden.append(name)
            continue
        parts.attributes.append((name, value))
    return parts


def set_on_member(member: Any) -> dict[str, Any]:
    """Return what somebody has set on a member of an enum."""
    held = getattr(member, "__dict__", None) or {}
    return {name: item for name, item in held.items() if name[:1] != "_" and name != "name"}


def _hints(kind: type[Any], project: Project) -> int:
    own = vars(kind)
    for base in (type(kind), *kind.__mro__[1:]):
        if not project.owns_class(base) and hint_level(base.__module__):
            return 2
    told = ("__dataclass_fields__", "_fields", "__attrs_attrs__", "__total__")
    return int(any(name in own for name in told))


def _made(kind: type[Any]) -> list[tuple[str, Any]]:
    """Return what a class that no class statement made was made of."""
    own = vars(kind)
    found: list[tuple[str, Any]] = []
    for name in ("__slots__", "__total__", "__required_keys__", "__optional_keys__", "_fields"):
        if name in own:
            value = own[name]
            found.append((f"@{name}", sorted(value) if isinstance(value, frozenset) else value))
    for name in ("__dataclass_fields__", "__attrs_attrs__", "__pydantic_fields__"):
        fields: Any = own.get(name) or ()
        pairs = fields.items() if isinstance(fields, Mapping) else ((f.name, f) for f in fields)
        for label, field in pairs:
            told = {each: getattr(field, each, None) for each in _TOLD}
            found.append(
                (f"@@{label}", [(each, item) for each, item in told.items() if item is not None])
            )
    for name in ("__dataclass_params__", "__orig_bases__"):
        if name in own:
            found.append((f"@{name}", repr(own[name]) if name[2] == "d" else own[name]))
    return found


# What a field of dataclasses, attrs or pydantic says of itself.
_TOLD = (
    *("name", "type", "default", "default_factory", "init", "repr", "compare", "hash", "kw_only"),
    *("metadata", "validator", "converter", "eq", "order", "alias", "on_setattr", "annotation"),
    *("frozen", "discriminator", "exclude", "validate_default", "alias_priority", "init_var"),
)


def _is_generated(kind: type[Any]) -> bool:
    return any(
        name in vars(kind) for name in ("__dataclass_fields__", "_fields", "__attrs_attrs__")
    )


def _bound(nodes: list[ast.ClassDef]) -> set[str]:
    """Return the names that the body of a class assigns."""
    return {
        item.id
        for node in nodes
        for statement in node.body
        if not isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))
        for item in ast.walk(statement)
        if isinstance(item, ast.Name) and isinstance(item.ctx, ast.Store)
    }


def _innermost(value: Any) -> list[FunctionType]:
    """Return the functions that an attribute is, or a property, static or class method has."""
    if isinstance(value, FunctionType):
        return [value]
    if isinstance(value, (staticmethod, classmethod)):
        return [value.__func__] if isinstance(value.__func__, FunctionType) else []
    if type(value) is property:
        return [f for f in (value.fget, value.fset, value.fdel) if isinstance(f, FunctionType)]
    return []


def _written(function: FunctionType, kind: type[Any], name: str) -> bool:
    """Return whether a function stands in the body of a class under this name."""
    own = function.__code__.co_qualname
    prefix = f"{kind.__qualname__}."
    return own == prefix + name or (
        own.startswith(prefix) and own.endswith("<lambda>") and own.count(".") == prefix.count(".")
    )


def _generated(function: FunctionType) -> bool:
    """Return whether `dataclasses`, `attrs` or `collections` made a method."""
    # `__repr__` is wrapped, since 3.13.
    function = getattr(function, "__wrapped__", function)
    file = function.__code__.co_filename
    # Since 3.13 `dataclasses` takes what guards a `__repr__` from `reprlib`.
    if file.endswith(("collections/__init__.py", "dataclasses.py", "reprlib.py")):
        return True
    name = function.__name__
    return file.startswith("<") and (name[:2] == "__" or name in ("_make", "_replace", "_asdict"))


def _is_library(value: Any, project: Project) -> bool:
    """Return whether a value is an object of a library, other than plain data and wrappers."""
    kind = type(value)
    if kind in SCALARS or kind in (list, dict, set, tuple, frozenset) or isinstance(value, type):
        return False
    if kind is FunctionType or hasattr(kind, "__followed__"):
        return False
    if kind.__module__ in ("functools", "builtins", "types", "collections", "numpy"):
        return False
    return not project.owns_class(kind)
