"""Reducers for the standard library's types, by name, so that none of their modules is imported.

Types whose objects have no identity are refused by name: reading them uses them up, or they are a live
resource.
"""

from __future__ import annotations

import sys
from operator import attrgetter
from typing import Any

from wellkept.hashing.buffers import Known, buffer_digest
from wellkept.hashing.functions import TAG, Receiver, module_code
from wellkept.hashing.names import Refused, class_name, module_of, type_key
from wellkept.hashing.reducers import (
    NOTHING_HELPS,
    Reducer,
    attributes,
    cached_names,
    generic,
    reduce_class,
    reducer_of,
    slots_beside,
    slots_held,
)

_WHAT = {
    "an open file or stream": "_io._IOBase io.IOBase tempfile._TemporaryFileWrapper "
    "os.DirEntry posix.DirEntry nt.DirEntry",
    "a socket": "_socket.socket socket.socket ssl.SSLSocket ssl.SSLContext "
    "_ssl._SSLContext _ssl._SSLSocket",
    "a lock": "_thread.lock _thread.LockType _thread.RLock threading._RLock "
    "threading.Condition threading.Event threading.Semaphore threading.Barrier "
    "multiprocessing.synchronize.SemLock _multiprocessing.SemLock "
    "asyncio.locks.Lock asyncio.locks.Event asyncio.locks.Condition "
    "asyncio.locks.Semaphore asyncio.locks.Barrier multiprocessing.synchronize.Event "
    "multiprocessing.synchronize.Condition multiprocessing.synchronize.Barrier",
    "a thread": "threading.Thread _thread._ThreadHandle",
    "thread-local state": "_thread._local _threading_local.local",
    "a queue": "queue.Queue _queue.SimpleQueue asyncio.queues.Queue multiprocessing.queues.Queue "
    "multiprocessing.queues.SimpleQueue",
    "a pipe": "multiprocessing.connection._ConnectionBase _multiprocessing.Connection",
    "an event loop": "asyncio.events.AbstractEventLoop",
    "a future": "_asyncio.Future _asyncio.Task asyncio.futures.Future "
    "concurrent.futures._base.Future",
    "an executor": "concurrent.futures._base.Executor multiprocessing.pool.Pool",
    "a process": "multiprocessing.process.BaseProcess subprocess.Popen asyncio.subprocess.Process",
    "a frame": "builtins.frame",
    "a traceback": "builtins.traceback",
    "a generator": "builtins.generator builtins.async_generator",
    "a coroutine": "builtins.coroutine",
    "a weak reference": "weakref.ReferenceType _weakref.ReferenceType _weakref.ProxyType "
    "_weakref.CallableProxyType weakref.ProxyType weakref.CallableProxyType weakref.WeakSet "
    "_weakrefset.WeakSet weakref.WeakKeyDictionary weakref.WeakValueDictionary weakref.finalize",
    "a database connection": "sqlite3.Connection sqlite3.Cursor sqlite3.Blob",
    "a memory map": "mmap.mmap",
    "shared memory": "multiprocessing.shared_memory.SharedMemory",
    "a context variable": "_contextvars.ContextVar _contextvars.Context _contextvars.Token",
    "a selector": "selectors.BaseSelector select.epoll select.poll",
    "a logging handler": "logging.Handler",
}

_USED_UP = {"a generator": "reading it would use it up; pass a list, or "}


def _refuse(what: str) -> Reducer:
    def reduce(value: Any, known: Known | None) -> tuple[Any, ...]:
        more = _USED_UP.get(what, "")
        raise Refused(f"{what} has no identity ({type(value).__qualname__}): {more}{NOTHING_HELPS}")

    return reduce


# `module.qualname` -> a reducer that refuses, for the type and its subclasses.
REFUSED: dict[str, Reducer] = {
    name: _refuse(what) for what, names in _WHAT.items() for name in names.split()
}


def _fields(tag: str, *names: str) -> Reducer:
    """Reduce to exactly these attributes; a subclass is left to its pickle reduction."""
    get = attrgetter(*names)
    if len(names) == 1:
        return lambda value, known: (tag, get(value))
    return lambda value, known: (tag, *get(value))


def _function(value: Any, known: Known | None) -> tuple[Any, ...]:
    from wellkept.hashing.functions import reduce_function

    return reduce_function(value)


def _code(value: Any, known: Known | None) -> tuple[Any, ...]:
    from wellkept.hashing.functions import reduce_code

    return reduce_code(value)


def _builtin(value: Any, known: Known | None) -> tuple[Any, ...]:
    receiver = value.__self__
    if receiver is None or type(receiver) is type(sys):
        return "builtin", module_of(value.__module__), value.__qualname__
    return "builtin method", receiver, value.__name__


def _module(value: Any, known: Known | None) -> tuple[Any, ...]:
    code = module_code(value)
    content = "module", module_of(value.__name__, getattr(value, "__file__", None))
    return content if code is None else (f"{TAG}{code}", *content)


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
    plain = ("object", class_name(kind), str(value), attributes(value))
    slots = slots_held(value, slots_beside(kind.__mro__[:-1], "pathlib"))
    return ("k2:object", *plain[1:], slots) if slots else plain


_PATHS = {
    f"pathlib.{name}" for name in ("PurePosixPath", "PureWindowsPath", "PosixPath", "WindowsPath")
}


def _timezone(value: Any, known: Known | None) -> tuple[Any, ...]:
    # `timezone(offset)` and `timezone(offset, its default name)` print alike and compare alike.
    return "timezone", value.utcoffset(None), value.tzname(None)


def _zone(value: Any, known: Known | None) -> tuple[Any, ...]:
    if value.key is None:
        raise Refused("a ZoneInfo made from a file has no key: make it with ZoneInfo(key)")
    try:
        value.__reduce__()
    except Exception as error:
        # `PicklingError`: the key is any text that its maker gave.
        raise Refused(f"{error}: make it with ZoneInfo(key), or {NOTHING_HELPS}") from error
    return "zoneinfo", value.key


def _uuid(value: Any, known: Known | None) -> tuple[Any, ...]:
    safe = value.is_safe.name
    return ("uuid", value.int) if safe == "unknown" else ("k2:uuid", value.int, safe)


def _mappingproxy(value: Any, known: Known | None) -> tuple[Any, ...]:
    held = value.copy()
    return ("mappingproxy", held) if type(held) is dict else ("k2:mappingproxy", held)


def _memoryview(value: Any, known: Known | None) -> tuple[Any, ...]:
    try:
        content = value if value.c_contiguous else value.tobytes()
        return "memoryview", value.format, value.shape, buffer_digest(content)
    except ValueError as error:
        raise Refused(f"a memoryview can't be read ({error})") from error


def _partial(value: Any, known: Known | None) -> tuple[Any, ...]:
    name = None if type_key(type(value)) == "functools.partial" else class_name(type(value))
    return "partial", name, value.func, value.args, value.keywords, attributes(value)


def _ordered_dict(value: Any, known: Known | None) -> tuple[Any, ...]:
    attrs = attributes(value)
    pairs = [(key, value[key]) for key in value]
    return ("OrderedDict", pairs, attrs) if attrs else ("OrderedDict", pairs)


def _counter(value: Any, known: Known | None) -> tuple[Any, ...]:
    attrs = attributes(value)
    return ("Counter", dict(value), attrs) if attrs else ("Counter", dict(value))


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
    cached = cached_names(kind) - set(kind.__pydantic_fields__)
    content = (
        class_name(kind),
        {name: item for name, item in value.__dict__.items() if name not in cached},
        getattr(value, "__pydantic_extra__", None),
        None if private is None else dict(private),
    )
    unset = sorted(set(kind.__pydantic_fields__) - value.__pydantic_fields_set__)
    return ("k2:pydantic", *content, unset) if unset else ("pydantic", *content)


def _generic_alias(value: Any, known: Known | None) -> tuple[Any, ...]:
    name = getattr(value, "_name", None)
    content = value.__origin__, value.__args__, getattr(value, "__metadata__", None)
    # `typing.List[int]` is not `list[int]`, and `*tuple[int]` is not `tuple[int]`.
    if type_key(type(value)) == "typing._GenericAlias" and name is not None:
        return "k2:alias", name, *content
    if getattr(value, "__unpacked__", False):
        return "k2:alias", "*", *content
    return "alias", *content


_OF_VARIABLES = (
    "__bound__",
    "__constraints__",
    "__covariant__",
    "__contravariant__",
    "__infer_variance__",
    "__default__",
)


def _type_variable(value: Any, known: Known | None) -> tuple[Any, ...]:
    kind, held = type(value).__name__, {}
    for name in _OF_VARIABLES:
        try:
            item = getattr(value, name, None)
        except Exception as error:
            # A bound is an expression that is worked out when it is asked for.
            raise Refused(
                f"the {name} of {value} can't be had ({error}): {NOTHING_HELPS}"
            ) from error
        # there is no default by a value that is new in Python 3.13, no bound of a `ParamSpec` by one
        # that is another since 3.12
        none = type(item).__name__ == "NoDefaultType" or (item is type(None) and kind != "TypeVar")
        if item and not none:
            held[name] = item
    plain = ("global", module_of(value.__module__), value.__name__)
    return plain if kind == "TypeVar" and not held else ("k2:type variable", kind, *plain[1:], held)


def _new_type(value: Any, known: Known | None) -> tuple[Any, ...]:
    return "k2:new type", module_of(value.__module__), value.__qualname__, value.__supertype__


def _type_alias(value: Any, known: Known | None) -> tuple[Any, ...]:
    return (
        "k2:type alias",
        module_of(value.__module__),
        value.__name__,
        value.__type_params__,
        value.__value__,
    )


def _forward_reference(value: Any, known: Known | None) -> tuple[Any, ...]:
    # the first one to ask keeps in it what it was found to mean
    module = getattr(value, "__forward_module__", None)
    return "k2:forward reference", value.__forward_arg__, module


def _special_form(value: Any, known: Known | None) -> tuple[Any, ...]:
    return "global", "typing", value._name


# What Pillow keeps in the `__dict__` of an image.
_OF_IMAGES = frozenset(
    {"_im", "im", "_mode", "mode", "_size", "size", "palette", "info", "_readonly", "readonly"}
    | {"_exif", "_category", "category", "pyaccess"}
)


def _image(value: Any, known: Known | None) -> tuple[Any, ...]:
    # It was opened from a file, whose bytes it may not have read yet.
    opened = hasattr(value, "tile")
    if opened and getattr(value, "is_animated", False):
        raise Refused(
            f"an opened image of several frames has no identity, since it can be turned to any of "
            f"them: pass its path or a copy() of one frame, or {NOTHING_HELPS}"
        )
    value.load()
    tag, *content = generic(type(value))(value, known)
    held = {} if opened else attributes(value)
    added = {name: item for name, item in held.items() if name not in _OF_IMAGES}
    return ("k2:image", *content, added) if added else (tag, *content)


def _undefined_function(value: Any, known: Known | None) -> tuple[Any, ...]:
    """Return the content of a function of sympy without a definition: a class, or where it is applied."""
    if isinstance(value, type):
        return "k2:sympy function", value.__name__, dict(getattr(value, "_kwargs", {}))
    return "k2:sympy applied", type(value), value.args


def _random(value: Any, known: Known | None) -> tuple[Any, ...]:
    return "random", class_name(type(value)), value.getstate(), attributes(value)


def _receiver(value: Receiver, known: Known | None) -> tuple[Any, ...]:
    inner = value.value
    if isinstance(inner, type):
        return "class", class_name(inner)
    reducer: Any = reducer_of(type(inner))
    content: tuple[Any, ...] = getattr(reducer, "__wrapped__", reducer)(inner, known)
    return content


_TIME = ("hour", "minute", "second", "microsecond", "fold", "tzinfo")

# `module.qualname` -> the reducer for objects of exactly that type.
EXACT: dict[str, Reducer] = {
    f"{Receiver.__module__}.Receiver": _receiver,
    "builtins.type": reduce_class,
    "builtins.NotImplementedType": lambda value, known: ("NotImplemented",),
    "builtins.range": _fields("range", "start", "stop", "step"),
    "builtins.slice": _fields("slice", "start", "stop", "step"),
    "builtins.bytearray": lambda value, known: ("bytearray", bytes(value)),
    "builtins.memoryview": _memoryview,
    "builtins.function": _function,
    "builtins.code": _code,
    "builtins.cell": _cell,
    "builtins.method": _fields("method", "__self__", "__func__"),
    "builtins.builtin_function_or_method": _builtin,
    "builtins.method-wrapper": _fields("builtin method", "__self__", "__name__"),
    "builtins.method_descriptor": _descriptor,
    "builtins.wrapper_descriptor": _descriptor,
    "builtins.classmethod_descriptor": _descriptor,
    "builtins.getset_descriptor": _descriptor,
    "builtins.member_descriptor": _descriptor,
    "builtins.module": _module,
    "builtins.mappingproxy": _mappingproxy,
    "builtins.dict_keys": lambda value, known: ("dict_keys", list(value)),
    "builtins.dict_values": lambda value, known: ("dict_values", list(value)),
    "builtins.dict_items": lambda value, known: ("dict_items", list(value)),
    "builtins.property": _fields("property", "fget", "fset", "fdel"),
    "builtins.staticmethod": _fields("staticmethod", "__func__"),
    "builtins.classmethod": _fields("classmethod", "__func__"),
    "types.SimpleNamespace": lambda value, known: ("namespace", dict(value.__dict__)),
    "types.GenericAlias": _generic_alias,
    "types.UnionType": _fields("union", "__args__"),
    "typing.Union": _fields("union", "__args__"),
    "typing._GenericAlias": _generic_alias,
    "typing._UnionGenericAlias": _fields("union", "__args__"),
    "typing._LiteralGenericAlias": _generic_alias,
    "typing._CallableGenericAlias": _generic_alias,
    "typing._AnnotatedAlias": _generic_alias,
    "typing.TypeVar": _type_variable,
    "typing.ParamSpec": _type_variable,
    "typing.TypeVarTuple": _type_variable,
    "typing.TypeAliasType": _type_alias,
    "typing.NewType": _new_type,
    "typing.ForwardRef": _forward_reference,
    "annotationlib.ForwardRef": _forward_reference,
    "typing._SpecialForm": _special_form,
    "typing._AnyMeta": lambda value, known: ("global", "typing", "Any"),
    "typing._SpecialGenericAlias": _special_form,
    "typing._TupleType": _special_form,
    "typing._CallableType": _special_form,
    "functools.partial": _partial,
    "functools._lru_cache_wrapper": _lru_cache,
    "decimal.Decimal": lambda value, known: ("decimal", str(value)),
    "fractions.Fraction": _fields("fraction", "numerator", "denominator"),
    "datetime.datetime": _fields("datetime", "year", "month", "day", *_TIME),
    "datetime.date": _fields("date", "year", "month", "day"),
    "datetime.time": _fields("time", *_TIME),
    "datetime.timedelta": _fields("timedelta", "days", "seconds", "microseconds"),
    "datetime.timezone": _timezone,
    "zoneinfo.ZoneInfo": _zone,
    "uuid.UUID": _uuid,
    "re.Pattern": _fields("pattern", "pattern", "flags"),
    "array.array": lambda value, known: (
        "array",
        value.typecode,
        value.itemsize,
        len(value),
        buffer_digest(value),
    ),
    "collections.OrderedDict": _ordered_dict,
    "collections.defaultdict": lambda value, known: (
        "defaultdict",
        value.default_factory,
        dict(value),
    ),
    "collections.Counter": _counter,
    "collections.deque": lambda value, known: ("deque", value.maxlen, list(value)),
    "collections.ChainMap": lambda value, known: ("ChainMap", attributes(value)),
    "random.Random": _random,
    "random.SystemRandom": lambda value, known: ("random", "random:SystemRandom"),
    **REFUSED,
}

# `module.qualname` -> the reducer for objects of that type and its subclasses.
FAMILIES: dict[str, Reducer] = {
    "enum.Enum": _enum,
    "pathlib.PurePath": _path,
    "pydantic.main.BaseModel": _pydantic,
    "functools.partial": _partial,
    "random.Random": _random,
    "PIL.Image.Image": _image,
    "sympy.core.function.AppliedUndef": _undefined_function,
    "sympy.core.function.UndefinedFunction": _undefined_function,
    **REFUSED,
}
