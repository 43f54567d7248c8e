"""A graph as a tree of text."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from wellkept.runs.nodes import CALLED, GAVE, Edge, Node
from wellkept.runs.table import duration

if TYPE_CHECKING:
    from wellkept.runs.graph import Graph

__all__ = ["tree"]

Steps = Callable[[str], list[tuple[str, str]]]
"""From a node to those that follow it, each with a word before it."""
_LINES = 400


def tree(graph: Graph) -> str:
    """With a focus: where that came from, and what came of it. Otherwise: who called whom, and
    what was made of what.
    """
    lines: list[str] = []
    up, down = _steps(graph)
    if graph.focus:
        for node in graph.focus:
            lines.append(_named(graph.nodes[node]))
            before, after = up(node), down(node)
            if before:
                lines.append("came from")
                lines += _branches(graph, node, up)
            if after:
                lines.append("led to")
                lines += _branches(graph, node, down)
    else:
        targets = {edge.target for edge in graph.edges}
        met: set[str] = set()
        roots = [node for node in graph.nodes if node not in targets]
        for node in (*roots, *graph.nodes):  # the latter for those in circles
            if node not in met:
                lines.append(_named(graph.nodes[node]))
                lines += _branches(graph, node, down, met)
    if graph.cut:
        lines.append("… and more")
    if len(lines) > _LINES:
        lines = [*lines[:_LINES], f"… {len(lines) - _LINES:,} lines more"]
    return "\n".join(lines)


def _steps(graph: Graph) -> tuple[Steps, Steps]:
    incoming: dict[str, list[Edge]] = {}
    outgoing: dict[str, list[Edge]] = {}
    for edge in graph.edges:
        incoming.setdefault(edge.target, []).append(edge)
        outgoing.setdefault(edge.source, []).append(edge)

    def up(node: str) -> list[tuple[str, str]]:
        return [
            (f"{edge.name}: " if edge.kind == GAVE else "called by ", edge.source)
            for edge in incoming.get(node, [])
        ]

    def down(node: str) -> list[tuple[str, str]]:
        return [
            ("called " if edge.kind == CALLED else f"as {edge.name}: ", edge.target)
            for edge in outgoing.get(node, [])
        ]

    return up, down


def _branches(graph: Graph, root: str, steps: Steps, met: set[str] | None = None) -> list[str]:
    """The lines below a node; each node once, so that a circle ends. No recursion: a chain may be
    longer than the stack is deep."""
    met = set() if met is None else met
    met.add(root)
    lines: list[str] = []
    todo: list[tuple[str, Iterator[tuple[bool, tuple[str, str]]]]] = [("", _last(steps(root)))]
    while todo:
        margin, rest = todo[-1]
        found = next(rest, None)
        if found is None:
            todo.pop()
            continue
        last, (word, node) = found
        branch, below = ("└─ ", "   ") if last else ("├─ ", "│  ")
        again = node in met and bool(steps(node))
        lines.append(f"{margin}{branch}{word}{_named(graph.nodes[node])}{' …' if again else ''}")
        if node not in met:
            met.add(node)
            todo.append((margin + below, _last(steps(node))))
    return lines


def _last(items: list[tuple[str, str]]) -> Iterator[tuple[bool, tuple[str, str]]]:
    return ((i == len(items) - 1, item) for i, item in enumerate(items))


def _named(node: Node) -> str:
    notes = [note for note in (node.outcome, duration(node.seconds)) if note]
    text = "".join(c if c.isprintable() else repr(c)[1:-1] for c in node.label)
    return f"{text}  [{', '.join(notes)}]" if notes else text
