"""A query of one kept function's calls: its arguments by their names in the records."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from inspect import Parameter
from typing import TYPE_CHECKING, Any

from wellkept.conditions import ANY, Condition, Equal, Is, Query, Span
from wellkept.errors import ConfigError
from wellkept.hashing import Receiver, digest_bytes
from wellkept.hashing.keys import default_digest
from wellkept.query import Matches, building
from wellkept.query.operators import TESTS
from wellkept.records import Digest

if TYPE_CHECKING:
    from wellkept.memo.kept import Kept

__all__ = ["query"]

_BY_PLACE = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)


def query(kept: Kept[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Matches:
    """See `Kept.query`."""
    conditions = [Condition("function", (), Equal(kept.function_name))]
    for name, value in _named(kept, args, kwargs):
        condition = _special(kept, name, value) or building.argument(
            name, _in_order(kept, name, value)
        )
        if isinstance(condition.test, Span) and kept.options.arguments == "digests":
            raise ConfigError(
                f"the argument {name} can't be compared: {kept.__qualname__} was kept with "
                "arguments='digests', so no record shows it"
            )
        conditions.append(condition)
    return Matches(kept.cache, Query(tuple(conditions)))


def _named(
    kept: Kept[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> Iterable[tuple[str, Any]]:
    """Names, as `Binder.items` gives them to the arguments of a call, and what is wanted of each."""
    binder = kept._binder
    if kept.options.key is not None:
        if args or not set(kwargs) <= {"key"}:
            raise ConfigError(
                f"{kept.__qualname__} is kept by what its key= makes of the arguments: ask for that "
                "alone, key=…"
            )
        return list(kwargs.items())
    parameters = binder.signature.parameters
    positions = [p.name for p in parameters.values() if p.kind in _BY_PLACE]
    if len(args) > len(positions) and binder.var_args is None:
        raise ConfigError(
            f"{kept.__qualname__} takes {len(positions)} arguments by position, and not {len(args)}"
        )
    found = [
        (name, value)
        for name, value in zip(positions, args, strict=False)
        if not (value is ANY and name in binder.ignore)
    ]
    if len(args) > len(positions):
        found.append((f"*{binder.var_args}", args[len(positions) :]))
    given = {name for name, _ in found}
    for name, value in kwargs.items():
        known = name in parameters and name != binder.var_kwargs
        if name in given:
            raise ConfigError(f"the argument {name} of {kept.__qualname__} is said twice")
        if not known and binder.var_kwargs is None and name.lstrip("*") not in parameters:
            there = [p for p in parameters if p not in binder.ignore]
            raise ConfigError(
                f"{kept.__qualname__} has no argument {name!r}; it has {', '.join(there) or 'none'}. "
                "What else calls are chosen by goes into .where(…)"
            )
        found.append((f"*{name}" if name == binder.var_args else name, value))
    for name, _ in found:
        if name in binder.ignore:
            raise ConfigError(
                f"the argument {name} of {kept.__qualname__} is ignored, so no call has it"
            )
    return found


def _in_order(kept: Kept[..., Any], name: str, value: Any) -> Any:
    """A value by its digest, where the order of dicts in it counts for the function."""
    if not kept._binder.in_order(name) or value is ANY or isinstance(value, (*TESTS, Digest)):
        return value
    return Digest.of(digest_bytes(value, label=f'arguments["{name}"]', ordered=True))


def _special(kept: Kept[..., Any], name: str, value: Any) -> Condition | None:
    """The object that a method is called on counts without the code of its class, and a default that
    says that nothing was given by its name.
    """
    if name == next(iter(kept._binder.names), "") and kept.locator.coding().receives((value,)):
        raw = digest_bytes(Receiver(value), ordered=kept._binder.in_order(name))
        return Condition("argument", (name,), Is(Digest.of(raw)))
    if type(value) is object and value is kept._binder.sentinels.get(name):
        return Condition("argument", (name,), Is(Digest.of(default_digest(name))))
    return None
