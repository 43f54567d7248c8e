"""Named state as Python holds it: what is there, planned changes of it, and entries folded from a log.

A change is planned first and made afterwards, so that it can be written down in between.
"""

from __future__ import annotations

import heapq
import random
import threading
import time
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple, Protocol, TypeVar

from wellkept._process import Instances
from wellkept.errors import KeptError, StoreError
from wellkept.interrupts import Guard, settling
from wellkept.kv.entry import HISTORY, LOGGED, About, Entry, Logged, Name, Step, fits, made, size_of

TOKENS = 1000
"""Changes of a journal whose tokens are known: so many may be written while a writer stands still."""


class HistoryGone(StoreError):  # noqa: N818  it says what happened, as the others do
    """The log of changes no longer goes back so far."""


class Put(NamedTuple):
    """An entry is there now."""

    name: Name
    entry: Entry
    kind: str


class Gone(NamedTuple):
    """A key is no more."""

    name: Name
    key: str
    revision: int
    kind: str
    at: float


Op = Put | Gone | About
"""What a change consists of; of a store itself, what is known of it."""


class Shelf:
    """One store."""

    def __init__(self) -> None:
        self.entries: dict[str, Entry] = {}
        self.expiring: dict[str, float] = {}
        self.about: About | None = None
        self.used = 0
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

    def __init__(self, history: int) -> None:
        self.history = history
        self.shelves: dict[Name, Shelf] = {}
        self.log: deque[tuple[Name, Logged]] = deque()
        self.revision = 0
        self.floor = 0
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
        shelf = self.shelves.get(name)
        found = shelf.entries.get(key) if shelf else None
        if found is not None and found.expires is not None and found.expires <= now:
            return None
        return found

    def page(
        self, name: Name, prefix: str, after: str | None, limit: int, now: float
    ) -> Iterator[Entry]:
        shelf = self.shelves.get(name)
        if shelf is None:
            return
        order = shelf.order()
        at = bisect_left(order, prefix)
        if after is not None:
            at = max(at, bisect_right(order, after))
        for key in islice(order, at, None):
            if not key.startswith(prefix) or limit <= 0:
                return
            entry = shelf.entries.get(key)
            if entry is not None and not (entry.expires is not None and entry.expires <= now):
                limit -= 1
                yield entry

    def count(self, name: Name, prefix: str, now: float) -> int:
        shelf = self.shelves.get(name)
        if shelf is None:
            return 0
        if not prefix:
            return len(shelf.entries) - sum(at <= now for at in shelf.expiring.values())
        return sum(1 for _ in self.page(name, prefix, None, len(shelf.entries), now))

    def abouts(
        self, collection: str, scope: str | None, store: str | None, now: float
    ) -> Iterator[About]:
        for name, shelf in self.shelves.items():
            if (
                name.collection == collection
                and (scope is None or name.scope == scope)
                and (store is None or name.store == store)
            ):
                if shelf.about is not None:
                    yield shelf.about
                elif self.count(name, "", now):
                    created = min(entry.created for entry in shelf.entries.values())
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
        while self._due and not self._is(*self._due[0]):
            heapq.heappop(self._due)
        return self._due[0][0] if self._due else None

    def _is(self, expires: float, name: Name, key: str) -> bool:
        shelf = self.shelves.get(name)
        return shelf is not None and shelf.expiring.get(key) == expires

    # -- planning ---------------------------------------------------------------------------------

    def plan(
        self, name: Name, steps: Sequence[Step], now: float
    ) -> tuple[list[Entry | None] | None, list[Op]]:
        """What the steps leave, and how to get there; None if one does not fit."""
        seen: dict[str, Entry | None] = {}
        ops: list[Op] = []
        left: list[Entry | None] = []
        shelf = self.shelves.get(name)
        revision = self.revision
        for step in steps:
            key = step.key
            if key in seen:
                found = seen[key]
            else:
                found = self.live(name, key, now)
                if found is None and shelf is not None and key in shelf.entries:
                    revision += 1
                    ops.append(Gone(name, key, revision, "expire", now))
            if not fits(step, found):
                return None, []
            if step.drop:
                if found is not None:
                    revision += 1
                    ops.append(Gone(name, key, revision, "delete", now))
                left.append(None)
            else:
                entry = made(step, found, now, revision + 1)
                revision += 1
                ops.append(Put(name, entry, "set" if entry.data is step.data else "touch"))
                left.append(entry)
            seen[key] = left[-1]
        if shelf is not None and shelf.about is not None and shelf.about.limited:
            ops += self._evicting(shelf, seen, revision, now)
        return left, ops

    def _evicting(
        self, shelf: Shelf, seen: dict[str, Entry | None], revision: int, now: float
    ) -> Iterator[Gone]:
        about = shelf.about
        assert about is not None
        count, used = len(shelf.entries), shelf.used
        for key, entry in seen.items():
            old = shelf.entries.get(key)
            count += (entry is not None) - (old is not None)
            used += size_of(key, entry.data) if entry else 0
            used -= size_of(key, old.data) if old else 0
        over = full(about, count, used)
        if not over or all(entry is None for entry in seen.values()):
            return
        evictable = sorted(
            (
                e
                for e in shelf.entries.values()
                if e.key not in seen
                and (e.policy == "evict" or (e.expires is not None and e.expires <= now))
            ),
            key=lambda entry: entry.revision,
        )
        for entry in evictable:
            revision += 1
            expired = entry.expires is not None and entry.expires <= now
            yield Gone(about.name, entry.key, revision, "expire" if expired else "evict", now)
            count, used = count - 1, used - size_of(entry.key, entry.data)
            over = full(about, count, used)
            if not over:
                return
        raise StoreError(over)

    def removing(self, name: Name | None, which: str, limit: int | None, now: float) -> list[Op]:
        """How to remove entries that are `expired`, `evictable` or `all`."""
        ops: list[Op] = []
        if which == "expired" and name is None:
            ops += self._removing_due(limit, now)
            return ops
        shelf = self.shelves.get(name) if name else None
        if name is None or shelf is None:
            return ops
        for key, entry in shelf.entries.items():
            expired = entry.expires is not None and entry.expires <= now
            if expired or which == "all" or (which == "evictable" and entry.policy == "evict"):
                kind = "expire" if expired else "delete"
                ops.append(Gone(name, key, self.revision + len(ops) + 1, kind, now))
                if len(ops) == limit:
                    break
        return ops

    def _removing_due(self, limit: int | None, now: float) -> Iterator[Op]:
        taken: list[tuple[float, Name, str]] = []
        revision = self.revision
        while self._due and self._due[0][0] <= now and (limit is None or len(taken) < limit):
            item = heapq.heappop(self._due)
            if self._is(*item) and item not in taken[-1:]:
                taken.append(item)
                revision += 1
                yield Gone(item[1], item[2], revision, "expire", now)
        for item in taken:  # they go when the change is made, which may fail
            heapq.heappush(self._due, item)

    # -- making -----------------------------------------------------------------------------------

    def make(self, ops: Sequence[Op]) -> None:
        """Take a planned change."""
        for op in ops:
            if isinstance(op, About):
                self._shelf(op.name).about = op if op.declared else None
            elif isinstance(op, Put):
                entry = op.entry
                self._shelf(op.name).put(entry)
                if entry.expires is not None:
                    heapq.heappush(self._due, (entry.expires, op.name, entry.key))
                self._told(op.name, entry.revision, op.kind, entry.key, entry.data, entry.updated)
            else:
                self._shelf(op.name).gone(op.key)
                self._told(op.name, op.revision, op.kind, op.key, None, op.at)

    def remake(self, ops: Sequence[Op]) -> None:
        """Take a planned change of which some was taken before an exception came."""
        for op in ops:
            if isinstance(op, Put) and self.log and self.log[-1][1].revision >= op.entry.revision:
                self._shelf(op.name).put(op.entry)
            elif isinstance(op, Gone) and self.log and self.log[-1][1].revision >= op.revision:
                self._shelf(op.name).gone(op.key)
            else:
                self.make([op])
        for name in {op.name for op in ops}:
            self._shelf(name).recount()

    def _shelf(self, name: Name) -> Shelf:
        return self.shelves.setdefault(name, Shelf())

    def _told(
        self, name: Name, revision: int, kind: str, key: str, data: str | bytes | None, at: float
    ) -> None:
        self.revision = revision
        kept = None if data is None or len(data) > LOGGED else data
        self.log.append((name, Logged(revision, kind, key, kept, at)))
        if len(self.log) > self.history:
            self.floor = self.log.popleft()[1].revision


def full(about: About, count: int, used: int) -> str:
    """What to say of a store with so many keys and bytes; empty if there is room."""
    name = about.name.store
    if about.max_keys is not None and count > about.max_keys:
        return (
            f"the store {name!r} is full: it may have {about.max_keys:,} keys, and none is left "
            "that may be evicted: delete some, or keep some with policy='evict'"
        )
    if about.max_bytes is not None and used > about.max_bytes:
        return (
            f"the store {name!r} is full: it may have {about.max_bytes:,} bytes, and nothing is left "
            "that may be evicted: delete some, or keep some with policy='evict'"
        )
    return ""


def too_old(since: int, floor: int) -> HistoryGone:
    """For a revision that the log no longer goes back to."""
    return HistoryGone(
        f"changes after revision {since} are asked for, and the log begins after {floor}: read the "
        "store anew, and watch from the revision that it had before"
    )


R = TypeVar("R")


class Journal(Protocol):
    """Where changes are written down, in one order for all."""

    pause: float
    """Seconds between looks for news."""

    def read(self, state: State) -> State:
        """The state with all that was written since it was read, or another one."""
        ...

    def write(self, state: State, ops: Sequence[Op]) -> bool:
        """Write a change of this state down; False if another one came first."""
        ...


class Folded:
    """`Entries` by a state in memory.

    Args:
        journal: where changes are written; None: nowhere.
        history: how many changes the log holds.
    """

    def __init__(self, journal: Journal | None = None, history: int = HISTORY) -> None:
        self.ahead = 0.0
        self._journal = journal
        self._state = State(history)
        self._lock = Guard()
        self._news = threading.Condition(self._lock)
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
    def _change(self, plan: Callable[[State, float], tuple[R, Sequence[Op]]]) -> R:
        tries = 0
        while True:
            with self._lock:
                state = self._fresh()
                result, ops = plan(state, self.now())
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
            time.sleep(random.random() * min(0.0005 * tries, 0.02))

    # -- the verbs --------------------------------------------------------------------------------

    @settling
    def get(self, name: Name, key: str) -> Entry | None:
        with self._lock:
            return self._fresh().live(name, key, self.now())

    def apply(self, name: Name, steps: Sequence[Step]) -> list[Entry | None] | None:
        return self._change(lambda state, now: state.plan(name, steps, now))

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

    def remove(self, name: Name | None, which: str, limit: int | None) -> int:
        def plan(state: State, now: float) -> tuple[int, Sequence[Op]]:
            ops = state.removing(name, which, limit, now)
            return _counted(ops, which), ops

        return self._change(plan)

    @settling
    def abouts(self, collection: str, scope: str | None, store: str | None) -> list[About]:
        with self._lock:
            return list(self._fresh().abouts(collection, scope, store, self.now()))

    def declare(self, about: About) -> bool:
        def plan(state: State, now: float) -> tuple[bool, Sequence[Op]]:
            if next(state.abouts(*about.name, now), None) is not None:
                return False, ()
            return True, [about._replace(declared=True, created=now)]

        return self._change(plan)

    def drop(self, name: Name) -> int | None:
        def plan(state: State, now: float) -> tuple[int | None, Sequence[Op]]:
            there = next(state.abouts(*name, now), None)
            ops = state.removing(name, "all", None, now)
            if there is None:
                return None, ops
            return _counted(ops, "all"), [*ops, About(name)]

        return self._change(plan)

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
        self._news = threading.Condition(self._lock)


def _counted(ops: Sequence[Op], which: str) -> int:
    return sum(which == "expired" or getattr(op, "kind", "") != "expire" for op in ops)


_all: Instances[Folded] = Instances(in_child=Folded._forked)
