"""The entries of a store, read a page at a time."""

from __future__ import annotations

from collections.abc import Iterator

from kept.kv.base import Entries
from kept.kv.entry import Entry, Name, check_key

__all__ = ["each_entry"]

_PAGE = 1000
_WITH_DATA = 200


def each_entry(
    entries: Entries, name: Name, prefix: str = "", *, data: bool = True
) -> Iterator[Entry]:
    """In the order of their keys. What changes meanwhile may be seen or not; no key comes twice."""
    check_key(prefix)
    size = _WITH_DATA if data else _PAGE
    after: str | None = None
    while True:
        page = entries.page(name, prefix, after, size, data)
        yield from page
        if len(page) < size:
            return
        after = page[-1].key
