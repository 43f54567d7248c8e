"""Keeping and hitting arrays of three sizes in every medium, beside fleche's matching storage."""

from __future__ import annotations

import itertools
from time import perf_counter_ns
from typing import Any

import bodies
from bodies import OUTSIDE
from libraries import open_session
from measure import CannotDoError, Room, hits_only, loops_for, quiet_collector, run_child, same
from samplers import Sampler

SIZES = {"1 KB": 125, "1 MB": 125_000, "100 MB": 12_500_000}
"""Items of the float64 arrays."""


class MediumHit:
    """A kept array, loaded again and again in a process that another one kept it for."""

    def __init__(self, items: int, in_memory: bool) -> None:
        self.notes: dict[str, str] = {}
        self.unsound: set[str] = set()
        self._items, self._in_memory = items, in_memory
        self._sessions: list[Any] = []

    def prepare(self, entrant: str, room: Room, quick: bool) -> Sampler:
        directory, items = room.new(), self._items
        if not self._in_memory:
            where = {"entrant": entrant, "directory": str(directory)}
            run_child("fill_large", **where, number=7, items=items)
        session = open_session(entrant, directory)
        self._sessions.append(session)
        kept = session.keep(bodies.large)
        if self._in_memory:
            kept(7, items)
        expected, before = OUTSIDE.block(7, items).copy(), OUTSIDE.ticks
        same(bool((kept(7, items) == expected).all()), True, entrant)
        start = perf_counter_ns()
        kept(7, items)
        loops = loops_for(perf_counter_ns() - start)
        hits_only(entrant, before)

        def sample() -> float:
            session.enter()
            before, result = OUTSIDE.ticks, None
            with quiet_collector():
                start = perf_counter_ns()
                for _ in range(loops):
                    result = kept(7, items)
                took = perf_counter_ns() - start
            hits_only(entrant, before)
            picks = slice(None, None, max(1, items // 99))
            found = result is not None and result.shape == expected.shape
            same(found and bool((result[picks] == expected[picks]).all()), True, entrant)
            return took / 1e9 / loops

        return sample

    def finish(self) -> None:
        while self._sessions:
            self._sessions.pop().close()


class MediumKeep:
    """New arrays, each time in a store that is new and removed at once."""

    def __init__(self, items: int) -> None:
        self.notes: dict[str, str] = {}
        self.unsound: set[str] = set()
        self._items = items
        self._many = max(1, min(50, 1_000_000 // items))
        self._numbers = itertools.count(1)

    def prepare(self, entrant: str, room: Room, quick: bool) -> Sampler:
        def sample() -> float:
            directory = room.new()
            session = open_session(entrant, directory)
            try:
                return self._keep(entrant, session)
            finally:
                session.close()
                room.drop(directory)

        return sample

    def _keep(self, entrant: str, session: Any) -> float:
        kept, items = session.keep(bodies.large), self._items
        kept(next(self._numbers), max(1, items // 2))
        numbers = [next(self._numbers) for _ in range(self._many)]
        before = OUTSIDE.ticks
        with quiet_collector():
            start = perf_counter_ns()
            for number in numbers:
                kept(number, items)
            took = perf_counter_ns() - start
        if OUTSIDE.ticks != before + len(numbers):
            raise CannotDoError(f"{entrant} took a new argument for a hit")
        found = kept(numbers[-1], items)
        same(bool((found == OUTSIDE.block(numbers[-1], items)).all()), True, entrant)
        hits_only(entrant, before + len(numbers))
        return took / 1e9 / len(numbers)

    def finish(self) -> None:
        """Nothing stays open."""


MATCHING = {
    "memory": ("wellkept memory:", "fleche memory"),
    "files, pickle": ("wellkept files:", "fleche file"),
    "files, cloudpickle": ("wellkept files: cloudpickle", "fleche cloudpickle"),
    "files, dill": ("wellkept files: dill", "fleche dill"),
    "hdf5": ("wellkept hdf5:", "fleche HDF5"),
    "sqlite": ("wellkept sqlite:", "fleche SQL"),
}
"""A medium: kept in it, and fleche's matching storage."""
