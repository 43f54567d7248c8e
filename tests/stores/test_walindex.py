"""Watching every commit of every process, and the trap of POSIX locks."""

import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from wellkept.stores.embedded import Embedded
from wellkept.stores.wal_index import WalIndex


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Embedded]:
    made = Embedded(tmp_path / "c")
    yield made
    made.close()


def commit_elsewhere(path: Path) -> None:
    code = (
        "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]);"
        "c.execute('INSERT INTO uses VALUES (abs(random()), 1, 1.0)'); c.commit()"
    )
    subprocess.run([sys.executable, "-c", code, str(path)], check=True)


def test_a_token_changes_with_every_commit(store: Embedded) -> None:
    seen = {store.token()}
    for n in range(50):
        store.count({bytes(24) + n.to_bytes(8, "big"): 1})
        assert store.token() not in seen
        seen.add(store.token())


def test_a_token_changes_with_a_commit_of_another_process(store: Embedded) -> None:
    for _ in range(3):
        before = store.token()
        assert store.token() == before
        commit_elsewhere(store.database.path)
        assert store.token() != before


def test_reading_changes_nothing(store: Embedded) -> None:
    before = store.token()
    for _ in range(10):
        store.fetch(bytes(32))
    with closing(sqlite3.connect(store.database.path)) as c:
        c.execute("SELECT count(*) FROM calls").fetchone()
    assert store.token() == before


def test_a_checkpoint_does_not_hide_commits(store: Embedded) -> None:
    seen = set()
    for n in range(6):
        store.count({bytes(24) + n.to_bytes(8, "big"): 1})
        with closing(sqlite3.connect(store.database.path)) as c:
            c.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        seen.add(store.token())
    assert len(seen) == 6


def test_one_mapping_a_file_counted(tmp_path: Path) -> None:
    stores = [Embedded(tmp_path / "c") for _ in range(3)]
    (watch,) = {id(s.database._watch): s.database._watch for s in stores}.values()
    assert watch is not None
    assert watch._users == 3
    stores[0].close()
    assert watch._users == 2
    assert stores[1].token() is not None
    assert stores[0].words is None
    stores[0].database.open()
    assert watch._users == 3
    for one in stores:
        one.close()
    assert watch not in WalIndex._open.values()


def test_none_without_a_log(tmp_path: Path) -> None:
    store = Embedded(tmp_path / "c", network=True)
    assert store.words is None
    assert store.token() is None
    assert not (tmp_path / "c" / "index.sqlite-shm").exists()
    store.close()
    assert WalIndex.of(tmp_path / "nothing") is None


HOLDS = """
import fcntl, os, struct, sys
def locked(path, at):
    fd = os.open(path, os.O_RDWR)
    flock = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, at, 1, 0)
    kind = struct.unpack("hhqqi4x", fcntl.fcntl(fd, fcntl.F_GETLK, flock))[0]
    os.close(fd)
    return kind != fcntl.F_UNLCK
path = sys.argv[1]
if os.path.exists(path + "-shm"):
    print(locked(path, 0x40000002), locked(path + "-shm", 128))
else:
    print(locked(path, 0x40000002), False)
"""


def locks_held(path: Path) -> tuple[bool, bool]:
    """What another process finds: SQLite's shared lock on the file, and on the index of its log (the
    byte that says that somebody uses it; see SQLite's os_unix.c)."""
    if sys.platform != "linux":
        pytest.skip("struct flock is spelled for Linux here")
    run = subprocess.run(
        [sys.executable, "-c", HOLDS, str(path)], capture_output=True, text=True, check=True
    )
    one, other = (word == "True" for word in run.stdout.split())
    return one, other


def somebody_has_it_open(path: Path) -> bool:
    held = locks_held(path)
    assert held in ((True, True), (False, False)), held
    return held == (True, True)


def test_the_trap_is_there(tmp_path: Path) -> None:
    # That is what these tests would show if a mapping's descriptor were closed too early.
    store = Embedded(tmp_path / "c")
    assert locks_held(store.database.path) == (True, True)
    os.close(os.open(f"{store.database.path}-shm", os.O_RDONLY))
    assert locks_held(store.database.path) == (True, False)
    store.close()


def test_locks_outlive_other_caches_on_the_same_path(tmp_path: Path) -> None:
    # Closing any descriptor of a file drops the process's POSIX locks on it, SQLite's too.
    first = Embedded(tmp_path / "c")
    path = first.database.path
    assert somebody_has_it_open(path)
    for _ in range(3):
        other = Embedded(tmp_path / "c")
        other.fetch(bytes(32))
        other.close()
        assert somebody_has_it_open(path)
    first.database.open()  # closes and opens
    assert somebody_has_it_open(path)
    first.close()
    assert not somebody_has_it_open(path)


def test_locks_outlive_threads_that_open_and_close(tmp_path: Path) -> None:
    first = Embedded(tmp_path / "c")

    def work() -> None:
        for _ in range(10):
            other = Embedded(tmp_path / "c")
            other.count({bytes(32): 1})
            other.close()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert first.database._watch is not None
    assert first.database._watch._users == 1
    assert somebody_has_it_open(first.database.path)
    first.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_locks_outlive_forks(tmp_path: Path) -> None:
    first = Embedded(tmp_path / "c")
    for _ in range(3):
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                first.fetch(bytes(32))
                first.close()
                status = 0
            finally:
                os._exit(status)
        assert os.waitpid(pid, 0)[1] == 0
        first.fetch(bytes(32))
        assert somebody_has_it_open(first.database.path)
    first.close()
