"""Verification and repair of an embedded store.

Repair removes what is damaged, so that it is computed again. Other processes may go on meanwhile: a row is
removed only if it still is what was checked, and blobs are removed under the lock that writers of blobs take.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import stat
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wellkept.codecs import Envelope
from wellkept.errors import DamagedValue, DecodeError, KeptWarning, StoreError
from wellkept.hashing.buffers import new_hasher
from wellkept.stores.backend import Progress
from wellkept.stores.collect import collect_blobs, referenced, references, set_aside, unreferenced
from wellkept.stores.embedded import Embedded
from wellkept.stores.index_tables import CallRow, ValueRow, scan
from wellkept.stores.query_index import forget
from wellkept.stores.reports import Problem, Report
from wellkept.stores.salvage import put_away, salvage
from wellkept.stores.sqlite_file import DRIVER

# Seconds for which a blob that nothing references is no problem: its record may be about to be written.
_YOUNG = 3600.0
_CHUNK = 8 * 1024 * 1024
# How many messages SQLite's own check gives.
_MESSAGES = 20


@dataclass
class Check:
    """A check of a whole store; `run` does it."""

    store: Embedded
    repair: bool = False
    discard: bool = False
    progress: Progress = lambda stage, done, total: None
    problems: list[Problem] = field(default_factory=list)
    calls: int = 0
    values: int = 0
    blobs: int = 0
    bytes: int = 0
    salvaged_calls: int = 0
    salvaged_values: int = 0

    def run(self) -> Report:
        """Check everything, and repair if asked to.

        Raises:
            StoreError: the store can't be read, or with `repair` not be written.
        """
        if self.repair and self.store.database.readonly:
            raise StoreError(f"can't repair {self.store.root}: it is read-only")
        # The damaged rows of `values`.
        self._bad: set[int] = set()
        # The blobs that records name, and how large they should be.
        self._wanted: dict[str, int] = {}
        self._index()
        self._set_aside()
        self._scan("values", ValueRow.QUERY, self._value)
        self._scan("calls", _CALLS, self._call)
        self._look_at_blobs()
        self._look_for_strays()
        self._look_for_leftovers()
        # Rows may have gone that the tables for queries still name; the next query makes them anew.
        if self.repair:
            with self.store.database.writing() as c:
                forget(c)
        return Report(
            tuple(self.problems),
            self.calls,
            self.values,
            self.blobs,
            self.bytes,
            self.salvaged_calls,
            self.salvaged_values,
        )

    @property
    def _unreadable(self) -> bool:
        return self._broken and not self.repair

    def _add(self, kind: str, what: str, detail: str, repaired: bool = False) -> None:
        self.problems.append(Problem(kind, what, detail, repaired))

    # -- the index --------------------------------------------------------------------------------

    def _index(self) -> None:
        database = self.store.database
        self.progress("index", 0, 0)
        try:
            with database.lock:
                c = database.connection
                rows = c.execute(f"PRAGMA integrity_check({_MESSAGES})").fetchall()
            text = "\n".join(str(message) for (message,) in rows)
            found = [line for line in text.splitlines() if line != "ok" and line[:3] != "***"]
        except DRIVER as error:
            found = [str(error)]
        self._broken = bool(found)
        if found and self.repair:
            self._replace_index(found[0])
        for message in found:
            self._add("index", database.path.name, message, self.repair)

    def _replace_index(self, message: str) -> None:
        with warnings.catch_warnings():
            # The report says it.
            warnings.simplefilter("ignore", KeptWarning)
            self.store.database.damaged(sqlite3.DatabaseError(message))
        self.store.database.open()

    def _set_aside(self) -> None:
        for path in set_aside(self.store):
            detail = "a damaged index that was set aside; what it holds can be salvaged"
            if self.repair:
                found = salvage(self.store, path, self.progress)
                self.salvaged_calls += found.calls
                self.salvaged_values += found.values
                with contextlib.suppress(OSError):
                    put_away(path, discard=self.discard)
                detail = f"salvaged {found.calls:,} calls and {found.values:,} results of it"
            self._add("set aside", path.name, detail, self.repair and not path.exists())

    # -- rows -------------------------------------------------------------------------------------

    def _scan(self, table: str, query: str, look: Callable[[tuple[Any, ...]], None]) -> None:
        database = self.store.database
        total = self._count(table)
        try:
            for i, row in enumerate(scan(database, query)):
                look(row)
                if i % 1000 == 0:
                    self.progress(table, i, total)
        except DRIVER as error:
            # Repair has set a damaged index aside by now, so SQLite's own check did not find this.
            if self.repair:
                raise database.failed("read", error) from error
            self._broken = True
            self._add("index", database.path.name, f"the rest of {table} can't be read: {error}")
        self.progress(table, total, total)

    def _count(self, table: str) -> int:
        database = self.store.database
        with contextlib.suppress(*DRIVER), database.lock:
            query = f'SELECT count(*) FROM "{table}"'
            return int(database.connection.execute(query).fetchone()[0])
        return 0

    def _value(self, found: tuple[Any, ...]) -> None:
        row = ValueRow(*found)
        self.values += 1
        try:
            self._want(row.read())
        except DamagedValue as error:
            self._bad.add(row.id)
            gone = self._remove('"values"', row.id, "head", row.head)
            self._add("value", _name(row.digest, row.id), str(error), gone)
        except DecodeError as error:
            self._add("value", _name(row.digest, row.id), str(error))

    def _call(self, found: tuple[Any, ...]) -> None:
        *columns, stored = found
        row = CallRow(*columns)
        self.calls += 1
        name = _name(row.key, row.id)
        try:
            call, envelope = row.read()
        except DamagedValue as error:
            gone = self._remove("calls", row.id, "body", row.body)
            self._add("call", name, str(error), gone)
            return
        except DecodeError as error:
            self._add("call", name, str(error))
            return
        if envelope is not None:
            self.values += 1
            self._want(envelope)
        # A call whose `value` is NULL has no envelope because its result was evicted.
        elif row.value is not None and stored != call.result.raw:
            gone = self._remove("calls", row.id, "body", row.body)
            # A damaged value is in the report already.
            if row.value not in self._bad:
                self._add("missing result", name, "its result is not kept", gone)

    def _want(self, envelope: Envelope) -> None:
        for size, name in envelope.blobs:
            self._wanted[name.hex()] = size

    def _remove(self, table: str, id_: Any, column: str, content: Any) -> bool:
        """Remove a row if it still is what was checked; return whether repair was asked for."""
        if self.repair:
            with self.store.database.writing() as c:
                c.execute(f"DELETE FROM {table} WHERE id = ? AND {column} IS ?", (id_, content))
        return self.repair

    # -- blobs ------------------------------------------------------------------------------------

    def _look_at_blobs(self) -> None:
        total, done = sum(self._wanted.values()), 0
        bad: dict[str, str] = {}
        for name, size in self._wanted.items():
            self.progress("blobs", done, total)
            wrong = _wrong(self.store.blobs.path(name), name, size)
            self.blobs += 1
            self.bytes += size
            done += size
            if wrong:
                bad[name] = wrong
        self.progress("blobs", total, total)
        if bad:
            self._settle(bad)

    def _settle(self, bad: dict[str, str]) -> None:
        # Others may have evicted or healed some since they were read, so each is checked once more while no
        # blob can be written.
        with self._nobody_writes() if self.repair else contextlib.nullcontext():
            named = set(bad) if self._unreadable else bad.keys() & set(referenced(self.store))
            for name in sorted(named):
                path = self.store.blobs.path(name)
                wrong = _wrong(path, name, self._wanted[name])
                if not wrong:
                    named.discard(name)
                    continue
                gone = self.repair and _remove_file(path)
                self._add("missing blob" if "missing" in wrong else "blob", name, wrong, gone)
            if self.repair:
                self._forget_users(named)

    def _forget_users(self, names: set[str]) -> None:
        users = [
            user
            for user in references(self.store)
            if any(blob.name.hex() in names for blob in user.blobs)
        ]
        with self.store.database.writing() as c:
            for table, column, id_, sealed, _ in users:
                where = f"id = ? AND {column} IS ?"
                c.execute(f'DELETE FROM "{table}" WHERE {where}', (id_, sealed))
            c.execute(
                "DELETE FROM calls WHERE value IS NOT NULL "
                'AND value NOT IN (SELECT id FROM "values")'
            )

    def _look_for_strays(self) -> None:
        store = self.store
        if self._unreadable:
            # What can't be read of the index may reference any of them.
            return
        misplaced = list(_misplaced(store.blobs.root))
        try:
            with self._nobody_writes():
                names = unreferenced(store)
        except StoreError:
            if self.repair:
                raise
            # Writers hold the lock all the time, and which blobs are theirs can't be told.
            names = set()
        if not self.repair:
            # A blob whose call was deleted or replaced just now is no problem: a garbage collection removes it.
            names = {name for name in names if _age(store.blobs.path(name)) > _YOUNG}
        removed = self.repair and bool(names) and collect_blobs(store) is not None
        for name in sorted(names):
            gone = removed and not store.blobs.path(name).exists()
            self._add("stray", name, "a blob that nothing references", gone)
        for path in misplaced:
            gone = self.repair and _remove_file(path)
            where = str(path.relative_to(store.root))
            self._add("stray", where, "it is no blob, or not in its place", gone)

    def _nobody_writes(self) -> contextlib.AbstractContextManager[None]:
        return self.store.locks.collecting_blobs()

    def _look_for_leftovers(self) -> None:
        for path in self.store.blobs.leftovers():
            gone = self.repair and _remove_file(path)
            self._add("leftover", path.name, "a write that was never finished", gone)


_CALLS = CallRow.QUERY.replace("u.used\n", "u.used, v.digest\n") + (
    ' LEFT JOIN "values" v ON v.id = c.value'
)


def _name(digest: Any, id_: Any) -> str:
    return digest.hex() if type(digest) is bytes and len(digest) == 32 else f"row {id_}"


def _wrong(path: Path, name: str, size: int) -> str:
    """Return what is wrong with a blob; empty if nothing is."""
    try:
        found = path.lstat()
        # Reading a pipe or a device may never end.
        if not stat.S_ISREG(found.st_mode):
            return "it is no file"
        if found.st_size != size:
            return f"it has {found.st_size:,} bytes and should have {size:,}"
        hasher = new_hasher()
        with path.open("rb", buffering=0) as file:
            while chunk := file.read(_CHUNK):
                hasher.update(chunk)
    except FileNotFoundError:
        return "it is missing"
    except OSError as error:
        return f"it can't be read: {error.strerror}"
    return "" if hasher.hexdigest() == name else "its content is not what its name says"


def _age(path: Path) -> float:
    """Return the seconds since a file was written; 0 if it is gone."""
    try:
        return time.time() - path.stat().st_mtime
    except OSError:
        return 0.0


def _misplaced(root: Path) -> Iterator[Path]:
    """Yield the files below `root` that are not where a blob of their name would be."""
    for directory, _, names in os.walk(root):
        for name in names:
            path = Path(directory, name)
            digits = set(name) <= set("0123456789abcdef")
            if len(name) != 64 or not digits or path != root / name[:2] / name:
                yield path


def _remove_file(path: Path) -> bool:
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)
    return not path.exists()
