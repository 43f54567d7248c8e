"""Normalised definitions of functions and classes: from their source, or from byte code if there is none.

The text says what a definition does, and `chains` what it refers to. Left out are comments, layout,
docstrings, annotations that nothing reads, `@keep`, and the names of local variables: `%0`, `%1`, … stand
for them, in the order in which they are met. What is looked up outside the definition is written `@0`,
`@1`, …, and listed, so that the text does not depend on what an import calls it. The text is the same under
every Python from 3.11.

The instructions of byte code are gone through in order, with a stack that says of each value no more than
which name it was read from. Where an instruction makes something new of what it takes, its result is
unknown, so a chain of attributes ends there; a jump loses nothing, as chains are not split by one.
"""

from __future__ import annotations

import ast
import contextlib
import dis
import re
import sys
import weakref
from collections.abc import Callable, Iterator
from functools import lru_cache
from types import CodeType, FunctionType
from typing import Any, NamedTuple

from wellkept.hashing.code.normalize import (
    CHANGING,
    DEFINITIONS,
    TELLING,
    Chain,
    Scope,
    Use,
    Writer,
)
from wellkept.hashing.functions import reduce_code
from wellkept.hashing.loaded import Space, is_current, lines
from wellkept.hashing.names import RUN, class_file, module_file
from wellkept.hashing.source import definition, dump, is_ours, lines_of, statement


class Normal(NamedTuple):
    """A definition, normalised."""

    text: str
    # What `@0`, `@1`, … stand for.
    chains: tuple[Chain, ...]
    # Those that are read only when the definition is made (decorators, the body of a class).
    early: frozenset[Chain]
    # What is bound anew, deleted, or has an item or attribute set when it runs.
    written: frozenset[Chain]
    # Those on which a method is called that changes containers.
    called: frozenset[Chain]
    # The attributes asked of the first parameter; None: it is used in another way too.
    receiver: frozenset[str] | None
    # What is imported inside: level, module, name ("" for a module itself).
    imports: tuple[tuple[int, str, str], ...]
    # Parameters of the definition that it changes in place: what they hold is no constant.
    parameters: frozenset[str]
    # Names of attributes that are set on anything, or changed, but on what is being made.
    set_on: frozenset[str]
    # At what else it looks: `doc`, `name`, `hints`, `namespace`, `import` and others.
    tells: frozenset[str] = frozenset()
    # Texts in it that may name a module.
    texts: tuple[str, ...] = ()
    # Docstrings.
    docs: tuple[str, ...] = ()
    # Annotations that are not in the text.
    hints: str = ""
    # What annotations name.
    noted: tuple[Chain, ...] = ()
    # The names of its decorators; () for one that is no name.
    decorators: tuple[Chain, ...] = ()
    # The defaults of `parameters` as they are written; None: other than literals.
    given: tuple[tuple[str, str | None], ...] = ()


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
    """Return whether what an expression gives can be told from its text."""
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
    """Return whether what is changed is the object that a constructor makes."""
    where = use.scope.find(use.name)
    return use.early or (where is not None and where.made == use.name)


def _named(writer: Writer, uses: list[Use]) -> Iterator[Chain]:
    for use in uses:
        where = use.scope.find(use.name)
        if where is None or where is writer.outside:
            yield use.name, *use.attributes


def _outside(writer: Writer, uses: list[Use]) -> frozenset[Chain]:
    return frozenset(_named(writer, [use for use in uses if not use.early]))


_FREE = frozenset(
    {
        *("LOAD_DEREF", "LOAD_CLASSDEREF", "LOAD_FROM_DICT_OR_DEREF", "LOAD_CLOSURE"),
        *("STORE_DEREF", "DELETE_DEREF"),
    }
)
_GLOBAL = frozenset({"LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS"})
_ATTRIBUTE = frozenset({"LOAD_ATTR", "LOAD_METHOD"})
_PASSED = frozenset(
    {"CACHE", "EXTENDED_ARG", "NOP", "PRECALL", "PUSH_NULL", "RESUME", "KW_NAMES", "NOT_TAKEN"}
)
_CONSTANT = frozenset({"LOAD_CONST", "LOAD_SMALL_INT", "RETURN_CONST"})
_LOOSE = frozenset({"POP_TOP", "RETURN_VALUE"})


class _Walk:
    """What one code object, and those in it, refer to outside."""

    def __init__(self) -> None:
        self.chains: dict[Chain, None] = {}
        self.written: set[Chain] = set()
        self.called: set[Chain] = set()
        self.imports: dict[tuple[int, str, str], None] = {}
        self.set_on: set[str] = set()

    def code(self, code: CodeType, local: frozenset[str]) -> None:
        """Go through a code object.

        Args:
            local: names of variables of the code around it, which are not outside.
        """
        stack: list[Any] = []
        found: Any = None
        for step in dis.get_instructions(code):
            name, value = step.opname, step.argval
            if name in _PASSED:
                continue
            if found is not None and name not in _ATTRIBUTE:
                self._met(found)
            free = name in _FREE and value in code.co_freevars and value not in local
            if name in _GLOBAL or free:
                if name.startswith("LOAD"):
                    if name.startswith("LOAD_FROM"):
                        _taken(stack, 1)
                    found = (value,)
                    stack.append(found)
                    continue
                self.written.add((value,))
                _taken(stack, 1)
            elif name in _ATTRIBUTE:
                base = stack.pop() if stack else None
                if type(base) is tuple and base is found:
                    if value in CHANGING:
                        self.called.add(base)
                    found = (*base, value)
                    stack.append(found)
                    continue
                if type(base) is tuple and value in CHANGING:
                    self.called.add(base[:-1] or base)
                if found is not None:
                    self._met(found)
                stack.append(None)
            elif name in ("STORE_GLOBAL", "DELETE_GLOBAL"):
                self.written.add((value,))
                _taken(stack, 1)
            elif name in ("STORE_ATTR", "DELETE_ATTR"):
                base = stack.pop() if stack else None
                _taken(stack, 1)
                self.set_on.add(value)
                if type(base) is tuple:
                    self.written.add((*base, value))
            elif name in ("STORE_SUBSCR", "DELETE_SUBSCR", "STORE_SLICE"):
                at = -3 if name == "STORE_SLICE" else -2
                base = stack[at] if len(stack) >= -at else None
                _taken(stack, 2 if name == "DELETE_SUBSCR" else 1 - at)
                if type(base) is tuple:
                    self.written.add(base)
            elif name == "IMPORT_NAME":
                names, level = (stack.pop() if stack else None for _ in range(2))
                self._imported(value, _constant(level) or 0, _constant(names))
                stack.append(None)
            elif name in _CONSTANT:
                stack.append([value])
            else:
                self._other(step, stack)
            found = None
        if found is not None:
            self._met(found)
        inside = local.union(code.co_cellvars)
        for item in code.co_consts:
            if isinstance(item, CodeType):
                self.code(item, inside)

    def _met(self, chain: Chain) -> None:
        self.chains[chain] = None

    def _imported(self, module: str, level: int, names: Any) -> None:
        if not names:
            self.imports[level, module, ""] = None
        for name in names or ():
            self.imports[level, module, "" if name == "*" else name] = None

    def _other(self, step: Any, stack: list[Any]) -> None:
        name = step.opname
        if name.startswith("LOAD_FAST"):
            both = isinstance(step.argval, tuple) and len(step.argval) > 1
            stack.extend([None, None] if both else [None])
            return
        if name in ("COPY", "SWAP"):
            at = step.arg or 1
            if len(stack) >= at:
                if name == "COPY":
                    stack.append(stack[-at])
                else:
                    stack[-1], stack[-at] = stack[-at], stack[-1]
            return
        try:
            effect = dis.stack_effect(step.opcode, step.arg, jump=False)
        except ValueError:
            effect = 0
        if effect > 0:
            stack.extend([None] * effect)
        else:
            _taken(stack, -effect)
            if (
                stack
                and name not in _LOOSE
                and not name.startswith(("STORE", "POP_JUMP", "DELETE"))
            ):
                # The name was taken too, and something else was put in its place.
                stack[-1] = None


def _taken(stack: list[Any], count: int) -> None:
    if count > 0:
        del stack[-count:]


def _constant(item: Any) -> Any:
    return item[0] if type(item) is list else None


def compiled(code: CodeType) -> Normal:
    """Return what stands for a definition that has no source: its byte code, and what that refers to."""
    from wellkept.hashing.digests import digest_bytes

    walk = _Walk()
    walk.code(code, frozenset())
    # What it asks of a receiver is not told, so all of its class counts; and a parameter that it
    # rebinds counts by its default.
    nothing: frozenset[Any] = frozenset()
    looked = (name for chain in walk.chains for name in chain)
    return Normal(
        text=f"bytecode:{digest_bytes(reduce_code(code)).hex()}",
        chains=tuple(walk.chains),
        early=nothing,
        written=frozenset(walk.written),
        called=frozenset(walk.called),
        receiver=None,
        imports=tuple(walk.imports),
        parameters=nothing,
        set_on=frozenset(walk.set_on),
        tells=frozenset(item for name in looked for item in TELLING.get(name, ())),
    )


_texts: dict[int, tuple[weakref.ref[CodeType], Normal]] = {}


def function_text(function: FunctionType) -> Normal:
    """Return the normalised definition of a function, worked out once a code object.

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
    """Return the globals of the module that defines a class."""
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
    """Return the normalised definition of a class; several, where its source has several of its name, and
    none where there is no source that is surely its own.
    """
    space = class_space(kind)
    return tuple(normal(node, lambda item: is_ours(item, space)) for node in nodes)


def class_nodes(kind: type[Any]) -> list[ast.ClassDef]:
    """Return the same, as trees."""
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
    """Return the definitions of a class in a module's text."""
    names = qualname.replace(".<locals>", "").split(".")
    found: list[ast.AST] = _outermost(text).get(names[0], [])
    for name in names[1:]:
        found = [item for node in found for item in _within(node) if item.name == name]
    return [node for node in found if isinstance(node, ast.ClassDef)]


@lru_cache(maxsize=8)
def _outermost(text: str) -> dict[str, list[ast.AST]]:
    """Return the definitions of a module by their names, but for those within definitions."""
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
