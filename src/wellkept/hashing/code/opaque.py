"""Objects without a digest: what tells them apart in one process.

Between processes they count by the names of their types alone, so that a function that takes a lock
has the same identity in each. In one process a function may be given another connection, and what it
gave with the first one is not what it gives with that.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable, Iterable
from typing import Any

from ..names import class_name

__all__ = ["tell_apart"]

_lock = threading.Lock()
_first: dict[tuple[str, str, int], Callable[[], Any]] = {}
"""What a function was met with first: by its name, a type, and which of several."""
_others: dict[int, tuple[Callable[[], Any], bytes]] = {}


def tell_apart(root: Any, found: Iterable[tuple[list[Any], Any]]) -> None:
    """Add to the nodes of objects that a function was not met with first what no other one has.

    Args:
        root: the function.
        found: its objects without a digest, with their nodes.
    """
    name = f"{getattr(root, '__module__', '')}:{getattr(root, '__qualname__', type(root).__name__)}"
    counts: dict[str, int] = {}
    with _lock:
        for node, value in found:
            kind = class_name(type(value))
            at = counts[kind] = counts.get(kind, 0) + 1
            if _first.setdefault((name, kind, at), _held(value))() is not value:
                node.append(_token(value))


def _token(value: Any) -> bytes:
    found = _others.get(id(value))
    if found is None or found[0]() is not value:
        found = _others[id(value)] = _held(value), os.urandom(16)
    return found[1]


def _held(value: Any) -> Callable[[], Any]:
    try:
        return weakref.ref(value)
    except TypeError:
        return lambda: value
