"""The rows: what is measured, on whom, and what kept must reach."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import product
from typing import Any

from libraries import ON_DISK
from media import MATCHING, SIZES, MediumHit, MediumKeep
from samplers import (
    Beside,
    Hit,
    Import,
    Keep,
    LoadAgain,
    LoadedArgument,
    LoadFirst,
    Million,
    Miss,
    Peak,
    Start,
    Work,
)
from sweeps import LongSweep, ManyItems, Sweep, Writers


@dataclass(frozen=True)
class Limit:
    """kept must stay at or below `must` times the reference; without one, below `must` itself."""

    must: float
    further: float | None = None
    reference: str | None = None  # an entrant, a reference line, or "best peer"


@dataclass(frozen=True)
class Row:
    name: str
    title: str
    work: Callable[[], Work]
    entrants: tuple[str, ...]
    limits: tuple[Limit, ...]
    unit: str = "s"
    kept: str = "wellkept"
    absent: dict[str, str] = field(default_factory=dict)
    rounds: int | None = None  # at most, where a sample is dear
    least: int = 1


_NO_TIER = "has no memory tier"


def _hit(function: str, arguments: str, **options: Any) -> Callable[[], Work]:
    return lambda: Hit(function, arguments, **options)


_CORE: tuple[Row, ...] = (
    Row(
        "hit-small-disk",
        "hit, 3 small arguments, from disk",
        _hit("score", "small"),
        ON_DISK,
        (Limit(0.25, 0.14, "diskcache"),),
    ),
    Row(
        "hit-small-memory",
        "hit, same, with a memory tier",
        _hit("score", "small", in_memory=True),
        ("wellkept memory", "cachau memory", "fleche memory", "cachier memory"),
        (Limit(0.25, 0.08, "cachau memory"),),
        kept="wellkept memory",
        absent={"joblib": _NO_TIER, "diskcache": _NO_TIER},
    ),
    Row(
        "hit-beside",
        "hit from memory, beside a process that keeps 500 results a second",
        Beside,
        ("wellkept", "in quiet"),
        (Limit(1.15, 1.05, "in quiet"),),
    ),
    Row(
        "miss-small",
        "miss, small result, overhead",
        Miss,
        ON_DISK,
        (Limit(0.5, 0.35, "diskcache"),),
    ),
    Row(
        "sweep",
        "20,000 new results by map, each (diskcache: one by one)",
        Sweep,
        ("wellkept", "diskcache"),
        (Limit(0.2, 0.1, "diskcache"),),
        rounds=3,
    ),
    Row(
        "sweep-million",
        "1,000,000 small calls kept by map, one process",
        lambda: LongSweep("seconds"),
        ("wellkept",),
        (Limit(40.0, 20.0),),
        rounds=1,
    ),
    Row(
        "sweep-memory",
        "memory of that process, over its start",
        lambda: LongSweep("bytes"),
        ("wellkept",),
        (Limit(64e6),),
        unit="B",
        rounds=1,
    ),
    Row(
        "sweep-processes",
        "a miss, 4 processes at once on one cache",
        Writers,
        ("wellkept", "diskcache"),
        (Limit(0.59, 0.4, "diskcache"),),
        rounds=5,
    ),
    Row(
        "hit-items",
        "a kept item of 100,000 in one call (`each=`), beyond its hashing",
        ManyItems,
        ("wellkept",),
        (Limit(3e-6, None),),
        rounds=3,
    ),
    Row(
        "hit-array",
        "hit, 100 MB float64 argument",
        _hit("size", "array", with_blake3=True),
        (*ON_DISK, "BLAKE3"),
        (Limit(0.12, None, "joblib"), Limit(1.3, 1.05, "BLAKE3")),
    ),
    Row(
        "hit-loaded",
        "hit, 100 MB float64 argument that the cache loaded",
        LoadedArgument,
        ("wellkept", "BLAKE3"),
        (Limit(0.1, 0.05, "BLAKE3"),),
    ),
    Row(
        "hit-frame",
        "hit, data frame 1,000,000 x 3 (int, float, str)",
        _hit("size", "frame"),
        ON_DISK,
        (Limit(0.15, 0.1, "best peer"),),
    ),
    Row(
        "hit-nested",
        "hit, nested dict, 20,000 keys, 100,000 leaves",
        _hit("size", "nested"),
        ON_DISK,
        (Limit(0.04, 0.02, "joblib"),),
    ),
    Row(
        "hit-list",
        "hit, list of 100,000 ints",
        _hit("size", "numbers"),
        ON_DISK,
        (Limit(0.02, 0.01, "joblib"),),
    ),
    Row(
        "keep-array",
        "keep a 100 MB array result",
        Keep,
        (*ON_DISK, "write + BLAKE3"),
        (Limit(1.5, 1.1, "write + BLAKE3"),),
    ),
    Row(
        "load-first",
        "load it, first time in a process",
        LoadFirst,
        ("wellkept", "joblib", "joblib mmap", *ON_DISK[2:]),
        (Limit(1.0, 0.6, "joblib"),),
    ),
    Row(
        "load-again",
        "load it again",
        LoadAgain,
        ("wellkept", "joblib", "joblib mmap", *ON_DISK[2:]),
        (Limit(0.3, 0.1, "joblib mmap"),),
    ),
    Row(
        "million",
        "hit among 1,000,000 kept calls",
        Million,
        ("wellkept", "among 1,000"),
        (Limit(1.2, 1.1, "among 1,000"),),
    ),
    Row(
        "import",
        "import, over bare Python",
        Import,
        ("wellkept", "joblib", "diskcache", "cachier", "fleche", "cachau"),
        (Limit(1.5, 1.0, "diskcache"),),
        least=9,
    ),
    Row(
        "start-version",
        "`wellkept --version`, over bare Python",
        lambda: Start("--version"),
        ("wellkept",),
        (Limit(0.15, 0.1),),
        least=9,
    ),
    Row(
        "start-ls",
        "`wellkept ls` of an empty cache, over bare Python",
        lambda: Start("ls"),
        ("wellkept",),
        (Limit(0.15, 0.1),),
        least=9,
    ),
    Row(
        "peak-argument",
        "peak memory added by digesting a 1 GB array",
        lambda: Peak("argument"),
        ("wellkept", "joblib", "diskcache", "cachier", "fleche file", "cachau"),
        (Limit(64e6),),
        unit="B",
        rounds=1,
    ),
    Row(
        "peak-result",
        "peak memory added by keeping a 1 GB array",
        lambda: Peak("result"),
        ("wellkept", "joblib", "diskcache", "cachier", "fleche file", "cachau"),
        (Limit(64e6),),
        unit="B",
        rounds=1,
    ),
)


def _media() -> Iterator[Row]:
    for (medium, (kept, fleche)), (size, items) in product(MATCHING.items(), SIZES.items()):
        # A file of 1 KB takes as long to open as to read: there, diskcache's row of SQLite is near.
        ahead = Limit(0.2, 0.1, fleche), Limit(1.0 if items < 1000 else 0.2, None, "diskcache")
        for verb, work, limits in (
            ("keep", partial(MediumKeep, items), (Limit(1.0, 0.5, "best peer"),)),
            ("hit", partial(MediumHit, items, medium == "memory"), ahead),
        ):
            yield Row(
                f"{verb}-{medium.replace(', ', '-')}-{size.replace(' ', '')}",
                f"{verb} {size}, {medium}",
                work,
                (kept, fleche, "diskcache"),
                limits,
                kept=kept,
            )


ROWS = (*_CORE, *_media())
