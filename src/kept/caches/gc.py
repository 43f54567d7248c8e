"""Removing what nothing references: values that no call gave, blobs that no value has."""

from __future__ import annotations

import json
import time
from typing import Any

from kept.caches.cache import Cache
from kept.codecs import Frame
from kept.errors import DecodeError, StoreError
from kept.stores.coder import unpack_body
from kept.stores.collect import Collected, collect_blobs, without_values
from kept.stores.embedded import Embedded
from kept.stores.layers import Layers
from kept.stores.medium import Medium
from kept.stores.tables import unseal

__all__ = ["collect"]

_NOTES = "gc/candidates"


def collect(cache: Cache, grace: float) -> Collected:
    """See `Cache.gc`."""
    place: Any = cache.place
    while hasattr(place, "place"):  # a derived cache's
        place = place.place
    return _collect(place, grace)


def _collect(place: Any, grace: float) -> Collected:
    if isinstance(place, Layers):
        parts = [_collect(layer, grace) for layer in place.places]
        return Collected(sum(p.items for p in parts), sum(p.bytes for p in parts))
    if isinstance(place, Embedded):
        if place.database.readonly:
            raise StoreError(f"can't collect in {place.root}: it is read-only")
        with place.database.writing() as c:
            values = without_values(c)
        blobs = collect_blobs(place)
        return Collected(values.items + blobs.items, values.bytes + blobs.bytes)
    if isinstance(place, Medium):
        return _sweep(place, grace)
    return Collected(0, 0)


def _sweep(place: Medium, grace: float) -> Collected:
    """Marks what is unreferenced now, and removes what was marked `grace` seconds ago and still is.

    A medium has no lock that all its writers hold. A writer that takes longer than the grace
    between writing a blob and the call that names it finds its call a miss, and computes again.
    """
    calls, items = place.calls.items, place.values.items
    now = time.time()
    loose = _loose(place)
    try:
        noted = json.loads(items.get(_NOTES) or b"{}")
        since = {k: float(t) for k, t in noted.items()}
    except (ValueError, TypeError, AttributeError):
        since = {}
    doomed = [key for key in loose if key in since and now - since[key] >= grace]
    if grace <= 0:
        doomed = list(loose)
    size = 0
    for key in doomed:
        item = items.get(key)
        size += len(item) if item else 0
        items.delete(key)
    left = {key: since.get(key, now) for key in loose if key not in set(doomed)}
    if left:
        items.put(_NOTES, json.dumps(left).encode())
    elif noted:
        items.delete(_NOTES)
    del calls
    return Collected(len(doomed), size)


def _loose(place: Medium) -> set[str]:
    """The items of values and blobs that no call needs."""
    calls, items = place.calls.items, place.values.items
    values = set(items.keys("values/"))
    blobs = set(items.keys("blobs/"))
    used: set[str] = set()
    for name in calls.keys("calls/"):
        item = calls.get(name)
        if item is None:
            continue
        try:
            body, frame, _ = unpack_body(bytes.fromhex(name[6:]), item)
        except DecodeError:
            continue
        used.add(f"values/{body.result.hex()}")
        if frame is not None:
            used |= {f"blobs/{blob.name.hex()}" for blob in frame.blobs}
    for name in values & used:
        item = items.get(name)
        try:
            frame = Frame.unpack(unseal(bytes.fromhex(name[7:]), bytes(item or b"")))
        except DecodeError:
            continue
        used |= {f"blobs/{blob.name.hex()}" for blob in frame.blobs}
    return (values | blobs) - used
