"""Functions, one function, one call, and where a result came from."""

from __future__ import annotations

import itertools
import json
import math
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from wellkept.caches import filter_text
from wellkept.caches.option_text import redacted
from wellkept.errors import ConfigError, KeptError, NotKept
from wellkept.query import Matches
from wellkept.query.pages import page
from wellkept.records import Call
from wellkept.runs.explain import explain_key
from wellkept.runs.graph import Graph
from wellkept.runs.lineage import lineage
from wellkept.runs.nearest import layers
from wellkept.runs.profile import profile_row
from wellkept.runs.sources import part_changes, parts_of
from wellkept.runs.table import call_data, called, function_data
from wellkept.stores.reports import FunctionRow
from wellkept.web.overview import Ask, call_row, commands
from wellkept.web.preview import preview
from wellkept.web.site import Site

PAGE = 50
_SAMPLE, _OF_ALL = (
    500,
    150,
    # Calls of a function, and of all, by which facets and distributions are told.
)
_FACETS, _VALUES, _RANGES = 8, 8, 4
_VERSIONS, _DIFFS = 12, 6
# Calls of a lineage.
_NEAR = 60


def functions(site: Site, ask: Ask) -> dict[str, Any]:
    """Return all functions, by what their results take; or those whose name has a text in it."""
    found = site.summary()
    wanted = ask.get("find", "").lower()
    rows = [] if found is None else found.functions
    listed = [function_data(row) for row in rows if wanted in row.function.lower()]
    return {
        "complete": found is not None,
        "functions": listed[:500],
        "total": len(rows),
        "find": ask.get("find", ""),
        "bytes": sum(row.bytes for row in rows),
        "saved": sum(row.saved for row in rows),
    }


def function(site: Site, ask: Ask) -> dict[str, Any]:
    """Return one function: its calls page by page, facets, distributions, versions, whether keeping pays.

    Raises:
        NotKept: it has no calls.
    """
    name = ask.get("name", "")
    every = site.calls_of(name)
    some = _narrowed(every, ask)
    latest = some.order_by("-created")
    calls, after = page(latest, PAGE, ask.get("after", ""))
    if site.counts:
        listed = list(latest.limit(_SAMPLE if name else _OF_ALL).calls())
        total = some.count()
    else:
        # Each question would read all records again.
        listed = list(latest.calls())
        total = len(listed)
    sample = listed[:_SAMPLE]
    if not sample and not _asked(ask) and name:
        raise NotKept(f"no function {name} has calls in {site.name}")
    found = site.summary(0.0)
    row = next((r for r in found.functions if r.function == name), None) if found else None
    return {
        "name": name,
        "asked": _asked(ask),
        "total": total,
        "row": None if row is None else function_data(row),
        "calls": [call_row(call) for call in calls],
        "after": after,
        "sampled": len(sample),
        "facets": list(facets(sample)),
        "seconds": spread([call.seconds for call in sample]),
        "sizes": spread([float(call.size) for call in sample]),
        "versions": _versions(site, name, listed) if name else [],
        "keeping": None if row is None else _keeping(site, row),
        "commands": commands(site, "code", name, str(sample[0].key)) if name and sample else [],
    }


def _asked(ask: Ask) -> list[str]:
    """Return the filters of an address, for people: `n=3`, `lr=0.1..0.5`, `state=failed`."""
    found = [f"{key[4:]}={value}" for key, value in ask.items() if key.startswith("arg.") and value]
    return [*found, f"state={ask['state']}"] if ask.get("state") else found


def _narrowed(matches: Matches, ask: Ask) -> Matches:
    if ask.get("state"):
        matches = matches.where(state=ask["state"])
    for key, value in ask.items():
        if key.startswith("arg.") and value:
            sign = "" if value[0] in "<>=" else "="
            # A name may have any letters.
            _, test = filter_text.asked(f"it{sign}{value}")
            matches = matches.where(arguments={key[4:]: test})
    return matches


def facets(calls: Sequence[Call]) -> Iterator[dict[str, Any]]:
    """Yield what calls were given: of each argument its most frequent values, or the ranges of numbers."""
    names = list(dict.fromkeys(name for call in calls for name in call.arguments))
    for name in names[:_FACETS]:
        given = [call.arguments[name] for call in calls if name in call.arguments]
        shown = [one.value for one in given if one.shown]
        numbers = [v for v in shown if type(v) in (int, float) and math.isfinite(v)]
        counted = Counter(map(_said, shown))
        hidden = len(given) - len(shown)
        if len(numbers) == len(shown) and len(counted) > _VALUES:
            values = list(_ranges(sorted(numbers)))
        else:
            values = counted.most_common(_VALUES)
        yield {
            "name": name,
            "values": [{"said": said, "calls": count} for said, count in values],
            "different": len(counted),
            "hidden": hidden,
        }


def _said(value: Any) -> str:
    """Return a value as a filter has it."""
    plain = isinstance(value, str) and value.isprintable() and not value.startswith("@")
    return value if plain and filter_text.value_of(value) == value else json.dumps(value)


def _ranges(numbers: Sequence[float]) -> Iterator[tuple[str, int]]:
    size = len(numbers) / _RANGES
    cuts = [round(i * size) for i in range(_RANGES + 1)]
    for begin, end in itertools.pairwise(cuts):
        some = numbers[begin:end]
        if some:
            yield f"{some[0]!r}..{some[-1]!r}", len(some)


_BINS = 24


def spread(numbers: Sequence[float]) -> dict[str, Any] | None:
    """Return how numbers are distributed: bins of equal width on a scale of powers, and quartiles."""
    found = sorted(number for number in numbers if number > 0)
    if not found:
        return None
    low, high = math.log(found[0]), math.log(found[-1])
    width = (high - low) / _BINS or 1.0
    bins = [0] * _BINS
    for number in found:
        bins[min(_BINS - 1, int((math.log(number) - low) / width))] += 1
    at = {name: found[min(len(found) - 1, int(len(found) * q))] for name, q in _QUARTILES}
    return {"low": found[0], "high": found[-1], "bins": bins} | at


_QUARTILES = (("half", 0.5), ("most", 0.95))


def _versions(site: Site, name: str, calls: Sequence[Call]) -> list[dict[str, Any]]:
    """Return the code identities of a function, the latest first, each with what it changed."""
    listed = [*_codes(site, name), *(call.code for call in calls)]
    listed = list(dict.fromkeys(listed))[:_VERSIONS]
    found = []
    for i, code in enumerate(listed):
        older = listed[i + 1] if i + 1 < len(listed) and i < _DIFFS else None
        changes = [] if older is None else _changes(site, older, code)
        said = {"code": code, **_span(site, name, code, calls), "changes": changes}
        if said["calls"]:
            found.append(said)
    return sorted(found, key=lambda one: -one["last"])


def _span(site: Site, name: str, code: str, calls: Sequence[Call]) -> dict[str, Any]:
    """Return how many calls a version has, and when the first and the last were computed."""
    if not site.counts:
        times = [call.created for call in calls if call.code == code]
        return {"calls": len(times), "first": min(times, default=0), "last": max(times, default=0)}
    some = site.calls_of(name).where(code=code)
    first, last = some.oldest(), some.latest()
    if first is None or last is None:
        return {"calls": 0, "first": 0, "last": 0}
    return {"calls": some.count(), "first": first.call.created, "last": last.call.created}


def _codes(site: Site, name: str) -> Iterator[str]:
    """Return the code identities of a function that an index knows, the latest first."""
    for place in layers(site.cache):
        yield from place.backend.codes(name) or ()


def _changes(site: Site, before: str, after: str) -> list[dict[str, str]]:
    notes = site.cache.backend
    try:
        changed = part_changes(parts_of(notes, before), parts_of(notes, after))
    except KeptError:
        return []
    return [{"name": str(part), "diff": part.diff} for part in changed[:10]]


def _keeping(site: Site, row: FunctionRow) -> dict[str, Any] | None:
    try:
        return profile_row(site.cache, row)
    except KeptError:
        return None


# -- one call ----------------------------------------------------------------------------------------


def call(site: Site, ask: Ask) -> dict[str, Any]:
    """Return one call: its arguments, a preview of its result, why it was computed, where it came from.

    Raises:
        NotKept, AmbiguousDigest: no call begins so, or several do.
    """
    one = _call(site, ask)
    explained = explain_key(site.cache, one.key)
    env = one.metadata.get("env")
    graph = _lineage(site, str(one.key), 1, 1)
    return {
        "call": call_data(one),
        "label": called(one.function, one),
        "preview": preview(site.cache, one),
        "explained": explained.to_dict(),
        "lines": [list(line) for line in explained.lines()][1:],
        "where": _environment(site, env) if isinstance(env, str) else {},
        "graph": None if graph is None else graph.to_dict(),
        "load": f"{_opening(site)}.load({str(one.result)[:16]!r})",
        "commands": [
            *commands(site, "", one.function, str(one.key)),
            ("show", site.command("show", str(one.key)[:16])),
            ("forget", site.command("evict", str(one.key)[:16])),
        ],
    }


def _opening(site: Site) -> str:
    """Return how a program opens the cache, unless a secret stands in it."""
    url = site.cache.url
    return f"wellkept.open({url!r})" if url is not None and redacted(url) == url else "cache"


def _call(site: Site, ask: Ask) -> Call:
    key = site.cache.expand(ask.get("key", ""))
    found = site.cache.calls.get(key)
    if found is None:
        raise NotKept(f"no call {key} is kept in {site.name}")
    return found


def _environment(site: Site, env: str) -> dict[str, Any]:
    try:
        note = site.cache.backend.notes.get(f"env/{env}")
        found = {} if note is None else json.loads(note)
    except (KeptError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _lineage(site: Site, of: str, up: int | None, down: int | None) -> Graph | None:
    try:
        graph = lineage(of, up=up, down=down, limit=_NEAR, cache=site.cache)
    except NotKept:
        return None
    return graph.marked({node for node in graph.nodes if _stale(site, graph.nodes[node].id)})


def _stale(site: Site, key: str) -> bool:
    """Return whether a call would be computed again: its result is gone or expired, or its code is old."""
    try:
        found = site.cache.backend.fetch(bytes.fromhex(key))
        one = None if found is None else site.cache.calls.get(key)
    except (KeptError, ValueError):
        return True
    if found is None or one is None:
        # A value that no kept call gave.
        return False
    codes = next(_codes(site, one.function), one.code)
    return found.envelope is None or found.body.expires <= time.time() or codes != one.code


def lineage_page(site: Site, ask: Ask) -> dict[str, Any]:
    """Return where a result came from and what became of it, as a graph.

    Raises:
        NotKept, AmbiguousDigest: there is no such call or value, or several.
        ConfigError: nothing is asked for, or not a number of steps.
    """
    of = ask.get("of", "")
    if not of:
        return {"of": "", "graph": None, "latest": [call_row(c) for c in _recent(site)]}
    steps = [_steps(ask.get(way, "")) for way in ("up", "down")]
    graph = _lineage(site, of, *steps)
    if graph is None:
        raise NotKept(f"no call or value {of} is kept in {site.name}")
    said: dict[str, Any] = {"of": of, "up": steps[0], "down": steps[1], "latest": []}
    return said | {"graph": graph.to_dict(), "cut": graph.cut}


def _recent(site: Site) -> Iterable[Call]:
    return (match.call for match in site.cache.query().order_by("-created").limit(20))


def _steps(said: str) -> int | None:
    if not said:
        return None
    if not said.isdecimal() or len(said) > 4:
        raise ConfigError(f"a number of steps is a number from 0 up, not {said!r:.40}")
    return int(said)
