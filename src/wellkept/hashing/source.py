"""The source of a function as a normalised text, without comments, docstrings and formatting.

No comments, formatting, docstrings or positions; the same text under every Python from 3.11, which
`ast.dump` is not (3.13 leaves out empty fields, 3.12 parses f-strings anew).
"""

from __future__ import annotations

import ast
import copy
import inspect
import re
from collections.abc import Callable, Iterator
from functools import lru_cache
from types import CodeType, FunctionType, ModuleType
from typing import Any, ClassVar

from wellkept.hashing.loaded import Space, is_current, lines

_HEADER = re.compile(r"\s*(async\s+)?def\s")
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_SKIPPED = frozenset({"ctx", "kind", "type_comment", "type_ignores"})


def normal_text(function: FunctionType) -> str | None:
    """Return the normalised source of a function; None where none is found that is surely its own."""
    found = definition(function.__code__, function.__globals__)
    try:
        if isinstance(found, list):
            return " ".join(dump(node) for node in found)
        return None if found is None else _definition_text(function, found)
    except RecursionError:
        return None


def definition(
    code: CodeType, space: Space | None = None
) -> ast.FunctionDef | ast.AsyncFunctionDef | list[ast.Lambda] | None:
    """Return the tree of the definition that code was compiled from; None where none is surely its own.

    A lambda that can't be told from others in its line is all of them.

    Args:
        space: the globals of the module that it is from.
    """
    try:
        found, first = _placed(code, space)
        if not first:
            return None
        if code.co_name == "<lambda>":
            return (_lambdas(code, found) or None) if first == code.co_firstlineno else None
        node = statement(found, first - 1)
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError, IndexError):
        return None
    except inspect.EndOfBlock:
        return None
    return node if isinstance(node, _FUNCTIONS) and node.name == code.co_name else None


def lines_of(code: CodeType, space: Space | None = None) -> list[str]:
    """Return the file's lines, if the code object was made from them and not from an earlier version.

    Args:
        space: the globals of the module that it is from.
    """
    found, first = _placed(code, space)
    return found if first == code.co_firstlineno else []


def _placed(code: CodeType, space: Space | None) -> tuple[list[str], int]:
    """Return the file's lines and the first of a definition, counted from 1; 0: it is surely in none."""
    name = code.co_filename
    own = space is not None and space.get("__file__") == name
    found = lines(name, space if own else None)
    if not found:
        return [], 0
    if name.startswith("<"):
        # `python -c` and others share such names; a notebook's names are made from the cell.
        sure = name.startswith("<ipython")
    elif space is not None and own:
        sure = is_current(space)
    else:
        sure = "ipykernel_" in name or is_current({"__file__": name})
    return found, code.co_firstlineno if sure else _matching(code, found)


def codes_in(code: CodeType) -> Iterator[CodeType]:
    """Yield a code object, and those of all that it defines."""
    yield code
    for item in code.co_consts:
        if isinstance(item, CodeType):
            yield from codes_in(item)


# The functions of a project are met one module after another, again and again.
@lru_cache(maxsize=64)
def _compiled(text: str, name: str) -> dict[tuple[str, int], list[CodeType]]:
    """Return all code in a text by its name and first line."""
    found: dict[tuple[str, int], list[CodeType]] = {}
    for code in codes_in(compile(text, name, "exec", dont_inherit=True)):
        found.setdefault((code.co_name, code.co_firstlineno), []).append(code)
    return found


@lru_cache(maxsize=2)
def _lambdas_of(text: str) -> dict[int, list[ast.Lambda]]:
    """Return all lambdas of a file by their lines, only to be read: they are mostly asked for together."""
    found: dict[int, list[ast.Lambda]] = {}
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Lambda):
            found.setdefault(node.lineno, []).append(node)
    return found


def _matching(code: CodeType, lines: list[str]) -> int:
    """Return the line where compiling the lines gives this code (the file may have been edited since), or 0.

    IPython's `%autoreload` compiles a function by itself, and so has it begin in the first line.
    """
    try:
        found = _compiled("".join(lines), code.co_filename)
    except (SyntaxError, ValueError):
        return 0
    if code in found.get((code.co_name, code.co_firstlineno), ()):
        return code.co_firstlineno
    if code.co_firstlineno != 1:
        return 0
    bare = _bare(code)
    places = [
        each.co_firstlineno
        for (name, _), codes in found.items()
        for each in codes
        if name == code.co_name and _bare(each) == bare
    ]
    return places[0] if len(places) == 1 else 0


def _bare(code: CodeType) -> CodeType:
    """Return a code object without its place."""
    consts = tuple(_bare(item) if isinstance(item, CodeType) else item for item in code.co_consts)
    return code.replace(
        co_firstlineno=1, co_linetable=b"", co_qualname=code.co_name, co_consts=consts
    )


def _definition_text(function: FunctionType, node: Any) -> str:
    others = [item for item in node.decorator_list if not is_ours(item, function.__globals__)]
    node.decorator_list = others
    # The name is recorded apart, and a function may be given another.
    node.name = ""
    # A decorator may read annotations (pydantic, typeguard); nothing else does.
    return dump(node, annotations=bool(others))


def statement(lines: list[str], first: int, header: re.Pattern[str] | None = _HEADER) -> ast.stmt:
    """Return the statement that begins in a line: up to a line that is indented no further, and parses.

    What parses is whole: a line in a text or between brackets leaves either open.
    (`inspect.getblock` says the same, but compiles a tokenizer first: 6 ms in each process.)

    Args:
        header: what has to begin a line before it can be whole: decorators stand above.
    """
    margin = len(lines[first]) - len(lines[first].lstrip())
    indented = lines[first][:1].isspace()
    tries, headed = 0, header is None
    for end in range(first + 1, len(lines) + 1):
        headed = headed or bool(header and header.match(lines[end - 1]))
        after = lines[end].lstrip() if end < len(lines) else ""
        if not headed or (end < len(lines) and (not after or after[0] == "#")):
            continue
        if end < len(lines) and len(lines[end]) - len(after) > margin:
            continue
        block = lines[first:end]
        if indented:
            # Dedenting would change texts of several lines, so an `if` is put above.
            block = ["if 1:\n", *block]
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


def _lambdas(code: CodeType, lines: list[str]) -> list[ast.Lambda]:
    found = _lambdas_of("".join(lines)).get(code.co_firstlineno, [])
    if len(found) > 1:
        # Instructions of the prologue lie nowhere.
        spans = [span for span in code.co_positions() if None not in span and span[3] != 0]
        fitting = [node for node in found if spans and all(_holds(node.body, s) for s in spans)]
        if fitting:
            found = [min(fitting, key=_width)]
    return found


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


# Its decorators note something of a function for a dataflow (tags, how it is cached), and give it back.
_NOTES = "hamilton.function_modifiers.metadata"


def is_ours(node: ast.expr, space: dict[str, Any]) -> bool:
    """Return whether a decorator is wellkept's own, which caches the function and does not change it.

    So is one of another library that only notes something of it.
    """
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
    found: Any = space.get(names[0], missing)
    for name in names[1:]:
        if found is missing or _is_noting(found):
            break
        # Only modules and wellkept's own objects are asked: others might compute something.
        if isinstance(found, ModuleType) or _is_kept(found):
            found = getattr(found, name, missing)
        else:
            return False
    if found is missing:
        return names[-1] == "keep"
    return _is_kept(found) or _is_noting(found)


def _is_noting(value: Any) -> bool:
    return isinstance(value, FunctionType | type) and value.__module__ == _NOTES


def are_notes(value: Any) -> bool:
    """Return whether an attribute of a function is what such decorators noted."""
    return (
        type(value) is list
        and bool(value)
        and all(type(item).__module__ == _NOTES for item in value)
    )


def _is_kept(value: Any) -> bool:
    module = getattr(value, "__module__", None)
    if isinstance(value, FunctionType | type) or isinstance(module, str):
        return isinstance(module, str) and module.partition(".")[0] == "wellkept"
    return type(value).__module__.partition(".")[0] == "wellkept"


def dump(node: Any, annotations: bool = False) -> str:
    """Return a tree as text: class names and fields that are not empty."""
    writer = _Whole(annotations)
    writer.write(node, None)
    return "".join(writer.out)


class Text:
    """Writes a tree as text: the class of each node, and its fields that are not empty.

    The text of a function's own code and that of its deep identity (`code.normalize`) have these rules in
    common; each adds handlers for the kinds of nodes that it writes otherwise.
    """

    handlers: ClassVar[dict[type, Callable[..., Any]]] = {}

    def __init__(self) -> None:
        self.out: list[Any] = []

    def write(self, node: ast.AST, scope: Any) -> None:
        handler = self.handlers.get(type(node))
        if handler is None:
            self.plain(node, scope)
        else:
            handler(self, node, scope)

    def plain(self, node: ast.AST, scope: Any, without: tuple[str, ...] = ()) -> None:
        """Write a node by its class and the fields that are not empty."""
        kind = type(node)
        head, fields = _fields.get(kind) or _fields_of(kind)
        out = self.out
        out.append(head)
        if not fields:
            return
        for name, label in fields:
            value = getattr(node, name, None)
            if value is None or value == [] or name in without:
                continue
            if isinstance(value, ast.AST):
                out.append(label)
                self.write(value, scope)
                out.append(",")
            else:
                self.field(name, value, scope)
        out.append(")")

    def field(self, name: str, value: Any, scope: Any) -> None:
        out = self.out
        if isinstance(value, (list, tuple)):
            out.append(f"{name}=[")
            for item in value:
                if isinstance(item, ast.AST):
                    self.write(item, scope)
                else:
                    out.append("~" if item is None else ascii(item))
                out.append(",")
            out.append("],")
        else:
            out.append(f"{name}={value!a},")

    def literal(self, node: ast.Constant, scope: Any) -> None:
        value = node.value
        # Decimal digits have a limit, and `repr` asks the Unicode version what can be printed.
        shown = hex(value) if type(value) is int else ascii(value)
        self.out.append(f"Constant({shown})")

    def formatted(self, node: ast.FormattedValue, scope: Any) -> None:
        spec: Any = node.format_spec
        empty = isinstance(spec, ast.JoinedStr) and not merged(spec.values)
        self.plain(node, scope, without=("format_spec",) if empty else ())

    def unannotated(self, node: ast.AnnAssign, scope: Any) -> None:
        """Write an assignment as if it had no annotation."""
        if node.value is not None and isinstance(node.target, ast.Name):
            self.plain(ast.Assign(targets=[node.target], value=node.value), scope)
        else:
            self.plain(node, scope, without=("annotation",))


_Fields = tuple[str, tuple[tuple[str, str], ...]]
_fields: dict[type, _Fields] = {}


def _fields_of(kind: type[ast.AST]) -> _Fields:
    """Return what a node's text begins with, and its fields."""
    names = tuple((name, f"{name}=") for name in kind._fields if name not in _SKIPPED)
    found = _fields[kind] = f"{kind.__name__}({'' if names else ')'}", names
    return found


class _Whole(Text):
    """A tree with all names that it has; the scope is the class whose body is written, or None.

    Args:
        annotations: whether something may read them.
    """

    def __init__(self, annotations: bool) -> None:
        super().__init__()
        self._annotations = annotations

    def write(self, node: ast.AST, scope: Any) -> None:
        # What stands in an `if` of a class's body is not directly in it.
        super().write(node, scope if type(node) is ast.AnnAssign else None)

    def joined(self, node: ast.JoinedStr, scope: Any) -> None:
        self.plain(ast.JoinedStr(values=merged(node.values)), None)

    def assigned(self, node: ast.AnnAssign, scope: Any) -> None:
        if self._annotations or scope is not None:
            self.plain(node, None)
        else:
            self.unannotated(node, None)

    def argument(self, node: ast.arg, scope: Any) -> None:
        self.plain(node, None, without=() if self._annotations else ("annotation",))

    def definition(self, node: Any, scope: Any) -> None:
        # The tree is read again elsewhere.
        bare = copy.copy(node)
        # Nothing but a docstring is written as an empty list: that an empty tuple is, and is not left out.
        bare.body = body_of(node)[1] or ()
        if isinstance(node, ast.ClassDef):
            self.plain(bare, node)
        else:
            self.plain(bare, None, without=() if self._annotations else ("returns", "type_params"))

    handlers: ClassVar[dict[type, Callable[..., Any]]] = {
        ast.Constant: Text.literal,
        ast.FormattedValue: Text.formatted,
        ast.JoinedStr: joined,
        ast.AnnAssign: assigned,
        ast.arg: argument,
        ast.FunctionDef: definition,
        ast.AsyncFunctionDef: definition,
        ast.ClassDef: definition,
    }


def body_of(node: Any) -> tuple[list[str], list[Any]]:
    """Return the docstring of a definition, if it has one, and the statements after it."""
    first = node.body[0] if node.body else None
    value = first.value if isinstance(first, ast.Expr) else None
    if isinstance(value, ast.Constant) and isinstance(value.value, str):
        return [value.value], node.body[1:]
    return [], node.body


def merged(values: list[Any]) -> list[Any]:
    """Return the parts of an f-string with neighbouring texts as one and empty ones left out."""
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
