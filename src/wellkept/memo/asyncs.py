"""Kept coroutines and async generators: the same flow, driven by `await`."""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable
from typing import TYPE_CHECKING, Any

from wellkept.errors import shorten
from wellkept.memo.flow import as_it_is, drive_async
from wellkept.memo.generators import Recording, find
from wellkept.memo.kept import Kept
from wellkept.memo.kept_target import KeptTarget
from wellkept.memo.refresh import refresh
from wellkept.memo.target import MISSING, Given, Target

if TYPE_CHECKING:
    from wellkept.memo.batch_commits import Batch


class KeptCoroutine(Kept[Any, Any]):
    """A kept coroutine function."""

    awaits = True

    def __init__(self, function: Callable[..., Any], options: Any, method: str = "") -> None:
        super().__init__(function, options, method)
        if sys.version_info >= (3, 12):
            import inspect

            inspect.markcoroutinefunction(self)

    def __call__(self, /, *args: Any, **kwargs: Any) -> Coroutine[Any, Any, Any]:
        try:
            values = self._bind(*args, **kwargs)
        except TypeError:
            pass
        else:
            made = drive_async(self._begin, values, (args, kwargs))
            # What is never awaited, and what a task runs, is told by this name.
            made.__qualname__ = self.__qualname__  # type: ignore[attr-defined]  # a native coroutine's
            return made
        return self._unbound(args, kwargs)  # type: ignore[no-any-return]  # a coroutine function's

    def _through(self, values: tuple[Any, ...], given: Given) -> Any:
        return drive_async(self._begin, values, given)

    def in_batch(self, batch: Batch, /, *args: Any) -> Coroutine[Any, Any, Any]:
        try:
            values = self._bind(*args)
        except TypeError:
            return self._unbound(args, {})  # type: ignore[no-any-return]  # as in __call__

        def begin(values: tuple[Any, ...], given: Given) -> tuple[KeptTarget | None, Any]:
            target, result = self._begin(values, given)
            if target is not None:
                target.batch = batch
            return target, result

        return drive_async(begin, values, (args, {}))

    def _begin(self, values: tuple[Any, ...], given: Given) -> tuple[KeptTarget | None, Any]:
        result = self._glance(values)
        if result is not MISSING:
            return None, result
        return KeptTarget(self, values if self._binder.same() else self._values(*given)), None

    def load(self, /, *args: Any, **kwargs: Any) -> Coroutine[Any, Any, Any]:
        values = self._values(args, kwargs)

        async def load() -> Any:
            try:
                return self._load(values)
            except BaseException as error:
                shorten(error)
                raise

        return load()

    def rerun(self, /, *args: Any, **kwargs: Any) -> Coroutine[Any, Any, Any]:
        if self._deep(kwargs):
            return self._again(args, kwargs)
        target = KeptTarget(self, self._values(args, kwargs))
        return drive_async(as_it_is, target, (args, kwargs), again=True)

    async def _again(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        try:
            with refresh():
                return await self(*args, **kwargs)
        except BaseException as error:
            shorten(error)
            raise

    def _run(self, target: Target, given: Given, again: bool = False) -> Any:
        # This runs in the thread that refreshes a stale result, or in a worker.
        import asyncio

        return asyncio.run(drive_async(as_it_is, target, given, again))

    async def map(  # type: ignore[override]  # the overload of `Kept` for coroutines
        self, *iterables: Iterable[Any], executor: Any = None, progress: bool | None = None
    ) -> list[Any]:
        """Call for each item, all at once; the results, in order."""
        from wellkept.memo.executor import map_async

        try:
            return await map_async(self, iterables, progress, executor)
        except BaseException as error:
            shorten(error)
            raise


class KeptAsyncGenerator(Kept[Any, Any]):
    """A kept async generator function; see `generators.Recording` for what is kept of it."""

    generates = True

    def __call__(self, /, *args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        return self._unbound(args, kwargs)  # type: ignore[no-any-return]  # a generator function's

    def _through(self, values: tuple[Any, ...], given: Given) -> Any:
        return self._iterate(KeptTarget(self, values), given)

    async def _iterate(
        self, target: Target, given: Given, again: bool = False
    ) -> AsyncGenerator[Any, Any]:
        recorded, (args, kwargs) = find(target, given, again)
        if recorded is not MISSING:
            for item in recorded[0]:
                yield item
            return
        recording = Recording(target)
        body = target.call(*args, **kwargs)
        try:
            item = await anext(body)
            while True:
                recording.add(item)
                recording.rest()
                try:
                    sent = yield item
                except GeneratorExit:
                    raise
                except BaseException as error:  # noqa: BLE001  thrown in by the consumer
                    recording.whole = False
                    recording.resume()
                    item = await body.athrow(error)
                else:
                    recording.resume()
                    if sent is not None:
                        recording.whole = False
                    item = await body.asend(sent)
        except StopAsyncIteration:
            recording.end()
        except GeneratorExit:
            # It was left early, which is neither an end nor a failure.
            raise
        except BaseException as error:
            recording.record(error=error)
            raise
        finally:
            await body.aclose()
            recording.rest()

    def load(self, /, *args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        return self.replayed(self._load(self._values(args, kwargs)))

    def gather(self, args: tuple[Any, ...], kwargs: dict[str, Any], make: Any = None) -> Any:
        import asyncio

        target = self._target(args, kwargs, make)

        async def gather() -> list[Any]:
            return [item async for item in self._iterate(target, (args, kwargs))]

        return [asyncio.run(gather()), None]

    async def replayed(self, gathered: Any) -> AsyncGenerator[Any, Any]:
        for item in gathered[0]:
            yield item

    async def _again(
        self, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> AsyncGenerator[Any, Any]:
        # All at once: a block must not be around what the consumer calls.
        with refresh():
            items = [item async for item in self(*args, **kwargs)]
        for item in items:
            yield item

    def _as_kept(self, result: Any) -> tuple[Any, str]:
        return [list(result), None], "items"

    def rerun(self, /, *args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        if self._deep(kwargs):
            return self._again(args, kwargs)
        target = KeptTarget(self, self._values(args, kwargs))
        return self._iterate(target, (args, kwargs), again=True)
