"""Many values in one HDF5 file."""

from __future__ import annotations

import os
import pickle
import random
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from tests.stores.agreement import check_agreement
from tests.stores.racing import check_races, die_in_time

from wellkept.errors import ConfigError, KeptWarning, StoreError, UntrustedSource
from wellkept.stores.base import Creates, Many, Replaces
from wellkept.stores.hdf5 import Hdf5
from wellkept.testing import StoreContract

h5py = pytest.importorskip("h5py", reason="h5py is not installed")

MIB = 1024 * 1024
KEY = "values/" + "ab" * 32
DATASET = f"/values/ab/{'ab' * 32}"

pytestmark = pytest.mark.filterwarnings("error::wellkept.errors.KeptWarning")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "items.h5"


class Around:
    """The file, by h5py alone."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def _name(self, key: str) -> str:
        return f"~/{key[:2]}/{key}"

    def read(self, key: str) -> Any:
        with h5py.File(self.path, "r") as file:
            return file[self._name(key)][()].tobytes() if self._name(key) in file else None

    def write(self, key: str, item: bytes) -> None:
        with h5py.File(self.path, "a", libver="v110") as file:
            file.create_dataset(self._name(key), data=memoryview(item), dtype="u1")

    def keys(self) -> list[str]:
        with h5py.File(self.path, "r") as file:
            return [key for shard in file["~"].values() for key in shard]

    def damage(self, key: str) -> bool:
        return False  # bytes are served as they are; whoever reads them verifies them


class TestHdf5(StoreContract):
    pickles = True

    def make(self, place: Path) -> Hdf5:
        return Hdf5(place / "items.h5")

    def accessor(self, store: Any, place: Path) -> Around:
        return Around(place / "items.h5")


def test_it_has_these_abilities(path: Path) -> None:
    for ability in (Creates, Replaces, Many):
        assert isinstance(Hdf5(path), ability)


def test_it_agrees_with_a_dict(tmp_path: Path) -> None:
    check_agreement(lambda: Hdf5(tmp_path / os.urandom(6).hex()), examples=40)


def test_one_winner_and_no_lost_increment(path: Path) -> None:
    check_races(Hdf5(path), keys=30, times=25)


def test_it_is_two_files_that_every_tool_reads(path: Path) -> None:
    store = Hdf5(path)
    for n in range(300):
        store.put(f"values/{n * 7919**15:064x}"[-71:], b"%d" % n)
    store.put(KEY, b"item")
    assert sorted(each.name for each in path.parent.iterdir()) == ["items.h5", "items.h5.journal"]
    assert path.stat().st_mode & 0o777 == 0o600
    with h5py.File(path, "r") as file:
        assert file[DATASET][()].tobytes() == b"item"


def test_nothing_is_made_before_the_first_put(path: Path) -> None:
    store = Hdf5(path)
    assert store.get("a") is None
    assert list(store.keys()) == []
    store.delete("a")
    assert not path.exists()


def test_putting_many_is_all_or_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Hdf5(path)
    store.put("a", b"old")
    adding = Hdf5._remove

    def fails(self: Hdf5, h5: Any, paths: list[str]) -> bool:
        adding(self, h5, paths)
        raise ZeroDivisionError

    monkeypatch.setattr(Hdf5, "_remove", fails)
    with pytest.raises(ZeroDivisionError):
        store.put_many({"a": b"new", "b": b"1" * 100_000})
    monkeypatch.undo()
    assert store.get_many(["a", "b"]) == {"a": b"old"}
    store.put_many({"a": b"new", "b": b"1" * 100_000})
    assert store.get_many(["a", "b"]) == {"a": b"new", "b": b"1" * 100_000}


def test_a_file_that_another_tool_laid_out_anew(path: Path) -> None:
    store = Hdf5(path)
    store.put(KEY, b"old")
    with h5py.File(path, "a") as file:
        del file[DATASET]
        file.create_dataset(
            DATASET, data=memoryview(b"12" * 5000), chunks=(100,), compression="gzip"
        )
    assert store.get(KEY) == b"12" * 5000
    assert store.replace(KEY, b"12" * 5000, b"new")
    assert Hdf5(path).get(KEY) == b"new"


def test_a_file_put_in_its_place_is_read(path: Path, tmp_path: Path) -> None:
    store, other = Hdf5(path), Hdf5(tmp_path / "other.h5")
    store.put("a", b"1" * 100_000)
    other.put("a", b"2")
    assert store.get("a") == b"1" * 100_000
    other.path.rename(path)
    assert store.get("a") == b"2"
    store.put("b", b"3")
    assert list(Hdf5(path).keys()) == ["a", "b"]


# -- space -----------------------------------------------------------------------------------------


def test_what_was_freed_is_given_back(path: Path) -> None:
    store, other = Hdf5(path), Hdf5(path)
    item = os.urandom(10 * MIB)
    for n in range(16):
        store.put(f"blobs/{n}", item)
    assert other.get("blobs/15") == item
    store.delete_many([f"blobs/{n}" for n in range(15)])
    assert path.stat().st_size < 20 * MIB
    assert other.get("blobs/15") == store.get("blobs/15") == item
    assert list(other.keys()) == ["blobs/15"]
    store.put("a", b"1")
    store.put("blobs/15", b"")
    assert store.compact() > 9 * MIB
    assert path.stat().st_size < MIB
    assert store.get_many(["a", "blobs/15"]) == {"a": b"1", "blobs/15": b""}


_MEMORY = """
import os, sys
from pathlib import Path
from wellkept.stores.hdf5 import Hdf5

def resident(which):
    return next(int(l.split()[1]) * 1024 for l in open("/proc/self/status") if l.startswith(which))

def peak_over(do):
    Path("/proc/self/clear_refs").write_text("5")
    before = resident("VmRSS:")
    result = do()
    return resident("VmHWM:") - before, result

store, size = Hdf5(sys.argv[1]), 160 << 20
store.put("a", b"1"); store.get("a")
item = bytearray(os.urandom(1 << 20) * 160)
print(peak_over(lambda: store.put("blobs/a", item))[0])
print(peak_over(lambda: store.put("blobs/a", item))[0])
expected = hash(bytes(item))
del item
over, found = peak_over(lambda: store.get("blobs/a"))
assert hash(found) == expected
print(over - size)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_is_bounded(path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _MEMORY, str(path)], check=True, capture_output=True, text=True
    )
    over = list(map(int, done.stdout.split()))
    assert len(over) == 3
    assert max(over) < 64 * MIB, over


# -- writers that die ------------------------------------------------------------------------------


def _dies_at(n: int, do: Callable[[], None]) -> bool:
    """Run `do` in a process that dies before its n-th write; whether it did."""
    pid = os.fork()
    if pid == 0:
        left = [n]

        def count(call: Callable[..., Any]) -> Callable[..., Any]:
            def counted(*args: Any) -> Any:
                left[0] -= 1
                if left[0] < 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                return call(*args)

            return counted

        os.pwrite, os.ftruncate = count(os.pwrite), count(os.ftruncate)
        try:
            do()
        finally:
            os._exit(0)
    return os.WIFSIGNALED(os.waitpid(pid, 0)[1])


@pytest.mark.parametrize("read_first", [True, False])
@pytest.mark.parametrize("empty", [True, False])
def test_killed_before_each_of_its_writes(tmp_path: Path, empty: bool, read_first: bool) -> None:
    """Wholly or not at all, and neither a reader nor a writer that comes next notices."""
    outcomes = set()
    old = {} if empty else {f"values/{n:02x}": b"%d" % n * 3000 for n in range(20)}
    new = {"values/03": b"new", "values/a0": b"y" * 70_000, "calls/00": b"z"}
    for n in range(200):
        path = tmp_path / f"{n}.h5"
        store = Hdf5(path)
        store.put_many(old)

        def change(store: Hdf5 = store) -> None:
            store.put_many(new)

        died = _dies_at(n, change)
        if read_first:
            found = store.get_many([*old, *new])
            assert sorted(found) == sorted(store.keys())
        else:
            store.put("later", b"1")
            found = Hdf5(path).get_many([*old, *new])
            assert store.get("later") == b"1"
        assert found in (old, {**old, **new}), f"killed before write {n}: {sorted(found)}"
        outcomes.add(found == {**old, **new})
        store.put("later/still", b"2" * 10_000)
        with h5py.File(path, "r") as file:
            assert file["later/~/still"][()].tobytes() == b"2" * 10_000
        if not died:
            break
    else:
        pytest.fail("it never came to its end")
    assert outcomes == {True, False}


def test_killed_while_compacting(path: Path) -> None:
    store = Hdf5(path)
    items = {f"values/{n}": os.urandom(50_000) for n in range(10)}
    store.put_many(items)
    for n in range(50):
        died = _dies_at(n, lambda: store.compact() and None)
        assert store.get_many(items) == items
        store.put("a", b"%d" % n)
        if not died:
            break
    assert store.get("a") == b"%d" % n


_WRITER = """
import sys, random
from wellkept.stores.hdf5 import Hdf5
store, me, n = Hdf5(sys.argv[1]), sys.argv[2], 0
while True:
    n += 1
    store.put(f"values/{me}.{n}", bytes([n % 256]) * random.randrange(100_000))
    print(n, flush=True)
"""


@pytest.mark.long
def test_killed_again_and_again(path: Path) -> None:
    """What was acknowledged is there and right, whenever the writers were killed."""
    store = Hdf5(path)
    for me in range(12):
        writers = [
            subprocess.Popen(
                [sys.executable, "-c", _WRITER, str(path), f"{me}.{side}"],
                stdout=subprocess.PIPE,
                text=True,
            )
            for side in "ab"
        ]
        for writer in writers:
            writer.stdout.readline()
        time.sleep(random.random() * 0.1)
        for writer in writers:
            writer.kill()
        for side, writer in zip("ab", writers, strict=True):
            done = len(writer.stdout.read().splitlines()) + 1
            writer.wait()
            for n in range(1, done + 1):
                found = store.get(f"values/{me}.{side}.{n}")
                assert found is not None
                assert found == bytes([n % 256]) * len(found)


# -- trouble ---------------------------------------------------------------------------------------


def _flip(path: Path, at: int, length: int) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        file.write(os.urandom(length))


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(b"this is no HDF5 file" * 100),
        lambda path: _flip(path, 0, 48),
        lambda path: os.truncate(path, path.stat().st_size // 2),
        lambda path: _flip(path, 48, path.stat().st_size - 48),
        lambda path: os.truncate(path, 20),
    ],
)
@pytest.mark.parametrize("first", ["get", "put", "keys", "create"])
def test_a_damaged_file_is_set_aside(
    path: Path, damage: Callable[[Path], object], first: str
) -> None:
    store = Hdf5(path)
    store.put_many({f"values/{n:064x}": b"x" * 1000 for n in range(20)})
    damage(path)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        if first == "get":
            assert store.get(f"values/{0:064x}") in (None, b"x" * 1000)
        if first == "keys":
            list(store.keys())
        if first == "create":
            store.create("values/a", b"new")
        store.put("values/b", b"new")
        store.put("values/c", b"new")
        assert store.get("values/b") == Hdf5(path).get("values/b") == b"new"
    mine = [str(each.message) for each in told if each.category is KeptWarning]
    aside = list(path.parent.glob("items.h5.damaged-*"))
    assert len(mine) == len(aside) == 1, mine
    assert str(aside[0]) in mine[0]


def test_a_damaged_journal_is_no_harm(path: Path) -> None:
    store, beside = Hdf5(path), path.with_name("items.h5.journal")
    for content in (b"", b"x" * 5000, b"keptjrn1" + os.urandom(5000), b"keptjrn1"):
        store.put("a", content)
        beside.write_bytes(content)
        assert store.get("a") == Hdf5(path).get("a") == content
        store.put("b", content)
    beside.unlink()
    assert Hdf5(path).get("b") == content


def test_a_full_disk_is_one_error_and_nothing_lost(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Hdf5(path)
    store.put("a", b"1" * 10_000)
    size, write = path.stat().st_size, os.pwrite

    def full(fd: int, content: Any, at: int) -> int:
        if at + len(content) > size:
            raise OSError(28, "No space left on device")
        return write(fd, content, at)

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(StoreError, match="No space left"):
        store.put("b", b"2" * 100_000)
    assert store.get("a") == b"1" * 10_000
    monkeypatch.undo()
    assert path.stat().st_size == size
    store.put("b", b"2" * 100_000)
    assert store.get_many(["a", "b"]) == {"a": b"1" * 10_000, "b": b"2" * 100_000}


def test_a_lock_that_stays_is_an_error_in_time(path: Path) -> None:
    store, other = Hdf5(path), Hdf5(path)
    store.put("a", b"1")
    other._file.patience = 0.2
    with store._file.changing():
        for ask in (lambda: other.get("a"), lambda: other.put("b", b"1")):
            with pytest.raises(StoreError, match="stays locked"):
                ask()
    assert other.get("a") == b"1"


def test_others_may_not_write_to_it(path: Path) -> None:
    Hdf5(path).put("a", b"1")
    path.chmod(0o666)
    with pytest.raises(UntrustedSource, match="trust=True"):
        Hdf5(path)
    assert Hdf5(path, trust=True).get("a") == b"1"


def test_a_file_that_is_only_read(path: Path) -> None:
    Hdf5(path).put("a", b"1")
    code = """
import os, sys
import blake3, h5py, numpy
from wellkept.errors import StoreError
from wellkept.stores.hdf5 import Hdf5
os.setuid(65534) if os.getuid() == 0 else None
store = Hdf5(sys.argv[1], trust=True)
assert store.get("a") == b"1" and list(store.keys()) == ["a"]
try:
    store.put("b", b"1")
except StoreError as error:
    assert "can't write" in str(error), error
else:
    raise SystemExit("it wrote")
"""
    for beside in (True, False):
        path.chmod(0o444)
        journal = path.with_name("items.h5.journal")
        journal.chmod(0o444) if beside else journal.unlink()
        for place in (path.parent, *path.parent.parents):
            if place.stat().st_uid == os.getuid() and str(place).startswith("/tmp/"):
                place.chmod(0o555)
        subprocess.run([sys.executable, "-c", code, str(path)], check=True, cwd="/")
        path.parent.chmod(0o755)


def test_a_place_that_can_not_be(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="directory"):
        Hdf5(tmp_path)
    with pytest.raises(StoreError, match="can't write"):
        Hdf5(tmp_path / "no" / "such.h5").put("a", b"1")


@pytest.mark.parametrize("key", ["", "/a", "a b", "a..b", "é", "a" * 201, "a\n", None, b"a"])
def test_what_is_no_key_is_refused(path: Path, key: Any) -> None:
    store = Hdf5(path)
    for ask in (
        lambda: store.get(key),
        lambda: store.put(key, b"1"),
        lambda: store.delete(key),
        lambda: store.create(key, b"1"),
        lambda: store.replace(key, b"1", b"2"),
        lambda: store.get_many([key]),
        lambda: store.put_many({key: b"1"}),
        lambda: store.delete_many([key]),
    ):
        with pytest.raises(ConfigError, match="not a key"):
            ask()
    assert not path.exists()


def test_what_is_no_buffer_is_refused_and_harms_nothing(path: Path) -> None:
    store = Hdf5(path)
    store.put("a", b"1")
    with pytest.raises(TypeError):
        store.put("a", "text")  # type: ignore[arg-type]
    assert store.get("a") == b"1"


def test_without_h5py(monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(ConfigError, match=r"pip install 'wellkept\[hdf5\]'"):
        Hdf5(path)


# -- elsewhere -------------------------------------------------------------------------------------


def test_importing_it_imports_no_driver() -> None:
    code = "import sys, wellkept.stores.hdf5; assert not {'h5py', 'numpy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_it_travels(path: Path) -> None:
    store = Hdf5(path, durable=True, trust=True)
    store.put("a", b"1")
    again = pickle.loads(pickle.dumps(store))
    assert (again.path, again.durable, again.trust) == (path, True, True)
    assert again.get("a") == b"1"


def test_a_program_that_ends_with_an_open_file_ends_well(path: Path) -> None:
    code = """
import os, sys
from wellkept.stores.hdf5 import Hdf5
store = Hdf5(sys.argv[1]); store.put("a", b"1"); store.get("a")
if pid := os.fork():
    raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""
    damage = "open(store.path, 'wb').write(b'x' * 5000)\nstore.put('b', b'1')\nassert {}\n"
    for more in ("", "else: store.get('a')", "else: store.put('b', b'1')", damage.format(1)):
        done = subprocess.run([sys.executable, "-c", code + more, str(path)], timeout=60)
        assert done.returncode == 0


def test_a_thread_that_writes_takes_nothing_from_one_that_reads(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Hdf5(path)
    store.put("a", b"1")
    reads, closed = threading.Event(), threading.Event()
    content, forget = Hdf5._content, Hdf5._forget_handle

    def slowly(self: Hdf5, h5: Any, fd: int, key: str) -> bytes | None:
        reads.set()
        closed.wait(0.3)  # it never is, or else before the read
        return content(self, h5, fd, key)

    def forgetting(self: Hdf5) -> None:
        forget(self)
        closed.set()

    monkeypatch.setattr(Hdf5, "_content", slowly)
    reader = ThreadPoolExecutor(1).submit(store.get, "a")
    assert reads.wait(20)
    monkeypatch.setattr(Hdf5, "_forget_handle", forgetting)
    store.put("b", b"2")
    assert reader.result(20) == b"1"
    assert store.get("b") == b"2"


def test_forked_below_working_threads(path: Path) -> None:
    store = Hdf5(path)
    store.put("a", b"1")
    stop = threading.Event()

    def work(me: int) -> None:
        while not stop.is_set():
            store.put(f"b/{me}", b"1") if me else store.get("a")

    threads = [threading.Thread(target=work, args=(me,)) for me in range(3)]
    for thread in threads:
        thread.start()
    try:
        for n in range(20):
            pid = os.fork()
            if pid == 0:
                die_in_time()
                store.put(f"c/{n}", b"1")
                os._exit(0 if store.get("a") == b"1" else 1)
            assert os.waitpid(pid, 0)[1] == 0
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert len(list(store.keys("c/"))) == 20


def test_after_close_it_opens_again(path: Path) -> None:
    store = Hdf5(path)
    store.put("a", b"1")
    store.close()
    assert store.get("a") == b"1"
