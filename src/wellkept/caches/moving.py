"""The notes that belong to calls, and go where these go: what arguments were made of, the source of the
code, what processes and collectors had in common.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wellkept.caches.by_hand import parts
from wellkept.caches.cache import Cache
from wellkept.codecs import decode
from wellkept.errors import ConfigError, DecodeError, KeptError
from wellkept.hashing import digest_bytes
from wellkept.hashing.digests import call_key
from wellkept.records import Call, Digest
from wellkept.stores.backend import Backend, each_call, inner
from wellkept.stores.base import get_many, put_many
from wellkept.stores.stack import value_of

if TYPE_CHECKING:
    from wellkept.query import Matches


_SOME = 200  # calls whose notes are copied at once


class Belongings:
    """Copies the notes of calls from one place to another, many at once. A place that does not take them
    goes without.
    """

    def __init__(self, source: Any, target: Any) -> None:
        self._source, self._target = source.notes, target.notes
        self._wanted: dict[str, None] = {}
        self._brought: set[str] = set()  # what many calls share
        self._calls = 0

    def add(self, call: Call) -> None:
        """The notes of this call, too."""
        self._wanted[f"leaves/{call.key}"] = None
        for name in _shared(call):
            if name not in self._brought:
                self._brought.add(name)
                self._wanted[name] = None
        self._calls += 1
        if self._calls >= _SOME:
            self.bring()

    def bring(self) -> None:
        """Copy what was not copied yet."""
        names, self._wanted, self._calls = list(self._wanted), {}, 0
        with contextlib.suppress(KeptError):
            found: dict[str, bytes] = get_many(self._source, names)
            texts = [name for key, item in found.items() for name in _parts(key, item)]
            if texts:
                found |= get_many(self._source, texts)
            if found:
                put_many(self._target, found)


def _shared(call: Call) -> Iterator[str]:
    kind, _, identity = call.code.partition(":")
    if kind in ("deep", "deep2", "code"):
        yield f"code/{identity}"
    receiver = call.arguments.get("@class")
    if receiver is not None and receiver.shown:
        yield f"code/{receiver.value}"
    for name, said in call.metadata.items():
        note = said if name == "env" else said.get("note") if isinstance(said, Mapping) else None
        if isinstance(note, str) and note.isalnum():
            yield f"env/{note}"


def _parts(key: str, item: bytes) -> list[str]:
    """The texts that a note of code names."""
    if not key.startswith("code/"):
        return []
    try:
        return [f"code/{digest}" for digest in json.loads(item)["parts"].values()]
    except (ValueError, KeyError, TypeError, AttributeError):
        return []


_GRACE = 3600.0  # seconds, where a collection needs one
Progress = Callable[[int, int], None] | None


@dataclass
class Moved:
    """What was done."""

    calls: int = 0
    """Copied, moved or written anew."""
    same: int = 0
    """Already there, or already right."""
    skipped: int = 0
    """Damaged, or without a result to move."""
    other: int = 0
    """The target has another result of the same call, which stayed, and so did the one here."""
    bytes: int = 0


def transfer(
    source: Cache,
    target: Cache,
    where: Callable[[Call], bool] | Matches | None = None,
    *,
    move: bool = False,
    overwrite: bool | str = False,
    dry_run: bool = False,
    progress: Progress = None,
) -> Moved:
    """See `Cache.transfer`."""
    if overwrite not in (False, True, "older"):
        raise ConfigError(f"overwrite= is False, True or 'older', not {overwrite!r:.80}")
    done = Moved()
    source.flush()
    if move:
        inner(source.backend, write=True)
    inner(target.backend, write=True)
    here, there = _identities(source.backend), _identities(target.backend)
    if here == there or (move and here & there):
        # Moving ends with forgetting here, which would be there.
        raise ConfigError("a cache is transferred to another one, not to itself or to a part of it")
    gone: list[str] = []
    notes = Belongings(source.backend, target.backend)
    beside: dict[str, list[Call]] = {}
    for one in parts(source.backend) if where is not None else ():
        beside.setdefault(one.arguments.get("of", one.arguments["value"]).digest, []).append(one)
    chosen = (
        _each(source, progress) if where is None or callable(where) else _chosen(where, progress)
    )
    for key, call in chosen:
        if call is None:
            done.skipped += 1
        elif where is None or not callable(where) or where(call):
            try:
                if _copied(source, target, call, done, overwrite, dry_run=dry_run, move=move):
                    gone.append(key)
                    if not dry_run:
                        notes.add(call)
                        _bring_parts(source, target, call, beside)
            except DecodeError:
                done.skipped += 1
    notes.bring()
    target.tier.clear()
    if move and not dry_run and gone:
        source.evict(keys=gone)
    return done


def _bring_parts(
    source: Cache, target: Cache, call: Call, beside: Mapping[str, list[Call]]
) -> None:
    """Copy the arguments and the elements of its result that were kept beside a call.

    Args:
        beside: the records of such, by the digest of an argument, or the key of the call.
    """
    if not beside:
        return
    for name in {call.key, *(one.digest for one in call.arguments.values())}:
        for one in beside.get(name, ()):
            with contextlib.suppress(DecodeError):
                _copied(source, target, one, Moved(), False, dry_run=False, move=False)


def _chosen(matches: Matches, progress: Progress) -> Iterator[tuple[str, Call | None]]:
    found = list(matches.calls())
    for i, call in enumerate(found):
        if progress is not None:
            progress(i, len(found))
        yield call.key, call
    if progress is not None:
        progress(len(found), len(found))


def _identities(backend: Backend) -> set[object]:
    """What tells the places beneath a place from others, however they were opened."""
    backend = inner(backend, write=False)
    if backend.backends:
        return set().union(*map(_identities, backend.backends))
    return set(map(_identity, backend.byte_stores or (backend,)))


def _identity(store: Any) -> object:
    prefix = ""
    while hasattr(store, "store"):  # a wrapper
        prefix = getattr(store, "prefix", "") + prefix
        store = store.store
    paths = [getattr(store, name, None) for name in ("root", "file", "path")]
    path = next((path for path in paths if isinstance(path, Path)), None)
    if path is not None and path.exists():
        status = path.stat()
        return prefix, status.st_dev, status.st_ino
    if "__reduce__" in vars(type(store)) and (made_of := store.__reduce__()[1]):
        return prefix, type(store), repr(made_of)
    return prefix, id(store)


def _copied(
    source: Cache,
    target: Cache,
    call: Call,
    done: Moved,
    overwrite: bool | str,
    *,
    dry_run: bool,
    move: bool,
) -> bool:
    """Whether the target has the call with its result now."""
    key = call.key.raw
    try:
        there = target.backend.fetch(key)
    except DecodeError:  # damaged there: written anew
        there = None
    if there is not None and there.envelope is not None and there.body.result == call.result.raw:
        done.same += 1
        return True
    if (
        there is not None
        and there.envelope is not None
        and overwrite is not True
        and (overwrite is False or there.body.created >= call.created)
    ):
        done.other += 1
        return False
    row = source.backend.fetch(key)
    if row is None or row.envelope is None or row.body.result != call.result.raw:
        done.skipped += 1  # its result was evicted; or just now, somebody kept another
        return False
    if not dry_run:
        target.backend.commit(call, value_of(source.backend, row))
        if call.uses:
            target.backend.count({key: call.uses})
        if move and not _has(target, call):  # one that keeps nothing, or too little
            done.skipped += 1
            return False
    done.calls += 1
    done.bytes += call.size
    return True


def _has(cache: Cache, call: Call) -> bool:
    row = cache.backend.fetch(call.key.raw)
    return row is not None and row.envelope is not None and row.body.result == call.result.raw


def transform(
    cache: Cache,
    function: Callable[[Call], Call | None] | None = None,
    *,
    dry_run: bool = False,
    progress: Progress = None,
) -> Moved:
    """See `Cache.transform`."""
    done = Moved()
    cache.flush()
    inner(cache.backend, write=True)
    for key, call in _each(cache, progress):
        if call is None:
            done.skipped += 1
            continue
        new = call if function is None else function(call)
        if new is not None:
            pairs = [(name, argument.digest.raw) for name, argument in new.arguments.items()]
            new = new._replace(key=Digest.of(call_key(new.function, new.code, pairs)))
        if new == call:
            done.same += 1
            continue
        try:
            if new is not None and not rewritten(cache, call, new, dry_run=dry_run):
                done.skipped += 1
                continue
        except DecodeError:
            done.skipped += 1
            continue
        done.calls += 1
        if not dry_run and (new is None or new.key != key):
            cache.calls.delete(key)
    cache.tier.clear()
    if done.calls and not dry_run:
        cache.backend.collect(_GRACE, False)
    return done


def rewritten(cache: Cache, call: Call, new: Call, *, dry_run: bool) -> bool:
    """Whether the new record stands beside the old one, with the old one's result."""
    row = cache.backend.fetch(call.key.raw)
    if row is None or row.envelope is None or row.body.result != call.result.raw:
        return False  # a record without its result stays as it is
    if not dry_run:
        cache.backend.commit(new, value_of(cache.backend, row))
        if new.uses and new.key != call.key:
            cache.backend.count({new.key.raw: new.uses})
    return True


def migrate(cache: Cache, *, dry_run: bool = False, progress: Progress = None) -> Moved:
    """See `Cache.migrate`."""
    now: dict[str, Digest] = {}  # of each result: before, and as its digest is made today
    twice = None if progress is None else lambda done, total: progress(done, 2 * total)
    for _, call in _each(cache, twice):
        if call is not None and call.result not in now:
            with contextlib.suppress(DecodeError):
                row = cache.backend.fetch(call.key.raw)
                if row is not None and row.envelope is not None:
                    now[call.result] = _digest_today(cache, call, row)

    def anew(call: Call) -> Call:
        arguments = {}
        for name, argument in call.arguments.items():
            digest = now.get(argument.digest, argument.digest)
            if argument.shown:
                digest = Digest.of(digest_bytes(argument.value))
            arguments[name] = argument._replace(digest=digest)
        return call._replace(arguments=arguments, result=now.get(call.result, call.result))

    second = None if progress is None else lambda done, total: progress(total + done, 2 * total)
    return transform(cache, anew, dry_run=dry_run, progress=second)


def _digest_today(cache: Cache, call: Call, row: Any) -> Digest:
    try:
        return Digest.of(digest_bytes(decode(value_of(cache.backend, row))))
    except Exception:  # noqa: BLE001  its class is gone, or it has no digest: it stays as it is
        return call.result


def _each(cache: Cache, progress: Progress) -> Iterator[tuple[str, Call | None]]:
    total = len(list(cache.calls.keys())) if progress is not None else 0
    # Read whole first: what is written meanwhile is not to be met again.
    for i, (key, call) in enumerate(list(each_call(cache.calls))):
        if progress is not None:
            progress(i, max(total, i + 1))
        yield key, call
    if progress is not None:
        progress(total, total)
