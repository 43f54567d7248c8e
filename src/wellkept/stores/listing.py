"""The tables that queries go by, and their upkeep.

`listed` has each call by function and time, `tally` counts them, `terms` has their arguments, runs
and tags by value, `links` the digests of arguments that no record shows. A commit only adds the
call's row number to the `Ring`; every thousandth, and every query first, brings the tables up to
what is there. How far they are stands in `meta`, in the same transaction::

    queries   <identity of the ring>:<how many of its rows are in>:<the last row of a scan, or nothing>

A scan is how a store that has no such tables gets them, in steps that others can write between. On a
network file system, where no mapping is shared, a commit fills the tables itself; so it does with
`durability="power"`.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from wellkept.errors import StoreError
from wellkept.stores.database import Database
from wellkept.stores.listed import FIRST, fill, scan_on
from wellkept.stores.notes import has_table
from wellkept.stores.ring import CAPACITY, Ring

__all__ = ["Listing", "forget"]

BATCH = 1_000
"""Rows in the ring at which a commit brings the tables up to date."""
_MARK = "SELECT value FROM meta WHERE name = 'queries'"


class _Mark(NamedTuple):
    """How far the tables are."""

    identity: int
    taken: int
    scanned: str = ""
    """How far a scan is that goes on; nothing: all rows are in."""

    def __str__(self) -> str:
        return f"{self.identity}:{self.taken}:{self.scanned}"


_DIRECT = _Mark(0, 0)  # kept by each commit, without a ring


class Listing:
    """Keeps the tables of one embedded store.

    Args:
        path: of the ring.
        noted: told of each commit that a query made, by the tokens before and after it, as it changed
            no call.
        direct: fill the tables with each commit.
    """

    def __init__(
        self, database: Database, path: Path, noted: Callable[[Any], None], *, direct: bool
    ) -> None:
        self._database = database
        self._noted = noted
        self._path = path
        self._direct = direct
        self._ring: Ring | None = None
        self._in: int | None = None  # rows of the ring that are in, at the least; None: not known

    # -- writing ----------------------------------------------------------------------------------

    def add(self, c: sqlite3.Connection, row: int) -> None:
        """Inside the write transaction that wrote a call's row: remember that it did."""
        if self._database.network:
            mark = _marked(c)
            if mark == _DIRECT or (mark is None and _only(c)):
                fill(c, [row])
                _set(c, _DIRECT)
            elif mark is not None:
                forget(c)  # who has a ring does not know of this row
            return
        try:
            count = self._opened(c).add(row)
        except OSError:
            forget(c)
            return
        if self._in is None:
            mark = _marked(c)
            if mark is None and _only(c):
                mark = self._begin(c, count - 1)
            self._in = count if mark is None else mark.taken
        if self._direct or count - self._in >= BATCH:
            self._drain(c)

    def _opened(self, c: sqlite3.Connection) -> Ring:
        if self._ring is None:
            self._ring = Ring(self._path)
        return self._ring

    def look(self) -> None:
        """Now and then: whether the ring was removed. What is missing then is found by a scan."""
        if self._ring is not None and self._ring.gone():
            with contextlib.suppress(StoreError):  # it is tried again
                with self._database.writing() as c:
                    forget(c)
                self.close()

    def close(self) -> None:
        """Let go of the ring; the next commit or query maps it again."""
        self._ring, self._in = None, None

    def reset(self) -> None:
        """The index is another one, or a transaction was rolled back: nothing is known of it."""
        self._in = None

    # -- bringing up to date ----------------------------------------------------------------------

    def current(self) -> bool:
        """Bring the tables up to date; whether that could be done.

        Raises:
            StoreError: the index can't be read or written.
        """
        database = self._database
        if database.readonly:
            return self._seen_current()
        with database.lock:
            if self._known_current():
                return True
        done = False
        while not done:
            with database.writing(self._noted) as c:
                done = self._step(c)
        return True

    def lacking(self) -> list[int] | None:
        """The rows that the tables lack, which are left as they are; None: of many it is not known.

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
        """One step towards being up to date; whether it was the last."""
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
        """Empty the tables, or begin with empty ones."""
        if mark is None:
            mark = _Mark(self._opened(c).identity, count)
        for table in ("listed", "tally", "terms", "links"):
            c.execute(f"DELETE FROM {table}")
        _set(c, mark)
        return mark

    def _drain(self, c: sqlite3.Connection) -> _Mark:
        """Take in what the ring has, if the tables were ever begun."""
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
    """Inside a write transaction: the tables are no longer what they should be; a scan makes them."""
    c.execute("DELETE FROM meta WHERE name = 'queries'")


def _only(c: sqlite3.Connection) -> bool:
    """Whether a first call has just been written."""
    return len(c.execute("SELECT 1 FROM calls LIMIT 2").fetchall()) < 2


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
