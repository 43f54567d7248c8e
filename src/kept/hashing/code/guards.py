"""Whether all that an identity was made from is still what it was.

A call may only be answered by a key that was found before if nothing was bound anew since. So what
can be compared in tens of nanoseconds is compared before each such answer (`same`), and the rest
before a result is computed and kept (`all_same`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from marshal import dumps
from operator import is_, itemgetter
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import Any

__all__ = ["MISSING", "Guards", "fingerprint"]

MISSING: Any = object()

_EXACT = frozenset({FunctionType, BuiltinFunctionType, type, ModuleType, str, bytes, type(None)})
"""Types whose objects are equal only if nothing could tell them apart."""
_SMALL, _LARGE = 1024, 256 * 1024  # bytes of a container that is compared at each call; at a miss
_MUTABLE = frozenset({list, dict, set, bytearray})

Space = Mapping[str, Any]


def fingerprint(value: Any) -> Any:
    """What tells whether a container has changed; None: it is too large, or can't be compared."""
    try:
        found: Any = dumps(value, 2)
    except ValueError:
        if len(value) > 1000:
            return None
        # By identity: objects inside that change themselves are not seen.
        if type(value) is dict:
            return [*value], [*map(id, value.values())]
        return [*map(id, value)]
    return found if len(found) <= _LARGE else None


class Guards:
    """What was read, and where.

    Args:
        reads: namespace, name, what was found there (or `MISSING`), and whether it is to be
            compared at each call.
        containers: objects that may change in place.
    """

    def __init__(
        self, reads: Iterable[tuple[Space, str, Any, bool]], containers: Iterable[Any]
    ) -> None:
        near: dict[int, list[tuple[Space, str, Any]]] = {}
        self._exact: list[tuple[Callable[[Any], Any], Space, Any]] = []
        self._other: list[tuple[Space, str, Any]] = []
        self._absent: list[tuple[Space, str]] = []
        self._far: list[tuple[Space, str, Any]] = []
        for space, name, value, each in reads:
            if not each:
                self._far.append((space, name, value))
            elif value is MISSING:
                self._absent.append((space, name))
            elif type(value) in _EXACT:
                near.setdefault(id(space), []).append((space, name, value))
            else:
                self._other.append((space, name, value))
        for group in near.values():
            names = [name for _, name, _ in group]
            values: Any = tuple(value for _, _, value in group)
            # `==` of tuples compares by `is` first, and these types are equal only if identical.
            held = values if len(values) > 1 else values[0]
            self._exact.append((itemgetter(*names), group[0][0], held))
        self._small: list[tuple[Any, Any]] = []
        self._large: list[tuple[Any, Any]] = []
        for value in containers:
            if type(value) in _MUTABLE:
                print_ = fingerprint(value)
                if print_ is not None:
                    small = type(print_) is bytes and len(print_) <= _SMALL
                    (self._small if small else self._large).append((value, print_))
        self.steady = not (self._exact or self._other or self._absent or self._small)
        """Whether there is nothing to compare at each call."""
        self.bare = self.steady and not (self._far or self._large)
        """Whether there is nothing to compare at all."""

    def same(self) -> bool:
        """Whether what can be seen at each call is as it was."""
        try:
            for take, space, held in self._exact:
                if take(space) != held:
                    return False
            for space, name, value in self._other:
                if space[name] is not value:
                    return False
            for space, name in self._absent:
                if name in space:
                    return False
            for value, found in self._small:
                if dumps(value, 2) != found:
                    return False
        except Exception:  # noqa: BLE001  gone, or what is there now can't be compared
            return False
        return True

    def all_same(self) -> bool:
        """Whether all is as it was."""
        return (
            self.same()
            and all(is_(space.get(name, MISSING), value) for space, name, value in self._far)
            and all(fingerprint(value) == found for value, found in self._large)
        )
