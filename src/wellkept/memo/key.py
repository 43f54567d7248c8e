"""Where the calls of one function are kept: its code identity, the digests of its arguments, its keys."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Mapping
from types import CodeType, FunctionType
from typing import TYPE_CHECKING, Any

from wellkept.caches import Cache
from wellkept.conditions import Query
from wellkept.errors import ConfigError, Undigestible, tell
from wellkept.hashing import SCALARS, Receiver, digest_bytes, identify
from wellkept.hashing.digests import call_key, default_digest
from wellkept.hashing.names import RUN, meet, placed
from wellkept.memo.keep_options import Left, Options
from wellkept.memo.observed import WIDER, Bodies, called, known_wider, note_wider
from wellkept.memo.target import Items, Target
from wellkept.runs.sources import note_sources

if TYPE_CHECKING:
    from wellkept.hashing.code import Deep
    from wellkept.hashing.code.identity import Shown
    from wellkept.memo.binder import Binder
    from wellkept.memo.depends import Dependency


class Coding:
    """The name and the code identity of one function.

    Args:
        function: the function itself.
        options: what `keep` was told.
        wider: modules that count as a whole besides; see `observed`.

    Attributes:
        name: under which calls are kept.
        tag: the code identity or version: the `code` of a call's record.
        deep: what was reached by name, if that counts.
        same: whether what can be compared at each call is what it was; None: nothing can change.
        all_same: the same of all that the identity was made from.
        known: keys that were found with this identity; see `Locator`.
        base: the deep identity, without what it was widened by.
        wider_note: where a cache says by what that is.
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
        self.deep: Deep | None = None
        self._own = ""
        self.base: str = ""
        self.same: Callable[[], bool] | None = None
        self.all_same: Callable[[], bool] | None = None
        self.mocked: bool = False
        self._ignored: frozenset[str] = frozenset()
        self.known: dict[tuple[type, ...], dict[tuple[Any, ...], bytes]] = {}
        if options.version is not None:
            self.tag: str = f"version:{_version(options.version)}"
        elif options.code == "off":
            self.tag = "none"
        elif options.code == "own":
            self._own = identify(function, "own").code
            self.tag = f"code:{self._own}"
            self.same = self.all_same = _plain_same(function) or self._same
        else:
            # It parses source; most imports of the library need none of that.
            from wellkept.hashing.code import deep

            self._ignored = frozenset(options.ignore_globals)
            found = deep(function, ignored=self._ignored)
            self.base = found.hex
            if wider:
                # Few functions are widened.
                from wellkept.hashing.code.identity import widened

                found = widened(found, function, wider)
            self.deep = found
            self.tag = f"deep2:{self.deep.hex}"
            self.mocked = self.deep.mocked
            if not self.deep.guards.steady:
                # A hit waits for it.
                self.same = self.deep.guards.same
                self.all_same = self.deep.guards.all_same
            if wider:
                self.same = _calling(self.same, wider)
        self.wider_note: str = WIDER + self.base
        self.name: str = options.name or identify(function, "off").name
        if not (options.name or self._own or self.deep):
            self.name = placed(self.name, function)
        self.classes: dict[type[Any], Deep] = {}
        self.facts: tuple[Any, str] = None, ""
        """What `Target.facts` gave, and what was noted by then in the cache that it was for."""
        self._receivers: dict[type[Any], bool] = {}

    def covers(self, code: CodeType, values: tuple[Any, ...]) -> bool:
        """Whether the identity covers a code object that a call ran."""
        if self.deep is None or self.deep.covered.holds(code):
            return True
        found = self._of_class(values)
        return found is not None and found.covered.holds(code)

    def _same(self) -> bool:
        return identify(self._function, "own").code == self._own

    def of_receiver(self, values: tuple[Any, ...]) -> str:
        """For a method: the digest of what it asks of the class of its receiver; "" for nothing."""
        if self.deep is None or not values or not isinstance(self._function, FunctionType):
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
        if self.deep is None:
            return ()
        found: tuple[Dependency, ...] = self.deep.depends
        if (of_class := self._of_class(values)) is not None:
            found = (*found, *of_class.depends)
        return found

    def note(self, cache: Cache, values: tuple[Any, ...]) -> None:
        """Write down the source beside a call with these arguments; see `wellkept.runs.sources`."""
        identity = self._own if self.deep is None else self.deep.hex
        if not identity:
            return
        if f"code/{identity}" not in cache.noted:
            note_sources(cache, identity, self.name, self._shown)
        found = self._of_class(values) if self.classes else None
        if found is not None and f"code/{found.hex}" not in cache.noted:
            from wellkept.hashing.code.identity import shown

            note_sources(cache, found.hex, self.name, lambda: shown(found))

    def parts(self, values: tuple[Any, ...] = ()) -> Mapping[str, Shown]:
        """The functions, classes and constants that count, as they are written down; with those of the
        class of a receiver.
        """
        found = dict(self._shown()) if self._own or self.deep else {}
        if (of_class := self._of_class(values)) is not None:
            from wellkept.hashing.code.identity import shown

            found |= shown(of_class)
        return found

    def _shown(self) -> Mapping[str, Shown]:
        from wellkept.hashing.code.identity import (
            of_function,
            # It is needed with the first result.
            shown,
        )

        if self.deep is not None:
            return shown(self.deep)
        return {self.name: of_function(self._function, self._own)}


# How many wrappers are looked through: `classmethod` above `@keep` above decorators.
_WRAPPERS = 5


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


_HIDDEN = (
    "{}: what it reads of {} can't be compared. In one process another object counts as another; "
    "between processes only its type counts, and the text of its module. Name what a result does not "
    "depend on in ignore_globals=, and what it does depend on in depends=, or give it as an argument"
)
_KNOWN_LIMIT = 20_000
# Where the types are of what stands for values in a query.
_QUERIES = Query.__module__
_HASHED = SCALARS | {Left}

_Known = dict[tuple[type, ...], dict[tuple[Any, ...], bytes]]


# Items of a container up to which these are looked at, so that a large one costs nothing more.
_FEW = 100


def _holds_query(value: Any) -> bool:
    """Whether a small container holds what stands for values in a query."""
    if type(value) not in (list, tuple, dict) or len(value) > _FEW:
        return False
    items = value.values() if type(value) is dict else value
    return any(type(item).__module__ == _QUERIES for item in items)


class Locator:
    """Keys for one function.

    Args:
        function: the function itself.
        options: what `keep` was told.
        binder: of its arguments.

    `current` is what a hit needs of the function's `Coding`, taken at once, since another thread may
    see it change: `known`, which maps types and values of arguments that are all exact immutable
    scalars to keys that were found before, so that a repeat hashes nothing (types count, as
    1 == 1.0 == True), and what says whether they may be believed; None: they may.
    """

    def __init__(self, function: Callable[..., Any], options: Options, binder: Binder) -> None:
        self.current: tuple[_Known, Callable[[], bool] | None] = {}, None
        self._function = function
        self._options = options
        self._binder = binder
        self._coding: Coding | None = None
        self._known_count = 0
        self._told = False
        self.taken: bool = False
        """Whether the identity is one that the function had where it came from."""
        self.wider: frozenset[str] = frozenset()
        """Modules that count as a whole besides, as bodies were seen to run code of them."""
        self.bodies: Bodies = Bodies(
            followed=options.version is None and options.code in ("deep", "warn")
        )
        apart = options.isolate or options.tempdir or options.replicate or options.each
        unusual = options.key or apart or options.depends or options.verify
        self.quick: bool = not (unusual or binder.require)

    # -- the function -----------------------------------------------------------------------------

    def coding(self) -> Coding:
        """Which code the function runs now."""
        coding = self._coding
        if coding is None or not (coding.same is None or coding.same()):
            coding = Coding(self._function, self._options, self.wider)
            self._known_count = 0
            self._set(coding)
            if coding.deep is not None and coding.deep.hidden and not self._told:
                self._told = True
                tell(_HIDDEN.format(coding.name, ", ".join(coding.deep.hidden)))
        return coding

    def _set(self, coding: Coding) -> None:
        self._coding = coding
        self.current = coding.known, coding.same

    def renew(self) -> None:
        """Find out anew which code the function runs: what is not compared at each call has changed."""
        if self.taken and self._coding is not None:
            # That is all that can be out of date.
            self._coding.known.clear()
        else:
            self._coding, self.current = None, ({}, None)

    def take(self, name: str, tag: str) -> None:
        """Go by an identity that was found where the function came from."""
        coding = Coding(self._function, self._options._replace(version=0, name=name))
        coding.tag = tag
        self.taken = True
        self._set(coding)

    def learn(self, coding: Coding, cache: Cache) -> bool:
        """Ask a cache, once, by what other processes have widened the identity; whether it is new."""
        if self.taken:
            return False
        cache.noted.add(coding.wider_note)
        known = known_wider(cache, coding.wider_note)
        if known <= self.wider:
            return False
        self.wider |= known
        self.renew()
        return True

    def widen(self, target: Target, modules: Iterable[str]) -> bool:
        """Rename a call that ran code of other modules; False if its identity is not known any more."""
        before = self._coding
        if before is None or before.tag != target.code:
            self.wider |= frozenset(modules)
            self.renew()
            return False
        items = target.all_items()
        self.wider |= frozenset(modules)
        coding = Coding(self._function, self._options, self.wider)
        if coding.base != before.base:
            self.renew()
            return False
        self._set(coding)
        note_wider(target.cache, coding.wider_note, self.wider)
        target.key = call_key(coding.name, coding.tag, [(item[0], item[2]) for item in items])
        target.code, target.items = coding.tag, items
        return True

    def covers(self, code: CodeType, values: tuple[Any, ...]) -> bool:
        """Whether the identity covers a code object that a call ran."""
        return self._coding is None or self._coding.covers(code, values)

    def identity(self) -> tuple[str, str]:
        """The name under which calls are kept, and the code identity or version."""
        coding = self.coding()
        return coding.name, coding.tag

    def name(self) -> str:
        """The name under which calls are kept, which no change of code changes."""
        return (self._coding or self.coding()).name

    # -- a call -----------------------------------------------------------------------------------

    def locate(self, target: Target, counted: Callable[[tuple[Any, ...]], tuple[Any, ...]]) -> bool:
        """Tell a call where it is kept; False while a test has replaced what it calls.

        Args:
            target: with the cache, and the values as they were given.
            counted: gives them with values in place of digests, where they must be seen.

        Raises:
            Undigestible: an argument has no identity.
        """
        coding = self._coding
        if coding is None or not (coding.same is None or coding.same()):
            coding = self.coding()
        if coding.mocked:
            return False
        values = target.values
        key, scalars = None, False
        try:
            types = tuple(map(type, values))
            scalars = SCALARS.issuperset(types)
            key = coding.known[types].get(values)
        except (KeyError, TypeError):
            # The types were never seen, or a class can't be hashed.
            pass
        target.name, target.code, target.same = coding.name, coding.tag, coding.all_same
        target.scalars = scalars
        if key is not None:
            target.key, target.items = key, None
            return True
        binder = self._binder
        usual = self.quick and binder.simple and binder.exact and not binder.ordered
        plain = usual and not (coding.classes or (coding.deep is not None and coding.deep.depends))
        if not (plain and scalars) and (files := sys.modules.get("wellkept.hashing.file_digest")):
            # This is the cache in which digests of large files are noted.
            files.remember_in(target.cache)
        if not (plain and self._plainly(target, coding)):
            # There may be other items than the arguments.
            target.scalars = False
            if not scalars:
                self._check_values(values)
            seen = values if usual else counted(values)
            target.key, target.items = self.items(values, seen, coding)
            target.values = seen
            if coding.classes:
                if coding.mocked_for(values):
                    return False
                target.same = coding.same_for(values)
        return True

    def _check_values(self, values: tuple[Any, ...]) -> None:
        """Refuse what stands for values in a query: no body can mean it.

        Raises:
            ConfigError: an argument is such a thing.
        """
        if not self._binder.simple:
            args, kwargs = self._binder.spread(values)
            values = (*args, *kwargs.values())
        for value in values:
            if type(value).__module__ == _QUERIES or _holds_query(value):
                raise ConfigError(
                    f"{self.name()}: {value!r} stands for values in a query, and is no argument of a call; "
                    "ask with .query(…)"
                )

    def _plainly(self, target: Target, coding: Coding) -> bool:
        """Make the key of a call in the short way, of a function that depends on nothing else; False
        if it is called as a method, or an argument can't be digested: `items` sees to that.
        """
        values, function = target.values, self._function
        if values and type(values[0]) not in SCALARS and type(function) is FunctionType:
            first = values[0]
            if _has(first if isinstance(first, type) else type(first), function):
                return False
        for value in values:
            kind = type(value)
            if kind.__module__ == _QUERIES or (
                (kind is list or kind is tuple or kind is dict) and _holds_query(value)
            ):
                return False
        try:
            target.key, target.items = self.plain_key(values, coding)
        except Undigestible:
            # It may be a sentinel.
            return False
        self.remember(values, target.key, coding)
        return True

    def plain_key(self, values: tuple[Any, ...], coding: Coding) -> tuple[bytes, Items]:
        """Return the key of a call that is made of its arguments alone, each under its own name, and
        name, value and digest of each.

        Raises:
            Undigestible: an argument has no identity.
        """
        names, raws = self._binder.names, list(map(digest_bytes, values))
        key = call_key(coding.name, coding.tag, zip(names, raws, strict=True))
        return key, list(zip(names, values, raws, strict=True))

    def items(
        self,
        values: tuple[Any, ...],
        counted: tuple[Any, ...],
        coding: Coding | None = None,
    ) -> tuple[bytes, Items]:
        """Return the key, and name, value and digest of each argument that counts.

        Args:
            values: the arguments as they were given.
            counted: the same, with the values in place of digests where they must be seen.
            coding: which code the function runs.

        Raises:
            Undigestible: an argument has no identity.
        """
        coding = coding or self.coding()
        items = self.digested(counted, coding)
        key = call_key(coding.name, coding.tag, [(item[0], item[2]) for item in items])
        if self.quick and not coding.depends(values):
            self.remember(values, key, coding)
        return key, items

    def digested(self, values: tuple[Any, ...], coding: Coding | None = None) -> Items:
        """Return the arguments, and what counts beside them; the names of that begin with `@`."""
        coding = coding or self.coding()
        items = self._arguments(values, coding)
        receiver = coding.of_receiver(values)
        if receiver:
            items.append(("@class", receiver, digest_bytes(receiver)))
        if self._options.isolate or self._options.tempdir:
            # A fresh directory is like any other fresh one, and like no directory that has a name.
            where = _cwd() if self._options.isolate else ""
            items.append(("@directory", where, digest_bytes(where)))
        if self._options.each:
            # As a call of the same function with these items as one argument is another.
            items.append(("@each", self._options.each, digest_bytes(self._options.each)))
        if self._options.replicate:
            number = self._options.replicate
            items.append(("@replicate", number, digest_bytes(number)))
        binder = self._binder
        if binder.ordered and binder.var_kwargs in binder.ordered:
            names = list(values[-1])
            items.append(("@order", names, digest_bytes(names)))
        items += self.dependencies(values, coding)
        return items

    def digests(self, values: Iterable[Any], name: str) -> list[bytes]:
        """Return the digests of values of one argument."""
        label, ordered = f'arguments["{name}"]', self._binder.in_order(name)
        return [digest_bytes(value, label=label, ordered=ordered) for value in values]

    def dependencies(
        self, values: tuple[Any, ...] = (), coding: Coding | None = None
    ) -> list[tuple[str, Any, bytes]]:
        """What `depends` names, here and at kept functions that are called, as it is now."""
        depends = (*self._options.depends, *(coding or self.coding()).depends(values))
        if not depends:
            return []
        # It is loaded, for it made them.
        from wellkept.memo.depends import items

        return items(depends)

    def _arguments(self, values: tuple[Any, ...], coding: Coding) -> list[tuple[str, Any, bytes]]:
        if self._options.key is not None:
            args, kwargs = self._binder.spread(values)
            try:
                wanted = self._options.key(*args, **kwargs)
            except Exception as error:
                raise Undigestible(f"key= raised {type(error).__name__}: {error}") from error
            return [("key", wanted, digest_bytes(wanted, label="key"))]
        binder = self._binder
        given = binder.items(values)
        if given and given[0][0] == binder.names[0] and coding.receives(values):
            name, value = given.pop(0)
            label, ordered = f'arguments["{name}"]', binder.in_order(name)
            raw = digest_bytes(Receiver(value), label=label, ordered=ordered)
            return [(name, value, raw), *self._counted(given)]
        return self._counted(given)

    def _counted(self, given: list[tuple[str, Any]]) -> list[tuple[str, Any, bytes]]:
        binder = self._binder
        try:
            if binder.ordered:
                return [
                    (name, value, digest_bytes(value, ordered=binder.in_order(name)))
                    for name, value in given
                ]
            items = [(name, value, digest_bytes(value)) for name, value in given]
        except Undigestible:
            # A sentinel; or once more, with a label that tells which it is.
            sentinels = binder.sentinels
            items = [
                (
                    name,
                    value,
                    default_digest(name)
                    if type(value) is object and value is sentinels.get(name)
                    else digest_bytes(
                        value, label=f'arguments["{name}"]', ordered=binder.in_order(name)
                    ),
                )
                for name, value in given
            ]
        return items

    def remember(self, values: tuple[Any, ...], key: bytes, coding: Coding) -> None:
        """Store the key of a call by the values of its arguments: the next such call makes no digests."""
        types = tuple(map(type, values))
        try:
            if not _HASHED.issuperset(types):
                return
        except TypeError:
            # A metaclass may make its classes unhashable.
            return
        for value in values:
            kind = type(value)
            if kind is float:
                # 0.0 == -0.0, and nan is not itself.
                if value == 0 or value != value:
                    return
            elif kind is complex:
                # The same holds for each part.
                if not (value.real and value.imag) or value != value:
                    return
            elif (kind is str or kind is bytes) and len(value) > 256:
                return
        known = coding.known
        if self._known_count >= _KNOWN_LIMIT:
            known.clear()
            self._known_count = 0
        self._known_count += 1
        known.setdefault(types, {})[values] = key


def _cwd() -> str:
    return os.path.realpath(".")
