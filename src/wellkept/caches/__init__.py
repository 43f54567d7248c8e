"""Caches: a place for calls and results, the memory tier before it, and the one that is active."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from wellkept.caches.active import active, chosen, clear, named, set_cache, settings, use, used
from wellkept.caches.cache import Cache

if TYPE_CHECKING:
    from wellkept.caches.derived import Pool, Stack
    from wellkept.caches.opening import open_cache

__all__ = [
    "Cache",
    "Pool",
    "Stack",
    "active",
    "chosen",
    "clear",
    "named",
    "open_cache",
    "set_cache",
    "settings",
    "use",
    "used",
]


def __getattr__(name: str) -> Any:
    # Imported by who opens a cache, or makes one of others.
    if name == "open_cache":
        from wellkept.caches.opening import open_cache as found
    elif name in ("Pool", "Stack"):
        from wellkept.caches import derived

        found = getattr(derived, name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = found
    return found
