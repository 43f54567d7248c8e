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
from typing import Any

from blake3 import blake3

from .guards import Space
from .normal import normal
from .project import Project

__all__ = ["Imports", "file_of"]

Import = tuple[int, str, str]


class Imports:
    """The modules that the functions of one walk import when they run, as nodes of its graph.

    Args:
        project: whose modules count.

    Attributes:
        nodes: by name.
    """

    def __init__(self, project: Project) -> None:
        self._project = project
        self._names: dict[tuple[Import, str], str | None] = {}
        self.nodes: dict[str, list[Any]] = {}

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
            read = _read(file, Path(file).stat().st_mtime_ns)
            if read is not None:
                node = self.nodes[full] = ["source", full, read[0]]
                inside = full if file.endswith("__init__.py") else full.rpartition(".")[0]
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
    """The source file of a module, which need not be loaded; nothing is imported to find it."""
    loaded = getattr(sys.modules.get(name), "__file__", None)
    if isinstance(loaded, str):
        return loaded if loaded.endswith(".py") else None
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
    origin = spec.origin if spec is not None and spec.has_location else None
    return origin if isinstance(origin, str) and origin.endswith(".py") else None


def _spec(name: str, path: Any) -> Any:
    for finder in sys.meta_path:
        find = getattr(finder, "find_spec", None)
        spec = find(name, path) if find is not None else None
        if spec is not None:
            return spec
    return PathFinder.find_spec(name, path)


@lru_cache(maxsize=512)
def _read(file: str, stamp: int) -> tuple[bytes, list[Import]] | None:
    """The digest of a module's normalised source, and what it imports."""
    try:
        tree = ast.parse(Path(file).read_bytes())
        texts = [normal(node, lambda _: False) for node in tree.body if not _is_text(node)]
    except (OSError, SyntaxError, ValueError, RecursionError):
        return None
    hasher = blake3()
    for text in texts:
        hasher.update(repr((text.text, text.chains)).encode())
    return hasher.digest(), [item for text in texts for item in text.imports]


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
