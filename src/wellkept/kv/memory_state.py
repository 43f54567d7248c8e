"""Named state in this process's memory, and the journal by which processes share it.

A change is planned first and made afterwards, so that it can be written down in between.
"""

from __future__ import annotations

import base64
import heapq
import json
import secrets
import threading
import time
import zlib
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple, TypeVar

from wellkept._process import Instances, chance
from wellkept.errors import DamagedValue, KeptError, NewerSchema, StoreError
from wellkept.interrupts import Guard, settling
from wellkept.kv.entry import HISTORY, LOGGED, About, Data, Entry, Logged, Name, Step
from wellkept.kv.plan import (
    Entries,
    Evictable,
    Gone,
    Op,
    Planned,
    Put,
    Room,
    View,
    past,
    size_of,
    too_old,
)
from wellkept.stores.base import Creates, Store
from wellkept.stores.record_format import seal, unseal

TOKENS = 1000
"""Changes of a journal whose tokens are known: so many may be written while a writer stands still."""


class Table:
    """One store."""

    def __init__(self) -> None:
        self.entries: dict[str, Entry] = {}
        self.expiring: dict[str, float] = {}
        self.about: About | None = None
        self.used: int = 0
        self._order: list[str] = []
        self._fresh: list[str] = []  # not yet in order
        self._ghosts: set[str] = set()  # in order, but gone

    def put(self, entry: Entry) -> None:
        self.gone(entry.key)
        if entry.key in self._ghosts:
            self._ghosts.discard(entry.key)
        else:
            self._fresh.append(entry.key)
        self.entries[entry.key] = entry
        self.used += size_of(entry.key, entry.data)
        if entry.expires is not None:
            self.expiring[entry.key] = entry.expires

    def gone(self, key: str) -> None:
        entry = self.entries.pop(key, None)
        if entry is not None:
            self.used -= size_of(key, entry.data)
            self.expiring.pop(key, None)
            self._ghosts.add(key)

    def recount(self) -> None:
        """Make all that follows from the entries anew."""
        self.used = sum(size_of(key, entry.data) for key, entry in self.entries.items())
        self.expiring = {
            key: entry.expires for key, entry in self.entries.items() if entry.expires is not None
        }
        self._fresh, self._ghosts, self._order = [], set(), sorted(self.entries)

    def order(self) -> list[str]:
        """The keys in order, and some that are gone."""
        if self._fresh:
            self._order += self._fresh
            self._order.sort()  # nearly sorted, and fast for that
            self._fresh = []
        if len(self._ghosts) > 1000 + len(self.entries):
            self._order = sorted(self.entries)
            self._ghosts = set()
        return self._order


class State:
    """Every store of a medium.

    Args:
        history: how many changes the log holds.
    """

    at: int

    def __init__(self, history: int) -> None:
        self.history = history
        self.tables: dict[Name, Table] = {}
        self.log: deque[tuple[Name, Logged]] = deque()
        self.revision: int = 0
        self.floor: int = 0
        """Changes after this revision are in the log."""
        self.at = 0
        """Where in a journal it stands."""
        self.tokens: deque[str] = deque(maxlen=TOKENS)
        """Those of the latest changes of the journal."""
        self._due: list[tuple[float, Name, str]] = []

    @property
    def token(self) -> str:
        """That of the change it stands at."""
        return self.tokens[-1] if self.tokens else ""

    def moved(self, token: str) -> None:
        """It stands behind one more change of the journal."""
        self.at += 1
        self.tokens.append(token)

    # -- what is there ----------------------------------------------------------------------------

    def live(self, name: Name, key: str, now: float) -> Entry | None:
        table = self.tables.get(name)
        found = table.entries.get(key) if table else None
        return None if found is None or past(found.expires, now) else found

    def page(
        self, name: Name, prefix: str, after: str | None, limit: int, now: float
    ) -> Iterator[Entry]:
        table = self.tables.get(name)
        if table is None:
            return
        order = table.order()
        at = bisect_left(order, prefix)
        if after is not None:
            at = max(at, bisect_right(order, after))
        for key in islice(order, at, None):
            if not key.startswith(prefix) or limit <= 0:
                return
            entry = table.entries.get(key)
            if entry is not None and not past(entry.expires, now):
                limit -= 1
                yield entry

    def count(self, name: Name, prefix: str, now: float) -> int:
        table = self.tables.get(name)
        if table is None:
            return 0
        if not prefix:
            return len(table.entries) - sum(at <= now for at in table.expiring.values())
        return sum(1 for _ in self.page(name, prefix, None, len(table.entries), now))

    def abouts(
        self, collection: str, scope: str | None, store: str | None, now: float
    ) -> Iterator[About]:
        for name, table in self.tables.items():
            if (
                name.collection == collection
                and (scope is None or name.scope == scope)
                and (store is None or name.store == store)
            ):
                if table.about is not None:
                    yield table.about
                elif self.count(name, "", now):
                    created = min(entry.created for entry in table.entries.values())
                    yield About(name, created=created)

    def changes(self, name: Name, since: int, limit: int) -> tuple[list[Logged], int]:
        if since < self.floor:
            raise too_old(since, self.floor)
        skip = since - self.floor  # every revision above the floor has one change
        found = []
        for at, (of, change) in enumerate(islice(self.log, skip, None)):
            if of == name:
                found.append(change)
            if len(found) == limit:
                return found, since + at + 1
        return found, self.revision

    def due(self) -> float | None:
        while self._due and not self.is_due(*self._due[0]):
            heapq.heappop(self._due)
        return self._due[0][0] if self._due else None

    def is_due(self, expires: float, name: Name, key: str) -> bool:
        table = self.tables.get(name)
        return table is not None and table.expiring.get(key) == expires

    def overdue(self, limit: int | None, now: float) -> Iterator[tuple[Name, str, float]]:
        """Stores, keys and expiries of what has expired, at most so many."""
        taken: list[tuple[float, Name, str]] = []
        while self._due and self._due[0][0] <= now and (limit is None or len(taken) < limit):
            item = heapq.heappop(self._due)
            if self.is_due(*item) and item not in taken[-1:]:
                taken.append(item)
        for item in taken:  # they go when the change is made, which may fail
            heapq.heappush(self._due, item)
        for expires, name, key in taken:
            yield name, key, expires

    # -- making -----------------------------------------------------------------------------------

    def make(self, ops: Sequence[Op]) -> None:
        """Take a planned change."""
        for op in ops:
            if isinstance(op, About):
                self._table(op.name).about = op if op.declared else None
                continue
            self._take(op)
            if isinstance(op, Put) and op.entry.expires is not None:
                heapq.heappush(self._due, (op.entry.expires, op.name, op.key))
            data = op.entry.data if isinstance(op, Put) and len(op.entry.data) <= LOGGED else None
            self.revision = op.revision
            self.log.append((op.name, Logged(op.revision, op.kind, op.key, data, op.at)))
            if len(self.log) > self.history:
                self.floor = self.log.popleft()[1].revision

    def remake(self, ops: Sequence[Op]) -> None:
        """Take a planned change of which some was taken before an exception came."""
        for op in ops:
            if not isinstance(op, About) and self.log and self.log[-1][1].revision >= op.revision:
                self._take(op)
            else:
                self.make([op])
        for name in {op.name for op in ops}:
            self._table(name).recount()

    def _table(self, name: Name) -> Table:
        return self.tables.setdefault(name, Table())

    def _take(self, op: Put | Gone) -> None:
        table = self._table(op.name)
        if isinstance(op, Put):
            table.put(op.entry)
        else:
            table.gone(op.key)


class _Look(NamedTuple):
    """A `View` of a state."""

    state: State
    now: float

    @property
    def revision(self) -> int:
        return self.state.revision

    def found(self, name: Name, steps: Sequence[Step]) -> Mapping[str, Entry]:
        table = self.state.tables.get(name)
        return {} if table is None else table.entries

    def room(self, name: Name, changed: Collection[str]) -> Room | None:
        table = self.state.tables.get(name)
        if table is None or table.about is None or not table.about.limited:
            return None
        old = [table.entries[key] for key in changed if key in table.entries]
        used = table.used - sum(size_of(entry.key, entry.data) for entry in old)
        evictable = self._evictable(table, changed)
        return Room(table.about, len(table.entries) - len(old), used, evictable)

    def _evictable(self, table: Table, changed: Collection[str]) -> Iterator[Evictable]:
        entries = sorted(table.entries.values(), key=lambda entry: entry.revision)
        free = [entry for entry in entries if entry.policy == "evict"]
        # What was held goes last, and only once it has expired.
        free += [e for e in entries if e.policy != "evict" and past(e.expires, self.now)]
        for entry in free:
            if entry.key not in changed:
                yield Evictable(entry.key, size_of(entry.key, entry.data), entry.expires)

    def removable(
        self, name: Name | None, which: str, limit: int | None
    ) -> Iterable[tuple[Name, str, float | None]]:
        if name is None:
            return self.state.overdue(limit, self.now)
        table = self.state.tables.get(name)
        found = (
            (name, entry.key, entry.expires)
            for entry in (table.entries.values() if table else ())
            if which == "all" or entry.policy == "evict"
        )
        return islice(found, limit)

    def abouts(self, collection: str, scope: str | None, store: str | None) -> list[About]:
        return list(self.state.abouts(collection, scope, store, self.now))


R = TypeVar("R")


class MemoryEntries(Entries):
    """`Entries` by a state in memory.

    Args:
        journal: where changes are written; None: nowhere.
        history: how many changes the log holds.
    """

    def __init__(self, journal: ItemsJournal | None = None, history: int = HISTORY) -> None:
        self.ahead: float = 0.0
        self._journal = journal
        self._state = State(history)
        self._lock = Guard()
        self._news = threading.Condition(self._lock)  # type: ignore[arg-type]  # a lock of its kind
        self._begun: Sequence[Op] | None = None
        """The change that is being taken; still there afterwards if an exception came in between."""
        _all.add(self)

    def now(self) -> float:
        return time.time() + self.ahead

    def _fresh(self) -> State:
        if self._begun is not None:
            if self._journal is None:
                self._state.remake(self._begun)
            else:
                self._state = State(self._state.history)
            self._begun = None
        if self._journal is not None:
            self._begun = ()
            try:
                self._state = self._journal.read(self._state)
            except KeptError:
                self._begun = None  # what was read is whole
                raise
            self._begun = None
        return self._state

    @settling
    def change(self, on: str, plan: Callable[[View], Planned[R]]) -> R:
        tries = 0
        while True:
            with self._lock:
                state = self._fresh()
                result, ops = plan(_Look(state, self.now()))
                if not ops:
                    return result
                self._begun = ops
                if self._journal is None or self._journal.write(state, ops):
                    state.make(ops)
                    self._begun = None
                    self._news.notify_all()
                    return result
                self._begun = None
            tries += 1  # the others go on, so one of all gets through each time
            time.sleep(chance() * min(0.0005 * tries, 0.02))

    # -- the verbs --------------------------------------------------------------------------------

    @settling
    def get(self, name: Name, key: str) -> Entry | None:
        with self._lock:
            return self._fresh().live(name, key, self.now())

    @settling
    def page(
        self, name: Name, prefix: str, after: str | None, limit: int, data: bool
    ) -> list[Entry]:
        with self._lock:
            return list(self._fresh().page(name, prefix, after, limit, self.now()))

    @settling
    def count(self, name: Name, prefix: str) -> int:
        with self._lock:
            return self._fresh().count(name, prefix, self.now())

    @settling
    def abouts(self, collection: str, scope: str | None, store: str | None) -> list[About]:
        with self._lock:
            return list(self._fresh().abouts(collection, scope, store, self.now()))

    @settling
    def changes(self, name: Name, since: int, limit: int) -> tuple[list[Logged], int]:
        with self._lock:
            return self._fresh().changes(name, since, limit)

    @settling
    def newest(self) -> int:
        with self._lock:
            return self._fresh().revision

    @settling
    def due(self) -> float | None:
        with self._lock:
            return self._fresh().due()

    def wait(self, since: int, timeout: float) -> None:
        with self._lock:
            if self._state.revision > since:
                return
            pause = timeout if self._journal is None else min(timeout, self._journal.pause)
            self._news.wait(pause)

    def close(self) -> None:
        """Nothing is open."""

    def _forked(self) -> None:
        self._lock = Guard()
        self._news = threading.Condition(self._lock)  # type: ignore[arg-type]  # a lock of its kind


_all: Instances[MemoryEntries] = Instances(in_child=MemoryEntries._forked)

_VERSION = 1
_SNAPSHOT = 500  # changes after which the whole is written
_LEFT = 100  # changes before a snapshot that stay


class ItemsJournal:
    """Changes written down among the items of a medium: all it takes is `create`.

    Each change is an item `state/log/<number>`, created by exactly one writer, so the numbers are one
    order for all. Now and then the whole state is an item `state/snap/<number>`, and the changes before
    it are deleted, the oldest first.

    Who has read up to a number and finds no next one is up to date if the item of that number is still
    there: as long as it is, nothing after it was deleted. The same look tells a writer that the number
    it created was free because it is new. If it is gone, the writer slept: before it created the number,
    so that its change counts for nothing and is taken back, or afterwards, so that it has counted.

    Each change has a token, and the latest of them stand in the state. They tell which it was, and a
    change from one that somebody who slept has put in its place and not yet taken back.

    Args:
        items: a store of bytes that also `Creates`.
        pause: seconds between looks for news, of those who wait for some.
    """

    def __init__(self, items: Store[bytes], pause: float = 0.05) -> None:
        self.pause = pause
        self._items: Any = items
        assert isinstance(items, Creates)

    def read(self, state: State) -> State:
        """The state with all that was written since it was read, or another one.

        Raises:
            StoreError: the medium can't be read, or the journal is damaged.
            NewerSchema: a newer wellkept wrote it.
        """
        while True:
            if state.at == 0:
                state = self._loaded(state.history)
            begun, token = state.at, state.token
            while (item := self._items.get(_log(state.at + 1))) is not None:
                ops, by = _unpacked(item, _log(state.at + 1))
                state.make([_op(op) for op in ops])
                state.moved(by)
            # What others are about to take back may be among those just read, and even follow
            # one another; but not where the one before them all is still there.
            if state.at == 0 or self._there(begun, token):
                return state
            state = State(state.history)  # it slept while others went on, and deleted

    def _loaded(self, history: int) -> State:
        while True:
            snapshots = sorted(self._items.keys("state/snap/"))
            if not snapshots:
                return State(history)
            item = self._items.get(snapshots[-1])
            if item is not None:  # or a newer one has just replaced it
                return _state(_unpacked(item, snapshots[-1])[0], history)

    def write(self, state: State, ops: Sequence[Op]) -> bool:
        """Write a change of this state down; False if another one came first.

        Raises:
            StoreError: as `read`; and if it can't be told whether it was written.
        """
        number, token = state.at + 1, secrets.token_urlsafe(6)
        if not self._items.create(_log(number), _packed([_plain(op) for op in ops], token)):
            return False
        if not self._there(state.at, state.token) and not self._counted(
            number, token, state.history
        ):
            self._items.delete(_log(number))
            return False
        if state.at and state.at % _SNAPSHOT == 0:
            self._snapshot(state)
        state.moved(token)
        return True

    def _counted(self, number: int, token: str, history: int) -> bool:
        """Whether the change of a writer that slept since is one of those that all have read."""
        now = self.read(State(history))
        back = now.at - number
        if 0 <= back < len(now.tokens):
            return now.tokens[-1 - back] == token
        if back < 0:  # somebody cleared the medium
            return False
        raise StoreError(
            f"can't tell whether a change of named state was written: this process stood still while "
            f"{back} others were; look what is there, and write again if need be"
        )

    def _snapshot(self, state: State) -> None:
        before = sorted(self._items.keys("state/snap/"))
        if not self._items.create(f"state/snap/{state.at:016d}", _packed(_whole(state))):
            return
        for number in sorted(self._items.keys("state/log/")):
            if number >= _log(state.at - _LEFT):
                break
            self._items.delete(number)
        for snapshot in before[:-1]:  # somebody may be reading the last one
            self._items.delete(snapshot)

    def _there(self, number: int, token: str) -> bool:
        """Whether nothing after a change was deleted; 0 is the beginning."""
        if number == 0:  # the first change is deleted only once there is a snapshot
            return next(iter(self._items.keys("state/snap/")), None) is None
        item = self._items.get(_log(number))
        return item is not None and token in ("", _unpacked(item, _log(number))[1])


def _log(number: int) -> str:
    return f"state/log/{number:016d}"


def _packed(content: Any, token: str = "") -> bytes:
    text = json.dumps({"version": _VERSION, "is": content, "token": token}, separators=(",", ":"))
    return seal(b"", zlib.compress(text.encode(), 1))


def _unpacked(item: bytes, key: str) -> tuple[Any, str]:
    try:
        found = json.loads(zlib.decompress(unseal(b"", bytes(item))))
        version, content, token = found["version"], found["is"], found.get("token", "")
    except (DamagedValue, zlib.error, ValueError, KeyError, TypeError) as error:
        raise StoreError(
            f"the journal of named state is damaged at {key}: restore that item from a backup, or "
            "delete all under state/ to begin anew"
        ) from error
    if version > _VERSION:
        raise NewerSchema(
            f"a newer wellkept wrote the named state (format {version}; this one knows {_VERSION}): "
            "upgrade wellkept, or choose another place"
        )
    return content, token


def _plain(op: Op) -> list[Any]:
    if isinstance(op, Put):
        key, data, *rest = op.entry
        return ["put", op.name, key, _text(data), *rest, op.kind]
    if isinstance(op, Gone):
        return ["gone", *op]
    return ["about", *op]


def _op(plain: Sequence[Any]) -> Op:
    kind, name, *rest = plain
    if kind == "put":
        key, data, *more = rest
        return Put(Name(*name), Entry(key, _data(data), *more[:-1]), more[-1])
    return Gone(Name(*name), *rest) if kind == "gone" else About(Name(*name), *rest)


def _whole(state: State) -> dict[str, Any]:
    names = {name: number for number, name in enumerate(state.tables)}
    return {
        "at": state.at,
        "revision": state.revision,
        "floor": state.floor,
        "tokens": list(state.tokens),
        "names": list(names),
        "stores": [table.about for table in state.tables.values()],
        "entries": [
            [[key, _text(data), *rest] for key, data, *rest in table.entries.values()]
            for table in state.tables.values()
        ],
        "log": [
            [names[name], revision, kind, key, _text(data), at]
            for name, (revision, kind, key, data, at) in state.log
        ],
    }


def _state(whole: dict[str, Any], history: int) -> State:
    state = State(history)
    names = [Name(*name) for name in whole["names"]]
    for name, about, entries in zip(names, whole["stores"], whole["entries"], strict=True):
        state.make([About(Name(*about[0]), *about[1:])] if about else [About(name)])
        state.make([Put(name, Entry(e[0], _data(e[1]), *e[2:]), "set") for e in entries])
    state.log.clear()
    for number, revision, kind, key, data, at in whole["log"]:
        known = None if data is None else _data(data)
        state.log.append((names[number], Logged(revision, kind, key, known, at)))
    state.tokens.extend(whole.get("tokens", ()))
    state.at, state.revision, state.floor = whole["at"], whole["revision"], whole["floor"]
    return state


def _text(data: Data | None) -> Any:
    return {"base64": base64.b64encode(data).decode()} if isinstance(data, bytes) else data


def _data(data: Any) -> Data:
    if isinstance(data, dict):
        return base64.b64decode(data["base64"])
    return str(data)
