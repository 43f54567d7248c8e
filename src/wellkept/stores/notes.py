"""Metadata records ("notes"): small records that are neither calls nor values, such as runs and sources.

A note has a checksum that binds it to its key; a damaged one reads as None, and may be created anew.
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

# Keys of one statement; older SQLites take at most 999 values.
_SOME = 500


class Notes:
    """The metadata records of a backend: a `Store[bytes]` that takes many keys in one trip."""

    def get(self, key: str) -> bytes | None:
        """Return the note, or None."""
        return self.get_many((key,)).get(key)

    def put(self, key: str, item: Buffer) -> None:
        """Keep the note, in place of an earlier one."""
        self.put_many({key: item})

    def create(self, key: str, item: Buffer) -> bool:
        """Keep the note if there is none; return whether there was none. Atomic if the store can create."""
        raise NotImplementedError

    def delete(self, key: str) -> None:
        """Delete the note."""
        self.delete_many((key,))

    def keys(self, prefix: str = "") -> Iterator[str]:
        """Return the keys that begin with `prefix`, each once."""
        raise NotImplementedError

    def get_many(self, keys: Iterable[str]) -> dict[str, bytes]:
        """Return the notes that exist, by key."""
        raise NotImplementedError

    def put_many(self, items: Mapping[str, Buffer]) -> None:
        """Keep each note."""
        raise NotImplementedError

    def put_unheard(self, items: Mapping[str, Buffer]) -> None:
        """Keep each note, perhaps without waiting; they are written before any later request."""
        self.put_many(items)

    def delete_many(self, keys: Iterable[str]) -> None:
        """Delete each note."""
        raise NotImplementedError


class IndexNotes(Notes):
    """The notes of an embedded store: rows of its index."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def create(self, key: str, item: Buffer) -> bool:
        """Keep the note if there is none; return whether there was none."""
        stored = sealed_note(key, item)
        with self._database.writing(adds=True) as c:
            row = c.execute("SELECT item FROM notes WHERE key = ?", (key,)).fetchone()
            if row is not None and unsealed_note(key, row[0]) is not None:
                return False
            c.execute("INSERT OR REPLACE INTO notes VALUES (?,?)", (key, stored))
            return True

    def keys(self, prefix: str = "") -> Iterator[str]:
        # Keys are ASCII, so this comes after all that begin with the prefix.
        after = f"{check_prefix(prefix)}\x7f"
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
        with self._database.writing(adds=True) as c:
            c.executemany("INSERT OR REPLACE INTO notes VALUES (?,?)", rows)

    def delete_many(self, keys: Iterable[str]) -> None:
        rows = [(check_key(key),) for key in keys]
        with self._database.writing(adds=True) as c:
            c.executemany("DELETE FROM notes WHERE key = ?", rows)

    def _rows(self, query: str, *values: object) -> Iterator[tuple[Any, ...]]:
        # A read-only index is not migrated, and the first schema has no notes.
        if self._database.readonly and not has_table(self._database, "notes"):
            return iter(())
        return self._database.rows(query, *values)


def has_table(database: Database, name: str) -> bool:
    """Return whether the index has a table."""
    query = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?"
    return any(True for _ in database.rows(query, name))


class ItemNotes(Notes):
    """The notes of a byte store: its items under `notes/`."""

    def __init__(self, items: Store[bytes]) -> None:
        self._items = items

    def get(self, key: str) -> bytes | None:
        try:
            return unsealed_note(check_key(key), self._items.get(f"notes/{key}"))
        # The store itself checks items. A damaged note reads as none.
        except DamagedValue:
            return None

    def put(self, key: str, item: Buffer) -> None:
        self._items.put(f"notes/{key}", sealed_note(key, item))

    def create(self, key: str, item: Buffer) -> bool:
        """Keep the note if there is none; return whether there was none.

        If the store can't create, two callers at once may both get True.
        """
        stored = sealed_note(key, item)
        if isinstance(self._items, Creates) and self._items.create(f"notes/{key}", stored):
            return True
        if self.get(key) is not None:
            return False
        # What is there is damaged, or the store can't create.
        self._items.put(f"notes/{key}", stored)
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
        # The store itself checks items, and says that one of these is damaged: each is read by itself.
        except DamagedValue:
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


# The eviction log, by which `explain` says why a call is computed again. A note `gone/<milliseconds>-<random>`
# has the keys of one eviction, cut to 12 bytes each. The latest are kept.
_GONE = "gone/"
# Bytes of a key that are kept. If two keys began alike, only a text of `explain` would be wrong.
_CUT = 12
# Keys of one eviction that are kept.
_KEYS = 20_000
_EVICTIONS = 64


def remember(notes: Notes, keys: Iterable[bytes]) -> None:
    """Note that these calls were evicted."""
    cut = b"".join(key[:_CUT] for key in islice(keys, _KEYS))
    if not cut:
        return
    # The calls are gone; that the log can't be written must not make the eviction fail.
    with contextlib.suppress(KeptError):
        name = f"{_GONE}{int(time.time() * 1000):015d}-{os.urandom(3).hex()}"
        notes.put(name, cut)
        old = sorted(notes.keys(_GONE))[:-_EVICTIONS]
        if old:
            notes.delete_many(old)


def evicted_at(notes: Notes, key: bytes) -> float | None:
    """Return when a call was last evicted, in seconds since the epoch; None if the log does not say.

    Raises:
        StoreError: the backend can't be read.
    """
    return evictions(notes)(key)


def evictions(notes: Notes) -> Callable[[bytes], float | None]:
    """Return what tells when a call was last evicted, as far as that is remembered now: for many calls.

    Raises:
        StoreError: the place can't be read.
    """
    names = sorted(notes.keys(_GONE), reverse=True)
    found = notes.get_many(names)

    def last(key: bytes) -> float | None:
        for name in names:
            cut = found.get(name, b"")
            # A match that does not begin where a key does is made of two keys.
            at = cut.find(key[:_CUT])
            while at >= 0 and at % _CUT:
                at = cut.find(key[:_CUT], at + 1)
            if at >= 0:
                return int(name[len(_GONE) :].partition("-")[0]) / 1000
        return None

    return last
