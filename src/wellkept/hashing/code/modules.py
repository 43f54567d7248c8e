"""Which modules belong to the project of a kept function, and modules whose source counts as a whole.

A module belongs to it if it is not installed: its file lies neither in the standard library nor in
a `site-packages` or `dist-packages` directory. So scripts, notebooks, modules beside them and
editable installs belong to it. Of an installed package that uses wellkept itself, all modules belong to
the project of its functions; of any other (`keep(pandas.read_csv)`) none do. Built-in, frozen and
extension modules never belong to one, and neither does wellkept.

Those that functions import when they run count as a whole, and those in which something is bound that is
not understood. None is imported for it: whether a module that is imported later is loaded already differs
from process to process, and importing it to find out could do anything. So all of its file counts,
normalised, that of the project's modules that it imports in turn, and that of the packages that it lies in.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterable, Iterator
from functools import lru_cache
from importlib.machinery import EXTENSION_SUFFIXES, PathFinder
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any, NamedTuple

from blake3 import blake3

from wellkept.hashing.code.definitions import compiled, is_literal, normal
from wellkept.hashing.code.normalize import Chain
from wellkept.hashing.loaded import Space, code_of, is_current, stamp, token
from wellkept.hashing.names import RUN, class_file, installed, module_file
from wellkept.hashing.source import dump

_OURS = __name__.partition(".")[0]


def _uses_us(space: dict[str, Any]) -> bool:
    """Return whether a module has wellkept, or something of it, among its globals."""
    for value in space.values():
        of = value.__name__ if type(value) is ModuleType else getattr(value, "__module__", None)
        if isinstance(of, str) and of.partition(".")[0] == _OURS:
            return True
    return False


class Project:
    """The project of one kept function.

    Args:
        function: the function.
        whole: follow its top-level package even if that is installed; None: if the function's
            module uses wellkept.

    Attributes:
        top: the top-level package that belongs to it wherever it lies; "" for none.
    """

    def __init__(self, function: Any = None, whole: bool | None = None) -> None:
        module: Any = getattr(function, "__module__", None)
        self.top: str = module.partition(".")[0] if isinstance(module, str) else ""
        file = module_file(module)
        if self.top in sys.builtin_module_names:
            self.top = ""
        if file is None or not installed(file):
            return
        if not (_uses_us(vars(sys.modules[module])) if whole is None else whole):
            self.top = ""

    def owns(self, module: object, file: str | None) -> bool:
        """Return whether code of this module, in this file, belongs to the project.

        Args:
            file: where the code was compiled from, or the module's file; None: it has none.
        """
        if not isinstance(module, str):
            return False
        top = module.partition(".")[0]
        if top == _OURS and not module.startswith(f"{_OURS}.examples"):
            return False
        if file is None or file.startswith("<"):
            # A prompt, `exec`, a method that `dataclasses` made: the module says more.
            if top in RUN or top == self.top:
                return not (file or "").startswith("<frozen")
            file = module_file(module)
            if file is None:
                return module not in sys.builtin_module_names and top not in sys.stdlib_module_names
        if file.endswith(tuple(EXTENSION_SUFFIXES)):
            return False
        return (top == self.top and bool(top)) or not installed(file)

    def owns_function(self, function: FunctionType) -> bool:
        """Return whether a function belongs to it, wherever its module says that it is from: a wrapper takes
        over the name of the module of what it wraps.
        """
        module, file = function.__globals__.get("__name__"), function.__code__.co_filename
        if module is None:
            module = function.__module__
        if file.startswith("<") and not file.startswith("<frozen") and module in (None, "builtins"):
            # It was made by `exec` in a namespace without a name.
            return True
        # It was made for a namespace of its own.
        if not isinstance(module, str):
            return not installed(file)
        return self.owns(module, file)

    def owns_module(self, module: ModuleType) -> bool:
        """Return whether a module belongs to it."""
        return self.owns(module.__name__, getattr(module, "__file__", None))

    def owns_space(self, space: dict[Any, Any]) -> bool:
        """Return whether a dict is the namespace of one of its modules, and so no data."""
        name = space.get("__name__") if "__spec__" in space else None
        module = sys.modules.get(name) if isinstance(name, str) else None
        return type(module) is ModuleType and vars(module) is space and self.owns_module(module)

    def owns_class(self, kind: type[Any]) -> bool:
        """Return whether a class was defined in the project."""
        module = getattr(kind, "__module__", None)
        file = class_file(kind) if module in RUN else module_file(module)
        return self.owns(module, file) or _is_made(kind, module)


_MAKERS = frozenset({"attr", "attrs", "pydantic", *sys.stdlib_module_names})


def _is_made(kind: type[Any], module: object) -> bool:
    """Return whether a class that says that it is a library's was made by one of its functions."""
    if not kind.__flags__ & (1 << 9) or not isinstance(module, str):
        return False
    # A class without any of these is an extension module's.
    if not {"__dict__", "__slots__", "__weakref__"} & vars(kind).keys():
        return False
    found: Any = sys.modules.get(module)
    if found is None or module.partition(".")[0] not in _MAKERS or "<locals>" in kind.__qualname__:
        return False
    for name in kind.__qualname__.split("."):
        found = vars(found).get(name) if hasattr(found, "__dict__") else None
    return (
        found is None
        and not any(kind is each for each in vars(sys.modules[module]).values())
        and "__module__" in vars(kind)
    )


Import = tuple[int, str, str]


class Source(NamedTuple):
    """The source of one module."""

    # Of all its statements, without docstrings, annotations and what runs only in a script.
    digest: bytes
    # Of docstrings and annotations.
    told: bytes
    imports: tuple[Import, ...]
    tells: frozenset[str]
    # What its own statements call, decorate or derive with, or change.
    effects: tuple[Chain, ...]
    # The same of what runs only in a script.
    scripted: tuple[Chain, ...]
    # Whether it sets attributes of something when it is loaded.
    patches: bool
    # Names that are bound once, to what their text says alone, and not used when it is loaded.
    literals: dict[str, str]


@lru_cache(maxsize=4096)
def read_source(file: str, stamp: Any, plain: bool = False) -> Source | None:
    """Return a module's source; None: it can't be read.

    Args:
        stamp: what changes with the file.
        plain: take the text as it is, which is faster.
    """
    try:
        text = Path(file).read_bytes()
        return _as_it_is(text) if plain else of_text(text)
    except (OSError, SyntaxError, ValueError, RecursionError):
        return None


def of_text(text: bytes | str) -> Source:
    """Return the same of a text.

    Raises:
        SyntaxError, ValueError, RecursionError: it can't be parsed.
    """
    tree = ast.parse(text)
    ours = _ours(tree)
    hasher, told = blake3(), blake3()
    imports: list[Import] = []
    tells: set[str] = set()
    effects: dict[Chain, None] = {}
    scripted: dict[Chain, None] = {}
    patches = False
    for node in tree.body:
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            told.update(repr(node.value.value).encode())
            continue
        found = normal(node, ours, early=True)
        main = isinstance(node, ast.If) and "__name__" in (name for name, *_ in found.chains)
        if not main:
            hasher.update(repr((found.text, found.chains)).encode())
        told.update(repr((found.docs, found.hints, found.noted)).encode())
        imports += found.imports
        tells |= found.tells
        patches = patches or any(map(_sets_attribute, _direct(node)))
        if _acts(node):
            (scripted if main else effects).update(dict.fromkeys(found.early))
    return Source(
        hasher.digest(),
        told.digest(),
        tuple(dict.fromkeys(imports)),
        frozenset(tells),
        tuple(effects),
        tuple(scripted),
        patches,
        _literals(tree),
    )


def _as_it_is(text: bytes) -> Source:
    imports: list[Import] = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom):
            imports += [(node.level, node.module or "", alias.name) for alias in node.names]
        elif isinstance(node, ast.Import):
            imports += [(0, alias.name, "") for alias in node.names]
    digest = blake3(text).digest()
    return Source(digest, b"", tuple(imports), frozenset(), (), (), True, {})


def _ours(tree: ast.Module) -> Any:
    """Tells wellkept's decorators by how a module imports them."""
    names = set()
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "wellkept":
            names |= {alias.asname or alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            names |= {
                alias.asname or "wellkept" for alias in node.names if alias.name == "wellkept"
            }

    def ours(node: ast.expr) -> bool:
        target: Any = node.func if isinstance(node, ast.Call) else node
        while isinstance(target, ast.Attribute):
            target = target.value
        return isinstance(target, ast.Name) and target.id in names

    return ours


def _direct(node: ast.AST) -> Iterator[ast.AST]:
    """What runs with a statement: not the bodies of functions in it."""
    waiting = [node]
    while waiting:
        item = waiting.pop()
        yield item
        if isinstance(item, (ast.FunctionDef, ast.AsyncFunctionDef)):
            waiting += [*item.decorator_list, *item.args.defaults]
        elif not isinstance(item, ast.Lambda):
            waiting += ast.iter_child_nodes(item)


def _sets_attribute(node: ast.AST) -> bool:
    if isinstance(node, ast.Call):
        target: Any = node.func
        return getattr(target, "id", "") in ("setattr", "delattr")
    return isinstance(node, (ast.Attribute, ast.Subscript)) and not isinstance(node.ctx, ast.Load)


def _acts(node: ast.stmt) -> bool:
    """Return whether a statement may do more than bind a name of its module."""
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
        return bool(node.decorator_list)
    return isinstance(node, ast.ClassDef) or any(
        isinstance(item, ast.Call) or _sets_attribute(item) for item in _direct(node)
    )


def _literals(tree: ast.Module) -> dict[str, str]:
    bound: dict[str, list[str | None]] = {}
    used: set[str] = set()
    for node in tree.body:
        value = getattr(node, "value", None)
        targets: list[Any] = getattr(node, "targets", None) or [getattr(node, "target", None)]
        if (
            isinstance(node, (ast.Assign, ast.AnnAssign))
            and value is not None
            and len(targets) == 1
            and isinstance(targets[0], ast.Name)
        ):
            text = dump(value) if is_literal(value) else None
            bound.setdefault(targets[0].id, []).append(text)
            if text is None:
                used |= {item.id for item in _direct(value) if isinstance(item, ast.Name)}
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            used |= {(alias.asname or alias.name).partition(".")[0] for alias in node.names}
        else:
            used |= {item.id for item in _direct(node) if isinstance(item, ast.Name)}
            name = getattr(node, "name", None)
            if isinstance(name, str):
                used.add(name)
    return {
        name: texts[0]
        for name, texts in bound.items()
        if len(texts) == 1 and texts[0] is not None and name not in used
    }


# Modules that are normalised; of others the text counts as it is.
_MOST = 200

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
        """Return the nodes of the modules that some code imports.

        Args:
            imports: level, module and name of each.
            space: the globals of the importing module.
        """
        waiting: _Waiting = []
        found = self._of(imports, space.get("__package__") or "", waiting)
        self._settle(waiting)
        return found

    def whole(self, name: str) -> list[Any] | None:
        """Return the node of a module; None: it has no source."""
        waiting: _Waiting = []
        found = self._node(name, waiting)
        self._settle(waiting)
        return self.nodes[name] if found else None

    def package(self, space: Space) -> list[Any]:
        """Return all modules of the package that a module lies in, or of the directory of a script."""
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
        """Return the module that is imported, and the packages that are loaded on the way."""
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
        """Return whether a module is one of the project's, with source; its node is then in `nodes`."""
        if full in self.nodes:
            return True
        file = file or file_of(full)
        if file is None or not self._project.owns(full, file):
            return False
        source = _source(full, file, len(self.nodes) >= _MOST)
        if source is None:
            return False
        if full not in sys.modules:
            # It is read again when it is imported, so the guards compare its file.
            self.files.append(file)
        node = self.nodes[full] = ["source", source.digest]
        if self._told:
            node.append(source.told)
        self.tells |= source.tells
        waiting.append((node, source, full, file))
        return True


def source_in(space: Space) -> Source | None:
    """Return the source of a module that is loaded, if it is surely what was loaded."""
    file = space.get("__file__")
    if not isinstance(file, str) or not file.endswith(".py") or not is_current(space):
        return None
    now = stamp(file)
    return None if now is None else read_source(file, now)


def _source(name: str, file: str, plain: bool = False) -> Source | None:
    """Return what stands for a module: its source, or its byte code.

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
    """Return the file of a module, which need not be loaded; nothing is imported to find it.

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
    """Return the spec of a module that is not loaded; None: it is found nowhere."""
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
