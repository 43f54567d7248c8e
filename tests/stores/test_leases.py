"""RecordLeases as records: heartbeats, takeovers, fencing."""

import contextlib
import os
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from blake3 import blake3

from wellkept.errors import StoreError
from wellkept.records import Value
from wellkept.stores import leases as module
from wellkept.stores.embedded import Embedded
from wellkept.stores.lease_records import IndexRecords
from wellkept.stores.leases import Lease, LeaseRecords, RecordLeases

A, B = (blake3(name).digest() for name in (b"a", b"b"))


class InDict:
    """Records in this process's memory, which may be out of reach."""

    def __init__(self) -> None:
        self.rows: dict[bytes, Lease] = {}
        self.guard = threading.Lock()
        self.broken = False

    def read(self, key: bytes) -> Lease | None:
        if self.broken:
            raise StoreError("out of reach")
        return self.rows.get(key)

    def swap(self, key: bytes, old: Lease | None, new: Lease | None) -> bool:
        if self.broken:
            raise StoreError("out of reach")
        with self.guard:
            if self.rows.get(key) != old:
                return False
            if new is None:
                self.rows.pop(key, None)
            else:
                self.rows[key] = new
            return True


@pytest.fixture(params=["memory", "index"])
def records(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[LeaseRecords]:
    if request.param == "memory":
        yield InDict()
        return
    store = Embedded(tmp_path / "c", network=True)
    yield IndexRecords(store.database)
    store.close()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hearts that beat thirty times as fast."""
    monkeypatch.setattr(module, "BEAT", 0.03)
    monkeypatch.setattr(module, "DEAD", 0.3)
    monkeypatch.setattr(module, "_PAUSE", 0.005)


def wait_for(leases: RecordLeases, key: bytes, patience: float = 60.0) -> float:
    began = time.monotonic()
    while not leases.acquire(key):
        assert time.monotonic() - began < patience, "it never came"
        time.sleep(0.002)
    return time.monotonic() - began


def test_compare_and_set(records: LeaseRecords) -> None:
    one, two = Lease("x", 1, 0, 1.5), Lease("y", 2, 0, 2.5)
    assert records.read(A) is None
    assert not records.swap(A, one, two)
    assert records.swap(A, None, one)
    assert not records.swap(A, None, two)
    assert records.read(A) == one
    assert records.swap(A, one, two)
    assert not records.swap(A, one, None)
    assert records.read(A) == two
    assert records.read(B) is None
    assert records.swap(A, two, None)
    assert records.read(A) is None


def test_one_owner(records: LeaseRecords) -> None:
    one, other = RecordLeases(records), RecordLeases(records)
    assert one.acquire(A)
    assert not one.acquire(A)
    assert not other.acquire(A)
    assert other.acquire(B)
    one.release(A)
    assert records.read(A) is None
    wait_for(other, A)
    one.release(A)
    assert not one.acquire(A)
    one.close()
    other.close()
    assert records.read(A) is records.read(B) is None


def test_one_of_many_threads(records: LeaseRecords) -> None:
    tables = [RecordLeases(records) for _ in range(3)]
    won = []
    start = threading.Barrier(9)

    def work(me: int) -> None:
        start.wait(30)
        if tables[me % 3].acquire(A):
            won.append(me)

    threads = [threading.Thread(target=work, args=(me,)) for me in range(9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    for table in tables:
        table.close()


def test_a_heart_heart_while_something_is_held(records: LeaseRecords, quick: None) -> None:
    leases = RecordLeases(records)
    assert leases.acquire(A)
    first = records.read(A)
    assert first is not None
    deadline = time.monotonic() + 60
    while (later := records.read(A)) is None or later.beat <= first.beat + 2:
        assert time.monotonic() < deadline, "no heart beats"
        time.sleep(0.01)
    assert later.deadline > first.deadline
    assert (later.owner, later.token) == (first.owner, first.token)
    leases.release(A)
    assert records.read(A) is None
    while leases._heart._thread is not None:
        assert time.monotonic() < deadline, "it goes on beating for nothing"
        time.sleep(0.01)
    assert records.read(A) is None, "what was released is held again"


def test_a_slow_owner_is_not_pre_empted(records: LeaseRecords, quick: None) -> None:
    owner, waiter = RecordLeases(records, host="there"), RecordLeases(records, host="here")
    assert owner.acquire(A)
    began = time.monotonic()
    while time.monotonic() - began < 0.6:  # twice as long as the dead are given
        assert not waiter.acquire(A)
        time.sleep(0.01)
    owner.release(A)
    wait_for(waiter, A)
    waiter.close()


def test_a_standstill_of_the_waiter_is_none_of_the_owner(monkeypatch: pytest.MonkeyPatch) -> None:
    records = InDict()
    now = 0.0
    monkeypatch.setattr(module, "time", SimpleNamespace(**vars(time) | {"monotonic": lambda: now}))
    waiter = RecordLeases(records, host="here")
    mine = Lease("there|1|1|x", 1, 0, 0.0)
    assert records.swap(A, None, mine)
    for beat in range(1, 4):
        assert not waiter.acquire(A)
        now += 1000
        assert not waiter.acquire(A)
        mine, before = mine._replace(beat=beat), mine
        assert records.swap(A, before, mine)
    looks = 1
    while not waiter.acquire(A):
        now += 1000
        looks += 1
    assert looks > 4
    waiter.close()


def test_a_heart_that_stops(records: LeaseRecords, quick: None) -> None:
    owner, waiter = RecordLeases(records, host="there"), RecordLeases(records, host="here")
    assert owner.acquire(A)
    owner._heart.stop()  # as its death would
    took = wait_for(waiter, A)
    assert took > 0.25
    mine, theirs = waiter.token(A), owner.token(A)
    assert mine is not None
    assert theirs is not None
    assert mine > theirs, "a fencing token that does not grow"
    # The owner was only slow. What it releases is not the waiter's.
    owner.release(A)
    assert records.read(A) is not None
    assert waiter.holds(A)
    waiter.close()


def test_clocks_are_not_compared(records: LeaseRecords, quick: None) -> None:
    waiter = RecordLeases(records, host="here")
    assert records.swap(A, None, Lease("there|1|1|x", 1, 0, time.time() - 1e6))
    assert not waiter.acquire(A), "its deadline is by another clock"
    assert records.swap(B, None, Lease("there|1|1|x", 1, 0, time.time() + 1e6))
    wait_for(waiter, B)
    waiter.close()


def test_a_dead_process_of_this_host(records: LeaseRecords) -> None:
    leases = RecordLeases(records)
    dead = subprocess.Popen(["true"])
    dead.wait()
    owner = f"{leases._host}|{dead.pid}|123|x"
    assert records.swap(A, None, Lease(owner, 5, 3, time.time() + 100))
    assert leases.acquire(A)
    assert (leases.token(A) or 0) > 5
    leases.close()


def test_a_later_process_of_the_same_number(records: LeaseRecords) -> None:
    if not Path("/proc/self/stat").exists():
        pytest.skip("when a process began can't be told here")
    leases = RecordLeases(records)
    owner = f"{leases._host}|{os.getppid()}|1|x"  # the number is alive, the process is another
    assert records.swap(A, None, Lease(owner, 5, 3, 0.0))
    assert leases.acquire(A)
    leases.close()


def test_out_of_reach(quick: None) -> None:
    records = InDict()
    leases = RecordLeases(records)
    assert leases.acquire(A)
    records.broken = True
    with pytest.raises(StoreError):
        leases.acquire(B)
    leases.release(A)
    records.broken = False
    wait_for(leases, B)  # a failure is not remembered as being held
    deadline = time.monotonic() + 60
    while records.read(A) is not None:
        assert time.monotonic() < deadline, "what could not be released then never was"
        time.sleep(0.01)
    leases.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_fork_holds_nothing(records: LeaseRecords, quick: None) -> None:
    leases = RecordLeases(records)
    assert leases.acquire(A)
    pid = os.fork()
    if pid == 0:
        status = 1
        with contextlib.suppress(BaseException):
            assert not leases.holds(A)
            if isinstance(records, IndexRecords):
                assert not leases.acquire(A)
            assert leases._heart._thread is None
            status = 0
        os._exit(status)
    assert os.waitpid(pid, 0)[1] == 0
    before = records.read(A)
    deadline = time.monotonic() + 60
    while records.read(A) == before:
        assert time.monotonic() < deadline, "the parent's heart stopped"
        time.sleep(0.01)
    leases.close()


def test_what_a_store_on_a_network_uses(tmp_path: Path) -> None:
    store = Embedded(tmp_path / "c", network=True)
    assert isinstance(store.locks, RecordLeases)
    assert store.locks.acquire(A)
    other = Embedded(tmp_path / "c", network=True)
    assert not other.locks.acquire(A)
    with store.locks.writing_blobs():
        pass
    with other.locks.collecting_blobs():
        pass
    store.locks.release(A)
    assert wait_for(other.locks, A) < 1.0  # type: ignore[union-attr]  # as asserted above
    store.close()
    other.close()


def test_a_server_that_gives_no_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import fcntl

    def none(*_: object) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "fcntl", none)
    store = Embedded(tmp_path / "c", network=True)
    value = Value("pickle", b"head", [bytes(100_000)])
    store.values.put(A.hex(), value)
    assert store.values.get(A.hex()) is not None
    assert store.locks.acquire(A)
    store.locks.release(A)
    with pytest.raises(StoreError, match="No locks"), store.locks.collecting_blobs():
        pass
    store.close()
