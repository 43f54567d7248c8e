"""What a kept function depends on beside its arguments and its code: `keep(depends=[…])`.

Each dependency becomes part of the key of a call, like an argument whose name begins with `@`, as it
is when the call is made. So a result is found again when a file or a variable is what it was before.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from wellkept.errors import ConfigError, Undigestible
from wellkept.hashing import digest_bytes
from wellkept.hashing.file_digest import File, content_digest

__all__ = [
    "Dependency",
    "Env",
    "Package",
    "Token",
    "env",
    "file",
    "items",
    "package",
    "parse",
    "token",
]

Item = tuple[str, Any, bytes]
"""As `Locator.items` has them: a name, what a record may show, and a digest."""


class Dependency(Protocol):
    """One dependency."""

    def item(self) -> Item:
        """How it is now.

        Raises:
            Undigestible: it can't be told.
            ConfigError: there can be no such thing.
        """
        ...


class _File:
    def __init__(self, of: File) -> None:
        self.of = of

    def item(self) -> Item:
        name = self.of.path.encode("utf-8", "backslashreplace").decode()
        return f"@file {name}", _HIDDEN, content_digest(self.of.path)


class Env:
    """The value of an environment variable; one that is not set differs from an empty one."""

    def __init__(self, name: str) -> None:
        if not isinstance(name, str) or not name or "=" in name or "\0" in name:
            raise ConfigError(
                f"wellkept.env takes the name of an environment variable, not {name!r}"
            )
        self.name = name

    def item(self) -> Item:
        # Its digest alone is recorded: it may be a secret.
        return f"@env {self.name}", _HIDDEN, digest_bytes(os.environ.get(self.name))

    def __repr__(self) -> str:
        return f"wellkept.env({self.name!r})"


class Package:
    """The version of an installed distribution, looked up once a process."""

    def __init__(self, name: str) -> None:
        if not isinstance(name, str) or not name:
            raise ConfigError(f"wellkept.package takes the name of a distribution, not {name!r}")
        self.name = name
        self._version = ""

    def item(self) -> Item:
        version = self._version = self._version or _installed(self.name)
        return f"@package {self.name}", version, digest_bytes(version)

    def __repr__(self) -> str:
        return f"wellkept.package({self.name!r})"


class Token:
    """Anything that a function without arguments says of the world at each call."""

    def __init__(self, function: Callable[[], Any]) -> None:
        if not callable(function):
            raise ConfigError(
                f"wellkept.token takes a function without arguments, not {function!r}"
            )
        self.function = function
        self.name: Any | str = getattr(function, "__qualname__", type(function).__qualname__)

    def item(self) -> Item:
        try:
            said = self.function()
        except Exception as error:
            text = f"wellkept.token({self.name}) raised {type(error).__name__}: {error}"
            raise Undigestible(text) from error
        return f"@token {self.name}", said, digest_bytes(said, label=f"wellkept.token({self.name})")

    def __repr__(self) -> str:
        return f"wellkept.token({self.name})"


class _Code:
    """A function or class by its deep identity, also one that the code does not reach by name."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self.name = getattr(function, "__qualname__", type(function).__qualname__)
        self._deep: Any = None

    def item(self) -> Item:
        function: Any = self.function
        # It is a kept function.
        if hasattr(type(function), "__followed__"):
            function, tag = function.__followed__()
            if function is None:
                return f"@code {self.name}", _HIDDEN, digest_bytes(tag)
        if self._deep is None or not self._deep.guards.all_same():
            # It parses source; most imports of the library need none of that.
            from wellkept.hashing.code import deep

            self._deep = deep(function, whole=True)
        return f"@code {self.name}", _HIDDEN, bytes.fromhex(self._deep.hex)


# No record shows bytes.
_HIDDEN = b""


def _installed(name: str) -> str:
    from importlib import metadata

    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        module = metadata.packages_distributions().get(name, ())
        hint = f"; the module {name} comes from {', '.join(sorted(set(module)))}" if module else ""
        raise ConfigError(
            f"wellkept.package({name!r}): no such distribution is installed{hint}"
        ) from None


def items(depends: Iterable[Dependency]) -> list[Item]:
    """How all of them are now, each under a name of its own.

    Raises: as `Dependency.item`.
    """
    found: dict[str, Item] = {}
    for dependency in depends:
        base, value, raw = dependency.item()
        name, count = base, 1
        # Two lambdas have one name, for example.
        while name in found and found[name][2] != raw:
            count += 1
            name = f"{base} {count}"
        found[name] = name, value, raw
    return list(found.values())


def file(path: str | os.PathLike[str]) -> File:
    """The content of a file, for `depends`."""
    return File(path)


def env(name: str) -> Env:
    """The value of an environment variable, for `depends`.

    Raises:
        ConfigError: that is no name of one.
    """
    return Env(name)


def package(name: str) -> Package:
    """The version of an installed distribution, for `depends`.

    Raises:
        ConfigError: that is no name. One that is not installed is an error of the first call.
    """
    return Package(name)


def token(function: Callable[[], Any]) -> Token:
    """What a function without arguments returns at each call, for `depends`: a row count, a tag.

    Raises:
        ConfigError: it can't be called.
    """
    return Token(function)


def parse(given: Any) -> tuple[Dependency, ...]:
    """Check what a user gave.

    Raises:
        ConfigError: it is no dependency.
    """
    single = isinstance(given, (File, Env, Package, Token)) or callable(given)
    each: Iterable[Any] = (given,) if single else given
    if isinstance(given, str) or not isinstance(each, Iterable):
        instead = ""
        if isinstance(given, str):
            kind = "file" if re.search(r"[./\\]", given) else "package"
            instead = f": write depends=[wellkept.{kind}({given!r})]"
        raise ConfigError(f"depends= takes a list of dependencies, not {given!r}{instead}")
    return tuple(map(_one, each))


def _one(given: Any) -> Dependency:
    if isinstance(given, (Env, Package, Token)):
        return given
    if isinstance(given, File):
        return _File(given)
    if callable(given):
        return _Code(given)
    raise ConfigError(
        "depends= takes wellkept.file(…), wellkept.env(…), wellkept.package(…), wellkept.token(…) and "
        f"functions, not {given!r}"
    )
