"""Values to bytes and back: a codec is a pair of pure functions, found by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib import import_module
from typing import Any

from wellkept.codecs import pickle
from wellkept.codecs.envelope import Blob, Envelope
from wellkept.codecs.pickle import LARGE
from wellkept.errors import ConfigError, DecodeError, EncodeError
from wellkept.records import Buffer, Value

__all__ = [
    "LARGE",
    "LAZY",
    "NAMES",
    "Blob",
    "Envelope",
    "check",
    "decode",
    "decoder",
    "encode",
    "is_on_demand",
]

# Modules with `encode` and `decode`, loaded on first use: each needs a package that takes long to import.
# `require`, if the module has it, raises `ConfigError` when that package is not installed.
_MODULES = {
    "json": "wellkept.codecs.json",
    "dill": "wellkept.codecs.dill",
    "hdf5": "wellkept.codecs.hdf5",
    "arrow": "wellkept.codecs.arrow",
    "npy": "wellkept.codecs.npy",
    "chunks": "wellkept.codecs.chunks",
}

# Names that only envelopes hold, so that no function can ask for them: unsigned pickles from elsewhere, files
# that another library reads, and values that name files.
_READ = {
    "plain": ("wellkept.codecs.safe_pickle", "decode"),
    "file": ("wellkept.codecs.file", "decode"),
    "paths": ("wellkept.codecs.paths", "decode"),
    "plain paths": ("wellkept.codecs.paths", "decode_plain"),
    "plain chunks": ("wellkept.codecs.chunks", "decode_plain"),
}

LAZY = frozenset(("chunks", "plain chunks"))
"""Codecs that take a buffer when a part of the value is read, and not when they decode."""

# Libraries of what is computed or read on demand.
_ON_DEMAND = frozenset(("dask", "xarray", "zarr"))

# The codecs that a function may ask for; `pickle`, the default, turns to cloudpickle and to chunks by itself.
NAMES = ("pickle", "cloudpickle", *_MODULES)


def check(codec: str) -> None:
    """Check that a codec can be used, before anything is computed.

    Raises:
        ConfigError: there is no such codec, or its package is not installed.
    """
    if codec not in NAMES:
        raise ConfigError(f"there is no codec {codec!r}; there are {', '.join(NAMES)}")
    if codec in _MODULES:
        getattr(_module(codec), "require", bool)()


def encode(value: Any, codec: str = "pickle") -> Value:
    """Encode a value.

    Raises:
        EncodeError: the codec can't hold it.
        ConfigError: there is no such codec, or its package is not installed.
    """
    if codec == "pickle":
        if is_on_demand(value):
            # A pickle would hold how it is computed, or the path of where it is read, and not what it is.
            with suppress(EncodeError):
                return encode(value, "chunks")
        return pickle.encode(value)
    if codec == "cloudpickle":
        return pickle.encode_cloud(value)
    check(codec)
    made: Value = _module(codec).encode(value)
    return made


def is_on_demand(value: Any) -> bool:
    """Return whether a value is computed or read when it is looked at, at least in part."""
    library = type(value).__module__.partition(".")[0]
    return library in _ON_DEMAND and bool(_module("chunks").is_on_demand(value))


def decoder(codec: str) -> Callable[[Buffer, Sequence[Buffer]], Any]:
    """Return the function that decodes what `codec` wrote.

    Raises:
        DecodeError: there is no such codec here, or its package is not installed.
    """
    if codec in ("pickle", "cloudpickle"):
        return pickle.decode
    if codec in _READ:
        module, name = _READ[codec]
        found: Callable[[Buffer, Sequence[Buffer]], Any] = getattr(import_module(module), name)
        return found
    try:
        check(codec)
    except ConfigError as error:
        raise DecodeError(
            f"a value was kept with the codec {codec!r}, which is not installed here: {error}"
        ) from error
    decode: Callable[[Buffer, Sequence[Buffer]], Any] = _module(codec).decode
    return decode


def decode(value: Value) -> Any:
    """Return the value that was encoded. Its bytes must have been verified."""
    return decoder(value.codec)(value.head, value.buffers)


def _module(codec: str) -> Any:
    return import_module(_MODULES[codec])
