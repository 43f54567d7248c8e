"""What has to happen in a process of its own; one JSON object goes in (argv), one comes out."""

from __future__ import annotations

import gc
import json
import resource
import sys
from pathlib import Path
from time import perf_counter_ns, sleep
from typing import Any

import bodies
import inputs
from libraries import open_session


def fill(entrant: str, directory: str, function: str, arguments: str) -> dict[str, Any]:
    """Keep the calls, so that the benchmark's own process finds them made by another one."""
    session = open_session(entrant, Path(directory))
    kept = session.keep(getattr(bodies, function))
    for call in getattr(inputs, arguments)(again=True):
        kept(*call)
    session.close()
    return {"ticks": bodies.OUTSIDE.ticks}


def keep_on(directory: str, each_second: int) -> dict[str, Any]:
    """Keep new results at a steady rate until this process is killed."""
    session = open_session("wellkept", Path(directory))
    kept = session.keep(bodies.following)
    print("begun", flush=True)
    due, number = perf_counter_ns(), perf_counter_ns()
    while True:
        number += 1
        kept(number)
        due += 1_000_000_000 // each_second
        sleep(max(0, due - perf_counter_ns()) / 1e9)


def fill_large(entrant: str, directory: str, number: int, items: int) -> dict[str, Any]:
    session = open_session(entrant, Path(directory))
    session.keep(bodies.large)(number, items)
    session.close()
    return {"ticks": bodies.OUTSIDE.ticks}


def again(entrant: str, directory: str, function: str, calls: list[list[Any]]) -> dict[str, Any]:
    """Repeat calls that another process made; the ticks say how many were not there."""
    session = open_session(entrant, Path(directory))
    kept = session.keep(getattr(bodies, function))
    results = [kept(*call) for call in calls]
    session.close()
    return {"ticks": bodies.OUTSIDE.ticks, "results": results}


def first_load(entrant: str, directory: str, number: int, items: int) -> dict[str, Any]:
    """Time the one call that loads a large array for the first time in this process."""
    expected = bodies.OUTSIDE.block(number, items).copy()
    session = open_session(entrant, Path(directory))
    kept = session.keep(bodies.large)
    gc.collect()
    gc.disable()
    start = perf_counter_ns()
    loaded = kept(number, items)
    took = perf_counter_ns() - start
    return {
        "nanoseconds": took,
        "ticks": bodies.OUTSIDE.ticks,
        "right": bool((loaded == expected).all()),
    }


def peak(entrant: str, directory: str, what: str, items: int) -> dict[str, Any]:
    """The peak of memory that digesting or keeping an array adds, in bytes."""
    import numpy as np

    session = open_session(entrant, Path(directory))
    keep_size, keep_large = session.keep(bodies.size), session.keep(bodies.large)
    keep_size(np.arange(1000.0))
    keep_large(1, 1000)
    array = bodies.OUTSIDE.block(2, items)
    kept, call = (keep_size, (array,)) if what == "argument" else (keep_large, (3, items))
    ticks, before = bodies.OUTSIDE.ticks, _peak_bytes()
    kept(*call)
    after = _peak_bytes()
    misses = bodies.OUTSIDE.ticks - ticks
    repeated = kept(*call)
    return {
        "bytes": after - before,
        "right": misses == 1 and bodies.OUTSIDE.ticks - ticks == 1,
        "answer": float(repeated if what == "argument" else repeated[-1]),
    }


def sweep(entrant: str, directory: str, start: int, count: int) -> dict[str, Any]:
    """Many new results by `map`: the time, and by what the memory of the process grew, at each tenth."""
    from sweeps import STEP, keep_all

    session = open_session(entrant, Path(directory))
    kept = session.keep(bodies.score)
    keep_all(kept, range(-2, -1))
    ticks, before = bodies.OUTSIDE.ticks, _bytes_now()
    grown: list[int] = []
    began = perf_counter_ns()
    for at in range(start, start + count, STEP):
        keep_all(kept, range(at, at + STEP))
        grown.append(_bytes_now() - before)
    took = perf_counter_ns() - began
    ticks = bodies.OUTSIDE.ticks - ticks
    session.close()
    tenths = [grown[len(grown) * tenth // 10 - 1] for tenth in range(1, 11)]
    return {"seconds": took / 1e9, "bytes": max(grown), "tenths": tenths, "ticks": ticks}


def one_by_one(entrant: str, directory: str, start: int, count: int) -> dict[str, Any]:
    """New results, each by a call; begun when a line is read."""
    session = open_session(entrant, Path(directory))
    kept = session.keep(bodies.score)
    kept(-1 - start, "first", 0.5)
    before = bodies.OUTSIDE.ticks
    print("ready", flush=True)
    sys.stdin.readline()
    for number in range(start, start + count):
        kept(number, "new", 0.5)
    return {"ticks": bodies.OUTSIDE.ticks - before}


def _bytes_now() -> int:
    """The resident size of this process, or its peak where that is all the system tells."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    except OSError:
        return _peak_bytes()


def _peak_bytes() -> int:
    """The peak resident size of this process.

    Linux carries `ru_maxrss` over from the process that started this one, so its own high-water
    mark is read where there is one.
    """
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


if __name__ == "__main__":
    order = json.loads(sys.argv[1])
    answer = globals()[order.pop("do")](**order)
    sys.stdout.write("\n" + json.dumps(answer) + "\n")
