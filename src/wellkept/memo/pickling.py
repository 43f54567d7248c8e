"""How a kept function looks like the function that it keeps, and how it pickles: by name where it has
one on the other side, else by what it is made of."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from contextvars import ContextVar
from types import FunctionType, MethodType
from typing import Any

from wellkept.caches import Cache
from wellkept.errors import tell
from wellkept.hashing.functions import arrive, sent
from wellkept.memo.bound import Bound
from wellkept.records import is_special

_PUBLIC = frozenset(
    {
        *(
            "bind",
            "cache",
            "cache_clear",
            "call",
            "clear",
            "code_tag",
            "contains",
            "evict",
            "explain",
        ),
        *(
            "forget",
            "fresh",
            "function_name",
            "key",
            "load",
            "map",
            "options",
            "plan",
            "profile",
            "put",
        ),
        *("query", "replicate", "rerun", "stats", "submit"),
    }
)
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
            # An attribute must not hide a method of ours.
            if not hasattr(type(kept), name):
                kept.__dict__[name] = value


def shown(kept: Any) -> list[str]:
    """Return the names of what is for users, and of what the function itself carries."""
    own = getattr(kept.__wrapped__, "__dict__", {})
    names = {*object.__dir__(kept), *own}
    return sorted(name for name in names if name in own or name in _PUBLIC or is_special(name))


def binds(function: Callable[..., Any]) -> bool:
    """Whether what is found in a class is a method, as functions are; not so a class or a callable."""
    kind = type(function)
    if kind is functools.partial:
        return sys.version_info >= (3, 14)
    return hasattr(kind, "__get__") and not issubclass(kind, (MethodType, type))


def digested(kept: Any) -> tuple[Any, ...]:
    """What stands for a kept function in a digest: its identity."""
    # It is in its own closure.
    if id(kept) in _digesting.get():
        return ("kept", kept.__module__, kept.__qualname__)
    token = _digesting.set((*_digesting.get(), id(kept)))
    try:
        return ("kept", *kept.locator.identity())
    finally:
        _digesting.reset(token)


def followed(kept: Any) -> tuple[Callable[..., Any] | None, str]:
    """For the identity of code that calls it: the function to follow, or what stands for it."""
    options = kept.options
    if options.version is None and options.code in ("deep", "warn"):
        return kept.__wrapped__, ""
    return None, f"{kept.__qualname__} {kept.code_tag}"


_BODY = "._body"


def is_global(kept: Any) -> bool:
    """Whether a kept function is found under its name, and so travels as that name alone."""
    found = _importable(kept.__module__, kept.__qualname__)
    return found is kept or (isinstance(found, Bound) and found._kept is kept)


def reduced(kept: Any) -> str | tuple[Any, ...]:
    """How a kept function pickles: as the name of a global where it is one.

    Whether a global of a script has a name on the other side, only the pickler can tell: pickle sends
    the name, to processes that run the same script; cloudpickle sends the function, to any others.
    """
    if kept._replicated is not None:
        return type(kept).replicate, (kept._replicated, kept.options.replicate)
    found = _importable(kept.__module__, kept.__qualname__)
    function, name = kept.__wrapped__, None
    if found is kept:
        if kept.__module__ != "__main__" or type(function) is not FunctionType:
            return str(kept.__qualname__)
        function, name = kept._body, (kept.__qualname__, _name(kept))
    elif isinstance(found, Bound) and found._kept is kept:
        # It is a classmethod.
        return getattr, (found, "_kept")
    options, packed = kept.options, None
    if isinstance(options.cache, Cache):
        from wellkept.caches.transport import pack

        options, packed = options._replace(cache=None), pack(options.cache)
    # A function may hold what is kept of it, so that is made before, and filled afterwards.
    state = function, options, kept._method, packed, _identity(kept), _told(kept)
    return _shell, (type(kept), name), state, None, None, _fill


def body_of(kept: Any) -> Any:
    """A copy of the function under a name that leads to it, as its own leads to what is kept of it."""
    made = kept.__dict__.get("_copied")
    if made is None:
        function = kept.__wrapped__
        made = FunctionType(
            function.__code__,
            function.__globals__,
            function.__name__,
            function.__defaults__,
            function.__closure__,
        )
        made.__dict__ |= function.__dict__
        made.__kwdefaults__, made.__doc__ = function.__kwdefaults__, function.__doc__
        made.__annotations__ = function.__annotations__
        made.__module__, made.__qualname__ = kept.__module__, f"{kept.__qualname__}{_BODY}"
        kept.__dict__["_copied"] = made
    return made


def _identity(kept: Any) -> tuple[str, str] | None:
    """What a function that goes by value goes by too: its source is not there to be looked at."""
    owner = kept.__qualname__.rpartition(".")[0]
    if owner and not owner.endswith("<locals>"):
        # That of a method depends on its receiver.
        return None
    try:
        found: tuple[str, str] = kept.locator.identity()
    except Exception:  # noqa: BLE001  the caller meets it again
        return None
    return found


_BY_VALUE = (
    "cloudpickle",
    "joblib.externals.cloudpickle",
    "ray.cloudpickle",
    "pyspark.cloudpickle",
)


def _told(kept: Any) -> Any:
    """What a process that runs another script has to know of this one."""
    if kept.__module__ != "__main__" or sys.modules.keys().isdisjoint(_BY_VALUE):
        return None
    return sent()


def _name(kept: Any) -> str | None:
    try:
        found: str = kept.locator.name()
    except Exception:  # noqa: BLE001  its code has no identity
        return None
    return found


def _shell(kind: Any, name: tuple[str, str | None] | None) -> Any:
    """A kept function on the other side: of the same script the one that is there, or a new one."""
    if name is not None:
        found = _importable("__main__", name[0])
        if type(found) is kind and name[1] is not None and _name(found) == name[1]:
            return found
    return object.__new__(kind)


def _fill(made: Any, state: tuple[Any, ...]) -> None:
    if made.__dict__:
        # It was found in this process, and is not filled again.
        return
    function, options, method, packed, identity, told = state
    qualname = getattr(function, "__qualname__", "")
    by_name = _importable(getattr(function, "__module__", ""), qualname) is function
    if qualname.endswith(_BODY):
        name = qualname.removesuffix(_BODY)
        if by_name:
            function = _importable(function.__module__, name).__wrapped__
        else:
            function.__qualname__ = name
    if packed is not None:
        from wellkept.caches.transport import opened

        options = options._replace(cache=opened(packed, lambda error: tell(str(error))))
    made.__init__(function, options, method)
    if by_name:
        return
    if told is not None:
        arrive(*told)
    if identity is not None:
        made.locator.take(*identity)


def _importable(module: str, qualname: str) -> Any:
    """What a module has under a qualified name; None if nothing."""
    found: Any = sys.modules.get(module)
    for part in qualname.split("."):
        found = getattr(found, part, None)
    return found
