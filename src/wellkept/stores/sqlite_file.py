"""One SQLite file and this process's connection to it: transactions, snapshots, forking, damage."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

from wellkept._process import Worker, at_fork
from wellkept.errors import StoreError, tell
from wellkept.interrupts import Guard, on_stack, settle, settles
from wellkept.stores.epoch import Epochs, Step, Token
from wellkept.stores.filesystem import alone, identity, on_network, refuse_irregular
from wellkept.stores.wal_index import WalIndex

DRIVER = (sqlite3.Error, UnicodeDecodeError)
"""What the driver raises for a file that is not as it should be."""


class Writing:
    """One write transaction. A class, as a generator costs twice as much, and each miss has one.

    An exception may come between any two instructions. What it leaves here, an open transaction and a
    lock that is held, `Database.settle` and the next use make right: they see that the frame that
    was writing is no longer there.
    """

    __slots__ = (
        "_before",
        "_began",
        "_connection",
        "_database",
        "_held",
        "_mine",
        "_then",
        "adds",
        "step",
    )

    _before: Token | None
    step: Step | None
    """The tokens just before and after the commit; None where somebody else committed too."""
    adds: bool
    """Whether it changes nothing that could be read before; see `Epochs`."""

    def __init__(
        self,
        database: Database,
        then: Callable[[Step | None], object] | None = None,
        adds: bool = False,
    ) -> None:
        self._database = database
        self._then = then
        self.adds = adds
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
            c = database._connection
            if c is None or c.in_transaction or database._reading:
                c = database.connection
            self._connection = c
            if c.in_transaction:
                raise StoreError(  # noqa: TRY301  the lock is let go of below
                    f"can't write to {database.path}: this thread is in the midst of a write there"
                )
            self._began = True
            database.writer = sys._getframe(1)
            if database.crowded and database.epochs is not None:
                database.epochs.wait()
            c.execute("BEGIN IMMEDIATE")
            # Nobody else can commit from here on.
            watch = database._watch
            if watch is None:
                self._before = None
            else:
                words, last = watch.words, database.step
                self._before = words[1], words[5]
                if last is not None and last.after != self._before:
                    database.crowded = _CROWDED
                elif database.crowded:
                    database.crowded -= 1
            return c  # noqa: TRY300  no instruction may stand between the two
        except BaseException as error:
            self._end(error)
            if isinstance(error, DRIVER):
                raise database.failed("write to", error) from error
            raise

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        database = self._database
        # By a signal's handler: whatever is met then is no more than that.
        closed = database._connection is not self._connection
        try:
            if error is None:
                try:
                    self._connection.execute("COMMIT")
                    before, watch = self._before, database._watch
                    if before is not None and watch is not None:
                        words = watch.words
                        after = words[1], words[5]
                        if (after[0] - before[0]) & 0xFFFFFFFF == 1:
                            epochs = database.epochs
                            self.step = (
                                Step(before, after)
                                if epochs is None
                                else epochs.commit(before, after, self.adds)
                            )
                    database.step = self.step
                    if self._then is not None:
                        self._then(self.step)
                except BaseException as trouble:  # noqa: BLE001  raised below, after the rollback
                    error = trouble
        finally:
            self._end(error)
        if error is not None:
            if closed and isinstance(error, Exception) and not isinstance(error, StoreError):
                raise StoreError(
                    f"can't write to {database.path}: it was closed in the midst of a write"
                ) from error
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
            if database.epochs is not None and database.epochs.taking:
                database.epochs.over()
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


PAUSE = 0.1  # seconds without a read after which a snapshot ends; at most twice as long


class Reads(Protocol):
    """What has a snapshot open."""

    def end_if_idle(self) -> bool:
        """End the snapshot if nothing was read since the last call; whether none is open now."""
        ...


_open: set[Reads] = set()
_idle = 0  # looks in a row at which no snapshot was open


def watch_snapshot(reader: Reads) -> None:
    """Have the snapshot of `reader` ended when it is idle."""
    _open.add(reader)
    _ends_snapshots.begin()


def _end_idle() -> bool:
    global _idle
    for reader in list(_open):
        # Taken out before the look: who begins a snapshot after it puts it in again.
        _open.discard(reader)
        if not reader.end_if_idle():
            _open.add(reader)
    _idle = 0 if _open else _idle + 1
    # A thread is dear to begin, so it waits for a while for the next burst of reads.
    return _idle <= 100


_ends_snapshots = Worker("wellkept-snapshots", _end_idle, lambda: PAUSE)
at_fork(in_child=_open.clear)


# Writes of this process for which it takes turns after another one has written: who takes none while the
# other does meets it in the midst of a write.
_CROWDED = 50
_BUSY = 30.0  # seconds to wait for another process's write before giving up on keeping a result


class Database:
    """A connection, shared by the threads of a process under a lock, made anew after a fork.

    Args:
        path: the file.
        schema: called with a new connection inside a write transaction; makes or checks the tables.
        durable: `synchronous=FULL`, so that a commit survives a loss of power.
        network: the file is on a network file system, where WAL is unsafe: a rollback journal.
        disposable: a damaged file is set aside and a new one begins; else that is an error.
        epochs: where commits say what they changed; None: any commit may have changed anything.
        busy: seconds to wait for a write of another process, or by another connection; 30 by default.

    `lock` guards `connection`; `token` tells cheaply whether anything was committed since.
    """

    set_aside: int

    def __init__(
        self,
        path: Path,
        schema: Callable[[sqlite3.Connection], None],
        *,
        durable: bool = False,
        network: bool | None = None,
        disposable: bool = True,
        epochs: Path | None = None,
        busy: float | None = None,
    ) -> None:
        self.path = path
        self.busy = busy
        self.disposable = disposable
        self.lock: Guard = Guard()
        self.network: bool = on_network(path.parent) if network is None else network
        self.changed: Callable[[], None] | None = None
        """Called whenever `words` has become another, or none: after opening, closing and forking."""
        self.rolled_back: Callable[[], None] | None = None
        """Called after a transaction was rolled back."""
        self.step: Step | None = None
        """The tokens just before and after this process's last commit."""
        self.epochs: Epochs | None = None if epochs is None else Epochs(epochs)
        self._schema = schema
        self.durable = durable
        self._connection: sqlite3.Connection | None = None
        self._cursor: sqlite3.Cursor | None = None
        self._snapshot: Token | None = None  # what the open read transaction sees
        self._reading = False
        self.crowded = 0
        """Writes for which turns are taken, as another process has written lately."""
        self.writer: FrameType | None = None
        """The call that has a write transaction open."""
        self._lately = False
        self._last: Token | None = None
        self._watch: WalIndex | None = None
        self._identity: tuple[int, int] | None = None
        self.readonly: bool = False
        self.room: int = 524_288  # KiB: the rows of a million calls
        """KiB of the file that are held in memory, as far as they are touched."""
        self.set_aside = 0
        """How many damaged files were set aside in this process."""
        _all.add(self)
        settles(self)

    # -- the connection ---------------------------------------------------------------------------

    @property
    def connection(self) -> sqlite3.Connection:
        """The connection, outside any snapshot; call with `lock` held."""
        if self._reading:
            self._end_snapshot()
        c = self._connection
        if c is None:
            return self.open()
        if c.in_transaction and not on_stack(self.writer):
            self.roll_back()  # an exception came where nothing could see to it
            self.writer = None
            return self._connection or self.open()
        return c

    def roll_back(self) -> None:
        """Undo the transaction that is open, if one is; call with `lock` held."""
        if self.rolled_back is not None:
            self.rolled_back()  # first: what was noted of it must not outlive it
        c = self._connection
        try:
            if c is not None and c.in_transaction:
                c.execute("ROLLBACK")
        except sqlite3.Error:
            self.close()  # with its connection a transaction ends too

    def settle(self) -> None:
        """See `wellkept.interrupts.settle`."""
        c, epochs = self._connection, self.epochs
        taking = epochs is not None and epochs.taking
        if c is not None and (c.in_transaction or taking) and self.lock.acquire(blocking=False):
            try:
                if not self._reading:
                    self.connection  # noqa: B018  which looks
                if epochs is not None and taking and not on_stack(self.writer):
                    epochs.over()
            finally:
                self.lock.release()

    @property
    def words(self) -> memoryview | None:
        """The WAL index header as 64-bit words, or None where there is none to watch_snapshot."""
        return self._watch.words if self._watch else None

    def open(self) -> sqlite3.Connection:
        """Open, or open anew.

        Raises:
            StoreError: it can't be opened, or a newer wellkept made it.
        """
        with self.lock, _opening, alone(self.path.parent):
            self.close()
            try:
                c = self._connect()
            except DRIVER as error:
                if not is_damage(error) or not self.disposable:
                    raise StoreError(f"can't open {self.path}: {error}") from error
                self._set_aside(error)
                try:
                    c = self._connect()
                except DRIVER as again:
                    raise StoreError(f"can't open {self.path}: {again}") from again
            self._identity = identity(self.path)
            if not self.network:
                self._watch = WalIndex.of(self.path)
            self._connection = c  # last: it stands for the rest
            self._tell()
            return c

    def hold(self, room: int) -> None:
        """Hold no more than so many KiB of the file in memory; raises as `open`."""
        self.room = room
        with self.lock:
            self.connection.execute(f"PRAGMA cache_size = -{room}")

    def shrink(self) -> None:
        """Let go of what is held of the file in memory."""
        with contextlib.suppress(sqlite3.Error), self.lock:
            self.connection.execute("PRAGMA shrink_memory")

    def _connect(self) -> sqlite3.Connection:
        refuse_irregular(self.path)
        self.readonly = not os.access(
            self.path if self.path.exists() else self.path.parent, os.W_OK
        )
        options = "?mode=ro" if self.readonly else ""
        if self.readonly and not os.access(self.path.parent, os.W_OK):
            if not self.path.exists():
                raise StoreError(f"can't make {self.path}: its directory can't be written to")
            if not Path(f"{self.path}-wal").exists():
                options = "?immutable=1"  # SQLite could not make its -shm file here
        c = sqlite3.connect(
            f"{self.path.resolve().as_uri()}{options}",
            uri=True,
            timeout=_BUSY,
            isolation_level=None,
            check_same_thread=False,
        )
        c.text_factory = _text
        try:
            c.execute(f"PRAGMA cache_size = -{self.room}")
            if not self.readonly:
                self._prepare(c)
            self._schema(c)
            # Not before: who opens the file waits for others that make its tables, however long.
            if self.busy is not None:
                c.execute(f"PRAGMA busy_timeout = {int(self.busy * 1000)}")
        except BaseException:
            c.close()
            raise
        return c

    def _prepare(self, c: sqlite3.Connection) -> None:
        mode = "delete" if self.network else "wal"
        deadline = time.monotonic() + _BUSY
        while True:
            try:
                (got,) = c.execute(f"PRAGMA journal_mode = {mode}").fetchone()
                break
            except sqlite3.OperationalError as error:
                # Changing the mode ignores the busy handler while another process does the same.
                if "locked" not in str(error) or time.monotonic() > deadline:
                    raise
                time.sleep(0.01)
        if got != mode:
            raise sqlite3.DatabaseError(f"malformed: the journal mode stays {got}")
        c.execute(f"PRAGMA synchronous = {'FULL' if self.durable else 'NORMAL'}")
        self._fit_log(c)
        c.execute("PRAGMA journal_size_limit = 67108864")

    def _fit_log(self, c: sqlite3.Connection) -> None:
        """Let the log grow to a quarter of a large file, 16 to 64 MB: pages that change often are then copied
        into the file less often."""
        (pages,) = c.execute("PRAGMA page_count").fetchone()
        c.execute(f"PRAGMA wal_autocheckpoint = {min(max(pages // 4, 4_000), 16_000)}")

    def close(self) -> None:
        with self.lock, _opening:
            # In this order: the mapping's descriptor must outlive the connection (see WalIndex).
            c = self._connection
            self._no_connection()
            if c is not None:
                with contextlib.suppress(sqlite3.Error):
                    c.close()
            if self.epochs is not None:
                self.epochs.close()
            if self._watch is not None:
                watch_snapshot, self._watch = self._watch, None
                try:
                    self._tell()
                finally:
                    del c  # so also where it could not be closed above
                    watch_snapshot.close()

    def _no_connection(self) -> None:
        self._connection = self._cursor = self._snapshot = self._last = self.writer = None
        self._reading = False

    def _tell(self) -> None:
        if self.changed is not None:
            self.changed()

    def token(self) -> Token | None:
        """Differs after any commit by any process; None where that can't be seen."""
        watch_snapshot = self._watch
        return watch_snapshot.token() if watch_snapshot else None

    def look(self) -> None:
        """Now and then: whether the file of epochs was removed, and how large the log may be."""
        with self.lock:
            if self.epochs:
                self.epochs.look()
            if self._connection is not None and not self.readonly:
                # Whoever asks next hears of a file that can't be read.
                with contextlib.suppress(*DRIVER):
                    self._fit_log(self._connection)

    def replaced(self) -> bool:
        """Whether the file at `path` is no longer the one that is open: removed, or set aside."""
        return self._connection is not None and identity(self.path) != self._identity

    def rows(self, query: str, *values: object) -> Iterator[tuple[Any, ...]]:
        """What a query selects, all at once.

        Raises:
            StoreError: the file can't be read.
        """
        try:
            with self.lock:
                return iter(self.connection.execute(query, values).fetchall())
        except DRIVER as error:
            raise self.failed("read", error) from error

    def fetch(self, query: str, row: int) -> Any:
        """The one row of a point read, or None; a burst of them shares a read transaction.

        Raises:
            StoreError: the file can't be read.
        """
        try:
            with self.lock:
                watch_snapshot = self._watch
                if watch_snapshot is None:
                    return self.connection.execute(query, (row,)).fetchone()
                words = watch_snapshot.words
                now = (words[1], words[5])
                if now == self._snapshot:
                    self._lately = True
                    return self._cursor.execute(query, (row,)).fetchone()  # type: ignore[union-attr]  # it came with the snapshot
                if now != self._last:  # no burst: somebody commits between the reads
                    self._last = now
                    c = self._connection
                    if c is None or c.in_transaction or self._reading:
                        c = self.connection
                    return c.execute(query, (row,)).fetchone()
                return self._fetch_anew(query, row, now)
        except DRIVER as error:
            raise self.failed("read", error) from error
        except BaseException as error:
            if not isinstance(error, Exception):
                settle()
            raise

    def _fetch_anew(self, query: str, row: int, now: Token) -> Any:
        c = self.connection
        if self._cursor is None:
            self._cursor = c.cursor()
        self._reading = self._lately = True
        c.execute("BEGIN")
        found = self._cursor.execute(query, (row,)).fetchone()
        if self.token() == now:
            self._snapshot = now
            watch_snapshot(self)
        else:
            self._end_snapshot()
        return found

    def _end_snapshot(self) -> None:
        self._snapshot = None
        if self._connection is not None:
            with contextlib.suppress(sqlite3.Error):
                self._connection.execute("COMMIT")
        self._reading = False

    def end_if_idle(self) -> bool:
        """End the snapshot if nothing was read since the last call; whether none is open now."""
        lock = self.lock
        if not lock.acquire(blocking=False):
            return False
        try:
            if self._lately:
                self._lately = False
            elif self._reading:
                self._end_snapshot()
            return not self._reading
        finally:
            lock.release()

    # -- transactions -----------------------------------------------------------------------------

    def writing(
        self, then: Callable[[Step | None], object] | None = None, adds: bool = False
    ) -> Writing:
        """A write transaction: committed at the end, rolled back by an exception.

        Args:
            adds: it changes no call that is there; see `Epochs`.
            then: told of the tokens before and after the commit (see `Writing`), before another thread
                can read or write here.

        Raises:
            StoreError: the disk is full, the file can't be written to, or stays locked.
        """
        return Writing(self, then, adds)

    def failed(self, what: str, error: Exception) -> StoreError:
        """The error to raise for a driver's; a damaged file is set aside first."""
        if self.disposable and (is_damage(error) or self._refuses_writes(error)):
            self.damaged(error)
        return StoreError(f"can't {what} {self.path}: {error}")

    # -- damage -----------------------------------------------------------------------------------

    def _refuses_writes(self, error: Exception) -> bool:
        # A byte of the header says which versions of SQLite may write: flipped, it says none.
        plain = getattr(error, "sqlite_errorname", "") == "SQLITE_READONLY"
        return plain and not self.readonly and os.access(self.path, os.W_OK)

    def damaged(self, cause: Exception) -> None:
        """Set the file aside and begin a new one; work goes on."""
        with self.lock, _opening, alone(self.path.parent):
            done = self.replaced()  # by another process
            self.close()
            if not done:
                self._set_aside(cause)

    def _set_aside(self, cause: Exception) -> None:
        kept = self.path.with_name(f"{self.path.stem}.damaged-{time.time_ns()}{self.path.suffix}")
        try:
            self.path.rename(kept)
            for end in ("-wal", "-shm", "-journal"):
                with contextlib.suppress(FileNotFoundError):
                    Path(f"{self.path}{end}").rename(f"{kept}{end}")
        except OSError as error:
            raise StoreError(f"{self.path} is damaged and can't be moved aside: {error}") from error
        self.set_aside += 1
        tell(
            f"{self.path} is damaged ({cause}); it is kept as {kept.name} and a new index begins. "
            "`wellkept verify --repair` recovers what it can."
        )

    # -- fork -------------------------------------------------------------------------------------

    def _before_fork(self) -> None:
        # SQLite's own tables say which locks this process holds. A child would believe them, not
        # take the locks, and lose its log when the parent closes: so there is nothing to inherit.
        # Until the fork is over no thread may connect again: a child that was forked in the midst of
        # its transaction would wait forever for a lock that its own tables say is held.
        if self.lock.acquire(timeout=_PATIENCE):
            _forking.held.append(self.lock)
            c = self._connection
            if c is not None and (self._reading or not c.in_transaction):
                self.close()

    def _forked(self) -> None:
        self.lock = Guard()  # another thread may have held it at the fork
        if self._connection is not None:
            _abandon(self._connection)
        self._no_connection()
        if self._watch is not None:
            # The file descriptor and mapping stay: closing them would be harmless for the parent's
            # locks but not for another connection that the child opens.
            _leaked.append(self._watch)
            self._watch = None
        self._tell()


_all: weakref.WeakSet[Database] = weakref.WeakSet()
_leaked: list[Any] = []
_opening = Guard()
"""Held while a connection and its mapping come or go together; see `WalIndex`."""
_PATIENCE = 5.0  # seconds for which a fork waits for a thread that writes


class _Forking(threading.local):
    """What this thread holds while it forks."""

    def __init__(self) -> None:
        self.held: list[Guard] = []


_forking = _Forking()


def _abandon(connection: sqlite3.Connection) -> None:
    # SQLite forbids using, and even closing, a connection that was carried across a fork
    # (https://www.sqlite.org/howtocorrupt.html, section 2.6), so it must outlive the interpreter.
    import ctypes

    ctypes.pythonapi.Py_IncRef(ctypes.py_object(connection))


def _before_fork() -> None:
    for database in list(_all):
        try:
            database._before_fork()
        except Exception as error:  # noqa: BLE001  a fork goes on, and its locks are released
            tell(f"{database.path} could not be closed before a fork: {error}")


def _after_fork_here() -> None:
    while _forking.held:
        _forking.held.pop().release()


def _after_fork() -> None:
    global _opening
    _opening = Guard()
    _forking.held = []
    WalIndex.forget()
    for database in list(_all):
        database._forked()


at_fork(before=_before_fork, in_parent=_after_fork_here, in_child=_after_fork)


def _text(raw: bytes) -> str:
    # One text that is not UTF-8 is one damaged row, and no reason to refuse the statement.
    return raw.decode("utf-8", "surrogateescape")
