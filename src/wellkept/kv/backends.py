"""Where the named state of a cache is: on the cache's own medium, apart from its calls."""

from __future__ import annotations

import os
from typing import Any

from wellkept.caches import Cache, Pool, Stack, active, chosen
from wellkept.errors import ConfigError
from wellkept.interrupts import Guard
from wellkept.kv.memory_state import ItemsJournal, MemoryEntries
from wellkept.kv.plan import Entries
from wellkept.kv.sweeper import sweeping
from wellkept.stores.base import Creates

_lock = Guard()
_HELD = "_kept_state"  # where a place has its entries


def entries_of(cache: Cache | str | os.PathLike[str] | None) -> Entries:
    """The entries on a cache's medium; of a stack, on that of the last cache it writes to.

    Args:
        cache: a cache, its name in the configuration, a path or a URL; None: the active one.

    Raises:
        ConfigError: there is no such cache, or its medium can't hold named state.
        StoreError: it can't be opened.
    """
    found: Any = active() if cache is None else chosen(cache)
    while isinstance(found, Stack):
        found = found.caches[0 if found.write == "first" else -1]
    if isinstance(found, Pool):
        raise ConfigError("nothing is written to a pool: keep named state in one of its caches")
    backend = found.backend
    while backend.backend is not None:
        if not backend.writable:
            raise ConfigError("this cache is only read from: keep named state in another one")
        backend = backend.backend
    with _lock:
        return _entries(backend.byte_stores[0] if backend.byte_stores else backend)


def has_entries(cache: Cache) -> bool:
    """Return whether there may be entries on a cache's medium; looking makes no file."""
    backend: Any = cache.backend
    while backend.backends or backend.backend is not None:
        backend = backend.backends[-1] if backend.backends else backend.backend
    if backend.byte_stores:
        backend = backend.byte_stores[0]
    kind = type(backend).__name__
    if kind == "Embedded":
        return bool((backend.root / "state.sqlite").exists())
    if kind == "Sqlite":
        return bool(backend.file.with_name(f"{backend.file.name}.state").exists())
    return kind != "Void" and (isinstance(backend, Creates) or kind in ("Sql", "Redis", "Memory"))


def _entries(backend: Any) -> Entries:
    # Each holds the other: the holder of a store needs no cache beside it, and a cache that opens stores
    # again and again opens its entries once.
    found: Any = vars(backend).get(_HELD)
    if found is None:
        found = _made(backend)
        found.backend = backend
        setattr(backend, _HELD, found)
        sweeping(found)  # what another process let expire
    entries: Entries = found
    return entries


def _made(backend: Any) -> Entries:
    kind = type(backend).__name__
    if kind == "Embedded":
        from wellkept.kv.sqlite_state import SqliteEntries  # SQLite, for those who have a file

        how = {"durable": backend.database.durable, "network": backend.database.network}
        return SqliteEntries(backend.root / "state.sqlite", trust=backend.trust, **how)
    if kind == "Memory":
        return MemoryEntries()
    if kind == "Sqlite":
        from wellkept.kv.sqlite_state import SqliteEntries

        database = backend.database
        how = {"durable": database.durable, "network": database.network}
        return SqliteEntries(
            backend.file.with_name(f"{backend.file.name}.state"), trust=backend.trust, **how
        )
    if kind == "Sql":
        from wellkept.kv.server_state import ServerEntries  # SQLAlchemy and a driver

        if backend.connections.dialect.name != "sqlite":
            return ServerEntries(backend)
    if kind == "Redis":
        from wellkept.kv.redis_state import RedisEntries

        return RedisEntries(backend)
    if kind == "Void" or not isinstance(backend, Creates):
        raise ConfigError(
            f"named state needs a medium that can create an item atomically, which {kind} can't: "
            "choose a directory, memory:, files:, a database or redis:"
        )
    items: Any = backend
    return MemoryEntries(ItemsJournal(items, 0.05 if kind == "Files" else 0.5), history=10_000)
