"""The normalised definitions of functions and classes that are loaded."""

from __future__ import annotations

import ast
import contextlib
import re
import sys
import weakref
from collections.abc import Iterator
from functools import lru_cache
from types import CodeType, FunctionType
from typing import Any

from ..loaded import Space, is_current, lines
from ..names import RUN, class_file
from ..source import definition, is_ours, lines_of, statement
from .bytecode import compiled
from .normal import Normal, normal
from .project import module_file

__all__ = [
    "assigned",
    "class_nodes",
    "class_space",
    "class_text",
    "function_text",
    "functions_of",
]

_texts: dict[int, tuple[weakref.ref[CodeType], Normal]] = {}


def function_text(function: FunctionType) -> Normal:
    """The normalised definition of a function, worked out once a code object.

    Where there is no source, the byte code stands for it, and the names that it reads.
    """
    code = function.__code__
    found = _texts.get(id(code))
    if found is not None and found[0]() is code:
        return found[1]
    text = _function_text(function)
    key = id(code)
    # Code objects compare by content and not by file, so they are told apart by address.
    _texts[key] = weakref.ref(code, lambda _: _texts.pop(key, None)), text
    return text


def _function_text(function: FunctionType) -> Normal:
    node = definition(function.__code__, function.__globals__)
    if node is None:
        return compiled(function.__code__)
    space, owner = function.__globals__, _owner(function)
    ours = lambda item: is_ours(item, space)  # noqa: E731  used once below
    try:
        if not isinstance(node, list):
            return normal(node, ours, owner)
        texts = [normal(item, ours, owner) for item in node]
    except RecursionError:
        return compiled(function.__code__)
    return texts[0] if len(texts) == 1 else _several(texts)


def _several(texts: list[Normal]) -> Normal:
    """Of lambdas in one line that can't be told apart, and so count together."""
    return Normal(
        "|".join(text.text for text in texts),
        tuple(chain for text in texts for chain in text.chains),
        frozenset(),
        frozenset().union(*(text.written for text in texts)),
        frozenset().union(*(text.called for text in texts)),
        None,
        tuple(item for text in texts for item in text.imports),
        frozenset().union(*(text.parameters for text in texts)),
        frozenset().union(*(text.set_on for text in texts)),
        frozenset().union(*(text.tells for text in texts)),
        tuple(item for text in texts for item in text.texts),
    )


def _owner(function: FunctionType) -> str:
    names = function.__qualname__.split(".")
    return names[-2] if len(names) > 1 and names[-2] != "<locals>" else ""


def functions_of(kind: type[Any]) -> Iterator[FunctionType]:
    """The functions in the body of a class, out of what they are wrapped in."""
    inside = f"{kind.__qualname__}."
    for item in tuple(vars(kind).values()):
        for held in (item, *(getattr(item, name, None) for name in ("fget", "fset", "fdel"))):
            for _ in range(10):
                if isinstance(held, FunctionType) and held.__code__.co_qualname.startswith(inside):
                    yield held
                    break
                for name in ("__func__", "__wrapped__", "func"):
                    inner = getattr(held, name, None)
                    if inner is not None:
                        held = inner
                        break
                else:
                    break


def class_space(kind: type[Any]) -> dict[str, Any]:
    """The globals of the module that defines a class."""
    module = sys.modules.get(kind.__module__)
    found: Any = module
    for name in kind.__qualname__.split("."):
        found = getattr(found, name, None)
    if module is not None and found is kind:
        return vars(module)
    # A local class; or one of a script that another process unpickled.
    for function in functions_of(kind):
        return function.__globals__
    return vars(module) if module is not None else {}


def class_text(kind: type[Any], nodes: list[ast.ClassDef]) -> tuple[Normal, ...]:
    """The normalised definition of a class; several, where its source has several of its name, and
    none where there is no source that is surely its own.
    """
    space = class_space(kind)
    return tuple(normal(node, lambda item: is_ours(item, space)) for node in nodes)


def class_nodes(kind: type[Any]) -> list[ast.ClassDef]:
    """The same, as trees."""
    file = module_file(kind.__module__)
    module = sys.modules.get(kind.__module__)
    space: Space = vars(module) if module is not None else {}
    if kind.__module__ in RUN or file is None:
        file = class_file(kind) or file
        first = next((f for f in functions_of(kind) if f.__code__.co_filename == file), None)
        space = space if first is None else first.__globals__
    if file is None:
        return []
    codes = [f.__code__ for f in functions_of(kind) if f.__code__.co_filename == file]
    # What is beside its functions can be told of a whole text only.
    cell = file.startswith("<") or "ipykernel_" in file
    if space.get("__file__") != file:
        space = {"__file__": file}
    try:
        text = lines(file, space)
        if not (text and (codes if cell else is_current(space))):
            return []
        if not all(lines_of(code, space) for code in codes):
            return []
        nodes = _classes("".join(text), kind.__qualname__)
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return []
    firsts = [code.co_firstlineno for code in codes]
    return [
        node for node in nodes if all(node.lineno <= at <= (node.end_lineno or 0) for at in firsts)
    ]


def _classes(text: str, qualname: str) -> list[ast.ClassDef]:
    """The definitions of a class in a module's text."""
    names = qualname.replace(".<locals>", "").split(".")
    found: list[ast.AST] = _outermost(text).get(names[0], [])
    for name in names[1:]:
        found = [item for node in found for item in _within(node) if item.name == name]
    return [node for node in found if isinstance(node, ast.ClassDef)]


@lru_cache(maxsize=8)
def _outermost(text: str) -> dict[str, list[ast.AST]]:
    """The definitions of a module by their names, but for those within definitions."""
    found: dict[str, list[ast.AST]] = {}
    for item in _within(ast.parse(text)):
        found.setdefault(item.name, []).append(item)
    return found


def _within(node: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef]:
    """The definitions in a body, in whatever statement, but not in definitions there."""
    waiting = [*ast.iter_child_nodes(node)][::-1]
    while waiting:
        item = waiting.pop()
        if isinstance(item, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            yield item
        elif isinstance(item, (ast.stmt, ast.ExceptHandler)) or type(item).__name__ == "match_case":
            waiting += [*ast.iter_child_nodes(item)][::-1]


def assigned(file: str | None, name: str) -> Iterator[ast.stmt]:
    """The statements at the margin of a module that bind a name."""
    if file is None:
        return
    pattern = re.compile(rf"{re.escape(name)}\s*(?::[^=\n]*)?=(?!=)")
    found = lines(file)
    for at, line in enumerate(found):
        if pattern.match(line):
            with contextlib.suppress(SyntaxError, ValueError, OSError):
                yield statement(found, at, None)
