"""What `kept.open` calls for a scheme: the rest of the URL and the options to a place."""

from __future__ import annotations

from typing import Any

from kept.errors import ConfigError
from kept.records import Call, Value
from kept.stores.embedded import Embedded
from kept.stores.memory import Memory, Void
from kept.stores.pair import Pair

__all__ = ["embedded", "memory", "void"]


def embedded(rest: str, **options: Any) -> Embedded:
    """A directory."""
    return Embedded(rest, **options)


def memory(rest: str, **options: Any) -> Pair:
    """This process's memory, lost with it."""
    _nothing("memory", rest, options)
    return Pair(Memory[Value](), Memory[Call]())


def void(rest: str, **options: Any) -> Pair:
    """Nowhere: caching switched off."""
    _nothing("void", rest, options)
    return Pair(Void[Value](), Void[Call]())


def _nothing(scheme: str, rest: str, options: dict[str, Any]) -> None:
    if rest.strip("/"):
        raise ConfigError(f"{scheme}: takes no path, and got {rest!r}")
    if options:
        raise ConfigError(f"{scheme}: takes no options, and got {', '.join(options)}")
