"""The leases of an embedded store on a network file system: records in its index.

Whether byte-range locks hold between hosts depends on the server, so what must be right does not
rest on them. Only the collection of blobs still asks for one, beside its grace period.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

from wellkept.errors import StoreError
from wellkept.stores.leases import Lease, Leases
from wellkept.stores.locks import Locks
from wellkept.stores.sqlite_file import Database

__all__ = ["IndexRecords", "NetworkLocks"]


class IndexRecords:
    """`LeaseRecords` in the table `leases`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def read(self, key: bytes) -> Lease | None:
        query = "SELECT owner, token, beat, deadline FROM leases WHERE key = ?"
        for row in self._database.rows(query, key):
            return Lease(*row)
        return None

    def swap(self, key: bytes, old: Lease | None, new: Lease | None) -> bool:
        mark = None if old is None else (key, old.owner, old.token, old.beat)
        if mark is None and new is None:
            return self.read(key) is None
        same = "WHERE key = ? AND owner = ? AND token = ? AND beat = ?"
        with self._database.writing() as c:
            if mark is None:
                query = "INSERT OR IGNORE INTO leases VALUES (?,?,?,?,?)"
                done = c.execute(query, (key, *(new or ())))
            elif new is None:
                done = c.execute(f"DELETE FROM leases {same}", mark)
            else:
                query = f"UPDATE leases SET owner = ?, token = ?, beat = ?, deadline = ? {same}"
                done = c.execute(query, (*new, *mark))
            return done.rowcount == 1


class NetworkLocks:
    """What `Locks` offers, over records."""

    def __init__(self, database: Database, path: Path, host: str | None = None) -> None:
        self.leases = Leases(IndexRecords(database), host)
        self._blobs = Locks(path)
        self.waits: Path | None = None
        """See `Locks`."""
        self.acquire = self.leases.acquire
        self.release = self.leases.release
        self.holder = self.leases.holder

    @contextlib.contextmanager
    def writing_blobs(self) -> Iterator[None]:
        """See `Locks`. Where the server gives no locks, nobody can collect either."""
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(self._blobs.writing_blobs())
            except StoreError as error:
                if not isinstance(error.__cause__, OSError):
                    raise
            yield

    def collecting_blobs(self, patience: float = 10.0) -> AbstractContextManager[None]:
        """See `Locks`."""
        return self._blobs.collecting_blobs(patience)

    def close(self) -> None:
        """Release everything."""
        self.leases.close()
        self._blobs.close()
