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
_FEW = 3  # names of a namespace that are sooner compared one by one
_SAME = """
def same():
 try:{lines}
  return True
 except Exception:
  return False
"""
_SOME = 64  # items of a container of functions and other objects that are compared at each call
_MUTABLE = frozenset({list, dict, set, bytearray})

Space = Mapping[str, Any]


def fingerprint(value: Any) -> Any:
    """What tells whether a container has changed; None: it is too large, or can't be compared."""
    try:
        found: Any = dumps(value, 2)
    except ValueError:
        # By identity: objects inside that change themselves are not seen.
        return _items(value) if len(value) <= 1000 else None
    return found if len(found) <= _LARGE else None


def _items(value: Any) -> tuple[Any, ...]:
    """What a container holds; held, so that nothing else can come to lie where it lay."""
    return (*value, *value.values()) if type(value) is dict else (*value,)


def _same_items(value: Any, held: tuple[Any, ...]) -> bool:
    now = _items(value)
    return len(now) == len(held) and all(map(is_, now, held))


def _unchanged(value: Any, found: Any) -> bool:
    """Whether a container still has a fingerprint."""
    if type(found) is tuple:
        return _same_items(value, found)
    return bool(fingerprint(value) == found)


class _Check:
    """A function that compares, made of terms: a hit waits for it, and loops take twice as long."""

    def __init__(self) -> None:
        self.terms: list[str] = []
        self._held: dict[str, Any] = {
            "dumps": dumps,
            "same_items": _same_items,
            "all": all,
            "map": map,
            "is_": is_,
        }

    def add(self, term: str, *values: Any) -> None:
        """A term, with the values that stand at its `{}`."""
        names = [f"v{len(self._held) + at}" for at in range(len(values))]
        self._held |= zip(names, values, strict=True)
        self.terms.append(term.format(*names))

    def space(self, group: list[tuple[Space, str, Any]]) -> None:
        """That names of one namespace are bound to what they were."""
        exact = [read for read in group if type(read[2]) in _EXACT]
        other = [read for read in group if type(read[2]) not in _EXACT]
        # `==` of tuples compares by `is` first, and these types are equal only if identical.
        for reads, term in ((exact, "{}({}) == {}"), (other, "all(map(is_, {}({}), {}))")):
            if len(reads) > _FEW:
                names, values = [name for _, name, _ in reads], tuple(v for _, _, v in reads)
                self.add(term, itemgetter(*names), reads[0][0], values)
            else:
                for space, name, value in reads:
                    self.add("{}[{}] is {}", space, name, value)

    def made(self) -> Callable[[], bool]:
        """The function; what is gone, or can't be compared any more, is not the same."""
        if not self.terms:
            return _steady
        held = self._held
        lines = "".join(f"\n  if not ({term}): return False" for term in self.terms)
        exec(_SAME.format(lines=lines), held)  # noqa: S102  of names made here alone
        same: Callable[[], bool] = held["same"]
        return same


def _steady() -> bool:
    return True


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
        check = _Check()
        near: dict[int, list[tuple[Space, str, Any]]] = {}
        self._far: list[tuple[Space, str, Any]] = []
        for space, name, value, each in reads:
            if not each:
                self._far.append((space, name, value))
            elif value is MISSING:
                check.add("{} not in {}", name, space)
            else:
                near.setdefault(id(space), []).append((space, name, value))
        for group in near.values():
            check.space(group)
        self._large: list[tuple[Any, Any]] = []
        for value in containers:
            if type(value) in _MUTABLE:
                print_ = fingerprint(value)
                if type(print_) is bytes and len(print_) <= _SMALL:
                    check.add("dumps({}, 2) == {}", value, print_)
                elif type(print_) is tuple and len(value) <= _SOME:
                    check.add("same_items({}, {})", value, print_)
                elif print_ is not None:
                    self._large.append((value, print_))
        self.same: Callable[[], bool] = check.made()
        """Whether what can be seen at each call is as it was."""
        self.steady = not check.terms
        """Whether there is nothing to compare at each call."""
        self.bare = self.steady and not (self._far or self._large)
        """Whether there is nothing to compare at all."""

    def rest_same(self) -> bool:
        """Whether what is not looked at at each call is as it was."""
        for space, name, value in self._far:
            if space.get(name, MISSING) is not value:
                return False
        return all(_unchanged(value, found) for value, found in self._large)

    def all_same(self) -> bool:
        """Whether all is as it was."""
        return self.same() and self.rest_same()
