"""The header of a WAL index, mapped: whether others wrote to a SQLite file since, without asking it."""

from __future__ import annotations

import mmap
import os
from pathlib import Path

from wellkept._system import POSIX
from wellkept.stores.filesystem import open_regular


class WalIndex:
    """A read-only mapping of the WAL index header; `words` are its first six 64-bit words.

    Closing any descriptor of a file drops the process's POSIX locks on it, SQLite's among them.
    So there is one mapping a file and process, counted, and `close` must come after the connection
    that it goes with has been closed.
    """

    _open: dict[tuple[int, int], WalIndex] = {}  # noqa: RUF012  a registry of the whole process

    words: memoryview

    def __init__(self, fd: int, identity: tuple[int, int]) -> None:
        self._fd = fd
        self._map = mmap.mmap(fd, 4096, access=mmap.ACCESS_READ)
        self.words = memoryview(self._map)[:48].cast("Q")
        self._identity = identity
        self._users = 0

    @classmethod
    def of(cls, database: Path) -> WalIndex | None:
        """The mapping for a database that a connection of this process holds open in WAL mode.

        None where there is no WAL index to map. Callers hold the lock that guards opening.
        """
        if not POSIX:
            return None  # SQLite could not remove it while it is mapped
        path = f"{database}-shm"
        try:
            found = os.stat(path)  # noqa: PTH116  no descriptor may be opened for a file we map already
            identity = (found.st_dev, found.st_ino)
            self = cls._open.get(identity)
            if self is None:
                fd = open_regular(path)
                self = cls._open[identity] = cls(fd, identity)
        except (OSError, ValueError):
            return None
        self._users += 1
        return self

    def token(self) -> tuple[int, int]:
        """Differs from an earlier one whenever anything was committed in between."""
        words = self.words
        return words[1], words[5]

    def close(self) -> None:
        self._users -= 1
        if self._users == 0:
            self._open.pop(self._identity, None)
            self.words.release()
            self._map.close()
            os.close(self._fd)

    @classmethod
    def forget(cls) -> None:
        """In a forked child: the parent's mappings are not the child's to use or count."""
        cls._open = {}
