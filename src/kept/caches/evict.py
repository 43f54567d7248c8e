"""Throwing away: calls that are chosen, then what only they referenced."""

from __future__ import annotations

import fnmatch
import json
import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from kept.caches.sizes import parse_duration
from kept.errors import ConfigError, DecodeError, NotKept, StoreError
from kept.records import Call, Digest
from kept.stores.collect import Collected, collect_blobs, unreferenced, without_values
from kept.stores.embedded import Embedded
from kept.stores.tables import rowid

if TYPE_CHECKING:
    from kept.caches.cache import Cache

__all__ = ["Choice", "Evicted", "evict", "matches"]


@dataclass(frozen=True)
class Evicted:
    """What was thrown away, or would be."""

    calls: int
    values: int
    """Results that no other call gave."""
    blobs: int
    bytes: int
    """Of records, results and blobs. The index file keeps its size; its room is used again."""
    dry_run: bool = False


@dataclass(frozen=True)
class Choice:
    """Which calls: those that fit everything that is said."""

    function: str | None = None
    before: float | None = None
    """Computed before this time."""
    keys: frozenset[str] | None = None

    def fits(self, call: Call) -> bool:
        """Whether a call is chosen."""
        return (
            (self.keys is None or call.key in self.keys)
            and (self.before is None or call.created < self.before)
            and (self.function is None or matches(call.function, self.function))
        )


def matches(name: str, pattern: str) -> bool:
    """Whether a function's name fits a pattern (`*`, `?`, `[…]`): all of it, or what follows its
    module."""
    return name == pattern or any(
        fnmatch.fnmatchcase(part, pattern) for part in (name, name.rpartition(":")[2])
    )


def evict(
    cache: Cache,
    *,
    function: str | None = None,
    older: float | str | timedelta | None = None,
    keys: Iterable[str] | None = None,
    dry_run: bool = False,
) -> Evicted:
    """See `Cache.evict`."""
    if isinstance(keys, str):
        raise ConfigError(f"keys= takes several, not one text: {keys!r}")
    chosen = Choice(
        function,
        None if older is None else time.time() - parse_duration(older),
        None if keys is None else frozenset(_known(cache, key) for key in keys),
    )
    if chosen == Choice():
        raise ConfigError("nothing says what to evict: give function=, older= or keys=")
    cache.flush()
    place: Any = cache.place
    if isinstance(place, Embedded):
        done = _embedded(place, chosen, dry_run)
    else:
        done = _scanned(cache, chosen, dry_run)
    cache.tier.clear()
    return done


def _known(cache: Cache, prefix: str) -> Digest:
    key = cache.expand(prefix)
    try:
        there = cache.calls.get(key) is not None
    except DecodeError:
        there = True  # damaged, and may go all the same
    if not there:
        raise NotKept(f"no call {prefix} is kept in {cache.url}")
    return key


def _embedded(store: Embedded, chosen: Choice, dry_run: bool) -> Evicted:
    database = store.database
    if database.readonly:
        raise StoreError(f"can't evict from {store.root}: it is read-only")
    where, values = _condition(store, chosen)
    try:
        with database.writing() as c:
            inline, size = c.execute(_SMALL.format(where), values * 2).fetchone()
            calls = c.execute(f"DELETE FROM calls WHERE {where}", values).rowcount
            freed = without_values(c)
            small = Collected(inline, size)
            if dry_run:  # all is as it would be, is looked at, and is put back
                raise _PutBackError(_would_collect(store))  # noqa: TRY301  that rolls it back
    except _PutBackError as back:
        return _evicted(calls, (small, freed), back.found, dry_run=True)
    return _evicted(calls, (small, freed), collect_blobs(store), dry_run=False)


# Small results stand in the rows of their calls.
_SMALL = """SELECT count(DISTINCT CASE WHEN value IS NULL AND result NOT IN
(SELECT result FROM calls WHERE NOT ({0})) THEN result END), coalesce(sum(length(body)), 0)
FROM calls WHERE {0}"""


class _PutBackError(Exception):
    """Ends a transaction that was only tried."""

    def __init__(self, found: Collected) -> None:
        self.found = found


def _evicted(
    calls: int, values: tuple[Collected, ...], blobs: Collected, *, dry_run: bool
) -> Evicted:
    count = sum(part.items for part in values)
    size = sum(part.bytes for part in (*values, blobs))
    return Evicted(calls, count, blobs.items, size, dry_run)


def _would_collect(store: Embedded) -> Collected:
    names = unreferenced(store)
    size = 0
    for name in names:
        try:
            size += store.blobs.path(name).stat().st_size
        except OSError:
            continue
    return Collected(len(names), size)


def _condition(store: Embedded, chosen: Choice) -> tuple[str, list[Any]]:
    parts = ["1"]
    values: list[Any] = []
    if chosen.function is not None:
        rows = store.database.rows("SELECT id, CAST(name AS BLOB) FROM functions")
        names = ((id_, bytes(name or b"").decode(errors="replace")) for id_, name in rows)
        parts.append("function IN (SELECT value FROM json_each(?))")
        values.append(json.dumps([id_ for id_, name in names if matches(name, chosen.function)]))
    if chosen.before is not None:
        parts.append("created < ?")
        values.append(chosen.before)
    if chosen.keys is not None:
        parts.append("id IN (SELECT value FROM json_each(?))")
        values.append(json.dumps([rowid(bytes.fromhex(key)) for key in chosen.keys]))
    return " AND ".join(parts), values


def _scanned(cache: Cache, chosen: Choice, dry_run: bool) -> Evicted:
    """On any two stores: by reading every call."""
    calls, values = cache.calls, cache.values
    doomed: list[str] = []
    results: set[str] = set()
    wanted: set[str] = set()
    for key in list(calls.keys()):
        try:
            call = calls.get(key)
        except DecodeError:
            continue  # `verify` deals with what is damaged
        if call is not None and chosen.fits(call):
            doomed.append(key)
            results.add(call.result)
        elif call is not None:
            wanted.add(call.result)
    freed = blobs = size = 0
    for digest in results - wanted:
        try:
            value = values.get(digest)
        except DecodeError:
            value = None
        freed += value is not None
        blobs += len(value.buffers) if value else 0
        size += value.size if value else 0
    if not dry_run:
        for key in doomed:
            calls.delete(key)
        for digest in results - wanted:
            values.delete(digest)
    return Evicted(len(doomed), freed, blobs, size, dry_run)
