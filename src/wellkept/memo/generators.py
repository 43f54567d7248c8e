"""Kept generators: recorded while they run, replayed as generators.

A generator runs at its consumer's pace, and may never end, so it holds no lease: two consumers at
once compute twice. It is kept when it has run to its end; one that was left early, closed, or sent
values is not.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Generator
from typing import Any

from wellkept.codecs import check
from wellkept.errors import ConfigError, EncodeError, NewerSchema, NotKept, shortening
from wellkept.memo import observed
from wellkept.memo.flow import SERVED, formerly, look, not_of_today
from wellkept.memo.inflight import Flight, flights
from wellkept.memo.kept import Kept
from wellkept.memo.kept_target import KeptTarget
from wellkept.memo.observed import Observed
from wellkept.memo.refresh import refresh
from wellkept.memo.storing import prepare, record, store
from wellkept.memo.target import MISSING, Given, Target, stayed
from wellkept.records import Call
from wellkept.runs.collectors import Began, begin, seconds
from wellkept.runs.recorder import OPEN


class Recording:
    """What a generator yielded, item by item, and what it returned."""

    __slots__ = ("began", "body", "caller", "items", "served", "target", "threads", "whole")

    def __init__(self, target: Target) -> None:
        self.target: Target = target
        self.items: list[Any] = []
        self.whole: bool = bool(target.key)
        # It runs in the computations of its consumers, so what others took in the meantime counts too.
        self.served: int = SERVED[0]
        prepare(target)
        self.began: Began = begin()
        self.caller: Flight | None = flights.caller()
        self.body: Observed | None = observed.begin(target.bodies, target.options.observe)
        alone = target.same is None or target.awaits
        self.threads: list[threading.Thread] | None = None if alone else threading.enumerate()

    def add(self, item: Any) -> None:
        """Note an item, as it is now: the consumer may change it."""
        if self.whole:
            try:
                self.items.append(copy.deepcopy(item))
            except Exception as error:
                self.whole = False
                cause = EncodeError(f"an item can't be copied: {error}")
                if self.target.broke(cause):
                    raise cause from error

    def rest(self) -> None:
        """The consumer goes on."""
        if self.body is not None:
            self.body.leave()

    def resume(self) -> None:
        """The body goes on."""
        if self.body is not None:
            self.body.enter()

    def end(self, returned: Any = None) -> None:
        """The generator has ended: keep what it gave."""
        call: Call | None = None
        target = self.target
        try:
            if self.whole:
                target.counts.computed += 1
                if self.served != SERVED[0]:
                    not_of_today(target)
                    return
                target.bodies.spent = seconds(self.began)
                if not stayed(target, self.threads):
                    return
                if self.body is not None:
                    self.body.leave()
                    if not target.widen(self.body):
                        return
                call = store(target, [self.items, returned], self.caller, self.began, "items")
        finally:
            self.record(call)

    def record(self, call: Call | None = None, error: BaseException | None = None) -> None:
        """Tell the run that is open, if any, how it ended."""
        if OPEN:
            record(self.target, self.caller, self.began, call, error)


def find(target: Target, given: Given, again: bool) -> tuple[Any, Given]:
    """Return what is recorded, or `MISSING`, and what to call the body with.

    A target that is not to be recorded has no key afterwards.

    Raises:
        NotKept: an argument is the digest of what is not kept.
        ConfigError: the package of its codec is not installed.
    """
    located = False
    try:
        located = target.locate()
        if located and not again:
            result = look(target)
            if result is MISSING and not target.settled():
                located = False
                # See `flow.keeping`.
                located = target.locate()
                result = look(target) if located else MISSING
            if result is MISSING and located and target.options.code == "warn":
                result = formerly(target)
            if result is not MISSING:
                return result, given
    except (ConfigError, NewerSchema, NotKept):
        raise
    except Exception as error:
        if target.broke(error):
            raise
    if not located:
        target.key = b""
    elif target.options.codec != "pickle":
        # See `flow.keeping`.
        check(target.options.codec)
    return MISSING, target.resolved(given)


class KeptGenerator(Kept[Any, Any]):
    """A kept generator function."""

    generates = True

    def __call__(self, /, *args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        return self._unbound(args, kwargs)  # type: ignore[no-any-return]  # a generator function's

    def _through(self, values: tuple[Any, ...], given: Given) -> Any:
        return self._iterate(KeptTarget(self, values), given)

    def _iterate(
        self, target: Target, given: Given, again: bool = False
    ) -> Generator[Any, Any, Any]:
        recorded, (args, kwargs) = find(target, given, again)
        if recorded is not MISSING:
            items, returned = recorded
            yield from items
            return returned
        recording = Recording(target)
        body = target.call(*args, **kwargs)
        try:
            item = next(body)
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
                    item = body.throw(error)
                else:
                    recording.resume()
                    if sent is not None:
                        recording.whole = False
                    item = body.send(sent)
        except StopIteration as stop:
            recording.end(stop.value)
            return stop.value
        except GeneratorExit:
            # It was left early, which is neither an end nor a failure.
            raise
        except BaseException as error:
            recording.record(error=error)
            raise
        finally:
            body.close()
            recording.rest()

    def load(self, /, *args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        return self.replayed(self._load(self._values(args, kwargs)))

    def gather(self, args: tuple[Any, ...], kwargs: dict[str, Any], make: Any = None) -> Any:
        items: list[Any] = []
        iterator = self._iterate(self._target(args, kwargs, make), (args, kwargs))
        while True:
            try:
                items.append(next(iterator))
            except StopIteration as stop:
                return [items, stop.value]

    def replayed(self, gathered: Any) -> Generator[Any, Any, Any]:
        items, returned = gathered
        yield from items
        return returned

    def _as_kept(self, result: Any) -> tuple[Any, str]:
        return [list(result), None], "items"

    @shortening
    def rerun(self, /, *args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        if self._deep(kwargs):
            with refresh():
                # All at once: a block must not be around what the consumer calls.
                return self._again(args, kwargs)  # type: ignore[no-any-return]  # as `replayed` gives it
        target = KeptTarget(self, self._values(args, kwargs))
        return self._iterate(target, (args, kwargs), again=True)
