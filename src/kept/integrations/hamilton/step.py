"""One node in one run: its key, a look whether it is kept, and its computation."""

from __future__ import annotations

import inspect
import time
from typing import TYPE_CHECKING, Any

from hamilton.caching.adapter import CachingBehavior, CachingEventType

from kept.caches.tier import Entry
from kept.errors import ConfigError, DecodeError, KeptError, NewerSchema
from kept.hashing import digest_bytes
from kept.hashing.keys import call_key
from kept.integrations.hamilton.execution import Execution, Items, value_of
from kept.integrations.hamilton.plan import Planned
from kept.memo import recorded
from kept.memo.flow import MISSING
from kept.memo.recorded import OPEN
from kept.records import Event

if TYPE_CHECKING:
    from kept.integrations.hamilton.adapter import KeptAdapter

__all__ = ["Step"]

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

    __slots__ = ("_adapter", "_again", "_execution", "_items", "_key", "_planned", "at", "kwargs")

    def __init__(
        self,
        adapter: KeptAdapter,
        run_id: str,
        planned: Planned,
        kwargs: dict[str, Any],
        task_id: str | None,
    ) -> None:
        self._adapter, self._planned, self.kwargs = adapter, planned, kwargs
        self.at = run_id, planned.name, task_id
        self._again = planned.behavior is CachingBehavior.RECOMPUTE
        self._items: Items = []
        self._key: bytes | None = None
        self._execution: Execution | None = None

    # -- the two ways -----------------------------------------------------------------------------

    def run(self) -> Any:
        """The node's result: kept, or computed and then kept."""
        result = self._glance()
        if result is MISSING:
            began = time.perf_counter()
            try:
                if self._execution is None:
                    result = self._planned.run(**self.kwargs)
                else:
                    result = self._execution.result(self.kwargs, self._again)
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
                if self._execution is None:
                    result = self._planned.run(**self.kwargs)
                    if inspect.isawaitable(result):
                        result = await result
                else:
                    result = await self._execution.awaited(self.kwargs, self._again)
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
        if not self._again:
            try:
                entry = cache.find(key)
                if entry is not None and entry.body.state == 0 and entry.body.expires == _NEVER:
                    result = value_of(cache, adapter.formats, key, entry)
                    self._hit(key, entry)
                    return result
            except DecodeError:
                cache.tier.clear()  # the flow meets it too, and deals with it
            except (ConfigError, NewerSchema):
                raise
            except KeptError:
                pass  # as above
        self._execution = Execution(planned, cache, adapter.formats, key, self._items, adapter.warn)
        return MISSING

    def _hit(self, key: bytes, entry: Entry) -> None:
        adapter = self._adapter
        if OPEN:
            recorded.hit(self._planned, key, entry)  # type: ignore[arg-type]  # as much of a kept function as it needs
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
            version = f"{planned.name}__metadata"  # what it says of the saving has the time in it
        self._adapter.note(self._adapter.data_versions, self.at, planned, version)

    def _finished(self, result: Any, began: float) -> None:
        adapter, planned, execution = self._adapter, self._planned, self._execution
        run_id, name, task_id = self.at
        if execution is None:
            self._record("computed", began)
        event = CachingEventType.EXECUTE_NODE
        if execution is not None and execution.hits:  # another process computed it meanwhile
            event = CachingEventType.GET_RESULT
        adapter._log_event(run_id, name, "adapter", event, None, None, task_id)
        if planned.expands:
            adapter.data_versions[run_id][name] = {}
        elif planned.behavior not in _APART:
            version = None if execution is None else execution.digest
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
        if self._execution is None:
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
