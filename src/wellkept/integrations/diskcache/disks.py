"""How keys and values are laid out: what SQLite holds as it is, what is encoded, and what goes into files.

Nothing is pickled by this module: a value that needs it goes through wellkept's codecs, and only the owner
of the directory can have written what is decoded.
"""

from __future__ import annotations

import ast
import contextlib
import json
import math
import os
import pickle
import struct
import zlib
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO, Final

from blake3 import blake3

from wellkept.errors import ConfigError, DamagedValue, EncodeError, Undigestible
from wellkept.hashing import digest_bytes
from wellkept.kv.entry import dump, load

__all__ = ["ENOVAL", "UNKNOWN", "Constant", "Disk", "JSONDisk"]


class Constant(tuple[str]):
    """A value that stands for itself, and shows as its name."""

    __slots__ = ()

    def __new__(cls, name: str) -> Constant:
        return tuple.__new__(cls, (name,))

    def __reduce__(self) -> str:
        return self[0]

    def __repr__(self) -> str:
        return self[0]


ENOVAL: Final = Constant("ENOVAL")
"""No value: a default that no value of a cache equals."""
UNKNOWN: Final = Constant("UNKNOWN")
"""A key or value that is not known where a file is named."""

RAW = 1
"""The value is in its row as it is."""
BINARY = 2
"""It is the bytes of a file,"""
TEXT = 3
"""or its text, as UTF-8."""
ENCODED = 4
"""It is encoded, in its row or a file."""
JSON = 5
"""It is JSON in a file."""

_CHUNK = 2**22
_MANY = 10_000  # names of files that are held in memory
_INT64 = 2**63
_WORDS = frozenset((str, bytes, int, bool, type(None)))
Row = tuple[int, int, str | None, Any]
"""Size, mode, file and what stands in the row: for a file the checksum of its bytes."""


class NotEncoded(EncodeError, pickle.PicklingError):  # noqa: N818  it says what happened
    """Nothing here can hold a value; of diskcache that is an error of `pickle`."""


def encoded(value: Any) -> str | bytes:
    """A value by the codecs of named state.

    Raises:
        NotEncoded: nothing here can hold it.
    """
    try:
        return dump(value)
    except EncodeError as error:
        raise NotEncoded(str(error)) from error


class Disk:
    """How a cache stores keys and values. A subclass may say it otherwise, or name the files.

    Args:
        directory: that of the cache.
        min_file_size: bytes from which on a value is a file.
        pickle_protocol: taken and passed over, as pickles are the codec's own affair.
    """

    def __init__(
        self, directory: str | os.PathLike[str], min_file_size: int = 0, pickle_protocol: int = 0
    ) -> None:
        self._directory = os.fspath(directory)
        self.min_file_size = min_file_size
        self.pickle_protocol = pickle_protocol
        self._verified: set[str] = set()
        """Files whose bytes this process has seen to be what was written; none is written twice."""

    # -- keys -------------------------------------------------------------------------------------

    def hash(self, key: Any) -> int:
        """A number of 32 bits, the same for equal keys in every process."""
        found, _ = self.put(key)
        if isinstance(found, float) and found.is_integer():
            found = int(found)  # which is the same key
        if isinstance(found, int):
            return found % 0xFFFFFFFF
        if isinstance(found, float):
            return zlib.crc32(struct.pack("!d", found))
        return zlib.crc32(found.encode() if isinstance(found, str) else found)

    def put(self, key: Any) -> tuple[Any, bool]:
        """What SQLite finds a key by, and whether that is the key itself.

        Raises:
            EncodeError: nothing here can hold the key.
        """
        kind = type(key)
        if kind is str:
            if key.isascii() or _is_utf8(key):
                return key, True
        elif kind is bytes:
            return key, True
        elif kind is int:
            if -_INT64 <= key < _INT64:
                return key, True
        elif kind is float and key == key:  # NaN would be NULL
            return key, True
        # Text that stands for one key alone, and that nothing but literals are read from.
        if _is_literal(key):
            with contextlib.suppress(ValueError):  # an int of more digits than Python writes
                return repr(key), False
        try:
            return digest_bytes(key), False
        except Undigestible:
            # What has no identity of its own has at least that of its bytes.
            return digest_bytes(encoded(key)), False

    def get(self, key: Any, raw: bool) -> Any:
        """The key that `put` gave this for. Of others than literals a cache stores the key as well."""
        return key if raw else ast.literal_eval(key)

    # -- values -----------------------------------------------------------------------------------

    def store(self, value: Any, read: bool, key: Any = UNKNOWN) -> Row:
        """Lay a value out; what is a file is written.

        Args:
            read: the value is a file open for reading, whose bytes are the value.

        Raises:
            EncodeError: nothing here can hold it.
            OSError: its file can't be written.
        """
        kind = type(value)
        if read:
            return self._filed(BINARY, iter(lambda: value.read(_CHUNK), b""), key, value)
        if kind is bytes:
            if len(value) < self.min_file_size:
                return len(value), RAW, None, value
            return self._filed(BINARY, (value,), key, value)
        if kind is str and (value.isascii() or _is_utf8(value)):
            if len(value) < self.min_file_size:
                return len(value), RAW, None, value
            return self._filed(TEXT, (value.encode(),), key, value)
        if (kind is int and -_INT64 <= value < _INT64) or (kind is float and value == value):
            return 8, RAW, None, value
        data = encoded(value)
        if len(data) < self.min_file_size:
            return len(data), ENCODED, None, data
        if isinstance(data, str):
            return self._filed(JSON, (data.encode(),), key, value)
        return self._filed(ENCODED, (data,), key, value)

    def fetch(self, mode: int, filename: str | None, value: Any, read: bool) -> Any:
        """The value that `store` laid out.

        Args:
            read: of a value that is the bytes of a file, that file, open for reading.

        Raises:
            OSError: its file can't be read.
            DamagedValue: it is not what was written.
            DecodeError: it can't be decoded here.
        """
        if mode == RAW:
            return value
        if filename is None:
            return load(value)
        path = os.path.join(self._directory, filename)  # noqa: PTH118  costs less
        if mode == BINARY and read:
            return open(path, "rb")  # noqa: PTH123  the caller's to close
        with open(path, "rb") as file:  # noqa: PTH123  as above
            content = file.read()
        if value is not None and filename not in self._verified:
            if blake3(content).digest(16) != value:
                raise DamagedValue(f"{path} is damaged: its bytes are not those that were written")
            self._is_verified(filename)
        if mode == BINARY:
            return content
        return load(content) if mode == ENCODED else _text(mode, content)

    def _filed(self, mode: int, chunks: Iterable[bytes], key: Any, value: Any) -> Row:
        filename, path = self.filename(key, value)
        try:
            size, checksum = self._write(filename, path, chunks)
        except BaseException:
            self.remove(filename)
            raise
        return size, mode, filename, checksum

    def _write(self, filename: str, path: str, chunks: Iterable[bytes]) -> tuple[int, bytes]:
        for left in range(9, -1, -1):
            try:
                for above in _parents(filename):
                    with contextlib.suppress(FileExistsError):
                        # Its owner's alone, whatever the umask: what is in it is decoded.
                        os.mkdir(os.path.join(self._directory, above), 0o700)  # noqa: PTH102, PTH118
                file: BinaryIO = open(path, "xb", opener=_private)  # noqa: SIM115  closed below
            except OSError:
                # Somebody may have removed the last file of its directory, and so that.
                if not left:
                    raise
                continue
            break
        size, hasher = 0, blake3()
        with file:
            for chunk in chunks:
                file.write(chunk)
                hasher.update(chunk)
                size += len(chunk)
        self._is_verified(filename)
        return size, hasher.digest(16)

    def _is_verified(self, filename: str) -> None:
        if len(self._verified) >= _MANY:
            self._verified.clear()
        self._verified.add(filename)

    def filename(self, key: Any = UNKNOWN, value: Any = UNKNOWN) -> tuple[str, str]:
        """A name for a new file, below the cache's directory, and its path."""
        name = os.urandom(16).hex()
        filename = os.path.join("values", name[:2], f"{name[2:]}.val")  # noqa: PTH118  as above
        return filename, os.path.join(self._directory, filename)  # noqa: PTH118  as above

    def remove(self, file_path: str) -> None:
        """Remove a file by its name, and directories that are empty then; what is gone is no error."""
        path = os.path.join(self._directory, file_path)  # noqa: PTH118  as above
        with contextlib.suppress(OSError):
            os.remove(path)  # noqa: PTH107  as above
        with contextlib.suppress(OSError):
            os.removedirs(os.path.dirname(path))  # noqa: PTH120  as above


class JSONDisk(Disk):
    """Keys and values as JSON, values compressed: what JSON can't hold is an error, and a tuple comes back
    as a list.

    Args:
        directory: that of the cache.
        compress_level: from 0, none, over 1, fast, to 9, small.
        settings: as of a `Disk`.
    """

    def __init__(
        self, directory: str | os.PathLike[str], compress_level: int = 1, **settings: Any
    ) -> None:
        if type(compress_level) is not int or not 0 <= compress_level <= 9:
            raise ConfigError(f"disk_compress_level is 0 to 9, not {compress_level!r:.80}")
        self.compress_level = compress_level
        super().__init__(directory, **settings)

    def put(self, key: Any) -> tuple[Any, bool]:
        return super().put(json.dumps(key, sort_keys=True).encode())

    def get(self, key: Any, raw: bool) -> Any:
        return json.loads(super().get(key, raw))

    def store(self, value: Any, read: bool, key: Any = UNKNOWN) -> Row:
        if not read:
            value = zlib.compress(json.dumps(value).encode(), self.compress_level)
        return super().store(value, read, key)

    def fetch(self, mode: int, filename: str | None, value: Any, read: bool) -> Any:
        found = super().fetch(mode, filename, value, read)
        return found if read else json.loads(zlib.decompress(found))


def _text(mode: int, content: bytes) -> Any:
    text = content.decode()
    return text if mode == TEXT else load(text)


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_literal(key: Any) -> bool:
    """Whether `repr` writes it so that it is read back as what it is, type by type."""
    kind = type(key)
    if kind in _WORDS:
        return True
    if kind is tuple or kind is list:
        return all(map(_is_literal, key))
    return kind is float and math.isfinite(key)


def _parents(filename: str) -> Iterator[str]:
    """The directories of a relative name, the outermost first."""
    found = os.path.dirname(filename)  # noqa: PTH120  as above
    if found:
        yield from _parents(found)
        yield found


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
