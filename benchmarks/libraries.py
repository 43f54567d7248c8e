"""kept and its peers behind one face: open a directory, keep a function, close.

Each stands in its fastest configuration that still does what its row says: on disk for other
processes too, or with a memory tier.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Protocol

Function = Callable[..., Any]


class Session(Protocol):
    """One library, opened on one directory."""

    def keep(self, function: Function) -> Function: ...
    def enter(self) -> None:
        """Make this session the one its functions use; called before each timing, not in it."""

    def close(self) -> None: ...


class _Session:
    def enter(self) -> None: ...
    def close(self) -> None: ...


class Kept(_Session):
    def __init__(self, directory: Path, configuration: str) -> None:
        import wellkept

        # kept warns and goes on where it can't keep; here that is a failure, with its cause.
        warnings.simplefilter("error", wellkept.KeptWarning)
        self._keep = wellkept.keep
        scheme, _, codec = configuration.partition(" ")
        self._codec = codec or "pickle"
        where = url_of(scheme, directory) if scheme.endswith(":") else directory
        # On disk for other processes too; a medium is opened as everybody does.
        memory = 0 if configuration == "disk" else "256 MB"
        self._cache = wellkept.open(where, memory=memory)

    def keep(self, function: Function) -> Function:
        # The counter that tells that a body ran is no part of the program: no other looks at it either.
        keep = self._keep(cache=self._cache, codec=self._codec, ignore_globals="OUTSIDE")
        return keep(function)

    def close(self) -> None:
        self._cache.close()


def url_of(scheme: str, directory: Path) -> str:
    """A store of this scheme in the directory."""
    names = {"memory:": "", "sqlite:": f"///{directory}/calls.db", "hdf5:": f"{directory}/results"}
    return scheme + names.get(scheme, f"{directory}/calls")


class Joblib(_Session):
    def __init__(self, directory: Path, configuration: str) -> None:
        from joblib import Memory

        mmap_mode = "r" if configuration == "mmap" else None
        self._memory = Memory(directory, mmap_mode=mmap_mode, verbose=0)

    def keep(self, function: Function) -> Function:
        return self._memory.cache(function)


class DiskCache(_Session):
    def __init__(self, directory: Path, configuration: str) -> None:
        from diskcache import Cache

        # The default limit of 1 GB would evict what the rows of 100 MB have kept.
        self._cache = Cache(str(directory), size_limit=2**40)

    def keep(self, function: Function) -> Function:
        return self._cache.memoize()(function)

    def close(self) -> None:
        self._cache.close()


class Cachier(_Session):
    def __init__(self, directory: Path, configuration: str) -> None:
        from cachier import cachier

        if configuration == "memory":
            self._cachier = cachier(backend="memory")
        else:  # a file an entry: one file for all is written anew with every miss
            self._cachier = cachier(backend="pickle", cache_dir=directory, separate_files=True)

    def keep(self, function: Function) -> Function:
        return self._cachier(function)


class Fleche(_Session):
    def __init__(self, directory: Path, configuration: str) -> None:
        import fleche
        from fleche.caches import BaseCache

        self._fleche = fleche
        self._cache = BaseCache.from_config(
            {
                "sql": {"template": "sql", "root": str(directory), "values": "pickle"},
                "file": {"template": "pickle", "root": str(directory)},
                "cloudpickle": {"template": "cloudpickle", "root": str(directory)},
                "dill": {"template": "dill", "root": str(directory)},
                "hdf5": {"template": "bagofholding_hdf", "root": str(directory)},
                "memory": {"template": "memory"},
            }[configuration]
        )

    def keep(self, function: Function) -> Function:
        return self._fleche.fleche(function)

    def enter(self) -> None:
        self._fleche.cache(self._cache)

    def close(self) -> None:
        engine = getattr(getattr(self._cache, "calls", None), "engine", None)
        if engine is not None:
            engine.dispose()


class Cachau(_Session):
    def __init__(self, directory: Path, configuration: str) -> None:
        from cachau import cache
        from cachau.memory import MemoryBackend

        if configuration == "memory":
            self._decorator = cache(backend=MemoryBackend())
        else:
            self._decorator = cache(persist=directory)

    def keep(self, function: Function) -> Function:
        return self._decorator(function)


# The name of an entrant -> the library (and distribution), its adapter, its configuration.
ENTRANTS: dict[str, tuple[str, Callable[[Path, str], Session], str]] = {
    "wellkept": ("wellkept", Kept, "disk"),
    "wellkept memory": ("wellkept", Kept, "memory"),
    "wellkept memory:": ("wellkept", Kept, "memory:"),
    "wellkept files:": ("wellkept", Kept, "files:"),
    "wellkept files: cloudpickle": ("wellkept", Kept, "files: cloudpickle"),
    "wellkept files: dill": ("wellkept", Kept, "files: dill"),
    "wellkept hdf5:": ("wellkept", Kept, "hdf5:"),
    "wellkept sqlite:": ("wellkept", Kept, "sqlite:"),
    "joblib": ("joblib", Joblib, "disk"),
    "joblib mmap": ("joblib", Joblib, "mmap"),
    "diskcache": ("diskcache", DiskCache, "disk"),
    "cachier": ("cachier", Cachier, "disk"),
    "cachier memory": ("cachier", Cachier, "memory"),
    "fleche SQL": ("fleche", Fleche, "sql"),
    "fleche file": ("fleche", Fleche, "file"),
    "fleche memory": ("fleche", Fleche, "memory"),
    "fleche cloudpickle": ("fleche", Fleche, "cloudpickle"),
    "fleche dill": ("fleche", Fleche, "dill"),
    "fleche HDF5": ("fleche", Fleche, "hdf5"),
    "cachau": ("cachau", Cachau, "disk"),
    "cachau memory": ("cachau", Cachau, "memory"),
}
ON_DISK = ("wellkept", "joblib", "diskcache", "cachier", "fleche SQL", "fleche file", "cachau")

# What a program writes to get the decorator; the import row times these lines.
IMPORTS = {
    "wellkept": "from wellkept import keep",
    "joblib": "from joblib import Memory",
    "diskcache": "from diskcache import Cache",
    "cachier": "from cachier import cachier",
    "fleche": "from fleche import fleche",
    "cachau": "from cachau import cache",
}


def open_session(entrant: str, directory: Path) -> Session:
    """Open a library on a directory and make it the active one."""
    library, adapter, configuration = ENTRANTS[entrant]
    import_module(library)
    session = adapter(directory, configuration)
    session.enter()
    return session


def versions() -> dict[str, str]:
    """The versions of everything that a number here depends on."""
    found = {}
    for name in (*IMPORTS, "blake3", "numpy", "pandas", "pyarrow", "sqlalchemy"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found
