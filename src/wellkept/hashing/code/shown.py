"""The parts of a deep identity for people: each with a digest of its own, and as Python to read.

A digest says whether a part is what it was: it does not change with comments, layout, docstrings or
names of local variables, nor with what other parts do. The text is as it was when the identity was
first met, without comments and docstrings. Constants are shown as their source has them, and not by
what is in them, which may be a secret.
"""

from __future__ import annotations

import ast
import contextlib
import copy
from collections.abc import Iterator
from types import FunctionType
from typing import Any, NamedTuple

from blake3 import blake3

from ..source import definition, is_ours
from .deep import Deep
from .project import module_file
from .reach import Part
from .texts import assigned, class_nodes

__all__ = ["WIDENED", "Shown", "of_function", "shown"]

_LONGEST = 100_000  # characters of a text
_NUMBERS = (bool, int, float, complex, type(None))


class Shown(NamedTuple):
    """One part."""

    digest: str
    """In hex: of what it does itself."""
    text: str | None
    """Python, to be read; None where there is no source that is surely its own."""


def shown(found: Deep) -> dict[str, Shown]:
    """The functions, classes, constants and modules that were reached, by `module:qualname`."""
    code = {id(part.node): name for name, part in found.parts.items() if part.kind in _CODE}
    return {
        name: Shown(_digest(part, name, found, code), _cut(_said(name, part, found)))
        for name, part in found.parts.items()
        if part.kind != "external" or part.node[0] == "kept"
    }


def _said(name: str, part: Part, found: Deep) -> str | None:
    """The text of a part; before that of a module, why all of it counts."""
    text = _text(name, part)
    if part.kind != "module" or name not in found.widened:
        return text
    return "\n".join([*(f"{WIDENED}{why}" for why in found.widened[name]), text or ""])


WIDENED = "# all of it counts: "
"""What stands before the reason why a module counts as a whole."""


_CODE = frozenset({"function", "class", "module"})


def of_function(function: Any, identity: str) -> Shown:
    """A function alone, whose own code has an identity (in hex)."""
    text = None
    if type(function) is FunctionType:
        with contextlib.suppress(Exception):  # as below
            text = _cut(_of_function(function))
    return Shown(blake3(f"own {identity}".encode()).hexdigest(), text)


def _digest(part: Part, own: str, found: Deep, code: dict[int, str]) -> str:
    under_way: set[int] = set()

    def plain(node: list[Any]) -> list[Any]:
        under_way.add(id(node))
        out: list[Any] = []
        for at, item in enumerate(node):
            name = found.names.get((id(node), at))
            if name is not None:
                out.append(("name", name))
            elif type(item) is not list:
                out.append(item)
            elif id(item) in code:
                out.append(("code", code[id(item)]))
            elif id(item) not in under_way:
                out.append(plain(item))
        under_way.discard(id(node))
        return out

    return blake3(repr((part.kind, plain(part.node))).encode()).hexdigest()


def _text(name: str, part: Part) -> str | None:
    with contextlib.suppress(Exception):  # what can't be shown is not worth an error
        if part.kind == "function":
            return _of_function(part.value)
        if part.kind == "class":
            return _joined(class_nodes(part.value))
        if part.kind == "module" and part.value is None:
            return _of_module(name)
        if part.kind == "external":
            return f"# {part.node[1]}"
        if part.kind in ("value", "state"):
            return _of_name(name, part)
    return None


def _cut(text: str | None) -> str | None:
    if text is None or len(text) <= _LONGEST:
        return text
    return f"{text[:_LONGEST]}\n# … {len(text) - _LONGEST} characters more"


def _of_function(function: FunctionType) -> str | None:
    found = definition(function.__code__, function.__globals__)
    if found is None:
        return None
    if isinstance(found, list):
        return _joined(found)
    space = function.__globals__
    found.decorator_list = [node for node in found.decorator_list if not is_ours(node, space)]
    return _written([found])  # a tree of its own


def _of_module(name: str) -> str | None:
    from .lazy import file_of

    file = file_of(name)
    if file is None:
        return None
    with open(file, "rb") as source:  # noqa: PTH123  before any Path is needed
        return _written([ast.parse(source.read())])


def _of_name(name: str, part: Part) -> str | None:
    module, _, own = name.partition(":")
    texts = []
    for node in assigned(module_file(module), own):
        given = getattr(node, "value", None)
        with contextlib.suppress(ValueError, TypeError, SyntaxError):
            literal = ast.literal_eval(given) if given is not None else None
            if part.kind == "value" and literal != part.value:
                continue  # the file was edited since
        texts.append(ast.unparse(node))
    computed = part.kind == "value" and isinstance(part.value, _NUMBERS)
    if computed and not any(text.endswith(repr(part.value)) for text in texts):
        texts.append(f"# {own} is {part.value!r}")
    return "\n".join(texts) or None


def _joined(nodes: list[Any]) -> str | None:
    return _written(copy.deepcopy(nodes))  # trees are read again elsewhere


def _written(nodes: list[Any]) -> str | None:
    """Trees that nobody else reads, as text without docstrings."""
    for node in nodes:
        for each in _documented(node):
            each.body = each.body[1:] or [ast.Pass()]
    return "\n".join(ast.unparse(node) for node in nodes) or None


def _documented(node: ast.AST) -> Iterator[Any]:
    for each in ast.walk(node):
        if isinstance(each, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Module)):
            first = each.body[0] if each.body else None
            value = first.value if isinstance(first, ast.Expr) else None
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                yield each
