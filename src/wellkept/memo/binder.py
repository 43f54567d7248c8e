"""Arguments to names: a function compiled once from a signature, a tenth of `Signature.bind`.

The names are for the key alone: the body is called with what the caller gave.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterable
from typing import Annotated, Any, get_args, get_origin

from wellkept.errors import ConfigError
from wellkept.memo.marks import GIVEN, LEFT, Ignored, Ordered, Required
from wellkept.memo.signatures import Accepted

__all__ = ["Binder"]

_KINDS = inspect.Parameter


class Binder:
    """Binds the arguments of one function.

    Args:
        function: what is called.
        ignore: names of parameters that do not count.
        require: names of parameters that must be there and not None for the call to be kept.
        ordered: names of parameters in which the order of dicts counts.

    Raises:
        ConfigError: a name is none of the function's.

    `bind(*args, **kwargs)` returns the values in the order of `names`, defaults applied, or `LEFT`
    where a default can't stand for what is left out; it raises the TypeError that the function would.
    Unless the signature is `exact`, the function may take other arguments all the same.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        ignore: tuple[str, ...],
        require: tuple[str, ...],
        ordered: tuple[str, ...] = (),
    ) -> None:
        self._about = function, ignore, require, ordered
        self._read(Accepted(function))
        if self.var_kwargs is None:
            for name in (*ignore, *require, *ordered):
                if name not in self.names:
                    raise ConfigError(
                        f"{function!r} has no parameter {name!r}; it has {', '.join(self.names)}"
                    )

    def renew(self) -> None:
        """Read the signature anew: the function has changed."""
        self._read(Accepted(self._about[0]))

    def _read(self, accepted: Accepted) -> None:
        function, ignore, require, ordered = self._about
        self.same, self.exact = accepted.same, accepted.exact
        parameters = list(accepted.signature.parameters.values())
        if not self.exact:
            parameters = [
                p if p.default is p.empty else p.replace(default=LEFT) for p in parameters
            ]
        self.signature = accepted.signature.replace(parameters=parameters)
        self.names = [p.name for p in parameters]
        self.var_args = next((p.name for p in parameters if p.kind is _KINDS.VAR_POSITIONAL), None)
        self.var_kwargs = next((p.name for p in parameters if p.kind is _KINDS.VAR_KEYWORD), None)
        # What `**kwargs` gathers may have names that a decorator keeps to itself.
        marked = _marked(function, self.names if self.var_kwargs is None else None)
        self.ignore = frozenset(ignore) | marked[Ignored]
        self.require = frozenset(require) | marked[Required]
        self.ordered = frozenset(ordered) | marked[Ordered]
        self.sentinels = {p.name: p.default for p in parameters if type(p.default) is object}
        """Parameters whose default is a bare `object()`: it says that nothing was given."""
        self.bind: Callable[..., tuple[Any, ...]] = _compile(parameters, function, accepted.named)
        left = any(p.default is LEFT for p in parameters)
        self.simple = not (self.var_args or self.var_kwargs or self.ignore or self.require or left)
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
        if of in self.ordered or (name == "*args" and not self.exact):  # it may hold any of them
            return True
        if of == self.var_args:  # which may hold what the signature no longer names
            return not self.ordered <= {*self.names}
        return self.var_kwargs in self.ordered and (name[:2] == "**" or of not in self.names)

    def keepable(self, values: tuple[Any, ...]) -> bool:
        """Whether every required argument is there and not None."""
        if not self.require:
            return True
        args, kwargs = self.spread(values)
        given = {} if values and values[0] is GIVEN else dict(zip(self.names, values, strict=True))
        given |= kwargs
        if not self.require <= given.keys():
            # Which of the arguments by position it is, only the function's own word tells.
            with contextlib.suppress(TypeError, ValueError):
                bound = inspect.signature(self._about[0]).bind_partial(*args, **kwargs)
                given = bound.arguments | given
        found = (given.get(name) for name in self.require)
        return not any(value is None or value is LEFT for value in found)

    def keywords(self) -> frozenset[str]:
        """Names that the function has for its arguments, by its own word too."""
        with contextlib.suppress(TypeError, ValueError):
            return frozenset((*self.names, *inspect.signature(self._about[0]).parameters))
        return frozenset(self.names)

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
    if any(isinstance(hint, str) for hint in hints.values()):  # from __future__ import annotations
        try:
            hints = inspect.get_annotations(function, eval_str=True)
        except Exception:  # noqa: BLE001  an annotation may be any expression, and fail in any way
            hints = _each(function, hints)
    found: dict[type, set[str]] = {Ignored: set(), Ordered: set(), Required: set()}
    for name in hints if names is None else names:
        hint = hints.get(name)
        if get_origin(hint) is Annotated:
            for mark in get_args(hint)[1:]:
                kind = mark if isinstance(mark, type) else type(mark)
                if kind in found:
                    found[kind].add(name)
    return {kind: frozenset(names) for kind, names in found.items()}


def _each(function: Callable[..., Any], hints: dict[str, Any]) -> dict[str, Any]:
    good = {}
    names = getattr(function, "__globals__", {})
    for name, text in hints.items():
        try:
            good[name] = eval(text, names) if isinstance(text, str) else text  # noqa: S307  the user's own source
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
    if named and named.keys() == (bind.__kwdefaults__ or {}).keys():
        bind.__kwdefaults__ = named  # so that a change in place is seen here too
    # The TypeError of a wrong call names the function, as Python itself would.
    bind.__qualname__ = getattr(function, "__qualname__", None) or type(function).__qualname__
    return bind  # type: ignore[no-any-return]  # see the line above


def _first(kinds: list[Any], i: int) -> bool:
    return i == 0 or kinds[i - 1] is not _KINDS.KEYWORD_ONLY


def _starred(kinds: list[Any]) -> bool:
    return _KINDS.VAR_POSITIONAL in kinds
