"""How a wrapper has exactly the abilities of the store that it holds.

An optional operation is an attribute of the wrapper, set when it is made and only if the held store
has the operation; so `isinstance(wrapper, Creates)` says of it what it says of the store inside.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from wellkept.stores.base import Store

__all__ = ["READING", "REPEATABLE", "close", "lend"]

READING = ("get_many", "path", "map", "map_stamped", "find", "now", "count", "read_range")
"""Optional operations that change nothing."""
_WRITING = ("create", "replace", "put_many", "delete_many", "put_file")
REPEATABLE = (*READING, "put_many", "delete_many", "put_file")
"""Optional operations that may be done twice: what they do, and answer, is the same."""


def lend(wrapper: Any, store: Store[Any], make: Callable[[str], Callable[..., Any] | None]) -> None:
    """Give a wrapper the optional operations of the store that it holds.

    Args:
        wrapper: what gets them.
        store: what it holds.
        make: from the name of an operation, the wrapper's own; None for what it can't offer.
    """
    for name in (*READING, *_WRITING):
        if callable(getattr(store, name, None)):
            made = make(name)
            if made is not None:
                setattr(wrapper, name, made)


def close(store: Store[Any]) -> None:
    """Close a held store, if there is anything to close."""
    closing = getattr(store, "close", None)
    if closing is not None:
        closing()
