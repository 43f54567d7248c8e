"""Values of entries: JSON text where that is exact, which anybody can read, or a sealed frame.

A frame's bytes::

    seal 16 | len(head) u32 | head (see kept.codecs.frame) | buffers

The seal is the BLAKE3 of what follows it, so that nothing is unpickled that was not written whole.
"""

from __future__ import annotations

import json
import struct
from typing import Any

from kept.codecs import Blob, Frame, decoder, encode
from kept.errors import DamagedValue, DecodeError, EncodeError
from kept.kv.entry import Data
from kept.stores.body import seal, unseal

__all__ = ["dump", "load"]

_LENGTH = struct.Struct("<I")
_DEEP = 100  # levels of lists and dicts that are kept as JSON
_UNNAMED = bytes(32)
_write = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode
_read = json.JSONDecoder().decode


def dump(value: Any) -> Data:
    """Encode a value.

    Raises:
        EncodeError: nothing here can hold it.
    """
    if _is_json(value):
        try:
            text = _write(value)
            if not text.isascii():
                text.encode()
        except ValueError:  # a lone surrogate, or more digits than Python writes
            pass
        else:
            return text
    try:
        made = encode(value)
    except RecursionError as error:
        raise EncodeError(
            f"can't encode a {type(value).__qualname__}: it is nested too deep"
        ) from error
    blobs = tuple(Blob(memoryview(buffer).nbytes, _UNNAMED) for buffer in made.buffers)
    head = Frame(made.codec, made.head, blobs).pack()
    return seal(b"", b"".join((_LENGTH.pack(len(head)), head, *made.buffers)))


def load(data: Data) -> Any:
    """The value.

    Raises:
        DamagedValue: these are not the bytes that were written.
        DecodeError: they can't be decoded here, such as for a class that is gone.
    """
    if isinstance(data, str):
        try:
            return _read(data)
        except (ValueError, RecursionError) as error:
            raise DamagedValue(f"an entry is damaged: its JSON can't be read: {error}") from error
    try:
        content = memoryview(bytearray(unseal(b"", data)))
    except DamagedValue:
        raise DamagedValue(
            "an entry is damaged: its bytes are not those that were written"
        ) from None
    try:
        (size,) = _LENGTH.unpack_from(content)
        at = _LENGTH.size + size
        frame = Frame.unpack(bytes(content[_LENGTH.size : at]))
    except struct.error as error:
        raise DamagedValue("an entry is damaged: it is cut short") from error
    buffers = []
    for blob in frame.blobs:
        buffers.append(content[at : at + blob.size])
        at += blob.size
    if frame.payload is None:
        raise DecodeError("an entry has no payload")
    return decoder(frame.codec)(frame.payload, buffers)


_PLAIN = frozenset((str, int, bool, float, type(None)))


def _is_json(value: Any) -> bool:
    """Whether JSON brings it back as what it is: a tuple not as a list. (NaN is refused as it is
    written.)"""
    if type(value) in _PLAIN:
        return True
    todo = [(value, 0)]
    while todo:
        value, depth = todo.pop()
        kind = type(value)
        if kind is dict:
            for key, item in value.items():
                if type(key) is not str:
                    return False
                if type(item) not in _PLAIN:
                    todo.append((item, depth + 1))
        elif kind is list:
            todo += [(item, depth + 1) for item in value if type(item) not in _PLAIN]
        else:
            return False
        if depth > _DEEP:
            return False
    return True
