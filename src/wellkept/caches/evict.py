"""Throwing away: calls that are chosen, then what only they referenced."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from wellkept.caches.gc import trial
from wellkept.caches.gone import remember
from wellkept.caches.sizes import parse_duration
from wellkept.conditions import matches
from wellkept.errors import ConfigError, DecodeError, NotKept, StoreError
from wellkept.records import Call, Digest
from wellkept.stores.backend import each_call, inner
from wellkept.stores.body import rowid
from wellkept.stores.collect import Collected, collect_blobs, without_values
from wellkept.stores.embedded import Embedded
from wellkept.stores.layers import Layers
from wellkept.stores.medium import Medium
from wellkept.stores.sweep import free_with

if TYPE_CHECKING:
    from wellkept.caches.cache import Cache

__all__ = ["Choice", "Evicted", "evict", "evicted", "matches"]


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

    def fits(self, key: str, call: Call | None) -> bool:
        """Whether a call is chosen; a damaged one (None) only by its key alone."""
        if call is None:
            return self.keys is not None and key in self.keys and self == Choice(keys=self.keys)
        return (
            (self.keys is None or call.key in self.keys)
            and (self.before is None or call.created < self.before)
            and (self.function is None or matches(call.function, self.function))
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
    return evicted(cache, _seen_by(cache, chosen), dry_run)


def evicted(cache: Cache, chosen: Choice, dry_run: bool) -> Evicted:
    """Throw calls away; raises as `Cache.evict`."""
    done = _evict(inner(cache.backend, write=True), chosen, dry_run)
    cache.tier.clear()
    return done


def _seen_by(cache: Cache, chosen: Choice) -> Choice:
    """The same choice by keys, where a cache does not see all that its place holds."""
    backend: Any = cache.backend
    while not hasattr(backend, "where"):
        backend = getattr(backend, "backend", None)
        if backend is None:
            return chosen
    return Choice(
        keys=frozenset(key for key, call in each_call(cache.calls) if chosen.fits(key, call))
    )


def _evict(backend: Any, chosen: Choice, dry_run: bool) -> Evicted:
    if isinstance(backend, Layers):
        return backend.each(
            lambda layer: _evict(inner(layer, write=True), chosen, dry_run),
            lambda parts: _sum(list(parts), dry_run),
        )
    if isinstance(backend, Embedded):
        return _embedded(backend, chosen, dry_run)
    if isinstance(backend, Medium):
        return _medium(backend, chosen, dry_run)
    if (away := getattr(backend, "evict", None)) is not None:  # where it is
        calls, values, blobs, size = away(chosen.function, chosen.before, chosen.keys, dry_run)
        return Evicted(calls, values, blobs, size, dry_run)
    raise StoreError(f"can't evict from {type(backend).__name__}")


def _sum(parts: list[Evicted], dry_run: bool) -> Evicted:
    """Of layers: a call that is in several counts for each."""
    return Evicted(
        sum(part.calls for part in parts),
        sum(part.values for part in parts),
        sum(part.blobs for part in parts),
        sum(part.bytes for part in parts),
        dry_run,
    )


def _known(cache: Cache, prefix: str) -> Digest:
    key = cache.expand(prefix)
    try:
        there = cache.calls.get(key) is not None
    except DecodeError:
        there = True  # damaged, and may go all the same
    if not there:
        raise NotKept(f"no call {prefix} is kept in {cache}")
    return key


def _embedded(store: Embedded, chosen: Choice, dry_run: bool) -> Evicted:
    database = store.database
    if database.readonly:
        raise StoreError(f"can't evict from {store.root}: it is read-only")
    where, values = _condition(store, chosen)
    counted: list[int] = []
    small = Collected(0, 0)
    doomed: list[tuple[bytes]] = []

    def change(c: Any) -> Collected:
        nonlocal small
        small = Collected(*c.execute(_SMALL.format(where), values * 2).fetchone())
        doomed[:] = c.execute(f"SELECT key FROM calls WHERE {where}", values).fetchall()
        c.execute(_LEAVES.format(where), values)
        counted.append(c.execute(f"DELETE FROM calls WHERE {where}", values).rowcount)
        return without_values(c)

    if dry_run:  # all is as it would be, is looked at, and is put back
        freed, blobs = trial(store, change)
    else:
        with database.writing() as c:
            freed = change(c)
        blobs = collect_blobs(store)
        remember(store, (key for (key,) in doomed))
    count = small.items + freed.items
    size = small.bytes + freed.bytes + blobs.bytes
    return Evicted(counted[-1], count, blobs.items, size, dry_run)


# Small results stand in the rows of their calls.
_SMALL = """SELECT count(DISTINCT CASE WHEN value IS NULL AND result NOT IN
(SELECT result FROM calls WHERE NOT ({0})) THEN result END), coalesce(sum(length(body)), 0)
FROM calls WHERE {0}"""
# What their arguments were made of goes with them.
_LEAVES = """DELETE FROM notes WHERE key IN
(SELECT 'leaves/' || lower(hex(key)) FROM calls WHERE {0})"""


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


def _medium(backend: Medium, chosen: Choice, dry_run: bool) -> Evicted:
    """On any store of bytes: by reading every call."""
    doomed: list[str] = []
    results: dict[str, int] = {}
    wanted: set[str] = set()
    for key, call in each_call(backend.calls):
        if chosen.fits(key, call):
            doomed.append(key)
            if call is not None:
                results[call.result] = call.size
        elif call is not None:
            wanted.add(call.result)
    only = results.keys() - wanted
    there = only & set(backend.values.keys())
    size = sum(results[digest] for digest in there)
    blobs = free_with(backend, doomed, only, dry_run=dry_run)
    if not dry_run:
        backend.notes.delete_many([f"leaves/{key}" for key in doomed])
        remember(backend, (bytes.fromhex(key) for key in doomed))
    return Evicted(len(doomed), len(there), blobs, size, dry_run)
