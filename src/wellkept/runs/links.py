"""Which calls gave a value, took it, or were made by another: looked up, or read once."""

from __future__ import annotations

import io
import json
import pickle
import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, Protocol

from wellkept.caches import Cache
from wellkept.errors import KeptError
from wellkept.query import Query
from wellkept.records import Call

__all__ = ["Links", "links_of", "parent_of", "scalar"]

_SCALARS = (str, int, float)
_KEY = re.compile("[0-9a-f]{64}")
_SMALL = 300  # bytes of an encoded result that may be a scalar which a record shows


class Links(Protocol):
    """Calls by each other, `limit` of them at the most in each answer."""

    def keyed(self, keys: Collection[str], limit: int) -> list[Call]: ...
    def gave(self, digests: Collection[str], limit: int) -> list[Call]: ...
    def made(self, keys: Collection[str], limit: int) -> list[Call]: ...
    def took(self, values: Mapping[str, Any], limit: int) -> list[Call]: ...


def links_of(cache: Cache) -> Links:
    """What finds the calls of a cache by each other.

    Raises:
        StoreError: the store can't be read.
    """
    ability = getattr(cache.backend.calls, "related", None)
    found: Links | None = None if ability is None else ability()
    return _Read(cache) if found is None else found


class _Read:
    """Every record, read once: where no index finds them by each other."""

    def __init__(self, cache: Cache) -> None:
        self._by_key: dict[str, Call] = {}
        self._gave: dict[str, list[Call]] = defaultdict(list)
        self._took: dict[str, list[Call]] = defaultdict(list)
        self._made: dict[str, list[Call]] = defaultdict(list)
        for call in cache.backend.find(Query()):
            self._by_key[call.key] = call
            self._gave[call.result].append(call)
            for given in {argument.digest for argument in call.arguments.values()}:
                self._took[given].append(call)
            parent = parent_of(call)
            if parent is not None:
                self._made[parent].append(call)

    def keyed(self, keys: Collection[str], limit: int) -> list[Call]:
        return [self._by_key[key] for key in keys if key in self._by_key]

    def gave(self, digests: Collection[str], limit: int) -> list[Call]:
        return _some(self._gave, digests, limit)

    def made(self, keys: Collection[str], limit: int) -> list[Call]:
        return _some(self._made, keys, limit)

    def took(self, values: Mapping[str, Any], limit: int) -> list[Call]:
        return _some(self._took, values, limit)


def _some(table: Mapping[str, list[Call]], wanted: Iterable[str], limit: int) -> list[Call]:
    def every() -> Iterator[Call]:
        for one in wanted:
            yield from table.get(one, ())

    return list(islice(every(), limit))


def parent_of(call: Call) -> str | None:
    """The key of the call whose body made this one."""
    found = call.metadata.get("parent")
    return found if isinstance(found, str) and _KEY.fullmatch(found) else None


def scalar(cache: Cache, call: Call) -> str | int | float | None:
    """A call's result, if it is a number or text that records of calls which took it may show.

    Nothing runs: of a pickle no more is read than what Python itself is made of.
    """
    if call.size > _SMALL or call.state != "done":
        return None
    try:
        held = cache.backend.fetch(call.key.raw)
        if held is None or held.envelope is None or held.body.result != call.result.raw:
            return None
        payload, _ = cache.backend.load(held.envelope)
        value = (
            json.loads(bytes(payload))
            if held.envelope.codec == "json"
            else _Plain(io.BytesIO(payload)).load()
        )
    except (KeptError, ValueError, EOFError, pickle.UnpicklingError):
        return None
    return value if type(value) in _SCALARS else None


class _Plain(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError("not plain")
