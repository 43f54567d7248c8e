"""Locks, semaphores and queues, on every medium."""

from __future__ import annotations

import asyncio
import copy
import multiprocessing
import os
import pickle
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.kv.conftest import Stores

import wellkept
from wellkept.errors import ConfigError, StoreError
from wellkept.kv import BoundedSemaphore, ExecutionStore, Lock, NotHeld, Queue, RLock, locks


def in_thread(do: Callable[[], Any]) -> Any:
    """What it gives in another thread."""
    done: list[Any] = []

    def run() -> None:
        try:
            done.append(do())
        except Exception as error:  # noqa: BLE001  given back
            done.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(60)
    return done[0]


def test_a_lock_belongs_to_who_takes_it(store: ExecutionStore) -> None:
    lock, other = Lock(store, "a"), Lock(store, "a")
    assert not lock.locked()
    assert lock.acquire(blocking=False)
    assert (lock.owned(), other.owned(), other.locked()) == (True, False, True)
    assert not other.acquire(blocking=False)
    assert not other.acquire(timeout=0.01)
    assert not in_thread(lambda: lock.acquire(blocking=False))
    assert isinstance(in_thread(lock.release), NotHeld)
    with pytest.raises(NotHeld, match="not held"):
        other.release()
    with pytest.raises(ConfigError, match="RLock"):
        lock.acquire()
    assert Lock(store, "b").acquire(timeout=0), "another lock"
    first = lock.token
    lock.release()
    with pytest.raises(NotHeld):
        lock.release()
    with other:
        assert other.token is not None
        assert first is not None
        assert other.token > first
    assert not lock.locked()
    assert store.list_keys("a/") == []


def test_a_lock_that_its_thread_may_take_again(store: ExecutionStore) -> None:
    lock = RLock(store, "a")
    with lock:
        with lock:
            assert lock.acquire(timeout=0)
            lock.release()
            assert not in_thread(lambda: lock.acquire(blocking=False))
        assert lock.locked()
    assert not lock.locked()
    assert in_thread(lambda: lock.acquire(timeout=5))


def test_so_many_at_a_time(store: ExecutionStore) -> None:
    at_once, most = [0], [0]
    guard = threading.Lock()

    def work() -> None:
        for _ in range(3):
            with BoundedSemaphore(store, "s", 2):
                with guard:
                    at_once[0] += 1
                    most[0] = max(most[0], at_once[0])
                time.sleep(0.001)
                with guard:
                    at_once[0] -= 1

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(100)
    assert most[0] <= 2
    assert len(store) == 0
    both = BoundedSemaphore(store, "s", 2)
    assert [both.acquire(blocking=False) for _ in range(3)] == [True, True, False]
    both.release()
    both.release()
    with pytest.raises(NotHeld):
        both.release()


def test_a_permit_is_free_when_its_ttl_has_passed_and_never_before(stores: Stores) -> None:
    store = stores()
    lock, other = Lock(store, "a", ttl=1000), Lock(store, "a", ttl=1000)
    assert lock.acquire()
    store.clear_cache()
    stores.later(900)
    assert not other.acquire(blocking=False)
    lock.permits()[0].again = 0.0
    lock.renew()
    stores.later(900)
    assert not other.acquire(blocking=False), "it was renewed"
    stores.later(200)
    assert not lock.owned()
    assert other.acquire(blocking=False)
    lock.permits()[0].again = 0.0
    lock.renew()
    assert lock.permits() == [], "it was lost, and is not renewed"
    with pytest.raises(NotHeld, match="was lost"):
        lock.release()
    assert other.owned(), "it is another one's"


def test_locks_and_queues_are_sent_to_other_processes(shared_url: str) -> None:
    store = wellkept.store("jobs", "scope", cache=wellkept.open(shared_url), policy="evict")
    lock, two, queue = RLock(store, "a", ttl=50), BoundedSemaphore(store, "b", 2), Queue(store, "q")
    with lock, two:
        sent = pickle.loads(pickle.dumps([lock, two, queue, store]))
        assert [type(one) for one in sent] == [RLock, BoundedSemaphore, Queue, ExecutionStore]
        assert (sent[0].ttl, sent[0].owned(), sent[1].value) == (50.0, False, 2)
        assert not sent[0].acquire(blocking=False)
        assert [sent[1].acquire(blocking=False) for _ in range(2)] == [True, False]
        sent[1].release()
        with pytest.raises(NotHeld):
            sent[0].release()
    queue.push(1)
    assert sent[2].pull() == 1
    assert sent[3].name == store.name
    sent[3]["k"] = 1
    store.clear_cache()
    assert not store.has("k"), "it has the store's policy"
    again = copy.deepcopy(lock)
    assert again.acquire(blocking=False)
    again.release()


def test_what_is_in_memory_is_sent_nowhere() -> None:
    store = wellkept.store("jobs", cache="memory:")
    with pytest.raises(TypeError, match="memory of this process"):
        pickle.dumps(Lock(store, "a"))
    assert copy.copy(store) is store


def test_a_clock_that_is_set_back_leaves_no_lock_held(stores: Stores) -> None:
    store = stores()
    lock, other = Lock(store, "a", ttl=1000), Lock(store, "a", ttl=1000)
    stores.later(5000)
    assert lock.acquire()
    stores.later(-5000)
    assert not other.acquire(blocking=False)
    # While its holder lives it is renewed, and stays so.
    lock.permits()[0].again = 0.0
    lock.renew()
    assert not other.acquire(timeout=0.01)
    assert lock.owned()
    token = lock.token
    # Its holder is dead, so nothing renews it any more.
    lock._held.clear()
    stores.later(1001)
    assert other.acquire(timeout=60)
    assert token is not None
    assert other.token is not None
    assert other.token > token
    other.release()


def test_a_clock_that_is_set_forward_is_told_to_the_holder(stores: Stores) -> None:
    store = stores()
    lock, other = Lock(store, "a", ttl=1000), Lock(store, "a", ttl=1000)
    assert lock.acquire()
    stores.later(5000)
    assert not lock.owned()
    assert other.acquire(blocking=False)
    assert (other.token or 0) > (lock.token or 0)
    with pytest.raises(NotHeld, match="was lost"):
        lock.release()
    assert other.owned()
    other.release()


def test_it_stays_in_a_store_that_is_full(stores: Stores) -> None:
    stores.service().create_store("jobs", policy="evict", max_keys=3)
    store = stores(policy="evict")
    with Lock(store, "a") as lock:
        for number in range(10):
            store.set_cache(str(number), number)
        assert lock.owned()


def test_a_block_tells_that_the_lock_was_lost(store: ExecutionStore) -> None:
    with pytest.raises(NotHeld, match="was lost"), Lock(store, "a"):
        store.clear()
    with pytest.raises(ZeroDivisionError), Lock(store, "a"):
        store[str(store.clear())] = 1 / 0


def test_who_waits_has_it_when_it_is_released(store: ExecutionStore) -> None:
    lock, begun, got = Lock(store, "a"), threading.Event(), threading.Event()

    def wait() -> None:
        begun.set()
        with Lock(store, "a"):
            got.set()

    with lock:
        thread = threading.Thread(target=wait)
        thread.start()
        assert begun.wait(60)
        assert not got.wait(0.02)
    assert got.wait(60)
    thread.join(60)


def test_it_is_renewed_in_the_background_while_its_holder_lives() -> None:
    store = wellkept.store("s", cache="memory:")
    lock = Lock(store, "a", ttl=1000)
    lock.acquire()
    changes = store.watch("a/", timeout=60)
    store.service.entries.ahead += 500
    lock.permits()[0].again = 0.0
    locks._renewals.wake()
    assert next(changes).kind == "touch"
    store.service.entries.ahead += 800
    assert lock.owned()
    other = Lock(store, "b", ttl=1000)
    in_thread(other.acquire)
    assert other.permits() == [], "its thread is over, and does not renew it"
    store.service.entries.ahead += 1001
    assert Lock(store, "b").acquire(timeout=0)


def test_arguments_of_locks(store: ExecutionStore) -> None:
    for make in (
        lambda: Lock(store, "a", ttl=0),
        lambda: Lock(store, "a", ttl=None),  # type: ignore[arg-type]  # wrong on purpose
        lambda: Lock(store, "a\0"),
        lambda: Lock(store, 5),  # type: ignore[arg-type]  # wrong on purpose
        lambda: Lock("a", "a"),  # type: ignore[arg-type]  # wrong on purpose
        lambda: Queue("a", "a"),  # type: ignore[arg-type]  # wrong on purpose
        lambda: Queue(store, None),  # type: ignore[arg-type]  # wrong on purpose
        lambda: Queue(store, "x" * 1000),
        lambda: BoundedSemaphore(store, "a", 0),
        lambda: BoundedSemaphore(store, "a", True),
        lambda: Lock(store, "a").acquire(timeout=-1),
    ):
        with pytest.raises(ConfigError):
            make()


def test_tasks_have_locks_of_their_own(store: ExecutionStore) -> None:
    lock, order = Lock(store, "a"), []

    async def work(number: int) -> None:
        async with lock:
            assert lock.owned()
            order.append(number)
            await asyncio.sleep(0)
            order.append(number)

    async def all_of_them() -> None:
        async with lock:
            waiting = asyncio.ensure_future(work(-1))
            await asyncio.sleep(0.01)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
        await asyncio.gather(*map(work, range(4)))

    asyncio.run(all_of_them())
    assert order[::2] == order[1::2]
    assert sorted(order[::2]) == list(range(4))
    assert not lock.locked()


def test_a_task_whose_loop_was_closed_renews_nothing() -> None:
    store = wellkept.store("s", cache="memory:")
    lock = Lock(store, "a", ttl=1000)

    async def hold() -> None:
        async with lock:
            await asyncio.sleep(3600)

    loop = asyncio.new_event_loop()
    task = loop.create_task(hold())
    while not lock.locked():
        loop.run_until_complete(asyncio.sleep(0.005))
    loop.close()
    assert lock.permits() == []
    store.service.entries.ahead += 1001
    assert Lock(store, "a").acquire(timeout=0)
    assert not task.done()
    task._log_destroy_pending = False  # type: ignore[attr-defined]  # what is meant here


def _dies(url: str, got: Any) -> None:
    lock = Lock(wellkept.store("jobs", cache=url), "a", ttl=1000)
    lock.acquire()
    got.set()
    time.sleep(60)


def test_who_is_killed_has_it_until_its_ttl_has_passed(tmp_path: Path) -> None:
    url = str(tmp_path)
    spawn = multiprocessing.get_context("spawn")
    got = spawn.Event()
    process = spawn.Process(target=_dies, args=(url, got))
    process.start()
    try:
        assert got.wait(60)
    finally:
        process.kill()
        process.join(60)
    store = wellkept.store("jobs", cache=url)
    assert not Lock(store, "a").acquire(timeout=0.01)
    store.service.entries.ahead += 1001
    assert Lock(store, "a").acquire(timeout=0)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_forked_child_has_none_of_its_parent_s_locks(tmp_path: Path) -> None:
    store = wellkept.store("s", cache=str(tmp_path))
    with Lock(store, "a") as lock:
        child = os.fork()
        if child == 0:
            code = 1
            try:
                free = lock.acquire(blocking=False)
                try:
                    lock.release()
                except NotHeld:
                    code = 1 if free or locks._held() else 0
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert lock.owned()


# -- queues ---------------------------------------------------------------------------------------


def test_what_comes_first_goes_first(stores: Stores) -> None:
    store = stores()
    queue = Queue(store, "q")
    assert (len(queue), queue.pull("none"), queue.peek()) == (0, "none", None)
    values = [(1, 2), None, "x", {"n": 1}] * 5
    for value in values:
        queue.push(value)
    store.clear_cache()
    assert (len(queue), queue.peek(), list(queue)) == (20, (1, 2), values)
    Queue(store, "other").push("another's")
    with Lock(store, "q"):
        assert [Queue(store, "q").pull() for _ in range(20)] == values
    assert len(queue) == 0
    queue.push("late", ttl=50)
    queue.push("stays")
    stores.later(100)
    assert queue.pull() == "stays"
    assert queue.pull(timeout=0.01) is None
    queue.push(1)
    del store["q/tail"]
    queue.push(2)
    assert (queue.pull(), queue.pull()) == (1, 2)


def test_each_item_is_pulled_once(store: ExecutionStore) -> None:
    pulled: list[list[int]] = [[] for _ in range(4)]

    def work(mine: list[int]) -> None:
        queue = Queue(store, "q")
        while (item := queue.pull(timeout=60)) >= 0:
            mine.append(item)

    threads = [threading.Thread(target=work, args=(mine,)) for mine in pulled]
    for thread in threads:
        thread.start()
    pushing = [
        threading.Thread(target=lambda at=at: [Queue(store, "q").push(at + n) for n in range(10)])
        for at in (0, 10)
    ]
    for thread in pushing:
        thread.start()
    for thread in pushing:
        thread.join(100)
    for _ in threads:
        Queue(store, "q").push(-1)
    for thread in threads:
        thread.join(100)
    assert sorted(n for mine in pulled for n in mine) == list(range(20))
    for mine in pulled:
        for some in ([n for n in mine if n < 10], [n for n in mine if n >= 10]):
            assert some == sorted(some), "in the order in which each pushed them"


def test_a_full_store_takes_no_item(stores: Stores) -> None:
    stores.service().create_store("jobs", max_keys=2)
    queue = Queue(stores(), "q")
    queue.push(1)
    with pytest.raises(StoreError, match="full"):
        queue.push(2)
    assert list(queue) == [1]
