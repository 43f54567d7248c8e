"""Whether keeping pays: what a hit takes, part by part, against computing again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING, Any

from wellkept.runs.explanation import Line, html_of, rich_of, text_of
from wellkept.runs.table import duration

if TYPE_CHECKING:
    from rich.text import Text

__all__ = ["EVEN", "Profile", "measured", "rounded"]

_TIMES, _BUDGET = 9, 0.3  # measurements of one part, and the seconds after which there are no more
EVEN = 0.8
"""The share of computing that a hit may take, for keeping to pay."""

_PARTS = ("key", "look up", "load")


class Profile:
    """What a kept call costs as a hit and as a computation, in seconds. Prints as text.

    Attributes:
        call: the call as one writes it.
        parts: `key`, `look up` and `load` of a hit that comes from the store.
        memory: the same of a hit that comes from memory; nothing where memory does not hold it.
        recompute: what computing takes, as it was measured when the result was kept (or now, of a
            call that could not be kept).
        size: bytes of the result; None of a call that is not kept.
        uses: how often it was served.
        unkept: why nothing is kept of it; None where something is.
        advice: what to do about it.
    """

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
        self.advice = list(advice)

    @property
    def hit(self) -> float | None:
        """What a hit from the store takes, seconds; None where nothing is kept."""
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
        """The part that takes most of a hit: `key`, `look up` or `load`."""
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

    def __str__(self) -> str:
        return text_of(self.lines())

    __repr__ = __str__

    def __rich__(self) -> Text:
        return rich_of(self.lines())

    def _repr_html_(self) -> str:
        return html_of(self.lines())


def rounded(ratio: float) -> str:
    """A ratio to three digits: `13,200`, `1.35`."""
    return f"{float(f'{ratio:.3g}'):,.10g}"


def measured(work: Callable[[], Any]) -> float:
    """The median of what some work takes, seconds; long work is done once."""
    took: list[float] = []
    while len(took) < _TIMES and sum(took) < _BUDGET:
        start = perf_counter()
        work()
        took.append(perf_counter() - start)
    return median(took)
