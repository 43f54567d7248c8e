"""Large byte ranges in anonymous files: memory that many readers map copy-on-write, none copies.

A range is never written to again, nor given to another item: callers, and forked children, may have
it mapped. So a segment is only appended to, by the process that began it, and goes as a whole when
nothing in it is wanted any more.
"""

from __future__ import annotations

import itertools
import mmap
import os
import tempfile
import weakref
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from typing import Any, Generic, NamedTuple, TypeVar

from wellkept._process import Instances
from wellkept.interrupts import Guard
from wellkept.records import Buffer
from wellkept.stores.base import check_key, check_prefix
from wellkept.stores.filesystem import map_file

_SEGMENT = 16 * 1024 * 1024  # bytes of the first; later ones are larger, so that descriptors last
_SHARE = 32  # a segment is at least this part of all
_SPARE = 64 * 1024 * 1024  # what may be unused beside as much as is used


_numbers = itertools.count()


class Segment:
    """One anonymous file; closed when nothing refers to it."""

    def __init__(self, capacity: int) -> None:
        if hasattr(os, "memfd_create"):
            self.fd = os.memfd_create("wellkept", os.MFD_CLOEXEC)
        else:
            with tempfile.TemporaryFile() as file:
                self.fd = os.dup(file.fileno())
        self.capacity = capacity
        self.size = 0
        self.number = next(_numbers)

    def __del__(self, close: Callable[[int], None] = os.close) -> None:
        try:  # when the interpreter ends, modules may be gone before this is
            close(self.fd)
        except (AttributeError, OSError):
            pass


class Extent(NamedTuple):
    """Where an item is."""

    segment: Segment
    offset: int
    size: int

    @property
    def stamp(self) -> tuple[int, int]:
        """Never that of another item in this process."""
        return self.segment.number, self.offset

    @property
    def room(self) -> int:
        """Its size in whole pages."""
        return -(-self.size // mmap.ALLOCATIONGRANULARITY) * mmap.ALLOCATIONGRANULARITY

    def read(self) -> bytes:
        content = os.pread(self.segment.fd, self.size, self.offset)
        if len(content) == self.size:
            return content
        return bytes(self.map())  # one read gives at most 2 GiB

    def map(self) -> Buffer:
        """The item as private memory: its pages are shared until they are written to.

        Raises:
            OSError: the process has too many mappings.
        """
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
        at = segment.size
        extent = Extent(segment, at, size)
        segment.size += extent.room
        os.ftruncate(segment.fd, segment.size)
        done = 0
        while done < size:
            done += os.pwrite(segment.fd, content[done:], at + done)
        return extent

    def allocated(self) -> int:
        """Bytes of all segments."""
        return sum(segment.size for segment in list(self._segments))

    def sparse(self, used: int) -> bool:
        """Whether so much is allocated beside what is used that moving it all is worth it."""
        return self.allocated() > 2 * used + _SPARE

    def _forked(self) -> None:
        self._current = None  # the parent goes on appending to it


_arenas: Instances[Arena] = Instances(in_child=Arena._forked)


V = TypeVar("V")

_LARGE = 64 * 1024  # bytes from which an item is mapped, not copied


class Memory(Generic[V]):
    """A dict that is a store. It pickles as an empty one: memory stays where it is.

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
        """The bytes under a key as a private, writable buffer: of large ones no copy is made."""
        found = self.map_stamped(key)
        return None if found is None else found[0]

    def map_stamped(self, key: str) -> tuple[Buffer, Hashable] | None:
        """The same, and which item it is; of small ones there is no telling."""
        found: Any = self._items.get(check_key(key))
        if type(found) is Extent:
            try:
                return found.map(), found.stamp
            except OSError:  # too many mappings
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
        """Keep the item if an equal one to `old` is there; whether it was."""
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
        """Keep all of the items, or none; who reads at that moment may see some."""
        for key in items:
            check_key(key)
        with self._lock:
            kept = [(key, self._in(item)) for key, item in items.items()]
            for key, item in kept:
                self._set(key, item)

    def delete_many(self, keys: Iterable[str]) -> None:
        checked = [check_key(key) for key in keys]
        with self._lock:
            for key in checked:
                self._set(key, None)

    def _in(self, item: V) -> Any:
        """What is kept for an item: of what may change, a copy."""
        if not isinstance(item, (bytes, bytearray, memoryview)):
            return item
        view = memoryview(item)
        if view.nbytes >= _LARGE:
            try:
                return self._arena.add(view.cast("B"))
            except OSError:  # no descriptors, or a quota: it is kept as plain bytes
                pass
        return bytes(item)

    def _set(self, key: str, kept: Any) -> None:
        old = self._items.pop(key, None) if kept is None else self._items.get(key)
        if kept is not None:
            self._items[key] = kept
        freed = _size(old)
        self._used += _size(kept) - freed
        if freed:
            del old  # the last reference to a segment, perhaps
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
        """Gone."""
        check_key(key)

    def create(self, key: str, item: V) -> bool:
        check_key(key)
        return True

    def delete(self, key: str) -> None:
        """Nothing to forget."""
        check_key(key)

    def keys(self, prefix: str = "") -> Iterator[str]:
        check_prefix(prefix)
        return iter(())

    def get_many(self, keys: Iterable[str]) -> dict[str, V]:
        for key in keys:
            check_key(key)
        return {}

    def put_many(self, items: Mapping[str, V]) -> None:
        """Gone."""
        for key in items:
            check_key(key)

    def delete_many(self, keys: Iterable[str]) -> None:
        """Nothing to forget."""
        for key in keys:
            check_key(key)
