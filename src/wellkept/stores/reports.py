"""Reports of a backend about all that it holds: totals, removed items, problems."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple, Self

from wellkept.conditions import matches
from wellkept.records import Call


class Collected(NamedTuple):
    """How much was removed."""

    items: int
    bytes: int

    @classmethod
    def sum(cls, parts: Iterable[Collected]) -> Collected:
        """Return the sum of several."""
        listed = list(parts)
        return cls(sum(part.items for part in listed), sum(part.bytes for part in listed))


@dataclass(frozen=True)
class Evicted:
    """How much was evicted, or would be."""

    calls: int
    values: int
    """Results that no other call gave."""
    blobs: int
    bytes: int
    """Bytes of records, results and blobs. The index file keeps its size; its free pages are used again."""
    dry_run: bool = False


EVER = 1e300
"""A time after all others, in seconds since the epoch, that every database takes."""


@dataclass(frozen=True)
class Chosen:
    """Which calls are to be evicted: those that fulfil every condition that is set."""

    function: str | None = None
    before: float | None = None
    """Computed before this time."""
    keys: frozenset[str] | None = None

    def fits(self, key: str, call: Call | None) -> bool:
        """Return whether a call is chosen; a damaged one (None) only by its key,
        or with all others."""
        if call is None:
            by_key = self.keys is not None and key in self.keys and self == Chosen(keys=self.keys)
            return by_key or self == Chosen(before=EVER)
        return (
            (self.keys is None or call.key in self.keys)
            and (self.before is None or call.created < self.before)
            and (self.function is None or matches(call.function, self.function))
        )


@dataclass
class Moved:
    """What was done."""

    calls: int = 0
    """Copied, moved or written anew."""
    same: int = 0
    """Already there, or already right."""
    skipped: int = 0
    """Damaged, or without a result to move."""
    other: int = 0
    """Another result of the same call is there, or is being computed: it stays, and so does the one here."""
    replaced: int = 0
    """Of `calls`: took the place of another result of the same call."""
    merged: int = 0
    """Became the same call as another one with the same result."""
    bytes: int = 0


class Candidate(NamedTuple):
    """A call as an eviction policy judges it. Times are seconds since the epoch, sizes bytes."""

    key: str
    result: str
    created: float
    seconds: float
    size: int
    uses: int
    used: float
    there: bool
    """Whether its result is kept; the record may have outlived it."""
    function: str = "?"


Policy = Literal["cost", "lru", "lfu", "fifo"] | Callable[[Call], Any]
"""Which calls are evicted first: by name, or those for which a function of the call is smallest."""


@dataclass(frozen=True, slots=True)
class Problem:
    """A problem that a verification found."""

    kind: str
    """`index`, `call`, `value`, `missing result`, `blob`, `missing blob`, `stray`, `leftover` or
    `set aside`."""
    what: str
    """The key, digest or file."""
    detail: str
    repaired: bool = False


@dataclass(frozen=True)
class Report:
    """The result of a verification: how much was checked, and which problems were found."""

    problems: tuple[Problem, ...]
    calls: int
    values: int
    blobs: int
    bytes: int
    """Bytes of the blobs."""
    salvaged_calls: int = 0
    salvaged_values: int = 0
    """Large results; small ones come with their calls."""

    @property
    def left(self) -> tuple[Problem, ...]:
        """The problems that were not repaired."""
        return tuple(problem for problem in self.problems if not problem.repaired)

    @property
    def ok(self) -> bool:
        """Whether no problem is left."""
        return not self.left

    @classmethod
    def sum(cls, reports: Iterable[Self]) -> Self:
        """Return one report for several backends."""
        total = cls((), 0, 0, 0, 0)
        for each in reports:
            total = cls(**{name: getattr(total, name) + getattr(each, name) for name in vars(each)})
        return total


class FunctionRow(NamedTuple):
    """All kept calls of one function, whatever its code."""

    function: str
    codes: int
    """How many code identities or versions of it have calls."""
    calls: int
    bytes: int
    seconds: float
    """Seconds that computing the kept results took."""
    uses: int
    saved: float
    """Seconds that the uses would have taken to compute."""
    created: float | None
    """When the latest call was computed."""
    used: float | None
    """When a call was last used."""

    @classmethod
    def of(cls, calls: Iterable[Call]) -> list[FunctionRow]:
        """Return a row for each function, the one with the most bytes first."""
        found: dict[str, list[Call]] = {}
        for call in calls:
            found.setdefault(call.function, []).append(call)
        rows = [
            cls(
                function=name,
                codes=len({call.code for call in some}),
                calls=len(some),
                bytes=sum(call.size for call in some),
                seconds=sum(call.seconds for call in some),
                uses=sum(call.uses for call in some),
                saved=sum(call.uses * call.seconds for call in some),
                created=max(call.created for call in some),
                used=max((call.used for call in some if call.used is not None), default=None),
            )
            for name, some in found.items()
        ]
        return sorted(rows, key=lambda row: (-row.bytes, row.function))


@dataclass(frozen=True)
class Totals:
    """Counts and sums of a whole cache."""

    functions: int = 0
    calls: int = 0
    values: int = 0
    """Different results."""
    result_bytes: int = 0
    """Bytes of the encoded results; one that several calls gave counts each time."""
    seconds: float = 0.0
    """Seconds that computing them took."""
    uses: int = 0
    """Hits, without those that are not written yet."""
    seconds_saved: float = 0.0
    blobs: int = 0
    blob_bytes: int = 0
    bytes: int = 0
    """Bytes on disk: index and blobs. For backends other than a directory: bytes of the different results."""
    damaged_files: int = 0
    """Index files that were set aside and not salvaged yet."""
    schema: int | None = None
    journal: str | None = None

    def about(self) -> dict[str, object]:
        """Return what a notebook shows, by name."""
        # Only notebooks need it.
        from wellkept.readable import data_size, duration

        return {
            "functions": f"{self.functions:,}",
            "calls": f"{self.calls:,}",
            "different results": f"{self.values:,}",
            "size": data_size(self.bytes),
            "computing took": duration(self.seconds),
            "hits": f"{self.uses:,}",
            "time saved": duration(self.seconds_saved),
            "damaged index files": self.damaged_files or None,
        }

    def _repr_html_(self) -> str:
        # As above.
        from wellkept.readable import facts

        return facts("Totals of a cache", self.about())

    @classmethod
    def of(cls, rows: list[FunctionRow], **rest: Any) -> Totals:
        """Return the sums of rows, and other fields as given."""
        return cls(
            functions=len(rows),
            calls=sum(row.calls for row in rows),
            result_bytes=sum(row.bytes for row in rows),
            seconds=sum(row.seconds for row in rows),
            uses=sum(row.uses for row in rows),
            seconds_saved=sum(row.saved for row in rows),
            **rest,
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as a dict of plain data."""
        return asdict(self)
