"""Items that have an order, tags and times of use, in the file of a directory's named state.

Entries of named state have none of these, and every medium would have to be given them; these are of the
embedded medium alone, where a table and SQLite's transactions have them for less than a second entry for
each would cost.
"""

from __future__ import annotations

import contextlib
import math
import os
import sqlite3
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar

from wellkept.errors import NewerSchema, StoreError
from wellkept.interrupts import Guard, settle, settling
from wellkept.kv.sqlite_state import make_tables
from wellkept.stores.filesystem import private_file
from wellkept.stores.sqlite_file import DRIVER, Database

R = TypeVar("R")

Execute = Callable[..., sqlite3.Cursor]
"""Runs a statement in the transaction that is open."""
Gone = Callable[[str], object]
"""Takes the name of a file that nothing needs once the transaction is committed."""

_SCHEME = 1
_ROOM = 32_768  # KiB of the file that each connection holds in memory
_FREE = 256  # pages without content from which on a file is made smaller,
_MOVED = 16_384  # and pages with content up to which that is
_TURN = 0.05
"""Seconds for which SQLite waits at a time: nothing interrupts it, and other threads wait behind it."""
_COUNTED = "value {} CASE key WHEN 'count' THEN 1 ELSE {}.size END WHERE key IN ('count', 'size')"
_TABLES = (
    "CREATE TABLE Settings (key TEXT PRIMARY KEY, value) WITHOUT ROWID",
    f"INSERT INTO Settings VALUES ('scheme', {_SCHEME}), ('count', 0), ('size', 0), ('hits', 0), "
    "('misses', 0)",
    "CREATE TABLE Cache (rowid INTEGER PRIMARY KEY, key BLOB NOT NULL, raw INTEGER NOT NULL, "
    "given BLOB, store_time REAL NOT NULL, expire_time REAL, access_time REAL NOT NULL, "
    "access_count INTEGER NOT NULL, tag BLOB, size INTEGER NOT NULL, mode INTEGER NOT NULL, "
    "filename TEXT, value BLOB)",
    "CREATE UNIQUE INDEX Cache_key ON Cache (key, raw)",
    "CREATE INDEX Cache_expire_time ON Cache (expire_time) WHERE expire_time IS NOT NULL",
    "CREATE TRIGGER Cache_insert AFTER INSERT ON Cache BEGIN UPDATE Settings SET value = "
    f"{_COUNTED.format('+', 'NEW')}; END",
    "CREATE TRIGGER Cache_update AFTER UPDATE OF size ON Cache WHEN NEW.size <> OLD.size BEGIN "
    "UPDATE Settings SET value = value + NEW.size - OLD.size WHERE key = 'size'; END",
    "CREATE TRIGGER Cache_delete AFTER DELETE ON Cache BEGIN UPDATE Settings SET value = "
    f"{_COUNTED.format('-', 'OLD')}; END",
)


class Timeout(StoreError):  # noqa: N818  diskcache's name
    """Another process or thread has been writing for longer than the timeout."""


class Transaction:
    """One that a thread holds open: it has a connection of its own, so that others go on reading."""

    __slots__ = ("connection", "database", "gone", "made", "over", "process")

    database: Database

    def __init__(self, database: Database, connection: sqlite3.Connection) -> None:
        self.database, self.connection = database, connection
        self.process: int = os.getpid()
        self.over: bool = False
        self.gone: list[str] = []
        """Files of values that nothing needs once it is committed."""
        self.made: list[str] = []
        """Files of values that nothing needs if it is rolled back."""

    def do(self, what: Callable[..., R], *arguments: Any) -> R:
        """What it gives, with the driver's errors translated."""
        try:
            return what(*arguments)
        except DRIVER as error:
            raise self.database.failed("use", error) from error


class OrderedItems:
    """The table of a directory, `state.sqlite`, and the transactions of this process on it.

    Args:
        directory: made when needed.
        remove: removes a file of a value, by its name.
        timeout: seconds to wait for others that write.
        trust: take values from a file that others can write to.

    Raises:
        UntrustedSource: others can write to the file or its directory, and it is not trusted.
        StoreError: the file can't be opened, or a newer wellkept made it.
    """

    def __init__(
        self, directory: Path, remove: Callable[[str], object], timeout: float, *, trust: bool
    ) -> None:
        self.path: Path = directory / "state.sqlite"
        self._remove, self._timeout = remove, timeout
        self._guard = Guard()
        self._free: list[Database] = []
        """Connections that transactions have had."""
        self._mine = threading.local()
        private_file(self.path, trust)
        self.database: Database = self._opened(timeout)
        self.database.open()
        # Another one: who reads does not wait for a thread that waits for its turn to write.
        self._writer = self._opened()

    def _opened(self, most: float = _TURN) -> Database:
        busy = min(self._timeout, most)
        made = Database(self.path, _make, disposable=False, busy=busy)
        made.room = _ROOM
        weakref.finalize(self, made.close)
        return made

    @property
    def transaction(self) -> Transaction | None:
        """The one that this thread holds open."""
        found: Transaction | None = getattr(self._mine, "transaction", None)
        if found is None:
            return None
        if found.process != os.getpid():  # it is the parent's, which goes on with it
            self._mine.transaction = None
            return None
        if not found.connection.in_transaction:
            raise StoreError(
                f"the transaction on {self.path} is over: SQLite has rolled it back; leave its block"
            )
        return found

    # -- reading ----------------------------------------------------------------------------------

    def row(self, query: str, value: Any) -> Any:
        """The one row of a point read, or None."""
        mine = self.transaction
        if mine is not None:
            return mine.do(lambda: mine.connection.execute(query, (value,)).fetchone())
        return self.database.fetch(query, value)

    def rows(self, query: str, *values: Any) -> list[Any]:
        """All that a query selects."""
        mine = self.transaction
        if mine is not None:
            return mine.do(lambda: mine.connection.execute(query, values).fetchall())
        return list(self.database.rows(query, *values))

    # -- writing ----------------------------------------------------------------------------------

    @settling
    def write(self, retry: bool, do: Callable[..., R], *arguments: Any) -> R:
        """`do(execute, gone, …)` as one transaction, or as a part of the one that this thread holds open;
        `gone` takes the names of files that nothing needs afterwards.

        Args:
            retry: wait for others for as long as it takes.

        Raises:
            Timeout: others were writing for longer than the timeout.
        """
        mine = self.transaction
        if mine is not None:
            return mine.do(do, mine.connection.execute, mine.gone.append, *arguments)
        until = self._until(retry)
        while True:
            gone: list[str] = []
            try:
                with self._writer.writing() as c:
                    result = do(c.execute, gone.append, *arguments)
                break
            except StoreError as error:
                self._wait(error, until)
        for name in gone:
            self._remove(name)
        return result

    def _until(self, retry: bool) -> float:
        """When a wait that begins now is over."""
        return math.inf if retry else time.monotonic() + self._timeout

    def _wait(self, error: StoreError, until: float) -> None:
        """Return to try again, or raise what this error means."""
        cause = error.__cause__
        busy = isinstance(cause, sqlite3.OperationalError) and cause.sqlite_errorname.startswith(
            ("SQLITE_BUSY", "SQLITE_LOCKED")
        )
        if not busy:
            raise error
        if time.monotonic() >= until:
            raise Timeout(
                f"can't write to {self.path}: others were writing for {self._timeout:g} seconds; take a "
                "longer timeout, or retry=True"
            ) from cause
        time.sleep(0.001)

    @contextlib.contextmanager
    def transact(self, retry: bool) -> Iterator[None]:
        """A transaction that this thread holds open for a block; a part of the one that it holds already.

        Raises:
            Timeout: others were writing for longer than the timeout.
        """
        if self.transaction is not None:
            yield
            return
        made: Transaction | None = None
        try:
            made = self._begun(retry)
            self._mine.transaction = made
            # From here on what an exception elsewhere has repaired must not end it: the first call of
            # this thread is under way for as long as it is.
            made.database.writer = _first_call()
            yield
            self._ended(made, "COMMIT")
        except BaseException as error:
            try:
                if made is not None and not made.over:
                    self._ended(made, "ROLLBACK")
            finally:
                self._mine.transaction = None
                if not isinstance(error, Exception):
                    # One may come between any two instructions: nothing is to stay open.
                    if made is not None:
                        made.database.writer = None
                    settle()
            raise

    def _begun(self, retry: bool) -> Transaction:
        with self._guard:
            database = self._free.pop() if self._free else None
        database, until = database or self._opened(), self._until(retry)
        while True:
            # Held to the end: another thread that repairs what it left would take this for its own.
            database.lock.acquire()
            try:
                made = Transaction(database, database.connection)
                database.writer = sys._getframe()
                made.do(made.connection.execute, "BEGIN IMMEDIATE")
                return made  # noqa: TRY300  no instruction may stand between the two
            except StoreError as error:
                database.lock.release()
                try:
                    self._wait(error, until)
                except BaseException:
                    self._give(database)
                    raise

    def _give(self, database: Database) -> None:
        with self._guard:
            self._free.append(database)

    def _ended(self, mine: Transaction, how: str) -> None:
        self._mine.transaction = None
        if mine.process != os.getpid():
            return
        database = mine.database
        # If not, SQLite has ended it, or an exception came just after it did.
        was_open = mine.connection.in_transaction
        try:
            mine.connection.execute(how)
        except DRIVER as error:
            if how == "COMMIT":
                raise database.failed("write to", error) from error
        finally:
            database.writer = None
            database.roll_back()
            if database.lock._is_owned():
                database.lock.release()
            mine.over = True
            self._give(database)
        if was_open:
            for name in mine.gone if how == "COMMIT" else mine.made:
                self._remove(name)

    def give_back(self) -> None:
        """Give the room of what was removed back to the file system, if little is left to be moved."""
        # If another one writes now, there is room for what comes next.
        with contextlib.suppress(StoreError, sqlite3.Error), self._writer.lock:
            c = self._writer.connection
            ((free,),) = c.execute("PRAGMA freelist_count")
            ((pages,),) = c.execute("PRAGMA page_count")
            if free > max(_FREE, pages // 2) and pages - free < _MOVED:
                c.execute("VACUUM")
                # The file gets shorter now, or once nobody reads what was before.
                c.execute("PRAGMA wal_checkpoint").fetchall()

    def close(self) -> None:
        """Let go of connections; the next use opens them again."""
        with self._guard:
            free, self._free = self._free, []
        for database in (self.database, self._writer, *free):
            database.close()


def _first_call() -> FrameType:
    frame = sys._getframe()
    while frame.f_back is not None:
        frame = frame.f_back
    return frame


def _make(c: sqlite3.Connection) -> None:
    make_tables(c)
    there = "SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = 'Cache'"
    if not c.execute(there).fetchone()[0]:
        with c:
            c.execute("BEGIN IMMEDIATE")
            if not c.execute(there).fetchone()[0]:  # nobody was faster
                for statement in _TABLES:
                    c.execute(statement)
    ((scheme,),) = c.execute("SELECT value FROM Settings WHERE key = 'scheme'")
    if scheme > _SCHEME:
        raise NewerSchema(
            f"a newer wellkept made the items of this directory (scheme {scheme}; this one knows "
            f"{_SCHEME}): upgrade wellkept, or choose another place"
        )
