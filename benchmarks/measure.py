"""How a sample is taken: fairly (no collector in between), and checked each time."""

from __future__ import annotations

import gc
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter_ns
from typing import Any

from bodies import OUTSIDE

HERE = Path(__file__).parent
SAMPLE_NS = 30_000_000  # a short work is repeated until a sample takes about this long


class CannotDoError(Exception):
    """A library can't do a row; the message says why, and becomes a footnote."""


@contextmanager
def quiet_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def timed(work: Callable[[], Any]) -> tuple[int, Any]:
    """Nanoseconds of one run, and what it returned."""
    with quiet_collector():
        start = perf_counter_ns()
        result = work()
        took = perf_counter_ns() - start
    return took, result


def hits_only(entrant: str, ticks_before: int) -> None:
    if OUTSIDE.ticks != ticks_before:
        raise CannotDoError(f"{entrant} ran the body again where a hit was due")


def same(found: Any, expected: Any, entrant: str) -> None:
    if found != expected:
        raise CannotDoError(f"{entrant} gave a wrong answer: {found!r:.80} for {expected!r:.80}")


def loops_for(nanoseconds: int) -> int:
    return max(1, min(2000, SAMPLE_NS // max(1, nanoseconds)))


class Room:
    """The temporary directories of a run; all of it is gone at the end."""

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="wellkept-bench-"))

    def new(self) -> Path:
        return Path(tempfile.mkdtemp(dir=self.path))

    def clear(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)

    @staticmethod
    def drop(directory: Path) -> None:
        shutil.rmtree(directory, ignore_errors=True)


def run_child(do: str, **order: Any) -> dict[str, Any]:
    """Run one function of `child.py` in a fresh process, under a hash seed of its own."""
    environment = dict(os.environ, PYTHONHASHSEED=str(random.randrange(1, 2**32)))
    finished = subprocess.run(
        [sys.executable, str(HERE / "child.py"), json.dumps({"do": do, **order})],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    if finished.returncode:
        lines = finished.stderr.strip().splitlines() or ["no message"]
        raise CannotDoError(f"{lines[-1][:300]} (in a fresh process)")
    answer: dict[str, Any] = json.loads(finished.stdout.strip().splitlines()[-1])
    return answer


def import_seconds(statement: str) -> float:
    """The processor's time of one interpreter that runs one statement: on a machine that others use too, the
    wall time says more of them.
    """
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(
            [sys.executable, "-c", statement], stdout=subprocess.DEVNULL, stderr=said
        )
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            said.seek(0)
            lines = said.read().decode(errors="replace").strip().splitlines() or ["no message"]
            raise CannotDoError(f"{statement}: {lines[-1][:300]}")
    return used.ru_utime + used.ru_stime
