"""A Hamilton driver whose caching is kept's."""

from __future__ import annotations

import os
from typing import Any, TypeVar

from hamilton.async_driver import Builder as AsyncBuilder

from kept.caches import Cache
from kept.errors import ConfigError
from kept.integrations.hamilton.metadata import KeptMetadataStore
from kept.integrations.hamilton.results import KeptResultStore
from kept.integrations.hamilton.watch import Watch

__all__ = ["with_kept"]

B = TypeVar("B")


def with_kept(
    builder: B, cache: Cache | str | os.PathLike[str] | None = None, **with_cache_options: Any
) -> B:
    """The builder, with Hamilton's caching over a kept cache.

    Args:
        builder: a `hamilton.driver.Builder`.
        cache: a cache, a path or a URL; the active cache by default.
        with_cache_options: what `Builder.with_cache` takes (`recompute=`, `default_behavior=`, …).

    Raises:
        ConfigError, StoreError: there is no such cache, it can't be used, or the builder is one of the
            async driver.
        ValueError: the builder has a cache already.
    """
    over: Any = builder
    if isinstance(builder, AsyncBuilder):
        raise ConfigError(
            "Hamilton's caching does not work under its async driver: use "
            "with_adapters(AsyncKeptAdapter(cache)) in place of with_kept"
        )
    metadata = KeptMetadataStore(cache)
    over.with_cache(
        metadata_store=metadata,
        result_store=KeptResultStore(metadata.cache),
        **with_cache_options,
    )
    over.with_adapters(Watch(metadata))
    return builder
