"""How PostgreSQL, MariaDB and SQLite differ: errors, statements, connections."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple, TypeVar

from wellkept._system import ready


class Trouble(NamedTuple):
    """An error of a driver, classified."""

    text: str
    undone: bool = False
    """Whether it was rolled back for the sake of another transaction, and can be tried again."""
    no_table: bool = False
    timeout: bool = False
    """Whether the server, or the network, does not answer."""


# By SQLSTATE (PostgreSQL), number (MariaDB) or the driver's words; the first that matches counts.
_KNOWN: tuple[tuple[str, str, str], ...] = (
    (
        r"28P01|28000|1045\b|1698\b|password authentication failed|no password supplied",
        "the user or the password is wrong",
        "",
    ),
    (
        r"3D000|1049\b|database \S+ does not exist|Unknown database",
        "there is no such database: make it, or name another in the URL",
        "",
    ),
    (
        r"resolve host|getaddrinfo|Name or service not known|name resolution|nodename nor servname",
        "the host is not known: check the URL",
        "",
    ),
    (
        r"53300|1040\b|1203\b|too many (clients|connections)",
        "the server has no connection left",
        "",
    ),
    (
        r"Connection refused|Errno 111\b",
        "no server answers there: start it, or check host and port in the URL",
        "",
    ),
    (
        r"no answer for|timed out|timeout expired|connection timeout",
        "the server does not answer in time",
        "timeout",
    ),
    (
        r"57014|1969\b|3024\b|statement timeout|max_statement_time",
        "the server took too long over it: it is overloaded, or `timeout` is too short",
        "",
    ),
    (r"40P01|40001|55P03|1213\b|1205\b|deadlock", "others write the same items", "undone"),
    (
        r"1153\b|max_allowed_packet|got a packet bigger|Got packet bigger",
        "the item is larger than the server's max_allowed_packet: raise that, up to 1 GiB, or keep "
        "values elsewhere, with wellkept.Cache(calls=…, values=…)",
        "",
    ),
    (
        r"25006|1290\b|1792\b|1836\b|read-only|readonly database",
        "the database is read-only",
        "",
    ),
    (
        r"42501|1142\b|1044\b|1227\b|permission denied",
        "the user has no right to do that: GRANT it, or have the tables made by one who has",
        "",
    ),
    (
        r"53100|1114\b|1021\b|disk is full|No space left|No room",
        "the server's disk, or the table, is full: free room there, or `wellkept gc` and `wellkept evict`",
        "",
    ),
    (
        r"42P01|1146\b|no such table",
        "the table is missing",
        "no_table",
    ),
    (
        r"42703|1054\b|1005\b.*errno: 150|no such column|has no column",
        "a table of that name exists that wellkept did not make: choose another `table`",
        "",
    ),
    (r"unable to open database file", "its directory is missing or can't be written to", ""),
    (r"database is locked", "another process holds the file for too long", ""),
    (r"not a database|malformed", "the file is no SQLite database, or a damaged one", ""),
    (r"54000|too big|invalid memory alloc", "the item is larger than a row can be", ""),
    (
        r"2006\b|2013\b|57P0\d|08\d\d\d|server closed the connection|connection (is )?(closed|lost)"
        r"|Broken pipe|reset by peer|not currently accepting|starting up|shutting down",
        "the server went away",
        "",
    ),
)


def trouble(error: BaseException, driver: type[BaseException]) -> Trouble:
    """Classify an error of a driver, of SQLAlchemy or of the network."""
    origin: Any = getattr(error, "orig", None) or error
    said = " ".join(str(origin).split())
    code = getattr(origin, "sqlstate", None) or (
        origin.args[0] if origin.args and isinstance(origin.args[0], int) else ""
    )
    for pattern, text, kind in _KNOWN:
        if re.search(f"(?i){pattern}", f"{code} {said}"):
            return Trouble(
                f"{text} ({said[:200]})",
                undone=kind == "undone",
                no_table=kind == "no_table",
                timeout=kind == "timeout",
            )
    if isinstance(error, (driver, OSError)) or said:
        return Trouble(f"{type(origin).__name__}: {said[:300]}")
    return Trouble(type(origin).__name__)


Statement = tuple[str, Sequence[Any]]
V = TypeVar("V")

# Rows in one statement; older SQLites take at most 999 values.
SOME = 500


class Dialect:
    """What the databases have in common; `name` is the URL's scheme.

    Args:
        quote: quotes a name.
        table: the name of the table of items.
        timeout: seconds without an answer after which a statement has failed.
        connect_timeout: seconds after which a connection has failed.
    """

    name: ClassVar[str]
    driver: ClassVar[str]
    """SQLAlchemy's name of dialect and driver."""
    module: ClassVar[str]
    """The driver's module, whose `Error` is the base of its errors."""
    extra: ClassVar[str]
    mark = "%s"
    unless = "ON CONFLICT (name) DO NOTHING"
    tables: ClassVar[str]
    now: ClassVar[str]
    """The server's clock in seconds since 1970, plus a value."""
    notifies = False
    """Whether a connection can wait for another one's `notify`."""

    def __init__(self, quote: Any, table: str, timeout: float, connect_timeout: float) -> None:
        self.names: dict[str, Any] = {
            "items": quote(table),
            "terms": quote(f"{table}_terms"),
            "meta": quote(f"{table}_meta"),
            "found": quote(f"{table}_terms_found"),
        }
        self.table = table
        self.timeout = timeout
        self.connect_timeout = connect_timeout
        self.get_text: str = self.text("SELECT item FROM {items} WHERE name = ?")

    def text(self, statement: str) -> str:
        """Return a statement for the driver."""
        return statement.format(**self.names).replace("?", self.mark)

    def connect(self, arguments: Sequence[Any], options: dict[str, Any]) -> Any:
        """Return a new connection that commits each statement by itself."""
        raise NotImplementedError

    def alive(self, connection: Any) -> bool:
        """Return whether the server has not closed an idle connection, without a trip."""
        return True

    def get(self, connection: Any, name: str) -> bytes | None:
        """Read one item, in one round trip."""
        found = self.rows(connection, self.get_text, (name,))
        return found[0][0] if found else None

    def rows(self, connection: Any, statement: str, values: Sequence[Any]) -> list[Any]:
        """Return all rows of a statement."""
        cursor = connection.cursor()
        cursor.execute(statement, values)
        found: list[Any] = cursor.fetchall()
        return found

    def run(self, connection: Any, statement: str, values: Sequence[Any]) -> int:
        """Run a statement; return how many rows it matched."""
        cursor = connection.cursor()
        cursor.execute(statement, values)
        count: int = cursor.rowcount
        return count

    def put(self, connection: Any, name: str, item: bytes, terms: list[tuple[str, bytes]]) -> None:
        """Insert or replace one item with its terms, in one round trip where the driver can."""
        self.together(connection, self.putting([(name, item)], {name: terms}))

    def putting(
        self, some: Sequence[tuple[str, bytes]], terms: Mapping[str, Sequence[tuple[str, bytes]]]
    ) -> Iterator[Statement]:
        """Yield the statements that insert or replace items with their terms."""
        values = ",".join(["(?, ?)"] * len(some))
        flat: list[Any] = [part for row in some for part in row]
        yield (
            self.text(
                f"INSERT INTO {{items}} (name, item) VALUES {values} {self.replacing('item')}"
            ),
            flat,
        )
        names = [name for name, _ in some]
        yield self.text(f"DELETE FROM {{terms}} WHERE name IN ({marks(names)})"), names
        for batch in batches(
            [(name, *term) for name in names for term in terms.get(name, ())], SOME
        ):
            values = ",".join(["(?, ?, ?)"] * len(batch))
            flat = [part for row in batch for part in row]
            yield self.text(f"INSERT INTO {{terms}} (name, field, value) VALUES {values}"), flat

    def create(self, connection: Any, name: str, item: bytes) -> bool:
        """Insert a row unless there is one; return whether there was none."""
        insert = self.text(f"INSERT INTO {{items}} (name, item) VALUES (?, ?) {self.unless}")
        return self.run(connection, insert, (name, item)) == 1

    def together(self, connection: Any, statements: Iterable[Statement]) -> None:
        """Run statements as one transaction, in one round trip where the driver can."""
        raise NotImplementedError

    def make(self, connection: Any) -> None:
        """Make the tables that are missing."""
        statements = [self.text(statement.strip()) for statement in self.tables.split(";")]
        self.make_tables(connection, self.table, statements)

    def make_tables(self, connection: Any, name: str, statements: Sequence[str]) -> None:
        """Run statements that make tables; no two processes do so at once for the same name."""
        raise NotImplementedError

    @classmethod
    def replacing(cls, *columns: str) -> str:
        """Return the clause by which an INSERT replaces these columns of a row with the same `name`."""
        sets = ", ".join(f"{column} = excluded.{column}" for column in columns)
        return f"ON CONFLICT (name) DO UPDATE SET {sets}"

    @classmethod
    def joined(cls, *parts: str) -> str:
        """Return the expression that joins texts."""
        return " || ".join(parts)

    def notify(self, connection: Any, channel: str) -> None:
        """Wake the connections that listen, once the transaction is committed."""


def marks(values: Iterable[Any]) -> str:
    """Return a placeholder for each value."""
    return ", ".join("?" for _ in values)


def batches(values: Iterable[V], size: int) -> Iterator[list[V]]:
    """Yield the values in lists of at most `size`."""
    rest = list(values)
    for at in range(0, len(rest), size):
        yield rest[at : at + size]


def _readable(fd: int) -> bool:
    # A server sends nothing on an idle connection except that it closes it, so this needs no trip.
    return ready(fd, 0)


class Postgresql(Dialect):
    """PostgreSQL, by psycopg 3."""

    # Items are stored without compression (EXTERNAL): the server would try to compress every large one, and
    # blobs that gain from it can be compressed before they are sent.

    name: ClassVar[str] = "postgresql"
    driver: ClassVar[str] = "postgresql+psycopg"
    module: ClassVar[str] = "psycopg"
    extra: ClassVar[str] = "postgresql"
    tables = """
CREATE TABLE IF NOT EXISTS {items} (name TEXT COLLATE "C" PRIMARY KEY, item BYTEA NOT NULL);
ALTER TABLE {items} ALTER COLUMN item SET STORAGE EXTERNAL;
CREATE TABLE IF NOT EXISTS {terms} (
  name TEXT COLLATE "C" NOT NULL REFERENCES {items} ON DELETE CASCADE,
  field TEXT COLLATE "C" NOT NULL, value BYTEA NOT NULL, PRIMARY KEY (name, field));
CREATE INDEX IF NOT EXISTS {found} ON {terms} (field, value, name);
CREATE TABLE IF NOT EXISTS {meta} (name TEXT COLLATE "C" PRIMARY KEY, value TEXT NOT NULL);
INSERT INTO {meta} VALUES ('schema', '1') ON CONFLICT DO NOTHING"""
    now = "(EXTRACT(EPOCH FROM clock_timestamp())::float8 + ?)"
    notifies = True

    def __init__(self, quote: Any, table: str, timeout: float, connect_timeout: float) -> None:
        super().__init__(quote, table, timeout, connect_timeout)
        self.put_text: str = self.text(
            "WITH gone AS (DELETE FROM {terms} WHERE name = ? AND field <> ALL(?::text[])), "
            f"put AS (INSERT INTO {{items}} (name, item) VALUES (?, ?) {self.replacing('item')}) "
            "INSERT INTO {terms} (name, field, value) "
            "SELECT ?, f, v FROM unnest(?::text[], ?::bytea[]) AS x (f, v) "
            "ON CONFLICT (name, field) DO UPDATE SET value = excluded.value"
        )

    def connect(self, arguments: Sequence[Any], options: dict[str, Any]) -> Any:
        import psycopg

        until = self.timeout

        class Connection(psycopg.Connection[Any]):
            def wait(self, gen: Any, interval: float = 0.1, **more: Any) -> Any:  # type: ignore[override]  # newer drivers take more
                return super().wait(_bounded(gen, until), interval, **more)

        options.setdefault("connect_timeout", max(2, int(self.connect_timeout)))
        options.setdefault("application_name", "wellkept")
        made: Any = Connection.connect(*arguments, **options, autocommit=True)
        made.execute(
            f"SET statement_timeout = {int(self.timeout * 1000)};"
            "SET default_transaction_isolation = 'read committed';"
            # Before a table has statistics, a bitmap scan would gather a million matches to count a thousand.
            "SET enable_bitmapscan = off"
        )
        # Making a cursor takes a quarter of the time of a point read, so each connection has one for ever.
        made.cursor_for_kept = made.cursor(binary=True)
        return made

    def alive(self, connection: Any) -> bool:
        return not _readable(connection.pgconn.socket)

    def get(self, connection: Any, name: str) -> bytes | None:
        found = connection.cursor_for_kept.execute(self.get_text, (name,)).fetchone()
        return found[0] if found else None

    def put(self, connection: Any, name: str, item: bytes, terms: list[tuple[str, bytes]]) -> None:
        # One prepared statement for any number of terms takes half the time of a pipeline. All its parts see
        # the tables as they were before it, so no two of them may touch one row.
        fields = [field for field, _ in terms]
        connection.cursor_for_kept.execute(
            self.put_text, (name, fields, name, item, name, fields, [value for _, value in terms])
        )

    def together(self, connection: Any, statements: Iterable[Statement]) -> None:
        # Outside of a transaction a pipeline is one itself: at its end all is committed, or nothing.
        with connection.pipeline(), connection.cursor() as cursor:
            for statement, values in statements:
                cursor.execute(statement, values)

    def make_tables(self, connection: Any, name: str, statements: Sequence[str]) -> None:
        # Two CREATE TABLE IF NOT EXISTS at once may both find no table, and one of them then fails.
        lock = f"SELECT pg_advisory_xact_lock(hashtext('kept {name}'))"
        connection.execute(";".join(["BEGIN", lock, *statements, "COMMIT"]))

    def notify(self, connection: Any, channel: str) -> None:
        self.rows(connection, "SELECT pg_notify(%s, '')", (channel,))


def _bounded(steps: Any, patience: float) -> Any:
    """Run a driver's generator; raise TimeoutError in it if nothing arrives for `patience` seconds."""
    # psycopg has no timeout of its own for reading, and the server's does not help when the network is cut off.
    try:
        wanted = next(steps)
        deadline = 0.0
        while True:
            ready = yield wanted
            if ready:
                deadline = 0.0
            elif not deadline:
                deadline = time.monotonic() + patience
            elif time.monotonic() > deadline:
                steps.throw(TimeoutError(f"no answer for {patience:g} s"))
            wanted = steps.send(ready)
    except StopIteration as done:
        return done.value


class Mariadb(Dialect):
    """MariaDB and MySQL, by PyMySQL."""

    name: ClassVar[str] = "mariadb"
    driver: ClassVar[str] = "mariadb+pymysql"
    module: ClassVar[str] = "pymysql"
    extra: ClassVar[str] = "mariadb"
    now = "(UNIX_TIMESTAMP(NOW(6)) + ?)"
    # VARBINARY, as text is compared without regard to spaces at its end.
    tables = """
CREATE TABLE IF NOT EXISTS {items} (name VARBINARY(255) PRIMARY KEY, item LONGBLOB NOT NULL)
  ENGINE = InnoDB;
CREATE TABLE IF NOT EXISTS {terms} (name VARBINARY(255) NOT NULL, field VARBINARY(255) NOT NULL,
  value VARBINARY(255) NOT NULL, PRIMARY KEY (name, field), KEY {found} (field, value, name),
  FOREIGN KEY (name) REFERENCES {items} (name) ON DELETE CASCADE) ENGINE = InnoDB;
CREATE TABLE IF NOT EXISTS {meta} (name VARBINARY(64) PRIMARY KEY, value VARCHAR(255) NOT NULL)
  ENGINE = InnoDB;
INSERT IGNORE INTO {meta} VALUES ('schema', '1')"""

    def connect(self, arguments: Sequence[Any], options: dict[str, Any]) -> Any:
        import pymysql
        from pymysql.constants import CLIENT

        options |= {"client_flag": CLIENT.FOUND_ROWS | CLIENT.MULTI_STATEMENTS, "autocommit": True}
        options.setdefault("connect_timeout", self.connect_timeout)
        options.setdefault("read_timeout", self.timeout)
        options.setdefault("write_timeout", self.timeout)
        options.setdefault("charset", "utf8mb4")
        made: Any = pymysql.connect(*arguments, **options)
        seconds = max(1, int(self.timeout))
        # READ COMMITTED locks rows and no gaps between them, so writers of different keys never wait for each
        # other.
        made.query(
            "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED;"
            f"SET sql_mode = 'STRICT_ALL_TABLES', innodb_lock_wait_timeout = {seconds}"
            f"/*M! , max_statement_time = {seconds} */"
        )
        _finished(made)
        return made

    def alive(self, connection: Any) -> bool:
        socket = connection._sock
        return socket is not None and not _readable(socket.fileno())

    def get(self, connection: Any, name: str) -> bytes | None:
        # A cursor would add a quarter of the time. A checked key has no character that needs an escape.
        connection.query(self.get_text % f"'{name}'")
        rows = connection._result.rows
        return rows[0][0] if rows else None

    def run(self, connection: Any, statement: str, values: Sequence[Any]) -> int:
        count: int = connection.query(self._filled(connection, statement, values))
        return count

    def create(self, connection: Any, name: str, item: bytes) -> bool:
        from pymysql.constants import ER
        from pymysql.err import IntegrityError

        insert = self.text("INSERT INTO {items} (name, item) VALUES (?, ?)")
        try:
            self.run(connection, insert, (name, item))
        except IntegrityError as error:
            if error.args[0] != ER.DUP_ENTRY:
                raise
            return False
        return True

    def together(self, connection: Any, statements: Iterable[Statement]) -> None:
        parts = [self._filled(connection, *statement) for statement in statements]
        connection.query(b";".join([b"BEGIN", *parts, b"COMMIT"]))
        _finished(connection)

    def make_tables(self, connection: Any, name: str, statements: Sequence[str]) -> None:
        lock = f"kept {name}"[:64]
        if not self.rows(connection, "SELECT GET_LOCK(%s, %s)", (lock, self.timeout))[0][0]:
            raise TimeoutError("another process is making the tables")
        try:
            for statement in statements:
                self.run(connection, statement, ())
        finally:
            self.rows(connection, "SELECT RELEASE_LOCK(%s)", (lock,))

    @classmethod
    def replacing(cls, *columns: str) -> str:
        sets = ", ".join(f"{column} = VALUES({column})" for column in columns)
        return f"ON DUPLICATE KEY UPDATE {sets}"

    @classmethod
    def joined(cls, *parts: str) -> str:
        return f"CONCAT({', '.join(parts)})"

    def _filled(self, connection: Any, statement: str, values: Sequence[Any]) -> bytes:
        # The driver would take a second to escape 64 MiB, and two bytes for each zero. In the `sql_mode` that
        # `connect` sets, only quotes and backslashes need an escape.
        first, *rest = statement.encode().split(b"%s")
        parts = [first]
        for value, text in zip(values, rest, strict=True):
            if isinstance(value, bytes):
                value = value.replace(b"\\", b"\\\\").replace(b"'", b"\\'")
                parts += (b"_binary'", value, b"'", text)
            else:
                parts += (connection.escape(value, connection.encoders).encode(), text)
        return b"".join(parts)


def _finished(connection: Any) -> None:
    """Wait until the last of several statements, the COMMIT, is done."""
    # `next_result` returns how many rows a statement matched; a 0 does not mean that it was the last, and an
    # error of a later statement is raised only when its result is read.
    while connection._result.has_next:
        connection.next_result()


class Sqlite(Dialect):
    """SQLite, by the standard library's driver."""

    name: ClassVar[str] = "sqlite"
    driver: ClassVar[str] = "sqlite+pysqlite"
    module: ClassVar[str] = "sqlite3"
    extra: ClassVar[str] = "sql"
    mark = "?"
    tables = """
CREATE TABLE IF NOT EXISTS {items} (name TEXT PRIMARY KEY, item BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS {terms} (name TEXT NOT NULL REFERENCES {items} ON DELETE CASCADE,
  field TEXT NOT NULL, value BLOB NOT NULL, PRIMARY KEY (name, field)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS {found} ON {terms} (field, value, name);
CREATE TABLE IF NOT EXISTS {meta} (name TEXT PRIMARY KEY, value TEXT NOT NULL);
INSERT OR IGNORE INTO {meta} VALUES ('schema', '1')"""

    def connect(self, arguments: Sequence[Any], options: dict[str, Any]) -> Any:
        import sqlite3

        class Connection(sqlite3.Connection):
            """A connection that takes attributes."""

        options |= {"isolation_level": None, "check_same_thread": False, "factory": Connection}
        options.setdefault("timeout", self.timeout)
        made = sqlite3.connect(*arguments, **options)
        try:
            made.execute("PRAGMA foreign_keys = ON")
            made.execute("PRAGMA synchronous = NORMAL")
        except BaseException:
            made.close()
            raise
        return made

    def together(self, connection: Any, statements: Iterable[Statement]) -> None:
        connection.execute("BEGIN IMMEDIATE")
        try:
            for statement, values in statements:
                connection.execute(statement, values)
            connection.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(Exception):
                connection.execute("ROLLBACK")
            raise

    def make_tables(self, connection: Any, name: str, statements: Sequence[str]) -> None:
        self._log_ahead(connection)
        self.together(connection, [(statement, ()) for statement in statements])

    def _log_ahead(self, connection: Any) -> None:
        import sqlite3

        deadline = time.monotonic() + self.timeout
        while True:
            try:
                connection.execute("PRAGMA journal_mode = WAL")
            except sqlite3.OperationalError as error:
                # Changing the mode does not wait for another process that does the same, whatever the timeout
                # is.
                if "locked" not in str(error) or time.monotonic() > deadline:
                    raise
                time.sleep(0.01)
            else:
                return


DIALECTS: dict[str, type[Dialect]] = {
    "postgresql": Postgresql,
    "postgres": Postgresql,
    "mariadb": Mariadb,
    "mysql": Mariadb,
    "sqlite": Sqlite,
}
