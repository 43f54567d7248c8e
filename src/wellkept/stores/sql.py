"""Items in a table of PostgreSQL, MariaDB or SQLite, by SQLAlchemy's engines and the drivers' own
statements: a hit is one statement and one round trip."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from wellkept.errors import StoreError
from wellkept.records import Buffer
from wellkept.stores.base import Term, Where, check_key, check_prefix
from wellkept.stores.sqlconnections import Connections
from wellkept.stores.sqldialects import SOME, batches, marks
from wellkept.stores.sqlterms import Condition, encoded, field_name

__all__ = ["Sql"]

_LARGEST = 512 * 1024 * 1024  # what each of the databases can give back in one row
_PAGE = 1000  # names that are fetched at once
_BATCH = 8 * 1024 * 1024  # and bytes: half of what a MariaDB as installed takes at once
_COUNTED = 1000  # matches up to which terms are counted, to begin with the rarest


class Sql:
    """A table of items, for all processes and hosts that reach the database.

    Args:
        url: `postgresql://user:password@host/database`, `mariadb://…`, `mysql://…` or
            `sqlite:///path`; what follows a `?` goes to the driver.
        table: the name of the table of items, and what those beside it begin with.
        timeout: seconds without an answer after which an operation has failed.
        connect_timeout: the same for a connection.
        pool: connections that are kept open; as many again are opened and closed as needed.

    The database is first spoken to when it is needed; the tables are made then.

    Raises:
        ConfigError: the URL or an option is wrong, or the driver is not installed.
    """

    def __init__(
        self,
        url: str,
        table: str = "kept",
        *,
        timeout: float = 30.0,
        connect_timeout: float = 5.0,
        pool: int = 5,
    ) -> None:
        self._arguments = (url, table, timeout, connect_timeout, pool)
        self._connections = Connections(*self._arguments)
        self._dialect = self._connections.dialect
        self._run = self._connections.run

    @property
    def connections(self) -> Connections:
        """What its operations are run on."""
        return self._connections

    def __repr__(self) -> str:
        return f"Sql({self._connections.backend})"

    def __reduce__(self) -> tuple[Any, ...]:
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
        """How many keys begin with `prefix`: reads their index, not the items."""
        inside, bounds = _beginning(check_prefix(prefix))
        text = f"SELECT COUNT(*) FROM {{items}} WHERE name > ''{inside}"
        return int(self._rows(text, bounds)[0][0])

    # -- writing ----------------------------------------------------------------------------------

    def put(self, key: str, item: Buffer, terms: Mapping[str, Term] | None = None) -> None:
        """Keep the item with the terms that it can be found by, in place of those it had."""
        rows = _rows(terms) if terms else []
        self._run("write", check_key(key), self._dialect.put, key, _bytes(item), rows)

    def put_many(
        self,
        items: Mapping[str, Buffer],
        terms: Mapping[str, Mapping[str, Term]] | None = None,
    ) -> None:
        """Keep each item, with its terms if it has some; all or none of at most 500 items of
        together 8 MiB, and those that are more in several transactions."""
        # In one order in every process, or two of them could wait for each other.
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
        """Forget each key; all or none of at most 500."""
        for some in batches(sorted(map(check_key, keys)), SOME):
            text = self._dialect.text(f"DELETE FROM {{items}} WHERE name IN ({marks(some)})")
            what = some[0] if len(some) == 1 else f"{len(some)} items"
            self._run("delete", what, self._dialect.run, text, some)

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
        """A page's statement, its values, and the last ones: after which match it goes on."""
        rarest, *rest = self._by_number(wanted) if len(wanted) > 1 else wanted
        # A scalar subquery is asked row by row in every database: a look at the primary key, where
        # a join might be turned round and begin with the term that a million items have.
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
        """Close the connections; they are opened again when they are needed."""
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
    """A condition that an index serves: names that begin with `prefix`."""
    if not prefix:
        return "", []
    return f" AND {column} >= ? AND {column} < ?", [prefix, prefix + "\x7f"]  # keys are ASCII


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
