"""Changes as they happen: iterated over, or told to a function."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

from wellkept._process import Worker, at_fork
from wellkept.errors import ConfigError, KeptError, NewerSchema, StoreError, UntrustedSource, tell
from wellkept.interrupts import Guard
from wellkept.kv.entry import Logged, Name, load, utc
from wellkept.kv.plan import Entries, HistoryGone
from wellkept.kv.sweeper import sweep

_MANY = 500  # changes that are read at once
_SWEEP = 0.25  # seconds between looks for what has expired
_BACK = 0.2  # seconds between tries to reach a medium that does not answer
_WAIT = 1.0  # seconds for which news are waited for at once


@dataclass(frozen=True)
class Change:
    """One change of a key."""

    revision: int
    """Larger than those before it; where to go on from."""
    kind: str
    """`insert` (it was not there), `set`, `touch` (only its TTL or policy changed), `delete`,
    `expire`, or `evict` (the store was full)."""
    key: str
    at: datetime
    """When, by the clock of the medium."""
    value: Any = None
    """What the key was set to; None where it is gone."""
    whole: bool = True
    """False: the value was larger than the log holds, and was replaced before it was read here."""


def watch(
    entries: Entries,
    name: Name,
    prefix: str = "",
    since: int | None = None,
    *,
    timeout: float | None = None,
    patience: float = 60.0,
    stop: threading.Event | None = None,
) -> Iterator[Change]:
    """See `ExecutionStore.watch`."""
    at = _patiently(entries.newest, patience, stop) if since is None else since
    return filter(None, _looks(entries, name, prefix, at, timeout, patience, stop))


def _looks(
    entries: Entries,
    name: Name,
    prefix: str,
    at: int | None,
    timeout: float | None,
    patience: float,
    stop: threading.Event | None,
) -> Iterator[Change | None]:
    """The changes, and None after each look that found none."""
    last = time.monotonic()
    swept = 0.0
    # Each step asks the medium, which may be away at any of them.
    while at is not None and not (stop is not None and stop.is_set()):
        if time.monotonic() - swept > _SWEEP:
            _patiently(partial(sweep, entries), patience, stop)
            swept = time.monotonic()
        read = _patiently(partial(entries.changes, name, at, _MANY), patience, stop)
        if read is None:
            return
        found, at = read
        for logged in found:
            if logged.key.startswith(prefix):
                change = _patiently(partial(_change, entries, name, logged), patience, stop)
                if change is None:
                    return
                yield change
        if found:
            last = time.monotonic()
            continue
        left = _WAIT if timeout is None else timeout - (time.monotonic() - last)
        if left <= 0:
            return
        due = _patiently(entries.due, patience, stop)
        wait = min(left, _SWEEP if due is not None else _WAIT)
        _patiently(partial(entries.wait, at, wait), patience, stop)
        yield None


def _patiently(do: Callable[[], Any], patience: float, stop: threading.Event | None) -> Any:
    """What `do` gives, tried again for as long as the medium does not answer."""
    deadline = time.monotonic() + patience
    while True:
        try:
            return do()
        except (HistoryGone, NewerSchema, UntrustedSource):
            raise
        except StoreError:
            if time.monotonic() > deadline:
                raise
        if stop is None:
            time.sleep(_BACK)
        elif stop.wait(_BACK):
            return None


def _change(entries: Entries, name: Name, logged: Logged) -> Change:
    data, whole = logged.data, True
    if data is None and logged.kind in ("insert", "set", "touch"):
        entry = entries.get(name, logged.key)
        whole = entry is not None and entry.revision == logged.revision
        data = entry.data if entry is not None and whole else None
    value = None if data is None else load(data)
    at = utc(logged.at)
    assert at is not None
    return Change(logged.revision, logged.kind, logged.key, at, value, whole)


# -- subscriptions --------------------------------------------------------------------------------

_subscriptions: dict[str, _Subscription] = {}
_PATIENCE = 0.1  # seconds for which a fork waits for the end of a look


class _Subscription:
    """A function that is told of changes, in a thread of its own."""

    def __init__(
        self, entries: Entries, name: Name, callback: Callable[[Change], object], since: int
    ) -> None:
        self.stop = threading.Event()
        self._name, self._callback = name, callback
        self._looks = _looks(entries, name, "", since, None, float("inf"), self.stop)
        # A fork begins another thread, perhaps before the last look of the one before has ended.
        self._turn = Guard()
        self.worker = Worker("wellkept-subscription", self._look, lambda: 0.0, _PATIENCE)

    def _look(self) -> bool:
        with self._turn:
            try:
                change = next(self._looks)
            except StopIteration:
                return False
            except KeptError as error:
                tell(f"a subscription to the store {self._name.store!r} has ended: {error}")
                return False
            if change is not None and not self.stop.is_set():
                try:
                    self._callback(change)
                except Exception as error:  # noqa: BLE001  a user's function may raise anything
                    tell(
                        f"a subscription to the store {self._name.store!r} failed at {change.key!r}: "
                        f"{type(error).__name__}: {error}; it goes on with the next change"
                    )
        return not self.stop.is_set()


def subscribe(
    entries: Entries,
    name: Name,
    callback: Callable[[Change], object],
    since: int | None = None,
) -> str:
    """See `ExecutionStoreService.subscribe`."""
    if not callable(callback):
        raise ConfigError(f"a subscription calls a function, not {callback!r:.80}")
    number = os.urandom(16).hex()
    begin = entries.newest() if since is None else since
    _subscriptions[number] = _Subscription(entries, name, callback, begin)
    _subscriptions[number].worker.begin()
    return number


def unsubscribe(subscription_id: str) -> bool:
    """See `ExecutionStoreService.unsubscribe`."""
    found = _subscriptions.pop(subscription_id, None)
    if found is None:
        return False
    found.stop.set()
    return True


at_fork(in_child=_subscriptions.clear)  # a subscription belongs to the process that made it
