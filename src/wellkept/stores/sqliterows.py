"""The tables of a file of items, and the rows of an item: itself, and the terms it is found by.

Terms are indexed late: an item says its own, and the table of terms holds those of the items up to a
mark. A put of a new item so changes two pages and not one more for each term; whoever looks for
terms, or puts the thousandth item behind the mark, indexes what lies behind it in one go.
"""

from __future__ import annotations

import sqlite3
from typing import Any

from wellkept.errors import DamagedValue
from wellkept.records import Buffer
from wellkept.stores.terms import pack, unpack

__all__ = [
    "ALL_INDEXED",
    "BEHIND",
    "SCHEMA",
    "UNINDEXED",
    "catch_up",
    "make_tables",
    "put_row",
    "take_out",
]

SCHEMA = 2
"""2: terms are indexed up to a mark; 1: all of them."""
# A table by number with an index by key is as fast as a WITHOUT ROWID table for small items, and
# takes half its time for those of several KB. A term's value has no type, so that numbers and text
# are each ordered as what they are; an item repeats its terms, so that they can be taken out.
_TABLES = """
CREATE TABLE IF NOT EXISTS items (id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE,
  item BLOB NOT NULL, terms TEXT);
CREATE TABLE IF NOT EXISTS terms (name TEXT NOT NULL, value BLOB NOT NULL, id INTEGER NOT NULL,
  PRIMARY KEY (name, value, id)) WITHOUT ROWID;
CREATE TABLE indexed (mark INTEGER NOT NULL);
INSERT INTO indexed SELECT coalesce(max(id), 0) FROM items;
"""
_MANY = 1000  # items behind the mark from which a put indexes them
_BATCH = 5000  # items that are indexed at once
UNINDEXED = (
    "SELECT id, key, terms FROM items WHERE id > (SELECT mark FROM indexed) AND terms IS NOT NULL"
)
"""Number, key and terms of what lies behind the mark."""
ALL_INDEXED = "CREATE TEMP TABLE indexed AS SELECT 9223372036854775807 AS mark"
"""For a file of schema 1 that can't be written to."""
BEHIND = f"{UNINDEXED} LIMIT 1"


def make_tables(c: sqlite3.Connection) -> None:
    """Make what is missing of the tables, within a transaction."""
    for statement in _TABLES.split(";"):
        c.execute(statement)
    c.execute(f"PRAGMA user_version = {SCHEMA}")


def put_row(c: sqlite3.Connection, key: str, item: Buffer, terms: list[tuple[str, Any]]) -> None:
    """Write an item, within a transaction; it has these terms then, and no others."""
    text = pack(terms) if terms else None
    (mark,) = c.execute("SELECT mark FROM indexed").fetchone()
    row = c.execute("SELECT id, terms FROM items WHERE key = ?", (key,)).fetchone()
    if row is None:
        query = "INSERT INTO items (key, item, terms) VALUES (?,?,?)"
        number = c.execute(query, (key, item, text)).lastrowid or 0
    else:
        number = row[0]
        take_out(c, *row)
        c.execute("UPDATE items SET item = ?, terms = ? WHERE id = ?", (item, text, number))
    if number <= mark:  # also a new item's: the numbers of what was deleted last are given again
        _index(c, [(*term, number) for term in terms])
    elif number - mark > _MANY:
        catch_up(c)


def catch_up(c: sqlite3.Connection) -> int:
    """Index some of what lies behind the mark, within a transaction; how many items that were."""
    some = c.execute(f"{UNINDEXED} ORDER BY id LIMIT {_BATCH}").fetchall()
    rows = []
    for number, _, text in some:
        try:
            rows += [(*term, number) for term in unpack(text)]
        except DamagedValue:
            continue  # it is found by no term, as when its terms can't be taken out
    _index(c, sorted(rows, key=lambda row: (row[0], type(row[1]).__name__, row[1])))
    if len(some) == _BATCH:
        c.execute("UPDATE indexed SET mark = ?", (some[-1][0],))
    else:
        c.execute("UPDATE indexed SET mark = max(mark, (SELECT coalesce(max(id), 0) FROM items))")
    return len(some)


def _index(c: sqlite3.Connection, rows: list[tuple[Any, ...]]) -> None:
    c.executemany("INSERT OR REPLACE INTO terms VALUES (?,?,?)", rows)


def take_out(c: sqlite3.Connection, number: int, terms: str | None) -> None:
    """Take an item's terms out of the table, within a transaction."""
    if terms is None:
        return
    try:
        rows = [(*term, number) for term in unpack(terms)]
        c.executemany("DELETE FROM terms WHERE name = ? AND value = ? AND id = ?", rows)
    except (DamagedValue, sqlite3.InterfaceError, sqlite3.ProgrammingError):
        # Damaged: what it says can't be relied on, and a look at each term is slow but right.
        c.execute("DELETE FROM terms WHERE id = ?", (number,))
