"""Operators of queries, such as ranges, choices and patterns; and conditions from keyword arguments."""

from __future__ import annotations

import datetime
import inspect
import math
import string
from collections.abc import Iterable, Mapping
from typing import Any

from wellkept.conditions import (
    ANY,
    ORDERS,
    Begins,
    Choice,
    Condition,
    Equal,
    Has,
    Is,
    Like,
    Order,
    Other,
    Present,
    Span,
    Test,
)
from wellkept.errors import ConfigError
from wellkept.hashing import digest_bytes
from wellkept.records import Digest

TESTS = (Present, Equal, Is, Begins, Span, Like, Has, Choice)
_SCALARS = (int, float, bool, str, type(None))


def between(low: Any, high: Any) -> Span:
    """Match values from `low` to `high`, both included: numbers, texts, or times.

    Raises:
        ConfigError: they have no order here, are not of one kind, or nothing lies between them.
    """
    span = _span(low, high)
    if span.high is not None and span.low is not None and span.high < span.low:
        raise ConfigError(
            f"between({low!r:.40}, {high!r:.40}) holds nothing: the lower one comes first"
        )
    return span


def at_least(low: Any) -> Span:
    """Match `low` or more; raises as `between`."""
    return _span(low, None)


def at_most(high: Any) -> Span:
    """Match `high` or less; raises as `between`."""
    return _span(None, high)


def above(low: Any) -> Span:
    """Match more than `low`; raises as `between`."""
    return _span(low, None)._replace(above=True)


def below(high: Any) -> Span:
    """Match less than `high`; raises as `between`."""
    return _span(None, high)._replace(below=True)


def one_of(*values: Any) -> Choice:
    """Match any of these values or operators.

    Raises:
        Undigestible: a value has no identity.
    """
    return Choice(tuple(is_value(value) for value in values))


def like(pattern: str) -> Like:
    """Match a text by a pattern with `*`, `?` and `[…]`.

    Raises:
        ConfigError: the pattern is not text.
    """
    if not isinstance(pattern, str):
        raise ConfigError(f"a pattern is text, not {pattern!r:.80}")
    return Like(pattern)


def named(digest: str) -> Is | Begins:
    """Match the value with a digest, which may be shortened to 4 or more digits if only one begins so.

    Raises:
        ConfigError: it is not a digest.
    """
    text = digest.lower() if isinstance(digest, str) else ""
    if not 4 <= len(text) <= 64 or not set(text) <= set(string.hexdigits):
        raise ConfigError(f"{digest!r:.80} is no digest: 4 to 64 hex digits")
    return Is(Digest(text)) if len(text) == 64 else Begins(text)


def is_value(value: Any, label: str = "value") -> Test:
    """Return the test for a value that a digest names: an argument, or a result.

    Raises:
        Undigestible: the value has no identity.
    """
    if value is ANY:
        return Present()
    if isinstance(value, TESTS):
        return value
    if type(value) is Digest:
        return Is(value)
    digest = Digest.of(digest_bytes(value, label=label))
    return Is(digest, value, True) if type(value) in _SCALARS else Is(digest, None, False)


def same(value: Any) -> Test:
    """Return the test for a value that records show.

    Raises:
        ConfigError: records show no such values.
    """
    if value is ANY:
        return Present()
    if isinstance(value, Choice):
        return Choice(
            tuple(same(test.value if isinstance(test, Is) else test) for test in value.tests)
        )
    if isinstance(value, TESTS):
        return value
    if type(value) not in (*_SCALARS, list, dict):
        raise ConfigError(f"no record shows such a value: {value!r:.80}")
    return Equal(value)


def moment(value: Any) -> float:
    """Return a time as seconds since the epoch: from a number, a datetime, or a timedelta ago.

    Raises:
        ConfigError: it is none of these.
    """
    if isinstance(value, datetime.datetime):
        return value.timestamp()
    if isinstance(value, datetime.timedelta):
        return datetime.datetime.now().timestamp() - value.total_seconds()
    if type(value) in (int, float) and math.isfinite(value):
        return float(value)
    raise ConfigError(
        f"a time is seconds since the epoch, a datetime or a timedelta, not {value!r:.80}"
    )


def _span(low: Any, high: Any) -> Span:
    ends = [_end(end) for end in (low, high)]
    if None not in ends and isinstance(ends[0], str) != isinstance(ends[1], str):
        raise ConfigError(f"no range from {low!r:.80} to {high!r:.80}: two numbers, or two texts")
    if ends == [None, None]:
        raise ConfigError(
            "a comparison needs something to compare with; wellkept.ANY stands for anything"
        )
    return Span(ends[0], ends[1])


def _end(value: Any) -> int | float | str | None:
    if isinstance(value, (datetime.datetime, datetime.timedelta)):
        return moment(value)
    if value is None or type(value) in (int, str) or (type(value) is float and value == value):
        return value  # type: ignore[no-any-return]  # one of these
    raise ConfigError(
        f"only numbers and texts are compared, not a {type(value).__qualname__}: {value!r:.80}"
    )


FILTERS = (
    "function",
    "module",
    "code",
    "version",
    "state",
    "arguments",
    "key",
    "result",
    "given",
    "created",
    "since",
    "until",
    "seconds",
    "size",
    "uses",
    "used",
    "expires",
    "run",
    "tags",
    "metadata",
)
"""The keyword arguments of a query."""

_NUMBERS = ("created", "seconds", "size", "uses", "used", "expires")
_MAPPINGS = ("arguments", "metadata", "tags")
_STATES = ("done", "failed", "items")


def conditions(filters: Mapping[str, Any]) -> list[Condition]:
    """Return the conditions of keyword arguments.

    Raises:
        ConfigError: an argument is unknown, or has a wrong type.
        Undigestible: a value has no identity.
    """
    found: list[Condition] = []
    _check_names(filters.get("function"), filters.get("arguments"))
    for name, value in filters.items():
        if name not in FILTERS:
            raise ConfigError(
                f"a query has no filter {name!r}; there are {', '.join(FILTERS)}. A call's own "
                f"arguments are given as arguments={{{name!r}: …}}"
            )
        made = _conditions(name, value)
        if not made or (name in _MAPPINGS and isinstance(value, Mapping) and not value):
            raise ConfigError(
                f"{name}={value!r:.80} is empty, so it would match every call: leave it out"
            )
        found += made
    return found


def _conditions(name: str, value: Any) -> list[Condition]:
    if name in ("function", "module"):
        return [Condition(name, (), _texts(name, value, True))]
    if name == "code":
        return [Condition(name, (), _texts(name, value, True))]
    if name == "version":
        return [Condition("code", (), _each(value, lambda one: Equal(f"version:{_version(one)}")))]
    if name == "state":
        return [Condition(name, (), _each(value, _state))]
    if name == "arguments":
        _mapping(name, value)
        return [argument(key, one) for key, one in value.items()]
    if name == "key":
        return [Condition(name, (), _each(value, named))]
    if name == "result":
        return [Condition(name, (), is_value(value, "result"))]
    if name == "given":
        return [Condition(name, (), is_value(value))]
    if name == "since":
        return [Condition("created", (), Span(moment(value)))]
    if name == "until":
        return [Condition("created", (), Span(None, moment(value)))]
    if name in _NUMBERS:
        return [Condition(name, (), _number(name, value))]
    if name == "run":
        return [Condition("metadata", ("run",), same(getattr(value, "id", value)))]
    if name == "tags":
        return _metadata(("tags",), value)
    return _metadata((), value)


def _check_names(function: Any, arguments: Any) -> None:
    """If the filter names a kept function, check that it has these parameters."""
    options = getattr(function, "options", None)
    if options is None or not isinstance(arguments, Mapping) or options.key is not None:
        return
    parameters = inspect.signature(getattr(function, "_kept", function)).parameters
    if any(one.kind is inspect.Parameter.VAR_KEYWORD for one in parameters.values()):
        return
    for name in arguments:
        bare = name.lstrip("*") if isinstance(name, str) else name
        if bare not in parameters and not str(bare).startswith("@"):
            raise ConfigError(
                f"{function.__qualname__} has no argument {name!r}; it has "
                f"{', '.join(parameters) or 'none'}"
            )


def argument(name: str, value: Any) -> Condition:
    """Return the condition that an argument is a value.

    Raises:
        Undigestible: the value has no identity.
    """
    if not isinstance(name, str):
        raise ConfigError(f"the name of an argument is text, not {name!r:.80}")
    return Condition("argument", (name,), is_value(value, f'arguments["{name}"]'))


def _metadata(path: tuple[str, ...], value: Any) -> list[Condition]:
    if isinstance(value, Mapping):
        if path not in ((), ("tags",)) and not value:
            # Nothing is said of what is there.
            return [Condition("metadata", path, Present())]
        return [
            one
            for key, part in value.items()
            for one in _metadata((*path, _text(key)) if path else path_of(_text(key)), part)
        ]
    if path == ("tags",) and not isinstance(value, TESTS) and value is not ANY:
        listed = value if isinstance(value, (list, tuple, set, frozenset)) else [value]
        for item in listed:
            if type(item) not in _SCALARS:
                raise ConfigError(f"a tag is not chosen by {item!r:.80}, but by its name")
        return [Condition("metadata", path, Has(item)) for item in listed]
    if not path:
        listed = [value] if isinstance(value, str) else value
        if not isinstance(listed, Iterable):
            raise ConfigError(f"metadata= takes names, or a mapping of names, not {value!r:.80}")
        return [Condition("metadata", path_of(_text(key)), Present()) for key in listed]
    return [Condition("metadata", path, same(value))]


def path_of(text: str) -> tuple[str, ...]:
    """The keys of a path with dots: `git.commit`."""
    return tuple(text.split("."))


def _each(value: Any, test: Any) -> Test:
    """A test of a value, of each of a choice, or one that is there."""
    if value is ANY:
        return Present()
    if isinstance(value, Choice):
        return Choice(tuple(_each(_back(one), test) for one in value.tests))
    if isinstance(value, TESTS):
        return value
    made: Test = test(value)
    return made


def _back(test: Test) -> Any:
    """What a choice was given, where it took it for an argument's value."""
    if isinstance(test, Is):
        return test.value if test.scalar else test.digest
    return test


def _texts(name: str, value: Any, pattern: bool) -> Test:
    def one(text: Any) -> Test:
        # A kept function is itself alone; its name may be the end of another's.
        exact = getattr(text, "function_name", None)
        if isinstance(exact, str):
            return Equal(exact)
        if not isinstance(text, str):
            raise ConfigError(f"{name}= takes text, not {text!r:.80}")
        special = pattern and any(sign in text for sign in "*?[")
        return Like(text) if special or (name == "function" and ":" not in text) else Equal(text)

    return _each(value, one)


def _state(value: Any) -> Equal:
    if value not in _STATES:
        raise ConfigError(f"state= is one of {', '.join(_STATES)}, not {value!r:.80}")
    return Equal(value)


def _number(name: str, value: Any) -> Test:
    if value is ANY:
        return Present()
    if isinstance(value, Span) and str in {type(value.low), type(value.high)}:
        text = value.low if isinstance(value.low, str) else value.high
        raise ConfigError(f"{name}= is compared with a number, not with {text!r:.80}")
    if isinstance(value, (Span, Choice)):
        return value if isinstance(value, Span) else Choice(tuple(map(_exactly, value.tests)))
    if value is None and name in ("used", "expires"):
        return Equal(None)
    return _exactly(value)


def _exactly(value: Any) -> Span:
    if isinstance(value, Span):
        return value
    number = moment(_back(value) if isinstance(value, TESTS) else value)
    return Span(number, number)


def _version(value: Any) -> str:
    # As `Locator` writes it into keys.
    if type(value) in (str, int, float, bool) and len(repr(value)) <= 80:
        return repr(value)
    return digest_bytes(value, label="version").hex()


def _mapping(name: str, value: Any) -> None:
    if not isinstance(value, Mapping):
        raise ConfigError(f"{name}= takes a mapping of names to values, not {value!r:.80}")


def _text(key: Any) -> str:
    if not isinstance(key, str):
        raise ConfigError(f"a name in the metadata is text, not {key!r:.80}")
    return key


GROUPS = (*ORDERS, "code", "module", "result")
"""Fields that calls are grouped by, beside those that they are ordered by."""


def group(field: str) -> Order:
    """What to group by; raises as `order`."""
    return Order(field) if field in GROUPS else order(field, False)


def order(field: str, descending: bool | None) -> Order:
    """What to order by: a field of `Call`, `metadata.<name>`, or else an argument.

    Raises:
        ConfigError: it is no text.
    """
    if not isinstance(field, str) or not field.lstrip("-"):
        raise ConfigError(
            f"calls are ordered by the name of a field or argument, not {field!r:.80}"
        )
    down = field.startswith("-") if descending is None else descending
    name = field.removeprefix("-")
    if name in ORDERS:
        return Order(name, (), down)
    if name.startswith("metadata."):
        return Order("metadata", path_of(name[9:]), down)
    return Order("argument", (name.removeprefix("arguments."),), down)


def shown(condition: Condition) -> str:
    """Return a condition as one writes it."""
    name = ".".join((condition.field, *condition.path)) if condition.path else condition.field
    if condition.field == "argument":
        name = condition.path[0]
    return f"{name}={_told(condition.test)}"


def _told(test: Test) -> str:
    if isinstance(test, Is):
        return repr(test.value) if test.scalar else f"<{test.digest[:12]}>"
    if isinstance(test, Equal):
        return repr(test.value)
    if isinstance(test, Span):
        opening, closing = "(" if test.above else "[", ")" if test.below else "]"
        low = "" if test.low is None else repr(test.low)
        high = "" if test.high is None else repr(test.high)
        return f"{opening}{low}, {high}{closing}"
    if isinstance(test, Present):
        return "ANY"
    if isinstance(test, Like):
        return repr(test.pattern)
    if isinstance(test, Begins):
        return f"<{test.prefix}…>"
    if isinstance(test, Has):
        return f"has {test.item!r}"
    if isinstance(test, Other):
        return f"not {test.value!r}"
    return " or ".join(_told(one) for one in test.tests)
