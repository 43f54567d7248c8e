"""A cache from a path or a URL: schemes are looked up in a table of names, imported in their turn."""

from __future__ import annotations

import os
import re
import threading
from importlib import import_module
from pathlib import Path
from typing import Any

from kept.caches.cache import Cache
from kept.caches.sizes import parse_size
from kept.errors import ConfigError

__all__ = ["OPTIONS", "open_cache", "reopen", "resolve_url"]

_SCHEMES = {
    "": "kept.stores.openers:embedded",
    "memory": "kept.stores.openers:memory",
    "void": "kept.stores.openers:void",
}
"""Scheme -> `module:function`, which takes what follows the scheme and the options."""

_GROUP = "kept.stores"
OPTIONS = ("memory", "durability", "trust", "readonly", "network")
_SCHEME = re.compile(r"([a-z][a-z0-9+.-]+):", re.IGNORECASE)


def open_cache(
    url: str | os.PathLike[str], *, memory: int | str = "256 MB", **options: Any
) -> Cache:
    """Open a cache.

    Args:
        url: a directory (`~` is expanded), or a URL: `"memory:"`, `"void:"`, and what installed
            packages add through the entry point group `kept.stores`.
        memory: how much the memory tier may hold: bytes, or text such as `"256 MB"`; 0 for none.
        options: of a directory: `durability="process"|"power"`, `trust=False`, `readonly=False`
            (map arrays read-only instead of copy-on-write), `network=None` (found out).

    Raises:
        ConfigError: an unknown scheme or option.
        StoreError: the place can't be used.
    """
    text = os.fspath(url)
    if not text:
        raise ConfigError("an empty path names no cache")
    found = _SCHEME.match(text)
    scheme = found[1].lower() if found else ""
    rest = text[len(scheme) + 1 :] if found else text
    for name in options:
        if name not in OPTIONS:
            raise ConfigError(f"{text}: no such option {name!r}; there are {', '.join(OPTIONS)}")
    parse_size(memory)  # a wrong one is told before a directory is made
    if not scheme:
        text = str(Path(text).expanduser().absolute())
    place = _opener(scheme, text)(rest, **options)
    return Cache(place=place, memory=memory, url=text, options={"memory": memory, **options})


_reopened: dict[str, Cache] = {}
_lock = threading.Lock()


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
    if found := _SCHEME.match(url):
        _opener(found[1].lower(), url)
        return url
    return str((base / Path(url).expanduser()).absolute())


def _opener(scheme: str, url: str) -> Any:
    target = _SCHEMES.get(scheme)
    if target is not None:
        module, _, name = target.partition(":")
        return getattr(import_module(module), name)
    from importlib.metadata import entry_points

    for point in entry_points(group=_GROUP, name=scheme):
        return point.load()
    known = ", ".join(f"{name}:" for name in _SCHEMES if name)
    raise ConfigError(f"can't open {url!r}: no such scheme as {scheme!r}; there are paths, {known}")
