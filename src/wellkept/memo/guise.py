"""How a kept function comes to look like the function that it keeps, also to a digest."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from contextvars import ContextVar
from types import FunctionType, MethodType
from typing import Any

__all__ = ["binds", "digested", "followed", "wear"]

_digesting: ContextVar[tuple[int, ...]] = ContextVar("wellkept.digesting", default=())


def wear(kept: Any, function: Callable[..., Any]) -> None:
    """Give a kept function the names, the documentation and the attributes of a function."""
    inner = function.func if isinstance(function, functools.partial) else function
    kept.__name__ = getattr(inner, "__name__", type(inner).__name__)
    kept.__qualname__ = getattr(inner, "__qualname__", type(inner).__qualname__)
    kept.__module__ = type(inner).__module__
    functools.update_wrapper(kept, function, updated=())
    # inspect (and so frameworks) takes an object with these for a function of its kind.
    for name in ("__code__", "__defaults__", "__kwdefaults__", "__globals__"):
        if hasattr(function, name):
            setattr(kept, name, getattr(function, name))
    if isinstance(function, FunctionType):
        for name, value in vars(function).items():
            if not hasattr(type(kept), name):  # an attribute must not hide a method of ours
                kept.__dict__[name] = value


def binds(function: Callable[..., Any]) -> bool:
    """Whether what is found in a class is a method, as functions are; not so a class or a callable."""
    kind = type(function)
    if kind is functools.partial:
        return sys.version_info >= (3, 14)
    return hasattr(kind, "__get__") and not issubclass(kind, (MethodType, type))


def digested(kept: Any) -> tuple[Any, ...]:
    """What stands for a kept function in a digest: its identity."""
    if id(kept) in _digesting.get():  # it is in its own closure
        return ("kept", kept.__module__, kept.__qualname__)
    token = _digesting.set((*_digesting.get(), id(kept)))
    try:
        return ("kept", *kept.locator.identity())
    finally:
        _digesting.reset(token)


def followed(kept: Any) -> tuple[Callable[..., Any] | None, str]:
    """For the identity of code that calls it: the function to follow, or what stands for it."""
    options = kept.options
    if options.version is None and options.code == "deep":
        return kept.__wrapped__, ""
    return None, f"{kept.__qualname__} {kept.code_tag}"
