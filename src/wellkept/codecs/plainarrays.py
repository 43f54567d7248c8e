"""Arrays in a pickle from whom nobody vouches for: what makes them, and with what.

What a pickle tells NumPy of a shape, a dtype or a list of objects, or Arrow of its buffers, is believed
by them: a list that is shorter than its shape is read past its end. So sizes are counted before, a
dtype's state must be what NumPy itself would have written, and Arrow checks what was restored.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from importlib import import_module
from typing import Any

from wellkept.codecs.plainnames import Named, Unfinished
from wellkept.codecs.untrusted import Refused

__all__ = ["find", "is_array"]

_SPEC = re.compile(r"[<>|=]?[?bBhHiIlLqQefdgcFDGOSUVMmu]\d{0,9}").fullmatch
_KINDS = frozenset("biufcmMOSUV")
_ALIAS = re.compile(r"[a-z0-9_]{1,40}(\[[a-z]{1,20}\])?").fullmatch
_LONG = 2**40  # of an axis of an array that has no items
_AXES = 32  # older NumPys have no more
_BYTES = (bytes, bytearray, memoryview)


def find(module: str, name: str) -> Named | None:
    """What may be named of NumPy and Arrow; None: it may not."""
    first, _, rest = module.partition(".")
    if first == "numpy":
        return _numpy(rest, name)
    if module == "pyarrow.lib" and name in _ARROW:
        return Named(getattr(import_module(module), name), _ARROW[name])
    return None


def _numpy(rest: str, name: str) -> Named | None:
    numpy = import_module("numpy")
    if not rest and name in ("dtype", "ndarray"):
        return Named(numpy.dtype, _dtype) if name == "dtype" else Named(numpy.ndarray)
    core, _, part = rest.partition(".")
    made = _MADE.get((part, name)) if core in ("core", "_core") else None
    if made is None:
        return None
    return Named(getattr(import_module(f"numpy.{core}.{part}"), name), made)


def is_array(found: Any, kinds: str, dimensions: tuple[int, ...] = (1,)) -> bool:
    """Whether it is an array, not of a subclass, of such kinds of dtypes and so many dimensions."""
    numpy = import_module("numpy")
    return type(found) is numpy.ndarray and found.dtype.kind in kinds and found.ndim in dimensions


# -- dtypes ----------------------------------------------------------------------------------------


def _dtype(_: Any, spec: Any, align: Any = False, copy: Any = True) -> Unfinished:
    if type(spec) is not str or not _SPEC(spec):
        raise Refused("it holds a dtype that says something else")
    # Always a copy: the dtype that all of a process's arrays share is never given state.
    made = import_module("numpy").dtype(spec, bool(align), True)
    if made.kind not in _KINDS:
        raise Refused("it holds a dtype that says something else")
    return Unfinished(made, _build_dtype)


def _build_dtype(_: Any, made: Any, state: Any) -> None:
    if type(state) is not tuple or not _is_state(import_module("numpy"), made, state):
        raise Refused("it holds a dtype that can't be")
    made.__setstate__(state)


def _is_state(numpy: Any, made: Any, state: Any) -> bool:
    """Whether NumPy would have written such a state for such a dtype."""
    try:
        _, order, subarray, names, fields = state[:5]
        if order not in ("<", ">", "|", "="):
            return False
        if names is None and subarray is None and fields is None:
            if made.kind in "mM":
                (about, (unit, count, *_)) = state[8]
                text = f"{made.kind}8[{int(count)}{str(unit, 'ascii')}]"
                wanted = numpy.dtype(made.kind + "8" if unit == b"generic" else text)
            else:
                about, wanted = None, made
            return about is None and _same(state[5:], wanted.__reduce__()[2][5:])
        if subarray is not None:
            if not _is_shape(subarray[1]) or not isinstance(subarray[0], numpy.dtype):
                return False
            if math.prod(subarray[1]) * subarray[0].itemsize != made.itemsize:
                return False
            wanted = numpy.dtype((subarray[0], subarray[1]))
        else:
            parts = [fields[name] for name in names]
            # numpy adds an offset and a size in 32 bits, so a large offset passes its own check.
            if not all(
                isinstance(part[0], numpy.dtype)
                and type(part[1]) is int
                and 0 <= part[1] <= made.itemsize - part[0].itemsize
                for part in parts
            ):
                return False
            wanted = numpy.dtype(
                {
                    "names": list(names),
                    "formats": [part[0] for part in parts],
                    "offsets": [part[1] for part in parts],
                    "itemsize": made.itemsize,
                },
                align=state[6] > 1,
            )
        return wanted.itemsize == made.itemsize and _same(state, wanted.__reduce__()[2])
    except (TypeError, ValueError, KeyError, IndexError, AttributeError, OverflowError):
        return False


def _same(state: Any, wanted: Any) -> bool:
    """Whether both say the same, by the same types: 1.0 and True are no 1 to C code."""
    if type(state) in (tuple, list) and type(state) is type(wanted):
        return len(state) == len(wanted) and all(map(_same, state, wanted))
    if isinstance(state, dict) and isinstance(wanted, dict | type(type.__dict__)):
        return set(state) == set(wanted) and all(_same(state[name], wanted[name]) for name in state)
    if isinstance(wanted, dict | type(type.__dict__)) or type(state) in (tuple, list, dict):
        return False
    alike = isinstance(state, type(wanted)) or isinstance(wanted, type(state))
    return alike and bool(state == wanted) and isinstance(state, bool) == isinstance(wanted, bool)


# -- arrays ----------------------------------------------------------------------------------------


def _is_shape(shape: Any) -> bool:
    return (
        type(shape) is tuple
        and len(shape) <= _AXES
        and all(type(length) is int and 0 <= length <= _LONG for length in shape)
    )


def _wrong() -> Refused:
    return Refused("it makes an array of its own")


def _reconstruct(_: Any, *given: Any) -> Unfinished:
    numpy = import_module("numpy")
    if len(given) != 3 or given[0] is not numpy.ndarray or given[1:] != ((0,), b"b"):
        raise _wrong()
    return Unfinished(numpy.ndarray((0,), "b"), _build_array)


def _build_array(machine: Any, made: Any, state: Any) -> None:
    numpy = import_module("numpy")
    if type(state) is not tuple or len(state) != 5:
        raise Refused("it holds an array that can't be")
    version, shape, dtype, fortran, data = state
    if (
        (type(version), version) != (int, 1)
        or not _is_shape(shape)
        or not isinstance(dtype, numpy.dtype)
        or type(fortran) not in (bool, int)
    ):
        raise Refused("it holds an array that can't be")
    count = math.prod(shape)
    size = count * dtype.itemsize
    if dtype.hasobject:
        right = type(data) is list and len(data) == count
    else:
        right = type(data) in _BYTES and memoryview(data).nbytes == size
    # Of items without bytes there may be any number, and each operation on them takes time.
    if not right or (not dtype.itemsize and count > 2**20):
        raise Refused("it holds an array that is not as large as its data")
    machine.spend(size)
    made.__setstate__((1, shape, dtype, bool(fortran), data))


def _frombuffer(_: Any, *given: Any) -> Any:
    numpy = import_module("numpy")
    buffer, dtype, shape, order, *axes = given
    if (
        type(buffer) not in _BYTES
        or not isinstance(dtype, numpy.dtype)
        or dtype.hasobject
        or not dtype.itemsize
        or not _is_shape(shape)
        or order not in ("C", "F", "K")
        or len(axes) > 1
        or (axes and axes != [None] and not _is_order(axes[0], len(shape)))
        or math.prod(shape) * dtype.itemsize != memoryview(buffer).nbytes
    ):
        raise Refused("it holds an array that is not as large as its data")
    made = numpy.frombuffer(buffer, dtype)
    if order == "K":
        return made.reshape(shape, order="C").transpose(axes[0] if axes else None)
    return made.reshape(shape, order=order)


def _is_order(axes: Any, count: int) -> bool:
    return (
        type(axes) is tuple
        and all(type(axis) is int for axis in axes)
        and sorted(axes) == list(range(count))
    )


def _scalar(_: Any, *given: Any) -> Any:
    numpy = import_module("numpy")
    if (
        len(given) != 2
        or not isinstance(given[0], numpy.dtype)
        or given[0].hasobject
        or type(given[1]) is not bytes
        or len(given[1]) != given[0].itemsize
        or not given[0].itemsize
    ):
        raise Refused("it makes a number of its own")
    return import_module("numpy").frombuffer(given[1], given[0])[0]


_MADE: dict[tuple[str, str], Callable[..., Any]] = {
    ("multiarray", "_reconstruct"): _reconstruct,
    ("multiarray", "scalar"): _scalar,
    ("numeric", "_frombuffer"): _frombuffer,
}


# -- Arrow -----------------------------------------------------------------------------------------


def _type_for_alias(_: Any, name: Any) -> Any:
    if type(name) is not str or not _ALIAS(name):
        raise Refused("it holds an Arrow type that says something else")
    return import_module("pyarrow").type_for_alias(name)


def _py_buffer(_: Any, content: Any) -> Any:
    if type(content) not in _BYTES:
        raise Refused("it makes an Arrow buffer of its own")
    return import_module("pyarrow").py_buffer(content)


def _restore_array(_: Any, data: Any) -> Any:
    arrow = import_module("pyarrow")
    if not _is_data(arrow, data, 0):
        raise Refused("it makes an Arrow array of its own")
    made = arrow.lib._restore_array(_counted(data))
    made.validate(full=True)
    return made


def _is_data(arrow: Any, data: Any, depth: int) -> bool:
    if type(data) is not tuple or len(data) != 7 or depth > 20:
        return False
    kind, length, nulls, offset, buffers, children, dictionary = data
    return (
        isinstance(kind, arrow.DataType)
        and all(type(n) is int and -1 <= n < 2**62 for n in (length, nulls, offset))
        and min(length, offset) >= 0
        and type(buffers) is list
        and all(item is None or isinstance(item, arrow.Buffer) for item in buffers)
        and (len(buffers) == kind.num_buffers or _is_variadic(kind, len(buffers)))
        and type(children) is list
        and len(children) == kind.num_fields
        and all(_is_data(arrow, child, depth + 1) for child in children)
        and (dictionary is None) == (not arrow.types.is_dictionary(kind))
        and (dictionary is None or _is_data(arrow, dictionary, depth + 1))
    )


def _counted(data: Any) -> Any:
    """The same, but that Arrow counts what is missing by itself."""
    kind, length, _, offset, buffers, children, dictionary = data
    parts = [_counted(child) for child in children]
    return (
        kind,
        length,
        -1,
        offset,
        buffers,
        parts,
        None if dictionary is None else _counted(dictionary),
    )


def _is_variadic(kind: Any, count: int) -> bool:
    return bool(getattr(kind, "has_variadic_buffers", False)) and count > int(kind.num_buffers)


_ARROW: dict[str, Callable[..., Any]] = {
    "type_for_alias": _type_for_alias,
    "py_buffer": _py_buffer,
    "_restore_array": _restore_array,
}
