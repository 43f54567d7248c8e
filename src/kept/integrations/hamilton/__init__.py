"""kept under Apache Hamilton: stores for its caching, and an adapter of kept's own.

::

    from kept.integrations.hamilton import with_kept

    dr = with_kept(driver.Builder().with_modules(flow)).build()
"""

from __future__ import annotations

from kept.errors import ConfigError

try:
    from hamilton.caching.stores.base import ResultRetrievalError, search_data_adapter_registry
except ImportError as error:
    raise ConfigError(
        "kept.integrations.hamilton needs Apache Hamilton: pip install 'kept[hamilton]'"
    ) from error

from kept.integrations.hamilton.adapter import KeptAdapter
from kept.integrations.hamilton.async_driver import AsyncKeptAdapter
from kept.integrations.hamilton.building import with_kept
from kept.integrations.hamilton.importer import Taken, take_over
from kept.integrations.hamilton.metadata_store import InMemoryMetadataStore, KeptMetadataStore
from kept.integrations.hamilton.result_store import InMemoryResultStore, KeptResultStore

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
