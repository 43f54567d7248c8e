"""A definition as a text that says what it does, and what it refers to.

Left out are comments, layout, docstrings, annotations that nothing reads, `@keep`, and the names
of local variables: `%0`, `%1`, … stand for them, in the order in which they are met. What is looked
up outside the definition is written `@0`, `@1`, …, and listed, so that the text does not depend on
what an import calls it. The text is the same under every Python from 3.11.
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import Any, NamedTuple

from .scopes import Chain, Scope, Use
from .writer import DEFINITIONS, Writer

__all__ = ["Normal", "normal"]


class Normal(NamedTuple):
    """A definition, normalised."""

    text: str
    chains: tuple[Chain, ...]
    """What `@0`, `@1`, … stand for."""
    written: frozenset[Chain]
    """Those that are bound anew, deleted, or have an item or attribute set."""
    called: frozenset[Chain]
    """Those on which a method is called that changes containers."""
    receiver: frozenset[str] | None
    """The attributes asked of the first parameter; None: it is used in another way too."""
    imports: tuple[tuple[int, str, str], ...]
    """What is imported inside: level, module, name ("" for a module itself)."""
    parameters: frozenset[str]
    """Parameters of the definition that it changes itself: they hold state, not a constant."""
    set_on: frozenset[str]
    """Names of attributes that are set on anything, or changed."""


def normal(node: ast.AST, ours: Callable[[ast.expr], bool], owner: str = "") -> Normal:
    """Normalise a definition: a function, a lambda, a class, or any other statement.

    Args:
        ours: whether a decorator is kept's own, which says nothing about what a function does.
        owner: the class that it is a method of, for private names.
    """
    writer = Writer(ours, owner)
    inner: Scope | None = None
    first = ""
    if isinstance(node, (*DEFINITIONS, ast.Lambda)):
        if isinstance(node, ast.Lambda):
            inner = writer.lambda_(node, writer.outside, root=True)
        else:
            inner = writer.function(node, writer.outside, root=True)
        given = [*node.args.posonlyargs, *node.args.args]
        first = given[0].arg if given else ""
    elif isinstance(node, ast.ClassDef):
        writer.class_(node, writer.outside, root=True)
    else:
        writer.write(node, writer.outside)
    return _resolved(writer, inner, first)


def _resolved(writer: Writer, root: Scope | None, first: str) -> Normal:
    """Give every name its meaning, now that all bindings are known."""
    # A statement of a module binds globals: what it stores is looked up outside all the same.
    if root is None:
        writer.outside.bound.clear()
    chains: dict[Chain, str] = {}
    places: dict[tuple[int, str], str] = {}
    attributes: set[str] = set()
    bare = False
    parts: list[Any] = writer.out
    for at, item in enumerate(parts):
        if type(item) is str:
            continue
        name, asked = item.name, item.attributes
        where = item.scope.find(name)
        if where is None or where is writer.outside:
            chain = (name, *asked)
            parts[at] = chains.setdefault(chain, f"@{len(chains)}")
            continue
        if where is root and name == first:
            if asked:
                attributes.add(asked[0])
            else:
                bare = True
        shown = name
        if name not in where.kept and not writer.looking:
            shown = places.setdefault((id(where), name), f"%{len(places)}")
        parts[at] = ".".join((shown, *asked)) if asked else shown
    stored, called = _outside(writer, writer.stored), _outside(writer, writer.called)
    changed = [use for use in (*writer.stored, *writer.called) if use.scope.find(use.name) is root]
    return Normal(
        "".join(parts),
        tuple(chains),
        stored,
        called,
        None if bare else frozenset(attributes),
        tuple(writer.imports),
        frozenset(use.name for use in changed if root is not None and use.name in root.kept),
        frozenset(name for use in (*writer.stored, *writer.called) for name in use.attributes),
    )


def _outside(writer: Writer, uses: list[Use]) -> frozenset[Chain]:
    found = ((use, use.scope.find(use.name)) for use in uses)
    return frozenset(
        (use.name, *use.attributes)
        for use, where in found
        if where is None or where is writer.outside
    )
