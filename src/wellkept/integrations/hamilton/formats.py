"""Results as files of a format: what Hamilton's savers write, kept and verified like any blob.

The file's bytes are a blob of the cache. Beside it, the file has a name with its format's ending,
for other tools and for Hamilton's loaders: `<cache>/formats/DATA_VERSION.parquet`, which is the
blob itself where the cache is a directory (a hard link), and a copy in a temporary directory of this
process where it is elsewhere.
"""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import json
import os
import re
import shutil
import tempfile
import time
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from wellkept.caches import Cache
from wellkept.caches.results import encoded
from wellkept.caches.tier import Entry
from wellkept.codecs.file import LoaderError, decode, read, says
from wellkept.codecs.paths import stamped
from wellkept.errors import EncodeError, Undigestible
from wellkept.hashing import buffer_digest, digest_bytes
from wellkept.records import Buffer, Digest, Value
from wellkept.stores.backend import inner

__all__ = ["FORMAT", "Formats"]

FORMAT = "file"
"""The codec's name: one buffer, which is the file, and a head that says who reads it."""

_AS_READ: Any = object()
# Seconds after which nobody is still writing.
_LEFT = 86400.0
_PLAIN = re.compile(r"(?!\.)[A-Za-z0-9_=.-]{1,150}", re.ASCII).fullmatch


class Formats:
    """The files of a cache's results.

    Args:
        cache: where their bytes are kept.

    Attributes:
        root: the directory with their names.
    """

    def __init__(self, cache: Cache) -> None:
        self._cache = cache
        self._swept = False
        backend = inner(cache.backend, write=False)
        self._blobs = backend.blobs
        if self._blobs is not None:
            self.root: Path = Path(backend.root) / "formats"
        else:
            self.root = Path(tempfile.mkdtemp(prefix="wellkept-formats-"))
            weakref.finalize(self, _remove, self.root, os.getpid())

    def path(self, data_version: str, name: str) -> Path:
        """The named file of a result.

        Args:
            name: of the format, which is the file's ending.
        """
        safe = data_version
        if not _PLAIN(data_version):
            safe = hashlib.sha256(data_version.encode()).hexdigest()
        return self.root / f"{safe}.{name}"

    # -- writing ----------------------------------------------------------------------------------

    def encoded(self, result: Any, saver_cls: Any, loader_cls: Any) -> tuple[Value, Digest]:
        """A result as a saver writes it, under the result's own digest; beside it the result itself,
        where the loader gives back another.

        Raises:
            ValueError: the saver or the loader takes its location neither as `file` nor as `path`.
            EncodeError: the saver wrote no file, or it or the loader raised.
        """
        where, how = location(saver_cls, "saver"), location(loader_cls, "loader")
        try:
            self._make_root()
            scratch = Path(tempfile.mkdtemp(prefix="new-", dir=self.root))
        except OSError as error:
            raise EncodeError(f"no file can be written in {self.root}: {error}") from error
        try:
            made = scratch / f"result.{saver_cls.name()}"
            _write(saver_cls(**{where: str(made)}), result, made)
            return self.of_file(made, saver_cls.name(), loader_cls, how, result)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)

    def of_file(
        self, file: Path, name: str, loader_cls: Any, takes: str, result: Any = _AS_READ
    ) -> tuple[Value, Digest]:
        """A file of a format as a value, and the digest that names it.

        Args:
            name: of the format.
            takes: how the loader takes its location.
            result: what was saved; what the loader reads by default.

        Raises:
            EncodeError: the loader can't read it, or the result names files.
            OSError: it can't be read.
        """
        said = {
            "format": name,
            "loader": f"{loader_cls.__module__}:{loader_cls.__qualname__}",
            "takes": takes,
        }
        head = json.dumps(said, sort_keys=True).encode()
        data = file.read_bytes()
        of_data = buffer_digest(data)
        try:
            again = read(head, file)
        except LoaderError as error:
            raise EncodeError(str(error)) from error
        if result is _AS_READ:
            result = again
        if stamped(result, Value(FORMAT, head, [])).codec != FORMAT:
            raise EncodeError(
                "it names files, and only of what has no format is it seen whether they are what they were"
            )
        try:
            digest = Digest.of(digest_bytes(result))
        except Undigestible:
            # It can't be told whether what is read is the same.
            digest = Digest.of(digest_bytes((FORMAT, head, of_data)))
            return Value(FORMAT, head, [data], [of_data]), digest
        if result is again or _same(result, again):
            return Value(FORMAT, head, [data], [of_data]), digest
        exact, _ = encoded(result, "pickle", compared=True)
        head = json.dumps({**said, "exact": exact.codec}, sort_keys=True).encode()
        names = [of_data, *(exact.names or map(buffer_digest, exact.buffers))]
        return Value(FORMAT, head + b"\n" + exact.head, [data, *exact.buffers], names), digest

    def name(self, data_version: str, value: Value) -> None:
        """Give the bytes of a kept value the name of its data version, where that can be."""
        with contextlib.suppress(OSError):
            self._name(self.path(data_version, says(value.head)["format"]), value.buffers[0])

    def directory(self) -> Path:
        """The directory with their names, which is made where that can be."""
        with contextlib.suppress(OSError):
            self._make_root()
        return self.root

    def _make_root(self) -> None:
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not self._swept:
            self._swept = True
            with contextlib.suppress(OSError):
                self._sweep()

    def _sweep(self) -> None:
        """Remove names whose blob was collected, and what writers left that were killed."""
        for entry in list(os.scandir(self.root)):
            found = entry.stat(follow_symlinks=False)
            if "~" in entry.name or entry.is_dir():
                if time.time() - found.st_ctime > _LEFT:
                    shutil.rmtree(entry.path, ignore_errors=True)
                    Path(entry.path).unlink(missing_ok=True)
            elif self._blobs is not None and found.st_nlink == 1:
                Path(entry.path).unlink(missing_ok=True)

    def _name(self, named: Path, data: Buffer) -> Path:
        """Give the bytes, which are kept, their name; a name that means others is given anew."""
        self._make_root()
        if self._blobs is not None:
            blob = self._blobs.path(buffer_digest(data).hex())
            with contextlib.suppress(OSError):
                if named.samefile(blob):
                    return named
            new = named.with_name(f"{os.urandom(6).hex()}~{named.name}")
            # A file system without links: a copy, below.
            with contextlib.suppress(OSError):
                new.hardlink_to(blob)
                new.replace(named)
                return named
        with contextlib.suppress(OSError):
            if buffer_digest(named.read_bytes()) == buffer_digest(data):
                return named
        new = named.with_name(f"{os.urandom(6).hex()}~{named.name}")
        new.write_bytes(data)
        new.replace(named)
        return named

    # -- reading ----------------------------------------------------------------------------------

    def value(self, key: bytes, entry: Entry, data_version: str) -> Any:
        """The result of an entry, in a format or not.

        Raises:
            DecodeError: it is missing or damaged, or the loader of its format is not there or fails.
            StoreError: the store can't be read.
        """
        envelope = entry.envelope
        if envelope is None or envelope.codec != FORMAT:
            return self._cache.value(key, entry)
        head, buffers = self._cache.backend.load(envelope)
        return self.read(head, buffers, data_version)

    def read(self, head: Buffer, buffers: Sequence[Buffer], data_version: str) -> Any:
        """What verified bytes say, whose file gets the name of a data version; raises as `value`."""
        try:
            file = self._name(self.path(data_version, says(head)["format"]), buffers[0])
        except OSError:
            # A directory that is only read from: the loader gets a file that is there while it reads.
            file = None
        return decode(head, buffers, file)

    # -- tidying ----------------------------------------------------------------------------------

    def remove(self, data_version: str) -> None:
        """Remove the names of a result."""
        stem = self.path(data_version, "").name
        with contextlib.suppress(OSError):
            for entry in list(os.scandir(self.root)):
                if entry.name.startswith(stem):
                    Path(entry.path).unlink(missing_ok=True)

    def clear(self) -> None:
        """Remove all names."""
        shutil.rmtree(self.root, ignore_errors=True)


def _same(result: Any, again: Any) -> bool:
    """Whether a value is another one's equal in all that can be told, the order of dicts too."""
    try:
        return digest_bytes(again) == digest_bytes(result) and (
            digest_bytes(again, ordered=True) == digest_bytes(result, ordered=True)
        )
    except Undigestible:
        return False


def _remove(root: Path, pid: int) -> None:
    # A forked child has its parent's.
    if os.getpid() == pid:
        shutil.rmtree(root, ignore_errors=True)


def location(kind: Any, what: str) -> str:
    """How a saver or loader takes its location: as `file` or as `path`.

    Raises:
        ValueError: as neither.
    """
    names = inspect.getfullargspec(kind.__init__).args
    for name in ("file", "path"):
        if name in names:
            return name
    raise ValueError(
        f"the {what} {kind.name()!r} takes its location neither as `file` nor as `path`, so its "
        "files can't be kept: use another format"
    )


def _write(saver: Any, result: Any, made: Path) -> None:
    try:
        saver.save_data(result)
    except Exception as error:
        raise EncodeError(
            f"the saver {saver.name()!r} can't write a {type(result).__qualname__}: "
            f"{type(error).__name__}: {error}"
        ) from error
    if not made.is_file():
        raise EncodeError(
            f"the saver {saver.name()!r} wrote no single file, and wellkept keeps only such: use "
            "another format"
        )
