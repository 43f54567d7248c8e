"""What a sweep feels: many new results of one process, and of several at once, and their memory."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from pathlib import Path
from time import perf_counter_ns
from typing import Any

import bodies
from bodies import OUTSIDE
from measure import HERE, CannotDoError, Room, run_child, same, timed
from samplers import Base, Sampler

# Calls of one `map`; the list of its results is then let go of.
STEP = 20_000


def keep_all(kept: Any, numbers: range) -> list[float]:
    """New results: by `map` where the library has one, and one by one where it has none."""
    if hasattr(kept, "map"):
        found: list[float] = kept.map(
            numbers, itertools.repeat("new", len(numbers)), itertools.repeat(0.5, len(numbers))
        )
        return found
    return [kept(number, "new", 0.5) for number in numbers]


class Sweep(Base):
    """New results, in turn with the peers; what the bare calls take is subtracted."""

    def prepare(self, entrant: str, room: Room, quick: bool) -> Sampler:
        kept = self._open(entrant, room.new()).keep(bodies.score)
        keep_all(kept, range(-1, 0))
        starts = itertools.count(0, STEP)

        def sample() -> float:
            start = next(starts)
            numbers = range(start, start + (2000 if quick else STEP))
            before = OUTSIDE.ticks
            took, results = timed(lambda: keep_all(kept, numbers))
            if OUTSIDE.ticks - before != len(numbers):
                raise CannotDoError(f"{entrant} took a new argument for a hit")
            bare, expected = timed(lambda: [bodies.score(n, "new", 0.5) for n in numbers])
            same(results, expected, entrant)
            return max(0, took - bare) / 1e9 / len(numbers)

        return sample


class ManyItems(Base):
    """A function of many items that has kept all of them: what one takes, its digest and key apart."""

    def prepare(self, entrant: str, room: Room, quick: bool) -> Sampler:
        import wellkept
        from wellkept.hashing.digests import call_keys

        texts = [f"text number {i}" for i in range(20_000 if quick else 100_000)]
        ran: list[int] = []

        @wellkept.keep(cache=room.new(), name="many", version=1, each="texts", batch=1000)
        def many(texts: list[str]) -> list[int]:
            ran.append(len(texts))
            return list(map(len, texts))

        many(texts)
        expected = list(map(len, texts))
        label = wellkept.digest("texts")

        def sample() -> float:
            ran.clear()
            took, results = timed(lambda: many(texts))
            same(results, expected, entrant)
            if ran:
                raise CannotDoError("a kept item was computed")
            named = [("@each", label.raw), ("texts", label.raw)]
            hashing, _ = timed(
                lambda: call_keys(
                    "many", "version:1", named, "texts", [wellkept.digest(t).raw for t in texts]
                )
            )
            return max(0, took - hashing) / 1e9 / len(texts)

        return sample


class LongSweep(Base):
    """A million new results of one process: its time, or what its memory grew by."""

    _done: dict[bool, dict[str, Any]] = {}  # noqa: RUF012  measured once a run, for both rows

    def __init__(self, what: str) -> None:
        super().__init__()
        self._what = what

    def prepare(self, entrant: str, room: Room, quick: bool) -> Sampler:
        count = 60_000 if quick else 1_000_000

        def sample() -> float:
            if quick not in self._done:
                directory = str(room.new())
                order = {"entrant": entrant, "directory": directory, "start": 0, "count": count}
                self._done[quick] = run_child("sweep", **order)
            answer = self._done[quick]
            if answer["ticks"] != count:
                raise CannotDoError("took a new argument for a hit")
            if quick:
                self.notes[entrant] = f"from {count:,} calls"
            elif self._what == "bytes":
                tenths = ", ".join(f"{grown / 1e6:.0f}" for grown in answer["tenths"])
                self.notes[entrant] = f"MB after each {count // 10:,} results: {tenths}"
            # A shorter sweep writes to a smaller index, so this is less than it would be.
            times = 1_000_000 / count if self._what == "seconds" else 1.0
            return float(answer[self._what]) * times

        return sample


class Writers(Base):
    """A miss, where four processes make them at once on one cache: wall time over all of them."""

    def prepare(self, entrant: str, room: Room, quick: bool) -> Sampler:
        directory = room.new()
        count = 500 if quick else 2000
        starts = itertools.count(0, 1_000_000)

        def sample() -> float:
            workers = [
                _start(entrant=entrant, directory=str(directory), start=next(starts), count=count)
                for _ in range(4)
            ]
            for worker in workers:
                _line(worker)
            began = perf_counter_ns()
            for worker in workers:
                assert worker.stdin is not None
                worker.stdin.write("\n")
                worker.stdin.flush()
            answers = [json.loads(_line(worker)) for worker in workers]
            took = perf_counter_ns() - began
            for worker in workers:
                worker.wait(60)
            same([answer["ticks"] for answer in answers], [count] * 4, entrant)
            return took / 1e9 / (4 * count)

        return sample


def _start(**order: Any) -> subprocess.Popen[str]:
    command = [
        sys.executable,
        str(Path(HERE) / "child.py"),
        json.dumps({"do": "one_by_one", **order}),
    ]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def _line(worker: subprocess.Popen[str]) -> str:
    assert worker.stdout is not None
    while line := worker.stdout.readline():
        if line.strip():
            return line
    raise CannotDoError("a process failed; its message is above")
