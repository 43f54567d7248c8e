"""The rules of named state: what a change makes of what is there, as operations that an engine takes.

A change is planned from a view of what is there, and taken afterwards: by statements in the transaction
that the view reads in, or on dicts once it is written down. Redis has the same rules in its scripts.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple, Protocol, TypeVar

from wellkept.errors import ConfigError, StoreError
from wellkept.kv.entry import (
    ABSENT,
    ANY,
    PRESENT,
    About,
    Data,
    Entry,
    Keep,
    Logged,
    Name,
    Step,
    check_key,
)

R = TypeVar("R")


class HistoryGone(StoreError):  # noqa: N818  it says what happened, as the others do
    """The log of changes no longer goes back so far."""


class Put(NamedTuple):
    """An entry is there now."""

    name: Name
    entry: Entry
    kind: str

    @property
    def key(self) -> str:
        return self.entry.key

    @property
    def revision(self) -> int:
        return self.entry.revision

    @property
    def at(self) -> float:
        return self.entry.updated


class Gone(NamedTuple):
    """A key is no more."""

    name: Name
    key: str
    revision: int
    kind: str
    at: float


Op = Put | Gone | About
"""What a change consists of; of a store itself, what is known of it."""


class Evictable(NamedTuple):
    """A key that may make room for others."""

    key: str
    size: int
    expires: float | None


class Room(NamedTuple):
    """A store with limits: what it has beside the keys that are changed."""

    about: About
    keys: int
    used: int
    """Bytes."""
    evictable: Iterable[Evictable]
    """Those that may go, the first to go first; read as far as room is needed."""


class View(Protocol):
    """What is there, as far as plans ask."""

    @property
    def now(self) -> float:
        """The clock, which stands still."""

    @property
    def revision(self) -> int:
        """That of the last change."""

    def found(self, name: Name, steps: Sequence[Step]) -> Mapping[str, Entry]:
        """The entries of the steps' keys, also those that have expired; their values at least where
        a step keeps them."""

    def room(self, name: Name, changed: Collection[str]) -> Room | None:
        """Of a store with limits; asked after `found`."""

    def removable(
        self, name: Name | None, which: str, limit: int | None
    ) -> Iterable[tuple[Name, str, float | None]]:
        """Stores, keys and expiries of `all` entries of a store, or of those that are `evictable` by
        their policy; without a store of what has expired in all."""

    def abouts(self, collection: str, scope: str | None, store: str | None) -> list[About]:
        """See `Entries.abouts`."""


Planned = tuple[R, Sequence[Op]]
"""What a verb answers, and how to get there."""


class Entries(Protocol):
    """The entries of every store on one medium.

    An expired entry is not there, for any verb. Each change has a revision of its own, larger than
    those of all changes before it on this medium. Every method may raise `StoreError`.
    """

    ahead: float
    """Seconds by which the clock is moved forward: for tests."""

    def now(self) -> float:
        """The clock that entries expire by: the server's, where there is one."""

    def get(self, name: Name, key: str) -> Entry | None:
        """The entry, or None."""

    def apply(self, name: Name, steps: Sequence[Step]) -> list[Entry | None] | None:
        """Take all of the steps, or none: what each leaves (None: the key is gone); None if one of
        them does not fit what is there.

        Raises:
            StoreError: also if the store's limits leave no room.
        """
        on = repr(steps[0].key) if len(steps) == 1 else f"{len(steps)} keys"
        return self.change(on, lambda view: stepping(view, name, steps))

    def page(
        self, name: Name, prefix: str, after: str | None, limit: int, data: bool
    ) -> list[Entry]:
        """At most `limit` entries in the order of their keys' bytes, of keys that begin with
        `prefix` and come after `after`; without `data` their values are left out."""

    def count(self, name: Name, prefix: str) -> int:
        """How many keys begin with `prefix`."""

    def remove(self, name: Name | None, which: str, limit: int | None) -> int:
        """Remove entries that are `expired`, `evictable` or `all`, of one store or of every one, at
        most so many; how many there were to remove, without the expired ones unless they are meant."""
        return self.change("keys", lambda view: removing(view, name, which, limit))

    def abouts(self, collection: str, scope: str | None, store: str | None) -> list[About]:
        """The stores that are there, in a scope (None: in any) and of a name (None: of any)."""

    def declare(self, about: About) -> bool:
        """Make a store; False if it is there."""
        return self.change(f"the store {about.name.store!r}", lambda view: declaring(view, about))

    def drop(self, name: Name) -> int | None:
        """Remove a store with its entries; how many it had, None if it was not there."""
        return self.change(f"the store {name.store!r}", lambda view: dropping(view, name))

    def change(self, on: str, plan: Callable[[View], Planned[R]]) -> R:
        """Plan a change and take it, as one; what the plan answers. The verbs above are made of it."""
        raise TypeError(f"{type(self).__name__} does not make its changes by plans")

    def changes(self, name: Name, since: int, limit: int) -> tuple[list[Logged], int]:
        """The store's changes after a revision, at most so many, in their order; and the revision
        after which to go on.

        Raises:
            StoreError: the log no longer goes back so far.
        """

    def newest(self) -> int:
        """The revision of the last change."""

    def due(self) -> float | None:
        """When the next entry expires; None if none does."""

    def wait(self, since: int, timeout: float) -> None:
        """Return when there may be a change after a revision, or after so many seconds."""

    def close(self) -> None:
        """Let go of connections; the next use opens them again."""


def stepping(view: View, name: Name, steps: Sequence[Step]) -> Planned[list[Entry | None] | None]:
    """Take all steps: what each leaves; None if one does not fit what is there.

    Raises:
        ConfigError: a step keeps the value of what is not there.
        StoreError: the store's limits leave no room.
    """
    known = view.found(name, steps)
    now, revision = view.now, view.revision
    ops: list[Op] = []
    left: list[Entry | None] = []
    seen: dict[str, Entry | None] = {}
    for step in steps:
        key = step.key
        if key in seen:
            found = seen[key]
        else:
            found = known.get(key)
            if found is not None and past(found.expires, now):
                found = None
                revision += 1
                ops.append(Gone(name, key, revision, "expire", now))
        if not fits(step, found):
            return None, ()
        entry = None
        if not step.drop:
            revision += 1
            entry = made(step, found, now, revision)
            kind = "insert" if found is None else "set" if entry.data is step.data else "touch"
            ops.append(Put(name, entry, kind))
        elif found is not None:
            revision += 1
            ops.append(Gone(name, key, revision, "delete", now))
        seen[key] = entry
        left.append(entry)
    room = view.room(name, seen)
    if room is not None:
        ops += _evictions(room, [e for e in seen.values() if e is not None], now, revision)
    return left, ops


def _evictions(room: Room, entries: Sequence[Entry], now: float, revision: int) -> Iterator[Gone]:
    keys = room.keys + len(entries)
    used = room.used + sum(size_of(entry.key, entry.data) for entry in entries)
    over = full(room.about, keys, used)
    if not over or not entries:
        return
    for key, size, expires in room.evictable:
        revision += 1
        kind = "expire" if past(expires, now) else "evict"
        yield Gone(room.about.name, key, revision, kind, now)
        keys, used = keys - 1, used - size
        over = full(room.about, keys, used)
        if not over:
            return
    raise StoreError(over)


def removing(view: View, name: Name | None, which: str, limit: int | None) -> Planned[int]:
    """Remove entries, as `Entries.remove` says; how many there were."""
    now, revision = view.now, view.revision
    ops = [
        Gone(of, key, revision + number, "expire" if past(expires, now) else "delete", now)
        for number, (of, key, expires) in enumerate(view.removable(name, which, limit), 1)
    ]
    return sum(which == "expired" or op.kind != "expire" for op in ops), ops


def declaring(view: View, about: About) -> Planned[bool]:
    """Make a store; False if it is there."""
    if view.abouts(*about.name):
        return False, ()
    # What has expired and is not yet swept would count against the limits of the new store.
    _, ops = removing(view, about.name, "all", None)
    return True, [*ops, about._replace(declared=True, created=view.now)]


def dropping(view: View, name: Name) -> Planned[int | None]:
    """Remove a store with its entries; how many it had, None if it was not there."""
    there = view.abouts(*name)
    count, ops = removing(view, name, "all", None)
    return (count, [*ops, About(name)]) if there else (None, ops)


def past(expires: float | None, now: float) -> bool:
    """Whether what expires then is gone."""
    return expires is not None and expires <= now


def fits(step: Step, found: Entry | None) -> bool:
    """Whether what is there is what the step asks for."""
    when = step.when
    if when == ANY:
        return True
    if found is None:
        return when == ABSENT
    return when in (PRESENT, found.revision)


def made(step: Step, found: Entry | None, now: float, revision: int) -> Entry:
    """What a step that does not drop makes of what is there (None: nothing).

    Raises:
        ConfigError: it keeps the value of what is not there.
    """
    data = step.data
    if isinstance(data, Keep):
        if found is None:
            raise ConfigError(f"there is no key {step.key!r} to change")
        data = found.data
    policy = step.policy
    if isinstance(policy, Keep):
        policy = found.policy if found else "persist"
    ttl = step.ttl
    if isinstance(ttl, Keep):
        expires = found.expires if found else None
        if policy == "persist" and found is not None and found.policy != policy:
            expires = None  # what is to persist is never removed by itself
    else:
        expires = None if ttl is None else now + ttl
    if expires is not None and policy != "held":
        policy = "evict"
    created = found.created if found else now
    return Entry(step.key, data, revision, created, now, expires, policy)


def size_of(key: str, data: Data) -> int:
    """Bytes that an entry counts for."""
    return _bytes(key) + _bytes(data)


def _bytes(data: Data) -> int:
    if isinstance(data, bytes) or data.isascii():
        return len(data)
    return len(data.encode())


def full(about: About, keys: int, used: int) -> str:
    """What to say of a store with so many keys and bytes; empty if there is room."""
    for count, most, what, none in (
        (keys, about.max_keys, "keys", "none"),
        (used, about.max_bytes, "bytes", "nothing"),
    ):
        if most is not None and count > most:
            return (
                f"the store {about.name.store!r} is full: it may have {most:,} {what}, and {none} is "
                "left that may be evicted: delete some, or keep some with policy='evict'"
            )
    return ""


def too_old(since: int, floor: int) -> HistoryGone:
    """For a revision that the log no longer goes back to."""
    return HistoryGone(
        f"changes after revision {since} are asked for, and the log begins after {floor}: read the "
        "store anew, and watch from the revision that it had before"
    )


_PAGE = 1000  # entries that are read at once,
_WITH_DATA = 200  # and with their values


def each_entry(
    entries: Entries, name: Name, prefix: str = "", *, data: bool = True
) -> Iterator[Entry]:
    """In the order of their keys. What changes meanwhile may be seen or not; no key comes twice."""
    check_key(prefix)
    size = _WITH_DATA if data else _PAGE
    after: str | None = None
    while True:
        page = entries.page(name, prefix, after, size, data)
        yield from page
        if len(page) < size:
            return
        after = page[-1].key
