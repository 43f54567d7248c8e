"""What a function reaches by name, as a graph; its digest is the function's deep identity.

A node is a list: a tag, then content and nodes. It holds no name of a function, a module or a file,
so a helper may be moved, and the digest of a graph with cycles is that of its unfolding (see
`cycles`), so it is the same whichever function is asked first.

A name is understood if all that it can stand for is followed. What is not understood never counts
less: all of the module where it is bound counts instead, see `Reach.widen`.
"""

from __future__ import annotations

import builtins
import copyreg
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from importlib import import_module
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any, NamedTuple

from blake3 import blake3

from wellkept.hashing.code.definitions import (
    Normal,
    class_nodes,
    class_space,
    class_text,
    function_text,
    functions_of,
)
from wellkept.hashing.code.modules import STAMPS, Imports, Project, source_in
from wellkept.hashing.code.normalize import BLIND, TELLING, Chain
from wellkept.hashing.code.unchanged import (
    MISSING,
    Codes,
    Guards,
    content_of,
    token_of,
    variable_of,
)
from wellkept.hashing.code.values import (
    SCALARS,
    code_in,
    digested,
    is_code,
    is_mock,
    object_node,
    sorting,
)
from wellkept.hashing.loaded import Space
from wellkept.hashing.names import HEAP
from wellkept.hashing.reducers import is_constant

from ..names import class_name, module_of
from .classes import class_parts, hint_level

__all__ = ["Learned", "Part", "Reach"]

_CHANGED = frozenset({"list", "dict", "set", "deque", "defaultdict", "OrderedDict", "Counter"})
_AGAIN = frozenset({"doc", "hints", "name", "module", "source", "subclasses"})
"""What code that is reached may look at, and then counts everywhere."""
_MOST_RUN = 2000
_FIXED = 1 << 8  # `Py_TPFLAGS_IMMUTABLETYPE`
_BY_TEXT = frozenset({"getattr", "attrgetter", "methodcaller", "eval", "exec", "vars"})
"""Functions that find methods by names that no code has."""
_firsts: dict[tuple[str, Chain], Any] = {}
"""What was met first in a library, by module and attributes."""


class Part(NamedTuple):
    """Something that code reaches by name."""

    kind: str
    """`function`, `class`, `value`, `state`, `module`, `external` or `missing`."""
    node: list[Any]
    value: Any


class Learned:
    """What one walk finds out that the next has to know from the beginning.

    Attributes:
        state: names (with their namespace), cells and objects that the code reached changes.
        set_on: attributes that it sets.
        tells: what it looks at besides, see `Normal.tells`.
    """

    def __init__(self) -> None:
        self.state: set[Any] = set()
        self.set_on: set[str] = set()
        self.tells: set[str] = set()
        self.held: list[Any] = []
        """Objects whose ids are in `state`: no other may come to have them."""


class Reach:
    """One walk from a function to all that it reaches.

    Args:
        root: what is called.
        project: whose code is followed.
        receiver: the class whose method it is called as; None: it is no method.
        learned: what an earlier walk found out.
        ignored: names of globals that do not count.
    """

    def __init__(
        self,
        root: Any,
        project: Project,
        receiver: type[Any] | None,
        learned: Learned,
        ignored: frozenset[str],
    ) -> None:
        self.project = project
        self.root = root
        self.learned = learned
        self._ignored = ignored
        self.parts: dict[str, Part] = {}
        self.names: dict[tuple[int, int], str] = {}
        """What stands in a node (its address) at a position: a name that its text refers to."""
        self.depends: list[Any] = []
        """What kept functions that are reached say of themselves in `depends`."""
        self.widened: dict[str, list[str]] = {}
        """Modules that count as a whole, and why."""
        self.opaque: list[tuple[list[Any], Any]] = []
        """Objects that hide what they hold, with their nodes."""
        self.mocks: list[Any] = []
        """What tests have put into the place of code."""
        self._nodes: dict[Any, tuple[list[Any], Any]] = {}
        self._spaces: dict[int, dict[int, Space]] = {}
        self._blind: dict[int, tuple[list[Any], str]] = {}
        self._reads: dict[int, tuple[Space, dict[str, Any]]] = {}
        self._looked: dict[int, tuple[Callable[[Any], Any], Any, Any]] = {}
        self._ordinals: dict[Any, int] = {}
        self._early: set[tuple[int, int]] = set()
        self._texts: dict[int, list[tuple[Normal, Space, dict[str, Any]]]] = {}
        self._asked: set[str] = set()
        self._bodies: dict[int, type[Any]] = {}
        self._wide: dict[int, Space] = {}
        self._extra: list[list[Any]] = []
        self._later: dict[int, Any] = {}
        self._classes: list[type[Any]] = []
        self._tells: set[str] = set()
        self._proxies: dict[int, Space] = {}
        self._put: set[tuple[int, str]] = set()
        self._asked_of: dict[int, type[Any]] = {}
        self._waiting: list[tuple[list[Any], Any, type[Any] | None, Space]] = []
        self._at: Space = {}
        self._imports = Imports(project, bool(learned.tells & {"doc", "hints"}))
        self._inner = self.node(root, receiver)
        self._walk()
        while self._borrowed():
            self._walk()
        self.top = ["deep", self._inner, *self._extra, *self._modules()]
        for name, node in self._imports.nodes.items():
            self._part(name, "module", node, None)

    @property
    def met(self) -> Iterator[Any]:
        """All that was reached."""
        return (value for _, (value, _) in self._nodes.values())

    @property
    def whole(self) -> Iterable[str]:
        """Modules of which all counts."""
        return self._imports.nodes

    def guards(self) -> Guards:
        """What has to stay as it is for the identity to hold."""
        return Guards(
            self._reads.values(),
            self._looked.values(),
            [(node, value) for node, (value, _) in self._nodes.values()],
            self._classes if "subclasses" in self.learned.tells else (),
            self.learned.set_on,
            [(STAMPS, file, STAMPS.get(file)) for file in self._imports.files],
        )

    def hidden(self) -> list[str]:
        """Globals that can't be looked into, with their types; what is none, by its type."""
        names = {id(part.value): name for name, part in self.parts.items() if part.kind == "value"}
        found = []
        for _, value in self.opaque:
            if not is_constant(value) and not hasattr(type(value), "__wrapped__"):
                kind = class_name(type(value))
                name = names.get(id(value), "").rpartition(":")[2]
                found.append(f"`{name}` (a {kind})" if name else f"a {kind}")
        return sorted(set(found))

    def _ignores(self, space: Space, name: str) -> bool:
        ignored = self._ignored
        return bool(ignored) and (name in ignored or f"{space.get('__name__')}.{name}" in ignored)

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
        """The attributes that methods set whose names are asked for by code that runs."""
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
                else:  # a library's base class may call any of them
                    found |= named
        names: set[str] = set()
        for node, (value, _) in self._nodes.values():
            if type(value) is FunctionType and id(node) in running:
                names |= _names_in(value)
        while waiting:
            blind = not names.isdisjoint(_BY_TEXT)
            now = [f for f in waiting if blind or f.__name__ in names or f.__name__[:2] == "__"]
            if not now:
                break
            waiting = [function for function in waiting if function not in now]
            for function in now:
                found |= function_text(function).set_on
                names |= _names_in(function)
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
        """What the project or a test has put into classes of libraries, under names that code asks
        for; whether there was more of it than before.
        """
        names: set[str] = set()
        kinds: dict[int, type[Any]] = {}
        for value in self.met:
            if type(value) is FunctionType:
                if self.project.owns_function(value):
                    names |= _names_in(value)
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
                    continue  # data of a library's own
                self._read(table, name, value)
                ours = is_mock(type(value)) or self._is_ours(value)
                at = kind.__module__, (kind.__qualname__, name)
                first = value if ours else _firsts.setdefault(at, value)
                if (ours or first is not value) and (id(kind), name) not in self._put:
                    self._put.add((id(kind), name))
                    self._extra.append(["put", class_name(kind), name, self.node(value)])
        return len(self._extra) > before

    def _is_ours(self, value: Any) -> bool:
        """Whether an attribute of a class is the project's, or holds something that is."""
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

    # -- nodes ------------------------------------------------------------------------------------

    def node(self, value: Any, owner: type[Any] | None = None) -> list[Any]:
        """The node of a value; it is filled later."""
        key = id(value) if owner is None else (id(value), id(owner))
        found = self._nodes.get(key)
        if found is None:
            found = self._nodes[key] = [], (value, owner)  # held, so that no other has its id
            self._waiting.append((found[0], value, owner, self._at))
        elif type(value) not in SCALARS and not is_code(value):
            if id(found[0]) in self._blind:
                self.widen(self._at, self._blind[id(found[0])][1])
            else:
                self._spaces.setdefault(id(found[0]), {})[id(self._at)] = self._at
        return found[0]

    def _fill(self, node: list[Any], value: Any, owner: type[Any] | None) -> None:
        kind = type(value)
        self._filling = node
        if kind is FunctionType:
            self._function(node, value, owner)
        elif issubclass(kind, type):  # not `isinstance`, which asks a proxy
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
        self.depends += getattr(getattr(value, "options", None), "depends", ())
        name = f"{value.__module__}:{value.__qualname__}"
        if function is None:
            node += ["kept", tag, name]
            self._part(name, "external", node, value)
        else:
            node += ["kept", self.node(function, owner)]

    def _part(self, name: str, kind: str, node: list[Any], value: Any) -> None:
        self.parts.setdefault(name, Part(kind, node, value))

    def ordinal(self, key: Any) -> int:
        """A number that tells an object from others of equal content, in this walk."""
        return self._ordinals.setdefault(
            key if type(key) is tuple else id(key), len(self._ordinals)
        )

    # -- what is not understood -------------------------------------------------------------------

    def widen(self, space: Space, why: str) -> None:
        """Let all of a module count, as something that is bound in it is not understood."""
        self._wide.setdefault(id(space), space)
        reasons = self.widened.setdefault(str(space.get("__name__")), [])
        if why not in reasons:
            reasons.append(why)

    def not_understood(self, value: Any, large: bool, why: str = "") -> None:
        """An object hides what it holds."""
        name = class_name(type(value))
        why = why or ("refers to too much" if large else "does not show what it holds")
        why = f"a {name} {why}"
        node = self._filling
        self._blind[id(node)] = node, why
        if type(value) is not FunctionType:
            self.opaque.append((node, value))
        for space in (self._at, *self._spaces.get(id(node), {}).values()):
            self.widen(space, why)

    def names_module(self, text: str) -> None:
        """A text may name something in a module of the project: `app.models.Net`."""
        if "." not in text and ":" not in text:
            return
        parts = text.replace(":", ".").split(".")
        first = sys.modules.get(parts[0])
        if first is None or not all(map(str.isidentifier, parts)):
            return
        if not self.project.owns_module(first):
            return
        for at in range(len(parts) - 1, 0, -1):
            module = ".".join(parts[:at])
            loaded = sys.modules.get(module)
            if loaded is not None and not hasattr(loaded, parts[at]):
                return
            if self._imports.whole(module) is not None:
                self._extra.append(["named", self._imports.nodes[module]])
                reasons = self.widened.setdefault(module, [])
                why = f"the text {text!r} names it"
                if why not in reasons:
                    reasons.append(why)
                return

    def _modules(self) -> list[list[Any]]:
        """The nodes of the modules that count as a whole."""
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

    def namespace(self, space: Space) -> list[Any]:
        """A namespace that an object holds: its module's text counts, and the code that is bound there
        otherwise than the text says.

        It is no data: of a large module, all would be followed that no one asks for.
        """
        self.widen(space, "an object holds its namespace")
        self._reloaded(space)
        found: list[Any] = []
        for label, value in sorted(space.items()):
            if is_mock(type(value)):
                self.mocks.append(value)
            elif not is_code(value) or self._ignores(space, label):
                continue
            elif not _interactive(space):
                self._read(space, label, value)
            if type(value) is not MethodType and is_code(value) and self._owns(value):
                found += [label, self._bound(value)]
        return found

    def _bound(self, value: Any) -> list[Any]:
        """Code of the project by its name, with the text of its module; else followed."""
        name = getattr(value, "__qualname__", "")
        own = vars(sys.modules.get(value.__module__, builtins))
        text = self._imports.whole(value.__module__) if own.get(name) is value else None
        return self.node(value) if text is None else ["named", name, text]

    def _named(self, node: list[Any], space: Space) -> None:
        """What is bound in a module by the names that it has now."""
        self._at = space
        name = space.get("__name__")
        for label, value in sorted(space.items()):
            if label[:1] == "_" and (label[:2] == "__" or _interactive(space)):
                continue
            if label in ("In", "Out", "exit", "quit", "get_ipython") or type(value) is ModuleType:
                continue
            if self._ignores(space, label):
                continue
            owned = self._owns(value) if is_code(value) else not _interactive(space)
            if (id(space), label) in self.learned.state or id(value) in self.learned.state:
                continue
            if owned and getattr(value, "__module__", name) is not None:
                self._read(space, label, value)
                node += [label, self.node(value)]

    # -- functions --------------------------------------------------------------------------------

    def _function(self, node: list[Any], function: FunctionType, owner: type[Any] | None) -> None:
        code = function.__code__
        name = f"{function.__module__}:{function.__qualname__}"
        if function is not self.root and not self.project.owns_function(function):
            self._foreign(node, function)
            return
        if is_mock(type(mock := vars(function).get("mock"))):  # of `create_autospec`
            self.mocks.append(mock)
        text = function_text(function)
        space = self._at = function.__globals__
        self._part(name, "function", node, function)
        cells = dict(zip(code.co_freevars, function.__closure__ or (), strict=True))
        self._text(node, "function", text, space, cells)
        self._told(node, function, text, self._reading(text, space, cells))
        self._defaults(node, function, text)
        for label, value in vars(function).items():
            if label != "__wrapped__" and not label.startswith("__"):
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

    def is_decorated(self, function: FunctionType) -> bool:
        """Whether what wraps a function is part of its definition."""
        return self.project.owns_function(function) and bool(function_text(function).decorators)

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
        """Whether a decorator may read annotations and docstrings: one of another library."""
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
        """Whether all attributes are found that an object is asked for, or are its own."""
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

    # -- classes ----------------------------------------------------------------------------------

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
            hints = getattr(kind, "__annotations__", None)  # worked out when asked for, since 3.14
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

    def _virtual(self, kind: type[Any], all_: bool) -> list[Any]:
        """Classes that were registered with an abstract one."""
        if "_abc_impl" not in vars(kind):
            return []
        try:
            dump: Any = import_module("_abc")._get_dump  # the same that `ABC._dump_registry` asks
            found = [ref() for ref in dump(kind)[0]]
        except (TypeError, AttributeError):
            return []
        kinds = [each for each in found if each is not None]
        if not all_:
            kinds = [each for each in kinds if self.project.owns_class(each)]
        kinds.sort(key=lambda each: (each.__module__, each.__qualname__))
        return [["virtual", *map(self.node, kinds)]] if kinds else []

    def attribute(self, holder: Any, name: str, value: Any) -> list[Any]:
        """The node of an attribute: what it holds, or state if code that is reached sets it."""
        self._asked.add(name)
        if name not in self.learned.set_on or is_code(value):
            if isinstance(holder, type) and id(holder) not in self._nodes:
                self._read(self._attributes(holder), name, value)
            return self.node(value)
        kind = holder if isinstance(holder, type) else type(holder)
        why = f"attributes {name!r} are set when it runs"
        self.widen(self._at, why)
        spaces = [self._at]
        if self.project.owns_class(kind):
            spaces.append(class_space(kind))
            self.widen(spaces[1], why)
        for where in spaces:
            for space in self._touching(where, "", holder):
                self.widen(space, f"it may set {name!r} when it is loaded")
        node = ["state", self.ordinal((id(holder), name))]
        self._hold(value, self._at)
        return node

    def _attributes(self, kind: type[Any]) -> Space:
        return self._proxies.setdefault(id(kind), vars(kind))

    def _owns(self, value: Any) -> bool:
        if isinstance(value, type):
            return self.project.owns_class(value)
        return type(value) is not FunctionType or self.project.owns_function(value)

    # -- state ------------------------------------------------------------------------------------

    def _hold(self, value: Any, space: Space) -> None:
        """What an object that changes as code runs holds of code, beside that which code names."""
        found = code_in(value, self.project)
        if found is None:
            self.widen(space, f"a {class_name(type(value))} refers to too much")
        for code in found or ():
            self._later[id(code)] = code

    def _state(self, where: Space, name: str, value: Any) -> list[Any]:
        own = f"{where.get('__name__')}:{name}"
        node: list[Any] = ["state", self.ordinal((id(where), name))]
        source = source_in(where)
        written = source.literals.get(name) if source is not None else None
        touching = self._touching(where, name, value)
        if written is not None and not touching:
            node.append(written)
        else:
            self.widen(where, f"`{name}` changes when it runs, and is more than a literal")
            for space in touching:
                self.widen(
                    space, f"it changes `{name}` of {where.get('__name__')} when it is loaded"
                )
        if source is None and self._imports.whole(str(where.get("__name__"))) is None:
            node += digested(value) or []  # nobody knows what it was at first
        if type(value) not in SCALARS:
            node.append(self.ordinal(value))
        if type(value) in (list, dict, set):
            look = Codes(value)
            self._looked[id(value)] = look, value, look
        self._hold(value, where)
        self._part(own, "state", node, written)
        return node

    def _touching(self, where: Space, name: str, value: Any) -> list[Space]:
        """Modules that may change a name of another, or of themselves, when they are loaded."""
        found: list[Space] = []
        for module in tuple(sys.modules.values()):
            if type(module) is not ModuleType or not self.project.owns_module(module):
                continue
            space = vars(module)
            source = source_in(space)
            if source is None:
                if space is not where and _uses(space, where):
                    found.append(space)
            elif any(
                self._touches(chain, space, where, name, value, deep)
                for chains, deep in ((source.effects, True), (source.scripted, False))
                for chain in chains
            ):
                found.append(space)
        return found

    def _touches(
        self, chain: Chain, space: Space, where: Space, name: str, value: Any, deep: bool
    ) -> bool:
        at, own, found, _ = self._looked_up(chain, space)
        if own == name and at is where:
            return space is not where  # of its own module, the text of the name is looked at
        if found is value and type(value) not in SCALARS:
            return True
        if type(found) is ModuleType:
            return vars(found) is where
        waiting: list[Any] = [found]
        seen: set[int] = set()
        while waiting and len(seen) < _MOST_RUN:
            item = waiting.pop()
            if id(item) in seen or hasattr(type(item), "__followed__"):
                continue
            seen.add(id(item))
            inner = getattr(item, "__func__", item)
            if issubclass(type(inner), type):
                if self.project.owns_class(inner):
                    waiting += vars(inner).values()
                continue
            if type(inner) is not FunctionType:
                continue
            if not self.project.owns_function(inner):
                continue
            waiting += [content_of(cell) for cell in inner.__closure__ or ()]
            inside = inner.__globals__
            names = _names_in(inner)
            if name in names and (
                inside is where or any(vars(found) is where for found in _modules_of(inside, names))
            ):
                return True
            if any(inside.get(each) is value for each in names) and type(value) not in SCALARS:
                return True
            if deep:
                waiting += [inside[each] for each in names if each in inside]
        return False

    # -- names ------------------------------------------------------------------------------------

    def _read(self, space: Space, name: str, value: Any) -> None:
        self._reads.setdefault(id(space), (space, {}))[1].setdefault(name, value)

    def look(self, look: Callable[[Any], Any], at: Any) -> Any:
        """What is found somewhere else than in a namespace, such as a cell; or `MISSING`."""
        found = look(at)
        self._looked[id(at)] = look, at, found
        return found

    def current(self, variable: Any) -> list[Any]:
        """What a context variable is for the caller, in a list that is empty if it is nothing."""
        found = self.look(variable_of, variable)
        return [] if found is MISSING else [found]

    def _reloaded(self, space: Space) -> None:
        """A reloaded module has another spec; what was taken out of it before is out of date."""
        if space.get("__spec__") is not None:
            self._read(space, "__spec__", space["__spec__"])

    def _refer(self, chain: Chain, space: Space, cells: dict[str, Any]) -> tuple[Any, str]:
        """What a name with attributes stands for, a node and what is asked of it; and its full name."""
        state = self.learned.state
        self._at = space
        if chain[0] in cells:
            if chain[0] in self._ignored:
                return ["ignored", *chain[1:]], ".".join(chain)
            cell = cells[chain[0]]
            content = content_of(cell)
            full = ".".join(chain)
            if content is MISSING:
                self.look(content_of, cell)
                return "empty", full
            if id(cell) in state or id(content) in state:
                self.widen(space, f"`{chain[0]}` of a closure changes when it runs")
                self._hold(content, space)
                inner = ["state", self.ordinal((id(cell), "cell"))]
            else:
                self.look(content_of, cell)
                inner = self.node(content)
            return ([inner, *chain[1:]] if len(chain) > 1 else inner), full
        where, name, value, rest = self._looked_up(chain, space)
        full = ".".join((f"{where.get('__name__')}:{name}", *rest))
        if self._ignores(where, name):
            return ["ignored", *rest], full
        if value is MISSING:
            self._read(where, name, MISSING)
            if where is space and len(rest) == len(chain) - 1 and hasattr(builtins, name):
                return ["builtin", *chain, *self._put_into(builtins, (name,))], ".".join(chain)
            return ["missing", *chain], full
        self._at = where
        if type(value) is ModuleType:
            self._read(where, name, value)
            if self.project.owns_module(value):
                return self.node(value), ".".join((value.__name__, *rest))
            node: list[Any] = ["module", value.__name__, *rest, *self._put_into(value, rest)]
            return node, ".".join((value.__name__, *rest))
        own = f"{where.get('__name__')}:{name}"
        if (id(where), name) in state or id(value) in state:
            node = self._state(where, name, value)
            return ([node, *rest] if rest else node), full
        if type(value) in (FunctionType, BuiltinFunctionType) and value.__name__ in TELLING:
            self._found.update(TELLING[value.__name__])  # under whatever name
        self._read(where, name, value)
        node = self.node(value)
        if not is_code(value):
            self._part(own, "value", node, value)
        return ([node, *rest] if rest else node), full

    def _put_into(self, module: ModuleType, names: Chain) -> list[Any]:
        """What somebody, such as the project or a test, has put into a library in place of its own.

        What is met there first in a process is taken for the library's, unless it is the project's.
        """
        value: Any = module
        for name in names:
            inner = vars(value).get(name, MISSING)
            if inner is not MISSING:
                self._read(vars(value), name, inner)
                value = inner
                if isinstance(inner, type):
                    self._asked_of[id(inner)] = inner
            if inner is MISSING or not isinstance(value, (ModuleType, type)):
                break
        if type(value) is ModuleType:
            return []
        ours = self._mine(value) or is_mock(type(value))
        first = value if ours else _firsts.setdefault((module.__name__, names), value)
        if ours or first is not value:
            return [self.node(value)]
        return self._virtual(value, all_=False) if isinstance(value, type) else []

    def _mine(self, value: Any) -> bool:
        if isinstance(value, type):
            return self.project.owns_class(value)
        return type(value) is FunctionType and self.project.owns_function(value)

    def _looked_up(self, chain: Chain, space: Space) -> tuple[Space, str, Any, Chain]:
        """Through modules of the project to the binding of something that is none.

        Returns the namespace, the name in it, what it is bound to, and the attributes left.
        """
        name, rest = chain[0], chain[1:]
        value = space.get(name, MISSING)
        while type(value) is ModuleType and rest and self.project.owns_module(value):
            self._read(space, name, value)
            inner = vars(value).get(rest[0], MISSING)
            if inner is MISSING:
                inner = sys.modules.get(f"{value.__name__}.{rest[0]}", MISSING)
            if inner is MISSING and "__getattr__" in vars(value):
                return vars(value), "__getattr__", vars(value)["__getattr__"], rest
            if inner is MISSING and hasattr(ModuleType, rest[0]):
                break  # `__dict__`: any name of it may be asked for
            space, name, rest, value = vars(value), rest[0], rest[1:], inner
        return space, name, value, rest

    def _writes(self, chain: Chain, space: Space, cells: dict[str, Any], always: bool) -> bool:
        """Note that code changes what a name stands for; whether that is news."""
        state = self.learned.state
        before = len(state)
        if chain[0] in cells:
            cell = cells[chain[0]]
            value = content_of(cell)
            if not is_code(value) and (always or type(value).__name__ in _CHANGED):
                state.add(id(cell))
                if type(value) not in SCALARS and value is not MISSING and type(value) is not tuple:
                    state.add(id(value))
                self.learned.held += [cell, value]
            return len(state) > before
        where, name, value, rest = self._looked_up(chain, space)
        if type(value) is ModuleType or (value is MISSING and not always):
            return False
        if isinstance(value, type) and rest:
            return False  # what is set on a class is known by `set_on`
        if type(value) is FunctionType and rest:
            return False  # and on a function
        if always or type(value).__name__ in _CHANGED:
            state.add((id(where), name))
            if type(value) not in SCALARS and not is_code(value) and type(value) is not tuple:
                state.add(id(value))
                self.learned.held.append(value)
        return len(state) > before


def _interactive(space: Space) -> bool:
    return space.get("__name__") == "__main__"


def _uses(space: Space, where: Space) -> bool:
    """Whether a module has another, or something of it, among its globals."""
    name = where.get("__name__")
    return any(
        (type(value) is ModuleType and vars(value) is where)
        or (is_code(value) and getattr(value, "__module__", None) == name)
        for value in tuple(space.values())
    )


def _names_in(function: FunctionType) -> set[str]:
    names: set[str] = set()
    waiting = [function.__code__]
    while waiting:
        code = waiting.pop()
        names.update(code.co_names)
        waiting += [item for item in code.co_consts if type(item) is type(code)]
    return names


def _modules_of(space: Space, names: set[str]) -> list[ModuleType]:
    return [space[name] for name in names if type(space.get(name)) is ModuleType]
