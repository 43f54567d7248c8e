"""Why calls were computed, or would be: those of one reason together."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cached_property, partial
from typing import Any, NamedTuple

from wellkept.caches import Cache
from wellkept.errors import KeptError
from wellkept.readable import ago, counted, duration
from wellkept.records import Call, Event
from wellkept.runs.explain import Cause, bare_path, in_short, why_computed
from wellkept.runs.nearest import Layer, layers
from wellkept.runs.table import Column, Line, Lines, Table, records, short
from wellkept.stores.notes import evictions

AGAIN = ("damaged", "expired", "evicted", "code", "version", "dependency")
"""The causes for which something is computed that was kept before."""

PATIENCE = 3.0
"""Seconds in which calls are asked for their causes."""
SAMPLE = 20
"""Calls of one function and code that are asked, where there are many."""
# Reasons in one line.
_TOLD = 3
# Lines of a difference.
_LINES = 60


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
    asked: int = 0
    """Calls that were asked; the others are taken to have the same reason."""

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        return self._asdict() | {"lines": [text for _, text in self.lines]}


class Miss(NamedTuple):
    """A call that was computed, or would be."""

    function: str
    code: str
    key: str
    seconds: float
    at: float
    why: Callable[[], Cause]
    """Finds out the reason; it may take a while."""


def grouped(
    misses: Iterable[Miss], sample: int | None = None, patience: float = PATIENCE
) -> tuple[list[Group], int]:
    """Return why calls were computed, those of one reason together: the reasons first for which something
    was computed again; and how many calls were asked.

    Args:
        sample: calls of one function and code that are asked. The others are taken to have the same reason,
            if it is one; otherwise they are a group of their own. None: all are asked, and what there is
            no time for is left out.
        patience: seconds that there are for it.

    Raises:
        StoreError: the cache can't be read.
    """
    ends = time.monotonic() + patience
    found: dict[tuple[str, str], Group] = {}
    reasons: dict[tuple[str, str], set[str]] = {}
    asked, rest = misses, list[Miss]()
    if sample is not None:
        asked, rest = _sampled(misses, sample)

    def add(miss: Miss, label: str, cause: Cause | None) -> None:
        known = found.get((label, miss.function))
        if known is None:
            said = cause or _NOT_ASKED
            lines = [(line.style, line.text) for line in said.lines[:_LINES]]
            known = Group(
                label, said.kind, miss.function, 0, 0.0, miss.at, miss.key, said.text, lines
            )
        found[label, miss.function] = known._replace(
            calls=known.calls + 1,
            seconds=known.seconds + miss.seconds,
            asked=known.asked + (cause is not None),
        )

    for miss in asked:
        if time.monotonic() > ends:
            if sample is None:
                break
            rest.append(miss)
            continue
        cause = miss.why()
        label = _label(cause, miss.function)
        reasons.setdefault((miss.function, miss.code), set()).add(label)
        add(miss, label, cause)
    for miss in rest:
        labels = reasons.get((miss.function, miss.code), set())
        alike = len(labels) == 1
        add(miss, min(labels) if alike else f"more calls of {short(miss.function)}", None)
    order = lambda one: (one.kind not in AGAIN, -one.seconds)  # noqa: E731  said once
    groups = sorted(found.values(), key=order)
    return groups, sum(group.asked for group in groups)


def _sampled(misses: Iterable[Miss], sample: int) -> tuple[list[Miss], list[Miss]]:
    """Choose so many of each function and code, evenly, as neighbours are alike; and the others."""
    by_code: dict[tuple[str, str], list[Miss]] = {}
    for miss in misses:
        by_code.setdefault((miss.function, miss.code), []).append(miss)
    asked, rest = list[Miss](), list[Miss]()
    for some in by_code.values():
        many = len(some)
        at = {i * many // sample for i in range(sample)} if many > sample else set(range(many))
        for i, miss in enumerate(some):
            (asked if i in at else rest).append(miss)
    return asked, rest


_UNKNOWN = Cause("unknown", "what was kept before it can't be read")
_NOT_ASKED = Cause("unknown", "there are too many to ask each of them")


class Why:
    """Finds out why calls were computed, from what is kept. What can't be read is a cause of its own.

    Args:
        cache: where the calls are; None: nowhere.
    """

    def __init__(self, cache: Cache | None) -> None:
        self._cache = cache

    @cached_property
    def _places(self) -> list[Layer]:
        return [] if self._cache is None else layers(self._cache)

    @cached_property
    def _gone(self) -> list[Callable[[bytes], float | None]]:
        return [evictions(place.backend.notes) for place in self._places]

    def miss(self, call: Call) -> Miss:
        """Return a kept call as one that was computed."""
        about = call.function, call.code, str(call.key), call.seconds, call.created
        return Miss(*about, lambda: self.cause(call))

    def misses(self, events: Iterable[Event]) -> Iterator[Miss]:
        """Yield what was computed in a run."""
        for event in events:
            if event.outcome != "hit":
                about = event.function, event.code, event.key or "", event.seconds, event.at
                yield Miss(*about, partial(self.of_event, event))

    def of_event(self, event: Event) -> Cause:
        """Return why a call of a run was computed."""
        if event.key is None:
            return Cause("required", "nothing is kept of it, as it has no key")
        call = records(self._cache, [event.key]).get(event.key)
        if call is not None and call.function != event.function:
            # What another engine keeps has a record under names of its own.
            return Cause("unknown", "another engine computed it")
        if call is not None:
            return self.cause(call)
        if event.outcome == "failed":
            return Cause("raised", f"the body raised {event.error or 'an exception'}")
        return Cause("unknown", "its record is gone")

    def cause(self, call: Call) -> Cause:
        """Return why a kept call was computed."""
        with suppress(KeptError):
            for last in self._gone:
                at = last(call.key.raw)
                if at is not None and at < call.created:
                    return Cause("evicted", f"it had been evicted {ago(at)}")
        for place in self._places:
            with suppress(KeptError):
                if place.backend.calls.get(call.key) is not None:
                    return next(iter(why_computed(place, call)), _UNKNOWN)
        return _UNKNOWN


def _label(cause: Cause, function: str) -> str:
    """What calls that were computed for one reason have in common."""
    if cause.kind == "never called":
        return f"first call of {short(function)}"
    if cause.kind == "arguments":
        names = dict.fromkeys(change["path"] for change in cause.data["differences"])
        some = ", ".join(list(map(bare_path, names))[:3]) + (", …" if len(names) > 3 else "")
        return f"argument{'s' if len(names) > 1 else ''} {some} of {short(function)}"
    return in_short(cause)


def _share(row: Mapping[str, Any]) -> str:
    few = 0 < row["asked"] < row["calls"]
    return f" ({row['asked']:,} of them looked at)" if few else ""


def told(groups: Sequence[Group]) -> str:
    """Return groups of calls in a few words."""
    groups = [group for group in groups if group.kind != "unknown"]
    said = [f"{group.calls:,} {group.label}" for group in groups[:_TOLD]]
    if len(groups) > _TOLD:
        said.append(f"{sum(group.calls for group in groups[_TOLD:]):,} for other reasons")
    return ", ".join(said)


def table(groups: Iterable[Group], summary: str = "") -> Table:
    """Return groups of calls as a table, a row a cause."""
    rows = [group.to_dict() for group in groups]
    columns: list[Column] = [
        ("calls", lambda row: f"{row['calls']:,}"),
        ("function", lambda row: short(row["function"])),
        ("seconds", lambda row: duration(row["seconds"])),
        ("because", lambda row: f"{row['label']}: {row['text']}{_share(row)}"),
    ]
    return Table(rows, columns, "because", summary)


class Plan(Lines):
    """What calls would do now. Nothing was computed or written. Prints as text.

    Attributes:
        function, code: the identity of the function and of its code.
        items: how many calls were asked about.
        kept: how many of them would be hits, also of what is out of date (`stale=`).
        outdated: how many of these would be given what the function's former code gave (`code="warn"`).
        repeated: how many are equal to one before them, and so are computed once.
        todo: which would be computed: their places among the items, from 0 on.
        groups: why, those of one reason together.
        seconds: about how long that takes, one after the other; None if nothing tells.
        costs: about what it costs, by what `cost=` of `keep` counts.
        by: how many kept calls tell that.
        saved: seconds that computing the kept ones took.
    """

    function: str
    code: str
    items: int

    def __init__(self, function: str, code: str, items: int) -> None:
        self.function, self.code, self.items = function, code, items
        self.kept = self.outdated = self.repeated = self.by = 0
        self.todo: list[int] = []
        self.groups: list[Group] = []
        self.seconds: float | None = 0.0
        self.costs: dict[str, float] = {}
        self.saved: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain data, for JSON."""
        groups = [group.to_dict() for group in self.groups]
        return self.__dict__ | {"todo": list(self.todo), "groups": groups}

    def lines(self) -> Iterator[Line]:
        """Yield the lines of the text."""
        done = f"{self.kept:,} kept, {len(self.todo):,} to compute"
        if self.repeated:
            done += f", {self.repeated:,} repeated"
        said = f"{short(self.function)}: {counted(self.items, 'call')}: {done}"
        yield Line("", said, "bad" if self.todo else "good")
        for group in self.groups:
            few = f" ({group.asked:,} looked at)" if 0 < group.asked < group.calls else ""
            yield Line("why", f"{group.calls:,} x {group.label}: {group.text}{few}")
            for style, text in group.lines:
                yield Line("", text, style)
        if self.todo:
            by = f" (by {counted(self.by, 'kept call')})"
            if self.seconds is None:
                yield Line("takes", "unknown: no call of it is kept")
            else:
                yield Line("takes", f"about {duration(self.seconds)}{by}")
            for name, amount in self.costs.items():
                yield Line("costs", f"about {amount:.4g} {name}{by}")
        if self.outdated:
            text = f"{self.outdated:,} of the kept are what its former code gave (code='warn')"
            yield Line("outdated", text)
        if self.kept:
            yield Line("saves", duration(self.saved))
