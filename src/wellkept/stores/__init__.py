"""Backends and byte stores; each in a file of its own. `base` has the protocol of a byte store.

A byte store is imported when it is first named here, and its driver when one is made.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from wellkept.stores.base import Creates, Finds, Many, Maps, Paths, Replaces, Stamps, Store

if TYPE_CHECKING:
    from wellkept.stores.files import Files
    from wellkept.stores.hdf5_files import Hdf5
    from wellkept.stores.memory import Memory, Void
    from wellkept.stores.object_store import Objects
    from wellkept.stores.redis import Redis
    from wellkept.stores.sql import Sql
    from wellkept.stores.sqlite_items import Sqlite
    from wellkept.stores.wrappers import Compressed, Locked, Logged, Prefix, ReadOnly, Retry

__all__ = [
    "Compressed",
    "Creates",
    "Files",
    "Finds",
    "Hdf5",
    "Locked",
    "Logged",
    "Many",
    "Maps",
    "Memory",
    "Objects",
    "Paths",
    "Prefix",
    "ReadOnly",
    "Redis",
    "Replaces",
    "Retry",
    "Sql",
    "Sqlite",
    "Stamps",
    "Store",
    "Void",
]

_WHERE = {
    "Files": "files",
    "Hdf5": "hdf5_files",
    "Memory": "memory",
    "Objects": "object_store",
    "Redis": "redis",
    "Sql": "sql",
    "Sqlite": "sqlite_items",
    "Void": "memory",
} | dict.fromkeys(("Compressed", "Locked", "Logged", "Prefix", "ReadOnly", "Retry"), "wrappers")


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(import_module(f"{__name__}.{_WHERE[name]}"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return __all__
