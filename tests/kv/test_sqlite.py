"""Named state in a file beside the index: apart from it, readable, refused when it can't be trusted."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from tests.thorough import often

import wellkept
from wellkept.errors import NewerSchema, StoreError, UntrustedSource
from wellkept.kv import ExecutionStoreService, sqlite_state, sweeper
from wellkept.kv.sql_state import SqlEntries


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def store(place: Path) -> wellkept.kv.ExecutionStore:
    return wellkept.store("s", cache=wellkept.open(place))


def test_it_is_a_file_of_its_own(place: Path, store: wellkept.kv.ExecutionStore) -> None:
    @wellkept.keep
    def double(n: int) -> int:
        return 2 * n

    cache = wellkept.open(place)
    with wellkept.use(cache):
        double(1)
        words = cache.backend.token()
        for number in range(100):
            store["k"] = number
        assert cache.backend.token() == words, "state empties the memory tier of results"
    assert (place / "state.sqlite").stat().st_mode & 0o777 == 0o600


def test_sql_reads_what_is_json(place: Path, store: wellkept.kv.ExecutionStore) -> None:
    store["k"] = {"n": [1]}
    store["tuple"] = (1,)
    store.set("gone", 1, ttl=0.001)
    scoped = wellkept.store("s", "data", cache=wellkept.open(place))
    scoped["k"] = "é"
    time.sleep(0.01)
    with closing(sqlite3.connect(place / "state.sqlite")) as c:
        rows = c.execute("SELECT scope, store, key, value FROM state ORDER BY revision").fetchall()
    assert rows == [
        (None, "s", "k", '{"n":[1]}'),
        (None, "s", "tuple", None),
        ("data", "s", "k", '"é"'),
    ]


def test_a_newer_schema_is_refused_and_left_alone(
    place: Path, store: wellkept.kv.ExecutionStore
) -> None:
    store["k"] = 1
    store.service.entries.close()
    with closing(sqlite3.connect(place / "state.sqlite")) as c:
        c.execute("PRAGMA user_version = 99")
    with pytest.raises(NewerSchema, match="schema 99"):
        wellkept.store("s", cache=wellkept.open(place))
    with closing(sqlite3.connect(place / "state.sqlite")) as c:
        assert c.execute("SELECT count(*) FROM entries").fetchone() == (1,)


def test_another_s_database_is_refused(place: Path) -> None:
    place.mkdir(mode=0o700)
    with closing(sqlite3.connect(place / "state.sqlite")) as c:
        c.execute("CREATE TABLE precious (x)")
    (place / "state.sqlite").chmod(0o600)
    with pytest.raises(StoreError, match="not one of named state"):
        wellkept.store("s", cache=wellkept.open(place))
    with closing(sqlite3.connect(place / "state.sqlite")) as c:
        assert c.execute("SELECT name FROM sqlite_master").fetchall() == [("precious",)]


def test_a_file_that_others_can_write_to_is_refused(place: Path) -> None:
    with wellkept.open(place) as cache:
        wellkept.store("s", cache=cache)["k"] = 1
    (place / "state.sqlite").chmod(0o666)
    with wellkept.open(place) as cache, pytest.raises(UntrustedSource, match=r"state\.sqlite"):
        wellkept.store("s", cache=cache)
    with wellkept.open(place, trust=True) as trusting:
        assert wellkept.store("s", cache=trusting)["k"] == 1


def test_a_damaged_file_is_an_error_and_stays_where_it_is(
    place: Path, store: wellkept.kv.ExecutionStore
) -> None:
    store.update({str(n): "x" * 500 for n in range(500)})
    store.service.entries.close()
    file = place / "state.sqlite"
    content = bytearray(file.read_bytes())
    content[4096:] = b"\xff" * (len(content) - 4096)  # no page begins so
    file.write_bytes(content)
    with pytest.raises(StoreError, match=r"malformed|damaged"):
        wellkept.store("s", cache=wellkept.open(place)).get("1")
    assert file.read_bytes() == content
    assert [path.name for path in place.glob("state*damaged*")] == []


def test_a_closed_store_is_not_opened_again_to_remove_what_expired(
    place: Path, store: wellkept.kv.ExecutionStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweeper, "_LOOK", 0.01)
    sweeper._swept.clear()  # what other tests left
    store.set("k", 1, ttl=0.001)
    assert store.service.entries in sweeper._swept
    store.service.entries.close()
    deadline = time.monotonic() + 60
    while sweeper._sweeps._thread is not None:  # it ends when there is nothing left to look at
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert [path.name for path in place.glob("state.sqlite*")] == ["state.sqlite"]
    assert store.get("k") is None


def test_it_works_in_a_forked_child(place: Path, store: wellkept.kv.ExecutionStore) -> None:
    store["k"] = 1
    store.set("t", 1, ttl=100)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            code = 0 if store.increment("k") == 2 else 2
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0
    assert store["k"] == 2
    assert store.increment("k") == 3


def test_what_another_process_writes_is_seen_at_once(
    place: Path, store: wellkept.kv.ExecutionStore
) -> None:
    store["k"] = 0
    source = "import sys, wellkept\nstore = wellkept.store('s', cache=sys.argv[1])\n"
    source += "for line in sys.stdin:\n    store['k'] = int(line)\n    print(flush=True)\n"
    with subprocess.Popen(
        [sys.executable, "-c", source, str(place)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as other:
        assert other.stdin is not None
        assert other.stdout is not None
        for number in range(1, 30):
            assert store["k"] == number - 1
            other.stdin.write(f"{number}\n")
            other.stdin.flush()
            other.stdout.readline()
            assert store["k"] == number
            assert store["k"] == number, "from memory"


def test_threads_read_no_older_value_than_they_wrote(store: wellkept.kv.ExecutionStore) -> None:
    wrong: list[Any] = []

    def use(name: str) -> None:
        for number in range(300):
            store[name] = number
            if store[name] != number:
                wrong.append((name, number))

    threads = [threading.Thread(target=use, args=(f"k{n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_killed_at_each_statement_of_a_change(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever statement a process dies before, a change is whole or not there."""
    dies_at = -1

    class Session(sqlite_state._Session):
        def rows(self, *args: Any) -> Any:
            self.step()
            return super().rows(*args)

        def run(self, *args: Any) -> Any:
            self.step()
            return super().run(*args)

        def many(self, *args: Any) -> None:
            self.step()
            super().many(*args)

        def step(self) -> None:
            nonlocal dies_at
            if dies_at == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            dies_at -= 1

    monkeypatch.setattr(sqlite_state, "_Session", Session)
    outcomes = []
    for at in range(12):
        cache = wellkept.open(place / str(at))
        ExecutionStoreService(cache=cache).create_store("s", max_keys=3)
        store = wellkept.store("s", cache=cache)
        store.update({"a": 1, "b": 1, "c": 1})
        store.set("c", 2, policy="evict")
        before = store.revision
        child = os.fork()
        if child == 0:
            dies_at = at
            try:
                wellkept.store("s", cache=wellkept.open(place / str(at))).update(
                    {"a": 2, "b": 2, "new": 2}
                )
            finally:
                os._exit(0)
        whole = os.waitpid(child, 0)[1] == 0
        expected = {"a": 2, "b": 2, "new": 2} if whole else {"a": 1, "b": 1, "c": 2}
        assert dict(store.items()) == expected
        told = [(change.key, change.value) for change in store.watch(since=before, timeout=0)]
        assert told == ([*expected.items(), ("c", None)] if whole else [])
        outcomes.append(whole)
        if whole:
            break
    assert outcomes[-1]
    assert outcomes.count(False) >= 6


@pytest.mark.long
def test_a_sweep_does_not_hold_up_readers(store: wellkept.kv.ExecutionStore) -> None:
    store["k"] = 1
    for begin in range(0, often(30_000, 100_000), 5000):
        store.update({f"t{n}": n for n in range(begin, begin + 5000)}, ttl=3600)
    store.service.entries.ahead += 7200
    sweeper = threading.Thread(target=store.sweep)  # beside the one in the background
    sweeper.start()
    waits = []
    while sweeper.is_alive():
        begun = time.perf_counter()
        assert store["k"] == 1
        waits.append(time.perf_counter() - begun)
        time.sleep(0.0005)
    sweeper.join()
    print(f"{len(waits)} reads, the slowest {max(waits) * 1e3:.1f} ms")
    assert isinstance(store.service.entries, SqlEntries)
    assert len(store) == 1
