"""Kept generators: recorded while they run, replayed as generators.

A generator runs at its consumer's pace, and may never end, so it holds no lease: two consumers at
once compute twice. It is kept when it has run to its end; one that was left early, closed, or sent
values is not.
"""

from __future__ import annotations

import copy
from collections.abc import Generator
from typing import Any

from wellkept.errors import ConfigError, EncodeError, NewerSchema, NotKept
from wellkept.memo import observed
from wellkept.memo.flow import MISSING, Given, Located, look, resolved
from wellkept.memo.inflight import flights
from wellkept.memo.kept import Kept
from wellkept.memo.record import Watch, record, store
from wellkept.records import Call
from wellkept.runs.collectors import begin, seconds
from wellkept.runs.recorder import OPEN


class Recording:
    """What a generator yielded, item by item, and what it returned."""

    __slots__ = ("began", "caller", "found", "items", "kept", "looked", "watch", "whole")

    def __init__(self, kept: Kept[..., Any], found: Located | None) -> None:
        self.kept = kept
        self.found = None if found is None else found.noted(kept)
        self.items: list[Any] = []
        self.whole = found is not None
        self.began = begin()
        self.caller = flights.caller()
        self.looked = observed.begin(kept)
        self.watch = None if found is None or found.same is None else Watch(kept, found)

    def add(self, item: Any) -> None:
        """Note an item, as it is now: the consumer may change it."""
        if self.whole:
            try:
                self.items.append(copy.deepcopy(item))
            except Exception as error:
                self.whole = False
                cause = EncodeError(f"an item can't be copied: {error}")
                if self.kept.broke(cause):
                    raise cause from error

    def rest(self) -> None:
        """The consumer goes on."""
        if self.looked is not None:
            self.looked.leave()

    def resume(self) -> None:
        """The body goes on."""
        if self.looked is not None:
            self.looked.enter()

    def end(self, returned: Any = None) -> None:
        """The generator has ended: keep what it gave."""
        call: Call | None = None
        try:
            if self.whole and self.found is not None:
                self.kept.counts.computed += 1
                self.kept.locator.spent = seconds(self.began)
                if self.watch is not None and not self.watch.ended():
                    return
                found = self.found
                if self.looked is not None:
                    self.looked.leave()
                    if (wider := self.looked.located(found)) is None:
                        return
                    self.found = found = wider
                result = [self.items, returned]
                call = store(self.kept, self.found, result, self.caller, self.began, "items")
        finally:
            self.record(call)

    def record(self, call: Call | None = None, error: BaseException | None = None) -> None:
        """Tell the run that is open, if any, how it ended."""
        if OPEN:
            record(self.kept, self.found, self.caller, self.began, call, error)


def find(
    kept: Kept[..., Any], values: tuple[Any, ...], given: Given, again: bool
) -> tuple[Any, Given, Located | None]:
    """What is recorded, or `MISSING`; what to call the body with; and where it will be recorded.

    Raises:
        NotKept: an argument is the digest of what is not kept.
    """
    found: Located | None = None
    try:
        found = kept.locate(values)
        if found is not None and not again:
            result = look(kept, found.cache, found.key)
            if result is MISSING and not kept.locator.settled(found):
                found = kept.locate(values)  # see `flow.keeping`
                result = look(kept, found.cache, found.key) if found is not None else MISSING
            if result is not MISSING:
                return result, given, found
    except (ConfigError, NewerSchema, NotKept):
        raise
    except Exception as error:
        if kept.broke(error):
            raise
    return MISSING, resolved(kept, given), found


class KeptGenerator(Kept[Any, Any]):
    """A kept generator function."""

    def __call__(self, /, *args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        return self._unbound(args, kwargs)  # type: ignore[no-any-return]  # a generator function's

    def _through(self, values: tuple[Any, ...], given: Given) -> Any:
        return self._iterate(values, given)

    def _iterate(
        self, values: tuple[Any, ...], given: Given, again: bool = False
    ) -> Generator[Any, Any, Any]:
        recorded, (args, kwargs), found = find(self, values, given, again)
        if recorded is not MISSING:
            items, returned = recorded
            yield from items
            return returned
        recording = Recording(self, found)
        body = self.__wrapped__(*args, **kwargs)
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
        except GeneratorExit:  # left early, which is neither
            raise
        except BaseException as error:
            recording.record(error=error)
            raise
        finally:
            body.close()
            recording.rest()

    def load(self, /, *args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        return self.replayed(self._load(self._values(args, kwargs)))

    def gather(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        items, iterator = [], self(*args, **kwargs)
        while True:
            try:
                items.append(next(iterator))
            except StopIteration as stop:
                return [items, stop.value]

    def replayed(self, gathered: Any) -> Generator[Any, Any, Any]:
        items, returned = gathered
        yield from items
        return returned

    def rerun(self, /, *args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        return self._iterate(self._values(args, kwargs), (args, kwargs), again=True)
