"""Calls and events as people read them: `fit(data=<ab12cd34>, n=3)`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from wellkept.caches import Cache
from wellkept.errors import KeptError
from wellkept.records import Call, Event
from wellkept.stores.base import get_many

__all__ = ["called", "event_label", "records", "short"]

_LONG = 60  # characters of one value


def short(function: str) -> str:
    """A function's name without its module."""
    return function.rpartition(":")[2]


def called(function: str, call: Call) -> str:
    """A call in one line, as its record has it."""
    shown = (
        f"{name}={_value(found.value)}" if found.shown else f"{name}=<{found.digest[:8]}>"
        for name, found in call.arguments.items()
    )
    return f"{short(function)}({', '.join(shown)})"


def event_label(event: Event, call: Call | None) -> str:
    """What an event was about, in one line: by the record of the call, where there is one.

    (What another engine keeps has a record under the engine's own name.)
    """
    if call is not None and call.function == event.function:
        return called(event.function, call)
    if not event.arguments:
        return short(event.function)
    shown = (
        f"{name}={_value(event.shown[name])}" if name in event.shown else f"{name}=<{digest[:8]}>"
        for name, digest in event.arguments.items()
    )
    return f"{short(event.function)}({', '.join(shown)})"


def _value(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _LONG else f"{text[: _LONG - 1]}…"


def records(cache: Cache | None, keys: Iterable[str | None]) -> dict[str, Call]:
    """The records of calls that are still kept, by key. What can't be read is left out."""
    wanted = [key for key in dict.fromkeys(keys) if key is not None and len(key) == 64]
    if cache is None or not wanted:
        return {}
    try:
        found: dict[str, Call] = get_many(cache.calls, wanted)
    except KeptError:  # one is damaged
        found = {}
        for key in wanted:
            try:
                call = cache.calls.get(key)
            except KeptError:
                continue
            if call is not None:
                found[key] = call
    return found
