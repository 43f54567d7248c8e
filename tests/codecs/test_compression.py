"""Compression: whatever was written is read, and what is hostile is refused within bounds."""

import os
import struct
import sys
import tracemalloc
import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wellkept.codecs import compression
from wellkept.codecs.compression import check, compress, decompress, is_plain
from wellkept.errors import ConfigError, DamagedValue, DecodeError

TEXT = b"what compresses well " * 500


def header(method: int, size: int, version: int = 1) -> bytes:
    return struct.pack("<6sBBQ", b"\x89kz\r\n\x1a", version, method, size)


@pytest.mark.parametrize("method", ["gzip", "zstd"])
@given(
    content=st.one_of(
        st.binary(max_size=300),
        st.binary(max_size=20).map(lambda part: part * 100),
        st.binary(max_size=9).map(lambda rest: b"\x89kz\r\n\x1a" + rest),
    )
)
def test_what_was_compressed_comes_back(method: str, content: bytes) -> None:
    for kind in (content, bytearray(content), memoryview(content)):
        item = compress(kind, method)
        assert memoryview(item).nbytes <= len(content) + 16
        assert bytes(decompress(item)) == content
        assert bytes(decompress(memoryview(bytes(item)))) == content


@pytest.mark.parametrize("method", ["gzip", "zstd"])
def test_levels_and_arrays(method: str) -> None:
    import numpy as np

    low, high, _ = compression._LEVELS[method]
    data = memoryview(np.arange(10_000))
    for level in (low, high, None):
        item = compress(data, method, level)
        assert memoryview(item).nbytes < data.nbytes / 2
        assert bytes(decompress(item)) == data.tobytes()


@pytest.mark.parametrize("method", ["gzip", "zstd"])
@pytest.mark.parametrize("size", [1000, 3_000_000])
def test_noise_is_stored_as_it_is(method: str, size: int) -> None:
    noise = os.urandom(size)
    assert compress(noise, method) is noise
    assert is_plain(noise)


@pytest.mark.parametrize("method", ["gzip", "zstd"])
def test_the_same_content_gives_the_same_bytes(method: str) -> None:
    assert compress(TEXT, method) == compress(bytearray(TEXT), method)


def test_a_gzip_payload_is_gzip_and_a_zstd_payload_zstd() -> None:
    import gzip

    assert gzip.decompress(bytes(compress(TEXT, "gzip"))[16:]) == TEXT
    assert bytes(compress(TEXT, "zstd"))[16:20] == b"\x28\xb5\x2f\xfd"


@pytest.mark.parametrize("method", ["gzip", "zstd"])
def test_no_cut_and_no_flipped_byte_gives_other_content(method: str) -> None:
    content = b"abcdefgh" * 40 + bytes(range(100))
    item = bytes(compress(content, method))
    damaged = [item[:n] for n in range(6, len(item))]
    damaged += [item[:n] + bytes([item[n] ^ 0x40]) + item[n + 1 :] for n in range(6, len(item))]
    unnoticed = 0
    for some in damaged:
        try:
            found = decompress(some)
        except DecodeError:
            continue
        # What is cut off a checksum, or a flag or time in gzip's header, says nothing of it.
        assert found == content
        unnoticed += 1
    assert unnoticed <= 12
    with pytest.raises(DamagedValue):
        decompress(header(0, 5) + b"1234")
    with pytest.raises(DamagedValue):
        decompress(header(0, 3) + b"1234")


def zeros(method: int, size: int) -> bytes:
    """A bomb: so many zeros."""
    if method == 1:
        made = zlib.compressobj(9, wbits=31)
        return made.compress(bytes(size)) + made.flush()
    import zstandard

    return zstandard.ZstdCompressor(level=19).compress(bytes(size))


@pytest.mark.parametrize("method", [1, 2])
def test_a_bomb_is_not_unpacked(method: int) -> None:
    bomb = zeros(method, 50_000_000)
    assert len(bomb) < 300_000
    for size in (0, 1000, 100_000):
        tracemalloc.start()
        with pytest.raises(DamagedValue):
            decompress(header(method, size) + bomb)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 8_000_000, f"{peak:,} bytes for an item that says it has {size:,}"


@pytest.mark.parametrize("method", [1, 2])
@pytest.mark.parametrize("size", [2**40, 2**63, 2**64 - 1])
def test_a_size_that_is_a_lie_costs_nothing(method: int, size: int) -> None:
    item = header(method, size) + zeros(method, 1000)
    tracemalloc.start()
    with pytest.raises(DamagedValue):
        decompress(item)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8_000_000


def test_a_frame_that_claims_any_size_is_not_believed() -> None:
    # A zstd frame with an 8-byte content size of 2^60, one raw block of one byte.
    frame = b"\x28\xb5\x2f\xfd" + bytes([0b11100000]) + struct.pack("<Q", 2**60) + b"\x09\x00\x00x"
    with pytest.raises(DamagedValue):
        decompress(header(2, 2**60) + frame)
    with pytest.raises(DamagedValue):
        decompress(header(2, 1) + frame)


def test_a_limit() -> None:
    item = compress(TEXT, "gzip")
    assert decompress(item, len(TEXT)) == TEXT
    with pytest.raises(DecodeError, match="are allowed"):
        decompress(item, len(TEXT) - 1)


def test_what_a_newer_kept_wrote() -> None:
    for item in (header(1, 5, version=2), header(3, 5)):
        with pytest.raises(DecodeError, match="upgrade wellkept"):
            decompress(item + b"12345")


@pytest.mark.parametrize(
    ("method", "level"),
    [
        ("lzma", None),
        ("", None),
        ("gzip", 0),
        ("gzip", 10),
        ("zstd", 23),
        ("zstd", 1.5),
        ("gzip", True),
    ],
)
def test_bad_options(method: str, level: Any) -> None:
    with pytest.raises(ConfigError):
        check(method, level)


def test_without_zstandard(monkeypatch: pytest.MonkeyPatch) -> None:
    item = compress(TEXT, "zstd")
    monkeypatch.setattr(compression, "_found", None)
    for name in ("zstandard", "compression", "compression.zstd"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ConfigError, match=r"pip install 'wellkept\[zstd\]'"):
        compress(TEXT, "zstd")
    with pytest.raises(DecodeError, match=r"pip install 'wellkept\[zstd\]'"):
        decompress(item)
    assert decompress(compress(TEXT, "gzip")) == TEXT
