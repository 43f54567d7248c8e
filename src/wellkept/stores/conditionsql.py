"""A condition as SQL, about the tables that queries go by."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from wellkept.conditions import (
    Begins,
    Choice,
    Condition,
    Equal,
    Is,
    Like,
    Present,
    Span,
)
from wellkept.hashing import digest_bytes
from wellkept.records import Digest
from wellkept.stores.body import rowid
from wellkept.stores.listed import DIGEST, METADATA, argument_name, stored, tag_name
from wellkept.stores.shelves import between

__all__ = ["COLUMNS", "Part", "part_of"]


class Part(NamedTuple):
    """A condition as SQL."""

    text: str
    """About a row `l` of `listed` and its call `c`; nothing where only each record can tell."""
    values: tuple[Any, ...] = ()
    exact: bool = True
    """Whether it holds for no other calls."""
    term: str | None = None
    """The same of a row `t` of `terms`, where one is all that it takes."""
    ordered: bool = False
    """Whether all such rows have one value, so that they are in the order of time."""
    told: bool = False
    """Whether `term` holds for no other calls."""
    row: bool = False
    """Whether it is best to go by the rows of calls."""
    name: str = ""
    equal: tuple[tuple[Any, int], ...] = ()
    """A term's name, and the values and kinds of which it must have one."""


Has = Callable[[str, tuple[Any, ...]], bool]
"""Whether any term `t` of the function is so."""


COLUMNS = {
    "created": "l.created",
    "seconds": "c.seconds",
    "size": "c.size",
    "expires": "c.expires",
    "uses": "coalesce((SELECT u.uses FROM uses u WHERE u.id = l.call), 0)",
    "used": "(SELECT u.used FROM uses u WHERE u.id = l.call)",
}
_CONSTANTS = {
    digest: Is(digest, value, True)
    for value in (None, True, False)
    for digest in (Digest.of(digest_bytes(value)),)
}
_STATES = {"done": b"\0", "failed": b"\1", "items": b"\2"}


def part_of(condition: Condition, has: Has) -> Part:
    """A condition as SQL, for one row of `functions`."""
    field, path, test = condition
    if isinstance(test, Choice):
        return _choice([part_of(Condition(field, path, one), has) for one in test.tests])
    if field == "argument":
        return _argument(path[0], test, has)
    if field == "metadata":
        return _metadata(path, test)
    if field == "given" and isinstance(test, (Is, Begins)):
        where, bounds = "digest = ?", [rowid(test.digest.raw)] if isinstance(test, Is) else []
        if isinstance(test, Begins):
            where, bounds = between("digest", test.prefix)
        text = f"c.id IN (SELECT call FROM links WHERE {where})"
        return Part(text, tuple(bounds), False, row=True)
    if field == "result" and isinstance(test, Is):
        return Part("c.result = ?", (rowid(test.digest.raw),), False, row=True)
    if field == "key" and isinstance(test, Is):
        return Part("c.id = ?", (rowid(test.digest.raw),), False, row=True)
    if field in ("key", "result") and isinstance(test, Begins):
        where, bounds = between("c.id" if field == "key" else "c.result", test.prefix)
        return Part(where, tuple(bounds), False, row=True)
    if field == "state" and isinstance(test, Equal) and test.value in _STATES:
        # Where a body has it; see `Body`.
        return Part("substr(c.body, 49, 1) = ?", (_STATES[test.value],))
    if field in COLUMNS:
        column = COLUMNS[field]
        if isinstance(test, Span) and not test.texts and (span := _span(column, test)):
            return Part(*span)
        if isinstance(test, Equal) and _fits(test.value):
            return Part(f"{column} IS ?", (test.value,), exact=False)
        if isinstance(test, Present):
            return Part(f"{column} IS NOT NULL")
    return Part("", exact=False)


def _choice(parts: list[Part]) -> Part:
    if parts and all(part.equal and part.name == parts[0].name for part in parts):
        every = tuple(dict.fromkeys(one for part in parts for one in part.equal))
        return _equal(parts[0].name, every, exact=all(part.exact for part in parts))
    values = tuple(value for part in parts for value in part.values)
    if not all(part.text for part in parts):
        terms = [part.term for part in parts]
        if all(terms):
            term = f"({' OR '.join(f'({term})' for term in terms)})"
            return Part("", values, False, term=term, told=all(part.told for part in parts))
        return Part("", exact=False)
    text = f"({' OR '.join(part.text for part in parts) or '0'})"
    return Part(text, values, all(part.exact for part in parts))


def _argument(name: str, test: Any, has: Has) -> Part:
    named = argument_name(name)
    if isinstance(test, Present):
        return _term("t.name = ?", (named,), exact=True)
    if isinstance(test, Is):
        return _is(named, _CONSTANTS.get(test.digest, test), has)
    if isinstance(test, Span):
        span = _span("t.value", test)
        if span is not None:
            kinds = "t.kind = 3" if test.texts else "t.kind IN (0, 1)"
            return _term(f"t.name = ? AND {span[0]} AND {kinds}", (named, *span[1]), exact=True)
    if isinstance(test, Like):
        return _term("t.name = ? AND t.kind = 3", (named,))
    if isinstance(test, Begins):
        ends = [bytes.fromhex(test.prefix[:32].ljust(32, end)) for end in "0f"]
        text = f"t.name = ? AND t.value BETWEEN ? AND ? AND t.kind = {DIGEST}"
        return _term(text, (named, *ends), exact=len(test.prefix) <= 32)
    return _term("t.name = ?", (named,))


def _is(named: str, test: Is, has: Has) -> Part:
    hidden = (test.digest.raw[:16], DIGEST)
    if test.scalar is None:
        # What a record shows has no digest beside it: each record tells.
        shown = "t.value < x'' AND t.kind <> 2"
        if has(f"t.name = ? AND {shown}", (named,)):
            return _term(f"t.name = ? AND (t.value = ? OR ({shown}))", (named, hidden[0]))
        return _equal(named, (hidden,))
    if not test.scalar:
        return _equal(named, (hidden,))
    value, kind = stored(test.value)
    found = [] if kind == DIGEST else [(value, kind)]
    # A function may show its arguments in some records and not in others.
    if not found or has(f"t.name = ? AND t.value > x'' AND t.kind = {DIGEST}", (named,)):
        found.append(hidden)
    return _equal(named, tuple(found), exact=value != 0 or kind != 1)  # 0.0 and -0.0 are one to SQL


def _equal(named: str, values: tuple[tuple[Any, int], ...], exact: bool = True) -> Part:
    if len(values) == 1:
        text, bound = "t.name = ? AND t.value = ? AND t.kind = ?", (named, *values[0])
    else:
        marks = ", ".join("?" * len(values))
        each = " OR ".join(["(t.value = ? AND t.kind = ?)"] * len(values)) or "0"
        text = f"t.name = ? AND t.value IN ({marks}) AND ({each})"
        bound = (named, *(value for value, _ in values), *(one for pair in values for one in pair))
    same = "t.function = l.function AND t.created = l.created AND t.call = l.call"
    there = f"EXISTS (SELECT 1 FROM terms t WHERE {same} AND {text})"
    ordered = len(values) == 1
    return Part(there, bound, exact, text, ordered, told=exact, name=named, equal=values)


def _metadata(path: tuple[str, ...], test: Any) -> Part:
    scalar = isinstance(test, Equal) and type(test.value) in (str, int, float) and _fits(test.value)
    if scalar and (path == ("run",) or (path[0] == "tags" and len(path) == 2)):
        return _equal(tag_name(path), ((test.value, METADATA),), exact=False)
    if not all(_fits(key) and '"' not in key and "\\" not in key for key in path):
        return Part("c.metadata IS NOT NULL", exact=False)
    where = "$" + "".join(f'."{key}"' for key in path)
    text = "json_type(c.metadata, ?) IS NOT NULL"
    values: tuple[Any, ...] = (where,)
    # SQLite may read a decimal fraction as the double beside the one that Python reads, and text up to
    # its first NUL.
    if scalar and type(test.value) is not float and "\0" not in str(test.value):
        text, values = "json_extract(c.metadata, ?) = ?", (where, test.value)
    elif (
        isinstance(test, Span)
        and not test.texts
        and (span := _span("json_extract(c.metadata, ?)", _wider(test)))
    ):
        text = span[0]
        values = tuple(v for value in span[1] for v in (where, value))
    exact = isinstance(test, Present)
    return Part(f"(CASE WHEN json_valid(c.metadata) THEN {text} ELSE 0 END)", values, exact)


def _wider(span: Span) -> Span:
    low = None if span.low is None else span.low - abs(span.low) * 1e-9
    high = None if span.high is None else span.high + abs(span.high) * 1e-9
    return Span(low, high)


def _term(text: str, values: tuple[Any, ...], exact: bool = False) -> Part:
    """Of terms that can't be looked up by call, as they have no one value."""
    return Part("", values, False, term=text, told=exact)


def _span(column: str, test: Span) -> tuple[str, tuple[Any, ...]] | None:
    """A range as SQL; None where its ends are nothing that SQLite takes."""
    parts, values = [], []
    ends = (test.low, ">" if test.above else ">="), (test.high, "<" if test.below else "<=")
    for end, sign in ends:
        if end is not None:
            if not _fits(end):
                return None
            parts.append(f"{column} {sign} ?")
            values.append(end)
    return " AND ".join(parts) or "1", tuple(values)


def _fits(value: Any) -> bool:
    """Whether a scalar can be bound to a statement as it is."""
    return stored(value)[1] != DIGEST
