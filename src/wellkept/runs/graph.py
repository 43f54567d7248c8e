"""Calls and what leads from one to another, as text for other tools, and as a picture."""

from __future__ import annotations

import json
from collections.abc import Iterable
from importlib import import_module
from typing import Any

from wellkept.errors import ConfigError
from wellkept.runs.nodes import CALLED, GAVE, Edge, Node
from wellkept.runs.svg import draw
from wellkept.runs.tree import tree

__all__ = ["Graph"]


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
        self.nodes = {node.id: node for node in nodes}
        known = self.nodes
        self.edges = [
            edge for edge in dict.fromkeys(edges) if edge.source in known and edge.target in known
        ]
        self.focus = tuple(focus)
        self.cut = cut

    def __len__(self) -> int:
        return len(self.nodes)

    def to_dict(self) -> dict[str, Any]:
        """As plain data for JSON."""
        return {
            "nodes": [node._asdict() for node in self.nodes.values()],
            "edges": [edge._asdict() for edge in self.edges],
            "focus": list(self.focus),
            "cut": self.cut,
        }

    def to_dot(self) -> str:
        """For Graphviz."""
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
        """For Mermaid, as Markdown pages show it."""
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
        """As a `networkx.MultiDiGraph`, with what is known as attributes.

        Raises:
            ConfigError: networkx is not there.
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
        """A picture; no other program is needed for it."""
        return draw(self)

    def _repr_svg_(self) -> str:
        return self.to_svg()

    def __str__(self) -> str:
        return tree(self)

    def __repr__(self) -> str:
        return f"<wellkept.Graph of {len(self.nodes)} calls and {len(self.edges)} edges>"


def _quoted(text: str) -> str:
    """Text in Graphviz's quotes."""
    plain = "".join(c if c.isprintable() else " " for c in text)
    return '"' + plain.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _mermaid(text: str) -> str:
    """Text in Mermaid's quotes, where each special character is an entity."""
    plain = "".join(c if c.isprintable() else " " for c in text)
    special = {c: f"#{ord(c)};" for c in '"<>&`#[]{}()|;\\'}
    return json.dumps("".join(special.get(c, c) for c in plain), ensure_ascii=False)
