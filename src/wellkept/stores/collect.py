"""What nothing references: which values and blobs of an embedded store can go, and their going.

Calls reference values, and calls and values reference blobs. Rows vanish in the transaction that
finds them unreferenced. Blobs are looked for while everybody works, and looked for again under the
lock that writers hold from a blob's writing to its record's commit, before any is removed; so no
record that is committed ever names a blob that was collected.
"""

from __future__ import annotations

import glob
import os
import sqlite3
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from wellkept.codecs import Blob, Envelope
from wellkept.errors import DecodeError, StoreError
from wellkept.stores.body import BODY_SIZE
from wellkept.stores.embedded import Embedded
from wellkept.stores.rows import scan

__all__ = [
    "ORPHANS",
    "Collected",
    "collect_blobs",
    "referenced",
    "references",
    "salvaged_name",
    "set_aside",
    "unreferenced",
    "without_values",
]

_SEAL = 16
_SALVAGED, _DAMAGED = ".salvaged-", ".damaged-"

ORPHANS = '"values" WHERE id NOT IN (SELECT value FROM calls WHERE value IS NOT NULL)'
"""The values that no call references, for a SELECT or a DELETE."""


class Collected(NamedTuple):
    """What was removed."""

    items: int
    bytes: int


def _names_blobs(column: str, offset: int) -> str:
    """A condition: the envelope that begins at `offset` of a column has blobs, or is no envelope.

    It spares the reading of a million rows that have none. See `Envelope` for the layout.
    """
    at = offset + 5  # of the codec's name, from 1: magic, version, flags and length come before
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
    """What is in the column."""
    blobs: Sequence[Blob]


def references(store: Embedded) -> Iterator[Reference]:
    """The records that name blobs. A damaged one still counts, as long as it can be parsed.

    Raises:
        StoreError: the index can't be read.
    """
    database = store.database
    for table, column, where, offset in (_IN_CALLS, _IN_VALUES):
        query = f'SELECT c.id, c.{column} FROM "{table}" c'
        try:
            for id_, sealed in scan(database, query, where):
                try:
                    blobs = Envelope.unpack(sealed[offset:]).blobs
                except (DecodeError, TypeError):
                    continue
                yield Reference(table, column, id_, sealed, blobs)
        except sqlite3.Error as error:
            raise database.failed("read", error) from error


def referenced(store: Embedded) -> Iterator[str]:
    """The names of blobs that records name, some of them more than once."""
    return (blob.name.hex() for found in references(store) for blob in found.blobs)


def unreferenced(store: Embedded) -> set[str]:
    """The names of blobs that no record names. Exact only under `locks.collecting_blobs()`.

    Blobs written before a damaged index was set aside stay: they may belong to what is in it.
    """
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
        # A writer may have found one there since, and named it in a record; and one that was at
        # work then has committed by now.
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
    """Inside a write transaction: remove the values that no call references, and counts of uses.

    Functions stay: other processes remember the numbers of their rows.
    """
    (size,) = c.execute(f"SELECT coalesce(sum(length(head)), 0) FROM {ORPHANS}").fetchone()
    count = c.execute(f"DELETE FROM {ORPHANS}").rowcount
    c.execute("DELETE FROM uses WHERE id NOT IN (SELECT id FROM calls)")
    return Collected(count, size)


def set_aside(store: Embedded) -> list[Path]:
    """The damaged index files that were set aside and not salvaged yet, the newest first."""
    path = store.database.path
    found = path.parent.glob(f"{glob.escape(path.stem + _DAMAGED)}*{glob.escape(path.suffix)}")
    return sorted((each for each in found if each.is_file()), key=_time_of, reverse=True)


def salvaged_name(path: Path) -> Path:
    """What a set-aside index file is called once what it holds was salvaged."""
    return path.with_name(_SALVAGED.join(path.name.rsplit(_DAMAGED, 1)))


def _time_of(path: Path) -> int:
    """When an index file was set aside, in nanoseconds; now, where its name does not say."""
    digits = path.stem.rpartition(_DAMAGED)[2]
    return int(digits) if digits.isdecimal() and len(digits) < 20 else time.time_ns()


def _written(path: Path) -> int:
    try:
        return os.stat(path).st_mtime_ns  # noqa: PTH116  as quick as can be: there may be many
    except OSError:
        return 0
