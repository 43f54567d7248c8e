"""Kept functions in Dask: in graphs, in `delayed`, in `Client.map`, under keys that agree.

Dask names a task by what it calls and with what; so does wellkept. Here both say the same: equal calls
of one version of a function are one task, and one result that every worker finds in the shared cache.
"""

from __future__ import annotations

import builtins
import sys
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from wellkept.caches import Cache, active, chosen
from wellkept.caches.transport import NEARBY, pack
from wellkept.errors import ConfigError, KeptError
from wellkept.memo.bound import Bound
from wellkept.memo.kept import Kept
from wellkept.memo.workers import Carried

try:
    from dask.base import is_dask_collection
    from dask.delayed import delayed as lazy_of
except ImportError as _missing:
    raise ConfigError("Dask is not installed: pip install 'wellkept[dask]'") from _missing

if TYPE_CHECKING:
    import os

    from dask.delayed import Delayed
    from distributed import Client, Future

__all__ = ["delayed", "key", "map", "submit", "use"]

Function = Kept[..., Any] | Bound[..., Any]


def use(client: Client, cache: Cache | str | os.PathLike[str] | None = None) -> Cache:
    """Make a cache the default one of a cluster's workers: those there are, and those that join.

    Kept functions can then be given to Dask as they are.

    Args:
        client: of the cluster.
        cache: a cache, its name in the configuration, a path or a URL; by default the active one.

    Raises:
        ConfigError: no such cache, or one that no other process reaches.
        StoreError: it can't be opened.
    """
    found = active() if cache is None else chosen(cache)
    packed = pack(found)
    if packed == NEARBY:
        raise ConfigError(f"workers can't share {found}: it is in the memory of this process")
    # Only the workers of a cluster have distributed installed.
    from wellkept.integrations.daskworkers import Shared

    client.register_plugin(Shared(packed))
    return found


def delayed(function: Function) -> Callable[..., Delayed]:
    """`dask.delayed` of a kept function, with the cache and in the run that are active here.

    Raises:
        ConfigError: it is no kept function.
    """
    carried = Carried(function)
    lazy = lazy_of(carried, pure=True)

    def call(*args: Any, **kwargs: Any) -> Delayed:
        name = None if _waits((args, kwargs)) else key(function, *args, **kwargs)
        return lazy(*args, **kwargs, dask_key_name=name)  # type: ignore[no-any-return]  # as it says

    return call


def submit(client: Client, function: Function, /, *args: Any, **kwargs: Any) -> Future[Any]:
    """`client.submit` of a kept call, which takes the active cache along; see `key`."""
    name = None if _waits((args, kwargs)) else key(function, *args, **kwargs)
    return client.submit(Carried(function), *args, **kwargs, key=name)


def map(  # noqa: A001  as the method of a client
    client: Client, function: Function, /, *iterables: Iterable[Any], **how: Any
) -> list[Future[Any]]:
    """`client.map` likewise.

    Args:
        how: what `client.map` takes.
    """
    items = list(zip(*iterables, strict=False))
    names = [None if _waits(args) else key(function, *args) for args in items]
    if None not in names:
        how = {"key": names, **how}
    columns = [list(column) for column in zip(*items, strict=True)] or [[]]
    return client.map(Carried(function), *columns, **how)


def key(function: Function, /, *args: Any, **kwargs: Any) -> str | None:
    """The name of a call in Dask: the function's, and wellkept's key. None: the call is not kept."""
    try:
        return f"{function.__name__}-{function.key(*args, **kwargs)}"
    except KeptError:
        # The caller meets the same error again, in the call.
        return None


def _waits(given: Any) -> bool:
    """Whether there is something in it that Dask computes first."""
    if isinstance(given, (list, tuple, set, frozenset)):
        return any(builtins.map(_waits, given))
    if isinstance(given, dict):
        return any(builtins.map(_waits, given.values()))
    distributed: Any = sys.modules.get("distributed")
    future = distributed is not None and isinstance(given, distributed.Future)
    return future or bool(is_dask_collection(given))
