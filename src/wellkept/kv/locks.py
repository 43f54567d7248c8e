"""Locks, semaphores and queues for all who reach a medium, on the conditional writes of named state.

A permit is an entry that only one can create. It is held, so nothing evicts it, and it has a TTL that
its holder's process renews while the holder lives. Who dies, or is away for longer than the TTL, has
lost it, and only then may another one have it. The clock is that of the medium.
"""

from __future__ import annotations

import contextlib
import functools
import os
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Any, Self

from wellkept._process import Instances, Worker, chance, host_name
from wellkept.caches.option_text import parse_duration
from wellkept.errors import ConfigError, KeptError, StoreError
from wellkept.interrupts import Guard
from wellkept.kv.entry import ABSENT, KEEP, Entry, Step, check_key, dump, load
from wellkept.kv.execution_store import ExecutionStore
from wellkept.kv.plan import Entries, each_entry
from wellkept.kv.service import relied_on, seconds_of

__all__ = ["BoundedSemaphore", "Lock", "NotHeld", "Queue", "RLock"]

_LOOK = 0.25  # seconds for which news are waited for at once: what expires is no news
_AGAIN = 1.0  # seconds until a renewal that failed is tried again, at most


class NotHeld(StoreError):  # noqa: N818  it says what happened, as the others do
    """A lock, or a job, is given back by one who does not hold it, or who has lost it."""


class Permit:
    """One permit of a semaphore that is held here."""

    __slots__ = ("again", "count", "key", "lost", "mark", "revision", "token")

    key: str
    mark: str
    revision: int

    def __init__(self, key: str, mark: str) -> None:
        self.key, self.mark = key, mark
        self.count: int = 1
        """How often its holder has it."""
        self.token: int = 0
        self.revision: int = 0
        self.again: float = 0.0
        """When to renew it, by this process's clock."""
        self.lost: bool = False


class BoundedSemaphore:
    """At most so many at a time, of all threads, tasks, processes and hosts that reach a store.

    It belongs to the thread, or to the task of `asyncio`, that acquires it, and only that one can release
    it. In a `with` block, or an `async with` block.

    Args:
        store: where it is: each permit is an entry `name/0`, `name/1` and so on.
        name: which semaphore of the store it is.
        value: how many permits there are; the same for all who use it.
        ttl: seconds (or text such as `"5 min"`) after which a permit is free whose holder died. While the
            holder lives, its process renews it three times in each.

    Raises:
        ConfigError: an argument is wrong.
    """

    _reentrant = False

    name: str
    value: int
    ttl: float

    def __init__(
        self,
        store: ExecutionStore,
        name: str,
        value: int = 1,
        *,
        ttl: float | str | timedelta = 30.0,
    ) -> None:
        if type(value) is not int or value < 1:
            raise ConfigError(f"value is how many may hold it, above 0, not {value!r:.80}")
        lasts = seconds_of(ttl)
        if lasts is None:
            raise ConfigError(
                "a lock has a ttl: without one it would never be free if its holder died"
            )
        self.name, self.value, self.ttl = check_key(name), value, lasts
        self._store = _checked(store)
        self._keys = [check_key(f"{name}/{number}") for number in range(value)]
        self._forked()
        with _registry:
            _all.add(self)

    def _forked(self) -> None:
        self._guard = Guard()
        self._held: dict[Any, list[Permit]] = {}
        self._seen: dict[str, tuple[int, float]] = {}
        """The revisions of others' permits, and since when they are so by this process's clock."""

    # -- taking -----------------------------------------------------------------------------------

    def acquire(
        self, blocking: bool = True, timeout: float | str | timedelta | None = None
    ) -> bool:
        """Take a permit; whether that is done.

        Args:
            blocking: wait for one.
            timeout: seconds (or text) to wait at most; None: for as long as it takes.

        Raises:
            ConfigError: this thread would wait for itself for ever.
            StoreError: the medium does not answer.
        """
        who = asker()
        most = timeout if blocking else 0.0
        for first in _tries(self._entries, most):
            if self.take(who, first=first):
                return True
            if most is None:
                self._check_own(who)
        return False

    def take(self, who: Any, *, first: bool = False) -> bool:
        """Try once to take a permit for a thread or task, without waiting; the `first` time it is not
        looked before whether one is free, if there is but one."""
        mine = self._held.get(who)
        if mine and self._reentrant:
            self._check_lost(mine[-1])
            mine[-1].count += 1
            return True
        taken = () if first and self.value == 1 else self._taken()
        free = [key for key in self._keys if key not in taken]
        free.sort(key=lambda _: chance())  # or all who come at once would try the same one
        for key in free:
            permit = Permit(key, f"{_me(os.getpid())}|{os.urandom(8).hex()}")
            begun = time.monotonic()
            step = Step(key, dump(permit.mark), self.ttl, "held", ABSENT)
            done = self._store.service.apply(self._store.name, step)
            if done is not None and done[0] is not None:
                permit.token = permit.revision = done[0].revision
                permit.again = begun + self.ttl / 3
                with self._guard:
                    self._held.setdefault(who, []).append(permit)
                _renewals.begin()
                if permit.again < _look:
                    _renewals.wake()
                return True
        return False

    def _taken(self) -> set[str]:
        found = each_entry(self._entries, self._store.name, f"{self.name}/", data=False)
        own = set(self._keys)
        return {entry.key for entry in found if entry.key in own and not self._is_over(entry)}

    def _is_over(self, entry: Entry) -> bool:
        """Remove a permit that nobody has renewed for as long as it lasts. If the medium's clock was set back
        after its holder died, it would be held for as much longer.
        """
        if entry.expires is None:
            return False
        revision, since = self._seen.get(entry.key, (0, 0.0))
        if revision != entry.revision:
            self._seen[entry.key] = entry.revision, time.monotonic()
            return False
        if time.monotonic() - since <= entry.expires - entry.updated:
            return False
        gone = Step(entry.key, when=entry.revision, drop=True)
        return self._store.service.apply(self._store.name, gone) is not None

    def _check_own(self, who: Any) -> None:
        if sum(not permit.lost for permit in self._held.get(who, ())) == self.value:
            raise ConfigError(
                f"{self!r} is held by this thread or task already, which would wait for itself for "
                "ever: use an RLock, or a timeout"
            )

    # -- giving back ------------------------------------------------------------------------------

    def release(self) -> None:
        """Give back a permit that this thread or task has.

        Raises:
            NotHeld: it has none, or it was lost, as this process did not come to renew it in time: another
                one may have had it meanwhile.
            StoreError: the medium does not answer. It is free once its TTL has passed.
        """
        self.give(asker())

    def give(self, who: Any, *steps: Step) -> None:
        """Give back a permit of a thread or task, and take other steps of the store in the same
        transaction; none of it if the permit was lost. Raises as `release`."""
        with self._guard:
            mine = self._held.get(who)
            if not mine:
                raise NotHeld(
                    f"{self!r} is not held by this thread or task, so it can't release it"
                )
            permit = mine[-1]
            permit.count -= 1
            if permit.count:
                return
            mine.pop()
            if not mine:
                del self._held[who]
        try:
            self._drop(permit, steps)
        except NotHeld:
            raise
        except StoreError:
            if steps:  # the store may be full, for them
                with contextlib.suppress(StoreError):
                    self._drop(permit, ())
            raise

    def _drop(self, permit: Permit, steps: Sequence[Step]) -> None:
        service, name = self._store.service, self._store.name
        gone = Step(permit.key, when=permit.revision, drop=True)
        if service.apply(name, gone, *steps) is None:  # a renewal was faster, or it was lost
            permit.lost = service.swap(name, [gone, *steps], permit.mark) is None
            self._check_lost(permit)

    def _check_lost(self, permit: Permit) -> None:
        if permit.lost:
            raise NotHeld(
                f"{self!r} was lost: it was not renewed for {self.ttl:g} seconds, or somebody deleted it, "
                "and others may have had it since; take a longer ttl if this process may stand still"
            )

    def permits(self) -> list[Permit]:
        """Those to renew."""
        with self._guard:
            # Who is over can't release it, nor can anybody else: it is free when its TTL has passed.
            self._held = {who: mine for who, mine in self._held.items() if _is_alive(who)}
            return [permit for mine in self._held.values() for permit in mine if not permit.lost]

    def renew(self) -> None:
        """Renew the permits whose time has come."""
        now = time.monotonic()
        for permit in self.permits():
            if permit.again <= now:
                permit.again = now + self.ttl / 3
                step = Step(permit.key, KEEP, self.ttl, KEEP)
                try:
                    done = self._store.service.swap(self._store.name, [step], permit.mark)
                except KeptError:
                    permit.again = now + min(_AGAIN, self.ttl / 10)
                else:
                    permit.lost = done is None
                    if done is not None and done[0] is not None:
                        permit.revision = done[0].revision

    # -- asking -----------------------------------------------------------------------------------

    def locked(self) -> bool:
        """Return whether all permits are taken, by anybody."""
        return len(self._taken()) == self.value

    def owned(self) -> bool:
        """Return whether this thread or task holds it now: the medium is asked."""
        mine = self._held.get(asker())
        if not mine:
            return False
        found = self._entries.get(self._store.name, mine[-1].key)
        return found is not None and load(found.data) == mine[-1].mark

    @property
    def token(self) -> int | None:
        """A number that is larger for each permit than for those before: what others should refuse
        smaller ones by. None: this thread or task has none."""
        mine = self._held.get(asker())
        return mine[-1].token if mine else None

    @property
    def _entries(self) -> Entries:
        return self._store.service.entries

    # -- blocks -----------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        try:
            self.release()
        except StoreError:
            if error is None:
                raise

    async def __aenter__(self) -> Self:
        import asyncio  # a program with coroutines has imported it

        who, pause = asker(), 0.005
        # In short looks: whoever waited in a thread of the pool could keep the holder from one.
        while True:
            trying = asyncio.ensure_future(asyncio.to_thread(self.take, who))
            try:
                if await asyncio.shield(trying):
                    return self
            except asyncio.CancelledError:
                if await trying:  # the thread went on
                    await asyncio.to_thread(self.give, who)
                raise
            self._check_own(who)
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, _LOOK)

    async def __aexit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        import asyncio

        if (
            kind is GeneratorExit
        ):  # its loop is closed, so nothing can be awaited: it goes by its TTL
            return
        try:
            await asyncio.shield(asyncio.to_thread(self.give, asker()))
        except StoreError:
            if error is None:
                raise

    def __reduce__(self) -> tuple[Any, ...]:
        # What is sent elsewhere holds nothing there.
        size = () if isinstance(self, Lock) else (self.value,)
        return functools.partial(type(self), ttl=self.ttl), (self._store, self.name, *size)

    def __repr__(self) -> str:
        return f"<wellkept.kv.{type(self).__name__} {self.name!r} of {self._store.store_name!r}>"


class Lock(BoundedSemaphore):
    """One at a time, of all threads, tasks, processes and hosts that reach a store: a semaphore of 1.

    Args:
        store, name, ttl: as of a `BoundedSemaphore`.

    Raises:
        ConfigError: an argument is wrong.
    """

    def __init__(
        self, store: ExecutionStore, name: str, *, ttl: float | str | timedelta = 30.0
    ) -> None:
        super().__init__(store, name, ttl=ttl)


class RLock(Lock):
    """A lock that the thread or task that has it may take again; it is free when it was released as often
    as it was taken. Args and errors as of a `Lock`."""

    _reentrant = True


def _checked(store: ExecutionStore) -> ExecutionStore:
    if not isinstance(store, ExecutionStore):
        raise ConfigError(
            f"store is what wellkept.store(name) gives, where the entries are, not {store!r:.80}"
        )
    return store


def _tries(entries: Entries, timeout: float | str | timedelta | None) -> Iterator[bool]:
    """Whether it is the first, of tries until a timeout, with a wait for changes between them."""
    most = None if timeout is None else parse_duration(timeout, option="timeout")
    deadline = None if most is None else time.monotonic() + most
    since: int | None = None
    yield True
    while (left := _LOOK if deadline is None else deadline - time.monotonic()) > 0:
        if since is not None:  # the try after this look is the first that misses nothing
            entries.wait(since, min(left, _LOOK))
            time.sleep(chance() * 0.005)  # the others on the medium may change much
        since = entries.newest()
        yield False


@functools.cache
def _me(pid: int) -> str:
    return f"{host_name()}|{pid}"


def asker() -> Any:
    """The task of `asyncio` that runs, or else the thread."""
    if "asyncio" in sys.modules:
        import asyncio

        try:
            task = asyncio.current_task()
        except RuntimeError:  # no loop runs here
            task = None
        if task is not None:
            return task
    return threading.current_thread()


def _is_alive(who: Any) -> bool:
    if isinstance(who, threading.Thread):
        return who.is_alive()
    # A task whose loop was closed before its end never goes on.
    return not (who.done() or who.get_loop().is_closed())


_all: Instances[BoundedSemaphore] = Instances(in_child=BoundedSemaphore._forked)
_registry = Guard()


def _held() -> list[BoundedSemaphore]:
    with _registry:
        return [each for each in _all if each._held]


def _renew_all() -> bool:
    for each in _held():
        each.renew()
    return bool(_held())


_look = 0.0
"""When the thread that renews looks again, at the latest."""


def _pause() -> float:
    global _look
    _look = min((permit.again for each in _held() for permit in each.permits()), default=0.0)
    return max(0.0, _look - time.monotonic())


_renewals = Worker("wellkept-locks", _renew_all, _pause)


class Queue:
    """First in, first out, for all who reach a store: each item is pulled by one of them.

    Who pulls an item has it, and it is gone if they die. `wellkept.kv.Jobs` are for work that another one is
    to do then.

    Args:
        store: where it is: items are entries `name/items/…`, and `name/tail` is the number of the last.
        name: which queue of the store it is.

    Raises:
        ConfigError: the name is none.
    """

    def __init__(self, store: ExecutionStore, name: str) -> None:
        self.name: str = check_key(name)
        self._store = _checked(store)
        self._tail, self._items = f"{name}/tail", f"{name}/items/"
        check_key(f"{self._items}{0:020d}")

    def push(self, value: Any, *, ttl: float | str | timedelta | None = None) -> int:
        """Put an item at the end; its number.

        Args:
            ttl: seconds (or text) after which it is gone, if nobody pulled it.

        Raises:
            EncodeError: the value can't be encoded.
            StoreError: it can't be written, or the store is full.
        """
        lasts, policy = relied_on(ttl, "persist")
        service, name, data = self._store.service, self._store.name, dump(value)
        number = 0
        while True:
            tail = service.entries.get(name, self._tail)
            if tail is not None:
                number = max(number, load(tail.data) + 1)
            else:  # there was none yet, or somebody deleted it
                number = max([number, *(int(entry.key[-20:]) + 1 for entry in self._each())])
            key = f"{self._items}{number:020d}"
            when = ABSENT if tail is None else tail.revision
            last = Step(self._tail, dump(number), when=when)
            if service.apply(name, last, Step(key, data, lasts, policy, ABSENT)) is not None:
                return number
            if service.entries.get(name, key) is not None:  # and not only others were faster
                number += 1

    def pull(self, default: Any = None, *, timeout: float | str | timedelta | None = 0.0) -> Any:
        """Take the first item away; its value, or `default` if there is none.

        Args:
            timeout: seconds (or text) to wait for one at most; None: for as long as it takes.

        Raises:
            DecodeError: its value can't be decoded here; it stays.
            StoreError: the medium does not answer.
        """
        for _ in _tries(self._store.service.entries, timeout):
            while (first := self._first()) is not None:
                value = load(first.data)
                if self._store.delete(first.key, revision=first.revision):
                    return value
        return default

    def peek(self, default: Any = None) -> Any:
        """Return the first item's value, or `default`; it stays."""
        first = self._first()
        return default if first is None else load(first.data)

    def _first(self) -> Entry | None:
        found = self._store.service.entries.page(self._store.name, self._items, None, 1, True)
        return found[0] if found else None

    def _each(self) -> Iterator[Entry]:
        return each_entry(self._store.service.entries, self._store.name, self._items, data=False)

    def __len__(self) -> int:
        return self._store.count(self._items)

    def __bool__(self) -> bool:
        return True  # or `if queue:` would count

    def __iter__(self) -> Iterator[Any]:
        """The items' values, the first one first; they stay."""
        return self._store.values(self._items)

    def __reduce__(self) -> tuple[Any, ...]:
        return Queue, (self._store, self.name)

    def __repr__(self) -> str:
        return f"<wellkept.kv.Queue {self.name!r} of {self._store.store_name!r}>"
