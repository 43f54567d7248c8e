"""A store of zarr over the pieces of a kept value, and which codecs an array may name that is kept."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from zarr.abc.store import (
    ByteRequest,
    OffsetByteRequest,
    RangeByteRequest,
    Store,
    SuffixByteRequest,
)
from zarr.registry import get_codec_class

from wellkept.errors import DecodeError, EncodeError

if TYPE_CHECKING:
    from zarr.core.buffer import Buffer, BufferPrototype

    from wellkept.codecs.chunks import Pieces

_DOCUMENTS = ("zarr.json", ".zarray", ".zgroup", ".zattrs", ".zmetadata")
# Codecs that compute bytes from bytes. Others may do anything when they are read, as `pickle` does.
_HARMLESS = re.compile(
    r"(numcodecs\.)?(adler32|astype|base64|bitround|blosc|bytes|bz2|cast_value|crc32c?|delta|fixedscaleoffset"
    r"|fletcher32|gzip|jenkins_lookup3|json2|lz4|lzma|msgpack2|packbits|pcodec|quantize|scale_offset"
    r"|sharding_indexed|shuffle|transpose|vlen-(array|bytes|utf8)|zfpy|zlib|zstd)"
)


def is_document(key: str) -> bool:
    """Return whether what is under a key of a store describes an array or a group."""
    return key.rpartition("/")[2] in _DOCUMENTS


def check(documents: Mapping[str, bytes]) -> None:
    """Check that what describes arrays names no codec that runs code.

    Raises:
        EncodeError: it does, or one that is not known.
    """
    for key, content in documents.items():
        for name in _codecs({key: json.loads(content)}):
            if not _HARMLESS.fullmatch(str(name)):
                raise EncodeError(
                    f"{key} names the codec {name!r}, which is none of those that are known to run no code"
                )


def _codecs(said: Any, of_paths: bool = False) -> Iterator[Any]:
    """Yield the names of all codecs in a document, those inside others and in consolidated metadata too.

    Args:
        of_paths: whether the names in it are those of arrays and groups, which may be any.
    """
    if isinstance(said, list):
        for one in said:
            yield from _codecs(one)
    elif isinstance(said, dict):
        for name, held in said.items():
            if name in _CODECS and not of_paths:
                each = held if isinstance(held, list) else [held]
                for one in each:
                    if isinstance(one, dict):
                        yield one.get("name", one.get("id"))
                    elif one is not None:
                        yield one
            # What a program says of its arrays itself names no codecs.
            if (name != "attributes" or of_paths) and not name.endswith(".zattrs"):
                yield from _codecs(held, name == "metadata" and not of_paths)


_CODECS = ("codecs", "index_codecs", "filters", "compressor", "compressors", "serializer")


def codec(said: dict[str, Any]) -> Any:
    """Return the codec object that its own description says.

    Raises:
        EncodeError: it is not among those that are known.
    """
    check({"the encoding": json.dumps({"codecs": [said]}).encode()})
    return get_codec_class(said["name"]).from_dict(said)


class PieceStore(Store):
    """A zarr store that reads the pieces of a kept value.

    Args:
        pieces: of the value.
        keys: of the pieces, in their order.
        documents: what describes the arrays and groups.
    """

    def __init__(self, pieces: Pieces, keys: Sequence[str], documents: Mapping[str, bytes]) -> None:
        super().__init__(read_only=True)
        check(documents)
        # They would not be checked.
        if any(map(is_document, keys)):
            raise DecodeError("a kept zarr array or group has metadata among its chunks")
        self._pieces, self._documents = pieces, documents
        self._numbers: dict[str, int | None] = dict.fromkeys(documents)
        self._numbers |= {key: n for n, key in enumerate(keys)}

    def __eq__(self, other: object) -> bool:
        return self is other

    def __hash__(self) -> int:
        return object.__hash__(self)

    def blake3_of(self, key: str) -> bytes | None:
        """Return the BLAKE3 of what is under a key, without reading it, if it is known."""
        n = self._numbers[key]
        return None if n is None else self._pieces.digest(n)

    async def get(
        self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        if key not in self._numbers:
            return None
        n = self._numbers[key]
        # Loading may wait for a disk or a server.
        piece = (
            self._documents[key]
            if n is None
            else await asyncio.to_thread(self._pieces.__getitem__, n)
        )
        view = memoryview(piece)
        if isinstance(byte_range, RangeByteRequest):
            view = view[byte_range.start : byte_range.end]
        elif isinstance(byte_range, OffsetByteRequest):
            view = view[byte_range.offset :]
        elif isinstance(byte_range, SuffixByteRequest):
            view = view[-byte_range.suffix :] if byte_range.suffix else view[:0]
        return prototype.buffer.from_bytes(view)

    async def get_partial_values(
        self, prototype: BufferPrototype, key_ranges: Iterable[tuple[str, ByteRequest | None]]
    ) -> list[Buffer | None]:
        return [await self.get(key, prototype, part) for key, part in key_ranges]

    async def exists(self, key: str) -> bool:
        return key in self._numbers

    @property
    def supports_writes(self) -> bool:
        return False

    @property
    def supports_partial_writes(self) -> Literal[False]:
        return False

    @property
    def supports_deletes(self) -> bool:
        return False

    @property
    def supports_listing(self) -> bool:
        return True

    async def set(self, key: str, value: Buffer) -> None:
        self._check_writable()

    async def set_partial_values(self, key_start_values: Any) -> None:
        self._check_writable()

    async def delete(self, key: str) -> None:
        self._check_writable()

    async def list(self) -> AsyncIterator[str]:
        for key in self._numbers:
            yield key

    async def list_prefix(self, prefix: str) -> AsyncIterator[str]:
        for key in self._numbers:
            if key.startswith(prefix):
                yield key

    async def list_dir(self, prefix: str) -> AsyncIterator[str]:
        start = f"{prefix.rstrip('/')}/" if prefix else ""
        inside = (
            key[len(start) :].partition("/")[0] for key in self._numbers if key.startswith(start)
        )
        for name in dict.fromkeys(inside):
            yield name
