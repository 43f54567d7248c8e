"""A cache of wellkept as that of LiteLLM's responses.

    litellm.cache = litellm.Cache(type="local")
    litellm.cache.cache = wellkept.integrations.litellm.KeptCache("~/results")

LiteLLM goes on to say what a request is (its key) and for how long a response holds; wellkept keeps the
responses, as JSON: no value is ever unpickled.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from wellkept.caches import Cache
from wellkept.errors import ConfigError, EncodeError
from wellkept.kv import store
from wellkept.kv.entry import Step, dump, fitting, load_json
from wellkept.kv.service import seconds_of

try:
    from litellm.caching.base_cache import BaseCache
except ImportError as _missing:
    raise ConfigError("litellm is not installed: pip install 'wellkept[litellm]'") from _missing

__all__ = ["KeptCache"]


class KeptCache(BaseCache):
    """LiteLLM's cache in a store of named state.

    What it raises LiteLLM logs, and the request goes out.

    Args:
        cache: a cache, its name, a path or a URL; the active one.
        name: the store's name.
        scope: text that it belongs to, such as a tenant's; None: to none.
        ttl: seconds (or text such as `"12 h"`) for which a response is kept that is set without one; None:
            for ever.

    Raises:
        ConfigError: there is no such cache, or its medium can't hold named state.
        StoreError: it can't be opened. Every method may raise it too.
    """

    def __init__(
        self,
        cache: Cache | str | os.PathLike[str] | None = None,
        *,
        name: str = "litellm",
        scope: str | None = None,
        ttl: float | str | timedelta | None = None,
    ) -> None:
        super().__init__()
        self._ttl = seconds_of(ttl)
        self._store = store(name, scope, cache=cache, policy="evict")

    def get_cache(self, key: str, **_: Any) -> Any:
        """Return what is kept of a key, or None."""
        found = self._store.service.entries.get(self._store.name, fitting(key))
        return None if found is None else load_json(found.data)

    def set_cache(self, key: str, value: Any, **options: Any) -> None:
        """Keep a value, for `ttl=` seconds.

        Raises:
            EncodeError: it is not what JSON brings back as it is.
        """
        self._set([(key, value)], options.get("ttl"))

    def _set(self, pairs: Iterable[tuple[str, Any]], ttl: Any) -> None:
        lasts = self._ttl if ttl is None else float(ttl)
        steps = []
        for key, value in pairs:
            data = dump(value)
            if not isinstance(data, str):
                raise EncodeError(f"a response that is a {type(value).__qualname__} is not JSON")
            gone = lasts is not None and lasts <= 0
            name = fitting(key)
            steps.append(Step(name, drop=True) if gone else Step(name, data, lasts, "evict"))
        if steps:
            self._store.service.apply(self._store.name, *steps)

    def delete_cache(self, key: str) -> None:
        """Delete a key."""
        self._store.delete(fitting(key))

    def flush_cache(self) -> None:
        """Delete every key."""
        self._store.clear()

    async def async_get_cache(self, key: str, **_: Any) -> Any:
        """See `get_cache`."""
        return await asyncio.to_thread(self.get_cache, key)

    async def async_set_cache(self, key: str, value: Any, **options: Any) -> None:
        """See `set_cache`."""
        await asyncio.to_thread(self._set, [(key, value)], options.get("ttl"))

    async def async_set_cache_pipeline(
        self, cache_list: Iterable[tuple[str, Any]], **options: Any
    ) -> None:
        """Keep many values in one transaction; raises as `set_cache`."""
        await asyncio.to_thread(self._set, cache_list, options.get("ttl"))

    async def batch_cache_write(self, key: str, value: Any, **options: Any) -> None:
        """See `set_cache`."""
        await self.async_set_cache(key, value, **options)

    async def delete_cache_keys(self, keys: Iterable[str]) -> None:
        """Delete keys."""
        for key in keys:
            await asyncio.to_thread(self.delete_cache, key)

    async def ping(self) -> bool:
        """Return whether the medium answers; raises StoreError if it does not."""
        await asyncio.to_thread(self._store.service.entries.now)
        return True

    async def test_connection(self) -> dict[str, Any]:
        """Return whether the medium answers, as LiteLLM's page of settings shows it."""
        try:
            await self.ping()
        except Exception as error:  # noqa: BLE001  it is told
            return {"status": "failed", "message": str(error), "error": repr(error)}
        return {"status": "success", "message": f"{self._store!r} answers"}

    async def disconnect(self) -> None:
        """Do nothing: the cache belongs to who opened it."""
