"""What a backend says of all that it holds: totals, what was thrown away, what is wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple, Self

from wellkept.conditions import matches
from wellkept.records import Call


class Collected(NamedTuple):
    """What was removed."""

    items: int
    bytes: int

    @classmethod
    def sum(cls, parts: Iterable[Collected]) -> Collected:
        """Return all of it."""
        listed = list(parts)
        return cls(sum(part.items for part in listed), sum(part.bytes for part in listed))


@dataclass(frozen=True)
class Evicted:
    """What was thrown away, or would be."""

    calls: int
    values: int
    """Results that no other call gave."""
    blobs: int
    bytes: int
    """Of records, results and blobs. The index file keeps its size; its room is used again."""
    dry_run: bool = False


@dataclass(frozen=True)
class Chosen:
    """Which calls are to go: those that fit everything that is said."""

    function: str | None = None
    before: float | None = None
    """Computed before this time."""
    keys: frozenset[str] | None = None

    def fits(self, key: str, call: Call | None) -> bool:
        """Whether a call is chosen; a damaged one (None) only by its key alone."""
        if call is None:
            return self.keys is not None and key in self.keys and self == Chosen(keys=self.keys)
        return (
            (self.keys is None or call.key in self.keys)
            and (self.before is None or call.created < self.before)
            and (self.function is None or matches(call.function, self.function))
        )


class Candidate(NamedTuple):
    """What a policy judges a call by. Seconds since the epoch, seconds, bytes."""

    key: str
    result: str
    created: float
    seconds: float
    size: int
    uses: int
    used: float
    there: bool
    """Whether its result is; a record may have outlived it."""
    function: str = "?"


Policy = Literal["cost", "lru", "lfu", "fifo"] | Callable[[Call], Any]
"""What goes first where there is too much: by name, or that for which a function of the call is smallest."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong."""

    kind: str
    """`index`, `call`, `value`, `missing result`, `blob`, `missing blob`, `stray`, `leftover` or
    `set aside`."""
    what: str
    """The key, digest or file that it is about."""
    detail: str
    repaired: bool = False


@dataclass(frozen=True)
class Report:
    """What was looked at, and what is wrong."""

    problems: tuple[Problem, ...]
    calls: int
    values: int
    blobs: int
    bytes: int
    """Of the blobs."""
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
        """Return what was found in several backends, one after the other."""
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
    """What computing the kept results took."""
    uses: int
    saved: float
    """What the uses would have taken to compute."""
    created: float | None
    """When the latest was computed."""
    used: float | None
    """When one was last used."""

    @classmethod
    def of(cls, calls: Iterable[Call]) -> list[FunctionRow]:
        """Return a row a function, the one with the most bytes first."""
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
    """The whole of a cache."""

    functions: int = 0
    calls: int = 0
    values: int = 0
    """Different results."""
    result_bytes: int = 0
    """Of the results as encoded; one that several calls gave counts each time."""
    seconds: float = 0.0
    """What computing them took."""
    uses: int = 0
    """Hits, as far as they have been written down."""
    seconds_saved: float = 0.0
    blobs: int = 0
    blob_bytes: int = 0
    bytes: int = 0
    """On disk: index and blobs. Of other places than a directory: the different results that they
    hold."""
    damaged_files: int = 0
    """Index files that were set aside and not salvaged yet."""
    schema: int | None = None
    journal: str | None = None

    @classmethod
    def of(cls, rows: list[FunctionRow], **rest: Any) -> Totals:
        """Return the sums of rows, and what else is known."""
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
        """As plain data."""
        return asdict(self)
