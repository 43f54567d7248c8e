"""A class as it is in memory: what stands for its definition where no text is surely its own."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import FunctionType, GetSetDescriptorType, MemberDescriptorType
from typing import TYPE_CHECKING, Any

from ...errors import Undigestible

if TYPE_CHECKING:
    from .reach import Reach

__all__ = ["class_content"]

_PYTHONS = frozenset(
    {
        *("__annotate__", "__annotate_func__", "__annotations_cache__", "__annotations__"),
        *("__dict__", "__doc__", "__firstlineno__", "__module__", "__qualname__", "__weakref__"),
        *("__static_attributes__", "__abstractmethods__", "_abc_impl", "__parameters__"),
        *("__orig_bases__", "__classcell__", "__slots__", "__hash__", "__type_params__"),
    }
)
"""What Python itself puts into a class, and what is told besides."""
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")
_ENUM = frozenset({"_member_map_", "_member_names_", "_value2member_map_", "_unhashable_values_"})
_FIELDS = frozenset({"__dataclass_fields__", "__attrs_attrs__", "__pydantic_fields__"})
_ATTRIBUTES = (
    *("name", "default", "default_factory", "init", "repr", "compare", "hash", "kw_only"),
    *("metadata", "validator", "converter", "eq", "order", "alias", "on_setattr", "annotation"),
    *("frozen", "discriminator", "exclude", "validate_default", "alias_priority", "init_var"),
)
"""What a field of dataclasses, attrs or pydantic says of itself."""


def class_content(reach: Reach, kind: type[Any]) -> list[Any]:
    """The node of all that a class has itself: bases, annotations, functions and values.

    What has no digest is told by a name that no other process has, if there is a text that was edited.
    """
    out: list[Any] = ["live", reach.node(type(kind)), [reach.node(base) for base in kind.__bases__]]
    noted = vars(kind).get("__annotations__")
    if isinstance(noted, Mapping):
        out.append([(name, _annotation(reach, value)) for name, value in noted.items()])
    members = vars(kind).get("_member_map_")
    if isinstance(members, Mapping):
        out.append(
            [[name, _value(reach, kind, getattr(m, "_value_", m))] for name, m in members.items()]
        )
    if "__slots__" in vars(kind):
        out.append(["__slots__", repr(vars(kind)["__slots__"])])
    given = vars(kind).get("__orig_bases__", ())
    out.append([_annotation(reach, base) for base in given if isinstance(given, tuple)])
    for name, value in sorted(vars(kind).items()):
        if name in _PYTHONS or name in _ENUM or (members is not None and name in members):
            continue
        if name in _FIELDS:
            pairs = value.items() if isinstance(value, Mapping) else ((a.name, a) for a in value)
            out.append([name, [[label, *_field(reach, kind, field)] for label, field in pairs]])
        elif name == "__dataclass_params__":
            out.append([name, repr(value)])
        elif name.startswith("__pydantic_") or name in ("__signature__", "__class_vars__"):
            continue  # made from fields and functions
        elif isinstance(value, (MemberDescriptorType, GetSetDescriptorType)):
            out.append([name, "slot"])
        else:
            out.append([name, _value(reach, kind, value)])
    return out


def _annotation(reach: Reach, value: Any) -> Any:
    """A type as it is written, with the classes of the project in it."""
    if isinstance(value, str):
        return value
    if isinstance(value, type) and not hasattr(value, "__origin__"):
        return reach.node(value)
    inner = getattr(value, "__args__", ())
    args = [_annotation(reach, item) for item in inner] if isinstance(inner, tuple) else []
    return [_ADDRESS.sub("", repr(value)), *args]


def _field(reach: Reach, kind: type[Any], field: Any) -> list[Any]:
    out: list[Any] = []
    for name in _ATTRIBUTES:
        value = getattr(field, name, None)
        if value is not None and repr(value) != "PydanticUndefined":
            out.append([name, _value(reach, kind, value)])
    return out


def _value(reach: Reach, kind: type[Any], value: Any) -> Any:
    if isinstance(value, (FunctionType, type, staticmethod, classmethod, property)):
        return reach.node(value)
    from ..digests import digest_bytes

    try:
        digest_bytes(value)
    except Undigestible:
        reach.unsure(kind.__module__)
    except Exception:  # noqa: BLE001  an object of somebody's may do anything
        reach.unsure(kind.__module__)
    return reach.node(value)
