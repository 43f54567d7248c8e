"""Epochs of an index: in one, calls are only added, so what was read of it stays as it was.

Any commit changes the WAL index header (see `WalIndex`), and most commits are calls that other processes
keep, which change nothing that this one holds. A small file beside the index says so. Each commit of the
library writes there, while it still has the write lock, the token that it left in the header, and the
epoch: the token after the last commit that did anything but add. A commit first sees that the token it
finds is the one in the file. If it is not, somebody else has written in between (another program, an
older version of the library, or one that was killed right after its commit), and a new epoch begins.

So a token that stands in the file was reached from any other of its epoch by additions alone. A token that
does not stand there proves nothing, and the tokens themselves are SQLite's: whatever becomes of this
file, nothing that was replaced is served.
"""

from __future__ import annotations

import contextlib
import os
import struct
import time
from pathlib import Path
from typing import NamedTuple

from blake3 import blake3

from wellkept._system import FREE, NOFOLLOW, RANGES, WRITE, give_way, pread, pwrite, set_range
from wellkept.interrupts import Guard
from wellkept.stores.filesystem import open_regular

Token = tuple[int, int]
"""Two words of the WAL index header."""

# The token after the last commit of the library, the epoch, and the beginning of a digest of both: it may
# be read while it is written.
_WORDS = struct.Struct("<4Q")
_SUM = 8
_SIZE = _WORDS.size + _SUM
# A byte past them, by which processes take turns.
_TURN = 1 << 20
# Looks that give way to others alone: a write takes some ten microseconds, and a sleep no less than a hundred.
_LOOKS = 30
# Seconds for which a turn is waited for, and at first between two looks.
_PATIENCE, _PAUSE = 0.05, 0.00005
# Seconds for which none is, after one that was in vain.
_VAIN = 1.0


class Step(NamedTuple):
    """A commit of this process."""

    before: Token
    after: Token
    epoch: Token | None = None
    """The epoch that `before` belongs to; None: it is not known."""
    now: Token | None = None
    """The one that `after` belongs to."""


class Epochs:
    """The file that says which epoch a token belongs to; without it, none is known.

    Args:
        path: of the file, which is made by the first commit.
    """

    __slots__ = ("_fd", "_guard", "_identity", "_path", "_vain", "_written", "taking")

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd = -1
        self._guard = Guard()
        self._identity = (0, 0)
        self._vain = 0.0
        self.taking = False
        """Whether this process has the turn, or may have."""
        self._written: tuple[Token, Token] | None = None
        """What this process wrote last: where the token is still that, the file says the same."""

    def of(self, token: Token) -> Token | None:
        """Return the epoch of a token; None: it is not known."""
        written = self._written
        if written is not None and written[0] == token:
            return written[1]
        try:
            content = pread(self._fd if self._fd >= 0 else self._open(), _SIZE, 0)
        except OSError:
            return None
        if (
            len(content) != _SIZE
            or blake3(content[: _WORDS.size]).digest(_SUM) != content[_WORDS.size :]
        ):
            return None
        one, two, three, four = _WORDS.unpack_from(content)
        return (three, four) if (one, two) == token else None

    def commit(self, before: Token, after: Token, adds: bool) -> Step:
        """Note a commit; call before the next one can begin.

        Args:
            adds: it changed nothing that could be read before, by key.
        """
        epoch = self.of(before)
        now = epoch if adds and epoch is not None else after
        content = _WORDS.pack(*after, *now)
        try:
            pwrite(
                self._fd if self._fd >= 0 else self._open(),
                content + blake3(content).digest(_SUM),
                0,
            )
            self._written = (after, now)
        except OSError:
            # What the file says is of an earlier token, and so says nothing of this one.
            self._written = None
        return Step(before, after, epoch, now)

    def _open(self) -> int:
        """Open the file; to be read alone where it can't be written to.

        Raises:
            OSError: it can't be.
        """
        with self._guard:
            if self._fd >= 0:
                return self._fd
            try:
                fd = open_regular(self._path, os.O_RDWR | os.O_CREAT | NOFOLLOW)
            except OSError:
                fd = open_regular(self._path, os.O_RDONLY | NOFOLLOW)
            self._fd = fd
            found = os.fstat(fd)
            self._identity = (found.st_dev, found.st_ino)
            return fd

    def wait(self) -> bool:
        """Wait for a moment until no other process writes, where several do; return whether that is so.

        SQLite looks only after one millisecond, and then after ever more, whether another one is done, which
        takes some ten microseconds. So these take turns by a lock on a byte of the file. It decides nothing:
        who can't lock leaves it to SQLite, and so does, for a while, who waited in vain: for a stopped process.
        """
        now = time.monotonic()
        if not RANGES or now < self._vain:
            return False
        deadline, pause, looks = now + _PATIENCE, _PAUSE, 0
        with contextlib.suppress(OSError):
            fd = self._fd if self._fd >= 0 else self._open()
            # Before it has it: an interrupt may come in between.
            self.taking = True
            while not set_range(fd, WRITE, _TURN):
                looks += 1
                if looks <= _LOOKS:
                    give_way()
                    continue
                if time.monotonic() > deadline:
                    self._vain = deadline + _VAIN
                    return False
                time.sleep(pause)
                pause *= 1.3
            return True
        return False

    def over(self) -> None:
        """Let go of the turn that `wait` may have taken."""
        if self._fd >= 0:
            with contextlib.suppress(OSError):
                set_range(self._fd, FREE, _TURN)
        self.taking = False

    def look(self) -> None:
        """Now and then: whether the file was removed or replaced; called as `close` is."""
        if self._fd >= 0:
            try:
                found = os.stat(self._path)  # noqa: PTH116  nothing of a Path is needed
                same = (found.st_dev, found.st_ino) == self._identity
            except OSError:
                same = False
            if not same:
                self.close()

    def close(self) -> None:
        """Let go of the file; it is opened again when it is needed.

        Called while nobody commits: a descriptor that is closed may be another file's when it is written to.
        Who reads then takes what is there for no epoch.
        """
        with self._guard:
            fd, self._fd, self._written, self.taking = self._fd, -1, None, False
            if fd >= 0:
                with contextlib.suppress(OSError):
                    os.close(fd)
