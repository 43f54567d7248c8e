"""Arrays and frames in a pickle from whom nobody vouches for: what may be called, and with what.

What a pickle tells NumPy of a dtype, or Arrow of its buffers, is believed by them: so a dtype's state
must be what NumPy itself would have written, and Arrow checks what was restored.
"""

from __future__ import annotations

import re
import sys
from functools import cache
from importlib import import_module
from typing import Any

from kept.codecs.untrusted import Refused

__all__ = ["check_call", "check_state", "find", "is_about"]

_NUMPY = {
    ("multiarray", "_reconstruct"),
    ("multiarray", "scalar"),
    ("numeric", "_frombuffer"),
}
_FUNCTIONS = {
    ("pandas._libs.arrays", "__pyx_unpickle_NDArrayBacked"),
    ("pandas._libs.internals", "_unpickle_block"),
    ("pandas._libs.tslibs.nattype", "_nat_unpickle"),
    ("pandas._libs.tslibs.timedeltas", "_timedelta_unpickle"),
    ("pandas._libs.tslibs.timestamps", "_unpickle_timestamp"),
    ("pandas.core.indexes.base", "_new_Index"),
    ("pandas.core.indexes.datetimes", "_new_DatetimeIndex"),
    ("pandas.core.indexes.interval", "_new_IntervalIndex"),
    ("pandas.core.indexes.period", "_new_PeriodIndex"),
    ("pyarrow.lib", "py_buffer"),
    ("pyarrow.lib", "type_for_alias"),
}
_LONG = 10_000_000
_SPEC = re.compile(r"[<>|=]?[a-zA-Z]\d{0,9}").fullmatch


def is_about(module: str, name: str) -> bool:
    """Whether a name may be one of arrays or frames."""
    return module.partition(".")[0] in ("numpy", "pandas", "pyarrow", "zoneinfo") or (
        (module, name) == ("builtins", "getattr")
    )


def find(module: str, name: str) -> Any:
    """What a name stands for; None: it may not be named."""
    first, _, rest = module.partition(".")
    if first == "numpy":
        return _numpy(rest, name)
    if (module, name) in _FUNCTIONS:
        return getattr(import_module(module), name)
    if first == "pandas" and _is_frame(module, name):
        return getattr(sys.modules[module], name)
    if (module, name) == ("pyarrow.lib", "_restore_array"):
        return _restored
    if (module, name) == ("zoneinfo", "ZoneInfo"):
        return _Zone
    return _of_zone if (module, name) == ("builtins", "getattr") else None


def _numpy(rest: str, name: str) -> Any:
    numpy = import_module("numpy")
    if not rest and name in ("dtype", "ndarray"):
        return _dtype if name == "dtype" else numpy.ndarray
    core, _, part = rest.partition(".")
    if core in ("core", "_core") and (part, name) in _NUMPY:
        return getattr(import_module(f"numpy.{core}.{part}"), name)
    return None


def _dtype(spec: Any, align: bool = False, copy: bool = True) -> Any:
    if not isinstance(spec, str) or not _SPEC(spec):
        raise Refused("it holds a dtype that says something else")
    return import_module("numpy").dtype(spec, bool(align), bool(copy))


@cache
def _is_frame(module: str, name: str) -> bool:
    pandas = import_module("pandas")
    if name == "NA" and module == "pandas":
        return True
    found = getattr(import_module(module), name, None) if "." not in name else None
    managers = import_module("pandas.core.internals.managers")
    offsets = import_module("pandas._libs.tslibs.offsets")
    api = pandas.api.extensions
    kinds: tuple[Any, ...] = (
        pandas.DataFrame,
        pandas.Series,
        pandas.Index,
        api.ExtensionArray,
        api.ExtensionDtype,
    )
    kinds += (managers.BaseBlockManager, offsets.BaseOffset)
    return (
        isinstance(found, type)
        and issubclass(found, tuple(kinds))
        and found.__module__.partition(".")[0] == "pandas"
    )


def _restored(data: Any) -> Any:
    made = import_module("pyarrow").lib._restore_array(data)
    made.validate(full=True)
    return made


class _Zone:
    """Stands for `zoneinfo.ZoneInfo`, of which only a key is believed."""


def _of_zone(kind: Any, name: Any) -> Any:
    if kind is not _Zone or name != "_unpickle":
        raise Refused("it looks for an attribute")
    return _zone


def _zone(key: Any, _: Any = True) -> Any:
    return import_module("zoneinfo").ZoneInfo(str(key))


def check_call(function: Any, given: Any) -> None:
    """Whether something may be called with this.

    Raises:
        Refused: it may not.
    """
    numpy = sys.modules.get("numpy")
    if numpy is None or not isinstance(given, tuple):
        return
    if function is range and len(range(*given)) > _LONG:
        raise Refused("it holds a range that could become an array")
    if isinstance(function, type) and issubclass(function, (numpy.ndarray, numpy.dtype)):
        raise Refused("it makes an array of its own")
    name = getattr(function, "__name__", "")
    if name == "_reconstruct" and given != (numpy.ndarray, (0,), b"b"):
        raise Refused("it makes an array of its own")
    if name == "scalar" and not (given and isinstance(given[0], numpy.dtype)):
        raise Refused("it makes a number of its own")


def check_state(made: Any, state: Any) -> None:
    """Whether something may be given this state.

    Raises:
        Refused: it may not.
    """
    numpy = sys.modules.get("numpy")
    if numpy is None:
        return
    if isinstance(made, numpy.dtype) and not _is_state(numpy, made, state):
        raise Refused("it holds a dtype that can't be")
    if isinstance(made, numpy.ndarray):
        dtype = state[2] if isinstance(state, tuple) and len(state) == 5 else None
        if type(made) is not numpy.ndarray or not isinstance(dtype, numpy.dtype):
            raise Refused("it holds an array that can't be")


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
            return about is None and state[5:] == wanted.__reduce__()[2][5:]
        if subarray is not None:
            wanted = numpy.dtype((subarray[0], subarray[1]))
        else:
            parts = [fields[name] for name in names]
            wanted = numpy.dtype(
                {
                    "names": list(names),
                    "formats": [part[0] for part in parts],
                    "offsets": [part[1] for part in parts],
                    "itemsize": made.itemsize,
                },
                align=state[6] > 1,
            )
        return bool(wanted.itemsize == made.itemsize and state == wanted.__reduce__()[2])
    except (TypeError, ValueError, KeyError, IndexError, AttributeError):
        return False
