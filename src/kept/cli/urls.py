"""Which cache a command is about, and URLs without their secrets."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kept.caches.secrets import redacted
from kept.errors import ConfigError

if TYPE_CHECKING:
    from kept.caches import Cache

__all__ = ["CacheOption", "JsonOption", "chosen", "opened", "redacted"]

CacheOption = Annotated[
    str | None,
    typer.Option(
        "--cache",
        metavar="PATH|NAME|URL",
        help="The cache: a directory, a name from the configuration, or a URL.",
        show_default="the active one",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Write JSON, and nothing else.")]


def chosen(cache: str | None) -> tuple[str, dict[str, Any], str]:
    """The URL, options and origin of the cache that `--cache` names, or of the active one.

    Raises:
        ConfigError: there is none, or the configuration is malformed.
    """
    from kept.caches import settings
    from kept.caches.opening import resolve_url

    if cache is None:
        found = settings()
        return found.url, dict(found.options), found.source
    if not cache:
        raise ConfigError("--cache: an empty path names no cache")
    if re.fullmatch(r"\w[\w-]*", cache):
        found = settings()
        if cache in found.caches or not Path(cache).is_dir():
            url, options = found.named(cache)
            return url, dict(options), found.source
    return resolve_url(cache, Path.cwd()), {}, "--cache"


def directory(url: str) -> Path | None:
    """The directory that a URL names, if it names one."""
    is_url = re.match(r"[a-z][a-z0-9+.-]+:", url, re.IGNORECASE)
    return None if is_url else Path(url).expanduser()


def exists(url: str) -> bool | None:
    """Whether there is a cache already; None where only its server knows."""
    path = directory(url)
    if path is None:
        return None
    return any(path.glob("index*.sqlite")) or path.is_file()


@contextlib.contextmanager
def opened(cache: str | None) -> Iterator[tuple[Cache, str]]:
    """The cache that is meant, and its URL without secrets. One that is not there is not made.

    Raises:
        ConfigError: there is none of that name.
        StoreError: it can't be opened.
    """
    from kept.caches import open_cache

    url, options, _ = chosen(cache)
    found = (
        open_cache("memory:")
        if exists(url) is False
        else open_cache(url, **options | {"memory": 0})
    )
    with found:
        yield found, redacted(url)
