"""The names of classes and functions, the same in every process that runs the same code.

A module of a project is named by where its file lies in the project, so that a script has the name
under which others import it, in every checkout and in every worker.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import FunctionType
from typing import Any, TypeVar


class Refused(Exception):  # noqa: N818  becomes an Undigestible once the path is known
    """Raised for a value without an identity; the text says why and what to do."""


# `Py_TPFLAGS_HEAPTYPE`: the class was made at run time, by Python or by a C module's spec.
HEAP = 1 << 9

# What `__name__` is in a script: run by Python, by a worker of multiprocessing, by `runpy`.
RUN = frozenset({"__main__", "__mp_main__", "<run_path>"})

# Modules that a release renamed, and the name that stands for them in digests: `pathlib`'s moved in Python
# 3.13, and digests made before this library was called wellkept hold the name of `wellkept.File`.
_MOVED = {"pathlib._local": "pathlib", "pathlib._abc": "pathlib", "wellkept": "kept"}

# What stands at the top of a project.
_ROOTS = ("pyproject.toml", "setup.py", ".git", "wellkept.toml")

_INSTALLED = ("site-packages", "dist-packages")
_STDLIB = os.path.realpath(os.path.dirname(os.__file__)) + os.sep  # noqa: PTH120  before any Path is needed

K = TypeVar("K")
V = TypeVar("V")


class Bounded(dict[K, V]):
    """A bounded cache of a process: it is cleared when it has too many entries.

    A program that makes classes, functions or files without end must not fill memory.
    """

    def __init__(self, most: int) -> None:
        super().__init__()
        self._most = most

    def __setitem__(self, key: K, value: V) -> None:
        if len(self) >= self._most:
            self.clear()
        super().__setitem__(key, value)


_MOST = 10_000
_outside: Bounded[str, bool] = Bounded(_MOST)
_tops: dict[str, str | None] = {}
_files: Bounded[tuple[str, str], str] = Bounded(_MOST)
_modules: Bounded[tuple[str, str], str] = Bounded(_MOST)
_scripts: list[dict[str, Any]] = []
_FEW = 8
_arrived = ""


def installed(file: str) -> bool:
    """Return whether a file is the standard library's, or was installed by a package manager."""
    found = _outside.get(file)
    if found is None:
        real = os.path.realpath(file)
        parts = {*Path(file).parts, *Path(real).parts}
        found = real.startswith(_STDLIB) or not parts.isdisjoint(_INSTALLED)
        _outside[file] = found
    return found


def type_key(kind: type) -> str:
    """`module.qualname`, as the tables of reducers are keyed."""
    module = getattr(kind, "__module__", None)
    return f"{_MOVED.get(module, module) if isinstance(module, str) else ''}.{kind.__qualname__}"


# -- files ----------------------------------------------------------------------------------------


def _top(directory: str) -> str | None:
    """Return the nearest directory from this one upwards that is the top of a project, or None."""
    if directory not in _tops:
        above = os.path.dirname(directory)  # noqa: PTH120  many levels, and before any Path is needed
        if os.path.basename(directory) in _INSTALLED:  # noqa: PTH119  as above
            # What is installed has no project, though its environment may lie in one.
            _tops[directory] = None
        elif any(os.path.exists(os.path.join(directory, name)) for name in _ROOTS):  # noqa: PTH110, PTH118  as above
            _tops[directory] = directory
        else:
            _tops[directory] = None if above == directory else _top(above)
    return _tops[directory]


def _dotted(file: Path) -> str:
    """Return the name under which other modules of the project import a file.

    What lies in a package is named from the outermost package. Anything else is named from the top
    of the project (where `src` does not count), or, in none, by itself.
    """
    top = _top(str(file.parent))
    parts = [] if file.stem == "__init__" else [file.stem]
    package = file.parent
    while str(package) != top and (package / "__init__.py").exists():
        parts.insert(0, package.name)
        package = package.parent
    if package == file.parent and top is not None:
        above = file.parent.relative_to(top).parts
        parts = [*(above[1:] if above[:1] == ("src",) else above), *parts]
    return ".".join(parts) or file.parent.name


def _notebook() -> str:
    """Return what stands for a notebook or a prompt: the notebook's file, where that is known.

    The names of the files that cells are compiled from hold a process number, or are none at all.
    """
    main = vars(sys.modules.get("__main__", sys))
    for name in (main.get("__vsc_ipynb_file__"), main.get("__session__"), _session()):
        if isinstance(name, str) and name.endswith(".ipynb"):
            file = Path(name)
            # The path is relative to what the server shows, and we run beside the notebook.
            if not file.is_absolute():
                file = Path.cwd() / file.name
            top = _top(str(file.parent))
            return str(file) if top is None else file.relative_to(top).as_posix()
    return str(Path.cwd() / "notebook")


def _session() -> str | None:
    # What a notebook starts has the variable too.
    return os.environ.get("JPY_SESSION_NAME") if "IPython" in sys.modules else None


def _real(file: object) -> str | None:
    """Return the real path of a script; None of what is no file, such as a cell of a notebook."""
    if not isinstance(file, str) or "ipykernel_" in file or file.startswith("<"):
        return None
    try:
        real = os.path.realpath(file, strict=True)
    except OSError:
        return None
    return real if os.path.isfile(real) else None  # noqa: PTH113  before any Path is needed


def script_of(file: object) -> str:
    """Return what stands for `__main__`: the name that importing the script would give its module.

    For a notebook or a prompt it is the notebook's path in the project; where that is not known, the
    directory and "notebook".
    """
    key = (file, "" if os.path.isabs(file) else _cwd()) if isinstance(file, str) else None  # noqa: PTH117  as above
    if key is not None and key in _files:
        return _files[key]
    real = _real(file)
    if real is None:
        return _notebook()
    name = _dotted(Path(real))
    if _top(os.path.dirname(real)) is None:  # noqa: PTH120  as above
        # `python -m package.script` says more than the file does.
        spec = getattr(sys.modules.get("__main__"), "__spec__", None)
        if spec is not None and spec.origin and _real(spec.origin) == real:
            name = spec.name
    if key is not None:
        _files[key] = name
    return name


def _cwd() -> str:
    try:
        return os.getcwd()  # noqa: PTH109  as above
    except OSError:
        return ""


# -- modules --------------------------------------------------------------------------------------


def module_file(name: object) -> str | None:
    """Return the file of a module that is loaded; None if it has none."""
    module = sys.modules.get(name) if isinstance(name, str) else None
    file = getattr(module, "__file__", None)
    return file if isinstance(file, str) else None


def module_of(module: object, file: object = None) -> str:
    """Return the name of a module: of the project's, where its file lies; of others, `__name__`.

    Args:
        module: what `__module__` says.
        file: the file that the code comes from, where it is known.
    """
    if not isinstance(module, str):
        return ""
    if module in RUN:
        if file is None or (isinstance(file, str) and file.startswith(("<string>", "<attrs"))):
            # What code made has no file.
            file = getattr(sys.modules.get(module), "__file__", None)
        return script_of(file)
    loaded = getattr(sys.modules.get(module), "__file__", None)
    if not isinstance(loaded, str):
        return _MOVED.get(module, module)
    key = module, loaded
    name = _modules.get(key)
    if name is None:
        name = _imported(module, loaded)
        name = _modules[key] = _MOVED.get(name, name)
    return name


def _imported(module: str, file: str) -> str:
    if installed(file):
        return module
    real = _real(file)
    if real is None or _top(os.path.dirname(real)) is None:  # noqa: PTH120  as above
        return module
    name = _dotted(Path(real))
    # Who loads a file under a name of his own means another module.
    return name if name.rpartition(".")[2] == module.rpartition(".")[2] else module


def placed(name: str, function: Any) -> str:
    """Return the name of a function whose code does not count: scripts are told apart by more.

    Many projects have a `main.py`, and nothing but the name would tell their functions apart. So a
    script's project stands before it, or, where there is none, its directory.
    """
    code = getattr(function, "__code__", None)
    real = _real(getattr(code, "co_filename", None))
    if getattr(function, "__module__", None) not in RUN or real is None:
        return name
    top = _top(os.path.dirname(real))  # noqa: PTH120  as above
    return f"{os.path.dirname(real) if top is None else _project(Path(top))}/{name}"  # noqa: PTH120  as above


def _project(top: Path) -> str:
    """Return what a project is called: as its `pyproject.toml` says, or as its directory."""
    # Loaded on first use: only scripts without code in their keys need it.
    import tomllib

    try:
        told = tomllib.loads((top / "pyproject.toml").read_text("utf-8"))["project"]["name"]
    except (OSError, ValueError, KeyError, TypeError):
        return top.name
    return told if isinstance(told, str) else top.name


# -- classes --------------------------------------------------------------------------------------

_LIBRARIES = frozenset(
    {"dask", "numpy", "pandas", "polars", "pyarrow", "scipy", "torch", "xarray", "zarr"}
)


def library_name(kind: type) -> str:
    """Return `library:qualname` for a library's own class, whose module may move between releases.

    Only where the tag says what kind of object it is; two classes of one name in two modules of a
    library would else be one.
    """
    library = kind.__module__.partition(".")[0]
    return f"{library}:{kind.__qualname__}" if library in _LIBRARIES else class_name(kind)


def arrive(main: str) -> None:
    """Note the script that sent functions to this process: the meaning of `__main__` in them."""
    global _arrived
    _arrived = main


def meet(space: dict[str, Any]) -> None:
    """Note the globals of a script, which `runpy` does not always leave in `sys.modules`."""
    if not any(space is each for each in _scripts) and "__file__" in space:
        del _scripts[: -_FEW + 1]
        _scripts.append(space)


def _in(space: dict[str, Any], kind: Any) -> bool:
    first, *rest = kind.__qualname__.split(".")
    found = space.get(first)
    for part in rest:
        found = getattr(found, part, None)
    return found is kind or getattr(found, "__wrapped__", None) is kind


def is_own(kind: Any) -> bool:
    """Return whether a class or function of `__main__` is what this process's own script defines."""
    return _in(vars(sys.modules.get("__main__", sys)), kind)


def class_file(kind: Any) -> str | None:
    """Return the file of the script that defined a class; None if it is not known."""
    for space in (vars(sys.modules.get("__main__", sys)), *_scripts):
        if _in(space, kind):
            file = space.get("__file__")
            return file if isinstance(file, str) else None
    for item in vars(kind).values():
        inner = getattr(item, "__func__", item)
        if type(inner) is FunctionType and inner.__module__ == kind.__module__:
            file = inner.__code__.co_filename
            if not file.startswith("<"):
                return file
    return None


def script_or_module(item: Any, file: str | None) -> str:
    """Return the name of the module of a function or class.

    Args:
        file: where it is defined, if that is known. It need not be here, if the item was sent to us.
    """
    if _arrived and item.__module__ in RUN and _real(file) is None and not is_own(item):
        return _arrived
    return module_of(item.__module__, file)


def class_name(kind: Any) -> str:
    """Return `module:qualname` of a class."""
    module = getattr(kind, "__module__", None)
    if module not in RUN:
        return f"{module_of(module)}:{kind.__qualname__}"
    return f"{script_or_module(kind, class_file(kind))}:{kind.__qualname__}"
