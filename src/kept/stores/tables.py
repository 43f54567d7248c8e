"""The tables of the embedded index, and how a call and a value become rows of it.

A row is found by the first eight bytes of its digest, which is its rowid: one descent of one tree.
What a hit relies on is in `body` and `head`, each of which begins with 16 bytes of the BLAKE3 of the
full digest and the rest, so that no flipped bit, and no row of another key, can pass for a result.

A body is the fixed part of a call; a small result's frame follows in the same row (`value` is then
NULL), so that keeping it dirties one page and finding it reads one tree. A larger result's frame
stands once in `values`, however many calls gave it.
"""

from __future__ import annotations

import json
import math
import sqlite3
from json.encoder import encode_basestring_ascii as _quote
from typing import Any

from kept.errors import DamagedValue, NewerSchema
from kept.hashing import digest_bytes
from kept.records import Argument, Arguments, Call, Digest
from kept.stores.body import STATES, Body, unseal

__all__ = [
    "SCHEMA",
    "arguments_text",
    "call_row",
    "make",
    "read_arguments",
]

SCHEMA = 1
"""The version of the tables; kept in `PRAGMA user_version` and in the table `meta`."""

_TABLES = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE functions (id INTEGER PRIMARY KEY, name TEXT NOT NULL, code TEXT NOT NULL,
  UNIQUE (name, code));
CREATE TABLE calls (id INTEGER PRIMARY KEY, key BLOB NOT NULL, body BLOB NOT NULL,
  value INTEGER, result INTEGER NOT NULL, function INTEGER NOT NULL, arguments TEXT NOT NULL,
  created REAL NOT NULL, seconds REAL NOT NULL, size INTEGER NOT NULL, expires REAL, metadata TEXT);
CREATE TABLE "values" (id INTEGER PRIMARY KEY, digest BLOB NOT NULL, head BLOB NOT NULL,
  size INTEGER NOT NULL);
CREATE TABLE uses (id INTEGER PRIMARY KEY, uses INTEGER NOT NULL, used REAL NOT NULL);
CREATE TABLE leases (key BLOB PRIMARY KEY, owner TEXT NOT NULL, token INTEGER NOT NULL,
  beat INTEGER NOT NULL, deadline REAL NOT NULL) WITHOUT ROWID;
"""


def arguments_text(call: Call) -> str:
    """As JSON: `[name, value]` for a shown scalar, whose digest follows from it, and otherwise
    `[name, null, digest]`.
    """
    rows = []
    given = call.arguments
    if type(given) is Arguments:
        for name, value, raw in given.items_given:
            rows.append(
                f"[{_quote(name)},{_scalar(value)}]"
                if given.shown(value)
                else f'[{_quote(name)},null,"{raw.hex()}"]'
            )
        return f"[{','.join(rows)}]"
    for name, (digest, value, shown) in given.items():
        rows.append(
            f"[{_quote(name)},{_scalar(value)}]" if shown else f'[{_quote(name)},null,"{digest}"]'
        )
    return f"[{','.join(rows)}]"


def _scalar(value: Any) -> str:
    kind = type(value)
    if kind is int or kind is float:
        return repr(value)  # a third of what json.dumps takes, and the same text
    return json.dumps(value)


def read_arguments(text: str) -> dict[str, Argument]:
    """What `arguments_text` wrote.

    Raises:
        DamagedValue: it is not.
    """
    try:
        return {
            name: Argument(Digest(*digest))
            if digest
            else Argument(Digest.of(digest_bytes(value)), value, True)
            for name, value, *digest in json.loads(text)
        }
    except (ValueError, TypeError, RecursionError) as error:
        raise DamagedValue("a call's arguments are damaged") from error


def make(c: sqlite3.Connection) -> None:
    """Make the tables in an empty file; check the version of one that has some.

    Raises:
        NewerSchema: a newer kept made it.
        sqlite3.DatabaseError: the file is damaged.
    """
    (version,) = c.execute("PRAGMA user_version").fetchone()
    tables = dict(c.execute("SELECT name, sql FROM sqlite_master WHERE type = 'table'"))
    if not tables and version == 0:
        _create(c)
        return
    text = _marked(c) if "meta" in tables else ""
    marked = int(text) if text.isascii() and text.isdigit() else 0
    # One flipped bit must not look like a version: the number stands in two places.
    flipped = marked == SCHEMA and (version ^ SCHEMA).bit_count() == 1
    flipped |= version == SCHEMA and _one_bit(text, str(SCHEMA))
    newest = max(version, marked)
    if newest > SCHEMA and not flipped:
        raise NewerSchema(
            f"a newer kept made this cache (schema {newest}; this one knows {SCHEMA}): "
            "upgrade kept, or choose another directory"
        )
    # Their text too: `id INTEGEr PRIMARY KEY` is the row's number, and `id INTEGES PRIMARY KEY` finds
    # no row that was there before.
    texts = {str(sql) for sql in tables.values()}
    if (marked != SCHEMA and not flipped) or not texts.issuperset(_statements()):
        raise sqlite3.DatabaseError("malformed: the tables are not those of a kept index")
    if version != SCHEMA:
        c.execute(f"PRAGMA user_version = {SCHEMA}")
    if marked != SCHEMA:
        c.execute("UPDATE meta SET value = ? WHERE name = 'schema'", (str(SCHEMA),))


def _marked(c: sqlite3.Connection) -> str:
    row = c.execute("SELECT value FROM meta WHERE name = 'schema'").fetchone()
    return str(row[0]) if row else ""


def _one_bit(found: str, meant: str) -> bool:
    if len(found) != len(meant):
        return False
    return sum((ord(a) ^ ord(b)).bit_count() for a, b in zip(found, meant, strict=True)) == 1


def _statements() -> list[str]:
    return [statement.strip() for statement in _TABLES.split(";") if statement.strip()]


def _create(c: sqlite3.Connection) -> None:
    c.execute("BEGIN IMMEDIATE")
    try:
        if not c.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone():  # nobody was faster
            for statement in _statements():
                c.execute(statement)
            c.execute("INSERT INTO meta VALUES ('schema', ?)", (str(SCHEMA),))
            c.execute(f"PRAGMA user_version = {SCHEMA}")
        c.execute("COMMIT")
    except BaseException:
        c.execute("ROLLBACK")
        raise


def call_row(row: tuple[Any, ...]) -> Call:
    """A `Call` from `key, body, name, code, arguments, metadata, uses, used`.

    Raises:
        DamagedValue: the row is not what was written.
    """
    key, sealed, name, code, arguments, metadata, uses, used = row
    body = Body.unpack(unseal(key, sealed))
    return Call(
        key=Digest.of(key),
        function=name or "?",
        code=code or "?",
        arguments=read_arguments(arguments),
        result=Digest.of(body.result),
        state=STATES[body.state],
        created=body.created,
        seconds=body.seconds,
        size=body.size,
        expires=None if math.isinf(body.expires) else body.expires,
        uses=uses or 0,
        used=used,
        metadata=json.loads(metadata) if metadata else {},
    )
