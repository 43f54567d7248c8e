"""Queries of an embedded store as SQL over the tables of `query_index`."""

from __future__ import annotations

import heapq
import json
import math
import struct
from collections.abc import Callable, Iterator, Sequence
from itertools import chain, islice
from typing import Any, NamedTuple

from wellkept.conditions import (
    Begins,
    Choice,
    Condition,
    Equal,
    Is,
    Like,
    Order,
    Present,
    Query,
    Span,
    order_of,
)
from wellkept.errors import DamagedValue
from wellkept.hashing import digest_bytes
from wellkept.records import Call, Digest
from wellkept.stores.backend import ordered, scan
from wellkept.stores.embedded import Embedded
from wellkept.stores.index_tables import CALL, between, call_row
from wellkept.stores.query_index import DIGEST, METADATA, argument_name, stored, tag_name
from wellkept.stores.record_format import STATES, fields, rowid, unseal


class Part(NamedTuple):
    """A condition as SQL."""

    text: str
    """A condition on a row `l` of `listed` and its call `c`; empty if only the records can tell."""
    values: tuple[Any, ...] = ()
    exact: bool = True
    """Whether `text` holds for no other calls."""
    term: str | None = None
    """The condition on a row `t` of `terms`, if it is about one."""
    ordered: bool = False
    """Whether all such rows have one value, so that they are in the order of time."""
    told: bool = False
    """Whether `term` holds for no other calls."""
    row: bool = False
    """Whether the search should begin with the rows of calls."""
    name: str = ""
    equal: tuple[tuple[Any, int], ...] = ()
    """A term's name, and the values and kinds of which it must have one."""


Has = Callable[[str, tuple[Any, ...]], bool]
"""Returns whether the function has any term `t` for which a condition holds."""


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
    """Return a condition as SQL, for one row of `functions`."""
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
        # The state's byte, after the checksum of 16 and the result of 32; see `Body`.
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
        # A record that shows a value has no digest for it, so each such record has to be tested.
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
    # SQL takes 0.0 and -0.0 for equal, so those records have to be tested.
    return _equal(named, tuple(found), exact=value != 0 or kind != 1)


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
    # SQLite may read a decimal fraction as a neighbour of the double that Python reads, and text only up to its
    # first NUL.
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
    """Return the part for terms that can't be looked up for one call, as they may have many values."""
    return Part("", values, False, term=text, told=exact)


def _span(column: str, test: Span) -> tuple[str, tuple[Any, ...]] | None:
    """Return a range as SQL; None if SQLite can't hold its ends."""
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
    """Return whether a scalar can be bound to a statement as it is."""
    return stored(value)[1] != DIGEST


# Calls that are read at once. The first page is small, as the caller may want only one call.
_PAGES = (32, 256, 2000)
_OF_FUNCTIONS = ("function", "module", "code")
# Matches of a term that are counted to find the rarest. Counting all of a common one would take as long as the
# query.
_ENOUGH = 2000


# -- statements -----------------------------------------------------------------------------------


class Statement:
    """The part of a query that is about one row of `functions`, as SQL.

    Args:
        store: the embedded store.
        function, name, code: the row.
        conditions: those that are not about the function.
    """

    name: str
    code: str

    def __init__(
        self,
        store: Embedded,
        function: int,
        conditions: Sequence[Condition],
        name: str = "?",
        code: str = "?",
    ) -> None:
        self._store, self._function = store, function
        self.name, self.code = name, code
        self._parts = [part_of(condition, self._has) for condition in conditions]
        self._lead: Part | None = None
        """The term with which the search begins; None to begin with `listed`."""
        self._rows_lead = any(part.row for part in self._parts)
        if not self._rows_lead:
            self._lead = self._fewest([part for part in self._parts if part.term])
        self.exact: bool = all(
            part.exact or (part is self._lead and part.told) for part in self._parts
        )

    def _fewest(self, terms: list[Part]) -> Part | None:
        """Return the term of the fewest calls; if all have many, one whose calls are in the order of time."""
        least, best = _ENOUGH, None
        for part in terms:
            some = f"SELECT 1 FROM terms t WHERE t.function = ? AND {part.term} LIMIT ?"
            query = f"SELECT count(*) FROM ({some})"
            ((n,),) = self._rows(query, self._function, *part.values, _ENOUGH)
            if n < least:
                least, best = n, part
        if best is None:
            best = next((part for part in terms if part.ordered), terms[0] if terms else None)
        return best

    def _has(self, text: str, values: tuple[Any, ...]) -> bool:
        query = f"SELECT 1 FROM terms t WHERE t.function = ? AND {text} LIMIT 1"
        return any(True for _ in self._rows(query, self._function, *values))

    def count(self) -> int:
        """Return how many calls match; at the most so many, if the statement is not exact."""
        if not self._parts:
            query = "SELECT calls FROM tally WHERE function = ?"
            return sum(n for (n,) in self._rows(query, self._function))
        return int(next(self._select("count(*)"))[0])

    def rows(self, order: Order, limit: int | None) -> Iterator[list[int]]:
        """Return the ids of the calls in an order, page by page."""
        bound = limit if self.exact else None
        if order.field == "created" and (self._lead is None or self._lead.ordered):
            return self._by_time(order, bound)
        if order.field == "argument":
            found = self._by_argument(order)
        else:
            found = [row for (row,) in self._select(self._row, *self._sorted(order, bound))]
        return _paged(found)

    @property
    def _row(self) -> str:
        return "t.call" if self._lead else "l.call"

    @property
    def _time(self) -> str:
        return "t.created" if self._lead else "l.created"

    def _sorted(self, order: Order, limit: int | None = None) -> tuple[Any, ...]:
        way = "DESC" if order.descending else "ASC"
        columns = [self._time, self._row]
        if ORDERS.get(order.field):
            columns.insert(0, ORDERS[order.field])
        by = ", ".join(f"{column} {way}" for column in columns)
        return f" ORDER BY {by} LIMIT ?", -1 if limit is None else limit

    def _by_time(self, order: Order, limit: int | None) -> Iterator[list[int]]:
        sign = "<" if order.descending else ">"
        after = ""
        last: tuple[Any, ...] = ()
        for size in _sizes():
            size = size if limit is None else min(size, limit)
            by, bound = self._sorted(order, size)
            page = list(self._select(f"{self._row}, {self._time}", after + by, *last, bound))
            if page:
                yield [row for row, _ in page]
            if limit is not None:
                limit -= size
            if len(page) < size or limit == 0:
                return
            # The next page begins after the last row of this one. An OFFSET would read all earlier rows again,
            # and would skip some if calls were deleted meanwhile.
            after = f" AND ({self._time}, {self._row}) {sign} (?, ?)"
            last = page[-1][1], page[-1][0]

    def _by_argument(self, order: Order) -> list[int]:
        """Return the rows by an argument's value; calls without it, or with None, come first."""
        name = argument_name(order.path[0])
        shown = Part("", (name,), False, term=f"t.name = ? AND t.kind NOT IN (4, {DIGEST})")
        rest = Order()
        every = [row for (row,) in self._select(self._row, *self._sorted(rest))]
        values = Statement(self._store, self._function, ())
        values._parts, values._lead = [*self._parts, shown], shown
        if self._lead is not None:
            values._parts[values._parts.index(self._lead)] = self._lead._replace(told=False)
        by = " ORDER BY t.value, t.created, t.call"
        found = [row for (row,) in values._select("t.call", by)]
        have = set(found)
        found = [row for row in every if row not in have] + found
        return found[::-1] if order.descending else found

    def _select(self, what: str, rest: str = "", *values: Any) -> Iterator[tuple[Any, ...]]:
        lead, parts = self._lead, [part for part in self._parts if part is not self._lead]
        # CROSS JOIN keeps SQLite from turning the joins round: without statistics it might begin with the table
        # of all calls.
        source, here = "listed l", "l"
        if self._rows_lead or lead:
            here = "t" if lead else "c"
            table = "terms t" if lead else "calls c"
            row = "t.call" if lead else "c.id"
            source = (
                f"{table} CROSS JOIN listed l ON l.function = {here}.function "
                f"AND l.created = {here}.created AND l.call = {row}"
            )
        where = [f"{here}.function = ?", *([lead.term or ""] if lead else [])]
        bound = [self._function, *(lead.values if lead else ())]
        for part in parts:
            if part.text:
                where.append(part.text)
                bound += part.values
        if "calls c" not in source and any("c." in text for text in (*where, what, rest)):
            source += " CROSS JOIN calls c ON c.id = l.call"
        query = f"SELECT {what} FROM {source} WHERE {' AND '.join(where)}{rest}"
        return self._rows(query, *bound, *values)

    def table(self, order: Order, limit: int | None) -> Iterator[tuple[Any, ...]]:
        """Yield key, body, arguments and metadata as bytes, uses and last use of each call."""
        what = "c.key, c.body, CAST(c.arguments AS BLOB), CAST(c.metadata AS BLOB), "
        what += f"{COLUMNS['uses']}, {COLUMNS['used']}"
        return self._select(what, *self._sorted(order, limit))

    def _rows(self, query: str, *values: Any) -> Iterator[tuple[Any, ...]]:
        return self._store.database.rows(query, *values)


ORDERS = {
    "seconds": "c.seconds",
    "size": "c.size",
    "expires": "c.expires",
    "key": "c.key",
    "function": "",
    "uses": COLUMNS["uses"],
    "used": COLUMNS["used"],
}


def _paged(rows: list[int]) -> Iterator[list[int]]:
    at = 0
    for size in _sizes():
        if at >= len(rows):
            return
        yield rows[at : at + size]
        at += size


def _sizes() -> Iterator[int]:
    yield from _PAGES
    while True:
        yield _PAGES[-1]


def find(store: Embedded, query: Query) -> Iterator[Call]:
    """Yield the calls that match, in the query's order; they are read as the caller goes on.

    Raises:
        StoreError: the index can't be read, or not be brought up to date.
    """
    statements = statements_of(store, query.conditions)
    if query.order.field not in (*ORDERS, "created", "argument"):
        every = query._replace(order=Order(), limit=None)
        return ordered((call for one in statements for call in _calls(store, one, every)), query)
    found = [_calls(store, statement, query) for statement in statements]
    if len(found) == 1:
        return islice(found[0], query.limit)

    def key(call: Call) -> tuple[Any, ...]:
        return order_of(query.order, call)

    return islice(heapq.merge(*found, key=key, reverse=query.order.descending), query.limit)


def count(store: Embedded, query: Query) -> int | None:
    """Return how many calls match; None if records must be read to tell.

    Raises:
        StoreError: the index can't be read, or not be brought up to date.
    """
    statements = statements_of(store, query.conditions)
    if not all(statement.exact for statement in statements):
        return None
    found = sum(statement.count() for statement in statements)
    return found if query.limit is None else min(found, query.limit)


def statements_of(store: Embedded, conditions: Sequence[Condition]) -> list[Statement]:
    """Return a statement for each row of `functions` that fits the conditions on functions."""
    said = [condition for condition in conditions if condition.field in _OF_FUNCTIONS]
    rest = [condition for condition in conditions if condition.field not in _OF_FUNCTIONS]
    if any(condition.field == "result" for condition in rest):
        store.values.index_results()
    query = (
        "SELECT t.function, f.name, f.code FROM tally t LEFT JOIN functions f ON f.id = t.function"
    )
    found = []
    for function, name, code in store.database.rows(query + " WHERE t.calls > 0"):
        like = _NOBODY._replace(function=name or "?", code=code or "?")
        if all(condition.holds(like) for condition in said):
            found.append(Statement(store, function, rest, like.function, like.code))
    return found


_NOBODY = Call(Digest("0" * 64), "", "", {}, Digest("0" * 64))


def _calls(store: Embedded, statement: Statement, query: Query) -> Iterator[Call]:
    for rows in statement.rows(query.order, query.limit):
        wanted = f"{CALL} WHERE c.id IN (SELECT value FROM json_each(?))"
        records = {}
        for found in store.database.rows(wanted, json.dumps(rows)):
            try:
                records[rowid(found[0])] = call_row(found)
            except DamagedValue:
                continue
        for row in rows:
            call = records.get(row)
            if call is not None and query(call):
                yield call


_decoder: Any = json.JSONDecoder()
# This takes half the time of json.loads.
_scan = _decoder.scan_once
_FIELDS = (
    "key",
    "function",
    "code",
    "state",
    "created",
    "seconds",
    "size",
    "uses",
    "used",
    "expires",
)


class Table(NamedTuple):
    """Calls as columns, each a list."""

    fields: dict[str, list[Any]]
    """Fields of `Call`; keys are text."""
    arguments: dict[str, list[Any]]
    """By name: the value if the record shows it, or else the digest as text; None if a call lacks it."""
    metadata: list[bytes | None]
    """JSON."""


def table(store: Embedded, query: Query) -> Table | None:
    """Return the calls that match, without damaged ones; None if only records can tell which these are.

    Raises:
        StoreError: the index can't be read.
    """
    statements = statements_of(store, query.conditions)
    order = query.order
    by_time = order.field == "created"
    if not (by_time or (order.field in ORDERS and len(statements) == 1)):
        return None
    if not all(statement.exact for statement in statements):
        return None
    made = Table({name: [] for name in _FIELDS}, {}, [])
    for statement in statements:
        _fill(made, statement, query)
    if len(statements) > 1:
        _sort(made, query)
    return made


def _fill(made: Table, statement: Statement, query: Query) -> None:
    # No object is made for a row that Python's garbage collector would have to follow: with a million rows, its
    # passes would take longer than the query.
    lists = made.fields
    keys, created, seconds = lists["key"], lists["created"], lists["seconds"]
    states, sizes, expires = lists["state"], lists["size"], lists["expires"]
    uses, used = lists["uses"], lists["used"]
    names: list[str] = []
    columns: list[list[Any]] = []
    begin = len(keys)
    for key, sealed, text, metadata, count, last in statement.table(query.order, query.limit):
        try:
            _, state, at, took, until, size = fields(unseal(key, sealed))
            name = STATES[state]
            items = _scan(str(text, "utf-8"), 0)[0]
            if [item[0] for item in items] != names:
                names = [item[0] for item in items]
                columns = [_column(made, name, len(keys)) for name in names]
            values = [item[-1] for item in items]
        except (DamagedValue, struct.error, LookupError, ValueError, TypeError, StopIteration):
            names = []
            continue
        # Both have the length of `names`.
        for column, value in zip(columns, values, strict=False):
            column.append(value)
        keys.append(key.hex())
        states.append(name)
        created.append(at)
        seconds.append(took)
        sizes.append(size)
        uses.append(count or 0)
        used.append(last)
        expires.append(None if until == math.inf else until)
        made.metadata.append(metadata)
    lists["function"] += [statement.name] * (len(keys) - begin)
    lists["code"] += [statement.code] * (len(keys) - begin)
    for column in made.arguments.values():
        column.extend([None] * (len(keys) - len(column)))


def _column(made: Table, name: Any, rows: int) -> list[Any]:
    if type(name) is not str:
        raise TypeError
    found = made.arguments.setdefault(name, [])
    found.extend([None] * (rows - len(found)))
    return found


def _sort(made: Table, query: Query) -> None:
    """Sort what several statements gave by time."""
    created, keys = made.fields["created"], made.fields["key"]
    rows = sorted(
        range(len(keys)),
        key=lambda i: (created[i], rowid(bytes.fromhex(keys[i]))),
        reverse=query.order.descending,
    )[: query.limit]
    for column in (*made.fields.values(), *made.arguments.values(), made.metadata):
        column[:] = [column[i] for i in rows]


def peek(store: Embedded, query: Query) -> Iterator[Call]:
    """Return what `find` would, without bringing the tables up to date.

    Args:
        store: the embedded store.
        query: one with a limit, or all matching calls are held at once.

    Raises:
        StoreError: the index can't be read.
    """
    late = store.listing.lacking()
    # The tables were never made, or lack more than the ring remembers.
    if late is None:
        return scan(store.calls, query)
    found = find(store, query)
    return found if not late else ordered(_once(chain(_late(store, late, query), found)), query)


def _late(store: Embedded, rows: list[int], query: Query) -> Iterator[Call]:
    wanted = f"{CALL} WHERE c.id IN (SELECT value FROM json_each(?))"
    for row in store.database.rows(wanted, json.dumps(rows)):
        try:
            call = call_row(row)
        except DamagedValue:
            continue
        if query(call):
            yield call


def _once(calls: Iterator[Call]) -> Iterator[Call]:
    seen = set()
    for call in calls:
        if call.key not in seen:
            seen.add(call.key)
            yield call
