"""Comparison of two runs: what was reused, what was new, what drifted."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, Protocol

from wellkept.caches import Cache
from wellkept.readable import duration
from wellkept.records import Call, Event
from wellkept.runs.causes import SAMPLE, Group, Miss, Why, grouped
from wellkept.runs.causes import table as table_of
from wellkept.runs.explain import Cause
from wellkept.runs.table import Table, Tabled, event_label, records

KINDS = ("drifted", "changed", "failed", "new", "recomputed", "reused", "spared", "gone")


class Recorded(Protocol):
    """The parts of a run that are compared; a `Run` has them."""

    cache: Cache | None

    @property
    def id(self) -> str: ...
    @property
    def name(self) -> str: ...
    def events(self) -> list[Event]: ...


class Difference(NamedTuple):
    """One call, in one run or in both."""

    kind: str
    """`reused`: a hit of what the other run had. `recomputed`: computed in both, with one result.
    `drifted`: the same call with another result. `changed`: the same function and arguments, but
    other code. `new`: not in the other run. `failed`: it raised. `spared`: not made any more, as a
    call whose body had made it was a hit. `gone`: only in the other run, for other reasons.
    """
    call: str
    """In one line."""
    now: Event | None
    before: Event | None


class Comparison(Tabled):
    """The differences between two runs.

    Args:
        run: the run.
        other: the run that it is compared with.
        differences: one for each call of either.
        by: `"cause"`: it is shown with calls of one reason together.
    """

    run: Recorded
    other: Recorded

    def __init__(
        self, run: Recorded, other: Recorded, differences: list[Difference], by: str = "call"
    ) -> None:
        self.run, self.other = run, other
        self.differences = differences
        self.by = by

    def of(self, kind: str) -> list[Difference]:
        """Return the differences of one kind."""
        return [one for one in self.differences if one.kind == kind]

    @property
    def reused(self) -> list[Difference]:
        """Hits of what the other run had."""
        return self.of("reused")

    @property
    def recomputed(self) -> list[Difference]:
        """Computed in both, with the same result."""
        return self.of("recomputed")

    @property
    def drifted(self) -> list[Difference]:
        """The same calls with other results: they depend on more than their arguments and code."""
        return self.of("drifted")

    @property
    def changed(self) -> list[Difference]:
        """The same functions and arguments, with other code."""
        return self.of("changed")

    @property
    def new(self) -> list[Difference]:
        """Calls that the other run did not make."""
        return self.of("new")

    @property
    def failed(self) -> list[Difference]:
        """Calls that raised."""
        return self.of("failed")

    @property
    def spared(self) -> list[Difference]:
        """Calls that the other run made inside one that is a hit now."""
        return self.of("spared")

    @property
    def gone(self) -> list[Difference]:
        """Calls that only the other run made."""
        return self.of("gone")

    def causes(self) -> list[Group]:
        """Return why calls were computed or not, those of one reason together. Of many calls of one kind
        and function some are asked.

        Raises:
            StoreError: a run can't be read.
        """
        why = Why(self.run.cache)
        misses = []
        for one in self.differences:
            event = one.now or one.before
            assert event is not None
            # Each kind is asked by itself, as it has reasons of its own.
            of = f"{one.kind} {event.code}"
            about = event.function, of, event.key or "", event.seconds, event.at
            misses.append(Miss(*about, partial(self._cause, why, one)))
        return grouped(misses, SAMPLE)[0]

    def _cause(self, why: Why, one: Difference) -> Cause:
        now, before = one.now, one.before
        if now is None:
            gone = (
                "its caller is a hit now" if one.kind == "spared" else "only the other run made it"
            )
            return Cause(one.kind, gone)
        if now.outcome == "hit":
            return Cause(one.kind, "it was kept")
        found = why.of_event(now)
        if before is None or before.key != now.key or found.kind in ("evicted", "raised"):
            return found
        if before.outcome == "failed":
            return Cause("raised", f"it raised {before.error or 'an exception'} in the other run")
        call = records(self.run.cache, [now.key]).get(now.key or "")
        # What the other run had kept lived as long as this one.
        if (
            call is not None
            and call.expires is not None
            and before.at + call.expires - call.created <= now.at
        ):
            return Cause("expired", "what the other run had kept had expired")
        return Cause(one.kind, "the other run had it: it was forgotten, not kept, or made afresh")

    def table(self) -> Table:
        """Return a row for each call, the most important kinds first; or for each cause."""
        if self.by == "cause":
            return table_of(self.causes(), self._counts())
        rows = [
            {
                "kind": one.kind,
                "call": one.call,
                "seconds": None if one.now is None else one.now.seconds,
                "before": None if one.before is None else one.before.seconds,
                "key": _said(one, lambda event: event.key),
                "function": _said(one, lambda event: event.function),
                "result": None if one.now is None else one.now.result,
                "result_before": None if one.before is None else one.before.result,
            }
            for one in sorted(self.differences, key=lambda one: KINDS.index(one.kind))
        ]
        columns: list[tuple[str, Callable[[Any], str]]] = [
            ("kind", lambda row: str(row["kind"])),
            ("call", lambda row: str(row["call"])),
            ("seconds", lambda row: duration(row["seconds"]) or "-"),
            ("before", lambda row: duration(row["before"]) or "-"),
            ("key", lambda row: str(row["key"] or "-")[:12]),
        ]
        return Table(rows, columns, "call", self._counts())

    def _counts(self) -> str:
        counts = [f"{len(self.of(kind)):,} {kind}" for kind in KINDS if self.of(kind)]
        return ", ".join(counts) or "neither run made a call"


def _said(one: Difference, what: Callable[[Event], Any]) -> Any:
    event = one.now or one.before
    return None if event is None else what(event)


def compare(run: Recorded, other: Recorded, by: str = "call") -> Comparison:
    """Compare a run with another one. Calls without a key are left out.

    Raises:
        StoreError: a run can't be read.
    """
    now, before = _by_key(run), _by_key(other)
    known = records(run.cache, now) | records(
        other.cache, [key for key in before if key not in now]
    )
    # A call whose key is new may be an earlier one with other code: those have the same function and arguments.
    same = {_asked(event, known.get(key)): key for key, event in before.items()}
    found, met = [], set()
    for key, event in now.items():
        past = before.get(key)
        if past is not None:
            kind = _kind(event, past)
        else:
            twin = same.get(_asked(event, known.get(key)))
            past = None if twin is None or twin in now else before[twin]
            kind = "changed" if past is not None else "new"
            if past is not None and twin is not None:
                met.add(twin)
        kind = "failed" if event.outcome == "failed" else kind
        found.append(Difference(kind, event_label(event, known.get(key)), event, past))
    for key, past in before.items():
        if key not in now and key not in met:
            kind = "spared" if _inside(past, before, now) else "gone"
            found.append(Difference(kind, event_label(past, known.get(key)), None, past))
    return Comparison(run, other, found, by)


def _kind(event: Event, past: Event) -> str:
    if event.result and past.result and event.result != past.result:
        return "drifted"
    return "reused" if event.outcome == "hit" else "recomputed"


def _inside(event: Event, before: dict[str, Event], now: dict[str, Event]) -> bool:
    """Return whether a call was made, directly or indirectly, by one that is a hit now."""
    # `met`, since damaged events may name each other as parents.
    met: set[str] = set()
    parent = event.parent
    while parent is not None and parent not in met:
        met.add(parent)
        if parent in now:
            return now[parent].outcome == "hit"
        parent = before[parent].parent if parent in before else None
    return False


def _by_key(run: Recorded) -> dict[str, Event]:
    """Return the event of each call: its computation, if there is one, rather than the hits after it."""
    found: dict[str, Event] = {}
    for event in run.events():
        if event.key is not None and (event.key not in found or event.outcome != "hit"):
            found[event.key] = event
    return found


def _asked(event: Event, call: Call | None) -> tuple[Any, ...] | str:
    """Return a function and its arguments, without the code; the key if the arguments are not known."""
    if call is not None and call.function == event.function:
        items = sorted((name, str(found.digest)) for name, found in call.arguments.items())
        return event.function, *items
    if event.arguments:
        return event.function, *sorted(event.arguments.items())
    return event.key or ""
