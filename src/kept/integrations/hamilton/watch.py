"""Hears of all nodes of a run, and records what Hamilton's adapter does not tell its stores."""

from __future__ import annotations

import time
from typing import Any

from hamilton.lifecycle.base import (
    BasePostGraphExecute,
    BasePostNodeExecute,
    BasePreGraphExecute,
    BasePreNodeExecute,
)

from kept.integrations.hamilton.clock import CLOCK
from kept.integrations.hamilton.dependencies import dependencies
from kept.integrations.hamilton.metadata import KeptMetadataStore
from kept.records import Event

__all__ = ["Watch"]


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
        self.store.settle()  # of one that Hamilton's adapter left with an exception of its own
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
