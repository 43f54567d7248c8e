"""A call where nothing is unusual, made in a short way: a plain function, plain arguments, the usual options.

Here such a call takes the steps of `flow` without its generators. Whatever is unusual (a kept result that is
stale, a lease of somebody else, code that changed, a listener) is left to the flow, which looks again.
"""

from __future__ import annotations

import copy
import sys
import threading
import weakref
from collections.abc import Callable, Iterable
from time import perf_counter
from typing import TYPE_CHECKING, Any, NamedTuple

from wellkept.caches import Cache, settings
from wellkept.caches.active import inherited
from wellkept.errors import KeptError, Undigestible
from wellkept.hashing import SCALARS
from wellkept.interrupts import settle
from wellkept.memo import observed
from wellkept.memo.flow import ALONE, ended, left
from wellkept.memo.futures import PENDING
from wellkept.memo.inflight import Flight, Landing, flights
from wellkept.memo.kept_target import KeptTarget
from wellkept.memo.key import Coding
from wellkept.memo.refresh import OPEN as REFRESHING
from wellkept.memo.target import MISSING, TROUBLES, Items, Raise, hidden, lost, recorded
from wellkept.records import Arguments, Metadata, is_short
from wellkept.runs.collectors import begin, blocks, configured, directory, taken
from wellkept.runs.listeners import INFO, LISTENERS, MISSES, SLOW, listening
from wellkept.runs.recorder import OPEN

if TYPE_CHECKING:
    from wellkept.memo.batch_commits import Batch


_PLAIN = SCALARS | {list, tuple, dict, set}
"""Types of most results: none of them stands for a result that is still to come."""


_LONG = None, MISSING


class Same(NamedTuple):
    """What is the same for the calls of a function until something changes."""

    place: weakref.ref[Cache]
    """The cache, which a function does not keep alive."""
    coding: Coding
    target: KeptTarget
    """A call without arguments, cache and function."""
    settings: Any
    shown: Callable[[Any], bool]
    """Which arguments a record shows."""

    def whole(self, kept: Any, cache: Cache) -> KeptTarget:
        """Return a call of the function there."""
        target = copy.copy(self.target)
        target.kept, target.cache = kept, cache
        return target


Located = tuple[tuple[Any, ...], bytes, Items]
"""Of a call: the values of its arguments, its key, and the arguments that count."""


def same_of(kept: Any) -> tuple[Cache, Same] | None:
    """Return the cache of the next calls and what is the same for them; None while something is unusual."""
    binder, coding = kept._binder, kept.locator._coding
    cache: Cache
    try:
        cache, configuration = kept.cache, settings()
    except KeptError:
        # The flow meets it too, and deals with it.
        return None
    if coding is None or coding.classes or not (coding.same is None or coding.same()):
        return None
    said = inherited(blocks)
    if said or not binder.same():
        return None
    known: Same | None = kept.same
    if (
        known is not None
        and known.coding is coding
        and known.place() is cache
        and known.settings is configuration
        and coding.facts[0] is cache.noted
    ):
        return cache, known
    own, every = kept.collectors, configured()
    if (
        not kept.plain
        or not (binder.simple and binder.exact and not binder.ordered)
        or (own is None or own.by_name or every.by_name)
        or (coding.mocked or (coding.deep is not None and coding.deep.depends))
        or not cache.backend.commits_many
        or cache.backend.codec != "pickle"
        or (coding.base and coding.wider_note not in cache.noted)
    ):
        return None
    target = KeptTarget(kept, ())
    target.cache, target.scalars = cache, True
    target.name, target.code, target.same = coding.name, coding.tag, coding.all_same
    target.asked = every
    shown = hidden if recorded(kept.options) == "digests" else is_short
    # From here on `coding.facts` is of this cache.
    target.facts()
    # No function is to keep itself alive, or a cache.
    del target.cache, target.kept
    place = weakref.ref(cache)
    known = kept.same = Same(place, coding, target, configuration, shown)
    return cache, known


def parent(caller: Flight | None) -> str:
    """Return what a record says of the call that makes it."""
    return "" if caller is None or caller.key is None else f',"parent":"{caller.key.hex()}"'


def located(kept: Any, coding: Coding, calls: Iterable[tuple[Any, ...]]) -> list[Located | None]:
    """Return where each of some calls is; None where that is known already, or not as plain as this.

    Args:
        calls: the values of the arguments of each.
    """
    found: list[Located | None] = []
    plain_key, kinds, known = kept.locator.plain_key, None, {}
    for values in calls:
        one = None
        try:
            types = tuple(map(type, values))
            if types != kinds and SCALARS.issuperset(types):
                kinds, known = types, coding.known.get(types, {})
            if types == kinds and values not in known:
                one = values, *plain_key(values, coding)
        except (TypeError, Undigestible):
            # A class can't be hashed.
            pass
        found.append(one)
    return found


def start(kept: Any, values: tuple[Any, ...]) -> tuple[Started | None, Any]:
    """Return what is begun where nothing is kept, or what is kept; `MISSING` leaves the call to the flow.

    The caller runs the body in its own frame, as a recursive function goes deeper then and a traceback shows no
    other, and has no call between its `finally` and `Started.end`: interrupts come with calls.
    """
    types = tuple(map(type, values))
    try:
        if not SCALARS.issuperset(types):
            return _LONG
    except TypeError:
        # A metaclass may make its classes unhashable.
        return _LONG
    found = same_of(kept)
    if found is None or LISTENERS or OPEN or REFRESHING or PENDING:
        return _LONG
    cache, same = found
    coding, started, flight, begun = same.coding, None, None, False
    if values in coding.known.get(types, ()):
        return _LONG
    try:
        key, items = kept.locator.plain_key(values, coding)
    except Undigestible:
        return _LONG
    kept.locator.remember(values, key, coding)
    try:
        seen = cache.token()
        if seen is None:
            return _LONG
        if cache.find(key) is not None:
            # It is known by now.
            return None, kept._glance(values)
        caller, landing = flights.caller(), Landing()
        flight = Flight(caller, cache.backend.locks, key, None, landing)
        call = values, key, items
        started = Started(kept, cache, same, call, parent(caller), None, landing)
        if (
            flight.take()
            and (cache.token() == seen or cache.find(key) is None)
            and (coding.all_same is None or coding.all_same())
        ):
            started.begin(flight)
            begun = True
            return started, MISSING
    except Exception:  # noqa: BLE001  the flow meets it too, and deals with it
        pass
    except BaseException:
        # The interrupt may have come between any two instructions.
        settle()
        raise
    finally:
        # Not only as they are let go of: what comes there is lost.
        if not begun:
            if started is not None:
                started.end()
            if flight is not None:
                flight.end()
    return _LONG


class Started:
    """A call that is leased and not kept.

    Args:
        kept: the function.
        cache: where it is to be kept.
        same: what holds for all calls of its function.
        call: where it is.
        by: what its record says of the call that made it.
        batch: what its result is written with; None: it is written at once.
        landing: ends its computation with this, where that is its own.

    It begins, fails or is done, and ends.
    """

    __slots__ = (
        "_alone",
        "_batch",
        "_began",
        "_by",
        "_cache",
        "_call",
        "_entered",
        "_flight",
        "_here",
        "_kept",
        "_landing",
        "_looked",
        "_same",
        "_started",
        "_target",
        "_threads",
        "_where",
        "body",
    )

    _began: Any
    _here: Flight

    def __init__(
        self,
        kept: Any,
        cache: Cache,
        same: Same,
        call: Located,
        by: str,
        batch: Batch | None,
        landing: Landing | None = None,
    ) -> None:
        self._kept, self._cache, self._same, self._call = kept, cache, same, call
        self._by, self._batch = by, batch
        self._landing = landing
        self._flight: Flight | None = None
        self._entered = False
        self._target = same.target
        self.body = same.target.call

    def begin(self, flight: Flight, here: Flight | None = None) -> None:
        """The body is about to run.

        Args:
            flight: has the lease.
            here: the computation, where that is another one.
        """
        model = self._same.target
        self._flight, self._here = flight, here or flight
        self._where = directory()
        self._here.enter()
        self._entered = True
        self._began = begin()
        self._alone = ALONE[0]
        self._threads = None if model.same is None else threading.enumerate()
        self._looked = observed.begin(model.bodies, model.options.observe)
        self._started = perf_counter()

    def failed(self, error: BaseException) -> None:
        """The body has raised."""
        left(self._target.bodies, self._looked, self._started)
        self._unusual(Raise(error))

    def done(self, result: Any) -> Any:
        """Keep what the body gave; return what the call gives."""
        model, same = self._target, self._same
        model.bodies.spent = took = perf_counter() - self._started
        holds, key = model.same, self._call[1]
        noted, facts = same.coding.facts
        if (
            self._looked is not None
            or type(result) not in _PLAIN
            or took >= SLOW
            or self._here.outdated
            or self._alone != ALONE[0]
            or key in TROUBLES
            or REFRESHING
            or OPEN
            or (
                MISSES[0].isEnabledFor(INFO) if MISSES else "logging" in sys.modules and listening()
            )
            or not (holds is None or holds())
            or noted is not self._cache.noted
        ):
            if self._looked is not None:
                self._looked.leave()
            return self._unusual(result)
        model.counts.computed += 1
        try:
            text = f"{{{taken(self._began)},{facts}{self._where}{self._by}}}"
            made = self._cache.made(
                key,
                result,
                model.name,
                model.code,
                Arguments(self._call[2], same.shown),
                "done",
                perf_counter() - self._began[1],
                model.options.ttl,
                "pickle",
                Metadata(text),
            )
            if self._batch is None:
                self._cache.keep_all(((key, result, *made),))
            else:
                self._batch.add(model, (key, result, *made))
        except Exception as error:
            if lost(self._full(), error):
                raise
        return result

    def _unusual(self, result: Any) -> Any:
        self._target = target = self._full()
        assert self._flight is not None
        caller = self._flight.parent
        return ended(target, result, caller, self._began, self._looked, self._threads, self._alone)

    def _full(self) -> KeptTarget:
        """Return the call as the flow sees it."""
        target = self._same.whole(self._kept, self._cache)
        target.values, target.key, target.items = self._call
        target.batch, target.flight, target.before = self._batch, self._here, {"": self._where}
        return target

    def end(self) -> None:
        """Let go of its lease, once its result is written; called as it is left, in whatever way."""
        try:
            if self._batch is None:
                kind = sys.exc_info()[0]
                if kind is not None and not issubclass(kind, Exception):
                    settle()
            try:
                if self._entered:
                    self._here.leave()
            finally:
                if self._flight is not None and (
                    self._batch is None or not self._batch.holds(self._target, self._flight)
                ):
                    self._flight.end_of(self._call[1])
        except BaseException as error:
            # The interrupt may have come between any two instructions. Of a batch more is to come.
            if self._batch is None and not isinstance(error, Exception):
                settle()
            raise
