"""Which code objects a deep identity covers: what a body may run without being another then."""

from __future__ import annotations

from collections.abc import Iterable
from types import CodeType, FunctionType
from typing import Any

from .lazy import file_of
from .project import module_file

__all__ = ["Covered"]


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
        """The code of both."""
        return Covered([*self._values, *other._values], [*self._modules, *other._modules])

    def holds(self, code: CodeType) -> bool:
        """Whether a code object is covered."""
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
        codes: dict[int, CodeType] = {}  # held, as they are told by address
        waiting: list[CodeType] = []
        for value in self._values:
            if isinstance(value, FunctionType):
                waiting.append(value.__code__)
                continue
            files = {module_file(value.__module__)}
            for item in vars(value).values():
                inner = getattr(item, "__func__", item)
                if isinstance(inner, FunctionType):
                    files.add(inner.__code__.co_filename)
            self._bodies |= {(file, value.__qualname__) for file in files if file is not None}
        while waiting:
            code = waiting.pop()
            if id(code) not in codes:
                codes[id(code)] = code
                waiting += [item for item in code.co_consts if isinstance(item, CodeType)]
        self._files = {file for name in self._modules if (file := file_of(name)) is not None}
        self._codes = codes
        return codes
