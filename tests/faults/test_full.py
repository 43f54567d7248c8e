"""No space left: results are returned, nothing half-written stays, and later calls are kept again."""

import os
import resource
import subprocess
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.faults.test_fork import forked
from tests.faults.test_kill import audit

import wellkept
from wellkept import keep
from wellkept.errors import KeptWarning

BYTES = 300_000


@keep(version=1)
def large(i: int) -> bytearray:
    return bytearray(b"%6d" % i) * (BYTES // 6)


@keep(version=1)
def small(i: int) -> tuple[int, str]:
    return i, "s" * 500


@pytest.fixture(autouse=True)
def nothing_told() -> None:
    """A function warns once of each kind of trouble."""
    for function in (large, small):
        function._told.clear()


@pytest.fixture
def disk(home: Path) -> Iterator[Path]:
    """A file system of 3 MB of its own."""
    place = home / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=3m,mode=0700", "none", str(place)]
    try:
        done = subprocess.run(command, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        done = False
    if not done:
        pytest.skip("a file system can't be mounted here; the limit of file sizes stands in for it")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def fill(disk: Path, leave: int) -> Path:
    """Fill a file system but for so many bytes."""
    filler = disk / "filler"
    free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
    with filler.open("wb") as file:
        file.write(bytes(max(0, free - leave)))
    return filler


def right(numbers: range) -> None:
    for i in numbers:
        assert large(i) == large.__wrapped__(i)
        assert small(i) == small.__wrapped__(i)


def told(do: Callable[[], None]) -> str:
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        do()
    assert all(issubclass(w.category, KeptWarning) for w in heard), [str(w.message) for w in heard]
    return "; ".join(str(w.message) for w in heard)


@pytest.mark.parametrize("leave", [0, 4096, 100_000, 350_000])
@pytest.mark.parametrize("network", [False, True], ids=["local", "network"])
def test_a_disk_that_becomes_full(disk: Path, leave: int, network: bool) -> None:
    root = disk / "store"
    with wellkept.open(root, network=network) as cache, wellkept.use(cache):
        right(range(2))
        filler = fill(disk, leave)
        heard = told(lambda: right(range(2, 6)))
        assert "can't write" in heard
        assert large.counts.unavailable > 0
        assert list((root / "tmp").iterdir()) == []
        assert large.contains(1)
        assert small.contains(1)
        filler.unlink()
        right(range(6, 8))
        assert large.contains(7)
        assert small.contains(7)
    assert not list(root.glob("*damaged*")), "a full disk is no damage"
    audit(root, network)


@pytest.mark.parametrize("leave", [0, 4096, 20_000, 60_000])
def test_opening_on_a_full_disk(disk: Path, leave: int) -> None:
    root = disk / "store"
    with wellkept.open(root) as cache, wellkept.use(cache):
        right(range(2))
    filler = fill(disk, leave)

    @keep(version=1, cache=str(root))
    def f(i: int) -> int:
        return i

    heard = told(lambda: [f(i) for i in range(3)])
    assert heard == "" or "can't" in heard
    filler.unlink()
    assert not list(root.glob("*damaged*")), "a full disk is no damage"
    with wellkept.open(root) as cache, wellkept.use(cache):
        assert large.contains(1)
        assert small.contains(1)
        small(5)
        assert small.contains(5)


@pytest.mark.parametrize("leave", [0, 4096, 20_000])
def test_a_new_cache_on_a_full_disk(
    disk: Path, leave: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    filler = fill(disk, leave)
    root = disk / "store"
    monkeypatch.setenv("WELLKEPT_CACHE", str(root))
    heard = told(lambda: right(range(2)))
    assert "can't" in heard
    filler.unlink()
    with wellkept.open(root) as cache, wellkept.use(cache):
        right(range(2))
        assert large.contains(1)
    audit(root)


@pytest.mark.parametrize("limit", [20_000, 100_000, 150_000, 250_000])
def test_files_that_may_not_grow(home: Path, limit: int) -> None:
    root = home / "store"
    with wellkept.open(root) as cache, wellkept.use(cache):
        right(range(1))

    def child() -> None:
        heard = told(use)
        assert "can't write" in heard, heard

    def use() -> None:
        with wellkept.open(root) as cache, wellkept.use(cache):
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
            right(range(40))
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
            right(range(100, 102))
            assert large.contains(101)
            assert small.contains(101)

    assert forked(child, 60) == 0
    assert not list(root.glob("*damaged*")), "a full disk is no damage"
    audit(root)


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="there are no owners here")
class TestReadOnly:
    def test_a_read_only_file_system(self, disk: Path) -> None:
        root = disk / "store"
        with wellkept.open(root) as cache, wellkept.use(cache):
            right(range(2))
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        try:
            with wellkept.open(root) as cache, wellkept.use(cache):
                assert large.contains(1)
                right(range(2))
                heard = told(lambda: right(range(2, 4)))
                assert "can't" in heard
        finally:
            subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
        with wellkept.open(root) as cache, wellkept.use(cache):
            right(range(2, 4))
            assert large.contains(3)

    def test_that_becomes_so_while_open(self, disk: Path) -> None:
        root = disk / "store"
        with wellkept.open(root) as cache, wellkept.use(cache):
            right(range(2))
            # What is open for writing keeps a file system from that; so it is closed, and used again.
            cache.close()
            subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
            try:
                told(lambda: right(range(4)))
            finally:
                cache.close()
                subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
            right(range(2, 4))
            assert large.contains(3)
        assert not list(root.glob("*damaged*"))

    def test_an_unwritable_home(self, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (home / "file").write_text("no directory")
        monkeypatch.setenv("WELLKEPT_CACHE", str(home / "file" / "cache"))
        heard = told(lambda: right(range(2)))
        assert "can't" in heard
