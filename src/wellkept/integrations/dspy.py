"""A cache of wellkept as the one on disk of DSPy.

    wellkept.integrations.dspy.configure_cache("~/results")

DSPy goes on to say what a request is; wellkept keeps the responses, on any of its media.
"""

from __future__ import annotations

import os
from typing import Any

from wellkept.caches import Cache
from wellkept.errors import ConfigError, KeptError, tell
from wellkept.kv import ExecutionStore, store

try:
    import dspy
    from dspy.clients.cache import Cache as DSPyCache
except ImportError as _missing:
    raise ConfigError("dspy is not installed: pip install 'wellkept[dspy]'") from _missing

__all__ = ["KeptResponses", "configure_cache"]


def configure_cache(
    cache: Cache | str | os.PathLike[str] | None = None,
    *,
    name: str = "dspy",
    scope: str | None = None,
    enable_memory_cache: bool = True,
    memory_max_entries: int = 1_000_000,
) -> None:
    """Let DSPy keep responses in a cache of wellkept, as `dspy.configure_cache` does in a directory.

    Args:
        cache: a cache, its name, a path or a URL; the active one.
        name: the store's name.
        scope: text that it belongs to, such as a tenant's; None: to none.
        enable_memory_cache, memory_max_entries: as of `dspy.configure_cache`.

    Raises:
        ConfigError: there is no such cache, or its medium can't hold named state.
        StoreError: it can't be opened.
    """
    kept = KeptResponses(store(name, scope, cache=cache, policy="evict"))
    made = DSPyCache(False, enable_memory_cache, None, memory_max_entries=memory_max_entries)
    made.disk_cache, made.enable_disk_cache = kept, True
    dspy.cache = made


class KeptResponses:
    """What DSPy asks of its cache on disk. A failure is one warning, and the model is asked."""

    def __init__(self, responses: ExecutionStore) -> None:
        self._store = responses
        self._told = False

    def get(self, key: str, default: Any = None) -> Any:
        """Return a response, or `default`."""
        try:
            return self._store.get(key, default)
        except KeptError as error:
            self._tell(f"can't read a cached response: {error}")
        return default

    def set(self, key: str, value: Any) -> None:
        """Keep a response."""
        try:
            self._store.set(key, value)
        except KeptError as error:
            self._tell(f"a response is not cached: {error}")

    def delete(self, key: str) -> bool:
        """Delete a response; whether there was one."""
        return self._store.delete(key)

    def __contains__(self, key: str) -> bool:
        return self.get(key) is not None

    def _tell(self, text: str) -> None:
        if not self._told:
            self._told = True
            tell(text)
