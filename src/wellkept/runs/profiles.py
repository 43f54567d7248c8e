"""Whether keeping pays, function by function, as far as the cache alone can tell.

A few of the latest calls of each are looked up and read. Of keys it is measured what the record's
scalars take; arguments that it does not show are not here to be digested, and take more.
"""

from __future__ import annotations

from statistics import median
from typing import Any

from wellkept.caches import Cache, summary
from wellkept.conditions import Condition, Equal, Order, Query
from wellkept.errors import KeptError
from wellkept.hashing import digest_bytes
from wellkept.hashing.keys import call_key
from wellkept.records import Call
from wellkept.runs.explanation import data_size
from wellkept.runs.looking import Layer, layers
from wellkept.runs.profile import EVEN, measured, rounded
from wellkept.runs.table import Column, Table, duration

__all__ = ["profiles"]

_SAMPLE = 7  # calls of a function
_NARROW = 24  # characters of a name in a table
_PARTS = ("key", "look up", "load")
_COLUMNS: list[Column] = [
    ("function", lambda row: _end(row["function"])),
    ("calls", lambda row: f"{row['calls']:,}"),
    ("size", lambda row: data_size(row["bytes"])),
    ("computing", lambda row: duration(row["recompute"])),
    ("key", lambda row: duration(row["key"])),
    ("look up", lambda row: duration(row["look up"])),
    ("load", lambda row: duration(row["load"])),
    ("uses", lambda row: f"{row['uses']:,}"),
    ("saved", lambda row: duration(row["saved"])),
    ("keeping", lambda row: row["verdict"]),
]


def profiles(cache: Cache, pattern: str | None = None, *, load: bool = False) -> Table:
    """A row a function, the one first that keeping saved most.

    Args:
        pattern: only functions whose name fits; all of them by default.
        load: decode the results, too, which may run code of theirs; otherwise their bytes are read.

    Raises:
        NotKept: no function fits.
        StoreError: the cache can't be read.
    """
    found = summary.chosen(cache, pattern) if pattern else summary.functions(cache)
    rows = [_row(cache, one, load) for one in found]
    rows.sort(key=lambda row: -row["saved"])
    some = any(row["pays"] is False for row in rows)
    hint = "Where it does not pay, keep what calls the function, or let one call do more."
    return Table(rows, _COLUMNS, "function", hint if some else "")


def _row(cache: Cache, one: Any, load: bool) -> dict[str, Any]:
    of = Condition("function", (), Equal(one.function))
    latest = Query((of,), Order("created", (), True), _SAMPLE)
    taken = [
        took
        for layer in layers(cache)
        for call in list(layer.find(latest))
        if (took := _taken(layer, call, load)) is not None
    ]
    recompute = one.seconds / one.calls if one.calls else 0.0
    parts = dict(zip(_PARTS, map(median, zip(*taken, strict=True)), strict=False))
    hit = sum(parts.values()) if parts else None
    return {
        "function": one.function,
        "calls": one.calls,
        "bytes": one.bytes,
        "recompute": recompute,
        **{part: parts.get(part) for part in _PARTS},
        "hit": hit,
        "ratio": recompute / hit if hit else None,
        "pays": None if hit is None else hit < EVEN * recompute,
        "uses": one.uses,
        "saved": one.saved - one.uses * (hit or 0.0),
        "verdict": _verdict(one, hit, recompute),
    }


def _taken(layer: Layer, call: Call, load: bool) -> tuple[float, ...] | None:
    """What the parts of a hit take; None where its result is not there."""
    backend, key = layer.backend, call.key.raw
    try:
        row = backend.fetch(key)
        if row is None or row.envelope is None:
            return None

        def read() -> None:
            payload, buffers = backend.load(row.envelope)
            if load:
                from wellkept.codecs import decoder  # who only reads decodes nothing

                decoder(row.envelope.codec)(payload, buffers)

        return measured(lambda: _key(call)), measured(lambda: backend.fetch(key)), measured(read)
    except KeptError:
        return None


def _key(call: Call) -> bytes:
    pairs = [
        (name, digest_bytes(one.value) if one.shown else one.digest.raw)
        for name, one in call.arguments.items()
    ]
    return call_key(call.function, call.code, pairs)


def _end(name: str) -> str:
    """The end of a name says more than its beginning."""
    return name if len(name) <= _NARROW else f"…{name[1 - _NARROW :]}"


def _verdict(one: Any, hit: float | None, recompute: float) -> str:
    if hit is None:
        return "no result is left"
    if hit >= EVEN * recompute:
        return "does not pay"
    times = f"pays, {rounded(recompute / hit)} x"
    return times if one.uses else f"{times}, unused"
