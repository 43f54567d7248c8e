"""Pickle protocol 5 with out-of-band buffers, and cloudpickle for what pickle can't.

Large flat buffers (arrays, frames, whatever holds them) leave the pickle and become buffers of the
value, so that they are written without a copy and come back memory-mapped (PEP 574).
"""

from __future__ import annotations

import copyreg
import io
import pickle
import sys
from collections import ChainMap
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FunctionType
from typing import Any

from kept.errors import DecodeError, EncodeError
from kept.records import Buffer, Value

__all__ = ["LARGE", "decode", "encode", "encode_cloud"]

LARGE = 64 * 1024
"""Buffers of this many bytes or more leave the pickle."""

_SCALARS = frozenset((type(None), bool, int, float, complex, str, bytes))
_MAIN = ("__main__", "__mp_main__")


def encode(value: Any) -> Value:
    """The encoded value; its buffers are views of `value`'s own memory.

    Raises:
        EncodeError: neither pickle nor cloudpickle can.
    """
    if type(value) in _SCALARS:  # most small results: nothing to take out, nothing to look for
        return Value("pickle", pickle.dumps(value, 5))
    buffers: list[Buffer] = []

    def callback(buffer: pickle.PickleBuffer) -> bool:
        return _take(buffer, buffers)

    try:
        if (own := _registered()) is None:
            head = pickle.dumps(value, 5, buffer_callback=callback)
        else:
            file = io.BytesIO()
            pickler = pickle.Pickler(file, 5, buffer_callback=callback)
            pickler.dispatch_table = own
            pickler.dump(value)
            head = file.getvalue()
    except Exception:  # noqa: BLE001  any class may raise anything from its reduction
        return encode_cloud(value)
    if b"__main__" in head or b"__mp_main__" in head:
        return encode_cloud(value)
    return Value("pickle", head, buffers)


def encode_cloud(value: Any) -> Value:
    """By cloudpickle: lambdas, closures, and what `__main__` defines.

    What `__main__` defines by name comes back as the running script's own object when that script
    is the one that wrote it (so `isinstance` holds), and as a copy anywhere else.
    """
    buffers: list[Buffer] = []
    file = io.BytesIO()
    try:
        _cloud_pickler()(file, 5, buffer_callback=lambda b: _take(b, buffers)).dump(value)
    except Exception as error:
        raise EncodeError(
            f"can't encode a {type(value).__qualname__}: {type(error).__name__}: {error}"
        ) from error
    return Value("cloudpickle", file.getvalue(), buffers)


def decode(payload: Buffer, buffers: Sequence[Buffer]) -> Any:
    """The value. Bytes must have been verified before: a pickle can run code.

    Raises:
        DecodeError: a class or module that it names is gone or has changed.
    """
    try:
        return pickle.loads(payload, buffers=buffers)  # noqa: S301  verified, and from a trusted place
    except Exception as error:
        raise DecodeError(f"can't decode a kept value: {type(error).__name__}: {error}") from error


def _take(buffer: pickle.PickleBuffer, into: list[Buffer]) -> bool:
    try:
        view = buffer.raw()
    except BufferError:  # not contiguous: stays in the pickle
        return True
    if view.nbytes < LARGE:
        return True
    into.append(view)
    return False


_seen: tuple[int, Mapping[type, Any] | None] = (-1, None)


def _registered() -> Mapping[type, Any] | None:
    """What `copyreg` has registered, without tblib's; None if tblib has registered nothing.

    Dask imports tblib, which pickles every exception with its traceback: what is kept would depend
    on what the process has imported, and could be read only where tblib is installed.
    """
    global _seen
    table = copyreg.dispatch_table
    if len(table) != _seen[0]:
        own = {kind: reduce for kind, reduce in table.items() if not _of_tblib(reduce)}
        _seen = len(table), own if len(own) < len(table) else None
    return _seen[1]


def _of_tblib(reduce: Any) -> bool:
    function = getattr(reduce, "func", reduce)  # of a partial
    return str(getattr(function, "__module__", "")).partition(".")[0] == "tblib"


def _script() -> str | None:
    file = getattr(sys.modules.get("__main__"), "__file__", None)
    return str(Path(file).resolve()) if file else None


def _find(qualname: str) -> Any:
    found: Any = sys.modules.get("__main__")
    for part in qualname.split("."):
        found = getattr(found, part, None)
    return found


def from_main(script: str | None, qualname: str, copy: bytes) -> Any:
    """What `__main__` defined under a name: the object itself, or a copy in another program."""
    found = _find(qualname) if script == _script() else None
    return pickle.loads(copy) if found is None else found  # noqa: S301  part of a verified value


_pickler: Any = None


def _cloud_pickler() -> Any:
    global _pickler
    if _pickler is None:
        import cloudpickle  # 20 ms, for the few values that need it

        class Pickler(cloudpickle.Pickler):  # type: ignore[misc]  # cloudpickle is untyped
            @property
            def dispatch_table(self) -> Mapping[type, Any]:
                """Asked for once, when a pickler is made."""
                if (own := _registered()) is None:
                    return super().dispatch_table  # type: ignore[no-any-return]  # as above
                return ChainMap(cloudpickle.Pickler._dispatch_table, own)  # type: ignore[arg-type]  # untyped

            def reducer_override(self, obj: Any) -> Any:
                kind = type(obj)
                if issubclass(kind, (io.TextIOWrapper, memoryview)):
                    # cloudpickle would bring back a StringIO, and bytes.
                    raise TypeError(f"a {kind.__qualname__} can't be pickled as what it is")
                if isinstance(obj, (type, FunctionType)) and obj.__module__ in _MAIN:
                    name = obj.__qualname__
                    found = _find(name)
                    if found is obj or getattr(found, "__wrapped__", None) is obj:
                        return from_main, (_script(), name, cloudpickle.dumps(obj, 5))
                return super().reducer_override(obj)

        _pickler = Pickler
    return _pickler
