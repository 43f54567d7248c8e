"""What is asked of calls: a `Query` is conditions, an order and a limit; no I/O.

A call fits a query if all its conditions hold. Whether they were looked up in an index or are tried
on each record, this is what they mean.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any, Final, NamedTuple

from wellkept.records import Argument, Call, Digest

__all__ = [
    "ANY",
    "ORDERS",
    "Begins",
    "Choice",
    "Condition",
    "Equal",
    "Has",
    "Is",
    "Like",
    "Order",
    "Other",
    "Present",
    "Query",
    "Span",
    "Test",
    "matches",
    "order_of",
]


class _Any:
    """The type of `ANY`."""

    def __repr__(self) -> str:
        return "wellkept.ANY"

    def __reduce__(self) -> str:
        return "ANY"


ANY: Final[Any] = _Any()
"""In a query: there is something, whatever it is. (None is a value like any other.)"""


class Present(NamedTuple):
    """There is something."""

    def holds(self, found: Any) -> bool:
        return True


class Equal(NamedTuple):
    """This value, of this type, as JSON has them."""

    value: Any

    def holds(self, found: Any) -> bool:
        if type(found) is not type(self.value):
            return False
        if isinstance(found, (list, dict)):
            return json.dumps(found, sort_keys=True) == json.dumps(self.value, sort_keys=True)
        return bool(found == self.value)


class Is(NamedTuple):
    """The value of this digest, whatever stands for it in a record."""

    digest: Digest
    value: Any = None
    scalar: bool | None = None
    """Whether `value` is the value and a scalar, which a record may show; None: only the digest is
    known."""

    def holds(self, found: Any) -> bool:
        return bool((found.digest if type(found) is Argument else found) == self.digest)


class Begins(NamedTuple):
    """A digest that begins so; of an argument, one that the record does not show."""

    prefix: str

    def holds(self, found: Any) -> bool:
        if type(found) is Argument:
            return not found.shown and found.digest.startswith(self.prefix)
        return str(found).startswith(self.prefix)


class Span(NamedTuple):
    """A number (True and False are none) or a text from `low` to `high`; None is open."""

    low: Any = None
    high: Any = None
    above: bool = False
    """Whether `low` itself is left out."""
    below: bool = False

    @property
    def texts(self) -> bool:
        return isinstance(self.high if self.low is None else self.low, str)

    def holds(self, found: Any) -> bool:
        if type(found) is Argument:
            found = found.value if found.shown else None
        if self.texts:
            if type(found) is not str or not _is_text(found):
                return False
        elif type(found) not in (int, float):
            return False
        if self.low is not None and (found <= self.low if self.above else not found >= self.low):
            return False
        return self.high is None or bool(found < self.high if self.below else found <= self.high)


class Like(NamedTuple):
    """A text that fits a pattern (`*`, `?`, `[…]`)."""

    pattern: str

    def holds(self, found: Any) -> bool:
        if type(found) is Argument:
            found = found.value if found.shown else None
        return isinstance(found, str) and _is_text(found) and fnmatchcase(found, self.pattern)


def _is_text(found: str) -> bool:
    """Whether it is UTF-8: lone surrogates have no order, and no index takes them."""
    try:
        found.encode()
    except UnicodeEncodeError:
        return False
    return True


class Has(NamedTuple):
    """A list that has this item, or a mapping that has this key."""

    item: Any

    def holds(self, found: Any) -> bool:
        return isinstance(found, (list, dict)) and self.item in found


class Other(NamedTuple):
    """Anything but this text."""

    value: str

    def holds(self, found: Any) -> bool:
        return bool(found != self.value)


class Choice(NamedTuple):
    """Any of these."""

    tests: tuple[Any, ...]

    def holds(self, found: Any) -> bool:
        return any(test.holds(found) for test in self.tests)


Test = Present | Equal | Is | Begins | Span | Like | Has | Other | Choice


class Condition(NamedTuple):
    """A test of a field of a call."""

    field: str
    """A field of `Call`, `module`, `argument`, `metadata`, or `given`: any argument that the record does
    not show."""
    path: tuple[str, ...]
    """The name of an argument; the keys that lead to a part of the metadata."""
    test: Test

    def holds(self, call: Call) -> bool:
        """Whether it does, for this call."""
        if self.field == "argument":
            argument = call.arguments.get(self.path[0])
            return argument is not None and self.test.holds(argument)
        if self.field == "given":
            hidden = (one for one in call.arguments.values() if not one.shown)
            return any(self.test.holds(one) for one in hidden)
        if self.field == "metadata":
            found: Any = call.metadata
            for key in self.path:
                if not isinstance(found, Mapping) or key not in found:
                    return False
                found = found[key]
            return self.test.holds(found)
        if self.field == "function":
            tests = self.test.tests if isinstance(self.test, Choice) else (self.test,)
            return any(
                matches(call.function, test.pattern)
                if isinstance(test, Like)
                else test.holds(call.function)
                for test in tests
            )
        if self.field == "module":
            return self.test.holds(call.function.rpartition(":")[0])
        found = getattr(call, self.field)
        return (found is not None or isinstance(self.test, Equal)) and self.test.holds(found)


def matches(name: str, pattern: str) -> bool:
    """Whether a function's name fits a pattern (`*`, `?`, `[…]`): all of it, or what follows its
    module."""
    return name == pattern or any(
        fnmatchcase(part, pattern) for part in (name, name.rpartition(":")[2])
    )


class Order(NamedTuple):
    """What calls are ordered by."""

    field: str = "created"
    path: tuple[str, ...] = ()
    descending: bool = False


ORDERS = ("created", "seconds", "size", "uses", "used", "expires", "key", "function", "state")
"""Fields that calls can be ordered by, beside an argument or a part of the metadata."""


class Query(NamedTuple):
    """Which calls, in which order, and how many at the most. It can be called with a `Call`."""

    conditions: tuple[Condition, ...] = ()
    order: Order = Order()
    limit: int | None = None

    def __call__(self, call: Call) -> bool:
        """Whether all conditions hold for a call."""
        return all(condition.holds(call) for condition in self.conditions)

    def narrowed(self, *conditions: Condition) -> Query:
        """This query with further conditions."""
        return self._replace(conditions=(*self.conditions, *conditions))


def order_of(order: Order, call: Call) -> tuple[Any, ...]:
    """What tells the place of a call: None first, then numbers, then text; of equals, the older one."""
    if order.field == "argument":
        argument = call.arguments.get(order.path[0])
        found: Any = argument.value if argument is not None and argument.shown else None
    elif order.field == "metadata":
        found = call.metadata
        for key in order.path:
            found = found.get(key) if isinstance(found, Mapping) else None
    else:
        found = getattr(call, order.field)
    kind = 0
    if isinstance(found, (int, float)):
        kind = 1
    elif isinstance(found, str) and _is_text(found):
        kind = 2
    else:
        found = 0
    return kind, found, call.created, int.from_bytes(call.key.raw[:8], "big", signed=True)
