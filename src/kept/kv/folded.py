"""Named state that a process holds whole: in its memory only, or as what a journal of all says."""

from __future__ import annotations

import os
import random
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from kept.errors import KeptError
from kept.guards import Guard, settling
from kept.kv.base import HISTORY
from kept.kv.entry import About, Entry, Logged, Name, Step
from kept.kv.state import Op, State

__all__ = ["Folded", "Journal"]

R = TypeVar("R")


class Journal(Protocol):
    """Where changes are written down, in one order for all."""

    pause: float
    """Seconds between looks for news."""

    def read(self, state: State) -> State:
        """The state with all that was written since it was read, or another one."""
        ...

    def write(self, state: State, ops: Sequence[Op]) -> bool:
        """Write a change of this state down; False if another one came first."""
        ...


class Folded:
    """`Entries` by a state in memory.

    Args:
        journal: where changes are written; None: nowhere.
        history: how many changes the log holds.
    """

    def __init__(self, journal: Journal | None = None, history: int = HISTORY) -> None:
        self.ahead = 0.0
        self._journal = journal
        self._state = State(history)
        self._lock = Guard()
        self._news = threading.Condition(self._lock)
        self._begun: Sequence[Op] | None = None
        """The change that is being taken; still there afterwards if an exception came in between."""
        _all.add(self)

    def now(self) -> float:
        return time.time() + self.ahead

    def _fresh(self) -> State:
        if self._begun is not None:
            if self._journal is None:
                self._state.remake(self._begun)
            else:
                self._state = State(self._state.history)
            self._begun = None
        if self._journal is not None:
            self._begun = ()
            try:
                self._state = self._journal.read(self._state)
            except KeptError:
                self._begun = None  # what was read is whole
                raise
            self._begun = None
        return self._state

    @settling
    def _change(self, plan: Callable[[State, float], tuple[R, Sequence[Op]]]) -> R:
        tries = 0
        while True:
            with self._lock:
                state = self._fresh()
                result, ops = plan(state, self.now())
                if not ops:
                    return result
                self._begun = ops
                if self._journal is None or self._journal.write(state, ops):
                    state.make(ops)
                    self._begun = None
                    self._news.notify_all()
                    return result
                self._begun = None
            tries += 1  # the others go on, so one of all gets through each time
            time.sleep(random.random() * min(0.0005 * tries, 0.02))

    # -- the verbs --------------------------------------------------------------------------------

    @settling
    def get(self, name: Name, key: str) -> Entry | None:
        with self._lock:
            return self._fresh().live(name, key, self.now())

    def apply(self, name: Name, steps: Sequence[Step]) -> list[Entry | None] | None:
        return self._change(lambda state, now: state.plan(name, steps, now))

    @settling
    def page(
        self, name: Name, prefix: str, after: str | None, limit: int, data: bool
    ) -> list[Entry]:
        with self._lock:
            return list(self._fresh().page(name, prefix, after, limit, self.now()))

    @settling
    def count(self, name: Name, prefix: str) -> int:
        with self._lock:
            return self._fresh().count(name, prefix, self.now())

    def remove(self, name: Name | None, which: str, limit: int | None) -> int:
        def plan(state: State, now: float) -> tuple[int, Sequence[Op]]:
            ops = state.removing(name, which, limit, now)
            return _counted(ops, which), ops

        return self._change(plan)

    @settling
    def abouts(self, collection: str, scope: str | None, store: str | None) -> list[About]:
        with self._lock:
            return list(self._fresh().abouts(collection, scope, store, self.now()))

    def declare(self, about: About) -> bool:
        def plan(state: State, now: float) -> tuple[bool, Sequence[Op]]:
            if next(state.abouts(*about.name, now), None) is not None:
                return False, ()
            return True, [about._replace(declared=True, created=now)]

        return self._change(plan)

    def drop(self, name: Name) -> int | None:
        def plan(state: State, now: float) -> tuple[int | None, Sequence[Op]]:
            there = next(state.abouts(*name, now), None)
            ops = state.removing(name, "all", None, now)
            if there is None:
                return None, ops
            return _counted(ops, "all"), [*ops, About(name)]

        return self._change(plan)

    @settling
    def changes(self, name: Name, since: int, limit: int) -> tuple[list[Logged], int]:
        with self._lock:
            return self._fresh().changes(name, since, limit)

    @settling
    def newest(self) -> int:
        with self._lock:
            return self._fresh().revision

    @settling
    def due(self) -> float | None:
        with self._lock:
            return self._fresh().due()

    def wait(self, since: int, timeout: float) -> None:
        with self._lock:
            if self._state.revision > since:
                return
            pause = timeout if self._journal is None else min(timeout, self._journal.pause)
            self._news.wait(pause)

    def close(self) -> None:
        """Nothing is open."""

    def _forked(self) -> None:
        self._lock = Guard()
        self._news = threading.Condition(self._lock)


def _counted(ops: Sequence[Op], which: str) -> int:
    return sum(which == "expired" or getattr(op, "kind", "") != "expire" for op in ops)


_all: weakref.WeakSet[Folded] = weakref.WeakSet()


def _after_fork() -> None:
    for folded in list(_all):
        folded._forked()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
