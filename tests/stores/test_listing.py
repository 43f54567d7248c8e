"""What queries go by is what is kept: whoever wrote it, was killed at it, deleted it or moved files."""

from __future__ import annotations

import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from tests.stores import written

import wellkept
from wellkept.conditions import Query
from wellkept.stores import query_index
from wellkept.stores.query_index import CAPACITY, Ring

ROOT = Path(__file__).resolve().parents[2]


@wellkept.keep(name="listed.f", version=1)
def f(n: int, m: int = 0) -> int:
    return n


def fill(count: int, start: int = 0) -> None:
    for n in range(start, start + count):
        f(n, n % 3)


def agrees(cache: wellkept.Cache) -> int:
    """Nothing is missing from the tables, and nothing else is in them; how many calls there are."""
    place: Any = cache.backend
    found = {call.key for call in place.find(Query())}
    assert found == set(cache.calls.keys())
    assert place.found(Query()) == len(found)
    for m in range(3):
        listed_so = {match.key for match in f.query(m=m)}
        assert listed_so == {
            key
            for key in found
            if (call := cache.calls.get(key)) and call.arguments["m"].value == m
        }
        assert f.query(m=m).count() == len(listed_so)
    return len(found)


def rows(root: Path, query: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(root / "index.sqlite")) as c:
        return c.execute(query).fetchall()


@pytest.fixture(params=["process", "power", "network"])
def cache(home: Path, request: pytest.FixtureRequest) -> Any:
    options: dict[str, Any] = {
        "process": {},
        "power": {"durability": "power"},
        "network": {"network": True},
    }[request.param]
    with wellkept.open(home / "store", **options) as opened, wellkept.use(opened):
        yield opened


class TestUpkeep:
    def test_new_calls(self, cache: wellkept.Cache, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(query_index, "BATCH", 100)
        assert agrees(cache) == 0
        fill(5)
        assert agrees(cache) == 5
        fill(110)
        assert agrees(cache) == 110

    def test_replaced_and_deleted(self, cache: wellkept.Cache) -> None:
        fill(20)
        f.rerun(3, 0)
        f.forget(4, 1)
        assert agrees(cache) == 19
        f.rerun(5, 2), f.rerun(5, 2)
        f.forget(6, 0)
        cache.evict(keys=[f.key(7, 1), f.key(8, 2)])
        assert agrees(cache) == 16
        f.rerun(7, 1)
        assert agrees(cache) == 17

    def test_many_calls_of_one_commit(
        self, cache: wellkept.Cache, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(query_index, "MANY", 5)
        fill(1)
        for start in (0, 10, 30):
            # The first of them after one of a single call, which the tables lack.
            f.map(range(start, start + 20), [n % 3 for n in range(20)])
            fill(1, 100 + start)
        place: Any = cache.backend
        durability = "power" if place.database.durable else "process"
        another = type(place)(place.root, durability=durability, network=place.database.network)
        with wellkept.Cache(backend=another) as other, wellkept.use(other):
            f.map(range(60, 80), [n % 3 for n in range(20)])
        f.map([90, 91, 90], [0, 1, 0])
        assert f.query(90).count() == 1
        assert agrees(cache) == len(list(cache.calls.keys()))

    def test_a_commit_of_which_nothing_came(self, cache: wellkept.Cache) -> None:
        fill(3)
        place: Any = cache.backend

        def broken() -> None:
            with place.database.writing() as c:
                c.execute("DELETE FROM calls")
                place.listing.add(c, [12345])
                raise RuntimeError

        with pytest.raises(RuntimeError):
            broken()
        assert agrees(cache) == 3
        fill(3, 10)
        assert agrees(cache) == 6

    def test_a_commit_takes_in_a_batch(self, home: Path) -> None:
        with wellkept.open("store") as cache, wellkept.use(cache):
            fill(query_index.BATCH - 1)
            cache.close()
            assert rows(home / "store", "SELECT count(*) FROM listed") == [(0,)]
            fill(2, query_index.BATCH)
            cache.close()
            assert rows(home / "store", "SELECT count(*) FROM listed")[0][0] >= query_index.BATCH
            assert agrees(cache) == query_index.BATCH + 1

    def test_deleted_ones_leave_nothing_for_long(self, home: Path, monkeypatch: Any) -> None:
        monkeypatch.setattr(query_index, "_STALE", 50)
        with wellkept.open("store") as cache, wellkept.use(cache):
            for start in range(0, 400, 40):
                fill(40, start)
                agrees(cache)
                cache.evict("listed.f")
            cache.close()
            ((terms,),) = rows(home / "store", "SELECT count(*) FROM terms")
            assert terms < 300
            cache.gc()
            cache.close()
            assert rows(home / "store", "SELECT count(*) FROM terms") == [(0,)]

    def test_hits_are_hits_after_a_query(self, home: Path) -> None:
        with wellkept.open("store") as cache, wellkept.use(cache):
            fill(5)
            key = bytes.fromhex(f.key(1, 1))
            assert cache.fresh(key) is not None
            agrees(cache)
            assert cache.fresh(key) is not None, "the tier was emptied by a query of our own"


class TestOlder:
    def test_a_store_of_the_first_schema(self, home: Path) -> None:
        root = written.restored(1, home / "store")
        with wellkept.open(root) as cache, wellkept.use(cache):
            calls = list(written.calls())
            assert cache.query().count() == len(calls)
            for function, arguments in calls:
                assert function.query(*arguments).one().result == function.__wrapped__(*arguments)

    def test_a_scan_in_steps_while_others_write(self, home: Path, monkeypatch: Any) -> None:
        monkeypatch.setattr(query_index, "_STEP", 7)
        with wellkept.open("store") as cache, wellkept.use(cache):
            fill(60)
            place: Any = cache.backend
            with place.database.writing() as c:
                query_index.forget(c)
            step = type(place.listing)._step
            left = iter(range(4))

            def interrupted(self: Any, c: Any) -> bool:
                done: bool = step(self, c)
                at = next(left, None)
                if at is not None:  # between two steps, as far as the tables can tell
                    c.execute("DELETE FROM calls WHERE id IN (SELECT id FROM calls LIMIT 1)")
                return done

            monkeypatch.setattr(type(place.listing), "_step", interrupted)
            assert agrees(cache) == 56
            fill(10, 100)
            assert agrees(cache) == 66

    def test_a_scan_goes_on_where_it_was_killed(self, home: Path, monkeypatch: Any) -> None:
        monkeypatch.setattr(query_index, "_STEP", 7)
        with wellkept.open("store") as cache, wellkept.use(cache):
            fill(60)
            place: Any = cache.backend
            with place.database.writing() as c:
                query_index.forget(c)
            for _ in range(3):
                with place.database.writing() as c:
                    assert not place.listing._step(c)
            fill(5, 100)
            cache.close()
        with wellkept.open("store") as cache, wellkept.use(cache):
            assert agrees(cache) == 65


class TestFiles:
    def test_the_ring_is_removed(self, home: Path) -> None:
        with wellkept.open("store") as cache, wellkept.use(cache):
            fill(5)
            Path("store/pending").unlink()
            fill(5, 10)
            assert agrees(cache) == 10

    def test_the_ring_is_removed_while_a_query_was_current(self, home: Path) -> None:
        with wellkept.open("store") as cache, wellkept.use(cache):
            fill(5)
            agrees(cache)
            place: Any = cache.backend
            Path("store/pending").unlink()
            fill(5, 10)
            place.listing.look()
            assert agrees(cache) == 10

    @pytest.mark.parametrize("damage", [b"", b"x" * 100, bytes(64 + 8 * CAPACITY)])
    def test_the_ring_is_damaged(self, home: Path, damage: bytes) -> None:
        with wellkept.open("store") as cache, wellkept.use(cache):
            fill(5)
        Path("store/pending").write_bytes(damage)
        with wellkept.open("store") as cache, wellkept.use(cache):
            fill(5, 10)
            assert agrees(cache) == 10

    def test_more_than_the_ring_holds(self, home: Path, monkeypatch: Any) -> None:
        with wellkept.open("store") as cache, wellkept.use(cache):
            fill(3)
            agrees(cache)
            place: Any = cache.backend
            with place.database.writing() as c:
                for n in range(CAPACITY + 5):
                    place.listing._ring.add([n])
                    del n
                c.execute("SELECT 1")
            fill(3, 10)
            assert agrees(cache) == 6

    def test_an_older_index_is_put_back(self, home: Path) -> None:
        with wellkept.open("store") as cache, wellkept.use(cache):
            fill(5)
            agrees(cache)
        shutil.copytree("store", "backup")
        with wellkept.open("store") as cache, wellkept.use(cache):
            fill(20, 10)
            agrees(cache)
        shutil.copy("backup/index.sqlite", "store/index.sqlite")
        with wellkept.open("store") as cache, wellkept.use(cache):
            assert agrees(cache) == 5
            fill(3, 50)
            assert agrees(cache) == 8

    def test_an_older_ring_is_put_back(self, home: Path) -> None:
        with wellkept.open("store") as cache, wellkept.use(cache):
            fill(5)
            agrees(cache)
        shutil.copy("store/pending", "old")
        with wellkept.open("store") as cache, wellkept.use(cache):
            fill(20, 10)
            agrees(cache)
        shutil.copy("old", "store/pending")
        with wellkept.open("store") as cache, wellkept.use(cache):
            fill(3, 50)
            assert agrees(cache) == 28

    def test_the_whole_directory_is_removed(self, home: Path) -> None:
        with wellkept.open("store") as cache, wellkept.use(cache):
            fill(5)
            agrees(cache)
            shutil.rmtree("store")
            place: Any = cache.backend
            place._looked = 0.0  # as a second later
            fill(3, 50)
            assert agrees(cache) == 3

    def test_an_index_that_was_set_aside_and_salvaged(self, home: Path) -> None:
        with wellkept.open("store") as cache, wellkept.use(cache):
            fill(300)
            agrees(cache)
        index = Path("store/index.sqlite")
        content = bytearray(index.read_bytes())
        content[100:200] = bytes(100)
        index.write_bytes(content)
        with pytest.warns(wellkept.KeptWarning, match="is damaged"):
            cache = wellkept.open("store")
        with cache, wellkept.use(cache):
            assert agrees(cache) == 0
            fill(3, 1000)
            cache.verify(repair=True)
            assert agrees(cache) == 303

    def test_written_on_a_network_file_system_and_locally_in_turn(self, home: Path) -> None:
        for turn in range(4):
            with wellkept.open("store", network=bool(turn % 2)) as cache, wellkept.use(cache):
                fill(3, 10 * turn)
                if turn != 1:
                    assert agrees(cache) == 3 * (turn + 1)


WRITER = """if True:
    import os, random, signal, sys, threading, time
    import wellkept
    from tests.stores.test_listing import f
    start = int(sys.argv[1])
    def die():
        time.sleep(float(sys.argv[2]))
        os.kill(os.getpid(), signal.SIGKILL)
    if len(sys.argv) > 2:
        threading.Thread(target=die, daemon=True).start()
    with wellkept.open("store") as cache, wellkept.use(cache):
        for n in range(start, start + 500):
            f(n, n % 3)
            if n % 7 == 0:
                f.forget(n, n % 3)
            if n % 11 == 0:
                f.rerun(n, n % 3)
"""


def writer(*arguments: object) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    return subprocess.Popen([sys.executable, "-c", WRITER, *map(str, arguments)], env=environment)


def test_a_store_that_can_only_be_read(home: Path, monkeypatch: Any) -> None:
    with wellkept.open("store") as cache, wellkept.use(cache):
        fill(5)
        agrees(cache)
        place: Any = cache.backend
        monkeypatch.setattr(place.listing, "_step", None)
        monkeypatch.setattr(place.database, "readonly", True)
        assert place.found(Query()) == len(list(place.find(Query()))) == 5
        monkeypatch.setattr(place.database, "readonly", False)
        fill(3, 10)
        monkeypatch.setattr(place.database, "readonly", True)
        assert place.found(Query()) is None  # what was added last is not in the tables
        assert len(list(place.find(Query()))) == f.query().count() == 8


class TestOthers:
    def test_several_processes_write_while_one_asks(self, home: Path) -> None:
        running = [writer(10_000 * n) for n in range(1, 4)]
        with wellkept.open("store") as cache, wellkept.use(cache):
            while any(process.poll() is None for process in running):
                before = len(set(cache.calls.keys()))
                assert (
                    sum(1 for _ in f.query().calls()) >= before - 300
                )  # what they forget meanwhile
                fill(1, random.randrange(1000))
            assert [process.wait() for process in running] == [0, 0, 0]
            assert agrees(cache) > 3 * 400

    @pytest.mark.parametrize("after", [0.05, 0.15])
    def test_a_process_is_killed(self, home: Path, after: float) -> None:
        assert writer(0, after).wait() in (-signal.SIGKILL, 0)
        with wellkept.open("store") as cache, wellkept.use(cache):
            agrees(cache)
            fill(5, 90_000)
            agrees(cache)

    def test_threads(self, home: Path) -> None:
        with wellkept.open("store") as cache, wellkept.use(cache):
            failed: list[BaseException] = []

            def guarded(work: Callable[[], None]) -> None:
                try:
                    with wellkept.use(cache):
                        work()
                except BaseException as error:  # noqa: BLE001  it is reported
                    failed.append(error)

            def write(start: int) -> None:
                fill(300, start)

            def ask() -> None:
                for _ in range(30):
                    list(f.query(m=1))

            works: list[Callable[[], None]] = [lambda s=s: write(s) for s in (0, 1000, 2000)]  # type: ignore[misc]
            threads = [threading.Thread(target=guarded, args=(w,)) for w in (*works, ask, ask)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert not failed
            assert agrees(cache) == 900

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
    def test_a_forked_child(self, home: Path) -> None:
        with wellkept.open("store") as cache, wellkept.use(cache):
            fill(5)
            pid = os.fork()
            if pid == 0:
                try:
                    fill(5, 100)
                    cache.close()
                finally:
                    os._exit(0)
            assert os.waitpid(pid, 0)[1] == 0
            fill(5, 200)
            assert agrees(cache) == 15


class TestRing:
    def test_what_was_added(self, home: Path) -> None:
        one, two = Ring(home / "ring"), Ring(home / "ring")
        assert (one.count, list(one.since(0))) == (0, [])
        for n in range(-5, 5):
            one.add([n])
        assert list(two.since(0)) == list(range(-5, 5))
        assert list(two.since(8)) == [3, 4]
        assert one.identity == two.identity
        assert Ring.look(home / "ring") == (one.identity, 10)

    def test_over_and_over(self, home: Path) -> None:
        ring = Ring(home / "ring")
        for n in range(CAPACITY + 10):
            assert ring.add([n]) == n + 1
        assert list(ring.since(CAPACITY)) == list(range(CAPACITY, CAPACITY + 10))
        assert list(ring.since(10)) == list(range(10, CAPACITY + 10))

    def test_made_anew(self, home: Path) -> None:
        ring = Ring(home / "ring")
        assert not ring.gone()
        (home / "ring").unlink()
        assert ring.gone()
        again = Ring(home / "ring")
        assert again.identity != ring.identity
        assert ring.gone()
        assert not again.gone()

    def test_none(self, home: Path) -> None:
        assert Ring.look(home / "ring") is None
        (home / "ring").write_bytes(b"keptring")
        assert Ring.look(home / "ring") is None
