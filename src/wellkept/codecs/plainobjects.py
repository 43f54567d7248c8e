"""Objects of Python's own, and of registered classes, in a pickle from whom nobody vouches for."""

from __future__ import annotations

import builtins
import dataclasses
import datetime
import decimal
import enum
import fractions
import functools
import inspect
import pathlib
import re
import uuid
import zoneinfo
from collections import Counter, OrderedDict, deque
from types import MemberDescriptorType
from typing import Any

from wellkept.codecs.plainnames import Named, Unfinished
from wellkept.codecs.untrusted import Refused

__all__ = ["PRESENT", "dataclass", "enumeration", "find", "is_zone"]

_TEXT = 100_000  # characters of a number
_BITS = 100_000  # of the parts of a fraction, which are divided by each other
_NUMBER = re.compile(r"-?\d{1,4000}(/\d{1,4000})?").fullmatch
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
    """What may be named of Python's own; None: it may not."""
    if module == "builtins" and name in _EXCEPTIONS:
        return _exception(_EXCEPTIONS[name])
    if module in ("pathlib", "pathlib._local") and name in _PATHS:
        return _path(getattr(pathlib, name))
    return _KNOWN.get((module, name))


def _wrong(what: str) -> Refused:
    return Refused(f"it makes a {what} of its own")


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
    # Some Pythons hash a slice by its parts, in C code that recurses without a guard.
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
    """Whether it is None or a time zone of Python's own."""
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
    """Stands for `zoneinfo.ZoneInfo`, of which only a key is believed."""


def _attribute(_: Any, kind: Any, name: Any) -> Any:
    if kind is not _Zone or type(name) is not str or name != "_unpickle":
        raise Refused("it looks for an attribute")
    return _zone


def _zone(_: Any, key: Any, cached: Any = True) -> zoneinfo.ZoneInfo:
    if type(key) is not str or not _ZONE(key):
        raise _wrong("time zone")
    return zoneinfo.ZoneInfo(key)


PRESENT = {id(_zone): Named(_zone, _zone)}
"""What may be called without having been named: what looking for the attribute gives."""


# -- containers ------------------------------------------------------------------------------------


def _counter(machine: Any, *given: Any) -> Counter[Any]:
    if given and (len(given) > 1 or type(given[0]) is not dict):
        raise _wrong("Counter")
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
        raise Refused("it gives an exception no attributes")
    for name, value in state.items():
        # What an exception's class has, but for plain members such as an ImportError's name.
        own = getattr(type(made), name, None)
        if (name.startswith("__") and name != "__notes__") or callable(own):
            raise Refused(f"it sets {name[:80]} of an exception")
        setattr(made, name, value)


# -- what was registered ---------------------------------------------------------------------------


def enumeration(kind: Any) -> Named:
    """An enumeration, whose members are named by their values."""

    def call(_: Any, value: Any) -> Any:
        if issubclass(kind, enum.Flag):
            if type(value) is int and value.bit_length() <= 4096:
                return kind(value)
        elif type(value) in _SCALARS or type(value) is tuple:
            for member in kind:
                if type(member.value) is type(value) and member.value == value:
                    return member
        raise Refused(f"it holds a {kind.__qualname__} that is not there"[:200])

    return Named(kind, call)


def dataclass(kind: Any) -> Named:
    """A dataclass, whose fields are set without its `__init__`."""
    names = [field.name for field in dataclasses.fields(kind)]

    def build(_: Any, made: Any, state: Any) -> None:
        if type(state) is tuple and len(state) == 2:  # without and with slots
            plain, slots = state
            given = {**(plain or {}), **(slots or {})}
        elif type(state) is list and len(state) == len(names):  # as frozen ones with slots say it
            given = dict(zip(names, state, strict=True))
        else:
            given = state
        if type(given) is not dict or not all(map(_settable, given)):
            raise Refused(f"it gives a {kind.__qualname__} no fields"[:200])
        for name, value in given.items():
            object.__setattr__(made, name, value)

    @functools.cache
    def allowed(name: str) -> bool:
        own = inspect.getattr_static(kind, name, None)
        if name in names:  # and no code of its own, which setting it would run
            return type(own) is MemberDescriptorType or not hasattr(type(own), "__set__")
        # A field of another version, or what was computed once.
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
