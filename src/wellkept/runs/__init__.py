"""Runs and where results come from."""

from __future__ import annotations

# As in the package itself, which imports this.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from wellkept.caches import Cache
    from wellkept.runs.run import Runs

__all__ = ["runs"]


def runs(
    name: str | None = None,
    *,
    tags: Mapping[str, Any] | None = None,
    cache: Cache | str | None = None,
) -> Runs:
    """The runs that a cache knows of, the newest first: `wellkept.runs()["sweep 3"]` is one of them.

    Args:
        name: only those whose name or id is this, or fits this pattern (`*`, `?`, `[…]`).
        tags: only those that have all of these.
        cache: beside whose calls they are; the active one by default.

    Raises:
        ConfigError: there is no such cache, or what is said is nothing to choose runs by.
        StoreError: it can't be opened.
    """
    from wellkept.caches import active, chosen
    from wellkept.runs.run import Runs

    return Runs(active() if cache is None else chosen(cache), name, tags)
