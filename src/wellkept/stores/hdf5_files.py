"""A directory of files in which every result that HDF5 can hold is an HDF5 file, as any tool reads it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from wellkept.codecs.hdf5 import require
from wellkept.errors import ConfigError, StoreError
from wellkept.records import Buffer
from wellkept.stores.files import Files

__all__ = ["Hdf5"]

_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_SUFFIX = ".h5"
_BLOB = re.compile(r"blobs/[0-9a-f]{64}").fullmatch
_NAMED = re.compile(r"blobs/[0-9a-f]{64}\.h5").fullmatch


class Hdf5(Files):
    """`Files` that has results encoded by the codec `hdf5`, each a file of its own that ends in `.h5`.

    A result that HDF5 can't hold exactly is encoded as in any other store.

    Args:
        root: the directory; made with mode 0700 if it is missing.
        durable: whether an item survives a power cut once it is put.
        trust: whether to accept a directory that others can write to.
        network: whether other hosts write to the directory too. See `Files`.

    Raises:
        ConfigError: h5py or bagofholding is not installed.
        UntrustedSource: others can write to the directory, and it is not trusted.
        StoreError: the directory can't be made or read, or a file has its name.
    """

    codec = "hdf5"
    """The codec of results whose function names none."""

    def __init__(
        self,
        root: str | os.PathLike[str],
        *,
        durable: bool = False,
        trust: bool = False,
        network: bool | None = None,
    ) -> None:
        try:
            require()
        except ConfigError as error:
            raise ConfigError(f"can't open HDF5 files: {error}") from error
        _refuse_file(Path(root).expanduser().absolute())
        super().__init__(root, durable=durable, trust=trust, network=network)

    def _open(self, key: str, take: Any) -> Any:
        # The key alone does not tell whether the content is HDF5; most blobs are.
        if _BLOB(key):
            found = super()._open(key + _SUFFIX, take)
            if found is not None:
                return found
        return super()._open(key, take)

    def path(self, key: str) -> Path | None:
        """Return the file of an item, or None."""
        found = super().path(key + _SUFFIX) if _BLOB(key) else None
        return super().path(key) if found is None else found

    def keys(self, prefix: str = "") -> Iterator[str]:
        """Return the keys that begin with `prefix`."""
        found = super().keys(prefix)
        return (key.removesuffix(_SUFFIX) if _NAMED(key) else key for key in found)

    def put(self, key: str, item: Buffer) -> None:
        """Keep the item, in a file whose ending says what it is."""
        name, other = _names(key, item)
        # In this order there is one of the two at every moment.
        super().put(name, item)
        if other:
            super().delete(other)

    def create(self, key: str, item: Buffer) -> bool:
        """Keep the item if the key is absent; return whether it was."""
        # A blob is named by its content, so no other process creates one of the other kind meanwhile.
        name, other = _names(key, item)
        if other and super().path(other) is not None:
            return False
        return super().create(name, item)

    def delete(self, key: str) -> None:
        """Delete the item."""
        if _BLOB(key):
            super().delete(key + _SUFFIX)
        super().delete(key)

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopen, (self._root, self.durable, self.trust, self.network)


def _reopen(root: str, durable: bool, trust: bool, network: bool) -> Hdf5:
    return Hdf5(root, durable=durable, trust=trust, network=network)


def _names(key: str, item: Buffer) -> tuple[str, str]:
    """Return the name of an item's file, and the one that it would have if it were of the other kind."""
    if not isinstance(key, str) or not _BLOB(key):
        return key, ""
    named = key + _SUFFIX
    view = memoryview(item).cast("B")
    return (named, key) if view[: len(_SIGNATURE)] == _SIGNATURE else (key, named)


def _refuse_file(path: Path) -> None:
    """Raise StoreError if something other than a directory has this path."""
    if not path.exists() or path.is_dir():
        return
    head = b""
    if path.is_file():
        with path.open("rb") as file:
            head = file.read(len(_SIGNATURE))
    if head == _SIGNATURE:
        raise StoreError(
            f"{path} is one HDF5 file with many results in it, as earlier releases wrote; this release "
            "keeps a directory with an HDF5 file for each result: copy the results to a directory "
            f"with the release that wrote them (`kept transfer hdf5:{path} DIRECTORY`), or name "
            "another directory"
        )
    raise StoreError(f"can't keep HDF5 files in {path}: it is not a directory; name another one")
