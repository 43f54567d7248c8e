"""Garbage collection, eviction and sums of an embedded store.

Calls reference values, and calls and values reference blobs. Rows are removed in the transaction that finds
them unreferenced. Blobs are searched without a lock, and searched again under the lock that writers hold from
writing a blob to committing its record, before any is removed; so no committed record ever names a blob that
was collected.
"""

from __future__ import annotations

import contextlib
import glob
import json
import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from wellkept.codecs import Blob, Envelope
from wellkept.conditions import matches
from wellkept.errors import DecodeError, StoreError
from wellkept.records import Call
from wellkept.stores.embedded import Embedded
from wellkept.stores.index_tables import CallRow, scan
from wellkept.stores.notes import remember
from wellkept.stores.query_index import tidy
from wellkept.stores.record_format import BODY_SIZE, rowid
from wellkept.stores.reports import EVER, Candidate, Chosen, Collected, Evicted, FunctionRow, Totals
from wellkept.stores.sqlite_file import DRIVER

_SEAL = 16
_SALVAGED, _DAMAGED = ".salvaged-", ".damaged-"

ORPHANS = '"values" WHERE id NOT IN (SELECT value FROM calls WHERE value IS NOT NULL)'
"""The values that no call references, for a SELECT or a DELETE."""


def _names_blobs(column: str, offset: int) -> str:
    """Return a condition: the envelope that begins at `offset` of a column has blobs, or is no envelope.

    It spares the reading of a million rows that have none. See `Envelope` for the layout.
    """
    # The place of the name's length, counted from 1: magic, version and flags come before it.
    at = offset + 5
    length = f"unicode(CAST(substr({column}, {at}, 1) AS TEXT))"
    return f"substr({column}, {at + 1} + {length}, 4) IS NOT x'00000000'"


_IN_CALLS = (
    "calls",
    "body",
    f"length(c.body) > {_SEAL + BODY_SIZE} AND {_names_blobs('c.body', _SEAL + BODY_SIZE)}",
    _SEAL + BODY_SIZE,
)
_IN_VALUES = ("values", "head", _names_blobs("c.head", _SEAL), _SEAL)


class Reference(NamedTuple):
    """A record that names blobs."""

    table: str
    column: str
    id: Any
    sealed: Any
    """The content of the column."""
    blobs: Sequence[Blob]


def references(store: Embedded) -> Iterator[Reference]:
    """Yield the records that name blobs.

    Raises:
        StoreError: the index can't be read.
    """
    database = store.database
    for table, column, where, offset in (_IN_CALLS, _IN_VALUES):
        query = f'SELECT c.id, c.{column} FROM "{table}" c'
        try:
            for id_, sealed in scan(database, query, where):
                # A damaged record still counts, as long as it can be parsed: to keep a blob too long does no
                # harm.
                try:
                    blobs = Envelope.unpack(sealed[offset:]).blobs
                except (DecodeError, TypeError):
                    continue
                yield Reference(table, column, id_, sealed, blobs)
        except DRIVER as error:
            raise database.failed("read", error) from error


def referenced(store: Embedded) -> Iterator[str]:
    """Yield the names of blobs that records name, some of them more than once."""
    return (blob.name.hex() for found in references(store) for blob in found.blobs)


def unreferenced(store: Embedded) -> set[str]:
    """Return the names of blobs that no record names; exact only under `locks.collecting_blobs()`.

    Blobs that were written before a damaged index was set aside are left out: they may belong to its rows.
    """
    # Listed before the records are read: what is written in between is then not among them.
    found = set(store.blobs.keys())
    if not found:
        return found
    found.difference_update(referenced(store))
    spared = max((_time_of(path) for path in set_aside(store)), default=0)
    if spared:
        found = {name for name in found if _written(store.blobs.path(name)) > spared}
    return found


def collect_blobs(store: Embedded, patience: float = 10.0) -> Collected:
    """Remove the blobs that no record names.

    Raises:
        StoreError: they can't be removed, or writers leave no gap within `patience` seconds.
    """
    before = store.token()
    names = unreferenced(store)
    if not names:
        return Collected(0, 0)
    size = 0
    with store.locks.collecting_blobs(patience):
        # Since the search a writer may have found one of them and named it in a record, and a writer that was
        # at work then has committed by now. The token tells whether anything was committed at all.
        if before is None or store.token() != before:
            names.difference_update(referenced(store))
        for name in names:
            path = store.blobs.path(name)
            try:
                size += path.stat().st_size
                store.blobs.delete(name)
            except FileNotFoundError:
                continue
            except OSError as error:
                raise StoreError(f"can't remove {path}: {error}") from error
    return Collected(len(names), size)


def without_values(c: sqlite3.Connection) -> Collected:
    """Remove the values and the counts of uses that no call references, inside a write transaction."""
    # Rows of `functions` stay, as other processes remember their numbers.
    (size,) = c.execute(f"SELECT coalesce(sum(length(head)), 0) FROM {ORPHANS}").fetchone()
    count = c.execute(f"DELETE FROM {ORPHANS}").rowcount
    c.execute("DELETE FROM uses WHERE id NOT IN (SELECT id FROM calls)")
    return Collected(count, size)


def set_aside(store: Embedded) -> list[Path]:
    """Return the damaged index files that were set aside and not salvaged yet, the newest first."""
    path = store.database.path
    found = path.parent.glob(f"{glob.escape(path.stem + _DAMAGED)}*{glob.escape(path.suffix)}")
    return sorted((each for each in found if each.is_file()), key=_time_of, reverse=True)


def salvaged_name(path: Path) -> Path:
    """Return the name of a set-aside index file after its content was salvaged."""
    return path.with_name(_SALVAGED.join(path.name.rsplit(_DAMAGED, 1)))


def _time_of(path: Path) -> int:
    """Return when an index file was set aside, in nanoseconds; now, if its name does not say."""
    digits = path.stem.rpartition(_DAMAGED)[2]
    return int(digits) if digits.isdecimal() and len(digits) < 20 else time.time_ns()


def _written(path: Path) -> int:
    try:
        return os.stat(path).st_mtime_ns  # noqa: PTH116  as quick as can be: there may be many
    except OSError:
        return 0


def collect(store: Embedded, dry_run: bool) -> Collected:
    """Remove values and blobs that nothing references; see `Cache.gc`."""
    if store.database.readonly:
        raise StoreError(f"can't collect in {store.root}: it is read-only")
    if dry_run:
        return Collected.sum(_trial(store, without_values))
    with store.database.writing() as c:
        values = without_values(c)
        tidy(c)
    return Collected.sum((values, collect_blobs(store)))


def free(store: Embedded, digests: Sequence[str]) -> Collected:
    """Delete results; see `Backend.free`."""
    store.values.delete_many(digests)
    return Collected.sum((Collected(len(digests), 0), collect_blobs(store)))


def _trial(store: Embedded, change: Callable[[Any], Collected]) -> tuple[Collected, Collected]:
    """Return what a change of the index would remove, and which blobs it would leave unreferenced."""
    # The change is made, looked at, and rolled back: so a dry run can't differ from the real one.
    found: list[Collected] = []
    try:
        with store.database.writing() as c:
            found.append(change(c))
            found.append(_collectable(store))
            raise _PutBackError  # noqa: TRY301  it rolls the transaction back
    except _PutBackError:
        return found[0], found[1]


class _PutBackError(Exception):
    """Ends a transaction that is only a trial."""


def _collectable(store: Embedded) -> Collected:
    """Return the blobs that `collect_blobs` would remove now."""
    names = unreferenced(store)
    size = 0
    for name in names:
        try:
            size += store.blobs.path(name).stat().st_size
        except OSError:
            continue
    return Collected(len(names), size)


def evict(store: Embedded, chosen: Chosen, dry_run: bool) -> Evicted:
    database = store.database
    if database.readonly:
        raise StoreError(f"can't evict from {store.root}: it is read-only")
    where, values = _condition(store, chosen)
    counted: list[int] = []
    small = Collected(0, 0)
    doomed: list[tuple[bytes]] = []

    def change(c: Any) -> Collected:
        nonlocal small
        small = Collected(*c.execute(_SMALL.format(where), values * 2).fetchone())
        doomed[:] = c.execute(f"SELECT key FROM calls WHERE {where}", values).fetchall()
        c.execute(_LEAVES.format(where), values)
        counted.append(c.execute(f"DELETE FROM calls WHERE {where}", values).rowcount)
        return without_values(c)

    if dry_run:
        freed, blobs = _trial(store, change)
    else:
        with database.writing() as c:
            freed = change(c)
        blobs = collect_blobs(store)
        remember(store.notes, (key for (key,) in doomed))
    count = small.items + freed.items
    size = small.bytes + freed.bytes + blobs.bytes
    return Evicted(counted[-1], count, blobs.items, size, dry_run)


# Small results are in the rows of their calls, so they go with these.
_SMALL = """SELECT count(DISTINCT CASE WHEN value IS NULL AND result NOT IN
(SELECT result FROM calls WHERE NOT ({0})) THEN result END), coalesce(sum(length(body)), 0)
FROM calls WHERE {0}"""
# The records of what their arguments were made of go with the calls.
_LEAVES = """DELETE FROM notes WHERE key IN
(SELECT 'leaves/' || lower(hex(key)) FROM calls WHERE {0})"""


def _condition(store: Embedded, chosen: Chosen) -> tuple[str, list[Any]]:
    parts = ["1"]
    values: list[Any] = []
    if chosen.function is not None:
        rows = store.database.rows("SELECT id, CAST(name AS BLOB) FROM functions")
        names = ((id_, bytes(name or b"").decode(errors="replace")) for id_, name in rows)
        parts.append("function IN (SELECT value FROM json_each(?))")
        values.append(json.dumps([id_ for id_, name in names if matches(name, chosen.function)]))
    if chosen.before not in (None, EVER):
        parts.append("created < ?")
        values.append(chosen.before)
    if chosen.keys is not None:
        parts.append("id IN (SELECT value FROM json_each(?))")
        values.append(json.dumps([rowid(bytes.fromhex(key)) for key in chosen.keys]))
    return " AND ".join(parts), values


_CANDIDATES = f"""SELECT c.id, c.key, substr(c.body, 17, 32), c.created, c.seconds, c.size, u.uses,
u.used, length(c.body) > {16 + BODY_SIZE} OR c.value IN (SELECT id FROM "values"), c.function
FROM calls c LEFT JOIN uses u ON u.id = c.id"""


def candidates(store: Embedded) -> Iterator[Candidate]:
    """Yield each call as an eviction policy judges it, read in pages: a million of them would fill memory."""
    database = store.database
    names = dict(database.rows("SELECT id, CAST(name AS BLOB) FROM functions"))
    try:
        for _, key, result, created, seconds, size, uses, used, there, function in scan(
            database, _CANDIDATES
        ):
            row = (created, seconds, size, uses or 0, used or 0.0, bool(there))
            yield Candidate(key.hex(), bytes(result).hex(), *row, _name(names.get(function)))
    except DRIVER as error:
        raise database.failed("read", error) from error


# A damaged column may hold a value of any type; CAST makes it a number.
_FUNCTIONS = """SELECT CAST(f.name AS BLOB), count(DISTINCT f.code), sum(n), sum(bytes),
sum(seconds), sum(uses), sum(saved), max(created), max(used) FROM (
  SELECT c.function AS function, count(*) AS n, sum(CAST(c.size AS INTEGER)) AS bytes,
    sum(CAST(c.seconds AS REAL)) AS seconds, sum(CAST(coalesce(u.uses, 0) AS INTEGER)) AS uses,
    sum(CAST(coalesce(u.uses, 0) AS INTEGER) * CAST(c.seconds AS REAL)) AS saved,
    max(CAST(c.created AS REAL)) AS created, max(CAST(u.used AS REAL)) AS used
  FROM calls c LEFT JOIN uses u ON u.id = c.id GROUP BY c.function)
LEFT JOIN functions f ON f.id = function GROUP BY f.name ORDER BY sum(bytes) DESC, f.name"""


def functions(store: Embedded) -> list[FunctionRow]:
    """Return a row for each function, the one with the most bytes first.

    Raises:
        StoreError: the index can't be read.
    """
    return [FunctionRow(_name(name), *rest) for name, *rest in store.database.rows(_FUNCTIONS)]


def calls_of(store: Embedded, names: Sequence[str], limit: int | None) -> Iterator[Call]:
    """Yield the calls of some functions, the latest first; damaged ones are left out.

    Args:
        limit: how many at the most; None for all.

    Raises:
        StoreError: the index can't be read.
    """
    marks = ",".join("?" * len(names))
    where = f"coalesce(f.name, '?') IN ({marks})"
    query = f"{CallRow.QUERY} WHERE {where} ORDER BY c.created DESC LIMIT ?"
    for row in store.database.rows(query, *names, -1 if limit is None else limit):
        with contextlib.suppress(DecodeError):
            yield CallRow(*row).read()[0]


def totals(store: Embedded) -> Totals:
    """Return counts and sums of all.

    Raises:
        StoreError: the index can't be read.
    """
    database = store.database
    ((values,),) = database.rows('SELECT count(*) FROM "values"')
    ((inline,),) = database.rows(
        "SELECT count(DISTINCT result) FROM calls "
        # A shorter body has no envelope after it: the result was evicted.
        f"WHERE value IS NULL AND length(body) > {16 + BODY_SIZE}"
    )
    ((schema,),) = database.rows("PRAGMA user_version")
    ((journal,),) = database.rows("PRAGMA journal_mode")
    held = {"values": values + inline, "schema": schema, "journal": journal}
    return Totals.of(functions(store), **held, **on_disk(store))


def on_disk(store: Embedded) -> dict[str, int]:
    """Return the files and bytes on disk."""
    blobs = size = rest = 0
    for name in store.blobs.keys():  # noqa: SIM118  a store is no dict
        with contextlib.suppress(OSError):
            size += store.blobs.path(name).stat().st_size
            blobs += 1
    index = store.database.path
    beside = index.parent.glob(f"{glob.escape(index.stem)}*")
    for path in (*beside, *store.root.glob("tmp/*")):
        with contextlib.suppress(OSError):
            rest += path.stat().st_size
    return {
        "blobs": blobs,
        "blob_bytes": size,
        "bytes": size + rest,
        "damaged_files": len(set_aside(store)),
    }


def _name(found: Any) -> str:
    return found.decode(errors="replace") if isinstance(found, bytes) else "?"
