"""What can still be read of a damaged index goes into the present one.

Only what proves itself is taken: sealed rows, with arguments that give their key, whose blobs are
there. What the present index has under the same digest is newer and stays.
"""

from __future__ import annotations

import contextlib
import itertools
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import astuple, replace
from pathlib import Path
from typing import Any, NamedTuple

from wellkept.codecs import Blob, Envelope
from wellkept.errors import DecodeError
from wellkept.stores.collect import salvaged_name
from wellkept.stores.embedded import Embedded
from wellkept.stores.index_tables import CallRow, ValueRow, make
from wellkept.stores.pages import Pages
from wellkept.stores.query_index import forget
from wellkept.stores.record_format import unsealed_note

__all__ = ["Salvaged", "put_away", "salvage"]

_BATCH = 500  # rows a transaction
_LONGEST = 200  # characters of a note's key


class Salvaged(NamedTuple):
    """What was taken over, and how many pages could not be read."""

    calls: int
    values: int
    lost_pages: int


class Layout(NamedTuple):
    """Where the tables of an index that nothing happened to have their roots and columns."""

    roots: dict[str, int]
    columns: dict[str, list[str]]

    @classmethod
    def of_schema(cls) -> Layout:
        c = sqlite3.connect(":memory:", isolation_level=None)
        with contextlib.closing(c):
            make(c)
            query = "SELECT name, rootpage FROM sqlite_master WHERE type = 'table'"
            roots = dict(c.execute(query).fetchall())
            columns = {
                name: [row[1] for row in c.execute(f'PRAGMA table_info("{name}")')]
                for name in roots
            }
        return cls(roots, columns)


class Found:
    """The rows of a file, by table."""

    def __init__(self, pages: Pages) -> None:
        layout = Layout.of_schema()
        self._pages, self._columns = pages, layout.columns
        roots = layout.roots | {k: v for k, v in pages.roots().items() if k in layout.roots}
        pages.lost = 0  # of pages with rows only
        seen = {1}
        self._leaves = {name: pages.leaves(roots[name], seen) for name in _TABLES}
        self._strays = pages.strays(seen) if pages.lost else []

    def rows(self, table: str) -> Iterator[dict[str, Any]]:
        """The rows of a table as dicts by column (text is bytes), and what may be some."""
        columns = self._columns[table]
        for rowid, row in self._pages.rows(self._leaves[table] + self._strays):
            if len(row) == len(columns):
                yield dict(zip(columns, row, strict=True)) | {"id": rowid}


def salvage(
    store: Embedded, path: Path, progress: Callable[[str, int, int], None] | None = None
) -> Salvaged:
    """Take over what an index file that was set aside still holds.

    Raises:
        StoreError: it can't be read, or the store not be written.
    """
    with Pages(path) as pages:
        found = Found(pages)
        done = {"values": 0, "calls": 0}
        for table, rows in (("values", _values(found)), ("calls", _calls(found))):
            while batch := list(itertools.islice(rows, _BATCH)):
                # Nobody collects the blobs that these rows name before they are committed.
                with store.locks.writing_blobs(), store.database.writing() as c:
                    done[table] += sum(_take(store, c, row) for row in batch)
                    forget(c)
                if progress:
                    progress(f"salvaging {table}", done[table], 0)
        _notes(store, found)
        return Salvaged(done["calls"], done["values"], pages.lost)


def put_away(path: Path, *, discard: bool) -> None:
    """Rename a salvaged file, so that it is not salvaged again, or delete it.

    Raises:
        OSError: the file system refuses.
    """
    for end in ("-shm", "-wal", ""):  # the file itself last: it stands for all of them
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
    """Put a row into the index, unless a sound one is there or what it names is not."""
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
        return False  # named as before schema 4: nobody can tell whose bytes it has
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
