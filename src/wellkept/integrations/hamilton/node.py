"""A node of a dataflow: what it calls, its code identity, and what of that can be planned ahead."""

from __future__ import annotations

import functools
import uuid
import weakref
from collections.abc import Callable, Iterable, Mapping
from types import FunctionType, MethodType, ModuleType
from typing import Any

from hamilton.caching.adapter import CachingBehavior
from hamilton.function_modifiers.metadata import cache as cache_decorator
from hamilton.node import Node, NodeType

from wellkept.errors import ConfigError, Undigestible
from wellkept.hashing import digest_bytes
from wellkept.hashing.code import Guards, Project, deep
from wellkept.hashing.names import module_file
from wellkept.memo.depends import env, file, package
from wellkept.memo.keep_options import Options

_DEPTH = 12
PREFIX = "hamilton.nodes:"
"""Before the name of a node, in that of its calls."""
_known: weakref.WeakKeyDictionary[Any, dict[str, NodeCode]] = weakref.WeakKeyDictionary()


_TAG = "wellkept."
OPTIONS = ("depends", "name", "ttl", "verify", "version")
"""Of those of `keep`, what can be said of a node."""
_DEFAULT = Options()
# Where nothing is said, an option that needs another one is not given.
_UNSAID: dict[str, Any] = {"stale": None, "each": None, "batch": None}
_DEPENDS: dict[str, Callable[[str], Any]] = {"env": env, "file": file, "package": package}


def options_of(node: Any, said: Mapping[str, Any]) -> Options:
    """The options of a node: those in its tags, which begin with `wellkept.`, and what else is said of it.

    Raises:
        ConfigError: there is no such option, or it is not what it may be.
    """
    tags = {
        name.removeprefix(_TAG): text
        for name, text in node.tags.items()
        if name.startswith(_TAG) and name.removeprefix(_TAG) not in said
    }
    if not tags and not said:
        return _DEFAULT
    for name in (*tags, *said):
        if name not in OPTIONS:
            raise ConfigError(
                f"node {node.name}: no such option {name!r}; there are {', '.join(OPTIONS)}"
            )
    try:
        if "verify" in tags:
            tags["verify"] = float(tags["verify"])
        if "depends" in tags:
            given = tags["depends"]
            tags["depends"] = [
                _dependency(text) for text in ([given] if type(given) is str else given)
            ]
        return Options.of(**{**_DEFAULT._asdict(), **_UNSAID, **tags, **said})
    except (ValueError, TypeError) as error:
        raise ConfigError(f"node {node.name}: {error}") from error


def _dependency(text: str) -> Any:
    kind, _, name = text.partition(":")
    if kind not in _DEPENDS:
        raise ConfigError(
            f"depends takes texts such as 'file:PATH', 'env:NAME' and 'package:NAME', not {text!r}"
        )
    return _DEPENDS[kind](name)


def callable_of(node: Any) -> Any:
    """What a node calls, also where wellkept stands before it."""
    return getattr(node.callable, "kept_original", node.callable)


class NodeCode:
    """The code identity of a node: everything that it would run, as far as that is the project's.

    Args:
        node: a Hamilton node that is computed.
        options: of it.

    Attributes:
        tag: as a call's record has it.
    """

    __slots__ = ("_guards", "_projects", "tag")

    def __init__(self, node: Any, options: Options = _DEFAULT) -> None:
        self._guards: list[Guards] = []
        name, role = options.name or node.name, node.node_role.name
        if options.version is not None:
            self.tag: str = (
                f"node:{digest_bytes(('hamilton version', name, role, options.version)).hex()}"
            )
            return
        self._projects = [
            Project(function, whole=True) for function in node.originating_functions or ()
        ]
        written = [self._function(function) for function in node.originating_functions or ()]
        plain = tuple(node.originating_functions or ()) == (callable_of(node),)
        held = None if plain else self._held(callable_of(node), 0, frozenset())
        found = digest_bytes(("hamilton node", name, role, written, held)).hex()
        self.tag = f"node:{found}"

    @classmethod
    def of(cls, node: Any, options: Options) -> NodeCode:
        """That of a node, which is made once for nodes that are just a function."""
        function = callable_of(node)
        if options is not _DEFAULT or tuple(node.originating_functions or ()) != (function,):
            return cls(node, options)
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
            # It can't be told from others of its name, here or in another process.
            return f"{name} {uuid.uuid4()}"
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
        if type(thing) is MethodType:
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
        options: of it.
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
        "options",
        "run",
        "saves",
    )

    def __init__(
        self,
        node: Any,
        code: str,
        options: Options,
        behaviors: Mapping[str, CachingBehavior],
        *,
        saves: bool,
    ) -> None:
        self.name: str = node.name
        # Its code tells what it is, so the same in two modules is one.
        self.function_name: str = options.name or f"{PREFIX}{node.name}"
        self.options: Options = options
        self.code_tag: str = code
        self.behaviors: Mapping[str, Any] = behaviors
        self.behavior: Any = behaviors[node.name]
        self.defaults: dict[str, Any] = node.default_parameter_values
        self.expands: bool = node.node_role == NodeType.EXPAND
        collects = node.node_role == NodeType.COLLECT
        self.collected: str | None = node.collect_dependency if collects else None
        self.saves: bool = saves
        self.format: str | None = node.tags.get(cache_decorator.FORMAT_KEY)
        names = [*node.input_types]
        self.ignored: set[Any] = {n for n in names if behaviors.get(n) == CachingBehavior.IGNORE}
        self.disabled: set[Any] = {n for n in names if behaviors.get(n) == CachingBehavior.DISABLE}
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
