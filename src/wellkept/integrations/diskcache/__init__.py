"""diskcache's interface, on a directory of wellkept: nothing in it is unpickled that others could have written.

::

    from wellkept.integrations.diskcache import Cache

    cache = Cache("~/results")
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from wellkept.integrations.diskcache.disks import ENOVAL, UNKNOWN, Disk, JSONDisk
from wellkept.integrations.diskcache.item_table import (
    DEFAULT_SETTINGS,
    EVICTION_POLICY,
    EmptyDirWarning,
    UnknownFileWarning,
)
from wellkept.integrations.diskcache.recipes import (
    Averager,
    BoundedSemaphore,
    Lock,
    RLock,
    barrier,
    memoize_stampede,
    throttle,
)
from wellkept.integrations.diskcache.sequences import Deque, Index
from wellkept.integrations.diskcache.sharded import FanoutCache
from wellkept.integrations.diskcache.single import Cache
from wellkept.kv.ordered_items import Timeout

if TYPE_CHECKING:
    from wellkept.integrations.diskcache.djangocache import (
        DjangoCache as DjangoCache,
    )  # where Django is

__all__ = [
    "DEFAULT_SETTINGS",
    "ENOVAL",
    "EVICTION_POLICY",
    "UNKNOWN",
    "Averager",
    "BoundedSemaphore",
    "Cache",
    "Deque",
    "Disk",
    "EmptyDirWarning",
    "FanoutCache",
    "Index",
    "JSONDisk",
    "Lock",
    "RLock",
    "Timeout",
    "UnknownFileWarning",
    "barrier",
    "memoize_stampede",
    "throttle",
]


def __getattr__(name: str) -> Any:
    if name != "DjangoCache":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from wellkept.integrations.diskcache.djangocache import DjangoCache  # imports Django

    return DjangoCache
