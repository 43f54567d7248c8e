"""A query of calls that no index is there for: by reading every record."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from itertools import islice

from wellkept.conditions import Query, order_of
from wellkept.records import Call
from wellkept.stores.base import Store
from wellkept.stores.each import each_call

__all__ = ["ordered", "scan"]


def scan(calls: Store[Call], query: Query) -> Iterator[Call]:
    """The calls that fit, in the order asked for; damaged ones are left out."""
    fitting = (call for _, call in each_call(calls) if call is not None and query(call))
    return ordered(fitting, query)


def ordered(calls: Iterable[Call], query: Query) -> Iterator[Call]:
    """Calls in the order that a query asks for, as many as it asks for."""
    order, limit = query.order, query.limit
    if limit is None:
        yield from sorted(calls, key=lambda call: order_of(order, call), reverse=order.descending)
        return
    best = heapq.nlargest if order.descending else heapq.nsmallest
    yield from islice(best(limit, calls, key=lambda call: order_of(order, call)), limit)
