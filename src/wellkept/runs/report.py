"""The tables of a run: by call, by function."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from wellkept.records import Call, Event
from wellkept.runs.labels import event_label, records, short
from wellkept.runs.table import Table, duration

if TYPE_CHECKING:
    from wellkept.runs.run import Run

__all__ = ["by_call", "by_function", "summed"]


def summed(events: list[Event]) -> list[Event]:
    """Events with one for each call, outcome and error; their counts added, the order kept."""
    found: dict[tuple[Any, ...], Event] = {}
    for i, event in enumerate(events):
        own = event.key if event.key is not None else i
        at = own, event.outcome, event.error, event.function, event.result
        if at in found:
            event = found[at]._replace(count=found[at].count + event.count)
        found[at] = event
    return list(found.values())


def by_call(run: Run) -> Table:
    """A row for each call and outcome."""
    events = summed(run.events())
    rows = [
        {
            "outcome": event.outcome,
            "function": event.function,
            "count": event.count,
            "seconds": event.seconds,
            "at": event.at,
            "key": event.key,
            "result": event.result,
            "parent": event.parent,
            "error": event.error,
            "code": event.code,
        }
        for event in events
    ]
    by_row = {id(row): event for row, event in zip(rows, events, strict=True)}
    known: dict[str, Call] = {}

    def label(row: Any) -> str:
        if not known:  # only what is shown is looked up
            known.update(records(run.cache, [event.key for event in events[:50]]))
        event = by_row[id(row)]
        text = event_label(event, known.get(event.key or ""))
        return f"{text}: {event.error}" if event.error else text

    columns = [
        ("outcome", lambda row: str(row["outcome"])),
        ("call", label),
        ("count", lambda row: f"{row['count']:,}"),
        ("seconds", lambda row: duration(row["seconds"])),
        ("key", lambda row: str(row["key"] or "-")[:12]),
    ]
    return Table(rows, columns, "call", summary(run))


def by_function(run: Run) -> Table:
    """A row for each function."""
    rows: dict[str, dict[str, Any]] = {}
    for event in run.events():
        row = rows.setdefault(
            event.function,
            {
                "function": event.function,
                "hits": 0,
                "computed": 0,
                "failed": 0,
                "spent": 0.0,
                "saved": 0.0,
            },
        )
        name = "hits" if event.outcome == "hit" else event.outcome
        row[name] += event.count
        row["saved" if name == "hits" else "spent"] += event.count * event.seconds
    columns = [
        ("function", lambda row: short(row["function"])),
        ("hits", lambda row: f"{row['hits']:,}"),
        ("computed", lambda row: f"{row['computed']:,}"),
        ("failed", lambda row: f"{row['failed']:,}"),
        ("spent", lambda row: duration(row["spent"])),
        ("saved", lambda row: duration(row["saved"])),
    ]
    return Table(list(rows.values()), columns, "function", summary(run))


def summary(run: Run) -> str:
    """One line about the whole run."""
    total = run.totals()
    text = (
        f"{run.name or run.id}: {run.state}; {total.hits:,} hits, {total.computed:,} computed, "
        f"{total.failed:,} failed; {duration(total.spent)} spent, {duration(total.saved)} saved"
    )
    return f"{text}; {total.lost:,} events lost" if total.lost else text
