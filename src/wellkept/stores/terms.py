"""Terms that items are found by, as a table without types orders them: numbers, text, blobs."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any, NamedTuple

from wellkept.conditions import Query
from wellkept.errors import ConfigError, DamagedValue, DecodeError
from wellkept.records import Call
from wellkept.stores.backend import ordered, scan
from wellkept.stores.base import Term, get_many
from wellkept.stores.byte_store import CodedCalls
from wellkept.stores.callterms import terms_wanted
from wellkept.stores.record_format import unpack_call

_AFTER_TEXT = b""
_STORED = (str, int, float, bytes)
NONE = b"\0"
"""None as a term: a blob, which no text and no number is."""


class Wanted(NamedTuple):
    """A condition: from `low` to `high`, as they are stored."""

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
    # As SQLite orders what has no type: numbers, text, blobs.
    return (0 if isinstance(value, (int, float)) else 1 if isinstance(value, str) else 2), value


def fits(text: str, wanted: list[Wanted]) -> bool:
    """Return whether packed terms have all that is wanted.

    Raises:
        DamagedValue: the text is not what was packed.
    """
    found = dict(unpack(text))
    return all(term.name in found and term.holds(found[term.name]) for term in wanted)


def pack(terms: list[tuple[str, Any]]) -> str:
    """Return the terms of an item as text."""
    return json.dumps([(name, None if value == NONE else value) for name, value in terms])


def unpack(text: str) -> list[tuple[str, Any]]:
    """Return what was packed.

    Raises:
        DamagedValue: it was not.
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


# Records that are read at once.
_PAGE = 200


def find(calls: CodedCalls, query: Query) -> Iterator[Call]:
    """Return the calls that fit, in the order asked for; damaged ones are left out.

    Raises:
        StoreError: the medium can't be read.
    """
    wanted = terms_wanted(query)
    search: Any = getattr(calls.items, "find", None)
    if search is None or not wanted:
        return scan(calls, query)
    try:
        keys = search(wanted, prefix="calls/")
    except ConfigError:  # such a term is none
        return scan(calls, query)
    return ordered((call for call in _read(calls, keys) if query(call)), query)


def _read(calls: CodedCalls, names: Iterator[str]) -> Iterator[Call]:
    while some := [name[6:] for name in islice(names, _PAGE)]:
        found = get_many(
            calls.items, [f"{kind}/{key}" for key in some for kind in ("calls", "uses")]
        )
        for key in some:
            item = found.get(f"calls/{key}")
            if item is not None:
                try:
                    yield unpack_call(key, item, found.get(f"uses/{key}"))
                except DecodeError:
                    continue
