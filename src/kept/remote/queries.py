"""Queries on the wire: conditions by name and their fields."""

from __future__ import annotations

from typing import Any

from kept import conditions
from kept.conditions import Choice, Condition, Is, Order, Query
from kept.records import Digest
from kept.remote.wire import WireError

__all__ = ["read_query", "write_query"]

_TESTS: dict[str, Any] = {
    kind.__name__: kind
    for kind in (
        conditions.Present,
        conditions.Equal,
        conditions.Is,
        conditions.Begins,
        conditions.Span,
        conditions.Like,
        conditions.Has,
        conditions.Choice,
    )
}


def write_query(query: Query) -> dict[str, Any]:
    """A query as what the wire carries; what it does not carry is told when it is packed."""
    return {
        "conditions": [[c.field, list(c.path), _write(c.test)] for c in query.conditions],
        "order": [query.order.field, list(query.order.path), query.order.descending],
        "limit": query.limit,
    }


def _write(test: Any) -> list[Any]:
    name = type(test).__name__
    if name not in _TESTS:
        raise WireError(f"the wire does not carry a {name}")
    if isinstance(test, Choice):
        return [name, [_write(one) for one in test.tests]]
    return [name, *test]


def read_query(said: Any) -> Query:
    """The query that a client sent.

    Raises:
        WireError: it is none.
    """
    try:
        field, path, descending = said["order"]
        found = tuple(
            Condition(str(field), tuple(map(str, path)), _read(test, 0))
            for field, path, test in said["conditions"]
        )
        limit = said["limit"]
        order = Order(str(field), tuple(map(str, path)), bool(descending))
        return Query(found, order, None if limit is None else int(limit))
    except (KeyError, TypeError, ValueError) as error:
        raise WireError("a query on the wire can't be read") from error


def _read(said: Any, depth: int) -> Any:
    name, *fields = said
    kind = _TESTS[name]
    if kind is Choice:
        if depth > 4:
            raise WireError("a query on the wire is too deep")
        return Choice(tuple(_read(one, depth + 1) for one in fields[0]))
    if kind is Is:
        return Is(Digest(fields[0]), *fields[1:])
    return kind(*fields)
