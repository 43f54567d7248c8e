"""Digests that stand for values among the arguments of a kept function."""

from __future__ import annotations

from typing import Any

from wellkept.memo.keep_options import GIVEN
from wellkept.memo.target import Given
from wellkept.records import Digest


def loaded(kept: Any, values: tuple[Any, ...]) -> tuple[Any, ...]:
    """The values, with those that digests among them name in their places.

    Raises:
        NotKept: there is no such value.
        KeptError: it can't be loaded.
    """
    load = kept.cache.load
    return tuple(load(value) if type(value) is Digest else value for value in values)


def counted(kept: Any, values: tuple[Any, ...]) -> tuple[Any, ...]:
    """The arguments, with values in place of digests where the key is not made of their digests:
    in a tuple of `*args`, as arguments of `key=`, and where the order of dicts counts.
    """
    if values and values[0] is GIVEN:
        return GIVEN, *kept.resolved(values[1:])
    binder = kept._binder
    by_key = kept.options.key is not None or bool(binder.ordered)
    if by_key and Digest in map(type, values):
        values = kept.loaded(values)
    if binder.var_args is not None:
        at = binder.names.index(binder.var_args)
        if Digest in map(type, values[at]):
            values = (*values[:at], kept.loaded(values[at]), *values[at + 1 :])
    if by_key and binder.var_kwargs is not None:
        named = values[-1]
        if Digest in map(type, named.values()):
            found = kept.loaded(tuple(named.values()))
            values = (*values[:-1], dict(zip(named, found, strict=True)))
    return values


def resolved(kept: Any, given: Given) -> Given:
    """Return arguments, with the values that digests among them name; see `Target.resolved`."""
    args, kwargs = given
    if Digest in map(type, args):
        args = kept.loaded(args)
    if kwargs and Digest in map(type, kwargs.values()):
        kwargs = dict(zip(kwargs, kept.loaded(tuple(kwargs.values())), strict=True))
    return args, kwargs
