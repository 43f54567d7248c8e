"""A kept method with its receiver, and a kept call that is made later."""

from __future__ import annotations

import contextlib
import copy
import itertools
import os
from collections.abc import Callable, Coroutine, Iterable, Iterator
from types import MethodType
from typing import TYPE_CHECKING, Any, Generic, Literal, ParamSpec, Self, TypeVar, overload

from wellkept.caches import active, used
from wellkept.caches.transport import BoundFunction, Carrier
from wellkept.errors import KeptError, shorten, shortening
from wellkept.hashing import digest_bytes
from wellkept.memo.inflight import Origin
from wellkept.records import Call, Digest, is_special

if TYPE_CHECKING:
    from concurrent.futures import Executor, Future

    from wellkept.caches import Cache
    from wellkept.memo.kept import Kept
    from wellkept.memo.stats import Stats
    from wellkept.query import Matches
    from wellkept.runs.causes import Plan
    from wellkept.runs.explain import Explanation
    from wellkept.runs.profile import Profile
    from wellkept.stores.reports import Evicted

__all__ = ["Bound", "BoundCall"]

P = ParamSpec("P")
R = TypeVar("R", covariant=True)
T = TypeVar("T")


class Bound(Generic[P, R]):
    """A kept method with its receiver: every method of `Kept`, with the receiver put first."""

    def __init__(self, kept: Kept[..., R], receiver: Any) -> None:
        self._kept = kept
        self.__self__: Any = receiver
        if not TYPE_CHECKING:
            self.__call__ = MethodType(kept.__call__, receiver)

    if TYPE_CHECKING:

        def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> R: ...

    else:
        # A method that is written in C makes no frame: methods that call themselves go deeper.
        __slots__ = ("__call__", "__self__", "__weakref__", "_kept")

    # By these two, `inspect`, and so Sphinx and frameworks, take it for the method that it is.
    @property  # type: ignore[misc]  # it is never set
    def __class__(self) -> Any:
        return MethodType

    def __dir__(self) -> list[str]:
        return sorted({*dir(self._kept), "__func__", "__self__"})

    def __get__(self, instance: Any, owner: type | None = None) -> Self:
        """Return itself, as a method does."""
        return self

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: Any) -> Bound[P, R]:
        return Bound(self._kept, copy.deepcopy(self.__self__, memo))

    def key(self, /, *args: P.args, **kwargs: P.kwargs) -> Digest:
        """See `Kept.key`; the others likewise."""
        return self._kept.key(self.__self__, *args, **kwargs)

    def contains(self, /, *args: P.args, **kwargs: P.kwargs) -> bool:
        return self._kept.contains(self.__self__, *args, **kwargs)

    @shortening
    def load(self, /, *args: P.args, **kwargs: P.kwargs) -> R:
        return self._kept.load(self.__self__, *args, **kwargs)

    def call(self, /, *args: P.args, **kwargs: P.kwargs) -> Call:
        return self._kept.call(self.__self__, *args, **kwargs)

    def query(self, /, *args: Any, **kwargs: Any) -> Matches:
        return self._kept.query(self.__self__, *args, **kwargs)

    def explain(self, /, *args: P.args, **kwargs: P.kwargs) -> Explanation:
        return self._kept.explain(self.__self__, *args, **kwargs)

    def profile(self, /, *args: P.args, **kwargs: P.kwargs) -> Profile:
        return self._kept.profile(self.__self__, *args, **kwargs)

    @overload
    def rerun(self, /, *args: P.args, **kwargs: P.kwargs) -> R: ...
    @overload
    def rerun(self, /, *args: Any, deep: bool, **kwargs: Any) -> R: ...
    def rerun(self, /, *args: Any, **kwargs: Any) -> Any:
        return self._kept.rerun(self.__self__, *args, **kwargs)

    def put(self, result: Any, /, *args: P.args, **kwargs: P.kwargs) -> Call:
        return self._kept.put(result, self.__self__, *args, **kwargs)

    def forget(self, /, *args: P.args, **kwargs: P.kwargs) -> bool:
        return self._kept.forget(self.__self__, *args, **kwargs)

    def fresh(self, /, *args: P.args, **kwargs: P.kwargs) -> R:
        return self._kept.fresh(self.__self__, *args, **kwargs)

    def replicate(self, number: int) -> Bound[P, R]:
        return Bound(self._kept.replicate(number), self.__self__)

    def evict(self, /, *args: Any, **kwargs: Any) -> Evicted:
        return self._kept.evict(self.__self__, *args, **kwargs)

    @overload
    def bind(self, /, *args: P.args, **kwargs: P.kwargs) -> BoundCall[R]: ...
    @overload
    def bind(self, /, *args: Any, **kwargs: Any) -> BoundCall[R]: ...
    def bind(self, /, *args: Any, **kwargs: Any) -> BoundCall[R]:
        return self._kept.bind(self.__self__, *args, **kwargs)

    @overload
    def submit(
        self: Bound[P, Coroutine[Any, Any, T]], executor: Any, /, *args: P.args, **kwargs: P.kwargs
    ) -> Future[T]: ...
    @overload
    def submit(self, executor: Any, /, *args: P.args, **kwargs: P.kwargs) -> Future[R]: ...
    def submit(self, executor: Any, /, *args: P.args, **kwargs: P.kwargs) -> Any:
        return self._kept.submit(executor, self.__self__, *args, **kwargs)

    @overload
    def map(  # type: ignore[overload-overlap]  # a coroutine's own is told first
        self: Bound[..., Coroutine[Any, Any, T]],
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
    def map(self, *iterables: Iterable[Any], **how: Any) -> Any:
        first = (itertools.repeat(self.__self__),) if iterables else ()
        return self._kept.map(*first, *iterables, **how)

    def plan(self, /, *iterables: Iterable[Any]) -> Plan:
        first = (itertools.repeat(self.__self__),) if iterables else ()
        return self._kept.plan(*first, *iterables)

    def stats(self) -> Stats:
        return self._kept.stats()

    @property
    def __func__(self) -> Kept[..., R]:
        return self._kept

    @property
    def __wrapped__(self) -> Callable[P, R]:
        return MethodType(self._kept.__wrapped__, self.__self__)

    @property
    def __doc__(self) -> str | None:  # type: ignore[override]  # the function's, not this class's
        return self._kept.__doc__

    @property
    def __annotations__(self) -> Any:  # type: ignore[override]  # as above
        # Whoever asks this class for its own, up to Python 3.13, makes it an empty dict, which its
        # instances would show from then on.
        return self._kept.__annotations__

    def __getattr__(self, name: str) -> Any:
        return getattr(self._kept, name)

    def __repr__(self) -> str:
        return f"<kept {self._kept.__qualname__} of {self.__self__!r}>"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Bound):
            return NotImplemented
        return self._kept is other._kept and self.__self__ is other.__self__

    def __hash__(self) -> int:
        return hash((id(self._kept), id(self.__self__)))

    def __dask_tokenize__(self) -> Any:
        try:
            return *self._kept.__dask_tokenize__(), digest_bytes(self.__self__).hex()
        except KeptError:
            # A call without a key is like no other.
            return os.urandom(16).hex()

    def __reduce__(self) -> tuple[Any, ...]:
        name = self._kept.__name__
        # The compiler mangles such a name.
        if name.startswith("__") and not name.endswith("__"):
            owner = self._kept.__qualname__.split(".")[-2].lstrip("_")
            name = f"_{owner}{name}"
        return getattr, (self.__self__, name)


class _OfClass:
    """What a class holds of a kept function that is no method of its instances: for the code identity, for
    pickle and for who asks it, the kept function.
    """

    __func__: Any

    def __followed__(self) -> Any:
        return self.__func__.__followed__()

    def __getattr__(self, name: str) -> Any:
        if name == "__func__":
            raise AttributeError(name)
        return getattr(self.__func__, name)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.__func__,)


if TYPE_CHECKING:
    _ClassMethod = classmethod[Any, ..., Any]
    _StaticMethod = staticmethod[..., Any]
else:
    _ClassMethod, _StaticMethod = classmethod, staticmethod


class KeptClassMethod(_OfClass, _ClassMethod):
    """A kept class method, which tools know for one."""

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        return self.__func__.__get__(instance, owner)


class KeptStaticMethod(_OfClass, _StaticMethod):
    """A kept static method, likewise."""


class Sent(Carrier):
    """What goes to where it is called with the cache and the run that are open here."""

    origin: Origin

    @contextlib.contextmanager
    def entered(self, broke: Callable[[Exception], bool | None] | None = None) -> Iterator[None]:
        """Be where it was bound: in that run, with the cache that was active."""
        with self.origin.entered(), super().entered(broke):
            yield


class SentFunction(Sent, BoundFunction[P, T]):
    """A plain function on its way to a worker."""

    def __init__(self, function: Callable[P, T]) -> None:
        try:
            cache = active()
        except Exception:  # noqa: BLE001  a kept function meets it too; this one may need no cache
            cache = None
        super().__init__(function, cache)
        self.origin: Origin = Origin.here()


class BoundCall(Sent, Generic[R]):
    """A call to be made later or elsewhere. It pickles, and takes the active cache and run along.

    It is called with the arguments that are still missing, or to be others.

    (A generator looks up when it is consumed, in the cache that is active then.)
    """

    kept: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    def __init__(self, kept: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        super().__init__(None)
        self.kept, self.args, self.kwargs = kept, args, kwargs
        self.origin: Origin = Origin.here()
        try:
            self.cache: Cache | None = kept.cache if kept.options.cache is None else used()
        except Exception:  # noqa: BLE001  the call meets it too, and deals with it
            pass

    @shortening
    def __call__(self, /, *args: Any, **kwargs: Any) -> R:
        call = self.bind(*args, **kwargs) if args or kwargs else self
        return call.through(call.kept)  # type: ignore[no-any-return]  # R by `bind`

    def bind(self, /, *args: Any, **kwargs: Any) -> BoundCall[R]:
        """The call with further arguments; as of `functools.partial`, a keyword goes before an earlier one.

        Raises:
            TypeError: the function takes no such arguments.
        """
        made = self.replaced((*self.args, *args), {**self.kwargs, **kwargs})
        made.kept.check_given(made.args, made.kwargs)
        return made

    def through(self, kept: Any) -> Any:
        """Make the call, by another function than `wellkept`."""
        if kept.awaits:
            return self._await(kept)
        with self.entered(kept.broke):
            return kept(*self.args, **self.kwargs)

    async def _await(self, kept: Any) -> Any:
        try:
            with self.entered(kept.broke):
                return await kept(*self.args, **self.kwargs)
        except BaseException as error:
            shorten(error)
            raise

    def replaced(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> BoundCall[R]:
        """The same with other arguments."""
        made: BoundCall[R] = object.__new__(type(self))
        made.__dict__ |= self.__dict__ | {"args": args, "kwargs": kwargs}
        return made

    def key(self) -> Digest:
        """The digest that names the call."""
        return self.kept.key(*self.args, **self.kwargs)  # type: ignore[no-any-return]  # a Kept

    def __dask_tokenize__(self) -> Any:
        try:
            return str(self.key())
        except (KeptError, TypeError):
            # A call without a key, or to which arguments are missing, is like no other.
            return os.urandom(16).hex()

    def __dir__(self) -> list[str]:
        public = {"args", "bind", "key", "kwargs"}
        return sorted(name for name in super().__dir__() if name in public or is_special(name))

    def __repr__(self) -> str:
        return f"<call of {self.kept!r}>"
