"""Calls of an embedded store by their results, arguments and callers, looked up in its index many at once.

The index finds an argument by its digest only if the record does not show its value; a shown one is found by
its value, under each name that arguments have. Every call that is found is checked once more.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from wellkept.errors import DamagedValue
from wellkept.records import PARTS, Call
from wellkept.stores.embedded import Embedded
from wellkept.stores.index_tables import CALL, call_row
from wellkept.stores.query_index import DIGEST, METADATA, stored
from wellkept.stores.record_format import rowid


def related(store: Embedded) -> Related | None:
    """Return the index of calls by each other; None if every record must be read.

    Raises:
        StoreError: the index can't be read, or not be brought up to date.
    """
    if store.database.readonly or not store.listing.current():
        return None
    store.values.index_results()
    return Related(store)


class Related:
    """Finds calls by each other. Each answer has at most `limit` of them.

    Args:
        store: the embedded store.
    """

    def __init__(self, store: Embedded) -> None:
        self._store = store
        self._names: list[tuple[int, str]] | None = None

    def keyed(self, keys: Collection[str], limit: int) -> list[Call]:
        """Return the calls with these keys."""
        found = self._calls("c.id IN (SELECT value FROM json_each(?))", _rows(keys), limit)
        return [call for call in found if call.key in keys]

    def gave(self, digests: Collection[str], limit: int) -> list[Call]:
        """Return the calls that gave these results."""
        found = self._calls("c.result IN (SELECT value FROM json_each(?))", _rows(digests), limit)
        return [call for call in found if call.result in digests]

    def made(self, keys: Collection[str], limit: int) -> list[Call]:
        """Return the calls that the bodies of these calls made."""
        return [call for call in self._linked(keys, limit) if call.metadata.get("parent") in keys]

    def took(self, values: Mapping[str, Any], limit: int) -> list[Call]:
        """Return the calls that had these arguments.

        Args:
            values: by digest; None for one that is not known, or not a scalar.
            limit: how many calls at the most.
        """
        found = self._linked(values, limit)
        rows = list(self._shown(values, limit))
        if rows:
            wanted = "c.id IN (SELECT value FROM json_each(?))"
            known = {call.key for call in found}
            more = self._calls(wanted, json.dumps(rows), limit)
            found += [call for call in more if call.key not in known]
        return [
            call
            for call in found
            if any(argument.digest in values for argument in call.arguments.values())
        ]

    def _shown(self, values: Mapping[str, Any], limit: int) -> Iterator[int]:
        """Yield the rows of the calls whose records show one of these values."""
        wanted = [one for value in values.values() if value is not None for one in (stored(value),)]
        bound = [value for value, kind in wanted if kind != DIGEST]
        if not bound:
            return
        marks = ",".join("?" * len(bound))
        query = (
            f"SELECT call FROM terms WHERE function = ? AND name = ? AND value IN ({marks}) "
            f"AND kind < {DIGEST} LIMIT ?"
        )
        for function, name in self._arguments():
            for (row,) in self._store.database.rows(query, function, name, *bound, limit):
                yield row

    def _arguments(self) -> list[tuple[int, str]]:
        """Return the functions and the names of their arguments."""
        if self._names is None:
            self._names = []
            # Each is found from the one before, as SELECT DISTINCT would read every term. In two steps, as
            # SQLite goes through all rows of an argument for `(function, name) > (?, ?)`.
            first = "SELECT function, name, kind FROM terms WHERE"
            inside = f"{first} function = ? AND name > ? ORDER BY name LIMIT 1"
            after = f"{first} function > ? ORDER BY function, name LIMIT 1"
            ask = self._store.database.rows
            at: tuple[int, str] = (-1, "")
            while rows := list(ask(inside, *at)) or list(ask(after, at[0])):
                *last, kind = rows[0]
                at = (last[0], last[1])
                if kind != METADATA:
                    self._names.append(at)
        return self._names

    def _linked(self, digests: Collection[str], limit: int) -> list[Call]:
        links = "SELECT call FROM links WHERE digest IN (SELECT value FROM json_each(?))"
        return self._calls(f"c.id IN ({links})", _rows(digests), limit)

    def _calls(self, where: str, rows: str, limit: int) -> list[Call]:
        found = []
        for row in self._store.database.rows(f"{CALL}WHERE {where} LIMIT ?", rows, limit):
            try:
                call = call_row(row)
            except DamagedValue:
                continue
            if call.function not in PARTS:
                found.append(call)
        return found


def _rows(digests: Collection[str]) -> str:
    return json.dumps([rowid(bytes.fromhex(digest)) for digest in digests])
