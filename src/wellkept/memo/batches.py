"""Functions of many items (`@keep(each=…)`): each item is a call, and the body gets those that are missing."""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Callable, Coroutine, Generator, Iterator, Sequence
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from wellkept.caches import Cache
from wellkept.caches.moving import kind_notes
from wellkept.caches.tier import FAILED
from wellkept.errors import (
    ConfigError,
    DecodeError,
    KeptError,
    NewerSchema,
    Undigestible,
    nearest,
    shorten,
    shortening,
)
from wellkept.hashing import buffer_digest
from wellkept.hashing.digests import call_keys
from wellkept.interrupts import settle, settling
from wellkept.memo.batch_commits import Batch
from wellkept.memo.containers import Container, Kind, kind_of, split
from wellkept.memo.executor import find_many
from wellkept.memo.flow import as_it_is, drive_async, keeping, serves
from wellkept.memo.inflight import Flight, current
from wellkept.memo.keep_options import titled
from wellkept.memo.kept import Kept
from wellkept.memo.kept_target import KeptTarget
from wellkept.memo.target import MISSING, Given, Raise, Target, heard, outcome
from wellkept.records import Digest
from wellkept.runs.recorder import HEARD, note_once, notes_of

if TYPE_CHECKING:
    from wellkept.runs.causes import Plan

Step = Generator[Given | float, Any, Any]
"""What a driver runs: it gives the arguments of a body and is sent its outcome, or seconds to wait."""


class KeptEach(Kept[Any, Any]):
    """A kept function of many items. It is called with all of them; what asks about one call (`key`,
    `contains`, `load`, `explain`, `forget`, `query`) takes one item in their place.
    """

    def __init__(self, function: Callable[..., Any], options: Any, method: str = "") -> None:
        super().__init__(function, options, method)
        name = options.each
        fixed = [
            n
            for n in self._binder.names
            if n not in (self._binder.var_args, self._binder.var_kwargs)
        ]
        if name not in fixed or name in self._binder.ignore:
            there = ", ".join(n for n in fixed if n not in self._binder.ignore) or "none"
            raise ConfigError(
                f"each={name!r} names no argument of {titled(function)}; it has {there}"
                f"{nearest(name, fixed)}"
            )
        self._at = self._binder.names.index(name)
        # Of a refresh, or to compare what is kept.
        self.body: Callable[..., Any] = self._one
        self.kinds: dict[str, bytes] = {}
        """What results are given in, by the names of notes."""

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        return self._drive(_Many(self, args, kwargs).steps())

    def rerun(self, /, *args: Any, **kwargs: Any) -> Any:
        """Compute all these items again, and replace what is kept of them."""
        return self._drive(_Many(self, args, kwargs, again=True).steps())

    def plan(self, /, *args: Any, **kwargs: Any) -> Plan:
        """Which items of this call would be computed; see `Kept.plan`. It takes what the function takes."""
        # Few calls are planned.
        from wellkept.memo.planning import plan

        many = _Many(self, args, kwargs)
        return plan(self, map(many._with, many.items))

    def gather(self, args: tuple[Any, ...], kwargs: dict[str, Any], make: Any = None) -> Any:
        return self(*args, **kwargs)

    @shortening
    @settling
    def _drive(self, steps: Step) -> Any:
        try:
            step = next(steps)
            while True:
                if type(step) is tuple:
                    try:
                        result = self.__wrapped__(*step[0], **step[1])
                    except BaseException as error:  # noqa: BLE001  the steps raise it, or keep it
                        # Here, so that one that is raised on keeps its context.
                        step = steps.send(Raise(error))
                    else:
                        step = steps.send(result)
                else:
                    time.sleep(step)  # type: ignore[arg-type]  # a float; see `Step`
                    step = next(steps)
        except StopIteration as stop:
            return stop.value
        finally:
            steps.close()

    def _one(self, *args: Any, **kwargs: Any) -> Any:
        values = list(self._values(args, kwargs))
        values[self._at] = [values[self._at]]
        return self.alone(values)

    def alone(self, values: Sequence[Any]) -> Any:
        """Call the body with a container of one item, and return the result of that."""
        args, kwargs = self._binder.spread(tuple(values))
        return split(self, self.__wrapped__(*args, **kwargs), values[self._at])[1][0]


class KeptEachCoroutine(KeptEach):
    """The same, where the body is a coroutine function."""

    awaits = True

    def _drive(self, steps: Step) -> Any:
        return self._drive_async(steps)

    async def _drive_async(self, steps: Step) -> Any:
        import asyncio

        try:
            step = next(steps)
            while True:
                if type(step) is tuple:
                    try:
                        result = await self.__wrapped__(*step[0], **step[1])
                    except BaseException as error:  # noqa: BLE001  as in `KeptEach._drive`
                        # As there.
                        step = steps.send(Raise(error))
                    else:
                        step = steps.send(result)
                else:
                    await asyncio.sleep(step)  # type: ignore[arg-type]  # a float; see `Step`
                    step = next(steps)
        except StopIteration as stop:
            return stop.value
        except BaseException as error:
            if not isinstance(error, Exception):
                settle()
            shorten(error)
            raise
        finally:
            steps.close()

    async def alone(self, values: Sequence[Any]) -> Any:
        args, kwargs = self._binder.spread(tuple(values))
        return split(self, await self.__wrapped__(*args, **kwargs), values[self._at])[1][0]

    def _run(self, target: Target, given: Given, again: bool = False) -> Any:
        # As in `KeptCoroutine`.
        import asyncio

        return asyncio.run(drive_async(as_it_is, target, given, again))

    def _through(self, values: tuple[Any, ...], given: Given) -> Coroutine[Any, Any, Any]:
        return self(*given[0], **given[1])  # type: ignore[no-any-return]  # see `_drive`


class _Item:
    """A missing item: where it stands, and the flow of its call, which stands before the body."""

    __slots__ = ("at", "due", "flight", "flow", "target")

    def __init__(self, at: int, target: KeptTarget, flow: Any) -> None:
        self.at, self.target, self.flow = at, target, flow
        self.flight: Flight | None = None
        self.due = 0.0
        """When to look again whether another has computed it, by the monotonic clock."""


class _Many:
    """One call with many items.

    Args:
        again: compute all of them, whatever is kept.
    """

    def __init__(self, kept: KeptEach, args: Any, kwargs: Any, again: bool = False) -> None:
        self.kept, self.again = kept, again
        self.given = kept.resolved((args, kwargs))
        # The function itself says what is wrong with arguments that it does not take.
        self.values = kept._values(*self.given)
        self.box = Container(self.values[kept._at], kept)
        self.items = self.box.items()
        if Digest in map(type, self.items):
            load = kept.cache.load
            self.items = [load(one) if type(one) is Digest else one for one in self.items]
            if self.box.kind not in ("list", "tuple"):
                raise ConfigError(
                    f"{kept.__qualname__}: digests in place of values come in a list or tuple, not in "
                    f"{kind_of({'in': self.box.kind})}"
                )
            # No body may run on a name in place of a value.
            self.box = Container(type(self.box.given)(self.items))
        self.results: list[Any] = [MISSING] * len(self.items)
        self.kind: Kind | None = None
        self.equal: dict[bytes, list[int]] = {}
        """Where items stand that are equal to one before them, by their keys."""
        self.waiting: list[_Item] = []
        self.open: list[_Item] = []

    def steps(self) -> Step:
        """Look up, compute what is missing, and put all together."""
        kept = self.kept
        if not self.items:
            return outcome((yield self.given))
        try:
            unique = self._look_up()
        except (ConfigError, NewerSchema):
            raise
        except Exception as error:
            if kept.broke(error):
                raise
            return (yield from self._unkept())
        try:
            yield from self._compute(unique)
            if self.kind is None and not any(type(one) is Raise for one in self.results):
                self.kind = _kind(kept.cache, kept, self.box)
            if self.kind is None and not any(type(one) is Raise for one in self.results):
                # Others computed all of it, and did not note what they gave it in.
                self.again = True
                yield from self._compute(unique)
        finally:
            for item in self.open:
                item.flow.close()
        for at, result in enumerate(self.results):
            if type(result) is Raise:
                self._name(result.error, [at])
                outcome(result)
        assert self.kind is not None
        return self.box.joined(self.kind, self.results)

    def _unkept(self) -> Step:
        """Compute all items without the cache, a batch at a time as well."""
        kept = self.kept
        for first in range(0, len(self.items), kept.options.batch):
            places = range(first, min(first + kept.options.batch, len(self.items)))
            values = self._with(self.box.some(places))
            result = outcome((yield kept._binder.spread(values)))
            kind, self.results[first : places.stop] = split(kept, result, values[kept._at])
            self._set_kind(kind, note=False)
        assert self.kind is not None
        return self.box.joined(self.kind, self.results)

    # -- what is kept -------------------------------------------------------------------------------

    def _look_up(self) -> dict[bytes, int]:
        """Fill in what is kept; where the first of each of the others stands, by their keys."""
        kept, cache = self.kept, self.kept.cache
        keys = self._keys()
        self.kind = _kind(cache, kept, self.box)
        missing: dict[bytes, int] = {}
        for at, key in enumerate(keys):
            if missing.setdefault(key, at) != at:
                self.equal.setdefault(key, []).append(at)
        if self.again:
            return missing
        # A share of the hits is computed again by their flows.
        entries = {} if kept.options.verify else find_many(cache, missing)
        if self.kind is None:
            # It is not known how to put together what is there, so it is computed again.
            self.again = bool(entries)
            return missing
        now, hits, saved, uses, results = time.time(), 0, 0.0, cache._uses, self.results
        for key, entry in entries.items():
            body = entry.body
            if body.expires <= now or not serves(key, entry):
                continue
            try:
                for at in (missing[key], *self.equal.get(key, ())):
                    # Decoded already? Read first, as another thread may do that now.
                    if entry.envelope is None and not body.state:
                        entry.hot, results[at] = True, entry.value
                    else:
                        value = cache.value(key, entry)
                        results[at] = Raise.of(value) if body.state == FAILED else value
            except DecodeError as error:
                kept.counts.damaged += cache.damage(key, error)
                continue
            many = 1 + len(self.equal.pop(key, ()))
            del missing[key]
            uses[key] = uses.get(key, 0) + many
            hits, saved = hits + many, saved + many * body.seconds
            if HEARD:
                for _ in range(many):
                    heard(kept.locator.identity, key, entry)
        kept.counts.hits += hits
        kept.counts.seconds_saved += saved
        return missing

    def _keys(self) -> list[bytes]:
        kept, values, at = self.kept, self.values, self.kept._at
        coding, name = kept.locator.coding(), kept.options.each
        if not (coding.classes or kept.options.key or coding.depends(values)):
            parts = kept.locator.digested(self._with(self.items[0]), coding)
            if sum(part[0] == name for part in parts) == 1:
                pairs = [(part[0], part[2]) for part in parts]
                raws = kept.locator.digests(self.items, name)
                return call_keys(coding.name, coding.tag, pairs, name, raws)
        found = []
        for item in self.items:
            target = KeptTarget(kept, (*values[:at], item, *values[at + 1 :]))
            if not target.locate():
                raise Undigestible(f"{kept.__qualname__} keeps no call {kept.without()}")
            found.append(target.key)
        return found

    def _with(self, item: Any) -> tuple[Any, ...]:
        at = self.kept._at
        return (*self.values[:at], item, *self.values[at + 1 :])

    def _alone(self, at: int, *_: Any, **__: Any) -> Any:
        return self.kept.alone(self._with(self.box.some([at])))

    # -- what is not --------------------------------------------------------------------------------

    def _compute(self, missing: dict[bytes, int]) -> Step:
        todo = iter(missing.values())
        most = self.kept.options.batch
        while ready := self._ready(todo, most):
            yield from self._run(ready)
        # Nothing is held here while others are waited for.
        while self.waiting:
            if ready := self._taken_over(most):
                yield from self._run(ready)
            elif self.waiting:
                yield max(0.0, min(item.due for item in self.waiting) - time.monotonic())
        for key, places in self.equal.items():
            for at in places:
                self.results[at] = self._another(key, self.results[missing[key]])

    def _another(self, key: bytes, result: Any) -> Any:
        """An equal item's result, which is no other's object where it can be copied."""
        if type(result) is Raise:
            return result
        try:
            entry = self.kept.cache.find(key)
            if entry is not None:
                return self.kept.cache.value(key, entry)
        except KeptError:
            # It is computed already, and has to reach the caller.
            pass
        try:
            return copy.deepcopy(result)
        except Exception:  # noqa: BLE001  it is anybody's code
            # What can't be copied is not kept either.
            return result

    def _ready(self, todo: Iterator[int], most: int) -> list[_Item]:
        """The next items that this call has to compute."""
        ready: list[_Item] = []
        for at in todo:
            target = KeptTarget(self.kept, self._with(self.items[at]))
            if self.open:
                # One observation of the batch is enough.
                target.options = target.options._replace(observe=False)
            # Of a refresh in the background: most are never called.
            target.call = partial(self._alone, at)
            flow = keeping(target, self.kept._binder.spread(target.values), self.again)
            item = _Item(at, target, flow)
            self.open.append(item)
            if self._advance(item):
                ready.append(item)
                if len(ready) >= most:
                    break
        return ready

    def _taken_over(self, most: int) -> list[_Item]:
        """Look for what others compute, where it is time to; the items that have to be computed here."""
        now = time.monotonic()
        waiting, self.waiting = self.waiting, []
        ready: list[_Item] = []
        for item in waiting:
            if item.due > now or len(ready) >= most:
                self.waiting.append(item)
            elif self._advance(item):
                ready.append(item)
        return ready

    def _advance(self, item: _Item, sent: Any = None) -> bool:
        """Go on with the flow of an item; whether it stands before the body now."""
        outside = current.get()
        try:
            step = item.flow.send(sent)
        except StopIteration as stop:
            self.results[item.at] = stop.value
            self.open.remove(item)
            return False
        finally:
            if (here := current.get()) is not outside:
                item.flight = here
                current.set(outside)
        if type(step) is tuple:
            return True
        item.due = time.monotonic() + step
        self.waiting.append(item)
        return False

    def _run(self, items: list[_Item]) -> Step:
        """Have the body compute these items, and keep the results in one transaction."""
        kept = self.kept
        outside = current.get()
        flights = [item.flight for item in items if item.flight is not None]
        # What the body calls is called by all of them: none may wait for another.
        for above, flight in pairwise(flights):
            flight.parent = above
        began = time.perf_counter()
        current.set(flights[-1] if flights else outside)
        values = list(self.values)
        values[kept._at] = self.box.some([item.at for item in items])
        try:
            result = yield kept._binder.spread(tuple(values))
        finally:
            current.set(outside)
            for flight in flights[1:]:
                flight.parent = flights[0].parent
        if type(result) is Raise:
            yield from self._failed(items, result)
            return
        kind, some = split(kept, result, values[kept._at])
        self._set_kind(kind)
        took = (time.perf_counter() - began) / len(items)
        with Batch() as batch:
            for item, value in zip(items, some, strict=True):
                item.target.batch, item.target.took = batch, took
                failed = isinstance(value, kept.options.errors or ())
                self._advance(item, Raise(value) if failed else value)

    def _failed(self, items: list[_Item], result: Raise) -> Step:
        """A body raised. If such an error is kept, it is that of one item, which is found by halves."""
        errors = self.kept.options.errors
        if len(items) > 1 and errors and isinstance(result.error, errors):
            half = len(items) // 2
            yield from self._run(items[:half])
            yield from self._run(items[half:])
            return
        for item in items:
            self._advance(item, result)
        if not (errors and isinstance(result.error, errors)):
            self._name(result.error, [item.at for item in items])
            raise result.error

    def _name(self, error: BaseException, places: Sequence[int]) -> None:
        name = self.kept.options.each
        first = self.items[places[0]]
        text = f"in {name}[{places[0]}]: {first!r:.80}"
        if len(places) > 1:
            text = f"in a batch of {len(places)} items of {name}, from number {places[0]} to {places[-1]}"
        if text not in getattr(error, "__notes__", ()):
            error.add_note(text)

    def _set_kind(self, kind: Kind, note: bool = True) -> None:
        if self.kind is None:
            self.kind = kind
            if not note:
                return
            name, item = (
                _kind_name(self.kept.locator.identity(), self.box),
                json.dumps(kind).encode(),
            )
            note_once(self.kept.cache, name, item)
            self.kept.kinds[name] = item
        elif self.kind != kind:
            raise ConfigError(
                f"{self.kept.__qualname__} returned {kind_of(kind)} here, and {kind_of(self.kind)} before: "
                "what is put together of kept and of new results has to be of one kind"
            )


def _kind_name(identity: tuple[str, str], box: Container) -> str:
    about = buffer_digest(json.dumps(box.about()).encode()).hex()[:24]
    return f"{kind_notes(*identity)}{about}"


def _kind(cache: Cache, kept: KeptEach, box: Container) -> Kind | None:
    """What the function gives its results in; None if that is not known, and so nothing can be put together."""
    function, code = kept.locator.identity()
    codes = [code]
    if kept.options.code == "warn":
        # What its former code gave may be served.
        from wellkept.memo.former import formers

        codes += [former for former, _ in formers(cache, function, code)]
    names = [_kind_name((function, one), box) for one in codes]
    return next((kind for name in names if (kind := _kind_of(cache, kept, name))), None)


def _kind_of(cache: Cache, kept: KeptEach, name: str) -> Kind | None:
    item: bytes | None = kept.kinds.get(name)
    if item is None or name not in cache.noted:
        item = notes_of(cache).get(name)
        if item is not None:
            kept.kinds[name] = item
            cache.noted.add(name)
    try:
        found = None if item is None else json.loads(item)
    except ValueError:
        return None
    return found if isinstance(found, dict) and isinstance(found.get("in"), str) else None
