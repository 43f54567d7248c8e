"""An array that the cache loaded is hashed again only if somebody has written to it."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import wellkept
from wellkept.hashing import arrays, digest_bytes
from wellkept.stores.filesystem import untouched

N = 200_000

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/pagemap").exists(), reason="the system does not say what was written to"
)


@wellkept.keep(version=1, name="mapped.made")
def made(n: int) -> Any:
    return np.arange(float(n))


@wellkept.keep(version=1, name="mapped.total")
def total(values: Any) -> float:
    return float(values.sum())


@pytest.fixture
def loaded(tmp_path: Path) -> Iterator[Any]:
    with wellkept.open(tmp_path / "cache") as cache, wellkept.use(cache):
        made(N)
        yield made(N)


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The bytes of each array that was hashed."""
    found: list[int] = []
    blake3 = arrays.blake3

    def counted(content: Any = b"", **options: Any) -> Any:
        found.append(memoryview(content).nbytes)
        return blake3(content, **options)

    monkeypatch.setattr(arrays, "blake3", counted)
    return found


def fresh(array: Any) -> bytes:
    """The digest of a copy, of which nothing can be known."""
    return digest_bytes(np.array(array))


def test_it_is_hashed_no_more(loaded: Any, passes: list[int]) -> None:
    expected = float(loaded.sum())  # which reads each page
    assert total(loaded) == total(loaded) == expected
    assert digest_bytes(loaded) == digest_bytes(loaded[:])
    assert not passes
    assert digest_bytes(loaded) == fresh(loaded)


def through_a_view(array: Any) -> None:
    array[N // 2 :][5] = -1.0


def through_an_older_view(array: Any) -> None:
    view = array[3:]
    array.setflags(write=False)
    view[0] = -1.0


def and_is_made_readonly_again(array: Any) -> None:
    array.setflags(write=False)
    array.setflags(write=True)
    array[-1] = -1.0
    array.setflags(write=False)


def through_its_buffer(array: Any) -> None:
    memoryview(array).cast("B")[8 * N - 2] ^= 1


def by_address(array: Any) -> None:
    ctypes.memset(array.__array_interface__["data"][0] + 77, 7, 1)


def in_place(array: Any) -> None:
    array += 1.0


@pytest.mark.parametrize(
    "write",
    [
        through_a_view,
        through_an_older_view,
        and_is_made_readonly_again,
        through_its_buffer,
        by_address,
        in_place,
    ],
)
def test_whoever_writes_to_it_is_noticed(
    write: Callable[[Any], None], loaded: Any, passes: list[int]
) -> None:
    before = digest_bytes(loaded)
    assert not passes
    write(loaded)
    after = digest_bytes(loaded)
    assert passes
    assert before != after == fresh(loaded)
    # What was written to counts as that, even if it is what it was.
    again = made(N)
    assert digest_bytes(again) == before
    again[0] = again[0]
    assert digest_bytes(again) == before
    assert len(passes) >= 2


def test_a_file_that_is_written_to_under_it_is_noticed(
    loaded: Any, passes: list[int], tmp_path: Path
) -> None:
    digest_bytes(loaded)
    assert not passes
    (blob,) = [path for path in (tmp_path / "cache" / "blobs").rglob("*") if path.is_file()]
    blob.chmod(0o600)
    with blob.open("r+b") as file:
        file.seek(8 * N - 3)
        file.write(b"x")
    digest = digest_bytes(loaded)
    assert passes
    assert digest == fresh(loaded)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_forked_child_tells_its_own_writes_from_its_parent_s(loaded: Any) -> None:
    before = digest_bytes(loaded)
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            same = digest_bytes(loaded) == before
            loaded[7] = -1.0
            status = int(not (same and digest_bytes(loaded) == fresh(loaded) != before))
        finally:
            os._exit(status)
    assert os.waitpid(pid, 0)[1] == 0
    assert digest_bytes(loaded) == before


def test_of_a_part_and_of_another_shape(loaded: Any, passes: list[int]) -> None:
    assert digest_bytes(loaded[1:]) == fresh(loaded[1:])
    assert digest_bytes(loaded[::2]) == fresh(loaded[::2])
    assert passes
    square = loaded.reshape(400, 500)
    assert digest_bytes(square) == fresh(square)
    assert digest_bytes(square.T) == fresh(square.T)


def test_nothing_is_believed_of_memory_that_is_no_file() -> None:
    other = np.arange(float(N))
    assert not untouched(other.__array_interface__["data"][0], other.nbytes)


def test_an_array_in_bytes_is_hashed_once(passes: list[int]) -> None:
    content = os.urandom(8 * N)
    array = np.frombuffer(content)
    first = digest_bytes(array)
    assert len(passes) == 1
    assert digest_bytes(array) == digest_bytes(array.reshape(N)) == first
    assert len(passes) == 1
    with pytest.raises(ValueError, match="WRITEABLE"):
        array.setflags(write=True)
    # One of numpy's own may be written to through another view.
    owned = np.array(array)
    view = owned[:]
    owned.setflags(write=False)
    assert digest_bytes(owned) == first
    view[0] = 1.0
    assert digest_bytes(owned) != first
