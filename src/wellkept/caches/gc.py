"""Removing what nothing references: values that no call gave, blobs that no value has."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from wellkept.caches.cache import Cache
from wellkept.errors import StoreError
from wellkept.stores.backend import inner
from wellkept.stores.collect import Collected, collect_blobs, unreferenced, without_values
from wellkept.stores.embedded import Embedded
from wellkept.stores.layers import Layers
from wellkept.stores.listed import tidy
from wellkept.stores.medium import Medium
from wellkept.stores.sweep import free, sweep

__all__ = ["collect", "collectable", "freed", "trial"]


def collect(cache: Cache, grace: float, *, dry_run: bool = False) -> Collected:
    """See `Cache.gc`."""
    return _collect(inner(cache.backend, write=True), grace, dry_run)


def _collect(backend: Any, grace: float, dry_run: bool) -> Collected:
    if isinstance(backend, Layers):
        return backend.each(lambda layer: _collect(inner(layer, write=True), grace, dry_run), _sum)
    if isinstance(backend, Medium):
        return sweep(backend, grace, dry_run=dry_run)
    if (away := getattr(backend, "collect", None)) is not None:  # where it is
        return Collected(*away(grace, dry_run))
    if not isinstance(backend, Embedded):
        raise StoreError(f"{type(backend).__name__} can't be collected from here")
    if backend.database.readonly:
        raise StoreError(f"can't collect in {backend.root}: it is read-only")
    if dry_run:
        return _sum(trial(backend, without_values))
    with backend.database.writing() as c:
        values = without_values(c)
        tidy(c)
    return _sum((values, collect_blobs(backend)))


def trial(backend: Embedded, change: Callable[[Any], Collected]) -> tuple[Collected, Collected]:
    """What a change of the index would do, and which blobs it would leave unreferenced."""
    found: list[Collected] = []
    try:
        with backend.database.writing() as c:
            found.append(change(c))
            found.append(collectable(backend))
            raise _PutBackError  # noqa: TRY301  that rolls it back
    except _PutBackError:
        return found[0], found[1]


class _PutBackError(Exception):
    """Ends a transaction that was only tried."""


def collectable(store: Embedded) -> Collected:
    """The blobs that `collect_blobs` would remove now."""
    names = unreferenced(store)
    size = 0
    for name in names:
        try:
            size += store.blobs.path(name).stat().st_size
        except OSError:
            continue
    return Collected(len(names), size)


def freed(cache: Cache, digests: list[str]) -> Collected:
    """Throw results away, and what only they needed; the records of their calls stay.

    Raises:
        StoreError: the store can't be written.
    """
    done = _freed(inner(cache.backend, write=True), digests)
    cache.tier.clear()
    return done


def _freed(backend: Any, digests: list[str]) -> Collected:
    if isinstance(backend, Layers):
        return backend.each(lambda layer: _freed(inner(layer, write=True), digests), _sum)
    if isinstance(backend, Medium):
        return free(backend, digests)
    if (away := getattr(backend, "free", None)) is not None:  # where it is
        return Collected(*away(digests))
    if not isinstance(backend, Embedded):
        raise StoreError(f"{type(backend).__name__} can't be freed from here")
    backend.values.delete_many(digests)
    return _sum((Collected(len(digests), 0), collect_blobs(backend)))


def _sum(parts: Iterable[Collected]) -> Collected:
    listed = list(parts)
    return Collected(sum(p.items for p in listed), sum(p.bytes for p in listed))
