"""The whole of a cache at one look: what it saved, when it computed, and what was computed again why."""

from __future__ import annotations

import time
from typing import Any, NamedTuple

from wellkept.caches import Cache
from wellkept.conditions import Condition, Equal, Order, Query, Span
from wellkept.query import Cost, Matches
from wellkept.records import Call
from wellkept.runs.causes import Group, Why, grouped
from wellkept.runs.recorder import COSTS
from wellkept.runs.run import Runs
from wellkept.stores.backend import ordered
from wellkept.stores.reports import FunctionRow

# Calls of which it is asked why they were computed.
_LOOKED = 200
# Calls of a function, by which its share of processor time is known.
_SAMPLE = 40
# Of a difference.
_STEPS = (60, 300, 900, 3600, 6 * 3600, 86400, 7 * 86400, 30 * 86400)
_BARS = 30
# Calls of which it is found out how many have expired.
_MANY = 200_000


class Summary(NamedTuple):
    """See `summarize`. Times are seconds since the epoch, durations seconds, sizes bytes."""

    at: float
    functions: list[FunctionRow]
    cpu: dict[str, float]
    """By function: seconds of processor time for each second that computing took, by a sample."""
    costs: dict[str, Cost]
    """What else computing cost and hits saved, by what `cost=` of `keep` counts: money, tokens."""
    begin: float
    step: int
    computed: list[int]
    """Kept calls by when they were computed, one number for each step from `begin` on."""
    hits: list[int]
    """Hits of the runs that began then; hits outside of runs have no time."""
    groups: list[Group]
    looked: int
    """The latest so many calls were asked why they were computed."""
    expired: int | None
    """Calls that will be computed again, as they have expired; of very many it is not found out."""

    @property
    def calls(self) -> int:
        """Kept calls."""
        return sum(row.calls for row in self.functions)

    @property
    def saved(self) -> float:
        """What the uses would have taken to compute."""
        return sum(row.saved for row in self.functions)

    @property
    def cpu_saved(self) -> float:
        """About how much processor time was saved."""
        return sum(row.saved * self.cpu.get(row.function, 1.0) for row in self.functions)


def summarize(cache: Cache) -> Summary:
    """Add up a cache: from its index where it has one, otherwise in one pass over its records.

    Raises:
        StoreError: it can't be read.
    """
    cache.flush()
    now = time.time()
    every = None if cache.backend.found(Query()) is not None else list(cache.query().calls())
    functions = cache.backend.functions() if every is None else FunctionRow.of(every)
    asked = _Asked(cache, every)
    oldest = next(iter(asked.calls(Query(order=Order("created"), limit=1))), None)
    age = now - (now if oldest is None else oldest.created)
    step = next((s for s in _STEPS if age / s < _BARS - 1), _STEPS[-1])
    begin = (now // step - _BARS + 1) * step
    spans = [(begin + i * step, begin + (i + 1) * step) for i in range(_BARS)]
    latest = asked.calls(Query((), Order("created", (), True), _LOOKED))
    groups, looked = grouped(map(Why(cache).miss, latest))
    return Summary(
        at=now,
        functions=functions,
        cpu={row.function: _cpu_share(asked, row.function) for row in functions[:_LOOKED]},
        costs=cache.query().costs() if cache.backend.notes.get(COSTS) is not None else {},
        begin=begin,
        step=step,
        computed=[asked.count("created", Span(a, b, below=True)) for a, b in spans],
        hits=_hits(cache, begin, step),
        groups=groups,
        looked=looked,
        expired=asked.count("expires", Span(high=now))
        if sum(row.calls for row in functions) <= _MANY
        else None,
    )


class _Asked:
    """Answers queries by the index, or from records that were read."""

    def __init__(self, cache: Cache, every: list[Call] | None) -> None:
        self._cache, self._every = cache, every

    def calls(self, query: Query) -> list[Call]:
        """Return the calls that fit."""
        if self._every is None:
            return list(self._cache.backend.find(query))
        return list(ordered((call for call in self._every if query(call)), query))

    def count(self, field: str, span: Span) -> int:
        """Return how many calls have a number in a span."""
        query = Query((Condition(field, (), span),))
        if self._every is None:
            return Matches(self._cache, query).count()
        return sum(query(call) for call in self._every)


def _cpu_share(asked: _Asked, function: str) -> float:
    latest = Query(
        (Condition("function", (), Equal(function)),), Order("created", (), True), _SAMPLE
    )
    calls = [call for call in asked.calls(latest) if call.seconds > 0]
    cpu = sum(_number(call.metadata.get("cpu")) for call in calls)
    cpu += sum(_number(call.metadata.get("system")) for call in calls)
    return cpu / sum(call.seconds for call in calls) if cpu else 1.0


def _number(found: Any) -> float:
    return float(found) if type(found) in (int, float) and found >= 0 else 0.0


def _hits(cache: Cache, begin: float, step: int) -> list[int]:
    found, runs = [0] * _BARS, Runs(cache)
    totals = runs.totals()
    for run in runs:
        at = int((run.record.started - begin) // step)
        if 0 <= at < _BARS and run.id in totals:
            found[at] += totals[run.id].hits
    return found
