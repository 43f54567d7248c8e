"""Which cache is meant when none is named: `WELLKEPT_CACHE`, `wellkept.toml`, `[tool.wellkept]`, the default.

The file nearest above the working directory wins; relative paths in it are relative to it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from wellkept.caches.opening import resolve_url
from wellkept.caches.reader import Reader, key_at
from wellkept.caches.spec import BARE, Spec, no_such, toml_key, toml_value
from wellkept.errors import ConfigError

__all__ = ["Settings", "find", "read"]


class Settings(NamedTuple):
    """What is in force: the active cache, named caches, and where that was said."""

    active: Spec
    source: str
    """`WELLKEPT_CACHE`, the path of a file, or `default`."""
    caches: Mapping[str, Spec] = {}
    name: str | None = None
    """The active cache's, if it has one."""
    meta: Mapping[str, Any] = {}
    """Collectors of what is recorded with every call, by name."""

    @property
    def url(self) -> str:
        """The active cache's path or URL; what it is made of, if it is made of others."""
        return self.active.url if self.active.url is not None else self.active.shown

    @property
    def options(self) -> Mapping[str, Any]:
        return self.active.options

    def named(self, name: str) -> Spec:
        """What is said of a named cache.

        Raises:
            ConfigError: there is none of that name.
        """
        if name not in self.caches:
            raise ConfigError(f"{self.source}: {no_such(name, self.caches)}")
        return self.caches[name]

    def to_toml(self) -> str:
        """A `wellkept.toml` that says the same, wherever it stands. Passwords stand in it as they do in
        these settings; `redacted` of it has none.
        """
        lines: list[str] = []
        caches = dict(self.caches)
        if self.name is not None and caches.get(self.name) == self.active:
            lines = [f"cache = {toml_value(self.name)}"]
        elif self.active.url is not None and not self.active.limit and not self.active.write:
            lines = [f"cache = {toml_value(self.active.url)}"]
            lines += Spec(options=self.active.options).lines()
        else:
            name = self.name or "active"
            while name in caches:
                name += "-active"
            lines = [f"cache = {toml_value(name)}"]
            caches[name] = self.active
        for name, spec in caches.items():
            lines += ["", f"[caches.{toml_key(name)}]", *spec.lines()]
        if self.meta:
            said = (f"{toml_key(name)} = {toml_value(value)}" for name, value in self.meta.items())
            lines += ["", "[meta]", *said]
        return "\n".join(lines) + "\n"

    @classmethod
    def of(cls, caches: Mapping[str, Any], active: str) -> Settings:
        """What would have to be said for caches that there are.

        Args:
            caches: by name; what they are made of is given names.
            active: the name of the active one.

        Raises:
            ConfigError: one can't be configured, such as a filtered cache.
        """
        from wellkept.caches.building import specs_of  # who has settings read opens caches later

        specs = specs_of(caches)
        if active not in specs:
            raise ConfigError(no_such(active, specs))
        return cls(specs[active], "caches", specs, active)


def find(start: Path | None = None) -> Settings:
    """The settings in force in a directory.

    Raises:
        ConfigError: a file is malformed, or names what is not there: with file, line and key.
    """
    settings = _from_file(start or Path.cwd())
    override = os.environ.get("WELLKEPT_CACHE")
    if not override:
        return settings
    name = override if override in settings.caches else None
    if name is not None:
        spec = settings.caches[name]
    elif BARE.fullmatch(override):
        raise ConfigError(f"WELLKEPT_CACHE: {no_such(override, settings.caches)}")
    else:
        spec = Spec(resolve_url(override, Path.cwd()))
    return Settings(spec, "WELLKEPT_CACHE", settings.caches, name, settings.meta)


def _from_file(start: Path) -> Settings:
    start = start.absolute()
    for directory in (start, *start.parents):
        for name in ("wellkept.toml", "pyproject.toml"):
            path = directory / name
            if path.is_file():
                settings = read(path)
                if settings is not None:
                    return settings
    import platformdirs  # only where nothing was said

    return Settings(Spec(platformdirs.user_cache_dir("wellkept", appauthor=False)), "default")


def read(path: Path) -> Settings | None:
    """The settings of a file; None for a `pyproject.toml` without `[tool.wellkept]`.

    Raises:
        ConfigError: the file is malformed.
    """
    import tomllib

    try:
        text = path.read_text("utf-8")
        if path.name == "pyproject.toml" and not re.search(
            r"^\s*\[tool\.wellkept", text, re.MULTILINE
        ):
            return None
        table: Any = tomllib.loads(text)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: can't be read: {error}") from error
    except tomllib.TOMLDecodeError as error:
        found = re.search(r"at line (\d+)", str(error))
        line = int(found[1]) if found else text.count("\n") + 1
        raise ConfigError(f"{path}:{line}: {error}{key_at(text, line)}") from error
    if path.name == "pyproject.toml":
        table = table.get("tool", {}).get("wellkept", {})
    reader = Reader(path, text)
    active, name, caches = reader.read(table)
    return Settings(active, str(path), caches, name, reader.meta(table))
