"""One node's execution as a kept call: the flow of `@keep`, with a node in place of a function."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from hamilton.caching.adapter import CachingBehavior, CachingEventType
from hamilton.caching.stores.base import search_data_adapter_registry

from wellkept.caches import Cache
from wellkept.caches.tier import Entry
from wellkept.errors import ConfigError, DecodeError, EncodeError, KeptError, NewerSchema
from wellkept.hashing import digest_bytes
from wellkept.hashing.digests import call_key
from wellkept.integrations.hamilton.formats import FORMAT, Formats
from wellkept.integrations.hamilton.node import Planned
from wellkept.integrations.hamilton.result_store import commit
from wellkept.memo.flow import as_it_is, drive, drive_async
from wellkept.memo.stats import Stats
from wellkept.memo.target import MISSING, Items, Target, hit_in_run, kind_of
from wellkept.records import Call, Digest, Event
from wellkept.runs.recorder import OPEN

if TYPE_CHECKING:
    from wellkept.integrations.hamilton.adapter import KeptAdapter


def value_of(cache: Cache, formats: Formats, key: bytes, entry: Entry) -> Any:
    """The result of an entry, also one in a format.

    Raises:
        DecodeError, StoreError: see `Cache.value`.
    """
    envelope = entry.envelope
    if envelope is not None and envelope.codec == FORMAT:
        return formats.load(envelope, entry.body.result.hex())
    return cache.value(key, entry)


class NodeTarget(Target):
    """One execution of a node, as a call that is kept: results in formats are files.

    Its code is a graph's, so what it runs is compared with nothing, and its sources are not written
    down. A node that is given a digest is meant to have that, and not what it names.

    Args:
        node: what is executed.
        cache: where its result goes.
        formats: the files of that cache.
        key: of the call.
        items: name, value and digest of each dependency that counts.
        warn: told once a kind of trouble.

    Attributes:
        digest: of the result, once it is kept or found.
    """

    def __init__(
        self,
        node: Planned,
        cache: Cache,
        formats: Formats,
        key: bytes,
        items: Items,
        warn: Callable[[str, str], None],
    ) -> None:
        self.node, self.call, self.title = node, node.run, node.function_name
        self.name, self.code = node.function_name, node.code_tag
        self.awaits = inspect.iscoroutinefunction(node.run)
        self.counts = Stats()
        self.cache, self.key, self.items = cache, key, items
        self.digest: str | None = None
        self._formats = formats
        self._warn = warn

    def value(self, entry: Entry) -> Any:
        value = value_of(self.cache, self._formats, self.key, entry)
        self.digest = entry.body.result.hex()
        return value

    def keep(
        self,
        result: Any,
        state: str,
        seconds: float,
        codec: str,
        metadata: Mapping[str, Any] | None,
    ) -> Call | None:
        name = self.node.format
        call: Call | None = None
        if name is not None:
            try:
                call = self._keep_file(result, name, seconds, metadata)
            except (EncodeError, KeyError, ValueError) as error:
                self.broke(EncodeError(f"its result is not kept as {name!r}: {error}"))
        if call is None:
            call = super().keep(result, state, seconds, codec, metadata)
        if call is not None:
            self.digest = str(call.result)
        return call

    def _keep_file(
        self, result: Any, name: str, seconds: float, metadata: Mapping[str, Any] | None
    ) -> Call:
        saver, loader = search_data_adapter_registry(name, type(result))
        value, digest = self._formats.encoded(result, saver, loader)
        call = Call(
            key=Digest.of(self.key),
            function=self.name,
            code=self.code,
            arguments=self.arguments(),
            result=digest,
            created=time.time(),
            seconds=seconds,
            size=value.size,
            metadata={} if metadata is None else metadata,
        )
        commit(self.cache, value, call)
        self._formats.name(digest, value)
        return call

    def broke(self, error: Exception) -> bool:
        self._warn(f"{kind_of(error)} {self.node.name}", f"{self.title}: {error}")
        return False

    def warn(self, kind: str, text: str) -> None:
        self._warn(f"{kind} {self.node.name}", f"{self.title}: {text}")


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
        if OPEN:
            hit_in_run(self._planned.identity, key, entry)
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
