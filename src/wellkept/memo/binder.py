"""The arguments that a callable accepts, and their names: a function compiled once from a signature.

`inspect.signature` follows `__wrapped__` and believes `__signature__` and `__text_signature__`. A
decorator may take other arguments than what it wraps, have defaults of its own, or tell a keyword
from an argument by position; then two calls that are not the same would have one key. So what a
callable accepts is found in what is called, never in what it says of itself.

The names are for the key alone: the body is called with what the caller gave. Binding takes a tenth
of the time of `Signature.bind`.
"""

from __future__ import annotations

import builtins
import contextlib
import dis
import functools
import gc
import inspect
from collections.abc import Callable, Iterable
from inspect import Parameter, Signature
from types import (
    BuiltinFunctionType,
    ClassMethodDescriptorType,
    FunctionType,
    MethodDescriptorType,
    MethodType,
    MethodWrapperType,
    UnionType,
    WrapperDescriptorType,
)
from typing import Annotated, Any, Union, get_args, get_origin

from wellkept.errors import ConfigError, nearest
from wellkept.memo.keep_options import GIVEN, LEFT, Ignored, Ordered, Required, titled

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
        self.exact: bool = True
        self.named: dict[str, Any] | None = None
        self._checks: list[Callable[[], bool]] = []
        self.signature: Signature = self._of(function)
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
        except (TypeError, ValueError):
            # It can't be called like that.
            return _ANYTHING

    def _of_class(self, kind: type[Any]) -> Signature:
        call = _static(type(kind), "__call__")
        # A metaclass makes the call.
        if type(call) is FunctionType:
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
        # Both get the arguments, or they are kept beside them, as an exception's are.
        return _ANYTHING

    def _of_routine(self, function: Any) -> Signature:
        """One of C. What a default stands for there is not always what is passed when it is left out."""
        try:
            found = inspect.signature(function)
        except (TypeError, ValueError):
            # A callable need not tell its signature.
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
    except ValueError:
        # An empty cell raises.
        return None


def _without_first(signature: Signature) -> Signature:
    """Without the receiver, or the class."""
    first, *rest = signature.parameters.values() or (None,)
    if first is None or first.kind not in _BY_NAME:
        # The receiver is among `*args`, or it can't be called.
        return signature
    return signature.replace(parameters=rest, return_annotation=Signature.empty)


def _receiver(function: FunctionType) -> str:
    """The name of a method's receiver, where a decorator has it among `*args`: "" for no method's."""
    if "__wrapped__" in function.__dict__:
        try:
            first = next(iter(inspect.signature(function).parameters), "")
        except (TypeError, ValueError):
            # A callable need not tell its signature.
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
        # One instruction stands for two.
        if isinstance(value, tuple) and "_FAST" in name:
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


_KINDS = inspect.Parameter


class Binder:
    """Binds the arguments of one function.

    Args:
        function: what is called.
        ignore: names of parameters that do not count.
        require: names of parameters that must be given, and not as None, for the call to be kept.
        ordered: names of parameters in which the order of dicts counts.
        secret: those of `ignore` that `secret=` named, for a message.

    Raises:
        ConfigError: a name is none of the function's.

    `bind(*args, **kwargs)` returns the values in the order of `names`, defaults applied, or `LEFT`
    where a default can't stand for what is left out; it raises the TypeError that the function would.
    Unless the signature is `exact`, the function may take other arguments all the same.
    """

    same: Callable[[], bool]
    exact: bool

    def __init__(
        self,
        function: Callable[..., Any],
        ignore: tuple[str, ...],
        require: tuple[str, ...],
        ordered: tuple[str, ...] = (),
        secret: tuple[str, ...] = (),
    ) -> None:
        self._about = function, ignore, require, ordered
        self._read(Accepted(function))
        if self.var_kwargs is None:
            for label, names in (
                ("secret", secret),
                ("ignore", ignore),
                ("require", require),
                ("ordered", ordered),
            ):
                for name in names:
                    if name not in self.names:
                        raise ConfigError(
                            f"{label}={name!r}: {titled(function)} has no such parameter; it has "
                            f"{', '.join(self.names) or 'none'}{nearest(name, self.names)}"
                        )

    def renew(self) -> None:
        """Read the signature anew: the function has changed."""
        self._read(Accepted(self._about[0]))

    def _read(self, accepted: Accepted) -> None:
        function, ignore, require, ordered = self._about
        self.same, self.exact = accepted.same, accepted.exact
        parameters = list(accepted.signature.parameters.values())
        self.names: list[str] = [p.name for p in parameters]
        self.var_args: str | None = next(
            (p.name for p in parameters if p.kind is _KINDS.VAR_POSITIONAL), None
        )
        self.var_kwargs: str | None = next(
            (p.name for p in parameters if p.kind is _KINDS.VAR_KEYWORD), None
        )
        # What `**kwargs` gathers may have names that a decorator keeps to itself.
        marked = _marked(function, self.names if self.var_kwargs is None else None)
        self.ignore: frozenset[str] = frozenset(ignore) | marked[Ignored]
        self.require: frozenset[str] = frozenset(require) | marked[Required]
        self.ordered: frozenset[str] = frozenset(ordered) | marked[Ordered]
        # What was left out, and not what stands for it, tells whether a required argument was given.
        parameters = [
            p
            if p.default is p.empty or (self.exact and p.name not in self.require)
            else p.replace(default=LEFT)
            for p in parameters
        ]
        self.signature: Signature = accepted.signature.replace(parameters=parameters)
        self.sentinels: dict[str, object] = {
            p.name: p.default for p in parameters if type(p.default) is object
        }
        """Parameters whose default is a bare `object()`: it says that nothing was given."""
        self.bind: Callable[..., tuple[Any, ...]] = _compile(parameters, function, accepted.named)
        left = any(p.default is LEFT for p in parameters)
        self.simple: bool = not (
            self.var_args or self.var_kwargs or self.ignore or self.require or left
        )
        """Whether the values of `bind` are just the arguments that count."""

    def items(self, values: tuple[Any, ...]) -> list[tuple[str, Any]]:
        """The arguments that count, by name, in the order of the signature.

        A parameter `*rest` is one argument named `*rest`; what `**options` gathers counts each by
        its own name (by `**name` where a parameter is called so too).
        """
        if values and values[0] is GIVEN:
            named = [item for item in sorted(values[2].items()) if item[0] not in self.ignore]
            return [("*args", values[1]), *named]
        if self.simple:
            return list(zip(self.names, values, strict=True))
        found = []
        for name, value in zip(self.names, values, strict=True):
            if name in self.ignore or value is LEFT:
                continue
            if name == self.var_kwargs:
                for key, item in sorted(value.items()):
                    if key not in self.ignore:
                        found.append((f"**{key}" if key in self.names else key, item))
            else:
                found.append((f"*{name}" if name == self.var_args else name, value))
        return found

    def in_order(self, name: str) -> bool:
        """Whether the order of dicts counts in an argument of `items`."""
        if not self.ordered:
            return False
        of = name.lstrip("*")
        # It may hold any of them.
        if of in self.ordered or (name == "*args" and not self.exact):
            return True
        # Which may hold what the signature no longer names.
        if of == self.var_args:
            return not self.ordered <= {*self.names}
        return self.var_kwargs in self.ordered and (name[:2] == "**" or of not in self.names)

    def keepable(self, values: tuple[Any, ...]) -> bool:
        """Whether every required argument was given, and not as None."""
        found = self._required(values) if self.require else {}
        return not any(value is None or value is LEFT for value in found.values())

    def left_out(self, values: tuple[Any, ...]) -> list[str]:
        """The required arguments that were not given."""
        found = self._required(values)
        return sorted(name for name, value in found.items() if value is LEFT)

    def _required(self, values: tuple[Any, ...]) -> dict[str, Any]:
        args, kwargs = self.spread(values)
        given = {} if values and values[0] is GIVEN else dict(zip(self.names, values, strict=True))
        given |= kwargs
        if not self.require <= given.keys():
            # Which of the arguments by position it is, only the function's own word tells.
            with contextlib.suppress(TypeError, ValueError):
                bound = inspect.signature(self._about[0]).bind_partial(*args, **kwargs)
                given = bound.arguments | given
        return {name: given.get(name, LEFT) for name in self.require}

    def keywords(self) -> frozenset[str]:
        """Names that the function has for its arguments, by its own word too."""
        with contextlib.suppress(TypeError, ValueError):
            return frozenset((*self.names, *inspect.signature(self._about[0]).parameters))
        return frozenset(self.names)

    def check_key(self, key: Callable[..., Any]) -> None:
        """Check that the function of `key=` takes what this one does.

        Raises:
            ConfigError: it does not.
        """
        if not self.exact or self.var_args is not None or self.var_kwargs is not None:
            return
        args, kwargs = self.spread(tuple(self.names))
        try:
            accepted = inspect.signature(key)
        except (TypeError, ValueError):
            # Not every callable tells.
            return
        try:
            accepted.bind(*args, **kwargs)
        except TypeError:
            raise ConfigError(
                f"key= is called with all arguments of {titled(self._about[0])}, also those left to "
                f"defaults ({', '.join(self.names)}), but takes {accepted}: write "
                f"key=lambda {', '.join(self.names)}: …"
            ) from None

    def spread(self, values: tuple[Any, ...]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Arguments, by position and by keyword, that are bound to these values."""
        if values and values[0] is GIVEN:
            return values[1], values[2]
        args: list[Any] = []
        kwargs: dict[str, Any] = {}
        by_name = False
        for parameter, value in zip(self.signature.parameters.values(), values, strict=True):
            if value is LEFT:
                by_name = True
            elif parameter.kind is _KINDS.VAR_POSITIONAL:
                args += value
            elif parameter.kind is _KINDS.VAR_KEYWORD:
                kwargs |= value
            elif parameter.kind is _KINDS.KEYWORD_ONLY or by_name:
                kwargs[parameter.name] = value
            else:
                args.append(value)
        return tuple(args), kwargs


def _marked(
    function: Callable[..., Any], names: Iterable[str] | None
) -> dict[type, frozenset[str]]:
    hints = getattr(function, "__annotations__", None) or {}
    # Annotations are text under `from __future__ import annotations`.
    if any(isinstance(hint, str) for hint in hints.values()):
        try:
            hints = inspect.get_annotations(function, eval_str=True)
        except Exception:  # noqa: BLE001  an annotation may be any expression, and fail in any way
            hints = _each(function, hints)
    found: dict[Any, set[str]] = {Ignored: set(), Ordered: set(), Required: set()}
    for name in hints if names is None else names:
        for mark in _marks(hints.get(name)):
            kind = mark if isinstance(mark, type) else type(mark)
            if kind in found:
                found[kind].add(name)
    return {kind: frozenset(names) for kind, names in found.items()}


def _marks(hint: Any) -> list[Any]:
    """What may be a mark: the hint itself, what it is annotated with, and that of each part of a union."""
    origin, args = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return [*_marks(args[0]), *args[1:]]
    if origin is Union or origin is UnionType:
        return [mark for part in args for mark in _marks(part)]
    return [hint]


class _Names(dict[str, Any]):
    """The names that an annotation sees; one that is imported for the type checker alone is any type."""

    def __missing__(self, name: str) -> Any:
        return getattr(builtins, name, _UNKNOWN)


class _Unknown:
    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # `typing` asks what it is
            raise AttributeError(name)
        return self

    def __call__(self, *_: Any, **__: Any) -> Any:
        return self

    __getitem__ = __call__

    def __or__(self, other: Any) -> Any:
        return Any | other

    __ror__ = __or__


_UNKNOWN = _Unknown()


def _each(function: Callable[..., Any], hints: dict[str, Any]) -> dict[str, Any]:
    good = {}
    names = _Names(getattr(function, "__globals__", {}))
    for name, text in hints.items():
        try:
            good[name] = eval(text, {}, names) if isinstance(text, str) else text  # noqa: S307  the user's own source
        except Exception:  # noqa: BLE001  as above
            continue
    return good


def _compile(
    parameters: list[inspect.Parameter],
    function: Callable[..., Any],
    named: dict[str, Any] | None,
) -> Callable[..., tuple[Any, ...]]:
    scope: dict[str, Any] = {}
    parts: list[str] = []
    kinds = [p.kind for p in parameters]
    for i, p in enumerate(parameters):
        default = ""
        if p.default is not p.empty:
            scope[f"_kept_{i}"] = p.default
            default = f"=_kept_{i}"
        if p.kind is _KINDS.VAR_POSITIONAL:
            parts.append(f"*{p.name}")
        elif p.kind is _KINDS.VAR_KEYWORD:
            parts.append(f"**{p.name}")
        else:
            if p.kind is _KINDS.KEYWORD_ONLY and _first(kinds, i) and not _starred(kinds):
                parts.append("*")
            parts.append(p.name + default)
        if p.kind is _KINDS.POSITIONAL_ONLY and (
            i + 1 == len(parameters) or kinds[i + 1] is not _KINDS.POSITIONAL_ONLY
        ):
            parts.append("/")
    values = "".join(f"{p.name}, " for p in parameters)
    source = f"def bind({', '.join(parts)}): return ({values})"
    exec(source, scope)  # noqa: S102  made of a signature's own names
    bind: Any = scope["bind"]
    own = bind.__kwdefaults__ or {}
    if named and named.keys() == own.keys() and LEFT not in own.values():
        # So that a change in place is seen here too.
        bind.__kwdefaults__ = named
    # The TypeError of a wrong call names the function, as Python itself would.
    bind.__qualname__ = getattr(function, "__qualname__", None) or type(function).__qualname__
    return bind  # type: ignore[no-any-return]  # see the line above


def _first(kinds: list[Any], i: int) -> bool:
    return i == 0 or kinds[i - 1] is not _KINDS.KEYWORD_ONLY


def _starred(kinds: list[Any]) -> bool:
    return _KINDS.VAR_POSITIONAL in kinds
