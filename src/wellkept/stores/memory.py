"""Byte stores in memory. Large items are ranges of anonymous files, which readers map copy-on-write.

A range is never written to again, nor given to another item, since callers and forked children may have it
mapped. So a segment is only appended to, by the process that made it, and is freed as a whole when nothing in
it is used any more.
"""

from __future__ import annotations

import itertools
import mmap
import os
import weakref
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from typing import Any, Generic, NamedTuple, TypeVar

from wellkept._process import Instances
from wellkept._system import POSIX, anonymous_file, pread, pwrite
from wellkept.interrupts import Guard
from wellkept.records import Buffer
from wellkept.stores.base import check_key, check_prefix
from wellkept.stores.filesystem import map_file, read_file

# Bytes of the first segment. Later ones are larger, as each takes a descriptor of the process.
_SEGMENT = 16 * 1024 * 1024
# A segment is at least this part of all, so there are about 32 of them for any amount of data.
_SHARE = 32
# Unused bytes, beyond as many as are used, from which the items are moved to new segments.
_SPARE = 64 * 1024 * 1024


_numbers = itertools.count()


class Segment:
    """An anonymous file; it is closed when nothing refers to it."""

    def __init__(self, capacity: int) -> None:
        self.fd: int = anonymous_file()
        self.capacity = capacity
        self.size = 0
        self.number: int = next(_numbers)

    def __del__(self, close: Callable[[int], None] = os.close) -> None:
        # When the interpreter ends, modules may be torn down before this object.
        try:
            close(self.fd)
        except (AttributeError, OSError):
            pass


class Extent(NamedTuple):
    """The place of an item."""

    segment: Segment
    offset: int
    size: int

    @property
    def stamp(self) -> tuple[int, int]:
        """Return a value that no other item in this process ever has."""
        return self.segment.number, self.offset

    @property
    def room(self) -> int:
        """Return its size in whole pages, as only those can be mapped."""
        return -(-self.size // mmap.ALLOCATIONGRANULARITY) * mmap.ALLOCATIONGRANULARITY

    def read(self) -> bytes:
        content = pread(self.segment.fd, self.size, self.offset)
        if len(content) == self.size:
            return content
        # Linux reads at most 2 GiB at once.
        return bytes(read_file(self.segment.fd, self.size, self.offset))

    def map(self) -> Buffer:
        """Return the item as private memory, whose pages are shared until they are written to.

        Raises:
            OSError: the process has too many mappings.
        """
        if not POSIX:
            return memoryview(read_file(self.segment.fd, self.size, self.offset))
        return memoryview(map_file(self.segment.fd, self.size, False, self.offset))


class Arena:
    """Appends items to segments. Callers hold a lock around `add`."""

    def __init__(self) -> None:
        self._current: Segment | None = None
        self._segments: weakref.WeakSet[Segment] = weakref.WeakSet()
        _arenas.add(self)

    def add(self, content: memoryview) -> Extent:
        """Keep the content (flat bytes, at least one).

        Raises:
            OSError: there is no memory, or no descriptor, for it.
        """
        size = content.nbytes
        segment = self._current
        if segment is None or segment.size + size > segment.capacity:
            segment = Segment(max(_SEGMENT, size, self.allocated() // _SHARE))
            self._segments.add(segment)
            self._current = segment
        # Counted before it is written: if the write fails, the range stays unused, and is never given away
        # twice.
        at = segment.size
        extent = Extent(segment, at, size)
        segment.size += extent.room
        os.ftruncate(segment.fd, segment.size)
        done = 0
        while done < size:
            done += pwrite(segment.fd, content[done:], at + done)
        return extent

    def allocated(self) -> int:
        """Return the bytes of all segments."""
        return sum(segment.size for segment in list(self._segments))

    def sparse(self, used: int) -> bool:
        """Return whether so many bytes are unused that moving the items is worth it."""
        return self.allocated() > 2 * used + _SPARE

    def _forked(self) -> None:
        # The parent goes on appending to it, at an offset that the child does not learn of.
        self._current = None


_arenas: Instances[Arena] = Instances(in_child=Arena._forked)


V = TypeVar("V")

# Items from this size on are mapped; smaller ones are copied, which is cheaper than a mapping.
_LARGE = 64 * 1024


class Memory(Generic[V]):
    """A store in this process's memory; pickled, it is empty.

    Bytes are copied in; any other item is kept as it is, so it must not be changed afterwards.
    """

    def __init__(self) -> None:
        self._items: dict[str, Any] = {}
        self._lock = Guard()
        self._arena = Arena()
        self._used = 0
        _all.add(self)

    def get(self, key: str) -> V | None:
        found: Any = self._items.get(key)
        if found is None:
            check_key(key)
        elif type(found) is Extent:
            found = found.read()
        return found  # type: ignore[no-any-return]  # what was put

    def map(self, key: str) -> Buffer | None:
        """Return the bytes under a key as a private, writable buffer; large ones are not copied."""
        found = self.map_stamped(key)
        return None if found is None else found[0]

    def map_stamped(self, key: str) -> tuple[Buffer, Hashable] | None:
        """Return the bytes as `map` does, and a stamp that no other item has; None as stamp for a small one."""
        found: Any = self._items.get(check_key(key))
        if type(found) is Extent:
            try:
                return found.map(), found.stamp
            # The process has too many mappings.
            except OSError:
                return bytearray(found.read()), found.stamp
        return (bytearray(found), None) if isinstance(found, bytes) else None

    def put(self, key: str, item: V) -> None:
        check_key(key)
        with self._lock:
            self._set(key, self._in(item))

    def create(self, key: str, item: V) -> bool:
        check_key(key)
        with self._lock:
            if key in self._items:
                return False
            self._set(key, self._in(item))
            return True

    def replace(self, key: str, old: V, item: V) -> bool:
        """Keep the item if one that equals `old` is under the key; return whether it was."""
        with self._lock:
            found = self.get(key)
            if found is None or found != old:
                return False
            self._set(key, self._in(item))
            return True

    def delete(self, key: str) -> None:
        check_key(key)
        with self._lock:
            self._set(key, None)

    def keys(self, prefix: str = "") -> Iterator[str]:
        check_prefix(prefix)
        return (key for key in list(self._items) if key.startswith(prefix))

    def get_many(self, keys: Iterable[str]) -> dict[str, V]:
        found = ((key, self.get(key)) for key in dict.fromkeys(keys))
        return {key: item for key, item in found if item is not None}

    def put_many(self, items: Mapping[str, V]) -> None:
        """Keep all of the items, or none; a reader at that moment may see some."""
        for key in items:
            check_key(key)
        with self._lock:
            # All copies are made before the first is set, as one may fail for lack of memory.
            kept = [(key, self._in(item)) for key, item in items.items()]
            for key, item in kept:
                self._set(key, item)

    def delete_many(self, keys: Iterable[str]) -> None:
        checked = [check_key(key) for key in keys]
        with self._lock:
            for key in checked:
                self._set(key, None)

    def _in(self, item: V) -> Any:
        """Return what is stored for an item: a copy if it may change."""
        if not isinstance(item, (bytes, bytearray, memoryview)):
            return item
        view = memoryview(item)
        if view.nbytes >= _LARGE:
            try:
                return self._arena.add(view.cast("B"))
            # Without a descriptor or room in a quota, it is kept as plain bytes.
            except OSError:
                pass
        return bytes(item)

    def _set(self, key: str, kept: Any) -> None:
        old = self._items.pop(key, None) if kept is None else self._items.get(key)
        if kept is not None:
            self._items[key] = kept
        freed = _size(old)
        self._used += _size(kept) - freed
        if freed:
            # It may be the last reference to a segment, which then counts no more.
            del old
            if self._arena.sparse(self._used):
                self._compact()

    def _compact(self) -> None:
        arena = Arena()
        for key, kept in list(self._items.items()):
            if type(kept) is Extent:
                try:
                    self._items[key] = arena.add(memoryview(kept.map()))
                except OSError:
                    return
        self._arena = arena

    def _forked(self) -> None:
        self._lock = Guard()

    def __reduce__(self) -> tuple[Any, ...]:
        return Memory, ()


def _size(kept: Any) -> int:
    return kept.room if type(kept) is Extent else 0


_all: Instances[Memory[Any]] = Instances(in_child=Memory._forked)


class Void(Generic[V]):
    """Keeps nothing: every get is a miss."""

    def get(self, key: str) -> V | None:
        check_key(key)
        return None

    def put(self, key: str, item: V) -> None:
        """Drop the item."""
        check_key(key)

    def create(self, key: str, item: V) -> bool:
        check_key(key)
        return True

    def delete(self, key: str) -> None:
        """Do nothing: there is no item."""
        check_key(key)

    def keys(self, prefix: str = "") -> Iterator[str]:
        check_prefix(prefix)
        return iter(())

    def get_many(self, keys: Iterable[str]) -> dict[str, V]:
        for key in keys:
            check_key(key)
        return {}

    def put_many(self, items: Mapping[str, V]) -> None:
        """Drop the items."""
        for key in items:
            check_key(key)

    def delete_many(self, keys: Iterable[str]) -> None:
        """Do nothing: there are no items."""
        for key in keys:
            check_key(key)
