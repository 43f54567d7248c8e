"""The leases of a medium: byte-range locks where one host has it for itself, otherwise records among
its items, where it has what that takes.

A medium that can `replace` gives an exact compare-and-set. One that can only `create` (files) gives
one among those who take over from the dead: whoever creates the mark beside the record may change
it. An owner that was taken for dead and wakes up at that very moment may then write over its
successor's record, and both compute: duplicate work, never a wrong result.
"""

from __future__ import annotations

import contextlib
import json
import re
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from wellkept._system import RANGES, SHARES
from wellkept.errors import KeptError, StoreError
from wellkept.interrupts import Owner
from wellkept.stores.base import Creates, Replaces, Store
from wellkept.stores.leases import SOMEBODY, Lease, Leases, RangeLeases, RecordLeases
from wellkept.stores.memory import Memory, Void
from wellkept.stores.sqlite_file import Database


def leases_for(items: Store[bytes]) -> Leases:
    """Return the widest leases that a medium allows, and of those the fastest."""
    held: Any = items
    while (inside := getattr(held, "store", None)) is not None:
        held = inside
    if isinstance(held, (Memory, Void)) or not isinstance(items, Creates):
        return Leases()
    path, mode = getattr(held, "lock_file", None) or (None, 0)
    records = ItemRecords(items)
    ranges = RangeLeases(path, mode) if path is not None and SHARES else None
    leases: Leases | None = ranges if RANGES else None
    leases = leases or RecordLeases(records, blobs=ranges, pause=_PAUSE)
    leases.waits = WaitItems(items)
    return leases


class ItemRecords:
    """`LeaseRecords` under `leases/<key>`."""

    def __init__(self, items: Store[bytes]) -> None:
        self.items: Any = items
        self._exact = isinstance(items, Replaces)

    def read(self, key: bytes) -> Lease | None:
        name = f"leases/{key.hex()}"
        item = self.items.get(name)
        if item is None:
            return None
        try:
            owner, token, beat, deadline = json.loads(item)
            return Lease(str(owner), int(token), int(beat), float(deadline))
        except (ValueError, TypeError):  # damaged: nobody can renew or release it
            self.items.delete(name)
            return None

    def swap(self, key: bytes, old: Lease | None, new: Lease | None) -> bool:
        name = f"leases/{key.hex()}"
        if old is None:
            return self.read(key) is None if new is None else self.items.create(name, _pack(new))
        if new is None:
            # Nobody takes over while the owner's heart beats, so what is ours stays ours meanwhile.
            if self.read(key) != old:
                return False
            self.items.delete(name)
            return True
        if self._exact:
            done: bool = self.items.replace(name, _pack(old), _pack(new))
            return done
        # A heartbeat.
        if old.owner == new.owner and old.token == new.token:
            return self._written(key, old, new)
        mark = f"{name}.{old.token}"
        if not self.items.create(mark, _pack(new)):
            self._unstick(mark)
            return False
        try:
            return self._written(key, old, new)
        finally:
            with contextlib.suppress(KeptError):
                self.items.delete(mark)

    def _written(self, key: bytes, old: Lease, new: Lease) -> bool:
        if self.read(key) != old:
            return False
        self.items.put(f"leases/{key.hex()}", _pack(new))
        return True

    def _unstick(self, mark: str) -> None:
        """Remove the mark of one who died in the instant of taking over."""
        item = self.items.get(mark)
        with contextlib.suppress(ValueError, TypeError, IndexError):
            if item is not None and json.loads(item)[3] + _STUCK < time.time():
                self.items.delete(mark)


# Seconds between two looks of who waits for long: thousands may wait at once.
_PAUSE = 0.25
# Seconds, of clocks that may differ.
_STUCK = 60.0


def _pack(lease: Lease) -> bytes:
    return json.dumps(lease).encode()


class WaitItems:
    """Where those who wait for long say so: see `wellkept.memo.inflight`."""

    def __init__(self, items: Store[bytes]) -> None:
        self._items = items

    def publish(self, name: str, text: bytes) -> None:
        with contextlib.suppress(KeptError):
            self._items.put(_wait(name), text)

    def read(self) -> Iterator[tuple[str, bytes]]:
        with contextlib.suppress(KeptError):
            for key in list(self._items.keys("waits/")):
                item = self._items.get(key)
                if item is not None:
                    yield key[6:].replace("/", "~"), bytes(item)

    def remove(self, name: str) -> None:
        with contextlib.suppress(KeptError):
            self._items.delete(_wait(name))


def _wait(name: str) -> str:
    """Return the key of a wait, whose name is `host~process~random`."""
    return "waits/" + re.sub(r"[^A-Za-z0-9./-]", "-", name.replace("~", "/"))


class IndexRecords:
    """`LeaseRecords` in the table `leases`."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def read(self, key: bytes) -> Lease | None:
        query = "SELECT owner, token, beat, deadline FROM leases WHERE key = ?"
        for row in self.database.rows(query, key):
            return Lease(*row)
        return None

    def swap(self, key: bytes, old: Lease | None, new: Lease | None) -> bool:
        mark = None if old is None else (key, old.owner, old.token, old.beat)
        if mark is None and new is None:
            return self.read(key) is None
        same = "WHERE key = ? AND owner = ? AND token = ? AND beat = ?"
        with self.database.writing() as c:
            if mark is None:
                query = "INSERT OR IGNORE INTO leases VALUES (?,?,?,?,?)"
                done = c.execute(query, (key, *(new or ())))
            elif new is None:
                done = c.execute(f"DELETE FROM leases {same}", mark)
            else:
                query = f"UPDATE leases SET owner = ?, token = ?, beat = ?, deadline = ? {same}"
                done = c.execute(query, (*new, *mark))
            return done.rowcount == 1


class StackLeases(Leases):
    """Leases of the nearest backend that is written to, and of the farthest, where others meet us.

    Args:
        written: the backends that are written to, the nearest first.
        ask: asks one of them; None where it is far and does not answer.
    """

    def __init__(
        self, written: Sequence[Any], ask: Callable[[Any, Callable[[], Any]], Any]
    ) -> None:
        super().__init__()
        self._ask = ask
        self._near: Leases | None = written[0].locks if written else None
        self.far: Any = written[-1] if len(written) > 1 else None
        most = self.far.locks if self.far is not None else self._near
        self.waits: Any = getattr(most, "waits", None)

    def acquire(self, key: bytes, owner: Owner = SOMEBODY) -> bool:
        """See `Leases`."""
        if self._near is None:
            # What is written nowhere is computed by everybody.
            return True
        if not self._near.acquire(key, owner):
            return False
        # Only the near backend has to be looked at again, unless the far one says otherwise.
        owner.looked = True
        if self.far is None:
            return True
        got = None
        with contextlib.suppress(StoreError):
            got = self._ask(self.far, lambda: self._acquire_far(key, owner))
        if got is False:
            self._near.release(key, owner)
            return False
        return True

    def _acquire_far(self, key: bytes, owner: Owner) -> bool:
        owner.looked = False
        try:
            return bool(self.far.locks.acquire(key, owner))
        except StoreError:
            owner.looked = True
            raise

    def release(self, key: bytes, owner: Owner | None = None) -> None:
        """See `Leases`."""
        if self.far is not None and self.far.locks.holder(key) is not None:
            # It runs out, or is tried again there.
            with contextlib.suppress(StoreError):
                self.far.locks.release(key, owner)
        if self._near is not None:
            self._near.release(key, owner)

    def holder(self, key: bytes) -> Owner | None:
        """See `Leases`."""
        return None if self._near is None else self._near.holder(key)
