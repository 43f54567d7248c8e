"""The whole of a cache at one look: what it saved, when it computed, and what was computed again why."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from wellkept.caches import Cache
from wellkept.conditions import Condition, Equal, Order, Query, Span
from wellkept.errors import KeptError
from wellkept.query import Cost, Matches
from wellkept.records import Call
from wellkept.runs.explain import Cause, bare_path, in_short, why_computed
from wellkept.runs.nearest import Layer, layers
from wellkept.runs.recorder import COSTS
from wellkept.runs.run import Runs
from wellkept.runs.table import ago, short
from wellkept.stores.backend import ordered
from wellkept.stores.notes import evictions
from wellkept.stores.reports import FunctionRow

AGAIN = ("damaged", "expired", "evicted", "code", "version", "dependency")
"""The causes for which something is computed that was kept before."""

# Calls of which it is asked why they were computed.
_LOOKED = 200
# Seconds for that.
_PATIENCE = 3.0
# Calls of a function, by which its share of processor time is known.
_SAMPLE = 40
# Of a difference.
_LINES = 60
_STEPS = (60, 300, 900, 3600, 6 * 3600, 86400, 7 * 86400, 30 * 86400)
_BARS = 30
# Calls of which it is found out how many have expired.
_MANY = 200_000


class Group(NamedTuple):
    """Calls that were computed for one reason."""

    label: str
    """`code of lib.clean`, `argument lr`."""
    kind: str
    """See `Cause.kind`."""
    function: str
    calls: int
    seconds: float
    """What computing them took."""
    latest: float
    key: str
    """Of the latest of them."""
    text: str
    """What was found out about it, in a sentence."""
    lines: list[tuple[str, str]]
    """What there is to show: a style (see `Line`) and a text."""


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
    groups, looked = grouped(cache, latest)
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
        """The calls that fit."""
        if self._every is None:
            return list(self._cache.backend.find(query))
        return list(ordered((call for call in self._every if query(call)), query))

    def count(self, field: str, span: Span) -> int:
        """How many calls have a number in a span."""
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


def grouped(cache: Cache, calls: Iterable[Call]) -> tuple[list[Group], int]:
    """Why calls were computed, those of one reason together: the reasons first for which something was
    computed again; and how many calls were looked at, in the time that there is for it.

    Raises:
        StoreError: the cache can't be read.
    """
    places, ends, looked = layers(cache), time.monotonic() + _PATIENCE, 0
    gone = [evictions(place.backend.notes) for place in places]
    found: dict[tuple[str, str], Group] = {}
    for call in calls:
        if time.monotonic() > ends:
            break
        looked += 1
        cause = _cause(places, gone, call)
        label = _label(cause, call)
        at = label, call.function
        if (known := found.get(at)) is None:
            lines = [(line.style, line.text) for line in cause.lines[:_LINES]]
            found[at] = Group(
                label, cause.kind, call.function, 1, call.seconds, call.created, str(call.key),
                cause.text, lines,
            )  # fmt: skip
        else:
            seconds = known.seconds + call.seconds
            found[at] = known._replace(calls=known.calls + 1, seconds=seconds)
    order = lambda one: (one.kind not in AGAIN, -one.seconds)  # noqa: E731  said once
    return sorted(found.values(), key=order), looked


_UNKNOWN = Cause("unknown", "what was kept before it can't be read")


def _cause(
    places: Sequence[Layer], gone: list[Callable[[bytes], float | None]], call: Call
) -> Cause:
    for last in gone:
        at = last(call.key.raw)
        if at is not None and at < call.created:
            return Cause("evicted", f"it had been evicted {ago(at)}")
    for place in places:
        try:
            if place.backend.calls.get(call.key) is not None:
                return next(iter(why_computed(place, call)), _UNKNOWN)
        except KeptError:
            continue
    return _UNKNOWN


def _label(cause: Cause, call: Call) -> str:
    """What calls that were computed for one reason have in common."""
    if cause.kind == "never called":
        return f"first call of {short(call.function)}"
    if cause.kind == "arguments":
        names = dict.fromkeys(change["path"] for change in cause.data["differences"])
        some = ", ".join(list(map(bare_path, names))[:3]) + (", …" if len(names) > 3 else "")
        return f"argument{'s' if len(names) > 1 else ''} {some} of {short(call.function)}"
    return in_short(cause)
