"""One node's execution as a kept call: the flow of `@keep`, with a node in place of a function."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable
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
from wellkept.memo import record
from wellkept.memo.flow import MISSING, Located, Raise, advance_async, drive, keeping, outcome
from wellkept.memo.keep_options import Options
from wellkept.memo.record import kind_of
from wellkept.memo.stats import Stats
from wellkept.records import Arguments, Call, Digest, Event
from wellkept.runs.collectors import NOTHING, Collectors
from wellkept.runs.recorder import OPEN

if TYPE_CHECKING:
    from wellkept.integrations.hamilton.adapter import KeptAdapter


Items = list[tuple[str, Any, bytes]]


def value_of(cache: Cache, formats: Formats, key: bytes, entry: Entry) -> Any:
    """The result of an entry, also one in a format.

    Raises:
        DecodeError, StoreError: see `Cache.value`.
    """
    envelope = entry.envelope
    if envelope is not None and envelope.codec == FORMAT:
        return formats.load(envelope, entry.body.result.hex())
    return cache.value(key, entry)


class Execution:
    """What the flow of a call needs of a kept function, for one execution of a node.

    Args:
        node: what is executed.
        cache: where its result goes.
        formats: the files of that cache.
        key: of the call.
        items: name, value and digest of each dependency that counts.
        warn: told once a kind of trouble.
    """

    options = Options()
    followed = asked = False
    """Its code is a graph's, so what it runs is compared with nothing."""
    spent = 0.0
    collectors: Collectors | None = NOTHING

    def __init__(
        self,
        node: Planned,
        cache: Cache,
        formats: Formats,
        key: bytes,
        items: Items,
        warn: Callable[[str, str], None],
    ) -> None:
        self.node = node
        self.function_name, self.code_tag = node.function_name, node.code_tag
        self.__wrapped__ = node.run
        self.awaits = inspect.iscoroutinefunction(node.run)
        self.counts = Stats()
        self.digest: str | None = None
        """The digest of the result, once it is kept or found."""
        self.hits = 0
        self._desk = _Desk(cache, formats, self)
        self._located = Located(self._desk, key, (), items)  # type: ignore[arg-type]  # a cache to the flow
        self._warn = warn
        self.locator = self

    # -- what the flow asks -----------------------------------------------------------------------

    def identity(self) -> tuple[str, str]:
        return self.function_name, self.code_tag

    def locate(self, values: tuple[Any, ...]) -> Located:
        return self._located

    def note(self, found: Located) -> None:
        """A node's code is a graph's; its sources are not written down."""

    def arguments(self, found: Located) -> Arguments:
        return Arguments(found.items or [], _shown)

    def loaded(self, values: tuple[Any, ...]) -> tuple[Any, ...]:
        return values  # a node that is given a digest is meant to have that

    def hit(self, cache: Any, key: bytes, entry: Entry) -> None:
        if OPEN:
            record.hit(self, key, entry)  # type: ignore[arg-type]  # as much of a kept function as it needs
        self.hits += 1
        self._desk.cache.used(key)

    def broke(self, error: Exception) -> bool:
        self._warn(f"{kind_of(error)} {self.node.name}", f"{self.function_name}: {error}")
        return False

    # -- driving it -------------------------------------------------------------------------------

    def result(self, kwargs: dict[str, Any], again: bool) -> Any:
        """The node's result, kept or computed."""
        return drive(self, (), ((), kwargs), again)  # type: ignore[arg-type]  # as in `hit`

    async def awaited(self, kwargs: dict[str, Any], again: bool) -> Any:
        """The same, where the node may be a coroutine function."""
        flow = keeping(self, (), ((), kwargs), again)  # type: ignore[arg-type]  # as in `hit`
        try:
            step, result = await advance_async(flow)
            while step is not None:
                try:
                    result = self.__wrapped__(**step[1])
                    if inspect.isawaitable(result):
                        result = await result
                except BaseException as error:
                    step, result = await advance_async(flow, Raise(error))
                    if type(result) is Raise and result.error is error:
                        result = None  # see `drive`
                        raise
                else:
                    step, result = await advance_async(flow, result)
        finally:
            flow.close()
        return outcome(result)


class _Desk:
    """The cache as the flow sees it: results in formats are files, and digests are noted."""

    def __init__(self, cache: Cache, formats: Formats, execution: Execution) -> None:
        self.cache = cache
        self._formats = formats
        self._execution = execution

    def __getattr__(self, name: str) -> Any:
        return getattr(self.cache, name)

    @property
    def env(self) -> str:
        return self.cache.env

    @env.setter
    def env(self, name: str) -> None:
        self.cache.env = name

    def value(self, key: bytes, entry: Entry) -> Any:
        value = value_of(self.cache, self._formats, key, entry)
        self._execution.digest = entry.body.result.hex()
        return value

    def keep(self, key: bytes, result: Any, **said: Any) -> Call:
        execution = self._execution
        name = execution.node.format
        call: Call | None = None
        if name is not None:
            try:
                call = self._keep_file(key, result, name, **said)
            except (EncodeError, KeyError, ValueError) as error:
                execution.broke(EncodeError(f"its result is not kept as {name!r}: {error}"))
        if call is None:
            call = self.cache.keep(key, result, **said)
        execution.digest = str(call.result)
        return call

    def _keep_file(
        self,
        key: bytes,
        result: Any,
        name: str,
        *,
        function: str,
        code: str,
        arguments: Any,
        seconds: float,
        metadata: Any,
        **_: Any,
    ) -> Call:
        saver, loader = search_data_adapter_registry(name, type(result))
        value, digest = self._formats.encoded(result, saver, loader)
        call = Call(
            key=Digest.of(key),
            function=function,
            code=code,
            arguments=arguments,
            result=digest,
            created=time.time(),
            seconds=seconds,
            size=value.size,
            metadata={} if metadata is None else metadata,
        )
        commit(self.cache, value, call)
        self._formats.name(digest, value)
        return call


def _shown(value: Any) -> bool:
    kind = type(value)
    if kind is str:
        return len(value) <= 200
    if kind is int:
        return bool(-(2**63) <= value < 2**63)
    if kind is float:
        return bool(value - value == 0)  # JSON has no infinities
    return kind is bool or value is None


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
            record.hit(self._planned, key, entry)  # type: ignore[arg-type]  # as much of a kept function as it needs
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
