"""A file that changes in one step, for as many processes as share it, whenever one of them dies.

What a change adds is written behind the file's end. What it overwrites is gathered, and written to
a journal beside the file first: once the journal is whole, the change has happened, and whoever
comes next finishes it if the writer did not. Before that, nothing that was there has been touched.

The companion file `<path>.journal` begins with a header, which never moves::

    "keptjrn1" | generation u64 | length u64 | size u64 | BLAKE3 of the entries 32
    | the same of the file's head before 16 | and after 16

A length of 0 says that no change is under way. Entries are `offset u64 | length u64 | bytes`, from
byte 4096. The generation tells readers that what they remember of the file is out of date.

Locks are flock's: a reader holds the file shared; a writer holds the companion, which keeps new
readers out, and then the file. The kernel releases them when their owner dies.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from blake3 import blake3

from wellkept.errors import StoreError
from wellkept.interrupts import Guard
from wellkept.stores.filesystem import open_regular
from wellkept.stores.overlay import PAGE, Change, read_at, write_at

__all__ = ["JournaledFile"]

_HEADER = struct.Struct("<8sQQQ32s16s16s")
_ENTRY = struct.Struct("<QQ")
_MAGIC = b"keptjrn1"
_ENTRIES = 4096
_KEEP = 1 << 20  # bytes of entries that are left lying: it is cheaper to write over them


class _Header(NamedTuple):
    magic: bytes = _MAGIC
    generation: int = 0
    length: int = 0
    size: int = 0
    digest: bytes = bytes(32)
    before: bytes = bytes(16)
    after: bytes = bytes(16)


class JournaledFile:
    """One file; its methods may be called by several threads, which take turns.

    Args:
        path: the file; made by the first change.
        end: where the content of an open file ends, by what is written in it; what lies behind is
            of no account.
        durable: a change survives a power cut once it is made.
        patience: seconds to wait for a lock.
    """

    def __init__(
        self,
        path: Path,
        end: Callable[[int], int],
        *,
        durable: bool = False,
        patience: float = 60.0,
    ) -> None:
        self.path, self.durable, self.patience = path, durable, patience
        self._end = end
        self.beside = f"{path}.journal"
        self._gate = self._file = -1
        self.turn = Guard()
        """Held by the thread that reads or changes it."""

    @contextlib.contextmanager
    def reading(self) -> Iterator[tuple[int, int]]:
        """A descriptor of the file (-1: there is none) and its generation; neither changes within.

        Raises:
            StoreError: it can't be read, or stays locked.
        """
        with self.turn:
            while True:
                self._share()
                header = self._header()
                if header.length == 0:
                    break
                self._unlock()
                with self._exclusive():  # its writer died half-way; this finishes the change
                    pass
            try:
                yield self._file, header.generation
            finally:
                self._unlock()

    @contextlib.contextmanager
    def changing(self) -> Iterator[Change]:
        """The file as something to write to. What was written has happened when the block ends
        normally, and never was when it ends by an exception.

        Raises:
            StoreError: it can't be written, or stays locked.
        """
        with self.turn, self._exclusive() as generation:
            if self._file < 0:
                self._find_file(create=True)
                self._flock(self._file, fcntl.LOCK_EX)
            change = Change(self._file, self._end(self._file))
            try:
                yield change
                header, entries = self._journal(change, generation + 1)
            except BaseException as error:
                change.dead = True
                with contextlib.suppress(OSError):
                    if os.fstat(self._file).st_size > change.base:
                        os.ftruncate(self._file, change.base)
                if change.failure is not None:
                    told = f"can't write {self.path}: {change.failure}"
                    raise StoreError(told) from change.failure
                if isinstance(error, OSError) and error.errno:
                    raise StoreError(f"can't write {self.path}: {error}") from error
                raise
            if entries:
                self._apply(header, entries)

    @contextlib.contextmanager
    def replacing(self) -> Iterator[tuple[int, int]]:
        """While another file is put in this one's place, or none: nobody else reads or writes.
        As `reading`, it gives the file and its generation.
        """
        with self.turn, self._exclusive() as generation:
            yield self._file, generation
            self._write_header(_Header(generation=generation + 1))
            self._drop_file()

    # -- a change ---------------------------------------------------------------------------------

    def _journal(self, change: Change, generation: int) -> tuple[_Header, bytes]:
        """Write the journal; once that is done, the change has happened. Nothing: no entries."""
        if change.failure is not None:
            raise change.failure
        parts = [_ENTRY.pack(at, len(page)) + page for at, page in change.gathered()]
        if not parts and change.size == change.base:
            return _Header(), b""
        entries = b"".join(parts) or _ENTRY.pack(0, 0)
        head = bytearray(PAGE)
        change.seek(0)
        change.readinto(head)
        write_at(self._gate, entries, _ENTRIES)
        if self.durable:
            os.fsync(self._file)
            os.fsync(self._gate)
        header = _Header(
            generation=generation,
            length=len(entries),
            size=change.size,
            digest=blake3(entries).digest(),
            before=self._head(),
            after=blake3(head).digest(16),
        )
        self._write_header(header)
        return header, entries

    def _apply(self, header: _Header, entries: bytes) -> None:
        try:
            at = 0
            while at < len(entries):
                offset, length = _ENTRY.unpack_from(entries, at)
                at += _ENTRY.size + length
                write_at(self._file, entries[at - length : at], offset)
            if os.fstat(self._file).st_size != header.size:
                os.ftruncate(self._file, header.size)
            if self.durable:
                os.fsync(self._file)
            self._write_header(_Header(generation=header.generation))
            if len(entries) > _KEEP:
                os.ftruncate(self._gate, _ENTRIES)
        except OSError as error:
            raise StoreError(f"can't write {self.path}: {error}") from error

    def _recover(self) -> int:
        """Finish what a dead writer began; the generation then."""
        header = self._header()
        if header.length == 0:
            return header.generation
        # Unless the journal was not written whole, which only a power cut does, or somebody has
        # put another file there since.
        entries = b""
        if header.length <= os.fstat(self._gate).st_size - _ENTRIES:
            entries = read_at(self._gate, header.length, _ENTRIES)
        same = self._file >= 0 and self._head() in (header.before, header.after)
        if same and blake3(entries).digest() == header.digest:
            self._apply(header, entries)
            return header.generation
        self._write_header(_Header(generation=header.generation + 1))
        return header.generation + 1

    def _head(self) -> bytes:
        return blake3(os.pread(self._file, PAGE, 0).ljust(PAGE, b"\0")).digest(16)

    def _header(self) -> _Header:
        try:
            raw = b"" if self._gate < 0 else os.pread(self._gate, _HEADER.size, 0)
        except OSError as error:
            raise StoreError(f"can't read {self.beside}: {error}") from error
        if len(raw) < _HEADER.size or raw[:8] != _MAGIC:
            return _Header()
        return _Header(*_HEADER.unpack(raw))

    def _write_header(self, header: _Header) -> None:
        os.pwrite(self._gate, _HEADER.pack(*header), 0)
        if self.durable:
            os.fsync(self._gate)

    # -- locks ------------------------------------------------------------------------------------

    def _share(self) -> None:
        self._find_gate()
        try:
            if self._gate >= 0:
                self._flock(self._gate, fcntl.LOCK_SH)
            self._find_file()
            if self._file >= 0:
                self._flock(self._file, fcntl.LOCK_SH)
        except BaseException:
            self._unlock()
            raise
        if self._gate >= 0:
            fcntl.flock(self._gate, fcntl.LOCK_UN)

    @contextlib.contextmanager
    def _exclusive(self) -> Iterator[int]:
        self._find_gate(create=True)
        try:
            self._flock(self._gate, fcntl.LOCK_EX)
            self._find_file()
            if self._file >= 0:
                self._flock(self._file, fcntl.LOCK_EX)
            yield self._recover()
        finally:
            self._unlock()

    def _flock(self, fd: int, kind: int) -> None:
        deadline, pause = time.monotonic() + self.patience, 0.0002
        while True:
            try:
                fcntl.flock(fd, kind | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise StoreError(
                        f"{self.path} stays locked by another process; after {self.patience:g} "
                        "seconds this one gave up"
                    ) from None
                time.sleep(pause)
                pause = min(0.01, pause * 2)
            except OSError as error:
                raise StoreError(
                    f"can't lock {self.path}: {error}; a file system without flock can't share it"
                ) from error
            else:
                return

    def _unlock(self) -> None:
        for fd in (self._file, self._gate):
            if fd >= 0:
                fcntl.flock(fd, fcntl.LOCK_UN)

    def _find_gate(self, create: bool = False) -> None:
        if self._gate >= 0 and not create:
            return
        if self._gate >= 0 and fcntl.fcntl(self._gate, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDWR:
            return
        try:
            self._gate = open_regular(self.beside, os.O_RDWR | os.O_CREAT)
        except OSError as error:
            if create or error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
                raise StoreError(f"can't write {self.beside}: {error}") from error
            with contextlib.suppress(OSError):  # without one, nobody writes either
                self._gate = open_regular(self.beside)

    def _find_file(self, create: bool = False) -> None:
        """Open the file that has the name now. Callers hold the companion's lock."""
        try:
            if self._file >= 0:
                found, mine = self.path.stat(), os.fstat(self._file)
                if (found.st_ino, found.st_dev) == (mine.st_ino, mine.st_dev):
                    return
        except FileNotFoundError:
            pass
        except OSError as error:
            raise StoreError(f"can't read {self.path}: {error}") from error
        self._drop_file()
        for flags in (os.O_RDWR | (os.O_CREAT if create else 0), os.O_RDONLY):
            try:
                self._file = open_regular(self.path, flags)
            except FileNotFoundError:
                if create:
                    raise StoreError(f"can't make {self.path}: no such directory") from None
            except OSError as error:
                if create or flags == os.O_RDONLY:
                    raise StoreError(f"can't open {self.path}: {error}") from error
                continue
            return

    def _drop_file(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def close(self) -> None:
        """Let go of the descriptors; the next use opens them again."""
        with self.turn:
            self.forget()

    def forget(self) -> None:
        """In a forked child: its descriptors share the parent's locks."""
        self.turn = Guard()
        self._drop_file()
        if self._gate >= 0:
            os.close(self._gate)
            self._gate = -1
