"""What a graph is made of: calls, and what leads from one to another."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["CALLED", "GAVE", "Edge", "Node"]

GAVE, CALLED = "gave", "called"


class Node(NamedTuple):
    """A call; or a value that no kept call gave."""

    id: str
    """The key of the call, or the digest of the value."""
    label: str
    """In one line, as people read it."""
    function: str = ""
    """Empty for a value."""
    outcome: str = ""
    """`hit`, `computed` or `failed` in a run."""
    seconds: float | None = None
    result: str | None = None
    created: float | None = None


class Edge(NamedTuple):
    """From one node to another."""

    source: str
    target: str
    kind: str
    """`gave`: the result of the one was an argument of the other. `called`: the body of the one
    made the other."""
    name: str = ""
    """Of the argument."""
