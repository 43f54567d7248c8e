"""Classes and functions that the vectors name. A change here changes digests: add, don't edit."""

import enum
from collections import OrderedDict, namedtuple
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any


class Colour(enum.Enum):
    RED = 1
    GREEN = 2


class Shade(enum.Enum):
    RED = 1


class Number(enum.IntEnum):
    ONE = 1


class Bits(enum.Flag):
    A = 1
    B = 2


@dataclass
class Point:
    x: int
    y: Any = 0
    tags: list[str] = field(default_factory=list)

    @cached_property
    def norm(self) -> float:
        return float(self.x**2 + self.y**2)


@dataclass(frozen=True, slots=True)
class Slotted:
    x: int
    y: int = 0


@dataclass
class Other:
    x: int
    y: Any = 0
    tags: list[str] = field(default_factory=list)


Pair = namedtuple("Pair", "a b")


class Plain:
    def __init__(self, **held: Any) -> None:
        self.__dict__.update(held)

    def method(self) -> int:
        return 1


class Same:
    class Plain:
        pass


class Int(int):
    pass


class Text(str):
    __slots__ = ()


class Row(tuple):
    __slots__ = ()


class Listing(list):
    pass


class Mapping(dict):
    pass


class Ordered(OrderedDict):
    pass


class Group(set):
    pass


class Fixed(frozenset):
    pass


class Reduced:
    def __init__(self, value: Any) -> None:
        self.value = value

    def __reduce__(self) -> Any:
        return Reduced, (self.value,)


class Stated:
    def __init__(self, value: Any) -> None:
        self.value, self.cache = value, object()

    def __getstate__(self) -> Any:
        return {"value": self.value}


class Standing:
    def __init__(self, value: Any) -> None:
        self.value = value

    def __digest__(self) -> Any:
        return self.value


def added(x: int, y: int = 1) -> int:
    """A docstring."""
    z: int = x + y  # a comment
    return z


def scaled(x: int, y: int = 1) -> int:
    return x * y


def formatted(x: Any, *rest: Any, width: int = 3, **named: Any) -> str:
    with x as stream, x:
        stream.read()
    match x:
        case {"a": 1, **others}:
            return f"{others!r:>{width}} {x=} {'q'}tail{x:}{{}}"
        case [1, *_] | None:
            pass
    return str({**named, "k": 1e400, "é\u2028": b"\xff", None: (..., -1, 1j, 0xFFFF_FFFF_FFFF)})


def closing(held: Any) -> Any:
    def inner() -> Any:
        return held

    return inner


def recursive() -> Any:
    def inner(n: int) -> int:
        return inner(n - 1) if n else 0

    return inner


one, two = lambda x: x + 1, lambda x: x + 2


def looped() -> list[Any]:
    made: list[Any] = [1]
    made.append(made)
    return made


def looped_twice() -> list[Any]:
    first: list[Any] = [1]
    second: list[Any] = [1, first]
    first.append(second)
    return first


def looped_otherwise() -> list[Any]:
    made: list[Any] = [2]
    made.append(made)
    return made


def family() -> Plain:
    parent = Plain(name="p", children=[])
    parent.children += [Plain(name=n, parent=parent) for n in "ab"]
    return parent


def nested(depth: int) -> list[Any]:
    made: list[Any] = []
    for _ in range(depth):
        made = [made]
    return made


def doubled(depth: int) -> list[Any]:
    made: list[Any] = [1]
    for _ in range(depth):
        made = [made, made]
    return made
