"""Named state in SQL: the rules of a change, run in a transaction; what differs between databases."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from wellkept.errors import DamagedValue, StoreError
from wellkept.kv.entry import KEEP, LOGGED, About, Data, Entry, Logged, Name, Step
from wellkept.kv.plan import (
    Entries,
    Evictable,
    Op,
    Planned,
    Put,
    Room,
    View,
    size_of,
    too_old,
)

R = TypeVar("R")
_SOME = 500  # keys in one statement


class Session(Protocol):
    """A connection, in a transaction or outside."""

    revision: int
    """That of the last change, in a transaction that writes."""

    def begun(self, revision: int | None) -> None:
        """Know the revision before this transaction, which is what `{newest}` gives."""

    def rows(self, text: str, *values: Any) -> list[Any]:
        """What a statement gives."""

    def run(self, text: str, *values: Any) -> int:
        """Run a statement; how many rows it met."""

    def many(self, text: str, part: str, rows: Sequence[Sequence[Any]]) -> None:
        """Run a statement with each of the rows, or with some of them at once, as so many parts in
        the place of its star."""

    def now(self) -> float:
        """The clock; in a transaction that writes it stands still."""


def above(prefix: str) -> str:
    """The least text that is above all that begin with `prefix`, which has an ASCII letter."""
    for at in range(len(prefix) - 1, -1, -1):
        code = ord(prefix[at])
        if code < 0x10FFFF:
            after = 0xE000 if code == 0xD7FF else code + 1  # surrogates are no letters
            return prefix[:at] + chr(after)
    raise ValueError(prefix)


def slices(rows: Sequence[R], most: int) -> Iterator[Sequence[R]]:
    return (rows[at : at + most] for at in range(0, len(rows), most))


@functools.cache  # a statement that is made anew each time costs a third of a small change
def expanded(text: str, part: str, count: int) -> str:
    """A statement with so many values, or rows of them, in the place of its star."""
    return text.replace("*", ", ".join([part] * count))


def entry_of(row: Sequence[Any], data: Data | None = None) -> Entry:
    name, text, item, revision, created, updated, expires, policy = row
    return Entry(
        text_of(name).partition("/")[2],
        data_of(text, item) if data is None else data,
        revision,
        created,
        updated,
        expires,
        text_of(policy),
    )


def data_of(text: Any, item: Any, *, missing: bool = False) -> Any:
    if text is not None:
        return text_of(text)
    if item is not None:
        return bytes(item)
    if missing:
        return None
    raise DamagedValue("an entry is damaged: it has no value")


def text_of(value: Any) -> str:
    return value if isinstance(value, str) else bytes(value).decode("utf-8", "replace")


COLUMNS = ("json", "item", "revision", "created", "updated", "expires", "policy", "size")
"""Of an entry, but for its name and its store."""
_TABLES = """
CREATE TABLE {new}{stores} (id {serial}, collection {part} NOT NULL, scope {part} NOT NULL,
  store {part} NOT NULL, declared {bit} NOT NULL, policy {word} NOT NULL, metadata {text},
  created {real} NOT NULL, max_keys {int}, max_bytes {int}, used_keys {int} NOT NULL,
  used_bytes {int} NOT NULL, UNIQUE (collection, scope, store)){end};
CREATE TABLE {new}{entries} (name {key} PRIMARY KEY, store {int} NOT NULL, json {text}, item {blob},
  revision {int} NOT NULL, created {real} NOT NULL, updated {real} NOT NULL, expires {real},
  policy {word} NOT NULL, size {int} NOT NULL{keys}){by_name};
CREATE TABLE {new}{log} (revision {int} PRIMARY KEY, store {int} NOT NULL, kind {word} NOT NULL,
  name {name} NOT NULL, json {text}, item {blob}, at {real} NOT NULL){end};
CREATE TABLE {new}{head} ({counters}floor {int} NOT NULL){end};
INSERT {once}INTO {head} VALUES {first}"""
_INDEXES = """;
CREATE INDEX {new}{expiring} ON {entries} (expires) WHERE expires IS NOT NULL;
CREATE INDEX {new}{evictable} ON {entries} (store, revision) WHERE policy = 'evict'"""
_SQLITE = {
    **dict.fromkeys(("new", "end", "keys", "counters", "once"), ""),
    **dict.fromkeys(("part", "key", "name", "word", "text"), "TEXT"),
    **{"serial": "INTEGER PRIMARY KEY", "int": "INTEGER", "bit": "INTEGER", "real": "REAL"},
    **{"blob": "BLOB", "by_name": " WITHOUT ROWID", "first": "(0)"},
}
_SERVER = {
    **{"new": "IF NOT EXISTS ", "int": "BIGINT", "bit": "SMALLINT", "real": "DOUBLE PRECISION"},
    "counters": "id SMALLINT PRIMARY KEY, version BIGINT NOT NULL, revision BIGINT NOT NULL, ",
}
_ENGINE = " ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin"
_KINDS: dict[str, dict[str, str]] = {
    "sqlite": _SQLITE,
    "postgresql": _SQLITE
    | _SERVER
    | dict.fromkeys(("part", "key"), 'TEXT COLLATE "C"')
    | {"serial": "BIGINT GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY", "blob": "BYTEA"}
    | {"by_name": "", "first": "(1, 1, 0, 0) ON CONFLICT DO NOTHING"},
    "mariadb": _SERVER
    | {"serial": "BIGINT AUTO_INCREMENT PRIMARY KEY", "part": "VARBINARY(201)", "blob": "LONGBLOB"}
    | {"key": "VARBINARY(1100)", "name": "VARBINARY(1000)", "word": "VARCHAR(20)"}
    | {"text": "LONGTEXT", "end": _ENGINE, "by_name": _ENGINE, "once": "IGNORE "}
    | {"keys": ", KEY (expires), KEY (store, policy, revision)", "first": "(1, 1, 0, 0)"},
}


def tables(dialect: str, names: Mapping[str, str]) -> list[str]:
    """Return the statements that make the tables of named state.

    Args:
        dialect: `sqlite`, `postgresql` or `mariadb`.
        names: what `stores`, `entries`, `log`, `head` and the indexes are called there.
    """
    # MariaDB has no index of some of the rows: its own stand in the table.
    text = _TABLES if dialect == "mariadb" else _TABLES + _INDEXES
    return [part.strip().format(**_KINDS[dialect], **names) for part in text.split(";")]


_LOG = "INSERT INTO {log} (revision, store, kind, name, json, item, at) VALUES *"
_CHANGE = "(?, ?, ?, ?, ?, ?, ?)"
_PUT = (
    "INSERT INTO {entries} (name, store, json, item, revision, created, updated, expires, policy, "
    "size) VALUES * {replacing}"
)
_ENTRY = "(?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_DELETE = "DELETE FROM {entries} WHERE name IN (*)"
_FOUND = (
    "SELECT e.name, e.json, e.item, e.revision, e.created, e.updated, e.expires, e.policy, e.size, "
    "s.max_keys, s.max_bytes, s.used_keys, s.used_bytes, {newest} FROM {stores} s LEFT JOIN "
    "{entries} e ON e.name IN (*) WHERE s.id = ?"
)
_WITHOUT_DATA = _FOUND.replace("e.json, e.item", "NULL, NULL")
_PRUNED = 1000  # changes after which the log is cut
_LIVE = "(expires IS NULL OR expires > {now})"
_COLUMNS = "name, json, item, revision, created, updated, expires, policy"
_EMPTY = "name, NULL, NULL, revision, created, updated, expires, policy"


class SqlEntries(Entries):
    """`Entries` but for `wait` and `close`; what differs between databases is left to an engine.

    Args:
        history: how many changes the log holds.
    """

    def __init__(self, history: int) -> None:
        self._history = history
        self.numbers: dict[Name, int] = {}

    # -- the engine -------------------------------------------------------------------------------

    def reading(self, on: str, do: Callable[..., R], *arguments: Any) -> R:
        """`do(session, …)`, which only reads."""
        raise NotImplementedError

    def writing(self, on: str, do: Callable[..., R], *arguments: Any) -> R:
        """The same as one transaction that writes."""
        raise NotImplementedError

    @property
    def clock(self) -> float:
        """The value that `{now}` in a statement takes."""
        raise NotImplementedError

    def head(self, session: Session) -> int:
        """The last revision."""
        raise NotImplementedError

    # -- stores -----------------------------------------------------------------------------------

    def number(self, s: Session, name: Name, *, make: bool = False) -> int | None:
        """The number of a store, which it has for ever."""
        known = self.numbers.get(name)
        if known is not None:
            return known
        where = "collection = ? AND scope = ? AND store = ?"
        found = s.rows(f"SELECT id FROM {{stores}} WHERE {where}", *name)
        if not found and make:
            s.run(
                "INSERT INTO {stores} (collection, scope, store, declared, policy, created, "
                "used_keys, used_bytes) VALUES (?, ?, ?, 0, 'persist', 0, 0, 0)",
                *name,
            )
            return int(s.rows(f"SELECT id FROM {{stores}} WHERE {where}", *name)[0][0])
        if not found:
            return None
        self.numbers[name] = int(found[0][0])  # not of one just made: it may be rolled back
        return self.numbers[name]

    def abouts(self, collection: str, scope: str | None, store: str | None) -> list[About]:
        return self.reading("stores", self.find_stores, collection, scope, store)

    def find_stores(
        self, s: Session, collection: str, scope: str | None, store: str | None
    ) -> list[About]:
        live = "(e.expires IS NULL OR e.expires > {now})"
        there = (
            f"(SELECT e.created FROM {{entries}} e WHERE e.name > {{low}} AND e.name < {{high}} "
            f"AND {live} LIMIT 1)"
        )
        text = (
            "SELECT s.scope, s.store, s.declared, s.policy, s.metadata, s.created, s.max_keys, "
            f"s.max_bytes, {there} FROM {{stores}} s WHERE s.collection = ?"
        )
        values: list[Any] = [self.clock, collection]
        for column, value in (("scope", scope), ("store", store)):
            if value is not None:
                text += f" AND s.{column} = ?"
                values.append(value)
        found = []
        for row in s.rows(text, *values):
            name = Name(collection, text_of(row[0]), text_of(row[1]))
            if row[2]:
                known = None if row[4] is None else json.loads(text_of(row[4]))
                limits = [None if number is None else int(number) for number in row[6:8]]
                found.append(About(name, True, known, text_of(row[3]), float(row[5]), *limits))
            elif row[8] is not None:
                found.append(About(name, created=float(row[8])))
        return found

    # -- reading ----------------------------------------------------------------------------------

    def get(self, name: Name, key: str) -> Entry | None:
        return self.reading(repr(key), self._get, name, key)

    def _get(self, s: Session, name: Name, key: str) -> Entry | None:
        number = self.number(s, name)
        if number is None:
            return None
        text = f"SELECT {_COLUMNS} FROM {{entries}} WHERE name = ? AND {_LIVE}"
        found = s.rows(text, f"{number}/{key}", self.clock)
        return entry_of(found[0]) if found else None

    def page(
        self, name: Name, prefix: str, after: str | None, limit: int, data: bool
    ) -> list[Entry]:
        return self.reading("its keys", self._page, name, prefix, after, limit, data)

    def _page(
        self, s: Session, name: Name, prefix: str, after: str | None, limit: int, data: bool
    ) -> list[Entry]:
        number = self.number(s, name)
        if number is None:
            return []
        low, high = f"{number}/{prefix}", above(f"{number}/{prefix}")
        than = ">="
        if after is not None and f"{number}/{after}" >= low:
            low, than = f"{number}/{after}", ">"
        columns = _COLUMNS if data else _EMPTY
        text = (
            f"SELECT {columns} FROM {{entries}} WHERE name {than} ? AND name < ? AND {_LIVE} "
            f"ORDER BY name LIMIT {int(limit)}"
        )
        found = s.rows(text, low, high, self.clock)
        return [entry_of(row) if data else entry_of(row, "") for row in found]

    def count(self, name: Name, prefix: str) -> int:
        return self.reading("its keys", self._count, name, prefix)

    def _count(self, s: Session, name: Name, prefix: str) -> int:
        number = self.number(s, name)
        if number is None:
            return 0
        low, high = f"{number}/{prefix}", above(f"{number}/{prefix}")
        text = f"SELECT COUNT(*) FROM {{entries}} WHERE name >= ? AND name < ? AND {_LIVE}"
        return int(s.rows(text, low, high, self.clock)[0][0])

    def due(self) -> float | None:
        text = "SELECT MIN(expires) FROM {entries} WHERE expires IS NOT NULL"
        found = self.reading("its keys", lambda s: s.rows(text))[0][0]
        return None if found is None else float(found)

    def newest(self) -> int:
        return self.reading("its changes", self.head)

    def changes(self, name: Name, since: int, limit: int) -> tuple[list[Logged], int]:
        return self.reading("its changes", self._changes, name, since, limit)

    def _changes(self, s: Session, name: Name, since: int, limit: int) -> tuple[list[Logged], int]:
        newest = self.head(s)  # before the rows, or one could be passed over
        number = self.number(s, name)
        found: list[Logged] = []
        if number is not None and newest > since:
            text = (
                "SELECT revision, kind, name, json, item, at FROM {log} WHERE revision > ? "
                f"AND store = ? ORDER BY revision LIMIT {int(limit)}"
            )
            for revision, kind, key, text_, item, at in s.rows(text, since, number):
                data = data_of(text_, item, missing=True)
                found.append(Logged(int(revision), text_of(kind), text_of(key), data, float(at)))
        ((floor,),) = s.rows("SELECT floor FROM {head}")  # after the rows: they were all there
        if since < floor:
            raise too_old(since, int(floor))
        if len(found) == limit:
            return found, found[-1].revision
        return found, max(newest, found[-1].revision if found else 0)

    # -- writing ----------------------------------------------------------------------------------

    def change(self, on: str, plan: Callable[[View], Planned[R]]) -> R:
        result: R = self.writing(on, self._change, plan)[0]
        return result

    def _change(
        self, s: Session, plan: Callable[[View], Planned[R]], look: Look | None = None
    ) -> Planned[R]:
        look = look or Look(self, s)
        result, ops = plan(look)
        if ops:
            self._take(s, ops, look)
        return result, ops

    def _take(self, s: Session, ops: Sequence[Op], look: Look) -> None:
        log: list[Sequence[Any]] = []
        puts: dict[str, Sequence[Any]] = {}
        gone: set[str] = set()
        numbers: dict[Name, int | None] = {}
        used: dict[Name, list[int]] = {}
        about: About | None = None
        for op in ops:
            name = op.name
            number = numbers.get(name)
            if number is None:
                number = numbers[name] = self.number(s, name, make=True)
            if isinstance(op, About):
                about = op
                continue
            key = op.key
            row, size = f"{number}/{key}", None
            if isinstance(op, Put):
                entry, data = op.entry, op.entry.data
                text, item = (None, data) if isinstance(data, bytes) else (data, None)
                size = size_of(key, data)
                puts[row] = (row, number, text, item, *entry[2:], size)
                gone.discard(row)
                if len(data) > LOGGED:
                    text = item = None
            else:
                puts.pop(row, None)
                gone.add(row)
                text = item = None
            if look.limited is not False:
                old = look.sizes.pop((name, key), None)
                sums = used.setdefault(name, [0, 0])
                sums[0] += (size is not None) - (old is not None)
                sums[1] += (size or 0) - (old or 0)
                if size is not None:
                    look.sizes[name, key] = size
            log.append((op.revision, number, op.kind, key, text, item, op.at))
        if log:
            s.many(_LOG, _CHANGE, log)
            s.revision = log[-1][0]
            self._prune(s, log[-1][0], len(log))
        if gone:
            s.many(_DELETE, "?", [(row,) for row in gone])
        if puts:
            s.many(_PUT, _ENTRY, list(puts.values()))
        for name, sums in used.items():
            s.run(
                "UPDATE {stores} SET used_keys = used_keys + ?, used_bytes = used_bytes + ? "
                "WHERE id = ? AND (max_keys IS NOT NULL OR max_bytes IS NOT NULL)",
                *(*sums, numbers[name]),
            )
        if about is not None:  # whose entries are all gone by now
            known = None if about.metadata is None else json.dumps(about.metadata)
            s.run(
                "UPDATE {stores} SET declared = ?, policy = ?, metadata = ?, created = ?, "
                "max_keys = ?, max_bytes = ?, used_keys = 0, used_bytes = 0 WHERE id = ?",
                *(int(about.declared), about.policy, known, about.created, about.max_keys),
                *(about.max_bytes, numbers[about.name]),
            )

    def _prune(self, s: Session, last: int, count: int) -> None:
        floor = last - self._history
        if last % _PRUNED < count and floor > 0:
            s.run("DELETE FROM {log} WHERE revision <= ?", floor)
            s.run("UPDATE {head} SET floor = ?", floor)


class Look:
    """A `View` in a transaction."""

    __slots__ = ("_store", "limited", "now", "of", "session", "sizes")

    def __init__(self, of: SqlEntries, session: Session) -> None:
        self.of: SqlEntries = of
        self.session: Session = session
        self.now: float = session.now()
        self.sizes: dict[tuple[Name, str], int] = {}
        """Of the rows that were seen."""
        self.limited: bool | None = None
        """Whether the store has limits; None: not known."""
        self._store: Any = None

    @property
    def revision(self) -> int:
        return self.session.revision

    def found(self, name: Name, steps: Sequence[Step]) -> Mapping[str, Entry]:
        number = self.of.number(self.session, name)
        if number is None or not steps:
            self.limited = False
            return {}
        whole = KEEP in [step.data for step in steps]
        text = _FOUND if whole else _WITHOUT_DATA
        found = {}
        for some in (steps,) if len(steps) <= _SOME else slices(steps, _SOME):
            names = [f"{number}/{step.key}" for step in some]
            rows = self.session.rows(expanded(text, "?", len(some)), *names, number)
            if not rows:  # the file was replaced by another
                self.of.numbers.clear()
                raise StoreError("the stores were replaced by others at this moment; try again")
            for row in rows:
                if row[0] is not None:
                    entry = entry_of(row[:8], None if whole else "")
                    found[entry.key] = entry
                    self.sizes[name, entry.key] = row[8]
            self._store = rows[0]
        self.session.begun(self._store[13])
        self.limited = self._store[9] is not None or self._store[10] is not None
        return found

    def room(self, name: Name, changed: Collection[str]) -> Room | None:
        if not self.limited:
            return None
        max_keys, max_bytes, keys, used = self._store[9:13]
        about = About(name, True, max_keys=max_keys, max_bytes=max_bytes)
        used = int(used) - sum(self.sizes.values())
        return Room(about, int(keys) - len(self.sizes), used, self._evictable(name, changed))

    def _evictable(self, name: Name, changed: Collection[str]) -> Iterator[Evictable]:
        # What was held goes last, and only once it has expired.
        for policy, expired in (("evict", ""), ("held", " AND expires <= ?")):
            after, limit = 0, len(changed) + 20
            rows: Sequence[Any] = [None] * limit
            while len(rows) == limit:
                rows = self.session.rows(
                    "SELECT name, size, expires, revision FROM {entries} WHERE store = ? AND policy = "
                    f"'{policy}' AND revision > ?{expired} ORDER BY revision LIMIT {limit}",
                    *(self.of.number(self.session, name), after),
                    *([self.now] if expired else ()),
                )
                for row, size, expires, _ in rows:
                    key = text_of(row).partition("/")[2]
                    if key not in changed:
                        self.sizes[name, key] = int(size)
                        yield Evictable(key, int(size), expires)
                after = rows[-1][3] if rows else 0

    def removable(
        self, name: Name | None, which: str, limit: int | None
    ) -> Iterator[tuple[Name, str, float | None]]:
        where = "e.expires <= ?"
        values: list[Any] = [self.now]
        if name is not None:
            number = self.of.number(self.session, name)
            if number is None:
                return
            where, values = "e.name > ? AND e.name < ?", [f"{number}/", f"{number}0"]
            if which == "evictable":
                where, values = "e.store = ? AND e.policy = 'evict'", [number]
        most = "" if limit is None else f" LIMIT {int(limit)}"
        rows = self.session.rows(
            "SELECT s.collection, s.scope, s.store, e.name, e.size, e.expires FROM {entries} e "
            f"JOIN {{stores}} s ON s.id = e.store WHERE {where}{most}",
            *values,
        )
        for collection, scope, store, row, size, expires in rows:
            of = Name(text_of(collection), text_of(scope), text_of(store))
            key = text_of(row).partition("/")[2]
            self.sizes[of, key] = int(size)
            yield of, key, expires

    def abouts(self, collection: str, scope: str | None, store: str | None) -> list[About]:
        return self.of.find_stores(self.session, collection, scope, store)
