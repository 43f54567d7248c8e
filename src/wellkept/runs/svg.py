"""A graph as a picture: columns from left to right, each call after all that led to it."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING

from wellkept.runs.nodes import CALLED, Edge, Node

if TYPE_CHECKING:
    from wellkept.runs.graph import Graph

__all__ = ["draw", "ranks"]

_LETTER, _HEIGHT, _GAP, _BETWEEN, _MARGIN = 7.2, 30, 14, 70, 12  # pixels
_LONGEST = 48  # letters of a label
_SWEEPS = 4
_COLOURS = {"hit": "#e3f4e3", "computed": "#e3ecf8", "failed": "#fbe0e0", "": "#f4f4f4"}


def ranks(graph: Graph) -> dict[str, int]:
    """The column of each node: one more than the largest of those that lead to it. Edges that close
    a circle do not count.
    """
    incoming: dict[str, list[str]] = {node: [] for node in graph.nodes}
    for edge in graph.edges:
        if edge.source != edge.target:
            incoming[edge.target].append(edge.source)
    found: dict[str, int] = {}
    for start in graph.nodes:
        path, open_ = [start], set()
        while path:
            node = path[-1]
            if node in found:
                path.pop()
                continue
            open_.add(node)
            todo = [other for other in incoming[node] if other not in found and other not in open_]
            if todo:
                path += todo
                continue
            found[node] = max((found[n] + 1 for n in incoming[node] if n in found), default=0)
            path.pop()
    return found


def _columns(graph: Graph, rank: dict[str, int]) -> list[list[str]]:
    """The nodes of each column, put near those that they are connected with."""
    columns: list[list[str]] = [[] for _ in range(max(rank.values(), default=-1) + 1)]
    for node in graph.nodes:
        columns[rank[node]].append(node)
    near: dict[str, list[str]] = {node: [] for node in graph.nodes}
    for edge in graph.edges:
        near[edge.source].append(edge.target)
        near[edge.target].append(edge.source)
    backend = {node: i / len(column) for column in columns for i, node in enumerate(column)}
    for sweep in range(_SWEEPS):
        for column in columns if sweep % 2 == 0 else reversed(columns):
            middle = {
                node: sum(backend[n] for n in near[node]) / len(near[node])
                if near[node]
                else backend[node]
                for node in column
            }
            column.sort(key=lambda node: (middle[node], backend[node]))
            backend |= {node: i / len(column) for i, node in enumerate(column)}
    return columns


def draw(graph: Graph) -> str:
    """The picture as SVG."""
    rank = ranks(graph)
    columns = _columns(graph, rank)
    labels = {node.id: _label(node) for node in graph.nodes.values()}
    tallest = max(map(len, columns), default=1)
    far = {edge for edge in graph.edges if rank[edge.target] - rank[edge.source] > 1}
    above = _MARGIN + (_HEIGHT if far else 0)  # where these go around what lies between
    height = above + _MARGIN + tallest * _HEIGHT + (tallest - 1) * _GAP
    boxes: dict[str, tuple[float, float, float]] = {}
    left = float(_MARGIN)
    for column in columns:
        width = max(len(labels[node]) for node in column) * _LETTER + 20
        top = above + (tallest - len(column)) * (_HEIGHT + _GAP) / 2
        for i, node in enumerate(column):
            boxes[node] = left, top + i * (_HEIGHT + _GAP), width
        left += width + _BETWEEN
    width = max(2.0 * _MARGIN, left - _BETWEEN + _MARGIN)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" '
        f'viewBox="0 0 {width:.0f} {height:.0f}" font-family="sans-serif" font-size="12">',
        '<defs><marker id="wellkept-arrow" markerWidth="9" markerHeight="8" refX="8" refY="4" '
        'orient="auto"><path d="M0,0 L9,4 L0,8 z" fill="#666"/></marker></defs>',
    ]
    parts += [_edge(edge, boxes, _HEIGHT * 1.6 if edge in far else 0) for edge in graph.edges]
    parts += [
        _box(node, labels[at], boxes[at], at in graph.focus) for at, node in graph.nodes.items()
    ]
    return "\n".join((*parts, "</svg>"))


def _label(node: Node) -> str:
    return node.label if len(node.label) <= _LONGEST else f"{node.label[: _LONGEST - 1]}…"


def _box(node: Node, label: str, box: tuple[float, float, float], focus: bool) -> str:
    x, y, width = box
    round_ = 4 if node.function else 15
    return (
        f'<g><title>{escaped(node.label)} {escaped(node.id[:12])}</title><rect x="{x:.0f}" '
        f'y="{y:.0f}" width="{width:.0f}" height="{_HEIGHT}" rx="{round_}" '
        f'fill="{_COLOURS.get(node.outcome, "#f4f4f4")}" stroke="#444" '
        f'stroke-width="{2.5 if focus else 1}"/><text x="{x + width / 2:.0f}" y="{y + 19:.0f}" '
        f'text-anchor="middle" fill="#111">{escaped(label)}</text></g>'
    )


def _edge(edge: Edge, boxes: dict[str, tuple[float, float, float]], lift: float) -> str:
    x, y, width = boxes[edge.source]
    to_x, to_y, _ = boxes[edge.target]
    x, y, to_y = x + width, y + _HEIGHT / 2, to_y + _HEIGHT / 2
    bend = max(30.0, abs(to_x - x) / 2)
    dash = ' stroke-dasharray="5 4"' if edge.kind == CALLED else ""
    line = (
        f'<path d="M{x:.0f},{y:.0f} '
        f"C{x + bend:.0f},{y - lift:.0f} {to_x - bend:.0f},{to_y - lift:.0f} "
        f'{to_x:.0f},{to_y:.0f}" fill="none" stroke="#666"{dash} marker-end="url(#wellkept-arrow)"/>'
    )
    if not edge.name:
        return line
    middle = (y + to_y) / 2 - lift * 0.75 - 4
    return line + (
        f'<text x="{(x + to_x) / 2:.0f}" y="{middle:.0f}" text-anchor="middle" font-size="10" '
        f'fill="#555">{escaped(edge.name)}</text>'
    )


def escaped(text: str) -> str:
    """Text in XML."""
    return html.escape("".join(c if c.isprintable() else " " for c in text))
