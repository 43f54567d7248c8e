"""Stores as a configuration has them: from a table to a store, and back. No secret goes into one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import reduce
from importlib import import_module
from pathlib import Path
from typing import Any

from wellkept.caches.opening import open_store
from wellkept.caches.option_text import expanded, is_secret, secretless
from wellkept.errors import ConfigError, StoreError
from wellkept.stores.base import Store
from wellkept.stores.openers import MEDIA, absolute, local_path, scheme_of

# Its names are imported when they are asked for.
stores: Any = import_module("wellkept.stores")

_HOLDS = ("Compressed", "Locked", "Logged", "Prefix", "ReadOnly", "Retry")
"""Stores that hold another one."""
_KINDS = (*_HOLDS, "Files", "Hdf5", "Memory", "Objects", "Redis", "Sql", "Sqlite", "Void")
_PLAIN = (str, int, float, bool)


def described(store: Any) -> dict[str, Any] | str:
    """Return the table, or the URL, by which `opened` makes such a store.

    Raises:
        ConfigError: a configuration can't say it.
    """
    kind = type(store).__name__
    if kind not in _KINDS or type(store) is not getattr(stores, kind):
        raise ConfigError(f"{store!r} can't be written into a configuration")
    if kind in ("Memory", "Void"):
        return f"{kind.lower()}:"
    try:
        # What makes it again elsewhere has the arguments in their order.
        values = store.__reduce__()[1]
    except (TypeError, StoreError) as error:
        if kind == "Sql":
            # In memory, as it is without a URL.
            return {"kind": kind}
        raise ConfigError(f"{store!r} can't be written into a configuration: {error}") from error
    if kind in _HOLDS:
        _, held, options = values
        place: dict[str, Any] = {"kind": kind, "store": described(held)}
    else:
        url, *rest = values
        names = list(_parameters(kind))[1:]
        options = dict(zip(names, rest, strict=False))
        options |= options.pop("options", {})
        scheme = {"Files": "files:", "Hdf5": "hdf5:", "Sqlite": "sqlite:///"}.get(kind)
        url = str(url) if scheme is None else f"{scheme}{url}"
        url = absolute(url, Path.cwd())
        place = {"url": secretless(str(url))}
        if MEDIA.get(scheme_of(url), "").partition(":")[2] != kind:
            place = {"kind": kind, **place}
    table = place | plain_options(options, _parameters(kind), f"a {kind}")
    return str(table["url"]) if [*table] == ["url"] else table


def plain_options(
    options: Mapping[str, Any], defaults: Mapping[str, Any], of: str
) -> dict[str, Any]:
    """Return the options that are not what they are by default, without secrets.

    Raises:
        ConfigError: a configuration can't say one.
    """
    found = {}
    for name, value in options.items():
        if name in defaults and (value is None or value == defaults[name]):
            continue
        # The usual logger; and what was found out of a place is found out again.
        if (name == "logger" and value.name == "wellkept.stores") or (name, value) == (
            "network",
            False,
        ):
            continue
        if not isinstance(value, (*_PLAIN, list, tuple, dict)):
            raise ConfigError(
                f"{name}= of {of} can't be written into a configuration: {value!r:.80}"
            )
        found[name] = without_secrets(name, value)
    return found


def without_secrets(name: str, value: Any) -> Any:
    """Return an option, or a table, with `${WELLKEPT_…}` in the places of secrets."""
    if isinstance(value, Mapping):
        return {key: without_secrets(str(key), item) for key, item in value.items()}
    if name in ("url", "values", "calls") and isinstance(value, str):
        return secretless(value)
    secret = isinstance(value, str) and is_secret(name) and "${" not in value
    return f"${{WELLKEPT_{name.upper()}}}" if secret else value


def opened(table: Mapping[str, Any] | str, options: Mapping[str, Any]) -> Store[bytes]:
    """Make the store that a table, or a URL, says.

    Raises:
        ConfigError: it says no store, or a variable of the environment is not set.
        StoreError: it can't be opened.
    """
    said: dict[str, Any] = {"url": table} if isinstance(table, str) else dict(table)
    said = {name: unfolded(name, value) for name, value in {**said, **options}.items()}
    kind, url = said.pop("kind", None), said.pop("url", None)
    if kind is None:
        return open_store(expanded(url), **said)
    if kind not in _KINDS:
        raise ConfigError(f"there is no kind of store {kind!r}; there are {', '.join(_KINDS)}")
    make: Any = getattr(stores, kind)
    if kind in _HOLDS:
        return make(opened(said.pop("store"), {}), **said)  # type: ignore[no-any-return]  # it is a store
    if url is None:
        return make(**said)  # type: ignore[no-any-return]  # as above
    url = expanded(url)
    # Of some kinds this is the only argument, and of the others it is a URL.
    return make(local_path(url) if kind in ("Files", "Hdf5", "Sqlite") else url, **said)  # type: ignore[no-any-return]  # as above


def unfolded(name: str, value: Any) -> Any:
    """Return an option, with the variable of the environment that stands for a secret put in."""
    if isinstance(value, Mapping):
        return {key: unfolded(str(key), item) for key, item in value.items()}
    return expanded(value) if isinstance(value, str) and is_secret(name) else value


def resolved(table: Any, resolve: Callable[[str], str]) -> Any:
    """Return what says a store with its URLs resolved; None for what says none.

    Args:
        resolve: gives a URL with a path taken from the place of the configuration.
    """
    if isinstance(table, str):
        return resolve(table) if table else None
    if not isinstance(table, Mapping):
        return None
    if table.get("kind") in _HOLDS:
        held = resolved(table.get("store"), resolve)
        return None if held is None else {**table, "store": held}
    url = table.get("url")
    if url is None:
        return dict(table) if table.get("kind") == "Sql" else None
    return {**table, "url": resolve(url)} if isinstance(url, str) and url else None


def named_function(function: Any) -> str:
    """Return `module:name` of a function that such a name leads to.

    Raises:
        ConfigError: it is another thing.
    """
    text = f"{getattr(function, '__module__', '')}:{getattr(function, '__qualname__', '')}"
    try:
        if function_of(text) is function and not text.startswith("__main__:"):
            return text
    except ConfigError:
        pass
    raise ConfigError(
        f"{function!r} can't be written into a configuration, which holds no function but one of a "
        "module, as 'module:name'"
    )


def function_of(text: str) -> Any:
    """Return the function that `module:name` leads to.

    Raises:
        ConfigError: there is none.
    """
    module, _, name = text.partition(":")
    try:
        found = reduce(getattr, name.split("."), import_module(module))
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(f"no function is {text!r}: {error}") from error
    if not callable(found):
        raise ConfigError(f"{text!r} is no function: {found!r:.80}")
    return found


def _parameters(kind: str) -> dict[str, Any]:
    import inspect  # with the first configuration that is written

    return {
        name: one.default
        for name, one in inspect.signature(getattr(stores, kind)).parameters.items()
    }
