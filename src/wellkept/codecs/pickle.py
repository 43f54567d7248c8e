"""Pickle protocol 5 with out-of-band buffers, and cloudpickle for values that pickle can't encode.

Large flat buffers (arrays, frames, whatever holds them) leave the pickle and become buffers of the
value, so that they are written without a copy and come back memory-mapped (PEP 574).
"""

from __future__ import annotations

import copyreg
import importlib.util
import io
import pickle
import re
import sys
from collections import ChainMap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import FunctionType
from typing import Any

from wellkept.errors import DecodeError, EncodeError
from wellkept.hashing.names import is_own, module_of
from wellkept.records import Buffer, Value

# Buffers of this many bytes or more leave the pickle and become blobs. A smaller blob would cost more for its
# file, its name and its row than the copy that it saves.
LARGE = 64 * 1024

_SCALARS = frozenset((type(None), bool, int, float, complex, str, bytes))
_MAIN = ("__main__", "__mp_main__")


def encode(value: Any) -> Value:
    """Return the encoded value; its buffers are views of `value`'s own memory.

    Raises:
        EncodeError: neither pickle nor cloudpickle can encode the value.
    """
    # Most small results are scalars: they have no buffers and name no class.
    if type(value) in _SCALARS:
        return Value("pickle", pickle.dumps(value, 5))
    buffers: list[Buffer] = []
    callback = taker(buffers)
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
    # A class of the script is `__main__`'s only in this program; another one would find its own `__main__`
    # there.
    if b"__main__" in head or b"__mp_main__" in head:
        return encode_cloud(value)
    arrow = b"pyarrow.lib" in head and "pyarrow" in sys.modules
    if arrow and (whole := _without_the_rest(value, own)) is not None:
        return whole
    return Value("pickle", head, buffers)


def encode_cloud(value: Any) -> Value:
    """Return the value encoded by cloudpickle: lambdas, closures, and what `__main__` defines.

    A class or function of `__main__` comes back as the object of that name in the running script or in the
    imported module, if that is the file that defined it (so `isinstance` holds), and as a copy otherwise.

    Raises:
        EncodeError: cloudpickle can't encode the value.
    """
    buffers: list[Buffer] = []
    file = io.BytesIO()
    try:
        _cloud_pickler()(file, 5, buffer_callback=taker(buffers)).dump(value)
    except Exception as error:
        raise EncodeError(
            f"can't encode a {type(value).__qualname__}: {type(error).__name__}: {error}"
        ) from error
    return Value("cloudpickle", file.getvalue(), buffers)


def decode(payload: Buffer, buffers: Sequence[Buffer]) -> Any:
    """Return the value. Its bytes must have been verified before: a pickle can run code.

    Raises:
        DecodeError: a class or module that the value names is gone or has changed.
    """
    try:
        if sys.modules.get("__main__") is not _main[0]:
            _meet_main()
        # A subclass of Python's unpickler is a Python call for each class that a pickle names, so it is used
        # only where such a name needs it.
        if _main[1] and _main[2].search(payload):
            return _Unpickler(io.BytesIO(payload), buffers=buffers).load()
        try:
            return pickle.loads(payload, buffers=buffers)  # noqa: S301  verified, and from a trusted place
        except ModuleNotFoundError as error:
            if not _has_former_name(error):
                raise
            return _Unpickler(io.BytesIO(payload), buffers=buffers).load()
    except Exception as error:
        raise DecodeError(f"can't decode a kept value: {type(error).__name__}: {error}") from error


def _without_the_rest(value: Any, own: Any) -> Value | None:
    """Return the value with only the rows that its slices of Arrow arrays show; None if there is no such slice.

    Arrow pickles the whole buffers of a slice, so ten rows of a large table would be as large as the table.
    """
    found = False

    class Pickler(pickle.Pickler):
        def reducer_override(self, obj: Any) -> Any:
            nonlocal found
            alone = slice_alone(obj)
            found = found or alone is not None
            return NotImplemented if alone is None else alone

    buffers: list[Buffer] = []
    file = io.BytesIO()
    pickler = Pickler(file, 5, buffer_callback=taker(buffers))
    if own is not None:
        pickler.dispatch_table = own
    pickler.dump(value)
    return Value("pickle", file.getvalue(), buffers) if found else None


def slice_alone(obj: Any) -> Any:
    """Return the reduction of an Arrow array that shows a part of its buffers, without the rest; else None."""
    arrow = sys.modules.get("pyarrow")
    kind = getattr(arrow, "Array", None)
    if (
        kind is None
        or not isinstance(obj, kind)
        or obj.get_total_buffer_size() <= obj.nbytes + LARGE
    ):
        return None
    alone = _alone(arrow, obj)
    smaller = alone.get_total_buffer_size() < obj.get_total_buffer_size()
    return alone.__reduce__() if smaller else None


_VIEWS = {"string_view": "large_string", "binary_view": "large_binary"}


def _alone(arrow: Any, array: Any) -> Any:
    """Return the same rows in buffers of their own, by writing them to a stream and reading that."""
    if not len(array) and not arrow.types.is_dictionary(array.type):
        # For a slice without rows, a stream may still write the buffers before it.
        return arrow.nulls(0, array.type)
    batch = arrow.RecordBatch.from_arrays([array], ["rows"])
    sink = arrow.BufferOutputStream()
    with arrow.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    with arrow.ipc.open_stream(sink.getvalue()) as reader:
        found = reader.read_next_batch().column(0)
    if (flat := _VIEWS.get(str(array.type))) is not None:
        # A stream writes all that views point into; a cast writes what they show.
        found = found.cast(flat).cast(array.type)
    return found if found.type == array.type else array


def taker(into: list[Buffer]) -> Callable[[pickle.PickleBuffer], bool]:
    """Return a `buffer_callback` that takes large buffers out of a pickle and adds them to a list."""

    def take(buffer: pickle.PickleBuffer) -> bool:
        try:
            view = buffer.raw()
        except BufferError:
            # A buffer that is not contiguous stays in the pickle.
            return True
        if view.nbytes < LARGE:
            return True
        into.append(view)
        return False

    return take


_main: tuple[Any, str, re.Pattern[bytes]] = (None, "", re.compile(b""))


def _meet_main() -> None:
    """Find out how pickles name the module that the running script would be, were it imported.

    Unpickling would import it, a second time, and give objects of other classes than the script's.
    """
    global _main
    main = sys.modules.get("__main__")
    file = getattr(main, "__file__", None)
    name = module_of("__main__").rpartition(".")[2] if file else ""
    # Protocols 4 and 5 put a MEMOIZE (0x94) after each text, so this finds a text that ends with the name.
    _main = main, name, re.compile(re.escape(name.encode()) + b"\x94")


class _Unpickler(pickle.Unpickler):
    """Finds the classes of the running script's module in the script itself."""

    def find_class(self, module: str, name: str) -> Any:
        if module.rpartition(".")[2] == _main[1] and module not in sys.modules and _is_main(module):
            found = _find("__main__", name)
            if found is not None:
                return found
        try:
            return super().find_class(module, name)
        except ModuleNotFoundError as error:
            if not _has_former_name(error):
                raise
            return super().find_class(f"well{module}", name)


def _has_former_name(error: ModuleNotFoundError) -> bool:
    """Return whether a module of this library is missing under its former name, `kept`.

    Values that were stored then name its classes so. Another library of that name, if it is installed, is
    tried first.
    """
    return (error.name or "").partition(".")[0] == "kept"


def _is_main(module: str) -> bool:
    """Return whether importing a module would run the running script's file."""
    try:
        spec = importlib.util.find_spec(module)
        return bool(
            spec
            and spec.origin
            and Path(spec.origin).samefile(getattr(sys.modules["__main__"], "__file__", ""))
        )
    except (ImportError, ValueError, OSError):
        return False


# How many reducers `copyreg` had when they were looked through, whether torch was loaded, and the outcome.
# Libraries add reducers when they are imported, so their number tells whether to look again.
_seen: tuple[tuple[int, bool], Mapping[type, Any] | None] = ((-1, False), None)


def _registered() -> Mapping[type, Any] | None:
    """Return the reducers of `copyreg` without tblib's and with those of tensors; None if they are the same.

    Dask imports tblib, which pickles every exception with its traceback: the bytes would depend on what the
    process has imported, and could be read only where tblib is installed.
    """
    global _seen
    table = copyreg.dispatch_table
    state = len(table), "torch.nn.parameter" in sys.modules
    if state != _seen[0]:
        own = {kind: reduce for kind, reduce in table.items() if not _of_tblib(reduce)}
        changed = len(own) < len(table)
        if state[1]:
            # Loaded with torch.
            from wellkept.codecs.tensors import reducers

            added = reducers()
            if not added:
                # Torch is in the midst of its import.
                return own if changed else None
            own |= added
            changed = True
        _seen = state, own if changed else None
    return _seen[1]


def _of_tblib(reduce: Any) -> bool:
    # The reducer may be a partial, which holds the function.
    function = getattr(reduce, "func", reduce)
    return str(getattr(function, "__module__", "")).partition(".")[0] == "tblib"


def _find(module: str, qualname: str) -> Any:
    found: Any = sys.modules.get(module)
    for part in qualname.split("."):
        found = getattr(found, part, None)
    return found


def from_main(script: str, qualname: str, copy: bytes) -> Any:
    """Return the object that a script defined under a name; in another program, a copy of it.

    Pickles name this function, so it keeps its name and its place.

    Args:
        script: the name of the script's module (see `hashing.names`), by which it may have been imported.
        qualname: the object's qualified name.
        copy: the object, pickled.
    """
    for module in ("__main__", script, script.rpartition(".")[2]):
        if module in sys.modules and module_of(module) == script:
            found = _find(module, qualname)
            if found is not None:
                return found
    return pickle.loads(copy)  # noqa: S301  part of a verified value


_pickler: Any = None


def _cloud_pickler() -> Any:
    global _pickler
    if _pickler is None:
        # Loaded on first use: it takes 20 ms, and few values need it.
        import cloudpickle

        class Pickler(cloudpickle.Pickler):  # type: ignore[misc]  # cloudpickle is untyped
            @property
            def dispatch_table(self) -> Mapping[type, Any]:
                """Return the reducers by type; read once, when a pickler is made."""
                if (own := _registered()) is None:
                    return super().dispatch_table  # type: ignore[no-any-return]  # cloudpickle is untyped
                return ChainMap(cloudpickle.Pickler._dispatch_table, own)  # type: ignore[arg-type]  # untyped

            def reducer_override(self, obj: Any) -> Any:
                kind = type(obj)
                if issubclass(kind, (io.TextIOWrapper, memoryview)):
                    # cloudpickle would bring back a StringIO for a file, and bytes for a view.
                    raise TypeError(f"a {kind.__qualname__} can't be pickled as what it is")
                if (alone := slice_alone(obj)) is not None:
                    return alone
                if (
                    isinstance(obj, (type, FunctionType))
                    and obj.__module__ in _MAIN
                    and is_own(obj)
                ):
                    script = module_of("__main__")
                    return from_main, (script, obj.__qualname__, cloudpickle.dumps(obj, 5))
                return super().reducer_override(obj)

        _pickler = Pickler
    return _pickler
