"""How often somebody may ask."""

from __future__ import annotations

import time

__all__ = ["Rates"]

_BURST = 2.0  # seconds whose requests may come at once


class Rates:
    """A bucket of requests for each name, which fills at a rate.

    Args:
        rate: requests a second; 0: any.
    """

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._full = max(1.0, rate * _BURST)
        self._left: dict[str, tuple[float, float]] = {}

    def wait(self, name: str) -> float:
        """Take one request; seconds to wait for it, or 0.0 and it may be answered."""
        if not self._rate:
            return 0.0
        now = time.monotonic()
        left, since = self._left.get(name, (self._full, now))
        left = min(self._full, left + (now - since) * self._rate)
        if left < 1.0:
            self._left[name] = left, now
            return max(0.001, (1.0 - left) / self._rate)
        self._left[name] = left - 1.0, now
        return 0.0
