"""A blob on its way here: in memory while it is small, in a file without a name where it is large."""

from __future__ import annotations

import os
import tempfile
from typing import Any, Self

from blake3 import blake3

from kept.codecs import Blob
from kept.errors import DamagedValue, StoreError
from kept.records import Buffer
from kept.stores.mapping import map_file

__all__ = ["Download"]

_LARGE = 8 * 1024 * 1024


class Download:
    """Takes the parts of a blob, and gives it whole: verified, and free to be changed."""

    def __init__(self, blob: Blob) -> None:
        self._blob = blob
        self._hash = blake3()
        self._got = 0
        self._file: Any = None
        self._content = bytearray()
        if blob.size > _LARGE:
            try:
                self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115  until `__exit__`
            except OSError as error:
                raise StoreError(f"no room here for {blob.size:,} bytes: {error}") from error

    def write(self, part: Any) -> None:
        """The next bytes.

        Raises:
            DamagedValue: they are more than there should be.
            StoreError: there is no room for them.
        """
        view = memoryview(part)
        self._got += len(view)
        if self._got > self._blob.size:
            raise DamagedValue(f"the blob {self._blob.name.hex()} is longer than it was")
        self._hash.update(view)
        if self._file is None:
            self._content += view
            return
        try:
            at = 0
            while at < len(view):
                at += os.write(self._file.fileno(), view[at:])
        except OSError as error:
            raise StoreError(f"no room here for {self._blob.size:,} bytes: {error}") from error

    def buffer(self) -> Buffer:
        """All of it.

        Raises:
            DamagedValue: it is not what its name says.
        """
        name = self._blob.name
        if self._got != self._blob.size or self._hash.digest() != name:
            raise DamagedValue(f"the blob {name.hex()} is not what its name says")
        if self._file is None:
            return self._content
        try:
            return memoryview(map_file(self._file.fileno(), self._blob.size, readonly=False))
        except OSError as error:
            raise StoreError(f"can't map {self._blob.size:,} bytes: {error}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()
