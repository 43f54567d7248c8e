"""wellkept keeps what Python code computes.

The parts are imported when they are first named, so that a program that only imports the library does
not wait for it.
"""

from wellkept import _lookups
from wellkept.runs import runs

# As `typing.TYPE_CHECKING`, without an import that takes longer than this module.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from wellkept import kv
    from wellkept.caches import Cache, Pool, Stack, clear, set_cache, use
    from wellkept.caches import active as active_cache
    from wellkept.caches import open_cache as open
    from wellkept.codecs.safe_pickle import register_plain
    from wellkept.errors import (
        AmbiguousDigest,
        ConfigError,
        DamagedValue,
        DecodeError,
        EncodeError,
        KeptError,
        KeptWarning,
        NewerSchema,
        NotKept,
        StoreError,
        Undigestible,
        UntrustedSource,
    )
    from wellkept.hashing import digest, register_digest
    from wellkept.hashing.file_digest import File
    from wellkept.hashing.reducers import constant
    from wellkept.kv import store
    from wellkept.memo import BoundCall, Ignored, Kept, Ordered, Required, Stats, keep
    from wellkept.memo.blocks import block
    from wellkept.memo.depends import env, file, package, token
    from wellkept.memo.executor import executor
    from wellkept.memo.refresh import refresh
    from wellkept.memo.verify import bless, verify
    from wellkept.query import (
        ANY,
        Match,
        Matches,
        above,
        at_least,
        at_most,
        below,
        between,
        like,
        named,
        one_of,
    )
    from wellkept.records import Argument, Call, Digest
    from wellkept.runs.collectors import meta, tags
    from wellkept.runs.graph import Graph
    from wellkept.runs.lineage import lineage
    from wellkept.runs.run import Run, Runs, run
    from wellkept.web.notebook import ui
del TYPE_CHECKING

__version__ = "0.1.0"

__all__ = [
    "ANY",
    "AmbiguousDigest",
    "Argument",
    "BoundCall",
    "Cache",
    "Call",
    "ConfigError",
    "D",
    "DamagedValue",
    "DecodeError",
    "Digest",
    "EncodeError",
    "File",
    "Graph",
    "Ignored",
    "Kept",
    "KeptError",
    "KeptWarning",
    "Match",
    "Matches",
    "NewerSchema",
    "NotKept",
    "Ordered",
    "Pool",
    "Required",
    "Run",
    "Runs",
    "Stack",
    "Stats",
    "StoreError",
    "Undigestible",
    "UntrustedSource",
    "__version__",
    "above",
    "active_cache",
    "at_least",
    "at_most",
    "below",
    "between",
    "bless",
    "block",
    "clear",
    "constant",
    "digest",
    "env",
    "executor",
    "file",
    "keep",
    "kv",
    "like",
    "lineage",
    "meta",
    "named",
    "one_of",
    "open",
    "package",
    "refresh",
    "register_digest",
    "register_plain",
    "run",
    "runs",
    "set_cache",
    "store",
    "tags",
    "token",
    "ui",
    "use",
    "verify",
]

# Before anything else of a program is imported: see `hashing.loaded`.
_lookups.watch()

_ROOMS = {
    "D": "wellkept.caches.active",
    "AmbiguousDigest": "wellkept.errors",
    "Argument": "wellkept.records",
    "BoundCall": "wellkept.memo",
    "Cache": "wellkept.caches",
    "Call": "wellkept.records",
    "ConfigError": "wellkept.errors",
    "DamagedValue": "wellkept.errors",
    "DecodeError": "wellkept.errors",
    "Digest": "wellkept.records",
    "EncodeError": "wellkept.errors",
    "File": "wellkept.hashing.file_digest",
    "Graph": "wellkept.runs.graph",
    "Ignored": "wellkept.memo",
    "Kept": "wellkept.memo",
    "KeptError": "wellkept.errors",
    "KeptWarning": "wellkept.errors",
    "NewerSchema": "wellkept.errors",
    "NotKept": "wellkept.errors",
    "Ordered": "wellkept.memo",
    "Pool": "wellkept.caches",
    "Required": "wellkept.memo",
    "Run": "wellkept.runs.run",
    "Runs": "wellkept.runs.run",
    "Stack": "wellkept.caches",
    "Stats": "wellkept.memo",
    "StoreError": "wellkept.errors",
    "Undigestible": "wellkept.errors",
    "UntrustedSource": "wellkept.errors",
    "bless": "wellkept.memo.verify",
    "block": "wellkept.memo.blocks",
    "clear": "wellkept.caches",
    "constant": "wellkept.hashing.reducers",
    "digest": "wellkept.hashing",
    "env": "wellkept.memo.depends",
    "executor": "wellkept.memo.executor",
    "file": "wellkept.memo.depends",
    "keep": "wellkept.memo",
    "lineage": "wellkept.runs.lineage",
    "load_ipython_extension": "wellkept.integrations.jupyter",
    "meta": "wellkept.runs.collectors",
    "package": "wellkept.memo.depends",
    "refresh": "wellkept.memo.refresh",
    "register_digest": "wellkept.hashing",
    "register_plain": "wellkept.codecs.safe_pickle",
    "run": "wellkept.runs.run",
    "set_cache": "wellkept.caches",
    "store": "wellkept.kv",
    "tags": "wellkept.runs.collectors",
    "token": "wellkept.memo.depends",
    "ui": "wellkept.web.notebook",
    "use": "wellkept.caches",
    "verify": "wellkept.memo.verify",
}
_RENAMED = {"active_cache": "active", "open": "open_cache"}
# Importing any of them was, and is, enough to name the others.
_MODULES = ("caches", "codecs", "errors", "hashing", "kv", "memo", "records", "stores")


def __getattr__(name: str) -> "Any":
    from importlib import import_module

    found: Any
    if name in _MODULES:
        # Being imported makes it an attribute of this module.
        return import_module(f"{__name__}.{name}")
    if name in _RENAMED:
        found = getattr(import_module("wellkept.caches"), _RENAMED[name])
    elif name in __all__ or name in _ROOMS:
        # `%load_ext wellkept` looks here for a name that is none of the public ones.
        found = getattr(import_module(_ROOMS.get(name, "wellkept.query")), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name in __all__:
        globals()[name] = found
    return found


def __dir__() -> list[str]:
    # What is for users: the rooms are not, though they are loaded.
    return sorted(__all__)
