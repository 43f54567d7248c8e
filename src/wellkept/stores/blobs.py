"""Blobs: immutable bytes, named by their BLAKE3, as files or as items of a byte store.

`b3sum` of a blob's file prints its name. It is written to `tmp/` and then renamed into place, so a reader sees
all of it or nothing. It is verified against its name on its first load in a process, and again if its file has
changed.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from wellkept._process import is_left, part_name
from wellkept._system import (
    NONBLOCK,
    PLAIN,
    POSIX,
    SEALED,
    pread,
    replace,
    sync_directory,
    unlink,
)
from wellkept.errors import DamagedValue, StoreError
from wellkept.hashing import MAPPED, address, buffer_digest
from wellkept.hashing.buffers import PARALLEL
from wellkept.records import Buffer
from wellkept.stores.base import Paths, PutsFiles, Ranges
from wellkept.stores.filesystem import map_file, open_regular, read_file, untouched

__all__ = ["Blobs", "ItemBlobs"]

# Bytes of one write: Linux writes at most 2 GiB at once, and a signal is answered only between two.
_CHUNK = 16 * 1024 * 1024
_READ = os.O_RDONLY | PLAIN | NONBLOCK
# Bytes of one range of an item: each range is a request of its own.
_RANGE = 8 * 1024 * 1024


class Blobs:
    """A `Store` of buffers under `root`, content-named: the key of an item is its BLAKE3.

    Args:
        root: the directory; `root/ab/abcd…` are the blobs.
        tmp: the directory where they are written first, on the same file system, so that a rename moves them.
        durable: fsync a blob and its directory before it counts as written.
        readonly: map read-only instead of copy-on-write.
    """

    root: Path

    def __init__(
        self, root: Path, tmp: Path, *, durable: bool = False, readonly: bool = False
    ) -> None:
        self.root, self._tmp = root, tmp
        self._root = str(root)
        self._durable, self._readonly = durable, readonly
        self._verified: dict[str, tuple[int, ...]] = {}

    def path(self, name: str) -> Path:
        """Return the file of a blob, whether or not it exists."""
        return self.root / name[:2] / name

    def size(self, name: str) -> int | None:
        """Return the bytes of a blob; None if it is missing."""
        with contextlib.suppress(OSError):
            return _size(self.path(name))
        return None

    def read(self, name: str, start: int, end: int, piece: int) -> Iterator[bytes]:
        """Yield the bytes of a blob from `start` to `end`, `piece` bytes at a time; see `read_parts`."""
        return read_parts(self.path(name), start, end, piece)

    def put(self, name: str, item: Buffer) -> None:
        """Write a blob unless a file of its name and size is there.

        Raises:
            StoreError: it can't be written.
        """
        view = memoryview(item).cast("B")
        path = self.path(name)
        try:
            if _size(path) == view.nbytes:
                # A garbage collection removes blobs that are old and unreferenced, and this one is about to be
                # referenced.
                os.utime(path)
                return
            try:
                self._write(path, view)
            # Someone removed the directories meanwhile, for example to clear the cache.
            except FileNotFoundError:
                self._tmp.mkdir(mode=0o700, parents=True, exist_ok=True)
                self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
                self._write(path, view)
        except OSError as error:
            raise StoreError(f"can't write {view.nbytes:,} bytes to {path}: {error}") from error

    def _write(self, path: Path, view: memoryview) -> None:
        path.parent.mkdir(mode=0o700, exist_ok=True)
        part = self._tmp / part_name()
        # Mode 0400: a blob never changes, and no program should open it for writing by mistake.
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | PLAIN
        fd = os.open(part, flags, SEALED)
        try:
            try:
                at = 0
                while at < view.nbytes:
                    at += os.write(fd, view[at : at + _CHUNK])
                # Before the rename: after a power cut the name must not stand for a file without its content.
                if self._durable:
                    os.fsync(fd)
            finally:
                os.close(fd)
            replace(part, path)
        except BaseException:
            with contextlib.suppress(OSError):
                unlink(part)
            raise
        # The name survives a power cut only once its directory is written.
        if self._durable:
            sync_directory(path.parent)

    def adopt(self, name: str, file: Path) -> None:
        """Move a file, whose content was verified, into place as the blob of this name.

        Raises:
            OSError: it can't be moved.
        """
        path = self.path(name)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self._durable:
            _sync(file)
        replace(file, path)
        if self._durable:
            sync_directory(path.parent)

    def get(self, name: str) -> Buffer | None:
        """Return the blob as a mapping (copy-on-write, or read-only), or None.

        Raises:
            DamagedValue: the file is not what its name says.
            StoreError: it can't be read.
        """
        # A `Path` would cost as much as opening the file.
        path = f"{self._root}/{name[:2]}/{name}"
        try:
            # O_NONBLOCK, as opening a pipe that someone put there would wait for its writer.
            fd = os.open(path, _READ)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StoreError(f"can't read {path}: {error}") from error
        try:
            found = os.fstat(fd)
            # Reading a pipe or a device may never end.
            if not stat.S_ISREG(found.st_mode):
                raise DamagedValue(f"{path} is no regular file")
            content = self._map(fd, found.st_size)
        except (OSError, ValueError) as error:
            raise StoreError(f"can't read {path}: {error}") from error
        finally:
            os.close(fd)
        # While these are the same, the file is the one that was verified. Without it every load would hash the
        # blob.
        stamp = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)
        if self._verified.get(name) != stamp:
            if buffer_digest(content).hex() != name:
                raise DamagedValue(f"{path} is not what its name says")
            self._verified[name] = stamp
        if isinstance(content, memoryview) and isinstance(content.obj, mmap.mmap):
            self._remember(path, found, content, bytes.fromhex(name))
        return content

    def _remember(
        self, path: str, found: os.stat_result, content: memoryview, digest: bytes
    ) -> None:
        """Note the digest of a mapping, which need not be computed again while nobody has written to it."""
        owner, size = content.obj, found.st_size
        if self._readonly:
            MAPPED.remember(address(content), size, digest, owner)
        elif size >= PARALLEL:
            at = address(content)
            MAPPED.remember(at, size, digest, owner, lambda: _same(path, found, at))

    def _map(self, fd: int, size: int) -> Buffer:
        if size == 0:
            return b""
        # The process may have too many mappings, or the file system none; then the content is read.
        with contextlib.suppress(OSError):
            return memoryview(map_file(fd, size, self._readonly))
        content = memoryview(read_file(fd, size))
        return content.toreadonly() if self._readonly else content

    def doubt(self, name: str) -> None:
        """Verify a blob again on its next load."""
        self._verified.pop(name, None)

    def delete(self, name: str) -> None:
        self._verified.pop(name, None)
        with contextlib.suppress(FileNotFoundError):
            unlink(self.path(name))

    def keys(self, prefix: str = "") -> Iterator[str]:
        with contextlib.suppress(FileNotFoundError):
            for shard in os.scandir(self.root):
                n = min(2, len(prefix))
                if len(shard.name) == 2 and shard.name[:n] == prefix[:n] and shard.is_dir():
                    for entry in os.scandir(shard.path):
                        if len(entry.name) == 64 and entry.name.startswith(prefix):
                            yield entry.name

    def leftovers(self, older: float = 86400.0) -> list[Path]:
        """Return the files that dead writers left in `tmp/`.

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
        """Remove the files that dead writers left in `tmp/`; return how many."""
        swept = 0
        for path in self.leftovers():
            with contextlib.suppress(OSError):
                unlink(path)
                swept += 1
        return swept


class ItemBlobs:
    """The blobs of a byte store: its items under `blobs/`, in parts if the store can read and write those."""

    def __init__(self, items: Any) -> None:
        self._items = items

    def size(self, name: str) -> int | None:
        """Return the bytes of a blob; None if it is missing."""
        if (path := self._path(name)) is not None:
            return path.stat().st_size
        if isinstance(self._items, Ranges):
            return self._items.size_of(f"blobs/{name}")
        item = self._items.get(f"blobs/{name}")
        return None if item is None else memoryview(item).nbytes

    def read(self, name: str, start: int, end: int, piece: int) -> Iterator[bytes]:
        """Yield the bytes of a blob from `start` to `end`; see `read_parts`."""
        if (path := self._path(name)) is not None:
            yield from read_parts(path, start, end, piece)
            return
        ranged = isinstance(self._items, Ranges)
        whole = None if ranged else self._items.get(f"blobs/{name}")
        while start < end:
            stop = min(end, start + (_RANGE if ranged else piece))
            if ranged:
                chunk = self._items.read_range(f"blobs/{name}", start, stop)
            else:
                chunk = None if whole is None else bytes(memoryview(whole)[start:stop])
            if not chunk:
                raise DamagedValue(f"the blob {name} is missing or cut short")
            start += len(chunk)
            yield chunk

    def put(self, name: str, item: Buffer) -> None:
        """Write a blob."""
        self._items.put(f"blobs/{name}", item)

    def adopt(self, name: str, file: Path) -> None:
        """Write the content of a file, which was verified, as the blob of this name."""
        if isinstance(self._items, PutsFiles):
            self._items.put_file(f"blobs/{name}", file)
        else:
            self._items.put(f"blobs/{name}", file.read_bytes())

    def doubt(self, name: str) -> None:
        """Do nothing: each load of an item is verified."""

    def _path(self, name: str) -> Path | None:
        # A store that is one file has that file's path as an attribute of this name.
        if isinstance(self._items, Paths) and callable(self._items.path):
            return self._items.path(f"blobs/{name}")
        return None


def read_parts(path: Path, start: int, end: int, piece: int) -> Iterator[bytes]:
    """Yield the bytes of a blob's file from `start` to `end`, at most `piece` at a time.

    Raises:
        DamagedValue: the file is missing, or shorter than `end`.
    """
    try:
        fd = open_regular(path)
    except OSError as error:
        raise DamagedValue(f"the blob {path.name} is missing") from error
    try:
        while start < end:
            chunk = pread(fd, min(piece, end - start), start)
            if not chunk:
                raise DamagedValue(f"the blob {path.name} is cut short")
            start += len(chunk)
            yield chunk
    finally:
        os.close(fd)


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return None


def _sync(path: Path) -> None:
    # To be written to where possible, as Windows wants it for this.
    fd = os.open(path, (os.O_RDONLY if POSIX else os.O_RDWR) | PLAIN)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _same(path: str, before: os.stat_result, at: int) -> bool:
    """Return whether a file, and what this process has mapped of it, are what they were."""
    try:
        now = os.stat(path)  # noqa: PTH116  the text is at hand
    except OSError:
        return False
    fields = ("st_dev", "st_ino", "st_size", "st_mtime_ns", "st_ctime_ns")
    return all(getattr(now, field) == getattr(before, field) for field in fields) and untouched(
        at, before.st_size
    )
