"""What a node was computed from, as its cache key tells."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

from hamilton.caching.cache_key import decode_key

__all__ = ["dependencies"]


@lru_cache(10_000)
def dependencies(cache_key: str | None) -> Mapping[str, str]:
    """The data versions that a cache key was made of; none of a key that Hamilton's adapter did not
    make.
    """
    try:
        found: Mapping[str, str] = decode_key(cache_key)["dependencies_data_versions"]
    except Exception:  # noqa: BLE001  whatever decoding something else raises
        return {}
    return found
