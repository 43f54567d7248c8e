"""The rows that queries go by: how calls become them, one by one or all of a store.

A term of an argument is its value, as SQLite compares values, and what it was before (`kind`); of
one that no record shows, the first half of its digest.
"""

from __future__ import annotations

import functools
import json
import re
import sqlite3
from collections import defaultdict
from collections.abc import Iterable
from operator import itemgetter
from typing import Any

from wellkept.hashing import digest_bytes

__all__ = [
    "DIGEST",
    "FIRST",
    "METADATA",
    "argument_name",
    "fill",
    "scan_on",
    "stored",
    "tag_name",
    "tidy",
]

FIRST = "0"
"""Where a scan begins."""
DIGEST, METADATA = 5, 6
_KINDS = {int: 0, float: 1, bool: 2, str: 3, type(None): 4}
_STEP = 20_000  # rows of a scan in one transaction
_STALE = 1_000  # deleted calls, beside as many as there are, from which their terms are removed
_decoder: Any = json.JSONDecoder()
_scan = _decoder.scan_once  # half of what json.loads takes
_ROW = "SELECT id, function, created, arguments, metadata FROM calls"
_LISTED = (
    "SELECT l.call, l.function, l.created, c.arguments, c.metadata FROM listed l "
    "CROSS JOIN calls c ON c.id = l.call"
)


def tidy(c: sqlite3.Connection) -> None:
    """Inside a write transaction: remove what deleted calls have left."""
    c.execute(
        "DELETE FROM terms AS t WHERE NOT EXISTS (SELECT 1 FROM listed l WHERE "
        "l.function = t.function AND l.created = t.created AND l.call = t.call)"
    )
    c.execute("DELETE FROM links WHERE call NOT IN (SELECT id FROM calls)")
    c.execute(
        "DELETE FROM notes WHERE key >= 'leaves/' AND key < 'leaves0' AND key NOT IN "
        "(SELECT 'leaves/' || lower(hex(key)) FROM calls)"
    )
    c.execute("UPDATE tally SET gone = 0")


def scan_on(c: sqlite3.Connection, scanned: str) -> str:
    """The next step of a scan; how far it is then, or nothing. First all calls are listed; then the
    terms of each are added, in the order of the list, as that is nearly the order of the terms."""
    if scanned == FIRST:
        whole = "typeof(function) = 'integer' AND typeof(created) = 'real'"
        found = f"SELECT function, created, id FROM calls WHERE {whole} ORDER BY 1, 2, 3"
        c.execute(f"INSERT OR IGNORE INTO listed {found}")
        c.execute("DELETE FROM tally")
        c.execute("INSERT INTO tally SELECT function, count(*), 0 FROM listed GROUP BY function")
        return "-1,0,0"
    function, created, row = scanned.split(",")
    after = int(function), float(created), int(row)
    after_this = "(l.function, l.created, l.call) > (?, ?, ?)"
    joined = f"{_LISTED} WHERE {after_this} ORDER BY l.function, l.created, l.call LIMIT ?"
    rows = c.execute(joined, (*after, _STEP)).fetchall()
    _insert_terms(c, rows)
    if len(rows) < _STEP:
        return ""
    last = rows[-1]
    return f"{last[1]},{last[2]!r},{last[0]}"


def fill(c: sqlite3.Connection, rows: Iterable[int]) -> None:
    wanted = json.dumps(list(rows))
    _insert(
        c, c.execute(f"{_ROW} WHERE id IN (SELECT value FROM json_each(?))", (wanted,)).fetchall()
    )
    (calls, gone) = c.execute("SELECT sum(calls), sum(gone) FROM tally").fetchone()
    if (gone or 0) > _STALE + (calls or 0):
        tidy(c)


def _insert(c: sqlite3.Connection, rows: list[tuple[Any, ...]]) -> None:
    listed: dict[int, list[tuple[int, float, int]]] = defaultdict(list)
    for row, function, created, *_ in rows:
        if type(function) is int and type(created) is float:  # or it is damaged
            listed[function].append((function, created, row))
    for function, some in listed.items():
        some.sort()
        new = c.executemany("INSERT OR IGNORE INTO listed VALUES (?,?,?)", some).rowcount
        c.execute(
            "INSERT INTO tally VALUES (?,?,0) ON CONFLICT DO UPDATE SET calls = calls + excluded.calls",
            (function, new),
        )
    _insert_terms(c, rows)


def _insert_terms(c: sqlite3.Connection, rows: list[tuple[Any, ...]]) -> None:
    terms: list[tuple[Any, ...]] = []
    links: list[tuple[int, int]] = []
    for row, function, created, arguments, metadata in rows:
        if type(function) is int and type(created) is float:
            _terms(terms, links, row, function, created, arguments)
            if metadata is not None:
                terms += [
                    (function, name, value, created, row, METADATA)
                    for name, value in tags(metadata)
                ]
                links += [
                    (int(key[:16], 16) - (int(key[0], 16) > 7) * 2**64, row)
                    for key in _PARENT(str(metadata))
                ]
    terms.sort(key=_BY_NAME)  # nearly as they stand in the table
    c.executemany("INSERT OR IGNORE INTO terms VALUES (?,?,?,?,?,?)", terms)
    if links:
        c.executemany("INSERT OR IGNORE INTO links VALUES (?,?)", links)


_BY_NAME = itemgetter(0, 1)
_PARENT = re.compile(r'"parent":\s*"([0-9a-f]{64})"').findall
"""The calls that made this one: found as the values are that it took."""


def _terms(
    terms: list[tuple[Any, ...]],
    links: list[tuple[int, int]],
    row: int,
    function: Any,
    created: Any,
    arguments: Any,
) -> None:
    """A call's arguments; of a damaged row none, as no record of it is ever read."""
    try:
        for item in _scan(arguments, 0)[0]:
            name = argument_name(item[0])
            if len(item) == 2:
                value = item[1]
                kind = 0 if type(value) is int else -1
                if kind or not -(2**63) <= value < 2**63:
                    value, kind = stored(value)
                terms.append((function, name, value, created, row, kind))
            else:
                raw = bytes.fromhex(item[2])
                terms.append((function, name, raw[:16], created, row, DIGEST))
                links.append((int.from_bytes(raw[:8], "big", signed=True), row))
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError, StopIteration):
        pass


def stored(value: Any) -> tuple[Any, int]:
    """A scalar argument as the table has it, and what it was."""
    kind = _KINDS[type(value)]
    if value is None:
        return b"", kind
    if kind == 0 and not -(2**63) <= value < 2**63:
        return digest_bytes(value)[:16], DIGEST
    if kind == 3:
        try:
            value.encode()
        except UnicodeEncodeError:
            return digest_bytes(value)[:16], DIGEST
    return value, kind


@functools.lru_cache(1000)
def argument_name(name: str) -> str:
    """The name of an argument's term: what begins as those of tags do, or is no UTF-8, is changed."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return f"@?{json.dumps(name)}"
    return f"@{name}" if name.startswith("@") else name


def tag_name(path: tuple[str, ...]) -> str:
    """The name of the term of a part of the metadata that has one: the run, and each tag."""
    return "@" + json.dumps(path)


def tags(metadata: Any) -> list[tuple[str, Any]]:
    """The parts of a call's metadata that have terms: names and values."""
    if '"run"' not in metadata and '"tags"' not in metadata:
        return []
    try:
        said = json.loads(metadata)
        found: list[tuple[tuple[str, ...], Any]] = [(("run",), said.get("run"))]
        tagged = said.get("tags")
        if isinstance(tagged, dict):
            found += [(("tags", name), value) for name, value in tagged.items()]
        return [
            (tag_name(path), stored(value)[0])
            for path, value in found
            if type(value) in _KINDS and value is not None
        ]
    except (ValueError, TypeError, AttributeError, KeyError, RecursionError):
        return []
