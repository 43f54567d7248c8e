"""One node's execution as a kept call: the flow of `@keep`, with a node in place of a function."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from hamilton.caching.stores.base import search_data_adapter_registry

from kept.caches import Cache
from kept.caches.tier import Entry
from kept.errors import EncodeError
from kept.integrations.hamilton.formats import FORMAT, Formats
from kept.integrations.hamilton.shelf import commit
from kept.memo import recorded
from kept.memo.driving import drive
from kept.memo.flow import Located, Raise, keeping
from kept.memo.options import Options
from kept.memo.recorded import OPEN
from kept.memo.stats import Stats
from kept.memo.troubles import kind_of
from kept.records import Arguments, Call, Digest
from kept.runs.collectors import NOTHING, Collectors

if TYPE_CHECKING:
    from kept.integrations.hamilton.plan import Planned

__all__ = ["Execution", "value_of"]

Items = list[tuple[str, Any, bytes]]


def value_of(cache: Cache, formats: Formats, key: bytes, entry: Entry) -> Any:
    """The result of an entry, also one in a format.

    Raises:
        DecodeError, StoreError: see `Cache.value`.
    """
    frame = entry.frame
    if frame is not None and frame.codec == FORMAT:
        return formats.load(frame, entry.body.result.hex())
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
    stars = ()
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
        self.counts = Stats()
        self.digest: str | None = None
        """The digest of the result, once it is kept or found."""
        self.hits = 0
        self._desk = _Desk(cache, formats, self)
        self._located = Located(self._desk, key, (), items)  # type: ignore[arg-type]  # a cache to the flow
        self._warn = warn
        self._binder = self.locator = self

    # -- what the flow asks -----------------------------------------------------------------------

    def identity(self) -> tuple[str, str]:
        return self.function_name, self.code_tag

    def locate(self, values: tuple[Any, ...]) -> Located:
        return self._located

    def settle(self) -> bool:
        return True  # the adapter has compared, when the run began

    def note(self, found: Located) -> None:
        """A node's code is a graph's; its sources are not written down."""

    def arguments(self, found: Located) -> Arguments:
        return Arguments(found.items or [], _shown)

    def call(self, run: Callable[..., Any], values: tuple[Any, ...]) -> Any:
        return run(**values[0])

    def hit(self, cache: Any, key: bytes, entry: Entry) -> None:
        if OPEN:
            recorded.hit(self, key, entry)  # type: ignore[arg-type]  # as much of a kept function as it needs
        self.hits += 1
        self._desk.cache.used(key)

    def broke(self, error: Exception) -> bool:
        self._warn(f"{kind_of(error)} {self.node.name}", f"{self.function_name}: {error}")
        return False

    # -- driving it -------------------------------------------------------------------------------

    def result(self, kwargs: dict[str, Any], again: bool) -> Any:
        """The node's result, kept or computed."""
        result = drive(self, (kwargs,), again)  # type: ignore[arg-type]  # as in `hit`
        if type(result) is Raise:
            raise result.error
        return result

    async def awaited(self, kwargs: dict[str, Any], again: bool) -> Any:
        """The same, where the node may be a coroutine function."""
        flow = keeping(self, (kwargs,), again)  # type: ignore[arg-type]  # as in `hit`
        result: Any
        try:
            step: Any = next(flow)
            while True:
                if type(step) is tuple:
                    try:
                        result = self.__wrapped__(**step[0])
                        if inspect.isawaitable(result):
                            result = await result
                    except BaseException as error:  # noqa: BLE001  the flow raises it again
                        step = flow.throw(error)
                    else:
                        step = flow.send(result)
                else:
                    await asyncio.sleep(step)
                    step = next(flow)
        except StopIteration as stop:
            result = stop.value
        finally:
            flow.close()
        if type(result) is Raise:
            raise result.error
        return result


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
