"""How it is told that what was read is what it was: terms of a function that compares."""

from __future__ import annotations

import datetime
import decimal
import fractions
import pathlib
import re
import uuid
from abc import get_cache_token
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from marshal import dumps
from operator import is_, itemgetter
from types import (
    BuiltinFunctionType,
    CodeType,
    FunctionType,
    MappingProxyType,
    MethodType,
    ModuleType,
)
from typing import Any

__all__ = [
    "EXACT",
    "MISSING",
    "STILL",
    "Check",
    "Codes",
    "Space",
    "content_of",
    "digest_of",
    "held_in",
    "in_slots",
    "is_flat",
    "is_readonly",
    "items_of",
    "steady",
    "token_of",
    "variable_of",
]

MISSING: Any = object()

EXACT = frozenset(
    {FunctionType, BuiltinFunctionType, type, ModuleType, str, bytes, type(None)}
    | {staticmethod, classmethod, property}
)
"""Types whose objects are equal only if nothing could tell them apart."""
_FLAT = frozenset({type(None), bool, int, float, complex, str, type(Ellipsis)})
"""What `marshal` writes in a way that tells it from everything else: a buffer looks like bytes."""
STILL = (
    _FLAT
    | {bytes, range, object, BuiltinFunctionType, MethodType, ModuleType, re.Pattern, uuid.UUID}
    | {datetime.date, datetime.datetime, datetime.time, datetime.timedelta, datetime.timezone}
    | {decimal.Decimal, fractions.Fraction, pathlib.PurePosixPath, pathlib.PureWindowsPath}
    | {type(pathlib.Path()), type(NotImplemented)}
)
"""Types whose objects don't change; what they hold is looked at by itself."""
_FEW = 3  # names of a namespace that are sooner compared one by one
_SAME = """
def same():
 try:{lines}
  return True
 except Exception:
  return False
"""

Space = Mapping[str, Any]


def held_in(value: Any) -> tuple[Any, ...]:
    """What a container holds; held, so that nothing else can come to lie where it lay."""
    return (*value, *value.values()) if type(value) is dict else (*value,)


def _same_items(value: Any, held: tuple[Any, ...]) -> bool:
    now = held_in(value)
    return len(now) == len(held) and all(map(is_, now, held))


def items_of(value: Any) -> tuple[Any, ...]:
    """The items of an object of a container's subclass, whatever its class makes of them."""
    if isinstance(value, dict):
        return (*dict.keys(value), *dict.values(value))
    if isinstance(value, MappingProxyType):
        return (*value, *value.values())
    for base in (list, tuple, set, frozenset, deque):
        if isinstance(value, base):
            plain: Any = base
            return (*plain.__iter__(value),)
    return ()


def in_slots(value: Any, names: list[str]) -> list[Any]:
    found = []
    for name in names:
        try:
            found.append(object.__getattribute__(value, name))
        except AttributeError:
            found.append(MISSING)
    return found


def _same_slots(value: Any, names: list[str], held: list[Any]) -> bool:
    return all(map(is_, in_slots(value, names), held))


def _same_names(now: dict[str, Any], held: dict[str, Any], changing: frozenset[str]) -> bool:
    return all(now.get(name, MISSING) is item for name, item in held.items()) and all(
        name in held or name in changing for name in now
    )


_MORE = 100


class Codes:
    """Looks at the functions and classes in a container that changes as code runs: at whether they
    are those that it held.

    One that has come to hold much else, such as results, is not gone through at each call.
    """

    def __init__(self, container: Any) -> None:
        self._held = _codes_in(container)
        self._most = len(container) + _MORE

    def __call__(self, container: Any) -> Any:
        if len(container) > self._most:
            return self
        now = _codes_in(container)
        return self if len(now) == len(self._held) and all(map(is_, now, self._held)) else None


def _codes_in(container: Any) -> list[Any]:
    items = container.values() if type(container) is dict else container
    return [item for item in items if type(item) is FunctionType or issubclass(type(item), type)]


_token = [get_cache_token()]


def token_of(kind: type[Any]) -> Any:
    """What tells, by its identity, whether classes were registered with abstract ones since."""
    now, last = get_cache_token(), _token[0]
    if now != last:
        _token[0] = last = now
    return last


def content_of(cell: Any) -> Any:
    """What a cell of a closure holds, or `MISSING`."""
    try:
        return cell.cell_contents
    except ValueError:  # not assigned yet
        return MISSING


def variable_of(variable: Any) -> Any:
    """What a context variable is in the context of the caller, or `MISSING`."""
    try:
        return variable.get()
    except LookupError:
        return MISSING


def digest_of(value: Any) -> bytes | None:
    from ..digests import digest_bytes

    try:
        return digest_bytes(value)
    except Exception:  # noqa: BLE001  what can't be read is not what it was
        return None


def is_flat(value: Any, inside: list[Any]) -> bool:
    """Whether `marshal` tells all that a container holds; the containers in it are added to a list."""
    kind = type(value)
    if kind in _FLAT:
        return True
    if kind is dict:
        parts: Iterable[Any] = held_in(value)
    elif kind in (list, tuple, set, frozenset):
        parts = value
    else:
        return False
    inside.append(value)
    if _FLAT.issuperset(map(type, parts)):
        return True
    return len(inside) < 10_000 and all(is_flat(part, inside) for part in parts)


def is_readonly(array: Any) -> bool:
    """Whether an array is one that nobody can write to, as far as numpy knows."""
    while True:
        if array.flags.writeable:
            return False
        base = array.base
        if base is None:
            return True
        if not hasattr(base, "flags"):
            try:
                return memoryview(base).readonly
            except TypeError:
                return False
        array = base


class Check:
    """A function that compares, made of terms: a hit waits for it, and loops take twice as long."""

    def __init__(self) -> None:
        self.terms: list[str] = []
        self._late: list[str] = []
        self._functions: set[int] = set()
        self._held: dict[str, Any] = {
            "dumps": dumps,
            "same_items": _same_items,
            "same_slots": _same_slots,
            "same_names": _same_names,
            "items": items_of,
            "digest": digest_of,
            "len": len,
            "type": type,
            "vars": vars,
            "all": all,
            "map": map,
            "is_": is_,
        }

    def add(self, term: str, *values: Any, late: bool = False) -> None:
        """A term, with the values that stand at its `{}`.

        Args:
            late: it takes long, so it is looked at after the others.
        """
        names = [f"v{len(self._held) + at}" for at in range(len(values))]
        self._held |= zip(names, values, strict=True)
        (self._late if late else self.terms).append(term.format(*names))

    def space(self, space: Space, found: dict[str, Any]) -> None:
        """That names of one namespace are bound to what they were."""
        gone = frozenset(name for name, value in found.items() if value is MISSING)
        if len(gone) > 1:
            self.add("{}.isdisjoint({})", space.keys(), gone)
        for name in gone if len(gone) == 1 else ():
            self.add("{} not in {}", name, space)
        exact = {name: v for name, v in found.items() if type(v) in EXACT}
        other = {n: v for n, v in found.items() if n not in exact and v is not MISSING}
        # `==` of tuples compares by `is` first, and these types are equal only if identical.
        for reads, term in ((exact, "{}({}) == {}"), (other, "all(map(is_, {}({}), {}))")):
            if len(reads) > _FEW:
                self.add(term, itemgetter(*reads), space, (*reads.values(),))
            else:
                for name, value in reads.items():
                    self.add("{}[{}] is {}", space, name, value)

    def function(self, function: FunctionType) -> None:
        """That a function is what it was: nothing but its closure can't be given another."""
        if id(function) in self._functions:
            return
        self._functions.add(id(function))
        same = "{0}.__code__ is {1} and {0}.__defaults__ is {2} and {0}.__kwdefaults__ is {3}"
        parts = function.__code__, function.__defaults__, function.__kwdefaults__
        self.add(same, function, *parts)
        if named := function.__kwdefaults__:
            self.add("len({}) == {}", named, len(named))
            self.space(named, dict(named))

    def table(self, kind: type[Any], left_out: Iterable[str]) -> None:
        """That a class has the attributes that it had, but for some, and the same bases."""
        table = vars(kind)
        found = {name: value for name, value in table.items() if name not in left_out}
        self.add("{}.__bases__ is {} and len({}) == {}", kind, kind.__bases__, table, len(table))
        if len(found) == len(table) and EXACT.issuperset(map(type, table.values())):
            self.add("{} == {}", table, found)
        else:
            self.space(table, found)

    def items(self, container: Any) -> None:
        """That a container holds the objects that it held."""
        self.add("same_items({}, {})", container, held_in(container))

    def made(self) -> Callable[[], bool]:
        """The function; what is gone, or can't be compared any more, is not the same."""
        held, terms = self._held, [*self.terms, *self._late]
        if not terms:
            return steady
        lines = "".join(f"\n  if not ({term}): return False" for term in terms)
        exec(_compiled(_SAME.format(lines=lines)), held)  # noqa: S102  of names made here alone
        same: Callable[[], bool] = held["same"]
        return same

    def digest(self, value: Any, raw: bytes | None) -> None:
        """That something still has a digest."""
        self.add("digest({}) == {}", value, raw, late=True)


@lru_cache(maxsize=64)
def _compiled(text: str) -> CodeType:
    """A code identity that is made anew mostly compares what it did before: it takes as long to compile
    that of some hundred functions as to follow them.
    """
    return compile(text, "<string>", "exec")


def steady() -> bool:
    return True
