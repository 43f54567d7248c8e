"""Objects of Python, NumPy and Arrow that an unsigned pickle may hold, and the functions that make them.

NumPy trusts a pickle's shapes, dtypes and lists of objects, and Arrow its buffers: a list that is shorter than
its shape is read past its end. So sizes are checked first, a dtype's state must be what NumPy itself would
have written, and Arrow checks each array that was restored.
"""

from __future__ import annotations

import builtins
import dataclasses
import datetime
import decimal
import enum
import fractions
import functools
import inspect
import math
import pathlib
import re
import uuid
import zoneinfo
from collections import Counter, OrderedDict, deque
from collections.abc import Callable
from importlib import import_module
from types import MemberDescriptorType
from typing import Any, NamedTuple

from wellkept.codecs.envelope import Refused


class Named(NamedTuple):
    """A name that a pickle may use, and what it may do with it."""

    # The object that the name pushes onto the machine's stack.
    it: Any
    # Makes an object, given the machine and the stream's arguments; None if the name may not be called.
    call: Callable[..., Any] | None = None
    # Makes an empty object; None if the name is no class whose empty objects may be made.
    new: Callable[..., Any] | None = None
    # Whether that takes the stream's arguments.
    takes: bool = False


class Unfinished(NamedTuple):
    """An object that may be given state, once."""

    it: Any
    # Gives the state, called with the machine, the object and the state.
    build: Callable[[Any, Any, Any], None]
    # Whether the object must have its state before anything may use it.
    must: bool = True


# Characters of a Decimal. Conversion takes time that grows faster than the length, as for the next two.
_TEXT = 100_000
# Bits of a fraction's parts, whose greatest common divisor is computed.
_BITS = 100_000
# A fraction in text, each part within the 4,300 digits that Python converts by default.
_NUMBER = re.compile(r"-?\d{1,4000}(/\d{1,4000})?").fullmatch
# The name of a time zone is a path below the zone files, so neither a dot nor an empty part is let through.
_ZONE = re.compile(r"[A-Za-z0-9_+-]{1,30}(/[A-Za-z0-9_+-]{1,30}){0,3}").fullmatch
_SCALARS = (type(None), bool, int, float, str, bytes)
_EXCEPTIONS = {
    name: kind
    for name, kind in vars(builtins).items()
    if isinstance(kind, type)
    and issubclass(kind, Exception)
    and not issubclass(kind, BaseExceptionGroup)
}
_PATHS = ("PosixPath", "PurePosixPath", "PureWindowsPath", "WindowsPath")


def find(module: str, name: str) -> Named | None:
    """Return what stands for a name of Python's, NumPy's or Arrow's; None if the name may not be used."""
    if module == "builtins" and name in _EXCEPTIONS:
        return _exception(_EXCEPTIONS[name])
    if module in ("pathlib", "pathlib._local") and name in _PATHS:
        return _path(getattr(pathlib, name))
    return _KNOWN.get((module, name)) or _find_array(module, name)


def _wrong(what: str) -> Refused:
    return Refused(f"it makes a {what} from arguments that are not allowed")


# -- numbers and their like ------------------------------------------------------------------------


def _complex(_: Any, *given: Any) -> complex:
    real, imaginary = given
    if type(real) is not float or type(imaginary) is not float:
        raise _wrong("complex")
    return complex(real, imaginary)


def _range(_: Any, *given: Any) -> range:
    if not all(type(part) is int and part.bit_length() < 64 for part in given):
        raise _wrong("range")
    return range(*given)


def _slice(_: Any, *given: Any) -> slice:
    # Python 3.12 and later hash a slice by its parts, in C code that recurses without a guard.
    if len(given) != 3 or any(type(part) in (slice, tuple) for part in given):
        raise _wrong("slice")
    return slice(*given)


def _decimal(_: Any, text: Any) -> decimal.Decimal:
    if type(text) is not str or len(text) > _TEXT:
        raise _wrong("Decimal")
    return decimal.Decimal(text)


def _fraction(_: Any, *given: Any) -> fractions.Fraction:
    small = [type(part) is int and part.bit_length() <= _BITS for part in given]
    text = len(given) == 1 and type(given[0]) is str and _NUMBER(given[0])
    if not text and not (len(given) in (1, 2) and all(small)):
        raise _wrong("Fraction")
    return fractions.Fraction(*given)


def _uuid() -> Unfinished:
    return Unfinished(object.__new__(uuid.UUID), _build_uuid)


def _build_uuid(_: Any, made: uuid.UUID, state: Any) -> None:
    number = state.get("int") if type(state) is dict else None
    safe = state.get("is_safe", uuid.SafeUUID.unknown.value) if type(state) is dict else None
    if type(number) is not int or not 0 <= number < 1 << 128 or type(safe) not in (int, type(None)):
        raise _wrong("UUID")
    object.__setattr__(made, "int", number)
    object.__setattr__(made, "is_safe", uuid.SafeUUID(safe))


def _safe(_: Any, value: Any) -> uuid.SafeUUID:
    if type(value) not in (int, type(None)):
        raise _wrong("SafeUUID")
    return uuid.SafeUUID(value)


def _path(kind: Any) -> Named:
    def call(_: Any, *given: Any) -> Any:
        if not all(type(part) is str for part in given):
            raise _wrong("path")
        return kind(*given)

    return Named(kind, call)


# -- dates -----------------------------------------------------------------------------------------


def is_zone(zone: Any) -> bool:
    """Return whether it is None or a time zone of Python's own."""
    return zone is None or type(zone) in (datetime.timezone, zoneinfo.ZoneInfo)


def _date(_: Any, raw: Any) -> datetime.date:
    if type(raw) is not bytes or len(raw) != 4:
        raise _wrong("date")
    return datetime.date(raw[0] << 8 | raw[1], raw[2], raw[3])


def _clock(raw: bytes) -> tuple[int, int, int, int]:
    return raw[0], raw[1], raw[2], int.from_bytes(raw[3:6], "big")


def _datetime(_: Any, raw: Any, zone: Any = None) -> datetime.datetime:
    if type(raw) is not bytes or len(raw) != 10 or not is_zone(zone):
        raise _wrong("datetime")
    year, month, fold = raw[0] << 8 | raw[1], raw[2] & 0x7F, raw[2] >> 7
    return datetime.datetime(year, month, raw[3], *_clock(raw[4:]), zone, fold=fold)


def _time(_: Any, raw: Any, zone: Any = None) -> datetime.time:
    if type(raw) is not bytes or len(raw) != 6 or not is_zone(zone):
        raise _wrong("time")
    hour, minute, second, micro = _clock(raw)
    return datetime.time(hour & 0x7F, minute, second, micro, zone, fold=hour >> 7)


def _timedelta(_: Any, *given: Any) -> datetime.timedelta:
    if not all(type(part) is int and part.bit_length() < 64 for part in given):
        raise _wrong("timedelta")
    return datetime.timedelta(*given)


def _timezone(_: Any, offset: Any, *name: Any) -> datetime.timezone:
    if type(offset) is not datetime.timedelta or not all(type(part) is str for part in name):
        raise _wrong("timezone")
    return datetime.timezone(offset, *name)


class _Zone:
    """Stands for `zoneinfo.ZoneInfo`, which a pickle may only ask for a zone by its key."""


def _attribute(_: Any, kind: Any, name: Any) -> Any:
    # `getattr` in a pickle leads from any object to any function. The one use of it that is allowed is how
    # `ZoneInfo` pickles itself.
    if kind is not _Zone or type(name) is not str or name != "_unpickle":
        raise Refused("it looks up an attribute")
    return _zone


def _zone(_: Any, key: Any, cached: Any = True) -> zoneinfo.ZoneInfo:
    if type(key) is not str or not _ZONE(key):
        raise _wrong("time zone")
    return zoneinfo.ZoneInfo(key)


# What may be called without having been named: the function that `_attribute` returns.
PRESENT = {id(_zone): Named(_zone, _zone)}


# -- containers ------------------------------------------------------------------------------------


def _counter(machine: Any, *given: Any) -> Counter[Any]:
    if given and (len(given) > 1 or type(given[0]) is not dict):
        raise _wrong("Counter")
    # An entry of a dict takes about 100 bytes.
    machine.spend(100 * len(given[0]) if given else 0)
    return Counter(*given)


def _ordered(_: Any, *given: Any) -> OrderedDict[Any, Any]:
    if given:
        raise _wrong("OrderedDict")
    return OrderedDict()


def _deque(machine: Any, items: Any = (), size: Any = None) -> deque[Any]:
    if type(items) not in (list, tuple) or type(size) not in (int, type(None)):
        raise _wrong("deque")
    machine.spend(8 * len(items))
    return deque(items, size)


# -- exceptions ------------------------------------------------------------------------------------


def _exception(kind: type[Exception]) -> Named:
    def call(_: Any, *given: Any) -> Unfinished:
        return Unfinished(kind(*given), _build_exception, must=False)

    return Named(kind, call)


def _build_exception(_: Any, made: Exception, state: Any) -> None:
    if state is None:
        return
    if type(state) is not dict or not all(type(name) is str for name in state):
        raise Refused("it gives an exception a state that is not a dict of attributes")
    for name, value in state.items():
        # Neither special names nor methods may be replaced; plain members, such as an ImportError's name, may.
        own = getattr(type(made), name, None)
        if (name.startswith("__") and name != "__notes__") or callable(own):
            raise Refused(f"it sets {name[:80]} of an exception")
        setattr(made, name, value)


# -- what was registered ---------------------------------------------------------------------------


def enumeration(kind: Any) -> Named:
    """Return what stands for an enumeration, whose members are found by their values."""

    def call(_: Any, value: Any) -> Any:
        # Calling the class would run its `_missing_`; only a Flag is called, as its members are combinations.
        if issubclass(kind, enum.Flag):
            if type(value) is int and value.bit_length() <= 4096:
                return kind(value)
        elif type(value) in _SCALARS or type(value) is tuple:
            for member in kind:
                if type(member.value) is type(value) and member.value == value:
                    return member
        raise Refused(f"it holds a {kind.__qualname__} that has no such member"[:200])

    return Named(kind, call)


def dataclass(kind: Any) -> Named:
    """Return what stands for a dataclass, whose fields are set without its `__init__`."""
    names = [field.name for field in dataclasses.fields(kind)]

    def build(_: Any, made: Any, state: Any) -> None:
        # The state of an object with both attributes and slots is a pair.
        if type(state) is tuple and len(state) == 2:
            plain, slots = state
            given = {**(plain or {}), **(slots or {})}
        elif type(state) is list and len(state) == len(names):
            # Frozen dataclasses with slots give their state as a list.
            given = dict(zip(names, state, strict=True))
        else:
            given = state
        if type(given) is not dict or not all(map(_settable, given)):
            raise Refused(f"it gives a {kind.__qualname__} a state that is not of its fields"[:200])
        for name, value in given.items():
            object.__setattr__(made, name, value)

    @functools.cache
    def allowed(name: str) -> bool:
        own = inspect.getattr_static(kind, name, None)
        # Only a field is set: setting another attribute might run code of its class.
        if name in names:
            return type(own) is MemberDescriptorType or not hasattr(type(own), "__set__")
        # A field of another version of the class, or the value of a cached property.
        computed = own is None or isinstance(own, functools.cached_property)
        return computed and not name.startswith("__")

    def _settable(name: Any) -> bool:
        return type(name) is str and allowed(name)

    def new() -> Unfinished:
        return Unfinished(object.__new__(kind), build, must=False)

    return Named(kind, new=new)


_KNOWN: dict[tuple[str, str], Named] = {
    ("builtins", "complex"): Named(complex, _complex),
    ("builtins", "range"): Named(range, _range),
    ("builtins", "slice"): Named(slice, _slice),
    ("builtins", "getattr"): Named(_attribute, _attribute),
    ("zoneinfo", "ZoneInfo"): Named(_Zone),
    ("decimal", "Decimal"): Named(decimal.Decimal, _decimal),
    ("fractions", "Fraction"): Named(fractions.Fraction, _fraction),
    ("uuid", "UUID"): Named(uuid.UUID, new=_uuid),
    ("uuid", "SafeUUID"): Named(uuid.SafeUUID, _safe),
    ("datetime", "date"): Named(datetime.date, _date),
    ("datetime", "datetime"): Named(datetime.datetime, _datetime),
    ("datetime", "time"): Named(datetime.time, _time),
    ("datetime", "timedelta"): Named(datetime.timedelta, _timedelta),
    ("datetime", "timezone"): Named(datetime.timezone, _timezone),
    ("collections", "Counter"): Named(Counter, _counter),
    ("collections", "OrderedDict"): Named(OrderedDict, _ordered),
    ("collections", "deque"): Named(deque, _deque),
}


# A dtype's short form, such as `<f8`. NumPy's parser takes far more, structures and titles among it.
_SPEC = re.compile(r"[<>|=]?[?bBhHiIlLqQefdgcFDGOSUVMmu]\d{0,9}").fullmatch
_KINDS = frozenset("biufcmMOSUV")
_ALIAS = re.compile(r"[a-z0-9_]{1,40}(\[[a-z]{1,20}\])?").fullmatch
# The longest axis of an array. One without items takes no memory, but its shape is still multiplied in C.
_LONG = 2**40
# NumPy before 2.0 has at most 32 axes; 2.0 has 64.
_AXES = 32
_BYTES = (bytes, bytearray, memoryview)


def _find_array(module: str, name: str) -> Named | None:
    """Return what stands for a name of NumPy's or Arrow's; None if the name may not be used."""
    first, _, rest = module.partition(".")
    if first == "numpy":
        return _numpy(rest, name)
    if module == "pyarrow.lib" and name in _ARROW:
        return Named(getattr(import_module(module), name), _ARROW[name])
    return None


def _numpy(rest: str, name: str) -> Named | None:
    numpy = import_module("numpy")
    if not rest and name in ("dtype", "ndarray"):
        return Named(numpy.dtype, _dtype) if name == "dtype" else Named(numpy.ndarray)
    # NumPy 2 renamed `numpy.core` to `numpy._core`; a pickle may have been written by either.
    core, _, part = rest.partition(".")
    made = _MADE.get((part, name)) if core in ("core", "_core") else None
    if made is None:
        return None
    return Named(getattr(import_module(f"numpy.{core}.{part}"), name), made)


def is_array(found: Any, kinds: str, dimensions: tuple[int, ...] = (1,)) -> bool:
    """Return whether this is an array, not of a subclass, of these kinds of dtype and these dimensions."""
    numpy = import_module("numpy")
    return type(found) is numpy.ndarray and found.dtype.kind in kinds and found.ndim in dimensions


# -- dtypes ----------------------------------------------------------------------------------------


def _dtype(_: Any, spec: Any, align: Any = False, copy: Any = True) -> Unfinished:
    if type(spec) is not str or not _SPEC(spec):
        raise Refused("it holds a dtype that is not a plain one")
    # Always a copy: state must not be given to the dtype that all arrays of the process share.
    made = import_module("numpy").dtype(spec, bool(align), True)
    if made.kind not in _KINDS:
        raise Refused("it holds a dtype that is not a plain one")
    return Unfinished(made, _build_dtype)


def _build_dtype(_: Any, made: Any, state: Any) -> None:
    if type(state) is not tuple or not _is_state(import_module("numpy"), made, state):
        raise Refused("it holds a dtype whose state NumPy would not write")
    made.__setstate__(state)


def _is_state(numpy: Any, made: Any, state: Any) -> bool:
    """Return whether NumPy would have written such a state for such a dtype."""
    try:
        _, order, subarray, names, fields = state[:5]
        if order not in ("<", ">", "|", "="):
            return False
        if names is None and subarray is None and fields is None:
            if made.kind in "mM":
                (about, (unit, count, *_)) = state[8]
                text = f"{made.kind}8[{int(count)}{str(unit, 'ascii')}]"
                wanted = numpy.dtype(made.kind + "8" if unit == b"generic" else text)
            else:
                about, wanted = None, made
            return about is None and _same(state[5:], wanted.__reduce__()[2][5:])
        if subarray is not None:
            if not _is_shape(subarray[1]) or not isinstance(subarray[0], numpy.dtype):
                return False
            if math.prod(subarray[1]) * subarray[0].itemsize != made.itemsize:
                return False
            wanted = numpy.dtype((subarray[0], subarray[1]))
        else:
            parts = [fields[name] for name in names]
            # numpy adds an offset and a size in 32 bits, so a large offset passes its own check.
            if not all(
                isinstance(part[0], numpy.dtype)
                and type(part[1]) is int
                and 0 <= part[1] <= made.itemsize - part[0].itemsize
                for part in parts
            ):
                return False
            wanted = numpy.dtype(
                {
                    "names": list(names),
                    "formats": [part[0] for part in parts],
                    "offsets": [part[1] for part in parts],
                    "itemsize": made.itemsize,
                },
                align=state[6] > 1,
            )
        return wanted.itemsize == made.itemsize and _same(state, wanted.__reduce__()[2])
    except (TypeError, ValueError, KeyError, IndexError, AttributeError, OverflowError):
        return False


def _same(state: Any, wanted: Any) -> bool:
    """Return whether both states are equal and of the same types: to C code, 1.0 and True are not 1."""
    if type(state) in (tuple, list) and type(state) is type(wanted):
        return len(state) == len(wanted) and all(map(_same, state, wanted))
    if isinstance(state, dict) and isinstance(wanted, dict | type(type.__dict__)):
        return set(state) == set(wanted) and all(_same(state[name], wanted[name]) for name in state)
    if isinstance(wanted, dict | type(type.__dict__)) or type(state) in (tuple, list, dict):
        return False
    alike = isinstance(state, type(wanted)) or isinstance(wanted, type(state))
    return alike and bool(state == wanted) and isinstance(state, bool) == isinstance(wanted, bool)


# -- arrays ----------------------------------------------------------------------------------------


def _is_shape(shape: Any) -> bool:
    return (
        type(shape) is tuple
        and len(shape) <= _AXES
        and all(type(length) is int and 0 <= length <= _LONG for length in shape)
    )


def _reconstruct(_: Any, *given: Any) -> Unfinished:
    numpy = import_module("numpy")
    if len(given) != 3 or given[0] is not numpy.ndarray or given[1:] != ((0,), b"b"):
        raise Refused("it makes an array from arguments that are not allowed")
    return Unfinished(numpy.ndarray((0,), "b"), _build_array)


def _build_array(machine: Any, made: Any, state: Any) -> None:
    numpy = import_module("numpy")
    if type(state) is not tuple or len(state) != 5:
        raise Refused("it holds an invalid array")
    version, shape, dtype, fortran, data = state
    if (
        (type(version), version) != (int, 1)
        or not _is_shape(shape)
        or not isinstance(dtype, numpy.dtype)
        or type(fortran) not in (bool, int)
    ):
        raise Refused("it holds an invalid array")
    count = math.prod(shape)
    size = count * dtype.itemsize
    if dtype.hasobject:
        right = type(data) is list and len(data) == count
    else:
        right = type(data) in _BYTES and memoryview(data).nbytes == size
    # Items of no bytes pass any check of size, but each operation on the array takes time for each of them.
    if not right or (not dtype.itemsize and count > 2**20):
        raise Refused("it holds an array that is not as large as its data")
    machine.spend(size)
    made.__setstate__((1, shape, dtype, bool(fortran), data))


def plain_array(
    machine: Any, shape: Any, dtype: Any, fortran: bool, read: Callable[[int], bytes]
) -> Any:
    """Return an array of a shape and a dtype whose content is read from a stream.

    Raises:
        Refused: the shape is none, or the array is larger than what a stream may make.
    """
    if not _is_shape(shape):
        raise Refused("it holds an invalid array")
    data = read(math.prod(shape) * dtype.itemsize)
    made = import_module("numpy").ndarray((0,), "b")
    _build_array(machine, made, (1, shape, dtype, fortran, data))
    return made


def _frombuffer(_: Any, *given: Any) -> Any:
    numpy = import_module("numpy")
    buffer, dtype, shape, order, *axes = given
    if (
        type(buffer) not in _BYTES
        or not isinstance(dtype, numpy.dtype)
        or dtype.hasobject
        or not dtype.itemsize
        or not _is_shape(shape)
        or order not in ("C", "F", "K")
        or len(axes) > 1
        or (axes and axes != [None] and not _is_order(axes[0], len(shape)))
        or math.prod(shape) * dtype.itemsize != memoryview(buffer).nbytes
    ):
        raise Refused("it holds an array that is not as large as its data")
    made = numpy.frombuffer(buffer, dtype)
    if order == "K":
        return made.reshape(shape, order="C").transpose(axes[0] if axes else None)
    return made.reshape(shape, order=order)


def _is_order(axes: Any, count: int) -> bool:
    return (
        type(axes) is tuple
        and all(type(axis) is int for axis in axes)
        and sorted(axes) == list(range(count))
    )


def _scalar(_: Any, *given: Any) -> Any:
    numpy = import_module("numpy")
    if (
        len(given) != 2
        or not isinstance(given[0], numpy.dtype)
        or given[0].hasobject
        or type(given[1]) is not bytes
        or len(given[1]) != given[0].itemsize
        or (not given[0].itemsize and given[0].kind not in "US")
    ):
        raise Refused("it makes a number from arguments that are not allowed")
    if not given[0].itemsize:
        # Empty text.
        return given[0].type()
    return numpy.frombuffer(given[1], given[0])[0]


_MADE: dict[tuple[str, str], Callable[..., Any]] = {
    ("multiarray", "_reconstruct"): _reconstruct,
    ("multiarray", "scalar"): _scalar,
    ("numeric", "_frombuffer"): _frombuffer,
}


# -- Arrow -----------------------------------------------------------------------------------------


def _type_for_alias(_: Any, name: Any) -> Any:
    if type(name) is not str or not _ALIAS(name):
        raise Refused("it holds an Arrow type that is not a plain one")
    return import_module("pyarrow").type_for_alias(name)


def _py_buffer(_: Any, content: Any) -> Any:
    if type(content) not in _BYTES:
        raise Refused("it makes an Arrow buffer from an object that is not bytes")
    return import_module("pyarrow").py_buffer(content)


def _restore_array(_: Any, data: Any) -> Any:
    arrow = import_module("pyarrow")
    if not _is_data(arrow, data, 0):
        raise Refused("it makes an Arrow array from arguments that are not allowed")
    made = arrow.lib._restore_array(_counted(data))
    # `full` checks every offset and every text against the buffers; without it Arrow trusts them.
    made.validate(full=True)
    return made


def _is_data(arrow: Any, data: Any, depth: int) -> bool:
    if type(data) is not tuple or len(data) != 7 or depth > 20:
        return False
    kind, length, nulls, offset, buffers, children, dictionary = data
    return (
        isinstance(kind, arrow.DataType)
        and all(type(n) is int and -1 <= n < 2**62 for n in (length, nulls, offset))
        and min(length, offset) >= 0
        and type(buffers) is list
        and all(item is None or isinstance(item, arrow.Buffer) for item in buffers)
        and (len(buffers) == kind.num_buffers or _is_variadic(kind, len(buffers)))
        and type(children) is list
        and len(children) == kind.num_fields
        and all(_is_data(arrow, child, depth + 1) for child in children)
        and (dictionary is None) == (not arrow.types.is_dictionary(kind))
        and (dictionary is None or _is_data(arrow, dictionary, depth + 1))
    )


def _counted(data: Any) -> Any:
    """Return the same data with the number of nulls left for Arrow to count."""
    # Arrow does not look at the bitmap of nulls where that number is zero, so a wrong one would hide them.
    kind, length, _, offset, buffers, children, dictionary = data
    parts = [_counted(child) for child in children]
    return (
        kind,
        length,
        -1,
        offset,
        buffers,
        parts,
        None if dictionary is None else _counted(dictionary),
    )


def _is_variadic(kind: Any, count: int) -> bool:
    return bool(getattr(kind, "has_variadic_buffers", False)) and count > int(kind.num_buffers)


_ARROW: dict[str, Callable[..., Any]] = {
    "type_for_alias": _type_for_alias,
    "py_buffer": _py_buffer,
    "_restore_array": _restore_array,
}
