"""What a server does for those who look after the whole of a cache: all of it may take long."""

from __future__ import annotations

from typing import Any

from kept.remote.fields import keys_of
from kept.remote.wire import WireError

__all__ = ["LONG", "collect", "evict", "free", "totals", "verify"]

LONG = frozenset(("evict", "free", "gc", "repair", "totals", "value.delete", "verify"))
"""Verbs whose answer may take minutes; a transport tells its client meanwhile that it goes on."""
_MANY = 100_000  # keys in a request
_PROBLEMS = 10_000  # that are told one by one


def collect(cache: Any, fields: Any) -> Any:
    done = cache.gc(grace=float(fields["grace"]), dry_run=bool(fields["dry_run"]))
    return [done.items, done.bytes]


def free(cache: Any, fields: Any) -> Any:
    from kept.caches.gc import freed  # few ask for it

    done = freed(cache, [key.hex() for key in keys_of(fields, "keys", _MANY)])
    return [done.items, done.bytes]


def evict(cache: Any, fields: Any) -> Any:
    from kept.caches.evict import Choice, evicted  # as above

    function, before = fields.get("function"), fields.get("before")
    if not isinstance(function, str | None) or not isinstance(before, float | None):
        raise WireError("a choice of calls on the wire can't be read")
    keys = None if fields.get("keys") is None else keys_of(fields, "keys", _MANY)
    chosen = Choice(function, before, None if keys is None else frozenset(k.hex() for k in keys))
    if chosen == Choice():
        raise WireError("a choice of calls on the wire that chooses none")
    done = evicted(cache, chosen, bool(fields["dry_run"]))
    return [done.calls, done.values, done.blobs, done.bytes]


def verify(cache: Any, fields: Any) -> Any:
    found = cache.verify(repair=bool(fields["repair"]), discard=bool(fields["discard"]))
    said = vars(found) | {
        "problems": [
            [one.kind, one.what, one.detail[:500], one.repaired]
            for one in found.problems[:_PROBLEMS]
        ]
    }
    return dict(said)


def totals(cache: Any, fields: Any) -> Any:
    return cache.size().to_dict()
