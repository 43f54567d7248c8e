"""Blobs in transfer between machines, in parts, and how a server keeps those that clients send.

A blob that a client sends is staged first, in a file of its own, and becomes a blob of the backend only
with the record that names it. So it is not collected meanwhile, and half of one is never a blob.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Self

from blake3 import blake3

from wellkept._process import part_name
from wellkept._system import PLAIN, SEALED, unlink
from wellkept.codecs import Blob, Envelope
from wellkept.errors import ConfigError, DamagedValue, StoreError
from wellkept.hashing import buffer_digest
from wellkept.records import Buffer, Call, Digest
from wellkept.remote.wire import CHUNK_SIZE
from wellkept.stores.blobs import Blobs, ItemBlobs
from wellkept.stores.filesystem import map_file, read_file
from wellkept.stores.index_tables import put_value

# KiB of an index that are held in memory. A server may serve many caches, and its memory should not grow with
# them.
_ROOM = 32 * 1024
# Larger blobs are downloaded into a file, which is then mapped, and not into memory.
_LARGE = 8 * 1024 * 1024
# Seconds after which a staged blob is dropped if no record has named it.
_OLD = 3600.0


class Incoming:
    """A blob that is being received into a file or memory, checked against its size and its name."""

    name: bytes
    size: int

    def __init__(self, name: bytes, size: int, fd: int | None = None) -> None:
        self.name, self.size = name, size
        self._fd = fd
        self._content = bytearray()
        self._hash = blake3()
        self._got = 0

    def write(self, part: Any) -> None:
        """Take the next bytes.

        Raises:
            DamagedValue: there are more bytes than were announced.
            StoreError: they can't be written.
        """
        view = memoryview(part)
        self._got += len(view)
        if self._got > self.size:
            raise DamagedValue(f"the blob {self.name.hex()} is longer than announced")
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
        """Check that all of the blob came.

        Raises:
            DamagedValue: some is missing, or the content does not fit the name.
        """
        if self._got != self.size:
            raise DamagedValue(f"the blob {self.name.hex()} is shorter than announced")
        if self._hash.digest() != self.name:
            raise DamagedValue(f"the blob {self.name.hex()} is not what its name says")


class Download(Incoming):
    """Receives the parts of a blob from a server, and returns it whole and verified, as writable memory."""

    def __init__(self, blob: Blob) -> None:
        self._file: Any = None
        if blob.size > _LARGE:
            try:
                self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115  until `__exit__`
            except OSError as error:
                raise StoreError(f"can't write a blob of {blob.size:,} bytes: {error}") from error
        super().__init__(blob.name, blob.size, None if self._file is None else self._file.fileno())

    def buffer(self) -> Buffer:
        """Return the whole blob; raises as `check`."""
        self.check()
        if self._file is None:
            return self._content
        fd = self._file.fileno()
        # The process may have too many mappings, or the system none.
        with contextlib.suppress(OSError):
            return memoryview(map_file(fd, self.size, readonly=False))
        try:
            return read_file(fd, self.size)
        except OSError as error:
            raise StoreError(f"can't read {self.size:,} bytes: {error}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()


class Staged(Incoming):
    """A blob that a client sends: a file that becomes a blob of the backend, or is removed."""

    def __init__(self, directory: Path, name: bytes, size: int) -> None:
        self.since: float = time.monotonic()
        self.path: Path = directory / part_name()
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | PLAIN, SEALED)
        super().__init__(name, size, fd)

    def finish(self) -> None:
        """Note that all of the blob came; raises as `check`."""
        # Closed first: the file is moved by its path, and has to be complete then.
        self._close()
        self.check()

    def _close(self) -> None:
        fd, self._fd = self._fd, None
        if fd is not None:
            os.close(fd)

    def drop(self) -> None:
        """Remove the file, if it has not been moved into place."""
        self._close()
        with contextlib.suppress(OSError):
            unlink(self.path)


class Host:
    """Reads and keeps blobs and results of a backend for the clients of a server.

    Raises:
        ConfigError: the backend is made of several, or its blobs can't be reached.
    """

    def __init__(self, backend: Any) -> None:
        if backend.blobs is None and not backend.byte_stores:
            raise ConfigError(
                f"can't serve a {type(backend).__name__}: serve one directory, database or bucket"
            )
        self.backend = backend
        self._index = None if backend.blobs is None else backend
        self._blobs: Blobs | ItemBlobs
        if self._index is not None:
            self._index.database.hold(_ROOM)
            self._blobs = backend.blobs
        else:
            self._blobs = ItemBlobs(backend.byte_stores[1])
        self._staged: dict[tuple[str, bytes], Staged] = {}
        self._scratch: tempfile.TemporaryDirectory[str] | None = None

    # -- blobs that are there ---------------------------------------------------------------------

    def size(self, name: bytes) -> int | None:
        """Return the bytes of a blob; None if it is missing."""
        return self._blobs.size(name.hex())

    def read(
        self, blob: Blob, start: int = 0, stop: int | None = None, piece: int = CHUNK_SIZE
    ) -> Iterator[bytes]:
        """Return the bytes of a blob from `start` to `stop`, about `piece` bytes at a time.

        Raises:
            DamagedValue: the blob is missing or cut short.
        """
        end = blob.size if stop is None else min(stop, blob.size)
        return self._blobs.read(blob.name.hex(), start, end, piece)

    def mend(self, name: bytes) -> None:
        """Remove a blob if its content does not fit its name, so that a client can send it again."""
        size = self.size(name)
        if size is None:
            return
        self._blobs.doubt(name.hex())
        # Loading a damaged blob removes it.
        with contextlib.suppress(DamagedValue):
            self.backend.load(Envelope("pickle", b"", (Blob(size, name),)))

    # -- blobs that are being received ------------------------------------------------------------

    def stage(self, owner: str, name: bytes, size: int) -> Staged:
        """Return the staged blob that takes what a client is about to send.

        Raises:
            StoreError: its file can't be made.
        """
        self.tidy()
        if self._index is not None:
            # On the file system of the blobs, so that a rename moves it into place.
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
        """Hold a blob that came whole until a record names it."""
        # By owner, so that a client that goes does not drop what another has sent.
        old = self._staged.pop((owner, blob.name), None)
        self._staged[owner, blob.name] = blob
        if old is not None:
            old.drop()

    def tidy(self, owner: str | None = None, older: float = _OLD) -> None:
        """Drop the blobs of a client that is gone, and those that were staged long ago."""
        for name, blob in list(self._staged.items()):
            if name[0] == owner or time.monotonic() - blob.since > older:
                self._staged.pop(name, None)
                blob.drop()

    # -- keeping ----------------------------------------------------------------------------------

    def commit(
        self, owner: str, call: Call, envelope: Envelope, sent: Mapping[bytes, bytes], uses: Any
    ) -> Any:
        """Keep a call and its result, whose blobs were sent with it, were staged, or exist already.

        Returns what the backend's `record` gave of it; None where it gives nothing.

        Raises:
            StoreError: a blob is missing, or the call can't be written.
            DamagedValue: the content of a blob does not fit its name.
        """
        with self._writing():
            self._settle(owner, envelope, sent)
            made = self.backend.record([(call, envelope)], uses)
        return made[0] if made else None

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

    def _writing(self) -> AbstractContextManager[None]:
        # Someone may have removed or replaced the files since the last request.
        if self.backend.stale():
            self.backend.close()
        # No garbage collection between the blobs and the record that names them.
        made: AbstractContextManager[None] = self.backend.locks.writing_blobs()
        return made

    def _settle(self, owner: str, envelope: Envelope, sent: Mapping[bytes, bytes]) -> None:
        for size, name in envelope.blobs:
            content = sent.get(name)
            if content is not None:
                if len(content) != size or buffer_digest(content) != name:
                    raise DamagedValue("a blob is not what its name says")
                self._blobs.put(name.hex(), content)
            elif (blob := self._staged.get((owner, name))) is not None:
                if blob.size != size:
                    raise DamagedValue("a blob is not as long as its record says")
                try:
                    self._blobs.adopt(name.hex(), blob.path)
                except OSError as error:
                    raise StoreError(f"can't keep the blob {name.hex()}: {error}") from error
                self._staged.pop((owner, name), None)
                blob.drop()
            elif self.size(name) != size:
                raise StoreError(f"the blob {name.hex()} was not sent: send it again")

    def close(self) -> None:
        """Drop every staged blob."""
        for blob in self._staged.values():
            blob.drop()
        self._staged.clear()
        if self._scratch is not None:
            self._scratch.cleanup()
            self._scratch = None
