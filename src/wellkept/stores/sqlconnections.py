"""A database's connections: pooled, replaced when their server is gone, not carried across a fork."""

from __future__ import annotations

import contextlib
import gc
import os
import re
import time
import weakref
from collections.abc import Callable
from importlib import import_module
from typing import Any, TypeVar

from wellkept.errors import ConfigError, NewerSchema, StoreError
from wellkept.interrupts import Guard
from wellkept.stores.silence import Silence
from wellkept.stores.sqldialects import DIALECTS, Dialect
from wellkept.stores.sqltrouble import Trouble, trouble

__all__ = ["Connections"]

R = TypeVar("R")

_SCHEMA = 1
_TRIES = 4
_TABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,40}", re.ASCII).fullmatch


class Connections:
    """What operations are run on; see `Sql` for the arguments."""

    def __init__(
        self, url: str, table: str, timeout: float, connect_timeout: float, pool: int
    ) -> None:
        if not isinstance(table, str) or not _TABLE(table):
            raise ConfigError(f"not a name for a table: {table!r}; use letters, digits and _")
        if not (timeout > 0 and connect_timeout > 0 and pool > 0):
            raise ConfigError("timeout, connect_timeout and pool are numbers above 0")
        self.dialect, self._engine, backend = _engine(url, table, timeout, connect_timeout)
        self.backend = f"{backend}, table {table}"
        """What messages call it; without the password."""
        self._error: type[Exception] = self._engine.dialect.dbapi.Error
        # What a driver, the pool, and a socket raise; anything else is a mistake of this library.
        self.errors = (self._error, *_also(), OSError, EOFError)
        self._gone: Callable[..., bool] = self._engine.dialect.is_disconnect
        self._ready = False
        self._making, self._guard = Guard(), Guard()
        self.silence = Silence()
        _all.add(self)

        self._most = pool
        self._timeout = timeout
        self._idle: list[Any] = []
        """Connections that nobody uses, the last one used at the end. A pool of SQLAlchemy's own
        would add a quarter to the time of a hit."""
        self._slots: weakref.WeakSet[_Slot] = weakref.WeakSet()
        """One of each open connection. Who loses a connection, wherever an exception comes, loses its
        slot too."""

    def close(self) -> None:
        """Close what is open; it is opened again when it is needed."""
        while self._idle:
            self._drop(self._idle.pop())

    def run(self, what: str, on: str, do: Callable[..., R], *arguments: Any) -> R:
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
                    self._make(connection)
                done = do(connection, *arguments)
            except BaseException as error:
                lost = connection is None or self._lost(error, connection)
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
            isinstance(error, self._error) and self._gone(error, connection, None)
        )

    def _connection(self) -> Any:
        """A connection whose server, for all that is known here, is there."""
        self.silence.check()
        deadline = 0.0
        while True:
            try:
                connection = self._idle.pop()
            except IndexError:
                # Whoever gives one back puts it there, and tells nobody: so it is looked for again.
                if (slot := self._slot()) is not None:
                    return self._opened(slot)
                if deadline:
                    time.sleep(0.01)
                else:
                    gc.collect()  # one that was lost and its cursor have each other
                    deadline = time.monotonic() + self._timeout
                if time.monotonic() > deadline:
                    raise StoreError(
                        f"all {2 * self._most} connections to {self.backend} are in use by threads "
                        f"of this process since {self._timeout:g} s: give the store a larger `pool`"
                    ) from None
                continue
            if self.dialect.alive(connection):
                return connection
            self._drop(connection)

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
        """A connection that is not one of the pool, for somebody who listens and closes it."""
        opened = self._engine.raw_connection()
        connection = opened.dbapi_connection
        opened.detach()
        return connection

    def _drop(self, connection: Any) -> None:
        connection.kept_slot = None
        with contextlib.suppress(Exception):  # it is most often dead already
            connection.close()

    def _failed(self, what: str, on: str, found: Trouble, lost: bool, began: float) -> StoreError:
        text = f"can't {what} {on} in {self.backend}: {found.text}"
        if lost and what in ("create", "replace"):
            text += "; whether it was done is not known"
        if found.timeout or lost:
            self.silence.note(text, began)
        return StoreError(text)

    def _make(self, connection: Any) -> None:
        """Make the tables if they are not there; check their version."""
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
            self.close()  # SQLite forbids carrying a connection across a fork

    def _forked(self) -> None:
        self._making, self._guard = Guard(), Guard()
        self._slots = weakref.WeakSet()
        _inherited.append(self._idle)  # never closed here: they are the parent's
        self._idle = []
        self._engine.dispose(close=False)


class _Slot:
    """The room for one connection."""

    __slots__ = ("__weakref__",)


_all: weakref.WeakSet[Connections] = weakref.WeakSet()
_inherited: list[Any] = []


def _before_fork() -> None:
    for store in list(_all):
        store._before_fork()


def _after_fork() -> None:
    for store in list(_all):
        store._forked()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_child=_after_fork)


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
            f"{scheme}: the URL can't be read; it is {kind.name}://user:password@host:port/database"
            " with what is special in a password written as %40 for @ and so on"
        ) from None  # its text may hold the password
    if kind.name == "sqlite" and parsed.database in (None, "", ":memory:"):
        raise ConfigError("sqlite: names no file: sqlite:///relative.db or sqlite:////absolute.db")
    if kind.name != "sqlite" and not parsed.database:
        raise ConfigError(f"{scheme}: names no database: {kind.name}://user:password@host/DATABASE")
    shown = parsed.set(drivername=kind.name, query={}).render_as_string(hide_password=True)
    try:
        engine = sqlalchemy.create_engine(
            parsed,
            poolclass=sqlalchemy.pool.NullPool,
            pool_reset_on_return=None,  # there is never a transaction to roll back
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
