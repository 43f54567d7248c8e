"""An identity that was widened: by modules of the project whose code ran though no name led there."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable, Iterable
from types import CodeType, FunctionType
from typing import TYPE_CHECKING, Any

from ..loaded import stamp
from ..names import RUN, module_of
from .covered import Covered
from .lazy import Imports, file_of
from .project import Project
from .reach import Part

if TYPE_CHECKING:
    from .deep import Deep

__all__ = ["module_with", "widened"]


def module_with(code: CodeType) -> str | None:
    """What names the module that a code object is from, also in another process.

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
    """An identity with all of some modules, and what they import of the project.

    Args:
        found: the identity without them.
        function: whose it is.
        modules: as `module_with` names them.
    """
    from .deep import deep, digested

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
    """The name under which a module is loaded here."""
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
