"""Who a process is, what runs at its forks, and its work in the background."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable

import pytest

from wellkept import _process
from wellkept._process import (
    Instances,
    Worker,
    identity,
    is_alive,
    is_left,
    is_running,
    part_name,
)
from wellkept.testing.contract import in_fork


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline, "it does not come about"
        time.sleep(0.005)


@pytest.fixture(scope="module")
def dead() -> int:
    """The number of a process that was, and is no more."""
    done = subprocess.Popen([sys.executable, "-c", ""])
    done.wait()
    return done.pid


def test_a_process_is_told_from_others(dead: int) -> None:
    here = identity()
    assert is_alive(here)
    assert is_alive(here | {"pid": dead}) is False
    assert is_alive(here | {"begun": "1"}) is False  # an earlier one of the same number
    assert is_alive(here | {"boot": "before"}) is False
    assert is_alive(here | {"host": "elsewhere"}) is None


def test_names_of_parts_say_who_left_them(dead: int) -> None:
    name = part_name()
    assert not is_left(name)
    assert is_left(name.replace(f"~{os.getpid()}~", f"~{dead}~"))
    assert not is_left(f"elsewhere~{dead}~ab")
    assert not is_left("ab12")
    assert is_running(os.getpid())
    assert not is_running(dead)


def test_a_worker_works_until_there_is_nothing_to_do() -> None:
    left = [3]

    def work() -> bool:
        left[0] -= 1
        return left[0] > 0

    worker = Worker("test", work, lambda: 0.001)
    assert worker.begin()
    until(lambda: worker._thread is None)
    assert left == [0]
    left[0] = 2
    worker.begin()
    until(lambda: left == [0] and worker._thread is None)


def test_what_is_asked_for_during_the_work_is_done() -> None:
    at_work, go_on = threading.Event(), threading.Event()
    done: list[int] = []

    def work() -> bool:
        at_work.set()
        go_on.wait(60)
        done.append(1)
        return False

    worker = Worker("test", work, lambda: 0.0)
    worker.begin()
    assert at_work.wait(60)
    worker.begin()  # it found nothing to do yet, and is asked again
    go_on.set()
    until(lambda: worker._thread is None)
    assert len(done) == 2


def test_a_fork_finds_no_worker_at_work_and_the_parent_goes_on() -> None:
    done: list[int] = []

    def work() -> bool:
        done.append(1)
        return True

    worker = Worker("test-fork", work, lambda: 0.001)
    worker.begin()
    until(lambda: bool(done))

    def child() -> None:
        assert "test-fork" not in [thread.name for thread in threading.enumerate()]
        assert worker._thread is None
        count = len(done)
        assert worker.begin()
        until(lambda: len(done) > count)

    before = worker._thread
    assert in_fork(child) == 0
    assert worker._thread is not before, "it was at work during the fork"
    count = len(done)
    until(lambda: len(done) > count)
    worker.stop()
    assert "test-fork" not in [thread.name for thread in threading.enumerate()]


IMPORTED_LATE = """
import os, sys, threading
from wellkept._process import Worker

at_work, go_on = threading.Event(), threading.Event()

def work():
    at_work.set()
    go_on.wait(60)
    for name in range(100):  # each asks for a lock
        logging.getLogger(f"{time.monotonic()}.{name}")
    with ThreadPoolExecutor(1) as pool:
        pool.submit(int).result()
    return True

worker = Worker("test", work, lambda: 0.001)
assert not {"logging", "concurrent.futures"} & sys.modules.keys()
import logging, time
from concurrent.futures import ThreadPoolExecutor
worker.begin()
assert at_work.wait(60)
# It comes after the hooks of the libraries, so the work goes on when these have run.
threading.Thread(target=lambda: (time.sleep(0.1), go_on.set())).start()
if (child := os.fork()) == 0:
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
print("forked", flush=True)
os._exit(0)
"""


def test_a_fork_waits_for_work_that_needs_locks_of_libraries_imported_late() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", IMPORTED_LATE],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout == "forked\n", done.stderr


class Thing:
    pass


def test_hooks_run_in_order_and_one_that_fails_stops_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ran: list[str] = []
    for hooks in ("_before", "_in_parent", "_in_child"):
        monkeypatch.setattr(_process, hooks, [])
    things: Instances[Thing] = Instances(
        before=lambda thing: ran.append("before things"),
        in_child=lambda thing: ran.append("things"),
    )
    thing, gone = Thing(), Thing()
    things.add(thing)
    things.add(gone)
    del gone

    def fail() -> None:
        ran.append("failed")
        raise ValueError("a hook")

    _process.at_fork(before=fail, in_child=lambda: ran.append("last"))
    with pytest.raises(ValueError, match="a hook"):
        _process._before_fork()
    assert ran == ["failed", "before things"]  # in the reverse order
    ran.clear()
    _process._after_fork_in_child()
    assert ran == ["things", "last"]
