"""Runs: the list, one as a waterfall, and two beside each other."""

from __future__ import annotations

from typing import Any

from wellkept.errors import KeptError, NotKept
from wellkept.runs.compare import KINDS, Difference
from wellkept.runs.explain import in_short, why_computed
from wellkept.runs.nearest import layers
from wellkept.runs.run import Run, Runs, run_row
from wellkept.runs.table import by_function, event_label, records
from wellkept.web.overview import Ask
from wellkept.web.site import Site

PAGE = 40
# Calls of a waterfall.
_BARS = 200
_CAUSES, _SHOWN = (
    25,
    100,
    # Differences whose cause is found out, and those of a kind that are shown.
)


def runs(site: Site, ask: Ask) -> dict[str, Any]:
    """Return the runs, the newest first, page by page."""
    known = Runs(site.cache)
    found = known.latest(PAGE, ask.get("after", ""))
    last = min((run.id for run in found), default="")
    listed = [run_row(run, run.totals(inner=False)) for run in found]
    return {"runs": listed, "after": last if len(found) == PAGE and known.latest(1, last) else ""}


def run(site: Site, ask: Ask) -> dict[str, Any]:
    """Return one run: what each function did, and its calls over time.

    Raises:
        NotKept, AmbiguousDigest: there is no such run, or several.
    """
    one = _run(site, ask.get("id", ""))
    events = one.events()
    bars = sorted(events, key=lambda event: event.at - event.seconds * (event.outcome != "hit"))
    known = records(site.cache, [event.key for event in bars[:_BARS]])
    started = one.record.started
    row = run_row(one, one.totals())
    others = [other for other in Runs(site.cache).latest(20) if other.id != one.id]
    return {
        "run": row,
        "metadata": dict(one.record.metadata),
        "costs": {name: cost._asdict() for name, cost in one.costs().items()},
        "functions": by_function(events, "").rows,
        "bars": [
            {
                "label": event_label(event, known.get(event.key or "")),
                "outcome": event.outcome,
                "key": event.key if event.key in known else None,
                "begin": max(
                    0.0, event.at - started - (event.seconds if event.outcome != "hit" else 0)
                ),
                "end": max(0.0, event.at - started),
                "count": event.count,
                "error": event.error,
            }
            for event in bars[:_BARS]
        ],
        "events": len(events),
        "span": max((event.at - started for event in events), default=0.0),
        "others": [run_row(other, other.totals(inner=False)) for other in others],
    }


def _run(site: Site, which: str) -> Run:
    if not which:
        raise NotKept("no run is asked for: choose one in the list of runs")
    exact = [one for one in Runs(site.cache).latest(1, which + "~") if one.id == which]
    return exact[0] if exact else Runs(site.cache)[which]


def compare(site: Site, ask: Ask) -> dict[str, Any]:
    """Return two runs beside each other: what was new, recomputed, reused or gone, and why.

    Raises:
        NotKept, AmbiguousDigest: there is no such run, or several.
    """
    now, before = _run(site, ask.get("id", "")), _run(site, ask.get("with", ""))
    found = now.compare(before)
    causes = _causes(site, [one for kind in ("changed", "new") for one in found.of(kind)])
    kinds = []
    for kind in KINDS:
        some = found.of(kind)
        if some:
            rows = [_difference(one, causes) for one in some[:_SHOWN]]
            kinds.append({"kind": kind, "total": len(some), "calls": rows})
    rows = [run_row(one, one.totals()) for one in (now, before)]
    return {"run": rows[0], "before": rows[1], "kinds": kinds}


def _difference(one: Difference, causes: dict[str, str]) -> dict[str, Any]:
    event = one.now or one.before
    key = None if event is None else event.key
    return {
        "call": one.call,
        "key": key,
        "seconds": None if one.now is None else one.now.seconds,
        "before": None if one.before is None else one.before.seconds,
        "because": causes.get(key or "", ""),
    }


def _causes(site: Site, some: list[Difference]) -> dict[str, str]:
    """Return why calls were computed, by key."""
    wanted = [one.now.key for one in some[:_CAUSES] if one.now is not None]
    found = {}
    for key, call in records(site.cache, wanted).items():
        for place in layers(site.cache):
            try:
                causes = why_computed(place, call)
            except KeptError:
                continue
            found[key] = "; ".join(map(in_short, causes))
            break
    return found
