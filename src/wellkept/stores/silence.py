"""A pause after a server gave no answer. Without it, each of a thousand calls would wait for the server."""

from __future__ import annotations

import time

from wellkept.errors import StoreError

__all__ = ["PAUSE", "Silence"]

PAUSE = 5.0
"""Seconds for which a server that did not answer is not asked again."""
# Seconds of waiting from which a failure counts. A server that refuses at once costs nothing to ask again.
_LONG = 0.3


class Silence:
    """Whether a server gave no answer a moment ago."""

    def __init__(self) -> None:
        self._until, self._why = 0.0, ""
        self.answered = 0.0
        """When a request was sent that got an answer, by `time.monotonic`."""

    def check(self) -> None:
        """Check that the server may be asked.

        Raises:
            StoreError: it gave no answer a moment ago; the message is that of the failed attempt.
        """
        if self._until and self._until > time.monotonic():
            raise StoreError(self._why)

    def note(self, why: str, began: float | None = None) -> None:
        """Note that a request got no answer, unless one that was sent later did.

        Args:
            why: the message.
            began: when the request was sent, by `time.monotonic`; None if it certainly waited for long.
        """
        now = time.monotonic()
        # Another thread may have waited since before the server came back, or on a connection of its own.
        if began is None or (now - began > _LONG and began >= self.answered):
            self._until, self._why = now + PAUSE, why

    def over(self) -> None:
        """Allow requests again."""
        self._until = 0.0
