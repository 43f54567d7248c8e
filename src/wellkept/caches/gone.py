"""Which calls were thrown away, and when: remembered for who asks why one is computed again.

A note `gone/<milliseconds>-<random>` has the keys of one eviction, cut to 12 bytes each. The latest are
kept.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterable
from itertools import islice
from typing import Any

from wellkept.errors import KeptError
from wellkept.stores.base import get_many

__all__ = ["evicted_at", "remember"]

_GONE = "gone/"
_CUT = 12  # bytes of a key; a mistaken one would cost nothing but a wrong word in a text
_KEYS = 20_000  # of one eviction
_EVICTIONS = 64


def remember(backend: Any, keys: Iterable[bytes]) -> None:
    """Note that these calls were evicted. A place that does not take it goes without."""
    cut = b"".join(key[:_CUT] for key in islice(keys, _KEYS))
    if not cut:
        return
    with contextlib.suppress(KeptError):
        name = f"{_GONE}{int(time.time() * 1000):015d}-{os.urandom(3).hex()}"
        backend.notes.put(name, cut)
        old = sorted(backend.notes.keys(_GONE))[:-_EVICTIONS]
        if old:
            backend.notes.delete_many(old)


def evicted_at(backend: Any, key: bytes) -> float | None:
    """When a call was last evicted, as far as that is remembered.

    Raises:
        StoreError: the place can't be read.
    """
    names = sorted(backend.notes.keys(_GONE), reverse=True)
    notes = get_many(backend.notes, names)
    for name in names:
        cut = notes.get(name, b"")
        at = cut.find(key[:_CUT])
        while at >= 0 and at % _CUT:
            at = cut.find(key[:_CUT], at + 1)
        if at >= 0:
            return int(name[len(_GONE) :].partition("-")[0]) / 1000
    return None
