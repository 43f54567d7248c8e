"""Whether what a body reads stayed as it was while it ran."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from kept.memo.troubles import note as note_trouble

if TYPE_CHECKING:
    from kept.memo.flow import Located
    from kept.memo.kept import Kept

__all__ = ["Watch"]

_OURS = frozenset(
    f"kept-{name}"
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
        self._alone = not kept.awaits and _alone()

    def ended(self) -> bool:
        """Whether the result may be kept. Tells of it if not."""
        found = self._found
        if found.holds() or (self._alone and _alone()):
            return True
        note_trouble(found.key, "changed", "")
        self._kept.warn(
            "changed",
            "a result is not kept, for what the function reads was changed while it ran. "
            "Name a global that is not to count in ignore_globals=",
        )
        return False


def _alone() -> bool:
    """Whether no thread of others is there that could change something."""
    me = threading.current_thread()
    return all(thread is me or thread.name in _OURS for thread in threading.enumerate())
