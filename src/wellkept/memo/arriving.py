"""Calls under way at workers, and the futures that wait for them."""

from __future__ import annotations

import contextlib
import os
import pickle
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from time import monotonic, perf_counter
from typing import TYPE_CHECKING, Any

from wellkept.errors import DecodeError
from wellkept.memo.flow import Located, Raise
from wellkept.memo.origin import Origin
from wellkept.memo.pending import copied, is_future
from wellkept.memo.recorded import record
from wellkept.memo.sending import Receipt, process
from wellkept.records import Call
from wellkept.runs.notes import ENVS, note_once

if TYPE_CHECKING:
    from wellkept.memo.bound import BoundCall
    from wellkept.memo.kept import Kept

__all__ = ["KeptFuture", "Order", "after"]

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
        if type(found) is Raise:
            raise found.error
        return found

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

    def __init__(
        self,
        kept: Kept[..., Any],
        found: Located | None,
        name: Any,
        origin: Origin,
        again: Callable[[float | None], Receipt],
    ) -> None:
        self.kept, self.found, self.name, self.origin = kept, found, name, origin
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
        return self.inner is not None and self.inner.cancel()  # and `_done` sees to the rest

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
            with contextlib.suppress(Exception):  # sources are not worth an error
                kept.locator.note(found)
        call = None
        try:
            if made is not None:
                call = self._keep(found, receipt, made, error)
        except Exception as trouble:
            if kept.broke(trouble):
                raise
        finally:
            if elsewhere:
                self._record(found, receipt, call, error)

    def _keep(
        self,
        found: Located,
        receipt: Receipt,
        made: tuple[str, float, dict[str, Any]],
        error: BaseException | None,
    ) -> Call:
        kept, cache = self.kept, found.cache
        state, seconds, metadata = made
        for name, item in receipt.notes.items():
            if not name.startswith(ENVS):
                cache.note(name, item)
            else:
                note_once(cache, name, item)
        value = receipt.value
        if error is not None:
            value = [error] if value is None else pickle.loads(value)  # noqa: S301  a worker's
        return cache.keep(
            found.key,
            value,
            function=kept.function_name,
            code=found.code or kept.code_tag,
            arguments=kept.locator.arguments(found),
            state=state,
            seconds=seconds,
            ttl=kept.options.ttl,
            codec="pickle" if state == "failed" or is_future(value) else kept.options.codec,
            metadata=metadata,
        )

    def _record(
        self, found: Located, receipt: Receipt, call: Call | None, error: BaseException | None
    ) -> None:
        """Record what a worker could not, because the run is of this process alone."""
        run, counts = self.origin.run, receipt.counts
        if run is None or run.travels or not (counts.computed or counts.failed):
            return
        taken = 0.0 if receipt.made is None else receipt.made[1]
        began = time.time() - taken, perf_counter() - taken, None
        with self.origin.entered():
            record(self.kept, found, self.origin.caller, began, call, error)

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
        except BaseException as error:  # noqa: BLE001  whoever waits is to hear of it
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
    _guard = threading.RLock()  # another thread may have held it at the fork
    _under_way.clear()  # what the parent waits for


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
