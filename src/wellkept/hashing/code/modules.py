"""Modules as a whole: what their source says, normalised, and what they do when they are loaded."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from blake3 import blake3

from ..source import dump
from .normal import is_literal, normal
from .scopes import Chain

__all__ = ["Import", "Source", "of_text", "read_source"]

Import = tuple[int, str, str]


class Source(NamedTuple):
    """The source of one module."""

    digest: bytes
    """Of all its statements, without docstrings, annotations and what runs only in a script."""
    told: bytes
    """Of docstrings and annotations."""
    imports: tuple[Import, ...]
    tells: frozenset[str]
    effects: tuple[Chain, ...]
    """What its own statements call, decorate or derive with, or change."""
    scripted: tuple[Chain, ...]
    """The same of what runs only in a script."""
    patches: bool
    """Whether it sets attributes of something when it is loaded."""
    literals: dict[str, str]
    """Names that are bound once, to what their text says alone, and not used when it is loaded."""


@lru_cache(maxsize=4096)
def read_source(file: str, stamp: Any, plain: bool = False) -> Source | None:
    """A module's source; None: it can't be read.

    Args:
        stamp: what changes with the file.
        plain: take the text as it is, which is faster.
    """
    try:
        text = Path(file).read_bytes()
        return _as_it_is(text) if plain else of_text(text)
    except (OSError, SyntaxError, ValueError, RecursionError):
        return None


def of_text(text: bytes | str) -> Source:
    """The same of a text.

    Raises:
        SyntaxError, ValueError, RecursionError: it can't be parsed.
    """
    tree = ast.parse(text)
    ours = _ours(tree)
    hasher, told = blake3(), blake3()
    imports: list[Import] = []
    tells: set[str] = set()
    effects: dict[Chain, None] = {}
    scripted: dict[Chain, None] = {}
    patches = False
    for node in tree.body:
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            told.update(repr(node.value.value).encode())
            continue
        found = normal(node, ours, early=True)
        main = isinstance(node, ast.If) and "__name__" in (name for name, *_ in found.chains)
        if not main:
            hasher.update(repr((found.text, found.chains)).encode())
        told.update(repr((found.docs, found.hints, found.noted)).encode())
        imports += found.imports
        tells |= found.tells
        patches = patches or any(map(_sets_attribute, _direct(node)))
        if _acts(node):
            (scripted if main else effects).update(dict.fromkeys(found.early))
    return Source(
        hasher.digest(),
        told.digest(),
        tuple(dict.fromkeys(imports)),
        frozenset(tells),
        tuple(effects),
        tuple(scripted),
        patches,
        _literals(tree),
    )


def _as_it_is(text: bytes) -> Source:
    imports: list[Import] = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom):
            imports += [(node.level, node.module or "", alias.name) for alias in node.names]
        elif isinstance(node, ast.Import):
            imports += [(0, alias.name, "") for alias in node.names]
    digest = blake3(text).digest()
    return Source(digest, b"", tuple(imports), frozenset(), (), (), True, {})


def _ours(tree: ast.Module) -> Any:
    """Tells wellkept's decorators by how a module imports them."""
    names = set()
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "wellkept":
            names |= {alias.asname or alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            names |= {
                alias.asname or "wellkept" for alias in node.names if alias.name == "wellkept"
            }

    def ours(node: ast.expr) -> bool:
        target: Any = node.func if isinstance(node, ast.Call) else node
        while isinstance(target, ast.Attribute):
            target = target.value
        return isinstance(target, ast.Name) and target.id in names

    return ours


def _direct(node: ast.AST) -> Iterator[ast.AST]:
    """What runs with a statement: not the bodies of functions in it."""
    waiting = [node]
    while waiting:
        item = waiting.pop()
        yield item
        if isinstance(item, (ast.FunctionDef, ast.AsyncFunctionDef)):
            waiting += [*item.decorator_list, *item.args.defaults]
        elif not isinstance(item, ast.Lambda):
            waiting += ast.iter_child_nodes(item)


def _sets_attribute(node: ast.AST) -> bool:
    if isinstance(node, ast.Call):
        target: Any = node.func
        return getattr(target, "id", "") in ("setattr", "delattr")
    return isinstance(node, (ast.Attribute, ast.Subscript)) and not isinstance(node.ctx, ast.Load)


def _acts(node: ast.stmt) -> bool:
    """Whether a statement may do more than bind a name of its module."""
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
        return bool(node.decorator_list)
    return isinstance(node, ast.ClassDef) or any(
        isinstance(item, ast.Call) or _sets_attribute(item) for item in _direct(node)
    )


def _literals(tree: ast.Module) -> dict[str, str]:
    bound: dict[str, list[str | None]] = {}
    used: set[str] = set()
    for node in tree.body:
        value = getattr(node, "value", None)
        targets: list[Any] = getattr(node, "targets", None) or [getattr(node, "target", None)]
        if (
            isinstance(node, (ast.Assign, ast.AnnAssign))
            and value is not None
            and len(targets) == 1
            and isinstance(targets[0], ast.Name)
        ):
            text = dump(value) if is_literal(value) else None
            bound.setdefault(targets[0].id, []).append(text)
            if text is None:
                used |= {item.id for item in _direct(value) if isinstance(item, ast.Name)}
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            used |= {(alias.asname or alias.name).partition(".")[0] for alias in node.names}
        else:
            used |= {item.id for item in _direct(node) if isinstance(item, ast.Name)}
            name = getattr(node, "name", None)
            if isinstance(name, str):
                used.add(name)
    return {
        name: texts[0]
        for name, texts in bound.items()
        if len(texts) == 1 and texts[0] is not None and name not in used
    }
