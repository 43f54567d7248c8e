"""A Hamilton cache adapter with wellkept's identities: each node's execution is a kept call."""

from __future__ import annotations

import logging
import os
import time
import uuid
import weakref
from collections.abc import Collection
from typing import Any, Literal, NamedTuple

from hamilton.caching.adapter import (
    CachingBehavior,
    CachingEvent,
    CachingEventType,
    HamiltonCacheAdapter,
)
from hamilton.lifecycle.base import BasePostGraphExecute

from wellkept.caches import Cache
from wellkept.errors import Undigestible, tell
from wellkept.hashing import digest_bytes
from wellkept.integrations.hamilton.execution import Step
from wellkept.integrations.hamilton.formats import Formats
from wellkept.integrations.hamilton.node import NodeCode, Planned
from wellkept.integrations.hamilton.store_views import NodeMetadata, NodeResults
from wellkept.runs.recorder import current

__all__ = ["KeptAdapter"]

Nodes = Literal[True] | Collection[str] | None
_SAID = (
    "_default",
    "_recompute",
    "_disable",
    "_ignore",
    "default_behavior",
    "default_loader_behavior",
    "default_saver_behavior",
)
_logger = logging.getLogger("hamilton.caching")


class _Behaviors(NamedTuple):
    """What was worked out for a graph, and from what."""

    said: list[Any]
    behaviors: dict[str, CachingBehavior]
    loaders: Any
    savers: Any


class KeptAdapter(HamiltonCacheAdapter, BasePostGraphExecute):
    """Keeps what nodes compute as kept calls: `driver.Builder().with_adapters(KeptAdapter())`.

    Beside what Hamilton's own adapter does, data versions are wellkept's digests (typed and exact), code
    versions are deep code identities, one process computes a node while others wait for it, and
    results of different types are never exchanged. Behaviours, formats, the views of `dr.cache` and
    its logs are Hamilton's.

    Args:
        cache: a cache, a path or a URL; the active cache by default.
        default, recompute, ignore, disable: nodes with that behaviour, or True for all.
        default_behavior, default_loader_behavior, default_saver_behavior: of nodes of which nothing
            is said.
        log_to_file: append events to `cache_logs.jsonl` in the cache directory.

    Raises:
        ConfigError, StoreError: there is no such cache, or it can't be used.
        ValueError: several behaviours are said of all nodes.
    """

    def __init__(
        self,
        cache: Cache | str | os.PathLike[str] | None = None,
        *,
        default: Nodes = None,
        recompute: Nodes = None,
        ignore: Nodes = None,
        disable: Nodes = None,
        default_behavior: str | None = None,
        default_loader_behavior: str | None = None,
        default_saver_behavior: str | None = None,
        log_to_file: bool = False,
    ) -> None:
        metadata = NodeMetadata(cache)
        super().__init__(
            path=str(metadata.cache),
            metadata_store=metadata,
            result_store=NodeResults(metadata.cache),
            default=default,
            recompute=recompute,
            ignore=ignore,
            disable=disable,
            default_behavior=default_behavior,
            default_loader_behavior=default_loader_behavior,
            default_saver_behavior=default_saver_behavior,
            log_to_file=log_to_file,
        )
        self._reset()

    def _reset(self) -> None:
        self.kept: Cache = self.metadata_store.cache
        self.formats: Formats = self.result_store.formats
        # Of graphs, which a driver makes once.
        self._behaviors: weakref.WeakKeyDictionary[Any, _Behaviors] = weakref.WeakKeyDictionary()
        self._codes: weakref.WeakKeyDictionary[Any, dict[str, NodeCode]]
        self._codes = weakref.WeakKeyDictionary()
        self._plans: weakref.WeakKeyDictionary[Any, dict[str, Planned]]
        self._plans = weakref.WeakKeyDictionary()
        self._told: set[str] = set()

    def __getstate__(self) -> dict[str, Any]:
        state: dict[str, Any] = super().__getstate__()
        for name in ("kept", "formats", "_behaviors", "_codes", "_plans", "_told"):
            state.pop(name, None)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._reset()

    # -- versions ---------------------------------------------------------------------------------

    def _version_data(
        self, node_name: str, run_id: str, result: Any, task_id: str | None = None
    ) -> str:
        """The digest of a value in hex; of one that has none, a version that never comes again."""
        try:
            return digest_bytes(result).hex()
        except Undigestible as error:
            self._undigestible(node_name, error)
            return f"<unhashable>_{uuid.uuid4()}"

    def version_code(self, node_name: str, run_id: str | None = None) -> str:
        """The deep code identity of a node."""
        graph = self._fn_graphs[self.last_run_id if run_id is None else run_id]
        return self._code(graph, graph.nodes[node_name])

    def _code(self, graph: Any, node: Any) -> str:
        known = self._codes.setdefault(graph, {})
        found = known.get(node.name)
        if found is None or not found.same():
            found = known[node.name] = NodeCode.of(node)
        return found.tag

    def resolve_behaviors(self, run_id: str) -> dict[str, CachingBehavior]:
        """The behaviour of each node; worked out once for a graph and what was said of nodes."""
        graph = self._fn_graphs[run_id]
        said = [getattr(self, name) for name in _SAID]
        known = self._behaviors.get(graph)
        if known is None or known.said != said:
            behaviors: dict[str, CachingBehavior] = super().resolve_behaviors(run_id)
            known = _Behaviors(
                [list(one) if type(one) is list else one for one in said],
                behaviors,
                self._data_loaders[run_id],
                self._data_savers[run_id],
            )
            # A set, or its like, is not comparable so: it is looked at again each time.
            if known.said == said:
                self._behaviors[graph] = known
            return behaviors
        self._data_loaders[run_id] = known.loaders
        self._data_savers[run_id] = known.savers
        for name, behavior in known.behaviors.items():
            self._log_event(
                run_id, name, "adapter", CachingEventType.RESOLVE_BEHAVIOR, None, behavior
            )
        return known.behaviors

    def planned(self, run_id: str, node: Any) -> Planned:
        behaviors = self.behaviors[run_id]
        code = self.code_versions[run_id].get(node.name) or self.version_code(node.name, run_id)
        plans = self._plans.setdefault(self._fn_graphs[run_id], {})
        found = plans.get(node.name)
        if found is None or found.behaviors is not behaviors or found.code_tag != code:
            found = plans[node.name] = Planned(
                node,
                code,
                behaviors,
                saves=node.name in self._data_savers[run_id],
            )
        return found

    # -- a run ------------------------------------------------------------------------------------

    def pre_graph_execute(self, *, run_id: str, **said: Any):  # type: ignore[no-untyped-def]  # Hamilton refuses hooks that say they return something
        """A run begins."""
        super().pre_graph_execute(run_id=run_id, **said)
        self.metadata_store.history.enter(run_id)

    def post_graph_execute(self, *, run_id: str, error: BaseException | None, **_: Any):  # type: ignore[no-untyped-def]  # as above
        """A run ended."""
        self.metadata_store.ended(run_id, error)

    # -- a node -----------------------------------------------------------------------------------

    def pre_node_execute(self, **_: Any):  # type: ignore[no-untyped-def]  # as above
        """Nothing: all is done in one place."""

    def post_node_execute(self, **_: Any):  # type: ignore[no-untyped-def]  # as above
        """Nothing: all is done in one place."""

    def do_node_execute(
        self,
        *,
        run_id: str,
        node_: Any,
        kwargs: dict[str, Any],
        task_id: str | None = None,
        **_: Any,
    ) -> Any:
        """The node's result: kept, or computed and then kept."""
        recorder = self.metadata_store.history.recorder(run_id)
        if current.get() is recorder:
            return self._execute(run_id, node_, kwargs, task_id)
        # A worker's thread or process.
        with recorder.joined():
            return self._execute(run_id, node_, kwargs, task_id)

    def _execute(self, run_id: str, node: Any, kwargs: dict[str, Any], task_id: str | None) -> Any:
        return Step(self, run_id, self.planned(run_id, node), kwargs, task_id).run()

    async def awaited(self, run_id: str, node: Any, kwargs: dict[str, Any]) -> Any:
        """As `do_node_execute`, where the node may be a coroutine function."""
        return await Step(self, run_id, self.planned(run_id, node), kwargs, None).awaited()

    # -- for the steps ----------------------------------------------------------------------------

    def note(
        self,
        where: dict[str, dict[str, Any]],
        at: tuple[str, str, str | None],
        planned: Planned,
        what: str,
    ) -> None:
        """Note a version or key of a node, in the way of Hamilton's public attributes."""
        run_id, name, task_id = at
        of_run = where[run_id]
        if planned.role(task_id) == "run":
            of_run[name] = what
        else:
            of_task = of_run.get(name)
            if type(of_task) is not dict:
                of_task = of_run[name] = {}
            of_task[task_id] = what

    def raw_version(self, name: str, value: Any) -> bytes | None:
        """The digest of a value (32 bytes); None, and a warning, of one that has none."""
        try:
            return digest_bytes(value)
        except Undigestible as error:
            self._undigestible(name, error)
            return None

    def _undigestible(self, name: str, error: Undigestible) -> None:
        self.warn(
            f"undigestible {name}",
            f"{name}: what depends on it is computed every time: {error}",
        )

    def warn(self, kind: str, text: str) -> None:
        """Warn once an adapter and kind of trouble."""
        if kind not in self._told:
            self._told.add(kind)
            tell(text)

    # -- logs -------------------------------------------------------------------------------------

    def _log_event(
        self,
        run_id: str,
        node_name: str,
        actor: str,
        event_type: CachingEventType,
        msg: str | None = None,
        value: Any = None,
        task_id: str | None = None,
    ) -> None:
        if self.log_to_file or _logger.isEnabledFor(logging.INFO):
            super()._log_event(run_id, node_name, actor, event_type, msg, value, task_id)
        else:
            # It becomes an event when somebody looks at it.
            event = run_id, actor, event_type, node_name, task_id, msg, value, time.time()
            self._logs[run_id].append(event)

    def logs(self, run_id: str | None = None, level: Literal["debug", "info"] = "info") -> Any:
        """As Hamilton's: what happened, by run, or by node of one run."""
        for name in list(self._logs) if run_id is None else [run_id]:
            self._logs[name] = [
                CachingEvent(*event) if type(event) is tuple else event
                for event in self._logs[name]
            ]
        return super().logs(run_id, level)
