"""Guards: whether everything that an identity was made from is unchanged.

A key may only be believed, and a result only be kept under it, while nothing is bound anew or has
changed in place since. Bindings, functions and classes are compared by what they consist of, plain
containers by their bytes, containers of other objects item by item, and what has no such test is
digested again, as an argument is. All comparisons are the terms of one function that is compiled.
"""

from __future__ import annotations

import datetime
import decimal
import fractions
import pathlib
import re
import sys
import uuid
from abc import get_cache_token
from collections import defaultdict, deque
from collections.abc import Callable, Iterable
from functools import lru_cache, partial
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

from wellkept.hashing.code.classes import set_on_member, slots_of
from wellkept.hashing.code.definitions import functions_of
from wellkept.hashing.loaded import Space
from wellkept.hashing.reducers import is_constant

MISSING: Any = object()

# Types whose objects are equal only if nothing could tell them apart.
EXACT: frozenset[type[Any]] = frozenset(
    {FunctionType, BuiltinFunctionType, type, ModuleType, str, bytes, type(None)}
    | {staticmethod, classmethod, property}
)
# What `marshal` writes in a way that tells it from everything else: a buffer looks like bytes.
_FLAT: frozenset[type[Any]] = frozenset(
    {type(None), bool, int, float, complex, str, type(Ellipsis)}
)
# Types whose objects don't change; what they hold is looked at by itself.
STILL: frozenset[type[Any]] = (
    _FLAT
    | {bytes, range, object, BuiltinFunctionType, MethodType, ModuleType, re.Pattern, uuid.UUID}
    | {datetime.date, datetime.datetime, datetime.time, datetime.timedelta, datetime.timezone}
    | {decimal.Decimal, fractions.Fraction, pathlib.PurePosixPath, pathlib.PureWindowsPath}
    | {type(pathlib.Path()), type(NotImplemented)}
)
# So few names of a namespace are sooner compared one by one.
_FEW = 3
_SAME = """
def same():
 try:{lines}
  return True
 except Exception:
  return False
"""


def held_in(value: Any) -> tuple[Any, ...]:
    """Return what a container holds; held, so that nothing else can come to lie where it lay."""
    return (*value, *value.values()) if type(value) is dict else (*value,)


def _same_items(value: Any, held: tuple[Any, ...]) -> bool:
    now = held_in(value)
    return len(now) == len(held) and all(map(is_, now, held))


def items_of(value: Any) -> tuple[Any, ...]:
    """Return the items of an object of a container's subclass, whatever its class makes of them."""
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
    """Return what tells, by its identity, whether classes were registered with abstract ones since."""
    now, last = get_cache_token(), _token[0]
    if now != last:
        _token[0] = last = now
    return last


def content_of(cell: Any) -> Any:
    """Return what a cell of a closure holds, or `MISSING`."""
    try:
        return cell.cell_contents
    except ValueError:
        # The variable of the cell has no value yet.
        return MISSING


def variable_of(variable: Any) -> Any:
    """Return what a context variable is in the context of the caller, or `MISSING`."""
    try:
        return variable.get()
    except LookupError:
        return MISSING


def digest_of(value: Any) -> bytes | None:
    from wellkept.hashing.digests import digest_bytes

    try:
        return digest_bytes(value)
    except Exception:  # noqa: BLE001  what can't be read is not what it was
        return None


def is_flat(value: Any, inside: list[Any]) -> bool:
    """Return whether `marshal` tells all that a container holds; the containers in it are added to a list."""
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
    """Return whether an array is one that nobody can write to, as far as numpy knows."""
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
        """Return the function; what is gone, or can't be compared any more, is not the same."""
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


# Tags of nodes of objects that hold nothing but what has nodes, and nothing else in its place.
_FOLLOWED = frozenset(
    {
        *("external", "method", "partial", "property", "staticmethod", "classmethod", "bound"),
        *("wrapped", "module", "slot", "type", "mock", "variable", "cell"),
    }
)
# Up to so many bytes a container's own bytes are held, and no digest of them.
_LARGE = 256 * 1024


def _inside(nodes: Iterable[list[Any]]) -> set[int]:
    """Return the addresses of nodes, and of all that is below them, but of code."""
    waiting, seen = [*nodes], set[int]()
    while waiting:
        node = waiting.pop()
        if id(node) not in seen:
            seen.add(id(node))
            below = (item for item in node if type(item) is list and item)
            waiting += [item for item in below if item[0] not in ("function", "class")]
    return seen


class Guards:
    """What was read, and where.

    Args:
        reads: namespaces, and what was found in them by name.
        found: functions that look something up, what they take, and what they gave.
        held: the nodes of the walk, with the objects that they were made of.
        scanned: classes whose subclasses count.
        changing: names of attributes that the code itself sets.
        late: namespaces, names and values that take too long to be compared at each call.
    """

    def __init__(
        self,
        reads: Iterable[tuple[Space, dict[str, Any]]],
        found: Iterable[tuple[Callable[[Any], Any], Any, Any]],
        held: Iterable[tuple[list[Any], Any]],
        scanned: Iterable[type[Any]],
        changing: Iterable[str],
        late: Iterable[tuple[Space, str, Any]],
    ) -> None:
        self._check = check = Check()
        self._covered: set[int] = set()
        self._changing = frozenset(changing)
        for space, names in reads:
            check.space(space, names)
        for look, at, value in found:
            check.add("{}({}) is {}", look, at, value)
        nodes = list(held)
        constant = _inside(node for node, value in nodes if is_constant(value))
        for node, value in nodes:
            if id(node) not in constant:
                self._watch(node, value)
        for kind in scanned:
            check.add("same_items({}.__subclasses__(), {})", kind, (*type.__subclasses__(kind),))
        # Whether all that is compared at each call is as it was.
        self.same: Callable[[], bool] = check.made()
        self._late = list(late)
        # Whether all is.
        self.all_same: Callable[[], bool] = self._all_same if self._late else self.same
        # Whether there is nothing to compare.
        self.steady: bool = self.same is steady and not self._late
        del self._check, self._covered

    def _all_same(self) -> bool:
        return self.same() and all(space.get(name) is value for space, name, value in self._late)

    def _watch(self, node: list[Any], value: Any) -> None:
        """Compare what an object consists of, as far as it may change and its node tells of it."""
        check, kind, tag = self._check, type(value), node[0] if node else ""
        if kind in STILL or id(value) in self._covered or tag == "namespace":
            return
        if kind is FunctionType:
            if tag != "external":
                check.function(value)
                if vars(value).keys() - {"__wrapped__"}:
                    self._attributes(value, vars(value))
        elif issubclass(kind, type):
            if tag != "external":
                self._class(value)
        elif kind in (list, tuple, dict, set, frozenset):
            if not self._plain("{}", value, value) and kind not in (tuple, frozenset):
                check.items(value)
        elif tag == "value":
            self._data(value, node[1])
        elif tag == "environ":
            check.add("{}._data == {}", value, dict(value._data))
        elif tag == "partial" and type(value) is partial:
            same = "{0}.func is {1} and {0}.args is {2} and {0}.keywords is {3}"
            check.add(same, value, value.func, value.args, value.keywords)
        elif tag == "weak":
            check.add("{}() is {}", value, value())
        elif tag == "kept":
            if type(node[1]) is str:
                check.add("{}.__followed__()[1] == {}", value, node[1])
        elif "contents" in node or (tag == "object" and "value" in node):
            self._contents(node, value)
        elif tag not in _FOLLOWED and "type" not in node and tag != "object":
            self._digest(value)

    def _plain(self, place: str, value: Any, container: Any) -> bool:
        """Compare a container of plain values; whether it is one.

        Args:
            place: how it is found from a value.
        """
        inside: list[Any] = []
        if not is_flat(container, inside):
            return False
        try:
            raw = dumps(container, 2)
        except ValueError:
            # The value is nested too deeply for `marshal`.
            return False
        self._covered.update(map(id, inside))
        if {type(part) for part in inside} <= {tuple, frozenset}:
            return True
        if len(raw) <= _LARGE:
            self._check.add(f"dumps({place}, 2) == {{}}", value, raw)
        else:
            self._check.add(f"digest({place}) == {{}}", value, digest_of(container), late=True)
        return True

    def _digest(self, value: Any) -> None:
        if (raw := digest_of(value)) is not None:
            self._check.digest(value, raw)

    def _class(self, kind: type[Any]) -> None:
        left_out = {
            name
            for name, value in vars(kind).items()
            if name in self._changing and type(value) not in EXACT
        }
        self._check.table(kind, left_out)
        members: Any = vars(kind).get("_member_map_")
        for member in members.values() if isinstance(members, dict) else ():
            if set_on_member(member):
                self._attributes(member, member.__dict__)
        for function in functions_of(kind):
            self._check.function(function)

    def _contents(self, node: list[Any], value: Any) -> None:
        """Compare items and attributes of an object, by identity: each is looked at by itself."""
        check, kind = self._check, type(value)
        check.add("type({}) is {}", value, kind)
        if (
            "value" in node
            and "contents" not in node
            and any("__digest__" in vars(base) for base in kind.__mro__)
        ):
            # It counts by what it says of itself alone, such as a counter that every body moves on.
            self._digest(value)
            return
        held = getattr(value, "__dict__", None)
        if type(held) is dict:
            self._attributes(value, held)
        slots = [name for name in slots_of(kind) if name not in ("__weakref__", "__dict__")]
        if slots := [name for name in slots if name not in self._changing]:
            check.add("same_slots({}, {}, {})", value, slots, in_slots(value, slots))
        if isinstance(value, (dict, list, tuple, set, frozenset, deque, MappingProxyType)):
            check.add("same_items(items({}), {})", value, items_of(value))
        if isinstance(value, defaultdict):
            check.add("{}.default_factory is {}", value, value.default_factory)
        if "value" in node:
            self._digest(value)

    def _attributes(self, value: Any, held: dict[str, Any]) -> None:
        """Compare the attributes of an object, but for those that the code sets."""
        changing = self._changing & held.keys()
        left_out = {name for name in changing if type(held[name]) is not FunctionType}
        if left_out:
            kept = {name: item for name, item in held.items() if name not in left_out}
            self._check.add("same_names({}.__dict__, {}, {})", value, kept, self._changing)
        elif not self._plain("{}.__dict__", value, held):
            self._check.add("same_items({}.__dict__, {})", value, held_in(held))

    def _data(self, value: Any, raw: bytes) -> None:
        numpy: Any = sys.modules.get("numpy")
        if numpy is not None and isinstance(value, (numpy.generic, numpy.dtype, numpy.ndarray)):
            # The names of a dtype can be set in place.
            names = getattr(value, "names", None)
            if not isinstance(value, (numpy.ndarray, numpy.void)) and names is None:
                return
            if type(value) is numpy.ndarray and is_readonly(value):
                same = "not {0}.flags.writeable and {0}.dtype is {1} and {0}.shape == {2}"
                self._check.add(same, value, value.dtype, value.shape)
                return
        self._check.digest(value, raw)
