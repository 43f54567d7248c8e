"""Items in a table of PostgreSQL, MariaDB or SQLite, by SQLAlchemy's engines and the drivers' own
statements: a hit is one statement and one round trip."""

from __future__ import annotations

import os
import re
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib import import_module
from typing import Any, TypeVar

from kept.errors import ConfigError, KeptError, NewerSchema, StoreError
from kept.records import Buffer
from kept.stores.base import Term, Where, check_key, check_prefix
from kept.stores.sqldialects import DIALECTS, Dialect, Statement
from kept.stores.sqlterms import Condition, encoded, field_name
from kept.stores.sqltrouble import Trouble, trouble

__all__ = ["Sql"]

R = TypeVar("R")

_SCHEMA = 1
_LARGEST = 512 * 1024 * 1024  # what each of the databases can give back in one row
_PAGE = 1000  # names that are fetched at once
_SOME = 500  # rows in one statement
_BATCH = 8 * 1024 * 1024  # and bytes: half of what a MariaDB as installed takes at once
_COUNTED = 1000  # matches up to which terms are counted, to begin with the rarest
_TRIES = 4
_PAUSE = 5.0  # seconds for which a server that did not answer is not asked again
_TABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,40}", re.ASCII).fullmatch


class Sql:
    """A table of items, for all processes and hosts that reach the database.

    Args:
        url: `postgresql://user:password@host/database`, `mariadb://…`, `mysql://…` or
            `sqlite:///path`; what follows a `?` goes to the driver.
        table: the name of the table of items, and what those beside it begin with.
        timeout: seconds without an answer after which an operation has failed.
        connect_timeout: the same for a connection.
        pool: connections that are kept open; as many again are opened and closed as needed.

    The database is first spoken to when it is needed; the tables are made then.

    Raises:
        ConfigError: the URL or an option is wrong, or the driver is not installed.
    """

    def __init__(
        self,
        url: str,
        table: str = "kept",
        *,
        timeout: float = 30.0,
        connect_timeout: float = 5.0,
        pool: int = 5,
    ) -> None:
        self._arguments = (url, table, timeout, connect_timeout, pool)
        if not isinstance(table, str) or not _TABLE(table):
            raise ConfigError(f"not a name for a table: {table!r}; use letters, digits and _")
        if not (timeout > 0 and connect_timeout > 0 and pool > 0):
            raise ConfigError("timeout, connect_timeout and pool are numbers above 0")
        self._dialect, self._engine, place = _engine(url, table, timeout, connect_timeout, pool)
        self.place = f"{place}, table {table}"
        """What messages call it; without the password."""
        self._error: type[Exception] = self._engine.dialect.dbapi.Error
        self._gone: Callable[..., bool] = self._engine.dialect.is_disconnect
        self._ready = False
        self._making = threading.Lock()
        self._down: tuple[float, str] = (0.0, "")
        _all.add(self)

    def __repr__(self) -> str:
        return f"Sql({self.place})"

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopen, self._arguments

    # -- reading ----------------------------------------------------------------------------------

    def get(self, key: str) -> bytes | None:
        return self._run("read", check_key(key), self._dialect.get, key)

    def get_many(self, keys: Iterable[str]) -> dict[str, bytes]:
        found: dict[str, bytes] = {}
        for some in _batches(dict.fromkeys(map(check_key, keys)), _SOME):
            text = f"SELECT name, item FROM {{items}} WHERE name IN ({_marks(some)})"
            found.update((_text(name), item) for name, item in self._rows(text, some))
        return found

    def keys(self, prefix: str = "") -> Iterator[str]:
        inside, bounds = _beginning(check_prefix(prefix))
        text = f"SELECT name FROM {{items}} WHERE name > ?{inside} ORDER BY name LIMIT {_PAGE}"
        last = ""
        while True:
            page = [_text(name) for (name,) in self._rows(text, [last, *bounds])]
            yield from page
            if len(page) < _PAGE:
                return
            last = page[-1]

    def count(self, prefix: str = "") -> int:
        """How many keys begin with `prefix`: reads their index, not the items."""
        inside, bounds = _beginning(check_prefix(prefix))
        text = f"SELECT COUNT(*) FROM {{items}} WHERE name > ''{inside}"
        return int(self._rows(text, bounds)[0][0])

    # -- writing ----------------------------------------------------------------------------------

    def put(self, key: str, item: Buffer, terms: Mapping[str, Term] | None = None) -> None:
        """Keep the item with the terms that it can be found by, in place of those it had."""
        self.put_many({key: item}, {key: terms} if terms else None)

    def put_many(
        self,
        items: Mapping[str, Buffer],
        terms: Mapping[str, Mapping[str, Term]] | None = None,
    ) -> None:
        """Keep each item, with its terms if it has some; all or none of at most 500 items of
        together 8 MiB, and those that are more in several transactions."""
        # In one order in every process, or two of them could wait for each other.
        checked = {check_key(key): _bytes(items[key]) for key in sorted(items)}
        rows = {
            key: [(field_name(name), encoded(value)) for name, value in found.items()]
            for key, found in (terms or {}).items()
        }
        for some in _sized_batches(checked):
            statements = list(self._putting(some, rows))
            what = some[0][0] if len(some) == 1 else f"{len(some)} items"
            self._run("write", what, self._dialect.together, statements)

    def _putting(
        self, some: list[tuple[str, bytes]], terms: Mapping[str, list[tuple[str, bytes]]]
    ) -> Iterator[Statement]:
        d = self._dialect
        values = ",".join(["(?, ?)"] * len(some))
        flat: list[Any] = [part for row in some for part in row]
        yield d.text(f"INSERT INTO {{items}} (name, item) VALUES {values} {d.upsert}"), flat
        names = [name for name, _ in some]
        yield d.text(f"DELETE FROM {{terms}} WHERE name IN ({_marks(names)})"), names
        rows = [(name, *term) for name in names for term in terms.get(name, ())]
        for batch in _batches(rows, _SOME):
            values = ",".join(["(?, ?, ?)"] * len(batch))
            flat = [part for row in batch for part in row]
            yield d.text(f"INSERT INTO {{terms}} (name, field, value) VALUES {values}"), flat

    def create(self, key: str, item: Buffer) -> bool:
        return self._run("create", check_key(key), self._dialect.create, key, _bytes(item))

    def replace(self, key: str, old: bytes, item: Buffer) -> bool:
        """Keep the item if exactly `old` is there; its terms stay."""
        text = self._dialect.text("UPDATE {items} SET item = ? WHERE name = ? AND item = ?")
        values = (_bytes(item), check_key(key), _bytes(old))
        return self._run("replace", key, self._dialect.run, text, values) == 1

    def delete(self, key: str) -> None:
        self.delete_many((key,))

    def delete_many(self, keys: Iterable[str]) -> None:
        """Forget each key; all or none of at most 500."""
        for some in _batches(sorted(map(check_key, keys)), _SOME):
            text = self._dialect.text(f"DELETE FROM {{items}} WHERE name IN ({_marks(some)})")
            what = some[0] if len(some) == 1 else f"{len(some)} items"
            self._run("delete", what, self._dialect.run, text, some)

    # -- finding ----------------------------------------------------------------------------------

    def find(self, where: Where, prefix: str = "") -> Iterator[str]:
        """The keys that begin with `prefix` and have all these terms.

        Args:
            where: names to a value, or to a pair: from the lowest to the highest. Numbers are
                found by numbers and text by text; 1, 1.0 and True are the same number. An end of a
                pair that is None is open.
            prefix: what the keys begin with.
        """
        check_prefix(prefix)
        wanted = [Condition.of(name, value) for name, value in where.items()]
        if not wanted:
            yield from self.keys(prefix)
            return
        text, values, last = self._plan(wanted, prefix)
        while True:
            page = self._rows(text, [*values, *last])
            for name, _ in page:
                yield _text(name)
            if len(page) < _PAGE:
                return
            name, value = page[-1]
            last = [value, value, _text(name)] if len(last) == 3 else [_text(name)]

    def _plan(self, wanted: list[Condition], prefix: str) -> tuple[str, list[Any], list[Any]]:
        """A page's statement, its values, and the last ones: after which match it goes on."""
        rarest, *rest = self._by_number(wanted) if len(wanted) > 1 else wanted
        # A scalar subquery is asked row by row in every database: a look at the primary key, where
        # a join might be turned round and begin with the term that a million items have.
        also = " AND (SELECT 1 FROM {terms} o WHERE o.name = t.name AND o.field = ?"
        also = "".join(also + " AND o.value BETWEEN ? AND ? LIMIT 1) = 1" for _ in rest)
        inside, bounds = _beginning(prefix, "t.name")
        last: list[Any]
        if rarest.low == rarest.high:
            that, values = "t.value = ?", [rarest.field, rarest.low]
            after, order, last = "t.name > ?", "t.name", [""]
        else:
            that, values = "t.value <= ?", [rarest.field, rarest.high]
            after, order = "t.value >= ? AND (t.value > ? OR t.name > ?)", "t.value, t.name"
            last = [rarest.low, rarest.low, ""]
        for one in rest:
            values += [one.field, one.low, one.high]
        return (
            f"SELECT t.name, t.value FROM {{terms}} t WHERE t.field = ? AND {that}{also}{inside} "
            f"AND {after} ORDER BY {order} LIMIT {_PAGE}",
            [*values, *bounds],
            last,
        )

    def _by_number(self, wanted: list[Condition]) -> list[Condition]:
        some = "SELECT 1 FROM {terms} WHERE field = ? AND value BETWEEN ? AND ?"
        one = f"(SELECT COUNT(*) FROM ({some} LIMIT {_COUNTED}) AS c)"
        values = [part for term in wanted for part in (term.field, term.low, term.high)]
        (counts,) = self._rows(f"SELECT {', '.join([one] * len(wanted))}", values)
        return [
            term for _, term in sorted(zip(counts, wanted, strict=True), key=lambda pair: pair[0])
        ]

    # -- the connection ---------------------------------------------------------------------------

    def close(self) -> None:
        """Close the connections; they are opened again when they are needed."""
        self._engine.dispose()

    def _rows(self, text: str, values: list[Any]) -> list[Any]:
        return self._run("read", "its keys", self._dialect.rows, self._dialect.text(text), values)

    def _run(self, what: str, on: str, do: Callable[..., R], *arguments: Any) -> R:
        """Do something on a connection that commits each statement, or each `together`.

        What was rolled back is tried again; what may have been done, only if doing it twice is
        doing it once.
        """
        failed = 0
        while True:
            connection = None
            began = time.monotonic()
            try:
                connection = self._connection()
                if not self._ready:
                    self._make(connection.dbapi_connection)
                done = do(connection.dbapi_connection, *arguments)
            except BaseException as error:
                lost = connection is None or self._lost(error, connection)
                if connection is not None:
                    connection.invalidate()
                if isinstance(error, KeptError) or not isinstance(error, Exception):
                    raise
                failed += 1
                found = trouble(error, self._error)
                if failed < _TRIES and self._again(found, what, lost, connection, failed):
                    continue
                raise self._failed(
                    what, on, error, found, lost, time.monotonic() - began
                ) from error
            connection.close()
            return done

    def _again(self, found: Trouble, what: str, lost: bool, connection: Any, failed: int) -> bool:
        if found.undone:  # a deadlock: the database rolled it back
            time.sleep(0.01 * failed)
            return True
        if found.no_table and self._ready:  # somebody dropped it
            self._ready = False
            return True
        repeats = what not in ("create", "replace")
        return lost and connection is not None and repeats and failed == 1 and not found.timeout

    def _lost(self, error: BaseException, connection: Any) -> bool:
        return isinstance(error, (OSError, EOFError)) or (
            isinstance(error, self._error) and self._gone(error, connection.dbapi_connection, None)
        )

    def _connection(self) -> Any:
        """A connection from the pool whose server, for all that is known here, is there."""
        until, why = self._down
        if until > time.monotonic():
            raise StoreError(why)
        while True:
            connection = self._engine.raw_connection()
            if self._dialect.alive(connection.dbapi_connection):
                return connection
            connection.invalidate()

    def _failed(
        self, what: str, on: str, error: Exception, found: Trouble, lost: bool, took: float
    ) -> StoreError:
        text = f"can't {what} {on} in {self.place}: {found.text}"
        if lost and what in ("create", "replace"):
            text += "; whether it was done is not known"
        if found.timeout or (lost and took > 1):
            # Each of a thousand calls would wait again.
            self._down = (time.monotonic() + _PAUSE, text)
        return StoreError(text)

    def _make(self, connection: Any) -> None:
        """Make the tables if they are not there; check their version."""
        d = self._dialect
        with self._making:
            if self._ready:
                return
            text = d.text("SELECT value FROM {meta} WHERE name = 'schema'")
            try:
                found = d.rows(connection, text, ())
            except self._error as error:
                if not trouble(error, self._error).no_table:
                    raise
                found = []
            if not found:
                d.make(connection)
                found = d.rows(connection, text, ())
            version = _text(found[0][0])
            if not version.isdigit() or int(version) > _SCHEMA:
                raise NewerSchema(
                    f"a newer kept made {self.place} (schema {version}; this one knows {_SCHEMA}): "
                    "upgrade kept, or choose another table"
                )
            self._ready = True

    # -- fork -------------------------------------------------------------------------------------

    def _before_fork(self) -> None:
        if self._dialect.name == "sqlite":
            self._engine.dispose()  # SQLite forbids carrying a connection across a fork

    def _forked(self) -> None:
        self._making = threading.Lock()
        _inherited.append(self._engine.pool)  # never closed here: the connections are the parent's
        self._engine.dispose(close=False)


_all: weakref.WeakSet[Sql] = weakref.WeakSet()
_inherited: list[Any] = []


def _before_fork() -> None:
    for store in list(_all):
        store._before_fork()


def _after_fork() -> None:
    for store in list(_all):
        store._forked()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_child=_after_fork)


def _reopen(url: str, table: str, timeout: float, connect_timeout: float, pool: int) -> Sql:
    return Sql(url, table, timeout=timeout, connect_timeout=connect_timeout, pool=pool)


def _engine(
    url: str, table: str, timeout: float, connect_timeout: float, pool: int
) -> tuple[Dialect, Any, str]:
    scheme = str(url).partition(":")[0].partition("+")[0].lower()
    kind = DIALECTS.get(scheme)
    if kind is None:
        raise ConfigError(f"no such database as {scheme[:40]!r}; there are {', '.join(DIALECTS)}")
    try:
        import_module(kind.module)
        import sqlalchemy
    except ImportError as error:
        raise ConfigError(
            f"{scheme}: needs {error.name or kind.module}: pip install 'kept[{kind.extra}]'"
        ) from error
    try:
        parsed = sqlalchemy.make_url(url).set(drivername=kind.driver)
    except (sqlalchemy.exc.ArgumentError, ValueError):
        raise ConfigError(
            f"{scheme}: the URL can't be read; it is {kind.name}://user:password@host:port/database "
            "with what is special in a password written as %40 for @ and so on"
        ) from None  # its text may hold the password
    if kind.name == "sqlite" and parsed.database in (None, "", ":memory:"):
        raise ConfigError("sqlite: names no file: sqlite:///relative.db or sqlite:////absolute.db")
    if kind.name != "sqlite" and not parsed.database:
        raise ConfigError(f"{scheme}: names no database: {kind.name}://user:password@host/DATABASE")
    shown = parsed.set(drivername=kind.name, query={}).render_as_string(hide_password=True)
    try:
        engine = sqlalchemy.create_engine(
            parsed,
            pool_size=pool,
            max_overflow=pool,
            pool_timeout=timeout,
            pool_reset_on_return=None,  # there is never a transaction to roll back
            pool_use_lifo=True,
            hide_parameters=True,
        )
    except (sqlalchemy.exc.SQLAlchemyError, ValueError, TypeError) as error:
        raise ConfigError(f"can't use {shown}: {error}") from error
    dialect = kind(
        engine.dialect.identifier_preparer.quote_identifier, table, timeout, connect_timeout
    )

    @sqlalchemy.event.listens_for(engine, "do_connect")
    def connect(_: Any, __: Any, arguments: Any, options: Any) -> Any:
        return dialect.connect(arguments, options)

    return dialect, engine, shown


def _bytes(item: Buffer) -> bytes:
    size = memoryview(item).nbytes
    if size > _LARGEST:
        raise StoreError(
            f"an item of {size:,} bytes is too large for a row of a database: keep values "
            'elsewhere, with kept.Cache(calls="postgresql://…", values="s3://…") or a directory'
        )
    return item if type(item) is bytes else bytes(item)


def _text(name: str | bytes) -> str:
    return name if isinstance(name, str) else name.decode()


def _marks(values: Iterable[Any]) -> str:
    return ", ".join("?" for _ in values)


def _beginning(prefix: str, column: str = "name") -> tuple[str, list[str]]:
    """A condition that an index serves: names that begin with `prefix`."""
    if not prefix:
        return "", []
    return f" AND {column} >= ? AND {column} < ?", [prefix, prefix + "\x7f"]  # keys are ASCII


def _batches(values: Iterable[R], size: int) -> Iterator[list[R]]:
    rest = list(values)
    for at in range(0, len(rest), size):
        yield rest[at : at + size]


def _sized_batches(items: Mapping[str, bytes]) -> Iterator[list[tuple[str, bytes]]]:
    some: list[tuple[str, bytes]] = []
    size = 0
    for key, item in items.items():
        if some and (len(some) == _SOME or size + len(item) > _BATCH):
            yield some
            some, size = [], 0
        some.append((key, item))
        size += len(item)
    if some:
        yield some
