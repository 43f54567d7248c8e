"""What a function is: its name, and its code with the values that it was made with.

The code is the normalised source (`source`), or the byte code, tagged with the Python version,
where there is no source. With it count the defaults and the values in the closure, by their
digests. Of a function that is called, one that has none counts by the name of its type; a function
that is a value has no digest then either. Attributes set on a function, and the globals that it
reads, do not count.
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from threading import local
from types import (
    BuiltinFunctionType,
    CodeType,
    FunctionType,
    MethodType,
    MethodWrapperType,
    ModuleType,
)
from typing import Any, Literal, NamedTuple

from ..errors import Undigestible
from .definitions import TAG, function_code
from .names import class_name, module_of, script_or_module

__all__ = ["Identity", "identify", "reduce_code", "reduce_function"]


class Identity(NamedTuple):
    """Which function it is, and which code it runs."""

    name: str
    """`module:qualname`; the module of a script is called as it is where it is imported."""
    code: str
    """The digest of its code, defaults and closure in hex; "" if that does not count."""


_PLAIN = frozenset({type(None), bool, int, float, complex, str, bytes, type, ModuleType})
"""Exact types whose values have one digest for as long as they live."""

_texts: dict[int, tuple[weakref.ref[CodeType], tuple[Any, ...]]] = {}
_known: dict[int, tuple[Any, ...]] = {}
_under_way = local()


def _code_content(function: FunctionType) -> tuple[Any, ...]:
    """("source", text) or ("bytecode", …) of a function, worked out once a code object."""
    code = function.__code__
    found = _texts.get(id(code))
    if found is not None and found[0]() is code:
        return found[1]
    from .source import normal_text

    text = normal_text(function)
    content = ("source", text) if text is not None else reduce_code(code)
    key = id(code)
    # Code objects compare by content and not by file, so they are told apart by address.
    _texts[key] = weakref.ref(code, lambda _: _texts.pop(key, None)), content
    return content


def reduce_code(code: CodeType) -> tuple[Any, ...]:
    """Byte code and what it refers to; positions and the file do not count."""
    return (
        "bytecode",
        f"{sys.implementation.name} {sys.version_info[0]}.{sys.version_info[1]}",
        code.co_code,
        code.co_exceptiontable,
        code.co_names,
        code.co_varnames,
        code.co_cellvars,
        code.co_freevars,
        (code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags),
        list(code.co_consts),
    )


def function_name(function: Any) -> str:
    """`module:qualname`, with the module as `names` has it."""
    code = getattr(function, "__code__", None)
    file = code.co_filename if isinstance(code, CodeType) else None
    return f"{script_or_module(function, file)}:{function.__qualname__}"


def _digestible(value: Any) -> bool:
    from .digests import digest_bytes

    try:
        with _of_identity():
            digest_bytes(value)
    except Undigestible:
        return False
    return True


def _counted(value: Any) -> tuple[Any, ...]:
    """A default or a closure's value, or the name of its type if it has no digest."""
    if type(value) in _PLAIN or _digestible(value):
        return (value,)
    return "type", class_name(type(value))


def _given(value: Any) -> tuple[Any, ...]:
    """The same of a function that is a value: what has no digest is refused, by its path."""
    return (value,)


def _cell(cell: Any, counted: Callable[[Any], tuple[Any, ...]]) -> tuple[Any, ...]:
    try:
        value = cell.cell_contents
    except ValueError:  # not assigned yet
        return ()
    return counted(value)


def _content(function: FunctionType) -> tuple[Any, ...]:
    counted = _counted if _under_way.__dict__.get("identity") else _given
    code = _code_content(function)
    defaults = function.__defaults__
    named = function.__kwdefaults__
    cells = function.__closure__
    return (
        code,
        None if defaults is None else tuple(map(counted, defaults)),
        None if named is None else {name: counted(value) for name, value in named.items()},
        None
        if cells is None
        else dict(
            zip(function.__code__.co_freevars, [_cell(c, counted) for c in cells], strict=True)
        ),
    )


@contextmanager
def _of_identity() -> Iterator[None]:
    """While the identity of a function that is called is worked out, a lock in a helper's closure is
    no reason to refuse it."""
    held = _under_way.__dict__
    before = held.get("identity", False)
    held["identity"] = True
    try:
        yield
    finally:
        held["identity"] = before


def reduce_function(function: FunctionType) -> tuple[Any, ...]:
    """The reducer for functions: name, code, and the values that they hold.

    A function that reaches itself through its closure is a cycle in the value and ends as such.
    While its values are tried for being digestible, a function under way stands by its name alone;
    what comes of that is not kept.
    """
    open_now: set[int] = _under_way.__dict__.setdefault("functions", set())
    if id(function) in open_now:
        return "function", function_name(function)
    open_now.add(id(function))
    try:
        content = "function", function_name(function), *_content(function)
    finally:
        open_now.discard(id(function))
    # Of a function that is called, what it reaches counts elsewhere.
    code = None if _under_way.__dict__.get("identity") else function_code(function)
    if code is None:
        return content
    # The code says what the function does itself, too, and is the same where its source is not.
    told = f"{TAG}{code}", *content[:2], *content[3:]
    attributes = dict(vars(function))
    return (*told, attributes) if attributes else told


def _values(function: FunctionType, seen: set[int] | None = None) -> list[Any] | None:
    """All values that a function holds, if none can change under it; else None.

    Functions among them are followed, with their code.
    """
    held: list[Any] = [*(function.__defaults__ or ())]
    if function.__kwdefaults__:
        held += function.__kwdefaults__.values()
    try:
        for cell in function.__closure__ or ():
            held.append(cell.cell_contents)
    except ValueError:
        return None
    for value in tuple(held):
        if type(value) in _PLAIN:
            continue
        if type(value) is not FunctionType:
            return None
        seen = {id(function)} if seen is None else seen
        if id(value) not in seen:
            seen.add(id(value))
            more = _values(value, seen)
            if more is None:
                return None
            held = [*held, value.__code__, value.__qualname__, value.__module__, *more]
    return held


def _of_function(function: FunctionType) -> Identity:
    code = function.__code__
    found = _known.get(id(function))
    if (
        found is not None
        and found[0]() is function
        and found[1] is code
        and found[2] is function.__qualname__
        and found[3] is function.__module__
    ):
        held = found[4]
        if not held:
            if not (function.__defaults__ or function.__kwdefaults__ or function.__closure__):
                return found[5]  # type: ignore[no-any-return]
        else:
            now = _values(function)
            if now is not None and len(now) == len(held) and all(map(_is, now, held)):
                return found[5]  # type: ignore[no-any-return]
    with _of_identity():
        identity = Identity(function_name(function), _hex(_content_of(function)))
    held = _values(function)
    if held is not None:
        key = id(function)
        _known[key] = (
            weakref.ref(function, lambda _: _known.pop(key, None)),
            code,
            function.__qualname__,
            function.__module__,
            held,
            identity,
        )
    return identity


def _is(one: Any, other: Any) -> bool:
    return one is other


def _content_of(function: FunctionType) -> tuple[Any, ...]:
    open_now: set[int] = _under_way.__dict__.setdefault("functions", set())
    open_now.add(id(function))
    try:
        return ("code", *_content(function))
    finally:
        open_now.discard(id(function))


def _hex(content: Any) -> str:
    from .digests import digest_bytes

    return digest_bytes(content).hex()


def _of_class(kind: type) -> tuple[Any, ...]:
    """A class that is called: its own functions by name, and those of its bases."""
    held: dict[str, Any] = {}
    for base in reversed(kind.__mro__[:-1]):
        for name, item in base.__dict__.items():
            function = getattr(item, "__func__", item)
            if isinstance(function, FunctionType):
                held[name] = _of_function(function).code
    return "class", class_name(kind), held


def _has_call(function: Any) -> bool:
    """Whether it is an object of a class that is written in Python, and so has a state of its own."""
    found = (vars(base).get("__call__") for base in type(function).__mro__)
    return isinstance(next(filter(None, found), None), FunctionType)


def identify(function: Any, code: Literal["own", "off"] = "own") -> Identity:
    """The identity of something that can be called.

    Args:
        code: "own" for the function's own code, "off" if code should not count.

    Raises:
        TypeError: it can't be called.
    """
    if type(function) is FunctionType:
        return _of_function(function) if code == "own" else Identity(function_name(function), "")
    if isinstance(function, staticmethod | classmethod):
        return identify(function.__func__, code)
    if not callable(function):
        raise TypeError(f"identify: {function!r} can't be called")
    content: Any
    if isinstance(function, MethodType):
        inner = identify(function.__func__, code)
        name, content = inner.name, ("method", inner.code, _counted(function.__self__))
    elif isinstance(function, BuiltinFunctionType | MethodWrapperType):
        receiver = function.__self__
        if receiver is None or isinstance(receiver, ModuleType):
            name = f"{module_of(function.__module__)}:{function.__qualname__}"
            content = ("builtin", name)
        else:
            name = f"{class_name(type(receiver))}.{function.__name__}"
            content = ("builtin method", _counted(receiver), function.__name__)
    elif isinstance(function, type):
        name = class_name(function)
        content = _of_class(function) if code == "own" else None
    elif isinstance(function, partial):
        inner = identify(function.func, code)
        name = inner.name
        content = (
            "partial",
            inner.code,
            tuple(map(_counted, function.args)),
            {key: _counted(value) for key, value in function.keywords.items()},
        )
    elif isinstance(getattr(function, "__qualname__", None), str) and not _has_call(function):
        # Functions of extension modules, method descriptors, numpy's dispatchers.
        name = f"{module_of(getattr(function, '__module__', None))}:{function.__qualname__}"
        content = ("builtin", name)
    else:
        kind = type(function)
        name = class_name(kind)
        call = identify(kind.__call__, code).code
        content = ("callable", name, _counted(function), call)
        if isinstance(named := getattr(function, "__qualname__", None), str):  # as decorators say
            name = f"{module_of(getattr(function, '__module__', None))}:{named}"
    with _of_identity():
        return Identity(name, _hex(content) if code == "own" else "")
