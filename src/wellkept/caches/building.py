"""Caches from what a configuration says, and what it has to say for caches that there are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from wellkept.caches.cache import Cache
from wellkept.caches.config import BARE, FUNCTION, Reader, Spec
from wellkept.caches.derived import Derived, Pool, Stack
from wellkept.caches.described import (
    described,
    function_of,
    named_function,
    opened,
    plain_options,
    unfolded,
    without_secrets,
)
from wellkept.caches.opening import open_cache, resolve_url
from wellkept.caches.option_text import expanded
from wellkept.errors import ConfigError


def build(spec: Spec, named: Callable[[str], Cache]) -> Cache:
    """The cache that a spec says.

    Args:
        named: what opens a part, by its name or URL.

    Raises:
        ConfigError: an option that its place does not take, or a variable that is not set.
        StoreError: it can't be opened.
    """
    options = {name: unfolded(name, value) for name, value in spec.options.items()}
    if spec.limit or spec.write == "none":
        whole = spec._replace(limit=None, write=None if spec.write == "none" else spec.write)
        cache = build(whole, named)
        if spec.limit:
            limit, policy = dict(spec.limit), spec.limit.get("policy", "")
            if isinstance(policy, str) and FUNCTION(policy):
                limit["policy"] = function_of(policy)
            cache = cache.limited(**limit)
        return cache.readonly() if spec.write == "none" else cache
    if spec.url is not None:
        made = open_cache(resolve_url(expanded(spec.url), Path.cwd()), **options)
        made.spec = spec
        return made
    if spec.values is not None and spec.calls is not None:
        memory = options.pop("memory", "256 MB")
        values, calls = (
            opened(said, options.pop(f"{name}_options", {}))
            for name, said in (("values", spec.values), ("calls", spec.calls))
        )
        if options:
            raise ConfigError(
                f"{', '.join(options)}: an option of which of the two? "
                f"Write values_options = {{ … }} or calls_options = {{ … }}"
            )
        made = Cache(values, calls, memory=memory)
        made.spec = spec
        return made
    parts = [named(part) for part in spec.parts]
    memory = options.pop("memory", "256 MB") if spec.stack else None
    if options:
        raise ConfigError(f"{', '.join(options)}: say that of the cache it is made of")
    if memory is not None:
        return Stack(*parts, write=spec.write or "all", memory=memory)
    if spec.pool:
        return Pool(*parts)
    return parts[0].filtered(function_of(spec.where)) if spec.where else parts[0]


def given(config: Any) -> tuple[Spec, dict[str, Spec]]:
    """Return what a table says of a cache, and of those without names that it is made of.

    Raises:
        ConfigError: it says none.
    """
    if not isinstance(config, Mapping):
        raise ConfigError(
            f"from_config takes a table, a list of parts or a name, not {config!r:.80}"
        )
    reader = _Given(Path.cwd() / "from_config", "")
    return reader.cache("it", dict(config)), reader.inside


class _Given(Reader):
    def error(self, key: str, what: str) -> ConfigError:
        return ConfigError(f"{key.removeprefix('caches.it').lstrip('.') or 'a cache'}: {what}")


def config_of(cache: Cache) -> dict[str, Any]:
    """Return the table by which `from_config` makes such a cache; raises as `specs_of`."""
    made = specs_of({"it": cache})

    def table(name: str) -> dict[str, Any]:
        spec = made[name]
        said = spec.table()
        for kind in ("stack", "pool"):
            if kind in said:
                said[kind] = [table(part) for part in said[kind]]
        return said | ({"of": table(spec.of)} if spec.of else {})

    return table("it")


def specs_of(caches: Mapping[str, Cache]) -> dict[str, Spec]:
    """What a configuration says of caches by name; parts without a name are given one.

    Raises:
        ConfigError: one can't be configured: a configuration holds no function but one that a name leads
            to, and no store of another library.
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
                if callable(said["policy"]):
                    said["policy"] = named_function(said["policy"])
                return Spec(of=source, limit=said)
            return Spec(of=source, where=named_function(options["where"]))
        if cache.spec is not None or cache.url is not None:
            spec = cache.spec or Spec(cache.url, cache.options)
            places = {
                at: without_secrets(at, getattr(spec, at)) for at in ("url", "values", "calls")
            }
            options = plain_options(spec.options, {}, str(cache))
            for at in ("values", "calls"):
                if own := options.pop(f"{at}_options", None):
                    places[at] = {"url": places[at], **own}
            return spec._replace(options=options, **places)
        if cache.stores is not None:
            values, calls = map(described, cache.stores)
            return Spec(values=values, calls=calls, options={"memory": cache.memory})
        raise ConfigError(f"{cache!r} can't be written into a configuration")

    for name, cache in caches.items():
        made[name] = spec_of(cache, name)
    return made
