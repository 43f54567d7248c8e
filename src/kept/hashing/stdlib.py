"""Reducers for the standard library's types, by name, so that none of their modules is imported."""

from __future__ import annotations

import sys
from typing import Any

from .buffers import Known, buffer_digest
from .names import class_name, module_of, type_key
from .objects import attributes, generic
from .refusals import REFUSED
from .registry import Reducer, Refused

__all__ = ["EXACT", "FAMILIES"]


def _fields(tag: str, *names: str) -> Reducer:
    """Exactly these attributes; a subclass is for its pickle reduction."""
    return lambda value, known: (tag, *(getattr(value, name) for name in names))


def _class(value: Any, known: Known | None) -> tuple[Any, ...]:
    return "class", class_name(value)


def _function(value: Any, known: Known | None) -> tuple[Any, ...]:
    from .functions import reduce_function

    return reduce_function(value)


def _code(value: Any, known: Known | None) -> tuple[Any, ...]:
    from .functions import reduce_code

    return reduce_code(value)


def _method(value: Any, known: Known | None) -> tuple[Any, ...]:
    return "method", value.__self__, value.__func__


def _builtin(value: Any, known: Known | None) -> tuple[Any, ...]:
    receiver = value.__self__
    if receiver is None or type(receiver) is type(sys):
        return "builtin", module_of(value.__module__), value.__qualname__
    return "builtin method", receiver, value.__name__


def _bound(value: Any, known: Known | None) -> tuple[Any, ...]:
    return "builtin method", value.__self__, value.__name__


def _module(value: Any, known: Known | None) -> tuple[Any, ...]:
    return "module", module_of(value.__name__, getattr(value, "__file__", None))


def _descriptor(value: Any, known: Known | None) -> tuple[Any, ...]:
    return "descriptor", class_name(value.__objclass__), value.__name__


def _enum(value: Any, known: Known | None) -> tuple[Any, ...]:
    kind = type(value)
    # A combination of flags is named after its parts, in a way that Python releases differ in.
    name = value._name_ if value._name_ in kind._member_map_ else None
    return "enum", class_name(kind), name, value._value_


def _path(value: Any, known: Known | None) -> tuple[Any, ...]:
    kind = type(value)
    if type_key(kind) in _PATHS:
        return "path", kind.__qualname__, str(value)
    return "object", class_name(kind), str(value), attributes(value)


_PATHS = {
    f"pathlib.{name}" for name in ("PurePosixPath", "PureWindowsPath", "PosixPath", "WindowsPath")
}


def _datetime(value: Any, known: Known | None) -> tuple[Any, ...]:
    return (
        "datetime",
        value.year,
        value.month,
        value.day,
        value.hour,
        value.minute,
        value.second,
        value.microsecond,
        value.fold,
        value.tzinfo,
    )


def _timezone(value: Any, known: Known | None) -> tuple[Any, ...]:
    # `timezone(offset)` and `timezone(offset, its default name)` print alike and compare alike.
    return "timezone", value.utcoffset(None), value.tzname(None)


def _zone(value: Any, known: Known | None) -> tuple[Any, ...]:
    if value.key is None:
        raise Refused("a ZoneInfo made from a file has no key: make it with ZoneInfo(key)")
    return "zoneinfo", value.key


def _memoryview(value: Any, known: Known | None) -> tuple[Any, ...]:
    try:
        content = value if value.c_contiguous else value.tobytes()
        return "memoryview", value.format, value.shape, buffer_digest(content)
    except ValueError as error:
        raise Refused(f"a memoryview can't be read ({error})") from error


def _partial(value: Any, known: Known | None) -> tuple[Any, ...]:
    name = None if type_key(type(value)) == "functools.partial" else class_name(type(value))
    return "partial", name, value.func, value.args, value.keywords, attributes(value)


def _namespace(value: Any, known: Known | None) -> tuple[Any, ...]:
    return "namespace", dict(value.__dict__)


def _deque(value: Any, known: Known | None) -> tuple[Any, ...]:
    return "deque", value.maxlen, list(value)


def _default_dict(value: Any, known: Known | None) -> tuple[Any, ...]:
    return "defaultdict", value.default_factory, dict(value)


def _ordered_dict(value: Any, known: Known | None) -> tuple[Any, ...]:
    attrs = attributes(value)
    pairs = [(key, value[key]) for key in value]
    return ("OrderedDict", pairs, attrs) if attrs else ("OrderedDict", pairs)


def _counter(value: Any, known: Known | None) -> tuple[Any, ...]:
    attrs = attributes(value)
    return ("Counter", dict(value), attrs) if attrs else ("Counter", dict(value))


def _property(value: Any, known: Known | None) -> tuple[Any, ...]:
    return "property", value.fget, value.fset, value.fdel


def _wrapped(tag: str) -> Reducer:
    return lambda value, known: (tag, value.__func__)


def _lru_cache(value: Any, known: Known | None) -> tuple[Any, ...]:
    parameters = value.cache_parameters()
    return "lru_cache", value.__wrapped__, parameters["maxsize"], parameters["typed"]


def _cell(value: Any, known: Known | None) -> tuple[Any, ...]:
    try:
        return "cell", value.cell_contents
    except ValueError:
        return ("cell",)


def _pydantic(value: Any, known: Known | None) -> tuple[Any, ...]:
    kind = type(value)
    if (
        "__getstate__" in {name for base in kind.__mro__ for name in base.__dict__}
        and (kind.__getstate__.__module__ or "").partition(".")[0] != "pydantic"
    ):
        return generic(kind)(value, known)
    private = getattr(value, "__pydantic_private__", None)
    return (
        "pydantic",
        class_name(kind),
        dict(value.__dict__),
        getattr(value, "__pydantic_extra__", None),
        None if private is None else dict(private),
    )


def _generic_alias(value: Any, known: Known | None) -> tuple[Any, ...]:
    return "alias", value.__origin__, value.__args__, getattr(value, "__metadata__", None)


def _union(value: Any, known: Known | None) -> tuple[Any, ...]:
    return "union", value.__args__


def _special_form(value: Any, known: Known | None) -> tuple[Any, ...]:
    return "global", "typing", value._name


def _random(value: Any, known: Known | None) -> tuple[Any, ...]:
    return "random", class_name(type(value)), value.getstate(), attributes(value)


EXACT: dict[str, Reducer] = {
    "builtins.type": _class,
    "builtins.NotImplementedType": lambda value, known: ("NotImplemented",),
    "builtins.range": _fields("range", "start", "stop", "step"),
    "builtins.slice": _fields("slice", "start", "stop", "step"),
    "builtins.bytearray": lambda value, known: ("bytearray", bytes(value)),
    "builtins.memoryview": _memoryview,
    "builtins.function": _function,
    "builtins.code": _code,
    "builtins.cell": _cell,
    "builtins.method": _method,
    "builtins.builtin_function_or_method": _builtin,
    "builtins.method-wrapper": _bound,
    "builtins.method_descriptor": _descriptor,
    "builtins.wrapper_descriptor": _descriptor,
    "builtins.classmethod_descriptor": _descriptor,
    "builtins.getset_descriptor": _descriptor,
    "builtins.member_descriptor": _descriptor,
    "builtins.module": _module,
    "builtins.mappingproxy": lambda value, known: ("mappingproxy", dict(value)),
    "builtins.dict_keys": lambda value, known: ("dict_keys", list(value)),
    "builtins.dict_values": lambda value, known: ("dict_values", list(value)),
    "builtins.dict_items": lambda value, known: ("dict_items", list(value)),
    "builtins.property": _property,
    "builtins.staticmethod": _wrapped("staticmethod"),
    "builtins.classmethod": _wrapped("classmethod"),
    "types.SimpleNamespace": _namespace,
    "types.GenericAlias": _generic_alias,
    "types.UnionType": _union,
    "typing.Union": _union,
    "typing._GenericAlias": _generic_alias,
    "typing._UnionGenericAlias": _union,
    "typing._LiteralGenericAlias": _generic_alias,
    "typing._CallableGenericAlias": _generic_alias,
    "typing._AnnotatedAlias": _generic_alias,
    "typing._SpecialForm": _special_form,
    "typing._AnyMeta": lambda value, known: ("global", "typing", "Any"),
    "typing._SpecialGenericAlias": _special_form,
    "typing._TupleType": _special_form,
    "typing._CallableType": _special_form,
    "functools.partial": _partial,
    "functools._lru_cache_wrapper": _lru_cache,
    "decimal.Decimal": lambda value, known: ("decimal", str(value)),
    "fractions.Fraction": _fields("fraction", "numerator", "denominator"),
    "datetime.datetime": _datetime,
    "datetime.date": _fields("date", "year", "month", "day"),
    "datetime.time": _fields("time", "hour", "minute", "second", "microsecond", "fold", "tzinfo"),
    "datetime.timedelta": _fields("timedelta", "days", "seconds", "microseconds"),
    "datetime.timezone": _timezone,
    "zoneinfo.ZoneInfo": _zone,
    "uuid.UUID": _fields("uuid", "int"),
    "re.Pattern": _fields("pattern", "pattern", "flags"),
    "array.array": lambda value, known: (
        "array",
        value.typecode,
        value.itemsize,
        len(value),
        buffer_digest(value),
    ),
    "collections.OrderedDict": _ordered_dict,
    "collections.defaultdict": _default_dict,
    "collections.Counter": _counter,
    "collections.deque": _deque,
    "collections.ChainMap": lambda value, known: ("ChainMap", attributes(value)),
    "random.Random": _random,
    "random.SystemRandom": lambda value, known: ("random", "random:SystemRandom"),
    **REFUSED,
}
"""`module.qualname` -> the reducer for objects of exactly that type."""

FAMILIES: dict[str, Reducer] = {
    "enum.Enum": _enum,
    "pathlib.PurePath": _path,
    "pydantic.main.BaseModel": _pydantic,
    "functools.partial": _partial,
    "random.Random": _random,
    **REFUSED,
}
"""`module.qualname` -> the reducer for objects of that type and its subclasses."""
