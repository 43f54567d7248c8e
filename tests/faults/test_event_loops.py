"""An event loop that ends or stops in mid-call: the same call elsewhere does not wait for it."""

import asyncio
import threading
from pathlib import Path

import pytest

import wellkept

BOTH = pytest.mark.parametrize("medium", ["{}/c", "memory:", "files:{}/f"])
PATIENCE = 30.0


class Work:
    """A kept coroutine that stands still while it is told to."""

    def __init__(self, url: str) -> None:
        self.ran = 0
        self.hold = True
        self.inside = threading.Event()

        @wellkept.keep(cache=url, version=1)
        async def work(n: int) -> int:
            self.ran += 1
            self.inside.set()
            while self.hold:
                await asyncio.sleep(0.005)
            return n * 2

        self.work = work

    def begun(self) -> tuple[asyncio.AbstractEventLoop, asyncio.Task[int]]:
        """A loop that was stopped in the midst of it."""
        loop = asyncio.new_event_loop()
        task = loop.create_task(self.work(1))

        async def until_inside() -> None:
            while not self.inside.is_set():
                await asyncio.sleep(0.001)

        loop.run_until_complete(until_inside())
        self.hold = False
        return loop, task

    async def again(self) -> int:
        return await asyncio.wait_for(self.work(1), PATIENCE)


@BOTH
@pytest.mark.filterwarnings("ignore")
def test_a_closed_loop_computes_nothing_more(medium: str, home: Path) -> None:
    work = Work(medium.format(home))
    loop, task = work.begun()
    loop.close()
    assert asyncio.run(work.again()) == 2
    assert work.ran == 2
    assert asyncio.run(work.again()) == 2
    assert work.ran == 2, "it is kept"
    del task


@BOTH
def test_a_loop_that_this_thread_does_not_run_is_not_waited_for(medium: str, home: Path) -> None:
    work = Work(medium.format(home))
    loop, task = work.begun()
    assert asyncio.run(work.again()) == 2
    assert work.ran == 2
    assert loop.run_until_complete(task) == 2, "it may go on"
    loop.close()


def test_a_stopped_loop_of_another_thread_is_not_waited_for_for_long(home: Path) -> None:
    work = Work(str(home / "c"))
    made = []
    thread = threading.Thread(target=lambda: made.append(work.begun()))
    thread.start()
    thread.join()
    assert asyncio.run(work.again()) == 2
    loop, task = made[0]
    assert loop.run_until_complete(task) == 2
    loop.close()


def test_a_loop_that_runs_in_another_thread_is_waited_for(home: Path) -> None:
    work = Work(str(home / "c"))
    results = []
    thread = threading.Thread(target=lambda: results.append(asyncio.run(work.again())))
    thread.start()
    assert work.inside.wait(PATIENCE)

    async def main() -> int:
        task = asyncio.ensure_future(work.again())
        while work.work.stats().waited == 0:
            await asyncio.sleep(0.001)
        work.hold = False
        return await task

    assert asyncio.run(main()) == 2
    thread.join()
    assert (results, work.ran) == ([2], 1)


def test_a_cancelled_call_lets_go(home: Path) -> None:
    work = Work(str(home / "c"))

    async def main() -> int:
        task = asyncio.ensure_future(work.again())
        while not work.inside.is_set():
            await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        work.hold = False
        return await work.again()

    assert asyncio.run(main()) == 2
