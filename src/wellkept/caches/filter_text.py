"""Filters as people type them, on the command line and on the page: `n=1..10`, `lr>=0.1`, `data=@1f3a`."""

from __future__ import annotations

import datetime
import json
import re
from typing import Any

from wellkept.caches.option_text import parse_duration
from wellkept.conditions import ANY
from wellkept.errors import ConfigError
from wellkept.query.operators import above, at_least, at_most, below, between, named

_ASKED = re.compile(r"(?P<name>[^=<>]+?)(?:(?P<sign><=|>=|=|<|>)(?P<value>.*))?", re.DOTALL)
_RANGE = re.compile(r"(-?[\d.][\d.eE+-]*?)\.\.(-?[\d.][\d.eE+-]*)")
_HALF = re.compile(r"(-?[\d.]*\d)\.\.|\.\.(-?\d[\d.]*)")
_MADE = {"<": below, "<=": at_most, ">": above, ">=": at_least}


def asked(said: str) -> tuple[str, Any]:
    """Return a name, and what is wanted of it; of a name alone, that it is there.

    Raises:
        ConfigError: it is no filter.
    """
    found = _ASKED.fullmatch(said)
    if found is None:
        raise ConfigError(f"{said!r} is not NAME=VALUE, NAME>VALUE, or the like")
    name, sign, value = found["name"].strip(), found["sign"], found["value"]
    if sign is None:
        return name, ANY
    if value.lstrip()[:1] in ("=", "<", ">"):
        raise ConfigError(
            f"{said!r}: there is no {sign + value.lstrip()[0]}; say =, <, <=, > or >=, and a text that begins "
            f"so in quotes: {name}='\"{value.strip()}\"'"
        )
    if sign == "=":
        ends = _RANGE.fullmatch(value.strip())
        if half := _HALF.fullmatch(value.strip()):
            end = f"{name}>={half[1]}" if half[1] else f"{name}<={half[2]}"
            raise ConfigError(
                f"{said!r}: a range has two ends, such as 1..10; with one, say '{end}'"
            )
        return name, between(*map(value_of, ends.groups())) if ends else value_of(value)
    return name, _MADE[sign](value_of(value))


def value_of(said: str) -> Any:
    """Return a value as JSON has it, a digest behind an @, or else the text itself."""
    if said.startswith("@"):
        return named(said[1:])
    try:
        return json.loads(said)
    except (ValueError, RecursionError):
        return said


def when(said: str) -> Any:
    """Return a time, or how long ago; raises `ConfigError` where it is neither."""
    try:
        return datetime.datetime.fromisoformat(said)
    except ValueError:
        try:
            return datetime.timedelta(seconds=parse_duration(said))
        except ConfigError:
            raise ConfigError(
                f"not a time: {said!r}; give a date (2026-01-31) or how long ago ('2 d', '12 h')"
            ) from None
