"""Every call of a store, whatever kind it is of."""

from __future__ import annotations

from collections.abc import Iterator

from wellkept.errors import DecodeError
from wellkept.records import Call
from wellkept.stores.base import Store

__all__ = ["each_call"]


def each_call(calls: Store[Call]) -> Iterator[tuple[str, Call | None]]:
    """Every key and its record (None: it is damaged), in as few trips as the store can."""
    from wellkept.stores.coder import CodedCalls  # most caches need none of it

    pairs = calls.all if isinstance(calls, CodedCalls) else getattr(calls, "pairs", None)
    if pairs is not None:
        for key, found in pairs():
            yield key, found if isinstance(found, Call) else None
        return
    for key in list(calls.keys()):
        try:
            call = calls.get(key)
        except DecodeError:
            yield key, None
        else:
            if call is not None:
                yield key, call
