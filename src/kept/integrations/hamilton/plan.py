"""What an adapter does with each node of a graph: found once, and used in every run of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from hamilton.caching.adapter import CachingBehavior
from hamilton.function_modifiers.metadata import cache as cache_decorator
from hamilton.node import NodeType

from kept.integrations.hamilton.nodes import callable_of, name_of

__all__ = ["Planned"]


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

    @property
    def locator(self) -> Planned:
        """Itself: a hit is recorded as one of a kept function."""
        return self

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
