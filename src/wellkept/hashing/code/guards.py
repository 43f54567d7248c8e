"""Whether all that an identity was made from is still what it was.

A key may only be believed, and a result only be kept under it, while nothing is bound anew or has
changed in place since. Bindings, functions and classes are compared by what they consist of, plain
containers by their bytes, containers of other objects item by item, and what has no such test is
digested again, as an argument is.
"""

from __future__ import annotations

import sys
from collections import defaultdict, deque
from collections.abc import Callable, Iterable
from functools import partial
from marshal import dumps
from types import FunctionType, MappingProxyType
from typing import Any

from ..constant import is_constant
from .classes import set_on_member
from .comparing import (
    EXACT,
    MISSING,
    STILL,
    Check,
    Space,
    content_of,
    digest_of,
    held_in,
    in_slots,
    is_flat,
    is_readonly,
    items_of,
    steady,
    variable_of,
)
from .texts import functions_of
from .values import slots_of

__all__ = ["MISSING", "Guards", "Space", "content_of", "variable_of"]

_FOLLOWED = frozenset(
    {
        *("external", "method", "partial", "property", "staticmethod", "classmethod", "bound"),
        *("wrapped", "module", "slot", "type", "mock", "variable", "cell"),
    }
)
"""Tags of nodes of objects that hold nothing but what has nodes, and nothing else in its place."""
_LARGE = 256 * 1024  # bytes up to which the bytes of a container are held, and no digest of them


def _inside(nodes: Iterable[list[Any]]) -> set[int]:
    """The addresses of nodes, and of all that is below them, but of code."""
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
        self.same: Callable[[], bool] = check.made()
        """Whether all that is compared at each call is as it was."""
        self._late = list(late)
        self.all_same = self._all_same if self._late else self.same
        """Whether all is."""
        self.steady = self.same is steady and not self._late
        """Whether there is nothing to compare."""
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
        except ValueError:  # nested too deeply
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
            names = getattr(value, "names", None)  # those of a dtype can be set
            if not isinstance(value, (numpy.ndarray, numpy.void)) and names is None:
                return
            if type(value) is numpy.ndarray and is_readonly(value):
                same = "not {0}.flags.writeable and {0}.dtype is {1} and {0}.shape == {2}"
                self._check.add(same, value, value.dtype, value.shape)
                return
        self._check.digest(value, raw)
