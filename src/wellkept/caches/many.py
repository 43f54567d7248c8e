"""Many entries of a cache at once."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from wellkept.caches.keeper import Keeper
from wellkept.caches.tier import Entry

__all__ = ["can_find_many", "find_many"]

_ONCE = 1000  # keys that are asked for at once, so that no answer is without bound


def can_find_many(cache: Keeper) -> bool:
    """Whether that takes fewer trips than one after the other."""
    return getattr(cache.backend, "fetch_many", None) is not None


def find_many(cache: Keeper, keys: Iterable[bytes]) -> dict[bytes, Entry]:
    """The entries under those keys that have one, from memory or from the store.

    Raises:
        StoreError: the store can't be read.
    """
    wanted = list(dict.fromkeys(keys))
    found: dict[bytes, Entry] = {}
    if not can_find_many(cache):
        for key in wanted:
            entry = cache.find(key)
            if entry is not None:
                found[key] = entry
        return found
    for start in range(0, len(wanted), _ONCE):
        some = wanted[start : start + _ONCE]
        backend: Any = cache.backend
        for key, row in backend.fetch_many(some).items():
            if row.envelope is not None:
                found[key] = Entry(row.body, row.envelope)
    return found
