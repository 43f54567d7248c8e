"""Blobs on their way between machines, in parts, and how a server keeps those that clients send.

A blob that a client sends is staged first, in a file of its own, and becomes a blob of the backend only
with the record that names it. So nobody collects it meanwhile, and half of one is never a blob.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Self

from blake3 import blake3

from wellkept._process import part_name
from wellkept.codecs import Blob, Envelope
from wellkept.errors import ConfigError, DamagedValue, StoreError
from wellkept.hashing import buffer_digest
from wellkept.records import Buffer, Call, Digest
from wellkept.remote.wire import CHUNK_SIZE
from wellkept.stores.filesystem import map_file, open_regular
from wellkept.stores.index_tables import put_value

_ROOM = 32 * 1024  # KiB of an index in memory: a server may have many, and should not grow
_LARGE = 8 * 1024 * 1024  # bytes of a blob that is downloaded into a file, and not into memory
_OLD = 3600.0  # seconds after which what nobody named is dropped


class Incoming:
    """A blob on its way here: its parts, in a file or in memory, checked against its size and its name."""

    def __init__(self, name: bytes, size: int, fd: int | None = None) -> None:
        self.name, self.size = name, size
        self._fd = fd
        self._content = bytearray()
        self._hash = blake3()
        self._got = 0

    def write(self, part: Any) -> None:
        """Take the next bytes.

        Raises:
            DamagedValue: they are more than was said.
            StoreError: there is no room for them.
        """
        view = memoryview(part)
        self._got += len(view)
        if self._got > self.size:
            raise DamagedValue(f"the blob {self.name.hex()} is longer than was said")
        self._hash.update(view)
        if self._fd is None:
            self._content += view
            return
        try:
            while len(view):
                view = view[os.write(self._fd, view) :]
        except OSError as error:
            raise StoreError(f"can't write a blob of {self.size:,} bytes: {error}") from error

    def check(self) -> None:
        """Check that all of it came.

        Raises:
            DamagedValue: it did not, or it is not what its name says.
        """
        if self._got != self.size:
            raise DamagedValue(f"the blob {self.name.hex()} is shorter than was said")
        if self._hash.digest() != self.name:
            raise DamagedValue(f"the blob {self.name.hex()} is not what its name says")


class Download(Incoming):
    """Takes the parts of a blob from a server, and gives it whole: verified, and free to be changed."""

    def __init__(self, blob: Blob) -> None:
        self._file: Any = None
        if blob.size > _LARGE:
            try:
                self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115  until `__exit__`
            except OSError as error:
                raise StoreError(f"can't write a blob of {blob.size:,} bytes: {error}") from error
        super().__init__(blob.name, blob.size, None if self._file is None else self._file.fileno())

    def buffer(self) -> Buffer:
        """Return all of it; raises as `check`."""
        self.check()
        if self._file is None:
            return self._content
        try:
            return memoryview(map_file(self._file.fileno(), self.size, readonly=False))
        except OSError as error:
            raise StoreError(f"can't map {self.size:,} bytes: {error}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()


class Staged(Incoming):
    """A blob that a client sends: a file that becomes what its name says, or goes."""

    def __init__(self, directory: Path, name: bytes, size: int) -> None:
        self.since = time.monotonic()
        self.path = directory / part_name()
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o400)
        super().__init__(name, size, fd)

    def finish(self) -> None:
        """All of it came; raises as `check`."""
        # Closed first: the file is linked elsewhere by its path, and has to be complete there.
        self._close()
        self.check()

    def _close(self) -> None:
        fd, self._fd = self._fd, None
        if fd is not None:
            os.close(fd)

    def drop(self) -> None:
        """It is not wanted, or has become a blob."""
        self._close()
        with contextlib.suppress(OSError):
            self.path.unlink()


class Host:
    """The blobs and results of a backend, as a server reads and keeps them for its clients.

    Raises:
        ConfigError: it is made of several, or its blobs can't be reached.
    """

    def __init__(self, backend: Any) -> None:
        if backend.blobs is None and not backend.byte_stores:
            raise ConfigError(
                f"can't serve a {type(backend).__name__}: serve one directory, database or bucket"
            )
        self.backend = backend
        self._index = None if backend.blobs is None else backend
        if self._index is not None:
            self._index.database.hold(_ROOM)
        self._items: Any = backend.byte_stores[1] if self._index is None else None
        self._staged: dict[tuple[str, bytes], Staged] = {}
        self._scratch: tempfile.TemporaryDirectory[str] | None = None

    # -- blobs that are there ---------------------------------------------------------------------

    def size(self, name: bytes) -> int | None:
        """Bytes of a blob; None: it is not there."""
        if self._index is not None:
            try:
                return int(self._index.blobs.path(name.hex()).stat().st_size)
            except OSError:
                return None
        path = self._path(name)
        if path is not None:
            return int(path.stat().st_size)
        size_of = getattr(self._items, "size_of", None)
        if size_of is not None:
            size: int | None = size_of(f"blobs/{name.hex()}")
            return size
        item = self._items.get(f"blobs/{name.hex()}")
        return None if item is None else memoryview(item).nbytes

    def read(
        self, blob: Blob, start: int = 0, stop: int | None = None, piece: int = CHUNK_SIZE
    ) -> Iterator[bytes]:
        """The bytes of a blob from `start` to `stop`, in chunks, of `piece` bytes where they come
        from a file.

        Raises:
            DamagedValue: it is missing, or not as long as it was.
        """
        end = blob.size if stop is None else min(stop, blob.size)
        path = self._path(blob.name)
        if path is None:
            yield from self._read_items(blob, start, end)
            return
        try:
            fd = open_regular(path)
        except OSError as error:
            raise DamagedValue(f"the blob {blob.name.hex()} is missing") from error
        try:
            while start < end:
                chunk = os.pread(fd, min(piece, end - start), start)
                if not chunk:
                    raise DamagedValue(f"the blob {blob.name.hex()} is cut short")
                start += len(chunk)
                yield chunk
        finally:
            os.close(fd)

    def _read_items(self, blob: Blob, start: int, end: int) -> Iterator[bytes]:
        key = f"blobs/{blob.name.hex()}"
        ranged = getattr(self._items, "read_range", None)
        whole = None if ranged is not None else self._items.get(key)
        view = None if whole is None else memoryview(whole)
        while start < end:
            stop = min(end, start + CHUNK_SIZE * (1 if ranged is None else 16))
            chunk = view[start:stop] if view is not None else ranged and ranged(key, start, stop)
            if not chunk:
                raise DamagedValue(f"the blob {blob.name.hex()} is missing or cut short")
            start += len(chunk)
            yield bytes(chunk)

    def _path(self, name: bytes) -> Path | None:
        if self._index is not None:
            return Path(self._index.blobs.path(name.hex()))
        path = getattr(self._items, "path", None)  # of a store in one file it is that
        found: Path | None = path(f"blobs/{name.hex()}") if callable(path) else None
        return found

    def mend(self, name: bytes) -> None:
        """Remove a blob if it is not what its name says: a client got other bytes, and nobody would
        send it again.
        """
        size = self.size(name)
        if size is None:
            return
        if self._index is not None:
            self._index.blobs.doubt(name.hex())
        with contextlib.suppress(DamagedValue):
            self.backend.load(Envelope("pickle", b"", (Blob(size, name),)))

    # -- blobs on their way in --------------------------------------------------------------------

    def stage(self, owner: str, name: bytes, size: int) -> Staged:
        """Return where a blob that a client is about to send goes.

        Raises:
            StoreError: there is no room.
        """
        self.tidy()
        if self._index is not None:
            directory = self._index.root / "tmp"
        else:
            if self._scratch is None:
                self._scratch = tempfile.TemporaryDirectory(prefix="wellkept-serve-")
            directory = Path(self._scratch.name)
        try:
            return Staged(directory, name, size)
        except OSError as error:
            raise StoreError(f"can't write a blob: {error}") from error

    def staged(self, owner: str, blob: Staged) -> None:
        """All of a blob came; the record that names it may follow."""
        # By owner: what one client sent can't be dropped by another that goes.
        old = self._staged.pop((owner, blob.name), None)
        self._staged[owner, blob.name] = blob
        if old is not None:
            old.drop()

    def tidy(self, owner: str | None = None, older: float = _OLD) -> None:
        """Drop what was staged for a client that is gone, or for long."""
        for name, blob in list(self._staged.items()):
            if name[0] == owner or time.monotonic() - blob.since > older:
                self._staged.pop(name, None)
                blob.drop()

    # -- what is kept -----------------------------------------------------------------------------

    def commit(
        self, owner: str, call: Call, envelope: Envelope, sent: Mapping[bytes, bytes], uses: Any
    ) -> None:
        """Keep a call and its result, whose blobs are sent with it, were staged, or are there.

        Raises:
            StoreError: one is neither, or it can't be written.
            DamagedValue: one is not what its name says.
        """
        with self._writing():
            self._settle(owner, envelope, sent)
            self.backend.record(call, envelope, uses)

    def put_value(
        self, owner: str, key: str, envelope: Envelope, sent: Mapping[bytes, bytes]
    ) -> None:
        """Keep a value; raises as `commit`."""
        with self._writing():
            self._settle(owner, envelope, sent)
            packed, digest = envelope.pack(), Digest(key).raw
            if self._index is None:
                values: Any = self.backend.values
                values.write(digest, packed)
                return
            size = len(envelope.payload or b"") + sum(blob.size for blob in envelope.blobs)
            with self._index.database.writing() as c:
                put_value(c, digest, packed, size)

    def _writing(self) -> Any:
        if self._index is not None and self._index.stale():
            self._index.close()
        writing = getattr(self.backend.locks, "writing_blobs", None)
        return contextlib.nullcontext() if writing is None else writing()

    def _settle(self, owner: str, envelope: Envelope, sent: Mapping[bytes, bytes]) -> None:
        for size, name in envelope.blobs:
            content = sent.get(name)
            if content is not None:
                if len(content) != size or buffer_digest(content) != name:
                    raise DamagedValue("a blob is not what its name says")
                self._put(name, content)
            elif (blob := self._staged.get((owner, name))) is not None:
                if blob.size != size:
                    raise DamagedValue("a blob is not as long as its record says")
                self._adopt(blob)
                self._staged.pop((owner, name), None)
                blob.drop()
            elif self.size(name) != size:
                raise StoreError(f"the blob {name.hex()} was not sent: send it again")

    def _put(self, name: bytes, content: bytes) -> None:
        if self._index is not None:
            self._index.blobs.put(name.hex(), content)
        else:
            self._items.put(f"blobs/{name.hex()}", content)

    def _adopt(self, blob: Staged) -> None:
        name = blob.name.hex()
        try:
            if self._index is not None:
                self._index.blobs.adopt(name, blob.path)
            elif (put_file := getattr(self._items, "put_file", None)) is not None:
                put_file(f"blobs/{name}", blob.path)
            else:
                self._items.put(f"blobs/{name}", blob.path.read_bytes())
        except OSError as error:
            raise StoreError(f"can't keep the blob {name}: {error}") from error

    def close(self) -> None:
        for blob in self._staged.values():
            blob.drop()
        self._staged.clear()
        if self._scratch is not None:
            self._scratch.cleanup()
            self._scratch = None
