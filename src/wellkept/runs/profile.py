"""Profiles: the cost of a hit, part by part, compared with the cost of computing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from statistics import median
from time import perf_counter
from typing import Any

from wellkept.caches import Cache, maintenance
from wellkept.conditions import Condition, Equal, Order, Query
from wellkept.errors import KeptError
from wellkept.hashing import digest_bytes
from wellkept.hashing.digests import call_key
from wellkept.readable import data_size, duration
from wellkept.records import Call
from wellkept.runs.nearest import Layer, layers
from wellkept.runs.table import Column, Line, Lines, Table
from wellkept.stores.parts import opened
from wellkept.stores.reports import FunctionRow

# How often a part is measured, and the seconds after which it is not measured again.
_TIMES, _BUDGET = 9, 0.3
EVEN = 0.8
"""Keeping pays if a hit takes at most this share of the time of computing."""

# Results of up to so many bytes are verified before they are measured.
_VERIFIED = 1 << 26

_PARTS = ("key", "lookup", "load")


class Profile(Lines):
    """What a kept call costs as a hit and as a computation, in seconds. Prints as text.

    Attributes:
        call: the call as one writes it.
        parts: `key`, `lookup` and `load` of a hit that comes from the store.
        memory: the same for a hit from memory; empty if memory does not hold it.
        recompute: seconds that computing takes, measured when the result was kept (or now, for a call that
            could not be kept).
        size: bytes of the result; None for a call that is not kept.
        uses: how often it was served.
        unkept: why the call is not kept; None if it is.
        advice: what to do about it.
    """

    call: str
    recompute: float
    parts: dict[str, float]
    memory: dict[str, float]
    size: int | None
    uses: int
    unkept: str | None

    def __init__(
        self,
        *,
        call: str,
        recompute: float,
        parts: Mapping[str, float] | None = None,
        memory: Mapping[str, float] | None = None,
        size: int | None = None,
        uses: int = 0,
        unkept: str | None = None,
        advice: Sequence[str] = (),
    ) -> None:
        self.call, self.recompute = call, recompute
        self.parts, self.memory = dict(parts or {}), dict(memory or {})
        self.size, self.uses, self.unkept = size, uses, unkept
        self.advice: list[str] = list(advice)

    @property
    def hit(self) -> float | None:
        """Return the seconds that a hit from the store takes; None if the call is not kept."""
        return sum(self.parts.values()) if self.parts else None

    @property
    def ratio(self) -> float | None:
        """How many times longer computing takes than a hit from the store."""
        return None if not self.hit else self.recompute / self.hit

    @property
    def pays(self) -> bool:
        """Whether a hit is clearly cheaper than computing."""
        return self.hit is not None and self.hit < EVEN * self.recompute

    @property
    def dominating(self) -> str | None:
        """The part that takes most of a hit: `key`, `lookup` or `load`."""
        return max(self.parts, key=self.parts.__getitem__) if self.parts else None

    def to_dict(self) -> dict[str, Any]:
        """As plain data, for JSON. Durations are seconds, sizes bytes."""
        return {
            "call": self.call,
            "pays": self.pays,
            "ratio": self.ratio,
            "recompute": self.recompute,
            "hit": self.hit,
            "parts": self.parts,
            "memory": self.memory,
            "dominating": self.dominating,
            "size": self.size,
            "uses": self.uses,
            "unkept": self.unkept,
            "advice": self.advice,
        }

    def lines(self) -> Iterator[Line]:
        """The text, line by line."""
        yield Line("", f"{self.call}: {self._verdict()}", "good" if self.pays else "bad")
        for part in _PARTS if self.parts else ():
            share = f"{100 * self.parts[part] / (self.hit or 1):.0f} %"
            again = f", {duration(self.memory[part])} from memory" if self.memory else ""
            yield Line(part, f"{duration(self.parts[part])} ({share}){again}")
        if self.hit is not None:
            again = f", {duration(sum(self.memory.values()))} from memory" if self.memory else ""
            yield Line("a hit", f"{duration(self.hit)}{again}")
        yield Line("computing", duration(self.recompute))
        if self.uses and self.hit is not None:
            saved = max(0.0, self.uses * (self.recompute - self.hit))
            yield Line("used", f"{self.uses:,} x, which saved {duration(saved)}")
        for said in self.advice:
            yield Line("advice", said)

    def _verdict(self) -> str:
        if self.unkept is not None:
            return f"not kept, {self.unkept}"
        ratio = rounded(self.ratio or 0.0)
        if self.pays:
            return f"keeping pays, computing takes {ratio} x as long as a hit"
        return f"keeping does not pay, computing takes {ratio} x as long as a hit"


def rounded(ratio: float) -> str:
    """Return a ratio with three digits: `13,200`, `1.35`."""
    return f"{float(f'{ratio:.3g}'):,.10g}"


def measured(work: Callable[[], Any]) -> float:
    """Return the median of the seconds that some work takes; long work is done once."""
    # The median, since the first time may find cold caches, and another program may interrupt one.
    took: list[float] = []
    while len(took) < _TIMES and sum(took) < _BUDGET:
        start = perf_counter()
        work()
        took.append(perf_counter() - start)
    return median(took)


# Calls of a function that are measured.
_SAMPLE = 7
_COLUMNS: list[Column] = [
    ("function", lambda row: str(row["function"])),
    ("calls", lambda row: f"{row['calls']:,}"),
    ("size", lambda row: data_size(row["bytes"])),
    ("computing", lambda row: duration(row["recompute"])),
    ("key", lambda row: duration(row["key"])),
    ("lookup", lambda row: duration(row["lookup"])),
    ("load", lambda row: duration(row["load"])),
    ("uses", lambda row: f"{row['uses']:,}"),
    ("saved", lambda row: duration(row["saved"])),
    ("keeping", lambda row: row["verdict"]),
]


def profiles(cache: Cache, pattern: str | None = None, *, load: bool = False) -> Table:
    """Return a row for each function, the one that saved most first.

    Args:
        cache: whose functions.
        pattern: only functions whose name matches; all of them by default.
        load: decode the results too, which may run code of theirs; otherwise only their bytes are read.

    Raises:
        NotKept: no function matches.
        StoreError: the cache can't be read.
    """
    found = maintenance.chosen(cache, pattern) if pattern else cache.backend.functions()
    rows = [profile_row(cache, one, load) for one in found]
    rows.sort(key=lambda row: -row["saved"])
    some = any(row["pays"] is False for row in rows)
    hint = "Where it does not pay, keep what calls the function, or let one call do more."
    drop = ("size", "uses", "lookup", "load", "key", "calls", "saved")
    right = ("size", "computing")
    return Table(rows, _COLUMNS, "function", hint if some else "", drop=drop, right=right)


def profile_row(cache: Cache, one: FunctionRow, load: bool = False) -> dict[str, Any]:
    """Return what keeping one function costs and saves, as a row of `profiles`.

    Raises:
        StoreError: the cache can't be read.
    """
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
    """Return the seconds of the parts of a hit; None if the result is not kept."""
    backend, key = layer.backend, call.key.raw
    try:
        row = backend.fetch(key)
        if row is None or row.envelope is None:
            return None

        envelope = row.envelope
        # Loading a damaged blob removes it, and a profile must not change the cache.
        backend.probe(envelope, _VERIFIED)

        def read() -> None:
            payload, buffers = opened(backend.load, envelope)
            if load:
                # Loaded on first use: without `load` nothing is decoded.
                from wellkept.codecs import decoder

                decoder(envelope.codec)(payload, buffers)

        return measured(lambda: _key(call)), measured(lambda: backend.fetch(key)), measured(read)
    except KeptError:
        return None


def _key(call: Call) -> bytes:
    pairs = [
        (name, digest_bytes(one.value) if one.shown else one.digest.raw)
        for name, one in call.arguments.items()
    ]
    return call_key(call.function, call.code, pairs)


def _verdict(one: Any, hit: float | None, recompute: float) -> str:
    if hit is None:
        return "no result is left"
    if hit >= EVEN * recompute:
        return "does not pay"
    times = f"pays, {rounded(recompute / hit)} x"
    return times if one.uses else f"{times}, unused"
