"""Modules that a function imports when it runs: their source as a whole, without importing them.

Whether such a module is loaded already differs from process to process, and importing it to find
out could do anything. So all of its file counts, normalised, and that of the project's modules that
it imports in turn.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterable
from functools import lru_cache
from importlib.machinery import PathFinder
from pathlib import Path
from types import CodeType
from typing import Any

from blake3 import blake3

from ..loaded import code_of, is_current, stamp, token
from .bytecode import compiled
from .guards import Space
from .normal import normal
from .project import Project

__all__ = ["STAMPS", "Imports", "file_of"]

Import = tuple[int, str, str]


class Imports:
    """The modules that the functions of one walk import when they run, as nodes of its graph.

    Args:
        project: whose modules count.

    Attributes:
        nodes: by name.
        files: those of modules that are not loaded, as they are now.
    """

    def __init__(self, project: Project) -> None:
        self._project = project
        self._names: dict[tuple[Import, str], str | None] = {}
        self.nodes: dict[str, list[Any]] = {}
        self.files: list[str] = []

    def of(self, imports: Iterable[Import], space: Space) -> list[list[Any]]:
        """The nodes of the modules that some code imports.

        Args:
            imports: level, module and name of each.
            space: the globals of the importing module.
        """
        waiting: list[tuple[list[Any], list[Import], str]] = []
        found = self._of(imports, space.get("__package__") or "", waiting)
        while waiting:
            node, inner, package = waiting.pop()
            node += self._of(inner, package, waiting)
        return found

    def _of(self, imports: Iterable[Import], package: str, waiting: list[Any]) -> list[list[Any]]:
        names = set()
        for item in imports:
            key = item, package if item[0] else ""
            if key not in self._names:
                self._names[key] = self._name(item, package, waiting)
            names.add(self._names[key])
        return [self.nodes[name] for name in sorted(name for name in names if name is not None)]

    def _name(self, item: Import, package: str, waiting: list[Any]) -> str | None:
        for full in _candidates(*item, package):
            if full in self.nodes:
                return full
            file = file_of(full)
            if file is None or not self._project.owns(full, file):
                continue
            read = _read(full, file)
            if read is not None:
                if full not in sys.modules:
                    self.files.append(file)  # it is read when it is imported
                node = self.nodes[full] = ["source", full, read[0]]
                inside = full if _is_package(file) else full.rpartition(".")[0]
                waiting.append((node, read[1], inside))
                return full
        return None


def _candidates(level: int, module: str, name: str, package: str) -> list[str]:
    if level:
        parts = package.split(".") if package else []
        base = ".".join(parts[: len(parts) - level + 1])
        module = ".".join(part for part in (base, module) if part)
    return [full for full in ((f"{module}.{name}" if name and module else name), module) if full]


def file_of(name: str) -> str | None:
    """The file of a module, which need not be loaded; nothing is imported to find it.

    It is the source, or what was compiled from it where that is all there is; it may lie in an archive.
    """
    found = _found(name)
    return found if found is not None and found.endswith((".py", ".pyc")) else None


def _found(name: str) -> str | None:
    module = sys.modules.get(name)
    if module is not None:
        loaded = getattr(module, "__file__", None)
        return loaded if isinstance(loaded, str) else None
    spec = _spec_of(name)
    return spec.origin if spec is not None and spec.has_location else None


def _spec_of(name: str) -> Any:
    """The spec of a module that is not loaded; None: it is found nowhere."""
    path: Any = None
    spec: Any = None
    parts = name.split(".")
    for at in range(1, len(parts) + 1):
        full = ".".join(parts[:at])
        parent = sys.modules.get(full)
        if parent is not None and at < len(parts):
            path = getattr(parent, "__path__", None)
            if path is None:
                return None
            continue
        try:
            spec = _spec(full, path)
        except Exception:  # noqa: BLE001  a finder may be anybody's
            return None
        if spec is None:
            return None
        path = spec.submodule_search_locations
        if path is None and at < len(parts):
            return None
    return spec


def _spec(name: str, path: Any) -> Any:
    for finder in sys.meta_path:
        find = getattr(finder, "find_spec", None)
        spec = find(name, path) if find is not None else None
        if spec is not None:
            return spec
    return PathFinder.find_spec(name, path)


_Read = tuple[Any, list[Import]]


def _read(name: str, file: str) -> _Read | None:
    """What stands for a module: the digest of its normalised source, or of its byte code; and what it
    imports.
    """
    module = sys.modules.get(name)
    if module is not None and file.endswith(".py") and not is_current(vars(module)):
        return token(vars(module)), []  # what was loaded is gone, with all that it imported
    now = stamp(file)
    if now is not None and file.endswith(".py"):
        return _of_file(file, now)
    spec: Any = _spec_of(name) if module is None else module.__spec__
    try:
        text = spec.loader.get_source(spec.name) if spec is not None else None
    except Exception:  # noqa: BLE001  a loader may be anybody's
        text = None
    if text is not None:
        return _of_text(text)
    code = None if spec is None else code_of(spec)
    return None if code is None else _of_code(code)


@lru_cache(maxsize=512)
def _of_file(file: str, stamp: Any) -> _Read | None:
    try:
        return _of_text(Path(file).read_bytes())
    except OSError:
        return None


def _of_text(text: str | bytes) -> _Read | None:
    try:
        tree = ast.parse(text)
        texts = [normal(node, lambda _: False) for node in tree.body if not _is_text(node)]
    except (SyntaxError, ValueError, RecursionError):
        return None
    hasher = blake3()
    for found in texts:
        hasher.update(repr((found.text, found.chains)).encode())
    return hasher.digest(), [item for found in texts for item in found.imports]


def _of_code(code: CodeType) -> _Read:
    found = compiled(code)
    return found.text, list(found.imports)


def _is_package(file: str) -> bool:
    return file.endswith(("__init__.py", "__init__.pyc"))


class _Stamps(dict[str, Any]):
    """What tells whether a file is as it was, as a namespace: the same object if it is."""

    def get(self, file: str, default: Any = None) -> Any:
        now, was = stamp(file), super().get(file)
        if was is not None and was[0] == now:
            return was
        self[file] = found = (now,)
        return found


STAMPS = _Stamps()


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
