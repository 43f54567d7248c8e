"""What a function reaches by name, as a graph; its digest is the function's deep identity.

A node is a list: a tag, then content and nodes. It holds no name of a function, a module or a file,
so a helper may be moved, and the digest of a graph with cycles is that of its unfolding (see
`cycles`), so it is the same whichever function is asked first.
"""

from __future__ import annotations

import builtins
import sys
from types import FunctionType, ModuleType
from typing import Any, NamedTuple

from blake3 import blake3

from ..loaded import is_current, token
from ..names import class_name, module_of
from .guards import MISSING, Guards, Space
from .lazy import STAMPS, Imports
from .live import class_content
from .normal import Normal
from .project import Project
from .scopes import Chain
from .texts import assignments, class_text, function_text, functions_of, put_in
from .values import code_in, digested, is_code, object_node

__all__ = ["Part", "Reach"]

_CONTAINERS = frozenset({"list", "dict", "set", "deque", "defaultdict", "OrderedDict", "Counter"})
_DATA = frozenset({bool, int, float, complex, str, bytes})


class Part(NamedTuple):
    """Something that code reaches by name."""

    kind: str
    """`function`, `class`, `value`, `state`, `module`, `external` or `missing`."""
    node: list[Any]
    value: Any


class Reach:
    """One walk from a function to all that it reaches.

    Args:
        root: what is called.
        project: whose code is followed.
        receiver: the class whose method it is called as; None: it is no method.
        state: names that are written by the code reached, found by an earlier walk.
    """

    def __init__(
        self, root: Any, project: Project, receiver: type[Any] | None, state: set[tuple[int, str]]
    ) -> None:
        self.project = project
        self.root = root
        self.state = state
        self.written: set[tuple[int, str]] = set()
        self.set_on: set[str] = set()
        self.parts: dict[str, Part] = {}
        self.names: dict[tuple[int, int], str] = {}
        """What stands in a node (its address) at a position: a name that its text refers to."""
        self.depends: list[Any] = []
        """What kept functions that are reached say of themselves in `depends`."""
        self._nodes: dict[Any, tuple[list[Any], Any]] = {}
        self._reads: dict[tuple[int, str], tuple[Space, str, Any, bool]] = {}
        self._containers: dict[int, Any] = {}
        self._classes: list[tuple[list[Any], type[Any]]] = []
        self._waiting: list[tuple[list[Any], Any, type[Any] | None]] = []
        self.tokens: dict[str, str] = {}
        """What stands for the parts of modules that can't be told, by module."""
        self._imports = Imports(project)
        self.top = self.node(root, receiver)
        while self._waiting:
            node, value, owner = self._waiting.pop()
            self._fill(node, value, owner)
        for node, kind in self._classes:
            self._class_values(node, kind)
        for name, node in self._imports.nodes.items():
            self._part(name, "module", node, None)
        for file in self._imports.files:
            self._read(STAMPS, file, STAMPS.get(file), each=False)
        if self.tokens:
            self.top += sorted(self.tokens.items())

    def guards(self) -> Guards:
        """What has to stay as it is for the identity to hold."""
        return Guards(self._reads.values(), self._containers.values())

    # -- nodes ------------------------------------------------------------------------------------

    def node(self, value: Any, owner: type[Any] | None = None) -> list[Any]:
        """The node of a value; it is filled later."""
        key = id(value) if owner is None else (id(value), id(owner))
        found = self._nodes.get(key)
        if found is None:
            found = self._nodes[key] = [], (value, owner)  # held, so that no other has its id
            self._waiting.append((found[0], value, owner))
        return found[0]

    def _fill(self, node: list[Any], value: Any, owner: type[Any] | None) -> None:
        kind = type(value)
        if kind is FunctionType:
            self._function(node, value, owner)
        elif issubclass(kind, type):  # not `isinstance`, which asks a proxy
            self._class(node, value)
        elif kind is ModuleType:
            node += ["module", value.__name__]
            self._part(value.__name__, "module", node, value)
        elif hasattr(kind, "__followed__"):
            self._kept(node, value, owner)
        else:
            try:
                node += object_node(self, value)
            except Exception:  # noqa: BLE001  an attribute of somebody's object may do anything
                node[:] = ["type", class_name(kind)]

    def _kept(self, node: list[Any], value: Any, owner: type[Any] | None) -> None:
        """A kept function: its code, or what its user said stands for it."""
        function, tag = value.__followed__()
        self.depends += getattr(getattr(value, "options", None), "depends", ())
        if function is None:
            node += ["kept", tag]
            self._part(f"{value.__module__}:{value.__qualname__}", "external", node, value)
        else:
            node += ["kept", self.node(function, owner)]

    def _part(self, name: str, kind: str, node: list[Any], value: Any) -> None:
        self.parts.setdefault(name, Part(kind, node, value))

    # -- functions --------------------------------------------------------------------------------

    def _function(self, node: list[Any], function: FunctionType, owner: type[Any] | None) -> None:
        code = function.__code__
        name = f"{function.__module__}:{function.__qualname__}"
        if function is not self.root and not self.project.owns_function(function):
            self._foreign(node, function, name)
            return
        text = function_text(function)
        self._part(name, "function", node, function)
        cells = dict(zip(code.co_freevars, function.__closure__ or (), strict=True))
        self._text(node, "function", text, function.__globals__, cells, function is self.root)
        self._defaults(node, function, text)
        node += self._imports.of(text.imports, function.__globals__)
        if owner is not None:
            self._receiver(node, text, owner)
        if ("super",) in text.chains and "__class__" in cells:
            bases = _content(cells["__class__"]).__mro__[1:]
            node.append([self.node(base) for base in bases if self.project.owns_class(base)])
        module = sys.modules.get(function.__module__)
        # What the root itself reads is compared in any case.
        if function is not self.root and module and vars(module) is function.__globals__:
            self._reloaded(vars(module))

    def _foreign(self, node: list[Any], function: FunctionType, name: str) -> None:
        """A function of a library: by its name, and what it holds of the project."""
        node += ["external", f"{module_of(function.__module__)}:{function.__qualname__}"]
        self._part(name, "external", node, function)
        wrapped = getattr(function, "__wrapped__", None)
        if wrapped is not None:
            node.append(self.node(wrapped))
        for cell in function.__closure__ or ():
            content = _content(cell)
            if content is wrapped:
                continue
            if is_code(content):
                node.append(self.node(content))
            else:  # such as the implementations of `singledispatch`
                node += [[name, self.node(item)] for name, item in code_in(content)]

    def _text(
        self,
        node: list[Any],
        tag: str,
        text: Normal,
        space: Space,
        cells: dict[str, Any],
        direct: bool,
    ) -> None:
        node += [tag, blake3(text.text.encode()).digest()]
        self.set_on |= text.set_on
        for chain in text.chains:
            ref, name = self._refer(chain, space, cells, direct)
            self.names[id(node), len(node)] = name
            node.append(ref)
        for chain in text.written:
            self._writes(chain, space, cells, always=True)
        for chain in text.called:
            self._writes(chain, space, cells, always=False)

    def _defaults(self, node: list[Any], function: FunctionType, text: Normal) -> None:
        code = function.__code__
        names = code.co_varnames[: code.co_argcount]
        given = dict(zip(names[::-1], (function.__defaults__ or ())[::-1], strict=False)) | (
            function.__kwdefaults__ or {}
        )
        for name in sorted(given):
            if name in text.parameters:
                node.append([name, "state"])
            else:
                node.append([name, self.node(given[name])])
                self._mutable(given[name])

    def _receiver(self, node: list[Any], text: Normal, owner: type[Any]) -> None:
        """What a method asks of the object that it is called on, as far as its class has it."""
        kinds = [kind for kind in owner.__mro__ if self.project.owns_class(kind)]
        if text.receiver is None:
            node.append([self.node(kind) for kind in kinds])
            return
        for name in sorted(text.receiver):
            for kind in kinds:
                if name in vars(kind):
                    value = vars(kind)[name]
                    self._read(vars(kind), name, value, each=False)
                    value = getattr(value, "__func__", value)
                    if isinstance(value, property):
                        inner = [self.node(f, owner) for f in (value.fget, value.fset) if f]
                        node.append([name, *inner])
                    else:
                        node.append([name, self.node(value, owner)])
                    break

    # -- classes ----------------------------------------------------------------------------------

    def _class(self, node: list[Any], kind: type[Any]) -> None:
        name = f"{kind.__module__}:{kind.__qualname__}"
        if not self.project.owns_class(kind):
            node += ["external", f"{module_of(kind.__module__)}:{kind.__qualname__}"]
            return
        self._part(name, "class", node, kind)
        functions = list(functions_of(kind))
        module = sys.modules.get(kind.__module__)
        space: Space = functions[0].__globals__ if functions else vars(module) if module else {}
        cells: dict[str, Any] = {}
        for function in functions:
            cells |= zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
        texts = class_text(kind)
        node += ["class", kind.__qualname__.rpartition(".")[2]]
        for text in texts:
            self._text(node, "body", text, space, cells, direct=False)
            node += self._imports.of(text.imports, space)
        if not texts:
            node.append(class_content(self, kind))
        for label, value in sorted(vars(kind).items()):
            # From outside its body: methods, and subclasses that `__init_subclass__` registers.
            if found := [pair for pair in put_in(kind, label, value) if self._owns(pair[1])]:
                node.append([label, *([name, self.node(item)] for name, item in found)])
        self._reloaded(space)
        self._classes.append((node, kind))

    def _class_values(self, node: list[Any], kind: type[Any]) -> None:
        """Constants of a class as they are now, but those that code sets itself."""
        for name, value in sorted(vars(kind).items()):
            if type(value) not in _DATA or (name[0] == name[-1] == "_"):  # Python's own, and Enum's
                continue
            if name not in self.set_on:
                node += [name, value]
                self._read(vars(kind), name, value, each=True)

    def unsure(self, module: str) -> None:
        """Something of a module can't be told: if its file was edited, nothing else tells it."""
        found = sys.modules.get(module)
        if found is not None and getattr(found, "__file__", None) and not is_current(vars(found)):
            self.tokens[module] = token(vars(found))

    def _owns(self, value: Any) -> bool:
        if isinstance(value, type):
            return self.project.owns_class(value)
        return type(value) is not FunctionType or self.project.owns_function(value)

    # -- names ------------------------------------------------------------------------------------

    def _read(self, space: Space, name: str, value: Any, each: bool) -> None:
        key = id(space), name
        found = self._reads.get(key)
        if found is None or (each and not found[3]):
            self._reads[key] = space, name, value, each

    def _reloaded(self, space: Space) -> None:
        """A reloaded module has another spec; what was taken out of it before is out of date."""
        if space.get("__spec__") is not None:
            self._read(space, "__spec__", space["__spec__"], each=True)

    def _mutable(self, value: Any) -> None:
        self._containers[id(value)] = value

    def _refer(
        self, chain: Chain, space: Space, cells: dict[str, Any], direct: bool
    ) -> tuple[Any, str]:
        """What a name with attributes stands for, a node and what is asked of it; and its full name."""
        if chain[0] in cells:
            content = _content(cells[chain[0]])
            full = ".".join(chain)
            if content is MISSING:
                return "empty", full
            inner = self.node(content)
            return ([inner, *chain[1:]] if len(chain) > 1 else inner), full
        where, name, value, rest = self._looked_up(chain, space)
        full = ".".join((f"{where.get('__name__')}:{name}", *rest))
        if value is MISSING:
            if where is space and len(rest) == len(chain) - 1 and hasattr(builtins, name):
                return ["builtin", *chain], ".".join(chain)
            self._read(where, name, MISSING, each=True)
            return ["missing", *chain], full
        if type(value) is ModuleType:
            self._read(where, name, value, each=_interactive(where))
            return ["module", value.__name__, *rest], ".".join((value.__name__, *rest))
        own = f"{where.get('__name__')}:{name}"
        if (id(where), name) in self.state:
            texts = assignments(where, name)
            # What code does itself is no state: a registry that decorators fill when modules load.
            found = code_in(value)
            if not texts:  # nobody knows what it was at first
                texts = digested(value)
            node = ["state", *texts, *([name, self.node(item)] for name, item in found)]
            self._part(own, "state", node, texts)
            if found and _interactive(where):
                self._mutable(value)
            return ([node, *rest] if rest else node), full
        code = is_code(value)
        self._read(where, name, value, each=direct or not code or _interactive(where))
        node = self.node(value)
        if not code:
            self._part(own, "value", node, value)
            self._mutable(value)
        return ([node, *rest] if rest else node), full

    def _looked_up(self, chain: Chain, space: Space) -> tuple[Space, str, Any, Chain]:
        """Through modules of the project to the binding of something that is none.

        Returns the namespace, the name in it, what it is bound to, and the attributes left.
        """
        name, rest = chain[0], chain[1:]
        value = space.get(name, MISSING)
        while type(value) is ModuleType and rest and self.project.owns_module(value):
            self._read(space, name, value, each=_interactive(space))
            inner = vars(value).get(rest[0], MISSING)
            if inner is MISSING:
                inner = sys.modules.get(f"{value.__name__}.{rest[0]}", MISSING)
            if inner is MISSING and "__getattr__" in vars(value):
                return vars(value), "__getattr__", vars(value)["__getattr__"], rest
            space, name, rest, value = vars(value), rest[0], rest[1:], inner
        return space, name, value, rest

    def _writes(self, chain: Chain, space: Space, cells: dict[str, Any], always: bool) -> None:
        if chain[0] in cells:
            return
        where, name, value, rest = self._looked_up(chain, space)
        if type(value) is ModuleType or (value is MISSING and not always):
            return
        if isinstance(value, type) and rest:
            return  # what is set on a class is known by `set_on`
        if always or type(value).__name__ in _CONTAINERS:
            self.written.add((id(where), name))


def _content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not assigned yet
        return MISSING


def _interactive(space: Space) -> bool:
    return space.get("__name__") == "__main__"
