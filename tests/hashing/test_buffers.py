"""Flat bytes: addresses, what is known of memory, read-only maps."""

from __future__ import annotations

import array
import gc
import mmap
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import blake3
import numpy as np
import pyarrow as pa
import pytest

from wellkept.hashing import MAPPED, address, buffer_digest, buffers, digest_bytes

LARGE = np.arange(200_000.0)


@pytest.mark.parametrize(
    "view",
    [
        b"abc",
        bytearray(b"abc"),
        memoryview(b"abcdef")[1:3],
        memoryview(b"abcdef").cast("B", (2, 3)),
        array.array("d", [1.0, 2.0]),
        np.arange(5, dtype=">i4"),
        np.zeros(3, [("a", "i4"), ("b", "f8")]),
        np.zeros((2, 3)),
        LARGE,
        b"",
        np.empty(0),
        pa.py_buffer(b"abc"),
    ],
    ids=lambda view: type(view).__name__,
)
def test_buffers(view: Any) -> None:
    raw = memoryview(view).tobytes()
    assert buffer_digest(view) == blake3.blake3(raw).digest()
    if raw:
        assert address(view) > 0
        where = memoryview(view)
        assert address(where) == address(view)
    else:
        assert address(view) == 0


def test_addresses_without_numpy() -> None:
    script = (
        "import sys, ctypes; from wellkept.hashing import address\n"
        "assert 'numpy' not in sys.modules\n"
        "raw = b'0123456789'; view = memoryview(raw)\n"
        "assert ctypes.string_at(address(view[3:]), 4) == b'3456'\n"
        "assert address(view[3:]) == address(view) + 3 and address(b'') == 0\n"
        "try: address(view[::2])\n"
        "except BufferError: print('ok')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == "ok\n"


def test_addresses_are_where_the_bytes_lie() -> None:
    import ctypes

    raw = bytearray(b"0123456789")
    assert ctypes.string_at(address(memoryview(raw)[2:]), 3) == b"234"
    with pytest.raises(BufferError):
        address(memoryview(raw)[::2])
    with pytest.raises(BufferError):
        buffer_digest(np.arange(6).reshape(2, 3).T)


def test_what_is_known_is_not_hashed_again() -> None:
    expected = digest_bytes(LARGE)
    truth = {(address(LARGE), LARGE.nbytes): buffer_digest(LARGE)}
    assert digest_bytes(LARGE, truth) == expected
    lie = {(address(LARGE), LARGE.nbytes): bytes(32)}
    assert digest_bytes(LARGE, lie) != expected  # so it was asked
    assert digest_bytes(LARGE[1:], lie) == digest_bytes(LARGE[1:])
    square = LARGE.reshape(400, 500)
    assert digest_bytes(square.T, lie) == digest_bytes(square.T)  # the same memory, another order
    column = pa.array(LARGE)
    where = memoryview(column.buffers()[1])
    lie = {(address(where), where.nbytes): bytes(32)}
    assert digest_bytes(column, lie) != digest_bytes(column)


class Owner:
    pass


def test_readonly_maps() -> None:
    owner = Owner()
    fixed = LARGE.copy()
    expected = digest_bytes(fixed)
    key = address(fixed), fixed.nbytes
    MAPPED.remember(*key, bytes(32), owner)
    assert digest_bytes(fixed) == expected  # writeable: not trusted
    fixed.flags.writeable = False
    assert digest_bytes(fixed) != expected  # looked up (a lie, to see it)
    assert digest_bytes(fixed.reshape(400, 500)) != digest_bytes(LARGE.reshape(400, 500))
    assert digest_bytes(fixed[1:]) == digest_bytes(LARGE[1:])
    other = Owner()
    MAPPED.remember(*key, buffer_digest(fixed), other)
    del owner
    gc.collect()
    assert digest_bytes(fixed) == expected  # the newer one is still there
    assert key in MAPPED._digests
    del other
    gc.collect()
    assert key not in MAPPED._digests


def test_a_mapped_file_is_an_owner(tmp_path: Path) -> None:
    path = tmp_path / "f"
    LARGE.tofile(path)
    with path.open("rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    view = np.frombuffer(mapped)
    key = address(mapped), len(mapped)
    MAPPED.remember(*key, buffer_digest(mapped), mapped)
    assert digest_bytes(view) == digest_bytes(LARGE)
    assert key in MAPPED._digests
    del view, mapped
    gc.collect()
    assert key not in MAPPED._digests


@pytest.mark.parametrize("end", [mmap.mmap.close, lambda mapped: mapped.resize(4096)])
def test_a_mapping_that_is_no_more_there_is_not_believed(end: Any) -> None:
    mapped = mmap.mmap(-1, LARGE.nbytes)
    key = address(mapped), len(mapped)
    MAPPED.remember(*key, bytes(32), mapped, lambda: True)
    assert MAPPED.get(key, writeable=True) == bytes(32)
    end(mapped)
    # Another mapping may lie there now.
    assert MAPPED.get(key, writeable=True) is None


def test_threads_make_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = buffer_digest(LARGE)
    monkeypatch.setattr(buffers, "PARALLEL", 1 << 60)
    assert buffer_digest(LARGE) == expected


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_child_hashes_too() -> None:
    """BLAKE3's threads stay behind in the parent; a child that waited for them would hang."""
    script = (
        "import os, signal; from wellkept.hashing import buffer_digest, digest_bytes\n"
        "raw = bytes(50_000_000); expected = buffer_digest(raw), digest_bytes(raw)\n"
        "child = os.fork()\n"
        "if not child:\n"
        "    signal.alarm(30)\n"
        "    os._exit((buffer_digest(raw), digest_bytes(raw)) != expected)\n"
        "print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == "0\n"
