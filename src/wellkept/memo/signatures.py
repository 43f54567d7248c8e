"""What a callable accepts, found in what is called: never in what it says of itself.

`inspect.signature` follows `__wrapped__` and believes `__signature__` and `__text_signature__`. A
decorator may take other arguments than what it wraps, have defaults of its own, or tell a keyword
from an argument by position; then two calls that are not the same would have one key.
"""

from __future__ import annotations

import dis
import functools
import gc
import inspect
from collections.abc import Callable
from inspect import Parameter, Signature
from types import (
    BuiltinFunctionType,
    ClassMethodDescriptorType,
    FunctionType,
    MethodDescriptorType,
    MethodType,
    MethodWrapperType,
    WrapperDescriptorType,
)
from typing import Any

__all__ = ["Accepted"]

_ANYTHING = Signature(
    [Parameter("args", Parameter.VAR_POSITIONAL), Parameter("kwargs", Parameter.VAR_KEYWORD)]
)
_ROUTINES = (
    BuiltinFunctionType,
    ClassMethodDescriptorType,
    MethodDescriptorType,
    MethodWrapperType,
    WrapperDescriptorType,
)
_BY_NAME = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
_STARS = inspect.CO_VARARGS | inspect.CO_VARKEYWORDS
# By these a function sees its arguments without naming them.
_LOOKERS = {
    "locals", "vars", "dir", "eval", "exec", "_getframe", "currentframe", "stack", "f_locals",
    "getargvalues",
}  # fmt: skip
_SILENT = {"CACHE", "COPY_FREE_VARS", "EXTENDED_ARG", "NOP", "PRECALL", "PUSH_NULL", "RESUME"}


class Accepted:
    """The arguments that one callable accepts.

    Args:
        function: what is called.

    Attributes:
        signature: their names; `*args` and `**kwargs` where nothing can be trusted.
        exact: whether it accepts these alone, and a call that leaves a default out is the same as one
            that gives it.
        named: the defaults of its parameters by keyword, where they are those of a function, which may
            be changed in place.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self.exact = True
        self.named: dict[str, Any] | None = None
        self._checks: list[Callable[[], bool]] = []
        self.signature = self._of(function)
        checks = self._checks
        self.same: Callable[[], bool] = (
            checks[0] if len(checks) == 1 else lambda: all(check() for check in checks)
        )
        """Whether what it was read from is what it was."""

    def _of(self, function: Any) -> Signature:
        kind = type(function)
        if kind is FunctionType:
            return self._of_function(function)
        if kind is MethodType:
            return _without_first(self._of(function.__func__))
        if kind is functools.partial:
            return self._of_partial(function)
        if kind is functools._lru_cache_wrapper:
            inner = function.__dict__.get("__wrapped__")
            # `update_wrapper` may have put another one there than it calls.
            held = any(one is inner for one in gc.get_referents(function))
            return self._of(inner) if held and callable(inner) else _ANYTHING
        if issubclass(kind, type):
            return self._of_class(function)
        if kind in _ROUTINES:
            return self._of_routine(function)
        call = _static(kind, "__call__")
        if type(call) is FunctionType:
            self._checks.append(lambda: _static(type(function), "__call__") is call)
            return _without_first(self._of(call))
        return _ANYTHING

    def _of_function(self, function: FunctionType) -> Signature:
        code, defaults = function.__code__, function.__defaults__
        named = function.__kwdefaults__
        if named is None:
            self._checks.append(
                lambda: (
                    function.__code__ is code
                    and function.__defaults__ is defaults
                    and function.__kwdefaults__ is None
                )
            )
        else:
            items = list(named.items())
            self._checks.append(
                lambda: (
                    function.__code__ is code
                    and function.__defaults__ is defaults
                    and _same_items(function.__kwdefaults__, items)
                )
            )
        inner = _passed_on(function)
        if inner is not None:
            cells = function.__closure__ or ()
            self._checks.append(lambda: any(_content(cell) is inner for cell in cells))
            kept = len(self._checks)
            found = self._of(inner)
            if _fits(function, found):
                return found
            del self._checks[kept:]
            self.exact = True
        bare = FunctionType(code, {}, function.__name__, defaults, function.__closure__)
        bare.__kwdefaults__ = named
        self.named = named
        found = inspect.signature(bare)
        parameters = list(found.parameters.values())
        if (
            parameters
            and parameters[0].kind is Parameter.VAR_POSITIONAL
            and (first := _receiver(function))
        ):
            own = Parameter(first, Parameter.POSITIONAL_ONLY)
            found = found.replace(parameters=[own, *parameters])
        return found

    def _of_partial(self, function: functools.partial[Any]) -> Signature:
        args, items = function.args, list(function.keywords.items())
        self._checks.append(lambda: function.args is args and _same_items(function.keywords, items))

        def inner() -> None: ...

        inner.__signature__ = self._of(function.func)  # type: ignore[attr-defined]  # `inspect` asks for it
        self.named = None
        try:
            return inspect.signature(functools.partial(inner, *args, **function.keywords))
        except (TypeError, ValueError):  # it can't be called
            return _ANYTHING

    def _of_class(self, kind: type[Any]) -> Signature:
        call = _static(type(kind), "__call__")
        if type(call) is FunctionType:  # of a metaclass
            return _without_first(self._of(call))
        if call is not type.__call__:
            return _ANYTHING
        new, init = _static(kind, "__new__"), _static(kind, "__init__")
        self._checks.append(
            lambda: _static(kind, "__new__") is new and _static(kind, "__init__") is init
        )
        made = new.__func__ if type(new) is staticmethod else new
        if type(init) is FunctionType and new is object.__dict__["__new__"]:
            return _without_first(self._of(init))
        if type(made) is FunctionType and init is object.__init__:
            return _without_first(self._of(made))
        return _ANYTHING  # both are given them; or they are kept beside, as an exception's are

    def _of_routine(self, function: Any) -> Signature:
        """One of C. What a default stands for there is not always what is passed when it is left out."""
        try:
            found = inspect.signature(function)
        except (TypeError, ValueError):  # it does not tell
            return _ANYTHING
        self.exact = False
        return found


def _static(kind: type[Any], name: str) -> Any:
    for base in type.__dict__["__mro__"].__get__(kind):
        if name in type.__dict__["__dict__"].__get__(base):
            return type.__dict__["__dict__"].__get__(base)[name]
    return None


def _same_items(now: dict[str, Any] | None, before: list[tuple[str, Any]]) -> bool:
    return (
        now is not None
        and len(now) == len(before)
        and all(name in now and now[name] is value for name, value in before)
    )


def _content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # it is empty
        return None


def _without_first(signature: Signature) -> Signature:
    """Without the receiver, or the class."""
    first, *rest = signature.parameters.values() or (None,)
    if first is None or first.kind not in _BY_NAME:
        return signature  # among `*args`; or it can't be called
    return signature.replace(parameters=rest, return_annotation=Signature.empty)


def _receiver(function: FunctionType) -> str:
    """The name of a method's receiver, where a decorator has it among `*args`: "" for no method's."""
    if "__wrapped__" in function.__dict__:
        try:
            first = next(iter(inspect.signature(function).parameters), "")
        except (TypeError, ValueError):  # it does not tell
            return ""
        return first if first in ("self", "cls") else ""
    return ""


def _fits(function: FunctionType, inner: Signature) -> bool:
    """Whether the parameters that a decorator names begin those of what it wraps."""
    names = function.__code__.co_varnames[: function.__code__.co_argcount]
    first = list(inner.parameters.values())[: len(names)]
    return [one.name for one in first] == list(names) and all(
        one.kind is Parameter.POSITIONAL_OR_KEYWORD and one.default is one.empty for one in first
    )


def _passed_on(function: FunctionType) -> Any:
    """What a decorator wraps, if it does nothing with its arguments but pass all of them on to that,
    as they are: `function(*args, **kwargs)`, perhaps after parameters that it names itself.
    """
    inner, code = function.__dict__.get("__wrapped__"), function.__code__
    if (
        not callable(inner)
        or code.co_flags & _STARS != _STARS
        or code.co_kwonlyargcount
        or code.co_posonlyargcount
        or function.__defaults__
        or not _LOOKERS.isdisjoint(code.co_names)
    ):
        return None
    cells = dict(zip(code.co_freevars, function.__closure__ or (), strict=True))
    names = {name for name, cell in cells.items() if _content(cell) is inner}
    first = code.co_varnames[: code.co_argcount]
    args, kwargs = code.co_varnames[code.co_argcount : code.co_argcount + 2]
    steps = _steps(code)
    calls: list[list[tuple[str, Any]]] = []
    for name in names:
        head: list[tuple[str, Any]] = [("LOAD_DEREF", name)]
        if first:
            head += [("LOAD_FAST", one) for one in first]
            head += [("BUILD_LIST", len(first)), ("LOAD_FAST", args), ("LIST_EXTEND", 1)]
            head += [("LIST_TO_TUPLE", None)]
        else:
            head += [("LOAD_FAST", args)]
        tail = [("BUILD_MAP", 0), ("LOAD_FAST", kwargs), ("DICT_MERGE", 1)]
        calls.append([*head, *tail, ("CALL_FUNCTION_EX", None)])
    seen = passed = 0
    for i, (_, value) in enumerate(steps):
        seen += value in (args, kwargs)
        passed += 2 * any(steps[i : i + len(call)] == call for call in calls)
    written = any(step[0] != "LOAD_DEREF" and step[1] in names for step in steps)
    return inner if passed and passed == seen and not written else None


def _steps(code: Any) -> list[tuple[str, Any]]:
    """The instructions of a function, written as one version of Python does it."""
    steps: list[tuple[str, Any]] = []
    for one in dis.get_instructions(code):
        name, value = one.opname, one.argval
        if name in _SILENT:
            continue
        if isinstance(value, tuple) and "_FAST" in name:  # two in one
            steps += [("LOAD_FAST" if "STORE" not in name else name, each) for each in value]
        elif name.startswith("LOAD_FAST") and name != "LOAD_FAST_AND_CLEAR":
            steps.append(("LOAD_FAST", value))
        elif name == "CALL_INTRINSIC_1" and value == 6:
            steps.append(("LIST_TO_TUPLE", None))
        elif name in ("CALL_FUNCTION_EX", "LIST_TO_TUPLE"):
            steps.append((name, None))
        else:
            steps.append((name, value))
    return steps
