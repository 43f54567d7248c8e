"""The source of a function as a text that says what it does and nothing else.

No comments, formatting, docstrings or positions; the same text under every Python from 3.11, which
`ast.dump` is not (3.13 leaves out empty fields, 3.12 parses f-strings anew).
"""

from __future__ import annotations

import ast
import inspect
import linecache
import re
import time
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

__all__ = ["normal_text"]

_HEADER = re.compile(r"\s*(async\s+)?def\s")
_STARTED = time.time()
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_SKIPPED = frozenset({"ctx", "kind", "type_comment", "type_ignores"})


def normal_text(function: FunctionType) -> str | None:
    """The normalised source of a function; None where none is found that is surely its own."""
    code = function.__code__
    try:
        lines = _lines(code)
        if not lines:
            return None
        if code.co_name == "<lambda>":
            return _lambda_text(code, lines)
        return _definition_text(function, lines)
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError, inspect.EndOfBlock):
        return None


def _lines(code: CodeType) -> list[str]:
    """The file's lines, if the code object was made from them and not from an earlier version."""
    name = code.co_filename
    linecache.checkcache(name)
    lines = linecache.getlines(name)
    if not lines:
        return []
    if name.startswith("<"):
        # `python -c` and others share such names; a notebook's names are made from the cell.
        if not name.startswith("<ipython") and not _matches(code, lines):
            return []
    elif "ipykernel_" not in name:
        try:
            changed = Path(name).stat().st_ctime
        except OSError:
            changed = 0.0  # from a zip file or another loader
        if changed >= _STARTED - 2 and not _matches(code, lines):
            return []
    return lines


@lru_cache(maxsize=4)
def _compiled(text: str, name: str) -> CodeType:
    return compile(text, name, "exec", dont_inherit=True)


@lru_cache(maxsize=2)
def _parsed(text: str) -> ast.Module:
    """A whole file, only to be read: the functions of a file are mostly asked for together."""
    return ast.parse(text)


def _matches(code: CodeType, lines: list[str]) -> bool:
    """Whether compiling the lines gives this code (the file may have been edited since)."""
    try:
        waiting = [_compiled("".join(lines), code.co_filename)]
    except (SyntaxError, ValueError):
        return False
    while waiting:
        found = waiting.pop()
        if found == code:
            return True
        waiting += [item for item in found.co_consts if isinstance(item, CodeType)]
    return False


def _definition_text(function: FunctionType, lines: list[str]) -> str | None:
    code = function.__code__
    node = _statement(lines, code.co_firstlineno - 1)
    if not isinstance(node, _FUNCTIONS) or node.name != code.co_name:
        return None
    others = [item for item in node.decorator_list if not _is_ours(item, function)]
    node.decorator_list = others
    node.name = ""  # the name is told besides, and a function may be given another
    # A decorator may read annotations (pydantic, typeguard); nothing else does.
    return _dump(node, annotations=bool(others))


def _statement(lines: list[str], first: int) -> ast.stmt:
    """The definition that begins in a line: up to a line that is indented no further, and parses.

    What parses is whole: a line in a text or between brackets leaves either open.
    (`inspect.getblock` says the same, but compiles a tokenizer first: 6 ms in each process.)
    """
    margin = len(lines[first]) - len(lines[first].lstrip())
    indented = lines[first][:1].isspace()
    tries, headed = 0, False
    for end in range(first + 1, len(lines) + 1):
        headed = headed or bool(_HEADER.match(lines[end - 1]))
        after = lines[end].lstrip() if end < len(lines) else ""
        if not headed or (end < len(lines) and (not after or after[0] == "#")):
            continue
        if end < len(lines) and len(lines[end]) - len(after) > margin:
            continue
        block = lines[first:end]
        if indented:
            block = ["if 1:\n", *block]  # dedenting would change texts of several lines
        try:
            body = ast.parse("".join(block)).body
        except SyntaxError:
            tries += 1
            if tries > 20:
                break
            continue
        inner = body[0].body if indented and isinstance(body[0], ast.If) else body
        return inner[0]
    block = inspect.getblock(lines[first:])
    tree = ast.parse("".join(["if 1:\n", *block] if indented else block)).body
    return tree[0].body[0] if indented and isinstance(tree[0], ast.If) else tree[0]


def _lambda_text(code: CodeType, lines: list[str]) -> str | None:
    tree = _parsed("".join(lines))
    found = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Lambda) and node.lineno == code.co_firstlineno
    ]
    if not found:
        return None
    if len(found) > 1:
        spans = [
            span
            for span in code.co_positions()
            if None not in span and span[3] != 0  # the prologue lies nowhere
        ]
        fitting = [node for node in found if spans and all(_holds(node.body, s) for s in spans)]
        if fitting:
            found = [min(fitting, key=_width)]
    return " ".join(_dump(node) for node in found)


def _holds(node: Any, span: tuple[Any, ...]) -> bool:
    line, end_line, column, end_column = span
    return bool(
        (node.lineno, node.col_offset) <= (line, column)
        and (end_line, end_column) <= (node.end_lineno, node.end_col_offset)
    )


def _width(node: Any) -> tuple[int, int]:
    body = node.body
    lines = body.end_lineno - body.lineno
    return lines, body.end_col_offset - (0 if lines else body.col_offset)


def _is_ours(node: ast.expr, function: FunctionType) -> bool:
    """Whether a decorator is kept's own, which caches the function and does not change it."""
    target = node.func if isinstance(node, ast.Call) else node
    names: list[str] = []
    while isinstance(target, ast.Attribute):
        names.append(target.attr)
        target = target.value
    if not isinstance(target, ast.Name):
        return False
    names.append(target.id)
    names.reverse()
    missing = object()
    found: Any = function.__globals__.get(names[0], missing)
    for name in names[1:]:
        if found is missing:
            break
        # Only modules and kept's own objects are asked: others might compute something.
        if isinstance(found, ModuleType) or _is_kept(found):
            found = getattr(found, name, missing)
        else:
            return False
    if found is missing:
        return names[-1] == "keep"
    return _is_kept(found)


def _is_kept(value: Any) -> bool:
    module = getattr(value, "__module__", None)
    if isinstance(value, FunctionType | type) or isinstance(module, str):
        return isinstance(module, str) and module.partition(".")[0] == "kept"
    return type(value).__module__.partition(".")[0] == "kept"


def _dump(node: Any, annotations: bool = False) -> str:
    """A tree as text: class names and fields that are not empty."""
    return "".join(_pieces(node, annotations, in_class=False))


def _pieces(node: Any, annotations: bool, in_class: bool) -> Iterator[str]:
    if isinstance(node, ast.Constant):
        yield f"Constant({_constant(node.value)})"
        return
    if isinstance(node, ast.JoinedStr):
        node = ast.JoinedStr(values=_merged(node.values))
    elif isinstance(node, ast.AnnAssign) and not in_class and not annotations:
        if node.value is not None and isinstance(node.target, ast.Name):
            node = ast.Assign(targets=[node.target], value=node.value)
        else:
            bare: Any = None
            node = ast.AnnAssign(node.target, bare, node.value, node.simple)
    yield type(node).__name__
    yield "("
    for name, value in ast.iter_fields(node):
        if name in _SKIPPED or value is None or value == []:
            continue
        if not annotations and _is_annotation(node, name):
            continue
        if name == "body" and isinstance(node, (*_FUNCTIONS, ast.ClassDef)):
            value = _without_docstring(value)
        if name == "format_spec" and isinstance(value, ast.JoinedStr) and not _merged(value.values):
            continue
        yield name
        yield "="
        inside = isinstance(node, ast.ClassDef)
        if isinstance(value, list):
            yield "["
            for item in value:
                if isinstance(item, ast.AST):
                    yield from _pieces(item, annotations, inside)
                else:
                    yield "~" if item is None else ascii(item)
                yield ","
            yield "]"
        elif isinstance(value, ast.AST):
            yield from _pieces(value, annotations, inside)
        else:
            yield ascii(value)
        yield ","
    yield ")"


def _is_annotation(node: ast.AST, name: str) -> bool:
    return (name == "annotation" and isinstance(node, ast.arg)) or (
        name in ("returns", "type_params") and isinstance(node, _FUNCTIONS)
    )


def _without_docstring(body: list[Any]) -> list[Any]:
    first = body[0] if body else None
    if (
        isinstance(first, ast.Expr)
        and isinstance(first.value, ast.Constant)
        and isinstance(first.value.value, str)
    ):
        return body[1:]
    return body


def _constant(value: Any) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return hex(value)  # decimal digits have a limit
    return ascii(value)  # repr asks the Unicode version what can be printed


def _merged(values: list[Any]) -> list[Any]:
    """The parts of an f-string with neighbouring texts as one and empty ones left out."""
    merged: list[Any] = []
    for value in values:
        if isinstance(value, ast.Constant) and isinstance(value.value, str):
            if not value.value:
                continue
            if merged and isinstance(merged[-1], ast.Constant):
                before: Any = merged[-1].value
                merged[-1] = ast.Constant(before + value.value)
                continue
        merged.append(value)
    return merged
