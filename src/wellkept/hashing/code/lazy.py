"""Modules whose source counts as a whole: those that functions import when they run, and those in
which something is bound that is not understood. None is imported for it.

Whether a module that is imported later is loaded already differs from process to process, and
importing it to find out could do anything. So all of its file counts, normalised, that of the
project's modules that it imports in turn, and that of the packages that it lies in.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

from blake3 import blake3

from ..loaded import code_of, is_current, stamp, token
from .bytecode import compiled
from .guards import Space
from .modules import Import, Source, of_text, read_source
from .project import Project

__all__ = ["STAMPS", "Imports", "file_of", "source_in"]

_MOST = 200
"""Modules that are normalised; of others the text counts as it is."""

_Waiting = list[tuple[list[Any], Source, str, str]]


class Imports:
    """The modules that count as a whole in one walk, as nodes of its graph.

    Args:
        project: whose modules count.
        told: count docstrings and annotations too.

    Attributes:
        nodes: by name.
        files: those of modules that are not loaded, as they are now.
        tells: at what their code looks, see `Normal.tells`.
    """

    def __init__(self, project: Project, told: bool = False) -> None:
        self._project = project
        self._told = told
        self._names: dict[tuple[Import, str], list[str]] = {}
        self._packages: dict[str, list[Any]] = {}
        self.nodes: dict[str, list[Any]] = {}
        self.files: list[str] = []
        self.tells: set[str] = set()

    def of(self, imports: Iterable[Import], space: Space) -> list[list[Any]]:
        """The nodes of the modules that some code imports.

        Args:
            imports: level, module and name of each.
            space: the globals of the importing module.
        """
        waiting: _Waiting = []
        found = self._of(imports, space.get("__package__") or "", waiting)
        self._settle(waiting)
        return found

    def whole(self, name: str) -> list[Any] | None:
        """The node of a module; None: it has no source."""
        waiting: _Waiting = []
        found = self._node(name, waiting)
        self._settle(waiting)
        return self.nodes[name] if found else None

    def package(self, space: Space) -> list[Any]:
        """All modules of the package that a module lies in, or of the directory of a script."""
        name, file = str(space.get("__name__")), space.get("__file__")
        if not isinstance(file, str):
            return ["package"]
        directory = Path(file).parent
        top = "" if name in ("__main__", "__mp_main__") else name.partition(".")[0]
        ups = name.count(".") - (0 if file.endswith("__init__.py") else 1)
        single = not top or (ups < 0 and not file.endswith("__init__.py"))
        if not single:
            for _ in range(max(ups, 0)):
                directory = directory.parent
        key = str(directory)
        node = self._packages.get(key)
        if node is not None:
            return node
        node = self._packages[key] = ["package"]
        files = sorted(directory.glob("*.py") if single else directory.rglob("*.py"))
        for at, each in enumerate(files):
            parts = list(each.relative_to(directory).with_suffix("").parts)
            if parts[-1] == "__init__":
                parts.pop()
            full = ".".join(parts if single else (top, *parts))
            if at < _MOST:
                waiting: _Waiting = []
                if self._node(full, waiting, str(each)):
                    self._settle(waiting)
                    node.append(self.nodes[full])
                    continue
            try:
                node.append(blake3(each.read_bytes()).digest())
            except OSError:
                continue
        return node

    def _settle(self, waiting: _Waiting) -> None:
        while waiting:
            node, source, full, file = waiting.pop()
            inside = full if _is_package(file) else full.rpartition(".")[0]
            node += self._of(source.imports, inside, waiting)
            if "import" in source.tells:
                node.append(self.package({"__name__": full, "__file__": file}))

    def _of(self, imports: Iterable[Import], package: str, waiting: _Waiting) -> list[list[Any]]:
        names: set[str] = set()
        for item in imports:
            key = item, package
            if key not in self._names:
                self._names[key] = self._resolved(item, package, waiting)
            names.update(self._names[key])
        return [self.nodes[name] for name in sorted(names)]

    def _resolved(self, item: Import, package: str, waiting: _Waiting) -> list[str]:
        """The module that is imported, and the packages that are loaded on the way."""
        for full in _candidates(*item, package):
            if not self._node(full, waiting):
                continue
            names = [full]
            parts = full.split(".")
            for at in range(1, len(parts)):
                above = ".".join(parts[:at])
                shared = f"{package}.".startswith(f"{above}.")
                # A package around both is loaded in any case; what it sets in others counts.
                names += self._patching(above) if shared else [above] * self._node(above, waiting)
            return names
        return []

    def _patching(self, name: str) -> list[str]:
        """Of a package and what it imports: the modules that set attributes when they are loaded."""
        found, seen, queue = [], {name}, [name]
        while queue:
            each = queue.pop()
            file = file_of(each)
            source = _source(each, file) if file and self._project.owns(each, file) else None
            if source is None or file is None:
                continue
            if source.patches:
                waiting: _Waiting = []
                if self._node(each, waiting):
                    self._settle(waiting)
                    found.append(each)
            inside = each if _is_package(file) else each.rpartition(".")[0]
            for item in source.imports:
                for full in _candidates(*item, inside):
                    if full not in seen and f"{full}.".startswith(f"{name}."):
                        seen.add(full)
                        queue.append(full)
        return found

    def _node(self, full: str, waiting: _Waiting, file: str | None = None) -> bool:
        """Whether a module is one of the project's, with source; its node is then in `nodes`."""
        if full in self.nodes:
            return True
        file = file or file_of(full)
        if file is None or not self._project.owns(full, file):
            return False
        source = _source(full, file, len(self.nodes) >= _MOST)
        if source is None:
            return False
        if full not in sys.modules:
            self.files.append(file)  # it is read when it is imported
        node = self.nodes[full] = ["source", source.digest]
        if self._told:
            node.append(source.told)
        self.tells |= source.tells
        waiting.append((node, source, full, file))
        return True


def source_in(space: Space) -> Source | None:
    """The source of a module that is loaded, if it is surely what was loaded."""
    file = space.get("__file__")
    if not isinstance(file, str) or not file.endswith(".py") or not is_current(space):
        return None
    now = stamp(file)
    return None if now is None else read_source(file, now)


def _source(name: str, file: str, plain: bool = False) -> Source | None:
    """What stands for a module: its source, or its byte code.

    Args:
        plain: its text as it is, as too many are normalised already.
    """
    module = sys.modules.get(name)
    if module is not None and file.endswith(".py") and not is_current(vars(module)):
        # What was loaded is gone, with all that it imported.
        return _unnamed(token(vars(module)))
    now = stamp(file)
    if now is not None and file.endswith(".py"):
        return read_source(file, now, plain)
    spec: Any = _spec_of(name) if module is None else module.__spec__
    try:
        text = spec.loader.get_source(spec.name) if spec is not None else None
    except Exception:  # noqa: BLE001  a loader may be anybody's
        text = None
    if text is not None:
        try:
            return of_text(text)
        except (SyntaxError, ValueError, RecursionError):
            return None
    code = None if spec is None else code_of(spec)
    if code is None:
        return None
    found = compiled(code)
    return _unnamed(found.text)._replace(imports=found.imports, tells=found.tells)


def _unnamed(digest: str) -> Source:
    nothing: frozenset[str] = frozenset()
    return Source(digest.encode(), b"", (), nothing, (), (), False, {})


def _is_package(file: str) -> bool:
    return file.endswith(("__init__.py", "__init__.pyc"))


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


class _Stamps(dict[str, Any]):
    """What tells whether a file is as it was, as a namespace: the same object if it is."""

    def get(self, file: str, default: Any = None) -> Any:
        now, was = stamp(file), super().get(file)
        if was is not None and was[0] == now:
            return was
        self[file] = found = (now,)
        return found


STAMPS = _Stamps()
