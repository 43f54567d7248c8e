"""A query of a medium's calls: narrowed by the terms that its items were put with, where it finds by
terms, and otherwise by reading every record.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

from wellkept.conditions import Query
from wellkept.errors import ConfigError, DecodeError
from wellkept.records import Call
from wellkept.stores.backend import ordered, scan
from wellkept.stores.base import get_many
from wellkept.stores.byte_store import CodedCalls, unpack_call
from wellkept.stores.callterms import terms_wanted

__all__ = ["find"]

_PAGE = 200  # records that are read at once


def find(calls: CodedCalls, query: Query) -> Iterator[Call]:
    """The calls that fit, in the order asked for; damaged ones are left out.

    Raises:
        StoreError: the medium can't be read.
    """
    wanted = terms_wanted(query)
    search: Any = getattr(calls.items, "find", None)
    if search is None or not wanted:
        return scan(calls, query)
    try:
        keys = search(wanted, prefix="calls/")
    except ConfigError:  # such a term is none
        return scan(calls, query)
    return ordered((call for call in _read(calls, keys) if query(call)), query)


def _read(calls: CodedCalls, names: Iterator[str]) -> Iterator[Call]:
    while some := [name[6:] for name in islice(names, _PAGE)]:
        found = get_many(
            calls.items, [f"{kind}/{key}" for key in some for kind in ("calls", "uses")]
        )
        for key in some:
            item = found.get(f"calls/{key}")
            if item is not None:
                try:
                    yield unpack_call(key, item, found.get(f"uses/{key}"))
                except DecodeError:
                    continue
