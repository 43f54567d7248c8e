"""A definition as a text that says what it does, and what it refers to.

Left out are comments, layout, docstrings, annotations that nothing reads, `@keep`, and the names
of local variables: `%0`, `%1`, … stand for them, in the order in which they are met. What is looked
up outside the definition is written `@0`, `@1`, …, and listed, so that the text does not depend on
what an import calls it. The text is the same under every Python from 3.11.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from ..source import dump
from .scopes import Chain, Scope, Use
from .writer import DEFINITIONS, Writer

__all__ = ["Normal", "is_literal", "normal"]


class Normal(NamedTuple):
    """A definition, normalised."""

    text: str
    chains: tuple[Chain, ...]
    """What `@0`, `@1`, … stand for."""
    early: frozenset[Chain]
    """Those that are read only when the definition is made (decorators, the body of a class)."""
    written: frozenset[Chain]
    """What is bound anew, deleted, or has an item or attribute set when it runs."""
    called: frozenset[Chain]
    """Those on which a method is called that changes containers."""
    receiver: frozenset[str] | None
    """The attributes asked of the first parameter; None: it is used in another way too."""
    imports: tuple[tuple[int, str, str], ...]
    """What is imported inside: level, module, name ("" for a module itself)."""
    parameters: frozenset[str]
    """Parameters of the definition that it changes in place: what they hold is no constant."""
    set_on: frozenset[str]
    """Names of attributes that are set on anything, or changed, but on what is being made."""
    tells: frozenset[str] = frozenset()
    """At what else it looks: `doc`, `name`, `hints`, `namespace`, `import` and others."""
    texts: tuple[str, ...] = ()
    """Texts in it that may name a module."""
    docs: tuple[str, ...] = ()
    """Docstrings."""
    hints: str = ""
    """Annotations that are not in the text."""
    noted: tuple[Chain, ...] = ()
    """What annotations name."""
    decorators: tuple[Chain, ...] = ()
    """The names of its decorators; () for one that is no name."""
    given: tuple[tuple[str, str | None], ...] = ()
    """The defaults of `parameters` as they are written; None: other than literals."""


def normal(
    node: ast.AST, ours: Callable[[ast.expr], bool], owner: str = "", early: bool = False
) -> Normal:
    """Normalise a definition: a function, a lambda, a class, or any other statement.

    Args:
        ours: whether a decorator is wellkept's own, which says nothing about what a function does.
        owner: the class that it is a method of, for private names.
        early: it is a statement of a module, and runs when that is loaded.
    """
    writer = Writer(ours, owner)
    writer.early = early
    inner: Scope | None = None
    first = ""
    if early:
        writer.write(node, writer.outside)
    elif isinstance(node, (*DEFINITIONS, ast.Lambda)):
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
    found = _resolved(writer, inner, first)
    if found.parameters and isinstance(node, (*DEFINITIONS, ast.Lambda)):
        found = found._replace(given=tuple(_given(node.args, found.parameters)))
    return found


def _given(node: ast.arguments, names: frozenset[str]) -> Iterator[tuple[str, str | None]]:
    every = [*node.posonlyargs, *node.args]
    last = every[len(every) - len(node.defaults) :]
    for each, default in (
        *zip(last, node.defaults, strict=True),
        *zip(node.kwonlyargs, node.kw_defaults, strict=True),
    ):
        if default is not None and each.arg in names:
            yield each.arg, dump(default) if is_literal(default) else None


_EMPTY = frozenset((
    "dict", "list", "set", "tuple", "frozenset", "bytearray", "int", "float", "str", "bool", "object",
    "Counter", "OrderedDict", "defaultdict", "deque", "count", "Lock", "RLock", "local",
    "WeakValueDictionary", "WeakKeyDictionary", "WeakSet",
))  # fmt: skip


def is_literal(node: ast.expr) -> bool:
    """Whether what an expression gives can be told from its text."""
    if isinstance(node, ast.Call):
        target = node.func
        name = target.attr if isinstance(target, ast.Attribute) else getattr(target, "id", "")
        return name in _EMPTY and all(
            is_literal(item) or getattr(item, "id", "") in _EMPTY
            for item in (*node.args, *(given.value for given in node.keywords))
        )
    try:
        ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, RecursionError):
        return False
    return True


def _resolved(writer: Writer, root: Scope | None, first: str) -> Normal:
    """Give every name its meaning, now that all bindings are known."""
    # A statement of a module binds globals: what it stores is looked up outside all the same.
    if root is None:
        writer.outside.bound.clear()
    chains: dict[Chain, str] = {}
    late: set[Chain] = set()
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
            if not item.early:
                late.add(chain)
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
    changed = [*writer.changed, *writer.called]
    inside = [use for use in changed if root is not None and use.scope.find(use.name) is root]
    return Normal(
        "".join(parts),
        tuple(chains),
        frozenset(chains.keys() - late),
        _outside(writer, writer.stored),
        _outside(writer, writer.called),
        None if bare or not first else frozenset(attributes),
        tuple(writer.imports),
        frozenset(use.name for use in inside if root is not None and use.name in root.kept),
        frozenset(name for use in changed if not _is_made(use) for name in use.attributes),
        frozenset(writer.tells),
        tuple(writer.texts),
        tuple(writer.docs),
        "".join(writer.hints),
        tuple(dict.fromkeys(_named(writer, writer.noted))),
        tuple(writer.decorators),
    )


def _is_made(use: Use) -> bool:
    """Whether what is changed is the object that a constructor makes."""
    where = use.scope.find(use.name)
    return use.early or (where is not None and where.made == use.name)


def _named(writer: Writer, uses: list[Use]) -> Iterator[Chain]:
    for use in uses:
        where = use.scope.find(use.name)
        if where is None or where is writer.outside:
            yield use.name, *use.attributes


def _outside(writer: Writer, uses: list[Use]) -> frozenset[Chain]:
    return frozenset(_named(writer, [use for use in uses if not use.early]))
