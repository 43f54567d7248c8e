"""Any executor of `concurrent.futures`, in front of which kept calls are looked up first; `map` and
`submit`, here or in one."""

from __future__ import annotations

import contextlib
import functools
import inspect
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future
from concurrent.futures import wait as wait_for
from time import monotonic
from typing import Any, NamedTuple, ParamSpec, TypeVar

from wellkept.caches import Cache, Pool
from wellkept.caches.derived import Derived
from wellkept.caches.tier import FAILED, Entry
from wellkept.caches.transport import NEARBY, pack
from wellkept.errors import ConfigError, DecodeError, shorten
from wellkept.interrupts import settling
from wellkept.memo.batch_commits import Batch
from wellkept.memo.bound import Bound, BoundCall, SentFunction
from wellkept.memo.flow import formerly, look, serves
from wellkept.memo.kept import Kept
from wellkept.memo.kept_target import KeptTarget
from wellkept.memo.many_calls import results
from wellkept.memo.progress import progress_bar
from wellkept.memo.target import MISSING, Given, Raise, outcome, replayed
from wellkept.memo.workers import KeptFuture, Later, Order, Receipt, Sent, Task, Way, after
from wellkept.records import Digest


class Looked(NamedTuple):
    """What a look-up found.

    Attributes:
        found: where the call is kept; None: nowhere, or the cache has failed.
        open: reads the kept result, or makes the call if that is damaged; None: a miss.
    """

    found: KeptTarget | None
    open: Callable[[Callable[[], Any]], Any] | None


def look_up(kept: Kept[..., Any], given: Given) -> tuple[KeptTarget | None, Any]:
    """Where one call is kept, and the kept result or `MISSING`; a failure comes as a `Raise`.

    An error is ignored here: the one that makes the call meets it again.

    Raises:
        TypeError: the function takes no such arguments.
    """
    target = KeptTarget(kept, kept._values(*given))
    try:
        if not target.locate():
            return None, MISSING
        result = look(target, given)
        if result is MISSING and not target.settled():
            if not target.locate():
                return None, MISSING
            result = look(target, given)
        if result is MISSING and kept.options.code == "warn":
            # Here, as what is made of it must not be kept, and a worker can't tell that.
            result = formerly(target)
    except Exception:  # noqa: BLE001  see above
        return None, MISSING
    return target, result


def look_up_all(calls: Iterable[BoundCall[Any]]) -> list[Looked]:
    """The same of many calls of one function, without reading any result."""
    where: list[KeptTarget | None] = []
    keys: dict[int, tuple[Cache, list[bytes]]] = {}
    for call in calls:
        kept = call.kept
        found = None
        try:
            if not where and (coding := kept.locator.coding()).all_same and not coding.all_same():
                kept.locator.renew()
            found = kept.locate(kept._values(call.args, call.kwargs))
        except Exception:  # noqa: BLE001  as above
            pass
        where.append(found)
        if found is not None:
            keys.setdefault(id(found.cache), (found.cache, []))[1].append(found.key)
    entries: dict[int, dict[bytes, Entry]] = {}
    for cache, wanted in keys.values():
        try:
            entries[id(cache)] = find_many(cache, wanted)
        except Exception:  # noqa: BLE001  as above
            where = [None if f is not None and f.cache is cache else f for f in where]
    looked = []
    for found in where:
        entry = None if found is None else entries[id(found.cache)].get(found.key)
        if (
            found is None
            or entry is None
            or entry.body.expires <= time.time()
            or not serves(found.key, entry)
        ):
            looked.append(Looked(found, _former(found)))
        else:
            looked.append(Looked(found, _opening(found, entry)))
    return looked


def _former(target: KeptTarget | None) -> Callable[[Callable[[], Any]], Any] | None:
    """Return what gives the result of the former code, where that is to be served; see `look_up`."""
    if target is None or target.options.code != "warn" or not target.holds():
        return None
    result = formerly(target)
    if result is MISSING:
        return None
    return lambda _: result if type(result) is Raise else target.kept.replayed(result)


def _opening(target: KeptTarget, entry: Entry) -> Callable[[Callable[[], Any]], Any]:
    def open_(call: Callable[[], Any]) -> Any:
        # What was read before this one may have changed what counts.
        if not target.holds():
            return call()
        try:
            value = target.value(entry)
        except DecodeError as error:
            target.counts.damaged += target.cache.damage(target.key, error)
            return call()
        except Exception as error:
            if target.broke(error):
                raise
            return call()
        if target.options.output and not replayed(target):
            return call()
        target.hit(entry)
        failed = entry.body.state == FAILED
        return Raise.of(value) if failed else target.kept.replayed(value)

    return open_


P = ParamSpec("P")
T = TypeVar("T")

OWN = Way(NEARBY, travels=True, own=True)
ALONE = Way(NEARBY, travels=True, own=False)
"""Of a call that has no key: the worker does as it can."""


def executor(inner: Executor, *, shared: bool | None = None, **extra: Any) -> KeptExecutor:
    """An executor that looks kept calls up before it sends them.

    Args:
        inner: any executor of `concurrent.futures`: of threads, of processes, of a library.
        shared: whether the workers reach the cache of this process. By default found out: memory is
            not shared, any other place is, until what a worker kept is not found there.
        extra: what `inner.submit` takes beside a function's arguments, for every call, such as
            executorlib's `resource_dict`.

    Calls of functions that are not kept go to `inner`; the cache and the run that are open here are open
    for the kept functions that they call.

    Raises:
        ConfigError: it is no executor.
    """
    return KeptExecutor(inner, shared, extra)


def wrapped(inner: Any) -> KeptExecutor:
    """The same, of what may be one already."""
    return inner if isinstance(inner, KeptExecutor) else KeptExecutor(inner, None, {})


class KeptExecutor(Executor):
    """See `executor`, which makes it. Leaving its `with` block shuts the inner executor down."""

    def __init__(self, inner: Any, shared: bool | None, extra: dict[str, Any]) -> None:
        if isinstance(inner, type) or not callable(getattr(inner, "submit", None)):
            raise ConfigError(
                f"wellkept.executor takes an executor of concurrent.futures, which has a submit method, "
                f"not {inner!r}"
            )
        self.inner = inner
        self._shared, self._extra = shared, extra
        self._ways: dict[int, tuple[Cache, Way]] = {}
        self._names: frozenset[str] | None = None
        self._later: set[Future[Any]] = set()
        """Of calls that wait for others before they are sent."""
        self._shut = False

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """A future of the call: done at once if it is kept, else when a worker has made it.

        Arguments may be futures, of whatever executor: the function is given their results.

        Keywords that the inner executor's `submit` names are its own, unless the function has
        parameters of these names.

        Raises:
            RuntimeError: it was shut down.
            TypeError: the function takes no such arguments.
        """
        if not isinstance(fn, (Kept, Bound, BoundCall)):
            sent = SentFunction(fn)
            return self.inner.submit(sent, *args, **{**self._extra, **kwargs})  # type: ignore[no-any-return]  # any executor's
        self._check_open()
        given: dict[str, Any] = dict(kwargs)
        own: frozenset[str]
        if isinstance(fn, BoundCall):
            own = fn.kept._binder.keywords() - fn.kwargs.keys()
        else:
            own = fn._binder.keywords()
        extra = {name: given.pop(name) for name in (self._taken() - own) & given.keys()}
        call: Any = fn.bind(*args, **given)
        # What is missing yet would be missed by a worker.
        call.kept._values(call.args, call.kwargs)
        return self.send(call, extra)

    def map(
        self,
        fn: Callable[..., T],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        **more: Any,
    ) -> Iterator[T]:
        """The results in order, as of any executor; looked up in as few trips as the store can.

        Args:
            chunksize: for functions that are not kept.

        Raises:
            RuntimeError: it was shut down.
            TimeoutError: from the iterator, if a result is not there in time.
        """
        if not isinstance(fn, (Kept, Bound, BoundCall)):
            given = {**more, **({} if timeout is None else {"timeout": timeout})}
            if chunksize != 1:
                given["chunksize"] = chunksize
            return self.inner.map(SentFunction(fn), *iterables, **given)  # type: ignore[no-any-return]  # any executor's
        self._check_open()
        end = None if timeout is None else monotonic() + timeout
        return _in_order(self.send_all(fn, list(zip(*iterables, strict=False)), more), end)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Shut the inner executor down, with `wait` after the calls that wait for others are sent."""
        self._shut = True
        if cancel_futures:
            for future in list(self._later):
                future.cancel()
            self.inner.shutdown(wait=wait, cancel_futures=True)
        else:
            # Not every executor knows `cancel_futures`.
            if wait:
                wait_for(list(self._later))
            self.inner.shutdown(wait=wait)

    # -- sending ----------------------------------------------------------------------------------

    def send(self, call: BoundCall[Any], extra: dict[str, Any]) -> KeptFuture:
        """One call: looked up, joined to an equal one that is under way, or sent. Where arguments are
        futures, that is done when they are.

        Args:
            extra: what the inner `submit` takes for this call.
        """
        if any(isinstance(value, Future) for value in (*call.args, *call.kwargs.values())):
            future = after(call, lambda ready: self.send(ready, extra))
            self._later.add(future)
            future.add_done_callback(self._later.discard)
            return future
        kept = call.kept
        with call.entered(call.kept.broke):
            found, result = look_up(kept, (call.args, call.kwargs))
        if result is MISSING:
            return self._order(call, found, extra)
        future = KeptFuture()
        if type(result) is Raise:
            future.set_exception(result.error)
        else:
            future.set_result(kept.replayed(result))
        return future

    def send_all(
        self,
        fn: Kept[..., Any] | Bound[..., Any] | BoundCall[Any],
        items: Sequence[Any],
        extra: dict[str, Any],
    ) -> list[KeptFuture]:
        """Many calls of one function; what is kept is read when it is asked for."""
        if _of_many(fn):
            return [self.submit(_whole, fn, *args) for args in items]  # type: ignore[misc]  # futures
        calls: list[BoundCall[Any]] = [fn.bind(*args) for args in items]
        futures = []
        for call, (found, opened) in zip(calls, look_up_all(calls), strict=True):
            if opened is None:
                # Perhaps because arguments are futures.
                unsure = found is None
                futures.append(
                    self.send(call, extra) if unsure else self._order(call, found, extra)
                )
                continue

            def open_(timeout: float | None, call: Any = call, opened: Any = opened) -> Any:
                return opened(lambda: self.send(call, extra).result(timeout))

            future = KeptFuture()
            future.set_result(Later(open_))
            futures.append(future)
        return futures

    def _order(
        self, call: BoundCall[Any], found: KeptTarget | None, extra: dict[str, Any]
    ) -> KeptFuture:
        future, extra = KeptFuture(), {**self._extra, **extra}
        if found is None:
            way, name, sent = ALONE, None, None
        else:
            name = id(self.inner), id(found.cache.backend), found.key, call.origin.block
            if Order.under_way(name, future):
                return future
            way, sent = self._way(found.cache), Sent(found)

        def again(timeout: float | None) -> Receipt:
            assert found is not None
            self._lost(call.kept, found.cache)
            task = Task(call, sent, way._replace(travels=True, own=True))
            try:
                inner = self.inner.submit(task, **extra)
            except RuntimeError:
                # It was shut down meanwhile.
                return task()
            return inner.result(timeout)  # type: ignore[no-any-return]  # what a task returns

        def submit() -> Future[Receipt]:
            task = Task(call if way.home else _with_values(call), sent, way)
            return self.inner.submit(task, **extra)  # type: ignore[no-any-return]  # as above

        order = Order(call.kept, found, name, call.origin, again)
        if order.begin(future):
            order.send(submit)
        return future

    def _way(self, cache: Cache) -> Way:
        known = self._ways.get(id(cache))
        if known is None:
            known = self._ways[id(cache)] = cache, _way(cache, self._shared)
        return known[1]

    def _lost(self, kept: Kept[..., Any], cache: Cache) -> None:
        """What a worker kept is not found by this process."""
        way = self._way(cache)
        self._ways[id(cache)] = cache, way._replace(travels=True, own=True)
        kept.warn(
            "shared",
            f"what a worker kept is not in {cache}, as this process sees it: from now on results "
            "travel from worker to caller. Give both a cache that both reach, or say "
            "wellkept.executor(…, shared=False)",
        )

    def _taken(self) -> frozenset[str]:
        """Keywords that the inner `submit` takes for itself."""
        if self._names is None:
            try:
                parameters = list(inspect.signature(self.inner.submit).parameters.values())[1:]
            except (TypeError, ValueError):
                # Some executors don't tell their signature.
                parameters = []
            self._names = frozenset(
                p.name for p in parameters if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)
            ) | getattr(self.inner, "_allowed_kwargs", frozenset())
        return self._names

    def _check_open(self) -> None:
        if self._shut:
            raise RuntimeError("cannot schedule new futures after shutdown")


def _way(cache: Cache, shared: bool | None) -> Way:
    home = NEARBY if shared is False else pack(cache)
    if home == NEARBY:
        return OWN
    # What these are given they need not have afterwards.
    return Way(home, travels=isinstance(cache, (Derived, Pool)), own=False)


def _with_values(call: BoundCall[Any]) -> BoundCall[Any]:
    """The same with the values that digests among its arguments name.

    Raises:
        NotKept: there is no such value.
        KeptError: it can't be loaded.
    """
    given = (*call.args, *call.kwargs.values())
    if Digest not in map(type, given):
        return call
    load = call.kept.cache.load
    values = [load(value) if type(value) is Digest else value for value in given]
    many = len(call.args)
    return call.replaced(tuple(values[:many]), dict(zip(call.kwargs, values[many:], strict=True)))


def _in_order(futures: list[KeptFuture], end: float | None) -> Iterator[Any]:
    # Each future is let go of as it is read.
    futures.reverse()
    try:
        while futures:
            yield futures.pop().result(None if end is None else end - monotonic())
    except BaseException as error:
        shorten(error)
        raise
    finally:
        for future in futures:
            future.cancel()


@settling
def map_calls(
    kept: Kept[..., Any],
    iterables: tuple[Iterable[Any], ...],
    progress: bool | None,
    executor: Any,
    ordered: bool,
) -> Any:
    """Call for each tuple across the iterables, as the builtin `map` would: a list of the results,
    or where they need not be in order an iterator that gives them as they are done.
    """
    items = _zipped(kept, iterables)
    if executor is None:
        results = _here(kept, items, progress, ordered=ordered)
    else:
        results = _elsewhere(kept, items, progress, executor, ordered)
    return list(results) if ordered else results


def _zipped(kept: Kept[..., Any], iterables: tuple[Iterable[Any], ...]) -> list[Any]:
    """The arguments of each call of a `map`.

    Raises:
        TypeError: one is no iterable.
    """
    try:
        calls = zip(*iterables, strict=False)
    except TypeError as error:
        raise TypeError(
            f"{kept.__qualname__}.map takes an iterable for each argument: {error}; put a value that "
            "is the same for all calls into itertools.repeat(…)"
        ) from None
    return list(calls)


def _here(
    kept: Kept[..., Any], items: list[Any], progress: bool | None, *, ordered: bool
) -> Iterator[Any]:
    batch = _batch(kept) if ordered and type(kept) is Kept else None
    # In this order: the bar is full when all is kept.
    with (
        progress_bar(kept.__name__, len(items), progress) as advance,
        batch or contextlib.nullcontext(),
    ):
        try:
            for result in _results(kept, items, batch):
                yield result
                advance()
        except BaseException as error:
            shorten(error)
            raise


def _batch(kept: Kept[..., Any]) -> Batch | None:
    """What writes the results of many calls together; None where each is looked at once more."""
    return None if kept.options.verify else Batch()


def _results(kept: Kept[..., Any], items: list[Any], batch: Batch | None) -> Iterator[Any]:
    """The results of the calls; where the store answers many look-ups at once, what is kept is only opened."""
    make = kept if batch is None else functools.partial(kept.in_batch, batch)
    try:
        quick = len(items) < 2 or kept.awaits or not kept.cache.backend.fetches_many
    except Exception:  # noqa: BLE001  the calls meet it too, and deal with it
        quick = True
    if not quick:
        looked = look_up_all(kept.bind(*args) for args in items)
        for args, (_, opened) in zip(items, looked, strict=True):
            call = functools.partial(make, *args)
            yield call() if opened is None else outcome(opened(call))
    elif batch is None or len(items) < 2:
        for args in items:
            yield make(*args)
    else:
        yield from results(kept, items, batch)


def _elsewhere(
    kept: Kept[..., Any], items: list[Any], progress: bool | None, executor: Any, ordered: bool
) -> Iterator[Any]:
    # Who only calls in this process has no need of it.
    from concurrent.futures import as_completed

    futures = wrapped(executor).send_all(kept, items, {})
    waiting = set(futures)
    try:
        with progress_bar(kept.__name__, len(items), progress) as advance:
            for future in futures if ordered else as_completed(futures):
                result = future.result()
                waiting.discard(future)
                yield result
                advance()
    except BaseException as error:
        shorten(error)
        raise
    finally:
        for future in waiting:
            future.cancel()


async def map_async(
    kept: Kept[..., Any],
    iterables: tuple[Iterable[Any], ...],
    progress: bool | None,
    executor: Any,
) -> list[Any]:
    """The same of a coroutine function: all at once, here or in an executor; the results, in order."""
    import asyncio

    items = _zipped(kept, iterables)
    calls: list[Any] = []
    if executor is not None:
        calls = list(map(asyncio.wrap_future, wrapped(executor).send_all(kept, items, {})))
    with progress_bar(kept.__name__, len(items), progress) as advance:

        async def one(call: Any) -> Any:
            result = await call
            advance()
            return result

        batch = _batch(kept)
        make = kept if batch is None else functools.partial(kept.in_batch, batch)
        with batch or contextlib.nullcontext():
            here = calls or (make(*args) for args in items)
            return list(await asyncio.gather(*map(one, here)))


def _of_many(fn: Any) -> bool:
    """Whether a call of a kept function is one of many items."""
    kept = fn.kept if isinstance(fn, BoundCall) else fn
    return bool(kept.options.each)


def _whole(fn: Any, *args: Any, **kwargs: Any) -> Any:
    """Make a call with many items, in a worker."""
    result = fn(*args, **kwargs)
    if inspect.iscoroutine(result):
        import asyncio

        return asyncio.run(result)
    return result


def submit(executor: Any, call: Any) -> Future[Any]:
    """Run a bound call in an executor, unless it is kept: then its future is done."""

    return wrapped(executor).submit(call)


_ONCE = 1000  # keys that are asked for at once, so that no answer is without bound


def find_many(cache: Cache, keys: Iterable[bytes]) -> dict[bytes, Entry]:
    """The entries under those keys that have one, from memory or from the store.

    Raises:
        StoreError: the store can't be read.
    """
    wanted = list(dict.fromkeys(keys))
    found: dict[bytes, Entry] = {}
    if not cache.backend.fetches_many:
        for key in wanted:
            entry = cache.find(key)
            if entry is not None:
                found[key] = entry
        return found
    for start in range(0, len(wanted), _ONCE):
        some = wanted[start : start + _ONCE]
        for key, row in cache.backend.fetch_many(some).items():
            if row.envelope is not None:
                found[key] = Entry(row.body, row.envelope)
    return found
