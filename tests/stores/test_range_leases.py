"""Leases on one host, by locks on byte ranges."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from blake3 import blake3
from tests.faults.processes import Child

from wellkept._system import KIND
from wellkept.errors import StoreError
from wellkept.interrupts import Owner
from wellkept.stores import leases
from wellkept.stores.leases import RangeLeases

fcntl = pytest.importorskip("fcntl", reason="this system has no locks of byte ranges")

A, B = (blake3(name).digest() for name in (b"a", b"b"))

HOLD = """
import sys
from pathlib import Path
from wellkept.stores.leases import RangeLeases
locks = RangeLeases(Path(sys.argv[1]))
print(locks.acquire(bytes.fromhex(sys.argv[2])), flush=True)
sys.stdin.readline()
locks.release(bytes.fromhex(sys.argv[2]))
print("released", flush=True)
sys.stdin.readline()
"""


@pytest.fixture
def locks(tmp_path: Path) -> Iterator[RangeLeases]:
    made = RangeLeases(tmp_path / "locks")
    yield made
    made.close()


@pytest.mark.skipif(not hasattr(fcntl, "F_OFD_SETLK"), reason="this system has none")
def test_locks_are_of_the_open_file_where_there_are_such() -> None:
    # Those of a process are gone with the first descriptor of the file that is closed in it.
    assert KIND == "open-file-description"


def test_one_owner(locks: RangeLeases) -> None:
    assert locks.acquire(A)
    assert not locks.acquire(A)
    assert locks.acquire(B)
    locks.release(A)
    assert locks.acquire(A)


def test_releasing_what_is_not_held_is_no_error(locks: RangeLeases) -> None:
    locks.release(A)


def test_two_tables_on_one_file(locks: RangeLeases) -> None:
    if KIND == "posix":
        pytest.skip("POSIX locks do not tell two owners in one process apart")
    other = RangeLeases(locks.path)
    assert locks.acquire(A)
    assert not other.acquire(A)
    locks.release(A)
    assert other.acquire(A)
    other.close()
    assert locks.acquire(A)


def test_many_are_let_go_of_at_once_and_no_other(locks: RangeLeases) -> None:
    if KIND == "posix":
        pytest.skip("POSIX locks do not tell two owners in one process apart")
    mine, theirs, other = Owner(), Owner(), RangeLeases(locks.path)
    # The first and the last that there can be are among them.
    edges = [bytes(32), b"\xff" * 32]
    keys = [*edges, *(blake3(b"%d" % n).digest() for n in range(40))]
    for n, key in enumerate(keys):
        assert locks.acquire(key, theirs if n % 7 == 3 else mine)
    with locks.writing_blobs():
        locks.release_all(keys, mine)
        with pytest.raises(StoreError), other.collecting_blobs(0.0):
            pass
    assert [locks.holds(key) for key in keys] == [n % 7 == 3 for n in range(len(keys))]
    assert [other.acquire(key) for key in keys] == [n % 7 != 3 for n in range(len(keys))]
    locks.release_all(keys, theirs)
    assert all(other.acquire(key) for key in keys[3::7])
    other.close()


def test_few_among_many_are_let_go_of_one_by_one(
    locks: RangeLeases, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine, theirs = Owner(), Owner()
    keys = [blake3(b"%d" % n).digest() for n in range(60)]
    for n, key in enumerate(keys):
        assert locks.acquire(key, mine if n < 3 else theirs)
    changed = []
    monkeypatch.setattr(leases, "set_range", lambda *given: changed.append(given) or True)
    locks.release_all(keys, mine)
    assert len(changed) == 3
    assert [locks.holds(key) for key in keys] == [n >= 3 for n in range(60)]


def test_another_process(locks: RangeLeases) -> None:
    with Child(HOLD, locks.path, A.hex()) as child:
        child.expect("True")
        assert not locks.acquire(A)
        assert locks.acquire(B)
        child.say("")
        child.expect("released")
        assert locks.acquire(A)


def test_the_kernel_releases_what_the_dead_held(locks: RangeLeases) -> None:
    with Child(HOLD, locks.path, A.hex()) as child:
        child.expect("True")
        child.kill(signal.SIGSTOP)
        assert not locks.acquire(A)
        os.kill(child.pid, signal.SIGKILL)
        child.process.wait()
        assert locks.acquire(A)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_fork_neither_has_nor_keeps_them(locks: RangeLeases) -> None:
    assert locks.acquire(A)
    r, w = os.pipe()
    tried, told = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            assert not locks.acquire(A), "it belongs to the parent"
            os.write(told, b"x")
            os.read(r, 1)
            assert locks.acquire(A)
            status = 0
        finally:
            os._exit(status)
    os.read(tried, 1)
    locks.release(A)
    os.write(w, b"x")
    assert os.waitpid(pid, 0)[1] == 0
    assert locks.acquire(A), "its death released it"
    for end in (r, w, tried, told):
        os.close(end)


def test_writers_of_blobs_share_and_a_collector_waits(locks: RangeLeases) -> None:
    other = RangeLeases(locks.path)
    with locks.writing_blobs(), locks.writing_blobs(), other.writing_blobs():
        pass
    with locks.writing_blobs():
        with pytest.raises(StoreError, match=r"busy|locked"), locks.collecting_blobs(0.1):
            raise AssertionError("collecting while somebody writes")
        if KIND != "posix":
            with pytest.raises(StoreError, match=r"busy|locked"), other.collecting_blobs(0.1):
                raise AssertionError("collecting while somebody writes")
    order = []
    with locks.collecting_blobs():

        def write() -> None:
            with locks.writing_blobs():
                order.append("written")

        thread = threading.Thread(target=write)
        thread.start()
        time.sleep(0.1)
        order.append("collected")
    thread.join()
    assert order == ["collected", "written"]
    other.close()


def test_threads(locks: RangeLeases) -> None:
    inside, most = [0], [0]

    def work() -> None:
        for _ in range(30):
            while not locks.acquire(A):
                time.sleep(0.0001)
            inside[0] += 1
            most[0] = max(most[0], inside[0])
            inside[0] -= 1
            locks.release(A)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most[0] == 1


def test_no_locks_there(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="can't lock"):
        RangeLeases(tmp_path / "no" / "such" / "directory").acquire(A)


def test_a_file_that_was_removed(locks: RangeLeases) -> None:
    assert locks.acquire(A)
    locks.path.unlink()
    with Child(HOLD, locks.path, B.hex()) as child:
        child.expect("True")
        locks._looked = 0.0
        assert not locks.acquire(A), "what is held stays held"
        locks.release(A)
        locks._looked = 0.0  # it looks once a second
        assert not locks.acquire(B), "it locks a file that nobody else sees"
        assert locks.acquire(A)
