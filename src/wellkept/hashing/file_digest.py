"""Files that count by their content: `wellkept.File`.

Reading a large file takes seconds, asking for its status a microsecond. So a digest is remembered
with the size, the times and the inode that the file had, in the process, and that of a large file in
the cache too. As in git's index, a file that was changed just now is not believed: it may be changed
again within the same tick of its file system's clock.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
import time
import weakref
from typing import Any

from blake3 import blake3

from wellkept.errors import ConfigError, Undigestible
from wellkept.hashing.names import Bounded

NOTES = "files/"
# Nanoseconds of the coarsest clock of a file system, which is FAT's.
TICK = 2_000_000_000
# Bytes from which a digest is worth a note.
_LARGE = 1 << 20
# Files whose digests a process remembers.
_MOST = 10_000

# Inode, size, and the times of the last change of content and of status, in nanoseconds.
Stamp = tuple[int, int, int, int]

_known: Bounded[str, tuple[Stamp, bytes]] = Bounded(_MOST)
_cache: Any = None


class File(os.PathLike[str]):
    """A file that counts by its content: an argument, or one of `depends`.

    The name does not count, so a copy elsewhere is the same argument. It can be given to `open` and
    wherever else a path is taken.

    Args:
        path: where it is. It need not be there before it is asked for its digest.

    Attributes:
        path: as it was given.

    Raises:
        ConfigError: that is no path.
    """

    __slots__ = ("path",)

    def __init__(self, path: str | bytes | os.PathLike[str]) -> None:
        try:
            self.path: str = os.fsdecode(path)
        except TypeError:
            raise ConfigError(f"wellkept.File takes a path, not {path!r}") from None

    def __fspath__(self) -> str:
        return self.path

    def __digest__(self) -> Any:
        return content_digest(self.path)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, File) and other.path == self.path

    def __hash__(self) -> int:
        return hash(self.path)

    def __repr__(self) -> str:
        return f"wellkept.File({self.path!r})"


# The name of the class is part of the digest, and must not change with its module.
File.__module__ = "wellkept"


def content_digest(path: str) -> bytes:
    """Return the BLAKE3 of a file's content, 32 bytes, read only if it may have changed.

    Raises:
        Undigestible: there is no such file, it is none, or can't be read.
    """
    where = os.path.abspath(path)  # noqa: PTH100  before any Path is needed
    before = _stamp(path)
    found = _known.get(where) or _noted(where, before)
    if found is None or found[0] != before:
        began = time.time_ns()
        try:
            digest = blake3(max_threads=blake3.AUTO).update_mmap(path).digest()
        except OSError as error:
            raise _unreadable(path, error) from error
        found = before, digest
        if _stamp(path) != before or max(before[2:]) > began - TICK:
            # The file is being written, or may be written within the same tick of its clock.
            return digest
        _note(where, found)
    _known[where] = found
    return found[1]


def _stamp(path: str) -> Stamp:
    try:
        status = os.stat(path)  # noqa: PTH116  a Path takes as long as the call
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from error
    if not stat.S_ISREG(status.st_mode):
        what = "a directory" if stat.S_ISDIR(status.st_mode) else "no regular file"
        raise Undigestible(f"wellkept.File({path!r}) is {what}: name the files in it that count")
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _unreadable(path: str, error: Exception) -> Undigestible:
    reason = getattr(error, "strerror", None) or str(error)
    return Undigestible(f"the content of {path!r} has no digest: {reason}")


def remember_in(cache: Any) -> None:
    """Where the digests of large files are noted from now on, for other processes: the cache of the
    call that is looked for. It is not kept alive by this.
    """
    global _cache
    if _cache is None or _cache() is not cache:
        _cache = weakref.ref(cache)


def _name(where: str) -> str:
    return NOTES + blake3(where.encode("utf-8", "surrogateescape")).hexdigest()


def _noted(where: str, stamp: Stamp) -> tuple[Stamp, bytes] | None:
    cache = None if _cache is None or stamp[1] < _LARGE else _cache()
    if cache is None:
        return None
    # If the note is damaged or the cache is gone, the file is read.
    with contextlib.suppress(Exception):
        note = cache.backend.notes.get(_name(where))
        if note is not None:
            *numbers, digest = json.loads(note)
            if tuple(numbers) == stamp and len(raw := bytes.fromhex(digest)) == 32:
                return stamp, raw
    return None


def _note(where: str, found: tuple[Stamp, bytes]) -> None:
    cache = None if _cache is None or found[0][1] < _LARGE else _cache()
    if cache is not None:
        # Without the note the next process reads the file again.
        with contextlib.suppress(Exception):
            cache.note(_name(where), json.dumps([*found[0], found[1].hex()]).encode())
