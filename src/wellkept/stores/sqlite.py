"""Items in one SQLite file, and an index of the terms that they can be found by."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, cast

from wellkept.errors import DamagedValue, NewerSchema, StoreError
from wellkept.records import Buffer
from wellkept.stores.base import Term, Where, check_key, check_prefix
from wellkept.stores.filesystem import private_file, refuse_irregular
from wellkept.stores.sqlite_file import Database, Token
from wellkept.stores.sqliterows import (
    ALL_INDEXED,
    BEHIND,
    SCHEMA,
    UNINDEXED,
    catch_up,
    make_tables,
    put_row,
    take_out,
)
from wellkept.stores.terms import Wanted, fits, rows_of

__all__ = ["APPLICATION", "Sqlite"]

APPLICATION = 0x6B657074
"""The text `wellkept` in the header of a file of items."""
_LARGE = 64 * 1024  # bytes from which an item is read as a blob: SQLite copies a column twice
_GET = f"SELECT id, CASE WHEN length(item) <= {_LARGE} THEN item END FROM items WHERE key = ?"
_SOME = 500  # keys in one statement: SQLite may take no more than 999 values
_PAGE = 5000  # matches that are fetched at once
_COUNTED = 2000  # matches up to which terms are counted, to begin with the rarest
_LARGEST = 999_000_000  # bytes of an item; a row of SQLite has at most 1,000,000,000


class Sqlite:
    """A file that holds items, for the processes of one host (of several, with less speed).

    Args:
        path: the file; made when needed.
        durable: an item survives a power cut once it is put.
        trust: take items from a file that others can write to.
        network: the file is on a network file system; found out by default.

    Raises:
        UntrustedSource: others can write to the file or its directory, and it is not trusted.
        StoreError: the file can't be opened, is not wellkept's, or a newer wellkept made it.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        durable: bool = False,
        trust: bool = False,
        network: bool | None = None,
    ) -> None:
        self.file = Path(path).expanduser().absolute()
        self._arguments = (str(self.file), durable, trust, network)
        self.trust = trust
        self._prepare(trust)
        self.database = Database(self.file, self._make, durable=durable, network=network)
        beside = self.file.with_name(f"{self.file.name}.locks")
        self.lock_file = None if self.database.network else (beside, 0o600)
        """See `Files.lock_file`."""
        self._point = cast("Callable[[str, str], Any]", self.database.fetch)
        self.database.open()

    def _prepare(self, trust: bool) -> None:
        private_file(self.file, trust)
        refuse_irregular(self.file)
        try:
            uri = f"{self.file.resolve().as_uri()}?mode=ro"
            with contextlib.closing(sqlite3.connect(uri, uri=True)) as c:
                self._check(c)  # before anything is changed in a file that may be somebody else's
        except sqlite3.DatabaseError:
            pass  # missing, or damaged: `Database` sees to it

    def _make(self, c: sqlite3.Connection) -> None:
        if self._check(c):
            return
        if self.database.readonly and self._version(c) == 1:
            c.execute(ALL_INDEXED)
        else:
            c.execute("BEGIN IMMEDIATE")
            try:
                if not self._check(c):  # nobody was faster
                    make_tables(c)
                    c.execute(f"PRAGMA application_id = {APPLICATION}")
                c.execute("COMMIT")
            except BaseException:
                c.execute("ROLLBACK")
                raise

    @staticmethod
    def _version(c: sqlite3.Connection) -> int:
        return int(c.execute("PRAGMA user_version").fetchone()[0])

    def _check(self, c: sqlite3.Connection) -> bool:
        """Whether the tables are there, as they are now."""
        found = c.execute(
            "SELECT (SELECT application_id FROM pragma_application_id), group_concat(name) "
            "FROM sqlite_master WHERE type = 'table'"
        ).fetchone()
        (owner, tables), version = found, self._version(c)
        if not tables:
            return False
        if owner != APPLICATION or not {"items", "terms"} <= set(tables.split(",")):
            raise StoreError(
                f"{self.file} is a database, but not one of items that kept made: choose another"
            )
        if version > SCHEMA:
            raise NewerSchema(
                f"a newer wellkept made {self.file} (schema {version}; this one knows {SCHEMA}): "
                "upgrade wellkept, or choose another file"
            )
        return bool(version == SCHEMA)

    # -- reading ----------------------------------------------------------------------------------

    def get(self, key: str) -> bytes | None:
        found = self._point(_GET, check_key(key))
        if found is None:
            return None
        return self._large(key) if found[1] is None else _bytes(found[1])

    def _large(self, key: str) -> bytes | None:
        try:
            with self.database.lock:
                c = self.database.connection
                c.execute("BEGIN")  # the row's number is the key's only as long as nobody writes
                try:
                    found = c.execute(_GET, (key,)).fetchone()
                    if found is None or found[1] is not None:
                        return None if found is None else _bytes(found[1])
                    with c.blobopen("items", "item", found[0], readonly=True) as blob:
                        return blob.read()
                finally:
                    c.execute("COMMIT")
        except sqlite3.Error as error:
            raise self.database.failed("read", error) from error

    def get_many(self, keys: Iterable[str]) -> dict[str, bytes]:
        found: dict[str, bytes] = {}
        for some in _batches(dict.fromkeys(map(check_key, keys))):
            marks = ",".join("?" * len(some))
            rows = self.database.rows(f"SELECT key, item FROM items WHERE key IN ({marks})", *some)
            found.update((key, _bytes(item)) for key, item in rows)
        return found

    def keys(self, prefix: str = "") -> Iterator[str]:
        where, bounds = _beginning(check_prefix(prefix))
        last = ""
        while True:
            query = f"SELECT key FROM items WHERE key > ? AND {where} ORDER BY key LIMIT {_PAGE}"
            page = [row[0] for row in self.database.rows(query, last, *bounds)]
            yield from page
            if len(page) < _PAGE:
                return
            last = page[-1]

    # -- writing ----------------------------------------------------------------------------------

    def put(self, key: str, item: Buffer, terms: Mapping[str, Term] | None = None) -> None:
        """Keep the item with the terms that it can be found by, in place of those it had."""
        rows = rows_of(terms)
        with self.database.writing() as c:
            put_row(c, check_key(key), _sized(item), rows)

    def put_many(self, items: Mapping[str, Buffer]) -> None:
        """Keep all of the items, or none."""
        with self.database.writing() as c:
            for key, item in items.items():
                put_row(c, check_key(key), _sized(item), [])

    def create(self, key: str, item: Buffer) -> bool:
        query = "INSERT INTO items (key, item) VALUES (?,?) ON CONFLICT DO NOTHING"
        with self.database.writing() as c:
            return c.execute(query, (check_key(key), _sized(item))).rowcount == 1

    def replace(self, key: str, old: bytes, item: Buffer) -> bool:
        """Keep the item if exactly `old` is there; its terms stay."""
        query = "UPDATE items SET item = ? WHERE key = ? AND item = ?"
        with self.database.writing() as c:
            return c.execute(query, (_sized(item), check_key(key), old)).rowcount == 1

    def delete(self, key: str) -> None:
        self.delete_many((key,))

    def delete_many(self, keys: Iterable[str]) -> None:
        """Forget all of the keys, or none."""
        checked = [check_key(key) for key in keys]
        with self.database.writing() as c:
            for key in checked:
                row = c.execute("SELECT id, terms FROM items WHERE key = ?", (key,)).fetchone()
                if row is not None:
                    take_out(c, *row)
                    c.execute("DELETE FROM items WHERE id = ?", row[:1])

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
        wanted = [Wanted.of(name, value) for name, value in where.items()]
        if not wanted:
            yield from self.keys(prefix)
            return
        behind = self._catch_up()
        query, values, rest, last = self._plan(wanted, prefix)
        while True:
            page = list(self.database.rows(query, *values, *last))
            for key, terms, *_ in page:
                if not rest or fits(terms, rest):
                    yield key
            if len(page) < _PAGE:
                break
            last = page[-1][-len(last) :]
        for key, terms in behind:
            if key.startswith(prefix) and fits(terms, wanted):
                yield key

    def _catch_up(self) -> list[tuple[str, str]]:
        """Index what was put since; where the file can't be written to, what is not indexed."""
        if not any(self.database.rows(BEHIND)):
            return []
        try:
            with self.database.writing() as c:
                while catch_up(c):
                    pass
        except StoreError:
            return [(key, terms) for _, key, terms in self.database.rows(UNINDEXED)]
        return []

    def _plan(
        self, wanted: list[Wanted], prefix: str
    ) -> tuple[str, list[object], list[Wanted], tuple[object, ...]]:
        """A statement that begins with the rarest term, its values, what it leaves to check, and
        the values that it has besides: after which match it goes on."""
        rarest, *rest = sorted(wanted, key=self._count) if len(wanted) > 1 else wanted
        exact = [term for term in rest if term.low == term.high]
        # In this order and by these indexes: a term by its name and value, its item by number, and
        # each other term as one look at (name, value, id).
        also = "".join(
            " AND EXISTS (SELECT 1 FROM terms o WHERE o.name = ? AND o.value = ? AND o.id = t.id)"
            for _ in exact
        )
        inside, bounds = _beginning(prefix, "i.key")
        values: list[object] = [rarest.name, rarest.high]
        for term in exact:
            values += [term.name, term.low]
        last: tuple[object, ...]
        if rarest.low == rarest.high:
            that, order, last = "t.value = ?", "t.id > ? ORDER BY t.id", (-1,)
        else:
            that, last = "t.value <= ?", (rarest.low, -1)
            order = "(t.value, t.id) > (?, ?) ORDER BY t.value, t.id"
        query = (
            "SELECT i.key, i.terms, t.value, t.id FROM terms t CROSS JOIN items i ON i.id = t.id "
            f"WHERE t.name = ? AND {that}{also} AND {inside} AND {order} LIMIT {_PAGE}"
        )
        return query, [*values, *bounds], [term for term in rest if term not in exact], last

    def _count(self, term: Wanted) -> int:
        """How many items have a term, counted no further than matters."""
        query = (
            "SELECT count(*) FROM (SELECT 1 FROM terms WHERE name = ? AND value BETWEEN ? AND ? "
            f"LIMIT {_COUNTED})"
        )
        return int(next(self.database.rows(query, term.name, term.low, term.high))[0])

    # -- the whole --------------------------------------------------------------------------------

    def token(self) -> Token | None:
        """Differs after any commit by any process; None where that can't be seen."""
        return self.database.token()

    def close(self) -> None:
        """Close the file; it opens again when it is used."""
        self.database.close()

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopen, self._arguments


def _reopen(path: str, durable: bool, trust: bool, network: bool | None) -> Sqlite:
    return Sqlite(path, durable=durable, trust=trust, network=network)


def _sized(item: Buffer) -> Buffer:
    size = memoryview(item).nbytes
    if size > _LARGEST:
        raise StoreError(f"SQLite can't hold an item of {size:,} bytes; a store of files can")
    return item if size else b""  # an empty buffer of another type would be NULL


def _bytes(item: object) -> bytes:
    if not isinstance(item, bytes):
        raise DamagedValue("an item is damaged: it is not bytes")
    return item


def _beginning(prefix: str, column: str = "key") -> tuple[str, list[str]]:
    """A condition that an index serves: keys that begin with `prefix`."""
    if not prefix:
        return "1", []
    return f"{column} >= ? AND {column} < ?", [prefix, prefix + "\x7f"]  # keys are ASCII


def _batches(keys: Iterable[str]) -> Iterator[list[str]]:
    rest = iter(keys)
    while some := list(islice(rest, _SOME)):
        yield some
