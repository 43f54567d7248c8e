"""Terms by which items are found: their order, which is that of a table without types, and the terms of calls.

A call is found by its function, its result, the digest of each argument and its run; and by each scalar in a
part of its metadata that is a mapping, such as a tag or what a collector gave, under the keys that lead to it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from wellkept.conditions import Condition, Equal, Is, Query, Span
from wellkept.errors import ConfigError, DamagedValue
from wellkept.records import Call
from wellkept.stores.base import Term

_AFTER_TEXT = b""
_STORED = (str, int, float, bytes)
NONE = b"\0"
"""None as a term: a blob, so that it equals no text and no number."""


class Wanted(NamedTuple):
    """A condition on a term: from `low` to `high`, as they are stored."""

    name: str
    low: Any
    high: Any

    @classmethod
    def of(cls, name: str, value: Term | tuple[Term, Term]) -> Wanted:
        if not isinstance(value, tuple):
            return cls(_name(name), stored(value), stored(value))
        low, high = value
        sample = high if low is None else low
        if None not in value and isinstance(low, str) != isinstance(high, str):
            raise ConfigError(f"no range from {low!r} to {high!r} for the term {name!r}")
        lowest = "" if isinstance(sample, str) else -math.inf
        highest = math.inf if isinstance(sample, (int, float)) else _AFTER_TEXT
        return cls(
            _name(name),
            lowest if low is None else stored(low),
            highest if high is None else stored(high),
        )

    def holds(self, value: object) -> bool:
        return _order(self.low) <= _order(value) <= _order(self.high)


def _order(value: Any) -> tuple[int, Any]:
    # The order of SQLite for columns without a type: numbers, text, blobs.
    return (0 if isinstance(value, (int, float)) else 1 if isinstance(value, str) else 2), value


def fits(text: str, wanted: list[Wanted]) -> bool:
    """Return whether packed terms fulfil all conditions.

    Raises:
        DamagedValue: the text is not what was packed.
    """
    found = dict(unpack(text))
    return all(term.name in found and term.holds(found[term.name]) for term in wanted)


def pack(terms: list[tuple[str, Any]]) -> str:
    """Return the terms of an item as text."""
    return json.dumps([(name, None if value == NONE else value) for name, value in terms])


def unpack(text: str) -> list[tuple[str, Any]]:
    """Return the terms that were packed.

    Raises:
        DamagedValue: the text is not what was packed.
    """
    try:
        found = [(name, NONE if value is None else value) for name, value in json.loads(text)]
    except (ValueError, TypeError, RecursionError) as error:
        raise DamagedValue("the terms of an item are damaged") from error
    if not all(type(name) is str and type(value) in _STORED for name, value in found):
        raise DamagedValue("the terms of an item are damaged")
    return found


def _name(name: str) -> str:
    if not isinstance(name, str):
        raise ConfigError(f"the name of a term is text, not {name!r}")
    return str(stored(name))


def stored(value: Term) -> str | int | float | bytes:
    """Return a term's value as SQLite keeps it."""
    if value is None:
        return NONE
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, int) and -(2**63) <= value < 2**63:
        return int(value)
    if isinstance(value, float) and value == value:
        return float(value)
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise ConfigError(f"a term can't hold a lone surrogate: {value!r}") from error
        return str(value)
    raise ConfigError(f"a term is text, a number of 64 bits or None, not {value!r}")


def rows_of(terms: Mapping[str, Term] | None) -> list[tuple[str, Any]]:
    """Return names and stored values.

    Raises:
        ConfigError: one is neither text, nor a number of 64 bits, nor None.
    """
    return [(_name(name), stored(value)) for name, value in (terms or {}).items()]


def terms_of(call: Call) -> dict[str, Term]:
    """Return the terms of a call."""
    terms: dict[str, Term] = {"function": call.function, "result": str(call.result)}
    for name, argument in call.arguments.items():
        if _is_text(name):
            terms[f"argument.{name}"] = str(argument.digest)
    for key, said in call.metadata.items():
        if isinstance(said, Mapping) or key == "run":
            terms.update(_leaves((key,), said))
    return terms


def _leaves(path: tuple[str, ...], said: Any) -> Iterator[tuple[str, Term]]:
    if not _is_text(path[-1]):
        return
    if isinstance(said, Mapping):
        for key, part in said.items():
            if isinstance(key, str):
                yield from _leaves((*path, key), part)
    elif _is_term(said):
        yield _named(path), said


def _named(path: tuple[str, ...]) -> str:
    return f"metadata.{json.dumps(path)}"


def terms_wanted(query: Query) -> dict[str, Term | tuple[Term, Term]]:
    """Return the conditions of a query that are about terms: by name, a value or a range.

    Every call that matches the query has these terms; others may have them too.
    """
    return dict(found for one in query.conditions if (found := _term(one)) is not None)


def _term(condition: Condition) -> tuple[str, Term | tuple[Term, Term]] | None:
    field, path, test = condition
    if field == "function" and isinstance(test, Equal) and _is_text(str(test.value)):
        return "function", str(test.value)
    if field == "result" and isinstance(test, Is):
        return "result", str(test.digest)
    if field == "argument" and isinstance(test, Is) and _is_text(path[0]):
        return f"argument.{path[0]}", str(test.digest)
    if field == "metadata" and (len(path) > 1 or path == ("run",)) and all(map(_is_text, path)):
        if isinstance(test, Equal) and _is_term(test.value):
            return _named(path), test.value
        # Ranges of text are left out, as stores may cut long texts; and so are numbers that no double tells
        # apart.
        if isinstance(test, Span) and all(_is_number(end) for end in (test.low, test.high)):
            return _named(path), (test.low, test.high)
    return None


def _is_number(end: Any) -> bool:
    return end is None or (not isinstance(end, str) and _is_term(end) and abs(end) < 2**53)


def _is_term(value: Any) -> bool:
    """Return whether a scalar can be a term."""
    if isinstance(value, str):
        return _is_text(value)
    if isinstance(value, bool) or value is None:
        return True
    if isinstance(value, int):
        return -(2**63) <= value < 2**63
    return isinstance(value, float) and value == value


def _is_text(text: str) -> bool:
    """Return whether a text can be in a term, which has to be UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
