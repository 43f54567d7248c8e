"""A cache of wellkept as the cache of LangGraph's nodes.

    graph = builder.compile(cache=wellkept.integrations.langgraph.KeptCache("~/results"))

Results of nodes with a `CachePolicy` are shared by all processes that reach the cache. LangGraph's own
serializer encodes them; no value is unpickled, unless it is given one that pickles.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

from wellkept.caches import Cache
from wellkept.errors import ConfigError, KeptError, tell
from wellkept.kv import store
from wellkept.kv.entry import Step, dump, fitting, load_json

try:
    from langgraph.cache.base import BaseCache, FullKey, Namespace, ValueT
    from langgraph.checkpoint.serde.base import SerializerProtocol
except ImportError as _missing:
    raise ConfigError("langgraph is not installed: pip install 'wellkept[langgraph]'") from _missing

__all__ = ["KeptCache"]


class KeptCache(BaseCache[ValueT]):
    """LangGraph's cache in a store of named state.

    A failure of the cache is one warning, and the node runs.

    Args:
        cache: a cache, its name, a path or a URL; the active one.
        name: the store's name.
        scope: text that it belongs to, such as a tenant's; None: to none.
        serde: LangGraph's serializer of values; its own default. As that one makes objects of any class that a
            value names, set `LANGGRAPH_STRICT_MSGPACK=true` where others can write to the cache.

    Raises:
        ConfigError: there is no such cache, or its medium can't hold named state.
        StoreError: it can't be opened.
    """

    def __init__(
        self,
        cache: Cache | str | os.PathLike[str] | None = None,
        *,
        name: str = "langgraph",
        scope: str | None = None,
        serde: SerializerProtocol | None = None,
    ) -> None:
        super().__init__(serde=serde)
        self._store = store(name, scope, cache=cache, policy="evict")
        self._told = False

    def get(self, keys: Sequence[FullKey]) -> dict[FullKey, ValueT]:
        """Return what is kept of these keys."""
        found = {}
        entries, name = self._store.service.entries, self._store.name
        for namespace, key in keys:
            try:
                entry = entries.get(name, _prefix(namespace) + fitting(key, 500))
                if entry is not None:
                    kind, text = load_json(entry.data)
                    value = self.serde.loads_typed((kind, base64.b64decode(text)))
                    found[tuple(namespace), key] = value
            except Exception as error:  # noqa: BLE001  the node runs, as without a cache
                self._tell(f"can't read a cached result of {namespace}: {error!r}")
        return found

    def set(self, pairs: Mapping[FullKey, tuple[ValueT, int | None]]) -> None:
        """Keep values, each for so many seconds."""
        steps = []
        for (namespace, key), (value, ttl) in pairs.items():
            name = _prefix(namespace) + fitting(key, 500)
            try:
                kind, content = self.serde.dumps_typed(value)
            except Exception as error:  # noqa: BLE001  the graph has its result
                self._tell(f"a result of {namespace} is not cached: {error!r}")
                continue
            if ttl is not None and ttl <= 0:
                steps.append(Step(name, drop=True))
            else:
                text = base64.b64encode(content).decode()
                steps.append(Step(name, dump([kind, text]), ttl, "evict"))
        try:
            if steps:
                self._store.service.apply(self._store.name, *steps)
        except KeptError as error:
            self._tell(f"{len(steps)} results of nodes are not cached: {error}")

    def clear(self, namespaces: Sequence[Namespace] | None = None) -> None:
        """Delete what is kept of these namespaces, or all.

        Raises:
            StoreError: the medium does not answer.
        """
        if namespaces is None:
            self._store.clear()
            return
        for namespace in namespaces:
            for key in self._store.list_keys(_prefix(namespace)):
                self._store.delete(key)

    async def aget(self, keys: Sequence[FullKey]) -> dict[FullKey, ValueT]:
        """See `get`."""
        return await asyncio.to_thread(self.get, keys)

    async def aset(self, pairs: Mapping[FullKey, tuple[ValueT, int | None]]) -> None:
        """See `set`."""
        await asyncio.to_thread(self.set, pairs)

    async def aclear(self, namespaces: Sequence[Namespace] | None = None) -> None:
        """See `clear`."""
        await asyncio.to_thread(self.clear, namespaces)

    def _tell(self, text: str) -> None:
        if not self._told:
            self._told = True
            tell(text)


def _prefix(namespace: Sequence[Any]) -> str:
    """Begin the keys of a namespace, and of no other one: a list in JSON says where it ends."""
    return fitting(json.dumps([*namespace]), 400) + "/"
