"""A cache from a path or a URL."""

from __future__ import annotations

import os
import re
import weakref
from pathlib import Path
from typing import Any

from wellkept.caches.cache import Cache
from wellkept.caches.option_text import parse_size, redacted
from wellkept.errors import ConfigError, nearest
from wellkept.interrupts import Guard, undisturbed
from wellkept.stores.backend import Backend
from wellkept.stores.base import Store
from wellkept.stores.openers import (
    MEDIA,
    absolute,
    in_memory,
    known_schemes,
    local_path,
    open_medium,
    scheme_of,
)

_GROUP = "wellkept.stores"
_LIMIT = re.compile(r"([?&])limit=([^&]*)(?:&(.*))?$")
OPTIONS = ("memory", "durability", "trust", "readonly", "network")
"""What a directory, and a SQLite file, takes; other places take what their classes do."""
_OF_A_PATH = re.compile(r"[?&]([a-z_]+)=[^/]*$")


def open_cache(
    url: str | os.PathLike[str],
    *,
    memory: int | str = "256 MB",
    limit: int | str | None = None,
    signed: bool = False,
    **options: Any,
) -> Cache:
    """Open a cache.

    Args:
        url: a directory (`~` is expanded), or a URL: `files:PATH`, `sqlite:///PATH`,
            `postgresql://…`, `mariadb://…`, `redis://…`, `s3://…`, `gs://…`, `az://…`, `hdf5:PATH`,
            `memory:`, `void:`, and what installed packages add through the entry point group
            `wellkept.stores`.
        memory: how much the memory tier may hold: bytes, or text such as `"256 MB"`; 0 for none.
        limit: of what results may take, such as `"10 GB"`; also as `?limit=10GB` at the end of `url`. See
            `Cache.limited`, which takes more.
        signed: those who can write there are not trusted: results are signed with the user's key, and of
            those that no trusted key signed only plain ones are decoded. So it always is over ssh and
            http.
        options: of a directory: `durability="process"|"power"`, `trust=False`, `readonly=False`
            (map arrays read-only instead of copy-on-write), `network=None` (found out). Of any other
            place: what its class in `wellkept.stores` takes, and where all are items, as in files,
            databases and buckets, `compression="zstd"|"gzip"|"zstd:19"`.

    Raises:
        ConfigError: an unknown scheme or option, or the place is open here with other options.
        StoreError: the place can't be used.
    """
    if not isinstance(url, (str, os.PathLike)):
        raise ConfigError(f"wellkept.open takes a path or a URL, not {url!r:.80}")
    for name in ("signed", "trust", "readonly", "network"):
        flag = signed if name == "signed" else options.get(name, False)
        if not (isinstance(flag, bool) or (name == "network" and flag is None)):
            raise ConfigError(f"{name}= is True or False, not {flag!r:.80}")
    text = os.fspath(url)
    found = _LIMIT.search(text)
    beside = found is not None and (found[3] or found[1] == "&")
    said_of_it = _OF_A_PATH.search(text)
    if (beside or (said_of_it and not found)) and not scheme_of(text) and not Path(text).exists():
        hint = nearest(said_of_it[1], ("limit", *OPTIONS)) if said_of_it else ""
        raise ConfigError(
            f"{text!r}: a path takes no option but limit=, or the directory would have its name; give the "
            f'others to wellkept.open, such as durability="power"{hint}'
        )
    text, said = without_limit(text)
    limit = said if limit is None else limit
    if limit is not None:
        try:
            parse_size(limit)
        except ConfigError as error:
            raise ConfigError(f"limit={limit}: {error}") from None
        return open_cache(text, memory=memory, signed=signed, **options).limited(limit)
    if not text:
        raise ConfigError("an empty path names no cache")
    text = in_memory(text)
    try:
        parse_size(memory)  # a wrong size is an error before a directory is made
    except ConfigError as error:
        raise ConfigError(f"memory={memory!r}: {error}") from None
    scheme = scheme_of(text)
    text = absolute(text, Path.cwd()) if scheme else str(Path(text).expanduser().absolute())
    path = local_path(text) if scheme else Path(text)
    how = {**options, "signed": True} if signed else options
    shared = None if path is None else _Shared(str(path.resolve()), how)
    backend: Any
    if not scheme:
        _check_names(text, options)
        from wellkept.stores.embedded import (
            Embedded,  # SQLite and all, when there is a cache to open
        )

        backend = Embedded(text, **options)
    elif scheme == "sqlite" and path is not None:
        from wellkept.stores.sqlite_items import open_place

        _check_names(text, options)
        backend = open_place(path, **options)
    else:
        backend = _opened(text, scheme, options)
        if not isinstance(backend, Backend):
            from wellkept.stores.byte_store import ByteStoreBackend

            backend = ByteStoreBackend(backend)
    if signed:
        from wellkept.stores.keyring import Trusts  # with the first that is asked for

        backend.sign(Trusts())
    cache = Cache(backend=backend, memory=memory, url=text, options={"memory": memory, **how})
    if shared is not None:
        shared.add(cache)
    return cache


def without_limit(url: str) -> tuple[str, str | None]:
    """Return a path or URL without the `?limit=` at its end, and that limit."""
    found = _LIMIT.search(url)
    if found is None:
        return url, None
    rest = "?" + found[3] if found[3] and found[1] == "?" else ""
    return url[: found.start()] + rest, found[2]


def open_store(url: str | os.PathLike[str], **options: Any) -> Store[bytes]:
    """The store of bytes behind a URL (of a path, a directory of files), for `Cache(values=…)`.

    Raises:
        ConfigError: an unknown scheme or option.
        StoreError: it can't be used.
    """
    text = in_memory(os.fspath(url))
    scheme = scheme_of(text)
    if not scheme:
        text, scheme = f"files:{text}", "files"
    found = _opened(absolute(text, Path.cwd()), scheme, options)
    if isinstance(found, Backend):
        raise ConfigError(f"{redacted(text)} opens a whole cache, not a store of bytes")
    made: Store[bytes] = found
    return made


def bytes_store(store: Any) -> Store[bytes]:
    """The store of bytes that somebody gave, or the URL of.

    Raises:
        ConfigError: it is none.
    """
    if isinstance(store, (str, os.PathLike)):
        return open_store(store)
    if not isinstance(store, Store):
        raise ConfigError(
            f"not a store: {store!r}; it has no get, put, delete and keys. Give one of "
            "wellkept.stores, such as Files(…), or a URL"
        )
    item = str(getattr(type(store).put, "__annotations__", {}).get("item", ""))
    if item.rpartition(".")[2] in ("Call", "Value"):
        raise ConfigError(
            f"{type(store).__name__} is a store of {item}s; a cache holds stores of bytes and codes "
            "records onto them: give one of wellkept.stores, such as Files(…), or a URL"
        )
    found: Store[bytes] = store
    return found


def _check_names(url: str, options: dict[str, Any]) -> None:
    for name in options:
        if name not in OPTIONS:
            there = (*OPTIONS, "limit")
            raise ConfigError(
                f"{url}: no such option {name!r}; there are {', '.join(there)}{nearest(name, there)}"
            )


def _opened(url: str, scheme: str, options: dict[str, Any]) -> Any:
    if _is_medium(scheme):
        return undisturbed(open_medium, url, **options)
    return _entry_point(scheme, url)(url[len(scheme) + 1 :], **options)


class _Shared:
    """The caches of this process on one path: they must agree on how it is used."""

    def __init__(self, path: str, options: dict[str, Any]) -> None:
        self._caches = _on.setdefault(path, weakref.WeakSet())
        self._how = {"durability": "process", "trust": False, "readonly": False, "network": None}
        self._how |= options
        for cache in self._caches:
            if cache.is_open and cache.how != self._how:
                mine, other = _difference(self._how, cache.how)
                raise ConfigError(
                    f"{path} is open in this process with {other}, and can't be opened with {mine} "
                    "too: use one of the two, or close the other cache first"
                )

    def add(self, cache: Cache) -> None:
        cache.how = self._how
        self._caches.add(cache)


_on: dict[str, weakref.WeakSet[Cache]] = {}


def _difference(mine: dict[str, Any], other: dict[str, Any]) -> tuple[str, str]:
    names = sorted(name for name in {*mine, *other} if mine.get(name) != other.get(name))
    said = [", ".join(f"{name}={how.get(name)!r}" for name in names) for how in (mine, other)]
    return said[0], said[1]


_reopened: dict[str, Cache] = {}
_lock = Guard()


def reopen(url: str, options: dict[str, Any]) -> Cache:
    """One cache a process for all that was sent to it with the same URL and options."""
    name = f"{url} {sorted(options.items())}"
    with _lock:
        if name not in _reopened:
            _reopened[name] = open_cache(url, **options)
        return _reopened[name]


def resolve_url(url: str, base: Path) -> str:
    """`url` with a relative path taken from `base`.

    Raises:
        ConfigError: there is no such scheme.
    """
    url = in_memory(url)
    scheme = scheme_of(url)
    if not scheme:
        return str((base / Path(url).expanduser()).absolute())
    if not _is_medium(scheme):
        _entry_point(scheme, url)
    return absolute(url, base)


def _is_medium(scheme: str) -> bool:
    return scheme in MEDIA or scheme.partition("+")[0] in MEDIA


def _entry_point(scheme: str, url: str) -> Any:
    from importlib.metadata import entry_points

    for point in entry_points(group=_GROUP, name=scheme):
        return point.load()
    raise ConfigError(
        f"can't open {redacted(url)!r}: no such scheme as {scheme!r}; there are paths, "
        f"{known_schemes()}"
    )
