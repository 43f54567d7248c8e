"""dill, for those who have functions and classes that only dill can hold. Slower than pickle."""

from __future__ import annotations

import io
import pickle
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any

from wellkept.codecs.pickle import LARGE
from wellkept.errors import ConfigError, DecodeError, EncodeError
from wellkept.records import Buffer, Value


def encode(value: Any) -> Value:
    """By dill, with large flat buffers beside it.

    Raises:
        EncodeError: dill can't.
        ConfigError: dill is not installed.
    """
    buffers: list[Buffer] = []
    file = io.BytesIO()
    pickler = _pickler()(
        file, protocol=5, buffer_callback=lambda buffer: _take(buffer, buffers), recurse=True
    )
    try:
        pickler.dump(value)
    except Exception as error:
        raise EncodeError(
            f"dill can't encode a {type(value).__qualname__}: {type(error).__name__}: {error}"
        ) from error
    return Value("dill", file.getvalue(), buffers)


def decode(payload: Buffer, buffers: Sequence[Buffer]) -> Any:
    """Return the value. Bytes must have been verified before: like a pickle, they can run code.

    Raises:
        DecodeError: a class or module that it names is gone or has changed.
    """
    unpickler = require().Unpickler(io.BytesIO(payload), buffers=buffers)
    try:
        return unpickler.load()
    except Exception as error:
        raise DecodeError(f"can't decode a kept value: {type(error).__name__}: {error}") from error


def _take(buffer: pickle.PickleBuffer, into: list[Buffer]) -> bool:
    try:
        view = buffer.raw()
    except BufferError:
        # A buffer that is not contiguous stays in the pickle.
        return True
    if view.nbytes < LARGE:
        return True
    into.append(view)
    return False


def _pickler() -> Any:
    class Pickler(require().Pickler):  # type: ignore[misc]  # dill is untyped
        def reducer_override(self, obj: Any) -> Any:
            numpy = sys.modules.get("numpy")
            if numpy is not None and type(obj) is numpy.ndarray:
                # dill's own way would copy the array's data into the pickle.
                return obj.__reduce_ex__(5)
            return NotImplemented

    return Pickler


def require() -> Any:
    """dill, imported.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        dill: Any = import_module("dill")
    except ImportError as error:
        raise ConfigError("the dill codec needs dill: pip install 'wellkept[dill]'") from error
    return dill
