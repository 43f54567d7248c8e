"""Events as bytes: what a run writes from time to time, and reads again."""

from __future__ import annotations

import contextlib
import json
import zlib
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from wellkept.records import Event, RunRecord

__all__ = [
    "Totals",
    "pack",
    "pack_record",
    "pack_totals",
    "unpack",
    "unpack_record",
    "unpack_totals",
]


class Totals(NamedTuple):
    """A run's events, added up. Seconds of wall time."""

    hits: int = 0
    computed: int = 0
    failed: int = 0
    spent: float = 0.0
    """What computing took, failures included."""
    saved: float = 0.0
    """What the hits took when they were computed."""
    lost: int = 0
    """Events that could not be written."""

    def add(self, event: Event) -> Totals:
        """With one more."""
        if event.outcome == "hit":
            saved = self.saved + event.count * event.seconds
            return self._replace(hits=self.hits + event.count, saved=saved)
        spent = self.spent + event.count * event.seconds
        if event.outcome == "failed":
            return self._replace(failed=self.failed + event.count, spent=spent)
        return self._replace(computed=self.computed + event.count, spent=spent)

    def plus(self, other: Totals) -> Totals:
        """Both together."""
        return Totals(
            hits=self.hits + other.hits,
            computed=self.computed + other.computed,
            failed=self.failed + other.failed,
            spent=self.spent + other.spent,
            saved=self.saved + other.saved,
            lost=self.lost + other.lost,
        )


def pack(events: Iterable[Event]) -> bytes:
    """Events as a note: compressed JSON, the names of functions once."""
    functions: dict[tuple[str, str], int] = {}
    rows = []
    for event in events:
        at = functions.setdefault((event.function, event.code), len(functions))
        row = [
            event.outcome,
            at,
            event.key,
            event.result,
            round(event.at, 6),
            event.seconds,
            event.count,
            event.parent,
            event.error,
            dict(event.arguments) or None,
            dict(event.shown) or None,
        ]
        while row[-1] is None:
            row.pop()
        rows.append(row)
    text = json.dumps([list(functions), rows], separators=(",", ":"))
    return zlib.compress(text.encode(), 1)


def unpack(note: bytes | None) -> list[Event]:
    """What `pack` wrote; nothing of what is damaged."""
    with contextlib.suppress(ValueError, TypeError, IndexError, zlib.error):
        functions, rows = json.loads(zlib.decompress(bytes(note or b"")))
        return [_event(functions, *row) for row in rows]
    return []


def _event(
    functions: list[list[str]],
    outcome: str,
    function: int,
    key: str | None,
    result: str | None,
    at: float,
    seconds: float,
    count: int,
    parent: str | None = None,
    error: str | None = None,
    arguments: Mapping[str, str] | None = None,
    shown: Mapping[str, Any] | None = None,
) -> Event:
    name, code = functions[function]
    given = arguments or {}
    return Event(
        outcome, name, key, result, at, seconds, count, parent, code, given, error, shown or {}
    )


def pack_totals(totals: Totals) -> bytes:
    return json.dumps(totals).encode()


def unpack_totals(note: bytes | None) -> Totals:
    """What `pack_totals` wrote; none of what is damaged."""
    with contextlib.suppress(ValueError, TypeError):
        return Totals(*json.loads(note or b""))
    return Totals()


def pack_record(record: RunRecord) -> bytes:
    return json.dumps(record._asdict()).encode()


def unpack_record(note: bytes | None) -> RunRecord | None:
    """What `pack_record` wrote; None of what is damaged, and without what is not known here."""
    with contextlib.suppress(ValueError, TypeError):
        found: dict[str, Any] = json.loads(note or b"")
        known = {name: item for name, item in found.items() if name in RunRecord._fields}
        return RunRecord(**known)
    return None
