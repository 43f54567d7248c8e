"""A `.hamilton_cache` taken over: what Hamilton's own stores kept, without computing anything."""

from __future__ import annotations

import calendar
import os
import pickle
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hamilton.io.data_adapters import DataLoader

from wellkept._process import identity
from wellkept.caches import Cache
from wellkept.errors import NotKept, StoreError, UntrustedSource
from wellkept.integrations.hamilton.formats import location
from wellkept.integrations.hamilton.metadata_store import KeptMetadataStore
from wellkept.integrations.hamilton.result_store import KeptResultStore
from wellkept.integrations.hamilton.run_history import ENGINE
from wellkept.records import Event, RunRecord
from wellkept.runs.recorder import HEADS, Recorder, new_id, notes_of, pack_record
from wellkept.stores.filesystem import refuse_untrusted

_NODES = "SELECT cache_key, data_version, node_name, code_version FROM cache_metadata"
_RUNS = "SELECT run_id, created_at FROM run_ids ORDER BY id"
_HISTORY = (
    "SELECT m.cache_key, m.data_version, m.node_name, m.code_version, h.created_at FROM history h "
    "JOIN cache_metadata m ON h.cache_key = m.cache_key WHERE h.run_id = ? ORDER BY h.id"
)

Progress = Callable[[int, int], None] | None


@dataclass
class Taken:
    """What was taken over."""

    nodes: int = 0
    """Cache keys with their data versions."""
    results: int = 0
    runs: int = 0
    same: int = 0
    """Cache keys, results and runs that were there already."""
    skipped: int = 0
    """Results that are missing or can't be read; their nodes are computed again."""


def take_over(
    path: str | os.PathLike[str],
    cache: Cache | str | os.PathLike[str] | None = None,
    *,
    trust: bool = False,
    dry_run: bool = False,
    progress: Progress = None,
) -> Taken:
    """Copy what Hamilton's default stores kept in a directory to a kept cache.

    Args:
        path: the directory, which Hamilton calls `.hamilton_cache`; it is only read.
        cache: a cache, a path or a URL; the active cache by default.
        trust: read results from a directory that others can write to.
        dry_run: only say what would be done.
        progress: called with how many cache keys were looked at, and of how many.

    Raises:
        NotKept: Hamilton kept nothing there.
        UntrustedSource: others can write to the directory, and it is not trusted.
        StoreError: one of the two can't be read or written. What was copied stays.
    """
    root = Path(path).expanduser()
    file = root / "metadata_store.db"
    if not file.is_file():
        raise NotKept(f"{root} is no cache of Hamilton: there is no metadata_store.db in it")
    if not trust:
        refuse_untrusted(root)
    metadata = KeptMetadataStore(cache)
    results = KeptResultStore(metadata.cache)
    done = Taken()
    try:
        with closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True)) as c:
            nodes = c.execute(_NODES).fetchall()
            for i, (cache_key, data_version, node, code) in enumerate(nodes):
                if progress is not None:
                    progress(i, len(nodes))
                _take_node(metadata, done, (cache_key, data_version, node, code), dry_run=dry_run)
            for data_version in dict.fromkeys(row[1] for row in nodes):
                _take_result(root, results, done, data_version, dry_run=dry_run)
            for run_id, began in c.execute(_RUNS).fetchall():
                _take_run(c, metadata, done, run_id, began, dry_run=dry_run)
    except (sqlite3.Error, UnicodeDecodeError) as error:
        raise StoreError(f"can't read {file}: {error}") from error
    return done


def _take_node(
    metadata: KeptMetadataStore, done: Taken, row: tuple[Any, ...], *, dry_run: bool
) -> None:
    cache_key, data_version, node, code = row
    if cache_key is not None and metadata.get(cache_key) == data_version:
        done.same += 1
        return
    done.nodes += 1
    if not dry_run:
        metadata.set(cache_key, data_version, node_name=node, code_version=code)


# -- results ---------------------------------------------------------------------------------------


def _take_result(
    root: Path, results: KeptResultStore, done: Taken, data_version: str, *, dry_run: bool
) -> None:
    if results.exists(data_version):
        done.same += 1
        return
    try:
        found = pickle.loads((root / data_version).read_bytes())  # noqa: S301  from a trusted place
        if not dry_run:
            if isinstance(found, DataLoader):
                file, takes = _file_of(root, found)
                results.adopt(data_version, file, type(found), takes)
            else:
                results.keep(data_version, found)
    except (UntrustedSource, StoreError):
        raise
    except Exception:  # noqa: BLE001  a pickle may raise anything; the node is computed again
        done.skipped += 1
    else:
        done.results += 1


def _file_of(root: Path, loader: Any) -> tuple[Path, str]:
    """The file that a loader reads, also where the directory was moved; and how it takes it."""
    takes = location(type(loader), "loader")
    file = Path(getattr(loader, takes))
    here = root / file.name
    return (here if here.is_file() else file), takes


# -- runs ------------------------------------------------------------------------------------------


def _take_run(
    c: sqlite3.Connection,
    metadata: KeptMetadataStore,
    done: Taken,
    run_id: str,
    began: str,
    *,
    dry_run: bool,
) -> None:
    if run_id in metadata.get_run_ids():
        done.same += 1
        return
    done.runs += 1
    if dry_run:
        return
    # Hamilton's times are whole seconds.
    started = _seconds(began) + done.runs * 1e-6
    record = RunRecord(
        new_id(started), run_id, started=started, ended=started, owner=identity(), engine=ENGINE
    )
    recorder = Recorder(record, metadata.cache, None)
    for event in _events(c, metadata, run_id):
        recorder.put(event)
        record = record._replace(ended=max(record.ended or 0.0, event.at))
    recorder.close()
    notes_of(metadata.cache).put(f"{HEADS}{record.id}", pack_record(record))


def _events(c: sqlite3.Connection, metadata: KeptMetadataStore, run_id: str) -> Iterator[Event]:
    for cache_key, data_version, node, code, at in c.execute(_HISTORY, (run_id,)):
        yield metadata.event(cache_key, data_version, node, code, _seconds(at))


def _seconds(text: str) -> float:
    """Seconds since the epoch of a time as SQLite writes it, in UTC."""
    return float(calendar.timegm(time.strptime(text, "%Y-%m-%d %H:%M:%S")))
