"""The tables of a file of items, and the rows of an item: itself, and the terms it is found by.

Terms are indexed late: an item says its own, and the table of terms holds those of the items up to a
mark. A put of a new item so changes two pages and not one more for each term; whoever looks for
terms, or puts the thousandth item behind the mark, indexes what lies behind it in one go.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, cast

from wellkept.errors import ConfigError, DamagedValue, NewerSchema, StoreError
from wellkept.records import Buffer
from wellkept.stores.base import Term, Where, check_key, check_prefix
from wellkept.stores.byte_store import ByteStoreBackend
from wellkept.stores.embedded import Embedded
from wellkept.stores.epoch import Token
from wellkept.stores.filesystem import private_file, refuse_irregular
from wellkept.stores.openers import checked_path
from wellkept.stores.sqlite_file import Database
from wellkept.stores.terms import Wanted, fits, pack, rows_of, unpack

SCHEMA = 2
"""2: terms are indexed up to a mark; 1: all of them."""
# A table by number with an index by key is as fast as a WITHOUT ROWID table for small items, and
# takes half its time for those of several KB. A term's value has no type, so that numbers and text
# are each ordered as what they are; an item repeats its terms, so that they can be taken out.
_TABLES = """
CREATE TABLE IF NOT EXISTS items (id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE,
  item BLOB NOT NULL, terms TEXT);
CREATE TABLE IF NOT EXISTS terms (name TEXT NOT NULL, value BLOB NOT NULL, id INTEGER NOT NULL,
  PRIMARY KEY (name, value, id)) WITHOUT ROWID;
CREATE TABLE indexed (mark INTEGER NOT NULL);
INSERT INTO indexed SELECT coalesce(max(id), 0) FROM items;
"""
# Items behind the mark from which a put indexes them.
_MANY = 1000
# Items that are indexed at once.
_BATCH = 5000
UNINDEXED = (
    "SELECT id, key, terms FROM items WHERE id > (SELECT mark FROM indexed) AND terms IS NOT NULL"
)
"""Number, key and terms of what lies behind the mark."""
ALL_INDEXED = "CREATE TEMP TABLE indexed AS SELECT 9223372036854775807 AS mark"
"""For a file of schema 1 that can't be written to."""
BEHIND = f"{UNINDEXED} LIMIT 1"


def make_tables(c: sqlite3.Connection) -> None:
    """Make what is missing of the tables, within a transaction."""
    for statement in _TABLES.split(";"):
        c.execute(statement)
    c.execute(f"PRAGMA user_version = {SCHEMA}")


def put_row(c: sqlite3.Connection, key: str, item: Buffer, terms: list[tuple[str, Any]]) -> None:
    """Write an item, within a transaction; it has these terms then, and no others."""
    text = pack(terms) if terms else None
    (mark,) = c.execute("SELECT mark FROM indexed").fetchone()
    row = c.execute("SELECT id, terms FROM items WHERE key = ?", (key,)).fetchone()
    if row is None:
        query = "INSERT INTO items (key, item, terms) VALUES (?,?,?)"
        number = c.execute(query, (key, item, text)).lastrowid or 0
    else:
        number = row[0]
        take_out(c, *row)
        c.execute("UPDATE items SET item = ?, terms = ? WHERE id = ?", (item, text, number))
    # Also a new item's: the numbers of what was deleted last are given again.
    if number <= mark:
        _index(c, [(*term, number) for term in terms])
    elif number - mark > _MANY:
        catch_up(c)


def catch_up(c: sqlite3.Connection) -> int:
    """Index some of what lies behind the mark, within a transaction; return how many items that were."""
    some = c.execute(f"{UNINDEXED} ORDER BY id LIMIT {_BATCH}").fetchall()
    rows = []
    for number, _, text in some:
        try:
            rows += [(*term, number) for term in unpack(text)]
        except DamagedValue:
            # It is found by no term, as when its terms can't be taken out.
            continue
    _index(c, sorted(rows, key=lambda row: (row[0], type(row[1]).__name__, row[1])))
    if len(some) == _BATCH:
        c.execute("UPDATE indexed SET mark = ?", (some[-1][0],))
    else:
        c.execute("UPDATE indexed SET mark = max(mark, (SELECT coalesce(max(id), 0) FROM items))")
    return len(some)


def _index(c: sqlite3.Connection, rows: list[tuple[Any, ...]]) -> None:
    c.executemany("INSERT OR REPLACE INTO terms VALUES (?,?,?)", rows)


def take_out(c: sqlite3.Connection, number: int, terms: str | None) -> None:
    """Take an item's terms out of the table, within a transaction."""
    if terms is None:
        return
    try:
        rows = [(*term, number) for term in unpack(terms)]
        c.executemany("DELETE FROM terms WHERE name = ? AND value = ? AND id = ?", rows)
    except (DamagedValue, sqlite3.InterfaceError, sqlite3.ProgrammingError):
        # Damaged: what it says can't be relied on, and a look at each term is slow but right.
        c.execute("DELETE FROM terms WHERE id = ?", (number,))


APPLICATION = 0x6B657074
"""The text `wellkept` in the header of a file of items."""
# Bytes from which an item is read as a blob: SQLite copies a column twice.
_LARGE = 64 * 1024
_GET = f"SELECT id, CASE WHEN length(item) <= {_LARGE} THEN item END FROM items WHERE key = ?"
# Keys in one statement: SQLite may take no more than 999 values.
_SOME = 500
# Matches that are fetched at once.
_PAGE = 5000
# Matches up to which terms are counted, to begin with the rarest.
_COUNTED = 2000
# Bytes of an item; a row of SQLite has at most 1,000,000,000.
_LARGEST = 999_000_000


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
        self.file: Path = checked_path(path)
        self._arguments = (str(self.file), durable, trust, network)
        self.trust = trust
        self._prepare(trust)
        self.database: Database = Database(self.file, self._make, durable=durable, network=network)
        beside = self.file.with_name(f"{self.file.name}.locks")
        self.lock_file: tuple[Path, int] | None = None if self.database.network else (beside, 0o600)
        """See `Files.lock_file`."""
        self._point = cast("Callable[[str, str], Any]", self.database.fetch)
        self.database.open()

    def _prepare(self, trust: bool) -> None:
        private_file(self.file, trust)
        refuse_irregular(self.file)
        try:
            uri = f"{self.file.resolve().as_uri()}?mode=ro"
            with contextlib.closing(sqlite3.connect(uri, uri=True)) as c:
                # Before anything is changed in a file that may be somebody else's.
                self._check(c)
        except sqlite3.DatabaseError:
            # It is missing or damaged: `Database` sees to it.
            pass

    def _make(self, c: sqlite3.Connection) -> None:
        if self._check(c):
            return
        if self.database.readonly and self._version(c) == 1:
            c.execute(ALL_INDEXED)
        else:
            c.execute("BEGIN IMMEDIATE")
            try:
                # Nobody was faster.
                if not self._check(c):
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
        """Return whether the tables are there, as they are now."""
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
                # The row's number is the key's only as long as nobody writes.
                c.execute("BEGIN")
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
        """Return the keys that begin with `prefix` and have all these terms.

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
        """Return a statement that begins with the rarest term, its values, what it leaves to check, and
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
        """Return how many items have a term, counted no further than matters."""
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
    # An empty buffer of another type would be NULL.
    return item if size else b""


def _bytes(item: object) -> bytes:
    if not isinstance(item, bytes):
        raise DamagedValue("an item is damaged: it is not bytes")
    return item


def _beginning(prefix: str, column: str = "key") -> tuple[str, list[str]]:
    """Return a condition that an index serves: keys that begin with `prefix`."""
    if not prefix:
        return "1", []
    # Keys are ASCII.
    return f"{column} >= ? AND {column} < ?", [prefix, prefix + "\x7f"]


def _batches(keys: Iterable[str]) -> Iterator[list[str]]:
    rest = iter(keys)
    while some := list(islice(rest, _SOME)):
        yield some


_OURS = frozenset({"calls", "functions", "meta", "values"})


def open_place(path: str | os.PathLike[str], **options: Any) -> Embedded | ByteStoreBackend:
    """Return the backend of a cache in a SQLite file.

    Args:
        path: the file; made with mode 0600 when needed. One that holds items, as
            `wellkept.stores.Sqlite` writes them, is used as that.
        options: as of `Embedded`.

    Raises:
        ConfigError: a file of items takes no such option.
        UntrustedSource: others can write to the file or its directory, and it is not trusted.
        StoreError: it can't be used, or is somebody else's database.
    """
    # One directory beside it, whatever link leads here.
    file = Path(path).expanduser().resolve()
    beside = file.with_name(f"{file.name}-files")
    tables, application = _what(file, ours=beside.is_dir())
    if application == APPLICATION:
        return ByteStoreBackend(Sqlite(file, **_items_options(options)))
    if tables and not tables >= _OURS:
        raise StoreError(f"{file} is a database, but not one that kept made: choose another file")
    private_file(file, bool(options.get("trust")))
    return Embedded(beside, index=file, **options)


def _items_options(options: dict[str, Any]) -> dict[str, Any]:
    if options.get("readonly"):
        raise ConfigError("a SQLite file of items takes no readonly=True; it maps nothing")
    taken: dict[str, Any] = {
        name: options[name] for name in ("trust", "network") if name in options
    }
    return {**taken, "durable": options.get("durability") == "power"}


def _what(file: Path, ours: bool) -> tuple[frozenset[str], int]:
    """Return the tables of a file, and the application id in its header; of a missing or damaged one, nothing.

    Through SQLite: closing a descriptor of our own would drop the locks of who has it open.
    """
    refuse_irregular(file)
    query = (
        "SELECT group_concat(name, '/'), (SELECT application_id FROM pragma_application_id) "
        "FROM sqlite_master WHERE type = 'table'"
    )
    try:
        with contextlib.closing(
            sqlite3.connect(f"{file.resolve().as_uri()}?mode=ro", uri=True)
        ) as c:
            names, application = c.execute(query).fetchone()
    except sqlite3.Error as error:
        if error.sqlite_errorname == "SQLITE_NOTADB" and not ours:
            raise StoreError(f"{file} is no SQLite database: choose another file") from error
        # Whoever opens it makes it, or sets it aside.
        return frozenset(), 0
    return frozenset((names or "").split("/")) - {""}, application
