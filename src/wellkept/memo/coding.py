"""Which code a kept function runs, and whether it still does."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import CodeType, FunctionType
from typing import TYPE_CHECKING, Any

from wellkept.caches import Cache
from wellkept.hashing import SCALARS, digest_bytes, identify
from wellkept.hashing.names import RUN, meet, placed
from wellkept.memo.observed import called
from wellkept.memo.options import Options
from wellkept.runs.sources import note_sources

if TYPE_CHECKING:
    from wellkept.hashing.code import Deep
    from wellkept.hashing.code.shown import Shown
    from wellkept.memo.depends import Dependency

__all__ = ["Coding"]


class Coding:
    """The name and the code identity of one function.

    Args:
        function: the function itself.
        options: what `keep` was told.
        wider: modules that count as a whole besides; see `observed`.

    Attributes:
        name: under which calls are kept.
        tag: the code identity or version: the `code` of a call's record.
        same: whether what can be compared at each call is what it was; None: nothing can change.
        all_same: the same of all that the identity was made from.
        known: keys that were found with this identity; see `Locator`.
        base: the deep identity, without what it was widened by.
        classes: of receivers, with what the function asks of each; empty of what is no method.
        mocked: whether a test has put something into its place that stands for no code, so that
            nothing may be kept.
    """

    def __init__(
        self, function: Callable[..., Any], options: Options, wider: frozenset[str] = frozenset()
    ) -> None:
        self._function = function
        if getattr(function, "__module__", None) in RUN:
            meet(getattr(function, "__globals__", {}))
        self._deep: Deep | None = None
        self._own = self.base = ""
        self.same: Callable[[], bool] | None = None
        self.all_same: Callable[[], bool] | None = None
        self.mocked = False
        self._ignored: frozenset[str] = frozenset()
        self.known: dict[tuple[type, ...], dict[tuple[Any, ...], bytes]] = {}
        if options.version is not None:
            self.tag = f"version:{_version(options.version)}"
        elif options.code == "off":
            self.tag = "none"
        elif options.code == "own":
            self._own = identify(function, "own").code
            self.tag = f"code:{self._own}"
            self.same = self.all_same = _plain_same(function) or self._same
        else:
            from wellkept.hashing.code import deep  # parses; most imports of kept need none

            self._ignored = frozenset(options.ignore_globals)
            found = deep(function, ignored=self._ignored)
            self.base = found.hex
            if wider:
                from wellkept.hashing.code.wider import widened  # few functions are

                found = widened(found, function, wider)
            self._deep = found
            self.tag = f"deep2:{self._deep.hex}"
            self.mocked = self._deep.mocked
            if not self._deep.guards.steady:
                self.same = self._deep.guards.same  # a hit waits for it
                self.all_same = self._deep.guards.all_same
            if wider:
                self.same = _calling(self.same, wider)
        self.name = options.name or identify(function, "off").name
        if not (options.name or self._own or self._deep):
            self.name = placed(self.name, function)
        self.classes: dict[type[Any], Deep] = {}
        self._receivers: dict[type[Any], bool] = {}

    @property
    def deep(self) -> Deep | None:
        """What was reached by name, if that counts."""
        return self._deep

    def covers(self, code: CodeType, values: tuple[Any, ...]) -> bool:
        """Whether the identity covers a code object that a call ran."""
        if self._deep is None or self._deep.covered.holds(code):
            return True
        found = self._of_class(values)
        return found is not None and found.covered.holds(code)

    def _same(self) -> bool:
        return identify(self._function, "own").code == self._own

    def of_receiver(self, values: tuple[Any, ...]) -> str:
        """For a method: the digest of what it asks of the class of its receiver; "" for nothing."""
        if self._deep is None or not values or not isinstance(self._function, FunctionType):
            return ""
        kind = values[0] if isinstance(values[0], type) else type(values[0])
        found = self.classes.get(kind) if self.classes else None
        if found is None or not found.guards.all_same():
            if not _has(kind, self._function):
                return ""
            from wellkept.hashing.code import deep

            if len(self.classes) > 1000:
                self.classes.clear()
            found = self.classes[kind] = deep(self._function, kind, ignored=self._ignored)
        return "" if found.hex == self.base else found.hex

    def receives(self, values: tuple[Any, ...]) -> bool:
        """Whether the first argument is what the function is called on, as a method of its class."""
        if not values or not isinstance(self._function, FunctionType):
            return False
        kind = values[0] if isinstance(values[0], type) else type(values[0])
        found = self._receivers.get(kind)
        if found is None:
            if len(self._receivers) > 1000:
                self._receivers.clear()
            found = self._receivers[kind] = _has(kind, self._function)
        return found

    def same_for(self, values: tuple[Any, ...]) -> Callable[[], bool] | None:
        """`all_same`, also of the class of a receiver."""
        found = self._of_class(values)
        if found is None or found.guards.steady:
            return self.all_same
        same, of_class = self.all_same, found.guards.all_same
        return of_class if same is None else lambda: same() and of_class()

    def mocked_for(self, values: tuple[Any, ...]) -> bool:
        """`mocked`, also of the class of a receiver."""
        found = self._of_class(values)
        return self.mocked or (found is not None and found.mocked)

    def _of_class(self, values: tuple[Any, ...]) -> Deep | None:
        if not (self.classes and values):
            return None
        return self.classes.get(values[0] if isinstance(values[0], type) else type(values[0]))

    def depends(self, values: tuple[Any, ...] = ()) -> tuple[Dependency, ...]:
        """What kept functions that are reached depend on, and so this one does; those of the class of a
        receiver too.
        """
        if self._deep is None:
            return ()
        found: tuple[Dependency, ...] = self._deep.depends
        if (of_class := self._of_class(values)) is not None:
            found = (*found, *of_class.depends)
        return found

    def note(self, cache: Cache, values: tuple[Any, ...]) -> None:
        """Write down the source beside a call with these arguments; see `wellkept.runs.sources`."""
        identity = self._own if self._deep is None else self._deep.hex
        if not identity:
            return
        if f"code/{identity}" not in cache.noted:
            note_sources(cache, identity, self.name, self._shown)
        found = self._of_class(values)
        if found is not None and f"code/{found.hex}" not in cache.noted:
            from wellkept.hashing.code.shown import shown

            note_sources(cache, found.hex, self.name, lambda: shown(found))

    def parts(self, values: tuple[Any, ...] = ()) -> Mapping[str, Shown]:
        """The functions, classes and constants that count, as they are written down; with those of the
        class of a receiver.
        """
        found = dict(self._shown()) if self._own or self._deep else {}
        if (of_class := self._of_class(values)) is not None:
            from wellkept.hashing.code.shown import shown

            found |= shown(of_class)
        return found

    def _shown(self) -> Mapping[str, Shown]:
        from wellkept.hashing.code.shown import of_function, shown  # with the first result

        if self._deep is not None:
            return shown(self._deep)
        return {self.name: of_function(self._function, self._own)}


_WRAPPERS = 5  # `classmethod` above `@keep` above decorators


def _calling(same: Callable[[], bool] | None, wider: frozenset[str]) -> Callable[[], bool]:
    """`same`, which also tells a body that is under way that it calls something wider."""

    def told() -> bool:
        called(wider)
        return same is None or same()

    return told


def _has(kind: type[Any], function: FunctionType) -> bool:
    """Whether a class, or one of its bases, has a function for its method."""
    if kind in SCALARS or not function.__code__.co_argcount:
        return False
    name = function.__name__
    for base in kind.__mro__:
        item = vars(base).get(name)
        for _ in range(_WRAPPERS):
            if item is None:
                break
            if item is function:
                return True
            item = getattr(item, "__wrapped__", None)
    return False


def _plain_same(function: Any) -> Callable[[], bool] | None:
    """Whether a function that holds nothing which could change in place is what it was."""
    if type(function) is not FunctionType or function.__closure__:
        return None
    code, defaults, named = function.__code__, function.__defaults__, function.__kwdefaults__
    if not SCALARS.issuperset(map(type, defaults or ())) or named:
        return None
    return lambda: (
        function.__code__ is code
        and function.__defaults__ is defaults
        and function.__kwdefaults__ is named
    )


def _version(version: Any) -> str:
    """A version as part of a key: scalars as they are written, anything else by its digest."""
    if type(version) in (str, int, float, bool) and len(repr(version)) <= 80:
        return repr(version)
    return digest_bytes(version, label="version").hex()
