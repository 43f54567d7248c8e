"""Put Hamilton's caching over a cache of this library: with_kept."""

from __future__ import annotations

import os
import time
from typing import Any, TypeVar

from hamilton.async_driver import Builder as AsyncBuilder
from hamilton.lifecycle.base import (
    BasePostGraphExecute,
    BasePostNodeExecute,
    BasePreGraphExecute,
    BasePreNodeExecute,
)

from wellkept.caches import Cache
from wellkept.errors import ConfigError
from wellkept.integrations.hamilton.metadata_store import KeptMetadataStore
from wellkept.integrations.hamilton.result_store import KeptResultStore
from wellkept.integrations.hamilton.run_history import CLOCK, dependencies
from wellkept.records import Event


class Watch(BasePreGraphExecute, BasePreNodeExecute, BasePostNodeExecute, BasePostGraphExecute):
    """Records hits, failures, and what was not to be cached; the store records the rest.

    Args:
        store: which has the runs.
    """

    def __init__(self, store: KeptMetadataStore) -> None:
        self.store = store

    def pre_graph_execute(self, *, run_id: str, **_: Any):  # type: ignore[no-untyped-def]  # Hamilton refuses hooks that say they return something
        """A run begins; the adapter has told the store already."""
        self.store.history.enter(run_id)

    def pre_node_execute(self, **_: Any):  # type: ignore[no-untyped-def]  # as above
        """A node begins."""
        # Hamilton's adapter left this one with an exception of its own.
        self.store.settle()
        CLOCK.begin()

    def post_node_execute(  # type: ignore[no-untyped-def]  # as above
        self, *, run_id: str, node_: Any, success: bool, error: BaseException | None, **_: Any
    ):
        """A node ended."""
        self.store.settle()
        span = CLOCK.end()
        if success and span.was_set:
            return
        key = span.asked
        code = "" if key is None else key.split("-", 2)[1]
        before = dependencies(key)
        if success and span.found is not None:
            at = "hit", node_.name, span.key.hex(), span.found, time.time(), span.cost, 1, None
            event = Event._make((*at, code, before, None, {}))
        else:
            event = Event(
                "computed" if success else "failed",
                node_.name,
                at=time.time(),
                seconds=time.perf_counter() - span.began,
                code=code,
                arguments=before,
                error=None if error is None else type(error).__qualname__,
            )
        self.store.record(run_id, event)

    def post_graph_execute(self, *, run_id: str, error: BaseException | None, **_: Any):  # type: ignore[no-untyped-def]  # as above
        """A run ended."""
        self.store.ended(run_id, error)


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
