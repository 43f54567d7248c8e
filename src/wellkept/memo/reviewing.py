"""What is kept of a function that other code than its code of now gave, and how that code differs."""

from __future__ import annotations

from typing import Any, NamedTuple

from wellkept.caches import Cache
from wellkept.errors import ConfigError
from wellkept.memo.keep_options import titled
from wellkept.memo.kept import Kept
from wellkept.memo.verify import other_class, owner_of, receivers_of
from wellkept.query import Matches
from wellkept.records import Call
from wellkept.runs.explain import Cause, code_cause
from wellkept.runs.nearest import Asked, layers
from wellkept.runs.sources import Parts


class FormerCode(NamedTuple):
    """A code that a function had, and what is kept of it. Times are seconds since the epoch."""

    code: str
    calls: int
    there: int
    """How many of these calls the code of now has a result of too, computed or accepted since."""
    seconds: float
    """What computing them took."""
    costs: dict[str, float]
    """What they cost besides, by what `cost=` of `keep` counts."""
    latest: float
    """When the last of them was computed."""
    change: Cause
    """How it differs from the code of now."""

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        return self._asdict() | {"change": self.change.to_dict()}


class Review(NamedTuple):
    """What is kept of a function under other code than now."""

    function: str
    code: str
    """The code identity or version that the function has now."""
    kept: int
    """Calls that this code has results of."""
    former: tuple[FormerCode, ...]
    """The codes that it had, the latest first."""

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        return self._asdict() | {"former": [one.to_dict() for one in self.former]}


def review(function: Kept[..., Any]) -> Review:
    """Return what is kept of a function under other code than now.

    Raises:
        ConfigError: that is no kept function.
        StoreError: the cache can't be read.
    """
    if not isinstance(function, Kept):
        raise ConfigError(
            f"only a kept function has results to review, not {titled(function)}: put @keep on it"
        )
    name, now = function.locator.identity()
    cache = function.cache
    by_code: dict[str, list[Call]] = {}
    kept, receivers = 0, receivers_of(function)
    today = set()
    for call in Matches(cache).where(function=name).calls():
        # A method's own code may be what it was, and that of its class not.
        if call.code == now and not other_class(call, receivers):
            kept += 1
            today.add(_arguments(call))
        else:
            by_code.setdefault(call.code, []).append(call)
    former = [_former(function, cache, now, calls, today) for calls in by_code.values()]
    former.sort(key=lambda one: one.latest, reverse=True)
    return Review(name, now, kept, tuple(former))


def _arguments(call: Call) -> frozenset[tuple[str, str]]:
    """Return what tells calls of one function apart that differ in no code."""
    given = call.arguments.items()
    return frozenset((n, one.digest) for n, one in given if not n.startswith(("@class", "@code ")))


def _former(
    function: Kept[..., Any],
    cache: Cache,
    now: str,
    calls: list[Call],
    today: set[frozenset[tuple[str, str]]],
) -> FormerCode:
    last = max(calls, key=lambda call: call.created)
    costs: dict[str, float] = {}
    for call in calls:
        for name, amount in call.metadata.get("cost", {}).items():
            costs[name] = costs.get(name, 0.0) + amount

    def parts() -> Parts:
        coding, owner = function.locator.coding(), owner_of(function)
        found = coding.parts(() if owner is None else (owner,))
        return {name: (part.digest, part.text) for name, part in found.items()}

    asked = Asked(last.function, now, last.arguments, {}, None)
    place = next(
        (place for place in layers(cache) if place.backend.calls.get(last.key) is not None),
        layers(cache)[0],
    )
    change = code_cause(place, last, asked, parts)
    seconds = sum(call.seconds for call in calls)
    there = sum(_arguments(call) in today for call in calls)
    return FormerCode(last.code, len(calls), there, seconds, costs, last.created, change)
