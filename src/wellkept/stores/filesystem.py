"""What a directory is on, who else opens something in it, and whether a path is still the same file."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path

from wellkept.errors import StoreError

__all__ = ["alone", "identity", "on_network", "open_regular", "refuse_irregular"]

_PATIENCE = 5.0  # seconds for which an opening waits for another
_NETWORK = (
    *("nfs", "cifs", "smb", "9p", "afs", "ceph", "lustre", "gpfs", "beegfs", "pvfs", "gluster"),
    *("fuse.", "virtiofs", "vboxsf", "ocfs", "gfs", "davfs"),
)


@contextlib.contextmanager
def alone(directory: Path) -> Iterator[None]:
    """Among processes: nobody else opens the index here or sets it aside, so that no new index meets
    the log of the one before. Where a directory can't be locked, as on NFS, there is no such promise."""
    fd = -1
    try:
        with contextlib.suppress(OSError):
            fd = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
            deadline = time.monotonic() + _PATIENCE
            while time.monotonic() < deadline:
                with contextlib.suppress(BlockingIOError):
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                time.sleep(0.002)
        yield
    finally:
        if fd >= 0:
            with contextlib.suppress(OSError):
                fcntl.flock(fd, fcntl.LOCK_UN)  # a fork meanwhile has carried the descriptor off
            os.close(fd)


def open_regular(path: str | os.PathLike[str], flags: int = os.O_RDONLY, mode: int = 0o600) -> int:
    """Open a file and return its descriptor.

    Raises:
        OSError: it can't be opened, or is a pipe, a device or a directory: opening one or reading from
            it might never end.
    """
    fd = os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC, mode)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise _irregular(path)
    return fd


def refuse_irregular(path: Path) -> None:
    """See that a file which a library opens is no pipe and no device, nor those that SQLite has beside
    it; one that is not there is none.

    Raises:
        StoreError: one is, or can't be looked at.
    """
    for end in ("", "-wal", "-shm", "-journal"):
        one = f"{path}{end}"
        try:
            found = os.stat(one)  # noqa: PTH116  the text is at hand
            if not stat.S_ISREG(found.st_mode):
                raise _irregular(one)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise StoreError(f"can't open {one}: {error}") from error


def _irregular(path: str | os.PathLike[str]) -> OSError:
    return OSError(errno.EINVAL, "it is no regular file", os.fspath(path))


def identity(path: Path) -> tuple[int, int] | None:
    """Device and inode of a file; None where there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def on_network(directory: Path) -> bool:
    """Whether a directory is on a network file system (read from Linux's mount table)."""
    try:
        table = Path("/proc/self/mountinfo").read_text(errors="surrogateescape")
        device = directory.stat().st_dev
    except OSError:
        return False
    wanted = f"{os.major(device)}:{os.minor(device)}"
    for line in table.splitlines():
        fields, _, rest = line.partition(" - ")
        if fields.split(" ")[2] == wanted:
            kind = rest.split(" ")[0]
            return any(name in kind for name in _NETWORK)
    return False
