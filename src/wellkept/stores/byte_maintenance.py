"""Garbage collection, eviction and verification of byte stores.

A byte store has no transaction over its items, so nothing is removed at once: an unreferenced item is noted,
removed if it still is unreferenced after a grace period, and put back if a call has come to need it meanwhile.
"""

from __future__ import annotations

import contextlib
import json
import re
import time
from collections.abc import Callable, Container, Iterable, Iterator
from contextlib import AbstractContextManager
from itertools import islice
from typing import Any

from wellkept.codecs import Envelope
from wellkept.codecs.compression import decompress, is_plain
from wellkept.errors import DamagedValue, DecodeError
from wellkept.hashing import buffer_digest
from wellkept.records import Digest
from wellkept.stores.backend import each_call
from wellkept.stores.base import Store, delete_many, get_many
from wellkept.stores.byte_store import ByteStoreBackend
from wellkept.stores.notes import remember
from wellkept.stores.record_format import unpack_body, unpack_call, unseal, value_key
from wellkept.stores.reports import Chosen, Collected, Evicted, Problem, Report

_NOTES = "gc/notes"
# Items that are removed at once. They are held in memory meanwhile, to be put back if a call needs them.
_FEW = 50
_LEFT = ("leases/", "waits/")
# Seconds after which a record of a waiting process is left over, as no process waits that long.
_LONG = 86400.0
# Seconds by which the clocks of hosts may differ.
_CLOCKS = 60.0


def sweep(backend: ByteStoreBackend, grace: float, *, dry_run: bool = False) -> Collected:
    """Remove the items that were noted as unreferenced `grace` seconds ago and still are; note the others.

    Raises:
        StoreError: the store can't be read or written.
    """
    items = backend.values.items
    now = time.time()
    oldest, left_over = _leases(backend, now)
    found = dict.fromkeys(loose(backend), "") | left_over
    # `min`, as the note may be of a host whose clock is ahead, and would then never become old.
    since = {
        name: min(now, noted[0])
        for name, noted in _noted(items.get(_NOTES)).items()
        if name in found and found[name] == noted[1]
    }
    doomed = []
    for name in found:
        noted = since.get(name, now)
        wait = max(grace, _LONG) if name.startswith("waits/") else grace
        # It may be the result of a computation that still holds its lease, and whose call is not written yet.
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


def free(backend: ByteStoreBackend, digests: Iterable[str]) -> Collected:
    """Delete values, and the blobs that only they had; the records of their calls stay.

    Raises:
        StoreError: the store can't be read or written.
    """
    wanted = set(digests)
    names, size, _ = _parts(backend, wanted)
    backend.values.delete_many(wanted)
    blobs = _remove(backend, names & loose(backend)) if names else Collected(0, 0)
    return Collected(blobs.items, blobs.bytes + size)


def free_with(
    backend: ByteStoreBackend,
    calls: Iterable[str],
    digests: Iterable[str],
    *,
    dry_run: bool = False,
) -> int:
    """Delete calls, the values that only they gave, and the blobs that only these had; return how many blobs.

    Raises:
        StoreError: the store can't be read or written.
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


def _parts(backend: ByteStoreBackend, digests: set[str]) -> tuple[set[str], int, set[str]]:
    """Return the blobs of values, the bytes outside of blobs, and the items that the values may have."""
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


def loose(backend: ByteStoreBackend, without: Container[str] = ()) -> set[str]:
    """Return the items of values and blobs that no call needs, not counting the calls `without`."""
    items = backend.values.items
    # Listed before the calls are read: what is written in between is then not among them.
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


def _named(backend: ByteStoreBackend, without: Container[str] = ()) -> set[str]:
    """Return the items that calls name: their values, and the blobs of values that are in the call's item."""
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


def _remove(backend: ByteStoreBackend, names: Iterable[str], *, dry_run: bool = False) -> Collected:
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
        # Removed first and then looked for: a call that was written in between names an item that is gone, and
        # is found by `_needed`. The other way round, one could be written after the look.
        with _alone(backend):
            for name in found:
                store[name].delete(name)
            matter = {name for name in found if not name.startswith(_LEFT)}
            for name in _needed(backend, matter):
                store[name].put(name, found[name])
                count, size = count - 1, size - len(found[name])
    return Collected(count, size)


def _alone(backend: ByteStoreBackend) -> AbstractContextManager[None]:
    """Keep out writers of this host that are between their blobs and their call, if the locks can tell."""
    made: AbstractContextManager[None] = backend.locks.collecting_blobs()
    return made


def _needed(backend: ByteStoreBackend, names: set[str]) -> set[str]:
    """Return which of these items, which were removed, a call names."""
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


def _store_of(backend: ByteStoreBackend, name: str) -> Any:
    return backend.calls.items if name.startswith(_LEFT) else backend.values.items


def _noted(item: bytes | None) -> dict[str, tuple[float, str]]:
    try:
        return {
            name: (float(t), str(mark)) for name, (t, mark) in json.loads(item or b"{}").items()
        }
    except (ValueError, TypeError, AttributeError):
        return {}


def _leases(backend: ByteStoreBackend, now: float) -> tuple[float, dict[str, str]]:
    """Return when the oldest lease that is held was taken, and the records that dead processes left.

    Each record has a mark, which would have changed if its process lived.
    """
    oldest, left = float("inf"), {}
    # Otherwise the leases are locks of the system, which leave no records.
    if backend.locks.shared:
        items = backend.calls.items
        for name in list(items.keys("leases/")):
            item = items.get(name)
            if item is None:
                continue
            try:
                _, token, _, deadline = json.loads(item)
                # A token is the time at which the lease was taken, in nanoseconds.
                if deadline + _CLOCKS > now:
                    oldest = min(oldest, token / 1e9)
                    continue
            except (ValueError, TypeError):
                # A damaged record belongs to no lease.
                pass
            left[name] = buffer_digest(bytes(item)).hex()[:16]
        left |= dict.fromkeys(items.keys("waits/"), "")
    return oldest, left


def evict(backend: ByteStoreBackend, chosen: Chosen, dry_run: bool) -> Evicted:
    """Delete calls, by reading every call; see `Cache.evict`."""
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
        remember(backend.notes, (bytes.fromhex(key) for key in doomed))
    return Evicted(len(doomed), len(there), blobs, size, dry_run)


_PAGE = 100
# Items of other names were written by another program, and are left alone.
_NAME = re.compile(r"[0-9a-f]{64}(\.[0-9a-f]{32})?").fullmatch


class ItemCheck:
    """A check of all items; `run` does it.

    Args:
        backend: whose items.
        repair: remove damaged items; what they belonged to is computed again.
        tell: called with what is checked, how far, and of how much.
    """

    def __init__(
        self, backend: ByteStoreBackend, repair: bool, tell: Callable[[str, int, int], None]
    ) -> None:
        self._calls, self._items = backend.calls.items, backend.values.items
        self._repair, self._tell = repair, tell
        self.problems: list[Problem] = []
        self.calls: int = 0
        self.values: int = 0
        self.blobs: int = 0
        self.bytes = 0

    def run(self) -> Report:
        """Check everything, and repair if asked to: blobs first, then the items that name them."""
        sizes = self._blobs()
        values: set[str] = set()
        for name, item in self._each(self._items, "values"):
            try:
                envelope = Envelope.unpack(unseal(bytes.fromhex(name[:64]), item))
            except DecodeError as error:
                self._add("value", self._items, f"values/{name}", error)
            else:
                self.values += 1
                values.add(name)
                if lack := self._lack(envelope, sizes):
                    values.discard(name)
                    self._add("missing blob", self._items, f"values/{name}", lack)
        for name, item in self._each(self._calls, "calls"):
            self.calls += 1
            try:
                _, found, _ = unpack_body(Digest(name).raw, item)
                unpack_call(name, item)
            except DecodeError as error:
                self._add("call", self._calls, f"calls/{name}", error)
                continue
            if found is not None:
                self.values += 1
                if lack := self._lack(found, sizes):
                    self._add("missing blob", self._calls, f"calls/{name}", lack)
            elif (own := value_key(item)) and own[7:] not in values:
                detail = "its result is not kept"
                self._add("missing result", self._calls, f"calls/{name}", detail)
        return Report(tuple(self.problems), self.calls, self.values, self.blobs, self.bytes)

    def _blobs(self) -> dict[str, int]:
        sizes = {}
        for name, stored in self._each(self._items, "blobs", 1):
            item = stored
            # It may have been written through a store that compresses, and be read without it.
            if not is_plain(stored):
                with contextlib.suppress(DecodeError):
                    item = bytes(decompress(stored))
            if buffer_digest(item).hex() == name:
                self.blobs += 1
                self.bytes += len(item)
                sizes[name] = len(item)
            else:
                self._add("blob", self._items, f"blobs/{name}", "it is not what its name says")
        return sizes

    def _lack(self, envelope: Envelope, sizes: dict[str, int]) -> str:
        for size, name in envelope.blobs:
            if sizes.get(name.hex()) != size:
                return f"its blob {name.hex()} is not there"
        return ""

    def _each(
        self, items: Store[bytes], kind: str, page: int = _PAGE
    ) -> Iterator[tuple[str, bytes]]:
        start = len(kind) + 1
        keys = [key for key in items.keys(f"{kind}/") if _NAME(key[start:])]
        self._tell(kind, 0, len(keys))
        names, done = iter(keys), 0
        while some := list(islice(names, page)):
            for key, item in self._read(items, kind, some):
                yield key[start:], item
            done += len(some)
            self._tell(kind, done, len(keys))

    def _read(self, items: Store[bytes], kind: str, keys: list[str]) -> Iterator[tuple[str, bytes]]:
        try:
            found = get_many(items, keys)
        # The store itself checks items, and says that one of these is damaged: each is read by itself.
        except DamagedValue:
            for key in keys:
                try:
                    item = items.get(key)
                except DamagedValue as error:
                    self._add(kind[:-1], items, key, error)
                else:
                    if item is not None:
                        yield key, bytes(item)
            return
        for key, item in found.items():
            yield key, bytes(item)

    def _add(self, kind: str, items: Store[bytes], key: str, detail: object) -> None:
        if self._repair:
            items.delete(key)
        name = key.partition("/")[2]
        self.problems.append(Problem(kind, name, str(detail), self._repair))
