"""kept keeps what Python code computes."""

import typing

from kept import kv
from kept.caches import Cache, Pool, Stack, use
from kept.caches import open_cache as open
from kept.errors import (
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
from kept.hashing import digest, register_digest
from kept.hashing.constant import constant
from kept.memo import BoundCall, Ignored, Kept, Ordered, Required, Stats, keep
from kept.records import Argument, Call, Digest
from kept.runs import runs

if typing.TYPE_CHECKING:
    from kept.codecs.plain import register_plain
    from kept.hashing.files import File
    from kept.kv import store
    from kept.memo.blessing import bless
    from kept.memo.certifying import verify
    from kept.memo.depends import env, file, package, token
    from kept.memo.executor import executor
    from kept.query import (
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
    from kept.runs.graph import Graph
    from kept.runs.lineage import lineage
    from kept.runs.listing import Runs
    from kept.runs.run import Run, run

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
    "at_least",
    "at_most",
    "below",
    "between",
    "bless",
    "constant",
    "digest",
    "env",
    "executor",
    "file",
    "keep",
    "kv",
    "like",
    "lineage",
    "named",
    "one_of",
    "open",
    "package",
    "register_digest",
    "register_plain",
    "run",
    "runs",
    "store",
    "token",
    "use",
    "verify",
]


_ROOMS = {
    "File": "kept.hashing.files",
    "Graph": "kept.runs.graph",
    "Run": "kept.runs.run",
    "Runs": "kept.runs.listing",
    "bless": "kept.memo.blessing",
    "env": "kept.memo.depends",
    "executor": "kept.memo.executor",
    "file": "kept.memo.depends",
    "lineage": "kept.runs.lineage",
    "package": "kept.memo.depends",
    "register_plain": "kept.codecs.plain",
    "run": "kept.runs.run",
    "token": "kept.memo.depends",
    "verify": "kept.memo.certifying",
}


def __getattr__(name: str) -> typing.Any:
    if name == "store":  # imported by those who have named state
        return kv.store
    if name in __all__:  # by those who ask
        from importlib import import_module

        return getattr(import_module(_ROOMS.get(name, "kept.query")), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
