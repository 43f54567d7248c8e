"""Named state in one SQLite file, beside the index of a cache or alone.

A file of its own: the memory tier of kept results is emptied by each commit to the index, and state is
written often.
"""

from __future__ import annotations

import sqlite3
import threading
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from wellkept.errors import DamagedValue, NewerSchema, StoreError
from wellkept.interrupts import settling
from wellkept.kv.entry import HISTORY, About, Entry, Name, Step
from wellkept.kv.plan import Op, Planned, Put, View, removing
from wellkept.kv.sql_state import COLUMNS, Look, Session, SqlEntries, tables
from wellkept.kv.sweeper import forget
from wellkept.stores.filesystem import private_file
from wellkept.stores.sql_dialects import Dialect
from wellkept.stores.sqlite_file import Database

R = TypeVar("R")

_SCHEMA = 1
_APPLICATION = 0x6B657074  # "kept"
_VIEW = """
CREATE VIEW state AS SELECT s.collection,
  CASE WHEN s.scope <> '' THEN substr(s.scope, 2) END AS scope, s.store,
  substr(e.name, instr(e.name, '/') + 1) AS key, e.json AS value, e.revision, e.policy,
  datetime(e.updated, 'unixepoch') AS updated, datetime(e.expires, 'unixepoch') AS expires
  FROM entries e JOIN stores s ON s.id = e.store
  WHERE e.expires IS NULL OR e.expires > (julianday('now') - 2440587.5) * 86400.0
"""
_NAMES = {
    **{name: name for name in ("entries", "stores", "log", "head", "expiring", "evictable")},
    "now": "?",
    "low": "s.id || '/'",
    "high": "s.id || '0'",
    "newest": "(SELECT max(revision) FROM log)",
    "replacing": Dialect.replacing(*COLUMNS),
}
_HEAD = "SELECT {newest}"
_GET = "SELECT json, item, revision, created, updated, expires, policy FROM entries WHERE name = ?"
_TIER = 10_000  # entries that are held in memory
_SMALL = 16 * 1024  # bytes of one of them
_LARGEST = 999_000_000  # bytes of a value; a row of SQLite has at most 1,000,000,000
_texts: dict[str, str] = {}


class SqliteEntries(SqlEntries):
    """`Entries` in a file.

    Args:
        path: the file; made when needed.
        durable: a change survives a power cut once it is made.
        trust: take values from a file that others can write to.
        network: the file is on a network file system; found out by default.
        history: how many changes the log holds.

    Raises:
        UntrustedSource: others can write to the file or its directory, and it is not trusted.
        StoreError: the file can't be opened, or a newer wellkept made it.
    """

    def __init__(
        self,
        path: Path,
        *,
        durable: bool = False,
        trust: bool = False,
        network: bool | None = None,
        history: int = HISTORY,
    ) -> None:
        super().__init__(history)
        self.ahead: float = 0.0
        self.path = path
        self._how = (durable, network)
        private_file(path, trust)
        self.database: Database = Database(
            path, make_tables, durable=durable, network=network, disposable=False
        )
        self._sweeper: Database | None = None
        self._tier: tuple[Any, dict[tuple[Name, str], Entry]] = (None, {})
        self._last: tuple[Any, int, Name | None] = (None, 0, None)
        """The token after the last change of our own, its revision, and its store if that has no
        limits."""
        self._words: memoryview | None = None
        mine = weakref.ref(self)  # the database outlives this, until it is closed

        def changed() -> None:
            if (found := mine()) is not None:
                found._changed()

        self.database.changed = changed
        weakref.finalize(self, self.database.close)
        self.database.open()

    def _changed(self) -> None:
        self._words = self.database.words
        self._tier, self._last = (None, {}), (None, 0, None)
        self.numbers.clear()  # it may be another file

    # -- the engine -------------------------------------------------------------------------------

    def now(self) -> float:
        return time.time() + self.ahead

    @property
    def clock(self) -> float:
        return time.time() + self.ahead

    @settling
    def reading(self, on: str, do: Callable[..., R], *arguments: Any) -> R:
        try:
            with self.database.lock:
                return do(_Session(self.database.connection, self.ahead), *arguments)
        except (sqlite3.Error, UnicodeDecodeError) as error:
            raise self.database.failed("read", error) from error

    def head(self, session: Session) -> int:
        return int(session.rows(_HEAD)[0][0] or 0)

    # -- what is faster here ----------------------------------------------------------------------

    def get(self, name: Name, key: str) -> Entry | None:
        words = self._words
        token = None
        tier = self._tier
        if words is not None:
            try:
                token = (words[1], words[5])
            except ValueError:  # closed by another thread
                token = None
            if token is not None and token == tier[0]:
                found = tier[1].get((name, key))
                if found is not None:
                    if found.expires is not None and found.expires <= self.now():
                        return None
                    return found
            else:
                tier = (token, {})
                self._tier = tier
        number = self.numbers.get(name)
        if number is None:
            number = self.reading(repr(key), self.number, name)
            if number is None:
                return None
        row = self.database.fetch(_GET, f"{number}/{key}")  # type: ignore[arg-type]  # one value of any type
        if row is None:
            return None
        text, item, revision, created, updated, expires, policy = row
        data = item if text is None else text
        if data is None:
            raise DamagedValue(f"the entry {key!r} is damaged: it has no value")
        entry = Entry(key, data, revision, created, updated, expires, policy)
        if token is not None and len(data) <= _SMALL and len(tier[1]) < _TIER:
            self._hold(tier, (name, key), entry)
        if expires is not None and expires <= self.now():
            return None
        return entry

    @settling
    def _hold(self, tier: tuple[Any, dict[Any, Entry]], key: Any, entry: Entry) -> None:
        with self.database.lock:  # or a commit that the dict follows could come in between
            if self._tier is tier:
                tier[1][key] = entry

    def apply(self, name: Name, steps: Sequence[Step]) -> list[Entry | None] | None:
        for step in steps:
            if isinstance(step.data, (str, bytes)) and len(step.data) > _LARGEST:
                raise StoreError(
                    f"can't keep {len(step.data):,} bytes under {step.key!r}: SQLite holds less than "
                    "1 GB in a row; keep the value in a file, or with @keep, and its digest here"
                )
        return super().apply(name, steps)

    @settling
    def change(self, on: str, plan: Callable[[View], Planned[R]]) -> R:
        ops: Sequence[Op] = ()

        def then(step: Any) -> None:
            if ops and step is not None:
                self._follow(step, ops, look)

        with self.database.writing(then) as c:
            look = _Look(self, _Session(c, self.ahead))
            result, ops = self._change(look.session, plan, look)
        return result

    def _follow(self, step: Any, ops: Sequence[Op], look: Look) -> None:
        """Bring the tier to after a commit of our own, which changed nothing but these keys."""
        token, held = self._tier
        if token != step[0]:
            held = {}
        for op in ops:
            if isinstance(op, Put) and len(op.entry.data) <= _SMALL and len(held) < _TIER:
                held[op.name, op.key] = op.entry
            elif not isinstance(op, About):
                held.pop((op.name, op.key), None)
        self._tier = (step[1], held)
        unlimited = ops[0].name if look.limited is False else None
        self._last = (step[1], look.session.revision, unlimited)

    @settling
    def remove(self, name: Name | None, which: str, limit: int | None) -> int:
        if name is not None:
            return super().remove(name, which, limit)
        # By a connection of its own: who reads meanwhile waits neither for its lock nor when it
        # folds the log into the file.
        if self._sweeper is None:
            self._sweeper = Database(
                self.path, make_tables, durable=self._how[0], network=self._how[1], disposable=False
            )
            weakref.finalize(self, self._sweeper.close)
        with self._sweeper.writing() as c:
            session = _Session(c, self.ahead)
            return self._change(session, lambda view: removing(view, None, which, limit))[0]

    def wait(self, since: int, timeout: float) -> None:
        """Until somebody commits, which the log's index in memory shows."""
        deadline = time.monotonic() + timeout
        pause = 0.001
        before = self.database.token()
        if self.newest() > since:
            return
        while (left := deadline - time.monotonic()) > 0:
            _nap.wait(min(pause, left))
            if before is None or self.database.token() != before:
                return
            pause = min(pause * 1.5, 0.02)

    def close(self) -> None:
        forget(self)
        self.database.close()
        if self._sweeper is not None:
            self._sweeper.close()


_nap = threading.Event()  # never set: a pause that a signal's handler may end


class _Look(Look):
    """A `View` that has an entry in memory if nobody else has committed since: it saves a statement
    of those that change the same keys again and again."""

    __slots__ = ()

    def found(self, name: Name, steps: Sequence[Step]) -> Mapping[str, Entry]:
        entries: Any = self.of
        token, held = entries._tier
        at, revision, unlimited = entries._last
        # The transaction has begun, so that no other one can come between this look and its end.
        if len(steps) == 1 and unlimited == name and at == token == entries.database.token():
            entry = held.get((name, steps[0].key))
            if entry is not None:
                self.limited = False
                self.session.revision = revision
                return {entry.key: entry}
        return super().found(name, steps)


class _Session:
    """A connection of this process, with its lock held."""

    __slots__ = ("_ahead", "_connection", "_now", "_revision")

    def __init__(self, connection: sqlite3.Connection, ahead: float) -> None:
        self._connection = connection
        self._ahead = ahead
        self._now = 0.0
        self._revision: int | None = None

    @property
    def revision(self) -> int:
        if self._revision is None:
            self._revision = int(self.rows(_HEAD)[0][0] or 0)
        return self._revision

    @revision.setter
    def revision(self, revision: int) -> None:
        self._revision = revision

    def begun(self, revision: int | None) -> None:
        if self._revision is None:
            self._revision = revision or 0

    def rows(self, text: str, *values: Any) -> list[Any]:
        return self._connection.execute(_texts.get(text) or _plain(text), values).fetchall()

    def run(self, text: str, *values: Any) -> int:
        return self._connection.execute(_texts.get(text) or _plain(text), values).rowcount

    def many(self, text: str, part: str, rows: Sequence[Sequence[Any]]) -> None:
        found = _texts.get(text) or _plain(text, part)
        if len(rows) == 1:
            self._connection.execute(found, rows[0])
        else:
            self._connection.executemany(found, rows)

    def now(self) -> float:
        if not self._now:
            self._now = time.time() + self._ahead
        return self._now


def _plain(text: str, part: str = "*") -> str:
    found = text.replace("*", part).format(**_NAMES)
    if len(_texts) < 500:
        _texts[text] = found
    return found


def make_tables(c: sqlite3.Connection) -> None:
    """Make the tables of named state in a file that is new, or check those that are there."""
    if _check(c):
        return
    with c:
        c.execute("BEGIN IMMEDIATE")
        if not _check(c):  # nobody was faster
            for statement in (*tables("sqlite", _NAMES), _VIEW):
                c.execute(statement)
            c.execute(f"PRAGMA user_version = {_SCHEMA}")
            c.execute(f"PRAGMA application_id = {_APPLICATION}")


def _check(c: sqlite3.Connection) -> bool:
    """Whether the tables are there."""
    (version,) = c.execute("PRAGMA user_version").fetchone()
    (owner,) = c.execute("PRAGMA application_id").fetchone()
    query = "SELECT group_concat(name) FROM sqlite_master WHERE type = 'table'"
    tables = set((c.execute(query).fetchone()[0] or "").split(","))
    if tables == {""}:
        return False
    if owner != _APPLICATION or not {"entries", "stores", "log"} <= tables:
        raise StoreError(
            f"{_file(c)} is a database, but not one of named state that wellkept made: move it away"
        )
    if version > _SCHEMA:
        raise NewerSchema(
            f"a newer wellkept made {_file(c)} (schema {version}; this one knows {_SCHEMA}): "
            "upgrade wellkept, or choose another place"
        )
    return True


def _file(c: sqlite3.Connection) -> str:
    return str(c.execute("PRAGMA database_list").fetchone()[2])
