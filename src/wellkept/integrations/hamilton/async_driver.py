"""`KeptAdapter` for Hamilton's async driver."""

from __future__ import annotations

import inspect
import os
from contextvars import ContextVar
from typing import Any

from hamilton.lifecycle.base import BasePostGraphExecute, BasePreGraphExecute

from wellkept.caches import Cache
from wellkept.integrations.hamilton.adapter import KeptAdapter
from wellkept.integrations.hamilton.node import callable_of

_run: ContextVar[tuple[AsyncKeptAdapter, str] | None] = ContextVar(
    "wellkept.hamilton", default=None
)


class AsyncKeptAdapter(BasePreGraphExecute, BasePostGraphExecute):
    """A `KeptAdapter` for `hamilton.async_driver`, which executes nodes by an adapter of its own:
    `await async_driver.Builder().with_adapters(AsyncKeptAdapter()).build()`.

    Args:
        cache: a cache, a path or a URL; the active cache by default.
        options: what `KeptAdapter` takes.

    Attributes:
        cache: the `KeptAdapter`, which has the logs, stores and runs that `dr.cache` has elsewhere.

    Raises:
        ConfigError, StoreError, ValueError: see `KeptAdapter`.
    """

    def __init__(self, cache: Cache | str | os.PathLike[str] | None = None, **options: Any) -> None:
        self.cache: KeptAdapter = KeptAdapter(cache, **options)

    def pre_graph_execute(  # type: ignore[no-untyped-def]  # Hamilton refuses hooks that say they return something
        self, *, run_id: str, graph: Any, inputs: Any, overrides: Any, **said: Any
    ):
        """A run begins."""
        for node in graph.get_nodes():
            if node.callable is not None and callable_of(node) is node.callable:
                # The driver calls a node's callable, whatever its adapters say.
                node._callable = _kept(node)
        known = {name: v for name, v in (inputs or {}).items() if not inspect.isawaitable(v)}
        self.cache.pre_graph_execute(
            run_id=run_id, graph=graph, inputs=known, overrides=overrides, **said
        )
        _run.set((self, run_id))

    def post_graph_execute(self, *, run_id: str, error: BaseException | None, **_: Any):  # type: ignore[no-untyped-def]  # as above
        """A run ended."""
        _run.set(None)
        self.cache.post_graph_execute(run_id=run_id, error=error)


def _kept(node: Any) -> Any:
    """A callable in place of a node's own, which asks the adapter of the run that it is part of."""
    original = node.callable

    async def kept_node(**kwargs: Any) -> Any:
        found = _run.get()
        if found is not None:
            adapter, run_id = found
            return await adapter.cache.awaited(run_id, node, kwargs)
        result = original(**kwargs)
        return await result if inspect.isawaitable(result) else result

    kept_node.kept_original = original  # type: ignore[attr-defined]  # read by `callable_of`
    return kept_node
