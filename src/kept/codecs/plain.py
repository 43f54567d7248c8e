"""Pickles from whom nobody vouches for: only of plain types, and nothing that a pickle names is run.

Plain are numbers, text, bytes, containers, dates and their like, exceptions of Python's own, arrays,
pandas' frames, and the dataclasses and enumerations that were registered. Whatever else a pickle names
is refused before it is imported.
"""

from __future__ import annotations

import builtins
import dataclasses
import enum
import io
import pickle
import re
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any, ClassVar, TypeVar

from kept.codecs import plainarrays
from kept.codecs.untrusted import Refused
from kept.errors import ConfigError, DecodeError
from kept.records import Buffer

__all__ = ["decode", "register_plain"]

T = TypeVar("T", bound=type)

_NAMES = {
    "datetime": ("date", "datetime", "time", "timedelta", "timezone"),
    "decimal": ("Decimal",),
    "pathlib": ("PosixPath", "PurePosixPath", "PureWindowsPath", "WindowsPath"),
    "pathlib._local": ("PosixPath", "PurePosixPath", "PureWindowsPath", "WindowsPath"),
    "uuid": ("SafeUUID", "UUID"),
}
_BUILTINS = {"complex": complex, "range": range, "slice": slice} | {
    name: kind
    for name, kind in vars(builtins).items()
    if isinstance(kind, type)
    and issubclass(kind, Exception)
    and not issubclass(kind, BaseExceptionGroup)
}
_registered: dict[tuple[str, str], type] = {}


def _only(module: str, name: str, fits: Callable[..., bool]) -> Callable[..., Any]:
    """What makes an object of a class, from what its own pickle says: not from a range without end,
    or a number that takes for ever."""

    def make(*given: Any) -> Any:
        if not fits(*given):
            raise Refused(f"it makes a {name} of its own")
        return getattr(import_module(module), name)(*given)

    return make


_NUMBER = re.compile(r"-?\d{1,4000}(/\d{1,4000})?").fullmatch
_WARY: dict[tuple[str, str], Callable[..., bool]] = {
    ("collections", "Counter"): lambda given={}: type(given) is dict,
    ("collections", "OrderedDict"): lambda *given: not given,
    ("collections", "deque"): lambda given=(), *_: type(given) in (list, tuple),
    ("fractions", "Fraction"): lambda *given: all(
        type(part) is int or (type(part) is str and _NUMBER(part)) for part in given
    ),
}
_MADE = {name: _only(*name, fits) for name, fits in _WARY.items()}


def register_plain(kind: T) -> T:
    """Let a dataclass or an enumeration be decoded from places that are not trusted; a decorator.

    Its fields are set to what is kept, without its `__init__`, and must be plain themselves.

    Raises:
        ConfigError: it is neither, or says itself how it is unpickled.
    """
    own = isinstance(kind, type) and (dataclasses.is_dataclass(kind) or issubclass(kind, enum.Enum))
    if not own:
        raise ConfigError(f"only dataclasses and enumerations can be registered, not {kind!r}")
    made = getattr(kind, "__dataclass_params__", None)
    slots = made is not None and made.frozen and "__slots__" in vars(kind)
    for name in ("__setstate__", "__reduce__", "__reduce_ex__"):
        if name in vars(kind) and not slots and dataclasses.is_dataclass(kind):
            raise ConfigError(f"{kind.__qualname__} has its own {name}, which could do anything")
    _registered[kind.__module__, kind.__qualname__] = kind
    return kind


def decode(payload: Buffer, buffers: Sequence[Buffer]) -> Any:
    """The value.

    Raises:
        Refused: it is of other types.
        DecodeError: these bytes are no pickle.
    """
    try:
        try:
            return _Fast(io.BytesIO(payload), buffers=buffers).load()
        except _Arrays:
            return _careful(payload, buffers)
    except Refused:
        raise
    except Exception as error:
        raise DecodeError(f"can't decode a kept value: {type(error).__name__}: {error}") from error


class _Arrays(Exception):  # noqa: N818  it is none
    """There are arrays in it, of which Python has to look at every step."""


def _find(module: str, name: str) -> Any:
    found: Any = _registered.get((module, name)) or _MADE.get((module, name))
    if found is None and module == "builtins":
        found = _BUILTINS.get(name)
    if found is None and name in _NAMES.get(module, ()):
        found = getattr(import_module(module), name)
    return found


class _Fast(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        found = _find(module, name)
        if found is not None:
            return found
        if plainarrays.is_about(module, name):
            raise _Arrays
        raise Refused(f"it holds {module}.{name}"[:200])

    def persistent_load(self, pid: Any) -> Any:
        raise Refused("it refers to what is elsewhere")


def _careful(payload: Buffer, buffers: Sequence[Buffer]) -> Any:
    return _Careful(io.BytesIO(payload), buffers=buffers).load()


_Python: Any = pickle._Unpickler  # the one that is written in Python


class _Careful(_Python):  # type: ignore[misc]  # it has no types
    """Slower, and every step can be looked at."""

    dispatch: ClassVar[dict[int, Any]] = dict(_Python.dispatch)

    def find_class(self, module: str, name: str) -> Any:
        found = _find(module, name)
        if found is None and plainarrays.is_about(module, name):
            found = plainarrays.find(module, name)
        if found is None:
            raise Refused(f"it holds {module}.{name}"[:200])
        return found

    def persistent_load(self, pid: Any) -> Any:
        raise Refused("it refers to what is elsewhere")

    def load_build(self) -> None:
        state, inst = self.stack[-1], self.stack[-2]
        plainarrays.check_state(inst, state)
        super().load_build()

    def load_reduce(self) -> None:
        plainarrays.check_call(self.stack[-2], self.stack[-1])
        super().load_reduce()

    def load_newobj(self) -> None:
        plainarrays.check_call(self.stack[-2], self.stack[-1])
        super().load_newobj()

    def load_newobj_ex(self) -> None:
        plainarrays.check_call(self.stack[-3], self.stack[-2])
        super().load_newobj_ex()

    def refuse(self) -> None:
        raise Refused("it is written as no pickle of ours")

    dispatch[pickle.INST[0]] = dispatch[pickle.OBJ[0]] = refuse
    dispatch[pickle.BUILD[0]] = load_build
    dispatch[pickle.REDUCE[0]] = load_reduce
    dispatch[pickle.NEWOBJ[0]] = load_newobj
    dispatch[pickle.NEWOBJ_EX[0]] = load_newobj_ex
