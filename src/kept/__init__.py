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
from kept.memo import BoundCall, Ignored, Kept, Required, Stats, keep
from kept.records import Argument, Call, Digest

if typing.TYPE_CHECKING:
    from kept.kv import store

__version__ = "0.1.0"

__all__ = [
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
    "Ignored",
    "Kept",
    "KeptError",
    "KeptWarning",
    "NewerSchema",
    "NotKept",
    "Pool",
    "Required",
    "Stack",
    "Stats",
    "StoreError",
    "Undigestible",
    "UntrustedSource",
    "__version__",
    "digest",
    "keep",
    "kv",
    "open",
    "register_digest",
    "store",
    "use",
]


def __getattr__(name: str) -> typing.Any:
    if name == "store":  # imported by those who have named state
        return kv.store
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
