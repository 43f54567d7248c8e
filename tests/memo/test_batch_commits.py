"""Results that `map` has told nobody yet are written together, and never lost once they are told."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.faults.interrupting import interrupted, points

import wellkept
from wellkept.caches import core
from wellkept.errors import StoreError
from wellkept.memo import batch_commits
from wellkept.stores import embedded
from wellkept.stores.embedded import Embedded
from wellkept.stores.sqlite_file import Database

COMPUTED: list[int] = []


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[wellkept.Cache]:
    COMPUTED.clear()
    with wellkept.open(tmp_path / "c") as cache, wellkept.use(cache):
        yield cache


@wellkept.keep(version=1)
def square(n: int) -> int:
    COMPUTED.append(n)
    return n * n


def fresh() -> Any:
    """A function that has told of no trouble yet."""

    @wellkept.keep(version=1)
    def square(n: int) -> int:
        return n * n

    return square


def commits(cache: wellkept.Cache) -> int:
    """How many transactions there were."""
    token: Any = cache.token()
    return int(token[0])


def another(cache: wellkept.Cache) -> wellkept.Cache:
    """The same place as another process has it."""
    return wellkept.Cache(backend=Embedded(cache.backend.root or ""))


def leased(cache: wellkept.Cache) -> int:
    return len(cache.backend.locks._held)


def until(done: Any) -> bool:
    deadline = time.monotonic() + 30
    while not done():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return True


class TestWriting:
    def test_hundreds_in_one_transaction(
        self, cache: wellkept.Cache, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(batch_commits, "SOON", 60.0)
        monkeypatch.setattr(batch_commits.Batch, "write_late", lambda self: None)
        square(-1)
        before = commits(cache)
        assert square.map(range(300)) == [n * n for n in range(300)]
        assert commits(cache) - before <= 2
        assert leased(cache) == 0
        assert sorted(COMPUTED) == list(range(-1, 300))
        assert square.map(range(300)) == [n * n for n in range(300)]
        assert square.stats().computed >= 301
        assert len(COMPUTED) == 301
        assert cache.verify().ok

    def test_what_is_told_one_by_one_is_kept_one_by_one(self, cache: wellkept.Cache) -> None:
        with another(cache) as other:
            for n, result in enumerate(square.map(range(5), ordered=False)):
                assert result == n * n
                assert other.calls.get(square.key(n)) is not None

    def test_the_same_call_twice_is_computed_once(self, cache: wellkept.Cache) -> None:
        assert square.map([1, 2, 1, 2, 1]) == [1, 4, 1, 4, 1]
        assert COMPUTED == [1, 2]

    def test_another_thread_gets_what_waits(self, cache: wellkept.Cache) -> None:
        found: list[Any] = []

        @wellkept.keep(version=1)
        def asks(n: int) -> int:
            COMPUTED.append(n)
            if n == 2:
                thread = threading.Thread(target=lambda: found.append(asks(1)))
                thread.start()
                thread.join(30)
            return n

        assert asks.map([1, 2]) == [1, 2]
        assert found == [1]
        assert COMPUTED == [1, 2]

    def test_a_body_that_takes_long_leaves_nothing_unwritten(self, cache: wellkept.Cache) -> None:
        with another(cache) as other:

            @wellkept.keep(version=1)
            def slow(n: int) -> bool:
                first = slow.key(1)
                return n == 1 or until(lambda: other.find(first.raw) is not None)

            assert slow.map([1, 2]) == [True, True]

    def test_what_is_forgotten_in_a_body_stays_forgotten(self, cache: wellkept.Cache) -> None:
        @wellkept.keep(version=1)
        def forgets(n: int) -> int:
            if n == 2:
                assert forgets.forget(1)
            return n

        assert forgets.map([1, 2]) == [1, 2]
        assert not forgets.contains(1)
        assert forgets.contains(2)

    def test_a_large_result_is_kept_as_it_was(self, cache: wellkept.Cache) -> None:
        shared = np.zeros(20_000)

        @wellkept.keep(version=1)
        def fill(n: int) -> Any:
            shared[:] = n
            return shared

        fill.map([1, 2, 3])
        assert [fill.load(n)[0] for n in (1, 2, 3)] == [1.0, 2.0, 3.0]

    def test_a_call_inside_is_kept_at_once(self, cache: wellkept.Cache) -> None:
        with another(cache) as other:

            @wellkept.keep(version=1)
            def outer(n: int) -> bool:
                square(n)
                return other.find(square.key(n).raw) is not None

            assert outer.map([5, 6]) == [True, True]

    def test_of_a_cache_with_a_limit(self, tmp_path: Path) -> None:
        with wellkept.open(tmp_path / "c").limited(calls=10) as cache, wellkept.use(cache):
            square.map(range(100))
            assert cache.size().calls <= 10

    def test_a_sweep_fills_a_part_of_the_memory_tier_alone(
        self, cache: wellkept.Cache, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(core, "_FRESH", 100_000)
        square.map(range(1000))
        assert cache.tier.held <= 102_000
        assert square.rerun(999) == 999 * 999
        assert square.map(range(1000)) == [n * n for n in range(1000)]
        assert len(COMPUTED) == 1001

    def test_pages_of_the_index_are_let_go_of(
        self, cache: wellkept.Cache, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        shrunk = []
        monkeypatch.setattr(embedded, "_PAGES", 100)
        monkeypatch.setattr(Database, "shrink", lambda self: shrunk.append(self))
        square.map(range(350))
        assert 1 <= len(shrunk) <= 3


class TestTrouble:
    def test_an_error_of_a_body_leaves_the_others_kept(self, cache: wellkept.Cache) -> None:
        @wellkept.keep(version=1, errors=LookupError)
        def fails(n: int) -> int:
            if n == 3:
                raise LookupError(n)
            return n

        with pytest.raises(LookupError):
            fails.map(range(5))
        assert [fails.contains(n) for n in range(5)] == [True, True, True, True, False]
        assert leased(cache) == 0

    def test_an_interrupt_leaves_the_others_kept(self, cache: wellkept.Cache) -> None:
        @wellkept.keep(version=1)
        def stops(n: int) -> int:
            if n == 3:
                raise KeyboardInterrupt
            return n

        with pytest.raises(KeyboardInterrupt):
            stops.map(range(5))
        assert [stops.contains(n) for n in range(5)] == [True, True, True, False, False]
        assert leased(cache) == 0

    def test_what_can_not_be_written_is_returned(
        self, cache: wellkept.Cache, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        f, record = fresh(), Embedded.record

        def refuses(self: Embedded, items: Any, uses: Any = None) -> Any:
            if any(call.arguments["n"].value == 3 for call, _ in items):
                raise StoreError("no room for 3")
            return record(self, items, uses)

        monkeypatch.setattr(Embedded, "record", refuses)
        with pytest.warns(wellkept.KeptWarning, match="no room for 3"):
            assert f.map(range(6)) == [0, 1, 4, 9, 16, 25]
        assert [f.contains(n) for n in range(6)] == [True, True, True, False, True, True]
        assert leased(cache) == 0

    def test_a_strict_function_says_so(
        self, cache: wellkept.Cache, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        strict = wellkept.keep(version=1, strict=True)(abs_)

        def refuses(*_: Any) -> Any:
            raise StoreError("the disk is full")

        monkeypatch.setattr(Embedded, "record", refuses)
        with pytest.raises(StoreError, match="the disk is full"):
            strict.map([-1, -2])
        assert leased(cache) == 0


def abs_(n: int) -> int:
    return abs(n)


def crowd(cache: wellkept.Cache, f: Any, numbers: list[int]) -> list[Any]:
    """Have a thread for each number call a function, all of them at once."""
    results: list[Any] = [None] * len(numbers)
    backend: Any = cache.backend

    def work(at: int) -> None:
        try:
            with wellkept.use(cache):
                results[at] = f(numbers[at])
        except StoreError as error:
            results[at] = error

    threads = [threading.Thread(target=work, args=(at,)) for at in range(len(numbers))]
    with backend._turn:
        for thread in threads:
            thread.start()
        assert until(lambda: len(backend._queue) == len(numbers))
    for thread in threads:
        thread.join(30)
    return results


@wellkept.keep(version=1)
async def later(n: int) -> int:
    COMPUTED.append(n)
    await asyncio.sleep(0)
    if n < 0:
        raise LookupError(n)
    return n


class TestCoroutines:
    def test_hundreds_in_one_transaction(
        self, cache: wellkept.Cache, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(batch_commits, "SOON", 60.0)
        monkeypatch.setattr(batch_commits.Batch, "write_late", lambda self: None)
        asyncio.run(later(1000))
        before = commits(cache)
        numbers = [*range(200), 7, 7]
        assert asyncio.run(later.map(numbers)) == numbers
        assert commits(cache) - before <= 4
        assert sorted(COMPUTED) == [*range(200), 1000]
        assert asyncio.run(later.map(numbers)) == numbers
        assert len(COMPUTED) == 201
        assert leased(cache) == 0

    def test_a_task_that_outlives_its_map_is_kept(self, cache: wellkept.Cache) -> None:
        done = []

        @wellkept.keep(version=1)
        async def waits(n: int) -> int:
            if n == 1:
                raise LookupError(n)
            await gate.wait()
            done.append(n)
            return n

        async def main() -> None:
            global gate
            gate = asyncio.Event()
            with pytest.raises(LookupError):
                await waits.map([1, 2])
            gate.set()
            while not done or leased(cache):
                await asyncio.sleep(0.001)

        asyncio.run(main())
        assert cache.find(waits.key(2).raw) is not None


gate: asyncio.Event


class TestThreads:
    @pytest.mark.parametrize("durability", ["process", "power"])
    def test_one_commits_for_all_that_wait(self, tmp_path: Path, durability: str) -> None:
        with wellkept.open(tmp_path / "c", durability=durability) as cache, wellkept.use(cache):
            square(0)
            before = commits(cache)
            assert crowd(cache, square, [1, 2, 3, 4, 5]) == [1, 4, 9, 16, 25]
            assert commits(cache) - before == 1
            assert [square.load(n) for n in range(6)] == [0, 1, 4, 9, 16, 25]
            assert cache.verify().ok

    def test_what_one_can_not_write_does_not_hinder_the_others(
        self, cache: wellkept.Cache, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        f = fresh()
        f(0)
        record = Embedded._record

        def refuses(self: Embedded, items: Any, uses: Any = None) -> Any:
            if any(call.arguments["n"].value == 3 for call, _ in items):
                raise StoreError("no room for 3")
            return record(self, items, uses)

        monkeypatch.setattr(Embedded, "_record", refuses)
        with pytest.warns(wellkept.KeptWarning, match="no room for 3"):
            assert crowd(cache, f, [1, 2, 3, 4]) == [1, 4, 9, 16]
        assert [f.contains(n) for n in (1, 2, 3, 4)] == [True, True, False, True]
        assert leased(cache) == 0


KILLED = """
import os, signal, sys, wellkept
from wellkept.stores.sqlite_file import Writing
@wellkept.keep(name="killed", version=1)
def f(n):
    if where == "body" and n == 2500:
        os.kill(os.getpid(), signal.SIGKILL)
    return n
where = sys.argv[2]
if where == "transaction":
    leave, seen = Writing.__exit__, []
    def killed(self, *error):
        seen.append(self._connection.execute("SELECT count(*) FROM calls").fetchone()[0])
        if seen[-1] > 1200:
            os.kill(os.getpid(), signal.SIGKILL)
        leave(self, *error)
    Writing.__exit__ = killed
with wellkept.open(sys.argv[1], durability=sys.argv[3]) as cache, wellkept.use(cache):
    told = 0
    for start in range(0, 5000, 500):
        told += len(f.map(range(start, start + 500)))
        print(told, flush=True)
"""


@pytest.mark.parametrize(
    ("durability", "where"),
    [
        *(("process", "body"), ("power", "transaction")),
        pytest.param("process", "transaction", marks=pytest.mark.long),
        pytest.param("power", "body", marks=pytest.mark.long),
    ],
)
def test_a_killed_process_loses_nothing_that_it_was_told(
    tmp_path: Path, where: str, durability: str
) -> None:
    place = tmp_path / "c"
    command = [sys.executable, "-c", KILLED, str(place), where, durability]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    told = int(done.stdout.split()[-1])
    assert told >= 1000
    computed = []

    @wellkept.keep(name="killed", version=1)
    def f(n: int) -> int:
        computed.append(n)
        return n

    with wellkept.open(place, durability=durability) as cache, wellkept.use(cache):
        assert cache.verify().ok
        assert f.map(range(told)) == list(range(told))
        assert computed == []
        assert f.map(range(3000)) == list(range(3000))
        assert computed == sorted(set(computed))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="it forks")
def test_a_child_of_a_body_writes_nothing_of_its_parent_s(cache: wellkept.Cache) -> None:
    @wellkept.keep(version=1)
    def forks(n: int) -> int:
        if n == 3:
            child = os.fork()
            if not child:
                # What it would write at its end may be old by then.
                os._exit(len(cache.waiting))
            assert os.waitpid(child, 0)[1] == 0
        return n

    assert forks.map(range(5)) == list(range(5))
    assert all(forks.contains(n) for n in range(5))
    assert leased(cache) == 0


def test_what_is_asked_in_the_midst_of_the_writing_comes_to_an_end(
    cache: wellkept.Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    record, found = Embedded.record, []

    def handled(self: Embedded, items: Any, uses: Any = None) -> Any:
        # As a signal's handler may.
        monkeypatch.setattr(Embedded, "record", record)
        cache.flush()
        found.append(square(1))
        return record(self, items, uses)

    monkeypatch.setattr(Embedded, "record", handled)
    assert square.map([1, 2]) == [1, 4]
    assert found == [1]
    assert COMPUTED == [1, 2]
    assert [square.contains(n) for n in (1, 2)] == [True, True]
    assert leased(cache) == 0


def test_an_interrupt_before_the_writing_leaves_no_lease_held(
    cache: wellkept.Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    flush = batch_commits.Batch.flush

    def interrupted(self: batch_commits.Batch) -> None:
        monkeypatch.setattr(batch_commits.Batch, "flush", flush)
        raise KeyboardInterrupt

    monkeypatch.setattr(batch_commits.Batch, "flush", interrupted)
    with pytest.raises(KeyboardInterrupt):
        square.map([1, 2])
    assert leased(cache) == 0
    # Nor is it written over what another keeps since.
    with another(cache) as other:
        assert until(lambda: not cache.waiting)
        assert other.find(square.key(1).raw) is None
    assert square.map([1, 2]) == [1, 4]
    assert COMPUTED == [1, 2, 1, 2]


def test_an_interrupt_while_a_result_begins_to_wait_leaves_nothing_waiting(
    cache: wellkept.Cache,
) -> None:
    numbers = itertools.count(1)

    def make() -> None:
        square.map([next(numbers), next(numbers)])

    make()
    add = batch_commits.Batch.add.__code__
    for at in [at for at in points(make) if at[0] is add]:
        assert interrupted(make, at)
        assert until(lambda: not cache.waiting)
    assert leased(cache) == 0


def test_nothing_is_written_later_of_a_thread_that_was_interrupted(cache: wellkept.Cache) -> None:
    square(1)
    backend: Any = cache.backend

    class Interrupted(type(backend._turn)):  # type: ignore[misc]  # a lock
        def __enter__(self) -> bool:
            raise KeyboardInterrupt

    turn = Interrupted()
    held = threading.Thread(target=turn.acquire)
    held.start()
    held.join()
    backend._turn, before = turn, backend._turn
    with pytest.raises(KeyboardInterrupt):
        square.put(-1, 1)
    backend._turn = before
    square.forget(1)
    crowd(cache, square, [2, 3])
    assert not square.contains(1)


def test_results_of_one_call_share_no_transaction(cache: wellkept.Cache) -> None:
    # A tier has the one that is kept last, which is told of last then.
    square(1)
    before = commits(cache)
    crowd(cache, lambda n: square.put(n, 1), [5, 6, 7])
    assert commits(cache) - before == 3
    with another(cache) as other:
        entry = other.find(square.key(1).raw)
        assert entry is not None
        assert square(1) == other.value(square.key(1).raw, entry)
