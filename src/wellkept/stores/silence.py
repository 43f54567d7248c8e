"""A server that gives no answer is not asked again for a moment: or each of a thousand calls would
wait for it."""

from __future__ import annotations

import time

from wellkept.errors import StoreError

__all__ = ["PAUSE", "Silence"]

PAUSE = 5.0
"""Seconds for which a server that did not answer is not asked again."""
# Seconds: one that refuses at once may be asked every time.
_LONG = 0.3


class Silence:
    """What is known of one server's silence."""

    def __init__(self) -> None:
        self._until, self._why = 0.0, ""

    def check(self) -> None:
        """Nothing, unless it gave no answer a moment ago.

        Raises:
            StoreError: it gave none, and this says what was tried then.
        """
        if self._until and self._until > time.monotonic():
            raise StoreError(self._why)

    def note(self, why: str, began: float | None = None) -> None:
        """What began at that time (`time.monotonic`) ended without an answer; None: so long ago that
        it is not to be tried again at once."""
        now = time.monotonic()
        if began is None or now - began > _LONG:
            self._until, self._why = now + PAUSE, why

    def over(self) -> None:
        """It may be asked again."""
        self._until = 0.0
