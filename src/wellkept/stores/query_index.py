"""The tables by which queries find calls, and how they are kept up to date.

A commit does not fill the tables. It adds its row to a small file that all processes map (the ring), and the
next query fills in what they lack. To note the row in a table would dirty one more page, a tenth of what the
commit costs; a word of a mapped file costs next to nothing. The file is written inside write transactions of
the index only, so by one process at a time, and before the commit, so that it never lacks a row that is
committed.

The file has 64 bytes, of which three words are used, and then the latest rows, over and over::

    "keptring" | identity u64 | how many rows there were u64 | 0 … | CAPACITY rows i64
"""

from __future__ import annotations

import contextlib
import functools
import json
import mmap
import os
import re
import sqlite3
import struct
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple

from wellkept._system import pread, pwrite
from wellkept.errors import StoreError
from wellkept.hashing import digest_bytes
from wellkept.stores.filesystem import open_regular
from wellkept.stores.notes import has_table
from wellkept.stores.sqlite_file import Database

CAPACITY = 16_384
"""Rows that the file holds; older ones are overwritten."""

_HEAD = 64
_SIZE = _HEAD + 8 * CAPACITY
_START = struct.Struct("<8sQQ")
_IDENTITY, _COUNT = 1, 2


class Ring:
    """A mapping of the file, which is made anew if it is missing or damaged.

    Everything here must be called inside a write transaction of the index.

    Raises:
        OSError: it can't be made or mapped.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        fd = open_regular(path, os.O_RDWR | os.O_CREAT)
        try:
            if os.fstat(fd).st_size != _SIZE or pread(fd, 8, 0) != b"keptring":
                os.ftruncate(fd, 0)
                # Written and not left sparse: on a full disk this is an error here, while writing to a mapped
                # page that has no block would kill the process by SIGBUS.
                pwrite(fd, bytes(_SIZE), 0)
                pwrite(fd, _START.pack(b"keptring", int.from_bytes(os.urandom(7), "big"), 0), 0)
            found = os.fstat(fd)
            self._inode = found.st_dev, found.st_ino
            self._map = mmap.mmap(fd, _SIZE)
        finally:
            os.close(fd)
        self._words = memoryview(self._map).cast("Q")
        self._rows = memoryview(self._map)[_HEAD:].cast("q")

    @property
    def identity(self) -> int:
        """Return the number of this file; another one has another."""
        return self._words[_IDENTITY]

    @property
    def count(self) -> int:
        """Return how many rows were ever added."""
        return self._words[_COUNT]

    def add(self, rows: Iterable[int]) -> int:
        """Add rows; return how many were added in all."""
        # The rows before their count: a process that is killed in between leaves rows that do not count.
        words, held = self._words, self._rows
        count = words[_COUNT]
        for row in rows:
            held[count % CAPACITY] = row
            count += 1
        words[_COUNT] = count
        return count

    def since(self, count: int) -> Iterator[int]:
        """Return the rows that were added after the first `count`; they must not be overwritten yet."""
        return (self._rows[n % CAPACITY] for n in range(count, self.count))

    def gone(self) -> bool:
        """Return whether the file was removed or replaced since it was mapped."""
        try:
            found = os.stat(self.path)  # noqa: PTH116  it costs a third of Path.stat
        except OSError:
            return True
        return (found.st_dev, found.st_ino) != self._inode

    def close(self) -> None:
        self._words.release()
        self._rows.release()
        self._map.close()

    @staticmethod
    def look(path: Path) -> tuple[int, int] | None:
        """Return identity and count of a file that is only read; None if it is missing or damaged."""
        try:
            with os.fdopen(open_regular(path), "rb") as file:
                magic, identity, count = _START.unpack(file.read(_START.size))
        except (OSError, struct.error):
            return None
        return (identity, count) if magic == b"keptring" else None

    @staticmethod
    def read(path: Path, identity: int, count: int) -> list[int] | None:
        """Return the rows that were added after the first `count`, from a file that is only read.

        None if it is another file, or if they are overwritten.
        """
        try:
            with os.fdopen(open_regular(path), "rb") as file:
                content = file.read()
            magic, found, now = _START.unpack_from(content)
        except (OSError, struct.error):
            return None
        if magic != b"keptring" or found != identity or not 0 <= now - count <= CAPACITY:
            return None
        rows = memoryview(content)[_HEAD:].cast("q")
        return [rows[n % CAPACITY] for n in range(count, now)] if len(content) == _SIZE else None


FIRST = "0"
"""The position at which a scan begins."""
# Kinds of terms: a column of SQLite has no types, so 1, 1.0 and True are told apart by these.
DIGEST, METADATA = 5, 6
_KINDS = {int: 0, float: 1, bool: 2, str: 3, type(None): 4}
Row = tuple[Any, ...]
"""What the tables are made of: the number of a call's row, its function, `created`, arguments, metadata."""
# Rows of a scan in one transaction, for whose end other writers wait.
_STEP = 20_000
# Terms of deleted calls are removed when there are this many more of these than of calls.
_STALE = 1_000
_decoder: Any = json.JSONDecoder()
# This takes half the time of json.loads.
_scan = _decoder.scan_once
_ROW = "SELECT id, function, created, arguments, metadata FROM calls"
_LISTED = (
    "SELECT l.call, l.function, l.created, c.arguments, c.metadata FROM listed l "
    "CROSS JOIN calls c ON c.id = l.call"
)


def tidy(c: sqlite3.Connection) -> None:
    """Remove what deleted calls have left, inside a write transaction."""
    c.execute(
        "DELETE FROM terms AS t WHERE NOT EXISTS (SELECT 1 FROM listed l WHERE "
        "l.function = t.function AND l.created = t.created AND l.call = t.call)"
    )
    c.execute("DELETE FROM links WHERE call NOT IN (SELECT id FROM calls)")
    c.execute(
        "DELETE FROM notes WHERE key >= 'leaves/' AND key < 'leaves0' AND key NOT IN "
        "(SELECT 'leaves/' || lower(hex(key)) FROM calls)"
    )
    c.execute("UPDATE tally SET gone = 0")


def scan_on(c: sqlite3.Connection, scanned: str) -> str:
    """Take the next step of a scan; return its new position, or an empty text at the end."""
    # First all calls are listed. Then the terms of each are added in the order of that list, which is nearly
    # the order of the terms' table, so that inserting them touches few pages.
    if scanned == FIRST:
        whole = "typeof(function) = 'integer' AND typeof(created) = 'real'"
        found = f"SELECT function, created, id FROM calls WHERE {whole} ORDER BY 1, 2, 3"
        c.execute(f"INSERT OR IGNORE INTO listed {found}")
        c.execute("DELETE FROM tally")
        c.execute("INSERT INTO tally SELECT function, count(*), 0 FROM listed GROUP BY function")
        return "-1,0,0"
    function, created, row = scanned.split(",")
    after = int(function), float(created), int(row)
    after_this = "(l.function, l.created, l.call) > (?, ?, ?)"
    joined = f"{_LISTED} WHERE {after_this} ORDER BY l.function, l.created, l.call LIMIT ?"
    rows = c.execute(joined, (*after, _STEP)).fetchall()
    _insert_terms(c, rows)
    if len(rows) < _STEP:
        return ""
    last = rows[-1]
    return f"{last[1]},{last[2]!r},{last[0]}"


def fill(c: sqlite3.Connection, rows: Iterable[int]) -> None:
    """Add these calls to the tables, inside a write transaction."""
    wanted = json.dumps(list(rows))
    found = c.execute(f"{_ROW} WHERE id IN (SELECT value FROM json_each(?))", (wanted,))
    _take_in(c, found.fetchall())


def _take_in(c: sqlite3.Connection, rows: list[Row]) -> None:
    _insert(c, rows)
    (calls, gone) = c.execute("SELECT sum(calls), sum(gone) FROM tally").fetchone()
    if (gone or 0) > _STALE + (calls or 0):
        tidy(c)


def _insert(c: sqlite3.Connection, rows: list[Row]) -> None:
    listed: dict[int, list[tuple[int, float, int]]] = defaultdict(list)
    for row, function, created, *_ in rows:
        # A row with columns of other types is damaged.
        if type(function) is int and type(created) is float:
            listed[function].append((function, created, row))
    for function, some in listed.items():
        some.sort()
        new = c.executemany("INSERT OR IGNORE INTO listed VALUES (?,?,?)", some).rowcount
        c.execute(
            "INSERT INTO tally VALUES (?,?,0) ON CONFLICT DO UPDATE SET calls = calls + excluded.calls",
            (function, new),
        )
    _insert_terms(c, rows)


def _insert_terms(c: sqlite3.Connection, rows: list[Row]) -> None:
    terms: list[tuple[Any, ...]] = []
    links: list[tuple[int, int]] = []
    for row, function, created, arguments, metadata in rows:
        if type(function) is int and type(created) is float:
            _terms(terms, links, row, function, created, arguments)
            if metadata is not None:
                terms += [
                    (function, name, value, created, row, METADATA)
                    for name, value in tags(metadata)
                ]
                links += [
                    (int(key[:16], 16) - (int(key[0], 16) > 7) * 2**64, row)
                    for key in _PARENT(str(metadata))
                ]
    # Nearly in the order of the table, so that inserting them touches few pages.
    terms.sort(key=_BY_NAME)
    c.executemany("INSERT OR IGNORE INTO terms VALUES (?,?,?,?,?,?)", terms)
    if links:
        c.executemany("INSERT OR IGNORE INTO links VALUES (?,?)", links)


_BY_NAME = itemgetter(0, 1)
_PARENT = re.compile(r'"parent":\s*"([0-9a-f]{64})"').findall
"""Finds the keys of the calls that made this one; they are linked to it as its arguments are."""


def _terms(
    terms: list[tuple[Any, ...]],
    links: list[tuple[int, int]],
    row: int,
    function: Any,
    created: Any,
    arguments: Any,
) -> None:
    """Add the terms and links of a call's arguments; of a damaged row none, as its record is never read."""
    try:
        for item in _scan(arguments, 0)[0]:
            name = argument_name(item[0])
            if len(item) == 2:
                value = item[1]
                kind = 0 if type(value) is int else -1
                if kind or not -(2**63) <= value < 2**63:
                    value, kind = stored(value)
                terms.append((function, name, value, created, row, kind))
            else:
                raw = bytes.fromhex(item[2])
                terms.append((function, name, raw[:16], created, row, DIGEST))
                links.append((int.from_bytes(raw[:8], "big", signed=True), row))
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError, StopIteration):
        pass


def stored(value: Any) -> tuple[Any, int]:
    """Return a scalar argument as the table has it, and its kind."""
    kind = _KINDS[type(value)]
    if value is None:
        return b"", kind
    # SQLite has integers of 64 bits and text of UTF-8; all others are found by their digest.
    if kind == 0 and not -(2**63) <= value < 2**63:
        return digest_bytes(value)[:16], DIGEST
    if kind == 3:
        try:
            value.encode()
        except UnicodeEncodeError:
            return digest_bytes(value)[:16], DIGEST
    return value, kind


@functools.lru_cache(1000)
def argument_name(name: str) -> str:
    """Return the name of an argument's term; one that could be a tag's, or is not UTF-8, is changed."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return f"@?{json.dumps(name)}"
    return f"@{name}" if name.startswith("@") else name


def tag_name(path: tuple[str, ...]) -> str:
    """Return the name of the term of a part of the metadata that has one: the run, and each tag."""
    return "@" + json.dumps(path)


def tags(metadata: Any) -> list[tuple[str, Any]]:
    """Return names and values of the terms of a call's metadata."""
    # Most calls have neither, and this spares parsing their metadata.
    if '"run"' not in metadata and '"tags"' not in metadata:
        return []
    try:
        said = json.loads(metadata)
        found: list[tuple[tuple[str, ...], Any]] = [(("run",), said.get("run"))]
        tagged = said.get("tags")
        if isinstance(tagged, dict):
            found += [(("tags", name), value) for name, value in tagged.items()]
        return [
            (tag_name(path), stored(value)[0])
            for path, value in found
            if type(value) in _KINDS and value is not None
        ]
    except (ValueError, TypeError, AttributeError, KeyError, RecursionError):
        return []


BATCH = 1_000
"""Rows in the ring from which a commit brings the tables up to date, long before the ring is full."""
MANY = 100
"""Rows of one commit from which on they are taken in with it, which spares reading them again."""
_MARK = "SELECT value FROM meta WHERE name = 'queries'"


class _Mark(NamedTuple):
    """How far the tables are filled."""

    identity: int
    taken: int
    scanned: str = ""
    """The position of an unfinished scan; empty if all rows are in."""

    def __str__(self) -> str:
        return f"{self.identity}:{self.taken}:{self.scanned}"


# The tables are filled by each commit, without a ring.
_DIRECT = _Mark(0, 0)


class Listing:
    """Keeps the tables of one embedded store up to date.

    Args:
        database: of the index.
        path: of the ring.
        direct: whether each commit fills the tables.
    """

    def __init__(self, database: Database, path: Path, *, direct: bool) -> None:
        self._database = database
        self._path = path
        self._direct = direct
        self._ring: Ring | None = None
        # How many rows of the ring the tables have, at the least; None if that is not known.
        self._in: int | None = None

    # -- writing ----------------------------------------------------------------------------------

    def add(self, c: sqlite3.Connection, rows: Sequence[int], whole: Iterable[Row] = ()) -> None:
        """Note the rows of calls, inside the write transaction that wrote them.

        Args:
            whole: what is in them, where they are many.
        """
        # Other hosts don't share the mapped file, so there the tables are filled by each commit.
        if self._database.network:
            mark = _marked(c)
            if mark == _DIRECT or (mark is None and _only(c, rows)):
                fill(c, rows)
                _set(c, _DIRECT)
            elif mark is not None:
                # The tables were kept with a ring, which does not get this row.
                forget(c)
            return
        try:
            ring = self._ring
            if ring is None:
                ring = self._opened(c)
            mark = self._drain(c) if len(rows) >= MANY and self._in is not None else None
            count = ring.add(rows)
        except OSError:
            forget(c)
            return
        if mark is not None and (mark.identity, mark.taken) == (ring.identity, count - len(rows)):
            _take_in(c, list({row[0]: row for row in whole}.values()))
            _set(c, mark._replace(taken=count))
            self._in = count
            return
        if self._in is None:
            mark = _marked(c)
            if mark is None and _only(c, rows):
                mark = self._begin(c, count - len(rows))
            self._in = count if mark is None else mark.taken
        if self._direct or count - self._in >= BATCH:
            self._drain(c)

    def _opened(self, c: sqlite3.Connection) -> Ring:
        if self._ring is None:
            self._ring = Ring(self._path)
        return self._ring

    def look(self) -> None:
        """Check now and then that the ring was not removed; if it was, a scan finds what the tables lack."""
        if self._ring is not None and self._ring.gone():
            # If the index is busy, the next check does it.
            with contextlib.suppress(StoreError):
                with self._database.writing(adds=True) as c:
                    forget(c)
                self.close()

    def close(self) -> None:
        """Unmap the ring; the next commit or query maps it again."""
        self._ring, self._in = None, None

    def reset(self) -> None:
        """Forget what is known of the tables, after a transaction was rolled back or the index replaced."""
        self._in = None

    # -- bringing up to date ----------------------------------------------------------------------

    def current(self) -> bool:
        """Bring the tables up to date; return whether that could be done.

        Raises:
            StoreError: the index can't be read or written.
        """
        database = self._database
        if database.readonly:
            return self._seen_current()
        with database.lock:
            if self._known_current():
                return True
        # A transaction for each step, so that other writers get their turn during a long scan.
        done = False
        while not done:
            with database.writing(adds=True) as c:
                done = self._step(c)
        return True

    def lacking(self) -> list[int] | None:
        """Return the rows that the tables lack, without adding them; None if that is not known.

        Raises:
            StoreError: the index can't be read.
        """
        if not has_table(self._database, "terms"):
            return None
        rows = list(self._database.rows(_MARK))
        mark = _parsed(rows[0][0]) if rows else None
        if mark is None or mark.scanned:
            return None
        if mark == _DIRECT:
            return []
        if self._database.network:
            return None
        return Ring.read(self._path, mark.identity, mark.taken)

    def _seen_current(self) -> bool:
        if not has_table(self._database, "terms"):
            return False
        rows = list(self._database.rows(_MARK))
        mark = _parsed(rows[0][0]) if rows else None
        return mark is not None and (
            mark == _DIRECT
            or (not mark.scanned and Ring.look(self._path) == (mark.identity, mark.taken))
        )

    def _known_current(self) -> bool:
        rows = list(self._database.rows(_MARK))
        mark = _parsed(rows[0][0]) if rows else None
        if mark is None or mark.scanned:
            return False
        if self._database.network:
            return mark == _DIRECT
        ring = self._ring
        if ring is None or ring.gone():
            return False
        return (ring.identity, ring.count) == (mark.identity, mark.taken)

    def _step(self, c: sqlite3.Connection) -> bool:
        """Take a step towards being up to date; return whether it was the last."""
        mark = _marked(c)
        if self._database.network:
            if mark is None or (mark != _DIRECT and mark.identity):
                mark = self._begin(c, 0, _DIRECT._replace(scanned=FIRST))
        else:
            if self._ring is None or self._ring.gone():
                try:
                    self._ring = Ring(self._path)
                except OSError as error:
                    raise StoreError(f"can't make {self._path}: {error}") from error
            ring = self._ring
            lost = mark is None or mark.identity != ring.identity
            if mark is None or lost or not 0 <= ring.count - mark.taken <= CAPACITY:
                mark = self._begin(c, ring.count, _Mark(ring.identity, ring.count, FIRST))
            mark = self._drain(c)
        if not mark.scanned:
            return True
        last = scan_on(c, mark.scanned)
        _set(c, mark._replace(scanned=last))
        return not last

    def _begin(self, c: sqlite3.Connection, count: int, mark: _Mark | None = None) -> _Mark:
        """Empty the tables, and set how far they are filled."""
        if mark is None:
            mark = _Mark(self._opened(c).identity, count)
        for table in ("listed", "tally", "terms", "links"):
            c.execute(f"DELETE FROM {table}")
        _set(c, mark)
        return mark

    def _drain(self, c: sqlite3.Connection) -> _Mark:
        """Add the rows of the ring to the tables, if these were ever begun."""
        ring, mark = self._opened(c), _marked(c)
        self._in = ring.count
        if mark is None or mark.identity != ring.identity:
            return mark or _DIRECT
        new = ring.count - mark.taken
        if not 0 <= new <= CAPACITY:
            return mark
        if new:
            fill(c, set(ring.since(mark.taken)))
            mark = mark._replace(taken=ring.count)
            _set(c, mark)
        return mark


def forget(c: sqlite3.Connection) -> None:
    """Mark the tables as not up to date, inside a write transaction; a scan will make them anew."""
    c.execute("DELETE FROM meta WHERE name = 'queries'")


def _only(c: sqlite3.Connection, rows: Sequence[int]) -> bool:
    """Return whether there are no other calls than these, so that tables that begin now lack none."""
    most = len(set(rows)) + 1
    return len(c.execute("SELECT 1 FROM calls LIMIT ?", (most,)).fetchall()) < most


def _marked(c: sqlite3.Connection) -> _Mark | None:
    row = c.execute(_MARK).fetchone()
    return _parsed(row[0]) if row else None


def _parsed(text: Any) -> _Mark | None:
    try:
        identity, count, scanned = str(text).split(":")
        return _Mark(int(identity), int(count), scanned)
    except ValueError:
        return None


def _set(c: sqlite3.Connection, mark: _Mark) -> None:
    c.execute("INSERT OR REPLACE INTO meta VALUES ('queries', ?)", (str(mark),))
