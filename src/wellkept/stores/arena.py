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
from collections.abc import Callable
from typing import NamedTuple

from wellkept.records import Buffer
from wellkept.stores.mapping import map_file

__all__ = ["Arena", "Extent"]

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
        _all.add(self)

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


_all: weakref.WeakSet[Arena] = weakref.WeakSet()


def _after_fork() -> None:
    for arena in list(_all):
        arena._forked()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
