"""A call on its way to a worker, and what comes back: a small receipt, or the value where it must.

The worker takes the caller's key. What an argument's digest says of a class that a script defines,
and the identity of a function that was sent by value, need not come out the same in a process that
runs another program; and nothing large is hashed twice.
"""

from __future__ import annotations

import contextlib
import copy
import os
import pickle
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from time import monotonic, perf_counter
from typing import Any, NamedTuple

from wellkept._process import at_fork
from wellkept.caches import Cache
from wellkept.caches.tier import Entry
from wellkept.caches.transport import NEARBY, unpack
from wellkept.errors import ConfigError, DecodeError, shortening
from wellkept.memo.bound import Bound, BoundCall
from wellkept.memo.futures import copied, is_future, settled
from wellkept.memo.inflight import Origin
from wellkept.memo.kept import Kept
from wellkept.memo.kept_target import KeptTarget
from wellkept.memo.pickling import is_global
from wellkept.memo.stats import Stats
from wellkept.memo.storing import record
from wellkept.memo.target import Items, outcome, recorded
from wellkept.records import Call
from wellkept.runs.recorder import ENVS, note_once
from wellkept.stores.record_format import STATES

SMALL = 64 * 1024
"""Encoded results of at most so many bytes travel in the receipt: that is less than to read them."""

_MARK = "_kept_receipt"
_process: tuple[int, bytes] = (0, b"")


def process() -> bytes:
    """What tells this process from any other."""
    global _process
    if _process[0] != os.getpid():
        _process = os.getpid(), os.urandom(16)
    return _process[1]


class Sent:
    """Where the caller keeps a call, for a worker to keep it there too."""

    def __init__(self, target: KeptTarget) -> None:
        self.identity: tuple[str, str] = target.name, target.code
        self.key: bytes = target.key
        kept = target.kept
        own = kept.options.key is not None
        names = () if own else {name for name, _ in kept._binder.items(target.values)}
        # An argument travels with the call.
        self._items = [
            (name, None if name in names else value, raw) for name, value, raw in target.all_items()
        ]
        self.shown: str = recorded(target.options)

    def items(self, kept: Kept[..., Any], values: tuple[Any, ...]) -> Items:
        """Return name, value and digest of each argument that counts."""
        given = {} if kept.options.key is not None else dict(kept._binder.items(values))
        return [(name, given.get(name, value), raw) for name, value, raw in self._items]


class Way(NamedTuple):
    """How results of a worker come into a cache of this process."""

    home: bytes
    """What the worker opens the cache by, to keep them; `NEARBY`: it keeps none."""
    travels: bool
    """Values come back, whatever their size."""
    own: bool
    """This process keeps what comes."""


class Receipt:
    """What came of a call elsewhere.

    Attributes:
        value: the result; of a failure that the caller is to keep, the pickled error and its causes.
        elsewhere: whether the result is to be read from the cache instead.
        size: encoded bytes of the result, where it is kept where the caller looks.
        made: state, seconds and metadata of what the caller is to keep; None: nothing.
        notes: what is to be noted beside it.
        counts: what the worker's function did.
        told: kinds and texts of the worker's warnings.
        process: which one it was.
    """

    __slots__ = ("counts", "elsewhere", "made", "notes", "process", "size", "told", "value")

    def __init__(self) -> None:
        self.value: Any = None
        self.elsewhere: bool = False
        self.size: int | None = None
        self.made: tuple[str, float, dict[str, Any]] | None = None
        self.notes: dict[str, bytes] = {}
        self.counts: Stats = Stats()
        self.told: list[tuple[str, str]] = []
        self.process: bytes = process()

    @staticmethod
    def of(error: BaseException) -> Receipt | None:
        """The one that came with an exception."""
        found: Receipt | None = getattr(error, "__dict__", {}).pop(_MARK, None)
        return found


class Task:
    """One call, to be made by a worker.

    Args:
        call: which.
        sent: where it is kept; None: it has no key, or none was found.
        way: how its result comes back.
    """

    call: BoundCall[Any]
    sent: Sent | None
    way: Way

    def __init__(self, call: BoundCall[Any], sent: Sent | None, way: Way) -> None:
        self.call, self.sent, self.way = call, sent, way
        # Dashboards show this name.
        self.__name__: Any = call.kept.__name__
        self.ticket: bytes = os.urandom(16)
        self._here = True

    def __dask_tokenize__(self) -> Any:
        # A result that Dask still holds may tell of a call that was forgotten since.
        return self.ticket

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_here": False}

    @shortening
    def __call__(self) -> Receipt:
        call, receipt = self.call, Receipt()
        if self._here:
            receipt.value = call.through(Gatherer(call.kept))
            return receipt
        target = TaskTarget(self, receipt)
        try:
            target.open()
            value = call.through(Gatherer(call.kept, target))
        except Exception as error:
            target.end()
            # An exception without a `__dict__` tells nothing more.
            with contextlib.suppress(AttributeError):
                error.__dict__[_MARK] = receipt
            raise
        target.end()
        if self.way.travels or receipt.size is None or receipt.size <= SMALL:
            receipt.value = value
        else:
            receipt.elsewhere = True
        return receipt


class Gatherer:
    """A kept function that is worked off on the spot, whatever kind it is of.

    Args:
        target: for a call of a task.
    """

    awaits = False

    def __init__(self, kept: Kept[..., Any], target: TaskTarget | None = None) -> None:
        self.kept = kept
        self._make = None if target is None else target.of
        self.broke: Callable[[Exception], bool] = kept.broke if target is None else target.broke

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return settled(self.kept.gather(args, kwargs, self._make))


class TaskTarget(KeptTarget):
    """A call at a worker. It goes where the caller keeps it, and what came of it into a receipt."""

    key: bytes
    name: str
    code: str

    cache: Cache

    def __init__(self, task: Task, receipt: Receipt) -> None:
        super().__init__(task.call.kept, ())
        self.counts: Stats = receipt.counts
        self.receipt = receipt
        self._way = task.way
        self._sent = task.sent
        self._home: Cache | None = None
        self._reached = False
        if task.sent is None:
            return
        kept = self.kept
        try:
            own = is_global(kept) or kept.locator.taken
            other = own and kept.locator.identity() != task.sent.identity
        except Exception:  # noqa: BLE001  its code has no identity here: so not the caller's
            other = True
        if other:
            self._sent = None
            text = "a worker runs other code than this process, and keeps under its own key"
            receipt.told.append(("code", text))

    def open(self) -> None:
        """Open the cache of the caller; where it can't be reached, one that only takes notes."""
        if self._sent is None:
            return
        if self._way.home != NEARBY:
            try:
                self._home, self._reached = unpack(self._way.home), True
            except Exception as error:
                if self.broke(error):
                    raise
        if self._home is None:
            from wellkept.stores.memory import Memory

            notes: Memory[bytes] = Memory()
            self._home = Cache(notes, notes, memory=0)

    def of(self, values: tuple[Any, ...]) -> TaskTarget:
        """Return the same for the call with these values."""
        made = copy.copy(self)
        made.values = values
        return made

    def locate(self) -> bool:
        if self._sent is None or self._home is None:
            return super().locate()
        self.cache, self.key = self._home, self._sent.key
        self.name, self.code = self._sent.identity
        self.items: Items = self._sent.items(self.kept, self.values)
        self.options: Any = self.options._replace(arguments=self._sent.shown)
        return True

    def keep_arguments(self) -> None:
        # Otherwise the caller does.
        if self._sent is None or self._reached:
            super().keep_arguments()

    def note_source(self) -> None:
        # Otherwise the caller, which surely has the source, writes it down.
        if self._sent is None:
            super().note_source()

    def hit(self, entry: Entry) -> None:
        super().hit(entry)
        if self._sent is None:
            return
        self.receipt.size = entry.body.size
        if self._way.own:
            body, call = entry.body, self.cache.calls.get(self.key.hex())
            metadata = {} if call is None else dict(call.metadata)
            self.receipt.made = STATES[body.state], body.seconds, metadata

    def keep(
        self,
        result: Any,
        state: str,
        seconds: float,
        codec: str,
        metadata: Mapping[str, Any] | None,
    ) -> Call | None:
        if self._sent is None:
            return super().keep(result, state, seconds, codec, metadata)
        if self._way.own or not self._reached:
            self.receipt.made = state, seconds, dict(metadata or {})
            if state == "failed":
                # Then it comes without its causes.
                with contextlib.suppress(Exception):
                    self.receipt.value = pickle.dumps(result)
        if not self._reached:
            return None
        call = super().keep(result, state, seconds, codec, metadata)
        self.receipt.size = None if call is None else call.size
        return call

    def warn(self, kind: str, text: str) -> None:
        self.receipt.told.append((kind, text))

    def end(self) -> None:
        """Send the notes along, and count in this process too."""
        if self._home is not None and not self._reached:
            self._home.flush()
            notes = self._home.backend.notes
            self.receipt.notes = dict(notes.get_many(list(notes.keys())))
        self.kept.counts.add(self.receipt.counts)


class Carried:
    """Calls a kept function with the cache and in the run that were active where this was made.

    Args:
        function: a kept function, or a kept method of an object.

    Raises:
        ConfigError: it is none, or one that gives a generator.
    """

    def __init__(self, function: Kept[..., Any] | Bound[..., Any]) -> None:
        if isinstance(function, Bound):
            self._call: BoundCall[Any] = BoundCall(function._kept, (function.__self__,), {})
        elif isinstance(function, Kept):
            self._call = BoundCall(function, (), {})
        else:
            raise ConfigError(f"not a kept function: {function!r}; @keep makes one")
        kind = type(self._call.kept)
        if kind.replayed is not Kept.replayed:
            raise ConfigError(
                f"{function!r} gives a generator, which can't be sent; submit it to wellkept.executor(…)"
            )
        self.function = function
        # Dashboards show this name.
        self.__name__: Any | str = function.__name__

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        return self.bound(args, kwargs).through(Gatherer(self._call.kept))

    def bound(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> BoundCall[Any]:
        """One call of it."""
        return self._call.replaced((*self._call.args, *args), kwargs)

    @property
    def cache(self) -> Cache:
        """The one that calls go to here.

        Raises:
            ConfigError, StoreError: there is none.
        """
        kept = self._call.kept
        return self._call.cache if self._call.cache is not None else kept.cache

    def __dask_tokenize__(self) -> Any:
        return self.function.__dask_tokenize__()

    def __repr__(self) -> str:
        return f"<{self.function!r} on its way>"


_guard = threading.RLock()


class KeptFuture(Future[Any]):
    """The future of a kept call. What was kept elsewhere is read when its result is asked for.

    Cancelling one of several futures of equal calls leaves the others alone.
    """

    order: Order | None = None
    """Where its result comes from, while there is none."""

    def __init__(self) -> None:
        super().__init__()
        self._opening = threading.Lock()

    @shortening
    def result(self, timeout: float | None = None) -> Any:
        began = monotonic()
        found: Any = super().result(timeout)
        if isinstance(found, Later):
            open_ = found.open
            with self._opening:
                if self._result is found:
                    left = None if timeout is None else timeout - (monotonic() - began)
                    self._result = open_(left)
                found = self._result
        return outcome(found)

    def exception(self, timeout: float | None = None) -> BaseException | None:
        error = super().exception(timeout)
        if error is None:
            try:
                self.result(timeout)
            except BaseException as found:  # noqa: BLE001  what came of reading it
                return found
        return error

    def cancel(self) -> bool:
        order = self.order
        return super().cancel() if order is None else order.cancel(self)

    def running(self) -> bool:
        order = self.order
        return order is not None and not self.done() and order.running()

    def drop(self) -> None:
        """End as cancelled. Only who took it from its order may."""
        super().cancel()
        self.set_running_or_notify_cancel()


class Later:
    """A result that is read when it is asked for."""

    def __init__(self, open_: Callable[[float | None], Any]) -> None:
        self.open = open_


class Order:
    """One call at a worker, for all who wait for it.

    Args:
        kept: the function.
        found: where it is kept; None: nowhere.
        name: what equal calls have in common.
        origin: where it was sent from.
        again: gets it from a worker once more, with its value.
    """

    found: KeptTarget | None
    name: Any
    origin: Origin

    def __init__(
        self,
        kept: Kept[..., Any],
        found: KeptTarget | None,
        name: Any,
        origin: Origin,
        again: Callable[[float | None], Receipt],
    ) -> None:
        # Not in the class, where it would be a method of it.
        self.kept: Kept[..., Any] = kept
        self.found, self.name, self.origin = found, name, origin
        self._again = again
        self._futures: list[KeptFuture] = []
        self.inner: Future[Receipt] | None = None

    # -- waiting ----------------------------------------------------------------------------------

    @classmethod
    def under_way(cls, name: Any, future: KeptFuture) -> bool:
        """Let a future wait for an equal call that is under way; whether there is one."""
        with _guard:
            order = _under_way.get(name)
            if order is not None:
                order.add(future)
            return order is not None

    def add(self, future: KeptFuture) -> None:
        future.order = self
        self._futures.append(future)

    def begin(self, future: KeptFuture) -> bool:
        """Stand for all equal calls from now on; False: another one does already."""
        with _guard:
            if self.name is not None:
                if self.under_way(self.name, future):
                    return False
                _under_way[self.name] = self
            self.add(future)
            return True

    def send(self, submit: Callable[[], Future[Receipt]]) -> None:
        """Hand it over.

        Raises:
            Exception: what the executor raises. Whoever else waits for the call gets that too.
        """
        try:
            self.inner = submit()
        except BaseException as error:
            for future in self._taken():
                future.set_exception(error)
            raise
        self.inner.add_done_callback(self._done)

    def cancel(self, future: KeptFuture) -> bool:
        with _guard:
            if future not in self._futures:
                return future.cancelled()
            alone = len(self._futures) == 1
            if not alone:
                self._futures.remove(future)
        if not alone:
            future.drop()
            return True
        # The rest happens in `_done`.
        return self.inner is not None and self.inner.cancel()

    def running(self) -> bool:
        return self.inner is not None and self.inner.running()

    # -- the end ----------------------------------------------------------------------------------

    def _taken(self) -> list[KeptFuture]:
        with _guard:
            if _under_way.get(self.name) is self:
                del _under_way[self.name]
            futures, self._futures = self._futures, []
        for future in futures:
            future.order = None
        return futures

    def _done(self, inner: Future[Receipt]) -> None:
        if inner.cancelled():
            for future in self._taken():
                future.drop()
            return
        error = inner.exception()
        try:
            receipt = Receipt.of(error) if error is not None else inner.result()
            if receipt is not None:
                self._take(receipt, error)
        except BaseException as trouble:  # noqa: BLE001  or nobody would hear of it, and all wait
            error = error or trouble
        futures = self._taken()
        for i, future in enumerate(futures):
            if error is not None:
                future.set_exception(error)
            elif receipt is not None:
                future.set_result(self._later(receipt, own=i == len(futures) - 1))

    def _take(self, receipt: Receipt, error: BaseException | None) -> None:
        """Count, warn and keep as if the call had been made here."""
        kept, made, found = self.kept, receipt.made, self.found
        elsewhere = receipt.process != process()
        if elsewhere:
            kept.counts.add(receipt.counts)
        for kind, text in receipt.told:
            kept.warn(kind, text)
        if found is None:
            return
        if elsewhere and receipt.counts.computed and kept.collectors is not None:
            # Sources are not worth an error.
            with contextlib.suppress(Exception):
                found.note_source()
        call = None
        try:
            if made is not None:
                self._note(found, receipt)
                # Where the body ran code that the key found here does not cover, its result has another
                # key, which the notes say to those who make the call later.
                if not receipt.counts.widened:
                    call = self._keep(found, receipt, made, error)
        except Exception as trouble:
            if kept.broke(trouble):
                raise
        finally:
            if elsewhere:
                self._record(found, receipt, call, error)

    def _note(self, found: KeptTarget, receipt: Receipt) -> None:
        for name, item in receipt.notes.items():
            if not name.startswith(ENVS):
                found.cache.note(name, item)
            else:
                note_once(found.cache, name, item)

    def _keep(
        self,
        found: KeptTarget,
        receipt: Receipt,
        made: tuple[str, float, dict[str, Any]],
        error: BaseException | None,
    ) -> Call | None:
        state, seconds, metadata = made
        value = receipt.value
        if error is not None:
            value = [error] if value is None else pickle.loads(value)  # noqa: S301  a worker's
        pickled = state == "failed" or is_future(value)
        codec = "pickle" if pickled else self.kept.options.codec
        return found.keep(value, state, seconds, codec, metadata)

    def _record(
        self, found: KeptTarget, receipt: Receipt, call: Call | None, error: BaseException | None
    ) -> None:
        """Record what a worker could not, because the run is of this process alone."""
        run, counts = self.origin.run, receipt.counts
        if run is None or run.travels or not (counts.computed or counts.failed):
            return
        taken = 0.0 if receipt.made is None else receipt.made[1]
        began = time.time() - taken, perf_counter() - taken, None
        with self.origin.entered():
            record(found, self.origin.caller, began, call, error)

    def _later(self, receipt: Receipt, own: bool) -> Any:
        """What a future holds; the last of them gets the value itself, the others copies."""
        if not receipt.elsewhere:
            value = receipt.value if own else copied(receipt.value)
            return self.kept.replayed(value)

        def open_(timeout: float | None) -> Any:
            value = self._read()
            if value is _MISSING:
                again = self._again(timeout)
                self._take(again, None)
                value = again.value
            return self.kept.replayed(value)

        return Later(open_)

    def _read(self) -> Any:
        """What the worker kept, as this process finds it."""
        if self.found is None:
            return _MISSING
        cache, key = self.found.cache, self.found.key
        try:
            entry = cache.find(key)
            if entry is not None:
                return cache.value(key, entry, hit=False)
        except DecodeError as error:
            cache.damage(key, error)
        except Exception as error:
            if self.kept.broke(error):
                raise
        return _MISSING


def after(call: BoundCall[Any], send: Callable[[BoundCall[Any]], Future[Any]]) -> KeptFuture:
    """The future of a call whose arguments are futures: it is sent when they are done.

    Args:
        send: sends the call with their results in their places.
    """
    future, given = KeptFuture(), (*call.args, *call.kwargs.values())
    waited = [value for value in given if isinstance(value, Future)]
    left = len(waited)

    def ready(_: Future[Any]) -> None:
        nonlocal left
        with _guard:
            left -= 1
            if left:
                return
        if future.cancelled():
            future.set_running_or_notify_cancel()
            return
        try:
            values = [v.result() if isinstance(v, Future) else v for v in given]
            many = len(call.args)
            kwargs = dict(zip(call.kwargs, values[many:], strict=True))
            sent = send(call.replaced(tuple(values[:many]), kwargs))
        except BaseException as error:  # noqa: BLE001  those who wait have to get it
            _give(future, error=error)
        else:
            sent.add_done_callback(done)

    def done(sent: Future[Any]) -> None:
        if sent.cancelled():
            future.drop()
        else:
            _give(future, Later(sent.result), Future.exception(sent))

    for value in waited:
        value.add_done_callback(ready)
    return future


def _give(future: KeptFuture, value: Any = None, error: BaseException | None = None) -> None:
    """End a future, unless it was cancelled."""
    if not future.set_running_or_notify_cancel():
        return
    if error is None:
        future.set_result(value)
    else:
        future.set_exception(error)


_MISSING: Any = object()
_under_way: dict[Any, Order] = {}


def _after_fork() -> None:
    global _guard
    # Another thread may have held it at the fork.
    _guard = threading.RLock()
    # These calls are the parent's.
    _under_way.clear()


at_fork(in_child=_after_fork)
