"""What nothing references: which values and blobs of an embedded store can go, and their going.

Calls reference values, and calls and values reference blobs. Rows vanish in the transaction that
finds them unreferenced. Blobs are looked for while everybody works, and looked for again under the
lock that writers hold from a blob's writing to its record's commit, before any is removed; so no
record that is committed ever names a blob that was collected.
"""

from __future__ import annotations

import contextlib
import glob
import json
import os
import sqlite3
import time
from collections.abc import Container, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple

from wellkept.codecs import Blob, Envelope
from wellkept.errors import DecodeError, StoreError
from wellkept.hashing import buffer_digest
from wellkept.stores.base import delete_many, get_many
from wellkept.stores.byte_store import Medium
from wellkept.stores.embedded import Embedded
from wellkept.stores.index_tables import scan
from wellkept.stores.record_format import BODY_SIZE, unseal

_SEAL = 16
_SALVAGED, _DAMAGED = ".salvaged-", ".damaged-"

ORPHANS = '"values" WHERE id NOT IN (SELECT value FROM calls WHERE value IS NOT NULL)'
"""The values that no call references, for a SELECT or a DELETE."""


class Collected(NamedTuple):
    """What was removed."""

    items: int
    bytes: int


def _names_blobs(column: str, offset: int) -> str:
    """A condition: the envelope that begins at `offset` of a column has blobs, or is no envelope.

    It spares the reading of a million rows that have none. See `Envelope` for the layout.
    """
    at = offset + 5  # of the codec's name, from 1: magic, version, flags and length come before
    length = f"unicode(CAST(substr({column}, {at}, 1) AS TEXT))"
    return f"substr({column}, {at + 1} + {length}, 4) IS NOT x'00000000'"


_IN_CALLS = (
    "calls",
    "body",
    f"length(c.body) > {_SEAL + BODY_SIZE} AND {_names_blobs('c.body', _SEAL + BODY_SIZE)}",
    _SEAL + BODY_SIZE,
)
_IN_VALUES = ("values", "head", _names_blobs("c.head", _SEAL), _SEAL)


class Reference(NamedTuple):
    """A record that names blobs."""

    table: str
    column: str
    id: Any
    sealed: Any
    """What is in the column."""
    blobs: Sequence[Blob]


def references(store: Embedded) -> Iterator[Reference]:
    """The records that name blobs. A damaged one still counts, as long as it can be parsed.

    Raises:
        StoreError: the index can't be read.
    """
    database = store.database
    for table, column, where, offset in (_IN_CALLS, _IN_VALUES):
        query = f'SELECT c.id, c.{column} FROM "{table}" c'
        try:
            for id_, sealed in scan(database, query, where):
                try:
                    blobs = Envelope.unpack(sealed[offset:]).blobs
                except (DecodeError, TypeError):
                    continue
                yield Reference(table, column, id_, sealed, blobs)
        except sqlite3.Error as error:
            raise database.failed("read", error) from error


def referenced(store: Embedded) -> Iterator[str]:
    """The names of blobs that records name, some of them more than once."""
    return (blob.name.hex() for found in references(store) for blob in found.blobs)


def unreferenced(store: Embedded) -> set[str]:
    """The names of blobs that no record names. Exact only under `locks.collecting_blobs()`.

    Blobs written before a damaged index was set aside stay: they may belong to what is in it.
    """
    found = set(store.blobs.keys())
    if not found:
        return found
    found.difference_update(referenced(store))
    spared = max((_time_of(path) for path in set_aside(store)), default=0)
    if spared:
        found = {name for name in found if _written(store.blobs.path(name)) > spared}
    return found


def collect_blobs(store: Embedded, patience: float = 10.0) -> Collected:
    """Remove the blobs that no record names.

    Raises:
        StoreError: they can't be removed, or writers leave no gap within `patience` seconds.
    """
    before = store.token()
    names = unreferenced(store)
    if not names:
        return Collected(0, 0)
    size = 0
    with store.locks.collecting_blobs(patience):
        # A writer may have found one there since, and named it in a record; and one that was at
        # work then has committed by now.
        if before is None or store.token() != before:
            names.difference_update(referenced(store))
        for name in names:
            path = store.blobs.path(name)
            try:
                size += path.stat().st_size
                store.blobs.delete(name)
            except FileNotFoundError:
                continue
            except OSError as error:
                raise StoreError(f"can't remove {path}: {error}") from error
    return Collected(len(names), size)


def without_values(c: sqlite3.Connection) -> Collected:
    """Inside a write transaction: remove the values that no call references, and counts of uses.

    Functions stay: other processes remember the numbers of their rows.
    """
    (size,) = c.execute(f"SELECT coalesce(sum(length(head)), 0) FROM {ORPHANS}").fetchone()
    count = c.execute(f"DELETE FROM {ORPHANS}").rowcount
    c.execute("DELETE FROM uses WHERE id NOT IN (SELECT id FROM calls)")
    return Collected(count, size)


def set_aside(store: Embedded) -> list[Path]:
    """The damaged index files that were set aside and not salvaged yet, the newest first."""
    path = store.database.path
    found = path.parent.glob(f"{glob.escape(path.stem + _DAMAGED)}*{glob.escape(path.suffix)}")
    return sorted((each for each in found if each.is_file()), key=_time_of, reverse=True)


def salvaged_name(path: Path) -> Path:
    """What a set-aside index file is called once what it holds was salvaged."""
    return path.with_name(_SALVAGED.join(path.name.rsplit(_DAMAGED, 1)))


def _time_of(path: Path) -> int:
    """When an index file was set aside, in nanoseconds; now, where its name does not say."""
    digits = path.stem.rpartition(_DAMAGED)[2]
    return int(digits) if digits.isdecimal() and len(digits) < 20 else time.time_ns()


def _written(path: Path) -> int:
    try:
        return os.stat(path).st_mtime_ns  # noqa: PTH116  as quick as can be: there may be many
    except OSError:
        return 0


_NOTES = "gc/notes"
_FEW = 50  # items that are removed at once, and could be put back
_LEFT = ("leases/", "waits/")
_LONG = 86400.0  # seconds that nobody waits
_CLOCKS = 60.0  # seconds by which hosts' clocks may differ


def sweep(backend: Medium, grace: float, *, dry_run: bool = False) -> Collected:
    """Remove what was noted as unreferenced `grace` seconds ago and still is; note the rest.

    Raises:
        StoreError: the medium can't be read or written.
    """
    items = backend.values.items
    now = time.time()
    oldest, left_over = _leases(backend, now)
    found = dict.fromkeys(loose(backend), "") | left_over
    since = {
        name: min(now, noted[0])
        for name, noted in _noted(items.get(_NOTES)).items()
        if name in found and found[name] == noted[1]
    }
    doomed = []
    for name in found:
        noted = since.get(name, now)
        wait = max(grace, _LONG) if name.startswith("waits/") else grace
        under_way = noted >= oldest and not name.startswith(_LEFT)
        if now - noted >= wait and not under_way:
            doomed.append(name)
    done = _remove(backend, doomed, dry_run=dry_run)
    if not dry_run:
        gone = set(doomed)
        left = {n: (since.get(n, now), mark) for n, mark in found.items() if n not in gone}
        if left:
            items.put(_NOTES, json.dumps(left).encode())
        else:
            items.delete(_NOTES)
    return done


def free(backend: Medium, digests: Iterable[str]) -> Collected:
    """Forget values, and the blobs that only they had; their calls' records stay.

    Raises:
        StoreError: the medium can't be read or written.
    """
    wanted = set(digests)
    names, size, _ = _parts(backend, wanted)
    backend.values.delete_many(wanted)
    blobs = _remove(backend, names & loose(backend)) if names else Collected(0, 0)
    return Collected(blobs.items, blobs.bytes + size)


def free_with(
    backend: Medium, calls: Iterable[str], digests: Iterable[str], *, dry_run: bool = False
) -> int:
    """Forget calls, the values that only they gave, and the blobs that only these had; how many
    blobs.

    Raises:
        StoreError: the medium can't be read or written.
    """
    doomed = set(calls)
    wanted = set(digests)
    names, _, own = _parts(backend, wanted)
    if not dry_run:
        for key in doomed:
            backend.calls.delete(key)
        delete_many(backend.values.items, own)
    going = names & loose(backend, without=doomed) if names else names
    return _remove(backend, going, dry_run=dry_run).items


def _parts(backend: Medium, digests: set[str]) -> tuple[set[str], int, set[str]]:
    """The blobs of values, the bytes beside them, and the items that they may have."""
    names: set[str] = set()
    size = 0
    own = {f"values/{digest}" for digest in digests}
    if not digests:
        return names, size, own
    for _, body, envelope, value in backend.calls.envelopes():
        if body.result.hex() not in digests:
            continue
        if envelope is not None:
            names |= _blobs(envelope)
            size += len(envelope.payload or b"")
        elif value:
            own.add(value)
    for key, item in get_many(backend.values.items, own).items():
        with contextlib.suppress(DecodeError):
            names |= _blobs(Envelope.unpack(unseal(bytes.fromhex(key[7:71]), bytes(item))))
        size += len(item)
    return names, size, own


def loose(backend: Medium, without: Container[str] = ()) -> set[str]:
    """The items of values and blobs that no call needs, or none but those `without`."""
    items = backend.values.items
    there = {*items.keys("values/"), *items.keys("blobs/")}
    if not there:
        return there
    used = _named(backend, without)
    values = [name for name in there & used if name.startswith("values/")]
    for at in range(0, len(values), _FEW):
        for name, item in get_many(items, values[at : at + _FEW]).items():
            with contextlib.suppress(DecodeError):
                used |= _blobs(Envelope.unpack(unseal(bytes.fromhex(name[7:71]), bytes(item))))
    return there - used


def _named(backend: Medium, without: Container[str] = ()) -> set[str]:
    """What calls name themselves: their values, and the blobs of those that travel with them."""
    used: set[str] = set()
    for key, _, envelope, value in backend.calls.envelopes():
        if key not in without:
            if envelope is not None:
                used |= _blobs(envelope)
            elif value:
                used.add(value)
    return used


def _blobs(envelope: Envelope) -> set[str]:
    return {f"blobs/{blob.name.hex()}" for blob in envelope.blobs}


def _remove(backend: Medium, names: Iterable[str], *, dry_run: bool = False) -> Collected:
    """Remove items, and put back those that a call has come to need meanwhile."""
    count = size = 0
    listed = sorted(names)
    for at in range(0, len(listed), _FEW):
        some = listed[at : at + _FEW]
        store = {name: _store_of(backend, name) for name in some}
        found: dict[str, Any] = {}
        for name in some:
            item = store[name].get(name)
            if item is not None:
                found[name] = item
        count += len(found)
        size += sum(len(item) for item in found.values())
        if dry_run:
            continue
        with _alone(backend):
            for name in found:
                store[name].delete(name)
            matter = {name for name in found if not name.startswith(_LEFT)}
            for name in _needed(backend, matter):
                store[name].put(name, found[name])
                count, size = count - 1, size - len(found[name])
    return Collected(count, size)


def _alone(backend: Medium) -> AbstractContextManager[None]:
    """While no writer of this host is between its blobs and its call, where locks can tell."""
    made: AbstractContextManager[None] = backend.locks.collecting_blobs()
    return made


def _needed(backend: Medium, names: set[str]) -> set[str]:
    """Which of these items, now gone, a call names."""
    if not names:
        return names
    used = _named(backend)
    again = {key for key in used if key.startswith("values/")} & names
    blobs = {name for name in names - again if name.startswith("blobs/")}
    if blobs:
        items = backend.values.items
        for name in items.keys("values/"):
            if name in used:
                item = items.get(name)
                with contextlib.suppress(DecodeError):
                    used |= _blobs(
                        Envelope.unpack(unseal(bytes.fromhex(name[7:71]), bytes(item or b"")))
                    )
    return again | (blobs & used)


def _store_of(backend: Medium, name: str) -> Any:
    return backend.calls.items if name.startswith(_LEFT) else backend.values.items


def _noted(item: bytes | None) -> dict[str, tuple[float, str]]:
    try:
        return {
            name: (float(t), str(mark)) for name, (t, mark) in json.loads(item or b"{}").items()
        }
    except (ValueError, TypeError, AttributeError):
        return {}


def _leases(backend: Medium, now: float) -> tuple[float, dict[str, str]]:
    """When the oldest lease that somebody holds was taken; and what the dead left, with marks that
    would change if they lived.
    """
    oldest, left = float("inf"), {}
    if backend.locks.shared:  # some may be left from when it was shared
        items = backend.calls.items
        for name in list(items.keys("leases/")):
            item = items.get(name)
            if item is None:
                continue
            try:
                _, token, _, deadline = json.loads(item)
                if deadline + _CLOCKS > now:
                    oldest = min(oldest, token / 1e9)
                    continue
            except (ValueError, TypeError):
                pass  # damaged
            left[name] = buffer_digest(bytes(item)).hex()[:16]
        left |= dict.fromkeys(items.keys("waits/"), "")
    return oldest, left
