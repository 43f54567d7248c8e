"""`with refresh():` and `rerun(…, deep=True)`: what is called is computed again, once each."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from tests.caches.places import every, new

import wellkept

RAN: list[Any] = []


@wellkept.keep(name="fresh:low", version=1)
def low(n: int) -> int:
    RAN.append(("low", n))
    return n


@wellkept.keep(name="fresh:mid", version=1)
def mid(n: int) -> int:
    RAN.append(("mid", n))
    return low(n) + low(n) + low(0)


@wellkept.keep(name="fresh:top", version=1)
def top(n: int) -> int:
    RAN.append(("top", n))
    return mid(n) + low(0)


@wellkept.keep(name="fresh:later", version=1)
async def later(n: int) -> int:
    RAN.append(("later", n))
    await asyncio.sleep(0)
    return sum(await asyncio.gather(inner(n), inner(n), inner(0)))


@wellkept.keep(name="fresh:inner", version=1)
async def inner(n: int) -> int:
    RAN.append(("inner", n))
    await asyncio.sleep(0.01)
    return n


@wellkept.keep(name="fresh:each", version=1)
def each(n: int) -> Any:
    RAN.append(("each", n))
    for i in range(n):
        yield low(i)


@wellkept.keep(name="fresh:stream", version=1)
async def stream(n: int) -> Any:
    RAN.append(("stream", n))
    for i in range(n):
        yield await inner(i)


@wellkept.keep(name="fresh:deep", version=1)
def takes_deep(n: int, deep: bool = False) -> Any:
    RAN.append(("deep", n))
    return low(n), deep


class Tool:
    @wellkept.keep(name="fresh:tool", version=1)
    def use(self, n: int) -> int:
        RAN.append(("tool", n))
        return low(n)

    def __digest__(self) -> str:
        return "tool"


def ran() -> list[Any]:
    found = sorted(RAN)
    RAN.clear()
    return found


ALL = [("low", 0), ("low", 1), ("mid", 1), ("top", 1)]


@every
def test_each_is_computed_again_once(kind: str, home: Path) -> None:
    with new(kind) as cache, wellkept.use(cache):
        top(1)
        assert ran() == ALL
        before = top.call(1).created
        with wellkept.refresh():
            assert (top(1), top(1), mid(1)) == (2, 2, 2)
            assert ran() == ALL
            assert top.contains(1)
            assert top.load(1) == 2
        assert top(1) == 2
        assert ran() == []
        assert top.call(1).created > before
        with wellkept.refresh():
            low(1)
        assert ran() == [("low", 1)]


def test_rerun_goes_deep_if_told() -> None:
    top(1), ran()
    assert top.rerun(1) == 2
    assert ran() == [("top", 1)]
    assert top.rerun(1, deep=False) == 2
    assert ran() == [("top", 1)]
    assert top.rerun(1, deep=True) == 2
    assert ran() == ALL
    tool = Tool()
    tool.use(1), ran()
    tool.use.rerun(1, deep=True)
    assert ran() == [("low", 1), ("tool", 1)]


def test_generators_and_coroutines_go_deep() -> None:
    async def streamed(items: Any) -> list[Any]:
        return [item async for item in items]

    list(each(2)), asyncio.run(later(1)), asyncio.run(streamed(stream(2))), ran()
    items = each.rerun(2, deep=True)
    assert (next(items), low(0), list(items)) == (0, 0, [1])
    assert ran() == [("each", 2), ("low", 0), ("low", 1)]
    assert asyncio.run(later.rerun(1, deep=True)) == 2
    assert ran() == [("inner", 0), ("inner", 1), ("later", 1)]
    assert asyncio.run(streamed(stream.rerun(2, deep=True))) == [0, 1]
    assert ran() == [("inner", 0), ("inner", 1), ("stream", 2)]


def test_a_parameter_of_that_name_is_the_function_s() -> None:
    assert takes_deep(1, deep=True) == (1, True)
    ran()
    assert takes_deep.rerun(1, deep=True) == (1, True)
    assert ran() == [("deep", 1)]
    with wellkept.refresh():
        takes_deep.rerun(1, deep=True)
    assert ran() == [("deep", 1), ("low", 1)]


def test_in_threads_and_executors() -> None:
    low(1), low(2), low(3), low(4), ran()
    with ThreadPoolExecutor(1) as early:
        early.submit(int).result()  # its thread is there before the block
        with wellkept.refresh():
            threads = [threading.Thread(target=low, args=(1,)) for _ in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            low.submit(early, 2).result()
            assert low.map([2, 3, 3], executor=early) == [2, 3, 3]
            call = low.bind(4)
        call()
        assert ran() == [("low", n) for n in (1, 2, 3, 4)]
        # Afterwards the pool's threads are in no block.
        assert early.submit(low, 1).result() == 1
        assert low.map([2, 3], executor=early) == [2, 3]
        assert ran() == []


def test_in_worker_processes(home: Path) -> None:
    with wellkept.open("./shared") as cache, wellkept.use(cache):
        top(1), ran()
        before = {f: f.call(1).created for f in (top, mid, low)}
        with ProcessPoolExecutor(1) as pool, wellkept.refresh():
            assert top.submit(pool, 1).result() == 2
        after = {f: f.call(1).created for f in (top, mid, low)}
        assert all(after[f] > before[f] for f in before)
        assert low.call(0).created < mid.call(1).created


def test_another_task_is_not_in_the_block() -> None:
    low(1), ran()

    async def both() -> None:
        started = asyncio.Event()

        async def inside() -> None:
            with wellkept.refresh():
                started.set()
                await asyncio.sleep(0.01)

        async def outside() -> None:
            await started.wait()
            low(1)

        await asyncio.gather(inside(), outside())

    asyncio.run(both())
    assert ran() == []


def test_an_error_ends_the_block() -> None:
    low(1), ran()
    with pytest.raises(KeyError), wellkept.refresh():
        raise KeyError
    low(1)
    assert ran() == []


def test_a_block_begins_where_it_is_entered() -> None:
    block = wellkept.refresh()
    low(1), ran()
    with block:
        low(1)
    assert ran() == [("low", 1)]


@wellkept.keep(name="fresh:count", version=1)
def count(n: int) -> tuple[int, int]:
    RAN.append(n)
    return n, len(RAN)


@every
def test_what_is_written_later_is_what_is_served(kind: str, home: Path) -> None:
    with new(kind) as cache, wellkept.use(cache):
        assert count.map([1, 2, 1]) == [(1, 1), (2, 2), (1, 1)]
        with wellkept.refresh():
            assert count.map([1, 2, 1, 2]) == [(1, 3), (2, 4), (1, 3), (2, 4)]
            assert [count(1), *count.map([2, 1])] == [(1, 3), (2, 4), (1, 3)]
        assert count.map([1, 2]) == [(1, 3), (2, 4)]
