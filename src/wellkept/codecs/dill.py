"""The dill codec, for functions and classes that only dill can encode. It is slower than pickle."""

from __future__ import annotations

import io
import pickle
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any

from wellkept.codecs.pickle import slice_alone, taker
from wellkept.errors import ConfigError, DecodeError, EncodeError
from wellkept.records import Buffer, Value


def encode(value: Any) -> Value:
    """Return the value encoded by dill; its large flat buffers are views of the value's own memory.

    Raises:
        EncodeError: dill can't encode the value.
        ConfigError: dill is not installed.
    """
    buffers: list[Buffer] = []
    file = io.BytesIO()
    # `recurse` stores the globals that a function uses, and not the whole module's.
    pickler = _pickler()(file, protocol=5, buffer_callback=taker(buffers), recurse=True)
    try:
        pickler.dump(value)
    except Exception as error:
        raise EncodeError(
            f"dill can't encode a {type(value).__qualname__}: {type(error).__name__}: {error}"
        ) from error
    return Value("dill", file.getvalue(), buffers)


def decode(payload: Buffer, buffers: Sequence[Buffer]) -> Any:
    """Return the value. Its bytes must have been verified before: like a pickle, they can run code.

    Raises:
        DecodeError: a class or module that the value names is gone or has changed.
    """
    unpickler = require().Unpickler(io.BytesIO(payload), buffers=buffers)
    try:
        return unpickler.load()
    except Exception as error:
        raise DecodeError(f"can't decode a kept value: {type(error).__name__}: {error}") from error


def _pickler() -> Any:
    class Pickler(require().Pickler):  # type: ignore[misc]  # dill is untyped
        def reducer_override(self, obj: Any) -> Any:
            numpy = sys.modules.get("numpy")
            if numpy is not None and type(obj) is numpy.ndarray:
                # dill's own reducer copies the array's data into the pickle; NumPy's hands out a buffer.
                return obj.__reduce_ex__(5)
            if type(obj) is pickle.PickleBuffer and not obj.raw().nbytes:
                # Python's own pickler, on which dill builds, fails at the second buffer without bytes.
                return bytearray, ()
            alone = slice_alone(obj)
            return NotImplemented if alone is None else alone

    return Pickler


def require() -> Any:
    """Import dill and return it.

    Raises:
        ConfigError: dill is not installed.
    """
    try:
        dill: Any = import_module("dill")
    except ImportError as error:
        raise ConfigError("the dill codec needs dill: pip install 'wellkept[dill]'") from error
    return dill
