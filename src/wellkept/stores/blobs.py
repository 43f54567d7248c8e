"""Blobs: immutable bytes in files named by their BLAKE3, so that `b3sum` of a file prints its name.

A blob is written to `tmp/`, then renamed into place: a reader sees all of it or nothing. It is
verified against its name on its first load in a process, and again if its file has changed.
"""

from __future__ import annotations

import contextlib
import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path

from wellkept._process import is_left, part_name
from wellkept.errors import DamagedValue, StoreError
from wellkept.hashing import READONLY_MAPS, address, buffer_digest
from wellkept.records import Buffer
from wellkept.stores.filesystem import map_file

__all__ = ["Blobs"]

_CHUNK = 16 * 1024 * 1024


class Blobs:
    """A `Store` of buffers under `root`, content-named: the key of an item is its BLAKE3.

    Args:
        root: the directory; `root/ab/abcd…` are the blobs.
        tmp: where they are written first, on the same file system.
        durable: fsync a blob and its directory before it counts as written.
        readonly: map read-only instead of copy-on-write.
    """

    def __init__(
        self, root: Path, tmp: Path, *, durable: bool = False, readonly: bool = False
    ) -> None:
        self.root, self._tmp = root, tmp
        self._root = str(root)
        self._durable, self._readonly = durable, readonly
        self._verified: dict[str, tuple[int, ...]] = {}

    def path(self, name: str) -> Path:
        """Where a blob is or would be."""
        return self.root / name[:2] / name

    def put(self, name: str, item: Buffer) -> None:
        """Write a blob unless a file of its name and size is there.

        Raises:
            StoreError: it can't be written.
        """
        view = memoryview(item).cast("B")
        path = self.path(name)
        try:
            if _size(path) == view.nbytes:
                os.utime(path)  # young again, for those who collect what is old and unreferenced
                return
            try:
                self._write(path, view)
            except FileNotFoundError:  # somebody tidied up under us
                self._tmp.mkdir(mode=0o700, parents=True, exist_ok=True)
                self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
                self._write(path, view)
        except OSError as error:
            raise StoreError(f"can't write {view.nbytes:,} bytes to {path}: {error}") from error

    def _write(self, path: Path, view: memoryview) -> None:
        path.parent.mkdir(mode=0o700, exist_ok=True)
        part = self._tmp / part_name()
        fd = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o400)
        try:
            try:
                at = 0
                while at < view.nbytes:
                    at += os.write(fd, view[at : at + _CHUNK])
                if self._durable:
                    os.fsync(fd)
            finally:
                os.close(fd)
            part.rename(path)
        except BaseException:
            with contextlib.suppress(OSError):
                part.unlink()
            raise
        if self._durable:
            _sync(path.parent)

    def adopt(self, name: str, file: Path) -> None:
        """Make a file beside the blobs the one of this name, whose content was verified.

        Raises:
            OSError: it can't be.
        """
        path = self.path(name)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self._durable:
            _sync(file)
        file.rename(path)
        if self._durable:
            _sync(path.parent)

    def get(self, name: str) -> Buffer | None:
        """The blob as a mapping (copy-on-write, or read-only), or None.

        Raises:
            DamagedValue: the file is not what its name says.
            StoreError: it can't be read.
        """
        path = f"{self._root}/{name[:2]}/{name}"  # no Path: it costs as much as opening the file
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StoreError(f"can't read {path}: {error}") from error
        try:
            found = os.fstat(fd)
            if not stat.S_ISREG(found.st_mode):  # a pipe or a device, which may never end
                raise DamagedValue(f"{path} is no regular file")
            content = self._map(fd, found.st_size)
        except (OSError, ValueError) as error:
            raise StoreError(f"can't read {path}: {error}") from error
        finally:
            os.close(fd)
        stamp = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)
        if self._verified.get(name) != stamp:
            if buffer_digest(content).hex() != name:
                raise DamagedValue(f"{path} is not what its name says")
            self._verified[name] = stamp
        if self._readonly and isinstance(content, memoryview):
            # Nobody can change it, so its digest need not be computed again while it lives.
            digest = bytes.fromhex(name)
            READONLY_MAPS.remember(address(content), found.st_size, digest, content.obj)
        return content

    def _map(self, fd: int, size: int) -> Buffer:
        if size == 0:
            return b""
        with contextlib.suppress(OSError):
            return memoryview(map_file(fd, size, self._readonly))
        content = memoryview(bytearray(size))
        at = 0
        while at < size and (n := os.preadv(fd, [content[at : at + _CHUNK]], at)):
            at += n
        return content.toreadonly() if self._readonly else content

    def doubt(self, name: str) -> None:
        """Verify a blob again when it is loaded next."""
        self._verified.pop(name, None)

    def delete(self, name: str) -> None:
        self._verified.pop(name, None)
        with contextlib.suppress(FileNotFoundError):
            self.path(name).unlink()

    def keys(self, prefix: str = "") -> Iterator[str]:
        with contextlib.suppress(FileNotFoundError):
            for shard in os.scandir(self.root):
                n = min(2, len(prefix))
                if len(shard.name) == 2 and shard.name[:n] == prefix[:n] and shard.is_dir():
                    for entry in os.scandir(shard.path):
                        if len(entry.name) == 64 and entry.name.startswith(prefix):
                            yield entry.name

    def leftovers(self, older: float = 86400.0) -> list[Path]:
        """What dead writers left in `tmp/`.

        Args:
            older: seconds after which a file of a writer on another host counts as left.
        """
        found = []
        with contextlib.suppress(OSError):
            for entry in os.scandir(self._tmp):
                with contextlib.suppress(OSError):
                    old = time.time() - entry.stat().st_mtime > older
                    if old or is_left(entry.name):
                        found.append(Path(entry.path))
        return found

    def sweep(self) -> int:
        """Remove what dead writers left in `tmp/`; how many files."""
        swept = 0
        for path in self.leftovers():
            with contextlib.suppress(OSError):
                path.unlink()
                swept += 1
        return swept


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return None


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
