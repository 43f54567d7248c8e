"""A process that is interrupted at each instruction of the library, with another one beside it.

    python interrupting.py KIND,KIND,... URL STEP SEED

It makes a call of each kind once to see which instructions that takes, then again and again, each time
with an exception at another of them: at every STEP-th, from the SEED-th on. After each of them the same
call and a new one must end and be kept, and now and then the other process makes the same calls. For
each kind it prints a line: how many instructions that were, and what went wrong.
"""

from __future__ import annotations

import contextlib
import faulthandler
import gc
import itertools
import os
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import wellkept

ROOT = f"{Path(wellkept.__file__).parent}{os.sep}"
PATIENCE = 25.0
EACH = int(os.environ.get("WELLKEPT_OTHER_EACH", "25"))  # how often the other process is asked
Point = tuple[CodeType, int]
numbers = itertools.count(1)


class Interrupt(BaseException):
    """What a signal's handler might raise."""


def points(do: Callable[[], object]) -> list[Point]:
    """The instructions of the library that something takes, each once, in order."""
    found: dict[Point, None] = {}

    def each(frame: FrameType, event: str, arg: Any) -> Any:
        if event == "opcode":
            found[frame.f_code, frame.f_lasti] = None
        return each

    def trace(frame: FrameType, event: str, arg: Any) -> Any:
        if not frame.f_code.co_filename.startswith(ROOT):
            return None
        frame.f_trace_opcodes = True
        return each

    sys.settrace(trace)
    try:
        do()
    finally:
        sys.settrace(None)
    return list(found)


def interrupted(
    do: Callable[[], object], at: Point, handler: Callable[[], object] | None = None
) -> Interrupt | None:
    """Do it, with an exception before that instruction, if it comes to it: that exception.

    Args:
        handler: is called there instead.
    """
    code, offset = at

    def each(frame: FrameType, event: str, arg: Any) -> Any:
        if event == "opcode" and frame.f_lasti == offset:
            sys.settrace(None)
            if handler is None:
                raise Interrupt
            handler()
        return each

    def trace(frame: FrameType, event: str, arg: Any) -> Any:
        if frame.f_code is not code:
            return None
        frame.f_trace_opcodes = True
        return each

    sys.settrace(trace)
    try:
        do()
    except Interrupt as error:
        return error
    finally:
        sys.settrace(None)
    return None


def elsewhere(do: Callable[[], str]) -> str:
    """What it gives in another thread."""
    said = ["it did not end"]

    def run() -> None:
        said[0] = do()

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(PATIENCE)
    return said[0]


class Calls:
    """A kept function on a medium, and named state there."""

    def __init__(self, url: str, **options: Any) -> None:
        self.cache = wellkept.open(url, **options)
        self.f = wellkept.keep(cache=self.cache, version=1, name="interrupted")(body)
        self.many = wellkept.keep(cache=self.cache, version=1, name="interrupted", each="n")(bodies)
        self.state = None
        with contextlib.suppress(wellkept.ConfigError):
            self.state = wellkept.store("interrupted", cache=self.cache)
        self.last = 0

    def miss(self) -> None:
        self.last = next(numbers)
        self.f(self.last)

    def hit(self) -> None:
        self.f(0)

    def batch(self) -> None:
        self.last = next(numbers)
        self.f.map([self.last, 0, next(numbers)])

    def each(self) -> None:
        self.last = next(numbers)
        self.many([self.last, 0, next(numbers)])

    def set(self) -> None:
        assert self.state is not None
        self.state.set("a", next(numbers))
        self.state.increment("count")

    def check(self) -> str:
        """What is wrong now, if anything is."""
        number = next(numbers)
        troubles = self.f.stats().unavailable
        for n in (self.last, number):
            if self.f(n) != body(n):
                return f"another result for {n}"
            if not self.f.contains(n):
                return f"{n} is not kept"
        if self.f.stats().unavailable != troubles:
            return "the cache is unavailable"
        if self.state is not None:
            before = self.state.increment("count")
            if self.state.increment("count") != before + 1:
                return "a count is wrong"
        return ""


def body(n: int) -> tuple[int, str]:
    return n, "x" * 300


def bodies(n: list[int]) -> list[tuple[int, str]]:
    return [body(one) for one in n]


def other(url: str) -> None:
    """The other process: makes the calls that it is told."""
    calls = Calls(url)
    for line in sys.stdin:
        n = int(line)
        right = calls.f(n) == body(n) and calls.f(-n - 1) == body(-n - 1)
        if calls.state is not None:
            calls.state.increment("others")
        print("fine" if right and calls.f.contains(-n - 1) else "wrong", flush=True)


def main(kinds: list[str], url: str, step: int, seed: int) -> None:
    warnings.simplefilter("ignore")
    Calls(url).hit()  # what both use is made before the other begins
    # Connections that are lost are found by the collector, which is given nothing else to look at.
    gc.freeze()
    beside = None
    if not url.startswith("memory:"):
        beside = subprocess.Popen(
            [sys.executable, __file__, "other", url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
    for what in kinds:
        each_instruction(what, url, step, seed, beside)
    if beside is not None:
        beside.communicate(timeout=PATIENCE)


def each_instruction(
    what: str, url: str, step: int, seed: int, beside: subprocess.Popen[str] | None
) -> None:
    calls = Calls(url, **({"memory": 0} if what == "disk-hit" else {}))
    do = getattr(calls, "hit" if what == "disk-hit" else what)
    calls.hit()
    for _ in range(3):
        do()
        calls.check()
    wrong = []
    points(do)  # from Python 3.12 on, the first time may show only some
    todo = points(do)[seed % step :: step]
    for count, at in enumerate(todo):
        where = f"{Path(at[0].co_filename).name}:{at[0].co_qualname}+{at[1]}"
        faulthandler.dump_traceback_later(PATIENCE, exit=True)
        # Who looks at a traceback keeps the frames in it, and what they have.
        held = [interrupted(do, at)]
        if count % 3:
            held.clear()
        said = elsewhere(calls.check) if count % 2 else calls.check()
        if beside is not None and (count % EACH == 0 or said):
            assert beside.stdin is not None
            assert beside.stdout is not None
            beside.stdin.write(f"{calls.last}\n")
            beside.stdin.flush()
            if (answer := beside.stdout.readline().strip()) != "fine":
                said += f" the other process: {answer}"
        if said:
            wrong.append(f"{what} at {where}: {said}")
            print(wrong[-1], file=sys.stderr, flush=True)
    faulthandler.cancel_dump_traceback_later()
    print(what, len(todo), "instructions,", len(wrong), "wrong", *wrong[:3], flush=True)


if __name__ == "__main__":
    if sys.argv[1] == "other":
        other(sys.argv[2])
    else:
        main(sys.argv[1].split(","), sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
