"""Graphs of calls, and their forms: text, SVG, DOT, Mermaid and JSON."""

from __future__ import annotations

import html
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib import import_module
from typing import Any, NamedTuple

from wellkept.errors import ConfigError
from wellkept.readable import duration, plain

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
    """`hit`, `computed` or `failed` in a run; `stale` of one that would be computed again."""
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


Steps = Callable[[str], list[tuple[str, str]]]
"""From a node to those that follow it, each with a word before it."""
_LINES = 400


def tree(graph: Graph) -> str:
    """Return a graph as an indented text.

    With a focus it shows where that came from and what it led to, and otherwise which call made or used which.
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
        # Nodes of a cycle have no root, so all are tried after the roots.
        for node in (*roots, *graph.nodes):
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
    """Return the lines below a node; each node once, so that a cycle ends."""
    # Without recursion, as a chain may be longer than Python's stack.
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
    text = plain(node.label)
    return f"{text}  [{', '.join(notes)}]" if notes else text


# Pixels.
_LETTER, _HEIGHT, _GAP, _BETWEEN, _MARGIN = 7.2, 30, 14, 84, 12
# Of the letters beside an edge.
_SMALL, _TALL = 6.0, 13
# Letters of a label.
_LONGEST, _SHORTEST = 48, 14
# Pixels that a picture should not be wider than, if its labels can be shorter.
_WIDE = 1200
_SWEEPS = 4
_COLOURS = {
    "hit": "#e3f4e3",
    "computed": "#e3ecf8",
    "failed": "#fbe0e0",
    "stale": "#fdf0d0",
    "": "#f4f4f4",
}


def ranks(graph: Graph) -> dict[str, int]:
    """Return the column of each node: one more than the largest of those that lead to it.

    Edges that close a cycle do not count.
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
    """Return the nodes of each column, placed near those that they are connected with."""
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


Box = tuple[float, float, float]
"""Left, top and width of a node."""


def draw(graph: Graph, link: Callable[[Node], str | None] | None = None) -> str:
    """The picture as SVG, which fits the frame that it is in and is never larger than it was drawn.

    Args:
        link: where a click on a node leads; None: nowhere.
    """
    rank = ranks(graph)
    columns = _columns(graph, rank)
    room = _WIDE / max(1, len(columns)) - _BETWEEN - 20
    longest = int(min(_LONGEST, max(_SHORTEST, room / _LETTER)))
    labels = {node.id: _label(node, longest) for node in graph.nodes.values()}
    tallest = max(map(len, columns), default=1)
    far = {edge for edge in graph.edges if rank[edge.target] - rank[edge.source] > 1}
    # Edges that span several columns are drawn above the nodes between.
    above = _MARGIN + (_HEIGHT if far else 0)
    height = above + _MARGIN + tallest * _HEIGHT + (tallest - 1) * _GAP
    boxes: dict[str, Box] = {}
    left = float(_MARGIN)
    for column in columns:
        width = max(len(labels[node]) for node in column) * _LETTER + 20
        top = above + (tallest - len(column)) * (_HEIGHT + _GAP) / 2
        for i, node in enumerate(column):
            boxes[node] = left, top + i * (_HEIGHT + _GAP), width
        left += width + _BETWEEN
    width = max(2.0 * _MARGIN, left - _BETWEEN + _MARGIN)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="100%" height="{height:.0f}" '
        f'viewBox="0 0 {width:.0f} {height:.0f}" preserveAspectRatio="xMinYMin meet" '
        f'role="{"img" if link is None else "group"}" '
        f'aria-label="{len(graph.nodes)} calls and values" font-family="sans-serif" font-size="12">',
        '<defs><marker id="wellkept-arrow" markerWidth="9" markerHeight="8" refX="8" refY="4" '
        'orient="auto"><path d="M0,0 L9,4 L0,8 z" fill="#666"/></marker></defs>',
    ]
    taken = [(x, y, x + width, y + _HEIGHT) for x, y, width in boxes.values()]
    for (source, target), names in _drawn(graph.edges).items():
        lift = _HEIGHT * 1.6 if any(edge in far for edge in names) else 0
        parts.append(_edge(names, boxes[source], boxes[target], lift, taken))
    for at, shown in graph.nodes.items():
        box = _box(shown, labels[at], boxes[at], at in graph.focus)
        where = None if link is None else link(shown)
        parts.append(box if where is None else f'<a href="{escaped(where)}">{box}</a>')
    return "\n".join((*parts, "</svg>"))


def _drawn(edges: Iterable[Edge]) -> dict[tuple[str, str], list[Edge]]:
    """The edges, those between the same two nodes together: one line that has all their names."""
    found: dict[tuple[str, str], list[Edge]] = {}
    for edge in edges:
        found.setdefault((edge.source, edge.target), []).append(edge)
    return found


def _label(node: Node, longest: int) -> str:
    return node.label if len(node.label) <= longest else f"{node.label[: longest - 1]}…"


def _box(node: Node, label: str, box: Box, focus: bool) -> str:
    x, y, width = box
    round_ = 4 if node.function else 15
    stale = ' stroke-dasharray="4 3"' if node.outcome == "stale" else ""
    note = f" ({node.outcome})" if node.outcome else ""
    return (
        f'<g><title>{escaped(node.label)} {escaped(node.id[:12])}{note}</title><rect x="{x:.0f}" '
        f'y="{y:.0f}" width="{width:.0f}" height="{_HEIGHT}" rx="{round_}" '
        f'fill="{_COLOURS.get(node.outcome, "#f4f4f4")}" stroke="#444"{stale} '
        f'stroke-width="{2.5 if focus else 1}"/><text x="{x + width / 2:.0f}" y="{y + 19:.0f}" '
        f'text-anchor="middle" fill="#111">{escaped(label)}</text></g>'
    )


Rect = tuple[float, float, float, float]


def _edge(edges: list[Edge], source: Box, target: Box, lift: float, taken: list[Rect]) -> str:
    """A line, and its names where they cover nothing that is drawn already; a title has them anyway."""
    (x, y, width), (to_x, to_y, _) = source, target
    x, y, to_y = x + width, y + _HEIGHT / 2, to_y + _HEIGHT / 2
    bend = max(30.0, abs(to_x - x) / 2)
    dash = ' stroke-dasharray="5 4"' if all(edge.kind == CALLED for edge in edges) else ""
    ends = (x, y), (x + bend, y - lift), (to_x - bend, to_y - lift), (to_x, to_y)
    name = ", ".join(dict.fromkeys(edge.name for edge in edges if edge.name))
    title = f"<title>{escaped(name)}</title>" if name else ""
    line = (
        f'<path d="M{x:.0f},{y:.0f} C{ends[1][0]:.0f},{ends[1][1]:.0f} '
        f'{ends[2][0]:.0f},{ends[2][1]:.0f} {to_x:.0f},{to_y:.0f}" fill="none" stroke="#666"{dash} '
        f'marker-end="url(#wellkept-arrow)">{title}</path>'
    )
    room = int(max(_BETWEEN, to_x - x) / _SMALL)
    shown = name if len(name) <= room else f"{name[: room - 1]}…"
    half = len(shown) * _SMALL / 2
    for share in (0.5, 0.35, 0.65, 0.22, 0.78) if shown else ():
        at_x, at_y = _point(ends, share)
        rect = at_x - half, at_y - 4 - _TALL, at_x + half, at_y - 2
        if not any(_overlap(rect, other) for other in taken):
            taken.append(rect)
            return line + (
                f'<text x="{at_x:.0f}" y="{at_y - 5:.0f}" text-anchor="middle" font-size="10" '
                f'fill="#555">{escaped(shown)}</text>'
            )
    return line


def _point(ends: tuple[tuple[float, float], ...], share: float) -> tuple[float, float]:
    """A point of a cubic curve."""
    rest = 1 - share
    parts = rest**3, 3 * rest**2 * share, 3 * rest * share**2, share**3
    return (
        sum(part * x for part, (x, _) in zip(parts, ends, strict=True)),
        sum(part * y for part, (_, y) in zip(parts, ends, strict=True)),
    )


def _overlap(one: Rect, other: Rect) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def escaped(text: str) -> str:
    """Return a text as it is written in XML."""
    return html.escape("".join(c if c.isprintable() else " " for c in text))


class Graph:
    """Calls, which gave what to which, and which called which.

    Prints as a tree; notebooks show a picture.

    Args:
        nodes: each once.
        edges: between them.
        focus: the ids that it is about.
        cut: whether there is more than it shows.
    """

    def __init__(
        self,
        nodes: Iterable[Node],
        edges: Iterable[Edge],
        focus: Iterable[str] = (),
        cut: bool = False,
    ) -> None:
        self.nodes: dict[str, Node] = {node.id: node for node in nodes}
        known = self.nodes
        self.edges: list[Edge] = [
            edge for edge in dict.fromkeys(edges) if edge.source in known and edge.target in known
        ]
        self.focus: tuple[str, ...] = tuple(focus)
        self.cut = cut

    def __len__(self) -> int:
        return len(self.nodes)

    def marked(self, stale: Iterable[str]) -> Graph:
        """The same graph with some of its nodes as `stale`."""
        some = set(stale)
        nodes = (
            node._replace(outcome="stale") if node.id in some else node
            for node in self.nodes.values()
        )
        return Graph(nodes, self.edges, self.focus, self.cut)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Graph:
        """From what `to_dict` gives."""
        nodes, edges = ([kind(**one) for one in data[name]] for kind, name in _PARTS)
        return cls(nodes, edges, data["focus"], data["cut"])

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return {
            "nodes": [node._asdict() for node in self.nodes.values()],
            "edges": [edge._asdict() for edge in self.edges],
            "focus": list(self.focus),
            "cut": self.cut,
        }

    def to_dot(self) -> str:
        """Return the graph for Graphviz."""
        lines = ["digraph kept {", "  rankdir=LR;", '  node [shape=box, fontname="sans-serif"];']
        for node in self.nodes.values():
            said = [f"label={_quoted(node.label)}"]
            if not node.function:
                said.append("shape=ellipse")
            if node.id in self.focus:
                said.append("penwidth=2")
            if node.outcome == "failed":
                said.append("color=red")
            lines.append(f"  {_quoted(node.id)} [{', '.join(said)}];")
        for edge in self.edges:
            look = f"label={_quoted(edge.name)}" if edge.kind == GAVE else "style=dashed"
            lines.append(f"  {_quoted(edge.source)} -> {_quoted(edge.target)} [{look}];")
        return "\n".join((*lines, "}")) + "\n"

    def to_mermaid(self) -> str:
        """Return the graph for Mermaid, as Markdown pages show it."""
        names = {node: f"n{i}" for i, node in enumerate(self.nodes)}
        lines = ["flowchart LR"]
        for node in self.nodes.values():
            opening, closing = ("[", "]") if node.function else ("([", "])")
            lines.append(f"  {names[node.id]}{opening}{_mermaid(node.label)}{closing}")
        for edge in self.edges:
            source, target = names[edge.source], names[edge.target]
            if edge.kind == CALLED:
                lines.append(f"  {source} -.-> {target}")
            elif edge.name:
                lines.append(f"  {source} -->|{_mermaid(edge.name)}| {target}")
            else:
                lines.append(f"  {source} --> {target}")
        focus = [names[node] for node in self.focus if node in names]
        if focus:
            lines.append(f"  style {','.join(focus)} stroke-width:3px")
        return "\n".join(lines) + "\n"

    def to_networkx(self) -> Any:
        """Return a `networkx.MultiDiGraph`, whose nodes and edges have attributes.

        Raises:
            ConfigError: networkx is not installed.
        """
        try:
            networkx = import_module("networkx")
        except ImportError as error:
            raise ConfigError(
                "a graph of networkx needs it: pip install 'wellkept[graph]'"
            ) from error
        made = networkx.MultiDiGraph()
        for node in self.nodes.values():
            made.add_node(node.id, **{k: v for k, v in node._asdict().items() if k != "id"})
        for edge in self.edges:
            made.add_edge(edge.source, edge.target, kind=edge.kind, name=edge.name)
        return made

    def to_svg(self) -> str:
        """Return a picture; no other program is needed for it."""
        return draw(self)

    def _repr_svg_(self) -> str:
        return self.to_svg()

    def __str__(self) -> str:
        return tree(self)

    def __repr__(self) -> str:
        return f"<wellkept.Graph of {len(self.nodes)} calls and {len(self.edges)} edges>"


_PARTS: tuple[tuple[Any, str], ...] = ((Node, "nodes"), (Edge, "edges"))


def _quoted(text: str) -> str:
    """Return a text in Graphviz's quotes."""
    clean = "".join(c if c.isprintable() else " " for c in text)
    return '"' + clean.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _mermaid(text: str) -> str:
    """Return a text in Mermaid's quotes, where each special character is an entity."""
    clean = "".join(c if c.isprintable() else " " for c in text)
    special = {c: f"#{ord(c)};" for c in '"<>&`#[]{}()|;\\'}
    return json.dumps("".join(special.get(c, c) for c in clean), ensure_ascii=False)
