"""Caches from what a configuration says, and what it would say of caches that there are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from wellkept.caches.cache import Cache
from wellkept.caches.config import BARE, Spec
from wellkept.caches.derived import Derived, Pool, Stack
from wellkept.caches.opening import open_cache, open_store, resolve_url
from wellkept.caches.option_text import expanded
from wellkept.errors import ConfigError

__all__ = ["build", "specs_of"]


def build(spec: Spec, named: Callable[[str], Cache]) -> Cache:
    """The cache that a spec says.

    Args:
        named: what opens a part, by its name or URL.

    Raises:
        ConfigError: an option that its place does not take, or a variable that is not set.
        StoreError: it can't be opened.
    """
    options = dict(spec.options)
    if spec.limit or spec.write == "none":
        whole = spec._replace(limit=None, write=None if spec.write == "none" else spec.write)
        cache = build(whole, named)
        if spec.limit:
            cache = cache.limited(**spec.limit)
        return cache.readonly() if spec.write == "none" else cache
    if spec.url is not None:
        return open_cache(resolve_url(expanded(spec.url), Path.cwd()), **options)
    if spec.values is not None and spec.calls is not None:
        memory = options.pop("memory", "256 MB")
        values, calls = (
            open_store(expanded(url), **options.pop(f"{name}_options", {}))
            for name, url in (("values", spec.values), ("calls", spec.calls))
        )
        if options:
            raise ConfigError(
                f"{', '.join(options)}: an option of which of the two? "
                f"Write values_options = {{ … }} or calls_options = {{ … }}"
            )
        return Cache(values, calls, memory=memory)
    parts = [named(part) for part in spec.parts]
    memory = options.pop("memory", "256 MB") if spec.stack else None
    if options:
        raise ConfigError(f"{', '.join(options)}: say that of the cache it is made of")
    if memory is not None:
        return Stack(*parts, write=spec.write or "all", memory=memory)
    return Pool(*parts) if spec.pool else parts[0]


def specs_of(caches: Mapping[str, Cache]) -> dict[str, Spec]:
    """What a configuration says of caches by name; parts without a name are given one.

    Raises:
        ConfigError: one can't be configured, such as a filtered cache: a file holds no functions.
    """
    names = {id(cache): name for name, cache in caches.items()}
    made: dict[str, Spec] = {}

    def name_of(cache: Cache, near: str) -> str:
        if id(cache) not in names:
            number = 1
            while f"{near}-{number}" in {*names.values(), *caches}:
                number += 1
            names[id(cache)] = f"{near}-{number}"
            made[names[id(cache)]] = spec_of(cache, names[id(cache)])
        return names[id(cache)]

    def spec_of(cache: Cache, name: str) -> Spec:
        if not BARE.fullmatch(name):
            raise ConfigError(f"not a name for a cache: {name!r}; use letters, digits, - and _")
        if isinstance(cache, (Stack, Pool)):
            parts = tuple(name_of(part, name) for part in cache.caches)
            if isinstance(cache, Pool):
                return Spec(pool=parts)
            return Spec(stack=parts, write=cache.write, options={"memory": cache.memory})
        if isinstance(cache, Derived):
            how, options = cache.made_by
            source = name_of(cache.source, name)
            if how == "readonly":
                return Spec(of=source, write="none")
            if how == "limited":
                said = {key: value for key, value in options.items() if value is not None}
                return Spec(of=source, limit=said)
        elif cache.url is not None:
            return Spec(cache.url, dict(cache.options))
        raise ConfigError(f"{cache!r} can't be written into a configuration")

    for name, cache in caches.items():
        made[name] = spec_of(cache, name)
    return made
