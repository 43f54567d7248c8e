"""What a configuration says: the caches in it, what `meta` may say, and the caches that are made of it."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from wellkept.caches.described import (
    resolved,
)
from wellkept.caches.opening import OPTIONS, resolve_url
from wellkept.caches.option_text import expanded, has_password, is_secret, parse_size, redacted
from wellkept.errors import ConfigError, nearest, tell
from wellkept.stores.openers import scheme_of

COLLECTORS = ("environment", "git", "packages", "tags")

ARGUMENTS = ("scalars", "digests", "values")
"""What a record has of arguments beside digests: small scalars, nothing, or these and kept values."""

RESERVED = frozenset(
    {
        *("started", "cpu", "system", "children", "memory", "directory", "env", "package"),
        *("parent", "run", "node", "carries", "output", "cost"),
    }
)
"""Names that stand in a call's metadata anyway."""


def checked_names(name: str, said: Any, where: str) -> None:
    """Check what is said of a collector.

    Raises:
        ConfigError: it is not what it may be, or names a secret.
    """
    if name == "git":
        if said is not True:
            raise ConfigError(f"{where} git is only switched on: true, not {said!r}")
        return
    if name == "tags":
        scalar = (str, int, float, bool, type(None))
        if not isinstance(said, Mapping) or not all(
            isinstance(key, str) and isinstance(value, scalar) for key, value in said.items()
        ):
            raise ConfigError(f"{where} tags are names with text, numbers or truths, not {said!r}")
        try:
            json.dumps(dict(said), allow_nan=False)
        except ValueError as error:
            raise ConfigError(f"{where} a tag can't be kept: {error}") from error
        return
    if name == "packages" and said is True:
        return
    if not isinstance(said, (list, tuple)) or not all(isinstance(item, str) for item in said):
        what = "variables" if name == "environment" else "distributions"
        raise ConfigError(f"{where} {name} takes a list of names of {what}, not {said!r}")
    if name == "environment":
        for variable in said:
            if is_secret(variable):
                raise ConfigError(
                    f"{where} {variable} is not recorded: its name looks like that of a secret"
                )


BARE = re.compile(r"\w[\w-]*")
"""A bare word is the name of a cache; a path of one word is written `./word`."""

KINDS = ("url", "values", "stack", "pool", "of")
"""What a cache may be; `values` goes with `calls`."""


def no_such(name: str, caches: Mapping[str, Any]) -> str:
    """What to say of a name that no cache has."""
    known = ", ".join(sorted(caches)) or "none"
    media = ("memory", "void")
    return (
        f"no cache is named {name!r}; there are {known} (a path is written './{name}'"
        f"{f', and what keeps nothing on disk {name}:' if name in media else ''})"
        f"{nearest(name, caches)}"
    )


class Spec(NamedTuple):
    """One cache, as it is configured. Exactly one of `KINDS` is said."""

    url: str | None = None
    """A path or URL; `${NAME}` in it is a variable of the environment, put in when it is opened."""
    options: Mapping[str, Any] = {}
    """What the place takes, and `memory`."""
    values: str | Mapping[str, Any] | None = None
    """The URL of the store of results, or a table that says one, …"""
    calls: str | Mapping[str, Any] | None = None
    """… and of the one of call records."""
    stack: tuple[str, ...] = ()
    """Names or URLs of caches, the nearest first."""
    pool: tuple[str, ...] = ()
    of: str | None = None
    """The name or URL of a cache that is seen in another way."""
    write: str | None = None
    """`all` or `first` of a stack; `none`: it is only read from."""
    limit: Mapping[str, Any] | None = None
    """`bytes`, `calls`, `policy`."""
    where: str | None = None
    """`module:function` of a function that says which calls of `of` are there."""

    @property
    def parts(self) -> tuple[str, ...]:
        """The caches that it is made of."""
        return self.stack or self.pool or ((self.of,) if self.of else ())

    @property
    def shown(self) -> str:
        """In a line, without secrets."""
        if self.url is not None:
            said = redacted(self.url)
        elif self.values is not None:
            said = f"values in {_place(self.values)}, calls in {_place(self.calls)}"
        else:
            kind = "stack" if self.stack else "pool" if self.pool else "view"
            said = f"{kind} of {', '.join(map(redacted, self.parts))}"
        if self.write not in (None, "all"):
            said += f", write = {self.write}"
        if self.limit:
            limits = (f"{name} = {value}" for name, value in self.limit.items())
            said += f", limit {', '.join(limits)}"
        return f"{said}, where = {self.where}" if self.where else said

    def table(self) -> dict[str, Any]:
        """As it stands in a file."""
        said: dict[str, Any] = {}
        for name in ("url", "values", "calls", "stack", "pool", "of", "write", "where"):
            value = getattr(self, name)
            if value:
                said[name] = list(value) if isinstance(value, tuple) else value
        if self.limit:
            said["limit"] = dict(self.limit)
        return said | dict(self.options)

    def lines(self) -> Iterator[str]:
        """The lines of a TOML table."""
        for name, value in self.table().items():
            yield f"{toml_key(name)} = {toml_value(value)}"


def _place(store: str | Mapping[str, Any] | None) -> str:
    if isinstance(store, Mapping):
        return f"{store.get('kind', '')}({_place(store.get('store', store.get('url')))})"
    return redacted(store or "")


def toml_key(name: str) -> str:
    """A key, quoted where it must be."""
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else toml_value(name)


def toml_value(value: Any) -> str:
    """Text, number, truth, list or table in a line of TOML."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(toml_value, value))}]"
    if isinstance(value, Mapping):
        inside = ", ".join(f"{toml_key(name)} = {toml_value(item)}" for name, item in value.items())
        return f"{{ {inside} }}"
    return repr(value)


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
    arguments: str = "scalars"
    """What records have of arguments, unless a function says it; see `ARGUMENTS`."""

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
            # Without a configuration, there is nothing to look into.
            where = "" if self.source == "default" else f"{self.source}: "
            raise ConfigError(f"{where}{no_such(name, self.caches)}")
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
        if self.arguments != "scalars":
            lines.insert(0, f"arguments = {toml_value(self.arguments)}")
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
        from wellkept.caches.building import specs_of  # it makes caches; most settings are read

        specs = specs_of(caches)
        if active not in specs:
            raise ConfigError(no_such(active, specs))
        return cls(specs[active], "caches", specs, active)


def find(start: Path | None = None) -> Settings:
    """The settings in force in a directory.

    Raises:
        ConfigError: a file is malformed, or names what is not there: with file, line and key.
    """
    tests = os.environ.get("WELLKEPT_TESTS")
    settings = _from_file(start or Path.cwd())
    if tests and tests != "read":
        # A test that says WELLKEPT_CACHE itself has what it says.
        settings = _for_tests(settings, tests)
    settings = _chosen(settings)
    if tests == "read":
        settings = _for_tests(settings, tests)
    limit = os.environ.get("WELLKEPT_LIMIT")
    if not limit:
        return settings
    try:
        parse_size(limit)
    except ConfigError as error:
        raise ConfigError(f"WELLKEPT_LIMIT: {error}") from None
    return settings._replace(active=settings.active._replace(limit={"bytes": limit}))


def _for_tests(settings: Settings, said: str) -> Settings:
    """With caches that a test may use in place of the configured ones: see `testing.pytest_plugin`.

    Args:
        said: `off`, `read`, or a directory for them.
    """

    def instead(name: str, spec: Spec) -> Spec:
        if said == "read":
            return spec._replace(write="none")
        return Spec("void:" if said == "off" else str(Path(said, f"{quote(name, safe='')}.cache")))

    caches = {name: instead(name, spec) for name, spec in settings.caches.items()}
    name = settings.name
    active = instead("default", settings.active) if name is None else caches[name]
    return settings._replace(active=active, source="WELLKEPT_TESTS", caches=caches)


def _chosen(settings: Settings) -> Settings:
    """With the cache that the environment names, if it does."""
    override = os.environ.get("WELLKEPT_CACHE")
    if not override:
        return settings
    name = override if override in settings.caches else None
    if name is None and override == "off":
        spec = Spec("void:")
    elif name is not None:
        spec = settings.caches[name]
    elif BARE.fullmatch(override):
        raise ConfigError(f"WELLKEPT_CACHE: {no_such(override, settings.caches)}")
    else:
        spec = Spec(resolve_url(override, Path.cwd()))
    return settings._replace(active=spec, source="WELLKEPT_CACHE", name=name)


def files(start: Path) -> Iterator[Path]:
    """Yield the files that may configure what runs in a directory, the nearest first; the first that does
    counts, and others are not read."""
    start = start.absolute()
    for directory in (start, *start.parents):
        for name in ("wellkept.toml", "pyproject.toml"):
            path = directory / name
            if path.is_file():
                yield path
    import platformdirs  # only where nothing was said

    own = Path(platformdirs.user_config_dir("wellkept", appauthor=False)) / "wellkept.toml"
    if own.is_file():
        yield own


def _from_file(start: Path) -> Settings:
    for path in files(start):
        settings = read(path)
        if settings is not None:
            return settings
    import platformdirs

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
    return Settings(active, str(path), caches, name, reader.meta(table), reader.arguments(table))


_WRITES = {"stack": ("all", "first", "behind", "none")}
_TOP = ("cache", "caches", "limit", "meta", "arguments")
_MADE = ("url", "values", "calls", "stack", "pool", "of", "write", "limit", "where")
FUNCTION = re.compile(r"[\w.]+:[\w.]+").fullmatch
"""`package.module:function`."""


class Reader:
    """Reads one file's table.

    Args:
        path: of the file; relative paths in it are taken from its directory.
        text: what is in it, to find lines by.
    """

    path: Path
    text: str

    def __init__(self, path: Path, text: str) -> None:
        self.path, self.text = path, text
        self._names: set[str] = set()
        self.inside: dict[str, Spec] = {}
        """Caches that stand, without a name, in the table of another."""

    def arguments(self, table: Any) -> str:
        """What records have of arguments."""
        said = table.get("arguments", "scalars")
        if said not in ARGUMENTS:
            raise self.error("arguments", f"must be one of {', '.join(ARGUMENTS)}")
        return str(said)

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
        caches |= self.inside
        for name in caches:
            self._circle(name, caches, ())
        own = {k: v for k, v in table.items() if k not in _TOP}
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
        if "limit" in table and not spec.limit:
            spec = spec._replace(limit=self.limit("limit", table["limit"]))
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
                at = f"{key}.{kind}"
                if kind != "url" and isinstance(value, dict) and "kind" not in value:
                    # A URL with options.
                    options[f"{kind}_options"] = {k: v for k, v in value.items() if k != "url"}
                    value = value.get("url")
                plain = isinstance(value, str) or kind != "url"
                found = resolved(value, partial(self.url, at)) if plain else None
                if found is None:
                    raise self.error(at, "is missing, or not text")
                made[kind] = found
        for kind in ("stack", "pool"):
            if kind in what:
                made[kind] = self.parts(f"{key}.{kind}", what[kind])
        if "of" in what:
            made["of"] = self.parts(f"{key}.of", [what["of"]])[0]
        if "write" in what:
            made["write"] = self.write(f"{key}.write", what["write"], said[0])
        if "limit" in what:
            made["limit"] = self.limit(f"{key}.limit", what["limit"])
        if "where" in what:
            if said[0] != "of" or not isinstance(what["where"], str) or not FUNCTION(what["where"]):
                raise self.error(f"{key}.where", "is 'package.module:function', beside of")
            made["where"] = what["where"]
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
        what = [self._named(key, part) if isinstance(part, dict) else part for part in what]
        for part in what:
            if not isinstance(part, str) or not part:
                raise self.error(key, f"must be names of caches, paths or URLs, not {part!r}")
        return tuple(
            part if part in self._names or BARE.fullmatch(part) else self.url(key, part)
            for part in what
        )

    def _named(self, key: str, table: dict[str, Any]) -> str:
        """Return a name for a cache that stands in another one's table."""
        near, number = key.split(".")[1], 1
        while f"{near}-{number}" in self._names:
            number += 1
        name = f"{near}-{number}"
        self._names.add(name)
        self.inside[name] = self.cache(name, table)
        return name

    def write(self, key: str, what: Any, kind: str) -> str:
        allowed = _WRITES.get(kind, ("all", "none"))
        if what not in allowed:
            raise self.error(key, f"is one of {', '.join(allowed)} here, not {what!r}")
        return str(what)

    def limit(self, key: str, what: Any) -> dict[str, Any]:
        from wellkept.caches.maintenance import limit_of  # with the files that say so

        if isinstance(what, (str, int)) and not isinstance(what, bool):
            what = {"bytes": what}
        if not isinstance(what, dict):
            raise self.error(
                key, 'must be a size, such as "10 GB", or a table of bytes, calls and policy'
            )
        for name in what:
            if name not in ("bytes", "calls", "policy"):
                raise self.error(key, f"{name} is not known; there are bytes, calls, policy")
        policy = what.get("policy", "cost")
        try:
            # A function is imported when the cache is opened.
            own = isinstance(policy, str) and FUNCTION(policy)
            limit_of(what.get("bytes"), what.get("calls"), len if own else policy)
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
                known = ", ".join((*(_MADE if where else _TOP), *OPTIONS))
                raise self.error(where + name, f"is not known; there are {known}")
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
        parse_size(value)
    if name == "durability" and value not in ("process", "power"):
        raise ConfigError(f"is 'process' or 'power', not {value!r}")


def key_at(text: str, line: int) -> str:
    """The key of a line, for a message."""
    lines = text.splitlines()
    found = re.match(r"\s*([\w.\"'-]+)\s*=", lines[line - 1]) if 0 < line <= len(lines) else None
    return f" (key {found[1]})" if found else ""
