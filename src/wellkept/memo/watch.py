"""Whether what a body reads stayed as it was while it ran."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import TYPE_CHECKING

from wellkept.memo.troubles import note as note_trouble

if TYPE_CHECKING:
    from wellkept.memo.flow import Located
    from wellkept.memo.kept import Kept

__all__ = ["Watch"]

_OURS = frozenset(
    f"wellkept-{name}"
    for name in ("behind", "desk", "ending", "leases", "remote", "run", "snapshots", "sweeper")
)
"""Threads that run no code of others."""


class Watch:
    """One run of a body, from its start.

    What the body itself changes, as it may change its arguments, follows from what it began with, and
    so its result may be kept under the key that was right then. What another thread or task changes
    meanwhile does not.
    """

    def __init__(self, kept: Kept[..., object], found: Located) -> None:
        self._kept, self._found = kept, found
        self._threads = None if kept.awaits else threading.enumerate()

    def ended(self) -> bool:
        """Whether the result may be kept. Tells of it if not."""
        found = self._found
        # Those that ran at the start are looked at only here: most bodies change nothing.
        threads = self._threads
        if found.holds() or (threads and _alone((*threads, *threading.enumerate()))):
            return True
        note_trouble(found.key, "changed", "")
        self._kept.warn(
            "changed",
            "a result is not kept, for what the function reads was changed while it ran. "
            "Name a global that is not to count in ignore_globals=",
        )
        return False


def _alone(threads: Iterable[threading.Thread]) -> bool:
    """Whether none of these threads is another's, which could change something."""
    me = threading.current_thread()
    return all(thread is me or thread.name in _OURS for thread in threads)
