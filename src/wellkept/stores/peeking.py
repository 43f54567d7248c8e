"""A query that writes nothing: what the tables of an index lack is read from the ring beside it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import chain
from typing import Any

from wellkept.conditions import Query
from wellkept.errors import DamagedValue
from wellkept.records import Call
from wellkept.stores import finding
from wellkept.stores.embedded import Embedded
from wellkept.stores.scanning import ordered, scan
from wellkept.stores.shelves import CALL
from wellkept.stores.tables import call_row

__all__ = ["peek"]


def peek(backend: Any, query: Query) -> Iterator[Call]:
    """The calls that fit, in the order that is asked for, as `place.find` gives them.

    Args:
        query: one with a limit, or all that fit are held at once.

    Raises:
        StoreError: the place can't be read.
    """
    if not isinstance(backend, Embedded):
        return iter(backend.find(query))
    late = backend.listing.lacking()
    if late is None:  # no query has made the tables yet
        return scan(backend.calls, query)
    found = finding.find(backend, query)
    return found if not late else ordered(_once(chain(_late(backend, late, query), found)), query)


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
