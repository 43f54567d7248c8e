"""What belongs to the project of a kept function: the code that its identity follows.

A module belongs to it if it is not installed: its file lies neither in the standard library nor in
a `site-packages` or `dist-packages` directory. So scripts, notebooks, modules beside them and
editable installs belong to it. Of an installed package that uses wellkept itself, all modules belong to
the project of its functions; of any other (`keep(pandas.read_csv)`) none do. Built-in, frozen and
extension modules never belong to one, and neither does wellkept.
"""

from __future__ import annotations

import sys
from importlib.machinery import EXTENSION_SUFFIXES
from types import FunctionType, ModuleType
from typing import Any

from ..names import RUN, class_file, installed

__all__ = ["Project", "module_file"]

_OURS = __name__.partition(".")[0]


def module_file(name: object) -> str | None:
    """The file of a module that is loaded; None if it has none."""
    module = sys.modules.get(name) if isinstance(name, str) else None
    file = getattr(module, "__file__", None)
    return file if isinstance(file, str) else None


def _uses_us(space: dict[str, Any]) -> bool:
    """Whether a module has wellkept, or something of it, among its globals."""
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
        self.top = module.partition(".")[0] if isinstance(module, str) else ""
        file = module_file(module)
        if self.top in sys.builtin_module_names:
            self.top = ""
        if file is None or not installed(file):
            return
        if not (_uses_us(vars(sys.modules[module])) if whole is None else whole):
            self.top = ""

    def owns(self, module: object, file: str | None) -> bool:
        """Whether code of this module, in this file, belongs to the project.

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
        """Whether a function belongs to it, wherever its module says that it is from: a wrapper takes
        over the name of the module of what it wraps.
        """
        module, file = function.__globals__.get("__name__"), function.__code__.co_filename
        if module is None:
            module = function.__module__
        if file.startswith("<") and not file.startswith("<frozen") and module in (None, "builtins"):
            return True  # made by `exec` in a namespace without a name
        if not isinstance(module, str):  # made for a namespace of its own
            return not installed(file)
        return self.owns(module, file)

    def owns_module(self, module: ModuleType) -> bool:
        """Whether a module belongs to it."""
        return self.owns(module.__name__, getattr(module, "__file__", None))

    def owns_space(self, space: dict[Any, Any]) -> bool:
        """Whether a dict is the namespace of one of its modules, and so no data."""
        name = space.get("__name__") if "__spec__" in space else None
        module = sys.modules.get(name) if isinstance(name, str) else None
        return type(module) is ModuleType and vars(module) is space and self.owns_module(module)

    def owns_class(self, kind: type[Any]) -> bool:
        """Whether a class was defined in the project."""
        module = getattr(kind, "__module__", None)
        file = class_file(kind) if module in RUN else module_file(module)
        return self.owns(module, file) or _is_made(kind, module)


_MAKERS = frozenset({"attr", "attrs", "pydantic", *sys.stdlib_module_names})


def _is_made(kind: type[Any], module: object) -> bool:
    """Whether a class that says that it is a library's was made by one of its functions."""
    if not kind.__flags__ & (1 << 9) or not isinstance(module, str):
        return False
    if not {"__dict__", "__slots__", "__weakref__"} & vars(kind).keys():  # an extension module's
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
