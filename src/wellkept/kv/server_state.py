"""Named state in tables of PostgreSQL or MariaDB, on the connections of an `Sql` medium.

Each write holds the one row of the table `head`, which counts revisions, until it is committed: so
writers of all hosts take turns, and revisions are in the order of commits. Time is the server's.
"""

from __future__ import annotations

import contextlib
import os
import select
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from wellkept.errors import KeptError, NewerSchema, StoreError
from wellkept.interrupts import Guard, settling
from wellkept.kv.entry import HISTORY
from wellkept.kv.sql_state import COLUMNS, Session, SqlEntries, expanded, tables
from wellkept.stores.sql import Sql
from wellkept.stores.sql_dialects import trouble

R = TypeVar("R")

_SCHEMA = 1
_ROWS = 100  # rows in one statement,
_BYTES = 1_000_000  # and bytes, after which no more are added
_SLOW = 0.25  # seconds between looks for news where nobody tells of them
_NOBODY: Any = None


class ServerEntries(SqlEntries):
    """`Entries` in a database.

    Args:
        medium: whose connections are used; the tables' names begin with its table's name.
        history: how many changes the log holds.
    """

    def __init__(self, medium: Sql, history: int = HISTORY) -> None:
        super().__init__(history)
        self.ahead: float = 0.0
        self._connections = medium.connections
        self._dialect = d = self._connections.dialect
        table = f"{d.table}_state"
        quoted = d.names["items"]
        mark = quoted[0] if not quoted[0].isalnum() and quoted[0] != "_" else ""
        names = {name: f"{table}_{name}" for name in ("stores", "log", "head")}
        names |= {"entries": table, "expiring": f"{table}_exp", "evictable": f"{table}_evict"}
        self._names = {name: f"{mark}{text}{mark}" for name, text in names.items()}
        self._names |= {
            "now": d.now,
            "low": d.joined("s.id", "'/'"),
            "high": d.joined("s.id", "'0'"),
            "newest": "NULL",
            "replacing": d.replacing(*COLUMNS),
        }
        self.table = table
        self._texts: dict[str, str] = {}
        self.ready: bool = False
        self._making = Guard()
        self._local = threading.local()

    # -- the engine -------------------------------------------------------------------------------

    def text(self, statement: str) -> str:
        """A statement for the driver."""
        found = self._texts.get(statement)
        if found is None:
            found = statement.format(**self._names).replace("?", self._dialect.mark)
            if len(self._texts) < 500:
                self._texts[statement] = found
        return found

    @property
    def clock(self) -> float:
        return self.ahead

    def now(self) -> float:
        found: float = self.reading("the time", _Session.now)
        return found

    @settling
    def reading(self, on: str, do: Callable[..., R], *arguments: Any) -> R:
        done: R = self._connections.run("read", on, self._reading, do, arguments)
        return done

    def _reading(self, connection: Any, do: Callable[..., R], arguments: Sequence[Any]) -> R:
        self._prepare(connection)
        try:
            return do(_Session(self, connection), *arguments)
        except self._errors() as error:
            self._noted(error)
            raise

    @settling
    def writing(self, on: str, do: Callable[..., R], *arguments: Any) -> R:
        done, error = self._connections.run("replace", on, self._transaction, do, arguments)
        if error is not None:
            raise error
        made: R = done
        return made

    def _transaction(self, connection: Any, do: Callable[..., R], arguments: Sequence[Any]) -> Any:
        self._prepare(connection)
        run = self._dialect.run
        try:
            run(connection, "BEGIN", ())
            session = _Session(self, connection)
            try:
                session.begin()
                done = do(session, *arguments)
            except KeptError as error:  # the connection is as good as before
                run(connection, "ROLLBACK", ())
                self.numbers.clear()
                return None, error
            session.end()
            run(connection, "COMMIT", ())
        except self._errors() as error:
            self._noted(error)
            raise
        return done, None

    def _errors(self) -> Any:
        return self._connections.errors

    def _noted(self, error: BaseException) -> None:
        if trouble(error, Exception).no_table:  # somebody dropped them
            self.ready = False
            self.numbers.clear()

    def head(self, session: Session) -> int:
        return int(session.rows("SELECT revision FROM {head}")[0][0])

    # -- the tables -------------------------------------------------------------------------------

    def _prepare(self, connection: Any) -> None:
        if self.ready:
            return
        with self._making:
            text = self.text("SELECT version FROM {head}")
            try:
                found = self._dialect.rows(connection, text, ())
            except self._errors() as error:
                if not trouble(error, Exception).no_table:
                    raise
                found = []
            if not found:  # or somebody is making them: MariaDB shows each at once
                statements = tables(self._dialect.name, self._names)
                self._dialect.make_tables(connection, self.table, statements)
                found = self._dialect.rows(connection, text, ())
            version = int(found[0][0])
            if version > _SCHEMA:
                raise NewerSchema(
                    f"a newer wellkept made the named state in {self._connections.backend} (schema "
                    f"{version}; this one knows {_SCHEMA}): upgrade wellkept, or choose another table"
                )
            self.ready = True

    # -- waiting ----------------------------------------------------------------------------------

    def wait(self, since: int, timeout: float) -> None:
        deadline = time.monotonic() + timeout
        pause = 0.01
        listening = self._listening()
        while self.newest() <= since and (left := deadline - time.monotonic()) > 0:
            if listening is None:
                time.sleep(min(pause, left))
                pause = min(pause * 1.5, _SLOW)
                continue
            try:
                if select.select([listening.pgconn.socket], [], [], left)[0]:
                    listening.pgconn.consume_input()
                    while listening.pgconn.notifies() is not None:
                        pass
            except Exception:  # noqa: BLE001  of the driver or the socket: it is only a wake-up
                self._local.listening = None
                listening = None

    def _listening(self) -> Any:
        if not self._dialect.notifies:
            return None
        known: Any = getattr(self._local, "listening", None)
        pid, found = known or (0, _NOBODY)
        if pid != os.getpid() or found.closed:
            self._local.listening = None
            with contextlib.suppress(Exception):  # without one there is a look now and then
                found = self._connections.apart()
                found.execute(f'LISTEN "{self.table}"')
                self._local.listening = os.getpid(), found
                return found
            return None
        return found

    def close(self) -> None:
        known: Any = getattr(self._local, "listening", None)
        pid, found = known or (0, _NOBODY)
        self._local.listening = None
        if pid == os.getpid():
            found.close()


class _Session:
    """A connection; in a transaction that writes it knows the revision and the time."""

    def __init__(self, owner: ServerEntries, connection: Any) -> None:
        self._owner = owner
        self._connection = connection
        self._dialect = owner._dialect
        self._now: float | None = None
        self._begun = self.revision = 0

    def begun(self, revision: int | None) -> None:
        """`begin` knows it."""

    def begin(self) -> None:
        text = "SELECT revision, {now} FROM {head} FOR UPDATE"
        rows = self.rows(text, self._owner.ahead)
        if not rows:  # somebody emptied the table
            self._owner.ready = False
            raise StoreError("named state was removed at this moment; try again")
        ((revision, now),) = rows
        self._begun = self.revision = int(revision)
        self._now = float(now)

    def end(self) -> None:
        if self.revision != self._begun:
            self.run("UPDATE {head} SET revision = ?", self.revision)
            self._dialect.notify(self._connection, self._owner.table)

    def rows(self, text: str, *values: Any) -> list[Any]:
        return self._dialect.rows(self._connection, self._owner.text(text), values)

    def run(self, text: str, *values: Any) -> int:
        return self._dialect.run(self._connection, self._owner.text(text), values)

    def many(self, text: str, part: str, rows: Sequence[Sequence[Any]]) -> None:
        at = 0
        while at < len(rows):
            values: list[Any] = []
            begin, size = at, 0
            # A server takes only so much in one statement.
            while at < len(rows) and at - begin < _ROWS and size < _BYTES:
                values += rows[at]
                size += sum(len(value) for value in rows[at] if isinstance(value, (str, bytes)))
                at += 1
            self.run(expanded(text, part, at - begin), *values)

    def now(self) -> float:
        if self._now is None:
            return float(self.rows("SELECT {now}", self._owner.ahead)[0][0])
        return self._now
