"""Caches: a place for calls and results, the memory tier before it, and the one that is active."""

from wellkept.caches.active import active, chosen, named, set_cache, settings, use, used
from wellkept.caches.cache import Cache
from wellkept.caches.derived import Pool, Stack
from wellkept.caches.opening import open_cache

__all__ = [
    "Cache",
    "Pool",
    "Stack",
    "active",
    "chosen",
    "named",
    "open_cache",
    "set_cache",
    "settings",
    "use",
    "used",
]
