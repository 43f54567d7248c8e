"""One SQLite write transaction, and what the driver's errors mean."""

from __future__ import annotations

import contextlib
import sqlite3
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kept.stores.database import Database

__all__ = ["DRIVER", "Token", "Writing", "is_damage"]

DRIVER = (sqlite3.Error, UnicodeDecodeError)
"""What the driver raises for a file that is not as it should be."""

Token = tuple[int, int]
"""Two words of the WAL index header; see `WalIndex`."""


class Writing:
    """One write transaction. A class, as a generator costs twice as much, and each miss has one."""

    __slots__ = ("_before", "_connection", "_database")

    def __init__(self, database: Database) -> None:
        self._database = database

    def __enter__(self) -> sqlite3.Connection:
        database = self._database
        database.lock.acquire()
        try:
            self._connection = database.connection
            self._connection.execute("BEGIN IMMEDIATE")
        except BaseException as error:
            database.lock.release()
            if isinstance(error, DRIVER):
                raise database.failed("write to", error) from error
            raise
        self._before = database.token()  # nobody else can commit from here on
        return self._connection

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        database = self._database
        try:
            if error is None:
                try:
                    self._connection.execute("COMMIT")
                except BaseException as trouble:  # noqa: BLE001  raised below, after the rollback
                    error = trouble
            if error is None:
                before, after = self._before, database.token()
                alone = before and after and (after[0] - before[0]) & 0xFFFFFFFF == 1
                database.step = (before, after) if before and after and alone else None
                return
            with contextlib.suppress(sqlite3.Error):
                self._connection.execute("ROLLBACK")
            if database.rolled_back is not None:
                database.rolled_back()
            if isinstance(error, DRIVER):
                raise database.failed("write to", error) from error
            if kind is None:
                raise error
        finally:
            database.lock.release()


def is_damage(error: BaseException) -> bool:
    """Whether a driver error means that the file's content is not a (whole) database."""
    if isinstance(error, UnicodeDecodeError):  # from an error's own message, which quotes the file
        return True
    text = str(error)
    return isinstance(error, sqlite3.DatabaseError) and (
        "malformed" in text
        or "not a database" in text
        or "unsupported file format" in text
        or "no such table" in text
        or "no such column" in text
        or "has no column" in text
    )
