"""The tables of an index, and a full check of their rows.

A hit relies on bodies and heads alone, which have checksums. The other columns (names, arguments, times) are
for people and queries, and are checked here too: the function, code and arguments of a call must give its key.
"""

from __future__ import annotations

import json
import math
import re
import sqlite3
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from wellkept.codecs import Envelope
from wellkept.errors import DamagedValue, NewerSchema
from wellkept.hashing.digests import call_key
from wellkept.records import Argument, Call, Digest
from wellkept.stores.record_format import (
    BODY_SIZE,
    STATES,
    Body,
    read_arguments,
    read_metadata,
    rowid,
    seal,
    unseal,
)
from wellkept.stores.sqlite_file import Database

# Beginnings of the codes that are part of a key. (`none` is another.)
_KEYED = ("deep:", "deep2:", "code:", "version:")
# Rows of one statement. No row is larger than about 64 KiB, so a page takes 32 MB at the most.
_PAGE = 500


@dataclass(frozen=True, slots=True)
class CallRow:
    """A row of `calls` with the rows of `functions` and `uses` that belong to it, as found."""

    id: Any
    key: Any
    body: Any
    value: Any
    result: Any
    name: Any
    code: Any
    arguments: Any
    created: Any
    seconds: Any
    size: Any
    expires: Any
    metadata: Any
    uses: Any
    used: Any

    # As blobs, because the driver refuses a whole page of rows for one text that is not UTF-8.
    QUERY = """SELECT c.id, c.key, c.body, c.value, c.result, CAST(f.name AS BLOB),
CAST(f.code AS BLOB), CAST(c.arguments AS BLOB), c.created, c.seconds, c.size, c.expires,
CAST(c.metadata AS BLOB), u.uses, u.used
FROM calls c LEFT JOIN functions f ON f.id = c.function LEFT JOIN uses u ON u.id = c.id"""

    def read(self) -> tuple[Call, Envelope | None]:
        """Return the record, and the envelope of its result if that is in the same row.

        Raises:
            DamagedValue: the row is not what was written.
            DecodeError: a newer version of wellkept wrote it.
        """
        body, envelope = self.sealed()
        for name, found, meant in (
            ("result", self.result, rowid(body.result)),
            ("created", self.created, body.created),
            ("seconds", self.seconds, body.seconds),
            ("size", self.size, body.size),
            ("expires", self.expires, None if math.isinf(body.expires) else body.expires),
        ):
            if found != meant:
                raise DamagedValue(
                    f"its column {name} is {found!r:.40}, but was written as {meant!r}"
                )
        function, code = _text("function", self.name), _text("code", self.code)
        arguments = _arguments(_text("arguments", self.arguments))
        names = ((name, argument.digest.raw) for name, argument in arguments.items())
        if (code == "none" or code.startswith(_KEYED)) and (
            call_key(function, code, names) != self.key
        ):
            raise DamagedValue("its function, code and arguments do not give its key")
        call = Call(
            key=Digest.of(self.key),
            function=function,
            code=code,
            arguments=arguments,
            result=Digest.of(body.result),
            state=STATES[body.state],
            created=body.created,
            seconds=body.seconds,
            size=body.size,
            expires=self.expires,
            uses=self.uses if type(self.uses) is int else 0,
            used=float(self.used) if type(self.used) in (int, float) else None,
            metadata=_metadata(self.metadata),
        )
        return call, envelope

    def sealed(self) -> tuple[Body, Envelope | None]:
        """Return the parts that a hit relies on; raises as `read`."""
        content = _unseal(self.id, self.key, self.body)
        try:
            body = Body.unpack(content)
        except struct.error as error:
            raise DamagedValue("its body is cut short") from error
        if body.state >= len(STATES):
            raise DamagedValue(f"its state is unknown: {body.state}")
        times = (body.created, body.seconds, 0.0 if math.isinf(body.expires) else body.expires)
        if not all(map(math.isfinite, times)):
            raise DamagedValue("its times are not numbers")
        return body, Envelope.unpack(content[BODY_SIZE:]) if len(content) > BODY_SIZE else None


@dataclass(frozen=True, slots=True)
class ValueRow:
    """A row of `values`, as found."""

    id: Any
    digest: Any
    head: Any
    size: Any

    QUERY = 'SELECT c.id, c.digest, c.head, c.size FROM "values" c'

    def read(self) -> Envelope:
        """Return the envelope.

        Raises:
            DamagedValue: the row is not what was written.
            DecodeError: a newer version of wellkept wrote it.
        """
        # A row's number comes from its checksum; of one that was put by hand, or before schema 4, from its
        # digest.
        sealed = self.head if type(self.head) is bytes else b""
        by = sealed if self.id == rowid(sealed) else self.digest
        envelope = Envelope.unpack(_unseal(self.id, self.digest, self.head, by))
        if type(self.size) is not int or self.size < 0:
            raise DamagedValue(f"its size is {self.size!r:.40}")
        return envelope


Rows = Iterator[tuple[Any, ...]]


def scan(database: Database, query: str, where: str = "1") -> Rows:
    """Yield the rows of a query on a table `c`, in the order in which they stand in it, a page at a time.

    Raises:
        sqlite3.Error: the table can't be read further.
    """
    # One statement for the whole table would be a read transaction for minutes, and the log could not be folded
    # into the file meanwhile. Between two pages others write.
    query = query.replace("SELECT ", "SELECT c.rowid, ", 1)
    statement = f"{query} WHERE c.rowid > ? AND {where} ORDER BY c.rowid LIMIT {_PAGE}"
    first = statement.replace("c.rowid > ?", "c.rowid >= ?")
    last: Any = None
    while True:
        with database.lock:
            c = database.connection
            rows = c.execute(*((first, (-(2**63),)) if last is None else (statement, (last,))))
            page = rows.fetchall()
        for _, *row in page:
            yield tuple(row)
        if len(page) < _PAGE or type(page[-1][0]) is not int or page[-1][0] == last:
            return
        last = page[-1][0]


def _unseal(id_: Any, name: Any, sealed: Any, by: Any = None) -> bytes:
    if type(name) is not bytes or len(name) != 32:
        raise DamagedValue("its digest is invalid")
    if id_ != rowid(name if by is None else by):
        raise DamagedValue("its id does not match its digest")
    if type(sealed) is not bytes:
        raise DamagedValue("its checksum is missing")
    try:
        return unseal(name, sealed)
    except DamagedValue:
        raise DamagedValue("its checksum does not match") from None


def _text(what: Literal["function", "code", "arguments"], found: Any) -> str:
    try:
        if isinstance(found, bytes):
            return found.decode()
    except UnicodeDecodeError:
        pass
    raise DamagedValue(f"its {what} can't be read")


def _arguments(text: str) -> Mapping[str, Argument]:
    try:
        arguments = read_arguments(text)
    # A damaged text may hold anything, and fail in any way.
    except Exception as error:
        raise DamagedValue("its arguments can't be read") from error
    if not all(type(name) is str for name in arguments):
        raise DamagedValue("its arguments can't be read")
    return arguments


def _metadata(found: Any) -> dict[str, Any]:
    if found is None:
        return {}
    try:
        metadata = json.loads(found)
    except (ValueError, TypeError, RecursionError) as error:
        raise DamagedValue("its metadata can't be read") from error
    if not isinstance(metadata, dict):
        raise DamagedValue("its metadata can't be read")
    return metadata


SCHEMA = 7
"""The version of the tables of a new index; kept in `PRAGMA user_version` and in the table `meta`."""

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

# Before schema 4 a value was named by its digest, and digests leave some things out: the order of a dict, the
# layout of an array. If several calls gave a value, or its size is not the one that its call names, whose bytes
# it has can't be told, so it is computed again. All others are found as they are.
_FOURTH = """
UPDATE calls SET value = NULL WHERE value IS NOT NULL AND (
  value IN (SELECT value FROM calls WHERE value IS NOT NULL GROUP BY value HAVING count(*) > 1)
  OR size <> (SELECT v.size FROM "values" v WHERE v.id = calls.value));
"""

# Since schema 7 calls stand in the order in which they came: a thousand new ones fill a few pages of the table,
# where rows in the order of their ids, which are random, would change a thousand. The index comes last, so that
# all tables begin at the same pages as before.
_SEVENTH = """
CREATE UNIQUE INDEX calls_id ON calls (id);
"""


def make(c: sqlite3.Connection) -> None:
    """Make the tables of an index, or check their version and migrate them; a read-only file stays as it is.

    Raises:
        NewerSchema: a newer wellkept made it.
        sqlite3.DatabaseError: the file is damaged.
    """
    # Without this, INSERT OR REPLACE deletes a row without running the trigger that watches deletions.
    c.execute("PRAGMA recursive_triggers = ON")
    found = _schema_of(c)
    if found not in _CURRENT:
        try:
            _add(c)
        except sqlite3.OperationalError as error:
            if not found or not error.sqlite_errorname.startswith("SQLITE_READONLY"):
                raise


def _add(c: sqlite3.Connection) -> None:
    """Add the tables that are missing, in one transaction."""
    c.execute("BEGIN IMMEDIATE")
    try:
        # Read again under the lock, as another process may have been faster.
        found = _schema_of(c)
        if found not in _CURRENT:
            version = max(_OLD) if found else SCHEMA
            for statement in _texts(version)[len(_texts(found)) :]:
                c.execute(statement)
            _mark(c, version)
        c.execute("COMMIT")
    except BaseException:
        c.execute("ROLLBACK")
        raise


def _schema_of(c: sqlite3.Connection) -> int:
    """Return the version of the tables, all of which must exist; 0 for an empty file."""
    (version,) = c.execute("PRAGMA user_version").fetchone()
    query = "SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL"
    tables = dict(c.execute(query))
    if not tables and version == 0:
        return 0
    text = _marked(c) if "meta" in tables else ""
    marked = int(text) if text.isascii() and text.isdigit() else 0
    # The number is in two places, so that one flipped bit does not look like another version.
    meant = next((n for n in (SCHEMA, *reversed(_OLD)) if _meant(version, text, n)), 0)
    newest = max(version, marked)
    if newest > SCHEMA and not meant:
        raise NewerSchema(
            f"a newer wellkept made this cache (schema {newest}; this one knows {SCHEMA}): "
            "upgrade wellkept, or choose another directory"
        )
    # Their text is compared too: `id INTEGER PRIMARY KEY` is the row's number, but with one flipped bit, `id
    # INTEGES PRIMARY KEY`, it is another column, and no row would be found.
    texts = {str(sql) for sql in tables.values()}
    made = {statement for statement in _texts(meant) if statement.startswith("CREATE")}
    if not meant or not texts >= made:
        raise sqlite3.DatabaseError("malformed: the tables are not those of a kept index")
    if meant in _CURRENT and (version, text) != (meant, str(meant)):
        _mark(c, meant)
    return meant


def _meant(version: int, text: str, n: int) -> bool:
    """Return whether the two places say `n`, but for one bit of one of them."""
    if text == str(n):
        return (version ^ n).bit_count() <= 1
    return version == n and _one_bit(text, str(n))


def _mark(c: sqlite3.Connection, version: int) -> None:
    c.execute("INSERT OR REPLACE INTO meta VALUES ('schema', ?)", (str(version),))
    c.execute(f"PRAGMA user_version = {version}")


def _marked(c: sqlite3.Connection) -> str:
    row = c.execute("SELECT value FROM meta WHERE name = 'schema'").fetchone()
    return str(row[0]) if row else ""


def _one_bit(found: str, meant: str) -> bool:
    if len(found) != len(meant):
        return False
    return sum((ord(a) ^ ord(b)).bit_count() for a, b in zip(found, meant, strict=True)) == 1


def _statements(text: str) -> list[str]:
    return [part.strip() for part in re.split(r";\n(?=CREATE|UPDATE|$)", text) if part.strip()]


# There is no 3, as one flipped bit would make it 1 or 2; nor 5 or 6.
_OLD = {1: _statements(_FIRST), 2: _statements(_SECOND), 4: _statements(_FOURTH)}
"""The statements that each version added, up to the last one in which ids are the row numbers of calls."""
_CURRENT = (max(_OLD), SCHEMA)
"""The versions that stay as they are: to write all calls of an old index anew could take minutes."""


def _texts(version: int) -> list[str]:
    """Return the statements that make the tables of a version."""
    if version == SCHEMA:
        first = _FIRST.replace("calls (id INTEGER PRIMARY KEY", "calls (id INTEGER NOT NULL")
        return [one for part in (first, _SECOND, _SEVENTH) for one in _statements(part)]
    return [statement for n, since in _OLD.items() if n <= version for statement in since]


def call_row(row: tuple[Any, ...]) -> Call:
    """Return a `Call` from `key, body, name, code, arguments, metadata, uses, used`.

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


CALL = """SELECT c.key, c.body, f.name, f.code, c.arguments, c.metadata, u.uses, u.used FROM calls c
LEFT JOIN functions f ON f.id = c.function LEFT JOIN uses u ON u.id = c.id """


def put_value(c: sqlite3.Connection, digest: bytes, head: bytes, size: int) -> None:
    """Put a value under a digest by hand; `Values` returns it from then on."""
    row, sealed = rowid(digest), seal(digest, head)
    # Before schema 4 calls named their values so. Such a value stays theirs: it moves to the row of its
    # checksum.
    old = c.execute('SELECT head FROM "values" WHERE id = ?', (row,)).fetchone()
    if old is not None and type(old[0]) is bytes and old[0] != sealed:
        given = c.execute("SELECT 1 FROM calls WHERE value = ? LIMIT 1", (row,)).fetchone()
        if given is not None:
            moved = (rowid(old[0]), row)
            c.execute('UPDATE OR REPLACE "values" SET id = ? WHERE id = ?', moved)
            c.execute("UPDATE calls SET value = ? WHERE value = ?", moved)
    c.execute('INSERT OR REPLACE INTO "values" VALUES (?,?,?,?)', (row, digest, sealed, size))


def keys_of(database: Database, query: str, column: str, prefix: str) -> Iterator[str]:
    """Yield the digests that `query` selects and that begin with `prefix`."""
    where, bounds = between(column, prefix)
    found = (row[0].hex() for row in database.rows(f"{query} WHERE {where}", *bounds))
    return (key for key in found if key.startswith(prefix))


def between(column: str, prefix: str) -> tuple[str, list[int]]:
    """Return a condition on an id, which is the first eight bytes of a digest."""
    if not prefix:
        return "1", []
    if not may_begin(prefix):
        return "0", []
    bounds = [rowid(bytes.fromhex(prefix[:16].ljust(16, end))) for end in "0f"]
    return f"{column} BETWEEN ? AND ?", bounds


def may_begin(prefix: str) -> bool:
    """Return whether a digest may begin so."""
    return len(prefix) <= 64 and not set(prefix) - set("0123456789abcdef")
