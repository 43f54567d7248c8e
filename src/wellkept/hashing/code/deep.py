"""The deep identity of something that can be called, and its parts."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from typing import Any

from ..cycles import cyclic_digest
from ..encoding import Cyclic, reference_digest
from .covered import Covered
from .guards import Guards
from .opaque import tell_apart
from .project import Project
from .reach import Learned, Part, Reach

__all__ = ["Deep", "deep"]

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
        level = sys.flags.optimize  # `-O` leaves out assertions
        self.hex = digested([f"-O{level}", reach.top] if level else reach.top).hex()
        self.widened = {name: tuple(why) for name, why in sorted(reach.widened.items())}
        self.guards: Guards = reach.guards()
        self.parts: dict[str, Part] = reach.parts
        self.names = reach.names
        self.depends = tuple(reach.depends)
        self.mocked = bool(reach.mocks)
        self.covered = Covered(reach.met, reach.whole)
        self.hidden = reach.hidden()


def digested(node: list[Any]) -> bytes:
    """The digest of a node, which may have cycles."""
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
    pause = gc.isenabled()  # a walk makes many lists and no garbage
    if pause:
        gc.disable()
    try:
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
