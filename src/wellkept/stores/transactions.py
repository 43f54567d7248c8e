"""One SQLite write transaction, and what the driver's errors mean."""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from wellkept.errors import StoreError
from wellkept.interrupts import settle

if TYPE_CHECKING:
    from wellkept.stores.database import Database

__all__ = ["DRIVER", "Token", "Writing", "is_damage"]

DRIVER = (sqlite3.Error, UnicodeDecodeError)
"""What the driver raises for a file that is not as it should be."""

Token = tuple[int, int]
"""Two words of the WAL index header; see `WalIndex`."""
Step = tuple[Token, Token] | None


class Writing:
    """One write transaction. A class, as a generator costs twice as much, and each miss has one.

    An exception may come between any two instructions. What it leaves here, an open transaction and a
    lock that is held, `Database.settle` and the next use make right: they see that the frame that
    was writing is no longer there.
    """

    __slots__ = ("_before", "_began", "_connection", "_database", "_held", "_mine", "_then", "step")

    step: Step
    """The tokens just before and after the commit; None where somebody else committed too."""

    def __init__(self, database: Database, then: Callable[[Step], object] | None) -> None:
        self._database = database
        self._then = then
        self.step = None
        self._began = self._mine = False

    def __enter__(self) -> sqlite3.Connection:
        database = self._database
        lock = database.lock
        if lock._is_owned():
            settle()
        self._held = lock._is_owned()  # with reason: this is called in the midst of something
        try:
            lock.acquire()
            self._mine = True
            self._connection = c = database.connection
            if c.in_transaction:
                raise StoreError(  # noqa: TRY301  the lock is let go of below
                    f"can't write to {database.path}: this thread is in the midst of a write there"
                )
            self._began = True
            database.writer = sys._getframe(1)
            c.execute("BEGIN IMMEDIATE")
            self._before = database.token()  # nobody else can commit from here on
            return c  # noqa: TRY300  no instruction may stand between the two
        except BaseException as error:
            self._end(error)
            if isinstance(error, DRIVER):
                raise database.failed("write to", error) from error
            raise

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        database = self._database
        try:
            if error is None:
                try:
                    self._connection.execute("COMMIT")
                    before, after = self._before, database.token()
                    if before and after and (after[0] - before[0]) & 0xFFFFFFFF == 1:
                        self.step = before, after
                    database.step = self.step
                    if self._then is not None:
                        self._then(self.step)
                except BaseException as trouble:  # noqa: BLE001  raised below, after the rollback
                    error = trouble
        finally:
            self._end(error)
        if error is not None:
            if isinstance(error, DRIVER):
                raise database.failed("write to", error) from error
            if kind is None:
                raise error

    def _end(self, error: BaseException | None) -> None:
        database = self._database
        try:
            if self._began:
                if error is not None:
                    database.roll_back()
                database.writer = None
        finally:
            if database.lock._is_owned() and (self._mine or not self._held):
                self._mine = False
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
