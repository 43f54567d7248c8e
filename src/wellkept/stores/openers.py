"""Byte stores and backends by URL: a scheme names a class, which is imported on first use."""

from __future__ import annotations

import os
import re
from importlib import import_module
from pathlib import Path
from typing import Any

from wellkept._system import POSIX
from wellkept.errors import ConfigError
from wellkept.stores.base import Store

__all__ = ["MEDIA", "absolute", "known_schemes", "local_path", "open_medium", "scheme_of"]

MEDIA = {
    "memory": "wellkept.stores.memory:Memory",
    "void": "wellkept.stores.memory:Void",
    "files": "wellkept.stores.files:Files",
    "sqlite": "wellkept.stores.sqlite_items:Sqlite",
    "postgresql": "wellkept.stores.sql:Sql",
    "postgres": "wellkept.stores.sql:Sql",
    "mariadb": "wellkept.stores.sql:Sql",
    "mysql": "wellkept.stores.sql:Sql",
    "redis": "wellkept.stores.redis:Redis",
    "rediss": "wellkept.stores.redis:Redis",
    "s3": "wellkept.stores.object_store:Objects",
    "gs": "wellkept.stores.object_store:Objects",
    "az": "wellkept.stores.object_store:Objects",
    "hdf5": "wellkept.stores.hdf5_files:Hdf5",
    "ssh": "wellkept.remote.ssh:Ssh",
    "https": "wellkept.remote.client:Http",
    "http": "wellkept.remote.client:Http",
}
"""Scheme -> `module:class`; of a scheme with a driver (`mysql+pymysql`), the part before the `+` counts."""

_EXTRAS = {
    "redis": "redis",
    "object_store": "s3",
    "hdf5_files": "hdf5",
    "sql": "sql",
}
_PATHS = {"files": "files:", "sqlite": "sqlite:///", "hdf5": "hdf5:"}
"""Schemes whose rest is a path, and the beginning of such a URL."""

IN_MEMORY = ":memory:"
"""What SQLite calls a database that is in memory. Nothing takes it for the name of a file."""

# On Windows the first slash of `files:///C:/caches` is not the path's.
_DRIVE = re.compile(r"/[a-z]:", re.IGNORECASE)
# Two letters at least, as `C:` begins a path on Windows.
_SCHEME = re.compile(r"([a-z][a-z0-9+.-]+):", re.IGNORECASE)


def scheme_of(url: str) -> str:
    """Return the scheme in lower case; empty for a path."""
    found = _SCHEME.match(url)
    return found[1].lower() if found else ""


def is_in_memory(url: str) -> bool:
    """Whether a URL is that of an SQLite database in memory, or a path is what SQLite calls it."""
    scheme = scheme_of(url)
    place = url[len(scheme) + 1 :].partition("?")[0] if scheme else url
    return Path(place).name == IN_MEMORY


def in_memory(url: str) -> str:
    """Return `memory:` for the URL of an SQLite database in memory, and any other URL as it is.

    Raises:
        ConfigError: a path is what SQLite calls a database in memory.
    """
    if scheme_of(url) == "sqlite" and url.partition(":")[2].lstrip("/") == IN_MEMORY:
        return "memory:"
    if is_in_memory(url):
        raise ConfigError(
            f"{url} names no directory and no file; a cache in this process's memory is memory:"
        )
    return url


def checked_path(path: str | os.PathLike[str]) -> Path:
    """Return the absolute path that a user gave for a store.

    Raises:
        ConfigError: it is what SQLite calls a database in memory.
    """
    if Path(path).name == IN_MEMORY:
        raise ConfigError(
            f"{os.fspath(path)} is no place for files; wellkept.stores.Memory() is in memory"
        )
    return Path(path).expanduser().absolute()


def known_schemes() -> str:
    """Return the schemes, for a message."""
    return ", ".join(f"{name}:" for name in MEDIA)


def local_path(url: str) -> Path | None:
    """Return the path that a URL of a local store names, as it is written; None for any other URL."""
    scheme = scheme_of(url)
    plain = scheme.partition("+")[0]
    if scheme not in _PATHS:
        if plain in _PATHS:
            raise ConfigError(f"{url}: {plain}: takes no driver; write {_PATHS[plain]}PATH")
        return None
    rest = url[len(scheme) + 1 :]
    if scheme == "sqlite" and rest.startswith("///"):
        # As in SQLAlchemy: sqlite:///relative, sqlite:////absolute.
        rest = rest[3:]
    elif rest.startswith("///"):
        rest = rest[2:]
    elif rest.startswith("//"):
        raise ConfigError(
            f"{url}: {scheme}: takes no host, and got {rest.split('/')[2]!r}; write {scheme}:PATH"
        )
    if not POSIX and _DRIVE.match(rest):
        rest = rest[1:]
    if not rest:
        raise ConfigError(f"{url} names no path; write {_PATHS[scheme]}PATH")
    return Path(rest).expanduser()


def absolute(url: str, base: Path) -> str:
    """Return `url` with a relative path taken from `base`."""
    path = local_path(url)
    return url if path is None else _PATHS[scheme_of(url)] + str((base / path).absolute())


def open_medium(url: str, **options: Any) -> Store[bytes]:
    """Return the store that a URL names.

    Args:
        url: of the store.
        options: the arguments of its class; `durability="power"` means `durable=True`.

    Raises:
        ConfigError: there is no such scheme or option, or a package is not installed.
        StoreError: the store can't be used.
    """
    scheme = scheme_of(url)
    target = MEDIA.get(scheme) or MEDIA.get(scheme.partition("+")[0], "")
    if not target:
        raise ConfigError(f"no store has the scheme {scheme!r}; there are {known_schemes()}")
    module, _, name = target.partition(":")
    try:
        kind = getattr(import_module(module), name)
    except ImportError as error:
        extra = _EXTRAS.get(module.rpartition(".")[2])
        hint = f": pip install 'wellkept[{extra}]'" if extra else ""
        raise ConfigError(f"{scheme}: needs {error.name}, which is not installed{hint}") from error
    if "durability" in options:
        level = options.pop("durability")
        if level not in ("process", "power"):
            raise ConfigError(f"durability is 'process' or 'power', not {level!r}")
        options["durable"] = level == "power"
    compression = options.pop("compression", None)
    _check_options(scheme, kind, options)
    path = local_path(url)
    if path is not None:
        made: Store[bytes] = kind(path, **options)
    elif scheme in ("memory", "void"):
        if rest := url[len(scheme) + 1 :].strip("/"):
            raise ConfigError(f"{scheme}: takes no path, and got {rest!r}")
        made = kind()
    else:
        made = kind(url, **options)
    return made if compression is None else _compressed(made, compression)


def _compressed(store: Store[bytes], how: Any) -> Store[bytes]:
    # Loaded on first use: few stores compress.
    from wellkept.stores.wrappers import Compressed

    method, _, level = str(how).partition(":")
    if level and not level.isdecimal():
        raise ConfigError(
            f"compression is 'zstd' or 'gzip', with or without a level ('zstd:19'), not {how!r}"
        )
    return Compressed(store, method, int(level) if level else None)


def _check_options(scheme: str, kind: Any, options: dict[str, Any]) -> None:
    # Loaded on first use: an embedded cache never comes here.
    import inspect

    takes = inspect.signature(kind).parameters
    if any(each.kind is each.VAR_KEYWORD for each in takes.values()):
        return
    known = [name for name in list(takes)[1:] if takes[name].kind is not takes[name].VAR_POSITIONAL]
    for name in options:
        if name not in known:
            named = ["durability" if each == "durable" else each for each in known]
            named += ["compression"] if scheme != "void" else []
            there = f"there are {', '.join(named)}" if named else "it takes none"
            shown = "durability" if name == "durable" else name
            raise ConfigError(f"{scheme}: no such option {shown!r}; {there}")
