"""The active cache: what `use` reaches and what it does not."""

import asyncio
import contextlib
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import wellkept
from wellkept import keep
from wellkept._process import Worker
from wellkept.caches import active


@keep
def f(x: int) -> int:
    return x


def here() -> str:
    return Path(str(active().url)).name


def in_thread(work: Any) -> Any:
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(work()))
    thread.start()
    thread.join()
    return found[0]


def test_the_default_is_opened_once(home: Path) -> None:
    assert active() is active()
    assert active().url == str(home / "cache")
    with wellkept.use("./a"):
        assert here() == "a"
    assert here() == "cache"


def test_it_nests_and_ends_with_an_exception() -> None:
    with wellkept.use("./a") as a:
        assert active() is a
        with contextlib.suppress(RuntimeError), wellkept.use("./b"):
            assert here() == "b"
            raise RuntimeError
        assert here() == "a"
        with wellkept.use(a):
            assert active() is a
    assert here() == "cache"


def test_the_same_place_is_the_same_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    with wellkept.use("./a") as one, wellkept.use(Path("a")) as two:
        assert one is two
    Path("there").mkdir()
    monkeypatch.chdir("there")
    with wellkept.use("./a") as other:
        assert other is not one


@pytest.mark.parametrize("wrong", [3, None, b"x", ["a"]])
def test_what_is_no_cache(wrong: Any) -> None:
    with (
        pytest.raises(wellkept.ConfigError, match="a cache, a name, a path or a URL"),
        wellkept.use(wrong),
    ):
        pass


def test_it_reaches_threads_started_inside() -> None:
    with wellkept.use("./a"):
        assert in_thread(here) == "a"
        assert in_thread(lambda: in_thread(here)) == "a"
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(here).result() == "a"
        timer_found: list[str] = []
        timer = threading.Timer(0, lambda: timer_found.append(here()))
        timer.start()
        timer.join()
        assert timer_found == ["a"]
    assert in_thread(here) == "cache"


def test_it_does_not_reach_the_library_s_own_threads() -> None:
    """They work for all, and would hold the cache of whoever began them."""
    told: list[Any] = []
    with wellkept.use("./a"):
        worker = Worker("test", lambda: bool(told.append(here())), lambda: 0.0)
        assert worker.begin()
    thread = worker._thread
    if thread is not None:
        thread.join(20)
    assert told == ["cache"]


def test_it_does_not_reach_threads_started_before() -> None:
    ask, told = threading.Event(), []
    started = threading.Thread(target=lambda: (ask.wait(20), told.append(here())))
    started.start()
    with wellkept.use("./a"):
        ask.set()
        started.join()
    assert told == ["cache"]


def test_a_thread_may_use_another_and_outlive_the_block() -> None:
    go, told = threading.Event(), []

    def work() -> None:
        told.append(here())
        with wellkept.use("./b"):
            told.append(here())
        go.wait(20)
        told.append(here())

    with wellkept.use("./a"):
        thread = threading.Thread(target=work)
        thread.start()
    go.set()
    thread.join()
    assert told == ["a", "b", "a"]


def test_two_threads_with_two_caches() -> None:
    both = threading.Barrier(2)

    def work(name: str) -> list[str]:
        with wellkept.use(f"./{name}"):
            seen = []
            for i in range(5):
                both.wait(20)
                f(i)
                seen.append(here())
            return seen

    with ThreadPoolExecutor(2) as pool:
        assert [set(found) for found in pool.map(work, "ab")] == [{"a"}, {"b"}]
    for name in "ab":
        with wellkept.use(f"./{name}") as cache:
            assert len(list(cache.calls.keys())) == 5


def test_it_reaches_tasks_started_inside() -> None:
    async def where() -> str:
        await asyncio.sleep(0)
        return here()

    async def main() -> None:
        gate = asyncio.Event()

        async def late() -> str:
            await gate.wait()
            return here()

        outside = asyncio.create_task(late())
        await asyncio.sleep(0)
        with wellkept.use("./a"):
            inside = asyncio.create_task(late())
            assert await asyncio.gather(where(), where()) == ["a", "a"]
            assert await asyncio.to_thread(here) == "a"
        gate.set()
        assert (await outside, await inside) == ("cache", "a")

    asyncio.run(main())


def test_two_tasks_with_two_caches() -> None:
    async def work(name: str) -> set[str]:
        seen = set()
        with wellkept.use(f"./{name}"):
            for _ in range(5):
                await asyncio.sleep(0)
                seen.add(here())
        return seen

    async def main() -> list[set[str]]:
        return await asyncio.gather(work("a"), work("b"))

    assert asyncio.run(main()) == [{"a"}, {"b"}]


def test_a_kept_call_goes_to_what_is_active() -> None:
    f(1)
    with wellkept.use("./a"):
        assert not f.contains(1)
        f(1)
        assert f.contains(1)
        f.forget(1)
    assert f.contains(1)
    with wellkept.use("memory:") as memory:
        f(2)
        assert f.contains(2)
    assert not f.contains(2)
    with wellkept.use(memory):
        assert f.contains(2)


def test_reset_reads_everything_anew(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    f(1)
    monkeypatch.setenv("WELLKEPT_CACHE", str(home / "other"))
    assert f.contains(1)  # the environment is read once
    sys.modules["wellkept.caches.active"].reset()
    assert not f.contains(1)
    assert here() == "other"


def test_kept_cache_in_a_real_process(home: Path) -> None:
    Path("a.py").write_text(
        "from wellkept import keep\nprint(keep(len)([1]), keep(len).cache.url)\n"
    )
    for value, expected in [("./env", home / "env"), ("~/env2", home / "env2"), ("void:", "void:")]:
        done = subprocess.run(
            [sys.executable, "a.py"],
            env=os.environ | {"WELLKEPT_CACHE": value, "HOME": str(home)},
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
        assert done.stdout == f"1 {expected}\n"


def test_fork_keeps_what_is_active() -> None:
    import multiprocessing

    with wellkept.use("./a"), multiprocessing.get_context("fork").Pool(1) as pool:
        assert pool.apply(here) == "a"
        assert pool.apply(f, (7,)) == 7
    with wellkept.use("./a"):
        assert f.contains(7)


def test_a_set_cache_stays_for_the_whole_process_until_another_is_set(home: Path) -> None:
    assert wellkept.set_cache("./a") is None
    assert here() == in_thread(here) == "a"
    a = wellkept.active_cache()
    with wellkept.use("./b"):
        assert here() == "b"
        assert wellkept.set_cache(Path("c")) is a
        assert here() == "b"
    assert here() == "c"
    f(7)
    assert f.contains(7)
    with pytest.raises(wellkept.ConfigError, match="no cache is named 'nonesuch'"):
        wellkept.set_cache("nonesuch")
    assert here() == "c"
    wellkept.set_cache(None)
    assert active().url == str(home / "cache")
    assert not f.contains(7)


@pytest.mark.parametrize("sticky", [False, True])
def test_a_cache_is_stacked_on_the_active_one(sticky: bool) -> None:
    far, near = map(wellkept.caches.named, ("./far", "./near"))
    with wellkept.use(far):
        f(3)
    with contextlib.ExitStack() as ends:
        if sticky:
            wellkept.set_cache(far)
            wellkept.set_cache("./near", stack=True)
        else:
            ends.enter_context(wellkept.use(far))
            ends.enter_context(wellkept.use("./near", stack=True))
        stacked: Any = active()
        assert stacked.caches == (near, far)
        assert f.contains(3)
        f(4)
        with wellkept.use(stacked, stack=True) as same:
            assert same is stacked
    for cache in (near, far):
        with wellkept.use(cache):
            assert f.contains(4)


def test_a_use_that_is_never_entered_is_told() -> None:
    with pytest.warns(wellkept.KeptWarning, match=r"use\('./a'\) was never entered") as told:
        wellkept.use("./a")
    assert told[0].filename == __file__
    assert here() == "cache"
    kept = wellkept.use("./a")
    for _ in range(2):  # it may be entered again
        with kept, kept:
            assert here() == "a"
        assert here() == "cache"


def test_a_use_above_a_function() -> None:
    @wellkept.use("./a")
    def inside(wait: threading.Barrier) -> str:
        wait.wait(30)
        return here()

    with ThreadPoolExecutor(2) as pool:
        both = threading.Barrier(2)
        assert list(pool.map(inside, [both, both])) == ["a", "a"]
    assert here() == "cache"
