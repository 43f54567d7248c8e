"""Whether a cache is well: what `wellkept doctor` and the page say, and what to do where it is not."""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import sqlite3
import sys
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

from wellkept._system import KIND
from wellkept.caches.cache import Cache
from wellkept.caches.option_text import redacted
from wellkept.errors import KeptError
from wellkept.stores.backend import Backend
from wellkept.stores.filesystem import kind_of, on_network
from wellkept.stores.index_tables import SCHEMA
from wellkept.stores.lease_holders import holders
from wellkept.stores.leases import Leases, RangeLeases, RecordLeases
from wellkept.stores.reports import Report, Totals

# Shares of a disk that are free.
_TIGHT, _FULL = 0.10, 0.02
# Seconds of an answer.
_SLOW = 0.5
# Problems that are told.
_KINDS = 20


class Check(NamedTuple):
    """One thing that was looked at."""

    name: str
    state: str
    """`ok`, `warn`, `bad`, or `info` where there is nothing to judge."""
    text: str
    command: str = ""
    """What to do about it."""


def examine(cache: Cache, totals: Totals | None = None, *, whole: bool = True) -> list[Check]:
    """Look at a cache without reading its results: what it is on, its schema, damage, room.

    Args:
        totals: of `Cache.size`, where they are at hand.
        whole: add them up otherwise.
    """
    found: list[Check] = []
    for backend in _bottoms(cache.backend):
        found += _answers(backend)
        if backend.root is not None:
            found += _place(backend)
        found += _leases(backend.locks)
    try:
        if totals is None and whole:
            totals = cache.size()
        found += _contents(totals) if totals is not None else ()
    except KeptError as error:
        found.append(Check("contents", "bad", redacted(str(error))))
    if not cache.backend.writable:
        found.append(Check("writes", "info", "this cache is only read from"))
    found.append(versions())
    return found


def versions() -> Check:
    """Return what runs here."""
    own = f"wellkept {getattr(sys.modules['wellkept'], '__version__', '?')}"
    python = f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}"
    return Check("versions", "info", f"{own}, {python}, {platform.system()}")


def verified(report: Report) -> list[Check]:
    """Return what a check of every byte found, as checks; see `Cache.verify`."""
    looked = f"{report.calls:,} calls, {report.values:,} results, {report.blobs:,} blobs"
    if report.ok:
        return [Check("every byte", "ok", f"{looked}: all is well")]
    found = [
        Check(one.kind, "bad", f"{one.what[:80]}: {one.detail}") for one in report.left[:_KINDS]
    ]
    said = f"{looked}: {len(report.left):,} problems"
    return [Check("every byte", "bad", said, "wellkept verify --repair"), *found]


def _bottoms(backend: Backend) -> Iterator[Backend]:
    if backend.backends:
        for part in backend.backends:
            yield from _bottoms(part)
    elif backend.backend is not None:
        yield from _bottoms(backend.backend)
    else:
        yield backend


def _answers(backend: Backend) -> Iterator[Check]:
    name, began = (
        type(backend.byte_stores[0] if backend.byte_stores else backend),
        time.perf_counter(),
    )
    try:
        backend.notes.get("health")
    except KeptError as error:
        yield Check("answers", "bad", redacted(str(error)))
        return
    took = time.perf_counter() - began
    said = f"{name.__name__} answered in {1000 * took:,.1f} ms"
    yield Check("answers", "ok" if took < _SLOW else "warn", said)


def _place(backend: Backend) -> Iterator[Check]:
    root = backend.root
    # As it was asked for.
    assert root is not None
    try:
        disk, about = shutil.disk_usage(root), root.stat()
        network = on_network(root)
    except OSError as error:
        yield Check("directory", "bad", f"{root}: {error}")
        return
    mode = about.st_mode & 0o777
    others = "only you" if not mode & 0o077 else "others, too,"
    state = "ok" if not mode & 0o022 else "warn"
    yield Check("directory", state, f"{root}, mode {mode:o}: {others} may look into it")
    if not os.access(root, os.W_OK):
        yield Check("directory", "warn", f"{root} can't be written to: nothing new is kept")
    kind = kind_of(root) or "of a kind that is not known"
    where = "on the network: leases are records with heartbeats, no WAL" if network else "local"
    yield Check("file system", "ok", f"{kind}, {where}")
    share = disk.free / disk.total if disk.total else 1.0
    state = "ok" if share > _TIGHT else "warn" if share > _FULL else "bad"
    text = f"{disk.free / 1e9:,.1f} GB of {disk.total / 1e9:,.1f} GB are free ({100 * share:.0f} %)"
    yield Check("space", state, text, "" if state == "ok" else "wellkept evict --free SIZE")


def _leases(locks: Any) -> Iterator[Check]:
    if isinstance(locks, RangeLeases):
        said = f"{KIND} locks of the kernel on {locks.path}"
    elif isinstance(locks, RecordLeases):
        said = "records with heartbeats, for processes on several hosts"
    elif isinstance(locks, Leases):
        said = "within this process only"
    else:
        said = "given by a server, or none"
    yield Check("leases", "info", said)
    # The kernel lets go of the locks of what is dead.
    stale = []
    if isinstance(locks, RecordLeases):
        with contextlib.suppress(KeptError):
            stale = [one for one in holders(locks) if one.stale]
    if stale:
        some = ", ".join(
            f"process {one.pid} on {one.host.partition('pid:')[0]}" for one in stale[:3]
        )
        said = f"{len(stale):,} are of owners that are gone, such as {some}: nothing to do"
        yield Check("stale leases", "warn", f"{said}, who computes next takes over within seconds")


def _contents(totals: Totals) -> Iterator[Check]:
    if totals.schema is not None:
        text = f"schema {totals.schema}, journal mode {totals.journal}"
        old = totals.schema < SCHEMA
        yield Check(
            "schema", "warn" if old else "ok", f"{text}; {SCHEMA} is today's" if old else text
        )
    damaged = totals.damaged_files
    said = f"{damaged} index files were damaged and are set aside" if damaged else "none known"
    repair = "wellkept verify --repair" if damaged else ""
    yield Check("damage", "bad" if damaged else "ok", said, repair)
    said = f"functions: {totals.functions:,}, calls: {totals.calls:,}, results: {totals.values:,}"
    yield Check("contents", "info", f"{said}, {totals.bytes / 1e6:,.1f} MB")
