"""What an embedded store holds, added up in SQL: a million calls are a second's work."""

from __future__ import annotations

import glob
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, NamedTuple

from wellkept.stores.collect import set_aside
from wellkept.stores.embedded import Embedded
from wellkept.stores.index_tables import CallRow
from wellkept.stores.record_format import BODY_SIZE

__all__ = ["FunctionRow", "calls_of", "disk", "functions", "totals"]


class FunctionRow(NamedTuple):
    """All kept calls of one function, whatever its code."""

    function: str
    codes: int
    """How many code identities or versions of it have calls."""
    calls: int
    bytes: int
    seconds: float
    """What computing the kept results took."""
    uses: int
    saved: float
    """What the uses would have taken to compute."""
    created: float | None
    """When the latest was computed."""
    used: float | None
    """When one was last used."""


# Columns may hold anything after damage; CAST makes numbers of them.
_FUNCTIONS = """SELECT CAST(f.name AS BLOB), count(DISTINCT f.code), sum(n), sum(bytes),
sum(seconds), sum(uses), sum(saved), max(created), max(used) FROM (
  SELECT c.function AS function, count(*) AS n, sum(CAST(c.size AS INTEGER)) AS bytes,
    sum(CAST(c.seconds AS REAL)) AS seconds, sum(CAST(coalesce(u.uses, 0) AS INTEGER)) AS uses,
    sum(CAST(coalesce(u.uses, 0) AS INTEGER) * CAST(c.seconds AS REAL)) AS saved,
    max(CAST(c.created AS REAL)) AS created, max(CAST(u.used AS REAL)) AS used
  FROM calls c LEFT JOIN uses u ON u.id = c.id GROUP BY c.function)
LEFT JOIN functions f ON f.id = function GROUP BY f.name ORDER BY sum(bytes) DESC, f.name"""


def functions(store: Embedded) -> list[FunctionRow]:
    """A row a function, the one with the most bytes first.

    Raises:
        StoreError: the index can't be read.
    """
    return [FunctionRow(_name(name), *rest) for name, *rest in store.database.rows(_FUNCTIONS)]


def calls_of(store: Embedded, names: list[str], limit: int | None) -> Iterator[CallRow]:
    """Rows of calls of some functions, the latest first.

    Args:
        limit: how many at the most; None for all.

    Raises:
        StoreError: the index can't be read.
    """
    marks = ",".join("?" * len(names))
    where = f"coalesce(f.name, '?') IN ({marks})"
    query = f"{CallRow.QUERY} WHERE {where} ORDER BY c.created DESC LIMIT ?"
    for row in store.database.rows(query, *names, -1 if limit is None else limit):
        yield CallRow(*row)


def totals(store: Embedded) -> dict[str, Any]:
    """Counts of what is in the index, and how the index is kept.

    Raises:
        StoreError: the index can't be read.
    """
    database = store.database
    ((values,),) = database.rows('SELECT count(*) FROM "values"')
    ((inline,),) = database.rows(
        "SELECT count(DISTINCT result) FROM calls "
        f"WHERE value IS NULL AND length(body) > {16 + BODY_SIZE}"  # otherwise it was evicted
    )
    ((schema,),) = database.rows("PRAGMA user_version")
    ((journal,),) = database.rows("PRAGMA journal_mode")
    return {"values": values + inline, "schema": schema, "journal": journal}


def disk(store: Embedded) -> dict[str, int]:
    """Files and bytes on disk."""
    blobs = size = rest = 0
    for name in store.blobs.keys():  # noqa: SIM118  a store is no dict
        with suppress(OSError):
            size += store.blobs.path(name).stat().st_size
            blobs += 1
    index = store.database.path
    beside = index.parent.glob(f"{glob.escape(index.stem)}*")
    for path in (*beside, *store.root.glob("tmp/*")):
        with suppress(OSError):
            rest += path.stat().st_size
    return {
        "blobs": blobs,
        "blob_bytes": size,
        "bytes": size + rest,
        "damaged_files": len(set_aside(store)),
    }


def _name(found: Any) -> str:
    return found.decode(errors="replace") if isinstance(found, bytes) else "?"
