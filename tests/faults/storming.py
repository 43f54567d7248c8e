"""A process under real signals, whose handlers raise, and one that sends them.

    python storming.py URL SIGNALS SEED

It makes new calls, sets and counts until so many signals have come in the midst of that, each at any
instant. After each the same call must end with the right result; at the end, what was computed since
is kept, and another process makes the same calls. It prints how many signals that were, of which kinds,
and what went wrong.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import random
import signal
import subprocess
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable
from typing import Any

import wellkept

SIGNALS = (signal.SIGINT, signal.SIGALRM, signal.SIGTERM)
PATIENCE = 40.0
SENDER = """
import os, random, signal, sys, time
pid, seed = int(sys.argv[1]), int(sys.argv[2])
chance = random.Random(seed)
signals = [int(word) for word in sys.argv[3:]]
while os.getppid() == pid:
    time.sleep(chance.uniform(1e-5, 6e-4))
    try:
        os.kill(pid, chance.choice(signals))
    except ProcessLookupError:
        break
"""


class Interrupt(BaseException):
    """What the handlers raise."""


armed = lost = 0
came: Counter[str] = Counter()


def handle(number: int, frame: Any) -> None:
    global armed
    if armed:
        armed -= 1
        came[signal.Signals(number).name] += 1
        raise Interrupt


def attempt(do: Callable[[], object], times: int) -> None:
    """Do it under fire, until so many signals have come."""
    global armed, lost
    try:
        armed = times
        while armed:
            do()
        # What is raised while the collector runs a callback, Python prints and drops.
        lost += 1
    except Interrupt:
        pass
    armed = 0


def body(n: int) -> tuple[int, str]:
    return n, "x" * 300


def main(url: str, wanted: int, seed: int) -> None:
    warnings.simplefilter("ignore")
    cache = wellkept.open(url)
    f = wellkept.keep(cache=cache, version=1, name="storm")(body)
    state = None
    with contextlib.suppress(wellkept.ConfigError):
        state = wellkept.store("storm", cache=cache)
    f(0)
    n, wrong = 0, []

    def call() -> None:
        nonlocal n
        n += 1
        f(n)

    def change() -> None:
        assert state is not None
        state.set("a", n)
        state.increment("count")

    chance = random.Random(seed)
    for number in SIGNALS:
        signal.signal(number, handle)
    numbers = [str(int(number)) for number in SIGNALS]
    sender = subprocess.Popen([sys.executable, "-c", SENDER, str(os.getpid()), str(seed), *numbers])
    began = time.monotonic()
    while sum(came.values()) < wanted:
        faulthandler.dump_traceback_later(PATIENCE, exit=True)
        attempt(
            change if state is not None and chance.random() < 0.3 else call,
            1 + (chance.random() < 0.1),
        )
        if f(n) != body(n):
            wrong.append(f"another result for {n}")
    took = time.monotonic() - began
    sender.kill()
    sender.wait()
    if lost > 3 + wanted // 500:
        wrong.append(f"{lost} signals were lost")
    before = f.stats().unavailable
    for k in range(n, n + 50):
        f(k)
        if not f.contains(k):
            wrong.append(f"{k} is not kept")
    if f.stats().unavailable != before:
        wrong.append("the cache is unavailable")
    if state is not None:
        counted = state.increment("count")
        if state.increment("count") != counted + 1:
            wrong.append("a count is wrong")
    if not url.startswith("memory:"):
        code = (
            "import wellkept, sys; from tests.faults.storming import body\n"
            "f = wellkept.keep(cache=sys.argv[1], version=1, name='storm')(body); n = int(sys.argv[2])\n"
            "print(all(f(k) == body(k) for k in range(max(0, n - 200), n + 60)), f.stats().unavailable)"
        )
        done = subprocess.run(
            [sys.executable, "-c", code, url, str(n)],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        if done.stdout.strip() != "True 0":
            wrong.append(f"the other process: {done.stdout} {done.stderr[-300:]}")
    faulthandler.cancel_dump_traceback_later()
    print(sum(came.values()), "signals", dict(came), f"{took:.1f} s,", n, "calls,", end=" ")
    print(len(wrong), "wrong", *wrong[:3], flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
