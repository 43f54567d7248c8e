"""Calls on the move: from one cache to another, and under other keys."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from kept.caches.cache import Cache
from kept.codecs import decode
from kept.errors import DecodeError, KeptError
from kept.hashing import digest_bytes
from kept.hashing.keys import call_key
from kept.records import Argument, Call, Digest

__all__ = ["Moved", "migrate", "transfer", "transform"]

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
    bytes: int = 0


def transfer(
    source: Cache,
    target: Cache,
    where: Callable[[Call], bool] | None = None,
    *,
    move: bool = False,
    dry_run: bool = False,
    progress: Progress = None,
) -> Moved:
    """See `Cache.transfer`."""
    done = Moved()
    source.flush()
    gone = []
    for key, call in _each(source, progress):
        if call is None:
            done.skipped += 1
            continue
        if where is not None and not where(call):
            continue
        try:
            there = target.calls.get(key)
            if there == call or (there is not None and there.result == call.result):
                done.same += 1
            else:
                value = source.values.get(call.result)
                if value is None:
                    done.skipped += 1
                    continue
                if not dry_run:
                    target.place.commit(call, value)
                    if call.uses:
                        target.place.count({call.key.raw: call.uses})
                done.calls += 1
                done.bytes += call.size
        except DecodeError:
            done.skipped += 1
            continue
        gone.append(key)
    target.tier.clear()
    if move and not dry_run and gone:
        source.evict(keys=gone)
    return done


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
    for key, call in _each(cache, progress):
        if call is None:
            done.skipped += 1
            continue
        new = call if function is None else function(call)
        if new is not None:
            pairs = [(name, argument.digest.raw) for name, argument in new.arguments.items()]
            new = new.replace(key=Digest.of(call_key(new.function, new.code, pairs)))
        if new == call:
            done.same += 1
            continue
        done.calls += 1
        if dry_run:
            continue
        if new is not None:
            _rewrite(cache, call, new)
        if new is None or new.key != key:
            cache.calls.delete(key)
    cache.tier.clear()
    return done


def _rewrite(cache: Cache, call: Call, new: Call) -> None:
    value = cache.values.get(call.result)
    if value is None:  # the result was evicted; its record moves alone where it can
        cache.calls.put(new.key, new)
    else:
        cache.place.commit(new, value)
        if new.uses:
            cache.place.count({new.key.raw: new.uses})


def migrate(cache: Cache, *, dry_run: bool = False, progress: Progress = None) -> Moved:
    """See `Cache.migrate`."""

    def anew(call: Call) -> Call:
        arguments = {
            name: Argument(Digest.of(digest_bytes(argument.value)), argument.value, True)
            if argument.shown
            else argument
            for name, argument in call.arguments.items()
        }
        value = cache.values.get(call.result)
        result = call.result
        if value is not None:
            try:
                result = Digest.of(digest_bytes(decode(value)))
            except KeptError:
                result = call.result  # it has no digest of its own, or its class is gone
        return call.replace(arguments=arguments, result=result)

    return transform(cache, anew, dry_run=dry_run, progress=progress)


def _each(cache: Cache, progress: Progress) -> Iterator[tuple[str, Any]]:
    keys = list(cache.calls.keys())
    for i, key in enumerate(keys):
        if progress is not None:
            progress(i, len(keys))
        try:
            yield key, cache.calls.get(key)
        except DecodeError:
            yield key, None
    if progress is not None:
        progress(len(keys), len(keys))
