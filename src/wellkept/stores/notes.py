"""Notes: small records that stand beside calls and values, such as runs, sources and blessings.

A note is sealed under the digest of its key, as other items are under theirs; a damaged one reads as
None, and may be created anew.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from wellkept.errors import DamagedValue, StoreError
from wellkept.records import Buffer
from wellkept.stores.base import (
    Creates,
    Many,
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
    from wellkept.stores.stack import Layers

__all__ = [
    "IndexNotes",
    "ItemNotes",
    "LayeredNotes",
    "Notes",
    "has_table",
    "sealed_note",
    "unsealed_note",
]

_SOME = 500  # keys in a statement


class Notes(Store[bytes], Creates[bytes], Many, Protocol):
    """What every place has as `notes`. `create` is atomic where the medium's is."""


class IndexNotes:
    """The notes of an embedded store: rows of its index.

    Args:
        noted: told of each commit, by the tokens before and after it, as it changed no call.
    """

    def __init__(self, database: Database, noted: Callable[[Any], None]) -> None:
        self._database = database
        self._noted = noted

    def get(self, key: str) -> bytes | None:
        return self.get_many((key,)).get(key)

    def put(self, key: str, item: Buffer) -> None:
        self.put_many({key: item})

    def create(self, key: str, item: Buffer) -> bool:
        """Keep the note if there is none; whether there was none."""
        stored = sealed_note(key, item)
        with self._database.writing() as c:
            row = c.execute("SELECT item FROM notes WHERE key = ?", (key,)).fetchone()
            if row is not None and unsealed_note(key, row[0]) is not None:
                return False
            c.execute("INSERT OR REPLACE INTO notes VALUES (?,?)", (key, stored))
            return True

    def delete(self, key: str) -> None:
        self.delete_many((key,))

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


class ItemNotes:
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


class LayeredNotes:
    """The notes of several places: read near to far, written where calls are written."""

    def __init__(self, layers: Layers) -> None:
        self._layers = layers

    def get(self, key: str) -> bytes | None:
        for backend in self._layers.backends:
            found: bytes | None = self._layers.ask(
                backend,
                lambda backend=backend: backend.notes.get(key),  # type: ignore[misc]  # bound now
            )
            if found is not None:
                return found
        return None

    def put(self, key: str, item: Buffer) -> None:
        self.put_many({key: item})

    def create(self, key: str, item: Buffer) -> bool:
        """Decided by the farthest place that is written to and answers, where others meet us."""
        written = self._written()
        for backend in reversed(written):
            made = self._layers.ask(
                backend,
                lambda backend=backend: backend.notes.create(key, item),  # type: ignore[misc]  # bound now
            )
            if made is None:
                continue
            if made:
                for other in written:
                    if other is not backend:
                        self._layers.ask(other, lambda other=other: other.notes.put(key, item))  # type: ignore[misc]  # bound now
            return bool(made)
        raise StoreError(f"can't create the note {key}: no place answers")

    def delete(self, key: str) -> None:
        self.delete_many((key,))

    def keys(self, prefix: str = "") -> Iterator[str]:
        seen: set[str] = set()
        for backend in self._layers.backends:
            listed = partial(backend.notes.keys, prefix)
            for key in self._layers.ask(backend, lambda listed=listed: list(listed())) or ():  # type: ignore[misc]  # bound now
                if key not in seen:
                    seen.add(key)
                    yield key

    def get_many(self, keys: Iterable[str]) -> dict[str, bytes]:
        wanted = list(keys)
        found: dict[str, bytes] = {}
        for backend in self._layers.backends:
            left = [key for key in wanted if key not in found]
            if left:
                more = self._layers.ask(
                    backend,
                    lambda backend=backend, left=left: backend.notes.get_many(left),  # type: ignore[misc]  # bound now
                )
                found.update(more or {})
        return found

    def put_many(self, items: Mapping[str, Buffer]) -> None:
        for backend in self._written():
            self._layers.ask(backend, lambda backend=backend: backend.notes.put_many(items))  # type: ignore[misc]  # bound now

    def delete_many(self, keys: Iterable[str]) -> None:
        gone = list(keys)
        self._written()
        for backend in self._layers.backends:
            self._layers.ask(backend, lambda backend=backend: backend.notes.delete_many(gone))  # type: ignore[misc]  # bound now

    def _written(self) -> list[Any]:
        if not self._layers._written:
            raise StoreError("a pool of caches is written to nowhere")
        return list(self._layers._written)


def _pages(keys: Iterable[str]) -> Iterator[list[str]]:
    listed = [check_key(key) for key in keys]
    for at in range(0, len(listed), _SOME):
        yield listed[at : at + _SOME]


def _marks(values: list[str]) -> str:
    return ",".join("?" * len(values))
