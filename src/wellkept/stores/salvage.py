"""Salvage: rows that can still be read in a damaged index are copied into the present one.

Only rows that can be proved right are copied: those whose checksum matches, whose arguments give their key, and
whose blobs exist. A row of the present index under the same digest is newer, and stays.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import astuple, replace
from pathlib import Path
from typing import Any, NamedTuple

from wellkept._process import part_name
from wellkept.codecs import Blob, Envelope
from wellkept.errors import DecodeError, StoreError
from wellkept.stores.collect import salvaged_name
from wellkept.stores.embedded import Embedded
from wellkept.stores.filesystem import open_regular
from wellkept.stores.index_tables import CallRow, ValueRow, make
from wellkept.stores.query_index import forget
from wellkept.stores.record_format import unsealed_note
from wellkept.stores.sqlite_file import DRIVER

__all__ = ["Salvaged", "put_away", "salvage"]

# Rows of one transaction, for whose end other writers wait.
_BATCH = 500
# Bytes of a page of an index.
_PAGE = 4096
_WHOLE = (-(2**63), 2**63 - 1)
# Characters of the longest key of a note.
_LONGEST = 200


class Salvaged(NamedTuple):
    """How much was copied."""

    calls: int
    values: int


class Found:
    """The rows of a damaged file, read by SQLite in ranges around what it can't read.

    A flipped bit inside a row is not noticed here; the caller verifies the rows.
    """

    def __init__(self, c: sqlite3.Connection, columns: dict[str, list[str]], pages: int) -> None:
        self._connection, self._columns, self._pages = c, columns, pages

    def rows(self, table: str) -> Iterator[dict[str, Any]]:
        """Yield the rows of a table as dicts by column, some perhaps twice; text is bytes."""
        columns = self._columns[table]
        for number, *row in self._readable(table):
            if len(row) == len(columns):
                found = dict(zip(columns, row, strict=True))
                # A column that is the row's number holds nothing.
                yield found | {"id": found["id"] if found.get("id") is not None else number}

    def _readable(self, table: str) -> Iterator[tuple[Any, ...]]:
        # Ids are parts of digests, so they are spread evenly, and every page holds about as wide a range of
        # them. A range of less than half a page, between two pages that can't be read, is given up.
        lost: list[tuple[int, int]] = []
        yield from self._between(table, "rowid", [_WHOLE], 2**64 // (2 * self._pages), lost)
        # Numbers that count from one are narrower. No row is shorter than 64 bytes with what belongs to it.
        most = self._pages * _PAGE // 64
        narrow = [(max(low, 1), min(high, most)) for low, high in lost if low <= most and high > 0]
        yield from self._between(table, "rowid", narrow, 2, [])
        if table == "calls" and any(high > most for _, high in lost):
            # The index of ids knows the others.
            step = 2**64 // (64 * self._pages)
            beyond = f"rowid > {most}"
            yield from self._between(table, "id", [_WHOLE], step, [], beyond)

    def _between(
        self,
        table: str,
        by: str,
        ranges: list[tuple[int, int]],
        step: int,
        lost: list[tuple[int, int]],
        where: str = "1",
    ) -> Iterator[tuple[Any, ...]]:
        """Yield the rows of ranges from both ends up to what can't be read, then those of their halves; ranges
        that are not wider than a step are added to `lost`."""
        # A stack, so that a file with many damaged pages does not recurse deeply.
        while ranges:
            low, high = ranges.pop()
            for order in ("ASC", "DESC"):
                query = (
                    f'SELECT {by}, * FROM "{table}" WHERE {by} BETWEEN ? AND ? AND {where} '
                    f"ORDER BY {by} {order}"
                )
                try:
                    for row in self._connection.execute(query, (low, high)):
                        # A damaged tree may give rows outside of the range, or the same ones again and again.
                        if type(row[0]) is not int or not low <= row[0] <= high:
                            break
                        yield row
                        low, high = (row[0] + 1, high) if order == "ASC" else (low, row[0] - 1)
                    else:
                        high = low - 1
                except (*DRIVER, MemoryError, OverflowError):
                    continue
            if high - low > step:
                middle = (low + high) // 2
                ranges += [(middle + 1, high), (low, middle)]
            elif high >= low:
                lost.append((low, high))


@contextlib.contextmanager
def _opened(path: Path, scratch: Path) -> Iterator[Found | None]:
    """Open a file that was set aside; None if SQLite can't, not even with a sound first page.

    Raises:
        StoreError: the file can't be read.
    """
    copy = scratch / part_name()
    with contextlib.ExitStack() as stack:
        try:
            os.close(open_regular(path))
            pages = max(1, path.stat().st_size // _PAGE)
            first, columns = _sound_index()
            c = stack.enter_context(contextlib.closing(_connection(path)))
            if not _has_tables(c):
                # The first page says where the tables are, and that is the same in every index. The file itself
                # is not changed: it may be all that is left.
                stack.callback(_remove, copy)
                shutil.copyfile(path, copy)
                if (log := Path(f"{path}-wal")).is_file():
                    shutil.copyfile(log, f"{copy}-wal")
                with copy.open("r+b") as file:
                    file.write(first)
                c = stack.enter_context(contextlib.closing(_connection(copy)))
        except OSError as error:
            raise StoreError(f"can't read {path}: {error}") from error
        yield Found(c, columns, pages) if _has_tables(c) else None


def _remove(path: Path) -> None:
    for end in ("", "-wal", "-shm"):
        with contextlib.suppress(OSError):
            Path(f"{path}{end}").unlink()


def _connection(path: Path) -> sqlite3.Connection:
    c = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
    c.text_factory = bytes
    return c


def _has_tables(c: sqlite3.Connection) -> bool:
    try:
        found = c.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
    # SQLite's message may name a damaged table in bytes that are no text.
    except DRIVER:
        return False
    return {b"calls", b"values"} <= {name for (name,) in found}


def _sound_index() -> tuple[bytes, dict[str, list[str]]]:
    """Return the first page of an undamaged index, and the columns of its tables."""
    c = sqlite3.connect(":memory:", isolation_level=None)
    with contextlib.closing(c):
        c.execute(f"PRAGMA page_size = {_PAGE}")
        make(c)
        columns = {
            table: [row[1] for row in c.execute(f'PRAGMA table_info("{table}")')]
            for table in _TABLES
        }
        first = bytearray(c.serialize()[:_PAGE])
    # SQLite takes the size of the file for the page count if these bytes do not match the change counter
    # (section 1.3.8 of its format).
    first[92:96] = b"\xff" * 4
    return bytes(first), columns


def salvage(
    store: Embedded, path: Path, progress: Callable[[str, int, int], None] | None = None
) -> Salvaged:
    """Copy the rows that an index file which was set aside still has.

    Raises:
        StoreError: the file can't be read, or the store not be written.
    """
    with _opened(path, store.root / "tmp") as found:
        if found is None:
            return Salvaged(0, 0)
        done = {"values": 0, "calls": 0}
        for table, rows in (("values", _values(found)), ("calls", _calls(found))):
            while batch := list(itertools.islice(rows, _BATCH)):
                # No garbage collection removes the blobs that these rows name before the rows are committed.
                with store.locks.writing_blobs(), store.database.writing() as c:
                    done[table] += sum(_take(store, c, row) for row in batch)
                    forget(c)
                if progress:
                    progress(f"salvaging {table}", done[table], 0)
        _notes(store, found)
        return Salvaged(done["calls"], done["values"])


def put_away(path: Path, *, discard: bool) -> None:
    """Rename a salvaged file, so that it is not salvaged again, or delete it.

    Raises:
        OSError: the file system refuses.
    """
    # The file itself last: if this is interrupted, it is found again, and the rest is done then.
    for end in ("-shm", "-wal", ""):
        one = Path(f"{path}{end}")
        with contextlib.suppress(FileNotFoundError):
            if discard:
                one.unlink()
            else:
                one.rename(f"{salvaged_name(path)}{end}")


Item = tuple[ValueRow, Envelope] | tuple[CallRow, Envelope | None]


def _values(found: Found) -> Iterator[Item]:
    for columns in found.rows("values"):
        row = ValueRow(**columns)
        with contextlib.suppress(DecodeError):
            yield row, row.read()


def _calls(found: Found) -> Iterator[Item]:
    functions = {row["id"]: row for row in found.rows("functions")}
    uses = {row["id"]: row for row in found.rows("uses")}
    nothing: dict[str, Any] = {}
    for columns in found.rows("calls"):
        function = functions.get(columns.pop("function"), nothing)
        used = uses.get(columns["id"], nothing)
        row = CallRow(
            **columns,
            name=function.get("name"),
            code=function.get("code"),
            uses=used.get("uses"),
            used=used.get("used"),
        )
        with contextlib.suppress(DecodeError):
            call, envelope = row.read()
            yield replace(row, uses=call.uses, used=call.used), envelope


def _notes(store: Embedded, found: Found) -> None:
    for row in found.rows("notes"):
        key, stored = row["key"], row["item"]
        if type(key) is bytes and type(stored) is bytes and len(key) <= _LONGEST:
            name = key.decode(errors="replace")
            item = unsealed_note(name, stored)
            if item is not None:
                store.notes.create(name, item)


def _take(store: Embedded, c: sqlite3.Connection, item: Item) -> bool:
    """Put a row into the index, unless that has a sound one or something that the row names is missing."""
    row, envelope = item
    if envelope is not None and not all(_has(store, blob) for blob in envelope.blobs):
        return False
    if isinstance(row, ValueRow):
        there = c.execute(f"{ValueRow.QUERY} WHERE c.id = ?", (row.id,)).fetchone()
        if there and _sound(ValueRow(*there)):
            return False
        c.execute('INSERT OR REPLACE INTO "values" VALUES (?,?,?,?)', astuple(row))
        return True
    there = c.execute(f"{CallRow.QUERY} WHERE c.id = ?", (row.id,)).fetchone()
    if there and _sound(CallRow(*there)):
        return False
    if envelope is None and row.value == row.result:
        # Named as before schema 4: whether the value has the bytes of this call can't be told.
        return False
    result = row.sealed()[0].result
    if envelope is None and not c.execute(_VALUE, (row.value, result)).fetchone():
        return False
    name, code, arguments = row.name.decode(), row.code.decode(), row.arguments.decode()
    metadata = None if row.metadata is None else row.metadata.decode()
    c.execute("INSERT OR IGNORE INTO functions (name, code) VALUES (?,?)", (name, code))
    (function,) = c.execute(_FUNCTION, (name, code)).fetchone()
    columns = {name: getattr(row, name) for name in _PLAIN}
    columns |= {"function": function, "arguments": arguments, "metadata": metadata}
    names, marks = ", ".join(columns), ", ".join(f":{name}" for name in columns)
    c.execute(f"INSERT OR REPLACE INTO calls ({names}) VALUES ({marks})", columns)
    if row.uses and row.used is not None:
        c.execute("INSERT OR IGNORE INTO uses VALUES (?,?,?)", (row.id, row.uses, row.used))
    return True


_TABLES = ("values", "functions", "uses", "calls", "notes")
_PLAIN = ("id", "key", "body", "value", "result", "created", "seconds", "size", "expires")
_VALUE = 'SELECT 1 FROM "values" WHERE id = ? AND digest = ?'
_FUNCTION = "SELECT id FROM functions WHERE name = ? AND code = ?"


def _sound(row: CallRow | ValueRow) -> bool:
    try:
        row.read()
    except DecodeError:
        return False
    return True


def _has(store: Embedded, blob: Blob) -> bool:
    try:
        return store.blobs.path(blob.name.hex()).stat().st_size == blob.size
    except OSError:
        return False
