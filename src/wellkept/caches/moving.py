"""The notes that belong to calls, and go where these go: what arguments were made of, the source of the
code, what processes and collectors had in common.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wellkept.caches.by_hand import parts
from wellkept.caches.cache import Cache
from wellkept.codecs import decode
from wellkept.errors import ConfigError, DecodeError, KeptError, StoreError
from wellkept.hashing import buffer_digest, digest_bytes
from wellkept.hashing.digests import call_key
from wellkept.records import Call, Digest, Value
from wellkept.stores.backend import Backend, each_call, inner
from wellkept.stores.base import get_many, put_many
from wellkept.stores.record_format import Body
from wellkept.stores.reports import Moved
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
            for prefix in [name for name in names if name.endswith("/")]:
                names += self._source.keys(prefix)
            found: dict[str, bytes] = get_many(
                self._source, [name for name in names if not name.endswith("/")]
            )
            texts = [name for key, item in found.items() for name in _parts(key, item)]
            if texts:
                found |= get_many(self._source, texts)
            if found:
                put_many(self._target, found)


def kind_notes(function: str, code: str) -> str:
    """Begin the names of the notes of what a function of many items gives its results in: one for each
    kind of what they come in.
    """
    return f"each/{buffer_digest(json.dumps([function, code]).encode()).hex()[:24]}/"


def _shared(call: Call) -> Iterator[str]:
    kind, _, identity = call.code.partition(":")
    if kind in ("deep", "deep2", "code"):
        yield f"code/{identity}"
    receiver = call.arguments.get("@class")
    if receiver is not None and receiver.shown:
        yield f"code/{receiver.value}"
    if "@each" in call.arguments:
        yield kind_notes(call.function, call.code)
    if "cost" in call.metadata:
        yield "costs"
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


_TRIES = 5
_GRACE = 3600.0  # seconds, where a collection needs one
Progress = Callable[[int, int], None] | None


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
    if not isinstance(target, Cache):
        raise ConfigError(f"target= is a cache, not {target!r:.80}: wellkept.open(…) makes one")
    if isinstance(where, str):
        raise ConfigError(f"where= takes a query, not text: write cache.query({where!r:.80})")
    done = Moved()
    source.flush()
    if move:
        inner(source.backend, write=True)
    inner(target.backend, write=True)
    here, there = _identities(source.backend), _identities(target.backend)
    if here == there or (move and here & there):
        # Moving ends with forgetting here, which would be there.
        raise ConfigError("a cache is transferred to another one, not to itself or to a part of it")
    gone: list[Call] = []
    notes = Belongings(source.backend, target.backend)
    beside: dict[str, list[Call]] = {}
    for one in parts(source.backend) if where is not None else ():
        beside.setdefault(one.arguments.get("of", one.arguments["value"]).digest, []).append(one)
    chosen = (
        _each(source, progress) if where is None or callable(where) else _chosen(where, progress)
    )
    for _, call in chosen:
        if call is None:
            done.skipped += 1
        elif where is None or not callable(where) or where(call):
            try:
                if _copied(source, target, call, done, overwrite, dry_run=dry_run, move=move):
                    gone.append(call)
                    if not dry_run:
                        notes.add(call)
                        _bring_parts(source, target, call, beside)
            except DecodeError:
                done.skipped += 1
    notes.bring()
    target.tier.clear()
    # What somebody has kept here since is another result, which the target has not got.
    keys = [] if dry_run or not move else [call.key for call in gone if _has(source, call)]
    if keys:
        source.evict(keys=keys)
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
    # What is in memory does not pickle, and is the same only as itself.
    with contextlib.suppress(TypeError, StoreError):
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
    for _ in range(_TRIES):
        there = None
        with contextlib.suppress(DecodeError):  # damaged there: written anew
            there = target.backend.fetch(key)
        before = None if there is None else there.body
        another = there is not None and there.envelope is not None
        if before is not None and another:
            if before.result == call.result.raw:
                done.same += 1
                return True
            if overwrite is False or (overwrite == "older" and before.created >= call.created):
                break
        row = source.backend.fetch(key)
        if row is None or row.envelope is None or row.body.result != call.result.raw:
            done.skipped += 1  # its result was evicted; or just now, somebody kept another
            return False
        if not dry_run:
            # What somebody has kept there since is looked at anew.
            if not target.backend.commit_over(call, value_of(source.backend, row), before):
                continue
            if call.uses:
                target.backend.count({key: call.uses})
            if move and not _has(target, call):  # one that keeps nothing, or too little
                done.skipped += 1
                return False
        done.calls += 1
        done.replaced += another
        done.bytes += call.size
        return True
    done.other += 1
    return False


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
    stays: dict[str, Call | None] = {}
    leaves: dict[str, tuple[Call, Call | None]] = {}
    for key, call in _each(cache, progress):
        new = call if call is None or function is None else function(call)
        if call is not None and new is not None:
            pairs = [(name, argument.digest.raw) for name, argument in new.arguments.items()]
            new = new._replace(key=Digest.of(call_key(new.function, new.code, pairs)))
        if call is None or new == call:
            done.skipped += call is None
            done.same += call is not None
            stays[key] = call
        else:
            leaves[key] = call, new
    merged = _merged(stays, leaves, done)
    placed: set[str] = set()
    while leaves:
        path = _path(leaves)
        # Of those that wait for each other in a circle, one gives way.
        last = leaves[path[-1]][1]
        held: dict[str, tuple[Body, Value] | None] = {}
        if last is not None and last.key != path[-1] and last.key in leaves:
            held[last.key] = _result(cache, leaves[last.key][0])
        for key in reversed(path):
            call, new = leaves.pop(key)
            if new is not None:
                found = held.pop(key) if key in held else _result(cache, call)
                if found is None:  # a record without its result stays as it is
                    done.skipped += 1
                    continue
                body, value = found
                occupied = new.key in held or new.key in merged
                before = body if new.key == key else None
                if occupied:
                    before = cache.backend.seen(new.key.raw)
                if not dry_run and not cache.backend.commit_over(new, value, before):
                    done.other += 1
                    continue
                if not dry_run and new.uses and new.key != key:
                    cache.backend.count({new.key.raw: new.uses})
                placed.add(new.key)
            done.calls += 1
            if not dry_run and key not in placed:
                cache.calls.delete(key)
    for key, at in merged.items():
        if at not in placed and stays.get(at) is None:
            done.skipped += 1
            continue
        done.calls += 1
        done.merged += 1
        if not dry_run and key not in placed:
            cache.calls.delete(key)
    cache.tier.clear()
    if done.calls and not dry_run:
        cache.backend.collect(_GRACE, False)
    return done


def _merged(
    stays: dict[str, Call | None], leaves: dict[str, tuple[Call, Call | None]], done: Moved
) -> dict[str, str]:
    """Take out of `leaves` what becomes the same call as another one: return the keys of those with the
    same result, each with the key that both have, and leave those with another result where they are.
    """
    while True:
        there: dict[str, Call | None] = dict(stays)
        there |= {key: new for key, (_, new) in leaves.items() if new and new.key == key}
        same: dict[str, str] = {}
        others = []
        for key, (_, new) in leaves.items():
            if new is None or new.key == key:
                continue
            if new.key not in there:
                there[new.key] = new
                continue
            first = there[new.key]
            if first is not None and (first.result, first.state) == (new.result, new.state):
                same[key] = new.key
            else:
                others.append(key)
        if not others:
            for key in same:
                del leaves[key]
            return same
        for key in others:
            done.other += 1
            stays[key] = leaves.pop(key)[0]


def _path(leaves: Mapping[str, tuple[Call, Call | None]]) -> list[str]:
    """Return one that is to go, the one in whose place it goes, and so on."""
    at = next(iter(leaves))
    path = {at: None}
    while (new := leaves[at][1]) is not None and new.key in leaves and new.key not in path:
        at = new.key
        path[at] = None
    return [*path]


def _result(cache: Cache, call: Call) -> tuple[Body, Value] | None:
    """Return what is kept of a call, and its result; None if that is gone, or another one."""
    with contextlib.suppress(DecodeError):
        row = cache.backend.fetch(call.key.raw)
        if row is not None and row.envelope is not None and row.body.result == call.result.raw:
            return row.body, value_of(cache.backend, row)
    return None


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
