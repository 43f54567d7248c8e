"""What a function reaches by name, as a graph; its digest is the function's deep identity.

A node is a list: a tag, then content and nodes. It holds no name of a function, a module or a file,
so a helper may be moved, and the digest of a graph with cycles is that of its unfolding (see
`cycles`), so it is the same whichever function is asked first.
"""

from __future__ import annotations

import builtins
import sys
from collections.abc import Callable, Iterable, Iterator
from importlib import import_module
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any, NamedTuple

from wellkept.hashing.code.classes import SCALARS, code_in, digested, is_code, is_mock
from wellkept.hashing.code.definitions import class_space, function_text
from wellkept.hashing.code.modules import STAMPS, Imports, Project, source_in
from wellkept.hashing.code.normalize import TELLING, Chain
from wellkept.hashing.code.unchanged import MISSING, Codes, Guards, content_of, variable_of
from wellkept.hashing.loaded import Space
from wellkept.hashing.names import class_name
from wellkept.hashing.reducers import is_constant
from wellkept.hashing.source import codes_in

_CHANGED = frozenset({"list", "dict", "set", "deque", "defaultdict", "OrderedDict", "Counter"})
_MOST_RUN = 2000
# What was met first in a library, by module and attributes.
FIRSTS: dict[tuple[str, Chain], Any] = {}


class Part(NamedTuple):
    """Something that code reaches by name."""

    # `function`, `class`, `value`, `state`, `module`, `external` or `missing`.
    kind: str
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
        # Objects whose ids are in `state`: no other may come to have them.
        self.held: list[Any] = []


class Graph:
    """What one walk has found: nodes, what they were read from, and what in them is not understood.

    A name is understood if all that it can stand for is followed. What is not understood never counts
    less: all of the module where it is bound counts instead, see `widen`.

    Args:
        root: what is called.
        project: whose code is followed.
        learned: what an earlier walk found out.
        ignored: names of globals that do not count.
    """

    def __init__(
        self,
        root: Any,
        project: Project,
        learned: Learned,
        ignored: frozenset[str],
    ) -> None:
        self.project = project
        self.root = root
        self.learned = learned
        self._ignored = ignored
        self.parts: dict[str, Part] = {}
        # What stands in a node (its address) at a position: a name that its text refers to.
        self.names: dict[tuple[int, int], str] = {}
        # What kept functions that are reached say of themselves in `depends`.
        self.depends: list[Any] = []
        # Modules that count as a whole, and why.
        self.widened: dict[str, list[str]] = {}
        # Objects that hide what they hold, with their nodes.
        self.opaque: list[tuple[list[Any], Any]] = []
        # What tests have put into the place of code.
        self.mocks: list[Any] = []
        self._nodes: dict[Any, tuple[list[Any], Any]] = {}
        self._spaces: dict[int, dict[int, Space]] = {}
        self._blind: dict[int, tuple[list[Any], str]] = {}
        self._reads: dict[int, tuple[Space, dict[str, Any]]] = {}
        self._looked: dict[int, tuple[Callable[[Any], Any], Any, Any]] = {}
        self._ordinals: dict[Any, int] = {}
        self._asked: set[str] = set()
        self._wide: dict[int, Space] = {}
        self._extra: list[list[Any]] = []
        self._later: dict[int, Any] = {}
        self._classes: list[type[Any]] = []
        self._proxies: dict[int, Space] = {}
        self._asked_of: dict[int, type[Any]] = {}
        self._waiting: list[tuple[list[Any], Any, type[Any] | None, Space]] = []
        self._at: Space = {}
        self._imports = Imports(project, bool(learned.tells & {"doc", "hints"}))
        self._filling: list[Any] = []
        self._found: set[str] = set()

    @property
    def met(self) -> Iterator[Any]:
        """All that was reached."""
        return (value for _, (value, _) in self._nodes.values())

    @property
    def whole(self) -> Iterable[str]:
        """Modules of which all counts."""
        return self._imports.nodes

    def guards(self) -> Guards:
        """Return what has to stay as it is for the identity to hold."""
        return Guards(
            self._reads.values(),
            self._looked.values(),
            [(node, value) for node, (value, _) in self._nodes.values()],
            self._classes if "subclasses" in self.learned.tells else (),
            self.learned.set_on,
            [(STAMPS, file, STAMPS.get(file)) for file in self._imports.files],
        )

    def hidden(self) -> list[str]:
        """Globals that can't be looked into, by their types."""
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

    def node(self, value: Any, owner: type[Any] | None = None) -> list[Any]:
        """Return the node of a value; it is filled later."""
        key = id(value) if owner is None else (id(value), id(owner))
        found = self._nodes.get(key)
        if found is None:
            # The value is held, so that no other has its id.
            found = self._nodes[key] = [], (value, owner)
            self._waiting.append((found[0], value, owner, self._at))
        elif type(value) not in SCALARS and not is_code(value):
            if id(found[0]) in self._blind:
                self.widen(self._at, self._blind[id(found[0])][1])
            else:
                self._spaces.setdefault(id(found[0]), {})[id(self._at)] = self._at
        return found[0]

    def _part(self, name: str, kind: str, node: list[Any], value: Any) -> None:
        self.parts.setdefault(name, Part(kind, node, value))

    def ordinal(self, key: Any) -> int:
        """Return a number that tells an object from others of equal content, in this walk."""
        return self._ordinals.setdefault(
            key if type(key) is tuple else id(key), len(self._ordinals)
        )

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

    def namespace(self, space: Space) -> list[Any]:
        """Return the node of a namespace that an object holds: its module's text counts, and code bound there
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
            elif not interactive(space):
                self._read(space, label, value)
            if type(value) is not MethodType and is_code(value) and self._owns(value):
                found += [label, self._bound(value)]
        return found

    def _bound(self, value: Any) -> list[Any]:
        """Return code of the project by its name, with the text of its module; else followed."""
        name = getattr(value, "__qualname__", "")
        own = vars(sys.modules.get(value.__module__, builtins))
        text = self._imports.whole(value.__module__) if own.get(name) is value else None
        return self.node(value) if text is None else ["named", name, text]

    def is_decorated(self, function: FunctionType) -> bool:
        """Return whether what wraps a function is part of its definition."""
        return self.project.owns_function(function) and bool(function_text(function).decorators)

    def _virtual(self, kind: type[Any], all_: bool) -> list[Any]:
        """Classes that were registered with an abstract one."""
        if "_abc_impl" not in vars(kind):
            return []
        try:
            # `ABC._dump_registry` asks the same function.
            dump: Any = import_module("_abc")._get_dump
            found = [ref() for ref in dump(kind)[0]]
        except (TypeError, AttributeError):
            return []
        kinds = [each for each in found if each is not None]
        if not all_:
            kinds = [each for each in kinds if self.project.owns_class(each)]
        kinds.sort(key=lambda each: (each.__module__, each.__qualname__))
        return [["virtual", *map(self.node, kinds)]] if kinds else []

    def attribute(self, holder: Any, name: str, value: Any) -> list[Any]:
        """Return the node of an attribute: what it holds, or state if code that is reached sets it."""
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
            # Nobody knows what it was at first, so it counts as it is now.
            node += digested(value) or []
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
            # In its own module the text of the name is looked at instead.
            return space is not where
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
            names = names_in(inner)
            if name in names and (
                inside is where or any(vars(found) is where for found in _modules_of(inside, names))
            ):
                return True
            if any(inside.get(each) is value for each in names) and type(value) not in SCALARS:
                return True
            if deep:
                waiting += [inside[each] for each in names if each in inside]
        return False

    def _read(self, space: Space, name: str, value: Any) -> None:
        self._reads.setdefault(id(space), (space, {}))[1].setdefault(name, value)

    def look(self, look: Callable[[Any], Any], at: Any) -> Any:
        """Return what is found somewhere else than in a namespace, such as a cell; or `MISSING`."""
        found = look(at)
        self._looked[id(at)] = look, at, found
        return found

    def current(self, variable: Any) -> list[Any]:
        """Return what a context variable is for the caller, in a list that is empty if it is nothing."""
        found = self.look(variable_of, variable)
        return [] if found is MISSING else [found]

    def _reloaded(self, space: Space) -> None:
        """A reloaded module has another spec; what was taken out of it before is out of date."""
        if space.get("__spec__") is not None:
            self._read(space, "__spec__", space["__spec__"])

    def _refer(self, chain: Chain, space: Space, cells: dict[str, Any]) -> tuple[Any, str]:
        """Return what a name with attributes stands for, a node and what is asked of it; and its full name."""
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
            # What such a function tells counts under whatever name it is called.
            self._found.update(TELLING[value.__name__])
        self._read(where, name, value)
        node = self.node(value)
        if not is_code(value):
            self._part(own, "value", node, value)
        return ([node, *rest] if rest else node), full

    def _put_into(self, module: ModuleType, names: Chain) -> list[Any]:
        """Return what somebody, such as the project or a test, has put into a library in place of its own.

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
        first = value if ours else FIRSTS.setdefault((module.__name__, names), value)
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
                # Such as `__dict__`: any name of the module may be asked for.
                break
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
            # What is set on a class is known by `set_on`.
            return False
        if type(value) is FunctionType and rest:
            # What is set on a function is known by `set_on` as well.
            return False
        if always or type(value).__name__ in _CHANGED:
            state.add((id(where), name))
            if type(value) not in SCALARS and not is_code(value) and type(value) is not tuple:
                state.add(id(value))
                self.learned.held.append(value)
        return len(state) > before


def interactive(space: Space) -> bool:
    return space.get("__name__") == "__main__"


def _uses(space: Space, where: Space) -> bool:
    """Return whether a module has another, or something of it, among its globals."""
    name = where.get("__name__")
    return any(
        (type(value) is ModuleType and vars(value) is where)
        or (is_code(value) and getattr(value, "__module__", None) == name)
        for value in tuple(space.values())
    )


def names_in(function: FunctionType) -> set[str]:
    return {name for code in codes_in(function.__code__) for name in code.co_names}


def _modules_of(space: Space, names: set[str]) -> list[ModuleType]:
    return [space[name] for name in names if type(space.get(name)) is ModuleType]
