"""What takes the room and what could go, named state, and whether the cache is well."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from wellkept.caches import health
from wellkept.caches.maintenance import Share
from wellkept.caches.option_text import parse_size
from wellkept.errors import ConfigError, KeptError, NotKept
from wellkept.kv.entry import Name, name_of
from wellkept.kv.plan import Entries
from wellkept.kv.service import COLLECTION
from wellkept.readable import data_size
from wellkept.web.overview import Ask, abouts, job_of
from wellkept.web.site import Site

PAGE = 50
# Of the line that says what freeing costs.
_POINTS = 60
_TILES = 60
# Of a value.
_LETTERS = 300
_CHANGES, _REVISIONS = (
    12,
    200,
    # Changes of a store that are shown, and of all in which they are looked for.
)


def disk(site: Site, ask: Ask) -> dict[str, Any]:
    """Return what takes the room, what is shared, and what freeing so much would cost.

    Raises:
        ConfigError: what is to be freed is no size.
    """
    found, totals, shares = site.summary(), site.totals.get(), site.shares.get()
    wanted = ask.get("free", "").strip()
    size = parse_size(wanted) if wanted else None
    if found is None or totals is None:
        return {"complete": False, "free": wanted}
    tiles = [{"name": row.function, "bytes": row.bytes} for row in found.functions[:_TILES]]
    rest = sum(row.bytes for row in found.functions[_TILES:])
    if rest:
        tiles.append({"name": f"{len(found.functions) - _TILES} more", "bytes": rest})
    return {
        "complete": shares is not None,
        "totals": totals.to_dict(),
        "tiles": tiles,
        "results": totals.result_bytes,
        "free": wanted,
        "line": [] if shares is None else _line(shares),
        "plan": None if shares is None or size is None else plan(site, shares, size),
        "write": site.write,
    }


def _line(shares: Sequence[Share]) -> list[dict[str, float]]:
    """Bytes that are free, and the seconds that it costs to have what went again."""
    points, size, seconds = [{"bytes": 0.0, "seconds": 0.0}], 0.0, 0.0
    for one in shares:
        size, seconds = size + one.bytes, seconds + one.seconds
        points.append({"bytes": size, "seconds": seconds})
    step = max(1, len(points) // _POINTS)
    return [*points[:-1:step], points[-1]]


def plan(site: Site, shares: Sequence[Share], size: int) -> dict[str, Any]:
    """Return about what would go, to free so many bytes, and the command that does it."""
    freed, seconds, calls = 0.0, 0.0, 0.0
    by: dict[str, float] = {}
    for one in shares:
        part = min(1.0, (size - freed) / one.bytes) if one.bytes else 1.0
        if freed >= size:
            break
        freed, seconds, calls = (
            freed + part * one.bytes,
            seconds + part * one.seconds,
            calls + part * one.calls,
        )
        for name, taken in one.functions.items():
            by[name] = by.get(name, 0.0) + part * taken
    most = sorted(by.items(), key=lambda one: -one[1])[:8]
    said = data_size(size).replace(" ", "") if size % 1000 == 0 else str(size)
    return {
        "bytes": freed,
        "seconds": seconds,
        "money": None if site.price is None else site.price.of(seconds),
        "calls": round(calls),
        "functions": [{"function": name, "bytes": taken} for name, taken in most],
        "command": site.command("evict", "--free", f"{size}B"),
        "said": said,
        "size": size,
    }


# -- named state -------------------------------------------------------------------------------------


def state(site: Site, ask: Ask) -> dict[str, Any]:
    """Return the stores of named state, or the entries of one, page by page.

    Raises:
        NotKept: there is no such store.
    """
    entries, listed, trouble = abouts(site)
    wanted = ask.get("store", "")
    stores = [
        {
            "store": about.name.store,
            "scope": about.name.scope[1:],
            "keys": entries.count(about.name, ""),
            "policy": about.policy,
            "max_keys": about.max_keys,
            "max_bytes": about.max_bytes,
        }
        for about in listed[:200]
        if entries is not None
    ]
    said = {"stores": stores, "trouble": trouble, "store": wanted, "scope": ask.get("scope", "")}
    if not wanted or entries is None:
        if wanted:
            raise NotKept(f"there is no store {wanted!r:.80} in {site.name}")
        return said | {"entries": [], "after": "", "revision": 0, "changes": []}
    name = name_of(COLLECTION, ask.get("scope") or None, wanted)
    if not entries.abouts(*name):
        raise NotKept(f"there is no store {wanted!r:.80} in {site.name}")
    found = entries.page(name, ask.get("prefix", ""), ask.get("after") or None, PAGE + 1, True)
    now = entries.now()
    rows = [
        {
            "key": entry.key,
            "value": _value(entry.data),
            "job": job_of(entry.data) is not None,
            "revision": entry.revision,
            "updated": entry.updated,
            "left": None if entry.expires is None else max(0.0, entry.expires - now),
            "policy": entry.policy,
        }
        for entry in found[:PAGE]
    ]
    after = found[PAGE - 1].key if len(found) > PAGE else ""
    return said | {
        "changes": _changes(entries, name),
        "entries": rows,
        "after": after,
        "prefix": ask.get("prefix", ""),
        "revision": entries.newest(),
    }


def _changes(entries: Entries, name: Name) -> list[dict[str, Any]]:
    """Return the latest changes of a store, the last one first, as far as the log goes back."""
    newest = entries.newest()
    try:
        found, _ = entries.changes(name, max(0, newest - _REVISIONS), _REVISIONS)
    # The log was cut since.
    except KeptError:
        return []
    latest = found[: -_CHANGES - 1 : -1]
    return [{"kind": e.kind, "key": e.key, "at": e.at, "revision": e.revision} for e in latest]


def _value(data: Any) -> str:
    if not isinstance(data, str):
        return f"<{data_size(len(data))} that are not JSON>"
    return data if len(data) <= _LETTERS else f"{data[:_LETTERS]}…"


# -- health ------------------------------------------------------------------------------------------


def well(site: Site, ask: Ask) -> dict[str, Any]:
    """Return what `wellkept doctor` says, and how far a check of every byte is, if one was asked for."""
    totals = site.totals.get()
    checks = health.examine(site.cache, totals, whole=False)
    verified = None if site.verified is None else site.verified.value
    return {
        "complete": totals is not None,
        "checks": [one._asdict() for one in checks],
        "verified": None if verified is None else [one._asdict() for one in verified],
        "verifying": None if site.verified is None or verified is not None else list(site.progress),
        "command": site.command("verify"),
        "at": time.time(),
    }


def free(site: Site, ask: Ask) -> str:
    """Throw away what a plan says; what was done, in a sentence.

    Raises:
        ConfigError: the page may not change the cache, or it is no size.
        StoreError: the cache can't be written.
    """
    from wellkept.caches import maintenance

    if not site.write:
        raise ConfigError(
            "this page is read-only: start it with `wellkept ui --write` to change the cache"
        )
    done = maintenance.free(site.cache, ask.get("free", ""))
    return f"threw away {done.results:,} results, {data_size(done.bytes)}"
