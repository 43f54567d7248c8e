"""A Hamilton cache adapter with wellkept's identities: each node's execution is a kept call."""

from __future__ import annotations

import inspect
import logging
import os
import time
import uuid
import weakref
from collections.abc import Collection, Mapping
from typing import Any, Literal, NamedTuple

from hamilton.caching import fingerprinting
from hamilton.caching.adapter import (
    CachingBehavior,
    CachingEvent,
    CachingEventType,
    HamiltonCacheAdapter,
)
from hamilton.lifecycle.base import BasePostGraphExecute

from wellkept.caches import Cache
from wellkept.caches.tier import Entry
from wellkept.errors import ConfigError, DecodeError, KeptError, NewerSchema, Undigestible, tell
from wellkept.hashing import digest_bytes
from wellkept.hashing.digests import call_key
from wellkept.hashing.reducers import has_own_digest
from wellkept.integrations.hamilton.execution import NodeTarget
from wellkept.integrations.hamilton.formats import Formats
from wellkept.integrations.hamilton.node import NodeCode, Planned, options_of
from wellkept.integrations.hamilton.store_views import NodeMetadata, NodeResults
from wellkept.memo import depends
from wellkept.memo.flow import as_it_is, drive, drive_async
from wellkept.memo.keep_options import Options
from wellkept.memo.target import MISSING, Items, heard
from wellkept.records import Event
from wellkept.runs.recorder import HEARD, current

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


class _Code(NamedTuple):
    """What a node's calls are named by beside what it is given."""

    options: Options
    code: NodeCode


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
        options: of nodes by their names: `depends`, `name`, `ttl`, `verify` and `version`, as `keep` takes
            them; over what the nodes' tags say (`@tag(**{"wellkept.ttl": "1 d"})`).

    Raises:
        ConfigError, StoreError: there is no such cache, or it can't be used. Options are looked at when a
            flow with their nodes is executed.
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
        options: Mapping[str, Mapping[str, Any]] | None = None,
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
        try:
            self.options: dict[str, dict[str, Any]] = {
                name: dict(said) for name, said in (options or {}).items()
            }
        except (TypeError, ValueError, AttributeError) as error:
            raise ConfigError(
                f"options= takes a dict of options by the name of a node, not {options!r}"
            ) from error
        self._reset()

    def _reset(self) -> None:
        self.kept: Cache = self.metadata_store.cache
        self.formats: Formats = self.result_store.formats
        # Of graphs, which a driver makes once.
        self._behaviors: weakref.WeakKeyDictionary[Any, _Behaviors] = weakref.WeakKeyDictionary()
        self._codes: weakref.WeakKeyDictionary[Any, dict[str, _Code]]
        self._codes = weakref.WeakKeyDictionary()
        self._plans: weakref.WeakKeyDictionary[Any, dict[str, Planned]]
        self._plans = weakref.WeakKeyDictionary()
        self._told: set[str] = set()
        self._fingerprints = 0

    def __getstate__(self) -> dict[str, Any]:
        state: dict[str, Any] = super().__getstate__()
        for name in ("kept", "formats", "_behaviors", "_codes", "_plans", "_told", "_fingerprints"):
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
            self.undigestible(node_name, error)
            return f"<unhashable>_{uuid.uuid4()}"

    def version_code(self, node_name: str, run_id: str | None = None) -> str:
        """The deep code identity of a node."""
        graph = self._fn_graphs[self.last_run_id if run_id is None else run_id]
        return self._code(graph, graph.nodes[node_name]).code.tag

    def _code(self, graph: Any, node: Any) -> _Code:
        known = self._codes.setdefault(graph, {})
        found = known.get(node.name)
        if found is None or not found.code.same():
            options = self._options(node)
            if options.name is not None and options.version is not None:
                self._see_that_none_is_one_with(graph, node, options)
            found = known[node.name] = _Code(options, NodeCode.of(node, options))
        return found

    def _options(self, node: Any) -> Options:
        return options_of(node, self.options.get(node.name, {}))

    def _see_that_none_is_one_with(self, graph: Any, node: Any, options: Options) -> None:
        """Refuse two nodes whose calls nothing but what they are given tells apart."""
        mine = digest_bytes((options.name, options.version))
        for other in graph.get_nodes():
            said = self._options(other)
            # A decorator may make many nodes, and a tag above it is on each.
            if other.name != node.name and digest_bytes((said.name, said.version)) == mine:
                raise ConfigError(
                    f"nodes {other.name} and {node.name} have the same name= and version=, so each would "
                    "get what the other computes: give one of them another"
                )

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
        graph = self._fn_graphs[run_id]
        plans = self._plans.setdefault(graph, {})
        found = plans.get(node.name)
        if found is None or found.behaviors is not behaviors or found.code_tag != code:
            found = plans[node.name] = Planned(
                node,
                code,
                self._code(graph, node).options,
                behaviors,
                saves=node.name in self._data_savers[run_id],
            )
        return found

    # -- a run ------------------------------------------------------------------------------------

    def pre_graph_execute(self, *, run_id: str, **said: Any):  # type: ignore[no-untyped-def]  # Hamilton refuses hooks that say they return something
        """A run begins."""
        self._look_for_fingerprints()
        for name in self.options.keys() - said["graph"].nodes.keys():
            self.warn(f"options {name}", f"options= names {name!r}, which is no node of this flow")
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

    def _look_for_fingerprints(self) -> None:
        """Warn of types whose fingerprints were registered with Hamilton alone."""
        found = fingerprinting.hash_value.registry
        if len(found) == self._fingerprints:
            return
        self._fingerprints = len(found)
        for kind, function in found.items():
            if function.__module__.partition(".")[0] != "hamilton" and not has_own_digest(kind):
                name = f"{kind.__module__}.{kind.__qualname__}"
                self.warn(
                    f"fingerprint {name}",
                    f"hash_value.register({name}) does not count under KeptAdapter, whose data versions "
                    "are wellkept's digests: say the same with wellkept.register_digest",
                )

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
            self.undigestible(name, error)
            return None

    def undigestible(self, name: str, error: Undigestible) -> None:
        """Warn of what has no identity."""
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


_NEVER = float("inf")
_APART = (CachingBehavior.IGNORE, CachingBehavior.DISABLE)


class Step:
    """One execution of a node.

    Args:
        adapter: whose run it is part of.
        run_id: of Hamilton.
        planned: the node.
        kwargs: what it is called with.
        task_id: of the task, where flows are executed by tasks.
    """

    __slots__ = ("_adapter", "_again", "_items", "_key", "_planned", "_target", "at", "kwargs")

    kwargs: dict[str, Any]

    def __init__(
        self,
        adapter: KeptAdapter,
        run_id: str,
        planned: Planned,
        kwargs: dict[str, Any],
        task_id: str | None,
    ) -> None:
        self._adapter, self._planned, self.kwargs = adapter, planned, kwargs
        self.at: tuple[str, str, str | None] = run_id, planned.name, task_id
        self._again = planned.behavior is CachingBehavior.RECOMPUTE
        self._items: Items = []
        self._key: bytes | None = None
        self._target: NodeTarget | None = None

    # -- the two ways -----------------------------------------------------------------------------

    def run(self) -> Any:
        """The node's result: kept, or computed and then kept."""
        result = self._glance()
        if result is MISSING:
            began = time.perf_counter()
            try:
                if self._target is None:
                    result = self._planned.run(**self.kwargs)
                else:
                    result = drive(self._target, ((), self.kwargs), self._again)
            except Exception as error:
                self._failed(error, began)
                raise
            self._finished(result, began)
        return result

    async def awaited(self) -> Any:
        """The same, where the node may be a coroutine function."""
        result = self._glance()
        if result is MISSING:
            began = time.perf_counter()
            try:
                if self._target is None:
                    result = self._planned.run(**self.kwargs)
                    if inspect.isawaitable(result):
                        result = await result
                else:
                    result = await drive_async(
                        as_it_is, self._target, ((), self.kwargs), self._again
                    )
            except Exception as error:
                self._failed(error, began)
                raise
            self._finished(result, began)
        return result

    # -- its key ----------------------------------------------------------------------------------

    def _locate(self) -> bytes | None:
        """The key of its call; None: it is not to be kept."""
        planned = self._planned
        if planned.behavior in _APART or planned.expands:
            return None
        run_id, _, task_id = self.at
        items = self._items
        keepable = True
        known = self._adapter.data_versions[run_id]
        for name, value in planned.arguments(self.kwargs).items():
            if name in planned.ignored:
                continue
            if name in planned.disabled:
                keepable = False
                continue
            raw: bytes | None
            version = known.get(name)
            if name == planned.collected:
                raw = self._collected(name, value)
            elif type(version) is str:
                raw = _raw(version)
            else:
                if type(version) is dict and task_id in version:
                    raw = _raw(version[task_id])
                else:
                    raw = self._adapter.raw_version(name, value)
            if raw is None:
                keepable = False
            else:
                items.append((name, value, raw))
        if planned.options.depends:
            try:
                items += depends.items(planned.options.depends)
            except Undigestible as error:
                self._adapter.undigestible(planned.name, error)
                keepable = False
        if not keepable:
            return None
        key = call_key(
            planned.function_name, planned.code_tag, [(name, raw) for name, _, raw in items]
        )
        self._adapter.note(self._adapter.cache_keys, self.at, planned, key.hex())
        return key

    def _collected(self, name: str, values: Any) -> bytes | None:
        """Of what tasks gave, in whatever order they ended."""
        raws = [self._adapter.raw_version(name, value) for value in values]
        if None in raws:
            return None
        return digest_bytes(("hamilton collect", sorted(raws)))  # type: ignore[type-var]  # no None

    # -- its result -------------------------------------------------------------------------------

    def _glance(self) -> Any:
        """The kept result, or `MISSING`."""
        adapter, planned = self._adapter, self._planned
        self._key = key = self._locate()
        if key is None:
            return MISSING
        cache = adapter.kept
        if not self._again and not planned.options.verify:
            try:
                entry = cache.find(key)
                if entry is not None and entry.body.state == 0 and entry.body.expires == _NEVER:
                    result = adapter.formats.value(key, entry, entry.body.result.hex())
                    self._hit(key, entry)
                    return result
            except DecodeError:
                # The flow meets it too, and deals with it.
                cache.tier.clear()
            except (ConfigError, NewerSchema):
                raise
            except KeptError:
                # See above.
                pass
        self._target = NodeTarget(planned, cache, adapter.formats, key, self._items, adapter.warn)
        return MISSING

    def _hit(self, key: bytes, entry: Entry) -> None:
        adapter = self._adapter
        if HEARD:
            heard(self._planned.identity, key, entry)
        adapter.kept.used(key)
        self._versioned(entry.body.result.hex())
        run_id, name, task_id = self.at
        adapter._log_event(
            run_id,
            name,
            "result_store",
            CachingEventType.GET_RESULT,
            "hit",
            adapter.data_versions[run_id].get(name),
            task_id,
        )

    def _versioned(self, version: str) -> None:
        planned = self._planned
        if planned.saves:
            # Its own metadata would differ each time: there is a time in it.
            version = f"{planned.name}__metadata"
        self._adapter.note(self._adapter.data_versions, self.at, planned, version)

    def _finished(self, result: Any, began: float) -> None:
        adapter, planned, target = self._adapter, self._planned, self._target
        run_id, name, task_id = self.at
        if target is None:
            self._record("computed", began)
        event = CachingEventType.EXECUTE_NODE
        # Another process computed it meanwhile.
        if target is not None and target.counts.hits:
            event = CachingEventType.GET_RESULT
        adapter._log_event(run_id, name, "adapter", event, None, None, task_id)
        if planned.expands:
            adapter.data_versions[run_id][name] = {}
        elif planned.behavior not in _APART:
            version = None if target is None else target.digest
            if version is None:
                version = adapter._version_data(name, run_id, result, task_id)
            else:
                adapter._log_event(
                    run_id,
                    name,
                    "result_store",
                    CachingEventType.SET_RESULT,
                    None,
                    version,
                    task_id,
                )
            self._versioned(version)

    def _failed(self, error: Exception, began: float) -> None:
        run_id, name, task_id = self.at
        if self._target is None:
            self._record("failed", began, error)
        self._adapter._log_event(
            run_id,
            name,
            "adapter",
            CachingEventType.FAILED_EXECUTION,
            f"{error}",
            None,
            task_id,
        )

    def _record(self, outcome: str, began: float, error: Exception | None = None) -> None:
        """Note in the run what was computed without being kept."""
        event = Event(
            outcome,
            self._planned.function_name,
            at=time.time(),
            seconds=time.perf_counter() - began,
            code=self._planned.code_tag,
            arguments={name: raw.hex() for name, _, raw in self._items},
            error=None if error is None else type(error).__qualname__,
        )
        self._adapter.metadata_store.record(self.at[0], event)


def _raw(version: str) -> bytes | None:
    """A data version as a digest; None of what has no identity."""
    if len(version) == 64:
        return bytes.fromhex(version)
    if version.startswith("<unhashable>"):
        return None
    return digest_bytes(("hamilton version", version))
