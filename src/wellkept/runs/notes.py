"""Where the notes of a cache are, and the keys that runs have there."""

from __future__ import annotations

import contextlib
import os
import time

from wellkept.caches import Cache
from wellkept.errors import KeptError
from wellkept.stores.base import Store

__all__ = [
    "ENVS",
    "EVENTS",
    "HEADS",
    "INNER",
    "LEAVES",
    "TOTALS",
    "new_id",
    "note_once",
    "notes_of",
    "writer",
]

HEADS = "runs/heads/"
"""`<id>`: the record of a run."""
EVENTS = "runs/events/"
"""`<id>/<writer>/<number>`: some of its events."""
TOTALS = "runs/totals/"
"""`<id>/<writer>`: all events that one process wrote, added up."""
INNER = "runs/inner/"
"""`<id>/<id>`: a run, and one inside it."""
ENVS = "env/"
"""`<short digest>`: what calls have in common."""
LEAVES = "leaves/"
"""`<key>`: what the arguments of a call were made of."""


def notes_of(cache: Cache) -> Store[bytes]:
    """The notes beside a cache's calls."""
    return cache.backend.notes


def note_once(cache: Cache, key: str, item: bytes) -> None:
    """Write a note that always says the same, unless this process did already. A cache that does
    not take it goes without."""
    if key not in cache.noted:
        cache.noted.add(key)
        with contextlib.suppress(KeptError):
            notes_of(cache).put(key, item)


def new_id(now: float) -> str:
    """A name for a run that nobody else has: `20260131-142530-3f9a2c`."""
    return f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime(now))}-{os.urandom(3).hex()}"


def writer() -> str:
    """A name for one process that writes events of a run."""
    return f"{os.getpid()}-{os.urandom(4).hex()}"
