"""What each layer of a cache has under a key, found out without leaving a trace in any of them."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from wellkept.caches import Cache
from wellkept.conditions import Query
from wellkept.errors import DecodeError, KeptError, StoreError
from wellkept.hashing import buffer_digest
from wellkept.records import Call
from wellkept.stores.base import get_many
from wellkept.stores.embedded import Embedded
from wellkept.stores.medium import Medium
from wellkept.stores.peeking import peek

__all__ = ["Layer", "Look", "layers", "look"]

_VERIFIED = 1 << 26
"""Bytes of a result's blobs up to which they are read; of larger ones it is only seen that they are
there."""


class Layer(NamedTuple):
    """One place that a cache reads."""

    name: str
    backend: Any
    where: tuple[Callable[[Call], bool], ...] = ()
    """What a filtered cache shows of it."""
    owed: Mapping[str, bytes] = {}
    """Notes that this process is about to write."""

    def notes(self, keys: Sequence[str]) -> dict[str, bytes]:
        """Those of these notes that there are; raises as `find`."""
        mine = {key: self.owed[key] for key in keys if key in self.owed}
        return {**get_many(self.backend.notes, keys), **mine}

    def find(self, query: Query) -> Iterator[Call]:
        """The calls that fit; nothing is written, not even what queries go by.

        Raises:
            StoreError: the place can't be read.
        """
        return (
            call for call in peek(self.backend, query) if all(fits(call) for fits in self.where)
        )


class Look(NamedTuple):
    """What a layer has under a key."""

    layer: Layer
    state: str
    """`kept`, `expired`, `evicted` (the record is there, the result is not), `damaged`, `hidden` (by a
    filter), `absent`, or `unreachable`."""
    call: Call | None = None
    codec: str = ""
    blobs: int = 0
    trouble: str = ""


def layers(cache: Cache) -> list[Layer]:
    """The places that a cache reads, in the order in which it does."""
    owed = dict(cache._notes)
    return [layer._replace(owed=owed) for layer in _layers(cache.backend, str(cache), ())]


def _layers(backend: Any, name: str, where: tuple[Any, ...]) -> Iterator[Layer]:
    while not hasattr(backend, "backends"):
        beneath = getattr(backend, "backend", None)
        if beneath is None:
            yield Layer(name, backend, where)
            return
        if (fits := getattr(backend, "where", None)) is not None:
            where = (*where, fits)
        backend = beneath
    for part in backend.backends:
        yield from _layers(part, backend._names.get(id(part), name), where)


def look(layer: Layer, key: bytes) -> Look:
    """What it has. Nothing is counted, healed, copied nearer or remembered."""
    backend = layer.backend
    try:
        row = backend.fetch(key)
        call = None if row is None else backend.calls.get(key.hex())
        if row is None or call is None:
            return Look(layer, "absent")
        if not all(fits(call) for fits in layer.where):
            return Look(layer, "hidden", call)
        if row.envelope is None:
            return Look(layer, "evicted", call)
        _check(backend, row.envelope)
    except DecodeError as error:
        return Look(layer, "damaged", _record(backend, key), trouble=str(error))
    except StoreError as error:
        return Look(layer, "unreachable", trouble=str(error))
    late = not math.isinf(row.body.expires) and row.body.expires <= time.time()
    codec, blobs = row.envelope.codec, len(row.envelope.blobs)
    return Look(layer, "expired" if late else "kept", call, codec, blobs)


def _record(backend: Any, key: bytes) -> Call | None:
    try:
        found: Call | None = backend.calls.get(key.hex())
    except KeptError:
        return None
    return found


def _check(backend: Any, envelope: Any) -> None:
    """Whether the blobs are there and what their names say, as loading them would find out; but here
    a damaged one stays.

    Raises:
        DecodeError: one is not.
        StoreError: one can't be read.
    """
    read = sum(size for size, _ in envelope.blobs) <= _VERIFIED
    for size, name in envelope.blobs:
        text = name.hex()
        if isinstance(backend, Embedded):
            path = backend.blobs.path(text)
            there = path.stat().st_size if path.exists() else None
            if there == size and read:
                backend.blobs.get(text)
        elif isinstance(backend, Medium) and read:
            content = backend.values.items.get(f"blobs/{text}")
            there = None if content is None else size
            plain = content is not None and memoryview(content).nbytes == size
            if plain and buffer_digest(content) != name:
                there = -1
        else:
            continue
        if there is None:
            raise DecodeError(f"the blob {text} is missing")
        if there != size:
            raise DecodeError(f"the blob {text} is not what its name says")
