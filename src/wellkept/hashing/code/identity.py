"""The deep identity of something that can be called: its digest, its parts, and what it covers.

It can be widened by modules of the project whose code ran though no name led there. Its parts are shown to
people with a digest each, and as Python to read. Such a digest says whether a part is what it was: it does
not change with comments, layout, docstrings or names of local variables, nor with what other parts do. The
text is as it was when the identity was first met, without comments and docstrings. Constants are shown as
their source has them, and not by what is in them, which may be a secret.
"""

from __future__ import annotations

import ast
import contextlib
import copy
import gc
import sys
from collections.abc import Callable, Iterable, Iterator
from types import CodeType, FunctionType
from typing import Any, NamedTuple

from blake3 import blake3

from wellkept.hashing.code.definitions import assigned, class_nodes
from wellkept.hashing.code.modules import Imports, Project, file_of
from wellkept.hashing.code.nodes import Learned, Part
from wellkept.hashing.code.reach import Reach
from wellkept.hashing.code.unchanged import Guards
from wellkept.hashing.code.values import tell_apart
from wellkept.hashing.cycles import cyclic_digest
from wellkept.hashing.encoding import Cyclic, reference_digest
from wellkept.hashing.loaded import stamp
from wellkept.hashing.names import RUN, module_file, module_of
from wellkept.hashing.source import codes_in, definition, is_ours


class Covered:
    """The code of what a walk reached.

    Args:
        values: all that it met: functions by their code, classes with all that is in their bodies.
        modules: those that count as a whole.
    """

    def __init__(self, values: Iterable[Any], modules: Iterable[str]) -> None:
        # By their types alone: a proxy may say that it is of another, or raise.
        self._values = [v for v in values if issubclass(type(v), (FunctionType, type))]
        self._modules = list(modules)
        self._codes: dict[int, CodeType] | None = None
        self._bodies: set[tuple[str, str]] = set()
        self._files: set[str] = set()

    def with_more(self, other: Covered) -> Covered:
        """Return the code of both."""
        return Covered([*self._values, *other._values], [*self._modules, *other._modules])

    def holds(self, code: CodeType) -> bool:
        """Return whether a code object is covered."""
        codes = self._codes
        if codes is None:
            codes = self._read()
        if id(code) in codes or code.co_filename in self._files:
            return True
        # A class counts with all that its body defines.
        outer = code.co_qualname
        while outer:
            if (code.co_filename, outer) in self._bodies:
                return True
            outer = outer.rpartition(".")[0]
        return False

    def _read(self) -> dict[int, CodeType]:
        # The code objects are held, since they are told by their addresses.
        codes: dict[int, CodeType] = {}
        for value in self._values:
            if isinstance(value, FunctionType):
                codes |= ((id(code), code) for code in codes_in(value.__code__))
                continue
            files = {module_file(value.__module__)}
            for item in vars(value).values():
                inner = getattr(item, "__func__", item)
                if isinstance(inner, FunctionType):
                    files.add(inner.__code__.co_filename)
            self._bodies |= {(file, value.__qualname__) for file in files if file is not None}
        self._files = {file for name in self._modules if (file := file_of(name)) is not None}
        self._codes = codes
        return codes


_ROUNDS = 10


class Deep:
    """What a function reaches by name, at one time.

    Attributes:
        hex: the digest of it all.
        guards: whether it is still so.
        parts: what was reached, by name; the function itself first.
        names: see `Reach.names`.
        depends: see `Reach.depends`.
        widened: see `Reach.widened`.
        covered: the code objects of what was reached.
        hidden: names of globals, with their types, that can't be looked into.
        mocked: whether a test has put something into its place that stands for no code.
    """

    __slots__ = (
        *("covered", "depends", "guards", "hex", "hidden", "mocked", "names", "parts", "widened"),
    )

    def __init__(self, reach: Reach) -> None:
        tell_apart(reach.root, reach.opaque)
        # `-O` leaves out assertions.
        level = sys.flags.optimize
        self.hex: str = digested([f"-O{level}", reach.top] if level else reach.top).hex()
        self.widened: dict[str, tuple[str, ...]] = {
            name: tuple(why) for name, why in sorted(reach.widened.items())
        }
        self.guards: Guards = reach.guards()
        self.parts: dict[str, Part] = reach.parts
        self.names: dict[tuple[int, int], str] = reach.names
        self.depends: tuple[Any, ...] = tuple(reach.depends)
        self.mocked: bool = bool(reach.mocks)
        self.covered: Covered = Covered(reach.met, reach.whole)
        self.hidden: list[str] = reach.hidden()


def digested(node: list[Any]) -> bytes:
    """Return the digest of a node, which may have cycles."""
    try:
        return reference_digest(node)
    except Cyclic:
        return cyclic_digest(node)


def deep(
    function: Callable[..., Any],
    receiver: type[Any] | None = None,
    whole: bool | None = None,
    ignored: frozenset[str] = frozenset(),
) -> Deep:
    """Follow a function by name through the code of its project.

    Args:
        function: anything that can be called.
        receiver: the class of the object that a method is called on.
        whole: see `Project`.
        ignored: names of globals that do not count, with or without their modules.
    """
    # The collector is paused: a walk makes many lists and no garbage.
    pause = gc.isenabled()
    try:
        # In here, as an interrupt may come right after it.
        if pause:
            gc.disable()
        return _deep(function, receiver, whole, ignored)
    finally:
        if pause:
            gc.enable()


def _deep(
    function: Callable[..., Any],
    receiver: type[Any] | None,
    whole: bool | None,
    ignored: frozenset[str],
) -> Deep:
    project = Project(function, whole)
    learned = Learned()
    # What code changes does not count by what it is now; so what is changed is found first.
    for _ in range(_ROUNDS):
        reach = Reach(function, project, receiver, learned, ignored)
        if not reach.learn():
            break
    return Deep(reach)


def module_with(code: CodeType) -> str | None:
    """Return what names the module that a code object is from, also in another process.

    A function of a prompt or a notebook has no module that could be read: it is named itself.

    Returns:
        None where no module that is loaded is known to have it.
    """
    file = code.co_filename
    for name, module in tuple(sys.modules.items()):
        if getattr(module, "__file__", None) == file:
            return module_of(name, file) if name in RUN else name
    main = vars(sys.modules["__main__"])
    outer = code.co_qualname.partition(".")[0]
    found = getattr(main.get(outer), "__wrapped__", main.get(outer))
    code_of = getattr(found, "__code__", None)
    return f"__main__:{outer}" if code_of is not None and code_of.co_filename == file else None


def widened(found: Deep, function: Any, modules: Iterable[str]) -> Deep:
    """Return an identity with all of some modules, and what they import of the project.

    Args:
        found: the identity without them.
        function: whose it is.
        modules: as `module_with` names them.
    """

    imports = Imports(Project(function))
    node: list[Any] = ["wider", found.hex]
    checks: list[Callable[[], bool]] = []
    late: list[Callable[[], bool]] = []
    values: list[Any] = []
    parts = dict(found.parts)
    for name in sorted(set(modules)):
        if ":" in name:
            held = vars(sys.modules["__main__"]).get(name.partition(":")[2])
            inner = deep(held) if callable(held) else None
            node.append([name, None if inner is None else inner.hex])
            if inner is not None:
                checks.append(inner.guards.same)
                late.append(inner.guards.all_same)
                values += [p.value for p in inner.parts.values()]
                parts |= inner.parts
            continue
        node.append([name, imports.whole(_here(name))])
    for name, inside in imports.nodes.items():
        parts.setdefault(name, Part("module", inside, None))
        (checks if name in sys.modules else late).append(_unchanged(name))
    made = copy.copy(found)
    made.hex = digested(node).hex()
    made.parts = parts
    made.guards = _Both(found.guards, checks, late)  # type: ignore[assignment]  # it is asked for no more
    covered = [value for value in values if isinstance(value, FunctionType)]
    made.covered = found.covered.with_more(Covered(covered, imports.nodes))
    return made


def _here(name: str) -> str:
    """Return the name under which a module is loaded here."""
    if name not in sys.modules:
        for run in RUN:
            file = getattr(sys.modules.get(run), "__file__", None)
            if isinstance(file, str) and module_of(run, file) == name:
                return run
    return name


def _unchanged(name: str) -> Callable[[], bool]:
    module = sys.modules.get(name)
    spec = getattr(module, "__spec__", None)
    if module is not None:
        return lambda: sys.modules.get(name) is module and module.__spec__ is spec
    file = file_of(name)
    now = None if file is None else stamp(file)
    return lambda: file is not None and stamp(file) == now


class _Both:
    """Whether an identity and what was put beside it are what they were."""

    steady = False

    def __init__(self, inner: Any, checks: list[Callable[[], bool]], late: list[Any]) -> None:
        self._inner, self._checks, self._late = inner, checks, late

    def same(self) -> bool:
        return bool(self._inner.same()) and all(check() for check in self._checks)

    def all_same(self) -> bool:
        """`same`, also of files that were not loaded."""
        return (
            bool(self._inner.all_same())
            and all(check() for check in self._checks)
            and all(check() for check in self._late)
        )


# Characters of a text.
_LONGEST = 100_000
_NUMBERS = (bool, int, float, complex, type(None))


class Shown(NamedTuple):
    """One part."""

    # In hex: of what it does itself.
    digest: str
    # Python, to be read; None where there is no source that is surely its own.
    text: str | None


def shown(found: Deep) -> dict[str, Shown]:
    """Return the functions, classes, constants and modules that were reached, by `module:qualname`."""
    code = {id(part.node): name for name, part in found.parts.items() if part.kind in _CODE}
    return {
        name: Shown(_digest(part, name, found, code), _cut(_said(name, part, found)))
        for name, part in found.parts.items()
        if part.kind != "external" or part.node[0] == "kept"
    }


def _said(name: str, part: Part, found: Deep) -> str | None:
    """Return the text of a part; before that of a module, why all of it counts."""
    text = _text(name, part)
    if part.kind != "module" or name not in found.widened:
        return text
    return "\n".join([*(f"{WIDENED}{why}" for why in found.widened[name]), text or ""])


# What stands before the reason why a module counts as a whole.
WIDENED = "# all of it counts: "


_CODE = frozenset({"function", "class", "module"})


def of_function(function: Any, identity: str) -> Shown:
    """Return how a function alone is shown, whose own code has an identity (in hex)."""
    text = None
    if type(function) is FunctionType:
        # What can't be shown is not worth an error.
        with contextlib.suppress(Exception):
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
    # What can't be shown is not worth an error.
    with contextlib.suppress(Exception):
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
    # `definition` parsed this tree for this call, so it may be changed.
    return _written([found])


def _of_module(name: str) -> str | None:
    from wellkept.hashing.code.modules import file_of

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
                # The file was edited since the value was bound.
                continue
        texts.append(ast.unparse(node))
    computed = part.kind == "value" and isinstance(part.value, _NUMBERS)
    if computed and not any(text.endswith(repr(part.value)) for text in texts):
        texts.append(f"# {own} is {part.value!r}")
    return "\n".join(texts) or None


def _joined(nodes: list[Any]) -> str | None:
    # These trees are cached and read again elsewhere, so a copy is changed.
    return _written(copy.deepcopy(nodes))


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
