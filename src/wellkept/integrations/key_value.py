"""A cache of wellkept as a store of `py-key-value-aio`, which FastMCP and others take.

    store = wellkept.integrations.key_value.KeptKeyValue("~/results")
    await store.put("key", {"a": 1}, collection="users", ttl=60)

Each collection is a store of named state, and each value an entry as JSON. No value is ever unpickled.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any

from wellkept.caches import Cache
from wellkept.errors import ConfigError
from wellkept.kv import ExecutionStoreService
from wellkept.kv.entry import NAME, PRESENT, Entry, Name, Step, fitting, load_json
from wellkept.kv.plan import each_entry

try:
    from key_value.aio._utils.managed_entry import ManagedEntry
    from key_value.aio.stores.base import (
        BaseDestroyCollectionStore,
        BaseDestroyStore,
        BaseEnumerateCollectionsStore,
        BaseEnumerateKeysStore,
    )
except ImportError as _missing:
    raise ConfigError(
        "py-key-value is not installed: pip install 'wellkept[key-value]'"
    ) from _missing

__all__ = ["KeptKeyValue"]


class KeptKeyValue(
    BaseDestroyStore,
    BaseDestroyCollectionStore,
    BaseEnumerateCollectionsStore,
    BaseEnumerateKeysStore,
):
    """A store of `py-key-value-aio` on the medium of a cache: of all processes and hosts that reach it.

    Args:
        cache: a cache, its name, a path or a URL; the active one.
        name: apart from other programs on that medium.
        scope: text that it belongs to, such as a tenant's; None: to none.
        default_collection, seed: as all of these stores take them.

    Raises:
        ConfigError: there is no such cache, or its medium can't hold named state.
        StoreError: it can't be opened. Every method may raise it too.
    """

    def __init__(
        self,
        cache: Cache | str | os.PathLike[str] | None = None,
        *,
        name: str = "key-value",
        scope: str | None = None,
        default_collection: str | None = None,
        seed: Mapping[str, Mapping[str, Mapping[str, Any]]] | None = None,
    ) -> None:
        self._service = ExecutionStoreService(dataset_id=scope, collection_name=name, cache=cache)
        super().__init__(default_collection=default_collection, seed=seed, stable_api=True)

    def _name(self, collection: str) -> Name:
        return self._service.name(fitting(collection, NAME))

    # -- reading ----------------------------------------------------------------------------------

    async def _get_managed_entry(self, *, collection: str, key: str) -> ManagedEntry | None:
        return (await self._get_managed_entries(collection=collection, keys=[key]))[0]

    async def _get_managed_entries(
        self, *, collection: str, keys: Sequence[str]
    ) -> list[ManagedEntry | None]:
        entries, name = self._service.entries, self._name(collection)
        return await asyncio.to_thread(
            lambda: [self._loaded(entries.get(name, fitting(key))) for key in keys]
        )

    def _loaded(self, entry: Entry | None) -> ManagedEntry | None:
        if entry is None:
            return None
        found = self._serialization_adapter.load_dict(load_json(entry.data))
        found.expires_at = None
        if entry.expires is not None:
            # By the clock of the medium, from which this host's may differ.
            left = entry.expires - self._service.entries.now()
            found.expires_at = datetime.now(UTC) + timedelta(seconds=left)
        return found

    async def _get_collection_keys(self, *, collection: str, limit: int | None = None) -> list[str]:
        return await asyncio.to_thread(self._keys, self._name(collection), limit)

    def _keys(self, name: Name, limit: int | None) -> list[str]:
        found = islice(each_entry(self._service.entries, name, data=False), limit)
        keys = (self._full(name, entry.key, "key", entry.key) for entry in found)
        return [key for key in keys if key is not None]

    def _full(self, name: Name, short: str, what: str, key: str | None = None) -> str | None:
        """Return what a digest stands for, as an entry says it; None if that is gone meanwhile."""
        if not short.startswith("#"):
            return short
        entries = self._service.entries
        found = [entries.get(name, key)] if key else entries.page(name, "", None, 1, True)
        return load_json(found[0].data)[what] if found and found[0] else None

    async def _get_collection_names(self, *, limit: int | None = None) -> list[str]:
        return (await asyncio.to_thread(self._collections))[:limit]

    def _collections(self) -> list[str]:
        stores = self._service.list_stores()
        names = (self._full(self._service.name(store), store, "collection") for store in stores)
        return [name for name in names if name is not None]

    # -- writing ----------------------------------------------------------------------------------

    async def _put_managed_entry(
        self, *, collection: str, key: str, managed_entry: ManagedEntry
    ) -> None:
        await self._put_managed_entries(
            collection=collection, keys=[key], managed_entries=[managed_entry]
        )

    async def _put_managed_entries(
        self,
        *,
        collection: str,
        keys: Sequence[str],
        managed_entries: Sequence[ManagedEntry],
        **_: Any,
    ) -> None:
        steps = []
        for key, entry in zip(keys, managed_entries, strict=True):
            named = {"key": key, "collection": collection}
            text = self._serialization_adapter.dump_json(entry=entry, **named)
            lasts = None if entry.ttl is None else max(entry.ttl, 0.001)
            steps.append(Step(fitting(key), text, lasts))
        if steps:
            await asyncio.to_thread(self._service.apply, self._name(collection), *steps)

    async def _delete_managed_entry(self, *, key: str, collection: str) -> bool:
        step = Step(fitting(key), when=PRESENT, drop=True)
        done = await asyncio.to_thread(self._service.apply, self._name(collection), step)
        return done is not None

    async def _delete_collection(self, *, collection: str) -> bool:
        name = self._name(collection).store
        return await asyncio.to_thread(self._service.delete_store, name) is not None

    async def _delete_store(self) -> bool:
        await asyncio.to_thread(self._service.cleanup)
        return True
