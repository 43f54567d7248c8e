"""One computation a key, among threads and processes; and never a hang."""

import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import wellkept
from wellkept import keep

RAN: list[Any] = []
GO = threading.Event()
STARTED = threading.Event()
BOTH = threading.Barrier(2)


@pytest.fixture(autouse=True)
def signals() -> None:
    GO.clear()
    STARTED.clear()
    BOTH.reset()


def until(true: Callable[[], Any]) -> None:
    end = time.monotonic() + 30
    while not true():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.001)


@keep
def slow(x: int) -> int:
    RAN.append(x)
    STARTED.set()
    assert GO.wait(30)
    return x


@keep
def unlucky(x: int) -> int:
    RAN.append(x)
    STARTED.set()
    assert GO.wait(30)
    if len(RAN) == 1:
        raise ValueError("the first one fails")
    return x


@keep(ignore="depth")
def ping(x: int, depth: int) -> int:
    if depth == 0:
        BOTH.wait(30)
        return 1 + pong(x, 1)
    return 1


@keep(ignore="depth")
def pong(x: int, depth: int) -> int:
    if depth == 0:
        BOTH.wait(30)
        return 1 + ping(x, 1)
    return 1


@pytest.mark.parametrize("url", ["./here", "memory:"])
def test_threads_that_ask_for_one_key_compute_once(url: str) -> None:
    with wellkept.open(url) as cache, wellkept.use(cache), ThreadPoolExecutor(8) as pool:
        before = slow.stats().waited
        futures = [pool.submit(slow, 1) for _ in range(8)]
        until(lambda: slow.stats().waited >= before + 7)
        assert not any(future.done() for future in futures)
        GO.set()
        assert [future.result(30) for future in futures] == [1] * 8
    assert RAN == [1]


def test_other_keys_do_not_wait() -> None:
    @keep
    def f(x: int) -> int:
        if x == 1:
            STARTED.set()
            assert GO.wait(30)
        return x

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(f, 1)
        assert STARTED.wait(30)
        assert f(2) == 2
        assert not first.done()
        GO.set()
        assert first.result(30) == 1


def test_waiters_of_a_body_that_raises_compute_themselves() -> None:
    with ThreadPoolExecutor(3) as pool:
        before = unlucky.stats().waited
        futures = [pool.submit(unlucky, 1) for _ in range(3)]
        until(lambda: unlucky.stats().waited >= before + 2)
        GO.set()
        outcomes = [future.exception(30) for future in futures]
    assert sorted(type(outcome).__name__ for outcome in outcomes) == [
        "NoneType",
        "NoneType",
        "ValueError",
    ]
    assert len(RAN) == 2


def test_computations_that_wait_for_each_other_end() -> None:
    with ThreadPoolExecutor(2) as pool:
        one, two = pool.submit(ping, 1, 0), pool.submit(pong, 1, 0)
        assert {one.result(30), two.result(30)} <= {1, 2, 3}


def test_three_that_wait_in_a_ring_end() -> None:
    ring = threading.Barrier(3)

    @keep(ignore=["depth"], version=1)
    def step(x: int, depth: int) -> int:
        if depth == 0:
            ring.wait(30)
            return 1 + step((x + 1) % 3, 1)
        return 0

    with ThreadPoolExecutor(3) as pool:
        results = [pool.submit(step, x, 0) for x in range(3)]
        assert all(0 <= result.result(30) <= 6 for result in results)


def test_a_long_wait_is_not_taken_for_a_ring() -> None:
    @keep(version=1)
    def outer(x: int) -> int:
        return slow(7) + x

    with ThreadPoolExecutor(4) as pool:
        before = slow.stats().waited
        futures = [pool.submit(outer, x) for x in range(4)]
        until(lambda: slow.stats().waited >= before + 3)
        GO.set()
        assert [future.result(30) for future in futures] == [7, 8, 9, 10]
    assert RAN == [7]


def test_rerun_does_not_wait() -> None:
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(slow, 1)
        assert STARTED.wait(30)
        second = pool.submit(slow.rerun, 1)
        until(lambda: len(RAN) == 2)
        GO.set()
        assert (first.result(30), second.result(30)) == (1, 1)


CHILD = """
import sys, time
from pathlib import Path
from wellkept import keep

@keep(name="slow")
def slow(x):
    with open("ran", "a") as file:
        file.write("x")
    while not Path("go").exists():
        time.sleep(0.002)
    return x

@keep(name="ping", ignore="depth")
def ping(x, depth, other=None):
    if depth:
        return 1
    Path(f"in-{sys.argv[1]}").touch()
    while not (Path("in-ping").exists() and Path("in-pong").exists()):
        time.sleep(0.002)
    return 1 + (pong if sys.argv[1] == "ping" else ping)(x, 1)

pong = keep(name="pong", ignore="depth")(ping.__wrapped__)

what = sys.argv[1]
print(slow(1) if what == "slow" else (ping if what == "ping" else pong)(1, 0))
"""


def start(*args: str) -> subprocess.Popen[str]:
    # Written once: a file that changes under a process does not tell what that process runs.
    if not Path("child.py").exists():
        Path("child.py").write_text(textwrap.dedent(CHILD))
    return subprocess.Popen([sys.executable, "child.py", *args], stdout=subprocess.PIPE, text=True)


def test_processes_that_ask_for_one_key_compute_once() -> None:
    children = [start("slow") for _ in range(3)]
    until(Path("ran").exists)
    Path("go").touch()
    assert [child.communicate(timeout=60)[0] for child in children] == ["1\n"] * 3
    assert Path("ran").read_text() == "x"


def test_a_waiter_takes_over_from_a_killed_owner() -> None:
    owner = start("slow")
    until(lambda: Path("ran").exists() and Path("ran").read_text() == "x")  # it computes
    waiter = start("slow")
    owner.send_signal(signal.SIGKILL)
    owner.communicate(timeout=60)
    until(lambda: Path("ran").read_text() == "xx")
    Path("go").touch()
    assert waiter.communicate(timeout=60)[0] == "1\n"


def test_processes_that_wait_for_each_other_end() -> None:
    children = [start("ping"), start("pong")]
    try:
        assert {child.communicate(timeout=30)[0] for child in children} <= {"1\n", "2\n", "3\n"}
    finally:
        for child in children:
            child.kill()
            child.wait()


def forked(x: int) -> None:
    os._exit(0 if slow(x) == x else 1)


def test_a_fork_in_the_middle_of_a_computation() -> None:
    @keep
    def f(x: int) -> int:
        pid = os.fork()
        if pid == 0:
            try:
                # The child holds none of its parent's leases, and its own calls go on.
                assert slow.contains(2) is False
                GO.set()
                assert slow(2) == 2
                os._exit(0)
            finally:
                os._exit(1)
        assert os.waitpid(pid, 0)[1] == 0
        return x

    slow.contains(2)
    assert f(1) == 1
    assert slow.load(2) == 2  # what the child kept
    assert f.contains(1)


def test_many_processes_and_keys() -> None:
    context = multiprocessing.get_context("fork")
    GO.set()
    with context.Pool(3) as pool:
        assert pool.map(slow, list(range(10)) * 3, chunksize=1) == list(range(10)) * 3
    assert slow.map(range(10)) == list(range(10))
    assert RAN == []
