"""The names of classes and functions, the same in every process that runs the same code."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

__all__ = ["class_name", "library_name", "module_of", "script_of", "type_key"]

_MOVED = {"pathlib._local": "pathlib", "pathlib._abc": "pathlib"}
"""Modules that a Python release renamed, and what they were before and after."""


def type_key(kind: type) -> str:
    """`module.qualname`, as the tables of reducers are keyed."""
    module = getattr(kind, "__module__", None)
    return f"{_MOVED.get(module, module) if isinstance(module, str) else ''}.{kind.__qualname__}"


def script_of(file: object) -> str:
    """What stands for `__main__`: the script's real path, or the directory and "notebook".

    A notebook's or prompt's file name holds a process number or is none at all.
    """
    if isinstance(file, str) and "ipykernel_" not in file and not file.startswith("<"):
        try:
            path = Path(file).resolve(strict=True)
        except OSError:
            pass
        else:
            if path.is_file():
                return str(path)
    return str(Path.cwd() / "notebook")


def module_of(module: object, file: object = None) -> str:
    """A module's name; for `__main__` and `__mp_main__` the script's real path.

    Args:
        module: what `__module__` says.
        file: the file that the code comes from, where it is known.
    """
    if not isinstance(module, str):
        return ""
    if module in ("__main__", "__mp_main__"):
        if file is None:
            file = getattr(sys.modules.get(module), "__file__", None)
        return script_of(file)
    return _MOVED.get(module, module)


_LIBRARIES = frozenset({"numpy", "pandas", "polars", "pyarrow", "scipy", "torch", "xarray"})


def library_name(kind: type) -> str:
    """`library:qualname` for a library's own class, whose module may move between releases.

    Only where the tag says what kind of object it is; two classes of one name in two modules of a
    library would else be one.
    """
    library = kind.__module__.partition(".")[0]
    return f"{library}:{kind.__qualname__}" if library in _LIBRARIES else class_name(kind)


def class_name(kind: Any) -> str:
    """`module:qualname` of a class."""
    return f"{module_of(getattr(kind, '__module__', None))}:{kind.__qualname__}"
