"""Answers that come in parts."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import Any

from kept.remote.desk import Desk
from kept.remote.wire import WireError

__all__ = ["begun"]


def begun(desk: Desk, verb: str, fields: Any, right: str) -> Iterator[bytes]:
    """The parts of an answer, of which the first is here: what fails before it can be told."""
    if not isinstance(fields, dict):
        raise WireError(f"a request to {verb} without its fields")
    parts = desk.stream(verb, fields, right)
    assert parts is not None
    return chain([next(parts, b"")], parts)
