"""The walk of a deep identity: from a function through the functions, classes and modules it reaches."""

from __future__ import annotations

import copyreg
import os
import sys
from collections.abc import Iterable
from types import FunctionType, ModuleType
from typing import Any

from blake3 import blake3

from wellkept.hashing.code.classes import (
    SCALARS,
    class_parts,
    code_in,
    digested,
    hint_level,
    is_code,
    is_mock,
    sorting,
)
from wellkept.hashing.code.definitions import (
    Normal,
    class_nodes,
    class_space,
    class_text,
    function_text,
    functions_of,
)
from wellkept.hashing.code.modules import Project
from wellkept.hashing.code.nodes import FIRSTS, Graph, Learned, interactive, names_in
from wellkept.hashing.code.normalize import BLIND
from wellkept.hashing.code.unchanged import (
    MISSING,
    content_of,
    token_of,
)
from wellkept.hashing.code.values import object_node
from wellkept.hashing.loaded import Space
from wellkept.hashing.names import HEAP, class_name, module_of
from wellkept.hashing.source import are_notes

# What code that is reached may look at, and then counts everywhere.
_AGAIN = frozenset({"doc", "hints", "name", "module", "source", "subclasses"})
# `Py_TPFLAGS_IMMUTABLETYPE`.
_FIXED = 1 << 8
# Functions that find methods by names that no code has.
_BY_TEXT = frozenset({"getattr", "attrgetter", "methodcaller", "eval", "exec", "vars"})


class Reach(Graph):
    """One walk from a function to all that it reaches.

    Args:
        receiver: the class whose method it is called as; None: it is no method.
    """

    def __init__(
        self,
        root: Any,
        project: Project,
        receiver: type[Any] | None,
        learned: Learned,
        ignored: frozenset[str],
    ) -> None:
        super().__init__(root, project, learned, ignored)
        self._early: set[tuple[int, int]] = set()
        self._texts: dict[int, list[tuple[Normal, Space, dict[str, Any]]]] = {}
        self._bodies: dict[int, type[Any]] = {}
        self._tells: set[str] = set()
        self._put: set[tuple[int, str]] = set()
        self._inner = self.node(root, receiver)
        self._walk()
        while self._borrowed():
            self._walk()
        self.top: list[Any] = ["deep", self._inner, *self._extra, *self._modules()]
        for name, node in self._imports.nodes.items():
            self._part(name, "module", node, None)

    def learn(self) -> bool:
        """Note what this walk found out; whether another has to be made that knows it."""
        learned, again = self.learned, False
        running = set(self._running())
        for at in running:
            for text, space, cells in self._texts.get(at, ()):
                for chain in text.written:
                    again |= self._writes(chain, space, cells, always=True)
                for chain in text.called:
                    again |= self._writes(chain, space, cells, always=False)
                if at not in self._bodies and text.set_on - learned.set_on:
                    again |= bool((text.set_on - learned.set_on) & self._asked)
                    learned.set_on |= text.set_on
        news = self._set_by_methods(running) - learned.set_on
        again |= bool(news & self._asked)
        learned.set_on |= news
        tells = (self._tells | self._imports.tells) & _AGAIN
        again |= bool(tells - learned.tells)
        learned.tells |= tells
        return again

    def _set_by_methods(self, running: set[int]) -> set[str]:
        """Return the attributes that methods set whose names are asked for by code that runs."""
        found: set[str] = set()
        waiting: list[FunctionType] = []
        for at in running & self._bodies.keys():
            kind = self._bodies[at]
            named = frozenset().union(*(text.set_on for text, _, _ in self._texts.get(at, ())))
            if named & self._asked:
                own = {function: function_text(function).set_on for function in functions_of(kind)}
                found |= named.difference(*own.values())
                if all(self._owns(base) or base is object for base in kind.__mro__):
                    waiting += own
                else:
                    # A library's base class may call any of them.
                    found |= named
        names: set[str] = set()
        for node, (value, _) in self._nodes.values():
            if type(value) is FunctionType and id(node) in running:
                names |= names_in(value)
        while waiting:
            blind = not names.isdisjoint(_BY_TEXT)
            now = [f for f in waiting if blind or f.__name__ in names or f.__name__[:2] == "__"]
            if not now:
                break
            waiting = [function for function in waiting if function not in now]
            for function in now:
                found |= function_text(function).set_on
                names |= names_in(function)
        return found

    def _walk(self) -> None:
        while True:
            while self._waiting:
                node, value, owner, self._at = self._waiting.pop()
                self._fill(node, value, owner)
            # What state holds that no code names.
            found = [code for key, code in self._later.items() if key not in self._nodes]
            self._later.clear()
            if "subclasses" in self.learned.tells:
                for kind in tuple(self._classes):
                    found += [
                        each
                        for each in type.__subclasses__(kind)
                        if id(each) not in self._nodes and self.project.owns_class(each)
                    ]
            if not found:
                return
            found.sort(key=sorting)
            self._extra += [["held", self.node(code)] for code in found]

    def _borrowed(self) -> bool:
        """Follow what the project or a test has put into classes of libraries, under names that code asks
        for; return whether there was more of it than before.
        """
        names: set[str] = set()
        kinds: dict[int, type[Any]] = {}
        for value in self.met:
            if type(value) is FunctionType:
                if self.project.owns_function(value):
                    names |= names_in(value)
                continue
            kind = value if issubclass(type(value), type) else type(value)
            if kind not in SCALARS and id(kind) not in kinds:
                kinds |= ((id(base), base) for base in kind.__mro__)
        for kind in self._asked_of.values():
            kinds |= ((id(base), base) for base in kind.__mro__)
        before = len(self._extra)
        for kind in kinds.values():
            table = self._attributes(kind)
            asked = names & table.keys()
            if not asked or kind.__flags__ & _FIXED or not kind.__flags__ & HEAP:
                continue
            if self.project.owns_class(kind):
                continue
            for name in sorted(asked):
                value = table[name]
                if not (hasattr(type(value), "__get__") or callable(value)):
                    # It is data of the library's own.
                    continue
                self._read(table, name, value)
                ours = is_mock(type(value)) or self._is_ours(value)
                at = kind.__module__, (kind.__qualname__, name)
                first = value if ours else FIRSTS.setdefault(at, value)
                if (ours or first is not value) and (id(kind), name) not in self._put:
                    self._put.add((id(kind), name))
                    self._extra.append(["put", class_name(kind), name, self.node(value)])
        return len(self._extra) > before

    def _is_ours(self, value: Any) -> bool:
        """Return whether an attribute of a class is the project's, or holds something that is."""
        kind = type(value)
        if kind in (staticmethod, classmethod):
            value = value.__func__
        elif kind is property:
            value = value.fget
        elif kind is not FunctionType and not issubclass(kind, type):
            if kind in SCALARS or kind.__module__ == "builtins":
                return False
            held = getattr(value, "__dict__", None)
            inside = held.values() if type(held) is dict else ()
            return self.project.owns_class(kind) or any(map(self._mine, inside))
        return self._mine(value)

    def _running(self) -> Iterable[int]:
        """The nodes of what runs when the function is called, not only when a module is loaded."""
        seen = {id(self.top)}
        waiting = [self.top]
        while waiting:
            node = waiting.pop()
            yield id(node)
            for at, item in enumerate(node):
                if type(item) is list and id(item) not in seen:
                    # A base is looked up early, and its methods run all the same.
                    if (id(node), at) in self._early and item[:1] != ["class"]:
                        continue
                    seen.add(id(item))
                    waiting.append(item)

    def _fill(self, node: list[Any], value: Any, owner: type[Any] | None) -> None:
        kind = type(value)
        self._filling = node
        if kind is FunctionType:
            self._function(node, value, owner)
        elif issubclass(kind, type):
            # `isinstance` would ask a proxy, which may say anything.
            self._class(node, value)
        elif kind is ModuleType:
            self._module(node, value)
        elif hasattr(kind, "__followed__"):
            self._kept(node, value, owner)
        elif is_mock(kind):
            self.mocks.append(value)
            node += ["mock"]
        elif value is os.environ:
            node += ["environ", *(digested(dict(os.environ)) or ())]
        elif owner is not None and kind in (staticmethod, classmethod, property):
            inner = (value.fget, value.fset) if kind is property else (value.__func__,)
            handed = None if kind is staticmethod else owner
            node += [kind.__name__, *(self.node(f, handed) for f in inner if f is not None)]
        else:
            try:
                node += object_node(self, value)
            except Exception as error:  # noqa: BLE001  an attribute of somebody's object may do anything
                self.not_understood(value, False, f"raised {type(error).__name__}")
                node[:] = ["type", class_name(kind), self.ordinal(value)]

    def _kept(self, node: list[Any], value: Any, owner: type[Any] | None) -> None:
        """A kept function: its code, or what its user said stands for it."""
        function, tag = value.__followed__()
        self.depends.extend(getattr(getattr(value, "options", None), "depends", ()))
        name = f"{value.__module__}:{value.__qualname__}"
        if function is None:
            node += ["kept", tag, name]
            self._part(name, "external", node, value)
        else:
            node += ["kept", self.node(function, owner)]

    def _modules(self) -> list[list[Any]]:
        """Return the nodes of the modules that count as a whole."""
        found = []
        done: set[int] = set()
        while len(done) < len(self._wide):
            for key, space in sorted(
                self._wide.items(), key=lambda pair: str(pair[1].get("__name__"))
            ):
                if key in done:
                    continue
                done.add(key)
                name = str(space.get("__name__"))
                node = self._imports.whole(name)
                if node is None:
                    node = ["names"]
                    self._part(name, "module", node, None)
                    self._named(node, space)
                    self._walk()
                found.append(node)
        return found

    def _module(self, node: list[Any], module: ModuleType) -> None:
        """A module that is used as a value: all in it may be asked for."""
        node += ["module", module.__name__]
        self._part(module.__name__, "module", node, module)
        if self.project.owns_module(module):
            node.remove(module.__name__)
            self.widen(vars(module), "it is used as a value")
            self._named(node, vars(module))

    def _named(self, node: list[Any], space: Space) -> None:
        """What is bound in a module by the names that it has now."""
        self._at = space
        name = space.get("__name__")
        for label, value in sorted(space.items()):
            if label[:1] == "_" and (label[:2] == "__" or interactive(space)):
                continue
            if label in ("In", "Out", "exit", "quit", "get_ipython") or type(value) is ModuleType:
                continue
            if self._ignores(space, label):
                continue
            owned = self._owns(value) if is_code(value) else not interactive(space)
            if (id(space), label) in self.learned.state or id(value) in self.learned.state:
                continue
            if owned and getattr(value, "__module__", name) is not None:
                self._read(space, label, value)
                node += [label, self.node(value)]

    def _function(self, node: list[Any], function: FunctionType, owner: type[Any] | None) -> None:
        code = function.__code__
        name = f"{function.__module__}:{function.__qualname__}"
        if function is not self.root and not self.project.owns_function(function):
            self._foreign(node, function)
            return
        # `create_autospec` makes a function that holds a mock.
        if is_mock(type(mock := vars(function).get("mock"))):
            self.mocks.append(mock)
        text = function_text(function)
        space = self._at = function.__globals__
        self._part(name, "function", node, function)
        cells = dict(zip(code.co_freevars, function.__closure__ or (), strict=True))
        self._text(node, "function", text, space, cells)
        self._told(node, function, text, self._reading(text, space, cells))
        self._defaults(node, function, text)
        for label, value in vars(function).items():
            if label != "__wrapped__" and not label.startswith("__") and not are_notes(value):
                node += [label, self.attribute(function, label, value)]
        if owner is not None:
            self._receiver(node, text, owner)
        if ("super",) in text.chains and "__class__" in cells:
            defining = content_of(cells["__class__"])
            bases = defining.__mro__[1:]
            if owner is not None and defining in owner.__mro__:
                bases = owner.__mro__[owner.__mro__.index(defining) + 1 :]
            node.append([self.node(base) for base in bases if self.project.owns_class(base)])
        module = sys.modules.get(function.__module__)
        # What the root itself reads is compared in any case.
        if function is not self.root and module and vars(module) is space:
            self._reloaded(vars(module))

    def _foreign(self, node: list[Any], function: FunctionType) -> None:
        """A function of a library: by its name, and what it holds of the project."""
        own = str(function.__globals__.get("__name__"))
        name = f"{own}:{function.__code__.co_qualname}"
        node += ["external", f"{module_of(own)}:{function.__code__.co_qualname}"]
        self._part(name, "external", node, function)
        wrapped = getattr(function, "__wrapped__", None)
        if wrapped is not None:
            node.append(self.node(wrapped))
        stands = isinstance(wrapped, FunctionType) and self.is_decorated(wrapped)
        held = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
        given = [(label, content_of(cell)) for label, cell in held]
        given += [("", item) for item in function.__defaults__ or ()]
        given += (function.__kwdefaults__ or {}).items()
        for label, content in given:
            kind = type(content)
            if content is wrapped or content is MISSING or kind is ModuleType:
                continue
            if is_code(content):
                if kind is not FunctionType or code_in(content, self.project):
                    node += [label, self.node(content)]
            elif kind in SCALARS:
                node += [label, content]
            elif "weak" not in kind.__module__.lower() and not kind.__name__.startswith("Weak"):
                inside = code_in(content, self.project)
                if inside and kind in (dict, list, tuple):
                    node += [label, self.node(content)]
                elif inside:
                    inside.sort(key=sorting)
                    node += [label, *map(self.node, inside)]
                if wrapped is not None and not stands and kind not in (dict, tuple):
                    self.not_understood(function, False, "holds a value of its own")

    def _text(
        self,
        node: list[Any],
        tag: str,
        text: Normal,
        space: Space,
        cells: dict[str, Any],
    ) -> None:
        node += [tag, blake3(text.text.encode()).digest()]
        self._found = set(text.tells)
        for chain in text.chains:
            ref, name = self._refer(chain, space, cells)
            self.names[id(node), len(node)] = name
            if chain in text.early:
                self._early.add((id(node), len(node)))
            node.append(ref)
        self._texts.setdefault(id(node), []).append((text, space, cells))
        node += self._imports.of(text.imports, space)
        self._tells |= self._found
        if self._found & {"namespace", "import", "modules"}:
            self._dynamic(node, text, space, self._found)
        for item in text.texts:
            self.names_module(item)

    def _dynamic(self, node: list[Any], text: Normal, space: Space, tells: set[str]) -> None:
        """Code that finds names or modules by texts."""
        modules = any(chain[:2] == ("sys", "modules") for chain in text.chains)
        if "namespace" in tells or modules:
            self.widen(space, "names of it are looked up by text")
            inner: list[Any] = ["names"]
            node.append(inner)
            self._named(inner, space)
        if "import" in tells or modules:
            self.widen(space, "it imports modules by names that are made when it runs")
            node.append(self._imports.package(space))

    def _reading(self, text: Normal, space: Space, cells: dict[str, Any]) -> bool:
        """Return whether a decorator may read annotations and docstrings: one of another library."""
        for chain in text.decorators:
            if not chain:
                return True
            if chain[-1] in BLIND or chain[0] in cells:
                continue
            _, _, value, _ = self._looked_up(chain, space)
            if value is MISSING:
                continue
            module = (
                value.__name__ if type(value) is ModuleType else getattr(value, "__module__", "")
            )
            if hint_level(str(module)) and not (is_code(value) and self._owns(value)):
                return True
        return False

    def _told(
        self, node: list[Any], value: Any, text: Normal, reading: bool, hints: int = 0
    ) -> None:
        """Name, docstring and annotations, where something reads them."""
        tells = self.learned.tells
        if reading or "name" in tells:
            node += ["name", value.__qualname__]
        if "module" in tells:
            node += ["module", module_of(value.__module__)]
        if reading or "doc" in tells:
            node += ["doc", *text.docs]
        if reading or hints or "hints" in tells:
            node += ["hints", blake3(text.hints.encode()).digest()]
        if reading or "hints" in tells:
            space = self._at
            for chain in text.noted:
                where, name, found, rest = self._looked_up(chain, space)
                if found is not MISSING and type(found) is not ModuleType:
                    self._read(where, name, found)
                    node += [self.node(found), *rest]
                self._at = space
        if "source" in tells:
            import inspect

            try:
                node.append(inspect.getsource(value))
            except (OSError, TypeError):
                node.append("")

    def _defaults(self, node: list[Any], function: FunctionType, text: Normal) -> None:
        code = function.__code__
        names = code.co_varnames[: code.co_argcount]
        given = dict(zip(names[::-1], (function.__defaults__ or ())[::-1], strict=False)) | (
            function.__kwdefaults__ or {}
        )
        literals = dict(text.given)
        for name in sorted(given):
            value = given[name]
            if name in text.parameters and type(value) not in SCALARS and not is_code(value):
                # It is filled from call to call: what it was at first counts.
                written = literals.get(name)
                if written is None:
                    self.widen(
                        function.__globals__, f"a default of {function.__qualname__} is changed"
                    )
                node.append([name, "state", written, self.ordinal(value)])
                self._hold(value, function.__globals__)
            else:
                node.append([name, self.node(value)])

    def _given(self, node: list[Any], function: FunctionType) -> None:
        """Plain defaults of a method as they are now; the text of its class tells of the others."""
        given = (*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values())
        if given:
            plain = [v if type(v) in SCALARS else class_name(type(v)) for v in given]
            node.append([function.__name__, *plain])

    def _receiver(self, node: list[Any], text: Normal, owner: type[Any]) -> None:
        """What a method asks of the object that it is called on, as far as its class has it."""
        kinds = [kind for kind in owner.__mro__ if self.project.owns_class(kind)]
        meta = type(owner)
        if text.receiver is None or not self._asks(node, text.receiver, kinds, owner):
            node.append([self.node(kind) for kind in kinds])
            if self.project.owns_class(meta):
                node.append(self.node(meta))

    def _asks(
        self, node: list[Any], names: Iterable[str], kinds: list[type[Any]], owner: type[Any]
    ) -> bool:
        """Return whether all attributes are found that an object is asked for, or are its own."""
        catching = [
            kind for kind in kinds if {"__getattr__", "__getattribute__"} & vars(kind).keys()
        ]
        strict = bool(catching) or self.project.owns_class(type(owner))
        for name in sorted(names):
            if name[:2] == "__" and name[-2:] == "__":
                return False
            for kind in kinds:
                if name in vars(kind):
                    value = vars(kind)[name]
                    self._read(self._attributes(kind), name, value)
                    inner = getattr(value, "__func__", value)
                    inner = getattr(inner, "fget", inner)
                    known = (
                        type(value) in (FunctionType, staticmethod, classmethod, property)
                        and type(inner) is FunctionType
                        and self.project.owns_function(inner)
                    )
                    if known or hasattr(type(value), "__followed__"):
                        node.append([name, self.node(value, owner)])
                    elif type(value) in SCALARS:
                        self._at = class_space(kind)
                        node.append([name, self.attribute(kind, name, value)])
                    else:
                        return False
                    break
            else:
                if strict:
                    return False
        return True

    def _class(self, node: list[Any], kind: type[Any]) -> None:
        name = f"{kind.__module__}:{kind.__qualname__}"
        if not self.project.owns_class(kind):
            node += ["external", f"{module_of(kind.__module__)}:{kind.__qualname__}"]
            node += self._virtual(kind, all_=False)
            return
        self._part(name, "class", node, kind)
        self._classes.append(kind)
        self._bodies[id(node)] = kind
        space = class_space(kind)
        node += ["class", kind.__qualname__.rpartition(".")[2]]
        nodes = class_nodes(kind)
        texts = class_text(kind, nodes)
        local = "<locals>" in kind.__qualname__
        parts = class_parts(kind, nodes, self.project)
        self._at = space
        for text in texts:
            self._text(node, "body", text, space, parts.cells)
            reading = parts.hints > 1 or self._reading(text, space, parts.cells)
            self._told(node, kind, text, reading, parts.hints)
        if not texts:
            node.append([self.node(base) for base in kind.__bases__])
            if type(kind) is not type:
                node.append(self.node(type(kind)))
            # Since Python 3.14 it is worked out when it is asked for.
            hints = getattr(kind, "__annotations__", None)
            if isinstance(hints, dict) and hints:
                node += ["hints", self.node(dict(hints))]
        else:
            node.append([self.node(base) for base in kind.__bases__ if self._owns(base)])
        for label, value in parts.attributes:
            if local or not texts or not parts.inside(label):
                self._at = space
                node += [label, self.attribute(kind, label, value)]
        for label in parts.hidden:
            self.widen(space, f"{kind.__qualname__}.{label} is not understood")
        if "_abc_impl" in vars(kind):
            self._looked[id(kind)] = token_of, kind, token_of(kind)
        node += self._virtual(kind, all_=True)
        for function in functions_of(kind):
            self._given(node, function)
        reducer = copyreg.dispatch_table.get(kind)
        if reducer is not None:
            node += ["pickled by", self.node(reducer)]
        self._reloaded(space)
