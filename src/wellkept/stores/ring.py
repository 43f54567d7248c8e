"""The rows that changed lately, in a small file that all processes map: what a query index lacks.

A commit that told so by a row of a table would dirty one more page, a tenth of what it costs; a word
of a mapped file costs nothing to speak of. It is written to inside write transactions of the index
only, so by one process at a time, and before the commit, so that it never lacks a row that is there.

The file is 64 bytes, four words of which are used, and then the latest rows, over and over::

    "keptring" | identity u64 | how many rows there were u64 | 0 … | CAPACITY rows i64
"""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Iterator
from pathlib import Path

from wellkept.stores.filesystem import open_regular

__all__ = ["CAPACITY", "Ring"]

CAPACITY = 16_384
"""Rows that it holds; older ones are written over."""

_HEAD = 64
_SIZE = _HEAD + 8 * CAPACITY
_START = struct.Struct("<8sQQ")
_IDENTITY, _COUNT = 1, 2


class Ring:
    """A mapping of the file; made, or made anew, where there is none that is whole.

    Call all of it inside a write transaction of the index.

    Raises:
        OSError: it can't be made or mapped.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        fd = open_regular(path, os.O_RDWR | os.O_CREAT)
        try:
            if os.fstat(fd).st_size != _SIZE or os.pread(fd, 8, 0) != b"keptring":
                os.ftruncate(fd, 0)
                # Not left sparse: a page that the disk has no room for must fail here, not by a signal.
                os.pwrite(fd, bytes(_SIZE), 0)
                os.pwrite(fd, _START.pack(b"keptring", int.from_bytes(os.urandom(7), "big"), 0), 0)
            found = os.fstat(fd)
            self._inode = found.st_dev, found.st_ino
            self._map = mmap.mmap(fd, _SIZE)
        finally:
            os.close(fd)
        self._words = memoryview(self._map).cast("Q")
        self._rows = memoryview(self._map)[_HEAD:].cast("q")

    @property
    def identity(self) -> int:
        """Another one where the file was made anew."""
        return self._words[_IDENTITY]

    @property
    def count(self) -> int:
        """How many rows were ever added."""
        return self._words[_COUNT]

    def add(self, row: int) -> int:
        """Add a row; how many there were then."""
        count = self._words[_COUNT]
        self._rows[count % CAPACITY] = row
        self._words[_COUNT] = count + 1
        return count + 1

    def since(self, count: int) -> Iterator[int]:
        """The rows that were added after so many; they must still be there."""
        return (self._rows[n % CAPACITY] for n in range(count, self.count))

    def gone(self) -> bool:
        """Whether the file was removed or replaced since."""
        try:
            found = os.stat(self.path)  # noqa: PTH116  it costs a third of Path.stat
        except OSError:
            return True
        return (found.st_dev, found.st_ino) != self._inode

    def close(self) -> None:
        self._words.release()
        self._rows.release()
        self._map.close()

    @staticmethod
    def look(path: Path) -> tuple[int, int] | None:
        """Identity and count of a file that can only be read; None where there is none."""
        try:
            with os.fdopen(open_regular(path), "rb") as file:
                magic, identity, count = _START.unpack(file.read(_START.size))
        except (OSError, struct.error):
            return None
        return (identity, count) if magic == b"keptring" else None

    @staticmethod
    def read(path: Path, identity: int, count: int) -> list[int] | None:
        """The rows that were added after so many, from a file that is only read; None where it is
        another one, or they are no longer there.
        """
        try:
            with os.fdopen(open_regular(path), "rb") as file:
                content = file.read()
            magic, found, now = _START.unpack_from(content)
        except (OSError, struct.error):
            return None
        if magic != b"keptring" or found != identity or not 0 <= now - count <= CAPACITY:
            return None
        rows = memoryview(content)[_HEAD:].cast("q")
        return [rows[n % CAPACITY] for n in range(count, now)] if len(content) == _SIZE else None
