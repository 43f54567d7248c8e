"""What may stand in a query in place of a value: ranges, choices, patterns, shortened digests."""

from __future__ import annotations

import datetime
import math
import string
from typing import Any

from wellkept.conditions import ANY, Begins, Choice, Equal, Has, Is, Like, Present, Span, Test
from wellkept.errors import ConfigError
from wellkept.hashing import digest_bytes
from wellkept.records import Digest

TESTS = (Present, Equal, Is, Begins, Span, Like, Has, Choice)
_SCALARS = (int, float, bool, str, type(None))


def between(low: Any, high: Any) -> Span:
    """From `low` to `high`, both included: numbers, texts, or times.

    Raises:
        ConfigError: they are nothing that has an order here, or not two of a kind.
    """
    return _span(low, high)


def at_least(low: Any) -> Span:
    """`low` or more; raises as `between`."""
    return _span(low, None)


def at_most(high: Any) -> Span:
    """`high` or less; raises as `between`."""
    return _span(None, high)


def above(low: Any) -> Span:
    """More than `low`; raises as `between`."""
    return _span(low, None)._replace(above=True)


def below(high: Any) -> Span:
    """Less than `high`; raises as `between`."""
    return _span(None, high)._replace(below=True)


def one_of(*values: Any) -> Choice:
    """Any of these values, or of what else may stand for one.

    Raises:
        Undigestible: one has no identity.
    """
    return Choice(tuple(is_value(value) for value in values))


def like(pattern: str) -> Like:
    """A text that fits a pattern, in which `*`, `?` and `[…]` stand for others.

    Raises:
        ConfigError: the pattern is no text.
    """
    if not isinstance(pattern, str):
        raise ConfigError(f"a pattern is text, not {pattern!r:.80}")
    return Like(pattern)


def named(digest: str) -> Is | Begins:
    """The value of a digest, which may be shortened to 4 digits or more as long as only one fits.

    Raises:
        ConfigError: it is no digest.
    """
    text = digest.lower() if isinstance(digest, str) else ""
    if not 4 <= len(text) <= 64 or not set(text) <= set(string.hexdigits):
        raise ConfigError(f"{digest!r:.80} is no digest: 4 to 64 hex digits")
    return Is(Digest(text)) if len(text) == 64 else Begins(text)


def is_value(value: Any, label: str = "value") -> Test:
    """The test of a value that a digest names: of an argument, or a result.

    Raises:
        Undigestible: it has no identity.
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
    """The test of a value that a record shows.

    Raises:
        ConfigError: a record shows no such value.
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
    """A time as seconds since the epoch: a number, a datetime, or a timedelta ago.

    Raises:
        ConfigError: it is none.
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
