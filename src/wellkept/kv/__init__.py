"""Named state: stores of keys and values with scopes, expiry, revisions and changes to watch.

The parts are imported when they are first named.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wellkept.kv.cache_decorator import cached
    from wellkept.kv.execution_store import (
        ExecutionStore,
        store,
    )
    from wellkept.kv.jobs import Job, Jobs
    from wellkept.kv.locks import BoundedSemaphore, Lock, NotHeld, Queue, RLock
    from wellkept.kv.plan import HistoryGone
    from wellkept.kv.service import (
        ExecutionStoreService,
        KeyDocument,
        KeyPolicy,
        StoreDocument,
    )
    from wellkept.kv.watch import Change

__all__ = [
    "BoundedSemaphore",
    "Change",
    "ExecutionStore",
    "ExecutionStoreService",
    "HistoryGone",
    "Job",
    "Jobs",
    "KeyDocument",
    "KeyPolicy",
    "Lock",
    "NotHeld",
    "Queue",
    "RLock",
    "StoreDocument",
    "cached",
    "store",
]

_WHERE = {
    "HistoryGone": "plan",
    "Change": "watch",
    "ExecutionStore": "execution_store",
    "ExecutionStoreService": "service",
    "Job": "jobs",
    "Jobs": "jobs",
    "BoundedSemaphore": "locks",
    "KeyDocument": "service",
    "KeyPolicy": "service",
    "Lock": "locks",
    "NotHeld": "locks",
    "Queue": "locks",
    "RLock": "locks",
    "StoreDocument": "service",
    "cached": "cache_decorator",
    "store": "execution_store",
}


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(import_module(f"{__name__}.{_WHERE[name]}"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return __all__
