"""Digests of values that contain themselves: equal for equal infinite unfoldings.

Nodes are told apart in rounds (partition refinement): first by themselves, then by what their
children were in the round before, until a round tells no more apart. The digest covers the
finished partition, so it depends on nothing but what can be seen by following references.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from blake3 import blake3

from wellkept.errors import Undigestible
from wellkept.hashing.buffers import Known
from wellkept.hashing.encoding import (
    ENDLESS,
    NO_END,
    Part,
    Shape,
    assemble,
    expand,
    makes_its_kind,
    pack,
    path_of,
    stand_in,
    tagged,
    weigh,
)
from wellkept.hashing.names import Refused


class _Node:
    __slots__ = ("above", "children", "missing", "part", "shape", "value")

    def __init__(self, value: Any, shape: Shape) -> None:
        self.value = value
        self.shape = shape
        self.children: list[_Node | Part] = []
        self.above: list[_Node] = []
        self.missing = 0
        self.part: Part | None = None


# From this number of nodes on, it is checked whether the value has an end.
_MANY = 10_000


def _look_for_end(value: Any, known: Known | None) -> None:
    if makes_its_kind(value, known, ENDLESS):
        raise Refused(NO_END)


def _explore(root: Any, known: Known | None, label: str, ordered: bool) -> list[_Node]:
    """Return every node that can be reached, each object once, the root first."""
    nodes: dict[int, _Node] = {}
    ways: dict[int, tuple[_Node, int]] = {}
    many = _MANY

    def enter(value: Any, parent: _Node | None, number: int) -> _Node | Part:
        nonlocal many
        node = nodes.get(id(value))
        if node is not None:
            return node
        try:
            shape = expand(value, known, ordered)
            if len(nodes) > many and isinstance(shape, Shape) and shape.kind == "tagged":
                many *= 2
                _look_for_end(value, known)
        except Refused as refused:
            steps = []
            while parent is not None:
                steps.append((parent.shape, number))
                if id(parent.value) not in ways:
                    break
                parent, number = ways[id(parent.value)]
            raise Undigestible(f"{path_of(label, steps[::-1])}: {refused}") from refused.__cause__
        if not isinstance(shape, Shape):
            return weigh(shape, 1, 0, value)
        node = nodes[id(value)] = _Node(value, shape)
        if parent is not None:
            ways[id(value)] = parent, number
        waiting.append(node)
        return node

    waiting: deque[_Node] = deque()
    enter(root, None, 0)
    while waiting:
        node = waiting.popleft()
        for number, value in enumerate(node.shape.children):
            child = enter(value, node, number)
            node.children.append(child)
            if isinstance(child, _Node):
                node.missing += 1
                child.above.append(node)
    return list(nodes.values())


def _settle(nodes: list[_Node]) -> None:
    """Encode all nodes that lead to no cycle in the ordinary way."""
    ready = [node for node in nodes if not node.missing]
    while ready:
        node = ready.pop()
        parts = [child.part if isinstance(child, _Node) else child for child in node.children]
        known = [part for part in parts if part is not None]
        encoded = assemble(node.shape, [part[0] for part in known])
        height = max((part[2] for part in known), default=0) + 1
        node.part = weigh(encoded, 1 + sum(part[1] for part in known), height)
        for parent in node.above:
            parent.missing -= 1
            if not parent.missing:
                ready.append(parent)


def cyclic_digest(
    root: Any, known: Known | None = None, label: str = "value", ordered: bool = False
) -> bytes:
    """Return the digest of a value that contains itself, 32 bytes.

    Raises:
        Undigestible: a part has no identity; the message names the path to it, from `label`.
    """
    nodes = _explore(root, known, label, ordered)
    _settle(nodes)
    cyclic = [node for node in nodes if node.part is None]
    labels: dict[_Node, bytes] = dict.fromkeys(cyclic, b"")
    classes = 0
    while True:
        following = {}
        for node in cyclic:
            parts = []
            for child in node.children:
                part = child.part if isinstance(child, _Node) else child
                parts.append(part[0] if part is not None else stand_in(labels[child]))  # type: ignore[index]
            following[node] = blake3(assemble(node.shape, parts)).digest()
        count = len(set(following.values()))
        if count == classes:
            break
        classes, labels = count, following
    # Label and next label of every class are the finished graph itself: classes and what they hold.
    table = sorted({labels[node] + following[node] for node in cyclic})
    encoded = tagged(b"cycle", pack(labels[cyclic[0]]), pack(b"".join(table)))
    return blake3(encoded).digest()
