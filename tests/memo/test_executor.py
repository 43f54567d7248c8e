"""`wellkept.executor`, `submit` and `map` over threads and processes: what is sent, kept and joined."""

import asyncio
import multiprocessing
import os
import pickle
import signal
import threading
import time
import warnings
from collections.abc import Iterator
from concurrent.futures import (
    CancelledError,
    Executor,
    Future,
    ProcessPoolExecutor,
    ThreadPoolExecutor,
    as_completed,
    wait,
)
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import wellkept
from wellkept import Cache, ConfigError, Digest, Stack, keep
from wellkept.caches import transport
from wellkept.stores import Files, Memory

HOWS = ["threads", "fork", "spawn"]


def pool_of(how: str, workers: int = 2) -> Executor:
    if how == "threads":
        return ThreadPoolExecutor(workers)
    return ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context(how))


@pytest.fixture(params=HOWS)
def pool(request: pytest.FixtureRequest) -> Iterator[Executor]:
    # Each spawned worker imports all of this anew.
    with pool_of(request.param, 1 if request.param == "spawn" else 2) as made:
        yield made


# What a worker is sent and sends does not depend on how it began.
pools = pytest.mark.parametrize(
    "pool",
    ["threads", "fork", pytest.param("spawn", marks=pytest.mark.long)],
    indirect=True,
)


@pytest.fixture
def forked() -> Iterator[Executor]:
    with pool_of("fork") as made:
        yield made


def ran(what: Any = "") -> None:
    """Note a run of a body, whichever process it is in."""
    with Path("ran").open("a") as file:
        file.write(f"{what}\n")


def runs() -> list[str]:
    return Path("ran").read_text().split() if Path("ran").exists() else []


def until(held: Any) -> None:
    end = time.monotonic() + 30
    while not held():
        assert time.monotonic() < end
        time.sleep(0.002)


@keep
def triple(x: Any, by: int = 3) -> tuple[Any, int]:
    ran(x)
    return x * by, os.getpid()


@keep
def gated(x: int) -> list[int]:
    ran(x)
    until(Path("go").exists)
    return [x]


@keep
def array(n: int) -> np.ndarray[Any, Any]:
    ran(n)
    return np.full(100_000, n)


@keep(errors=ValueError)
def fails(x: int) -> int:
    ran(x)
    raise ValueError(x) from KeyError("cause")


@keep(errors=ValueError)
def fails_plainly(x: int) -> int:
    ran(x)
    raise TypeError(x)


@keep
async def later(x: int) -> int:
    ran(x)
    await asyncio.sleep(0)
    return x + 1


@keep
def counted(n: int) -> Iterator[int]:
    ran(n)
    yield from range(n)


@keep
def nested(x: int) -> int:
    ran(f"outer{x}")
    return inner(x) + 1


@keep
def inner(x: int) -> int:
    ran(f"inner{x}")
    return x * 10


@keep(when=lambda result: result > 2)
def choosy(x: int) -> int:
    ran(x)
    return x


@keep
def dies(x: int) -> int:
    ran(x)
    if x == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return x


@keep(ignore="parts")
def of_array(a: np.ndarray[Any, Any], parts: int = 1) -> float:
    ran("array")
    return float(a.sum())


class Grid:
    def __init__(self, n: int) -> None:
        self.n = n

    def __digest__(self) -> int:
        return self.n

    @keep
    def cell(self, i: int) -> int:
        ran(i)
        return self.n * i

    @keep
    @classmethod
    def of(cls, n: int) -> str:
        ran(n)
        return f"{cls.__name__}{n}"


def plain(x: int, y: int = 0) -> int:
    return x + y


# -- the same promises everywhere -----------------------------------------------------------------


@pools
def test_only_misses_are_sent_and_equal_calls_once(pool: Executor) -> None:
    mine = triple(0)
    with wellkept.executor(pool) as executor:
        futures = [executor.submit(triple, i % 3) for i in range(9)]
        assert [future.result() for future in futures[::3]] == [mine] * 3
        assert futures[1].result() == futures[4].result() == (3, futures[1].result()[1])
        if isinstance(pool, ProcessPoolExecutor):
            assert futures[1].result()[1] != os.getpid()
    assert triple(1) == futures[1].result()  # from the cache, which the worker wrote
    assert sorted(runs()) == ["0", "1", "2"]
    assert triple.call(1).metadata["env"]


@pools
def test_map(pool: Executor) -> None:
    wellkept.executor(pool).submit(triple, 1).result()
    found = triple.map(range(4), executor=pool)
    assert [value for value, _ in found] == [0, 3, 6, 9]
    assert triple.map(range(4), executor=pool) == found
    assert triple.map([1, 2], [5, 6], executor=pool)[1][0] == 12
    assert sorted(runs()) == ["0", "1", "1", "2", "2", "3"]
    assert {value for value, _ in triple.map(range(5), executor=pool, ordered=False)} == {
        *range(0, 15, 3)
    }
    assert [value for value, _ in wellkept.executor(pool).map(triple, range(3))] == [0, 3, 6]


@pools
def test_a_large_result_is_read_from_the_cache(pool: Executor) -> None:
    future = array.submit(pool, 7)
    found = future.result()
    assert found.sum() == 700_000
    found[:] = 0  # one's own
    assert array.submit(pool, 7).result().sum() == 700_000
    assert runs() == ["7"]


def test_every_kind_of_function(pool: Executor) -> None:
    grid = Grid(4)
    assert later.submit(pool, 1).result() == 2
    assert list(counted.submit(pool, 3).result()) == [0, 1, 2]
    assert grid.cell.submit(pool, 3).result() == 12
    assert grid.cell.map([3, 5], executor=pool) == [12, 20]
    assert Grid.of.submit(pool, 1).result() == "Grid1"
    assert sorted(runs()) == ["1", "1", "3", "3", "5"]

    async def main() -> list[int]:
        return await later.map([1, 2], executor=pool)

    assert asyncio.run(main()) == [2, 3]
    assert list(counted(3)) == [0, 1, 2]
    assert (grid.cell(5), Grid.of(1)) == (20, "Grid1")
    assert sorted(runs()) == ["1", "1", "2", "3", "3", "5"]


@pools
def test_failures(pool: Executor) -> None:
    with pytest.raises(ValueError, match="5") as caught:
        fails.submit(pool, 5).result()
    assert caught.value.__cause__ is not None
    with pytest.raises(ValueError, match="5") as caught:
        fails(5)
    assert isinstance(caught.value.__cause__, KeyError)
    future = fails.submit(pool, 5)
    assert future.done()
    assert isinstance(future.exception(), ValueError)
    assert runs() == ["5"]
    for _ in range(2):
        with pytest.raises(TypeError):
            fails_plainly.submit(pool, 5).result()
    assert runs() == ["5"] * 3
    with pytest.raises(ValueError, match="1"):
        fails.map([1], executor=pool)
    assert [type(f.exception()) for f in wellkept.executor(pool).send_all(fails, [(1,)], {})] == [
        ValueError
    ]


@pools
def test_functions_that_are_not_kept(pool: Executor) -> None:
    with wellkept.executor(pool) as executor:
        assert executor.submit(plain, 1, y=2).result() == 3
        assert list(executor.map(plain, [1, 2], [3, 4], chunksize=2)) == [4, 6]
        assert executor.submit(triple.bind(2)).result()[0] == 6


def reaching(x: int) -> int:
    return triple(x)[0]


def test_the_active_cache_and_run_go_with_a_plain_function(pool: Executor) -> None:
    pool.submit(reaching, 0).result()  # threads that were started outside
    with wellkept.executor(pool) as executor, wellkept.use("./active"), wellkept.run() as run:
        assert executor.submit(reaching, 2).result() == 6
        assert list(executor.map(reaching, [3])) == [9]
        assert triple.contains(2)
        assert triple.contains(3)
        bound = wellkept.open("other").bind(reaching)
        assert executor.submit(bound, 4).result() == 12
        assert not triple.contains(4)
    assert not any(map(triple.contains, (2, 3)))
    assert [event.outcome for event in run.events()] == ["computed"] * 3


@pytest.mark.parametrize("how", ["memory", "stores"])
def test_a_cache_that_no_worker_reaches_is_written_by_the_caller(pool: Executor, how: str) -> None:
    cache = wellkept.open("memory:") if how == "memory" else Cache(store := Memory(), store)
    with wellkept.use(cache):
        assert triple.submit(pool, 2).result()[0] == 6
        assert array.submit(pool, 2).result()[0] == 2
        assert nested.submit(pool, 2).result() == 21
        with pytest.raises(ValueError, match="4"):
            fails.submit(pool, 4).result()
        assert choosy.map([1, 3], executor=pool) == [1, 3]
        before = runs()
        assert triple(2)[0] == 6
        assert array(2)[0] == 2
        assert nested(2) == 21
        with pytest.raises(ValueError, match="4") as caught:
            fails(4)
        assert isinstance(caught.value.__cause__, KeyError)
        assert choosy.contains(3)
        assert not choosy.contains(1)
        assert runs() == before
        call = triple.call(2)
        assert call.metadata["env"]
        assert call.arguments["x"].value == 2
        assert cache.backend.notes.get(f"env/{call.metadata['env']}")
    assert not Path("cache").exists()  # nor is anything written to the default one


def test_shared_over_a_stack_and_mixed_stores(forked: Executor) -> None:
    for cache in (
        Stack(wellkept.open("memory:"), wellkept.open("far")),
        Cache(values=Files("values"), calls=Files("calls")),
        wellkept.open("limited").limited("1 MB"),
        wellkept.open("filtered").filtered(lambda call: True),
    ):
        with wellkept.use(cache):
            value = triple.submit(forked, 2).result()
            assert value[1] != os.getpid()
            assert triple(2) == value
            found = array.submit(forked, 3).result()
            assert (found == 3).all()
            assert (array(3) == 3).all()
        assert runs() == ["2", "3"]
        Path("ran").unlink()
    assert wellkept.open("far").calls.get(triple.key(2)) is not None


def test_a_function_with_a_cache_of_its_own(forked: Executor) -> None:
    own = keep(cache=wellkept.open("own"), name="own")(plain)
    with wellkept.use("./active"):
        assert own.submit(forked, 1).result() == 1
        assert nested.submit(forked, 1).result() == 11
    assert len(list(wellkept.open("own").calls.keys())) == 1
    assert len(list(wellkept.open("active").calls.keys())) == 2


# -- futures --------------------------------------------------------------------------------------


def test_waiting_and_as_completed(forked: Executor) -> None:
    triple(1)
    with wellkept.executor(forked) as executor:
        futures = [executor.submit(gated, 1), executor.submit(triple, 1)]
        done, pending = wait(futures, return_when="FIRST_COMPLETED")
        assert (done, pending) == ({futures[1]}, {futures[0]})
        until(runs)
        assert not futures[0].done()
        with pytest.raises(TimeoutError):
            futures[0].result(0.01)
        Path("go").touch()
        assert set(as_completed(futures, timeout=30)) == set(futures)


def test_values_of_joined_futures_are_apart(forked: Executor) -> None:
    with wellkept.executor(forked) as executor:
        futures = [executor.submit(gated, 1) for _ in range(3)]
        Path("go").touch()
        first, second, third = (future.result() for future in futures)
        first.append(2)
        assert (second, third) == ([1], [1])
        assert futures[0].result() is first
        assert len(runs()) <= 2


def test_cancelling_one_of_equal_calls(forked: Executor) -> None:
    pool = ThreadPoolExecutor(1)
    with wellkept.executor(pool) as executor:
        busy = executor.submit(gated, 1)
        until(runs)
        one, other, alone = (executor.submit(triple, x) for x in (2, 2, 3))
        assert one.cancel()
        assert one.cancelled()
        assert not other.cancelled()
        assert alone.cancel()
        assert alone.cancelled()
        assert not busy.cancel()
        with pytest.raises(CancelledError):
            one.result()
        again = executor.submit(triple, 3)  # not the one that was cancelled
        Path("go").touch()
        assert other.result()[0] == 6
        assert again.result()[0] == 9
        assert {one, alone} <= set(wait([one, alone, other]).done)


def test_the_rest_of_a_map_is_cancelled_when_one_fails() -> None:
    pool = ThreadPoolExecutor(1)
    with pytest.raises(TypeError):
        fails_plainly.map(range(50), executor=pool)
    pool.shutdown()
    assert len(runs()) < 50


def test_the_shut_down(forked: Executor) -> None:
    executor = wellkept.executor(forked)
    triple(1)
    executor.shutdown()
    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.submit(triple, 1)
    with pytest.raises(RuntimeError):
        forked.submit(plain, 1)
    with pytest.raises(RuntimeError):
        triple.submit(forked, 99)
    assert triple.submit(forked, 1).result()[0] == 3  # kept: nobody is asked


def test_the_end_of_the_block_waits_for_calls_that_wait() -> None:
    with wellkept.executor(ThreadPoolExecutor(1)) as executor:
        one = executor.submit(gated, 1)
        two = executor.submit(counted_of, executor.submit(counted_of, one))
        until(runs)
        threading.Timer(0.05, Path("go").touch).start()
    assert two.done()
    assert two.result() == 1


@keep
def counted_of(found: Any) -> int:
    return found if isinstance(found, int) else len(found)


def test_shut_down_with_futures_cancelled() -> None:
    executor = wellkept.executor(ThreadPoolExecutor(1))
    busy = executor.submit(gated, 1)
    until(runs)
    waiting = executor.submit(triple, 5)
    executor.shutdown(wait=False, cancel_futures=True)
    assert waiting.cancelled()
    Path("go").touch()
    assert busy.result() == [1]


def test_a_map_with_a_timeout(forked: Executor) -> None:
    found = wellkept.executor(forked).map(gated, [1], timeout=0.05)
    with pytest.raises(TimeoutError):
        next(found)
    Path("go").touch()


def test_what_is_no_executor() -> None:
    for wrong in (3, ThreadPoolExecutor, print):
        with pytest.raises(ConfigError, match=r"wellkept\.executor takes an executor"):
            wellkept.executor(wrong)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="missing"):
        wellkept.executor(ThreadPoolExecutor(1)).submit(plain_kept)


plain_kept = keep(name="plain")(plain)


@pools
def test_arguments_that_are_futures(pool: Executor) -> None:
    with wellkept.use("./here"):
        one = inner.submit(pool, 1)
        two = nested.submit(pool, one)
        assert two.result(30) == 101
        assert nested.submit(pool, inner.submit(pool, 1)).result(30) == 101
        plain_future = pool.submit(plain, 2, 3)
        assert inner.map([plain_future, 6], executor=pool) == [50, 60]
        failed = nested.submit(pool, fails.submit(pool, 3))
        with pytest.raises(ValueError, match="3"):
            failed.result(30)
        waiting: Future[int] = Future()
        cancelled, broken = inner.submit(pool, waiting), nested.submit(pool, waiting)
        assert cancelled.cancel()
        waiting.cancel()
        waiting.set_running_or_notify_cancel()
        with pytest.raises(CancelledError):
            broken.result(30)
    before = runs()
    with wellkept.use("./here"):
        assert (inner(1), nested(10), inner(5)) == (10, 101, 50)
    assert runs() == before
    assert len(before) == len(set(before)) == 6


# -- what is sent ---------------------------------------------------------------------------------


class Telling(ThreadPoolExecutor):
    """Takes keywords of its own, as executorlib does, and pickles, as processes do."""

    def __init__(self) -> None:
        super().__init__(2)
        self.told: list[Any] = []
        self.sent: list[int] = []

    def submit(  # type: ignore[override]
        self, fn: Any, /, *args: Any, resource_dict: Any = None, by: int = 0, **kwargs: Any
    ) -> Future[Any]:
        self.told.append((resource_dict, by))
        data = pickle.dumps((fn, args, kwargs))
        self.sent.append(len(data))
        return super().submit(self.run, data)

    def run(self, data: bytes) -> Any:
        fn, args, kwargs = pickle.loads(data)
        return fn(*args, **kwargs)


def test_keywords_of_the_inner_executor() -> None:
    inner = Telling()
    with wellkept.executor(inner, resource_dict={"cores": 2}) as executor:
        first = executor.submit(triple, 1, resource_dict={"cores": 4})
        # `by` is one of the function's: it is not taken from it.
        assert executor.submit(triple, 1, by=2).result()[0] == 2
        assert first.result()[0] == 3
        assert [value for value, _ in executor.map(triple, [5, 6], by=9)] == [15, 18]
        assert executor.submit(plain, 1).result() == 1
    assert inner.told == [
        ({"cores": 4}, 0),
        ({"cores": 2}, 0),
        ({"cores": 2}, 9),
        ({"cores": 2}, 9),
        ({"cores": 2}, 0),
    ]


def test_what_is_sent_is_small_and_hashed_once() -> None:
    inner = Telling()
    big = np.arange(1_000_000)
    array(4)
    with wellkept.executor(inner) as executor:
        digest = array.call(4).result
        assert of_array.submit(executor, digest).result() == 400_000.0
        assert executor.submit(of_array, digest, parts=2).done()
        assert inner.sent[0] < 5_000  # a digest travels, not what it names
        assert of_array.submit(executor, big).result() == float(big.sum())
    assert type(digest) is Digest


def test_a_digest_where_the_worker_reaches_no_cache(forked: Executor) -> None:
    with wellkept.use("memory:"):
        array(4)
        digest = array.call(4).result
        assert of_array.submit(forked, digest).result() == 400_000.0  # type: ignore[arg-type]
        assert of_array.submit(forked, array(4)).done()
        with pytest.raises(wellkept.NotKept):
            of_array.submit(forked, Digest("ab" * 32)).result()  # type: ignore[arg-type]


def test_look_ups_are_batched(forked: Executor, monkeypatch: pytest.MonkeyPatch) -> None:
    with wellkept.open("files:many") as cache, wellkept.use(cache):
        triple.map(range(10))
        Path("ran").unlink()
        asked: list[int] = []
        place: Any = cache.backend
        fetch_many = place.fetch_many
        monkeypatch.setattr(
            place, "fetch_many", lambda keys: asked.append(len(keys)) or fetch_many(keys)
        )
        monkeypatch.setattr(place, "fetch", None)
        assert len(triple.map(range(10), executor=forked)) == 10
        assert asked == [10]
        assert runs() == []


def test_an_argument_without_an_identity(forked: Executor) -> None:
    strict = keep(name="strict", version=1, strict=True)(plain)
    before = triple.stats().undigestible
    with pytest.warns(wellkept.KeptWarning, match="computed, not kept"):
        assert len(triple.submit(forked, [object()]).result()[0]) == 3
    assert triple.stats().undigestible == before + 1
    with pytest.raises(wellkept.Undigestible):
        strict.submit(forked, object()).result()  # type: ignore[arg-type]
    with pytest.raises((TypeError, AttributeError)):  # what has no pickle: as of any executor
        triple.submit(forked, threading.Lock()).result()


def test_a_worker_that_can_t_open_the_cache(forked: Executor) -> None:
    cache = wellkept.open("blocked")
    transport._packed[cache] = b"no pickle"
    with wellkept.use(cache):
        before = triple.stats().unavailable
        with pytest.warns(wellkept.KeptWarning, match="computed without the cache"):
            assert triple.submit(forked, 2).result()[0] == 6
        assert triple.contains(2)  # so the caller keeps it
        assert triple.stats().unavailable > before


def test_a_worker_whose_cache_is_another(forked: Executor) -> None:
    """As where a path is not shared between hosts: told once, and from then on values travel."""
    cache = wellkept.open("mine")
    transport._packed[cache] = transport.pack(wellkept.open("theirs"))
    with wellkept.use(cache), wellkept.executor(forked) as executor:
        with pytest.warns(wellkept.KeptWarning, match="what a worker kept is not in"):
            assert (executor.submit(array, 1).result() == 1).all()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert (executor.submit(array, 2).result() == 2).all()
        assert array.contains(1)
        assert array.contains(2)
    assert runs() == ["1", "2"]


def test_a_bar(forked: Executor, capsys: pytest.CaptureFixture[str]) -> None:
    triple.map(range(3), executor=forked, progress=True)
    assert list(triple.map(range(3), executor=forked, progress=True, ordered=False))
    assert "3 of 3" in capsys.readouterr().err


def test_stats_count_what_workers_did(forked: Executor) -> None:
    before = triple.stats().computed
    triple.map(range(4), executor=forked)
    triple.map(range(4), executor=forked)
    assert triple.stats().computed == before + 4


# -- workers that die -----------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_killed_worker_loses_nothing_that_was_kept() -> None:
    with pytest.raises(BrokenProcessPool), pool_of("spawn", 1) as pool:
        dies.map([1, 2, 3, 4], executor=pool)
    assert (dies.contains(1), dies.contains(2), dies.contains(3)) == (True, True, False)
    Path("ran").unlink()
    with pool_of("fork", 1) as pool:
        assert dies.map([1, 2, 4], executor=pool) == [1, 2, 4]
    assert runs() == ["4"]


def test_a_pool_inside_a_kept_function(forked: Executor) -> None:
    pool = ThreadPoolExecutor(2)

    @keep(version=1, name="sums")
    def sums(n: int) -> int:
        return sum(inner.submit(pool, i).result() for i in range(n))

    assert sums(3) == 30
    with wellkept.run("r") as run:
        sums(2)
    parents = {e.parent for e in run.events() if e.function.endswith(":inner")}
    assert parents <= {str(sums.key(2))}


# -- futures that functions return ----------------------------------------------------------------


def test_a_future_is_kept_when_it_is_done() -> None:
    pool, gate = ThreadPoolExecutor(2), threading.Event()

    def work(x: int) -> list[int]:
        gate.wait(30)
        ran(x)
        return [x]

    @keep(version=1, name="start", when=lambda found: found != [3])
    def start(x: int) -> Future[list[int]]:
        return pool.submit(work, x)

    first, second = start(1), start(1)  # one computation
    assert not start.contains(1)
    gate.set()
    assert first.result(30) == second.result(30) == [1]
    first.result().append(2)
    assert second.result() == [1]
    until(lambda: start.contains(1))
    assert start(1).done()
    assert start(1).result() == [1]
    assert start.load(1).result() == [1]
    assert start.call(1).seconds > 0
    assert start(3).result() == [3]
    assert runs() == ["1", "3"]
    pool.shutdown()
    assert not start.contains(3)
    with pytest.raises(RuntimeError):
        start(4)


def test_a_future_that_fails_or_is_cancelled() -> None:
    pool, gate = ThreadPoolExecutor(1), threading.Event()

    def work(x: int) -> int:
        gate.wait(30)
        ran(x)
        raise (ValueError if x else TypeError)(x)

    @keep(version=1, name="start", errors=ValueError)
    def start(x: int) -> Future[int]:
        return pool.submit(work, x)

    one, none, cancelled = start(1), start(0), start(2)
    assert cancelled.cancel()
    gate.set()
    assert isinstance(one.exception(30), ValueError)
    assert isinstance(none.exception(30), TypeError)
    until(lambda: start.contains(1))
    assert isinstance(start(1).exception(), ValueError)
    pool.shutdown()
    assert (start.contains(0), start.contains(2)) == (False, False)
    assert runs() == ["1", "0"]


@keep(name="starts")
def starts(x: int) -> Future[int]:
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(plain, x, 1)


def test_a_function_of_a_future_in_a_worker(forked: Executor) -> None:
    assert starts.submit(forked, 1).result().result() == 2
    assert starts(1).result() == 2
    assert starts.stats().hits == 1
