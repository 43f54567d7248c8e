"""obstore, in whichever process asks.

Its native part has threads that a forked child lacks, and a call there would wait for them forever.
A child therefore loads a copy of the native library, which begins with nothing started.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.machinery
import importlib.util
import os
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from wellkept.errors import ConfigError
from wellkept.interrupts import undisturbed

__all__ = ["driver"]

_NATIVE = "obstore._obstore"

_lock = threading.Lock()
_loaded: Any = None
_inherited = False
_library = ""  # the installed file; a copy's `__file__` is gone by the time it is copied again


def driver() -> Any:
    """The package `obstore`, usable in this process.

    Raises:
        ConfigError: it is not installed.
    """
    if _loaded is None:
        undisturbed(_load)
    return _loaded


def _load() -> None:
    global _loaded, _library
    with _lock:
        if _loaded is not None:
            return
        try:
            with _copied(_library) if _inherited else contextlib.nullcontext():
                loaded = importlib.import_module("obstore")
                importlib.import_module("obstore.store")
                importlib.import_module("obstore.exceptions")
        except ImportError as error:
            raise ConfigError("object stores need obstore: pip install 'wellkept[s3]'") from error
        _library = _library or str(sys.modules[_NATIVE].__file__)
        _loaded = loaded


@contextlib.contextmanager
def _copied(library: str) -> Iterator[None]:
    """Within it, importing obstore gives it anew, with a native library of its own."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "obstore"]:
        del sys.modules[name]
    content = Path(library).read_bytes()
    with _file(content) as path:
        finder = _Finder(path)
        sys.meta_path.insert(0, finder)
        try:
            yield
        finally:
            sys.meta_path.remove(finder)


class _Finder:
    def __init__(self, path: str) -> None:
        self._path = path

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: Any = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name != _NATIVE:
            return None
        loader = importlib.machinery.ExtensionFileLoader(name, self._path)
        return importlib.util.spec_from_file_location(name, self._path, loader=loader)


@contextlib.contextmanager
def _file(content: bytes) -> Iterator[str]:
    """A file to load from: another one than the parent's, or the loader would give its library."""
    with contextlib.ExitStack() as stack:
        try:
            fd = os.memfd_create("obstore")
            stack.callback(os.close, fd)
            with open(fd, "wb", closefd=False) as file:
                file.write(content)
            # By process number: the dynamic loader knows a library by its path, and a grandchild
            # has its parent's copy under that parent's.
            path = f"/proc/{os.getpid()}/fd/{fd}"
            os.stat(path)  # noqa: PTH116  a descriptor, not a path of anybody's
        except (AttributeError, OSError):
            made = stack.enter_context(tempfile.NamedTemporaryFile(suffix=".so"))
            made.write(content)
            made.flush()
            path = made.name
        yield path


def _after_fork() -> None:
    global _lock, _loaded, _inherited
    _lock = threading.Lock()
    if _loaded is not None:
        _loaded, _inherited = None, True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
