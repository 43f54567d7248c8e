"""What a body took: wall time, the process's time on processors, and its peak of memory."""

from __future__ import annotations

import os
import sys
from time import perf_counter, time
from typing import Any

__all__ = ["Began", "begin", "seconds", "taken"]

Began = tuple[float, float, Any]
"""The time, a clock, and what the process had used."""

_UNIT = 1 if sys.platform == "darwin" else 1024  # bytes, or KiB

try:
    from resource import RUSAGE_SELF, getrusage
except ImportError:  # no such thing on Windows

    def begin() -> Began:
        """Begin to measure."""
        return time(), perf_counter(), os.times()

    def taken(began: Began) -> str:
        """What was used since; see below. Without the memory."""
        at, _, before = began
        now = os.times()
        text = f'"started":{at:.3f},"cpu":{now.user - before.user:.6g}'
        system = now.system - before.system
        return f'{text},"system":{system:.6g}' if system else text

else:

    def begin() -> Began:
        """Begin to measure."""
        return time(), perf_counter(), getrusage(RUSAGE_SELF)

    def taken(began: Began) -> str:
        """What was used since, as the members of a JSON object: `started` (seconds since the epoch),
        `cpu` and `system` (seconds that the whole process was in user and in kernel mode), `memory`
        (bytes by which the process's peak has risen). The last two are left out where they are 0.
        """
        at, _, before = began
        now = getrusage(RUSAGE_SELF)
        text = f'"started":{at:.3f},"cpu":{now[0] - before[0]:.6f}'
        system, memory = now[1] - before[1], now[2] - before[2]
        if system:
            text = f'{text},"system":{system:.6g}'
        return f'{text},"memory":{memory * _UNIT}' if memory else text


def seconds(began: Began) -> float:
    """Wall time since."""
    return perf_counter() - began[1]
