"""A kept function: what `@keep` makes of one."""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine, Iterable, Iterator
from typing import (
    TYPE_CHECKING,
    Any,
    ClassVar,
    Concatenate,
    Generic,
    Literal,
    ParamSpec,
    Self,
    TypeVar,
    overload,
)

from wellkept.caches import Cache, active, named
from wellkept.errors import REPLAYING, ConfigError, Undigestible, shortening, tell
from wellkept.interrupts import settle
from wellkept.memo.bound import Bound, BoundCall
from wellkept.memo.digest_arguments import counted, loaded, resolved
from wellkept.memo.flow import advance, drive, formerly, keeping, look, put
from wellkept.memo.keep_options import GIVEN, Options, checked_replicate
from wellkept.memo.kept_target import KeptTarget
from wellkept.memo.key import Locator
from wellkept.memo.pickling import binds, body_of, digested, followed, reduced, shown, wear
from wellkept.memo.plain_calls import Same, start
from wellkept.memo.refresh import OPEN as REFRESHING
from wellkept.memo.refresh import refresh
from wellkept.memo.stats import Stats
from wellkept.memo.target import (
    MISSING,
    Given,
    Raise,
    Target,
    broke,
    heard,
    not_kept,
    outcome,
)
from wellkept.records import Call, Digest
from wellkept.runs.collectors import Collectors, parse
from wellkept.runs.listeners import logger
from wellkept.runs.recorder import HEARD

if TYPE_CHECKING:
    from concurrent.futures import Executor, Future

    from wellkept.memo.batch_commits import Batch
    from wellkept.query import Matches
    from wellkept.runs.causes import Plan
    from wellkept.runs.explain import Explanation
    from wellkept.runs.profile import Profile
    from wellkept.stores.reports import Evicted

__all__ = ["BoundCall", "Kept"]

P = ParamSpec("P")
Q = ParamSpec("Q")
R = TypeVar("R", covariant=True)
S = TypeVar("S")
T = TypeVar("T")

_NEVER = float("inf")
_UNBOUND: Any = object()


class Kept(Generic[P, R]):
    """A function whose results outlive the process. Made by `keep`; calls like the function.

    Attributes:
        __wrapped__: the function itself.
        options: what `keep` was told.
        function_name: the identity under which its calls are kept.
    """

    __wrapped__: Callable[P, R]
    __name__: str
    __qualname__: str
    awaits = False
    """Whether a call gives a coroutine."""
    generates = False
    """Whether it gives a generator, of either kind."""

    def __init__(self, function: Callable[P, R], options: Options, method: str = "") -> None:
        wear(self, function)
        self.__wrapped__ = function
        self.body: Callable[..., Any] = function
        """What computes one call."""
        self.options = options
        self.counts: Stats = Stats()
        self._method = method or ("" if binds(function) else "static")
        # This imports inspect, which takes a while.
        from wellkept.memo.binder import Binder

        self._binder = Binder(
            function, options.ignore, options.require, options.ordered, options.secret
        )
        if options.key is not None:
            self._binder.check_key(options.key)
        self._bind = self._binder.bind
        self._cache = options.cache if isinstance(options.cache, Cache) else None
        self.locator: Locator = Locator(function, options, self._binder)
        self.collectors: Collectors | None = parse(options.meta)
        self._told: set[str] = set()
        self._replicates: dict[int, Kept[P, R]] = {}
        self._replicated: Kept[P, R] | None = None
        usual = options.usual() and self.locator.quick
        self.plain: bool = usual and not (self.awaits or self.generates)
        """Whether calls may go the short way; see `plain_calls`."""
        self.same: Same | None = None
        # From here on, if the program has imported logging, its levels are followed.
        logger("hits")

    # -- calling ----------------------------------------------------------------------------------

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> R:
        try:
            values = self._bind(*args, **kwargs)
        except TypeError:
            result = _UNBOUND
        else:
            result = self._glance(values)
        if result is MISSING:
            if not self._binder.same():
                values = self._values(args, kwargs)
            started = None
            try:
                if self.plain:
                    started, result = start(self, values)
                if started is not None:
                    try:
                        result = self.__wrapped__(*args, **kwargs)
                    except BaseException as error:
                        started.failed(error)
                        raise
                    return started.done(result)  # type: ignore[no-any-return]  # as below
            finally:
                if started is not None:
                    started.end()
            if result is not MISSING:
                return result  # type: ignore[no-any-return]  # as below
            flow = keeping(KeptTarget(self, values), (args, kwargs))
            try:
                step, result = advance(flow)
                while step is not None:
                    try:
                        result = self.__wrapped__(*step[0], **step[1])
                    except BaseException as error:
                        step, result = advance(flow, Raise(error))
                        if type(result) is Raise and result.error is error:
                            result = None
                            raise
                    else:
                        step, result = advance(flow, result)
            finally:
                flow.close()
        elif result is _UNBOUND:
            return self._unbound(args, kwargs)  # type: ignore[no-any-return]  # the function's own
        if type(result) is Raise:
            raise result.error
        return result  # type: ignore[no-any-return]  # what was kept is what the function returns

    def in_batch(self, batch: Batch, /, *args: Any) -> Any:
        """Make a call whose result is written together with others."""
        try:
            values = self._bind(*args)
        except TypeError:
            return self._unbound(args, {})
        result = self._glance(values)
        if result is not MISSING:
            return result
        target = KeptTarget(self, values if self._binder.same() else self._values(args, {}))
        target.batch = batch
        return drive(target, (args, {}))

    def _values(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...]:
        """The arguments by the names that the function has for them now.

        Raises:
            TypeError: it takes no such arguments.
        """
        binder = self._binder
        if not binder.same():
            binder.renew()
            self._bind = binder.bind
            self.locator.renew()
        try:
            return self._bind(*args, **kwargs)
        except TypeError:
            if binder.exact:
                raise
            # Perhaps it takes more than it tells.
            return GIVEN, args, kwargs

    def _unbound(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Make a call whose arguments could not be bound."""
        try:
            values = self._values(args, kwargs)
        except TypeError:
            pass
        else:
            return self._through(values, (args, kwargs))
        # The function itself says what is wrong, in its own words.
        return self.__wrapped__(*args, **kwargs)

    def _through(self, values: tuple[Any, ...], given: Given) -> Any:
        return drive(KeptTarget(self, values), given)

    def _glance(self, values: tuple[Any, ...]) -> Any:
        """The result, if it is kept and nothing has to be hashed to find it; otherwise `MISSING`.

        The short way of a hit. Whatever is unusual is left to the flow, which looks again.
        """
        all_known, same = self.locator.current
        try:
            known = all_known.get(tuple(map(type, values)))
        except TypeError:
            # A metaclass may make its classes unhashable.
            return MISSING
        if known is None:
            return MISSING
        key = known.get(values)
        if key is None or REFRESHING or not (same is None or same()):
            return MISSING
        try:
            cache = self._cache or (active() if self.options.cache is None else self.cache)
            entry = cache.glance(key)
            if entry is None:
                return MISSING
            body = entry.body
            if (
                body.state
                or self.options.output
                or (body.expires != _NEVER and body.expires <= time.time())
            ):
                return MISSING
            # Decoded already? Read first, as another thread may do that now.
            if entry.envelope is None:
                entry.hot, result = True, entry.value
            else:
                result = cache.value(key, entry)
        except Exception:  # noqa: BLE001  the flow meets it too, and deals with it
            return MISSING
        except BaseException:
            # The interrupt may have come between any two instructions.
            settle()
            raise
        if HEARD:
            heard(self.locator.identity, key, entry)
        uses = cache._uses
        uses[key] = uses.get(key, 0) + 1
        counts = self.counts
        counts.hits += 1
        counts.seconds_saved += body.seconds
        return result

    # In this order: a classmethod, a method of a class, of an instance, and a staticmethod. mypy
    # tells them apart only where `self` is said to be any callable.
    @overload
    def __get__(  # type: ignore[misc]  # see above
        self: Callable[Concatenate[type[S], Q], T], instance: object, owner: type[S]
    ) -> Bound[Q, T]: ...
    @overload
    def __get__(self, instance: None, owner: type) -> Kept[P, R]: ...
    @overload
    def __get__(
        self: Callable[Concatenate[S, Q], T], instance: S, owner: type | None = None
    ) -> Bound[Q, T]: ...
    @overload
    def __get__(self, instance: object, owner: type | None = None) -> Kept[P, R]: ...
    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        if self._method == "static":
            return self
        if self._method == "class":
            return Bound(self, owner if owner is not None else type(instance))
        return self if instance is None else Bound(self, instance)

    # -- asking -----------------------------------------------------------------------------------

    def key(self, /, *args: P.args, **kwargs: P.kwargs) -> Digest:
        """The digest that names a call.

        Raises:
            Undigestible: an argument has no identity, or a required one is missing.
        """
        return Digest.of(self._located(self._values(args, kwargs)).key)

    def contains(self, /, *args: P.args, **kwargs: P.kwargs) -> bool:
        """Whether a call is kept and has not expired. Nothing runs, nothing is loaded."""
        found = self._located(self._values(args, kwargs))
        entry = found.cache.find(found.key)
        return entry is not None and entry.body.expires > time.time()

    @shortening
    def load(self, /, *args: P.args, **kwargs: P.kwargs) -> R:
        """The kept result; the body never runs. A kept exception is raised.

        Raises:
            NotKept: there is none.
        """
        return self._load(self._values(args, kwargs))  # type: ignore[no-any-return]  # as in __call__

    def _load(self, values: tuple[Any, ...]) -> Any:
        found = self._located(values)
        result = look(found, old=True)
        if result is MISSING and self.options.code == "warn":
            result = formerly(found)
        if result is MISSING:
            raise not_kept(found)
        return outcome(result)

    def call(self, /, *args: P.args, **kwargs: P.kwargs) -> Call:
        """The record of a call: as it is kept, or else what is known of it before, with the state
        `not kept`.

        Raises:
            Undigestible: see `key`.
        """
        found = self._located(self._values(args, kwargs))
        found.cache.flush()
        call = found.cache.calls.get(found.key.hex())
        return found.planned() if call is None else call

    def query(self, /, *args: Any, **kwargs: Any) -> Matches:
        """The kept calls of this function, whatever its code was, with these arguments.

        Args:
            args, kwargs: values, digests, `wellkept.ANY`, or `wellkept.between(…)` and its like; what is not
                said may be anything. Other conditions go into `.where(…)` of the answer.

        Raises:
            ConfigError: the function has no such argument, or it does not count.
            Undigestible: a value has no identity.
        """
        # Who only calls the function has no need of it.
        from wellkept.memo.inspection import query

        return query(self, args, kwargs)

    def explain(self, /, *args: P.args, **kwargs: P.kwargs) -> Explanation:
        """Why this call would be a hit or a miss now. Nothing is computed, written or counted."""
        # See above.
        from wellkept.memo.inspection import explain

        return explain(self, self._values(args, kwargs))

    def plan(self, /, *iterables: Iterable[Any]) -> Plan:
        """Which of the calls that `map` would make with these would be computed, why, about how long that
        takes, and what it costs. Nothing is computed or written.

        Raises:
            Undigestible: some have no identity; it says which.
            TypeError: the function takes no such arguments.
            StoreError: the cache can't be read.
        """
        return self._plan((items, {}) for items in zip(*iterables, strict=False))

    def _plan(self, calls: Iterable[Given]) -> Plan:
        # See above.
        from wellkept.memo.planning import plan

        return plan(self, [self._values(*given) for given in calls])

    @shortening
    def profile(self, /, *args: P.args, **kwargs: P.kwargs) -> Profile:
        """Whether keeping this call pays, measured. It is made first, where it is not kept."""
        # See above.
        from wellkept.memo.inspection import profile

        return profile(self, self._values(args, kwargs), (args, kwargs))

    def stats(self) -> Stats:
        """What this function did in this process."""
        return self.counts

    @property
    def cache(self) -> Cache:
        """The cache that calls go to now.

        Raises:
            ConfigError: the configuration is wrong.
            StoreError: it can't be opened.
        """
        if self._cache is not None:
            return self._cache
        chosen = self.options.cache
        if not isinstance(chosen, str):
            return active()
        try:
            return named(chosen)
        except ConfigError as error:
            raise ConfigError(f"{self.__qualname__}: cache={chosen!r}: {error}") from error

    # -- doing ------------------------------------------------------------------------------------

    @overload
    def rerun(self, /, *args: P.args, **kwargs: P.kwargs) -> R: ...
    @overload
    def rerun(self, /, *args: Any, deep: bool, **kwargs: Any) -> R: ...
    @shortening
    def rerun(self, /, *args: Any, **kwargs: Any) -> Any:
        """Compute again and replace what is kept.

        Args:
            deep: the kept calls that its body makes, too, once each, as in a `refresh` block; of a generator
                all is computed at once. A function that takes a `deep` itself is given it: use
                `with wellkept.refresh():` around its `rerun`.
        """
        if self._deep(kwargs):
            with refresh():
                return self._again(args, kwargs)
        values = self._values(args, kwargs)
        return self._run(KeptTarget(self, values), (args, kwargs), again=True)

    def _deep(self, kwargs: dict[str, Any]) -> bool:
        """Whether what is called is to be computed again too; takes that out of the arguments."""
        binder = self._binder
        own = binder.var_kwargs is not None or not binder.exact or "deep" in binder.keywords()
        return not own and bool(kwargs.pop("deep", False))

    def _again(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Make a call in a `refresh` block."""
        return self.replayed(self.gather(args, kwargs))

    def put(self, result: Any, /, *args: P.args, **kwargs: P.kwargs) -> Call:
        """Keep a result that was had elsewhere as that of a call, in place of what is kept; nothing runs.

        Args:
            result: what the call is to give: of a coroutine what it gives when awaited, of a generator its
                items.

        Raises:
            Undigestible: see `key`.
            EncodeError: the result can't be encoded.
            StoreError: it can't be written.
        """
        return put(self._located(self._values(args, kwargs)), *self._as_kept(result))

    def _as_kept(self, result: Any) -> tuple[Any, str]:
        """What is kept of a result, and the state of the record."""
        return result, "done"

    def _run(self, target: Target, given: Given, again: bool = False) -> Any:
        """Make a call and wait for its end."""
        return drive(target, given, again)

    def gather(
        self,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        make: Callable[[tuple[Any, ...]], Target] | None = None,
    ) -> Any:
        """Make a call and work it off: what `replayed` makes its result of, perhaps elsewhere.

        Args:
            make: makes another target of its values than one of this function.
        """
        return self._run(self._target(args, kwargs, make), (args, kwargs))

    def _target(
        self,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        make: Callable[[tuple[Any, ...]], Target] | None,
    ) -> Target:
        values = self._values(args, kwargs)
        return KeptTarget(self, values) if make is None else make(values)

    def replayed(self, gathered: Any) -> Any:
        """What a call gives, from what it is kept as."""
        return gathered

    def forget(self, /, *args: P.args, **kwargs: P.kwargs) -> bool:
        """Forget one call; whether it was kept.

        Raises:
            StoreError: the store can't be written.
        """
        found = self._located(self._values(args, kwargs))
        return found.cache.forget(found.key)

    @shortening
    def fresh(self, /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Compute this call now, whatever is kept of it, and keep the result: `rerun` by another name."""
        return self.rerun(*args, **kwargs)

    def replicate(self, number: int) -> Kept[P, R]:
        """Return the function with results of its own for the same calls: to sample it several times.

        Args:
            number: 0 is the function itself.

        Raises:
            ConfigError: it is no number from 0 up.
        """
        if checked_replicate(number) == self.options.replicate:
            return self
        found = self._replicates.get(number)
        if found is None:
            options = self.options._replace(replicate=number)
            found = type(self)(self.__wrapped__, options, self._method)
            found._replicated = self
            self._replicates[number] = found
        return found

    def evict(self, /, *args: Any, **kwargs: Any) -> Evicted:
        """Throw away the kept calls with these arguments, whatever the function's code was then; what is
        not given may be anything.

        Raises:
            ConfigError: no argument is given (`clear` throws all calls away), or no such argument.
            StoreError: the store can't be written.
        """
        if not args and not kwargs:
            raise ConfigError(
                f"{self.__qualname__}.evict() takes arguments of calls; {self.__qualname__}.clear() "
                "throws all of them away"
            )
        return self.cache.evict(self.query(*args, **kwargs))

    def clear(self, *, dry_run: bool = False) -> Evicted:
        """Throw all kept calls of this function away, whatever its code was then.

        Args:
            dry_run: only say what would go.

        Raises:
            StoreError: the store can't be written.
        """
        return self.cache.evict(self.query(), dry_run=dry_run)

    cache_clear = clear
    """As with `functools.lru_cache`."""

    @overload
    def bind(self, /, *args: P.args, **kwargs: P.kwargs) -> BoundCall[R]: ...
    @overload
    def bind(self, /, *args: Any, **kwargs: Any) -> BoundCall[R]: ...
    def bind(self, /, *args: Any, **kwargs: Any) -> BoundCall[R]:
        """This call, to be made later or elsewhere: it pickles. What is not given now is given when it is
        called: `f.bind(10)(5)`.

        Raises:
            TypeError: the function takes no such arguments.
        """
        # A wrong call fails here, not on the other machine.
        self.check_given(args, kwargs)
        return BoundCall(self, args, kwargs)

    def check_given(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Raise the TypeError of a call that no further arguments make right."""
        try:
            self._values(args, kwargs)
        except TypeError:
            try:
                self._binder.signature.bind_partial(*args, **kwargs)
            except TypeError:
                pass
            else:
                return
            raise

    @overload
    def submit(
        self: Kept[P, Coroutine[Any, Any, T]],
        executor: Executor,
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> Future[T]: ...
    @overload
    def submit(self, executor: Executor, /, *args: P.args, **kwargs: P.kwargs) -> Future[R]: ...
    def submit(self, executor: Executor, /, *args: P.args, **kwargs: P.kwargs) -> Any:
        """Run one call in an executor of `concurrent.futures`, or its like; a kept one is done at
        once, and an equal one that is under way there is waited for. See `wellkept.executor`.
        """
        from wellkept.memo.executor import submit

        return submit(executor, self.bind(*args, **kwargs))

    @overload
    def map(  # type: ignore[overload-overlap]  # a coroutine's own is told first
        self: Kept[..., Coroutine[Any, Any, T]],
        *iterables: Iterable[Any],
        executor: Executor | None = ...,
        progress: bool | None = ...,
    ) -> Coroutine[Any, Any, list[T]]: ...
    @overload
    def map(
        self,
        *iterables: Iterable[Any],
        executor: Executor | None = ...,
        progress: bool | None = ...,
        ordered: Literal[True] = ...,
    ) -> list[R]: ...
    @overload
    def map(
        self,
        *iterables: Iterable[Any],
        executor: Executor | None = ...,
        progress: bool | None = ...,
        ordered: Literal[False],
    ) -> Iterator[R]: ...
    @shortening
    def map(
        self,
        *iterables: Iterable[Any],
        executor: Executor | None = None,
        progress: bool | None = None,
        ordered: bool = True,
    ) -> Any:
        """Call for each item (or each tuple across several iterables); a list of the results, in order.

        Args:
            executor: where what is not kept is computed: one of `concurrent.futures`, or its like.
            progress: show a bar on standard error; None: if that is a terminal.
            ordered: False for an iterator that gives each result as soon as it is there.
        """
        from wellkept.memo.executor import map_calls

        return map_calls(self, iterables, progress, executor, ordered)

    # -- identity ---------------------------------------------------------------------------------

    @property
    def function_name(self) -> str:
        """The name under which calls are kept."""
        return self.locator.name()

    @property
    def code_tag(self) -> str:
        """The code identity or version that is part of every key."""
        return self.locator.identity()[1]

    def locate(self, values: tuple[Any, ...]) -> KeptTarget | None:
        """Return where a call is kept; None for one that is not to be kept.

        Raises:
            Undigestible: an argument has no identity.
            ConfigError, StoreError: there is no cache.
        """
        target = KeptTarget(self, values)
        return target if self._binder.keepable(values) and target.locate() else None

    def _located(self, values: tuple[Any, ...]) -> KeptTarget:
        found = self.locate(values)
        if found is None:
            raise Undigestible(f"{self.__qualname__} keeps no call {self.without()}")
        return self._located(values) if found.learn() else found

    def without(self) -> str:
        """Without what no call is kept, or while what stands in the place of code."""
        needed = ", ".join(sorted(self._binder.require))
        return f"without {needed}" if needed else "while a mock stands for something that it calls"

    loaded = loaded
    resolved = resolved
    _counted = counted
    __followed__ = followed
    __dir__ = shown
    __digest__: ClassVar[Callable[[Any], tuple[Any, ...]]] = digested
    __dask_tokenize__: ClassVar[Callable[[Any], tuple[Any, ...]]] = digested

    # -- trouble ----------------------------------------------------------------------------------

    def broke(self, error: Exception) -> bool:
        """Count and tell of a failure of caching; whether the caller is to get it (`strict`)."""
        return broke(self, error)

    def warn(self, kind: str, text: str) -> None:
        """Warn once a function and kind of trouble."""
        if kind not in self._told:
            self._told.add(kind)
            try:
                tell(f"{self.__qualname__}: {text}")
            except BaseException:
                # Where warnings are errors, each call gets one, not only the first.
                self._told.discard(kind)
                raise

    def __repr__(self) -> str:
        return f"<kept {self.__qualname__}>"

    def __copy__(self) -> Self:
        """Return itself: a copy of a function is the function."""
        return self

    def __deepcopy__(self, _: Any) -> Self:
        return self

    # A path to the function, by which it pickles.
    _body = property(body_of)
    __reduce__ = reduced


REPLAYING.add(Kept.__call__.__code__)
