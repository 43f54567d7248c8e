"""The tables of the embedded index, and how a call and a value become rows of it.

A row is found by the first eight bytes of its digest, which is its rowid: one descent of one tree.
What a hit relies on is in `body` and `head`, each of which begins with 16 bytes of the BLAKE3 of the
full digest and the rest, so that no flipped bit, and no row of another key, can pass for a result.

A body is the fixed part of a call; a small result's envelope follows in the same row (`value` is then
NULL), so that keeping it dirties one page and finding it reads one tree. A larger result's envelope
stands once in `values`, however many calls gave it.
"""

from __future__ import annotations

import json
import math
import re
import sqlite3
from collections.abc import Iterator, Mapping
from json.encoder import encode_basestring_ascii as _quote
from typing import Any

from wellkept.errors import DamagedValue, NewerSchema
from wellkept.hashing import digest_bytes
from wellkept.records import Argument, Arguments, Call, Digest
from wellkept.stores.body import STATES, Body, unseal

__all__ = [
    "SCHEMA",
    "arguments_text",
    "call_row",
    "make",
    "read_arguments",
    "read_metadata",
]

SCHEMA = 4
"""The version of the tables; kept in `PRAGMA user_version` and in the table `meta`."""

_FIRST = """
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

# What queries go by (see `finding`), and small records beside the calls. Whoever deletes or replaces
# a call takes it out of the list and the tally; the rest of a deleted call does no harm.
_SECOND = """
CREATE TABLE notes (key TEXT PRIMARY KEY, item BLOB NOT NULL);
CREATE TABLE listed (function INTEGER NOT NULL, created REAL NOT NULL, call INTEGER NOT NULL,
  PRIMARY KEY (function, created, call)) WITHOUT ROWID;
CREATE TABLE tally (function INTEGER PRIMARY KEY, calls INTEGER NOT NULL, gone INTEGER NOT NULL);
CREATE TABLE terms (function INTEGER NOT NULL, name TEXT NOT NULL, value NOT NULL,
  created REAL NOT NULL, call INTEGER NOT NULL, kind INTEGER NOT NULL,
  PRIMARY KEY (function, name, value, created, call)) WITHOUT ROWID;
CREATE TABLE links (digest INTEGER NOT NULL, call INTEGER NOT NULL,
  PRIMARY KEY (digest, call)) WITHOUT ROWID;
CREATE TRIGGER calls_gone AFTER DELETE ON calls BEGIN
  DELETE FROM listed WHERE function = old.function AND created = old.created AND call = old.id;
  UPDATE tally SET calls = calls - changes(), gone = gone + 1 WHERE function = old.function;
END;
"""

# Before, a value was named by its digest, which leaves out what digests leave out: the order of a
# dict, the layout of an array. Of those that several calls gave, or that is not as long as its call
# says, nobody can tell whose bytes it has: it is computed again. The others are found as they are.
_FOURTH = """
UPDATE calls SET value = NULL WHERE value IS NOT NULL AND (
  value IN (SELECT value FROM calls WHERE value IS NOT NULL GROUP BY value HAVING count(*) > 1)
  OR size <> (SELECT v.size FROM "values" v WHERE v.id = calls.value));
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
    if kind is str:
        return _quote(value)
    return json.dumps(value)


class ReadArguments(Mapping[str, Argument]):
    """Arguments as they were written; the digest of a shown one is made when it is looked at."""

    __slots__ = ("_items",)

    def __init__(self, items: dict[str, Any]) -> None:
        self._items = items

    def __getitem__(self, name: str) -> Argument:
        found = self._items[name]
        if type(found) is not Argument:
            found = self._items[name] = Argument(Digest.of(digest_bytes(found[1])), found[1], True)
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __repr__(self) -> str:
        return repr(dict(self))

    def __reduce__(self) -> tuple[Any, ...]:
        return dict, (dict(self),)


def read_arguments(text: str) -> Mapping[str, Argument]:
    """What `arguments_text` wrote.

    Raises:
        DamagedValue: it is not.
    """
    try:
        return ReadArguments({_name(item[0]): _item(item) for item in json.loads(text)})
    except (ValueError, TypeError, LookupError, RecursionError) as error:
        raise DamagedValue("a call's arguments are damaged") from error


def read_metadata(text: Any) -> dict[str, Any]:
    """A call's metadata; of damaged text nothing, as nothing relies on it."""
    try:
        found = json.loads(text) if text else {}
    except (ValueError, TypeError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _name(found: Any) -> str:
    if type(found) is not str:
        raise TypeError
    return found


def _item(item: list[Any]) -> Any:
    if len(item) == 2 and type(item[1]) in _SCALARS:
        return item
    _, _, digest = item
    return Argument(Digest(digest))


_SCALARS = frozenset({str, int, float, bool, type(None)})


def make(c: sqlite3.Connection) -> None:
    """Make the tables in an empty file; check the version of one that has some, and bring an older
    one up to date. One that can only be read stays as old as it is.

    Raises:
        NewerSchema: a newer wellkept made it.
        sqlite3.DatabaseError: the file is damaged.
    """
    c.execute("PRAGMA recursive_triggers = ON")  # a row that is replaced is deleted, too
    found = _schema_of(c)
    if found < SCHEMA:
        try:
            _add(c)
        except sqlite3.OperationalError as error:
            if not found or not error.sqlite_errorname.startswith("SQLITE_READONLY"):
                raise


def _add(c: sqlite3.Connection) -> None:
    """What is missing, in one transaction."""
    c.execute("BEGIN IMMEDIATE")
    try:
        found = _schema_of(c)  # somebody may have been faster
        for version, since in _TABLES.items():
            for statement in since if version > found else ():
                c.execute(statement)
        _mark(c)
        c.execute("COMMIT")
    except BaseException:
        c.execute("ROLLBACK")
        raise


def _schema_of(c: sqlite3.Connection) -> int:
    """The version of the tables that are there, all of them; 0 of an empty file."""
    (version,) = c.execute("PRAGMA user_version").fetchone()
    query = "SELECT name, sql FROM sqlite_master WHERE type IN ('table', 'trigger')"
    tables = dict(c.execute(query))
    if not tables and version == 0:
        return 0
    text = _marked(c) if "meta" in tables else ""
    marked = int(text) if text.isascii() and text.isdigit() else 0
    # One flipped bit must not look like a version: the number stands in two places.
    meant = next((n for n in reversed(_TABLES) if _meant(version, text, n)), 0)
    newest = max(version, marked)
    if newest > SCHEMA and not meant:
        raise NewerSchema(
            f"a newer wellkept made this cache (schema {newest}; this one knows {SCHEMA}): "
            "upgrade wellkept, or choose another directory"
        )
    # Their text too: `id INTEGEr PRIMARY KEY` is the row's number, and `id INTEGES PRIMARY KEY` finds
    # no row that was there before.
    texts = {str(sql) for sql in tables.values()}
    made = {s for n, since in _TABLES.items() if n <= meant for s in since if s[:6] == "CREATE"}
    if not meant or not texts >= made:
        raise sqlite3.DatabaseError("malformed: the tables are not those of a kept index")
    if meant == SCHEMA and (version, text) != (SCHEMA, str(SCHEMA)):
        _mark(c)
    return meant


def _meant(version: int, text: str, n: int) -> bool:
    """Whether the two places say `n`, but for a bit of one of them."""
    if text == str(n):
        return (version ^ n).bit_count() <= 1
    return version == n and _one_bit(text, str(n))


def _mark(c: sqlite3.Connection) -> None:
    c.execute("INSERT OR REPLACE INTO meta VALUES ('schema', ?)", (str(SCHEMA),))
    c.execute(f"PRAGMA user_version = {SCHEMA}")


def _marked(c: sqlite3.Connection) -> str:
    row = c.execute("SELECT value FROM meta WHERE name = 'schema'").fetchone()
    return str(row[0]) if row else ""


def _one_bit(found: str, meant: str) -> bool:
    if len(found) != len(meant):
        return False
    return sum((ord(a) ^ ord(b)).bit_count() for a, b in zip(found, meant, strict=True)) == 1


def _statements(text: str) -> list[str]:
    return [part.strip() for part in re.split(r";\n(?=CREATE|UPDATE|$)", text) if part.strip()]


# There is no 3: one flipped bit would make it of 1 or of 2.
_TABLES = {1: _statements(_FIRST), 2: _statements(_SECOND), 4: _statements(_FOURTH)}
"""What each version added, or changed."""


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
        metadata=read_metadata(metadata),
    )
