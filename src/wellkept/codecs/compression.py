"""Compression: gzip and zstd behind a header that names the method and the size of the content.

::

    89 6b 7a 0d 0a 1a | version u8 | method u8 | size u64 | payload        little-endian

An item that does not begin with these six bytes is plain, and so is the payload of method 0. A store may
hold plain, gzip and zstd items side by side, and content that can't be made smaller is stored as it is.
"""

from __future__ import annotations

import struct
import zlib
from typing import Any

from wellkept.errors import ConfigError, DamagedValue, DecodeError
from wellkept.records import Buffer

# The methods by their number in the header; 0 is plain.
METHODS = {"gzip": 1, "zstd": 2}

_LEVELS = {"gzip": (1, 9, 6), "zstd": (1, 22, 3)}
_MAGIC = b"\x89kz\r\n\x1a"
_VERSION = 1
_HEADER = struct.Struct("<6sBBQ")
# Smaller items gain nothing: the header and the method's own frame take some 35 bytes.
_SMALL = 128
# A compressed item is used only if it takes at most this share of the content: less is not worth decompressing.
_WORTH = 0.95
# From this size on, a sample decides whether the whole is compressed at all.
_SAMPLED = 1024 * 1024
_SAMPLE = 32 * 1024
_PART = 1024 * 1024
# The window, in bytes, that a zstd frame may make its reader allocate: that of level 22, the highest. A larger
# claim in a frame from elsewhere is refused before any memory is taken.
_WINDOW = 1 << 27


def check(method: str, level: int | None = None) -> int:
    """Return the level to use.

    Raises:
        ConfigError: there is no such method or level, or its package is not installed.
    """
    if method not in METHODS:
        raise ConfigError(f"there is no compression {method!r}; there are {', '.join(METHODS)}")
    low, high, usual = _LEVELS[method]
    if level is not None and (type(level) is not int or not low <= level <= high):
        raise ConfigError(f"a level of {method} is {low} to {high}, not {level!r}")
    if method == "zstd":
        _zstd()
    return usual if level is None else level


def compress(content: Buffer, method: str, level: int | None = None) -> Buffer:
    """Return the content compressed behind a header, or as it is if compression gains too little.

    Raises:
        ConfigError: there is no such method or level, or its package is not installed.
    """
    level = check(method, level)
    view = memoryview(content).cast("B")
    size = view.nbytes
    if size >= _SMALL and _promising(view):
        packed = _gzip(view, level) if method == "gzip" else _zstd().compress(view, level)
        if _HEADER.size + len(packed) < _WORTH * size:
            return _HEADER.pack(_MAGIC, _VERSION, METHODS[method], size) + packed
    # Content that begins like a compressed item must not be taken for one, so it gets a header of method 0.
    if view[: len(_MAGIC)] == _MAGIC:
        return _HEADER.pack(_MAGIC, _VERSION, 0, size) + view
    return content


def is_plain(start: Buffer) -> bool:
    """Return whether an item that begins like this is stored as it is."""
    return memoryview(start).cast("B")[: len(_MAGIC)] != _MAGIC


def decompress(item: Buffer, limit: int | None = None) -> Buffer:
    """Return the content of an item compressed by any method; the item itself if it is plain.

    Args:
        item: what was stored.
        limit: bytes that the content may have at most.

    Raises:
        DamagedValue: the item is damaged, or holds more (or less) than its header says.
        DecodeError: the content is larger than `limit`, a newer wellkept wrote the item, or it is of zstd
            and zstd is not installed here.
    """
    view = memoryview(item).cast("B")
    if is_plain(view):
        return item
    try:
        _, version, method, size = _HEADER.unpack_from(view)
    except struct.error as error:
        raise DamagedValue("a compressed item is cut short") from error
    if version > _VERSION or method not in (0, *METHODS.values()):
        raise DecodeError(
            f"a newer wellkept compressed this item (format {version}, method {method}): upgrade wellkept"
        )
    if limit is not None and size > limit:
        raise DecodeError(f"a compressed item holds {size:,} bytes, and {limit:,} are allowed")
    payload = view[_HEADER.size :]
    # Each method reads one byte more than the header claims, so a longer payload is noticed without reading it
    # all: a small item that unpacks to gigabytes never takes more memory than its header admits.
    if method == 0:
        content = bytes(payload[: size + 1])
    elif method == METHODS["gzip"]:
        content = _gunzip(payload, size)
    else:
        try:
            zstd = _zstd()
        except ConfigError as error:
            raise DecodeError(f"can't read a compressed item: {error}") from error
        content = zstd.decompress(payload, size)
    if len(content) != size:
        raise DamagedValue(
            f"a compressed item does not hold the {size:,} bytes that its header names"
        )
    return content


def _promising(view: memoryview) -> bool:
    """Return whether compressing is likely to gain something; large content is judged by a sample."""
    if view.nbytes < _SAMPLED:
        return True
    # Four places, as a header of text often stands before data that can't be compressed.
    step = view.nbytes // 4
    sample = b"".join(view[at : at + _SAMPLE] for at in range(0, 4 * step, step))
    return len(zlib.compress(sample, 1)) < _WORTH * len(sample)


def _gzip(view: memoryview, level: int) -> bytes:
    # `wbits=31` is the gzip format without a file's name or time, so equal content gives equal bytes.
    made = zlib.compressobj(level, wbits=31)
    return made.compress(view) + made.flush()


def _gunzip(payload: memoryview, size: int) -> bytes:
    # Deflate can't do better than 1,032 to 1, so a header that claims more is refused without unpacking.
    if size > 1100 * payload.nbytes:
        raise DamagedValue(f"a compressed item of {payload.nbytes:,} bytes can't hold {size:,}")
    made = zlib.decompressobj(wbits=31)
    try:
        content = made.decompress(payload, size + 1)
        # zlib stops when the output is full, before it has read the checksum that ends the stream.
        if not made.eof:
            content += made.decompress(made.unconsumed_tail, 1)
    except zlib.error as error:
        raise DamagedValue(f"a compressed item is damaged: {error}") from error
    if not made.eof or made.unused_data:
        raise DamagedValue("a compressed item does not end where its header says")
    return content


class _Zstandard:
    """Compresses with the package `zstandard`."""

    def __init__(self, package: Any) -> None:
        self._package = package

    def compress(self, view: memoryview, level: int) -> bytes:
        # A frame has a checksum only if one is asked for.
        made = self._package.ZstdCompressor(level=level, write_checksum=True)
        return bytes(made.compress(view))

    def decompress(self, payload: memoryview, size: int) -> bytes:
        # In parts: in one call, memory would be allocated for whatever size the frame's own header claims.
        made = self._package.ZstdDecompressor(max_window_size=_WINDOW)
        parts, left = [], size + 1
        try:
            with made.stream_reader(payload, read_across_frames=False) as reader:
                while left and (part := reader.read(min(_PART, left))):
                    parts.append(part)
                    left -= len(part)
        except self._package.ZstdError as error:
            raise DamagedValue(f"a compressed item is damaged: {error}") from error
        return b"".join(parts)


class _Standard:
    """Compresses with `compression.zstd`, in the standard library from Python 3.14 on."""

    def __init__(self, package: Any) -> None:
        self._package = package

    def compress(self, view: memoryview, level: int) -> bytes:
        parameter = self._package.CompressionParameter
        options = {parameter.compression_level: level, parameter.checksum_flag: 1}
        return bytes(self._package.compress(view, options=options))

    def decompress(self, payload: memoryview, size: int) -> bytes:
        made = self._package.ZstdDecompressor(
            options={self._package.DecompressionParameter.window_log_max: 27}
        )
        parts, left, given = [], size + 1, payload
        try:
            while left and not made.eof:
                part = made.decompress(given, min(_PART, left))
                # The stream ends early: without this test the loop would ask for ever.
                if not part and made.needs_input:
                    break
                given = memoryview(b"")
                parts.append(part)
                left -= len(part)
        except self._package.ZstdError as error:
            raise DamagedValue(f"a compressed item is damaged: {error}") from error
        return b"".join(parts)


_found: Any = None


def _zstd() -> Any:
    global _found
    if _found is None:
        try:
            from compression import zstd  # type: ignore[import-not-found,unused-ignore]  # 3.14

            _found = _Standard(zstd)
        except ImportError:
            try:
                import zstandard
            except ImportError as error:
                raise ConfigError(
                    "zstd compression needs zstandard: pip install 'wellkept[zstd]'"
                ) from error
            _found = _Zstandard(zstandard)
    return _found
