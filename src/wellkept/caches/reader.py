"""A configuration file: what it says of caches, or which line of it is wrong."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from wellkept.caches.collected import COLLECTORS, RESERVED, checked_names
from wellkept.caches.opening import OPTIONS, resolve_url
from wellkept.caches.secrets import expanded, has_password
from wellkept.caches.spec import BARE, KINDS, Spec, no_such
from wellkept.errors import ConfigError, tell
from wellkept.stores.openers import scheme_of

__all__ = ["Reader", "key_at"]

_WRITES = {"stack": ("all", "first", "behind", "none")}
_MADE = ("url", "values", "calls", "stack", "pool", "of", "write", "limit")


class Reader:
    """Reads one file's table.

    Args:
        path: of the file; relative paths in it are taken from its directory.
        text: what is in it, to find lines by.
    """

    def __init__(self, path: Path, text: str) -> None:
        self.path, self.text = path, text
        self._names: set[str] = set()

    def meta(self, table: Any) -> dict[str, Any]:
        """What is to be recorded with every call: collectors by name.

        Raises:
            ConfigError: something is wrong, with file, line and key.
        """
        meta = table.get("meta", {}) if isinstance(table, dict) else {}
        if not isinstance(meta, dict):
            raise self.error("meta", "must be a table of collectors")
        for name, said in meta.items():
            if name in COLLECTORS:
                try:
                    checked_names(name, said, "here")
                except ConfigError as error:
                    raise self.error(f"meta.{name}", str(error)) from None
            elif name in RESERVED:
                raise self.error(f"meta.{name}", "is recorded anyway; choose another name")
            elif not isinstance(said, str) or not re.fullmatch(r"[\w.]+:[\w.]+", said):
                raise self.error(
                    f"meta.{name}",
                    f"is not known; there are {', '.join(COLLECTORS)}, and names of your own for "
                    "'package.module:function'",
                )
        return meta

    def read(self, table: Any) -> tuple[Spec, str | None, dict[str, Spec]]:
        """The active cache, its name if it has one, and all that have names.

        Raises:
            ConfigError: something is wrong, with file, line and key.
        """
        if not isinstance(table, dict):
            raise self.error("tool.wellkept", "must be a table")
        named = table.get("caches", {})
        if not isinstance(named, dict):
            raise self.error("caches", "must be a table of caches, [caches.NAME]")
        self._names = set(named)
        caches = {name: self.cache(name, what) for name, what in named.items()}
        for name in caches:
            self._circle(name, caches, ())
        own = {k: v for k, v in table.items() if k not in ("cache", "caches", "meta")}
        chosen = table.get("cache")
        name = None
        if chosen is None:
            import platformdirs

            spec = Spec(platformdirs.user_cache_dir("wellkept", appauthor=False))
        elif not isinstance(chosen, str) or not chosen:
            raise self.error("cache", "must be the name of a cache, a path or a URL")
        elif chosen in caches:
            spec, name = caches[chosen], chosen
        elif BARE.fullmatch(chosen):
            raise self.error("cache", no_such(chosen, caches))
        else:
            spec = Spec(self.url("cache", chosen))
        options = self.options(own, "", spec.url)
        return spec._replace(options={**options, **spec.options}), name, caches

    def cache(self, name: str, what: Any) -> Spec:
        key = f"caches.{name}"
        if isinstance(what, str):
            what = {"url": what}
        if not isinstance(what, dict):
            raise self.error(key, "must be a table with a url")
        said = [kind for kind in KINDS if kind in what]
        if not said and "calls" not in what:
            raise self.error(f"{key}.url", "is missing, or not text")
        if len(said) > 1:
            raise self.error(f"{key}.{said[1]}", f"goes not with {said[0]}: say one of the two")
        if ("values" in what) != ("calls" in what):
            there = "values" if "values" in what else "calls"
            raise self.error(f"{key}.{there}", "needs both values and calls")
        made: dict[str, Any] = {}
        options = {k: v for k, v in what.items() if k not in _MADE}
        for kind in ("url", "values", "calls"):
            if kind in what:
                value = what[kind]
                if kind != "url" and isinstance(value, dict):  # a URL with options
                    options[f"{kind}_options"] = {k: v for k, v in value.items() if k != "url"}
                    value = value.get("url")
                if not isinstance(value, str) or not value:
                    raise self.error(f"{key}.{kind}", "is missing, or not text")
                made[kind] = self.url(f"{key}.{kind}", value)
        for kind in ("stack", "pool"):
            if kind in what:
                made[kind] = self.parts(f"{key}.{kind}", what[kind])
        if "of" in what:
            made["of"] = self.parts(f"{key}.of", [what["of"]])[0]
        if "write" in what:
            made["write"] = self.write(f"{key}.write", what["write"], said[0])
        if "limit" in what:
            made["limit"] = self.limit(f"{key}.limit", what["limit"])
        return Spec(**made, options=self.options(options, f"{key}.", made.get("url")))

    def url(self, key: str, url: str) -> str:
        if has_password(url):
            tell(
                f"{self.path}:{self.line(key)}: {key}: a password stands in this file; write "
                "${NAME} in its place, and set that variable in the environment"
            )
        try:
            if "://" not in url and "${" in url:
                try:
                    url = expanded(url)  # no secret, and a path has to be whole to be resolved
                except ConfigError:
                    return url  # told if this cache is opened
            return resolve_url(url, self.path.parent)
        except ConfigError as error:
            raise self.error(key, str(error)) from None

    def parts(self, key: str, what: Any) -> tuple[str, ...]:
        if not isinstance(what, list) or not what:
            raise self.error(key, "must be a list of names of caches, paths or URLs")
        for part in what:
            if not isinstance(part, str) or not part:
                raise self.error(key, f"must be names of caches, paths or URLs, not {part!r}")
        return tuple(
            part if part in self._names or BARE.fullmatch(part) else self.url(key, part)
            for part in what
        )

    def write(self, key: str, what: Any, kind: str) -> str:
        allowed = _WRITES.get(kind, ("all", "none"))
        if what not in allowed:
            raise self.error(key, f"is one of {', '.join(allowed)} here, not {what!r}")
        return str(what)

    def limit(self, key: str, what: Any) -> dict[str, Any]:
        from wellkept.caches.limits import limit_of  # with the files that say so

        if not isinstance(what, dict):
            raise self.error(key, "must be a table of bytes, calls and policy")
        for name in what:
            if name not in ("bytes", "calls", "policy"):
                raise self.error(key, f"{name} is not known; there are bytes, calls, policy")
        try:
            limit_of(what.get("bytes"), what.get("calls"), what.get("policy", "cost"))
        except ConfigError as error:
            raise self.error(key, str(error)) from None
        return what

    def options(self, table: dict[str, Any], where: str, url: str | None) -> dict[str, Any]:
        kinds = {"memory": (int, str), "durability": (str,), "trust": (bool,), "readonly": (bool,)}
        # A directory's options are known here, another place's only to its class.
        elsewhere = url is None or bool(scheme_of(url))
        for name, value in table.items():
            if name not in OPTIONS:
                if elsewhere and where and isinstance(value, (str, int, float, dict)):
                    continue
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

    def _circle(self, name: str, caches: Mapping[str, Spec], above: tuple[str, ...]) -> None:
        if name in above:
            raise self.error(f"caches.{name}", f"is made of itself: {' of '.join((*above, name))}")
        for part in caches[name].parts:
            if part in caches:
                self._circle(part, caches, (*above, name))
            elif BARE.fullmatch(part):
                raise self.error(f"caches.{name}", no_such(part, caches))

    def error(self, key: str, what: str) -> ConfigError:
        return ConfigError(f"{self.path}:{self.line(key)}: {key}: {what}")

    def line(self, key: str) -> int:
        """The line that says `key`, or the last that says what it is part of."""
        inside = self.path.name == "pyproject.toml"
        wanted = f"tool.wellkept.{key}" if inside and not key.startswith("tool.") else key
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
        from wellkept.caches.sizes import parse_size

        parse_size(value)
    if name == "durability" and value not in ("process", "power"):
        raise ConfigError(f"is 'process' or 'power', not {value!r}")


def key_at(text: str, line: int) -> str:
    """The key of a line, for a message."""
    lines = text.splitlines()
    found = re.match(r"\s*([\w.\"'-]+)\s*=", lines[line - 1]) if 0 < line <= len(lines) else None
    return f" (key {found[1]})" if found else ""
