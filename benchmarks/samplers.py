"""The works behind the rows. `prepare` gives a sampler, which takes one checked sample a call."""

from __future__ import annotations

import itertools
import json
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from time import perf_counter_ns, thread_time_ns
from typing import Any, Protocol

import bodies
import inputs
from bodies import OUTSIDE
from libraries import IMPORTS, open_session
from measure import (
    HERE,
    CannotDoError,
    Room,
    hits_only,
    import_seconds,
    loops_for,
    quiet_collector,
    run_child,
    same,
    timed,
)

Sampler = Callable[[], float]


class Work(Protocol):
    """One row's work. A sample is in seconds, or in bytes where the row says so."""

    def prepare(self, entrant: str, room: Room, quick: bool) -> Sampler: ...
    def finish(self) -> None:
        """Last checks; then everything is closed."""

    notes: dict[str, str]  # by entrant: what a reader must know about its number
    unsound: set[str]  # entrants whose number is shown but is no reference


class Base:
    def __init__(self) -> None:
        self.notes: dict[str, str] = {}
        self.unsound: set[str] = set()
        self._sessions: list[Any] = []

    def _open(self, entrant: str, directory: Path) -> Any:
        session = open_session(entrant, directory)
        self._sessions.append(session)
        return session

    def finish(self) -> None:
        while self._sessions:
            self._sessions.pop().close()


class Hit(Base):
    """Calls that another process has kept (or, with a memory tier, this one)."""

    def __init__(
        self, function: str, arguments: str, in_memory: bool = False, with_blake3: bool = False
    ) -> None:
        super().__init__()
        self._function, self._arguments = function, arguments
        self._in_memory = in_memory
        self._calls = getattr(inputs, arguments)()
        self._blake3 = with_blake3

    def prepare(self, entrant: str, room: Room, quick: bool) -> Sampler:
        if entrant == "BLAKE3":
            return _blake3_sampler(self._calls[0][0])
        directory = room.new()
        if not self._in_memory:
            run_child(
                "fill",
                entrant=entrant,
                directory=str(directory),
                function=self._function,
                arguments=self._arguments,
            )
        session = self._open(entrant, directory)
        body = getattr(bodies, self._function)
        kept, calls = session.keep(body), self._calls
        before = OUTSIDE.ticks
        expected = [body(*call) for call in calls]
        bare = OUTSIDE.ticks - before
        same([kept(*call) for call in calls], expected, entrant)
        if OUTSIDE.ticks - before > bare and not self._in_memory:
            self.unsound.add(entrant)
            self.notes[entrant] = (
                "does not recognise the equal argument that another process kept; "
                "measured after keeping it in this process, and no reference"
            )
        before = OUTSIDE.ticks
        took, results = timed(lambda: [kept(*call) for call in calls])
        same(results, expected, entrant)
        hits_only(entrant, before)
        loops = loops_for(took)

        def sample() -> float:
            session.enter()
            before = OUTSIDE.ticks
            if len(calls) > 1:
                took, results = _time_triples(kept, calls, loops)
                same(results, expected * loops, entrant)
            else:
                took, result = _time_single(kept, calls[0][0], loops)
                same(result, expected[0], entrant)
            hits_only(entrant, before)
            return took / 1e9 / loops / len(calls)

        return sample


def _time_triples(kept: Any, calls: list[tuple[Any, ...]], loops: int) -> tuple[int, list[Any]]:
    results: list[Any] = []
    append = results.append
    with quiet_collector():
        start = perf_counter_ns()
        for _ in range(loops):
            for first, second, third in calls:
                append(kept(first, second, third))
        took = perf_counter_ns() - start
    return took, results


def _time_single(kept: Any, argument: Any, loops: int) -> tuple[int, Any]:
    result = None
    with quiet_collector():
        start = perf_counter_ns()
        for _ in range(loops):
            result = kept(argument)
        took = perf_counter_ns() - start
    return took, result


def _blake3_sampler(array: Any) -> Sampler:
    from blake3 import blake3

    view = memoryview(array).cast("B")

    def hash_all() -> bytes:
        return blake3(view, max_threads=blake3.AUTO).digest()

    took, expected = timed(hash_all)
    loops = loops_for(took)

    def sample() -> float:
        took, found = timed(lambda: [hash_all() for _ in range(loops)])
        same(found[-1], expected, "BLAKE3")
        return took / 1e9 / loops

    return sample


class Beside(Base):
    """Hits from memory while another process keeps results in the same cache, and while none does."""

    def __init__(self) -> None:
        super().__init__()
        self._writer: subprocess.Popen[str] | None = None

    def prepare(self, entrant: str, room: Room, quick: bool) -> Sampler:
        directory, calls = room.new(), inputs.small()
        session = self._open("wellkept memory", directory)
        kept = session.keep(bodies.score)
        expected = [kept(*call) for call in calls]

        def sample() -> float:
            if entrant != "in quiet":
                self._begin(directory)
            try:
                before = OUTSIDE.ticks
                _time_triples(kept, calls, 20)
                # Time of this thread: the writer takes a core of its own, where there is one.
                began = thread_time_ns()
                _, results = _time_triples(kept, calls, 200)
                took = thread_time_ns() - began
                same(results, expected * 200, entrant)
                hits_only(entrant, before)
            finally:
                self._end()
            return took / 1e9 / 200 / len(calls)

        return sample

    def _begin(self, directory: Path) -> None:
        order = {"do": "keep_on", "directory": str(directory), "each_second": 500}
        command = [sys.executable, str(HERE / "child.py"), json.dumps(order)]
        self._writer = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._writer.stdout is not None
        if self._writer.stdout.readline().strip() != "begun":
            raise CannotDoError("the process beside it did not begin")

    def _end(self) -> None:
        if self._writer is not None:
            self._writer.kill()
            self._writer.communicate()
            self._writer = None


class LoadedArgument(Base):
    """A call with an array that the cache loaded, which nobody has written to."""

    def prepare(self, entrant: str, room: Room, quick: bool) -> Sampler:
        if entrant == "BLAKE3":
            return _blake3_sampler(OUTSIDE.block(3, inputs.ARRAY_ITEMS))
        session = self._open(entrant, room.new())
        large, kept = session.keep(bodies.large), session.keep(bodies.size)
        large(7, inputs.ARRAY_ITEMS)
        array = large(7, inputs.ARRAY_ITEMS)
        expected = kept(array)
        took, _ = timed(lambda: kept(array))
        loops = loops_for(took)

        def sample() -> float:
            before = OUTSIDE.ticks
            took, result = _time_single(kept, array, loops)
            same(result, expected, entrant)
            hits_only(entrant, before)
            return took / 1e9 / loops

        return sample


class Miss(Base):
    """A new argument each time; what the bare calls take is subtracted."""

    def __init__(self) -> None:
        super().__init__()
        self._last: dict[str, tuple[Path, list[list[Any]], list[Any]]] = {}

    def prepare(self, entrant: str, room: Room, quick: bool) -> Sampler:
        directory = room.new()
        session = self._open(entrant, directory)
        kept = session.keep(bodies.score)
        numbers = itertools.count()
        kept(next(numbers), "first", 0.5)

        def sample() -> float:
            session.enter()
            calls = [(next(numbers), "new", 0.5) for _ in range(100)]
            before = OUTSIDE.ticks
            took, results = _time_triples(kept, calls, 1)
            if OUTSIDE.ticks - before != len(calls):
                raise CannotDoError(f"{entrant} took a new argument for a hit")
            bare, expected = _time_triples(bodies.score, calls, 1)
            same(results, expected, entrant)
            self._last[entrant] = (directory, [list(call) for call in calls], expected)
            return max(0, took - bare) / 1e9 / len(calls)

        return sample

    def finish(self) -> None:
        super().finish()
        for entrant, (directory, calls, expected) in self._last.items():
            answer = run_child(
                "again", entrant=entrant, directory=str(directory), function="score", calls=calls
            )
            same(answer["results"], expected, entrant)
            if answer["ticks"]:
                self.unsound.add(entrant)
                self.notes[entrant] = (
                    f"another process does not find {answer['ticks']} of {len(calls)} again"
                )


class Keep(Base):
    """Keep a new array of 100 MB, each time in a directory that is new and removed at once."""

    def __init__(self) -> None:
        super().__init__()
        self._numbers = itertools.count(1)

    def prepare(self, entrant: str, room: Room, quick: bool) -> Sampler:
        if entrant == "write + BLAKE3":
            return lambda: self._write_and_hash(room)

        def sample() -> float:
            directory, number = room.new(), next(self._numbers)
            session = open_session(entrant, directory)
            try:
                kept = session.keep(bodies.large)
                kept(number, 1000)
                expected = OUTSIDE.block(number, inputs.ARRAY_ITEMS)
                before = OUTSIDE.ticks
                took, _ = timed(lambda: kept(number, inputs.ARRAY_ITEMS))
                if OUTSIDE.ticks != before + 1:
                    raise CannotDoError(f"{entrant} took a new argument for a hit")
                same(bool((kept(number, inputs.ARRAY_ITEMS) == expected).all()), True, entrant)
                hits_only(entrant, before + 1)
            finally:
                session.close()
                room.drop(directory)
            return took / 1e9

        return sample

    def _write_and_hash(self, room: Room) -> float:
        from blake3 import blake3

        directory, number = room.new(), next(self._numbers)
        view = memoryview(OUTSIDE.block(number, inputs.ARRAY_ITEMS)).cast("B")

        def both() -> bytes:
            with (directory / "new").open("wb", buffering=0) as file:
                written = 0
                while written < len(view):
                    written += file.write(view[written:])
            return blake3(view, max_threads=blake3.AUTO).digest()

        took, _ = timed(both)
        same((directory / "new").stat().st_size, len(view), "write + BLAKE3")
        room.drop(directory)
        return took / 1e9


class LoadFirst(Base):
    """The one call that loads the array, in a process that has not seen it; page cache warm."""

    def prepare(self, entrant: str, room: Room, quick: bool) -> Sampler:
        where = {"entrant": entrant, "directory": str(room.new())}
        what = {"number": 7, "items": inputs.ARRAY_ITEMS}
        run_child("fill_large", **where, **what)

        def sample() -> float:
            answer = run_child("first_load", **where, **what)
            same(answer["right"], True, entrant)
            if answer["ticks"]:
                raise CannotDoError(f"{entrant} ran the body again where a hit was due")
            return float(answer["nanoseconds"]) / 1e9

        return sample


class LoadAgain(Base):
    def prepare(self, entrant: str, room: Room, quick: bool) -> Sampler:
        directory, items = room.new(), inputs.ARRAY_ITEMS
        run_child("fill_large", entrant=entrant, directory=str(directory), number=7, items=items)
        session = self._open(entrant, directory)
        kept = session.keep(bodies.large)
        expected = OUTSIDE.block(7, items)
        before = OUTSIDE.ticks
        same(bool((kept(7, items) == expected).all()), True, entrant)
        hits_only(entrant, before)
        took, _ = timed(lambda: kept(7, items))
        loops = loops_for(took)

        def sample() -> float:
            session.enter()
            before, result = OUTSIDE.ticks, None
            with quiet_collector():
                start = perf_counter_ns()
                for _ in range(loops):
                    result = kept(7, items)
                took = perf_counter_ns() - start
            hits_only(entrant, before)
            picks = slice(None, None, 99_991)
            found = result is not None and result.shape == expected.shape
            same(found and bool((result[picks] == expected[picks]).all()), True, entrant)
            return took / 1e9 / loops

        return sample


class Million(Base):
    """Hits on calls drawn anew each round among all that are kept, against the same among 1,000."""

    def prepare(self, entrant: str, room: Room, quick: bool) -> Sampler:
        many = 50_000 if quick else 1_000_000
        kept_calls = 1000 if entrant == "among 1,000" else many
        session = self._open("wellkept", room.new())
        kept = session.keep(bodies.score)
        start = perf_counter_ns()
        for number in range(kept_calls):
            kept(number, "label", 0.5)
            if number % 100_000 == 99_999:
                print(f"  kept {number + 1:,} calls", file=sys.stderr, flush=True)
        seconds = (perf_counter_ns() - start) / 1e9
        self.notes[entrant] = f"{kept_calls:,} calls, kept one by one in {seconds:.1f} s"

        def sample() -> float:
            numbers = random.sample(range(kept_calls), 1000)
            calls = [(number, "label", 0.5) for number in numbers]
            for call in calls:  # the row asks for the index: keys are computed before, on both
                kept.key(*call)
            before = OUTSIDE.ticks
            took, results = _time_triples(kept, calls, 1)
            hits_only(entrant, before)
            same(results, [number * 0.5 + 5 for number in numbers], entrant)
            return took / 1e9 / len(calls)

        return sample


class Import(Base):
    """The time of an interpreter that imports, less that of one that does nothing."""

    def prepare(self, entrant: str, room: Room, quick: bool) -> Sampler:
        statement = IMPORTS[entrant]
        import_seconds(statement)
        return lambda: import_seconds(statement) - import_seconds("pass")


class Start(Base):
    """The time of a command, less that of an interpreter that does nothing."""

    def __init__(self, *arguments: str) -> None:
        super().__init__()
        self._arguments = arguments

    def prepare(self, entrant: str, room: Room, quick: bool) -> Sampler:
        statement = f"from wellkept.cli import main; main({list(self._arguments)!r})"
        import_seconds(statement)
        return lambda: import_seconds(statement) - import_seconds("pass")


class Peak(Base):
    """What one call adds to the peak of a process that already holds the array."""

    def __init__(self, what: str) -> None:
        super().__init__()
        self._what = what

    def prepare(self, entrant: str, room: Room, quick: bool) -> Sampler:
        items = inputs.GIGABYTE_ITEMS

        def sample() -> float:
            directory = room.new()
            try:
                answer = run_child(
                    "peak", entrant=entrant, directory=str(directory), what=self._what, items=items
                )
            finally:
                room.drop(directory)
            same(answer["answer"], float(items if self._what == "argument" else 3), entrant)
            if not answer["right"]:
                raise CannotDoError("does not keep it: the body runs again")
            return float(answer["bytes"])

        return sample
