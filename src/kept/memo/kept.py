"""A kept function: what `@keep` makes of one."""

from __future__ import annotations

import functools
import marshal
import os
import threading
import time
from collections.abc import Callable, Coroutine, Iterable
from contextvars import ContextVar
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, TypeVar, overload

from blake3 import blake3

from kept.caches import Cache, active, named
from kept.caches.tier import Entry
from kept.errors import NotKept, Undigestible, tell
from kept.hashing import SCALARS, digest_bytes, identify
from kept.memo.binder import Binder
from kept.memo.bound import Bound, BoundCall
from kept.memo.flow import MISSING, Located, Raise, keeping, kind_of, look, resolved
from kept.memo.options import Options
from kept.memo.stats import Stats
from kept.records import SCHEME, Argument, Call, Digest

if TYPE_CHECKING:
    from concurrent.futures import Future

__all__ = ["BoundCall", "Kept"]

P = ParamSpec("P")
Q = ParamSpec("Q")
R = TypeVar("R")
S = TypeVar("S")
T = TypeVar("T")

_NEVER = float("inf")
_KNOWN_LIMIT = 20_000
_ESCAPE = (
    StopIteration  # marshal's one-byte singleton that begins a tagged tuple; see the digest spec
)
_digesting: ContextVar[tuple[int, ...]] = ContextVar("kept.digesting", default=())


class Kept(Generic[P, R]):
    """A function whose results outlive the process. Made by `keep`; calls like the function.

    Attributes:
        __wrapped__: the function itself.
        options: what `keep` was told.
        function_name: the identity under which its calls are kept.
    """

    __wrapped__: Callable[P, R]
    awaits = False
    """Whether a call gives a coroutine."""

    def __init__(self, function: Callable[P, R], options: Options, method: str = "") -> None:
        inner = function.func if isinstance(function, functools.partial) else function
        self.__name__: str = getattr(inner, "__name__", type(inner).__name__)
        self.__qualname__: str = getattr(inner, "__qualname__", type(inner).__qualname__)
        self.__module__ = type(inner).__module__
        functools.update_wrapper(self, function, updated=())
        # inspect (and so frameworks) takes an object with these for a function of its kind.
        for name in ("__code__", "__defaults__", "__kwdefaults__"):
            if hasattr(function, name):
                setattr(self, name, getattr(function, name))
        if isinstance(function, FunctionType):
            for name, value in vars(function).items():
                if not hasattr(Kept, name):  # an attribute must not hide a method of ours
                    self.__dict__[name] = value
        self.__wrapped__ = function
        self.options = options
        self.counts = Stats()
        self._method = method
        self._binder = Binder(function, options.ignore, options.require)
        self._bind = self._binder.bind
        self._cache = options.cache if isinstance(options.cache, Cache) else None
        self._identity: tuple[str, str] | None = None
        self._cells: tuple[Any, ...] | None = ()
        self._known: dict[tuple[type, ...], dict[tuple[Any, ...], bytes]] = {}
        self._known_count = 0
        self._told: set[str] = set()
        self.stars = [
            self._binder.names.index(name)
            for name in (self._binder.var_args, self._binder.var_kwargs)
            if name is not None
        ]
        self._needs_values = options.key is not None or self._binder.var_args is not None
        self._quick = options.key is None and not options.isolate and not self._binder.require

    # -- calling ----------------------------------------------------------------------------------

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> R:
        values = self._bind(*args, **kwargs)
        result = self._glance(values)
        if result is MISSING:
            result = self._run(values)
        if type(result) is Raise:
            raise result.error
        return result  # type: ignore[no-any-return]  # what was kept is what the function returns

    def _glance(self, values: tuple[Any, ...]) -> Any:
        """The result, if it is kept and nothing has to be hashed to find it; otherwise `MISSING`.

        The short way of a hit. Whatever is unusual is left to the flow, which looks again.
        """
        try:
            known = self._known.get(tuple(map(type, values)))
        except TypeError:  # a metaclass may make its classes unhashable
            return MISSING
        if known is None:
            return MISSING
        key = known.get(values)
        if key is None or (self._cells != () and not self._same_cells()):
            return MISSING
        try:
            cache = self._cache or self.cache
            entry = cache.find(key)
            if entry is None:
                return MISSING
            body = entry.body
            if body.state or (body.expires != _NEVER and body.expires <= time.time()):
                return MISSING
            result = cache.value(key, entry)
        except Exception:  # noqa: BLE001  the flow meets it too, and deals with it
            return MISSING
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
        return Digest.of(self._located(self._bind(*args, **kwargs)).key)

    def contains(self, /, *args: P.args, **kwargs: P.kwargs) -> bool:
        """Whether a call is kept and has not expired. Nothing runs, nothing is loaded."""
        found = self._located(self._bind(*args, **kwargs))
        entry = found.cache.find(found.key)
        return entry is not None and entry.body.expires > time.time()

    def load(self, /, *args: P.args, **kwargs: P.kwargs) -> R:
        """The kept result; the body never runs. A kept exception is raised.

        Raises:
            NotKept: there is none.
        """
        return self._load(self._bind(*args, **kwargs))  # type: ignore[no-any-return]  # as in __call__

    def _load(self, values: tuple[Any, ...]) -> Any:
        found = self._located(values)
        result = look(self, found.cache, found.key)
        if result is MISSING:
            raise NotKept(f"{self._shown(found)} is not kept in {found.cache}")
        if type(result) is Raise:
            raise result.error
        return result

    def call(self, /, *args: P.args, **kwargs: P.kwargs) -> Call:
        """The record of a kept call.

        Raises:
            NotKept: there is none.
        """
        found = self._located(self._bind(*args, **kwargs))
        found.cache.flush()
        call = found.cache.calls.get(found.key.hex())
        if call is None:
            raise NotKept(f"{self._shown(found)} is not kept in {found.cache}")
        return call

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
        return named(chosen) if isinstance(chosen, str) else active()

    # -- doing ------------------------------------------------------------------------------------

    def rerun(self, /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Compute again and replace what is kept."""
        return self._run(self._bind(*args, **kwargs), again=True)  # type: ignore[no-any-return]  # as in __call__

    def _run(self, values: tuple[Any, ...], again: bool = False) -> Any:
        flow = keeping(self, values, again)
        stopped: StopIteration | None = None
        try:
            step = next(flow)
            while True:
                if type(step) is tuple:
                    try:
                        result = self._binder.call(self.__wrapped__, step)
                    except BaseException as error:  # noqa: BLE001  the flow raises it again
                        if isinstance(error, StopIteration):
                            stopped = error
                        step = flow.throw(error)
                    else:
                        step = flow.send(result)
                else:
                    time.sleep(step)  # type: ignore[arg-type]  # a float; see `Flow`
                    step = next(flow)
        except StopIteration as stop:
            return stop.value
        except RuntimeError as error:
            if stopped is not None and error.__cause__ is stopped:
                raise stopped from None  # no generator, so neither our flow, lets one through
            raise
        finally:
            flow.close()

    def refresh(self, values: tuple[Any, ...]) -> None:
        """Compute a stale result again in the background, once at a time."""
        found = self._located(values)
        locks = found.cache.place.locks
        if locks.acquire(found.key):  # a look whether somebody is at it already
            locks.release(found.key)
            thread = threading.Thread(
                target=self._refresh, args=(values,), name="kept-refresh", daemon=True
            )
            thread.start()

    def _refresh(self, values: tuple[Any, ...]) -> None:
        try:
            self._run(values, again=True)
        except Exception as error:  # noqa: BLE001  nobody else would hear of it
            self.warn("refresh", f"refreshing a stale result failed: {error!r}")

    def forget(self, /, *args: P.args, **kwargs: P.kwargs) -> bool:
        """Forget one call; whether it was kept.

        Raises:
            StoreError: the store can't be written.
        """
        found = self._located(self._bind(*args, **kwargs))
        return found.cache.forget(found.key)

    def bind(self, /, *args: P.args, **kwargs: P.kwargs) -> BoundCall[R]:
        """This call, to be made later or elsewhere: it pickles."""
        self._bind(*args, **kwargs)  # a wrong call fails here, not on the other machine
        return BoundCall(self, args, kwargs)

    @overload
    def submit(
        self: Kept[P, Coroutine[Any, Any, T]], executor: Any, /, *args: P.args, **kwargs: P.kwargs
    ) -> Future[T]: ...
    @overload
    def submit(self, executor: Any, /, *args: P.args, **kwargs: P.kwargs) -> Future[R]: ...
    def submit(self, executor: Any, /, *args: P.args, **kwargs: P.kwargs) -> Any:
        """Run one call in a `concurrent.futures` executor; a kept one is done at once.

        Returns the executor's future, or a finished one.
        """
        from kept.memo.many import submit

        return submit(executor, self.bind(*args, **kwargs))

    @overload
    def map(  # type: ignore[overload-overlap]  # a coroutine's own is told first
        self: Kept[..., Coroutine[Any, Any, T]],
        *iterables: Iterable[Any],
        progress: bool | None = ...,
    ) -> Coroutine[Any, Any, list[T]]: ...
    @overload
    def map(self, *iterables: Iterable[Any], progress: bool | None = ...) -> list[R]: ...
    def map(self, *iterables: Iterable[Any], progress: bool | None = None) -> Any:
        """Call for each item (or each tuple across several iterables); the results, in order.

        Args:
            progress: show a bar on standard error; None: if that is a terminal.
        """
        from kept.memo.many import run_all

        return run_all(self, iterables, progress)

    # -- identity ---------------------------------------------------------------------------------

    @property
    def function_name(self) -> str:
        """The name under which calls are kept."""
        return self._identify()[0]

    @property
    def code_tag(self) -> str:
        """The code identity or version that is part of every key."""
        return self._identify()[1]

    def _identify(self) -> tuple[str, str]:
        if self._identity is not None and (self._cells == () or self._same_cells()):
            return self._identity
        options = self.options
        if options.version is not None:
            tag = f"version:{digest_bytes(options.version, label='version').hex()}"
            name = options.name or identify(self.__wrapped__, "off").name
        else:
            found = identify(self.__wrapped__, options.code)  # type: ignore[arg-type]  # checked by Options
            tag = f"code:{found.code}" if options.code != "off" else "none"
            name = options.name or found.name
        self._known = {}
        self._cells = self._snapshot() if tag.startswith("code:") else ()
        self._identity = name, tag
        return self._identity

    def _snapshot(self) -> tuple[Any, ...] | None:
        """The closure's contents if they can be compared by `is`; None: identify each time."""
        function = self.__wrapped__
        if not isinstance(function, (FunctionType, type)):
            # A partial, a method or a callable object holds what can change at any time.
            owner = getattr(function, "__self__", None)
            builtin = isinstance(function, BuiltinFunctionType)
            return () if builtin and isinstance(owner, ModuleType | None) else None
        found = []
        for cell in getattr(function, "__closure__", None) or ():
            try:
                content = cell.cell_contents
            except ValueError:
                return None
            if type(content) not in SCALARS and not isinstance(content, type):
                return None
            found.append(content)
        return tuple(found)

    def _same_cells(self) -> bool:
        if self._cells is None:
            return False
        cells = getattr(self.__wrapped__, "__closure__", None) or ()
        try:
            return all(
                cell.cell_contents is content
                for cell, content in zip(cells, self._cells, strict=True)
            )
        except ValueError:
            return False

    def locate(self, values: tuple[Any, ...]) -> Located | None:
        """Where a call is kept; None for one that is not to be kept.

        Raises:
            Undigestible: an argument has no identity.
            ConfigError, StoreError: there is no cache.
        """
        if self._binder.require and not self._binder.keepable(values):
            return None
        cache = self.cache
        name, code = self._identify()
        types = tuple(map(type, values))
        try:
            scalars = self._quick and SCALARS.issuperset(types)
        except TypeError:  # a class that can't be hashed
            scalars = False
        if scalars and (known := self._known.get(types)) is not None:
            key = known.get(values)
            if key is not None:
                return Located(cache, key, values, None)
        if self._needs_values:
            values = resolved(self, values, starred=self.options.key is None)
        items = self._digested(values)
        flat: list[Any] = [_ESCAPE, "call", SCHEME, name, code]
        for item in items:
            flat += (item[0], item[2])
        key = blake3(marshal.dumps(tuple(flat), 2)).digest()
        if scalars and self._cells is not None:
            self._remember(types, values, key)
        return Located(cache, key, values, items)

    def _items(self, found: Located) -> list[tuple[str, Any, bytes]]:
        return self._digested(found.values) if found.items is None else found.items

    def _digested(self, values: tuple[Any, ...]) -> list[tuple[str, Any, bytes]]:
        if self.options.key is not None:
            wanted = self._binder.call(self.options.key, values)
            return [("key", wanted, digest_bytes(wanted, label="key"))]
        items = [
            (name, value, digest_bytes(value, label=f'arguments["{name}"]'))
            for name, value in self._binder.items(values)
        ]
        if self.options.isolate:
            where = str(_cwd())
            items.append(("@directory", where, digest_bytes(where)))
        return items

    def _remember(self, types: tuple[type, ...], values: tuple[Any, ...], key: bytes) -> None:
        for value in values:
            kind = type(value)
            if kind is float:
                if value == 0 or value != value:  # 0.0 == -0.0, and nan is not itself
                    return
            elif kind is complex:
                if not (value.real and value.imag) or value != value:  # the same of each part
                    return
            elif (kind is str or kind is bytes) and len(value) > 256:
                return
        if self._known_count >= _KNOWN_LIMIT:
            self._known = {}
            self._known_count = 0
        self._known_count += 1
        self._known.setdefault(types, {})[values] = key

    def _located(self, values: tuple[Any, ...]) -> Located:
        found = self.locate(values)
        if found is None:
            needed = ", ".join(sorted(self._binder.require))
            raise Undigestible(f"{self.__qualname__} keeps no call without {needed}")
        return found

    def arguments(self, found: Located) -> dict[str, Argument]:
        """The arguments as a call record has them."""
        shown = self.options.arguments == "scalars"
        return {
            name: Argument(Digest.of(raw), value, True)
            if shown and _short(value)
            else Argument(Digest.of(raw))
            for name, value, raw in self._items(found)
        }

    def __digest__(self) -> Any:
        # A kept function may be in its own closure.
        if id(self) in _digesting.get():
            return ("kept", self.__module__, self.__qualname__)
        token = _digesting.set((*_digesting.get(), id(self)))
        try:
            return ("kept", *self._identify())
        finally:
            _digesting.reset(token)

    # -- trouble ----------------------------------------------------------------------------------

    def broke(self, error: Exception) -> bool:
        """Count and tell of a failure of caching; whether the caller is to get it (`strict`)."""
        kind = kind_of(error)
        setattr(self.counts, kind, getattr(self.counts, kind) + 1)
        if not self.options.strict:
            done = {"undigestible": "computed, not kept", "unstorable": "returned, not kept"}
            self.warn(kind, f"{done.get(kind, 'computed without the cache')}: {error}")
        return self.options.strict

    def warn(self, kind: str, text: str) -> None:
        """Warn once a function and kind of trouble."""
        if kind not in self._told:
            self._told.add(kind)
            tell(f"{self.__qualname__}: {text}")

    def hit(self, cache: Cache, key: bytes, entry: Entry) -> None:
        """Count a hit."""
        cache.used(key)
        self.counts.hits += 1
        self.counts.seconds_saved += entry.body.seconds

    def _shown(self, found: Located) -> str:
        inside = ", ".join(
            f"{name}={value!r}" if _short(value) else f"{name}=<{raw.hex()[:8]}>"
            for name, value, raw in self._items(found)
        )
        return f"{self.__qualname__}({inside})"

    def __repr__(self) -> str:
        return f"<kept {self.__qualname__}>"

    def __reduce__(self) -> str | tuple[Any, ...]:
        module = self.__module__
        found = _importable(module, self.__qualname__)
        if found is self:
            return str(self.__qualname__)  # pickled as the name of a global
        if isinstance(found, Bound) and found._kept is self:  # a classmethod
            return getattr, (found, "_kept")
        return _rebuild, (type(self), self.__wrapped__, self.options, self._method)


def _rebuild(
    kind: type[Kept[..., Any]], function: Callable[..., Any], options: Options, method: str
) -> Kept[..., Any]:
    return kind(function, options, method)


def _importable(module: str, qualname: str) -> Any:
    import sys

    found: Any = sys.modules.get(module)
    for part in qualname.split("."):
        found = getattr(found, part, None)
    return found


def _short(value: Any) -> bool:
    kind = type(value)
    if kind is str:
        return len(value) <= 200
    if kind is float:
        return bool(value - value == 0)  # JSON has no infinities
    if kind is int:
        return bool(-(2**63) <= value < 2**63)
    return kind is bool or value is None


def _cwd() -> str:
    return os.path.realpath(".")
