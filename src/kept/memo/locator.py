"""Where the calls of one function are kept: its identity, its arguments' digests, its keys."""

from __future__ import annotations

import os
from collections.abc import Callable
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import TYPE_CHECKING, Any

from kept.errors import Undigestible
from kept.hashing import SCALARS, digest_bytes, identify
from kept.hashing.keys import call_key, default_digest
from kept.memo.flow import Located
from kept.memo.options import Options
from kept.records import Arguments

if TYPE_CHECKING:
    from kept.memo.binder import Binder

__all__ = ["Locator"]

_KNOWN_LIMIT = 20_000


class Locator:
    """Keys for one function.

    Args:
        function: the function itself.
        options: what `keep` was told.
        binder: of its arguments.

    `known` maps types and values of arguments that are all exact immutable scalars to keys that
    were found before, so that a repeat hashes nothing. Types count, as 1 == 1.0 == True.
    """

    def __init__(self, function: Callable[..., Any], options: Options, binder: Binder) -> None:
        self.known: dict[tuple[type, ...], dict[tuple[Any, ...], bytes]] = {}
        self.steady = True
        """Whether no closure has to be looked at again before `known` may be believed."""
        self._function = function
        self._options = options
        self._binder = binder
        self._identity: tuple[str, str] | None = None
        self._cells: tuple[Any, ...] | None = ()
        self._known_count = 0
        self._quick = options.key is None and not options.isolate and not binder.require

    # -- the function -----------------------------------------------------------------------------

    def identity(self) -> tuple[str, str]:
        """The name under which calls are kept, and the code identity or version."""
        if self._identity is not None and (self.steady or self.same()):
            return self._identity
        options = self._options
        if options.version is not None:
            tag = f"version:{_version(options.version)}"
            name = options.name or identify(self._function, "off").name
        else:
            found = identify(self._function, options.code)  # type: ignore[arg-type]  # checked by Options
            tag = f"code:{found.code}" if options.code != "off" else "none"
            name = options.name or found.name
        self.known.clear()
        self._cells = self._snapshot() if tag.startswith("code:") else ()
        self.steady = self._cells == ()
        self._identity = name, tag
        return self._identity

    def _snapshot(self) -> tuple[Any, ...] | None:
        """The closure's contents if they can be compared by `is`; None: identify each time."""
        function = self._function
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

    def same(self) -> bool:
        """Whether the closure holds what it held when the identity was made."""
        if self._cells is None:
            return False
        cells = getattr(self._function, "__closure__", None) or ()
        try:
            return all(
                cell.cell_contents is content
                for cell, content in zip(cells, self._cells, strict=True)
            )
        except ValueError:
            return False

    # -- a call -----------------------------------------------------------------------------------

    def key(self, values: tuple[Any, ...]) -> bytes | None:
        """The key, where nothing has to be hashed for it."""
        self.identity()
        try:
            return self.known[tuple(map(type, values))].get(values)
        except (KeyError, TypeError):  # never seen; or a class that can't be hashed
            return None

    def items(
        self, values: tuple[Any, ...], counted: tuple[Any, ...]
    ) -> tuple[bytes, list[tuple[str, Any, bytes]]]:
        """The key, and name, value and digest of each argument that counts.

        Args:
            values: the arguments as they were given.
            counted: the same, with the values in place of digests where they must be seen.

        Raises:
            Undigestible: an argument has no identity.
        """
        name, code = self.identity()
        items = self._digested(counted)
        key = call_key(name, code, [(item[0], item[2]) for item in items])
        if self._quick and self._cells is not None:
            self._remember(values, key)
        return key, items

    def _digested(self, values: tuple[Any, ...]) -> list[tuple[str, Any, bytes]]:
        if self._options.key is not None:
            wanted = self._binder.call(self._options.key, values)
            return [("key", wanted, digest_bytes(wanted, label="key"))]
        try:
            items = [
                (name, value, digest_bytes(value)) for name, value in self._binder.items(values)
            ]
        except Undigestible:  # a sentinel; or once more, with a label that tells which it is
            sentinels = self._binder.sentinels
            items = [
                (
                    name,
                    value,
                    default_digest(name)
                    if type(value) is object and value is sentinels.get(name)
                    else digest_bytes(value, label=f'arguments["{name}"]'),
                )
                for name, value in self._binder.items(values)
            ]
        if self._options.isolate:
            where = str(_cwd())
            items.append(("@directory", where, digest_bytes(where)))
        return items

    def _remember(self, values: tuple[Any, ...], key: bytes) -> None:
        types = tuple(map(type, values))
        try:
            if not SCALARS.issuperset(types):
                return
        except TypeError:  # a class that can't be hashed
            return
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
            self.known.clear()
            self._known_count = 0
        self._known_count += 1
        self.known.setdefault(types, {})[values] = key

    def _all(self, found: Located) -> list[tuple[str, Any, bytes]]:
        return self._digested(found.values) if found.items is None else found.items

    def arguments(self, found: Located) -> Arguments:
        """The arguments as a call record has them."""
        shown = _short if self._options.arguments == "scalars" else _never
        return Arguments(self._all(found), shown)

    def shown(self, found: Located) -> str:
        """The arguments as a message has them."""
        inside = ", ".join(
            f"{name}={value!r}" if _short(value) else f"{name}=<{raw.hex()[:8]}>"
            for name, value, raw in self._all(found)
        )
        return f"({inside})"


def _version(version: Any) -> str:
    """A version as part of a key: scalars as they are written, anything else by its digest."""
    if type(version) in (str, int, float, bool) and len(repr(version)) <= 80:
        return repr(version)
    return digest_bytes(version, label="version").hex()


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


def _never(value: Any) -> bool:
    return False
