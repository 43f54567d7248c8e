"""Which cache a command is about, and URLs without their secrets."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kept.caches.secrets import redacted
from kept.errors import ConfigError, NotKept

if TYPE_CHECKING:
    from kept.caches import Cache
    from kept.caches.spec import Spec

__all__ = ["CacheOption", "JsonOption", "chosen", "exists", "opened", "redacted"]

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


def chosen(cache: str | None) -> tuple[Spec, str]:
    """What `--cache` names, or the active cache, and where that was said.

    Raises:
        ConfigError: there is none, or the configuration is malformed.
    """
    from kept.caches import settings
    from kept.caches.opening import resolve_url
    from kept.caches.spec import Spec

    if cache is None:
        found = settings()
        return found.active, found.source
    if not cache:
        raise ConfigError("--cache: an empty path names no cache")
    if re.fullmatch(r"\w[\w-]*", cache):
        found = settings()
        if cache in found.caches or not Path(cache).is_dir():
            return found.named(cache), found.source
    return Spec(resolve_url(cache, Path.cwd())), "--cache"


def exists(spec: Spec) -> bool | None:
    """Whether there is a cache already; None where only its server, or its parts, know."""
    from kept.stores.openers import local_path, scheme_of

    if spec.url is None or "${" in spec.url:
        return None
    if scheme_of(spec.url):
        local = local_path(spec.url)
        return None if local is None else local.exists()
    path = Path(spec.url).expanduser()
    return any(path.glob("index*.sqlite")) or path.is_file()


@contextlib.contextmanager
def opened(
    cache: str | None, *, make: bool = False, must: bool = False
) -> Iterator[tuple[Cache, str]]:
    """The cache that is meant, and its URL without secrets.

    Args:
        make: make it if it is not there; otherwise an empty one stands in for it.
        must: one that was named has to be there.

    Raises:
        ConfigError: there is none of that name.
        NotKept: it is not there, and it must.
        StoreError: it can't be opened.
    """
    from kept.caches import open_cache
    from kept.caches.active import named
    from kept.caches.building import build

    spec, source = chosen(cache)
    if exists(spec) is False and not make:
        if must and cache is not None:
            raise NotKept(f"there is no cache in {spec.shown}")
        found = open_cache("memory:")
    else:
        try:
            found = build(spec._replace(options={**spec.options, **_tierless(spec)}), named)
        except ConfigError as error:
            raise ConfigError(f"{source}: {error}") from error
    with found:
        yield found, spec.shown


def _tierless(spec: Spec) -> dict[str, Any]:
    """Nothing is asked twice here; a pool and a view have no tier of their own."""
    return {} if spec.pool or spec.of else {"memory": 0}
