"""Coroutines and async generators: the same promises, awaited."""

import asyncio
import inspect
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

import pytest

import wellkept
from wellkept import keep

RAN: list[Any] = []


@keep
async def double(x: int) -> int:
    RAN.append(x)
    await asyncio.sleep(0)
    return x * 2


@keep
async def fails(x: int) -> int:
    RAN.append(x)
    raise ValueError(x)


@keep
async def ticks(n: int) -> AsyncGenerator[int, None]:
    RAN.append("start")
    try:
        for i in range(n):
            yield i
    finally:
        RAN.append("closed")


@keep
async def echo() -> AsyncGenerator[Any, Any]:
    got = None
    while True:
        try:
            got = yield got
        except ValueError as error:
            got = f"caught {error}"
        if got is None:
            return


async def collected(items: AsyncIterator[Any]) -> list[Any]:
    return [item async for item in items]


def test_a_coroutine_is_computed_once() -> None:
    async def main() -> list[int]:
        return [await double(2), await double(x=2), await double(3)]

    assert asyncio.run(main()) == [4, 4, 6]
    assert asyncio.run(main()) == [4, 4, 6]
    assert RAN == [2, 3]


def test_calling_gives_a_coroutine_and_runs_nothing() -> None:
    waiting = double(2)
    assert inspect.iscoroutine(waiting)
    assert RAN == []
    assert asyncio.run(waiting) == 4


def test_it_shows_as_what_it_is() -> None:
    assert inspect.iscoroutinefunction(double)
    assert asyncio.iscoroutinefunction(double)
    assert not inspect.isasyncgenfunction(double)
    assert inspect.isasyncgenfunction(ticks)
    assert not inspect.iscoroutinefunction(ticks)
    assert str(inspect.signature(double)) == "(x: int) -> int"


def test_wrong_arguments_fail_at_the_call() -> None:
    with pytest.raises(TypeError, match=r"double\(\) missing 1 required positional argument: 'x'"):
        double()  # type: ignore[call-arg]
    with pytest.raises(TypeError, match=r"ticks\(\) missing 1 required positional argument: 'n'"):
        ticks()  # type: ignore[call-arg]


def test_an_exception_is_raised_and_not_kept() -> None:
    for _ in range(2):
        with pytest.raises(ValueError, match="1"):
            asyncio.run(fails(1))
    assert RAN == [1, 1]


def test_the_methods() -> None:
    async def main() -> None:
        assert not double.contains(5)
        with pytest.raises(wellkept.NotKept):
            await double.load(5)
        assert await double(5) == 10
        assert double.contains(5)
        assert await double.load(5) == 10
        assert double.call(5).state == "done"
        assert await double.rerun(5) == 10
        assert RAN == [5, 5]
        assert double.forget(5)
        assert not double.contains(5)
        assert await double.bind(5)() == 10
        assert await double.map([1, 2, 1]) == [2, 4, 2]
        assert await double.__wrapped__(7) == 14

    asyncio.run(main())


def test_gathered_calls_of_one_key_compute_once() -> None:
    async def main() -> list[int]:
        return await asyncio.gather(*(double(8) for _ in range(20)))

    assert asyncio.run(main()) == [16] * 20
    assert RAN == [8]


def test_an_async_generator_is_replayed() -> None:
    for _ in range(3):
        assert asyncio.run(collected(ticks(3))) == [0, 1, 2]
    assert RAN == ["start", "closed"]
    assert asyncio.run(collected(ticks.load(3))) == [0, 1, 2]
    assert inspect.isasyncgen(ticks(3))


def test_one_that_was_left_early_is_not_kept() -> None:
    async def main() -> None:
        items = ticks(3)
        assert await anext(items) == 0
        await items.aclose()

    asyncio.run(main())
    assert RAN == ["start", "closed"]
    assert not ticks.contains(3)
    assert asyncio.run(collected(ticks(3))) == [0, 1, 2]


def test_asend_and_athrow_reach_the_body() -> None:
    async def main() -> None:
        items = echo()
        assert await anext(items) is None
        assert await items.asend("a") == "a"
        assert await items.athrow(ValueError("x")) == "caught x"
        with pytest.raises(StopAsyncIteration):
            await anext(items)
        assert not echo.contains()
        assert await collected(echo()) == [None]
        assert echo.contains()

    asyncio.run(main())


def test_async_items_that_are_changed_later() -> None:
    @keep
    async def rows() -> AsyncIterator[list[int]]:
        row = [0]
        yield row
        row.append(1)
        yield row

    async def main() -> None:
        async for row in rows():
            row.append(9)
        assert await collected(rows()) == [[0], [0, 9, 1]]
        assert await collected(rows()) == [[0], [0, 9, 1]]

    asyncio.run(main())


def test_a_cancelled_task_gives_up_its_lease() -> None:
    async def main() -> None:
        started, go = asyncio.Event(), asyncio.Event()

        @keep(version=1)
        async def slow(x: int) -> int:
            RAN.append(x)
            started.set()
            await go.wait()
            return x

        first = asyncio.create_task(slow(1))
        await started.wait()
        second = asyncio.create_task(slow(1))
        await asyncio.sleep(0)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        go.set()
        assert await asyncio.wait_for(second, 20) == 1
        assert RAN == [1, 1]

    asyncio.run(main())


def test_a_waiter_that_is_cancelled_takes_nobody_along() -> None:
    async def main() -> None:
        started, go = asyncio.Event(), asyncio.Event()

        @keep(version=1)
        async def slow(x: int) -> int:
            started.set()
            await go.wait()
            return x

        first = asyncio.create_task(slow(1))
        await started.wait()
        second = asyncio.create_task(slow(1))
        await asyncio.sleep(0.005)
        second.cancel()
        with pytest.raises(asyncio.CancelledError):
            await second
        go.set()
        assert await asyncio.wait_for(first, 20) == 1

    asyncio.run(main())


def test_tasks_that_wait_for_each_other_end() -> None:
    async def main() -> None:
        both = asyncio.Barrier(2)

        @keep(version=1, ignore="depth")
        async def ping(x: int, depth: int) -> int:
            if depth == 0:
                await both.wait()
                return 1 + await pong(x, depth + 1)
            return 1

        @keep(version=1, ignore="depth")
        async def pong(x: int, depth: int) -> int:
            if depth == 0:
                await both.wait()
                return 1 + await ping(x, depth + 1)
            return 1

        async with asyncio.timeout(20):
            assert sum(await asyncio.gather(ping(1, 0), pong(1, 0))) >= 3

    asyncio.run(main())


def test_a_task_that_its_own_computation_started() -> None:
    @keep(ignore="depth")
    async def nested(x: int, depth: int = 0) -> int:
        if depth < 3:
            return 1 + await asyncio.create_task(nested(x, depth + 1))
        return 0

    async def main() -> int:
        async with asyncio.timeout(20):
            return await nested(1)

    assert asyncio.run(main()) == 3


class Model:
    def __init__(self, k: int) -> None:
        self.k = k

    @keep
    async def times(self, x: int) -> int:
        RAN.append((self.k, x))
        return self.k * x

    @keep
    async def each(self, n: int) -> AsyncIterator[int]:
        for i in range(n):
            yield i * self.k


class Caller:
    async def __call__(self, x: int) -> int:
        RAN.append(x)
        return x


def test_async_methods() -> None:
    async def main() -> None:
        two, three = Model(2), Model(3)
        assert [await two.times(5), await three.times(5), await Model(2).times(5)] == [10, 15, 10]
        assert len(RAN) == 2
        assert two.times.contains(5)
        assert await two.times.load(5) == 10
        assert await two.times.map([5, 6]) == [10, 12]
        assert await collected(two.each(3)) == await collected(two.each(3)) == [0, 2, 4]

    assert inspect.iscoroutinefunction(Model(2).times)
    assert inspect.isasyncgenfunction(Model(2).each)
    asyncio.run(main())


def test_an_object_with_an_async_call() -> None:
    call = keep(Caller())
    assert asyncio.run(call(3)) == asyncio.run(call(3)) == 3
    assert RAN == [3]
