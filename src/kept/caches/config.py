"""Which cache is meant when none is named: `KEPT_CACHE`, `kept.toml`, `[tool.kept]`, the default.

The file nearest above the working directory wins; relative paths in it are relative to it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from kept.caches.opening import OPTIONS, resolve_url
from kept.errors import ConfigError

__all__ = ["Settings", "find", "read"]


BARE = re.compile(r"\w[\w-]*")
"""A bare word is the name of a cache; a path of one word is written `./word`."""


def no_such(name: str, caches: Mapping[str, Any]) -> str:
    """What to say of a name that no cache has."""
    known = ", ".join(sorted(caches)) or "none"
    return f"no cache is named {name!r}; there are {known} (a path is written './{name}')"


class Settings(NamedTuple):
    """What is in force: the URL of the active cache, named caches, and where that was said."""

    url: str
    source: str
    """`KEPT_CACHE`, the path of a file, or `default`."""
    options: Mapping[str, Any] = {}
    caches: Mapping[str, tuple[str, Mapping[str, Any]]] = {}
    """Name -> URL and options."""

    def named(self, name: str) -> tuple[str, Mapping[str, Any]]:
        """The URL and options of a named cache.

        Raises:
            ConfigError: there is none of that name.
        """
        if name not in self.caches:
            raise ConfigError(f"{self.source}: {no_such(name, self.caches)}")
        return self.caches[name]


def find(start: Path | None = None) -> Settings:
    """The settings in force in a directory.

    Raises:
        ConfigError: a file is malformed, or names what is not there: with file, line and key.
    """
    settings = _from_file(start or Path.cwd())
    override = os.environ.get("KEPT_CACHE")
    if not override:
        return settings
    if override in settings.caches:
        url, options = settings.caches[override]
    elif BARE.fullmatch(override):
        raise ConfigError(f"KEPT_CACHE: {no_such(override, settings.caches)}")
    else:
        url, options = resolve_url(override, Path.cwd()), {}
    return Settings(url, "KEPT_CACHE", options, settings.caches)


def _from_file(start: Path) -> Settings:
    start = start.absolute()
    for directory in (start, *start.parents):
        for name in ("kept.toml", "pyproject.toml"):
            path = directory / name
            if path.is_file():
                settings = read(path)
                if settings is not None:
                    return settings
    import platformdirs  # only where nothing was said

    return Settings(platformdirs.user_cache_dir("kept", appauthor=False), "default")


def read(path: Path) -> Settings | None:
    """The settings of a file; None for a `pyproject.toml` without `[tool.kept]`.

    Raises:
        ConfigError: the file is malformed.
    """
    import tomllib

    try:
        text = path.read_text("utf-8")
        if path.name == "pyproject.toml" and not re.search(r"^\s*\[tool\.kept", text, re.MULTILINE):
            return None
        table: Any = tomllib.loads(text)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: can't be read: {error}") from error
    except tomllib.TOMLDecodeError as error:
        found = re.search(r"at line (\d+)", str(error))
        line = int(found[1]) if found else text.count("\n") + 1
        raise ConfigError(f"{path}:{line}: {error}{_key_at(text, line)}") from error
    if path.name == "pyproject.toml":
        table = table.get("tool", {}).get("kept", {})
    return _Reader(path, text).settings(table)


class _Reader:
    def __init__(self, path: Path, text: str) -> None:
        self.path, self.text = path, text

    def settings(self, table: Any) -> Settings:
        if not isinstance(table, dict):
            raise self.error("tool.kept", "must be a table")
        named = table.get("caches", {})
        if not isinstance(named, dict):
            raise self.error("caches", "must be a table of caches, [caches.NAME]")
        caches = {name: self.cache(name, what) for name, what in named.items()}
        options = self.options({k: v for k, v in table.items() if k not in ("cache", "caches")}, "")
        chosen = table.get("cache")
        if chosen is None:
            import platformdirs

            url = platformdirs.user_cache_dir("kept", appauthor=False)
        elif not isinstance(chosen, str) or not chosen:
            raise self.error("cache", "must be the name of a cache, a path or a URL")
        elif chosen in caches:
            url, own = caches[chosen]
            options |= own
        elif BARE.fullmatch(chosen):
            raise self.error("cache", no_such(chosen, caches))
        else:
            url = self.url("cache", chosen)
        return Settings(url, str(self.path), options, caches)

    def cache(self, name: str, what: Any) -> tuple[str, dict[str, Any]]:
        key = f"caches.{name}"
        if isinstance(what, str):
            what = {"url": what}
        if not isinstance(what, dict):
            raise self.error(key, "must be a table with a url")
        if not isinstance(what.get("url"), str) or not what["url"]:
            raise self.error(f"{key}.url", "is missing, or not text")
        options = self.options({k: v for k, v in what.items() if k != "url"}, f"{key}.")
        return self.url(f"{key}.url", what["url"]), options

    def url(self, key: str, url: str) -> str:
        try:
            return resolve_url(url, self.path.parent)
        except ConfigError as error:
            raise self.error(key, str(error)) from None

    def options(self, table: dict[str, Any], where: str) -> dict[str, Any]:
        kinds = {"memory": (int, str), "durability": (str,), "trust": (bool,), "readonly": (bool,)}
        for name, value in table.items():
            if name not in OPTIONS:
                raise self.error(where + name, f"is not known; there are {', '.join(OPTIONS)}")
            wanted = kinds.get(name, (bool,))
            if not isinstance(value, wanted) or (bool not in wanted and isinstance(value, bool)):
                names = " or ".join(kind.__name__ for kind in wanted)
                raise self.error(where + name, f"must be {names}, not {value!r}")
            try:
                _check(name, value)
            except ConfigError as error:
                raise self.error(where + name, str(error)) from None
        return table

    def error(self, key: str, what: str) -> ConfigError:
        return ConfigError(f"{self.path}:{self.line(key)}: {key}: {what}")

    def line(self, key: str) -> int:
        """The line that says `key`, or the last that says what it is part of."""
        inside = self.path.name == "pyproject.toml"
        wanted = f"tool.kept.{key}" if inside and not key.startswith("tool.") else key
        best, at, table = 0, 1, ""
        for i, line in enumerate(self.text.splitlines(), start=1):
            if header := re.match(r"\s*\[([^\[\]]+)\]", line):
                said = table = _plain(header[1])
            elif entry := re.match(r"\s*([\w.\"' -]+?)\s*=", line):
                said = f"{table}.{_plain(entry[1])}".lstrip(".")
            else:
                continue
            if (said == wanted or wanted.startswith(f"{said}.")) and len(said) >= best:
                best, at = len(said), i
        return at


def _plain(key: str) -> str:
    return ".".join(part.strip().strip("\"'") for part in key.split("."))


def _check(name: str, value: Any) -> None:
    if name == "memory":
        from kept.caches.sizes import parse_size

        parse_size(value)
    if name == "durability" and value not in ("process", "power"):
        raise ConfigError(f"is 'process' or 'power', not {value!r}")


def _key_at(text: str, line: int) -> str:
    lines = text.splitlines()
    found = re.match(r"\s*([\w.\"'-]+)\s*=", lines[line - 1]) if 0 < line <= len(lines) else None
    return f" (key {found[1]})" if found else ""
