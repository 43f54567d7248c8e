"""The first screen and the live one: what was saved, what ran again and why, what runs now."""

from __future__ import annotations

import glob
import itertools
import json
import time
from collections.abc import Iterator, Mapping
from typing import Any

from wellkept.caches.option_text import redacted
from wellkept.errors import ConfigError, KeptError, NotKept
from wellkept.kv.backends import entries_of, has_entries
from wellkept.kv.entry import About
from wellkept.kv.plan import Entries, each_entry
from wellkept.kv.service import COLLECTION
from wellkept.memo.inflight import waits_of
from wellkept.records import Call
from wellkept.runs.causes import AGAIN, Group
from wellkept.runs.nearest import Layer, layers
from wellkept.runs.run import Runs
from wellkept.runs.summary import Summary
from wellkept.runs.table import called
from wellkept.stores.lease_holders import command, holders
from wellkept.web.site import Site

Ask = Mapping[str, str]
"""What the address of a page asks for."""

_LATEST, _GROUPS = 8, 25
# Stores that are looked into for jobs, and jobs of one.
_STORES, _JOBS = 50, 500
# On the first screen.
_STORES_SHOWN = 6
_LOCKS = 200


def today(site: Site, ask: Ask) -> dict[str, Any]:
    """Return what was saved, what was computed again because of what, and what runs now."""
    found = site.summary()
    data: dict[str, Any] = {"complete": found is not None, "running": running(site)}
    data["jobs"] = [
        {"store": one["store"], "scope": one["scope"], "counts": one["counts"]}
        for one in _jobs(site)
        if one["jobs"]
    ][:_STORES_SHOWN]
    if found is None:
        return data | {"calls": site.cache.query().count(), "latest": _latest(site)}
    return data | _sums(site, found) | {"latest": _latest(site)}


def _sums(site: Site, found: Summary) -> dict[str, Any]:
    cpu, totals = found.cpu_saved, site.totals.value
    again = [one for one in found.groups if one.kind in AGAIN]
    rest = [one for one in found.groups if one.kind not in AGAIN]
    return {
        "as_of": found.at,
        "saved": {
            "seconds": found.saved,
            "cpu": cpu,
            "money": None if site.price is None else site.price.of(cpu),
            "uses": sum(row.uses for row in found.functions),
            "costs": {name: cost._asdict() for name, cost in found.costs.items()},
        },
        "spent": sum(row.seconds for row in found.functions),
        "calls": found.calls,
        "functions": len(found.functions),
        "bytes": sum(row.bytes for row in found.functions),
        "chart": {
            "begin": found.begin,
            "step": found.step,
            "computed": found.computed,
            "hits": found.hits,
        },
        "again": [_group(site, one) for one in again[:_GROUPS]],
        "first": [_group(site, one) for one in rest[:_GROUPS]],
        "looked": found.looked,
        "expired": found.expired,
        "damaged": 0 if totals is None else totals.damaged_files,
    }


def _group(site: Site, one: Group) -> dict[str, Any]:
    return one._asdict() | {"commands": commands(site, one.kind, one.function, one.key)}


def commands(site: Site, kind: str, function: str, key: str) -> list[tuple[str, str]]:
    """Return what one may do about a cause: a word, and the command."""
    found = [("explain", site.command("explain", key[:16]))]
    if kind in ("code", "version", "dependency"):
        module, colon, name = function.rpartition(":")
        # A name of its own, or a script's, does not say what is to be imported.
        where = (
            function if colon and module != "__main__" else f"SCRIPT.py:{name.rpartition('.')[2]}"
        )
        found += [
            ("accept", site.command("bless", where)),
            ("verify", site.command("verify", "--function", where)),
            ("clear", site.command("evict", "--function", glob.escape(function))),
        ]
    elif kind == "damaged":
        found.append(("repair", site.command("verify", "--repair")))
    elif kind == "evicted":
        found.append(("what is kept", site.command("du")))
    return found


def _latest(site: Site) -> list[dict[str, Any]]:
    return [
        call_row(match.call) for match in site.cache.query().order_by("-created").limit(_LATEST)
    ]


def call_row(call: Call) -> dict[str, Any]:
    """Return a call as a row of a list."""
    return {
        "key": str(call.key),
        "function": call.function,
        "call": called(call.function, call),
        "state": call.state,
        "created": call.created,
        "seconds": call.seconds,
        "size": call.size,
        "uses": call.uses,
        "expires": call.expires,
    }


# -- live --------------------------------------------------------------------------------------------


def live(site: Site, ask: Ask) -> dict[str, Any]:
    """Return who holds which lease, who waits for whom, the runs that go on, and the jobs."""
    return running(site) | {"jobs": list(_jobs(site)), "at": time.time()}


def running(site: Site) -> dict[str, Any]:
    """Return the leases that are held, those who wait, and the runs that go on."""
    leases: list[dict[str, Any]] = []
    waits: list[dict[str, Any]] = []
    troubles: list[str] = []
    for place in layers(site.cache):
        try:
            leases += _leases(place)
            waits += waits_of(place.backend.locks)
        except KeptError as error:
            troubles.append(redacted(f"{place.name}: {error}"))
    for wait in waits:
        by = next((one for one in leases if wait["waits"].startswith(one["key"])), None)
        wait["for"] = None if by is None else by["pid"]
    return {"leases": leases, "waits": waits, "runs": _open_runs(site), "troubles": troubles}


def _leases(place: Layer) -> Iterator[dict[str, Any]]:
    for one in itertools.islice(holders(place.backend.locks), _LOCKS):
        call = _known(place, one.key)
        here = one.command or (command(one.pid) if one.pid is not None and not one.host else "")
        yield {
            "key": one.key,
            "call": None if call is None else called(call.function, call),
            "host": one.host,
            "pid": one.pid,
            "command": redacted(here),
            "since": one.since,
            "place": place.name,
        }


def _known(place: Layer, key: str) -> Call | None:
    """Return what was computed under a key before, if anything was."""
    try:
        full = key if len(key) == 64 else next(iter(place.backend.calls.keys(key)), None)
        return None if full is None else place.backend.calls.get(full)
    except KeptError:
        return None


def _open_runs(site: Site) -> list[dict[str, Any]]:
    found = []
    for run in Runs(site.cache).latest(40):
        if run.state == "running":
            total = run.totals()
            found.append(
                {
                    "id": run.id,
                    "name": run.name,
                    "seconds": run.seconds,
                    "hits": total.hits,
                    "computed": total.computed,
                    "failed": total.failed,
                    "saved": total.saved,
                }
            )
    return found


def abouts(site: Site) -> tuple[Entries | None, list[About], str]:
    """Return the named state of the cache and its stores; or why there is none."""
    if not has_entries(site.cache):
        return None, [], ""
    try:
        entries = entries_of(site.cache)
        listed = sorted(entries.abouts(COLLECTION, None, None), key=lambda one: one.name)
    except (ConfigError, NotKept) as error:
        return None, [], redacted(str(error))
    return entries, listed, ""


def _jobs(site: Site) -> Iterator[dict[str, Any]]:
    entries, listed, _ = abouts(site)
    for about in listed[:_STORES]:
        # As there are stores.
        assert entries is not None
        first = entries.page(about.name, "", None, 1, True)
        if not first or job_of(first[0].data) is None:
            continue
        every = itertools.islice(each_entry(entries, about.name, ""), _JOBS)
        jobs = [job for entry in every if (job := job_of(entry.data)) is not None]
        counts = {state: sum(job["state"] == state for job in jobs) for state in STATES}
        busy = [job for job in jobs if job["state"] in ("running", "requested")][:20]
        yield {
            "store": about.name.store,
            "scope": about.name.scope[1:],
            "counts": counts,
            "jobs": [{name: job.get(name) for name in _SHOWN} for job in busy],
        }


STATES = ("requested", "running", "completed", "failed", "canceled")
_SHOWN = ("id", "state", "progress", "owner", "updated", "error")


def job_of(data: Any) -> dict[str, Any] | None:
    """Return an entry of a store as a job, if it is one."""
    if not isinstance(data, str):
        return None
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        return None
    is_one = isinstance(found, dict) and {"id", "state", "lease", "token"} <= found.keys()
    return found if is_one else None
