"""Named state in SQL: the rules of a change, run in a transaction; what differs between databases."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar

from wellkept.errors import DamagedValue, StoreError
from wellkept.kv.entry import LOGGED, About, Data, Entry, Logged, Name, Step, fits, made, size_of
from wellkept.kv.memory_state import full, too_old

R = TypeVar("R")
Record = tuple[int, str, str, Data | None]
"""Store, kind, key, data: what the log is told."""

_SOME = 500  # rows in one statement


class Session(Protocol):
    """A connection, in a transaction or outside."""

    def rows(self, text: str, *values: Any) -> list[Any]:
        """What a statement gives."""
        ...

    def run(self, text: str, *values: Any) -> int:
        """Run a statement; how many rows it met."""
        ...

    def now(self) -> float:
        """The clock; in a transaction that writes it stands still."""
        ...

    def record(self, changes: Sequence[Record], at: float) -> list[int]:
        """Write changes to the log; their revisions."""
        ...


class Engine(Protocol):
    """What differs between the databases."""

    def reading(self, on: str, do: Callable[..., R], *arguments: Any) -> R:
        """`do(session, …)`, which only reads."""
        ...

    def writing(self, on: str, do: Callable[..., R], *arguments: Any) -> R:
        """The same as one transaction that writes."""
        ...

    @property
    def clock(self) -> float:
        """The value that `{now}` in a statement takes."""
        ...

    def head(self, session: Session) -> int:
        """The last revision."""
        ...


def above(prefix: str) -> str:
    """The least text that is above all that begin with `prefix`, which has an ASCII letter."""
    for at in range(len(prefix) - 1, -1, -1):
        code = ord(prefix[at])
        if code < 0x10FFFF:
            after = 0xE000 if code == 0xD7FF else code + 1  # surrogates are no letters
            return prefix[:at] + chr(after)
    raise ValueError(prefix)


def slices(rows: Sequence[Any]) -> Iterable[Sequence[Any]]:
    return (rows[at : at + _SOME] for at in range(0, len(rows), _SOME))


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


_PRUNED = 1000  # changes after which the log is cut
_LIVE = "(expires IS NULL OR expires > {now})"
_COLUMNS = "name, json, item, revision, created, updated, expires, policy"
_EMPTY = "name, NULL, NULL, revision, created, updated, expires, policy"


class _Found(NamedTuple):
    entry: Entry | None
    """What is there, if it has not expired."""
    size: int
    """Of the row, expired or not; 0 without one."""


class SqlEntries:
    """`Entries` but for `wait` and `close`, over an engine.

    Args:
        history: how many changes the log holds.
    """

    def __init__(self, engine: Engine, history: int) -> None:
        self._engine = engine
        self._history = history
        self.numbers: dict[Name, int] = {}

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
        return self._engine.reading("stores", self._abouts, collection, scope, store)

    def _abouts(
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
        values: list[Any] = [self._engine.clock, collection]
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

    def declare(self, about: About) -> bool:
        return self._engine.writing(f"the store {about.name.store!r}", self._declare, about)

    def _declare(self, s: Session, about: About) -> bool:
        if self._abouts(s, *about.name):
            return False
        number = self.number(s, about.name, make=True)
        known = None if about.metadata is None else json.dumps(about.metadata)
        # Rows that have expired and are not swept yet count as long as they are there.
        s.run(
            "UPDATE {stores} SET declared = 1, policy = ?, metadata = ?, created = ?, max_keys = ?, "
            "max_bytes = ? WHERE id = ?",
            *(about.policy, known, s.now(), about.max_keys, about.max_bytes, number),
        )
        self._recount(s, number)
        return True

    def _recount(self, s: Session, number: int | None) -> None:
        low, high = f"{number}/", f"{number}0"
        ((keys, used),) = s.rows(
            "SELECT COUNT(*), COALESCE(SUM(size), 0) FROM {entries} WHERE name > ? AND name < ?",
            *(low, high),
        )
        text = "UPDATE {stores} SET used_keys = ?, used_bytes = ? WHERE id = ?"
        s.run(text, int(keys), int(used), number)

    def drop(self, name: Name) -> int | None:
        return self._engine.writing(f"the store {name.store!r}", self._drop, name)

    def _drop(self, s: Session, name: Name) -> int | None:
        there = bool(self._abouts(s, *name))
        number = self.number(s, name)
        if number is None:
            return None
        count = self._remove(s, name, "all", None)
        s.run(
            "UPDATE {stores} SET declared = 0, policy = 'persist', metadata = NULL, "
            "max_keys = NULL, max_bytes = NULL WHERE id = ?",
            number,
        )
        return count if there else None

    # -- reading ----------------------------------------------------------------------------------

    def get(self, name: Name, key: str) -> Entry | None:
        return self._engine.reading(repr(key), self._get, name, key)

    def _get(self, s: Session, name: Name, key: str) -> Entry | None:
        number = self.number(s, name)
        if number is None:
            return None
        text = f"SELECT {_COLUMNS} FROM {{entries}} WHERE name = ? AND {_LIVE}"
        found = s.rows(text, f"{number}/{key}", self._engine.clock)
        return entry_of(found[0]) if found else None

    def page(
        self, name: Name, prefix: str, after: str | None, limit: int, data: bool
    ) -> list[Entry]:
        return self._engine.reading("its keys", self._page, name, prefix, after, limit, data)

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
        found = s.rows(text, low, high, self._engine.clock)
        return [entry_of(row) if data else entry_of(row, "") for row in found]

    def count(self, name: Name, prefix: str) -> int:
        return self._engine.reading("its keys", self._count, name, prefix)

    def _count(self, s: Session, name: Name, prefix: str) -> int:
        number = self.number(s, name)
        if number is None:
            return 0
        low, high = f"{number}/{prefix}", above(f"{number}/{prefix}")
        text = f"SELECT COUNT(*) FROM {{entries}} WHERE name >= ? AND name < ? AND {_LIVE}"
        return int(s.rows(text, low, high, self._engine.clock)[0][0])

    def due(self) -> float | None:
        text = "SELECT MIN(expires) FROM {entries} WHERE expires IS NOT NULL"
        found = self._engine.reading("its keys", lambda s: s.rows(text))[0][0]
        return None if found is None else float(found)

    def newest(self) -> int:
        return self._engine.reading("its changes", self._engine.head)

    def changes(self, name: Name, since: int, limit: int) -> tuple[list[Logged], int]:
        return self._engine.reading("its changes", self._changes, name, since, limit)

    def _changes(self, s: Session, name: Name, since: int, limit: int) -> tuple[list[Logged], int]:
        newest = self._engine.head(s)  # before the rows, or one could be passed over
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

    def apply(self, name: Name, steps: Sequence[Step]) -> list[Entry | None] | None:
        on = repr(steps[0].key) if len(steps) == 1 else f"{len(steps)} keys"
        return self._engine.writing(on, self._apply, name, steps)

    def _apply(self, s: Session, name: Name, steps: Sequence[Step]) -> list[Entry | None] | None:
        number = self.number(s, name, make=True)
        now = s.now()
        found = []
        about: Any = None
        for step in steps:
            about, there = self._found(s, number, step, now)
            if not fits(step, there.entry):
                return None
            found.append(there)
        left: list[Entry | None] = []
        keys = used = 0
        for step, there in zip(steps, found, strict=True):
            entry, size = self._take(s, number, step, there, now)
            left.append(entry)
            keys += (entry is not None) - (there.size > 0)
            used += size - there.size
        if about is not None and (about[0] is not None or about[1] is not None):
            self._keep_within(s, name, number, about, keys, used, [step.key for step in steps])
        return left

    def _found(self, s: Session, number: int | None, step: Step, now: float) -> tuple[Any, _Found]:
        whole = isinstance(step.data, (str, bytes))
        data = "NULL, NULL" if whole else "e.json, e.item"
        text = (
            f"SELECT s.max_keys, s.max_bytes, e.name, {data}, e.revision, e.created, e.updated, "
            "e.expires, e.policy, e.size FROM {stores} s LEFT JOIN {entries} e ON e.name = ? "
            "WHERE s.id = ?"
        )
        rows = s.rows(text, f"{number}/{step.key}", number)
        if not rows:  # the file was replaced by another
            self.numbers.clear()
            raise StoreError("the stores were replaced by others at this moment; try again")
        row = rows[0]
        if row[2] is None:
            return row, _Found(None, 0)
        entry = entry_of(row[2:10], "" if whole else None)
        if entry.expires is not None and entry.expires <= now:
            return row, _Found(None, int(row[10]))
        return row, _Found(entry, int(row[10]))

    def _take(
        self, s: Session, number: int | None, step: Step, there: _Found, now: float
    ) -> tuple[Entry | None, int]:
        assert number is not None
        key, name = step.key, f"{number}/{step.key}"
        if there.entry is None and there.size:
            self._record(s, [(number, "expire", key, None)], now)
        if step.drop:
            if there.size:
                s.run("DELETE FROM {entries} WHERE name = ?", name)
            if there.entry is not None:
                self._record(s, [(number, "delete", key, None)], now)
            return None, 0
        entry = made(step, there.entry, now, 0)
        data = entry.data
        kind = "set" if data is step.data else "touch"
        (revision,) = self._record(s, [(number, kind, key, data)], now)
        text, item = (data, None) if isinstance(data, str) else (None, data)
        size = size_of(key, data)
        values = (text, item, revision, entry.created, now, entry.expires, entry.policy, size)
        if there.size:
            s.run(
                "UPDATE {entries} SET json = ?, item = ?, revision = ?, created = ?, updated = ?, "
                "expires = ?, policy = ?, size = ? WHERE name = ?",
                *values,
                name,
            )
        else:
            s.run(
                "INSERT INTO {entries} (json, item, revision, created, updated, expires, policy, "
                "size, name, store) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                *values,
                name,
                number,
            )
        return entry._replace(revision=revision), size

    def _record(self, s: Session, changes: Sequence[Record], now: float) -> list[int]:
        told = [
            (number, kind, key, None if data is None or len(data) > LOGGED else data)
            for number, kind, key, data in changes
        ]
        revisions = s.record(told, now)
        last = revisions[-1]
        if last % _PRUNED < len(revisions):
            floor = last - self._history
            if floor > 0:
                s.run("DELETE FROM {log} WHERE revision <= ?", floor)
                s.run("UPDATE {head} SET floor = ?", floor)
        return revisions

    def _keep_within(
        self,
        s: Session,
        name: Name,
        number: int | None,
        about: Any,
        keys: int,
        used: int,
        but: Sequence[str],
    ) -> None:
        s.run(
            "UPDATE {stores} SET used_keys = used_keys + ?, used_bytes = used_bytes + ? WHERE id = ?",
            *(keys, used, number),
        )
        if keys <= 0 and used <= 0:
            return
        limits = About(name, True, max_keys=about[0], max_bytes=about[1])
        while True:
            query = "SELECT used_keys, used_bytes FROM {stores} WHERE id = ?"
            ((count, total),) = s.rows(query, number)
            over = full(limits, int(count), int(total))
            if not over:
                return
            query = (
                "SELECT name, size, expires FROM {entries} WHERE store = ? AND policy = 'evict' "
                f"ORDER BY revision LIMIT {len(but) + 20}"
            )
            names = {f"{number}/{key}" for key in but}
            rows = [row for row in s.rows(query, number) if text_of(row[0]) not in names]
            if not rows:  # but for what was held, until it expired
                query = (
                    "SELECT name, size, expires FROM {entries} WHERE store = ? AND policy = 'held' "
                    f"AND expires <= ? LIMIT {len(but) + 20}"
                )
                found = s.rows(query, number, s.now())
                rows = [row for row in found if text_of(row[0]) not in names]
            if not rows:
                raise StoreError(over)
            victims: list[Any] = []
            for row in rows:
                if not full(limits, int(count) - len(victims), int(total)):
                    break
                victims.append(row)
                total = int(total) - int(row[1])
            self._removed(s, victims, "evict", s.now())

    def remove(self, name: Name | None, which: str, limit: int | None) -> int:
        return self._engine.writing("keys", self._remove, name, which, limit)

    def _remove(self, s: Session, name: Name | None, which: str, limit: int | None) -> int:
        now = s.now()
        where = "expires <= ?"
        values: list[Any] = [now]
        if name is not None:
            number = self.number(s, name)
            if number is None:
                return 0
            if which == "evictable":
                where, values = "store = ? AND policy = 'evict'", [number]
            else:
                where, values = "name > ? AND name < ?", [f"{number}/", f"{number}0"]
        most = "" if limit is None else f" LIMIT {int(limit)}"
        rows = s.rows(f"SELECT name, size, expires FROM {{entries}} WHERE {where}{most}", *values)
        self._removed(s, rows, "delete", now)
        live = sum(row[2] is None or row[2] > now for row in rows)
        return len(rows) if which == "expired" else live

    def _removed(self, s: Session, rows: Sequence[Any], kind: str, now: float) -> None:
        freed: dict[int, list[int]] = {}
        for some in slices(rows):
            changes: list[Record] = []
            for row in some:
                of, _, key = text_of(row[0]).partition("/")
                expired = row[2] is not None and row[2] <= now
                changes.append((int(of), "expire" if expired else kind, key, None))
                sums = freed.setdefault(int(of), [0, 0])
                sums[0] += 1
                sums[1] += int(row[1])
            self._record(s, changes, now)
            marks = ", ".join("?" * len(some))
            s.run(f"DELETE FROM {{entries}} WHERE name IN ({marks})", *(row[0] for row in some))
        for number, (count, size) in freed.items():
            s.run(
                "UPDATE {stores} SET used_keys = used_keys - ?, used_bytes = used_bytes - ? "
                "WHERE id = ? AND (max_keys IS NOT NULL OR max_bytes IS NOT NULL)",
                *(count, size, number),
            )
