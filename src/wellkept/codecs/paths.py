"""Results that name files: the state of those files when the result was kept.

A hit on a `Path` whose file is gone, or is another by now, would be wrong. So a description of the files
follows the bytes of another codec: JSON, its length (4 bytes) and the codec's name. A file is described by
its size and times and, unless it is large, by the digest of its content; times so recent that the next change
might not show in them are left out, as git's index does. Of a directory only its kind is described. A path
that did not exist when the result was kept is not described, so it may come and go.
"""

from __future__ import annotations

import io
import json
import os
import pathlib
import pickle
import stat
import time
from collections.abc import Sequence
from typing import Any

from wellkept.codecs.envelope import Refused
from wellkept.codecs.pickle import decode as decode_pickle
from wellkept.errors import DecodeError, KeptError
from wellkept.hashing import SCALARS
from wellkept.hashing.file_digest import TICK, File, content_digest
from wellkept.records import Buffer, Value

# The codec's name in an envelope.
PATHS = "paths"
# The codec's name for an unsigned value from elsewhere.
PLAIN_PATHS = "plain paths"
# Every pickle that names a file holds one of these, so all others need no second look.
_MARKS = (b"pathlib", b"File\x94")
# Codecs whose values can't hold a `Path`.
_NONE = ("json", "npy", "arrow", "chunks")
# Bytes of files' content that are read for one result: a result that names a terabyte must not be read whole
# before it is kept. Files beyond it count by size and times alone.
_ROOM = 256 * 1024 * 1024


class OutOfDateError(DecodeError):
    """A file that a result names is gone or has changed."""

    what = "out of date"


def stamped(result: Any, value: Value) -> Value:
    """Return the encoded result, with a description of the files that it names, if it names any."""
    if value.codec in _NONE:
        return value
    if type(result) in SCALARS:
        return value
    if value.codec in ("pickle", "cloudpickle") and not any(mark in value.head for mark in _MARKS):
        return value
    said = _described(_named(result))
    if not said:
        return value
    text = json.dumps(said).encode()
    codec = value.codec.encode()
    tail = b"".join((codec, text, len(text).to_bytes(4, "little"), bytes([len(codec)])))
    return value._replace(codec=PATHS, head=value.head + tail)


class _Names(pickle.Pickler):
    """Finds the files that an object names: a pickler meets every part of it, and this one writes nothing."""

    def __init__(self, found: dict[str, bool]) -> None:
        super().__init__(_Nothing(), 5, buffer_callback=lambda _: None)
        self._found = found

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, (pathlib.Path, File)):
            name = os.fspath(obj)
            self._found[name] = self._found.get(name, False) or isinstance(obj, File)
        return NotImplemented


class _Nothing(io.RawIOBase):
    def write(self, content: Any) -> int:
        return len(content)


def _named(result: Any) -> dict[str, bool]:
    """Return the files that a result names; True for each that is a `File`, whose content always counts."""
    found: dict[str, bool] = {}
    try:
        _Names(found).dump(result)
    except Exception:  # noqa: BLE001  what only another pickler can: what was met until then counts
        return found
    return found


def _described(names: dict[str, bool]) -> list[list[Any]]:
    there = []
    for name, exact in names.items():
        try:
            status = os.stat(name)  # noqa: PTH116  the text of a path is at hand
        except (OSError, ValueError):
            continue
        there.append((not exact, status.st_size, name, status))
    room, said = _ROOM, []
    for large, size, name, status in sorted(there, key=lambda one: one[:3]):
        kind, stamp, digest = stat.S_IFMT(status.st_mode), None, None
        if stat.S_ISREG(status.st_mode):
            stamp = _stamp(status)
            room -= size if large else 0
            if room >= 0 or not large:
                try:
                    digest = content_digest(name).hex()
                except KeptError:
                    digest = None
            if digest is not None and max(stamp[1:3]) > time.time_ns() - TICK:
                # A second change within one tick of the file system's clock leaves size and times as they are,
                # so for a file that was just written the digest alone decides.
                stamp = None
        said.append([name, kind, stamp, digest])
    return said


def _stamp(status: os.stat_result) -> list[int]:
    # The inode shows that a file was replaced by another one with the same size and a copied time.
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]


def _split(payload: Buffer) -> tuple[memoryview, str, list[Any]]:
    view = memoryview(payload)
    try:
        length, named = int.from_bytes(view[-5:-1], "little"), view[-1]
        text, codec = view[-5 - length : -5], view[-5 - length - named : -5 - length]
        said = json.loads(bytes(text))
        if type(said) is list and 5 + length + named <= len(view):
            return view[: -5 - length - named], str(codec, "ascii"), said
    except (ValueError, IndexError, RecursionError):
        pass
    raise DecodeError("a kept value does not say what its files were")


def decode(payload: Buffer, buffers: Sequence[Buffer]) -> Any:
    """Return the value, whatever its files are now.

    Raises:
        DecodeError: the codec that wrote the value can't decode it.
    """
    # The package looks up this module by name, so it is whole only after this module.
    from wellkept.codecs import decoder

    head, codec, _ = _split(payload)
    if codec in ("pickle", "cloudpickle"):
        return decode_pickle(head, buffers)
    return decoder(codec)(bytes(head), buffers)


def decode_plain(payload: Buffer, buffers: Sequence[Buffer]) -> Any:
    """Return an unsigned value from elsewhere, which must be of plain types.

    Raises:
        Refused: the value is not of plain types.
        DecodeError: these bytes are not such a value.
    """
    head, codec, _ = _split(payload)
    if codec != "pickle":
        raise Refused(f"it is encoded with {codec[:40]!r}")
    # Loaded on first use: only values from elsewhere need it.
    from wellkept.codecs import safe_pickle

    return safe_pickle.decode(head, buffers)


def look(payload: Buffer) -> None:
    """Check that the files of a value are what they were.

    Raises:
        OutOfDateError: one of them is not.
        DecodeError: these bytes do not describe files.
    """
    for one in _split(payload)[2]:
        try:
            name, kind, stamp, digest = one
            if why := _changed(name, kind, stamp, digest):
                raise OutOfDateError(f"{name}, which it names, {why}")
        except (TypeError, ValueError) as error:
            raise DecodeError("a kept value does not say what its files were") from error


def _changed(name: str, kind: int, stamp: list[int] | None, digest: str | None) -> str:
    """Return why a file is not what it was; empty if it is."""
    try:
        status = os.stat(name)  # noqa: PTH116  the text of a path is at hand
    except OSError:
        return "is gone"
    if stat.S_IFMT(status.st_mode) != kind:
        return "is of another kind now"
    if not stat.S_ISREG(kind) or (stamp is not None and stamp == _stamp(status)):
        return ""
    if digest is None:
        return "has changed"
    try:
        return "" if content_digest(name).hex() == digest else "has other content now"
    except KeptError:
        return "can't be read"
