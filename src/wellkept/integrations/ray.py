"""Kept functions as Ray tasks, kept methods of Ray actors, and Ray as an executor.

A result goes into Ray's object store once, from the worker that made it, and into the cache that
workers share; those that have its reference pass it on.
"""

from __future__ import annotations

import concurrent.futures
import inspect
import sys
import threading
from collections.abc import Iterable
from concurrent.futures import Executor, Future
from typing import Any

from wellkept.caches import active
from wellkept.caches.active import set_cache
from wellkept.caches.transport import NEARBY, pack, unpack
from wellkept.errors import ConfigError
from wellkept.memo.bound import Bound
from wellkept.memo.executor import KeptExecutor, look_up, look_up_all
from wellkept.memo.executor import executor as kept_executor
from wellkept.memo.kept import Kept
from wellkept.memo.kept_target import KeptTarget
from wellkept.memo.target import MISSING, Raise
from wellkept.memo.workers import Carried

try:
    import ray
    from ray import ObjectRef
    from ray.exceptions import RayTaskError
except ImportError as _missing:
    raise ConfigError("Ray is not installed: pip install 'wellkept[ray]'") from _missing

__all__ = ["Remote", "actor", "executor", "remote"]

# Bytes from which Ray puts an argument into its store, for each call anew.
_LARGE = 100_000
# References of finished calls that are given out again.
_HELD = 64


def remote(function: Kept[..., Any] | Bound[..., Any], **options: Any) -> Remote:
    """A kept function as a Ray task: `remote(f).remote(1)` is a reference, as of `ray.remote`.

    Args:
        options: what `ray.remote` takes: `num_cpus`, `resources`, `max_retries`, …

    The cache and the run that are active here go along.

    Raises:
        ConfigError: it is no kept function (a class with kept methods is made an `actor`), or the cache
            is one that workers can't share.
    """
    return Remote(function, options)


class Remote:
    """See `remote`, which makes it."""

    def __init__(self, function: Kept[..., Any] | Bound[..., Any], options: dict[str, Any]) -> None:
        self._carried = Carried(function)
        cache = self._carried.cache
        if pack(cache) == NEARBY:
            raise ConfigError(
                f"workers can't share {cache}: it is in the memory of this process; "
                "map(…, executor=wellkept.integrations.ray.executor()) keeps here what they make"
            )
        self._function, self._options = function, options
        self._task = ray.remote(**options)(_call) if options else ray.remote(_call)
        self._sent: Any = None
        self._references: dict[tuple[int, bytes], Any] = {}
        self._guard = threading.Lock()

    def options(self, **options: Any) -> Remote:
        """The same with other options."""
        return Remote(self._function, self._options | options)

    def remote(self, /, *args: Any, **kwargs: Any) -> Any:
        """A reference to the result: of a kept one at once, else of a task that makes and keeps it.

        Arguments may be references; a call with one is looked up by the worker.

        Raises:
            TypeError: the function takes no such arguments.
        """
        call = self._carried.bound(args, kwargs)
        if _waits((args, kwargs)):
            return self._send(args, kwargs)
        found, result = look_up(call.kept, (call.args, call.kwargs))
        return self._reference(found, result, args, kwargs)

    def map(self, *iterables: Iterable[Any]) -> list[Any]:
        """References for each item, or each tuple across several iterables, in order. What is kept is
        looked up in as few trips as the store can; an object that many calls are given goes once.
        """
        items = list(zip(*iterables, strict=False))
        calls = [self._carried.bound(args, {}) for args in items]
        looked = iter(look_up_all(call for call in calls if not _waits(call.args)))
        put: dict[int, Any] = {}
        references = []
        for args, call in zip(items, calls, strict=True):
            if _waits(call.args):
                references.append(self._send(args, {}, put))
                continue
            found, open_ = next(looked)
            result = MISSING if open_ is None else open_(lambda: MISSING)
            references.append(self._reference(found, result, args, {}, put))
        return references

    def _reference(
        self,
        found: KeptTarget | None,
        result: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        put: dict[int, Any] | None = None,
    ) -> Any:
        if found is None:
            return self._send(args, kwargs, put)
        name = id(found.cache.backend), found.key
        with self._guard:
            reference = self._references.pop(name, None)
            if reference is None or (result is MISSING and _ready(reference)):
                if result is MISSING or type(result) is Raise:
                    reference = self._send(args, kwargs, put)
                else:
                    reference = ray.put(result)
            self._references[name] = reference
            while len(self._references) > _HELD:
                del self._references[next(iter(self._references))]
        return reference

    def _send(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], put: dict[int, Any] | None = None
    ) -> Any:
        if self._sent is None:
            # The receiver goes along, and may be large.
            self._sent = ray.put(self._carried)
        if put is not None:
            args = tuple(_once(item, put) for item in args)
        return self._task.remote(self._sent, *args, **kwargs)


def _call(carried: Carried, *args: Any, **kwargs: Any) -> Any:
    return carried(*args, **kwargs)


def _ready(reference: Any) -> bool:
    done, _ = ray.wait([reference], timeout=0, fetch_local=False)
    return bool(done)


def _waits(given: Any) -> bool:
    """Whether there is a reference in it. (Ray itself resolves only those that are arguments.)"""
    if isinstance(given, (list, tuple)):
        return any(map(_waits, given))
    if isinstance(given, dict):
        return any(map(_waits, given.values()))
    return isinstance(given, ObjectRef)


def _once(item: Any, put: dict[int, Any]) -> Any:
    """A reference to a large object, the same each time."""
    if isinstance(item, ObjectRef) or sys.getsizeof(item) < _LARGE:
        return item
    if id(item) not in put:
        put[id(item)] = ray.put(item)
    return put[id(item)]


# -- actors ---------------------------------------------------------------------------------------


def actor(kind: type, **options: Any) -> Any:
    """A class with kept methods as one of Ray's actors.

    Args:
        kind: the class. An actor has its public methods, kept or not.
        options: what `ray.remote` takes.

    The cache that is active here is the default one in each actor. A method is kept as of any object:
    by the object's digest, which has to be small or quick where that matters.
    """
    packed = pack(active())

    def begin(self: Any, *args: Any, **kwargs: Any) -> None:
        set_cache(unpack(packed))
        self._held = kind(*args, **kwargs)

    methods: dict[str, Any] = {"__init__": begin, "__module__": __name__}
    for name in dir(kind):
        method = getattr(kind, name)
        if not name.startswith("_") and callable(method) and not isinstance(method, type):
            methods[name] = _forward(name, method)
    made = type(kind.__name__, (), methods)
    return ray.remote(**options)(made) if options else ray.remote(made)


def _forward(name: str, method: Any) -> Any:
    if getattr(method, "awaits", False) or inspect.iscoroutinefunction(method):

        async def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
            return await getattr(self._held, name)(*args, **kwargs)

    else:

        def forward(self: Any, *args: Any, **kwargs: Any) -> Any:  # type: ignore[misc]  # one of both
            return getattr(self._held, name)(*args, **kwargs)

    forward.__name__ = name
    forward.__doc__ = method.__doc__
    return forward


# -- an executor ----------------------------------------------------------------------------------


def executor(*, shared: bool | None = None, **options: Any) -> KeptExecutor:
    """Ray as an executor of `concurrent.futures`: `f.map(items, executor=executor(num_cpus=2))`.

    Args:
        shared: see `wellkept.executor`.
        options: what `ray.remote` takes.
    """
    return kept_executor(_Tasks(options), shared=shared)


class _Tasks(Executor):
    """Each call is a task. What was given to Ray is not cancelled."""

    def __init__(self, options: dict[str, Any]) -> None:
        self._task = ray.remote(**options)(_plainly) if options else ray.remote(_plainly)
        self._shut = False
        self._open: set[Future[Any]] = set()

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        if self._shut:
            raise RuntimeError("cannot schedule new futures after shutdown")
        future: Future[Any] = Future()
        future.set_running_or_notify_cancel()
        inner: Future[Any] = self._task.remote(fn, *args, **kwargs).future()
        self._open.add(future)

        def end(inner: Future[Any]) -> None:
            error = inner.exception()
            if isinstance(error, RayTaskError) and isinstance(error.cause, BaseException):
                error = error.cause
            self._open.discard(future)
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(inner.result())

        inner.add_done_callback(end)
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        self._shut = True
        if wait:
            concurrent.futures.wait(list(self._open))


def _plainly(fn: Any, *args: Any, **kwargs: Any) -> Any:
    return fn(*args, **kwargs)
