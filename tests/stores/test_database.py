"""One SQLite file and this process's connection to it."""

import os
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from wellkept.errors import KeptWarning, StoreError
from wellkept.stores import sqlite_file as module
from wellkept.stores.sqlite_file import Database, is_damage, on_network


def schema(c: sqlite3.Connection) -> None:
    c.execute("CREATE TABLE IF NOT EXISTS t (id INTEGER PRIMARY KEY, x)")


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    made = Database(tmp_path / "x.sqlite", schema)
    made.open()
    yield made
    made.close()


def rows(database: Database) -> list[object]:
    return [row[0] for row in database.rows("SELECT x FROM t ORDER BY id")]


def add(database: Database, x: object) -> None:
    with database.writing() as c:
        c.execute("INSERT INTO t (x) VALUES (?)", (x,))


def fails(database: Database) -> None:
    with database.writing() as c:
        c.execute("INSERT INTO t (x) VALUES (2)")
        1 / 0


def test_a_transaction_is_whole(database: Database) -> None:
    add(database, 1)
    with pytest.raises(ZeroDivisionError):
        fails(database)
    assert rows(database) == [1]
    add(database, 3)
    assert rows(database) == [1, 3]


def test_it_opens_again_when_it_is_used(database: Database) -> None:
    add(database, 1)
    database.close()
    database.close()
    assert rows(database) == [1]


def test_threads_share_it(database: Database) -> None:
    threads = [
        threading.Thread(target=lambda n=n: [add(database, n) for _ in range(20)]) for n in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(rows(database)) == sorted(list(range(6)) * 20)


def test_words_are_told_of(database: Database) -> None:
    told = []
    database.changed = lambda: told.append(database.words is not None)
    database.close()
    database.open()
    assert told[-2:] == [False, True]


def test_steps(database: Database) -> None:
    add(database, 1)
    assert database.step is not None
    after = database.step.after
    assert database.step.before != after == database.token()
    with closing(sqlite3.connect(database.path)) as other:
        other.execute("INSERT INTO t (x) VALUES (2)")
        other.commit()
    assert database.token() != after


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_fork_inherits_no_connection(database: Database) -> None:
    add(database, 1)
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            assert database._connection is None
            add(database, 2)
            status = 0
        finally:
            os._exit(status)
    add(database, 3)
    assert os.waitpid(pid, 0)[1] == 0
    assert sorted(rows(database)) == [1, 2, 3]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_fork_while_threads_write(database: Database) -> None:
    stop = threading.Event()
    count = [0]

    def write() -> None:
        while not stop.is_set():
            add(database, "thread")
            count[0] += 1

    threads = [threading.Thread(target=write) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(5):
            pid = os.fork()
            if pid == 0:
                status = 1
                try:
                    add(database, "child")
                    status = 0
                finally:
                    os._exit(status)
            assert os.waitpid(pid, 0)[1] == 0
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    found = rows(database)
    assert (found.count("child"), found.count("thread")) == (5, count[0])


def test_a_replaced_file_is_noticed(database: Database, tmp_path: Path) -> None:
    assert not database.replaced()
    for path in tmp_path.iterdir():
        path.rename(path.with_suffix(path.suffix + ".old"))
    assert database.replaced()
    database.open()
    assert not database.replaced()
    add(database, 1)
    assert rows(database) == [1]


def test_a_damaged_file_is_set_aside(tmp_path: Path) -> None:
    path = tmp_path / "x.sqlite"
    path.write_bytes(b"no database at all" * 1000)
    database = Database(path, schema)
    with pytest.warns(KeptWarning, match=r"is damaged .* kept as x\.damaged-\d+\.sqlite"):
        database.open()
    (aside,) = tmp_path.glob("x.damaged-*.sqlite")
    assert aside.read_bytes() == b"no database at all" * 1000
    add(database, 1)
    assert rows(database) == [1]
    database.close()


def test_damage_met_by_a_statement(database: Database) -> None:
    add(database, 1)
    with pytest.warns(KeptWarning), pytest.raises(StoreError, match="can't read"):
        raise database.failed("read", sqlite3.DatabaseError("database disk image is malformed"))
    assert rows(database) == []


def test_another_process_set_it_aside_already(
    tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    one, two = (Database(tmp_path / "x.sqlite", schema) for _ in range(2))
    add(one, 1)
    add(two, 2)
    cause = sqlite3.DatabaseError("malformed")
    one.damaged(cause)
    add(one, 3)
    two.damaged(cause)
    assert rows(two) == [3]
    assert len([w for w in recwarn if w.category is KeptWarning]) == 1
    assert len(list(tmp_path.glob("*.damaged-*.sqlite"))) == 1
    one.close()
    two.close()


def test_the_log_goes_aside_with_its_file(database: Database, tmp_path: Path) -> None:
    add(database, 1)
    with closing(sqlite3.connect(database.path)) as other:  # keeps the log there
        other.execute("SELECT * FROM t").fetchall()
        with pytest.warns(KeptWarning):
            database.damaged(sqlite3.DatabaseError("malformed"))
    (aside,) = tmp_path.glob("x.damaged-*.sqlite")
    assert {path.name for path in tmp_path.iterdir()} <= {
        aside.name,
        f"{aside.name}-wal",
        f"{aside.name}-shm",
    }
    assert rows(database) == []


@pytest.mark.parametrize("network", [False, True])
def test_a_write_waits_for_another(tmp_path: Path, network: bool) -> None:
    database = Database(tmp_path / "x.sqlite", schema, network=network)
    database.open()
    other = sqlite3.connect(database.path, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")

    done = []

    def later() -> None:
        time.sleep(0.1)
        done.append("the other's")
        other.execute("COMMIT")

    thread = threading.Thread(target=later)
    thread.start()
    add(database, 1)
    assert done
    thread.join()
    other.close()
    database.close()


def test_a_write_gives_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_BUSY", 0.2)
    database = Database(tmp_path / "x.sqlite", schema)
    database.open()
    with closing(sqlite3.connect(database.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError, match="locked"):
            add(database, 1)
        assert rows(database) == []
        other.execute("ROLLBACK")
    add(database, 1)
    assert not list(tmp_path.glob("*damaged*"))
    database.close()


def test_a_network_file_system_has_a_rollback_journal(tmp_path: Path) -> None:
    database = Database(tmp_path / "x.sqlite", schema, network=True)
    add(database, 1)
    assert next(database.rows("PRAGMA journal_mode")) == ("delete",)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.sqlite"]
    database.close()


def test_an_index_moves_to_a_network_and_back(tmp_path: Path) -> None:
    for network, mode in ((False, "wal"), (True, "delete"), (False, "wal")):
        database = Database(tmp_path / "x.sqlite", schema, network=network)
        add(database, mode)
        assert next(database.rows("PRAGMA journal_mode")) == (mode,)
        database.close()
    database = Database(tmp_path / "x.sqlite", schema)
    assert rows(database) == ["wal", "delete", "wal"]
    database.close()


def test_durability(tmp_path: Path) -> None:
    for durable, level in ((False, 1), (True, 2)):
        database = Database(tmp_path / f"{level}.sqlite", schema, durable=durable)
        assert next(database.rows("PRAGMA synchronous")) == (level,)
        database.close()


@pytest.mark.parametrize(
    ("text", "damage"),
    [
        ("database disk image is malformed", True),
        ("file is not a database", True),
        ("no such table: calls", True),
        ("database is locked", False),
        ("database or disk is full", False),
        ("disk I/O error", False),
    ],
)
def test_what_is_damage(text: str, damage: bool) -> None:
    assert is_damage(sqlite3.OperationalError(text)) is damage


def test_where_file_systems_are_read_from() -> None:
    assert on_network(Path("/")) in (True, False)
    assert on_network(Path("/nowhere/at/all")) is False


FORK = """
import os, signal, sys, threading

go, inside = threading.Event(), threading.Event()

def hook():  # of somebody else; registered earlier, it runs later, just before the fork
    go.set()
    inside.wait(0.3)

os.register_at_fork(before=hook)

import wellkept

notes = wellkept.open("cache").backend.notes
notes.put("env/a", b"a")
database = notes._database

def write():
    go.wait(30)
    with database.writing() as c:
        inside.set()
        done.wait(5)

done = threading.Event()
thread = threading.Thread(target=write)
thread.start()
pid = os.fork()
if pid == 0:
    signal.alarm(20)
    notes.put("env/b", b"b")
    os._exit(0)
done.set()
thread.join()
assert os.waitpid(pid, 0)[1] == 0, "the child waited for a lock that nobody holds"
assert bytes(notes.get("env/b")) == b"b"
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_no_transaction_begins_while_a_fork_is_under_way() -> None:
    done = subprocess.run(
        [sys.executable, "-c", FORK], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
