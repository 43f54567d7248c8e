"""HDF5, which other languages and tools read: a value is a file of bagofholding's layout.

Objects are taken apart the way pickle does, and every part is a group or dataset of its own.
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from wellkept.errors import ConfigError, DecodeError, EncodeError
from wellkept.records import Buffer, Value


def encode(value: Any) -> Value:
    """Return the value as the bytes of an HDF5 file.

    Raises:
        EncodeError: bagofholding can't hold the value.
        ConfigError: bagofholding or h5py is not installed.
    """
    bag = require()
    with tempfile.TemporaryDirectory(prefix="wellkept-") as place:
        path = Path(place) / "value.h5"
        try:
            with warnings.catch_warnings():
                # A warning of bagofholding's or h5py's would be about options that the caller can't set.
                warnings.simplefilter("ignore")
                bag.save(value, path)
            _refuse_inexact(path)
            return Value("hdf5", path.read_bytes())
        except Exception as error:
            raise EncodeError(
                f"the hdf5 codec can't hold a {type(value).__qualname__} "
                f"({type(error).__name__}: {error}); use the default codec"
            ) from error


def decode(payload: Buffer, buffers: Sequence[Buffer]) -> Any:
    """Return the value. Its bytes must have been verified before: like a pickle, they can run code.

    Raises:
        DecodeError: a class or module that the value names is gone or has changed.
        ConfigError: bagofholding or h5py is not installed.
    """
    bag = require()
    with tempfile.TemporaryDirectory(prefix="wellkept-") as place:
        path = Path(place) / "value.h5"
        try:
            path.write_bytes(payload)
            # A package of another version is tried, as it is with a pickle: if a class has changed, loading
            # fails, and the value is computed again.
            return bag(path).load(version_validator="none")
        except Exception as error:
            raise DecodeError(
                f"can't decode a kept HDF5 file: {type(error).__name__}: {error}"
            ) from error


def _refuse_inexact(path: Path) -> None:
    """Raise TypeError for an array without dimensions, which HDF5 would give back as a scalar."""
    h5py: Any = import_module("h5py")

    def look(name: str, part: Any) -> None:
        kind = str(part.attrs.get("content_type"))
        if kind.endswith(".Array") and getattr(part, "shape", None) == ():
            raise TypeError(f"an array without dimensions at {name}")

    with h5py.File(path, "r") as file:
        file.visititems(look)


def require() -> Any:
    """Import bagofholding and return its class of HDF5 files.

    Raises:
        ConfigError: bagofholding or h5py is not installed.
    """
    try:
        import_module("h5py")
        bag: Any = import_module("bagofholding").H5Bag
    except ImportError as error:
        raise ConfigError(
            "the hdf5 codec needs bagofholding and h5py: pip install 'wellkept[hdf5]'"
        ) from error
    return bag
