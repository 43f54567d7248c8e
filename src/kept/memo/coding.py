"""Which code a kept function runs, and whether it still does."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import TYPE_CHECKING, Any

from kept.caches import Cache
from kept.hashing import SCALARS, digest_bytes, identify
from kept.hashing.names import RUN, meet, placed
from kept.memo.options import Options
from kept.runs.sources import note_sources

if TYPE_CHECKING:
    from kept.hashing.code import Deep
    from kept.hashing.code.shown import Shown
    from kept.memo.depends import Dependency

__all__ = ["Coding"]


class Coding:
    """The name and the code identity of one function.

    Args:
        function: the function itself.
        options: what `keep` was told.

    Attributes:
        name: under which calls are kept.
        tag: the code identity or version: the `code` of a call's record.
        steady: whether nothing has to be compared before a key may be believed that was found
            with this identity.
        comparable: whether what the function holds can be compared in no time.
    """

    def __init__(self, function: Callable[..., Any], options: Options) -> None:
        self._function = function
        if getattr(function, "__module__", None) in RUN:
            meet(getattr(function, "__globals__", {}))
        self._deep: Deep | None = None
        self._own = ""
        self._cells: tuple[Any, ...] | None = ()
        if options.version is not None:
            self.tag = f"version:{_version(options.version)}"
        elif options.code == "off":
            self.tag = "none"
        elif options.code == "own":
            self._cells = _snapshot(function)
            self._own = identify(function, "own").code
            self.tag = f"code:{self._own}"
        else:
            from kept.hashing.code import deep  # parses; most imports of kept need none

            self._cells = _snapshot(function)
            if self._cells is None:
                self._own = identify(function, "own").code
            self._deep = deep(function)
            self.tag = f"deep2:{self._deep.hex}"
        self.name = options.name or identify(function, "off").name
        if not (options.name or self._own or self._deep):
            self.name = placed(self.name, function)
        self.comparable = self._cells is not None
        self.steady = self._cells == () and (self._deep is None or self._deep.guards.steady)
        self._classes: dict[type[Any], Deep] = {}
        self.same: Callable[[], bool] = self._same
        """Whether what can be compared at each call is what it was."""
        if self._cells == () and self._deep is not None:
            self.same = self._deep.guards.same  # a hit waits for it

    @property
    def deep(self) -> Deep | None:
        """What was reached by name, if that counts."""
        return self._deep

    def _same(self) -> bool:
        if self._cells is None:
            if identify(self._function, "own").code != self._own:
                return False
        elif self._cells:
            cells = getattr(self._function, "__closure__", None) or ()
            try:
                for cell, content in zip(cells, self._cells, strict=True):
                    if cell.cell_contents is not content:
                        return False
            except ValueError:
                return False
        return self._deep is None or self._deep.guards.same()

    def all_same(self) -> bool:
        """Whether everything that the identity was made from is what it was."""
        return self.same() and (self._deep is None or self._deep.guards.rest_same())

    def of_receiver(self, values: tuple[Any, ...]) -> str:
        """For a method: the digest of what it asks of the class of its receiver; "" for nothing."""
        if self._deep is None or not values or not isinstance(self._function, FunctionType):
            return ""
        kind = values[0] if isinstance(values[0], type) else type(values[0])
        found = self._classes.get(kind)
        if found is None or not found.guards.all_same():
            if not _has(kind, self._function):
                return ""
            from kept.hashing.code import deep

            if len(self._classes) > 1000:
                self._classes.clear()
            found = self._classes[kind] = deep(self._function, kind)
        return "" if found.hex == self._deep.hex else found.hex

    def depends(self, values: tuple[Any, ...] = ()) -> tuple[Dependency, ...]:
        """What kept functions that are reached depend on, and so this one does; those of the class of a
        receiver too.
        """
        if self._deep is None:
            return ()
        found: tuple[Dependency, ...] = self._deep.depends
        if self._classes and values:
            kind = values[0] if isinstance(values[0], type) else type(values[0])
            if (of_class := self._classes.get(kind)) is not None:
                found = (*found, *of_class.depends)
        return found

    def note(self, cache: Cache, values: tuple[Any, ...]) -> None:
        """Write down the source beside a call with these arguments; see `kept.runs.sources`."""
        identity = self._own if self._deep is None else self._deep.hex
        if not identity:
            return
        if f"code/{identity}" not in cache.noted:
            note_sources(cache, identity, self.name, self._shown)
        if self._classes and values:
            kind = values[0] if isinstance(values[0], type) else type(values[0])
            found = self._classes.get(kind)
            if found is not None and f"code/{found.hex}" not in cache.noted:
                from kept.hashing.code.shown import shown

                note_sources(cache, found.hex, self.name, lambda: shown(found))

    def parts(self, values: tuple[Any, ...] = ()) -> Mapping[str, Shown]:
        """The functions, classes and constants that count, as they are written down; with those of the
        class of a receiver.
        """
        found = dict(self._shown()) if self._own or self._deep else {}
        if self._classes and values:
            kind = values[0] if isinstance(values[0], type) else type(values[0])
            if (of_class := self._classes.get(kind)) is not None:
                from kept.hashing.code.shown import shown

                found |= shown(of_class)
        return found

    def _shown(self) -> Mapping[str, Shown]:
        from kept.hashing.code.shown import of_function, shown  # with the first result

        if self._deep is not None:
            return shown(self._deep)
        return {self.name: of_function(self._function, self._own)}


def _has(kind: type[Any], function: FunctionType) -> bool:
    """Whether a class, or one of its bases, has a function for its method."""
    if kind in SCALARS or not function.__code__.co_argcount:
        return False
    for base in kind.__mro__:
        item = vars(base).get(function.__name__)
        if item is not None and function in (item, getattr(item, "__wrapped__", None)):
            return True
    return False


def _snapshot(function: Any) -> tuple[Any, ...] | None:
    """The closure's contents if they can be compared by `is`; None: they have to be identified."""
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


def _version(version: Any) -> str:
    """A version as part of a key: scalars as they are written, anything else by its digest."""
    if type(version) in (str, int, float, bool) and len(repr(version)) <= 80:
        return repr(version)
    return digest_bytes(version, label="version").hex()
