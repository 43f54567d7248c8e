"""Files that are being written: under their writer's name until they are whole and moved."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

__all__ = ["Parts", "sync_directory"]

_CHUNK = 16 * 1024 * 1024
_DEAD = (
    60.0  # seconds after which a dead writer's file is swept: a container may look like this host
)
_OLD = 86400.0  # and that of a writer elsewhere, who can't be asked


class Parts:
    """A directory of files under way, named `host~pid~random`.

    Args:
        directory: where they are, on the file system that they will be moved within.
        mode: of the files.
        durable: fsync each before it counts as written.
    """

    def __init__(self, directory: Path, mode: int = 0o400, *, durable: bool = False) -> None:
        self.directory = directory
        self._mode = mode
        self._durable = durable

    @contextlib.contextmanager
    def writing(self, content: memoryview) -> Iterator[Path]:
        """The path of a file with this content, gone at the end unless it was moved.

        Raises:
            OSError: it can't be written.
        """
        part = self.directory / f"{_host()}~{os.getpid()}~{os.urandom(6).hex()}"
        fd = self._open(part)
        try:
            try:
                at = 0
                while at < content.nbytes:
                    at += os.write(fd, content[at : at + _CHUNK])
                os.fchmod(fd, self._mode)  # the umask may be stricter
                if self._durable:
                    os.fsync(fd)
            finally:
                os.close(fd)
            yield part
        finally:
            with contextlib.suppress(OSError):
                part.unlink()

    def _open(self, part: Path) -> int:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        try:
            return os.open(part, flags, 0o600)
        except FileNotFoundError:  # somebody cleared the whole store
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            return os.open(part, flags, 0o600)

    def sweep(self, dead: float = _DEAD, old: float = _OLD) -> int:
        """Remove what dead writers left; how many files.

        Args:
            dead: seconds after which what a dead process of this host was writing counts as left.
            old: seconds after which anything does.
        """
        swept = 0
        with contextlib.suppress(OSError):
            for path in list(self.directory.iterdir()):
                with contextlib.suppress(OSError):
                    age = time.time() - path.stat().st_mtime
                    if age > old or (age >= dead and _left(path.name)):
                        path.unlink()
                        swept += 1
        return swept


def sync_directory(path: Path) -> None:
    """Make the names in a directory survive a power cut."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _host() -> str:
    return os.uname().nodename[:40].replace("~", "-").replace("/", "-")


def _left(name: str) -> bool:
    host, _, rest = name.partition("~")
    pid = rest.partition("~")[0]
    if host != _host() or not pid.isdecimal():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except (PermissionError, OverflowError):  # another's, or no process number at all
        return False
    return False
