"""wellkept keeps what Python code computes."""

import typing

from wellkept import kv
from wellkept.caches import Cache, Pool, Stack, set_cache, use
from wellkept.caches import active as active_cache
from wellkept.caches import open_cache as open
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
from wellkept.hashing.reducers import constant
from wellkept.memo import BoundCall, Ignored, Kept, Ordered, Required, Stats, keep
from wellkept.records import Argument, Call, Digest
from wellkept.runs import runs

if typing.TYPE_CHECKING:
    from wellkept.codecs.safe_pickle import register_plain
    from wellkept.hashing.file_digest import File
    from wellkept.kv import store
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
    from wellkept.runs.collectors import meta, tags
    from wellkept.runs.graph import Graph
    from wellkept.runs.lineage import lineage
    from wellkept.runs.run import Run, Runs, run

__version__ = "0.1.0"

__all__ = [
    "ANY",
    "AmbiguousDigest",
    "Argument",
    "BoundCall",
    "Cache",
    "Call",
    "ConfigError",
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
    "use",
    "verify",
]


_ROOMS = {
    "File": "wellkept.hashing.file_digest",
    "Graph": "wellkept.runs.graph",
    "Run": "wellkept.runs.run",
    "Runs": "wellkept.runs.run",
    "bless": "wellkept.memo.verify",
    "block": "wellkept.memo.blocks",
    "env": "wellkept.memo.depends",
    "executor": "wellkept.memo.executor",
    "file": "wellkept.memo.depends",
    "lineage": "wellkept.runs.lineage",
    "meta": "wellkept.runs.collectors",
    "package": "wellkept.memo.depends",
    "refresh": "wellkept.memo.refresh",
    "register_plain": "wellkept.codecs.safe_pickle",
    "run": "wellkept.runs.run",
    "tags": "wellkept.runs.collectors",
    "token": "wellkept.memo.depends",
    "verify": "wellkept.memo.verify",
}


def __getattr__(name: str) -> typing.Any:
    if name == "store":  # imported by those who have named state
        return kv.store
    if name == "load_ipython_extension":  # `%load_ext wellkept` looks for it here
        from wellkept.integrations.jupyter import load_ipython_extension

        return load_ipython_extension
    if name in __all__:  # by those who ask
        from importlib import import_module

        return getattr(import_module(_ROOMS.get(name, "wellkept.query")), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
