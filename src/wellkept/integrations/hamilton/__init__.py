"""wellkept under Apache Hamilton: stores for its caching, and an adapter of wellkept's own.

::

    from wellkept.integrations.hamilton import with_kept

    dr = with_kept(driver.Builder().with_modules(flow)).build()
"""

from __future__ import annotations

from wellkept.errors import ConfigError

try:
    from hamilton.caching.stores.base import ResultRetrievalError, search_data_adapter_registry
except ImportError as _missing:
    raise ConfigError(
        "wellkept.integrations.hamilton needs Apache Hamilton: pip install 'wellkept[hamilton]'"
    ) from _missing

from wellkept.integrations.hamilton.adapter import KeptAdapter
from wellkept.integrations.hamilton.async_driver import AsyncKeptAdapter
from wellkept.integrations.hamilton.caching import with_kept
from wellkept.integrations.hamilton.importer import Taken, take_over
from wellkept.integrations.hamilton.metadata_store import InMemoryMetadataStore, KeptMetadataStore
from wellkept.integrations.hamilton.result_store import InMemoryResultStore, KeptResultStore

__all__ = [
    "AsyncKeptAdapter",
    "InMemoryMetadataStore",
    "InMemoryResultStore",
    "KeptAdapter",
    "KeptMetadataStore",
    "KeptResultStore",
    "ResultRetrievalError",
    "Taken",
    "search_data_adapter_registry",
    "take_over",
    "with_kept",
]
