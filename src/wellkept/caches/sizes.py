"""Sizes and durations as people write them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from wellkept.errors import ConfigError

if TYPE_CHECKING:
    from datetime import timedelta

__all__ = ["parse_duration", "parse_size"]

_UNITS = {"": 1, "b": 1}
for _i, _letter in enumerate("kmgt", 1):
    _UNITS |= {f"{_letter}b": 1000**_i, _letter: 1000**_i, f"{_letter}ib": 1024**_i}
_SECONDS = {"": 1.0, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_TEXT = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([a-z]*)\s*", re.IGNORECASE)


def parse_size(size: int | str) -> int:
    """Bytes from a number or text such as `"256 MB"` (10**6) or `"1 GiB"` (2**30).

    Raises:
        ConfigError: it is neither.
    """
    if isinstance(size, str):
        found = _TEXT.fullmatch(size)
        if found and found[2].lower() in _UNITS:
            return int(float(found[1]) * _UNITS[found[2].lower()])
    elif isinstance(size, int) and size >= 0 and size is not True:
        return int(size)
    raise ConfigError(f"not a size: {size!r}; give bytes, or text such as '256 MB'")


def parse_duration(span: float | str | timedelta) -> float:
    """Seconds from a number, a timedelta, or text such as `"30 s"`, `"12 h"`, `"7 d"`.

    Raises:
        ConfigError: it is none of these, or negative.
    """
    if hasattr(span, "total_seconds"):  # a timedelta, not imported for the few who give one
        span = float(span.total_seconds())
    if isinstance(span, str):
        found = _TEXT.fullmatch(span)
        if found and found[2].lower() in _SECONDS:
            return float(found[1]) * _SECONDS[found[2].lower()]
    elif isinstance(span, (int, float)) and span >= 0 and span is not True:
        return float(span)
    raise ConfigError(f"not a duration: {span!r}; give seconds, or text such as '12 h'")
