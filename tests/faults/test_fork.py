"""A fork carries memory across, but no threads, and no locks of the parent's."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import wellkept

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")


def forked(do: Callable[[], None], patience: float = 20.0) -> int:
    """Run `do` in a forked child; its exit status (0: fine, negative: the signal)."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            do()
            status = 0
        except BaseException as error:  # noqa: BLE001  the parent sees the status
            os.write(2, f"in the child: {error!r}\n".encode())
        finally:
            os._exit(status)
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return -signal.SIGALRM


def test_a_forked_child_digests_large_buffers() -> None:
    data = bytes(8_000_000)
    digest = wellkept.digest(data)

    def child() -> None:
        assert wellkept.digest(data) == digest
        assert wellkept.digest(bytearray(data)) != digest

    assert forked(child) == 0


def test_a_forked_child_keeps_what_its_parent_closed(home: Path) -> None:
    # The index must not be taken from under the child when the parent closes it.
    cache = wellkept.open(home / "c")

    @wellkept.keep(cache=cache)
    def f(i: int) -> int:
        return i

    f(1)
    ready, go = os.pipe(), os.pipe()

    def child() -> None:
        f(2)
        os.write(ready[1], b"x")
        os.read(go[0], 1)
        for i in range(3, 30):
            f(i)
        assert all(f.contains(i) for i in range(1, 30))

    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            child()
            status = 0
        finally:
            os._exit(status)
    os.read(ready[0], 1)
    cache.close()
    os.write(go[1], b"x")
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert [f.contains(i) for i in range(1, 30)] == [True] * 29
    for end in (*ready, *go):
        os.close(end)


FIRST = """
import os, sys, threading, time, warnings
warnings.simplefilter("ignore")
import wellkept

cache = wellkept.open(sys.argv[1])

@wellkept.keep(cache=cache, version=1)
def f(n):
    return n

threads = [threading.Thread(target=f, args=((k, 1),)) for k in range(2)]
for thread in threads:
    thread.start()
time.sleep(float(sys.argv[2]))
pid = os.fork()
if pid == 0:
    f(("child", 1))
    os._exit(0)
end = time.monotonic() + 30
while not os.waitpid(pid, os.WNOHANG)[0]:
    if time.monotonic() > end:
        os.kill(pid, 9)
        print("the child is stuck", flush=True)
        os._exit(1)
    time.sleep(0.005)
for thread in threads:
    thread.join()
print("fine", flush=True)
"""


@pytest.mark.parametrize("after", [0.0, 0.002, 0.005, 0.01, 0.02])
def test_a_fork_in_the_midst_of_the_first_calls(home: Path, after: float) -> None:
    # Another thread then imports, and reads the configuration: what it locks is not the child's.
    done = subprocess.run(
        [sys.executable, "-c", FIRST, home / "c", str(after)],
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.stdout == "fine\n", done.stderr
