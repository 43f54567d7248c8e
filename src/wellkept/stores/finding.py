"""A query of an embedded store as SQL: what its tables can tell is told by them, in the order asked for.

Each record that is given back was looked at once more, so the tables only ever narrow. A count
believes them where they are exact.
"""

from __future__ import annotations

import heapq
import json
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

from wellkept.conditions import Condition, Order, Query, order_of
from wellkept.errors import DamagedValue
from wellkept.records import Call, Digest
from wellkept.stores.body import rowid
from wellkept.stores.conditionsql import COLUMNS, Part, part_of
from wellkept.stores.listed import DIGEST, argument_name
from wellkept.stores.scanning import ordered
from wellkept.stores.shelves import CALL
from wellkept.stores.tables import call_row

if TYPE_CHECKING:
    from wellkept.stores.embedded import Embedded

__all__ = ["ORDERS", "Statement", "count", "find", "statements_of"]

_PAGES = (32, 256, 2000)  # calls that are read at once; a first page is small, as one may do
_OF_FUNCTIONS = ("function", "module", "code")
_ENOUGH = 2000  # matches up to which it is found out which term has the fewest


# -- statements -----------------------------------------------------------------------------------


class Statement:
    """The calls of one row of `functions` that a query wants, as SQL.

    Args:
        function, name, code: the row.
        conditions: what is left to be asked when the function is known.
    """

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
        """The term to go by, instead of by `listed`."""
        self._rows_lead = any(part.row for part in self._parts)
        if not self._rows_lead:
            self._lead = self._fewest([part for part in self._parts if part.term])
        self.exact = all(part.exact or (part is self._lead and part.told) for part in self._parts)

    def _fewest(self, terms: list[Part]) -> Part | None:
        """The term of the fewest calls; if all have many, one whose calls are in the order of time."""
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
        """How many calls; of what is not exact, at the most."""
        if not self._parts:
            query = "SELECT calls FROM tally WHERE function = ?"
            return sum(n for (n,) in self._rows(query, self._function))
        return int(next(self._select("count(*)"))[0])

    def rows(self, order: Order, limit: int | None) -> Iterator[list[int]]:
        """The row numbers of the calls in an order, page by page."""
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
            after = f" AND ({self._time}, {self._row}) {sign} (?, ?)"
            last = page[-1][1], page[-1][0]

    def _by_argument(self, order: Order) -> list[int]:
        """By the argument's terms; the calls without one, or with None, come before."""
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
        """Key, body, arguments and metadata as bytes, uses and last use."""
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
    """The calls that fit, in the order asked for, read as they are asked for.

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
    """How many calls fit; None where records must be read to tell.

    Raises:
        StoreError: see `find`.
    """
    statements = statements_of(store, query.conditions)
    if not all(statement.exact for statement in statements):
        return None
    found = sum(statement.count() for statement in statements)
    return found if query.limit is None else min(found, query.limit)


def statements_of(store: Embedded, conditions: Sequence[Condition]) -> list[Statement]:
    """A statement for each row of `functions` that fits what is said of functions."""
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
