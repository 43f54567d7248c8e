"""A byte store in a table of PostgreSQL, MariaDB or SQLite.

Terms are stored as bytes that sort as their values do, so that one index finds values and ranges in any
database. None is the byte 0; a number is 1, its double and then the number itself, for integers that no double
tells apart; text is 2 and its UTF-8. A long text is cut and ends in a digest: equal ones are still found, but
ranges can't order those that begin with the same 164 bytes.
"""

from __future__ import annotations

import contextlib
import gc
import re
import struct
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib import import_module
from typing import Any, NamedTuple, TypeVar

from blake3 import blake3

from wellkept._process import Instances
from wellkept.errors import ConfigError, NewerSchema, StoreError
from wellkept.interrupts import Guard
from wellkept.records import Buffer
from wellkept.stores.base import Term, Where, check_key, check_prefix
from wellkept.stores.openers import IN_MEMORY, is_in_memory
from wellkept.stores.silence import Silence
from wellkept.stores.sql_dialects import DIALECTS, SOME, Dialect, Trouble, batches, marks, trouble

# Bytes of a stored text: an index of MariaDB has the three columns of a term in one key, whose length is
# limited. together.
_LONGEST = 180
_DIGEST = 16
_NUMBERS, _TEXTS = b"\1", b"\2"
_AFTER_NUMBERS, _AFTER_TEXTS = b"\1\xff\xff", b"\3"


class Condition(NamedTuple):
    """A condition on a term: from `low` to `high`, both included, as they are stored."""

    field: str
    low: bytes
    high: bytes

    @classmethod
    def of(cls, name: str, value: Term | tuple[Term, Term]) -> Condition:
        if not isinstance(value, tuple):
            return cls(field_name(name), encoded(value), encoded(value))
        if len(value) != 2:
            raise ConfigError(f"a range of the term {name!r} is a pair, not {value!r}")
        low, high = value
        known = [isinstance(end, str) for end in value if end is not None]
        if len(known) == 2 and known[0] != known[1]:
            raise ConfigError(f"no range from {low!r} to {high!r} for the term {name!r}")
        return cls(
            field_name(name),
            encoded(low) if low is not None else _TEXTS if known == [True] else _NUMBERS,
            encoded(high)
            if high is not None
            else _AFTER_NUMBERS
            if known == [False]
            else _AFTER_TEXTS,
        )


def field_name(name: str) -> str:
    """Return a term's name as text that all of the databases can index."""
    if not isinstance(name, str) or not name:
        raise ConfigError(f"the name of a term is text, not {name!r}")
    raw = _utf8(name)
    if len(raw) <= _LONGEST and "\0" not in name:
        return name
    return f"{name[:40].replace(chr(0), '?')}~{blake3(raw).hexdigest()}"


def encoded(value: Term) -> bytes:
    """Return a term's value as bytes that sort as numbers do, or as text by code points.

    Raises:
        ConfigError: it is neither text, nor a number of 64 bits, nor None.
    """
    if value is None:
        return b"\0"
    if isinstance(value, str):
        raw = _utf8(value)
        if len(raw) > _LONGEST:
            raw = raw[: _LONGEST - _DIGEST] + blake3(raw).digest(_DIGEST)
        return _TEXTS + raw
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**63:
        value = int(value)
    if isinstance(value, int) and -(2**63) <= value < 2**63:
        return _NUMBERS + _double(float(value)) + (value + 2**63).to_bytes(8, "big")
    if isinstance(value, float) and value == value:
        return _NUMBERS + _double(value) + (b"\xff" * 9 if value > 0 else b"")
    raise ConfigError(f"a term is text, a number of 64 bits or None, not {value!r}")


def _double(value: float) -> bytes:
    raw = struct.pack(">d", value)
    # A double has its sign in the first bit, so as bytes negative numbers would come after the others, and in
    # reverse. Inverting them, and setting that bit in the others, puts all in order.
    return bytes(255 - byte for byte in raw) if raw[0] & 128 else bytes([raw[0] | 128]) + raw[1:]


def _utf8(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise ConfigError(f"a term can't hold a lone surrogate: {text!r}") from error


R = TypeVar("R")

_SCHEMA = 1
# Attempts at a transaction that the database rolled back for a deadlock.
_TRIES = 4
_TABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,40}", re.ASCII).fullmatch


class Connections:
    """A pool of connections, and the retries; see `Sql` for the arguments."""

    dialect: Dialect

    def __init__(
        self, url: str, table: str, timeout: float, connect_timeout: float, pool: int
    ) -> None:
        if not isinstance(table, str) or not _TABLE(table):
            raise ConfigError(f"not a name for a table: {table!r}; use letters, digits and _")
        if not (timeout > 0 and connect_timeout > 0 and pool > 0):
            raise ConfigError("timeout, connect_timeout and pool are numbers above 0")
        self.dialect, self._engine, backend = _engine(url, table, timeout, connect_timeout)
        self.backend: str = f"{backend}, table {table}"
        """Its name in messages, without the password."""
        self._error: type[Exception] = self._engine.dialect.dbapi.Error
        # Errors of the driver, the pool and the socket; any other is a fault of this library, and is not
        # hidden.
        self.errors: tuple[
            type[Exception], *tuple[type[Exception], ...], type[OSError], type[EOFError]
        ] = (self._error, *_also(), OSError, EOFError)
        self._gone: Callable[..., bool] = self._engine.dialect.is_disconnect
        self._ready = False
        self._making, self._guard = Guard(), Guard()
        self.silence: Silence = Silence()
        _all.add(self)

        self._most = pool
        self._timeout = timeout
        self._idle: list[Any] = []
        """Idle connections, the one used last at the end. SQLAlchemy's own pool would add a quarter to the time
        of a hit."""
        self._collects = 0.0
        self._collected = 0.0
        """When the garbage may be collected again."""
        self._slots: weakref.WeakSet[_Slot] = weakref.WeakSet()
        """One for each open connection, which refers to it. A connection that an exception loses is freed, and
        its slot with it."""

    def close(self) -> None:
        """Close the idle connections; the next use opens new ones."""
        while self._idle:
            self._drop(self._idle.pop())

    def run(self, what: str, on: str, do: Callable[..., R], *arguments: Any) -> R:
        """Call a function with a connection, which commits each statement, or each `together`.

        A transaction that was rolled back is tried again; one that may have been committed only if doing it
        twice is the same as doing it once.

        Args:
            what: the verb, for messages and to know whether it may be done twice.
            on: the item or items, for messages.
            do: the function.
            arguments: its arguments after the connection.
        """
        failed = 0
        while True:
            connection = None
            began = time.monotonic()
            try:
                connection = self._connection()
                if not self._ready:
                    self._make(connection)
                done = do(connection, *arguments)
            except BaseException as error:
                lost = connection is None or self._lost(error, connection)
                # After an error it may be inside a transaction, or have an answer that was not read.
                if connection is not None:
                    self._drop(connection)
                if not isinstance(error, self.errors):
                    raise
                failed += 1
                found = trouble(error, self._error)
                if failed < _TRIES and self._again(found, what, lost, connection, failed):
                    continue
                raise self._failed(what, on, found, lost, began) from error
            if len(self._idle) < self._most:
                self._idle.append(connection)
            else:
                self._drop(connection)
            self.silence.answered = began
            return done

    def _again(self, found: Trouble, what: str, lost: bool, connection: Any, failed: int) -> bool:
        # A deadlock: the database rolled the transaction back.
        if found.undone:
            time.sleep(0.01 * failed)
            return True
        # Someone dropped the table meanwhile; it is made again.
        if found.no_table and self._ready:
            self._ready = False
            return True
        repeats = what not in ("create", "replace")
        return lost and connection is not None and repeats and failed == 1 and not found.timeout

    def _lost(self, error: BaseException, connection: Any) -> bool:
        return isinstance(error, (OSError, EOFError)) or (
            isinstance(error, self._error) and self._gone(error, connection, None)
        )

    def _connection(self) -> Any:
        """Return an idle or new connection; an idle one only if its server has not closed it."""
        self.silence.check()
        deadline, tried = 0.0, False
        while True:
            try:
                connection = self._idle.pop()
            except IndexError:
                # A thread that returns a connection wakes no other, as a condition variable would cost each
                # hit; so a thread that finds none looks again every 10 ms.
                if (slot := self._slot()) is not None:
                    return self._opened(slot)
                now = time.monotonic()
                if not deadline:
                    deadline = now + self._timeout
                elif now <= deadline:
                    time.sleep(0.01)
                elif tried or self._collected >= deadline - self._timeout / 2:
                    raise StoreError(
                        f"all {2 * self._most} connections to {self.backend} have been in use by threads "
                        f"of this process for {self._timeout:g} s: give the store a larger `pool`"
                    ) from None
                else:
                    # What was lost since the latest collection is looked for before giving up.
                    tried, self._collected = True, now
                    gc.collect()
                    continue
                # It may take until after the deadline, and what it frees is seen in the next round.
                self._collect()
                continue
            if self.dialect.alive(connection):
                return connection
            self._drop(connection)

    def _collect(self) -> None:
        """Free lost connections: each and its cursor refer to each other, so only this frees them."""
        # In a large process it stops all threads for a second, and each that waits would begin it anew: others
        # would not get to what their servers answer before that is too late.
        began = time.monotonic()
        if began >= self._collects:
            self._collects, self._collected = began + self._timeout, began
            gc.collect()
            self._collects = began + 20 * (time.monotonic() - began)

    def _slot(self) -> _Slot | None:
        with self._guard:
            if len(self._slots) >= 2 * self._most:
                return None
            slot = _Slot()
            self._slots.add(slot)
            return slot

    def _opened(self, slot: _Slot) -> Any:
        connection = self.apart()
        connection.kept_slot = slot
        return connection

    def apart(self) -> Any:
        """Return a connection outside of the pool, which the caller closes."""
        opened = self._engine.raw_connection()
        connection = opened.dbapi_connection
        opened.detach()
        return connection

    def _drop(self, connection: Any) -> None:
        connection.kept_slot = None
        # It is most often dead already, and then closing raises.
        with contextlib.suppress(Exception):
            connection.close()

    def _failed(self, what: str, on: str, found: Trouble, lost: bool, began: float) -> StoreError:
        text = f"can't {what} {on} in {self.backend}: {found.text}"
        if lost and what in ("create", "replace"):
            text += "; it may or may not have been done"
        if found.timeout or lost:
            self.silence.note(text, began)
        return StoreError(text)

    def _make(self, connection: Any) -> None:
        """Make the tables if they are missing, and check their version."""
        d = self.dialect
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
            version = str(found[0][0])
            if not version.isdigit() or int(version) > _SCHEMA:
                raise NewerSchema(
                    f"a newer wellkept made {self.backend} (schema {version}; this one knows {_SCHEMA}): "
                    "upgrade wellkept, or choose another table"
                )
            self._ready = True

    # -- fork -------------------------------------------------------------------------------------

    def _before_fork(self) -> None:
        if self.dialect.name == "sqlite":
            # SQLite forbids carrying a connection across a fork.
            self.close()

    def _forked(self) -> None:
        self._making, self._guard = Guard(), Guard()
        self._slots = weakref.WeakSet()
        # Held for ever, as closing one in the child would end the parent's session with the server.
        _inherited.append(self._idle)
        self._idle = []
        self._engine.dispose(close=False)


class OneConnection(Connections):
    """The only connection to a database in memory, which is gone with it: for one thread after the other."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._turn = Guard()

    def close(self) -> None:
        """Nothing: what it holds would be lost."""

    def run(self, what: str, on: str, do: Callable[..., R], *arguments: Any) -> R:
        with self._turn:
            return super().run(what, on, do, *arguments)

    def _drop(self, connection: Any) -> None:
        self._idle.append(connection)

    def _forked(self) -> None:
        # The child goes on with a copy, as of any memory.
        self._making, self._guard, self._turn = Guard(), Guard(), Guard()


class _Slot:
    """The permission to have one connection open."""

    __slots__ = ("__weakref__",)


_all: Instances[Connections] = Instances(
    before=lambda one: one._before_fork(), in_child=lambda one: one._forked()
)
_inherited: list[Any] = []


def _also() -> tuple[type[Exception], ...]:
    from sqlalchemy.exc import SQLAlchemyError

    return (SQLAlchemyError,)


def _engine(
    url: str, table: str, timeout: float, connect_timeout: float
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
            f"{scheme}: needs {error.name or kind.module}: pip install 'wellkept[{kind.extra}]'"
        ) from error
    try:
        parsed = sqlalchemy.make_url(url).set(drivername=kind.driver)
    except (sqlalchemy.exc.ArgumentError, ValueError):
        raise ConfigError(
            f"{scheme}: the URL can't be read; write {kind.name}://user:password@host:port/database, with "
            "special characters of the password as %40 for @ and so on"
            # Without the cause, whose text may hold the password.
        ) from None
    if kind.name == "sqlite" and not parsed.database:
        raise ConfigError(
            "sqlite: names no file: sqlite:///relative.db, sqlite:////absolute.db or sqlite:///:memory:"
        )
    if (
        kind.name == "sqlite"
        and parsed.database != IN_MEMORY
        and is_in_memory(str(parsed.database))
    ):
        raise ConfigError(
            f"{parsed.database} is no file; a database in memory is sqlite:///{IN_MEMORY}"
        )
    if kind.name != "sqlite" and not parsed.database:
        raise ConfigError(f"{scheme}: names no database: {kind.name}://user:password@host/DATABASE")
    shown = parsed.set(drivername=kind.name, query={}).render_as_string(hide_password=True)
    try:
        engine = sqlalchemy.create_engine(
            parsed,
            poolclass=sqlalchemy.pool.NullPool,
            # A connection is never given back inside a transaction, so a rollback would be a trip for nothing.
            pool_reset_on_return=None,
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


# The largest item; not every one of the databases can return more in a row.
_LARGEST = 512 * 1024 * 1024
# Names that are fetched at once.
_PAGE = 1000
# Bytes that are written at once: half of what MariaDB takes in one packet by default.
_BATCH = 8 * 1024 * 1024
# Matches of a term that are counted to find the rarest. Counting all of a common one would take as long as the
# query.
_COUNTED = 1000


class Sql:
    """A table of items, for all processes and hosts that reach the database.

    Args:
        url: `postgresql://user:password@host/database`, `mariadb://…`, `mysql://…` or
            `sqlite:///path`; what follows a `?` goes to the driver. By default it is in the memory of
            this process.
        table: the name of the table of items, and what those beside it begin with.
        timeout: seconds without an answer after which an operation has failed.
        connect_timeout: seconds after which a connection has failed.
        pool: connections that are kept open; as many again are opened and closed as needed.

    The first operation connects to the database, and makes the tables if they are missing.

    Raises:
        ConfigError: the URL or an option is wrong, or the driver is not installed.
    """

    def __init__(
        self,
        url: str = f"sqlite:///{IN_MEMORY}",
        table: str = "kept",
        *,
        timeout: float = 30.0,
        connect_timeout: float = 5.0,
        pool: int = 5,
    ) -> None:
        self._arguments = (url, table, timeout, connect_timeout, pool)
        self._in_memory = is_in_memory(url)
        kind = OneConnection if self._in_memory else Connections
        self._connections = kind(*self._arguments)
        self._dialect = self._connections.dialect
        self._run = self._connections.run

    @property
    def connections(self) -> Connections:
        """Return the connections on which operations run."""
        return self._connections

    def __repr__(self) -> str:
        return f"Sql({self._connections.backend})"

    def __reduce__(self) -> tuple[Any, ...]:
        if self._in_memory:
            raise TypeError(f"{self!r} is in the memory of its process, and does not pickle")
        return _reopen, self._arguments

    # -- reading ----------------------------------------------------------------------------------

    def get(self, key: str) -> bytes | None:
        return self._run("read", check_key(key), self._dialect.get, key)

    def get_many(self, keys: Iterable[str]) -> dict[str, bytes]:
        found: dict[str, bytes] = {}
        for some in batches(dict.fromkeys(map(check_key, keys)), SOME):
            text = f"SELECT name, item FROM {{items}} WHERE name IN ({marks(some)})"
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
        """Return how many keys begin with `prefix`, from the index alone."""
        inside, bounds = _beginning(check_prefix(prefix))
        text = f"SELECT COUNT(*) FROM {{items}} WHERE name > ''{inside}"
        return int(self._rows(text, bounds)[0][0])

    # -- writing ----------------------------------------------------------------------------------

    def put(self, key: str, item: Buffer, terms: Mapping[str, Term] | None = None) -> None:
        """Keep the item with the terms that it can be found by, in place of earlier ones."""
        rows = _rows(terms) if terms else []
        self._run("write", check_key(key), self._dialect.put, key, _bytes(item), rows)

    def put_many(
        self,
        items: Mapping[str, Buffer],
        terms: Mapping[str, Mapping[str, Term]] | None = None,
    ) -> None:
        """Keep each item, with its terms if it has some.

        Up to 500 items of 8 MiB in all are one transaction; more are several.
        """
        # In one order in every process, as otherwise two of them could wait for each other.
        checked = {check_key(key): _bytes(items[key]) for key in sorted(items)}
        rows = {key: _rows(found) for key, found in (terms or {}).items()}
        for some in _sized_batches(checked):
            if len(some) == 1:
                ((key, item),) = some
                self._run("write", key, self._dialect.put, key, item, rows.get(key, []))
            else:
                statements = list(self._dialect.putting(some, rows))
                self._run("write", f"{len(some)} items", self._dialect.together, statements)

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
        """Delete each item; up to 500 are one transaction."""
        for some in batches(sorted(map(check_key, keys)), SOME):
            text = self._dialect.text(f"DELETE FROM {{items}} WHERE name IN ({marks(some)})")
            what = some[0] if len(some) == 1 else f"{len(some)} items"
            self._run("delete", what, self._dialect.run, text, some)

    # -- finding ----------------------------------------------------------------------------------

    def find(self, where: Where, prefix: str = "") -> Iterator[str]:
        """Return the keys that begin with `prefix` and have all these terms.

        Args:
            where: names to a value, or to a pair: from the lowest to the highest. Numbers are found by numbers
            and
                text by text; 1, 1.0 and True are the same number. A pair's end that is None is open.
            prefix: the beginning of the keys.
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
        """Return the statement of a page, its values, and those that name the match after which it begins."""
        rarest, *rest = self._by_number(wanted) if len(wanted) > 1 else wanted
        # Every database evaluates a scalar subquery row by row, as a lookup of the primary key. A join it might
        # turn round, and begin with a term that a million items have.
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
        """Close the idle connections; the next use opens new ones."""
        self._connections.close()

    def _rows(self, text: str, values: list[Any]) -> list[Any]:
        return self._run("read", "its keys", self._dialect.rows, self._dialect.text(text), values)


def _reopen(url: str, table: str, timeout: float, connect_timeout: float, pool: int) -> Sql:
    return Sql(url, table, timeout=timeout, connect_timeout=connect_timeout, pool=pool)


def _bytes(item: Buffer) -> bytes:
    size = memoryview(item).nbytes
    if size > _LARGEST:
        raise StoreError(
            f"an item of {size:,} bytes is too large for a row of a database: keep values "
            'elsewhere, with wellkept.Cache(calls="postgresql://…", values="s3://…") or a directory'
        )
    return item if type(item) is bytes else bytes(item)


def _rows(terms: Mapping[str, Term]) -> list[tuple[str, bytes]]:
    return [(field_name(name), encoded(value)) for name, value in terms.items()]


def _text(name: str | bytes) -> str:
    return name if isinstance(name, str) else name.decode()


def _beginning(prefix: str, column: str = "name") -> tuple[str, list[str]]:
    """Return a condition that an index serves: names that begin with `prefix`."""
    if not prefix:
        return "", []
    # Keys are ASCII, so the second end comes after all of these names.
    return f" AND {column} >= ? AND {column} < ?", [prefix, prefix + "\x7f"]


def _sized_batches(items: Mapping[str, bytes]) -> Iterator[list[tuple[str, bytes]]]:
    some: list[tuple[str, bytes]] = []
    size = 0
    for key, item in items.items():
        if some and (len(some) == SOME or size + len(item) > _BATCH):
            yield some
            some, size = [], 0
        some.append((key, item))
        size += len(item)
    if some:
        yield some
