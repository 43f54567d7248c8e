"""Notes: small records that stand beside calls and values, such as runs, sources and blessings.

A note is sealed under the digest of its key, as other items are under theirs; a damaged one reads as
None, and may be created anew.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any

from wellkept.errors import DamagedValue, KeptError
from wellkept.records import Buffer
from wellkept.stores.base import (
    Creates,
    Store,
    check_key,
    check_prefix,
    delete_many,
    get_many,
    put_many,
)
from wellkept.stores.record_format import sealed_note, unsealed_note

if TYPE_CHECKING:
    from wellkept.stores.sqlite_file import Database

_SOME = 500  # keys in a statement


class Notes:
    """What every backend has as `notes`: a `Store[bytes]` that takes many in one trip."""

    def get(self, key: str) -> bytes | None:
        """Return the note, or None."""
        return self.get_many((key,)).get(key)

    def put(self, key: str, item: Buffer) -> None:
        """Keep the note, in place of what was under the key."""
        self.put_many({key: item})

    def create(self, key: str, item: Buffer) -> bool:
        """Keep the note if there is none; whether there was none. Atomic where the medium can create."""
        raise NotImplementedError

    def delete(self, key: str) -> None:
        """Forget the note."""
        self.delete_many((key,))

    def keys(self, prefix: str = "") -> Iterator[str]:
        """Return the keys that begin with `prefix`, each once."""
        raise NotImplementedError

    def get_many(self, keys: Iterable[str]) -> dict[str, bytes]:
        """Return the notes that are there, by key."""
        raise NotImplementedError

    def put_many(self, items: Mapping[str, Buffer]) -> None:
        """Keep each note."""
        raise NotImplementedError

    def put_unheard(self, items: Mapping[str, Buffer]) -> None:
        """Keep each note, and need not wait to hear of it: before anything that is asked later."""
        self.put_many(items)

    def delete_many(self, keys: Iterable[str]) -> None:
        """Forget each note."""
        raise NotImplementedError


class IndexNotes(Notes):
    """The notes of an embedded store: rows of its index.

    Args:
        noted: told of each commit, by the tokens before and after it, as it changed no call.
    """

    def __init__(self, database: Database, noted: Callable[[Any], None]) -> None:
        self._database = database
        self._noted = noted

    def create(self, key: str, item: Buffer) -> bool:
        """Keep the note if there is none; whether there was none."""
        stored = sealed_note(key, item)
        with self._database.writing() as c:
            row = c.execute("SELECT item FROM notes WHERE key = ?", (key,)).fetchone()
            if row is not None and unsealed_note(key, row[0]) is not None:
                return False
            c.execute("INSERT OR REPLACE INTO notes VALUES (?,?)", (key, stored))
            return True

    def keys(self, prefix: str = "") -> Iterator[str]:
        after = f"{check_prefix(prefix)}\x7f"  # keys are ASCII
        query = "SELECT key FROM notes WHERE key >= ? AND key < ?"
        return (key for (key,) in self._rows(query, prefix, after))

    def get_many(self, keys: Iterable[str]) -> dict[str, bytes]:
        found = {}
        for some in _pages(keys):
            query = f"SELECT key, item FROM notes WHERE key IN ({_marks(some)})"
            for key, stored in self._rows(query, *some):
                item = unsealed_note(key, stored)
                if item is not None:
                    found[key] = item
        return found

    def put_many(self, items: Mapping[str, Buffer]) -> None:
        """Keep each note, or none."""
        rows = [(key, sealed_note(key, item)) for key, item in items.items()]
        with self._database.writing(self._noted) as c:
            c.executemany("INSERT OR REPLACE INTO notes VALUES (?,?)", rows)

    def delete_many(self, keys: Iterable[str]) -> None:
        rows = [(check_key(key),) for key in keys]
        with self._database.writing() as c:
            c.executemany("DELETE FROM notes WHERE key = ?", rows)

    def _rows(self, query: str, *values: object) -> Iterator[tuple[Any, ...]]:
        # Where it can only be read, an index of the first schema stays one, and has none.
        if self._database.readonly and not has_table(self._database, "notes"):
            return iter(())
        return self._database.rows(query, *values)


def has_table(database: Database, name: str) -> bool:
    """Whether the index has a table."""
    query = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?"
    return any(True for _ in database.rows(query, name))


class ItemNotes(Notes):
    """The notes of a medium: its items under `notes/`."""

    def __init__(self, items: Store[bytes]) -> None:
        self._items = items

    def get(self, key: str) -> bytes | None:
        try:
            return unsealed_note(check_key(key), self._items.get(f"notes/{key}"))
        except DamagedValue:  # by the medium's own account
            return None

    def put(self, key: str, item: Buffer) -> None:
        self._items.put(f"notes/{key}", sealed_note(key, item))

    def create(self, key: str, item: Buffer) -> bool:
        """Keep the note if there is none; whether there was none. Where the medium can't create,
        two at once may both be told so.
        """
        stored = sealed_note(key, item)
        if isinstance(self._items, Creates) and self._items.create(f"notes/{key}", stored):
            return True
        if self.get(key) is not None:
            return False
        self._items.put(f"notes/{key}", stored)  # over a damaged one
        return True

    def delete(self, key: str) -> None:
        self._items.delete(f"notes/{check_key(key)}")

    def keys(self, prefix: str = "") -> Iterator[str]:
        return (key[6:] for key in self._items.keys(f"notes/{check_prefix(prefix)}"))

    def get_many(self, keys: Iterable[str]) -> dict[str, bytes]:
        names = [check_key(key) for key in keys]
        try:
            stored = get_many(self._items, [f"notes/{key}" for key in names])
            found = {key: unsealed_note(key, stored.get(f"notes/{key}")) for key in names}
        except DamagedValue:  # by the medium's own account: one of them
            found = {key: self.get(key) for key in names}
        return {key: item for key, item in found.items() if item is not None}

    def put_many(self, items: Mapping[str, Buffer]) -> None:
        put_many(self._items, {f"notes/{key}": sealed_note(key, v) for key, v in items.items()})

    def delete_many(self, keys: Iterable[str]) -> None:
        delete_many(self._items, [f"notes/{check_key(key)}" for key in keys])


def _pages(keys: Iterable[str]) -> Iterator[list[str]]:
    listed = [check_key(key) for key in keys]
    for at in range(0, len(listed), _SOME):
        yield listed[at : at + _SOME]


def _marks(values: list[str]) -> str:
    return ",".join("?" * len(values))


# Which calls were thrown away, and when: remembered for who asks why one is computed again. A note
# `gone/<milliseconds>-<random>` has the keys of one eviction, cut to 12 bytes each. The latest are kept.
_GONE = "gone/"
_CUT = 12  # bytes of a key; a mistaken one would cost nothing but a wrong word in a text
_KEYS = 20_000  # of one eviction
_EVICTIONS = 64


def remember(notes: Notes, keys: Iterable[bytes]) -> None:
    """Note that these calls were evicted. A place that does not take it goes without."""
    cut = b"".join(key[:_CUT] for key in islice(keys, _KEYS))
    if not cut:
        return
    with contextlib.suppress(KeptError):
        name = f"{_GONE}{int(time.time() * 1000):015d}-{os.urandom(3).hex()}"
        notes.put(name, cut)
        old = sorted(notes.keys(_GONE))[:-_EVICTIONS]
        if old:
            notes.delete_many(old)


def evicted_at(notes: Notes, key: bytes) -> float | None:
    """When a call was last evicted, as far as that is remembered.

    Raises:
        StoreError: the place can't be read.
    """
    names = sorted(notes.keys(_GONE), reverse=True)
    found = notes.get_many(names)
    for name in names:
        cut = found.get(name, b"")
        at = cut.find(key[:_CUT])
        while at >= 0 and at % _CUT:
            at = cut.find(key[:_CUT], at + 1)
        if at >= 0:
            return int(name[len(_GONE) :].partition("-")[0]) / 1000
    return None
