"""A node of a dataflow: what it calls, its code identity, and what of that can be planned ahead."""

from __future__ import annotations

import functools
import sys
import weakref
from collections.abc import Callable, Iterable, Mapping
from types import FunctionType, MethodType, ModuleType
from typing import Any

from hamilton.caching.adapter import CachingBehavior
from hamilton.function_modifiers.metadata import cache as cache_decorator
from hamilton.node import Node, NodeType

from wellkept.errors import Undigestible
from wellkept.hashing import digest_bytes, identify
from wellkept.hashing.code import Guards, Project, deep
from wellkept.hashing.names import module_file

_DEPTH = 12
_known: weakref.WeakKeyDictionary[Any, dict[str, NodeCode]] = weakref.WeakKeyDictionary()


def name_of(node: Any) -> str:
    """`module:node`, as functions are named; without the module where that is only for one process."""
    written = list(node.originating_functions or ())
    module = getattr(written[-1], "__module__", None) if written else None
    if module in ("__main__", "__mp_main__"):
        module = identify(written[-1], "off").name.rpartition(":")[0]
    elif getattr(sys.modules.get(module or ""), "__spec__", None) is None:
        module = "hamilton"
    return f"{module}:{node.name}"


def callable_of(node: Any) -> Any:
    """What a node calls, also where wellkept stands before it."""
    return getattr(node.callable, "kept_original", node.callable)


class NodeCode:
    """The code identity of a node: everything that it would run, as far as that is the project's.

    Args:
        node: a Hamilton node that is computed.

    Attributes:
        tag: as a call's record has it.
    """

    __slots__ = ("_guards", "_projects", "tag")

    def __init__(self, node: Any) -> None:
        self._guards: list[Guards] = []
        self._projects = [
            Project(function, whole=True) for function in node.originating_functions or ()
        ]
        written = [self._function(function) for function in node.originating_functions or ()]
        plain = tuple(node.originating_functions or ()) == (callable_of(node),)
        held = None if plain else self._held(callable_of(node), 0, frozenset())
        role = node.node_role.name
        found = digest_bytes(("hamilton node", node.name, role, written, held)).hex()
        self.tag = f"node:{found}"

    @classmethod
    def of(cls, node: Any) -> NodeCode:
        """That of a node, which is made once for nodes that are just a function."""
        function = callable_of(node)
        if tuple(node.originating_functions or ()) != (function,):
            return cls(node)
        known = _known.setdefault(function, {})
        found = known.get(node.name)
        if found is None or not found.same():
            found = known[node.name] = cls(node)
        return found

    def same(self) -> bool:
        """Whether nothing that it was made from has changed since."""
        return all(guards.all_same() for guards in self._guards)

    def _function(self, function: Callable[..., Any]) -> str:
        """The identity of a function or class of the project; others go by their names."""
        module, name = getattr(function, "__module__", None), getattr(function, "__qualname__", "")
        file = module_file(module)
        if _is_hamiltons(function) or not any(
            project.owns(module, file) for project in self._projects or [Project()]
        ):
            return f"{module}.{name or type(function).__qualname__}"
        try:
            found = deep(function, whole=True)
        except (Undigestible, TypeError):
            return getattr(function, "__qualname__", type(function).__qualname__)
        self._guards.append(found.guards)
        return found.hex

    def _held(self, thing: Any, depth: int, seen: frozenset[int]) -> Any:
        """Something digestible that tells what can be told of a callable, or of what it holds."""
        if id(thing) in seen or depth > _DEPTH:
            return "…"
        seen = seen | {id(thing)}

        def each(parts: Iterable[Any]) -> list[Any]:
            return [self._held(part, depth + 1, seen) for part in parts]

        if type(thing) is FunctionType:
            # What a function of the project holds is part of its identity.
            return (
                "function",
                self._function(thing),
                each(_inside(thing)) if _is_hamiltons(thing) else (),
            )
        if isinstance(thing, Node):
            # Not the nodes that it is joined to: their results are this one's arguments.
            return "node", thing.name, self._held(callable_of(thing), depth + 1, seen)
        if isinstance(thing, functools.partial):
            return "partial", each((thing.func, thing.args, thing.keywords))
        if isinstance(thing, MethodType):
            return "method", each((thing.__func__, thing.__self__))
        if isinstance(thing, Mapping):
            return "map", [each(pair) for pair in thing.items()]
        if isinstance(thing, (list, tuple)):
            return type(thing).__name__, each(thing)
        if isinstance(thing, type):
            return "class", self._function(thing)
        if isinstance(thing, ModuleType):
            return "module", thing.__name__
        # A decorator, mostly: what it was told.
        if _is_hamiltons(type(thing)):
            return (
                "object",
                type(thing).__qualname__,
                self._held(dict(vars(thing)), depth + 1, seen),
            )
        try:
            return "value", digest_bytes(thing)
        except Undigestible:
            return "type", type(thing).__qualname__


def _is_hamiltons(thing: Any) -> bool:
    return (getattr(thing, "__module__", None) or "").partition(".")[0] == "hamilton"


def _inside(function: FunctionType) -> list[Any]:
    """What a function holds: its defaults, and the values in its closure by name."""
    found: list[Any] = [function.__defaults__, function.__kwdefaults__]
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=False):
        try:
            found.append((name, cell.cell_contents))
        except ValueError:
            # Not assigned yet.
            found.append((name,))
    return found


class Planned:
    """What is to be done with one node.

    Args:
        node: of Hamilton.
        code: its code identity.
        behaviors: of all nodes.
        saves: whether it saves data.
    """

    __slots__ = (
        "behavior",
        "behaviors",
        "code_tag",
        "collected",
        "defaults",
        "disabled",
        "expands",
        "format",
        "function_name",
        "ignored",
        "name",
        "run",
        "saves",
    )

    def __init__(
        self,
        node: Any,
        code: str,
        behaviors: Mapping[str, CachingBehavior],
        *,
        saves: bool,
    ) -> None:
        self.name: str = node.name
        self.function_name = name_of(node)
        self.code_tag = code
        self.behaviors = behaviors
        self.behavior = behaviors[node.name]
        self.defaults: dict[str, Any] = node.default_parameter_values
        self.expands = node.node_role == NodeType.EXPAND
        collects = node.node_role == NodeType.COLLECT
        self.collected: str | None = node.collect_dependency if collects else None
        self.saves = saves
        self.format: str | None = node.tags.get(cache_decorator.FORMAT_KEY)
        names = [*node.input_types]
        self.ignored = {n for n in names if behaviors.get(n) == CachingBehavior.IGNORE}
        self.disabled = {n for n in names if behaviors.get(n) == CachingBehavior.DISABLE}
        self.run: Callable[..., Any] = callable_of(node)

    def identity(self) -> tuple[str, str]:
        """The name under which its calls are kept, and its code identity."""
        return self.function_name, self.code_tag

    def role(self, task_id: str | None) -> str:
        """Where its versions are noted: for the run (`"run"`), or for each task (`"task"`)."""
        if task_id is None or task_id == self.name or self.expands or self.collected is not None:
            return "run"
        return "task"

    def arguments(self, kwargs: dict[str, Any]) -> dict[str, Any]:
        """What the node is called with, defaults included."""
        if not self.defaults:
            return kwargs
        return {**{n: v for n, v in self.defaults.items() if n not in kwargs}, **kwargs}
