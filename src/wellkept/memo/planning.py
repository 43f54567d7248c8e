"""`f.plan(items)`: which calls would be computed, why, about how long that takes and what it costs."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from wellkept.errors import ConfigError, StoreError, Undigestible
from wellkept.memo.former import formers_of, is_code
from wellkept.memo.former import keys as former_keys
from wellkept.memo.inspection import why_missed
from wellkept.memo.kept import Kept
from wellkept.memo.kept_target import KeptTarget
from wellkept.records import Call
from wellkept.runs.causes import SAMPLE, Miss, Plan, grouped
from wellkept.runs.explain import Cause
from wellkept.runs.nearest import Layer, latest, layers, look

# Keys that are asked for at once.
_ONCE = 1000
# Keys of calls under former code that are looked up.
_MOST = 200_000
# Kept calls by which it is told how long the others take.
_BY = 200
# Calls of which an error tells.
_TOLD = 20


class _Found:
    """What is kept of one call."""

    __slots__ = ("at", "seconds", "state", "target")

    def __init__(self, at: int, target: KeptTarget) -> None:
        self.at, self.target = at, target
        self.state = "absent"
        self.seconds: float | None = None


def plan(kept: Kept[..., Any], calls: Iterable[tuple[Any, ...]]) -> Plan:
    """See `Kept.plan`.

    Args:
        calls: the values of the arguments of each, in the order of the signature.
    """
    values = list(calls)
    found, unkept = _located(kept, values)
    if found and _search(kept, found) and not found[0].target.settled():
        # As a call does: what the code rests on has changed where no hit looks.
        found, unkept = _located(kept, values)
        _search(kept, found)
    function, code = kept.locator.identity()
    made = Plan(function, code, len(values))
    made.repeated = len(values) - len(found) - len(unkept)
    missing: list[_Found] = []
    for one in found:
        if one.state in ("kept", "stale", "outdated"):
            made.kept += 1
            made.outdated += one.state == "outdated"
            made.saved += one.seconds or 0.0
        else:
            missing.append(one)
    made.todo = sorted([*unkept, *(one.at for one in missing)])
    seconds = _expected(kept, made)
    now, misses = time.time(), []
    for one in missing:
        took = seconds if one.seconds is None else one.seconds
        if took is None or made.seconds is None:
            made.seconds = None
        else:
            made.seconds += took
        # Each state is asked by itself, as it has reasons of its own.
        of = f"{one.target.code} {one.state}"
        about = function, of, one.target.key.hex(), took or 0.0, now
        misses.append(Miss(*about, partial(_why, one.target)))
    text = f"no call is kept {kept.without()}"
    for _ in unkept:
        misses.append(Miss(function, "", "", seconds or 0.0, now, lambda: Cause("required", text)))
        made.seconds = None if made.seconds is None or seconds is None else made.seconds + seconds
    made.groups = grouped(misses, SAMPLE)[0]
    return made


def _located(
    kept: Kept[..., Any], values: Sequence[tuple[Any, ...]]
) -> tuple[list[_Found], list[int]]:
    """Return the calls that differ, and where those stand of which nothing is kept.

    Raises:
        Undigestible: some have no identity.
    """
    found: dict[bytes, _Found] = {}
    unkept: list[int] = []
    refused: list[str] = []
    for at, each in enumerate(values):
        try:
            target = kept.locate(each)
            if target is not None and target.learn():
                target = kept.locate(each)
        except (ConfigError, StoreError):
            raise
        except Undigestible as error:
            refused.append(f"items[{at}]: {error}")
            continue
        except Exception as error:  # noqa: BLE001  what `key=` does, or a digest of the user's own
            refused.append(f"items[{at}]: {type(error).__name__}: {error}")
            continue
        if target is None:
            unkept.append(at)
        elif target.key not in found:
            found[target.key] = _Found(at, target)
    if refused:
        some = "\n".join(refused[:_TOLD])
        more = f"\nand {len(refused) - _TOLD:,} more" if len(refused) > _TOLD else ""
        raise Undigestible(
            f"{len(refused):,} of {len(values):,} calls of {kept.__qualname__} can't be planned, as they "
            f"have no identity:\n{some}{more}"
        )
    return list(found.values()), unkept


def _search(kept: Kept[..., Any], found: Sequence[_Found]) -> bool:
    """Find out what is kept of each; whether of some nothing is.

    Raises:
        StoreError: the cache can't be read.
    """
    cache = found[0].target.cache
    places, late = layers(cache), time.time()
    there = _looked(places, [one.target.key for one in found])
    missing = []
    for one in found:
        state, seconds, expires = there.get(one.target.key, ("absent", None, 0.0))
        if state == "kept" and expires <= late:
            state = "stale" if late - expires < kept.options.stale else "expired"
        one.state, one.seconds = state, seconds
        if state == "absent":
            missing.append(one)
    if missing:
        _search_former(kept, places, missing)
    return bool(missing)


def _search_former(
    kept: Kept[..., Any], places: Sequence[Layer], missing: Sequence[_Found]
) -> None:
    """Find out which of them are kept under former code."""
    first = missing[0].target
    known = formers_of(first)[: max(1, _MOST // len(missing))]
    under = [former_keys(one.target, known) for one in missing] if known else []
    there = _looked(places, [key for some in under for key in some])
    now, serves = time.time(), kept.options.code == "warn"
    for one, some in zip(missing, under, strict=False):
        for key, code in some.items():
            state, seconds, expires = there.get(key, ("absent", None, 0.0))
            if state == "kept" and one.state != "outdated":
                one.seconds = seconds
                one.state = "former"
                if serves and is_code(code) and expires > now:
                    one.state = "outdated"


def _looked(
    places: Sequence[Layer], keys: Sequence[bytes]
) -> dict[bytes, tuple[str, float | None, float]]:
    """Return what the nearest place has under each key: its state, what computing it took, and when it
    expires.

    Raises:
        StoreError: none of the places can be read.
    """
    found: dict[bytes, tuple[str, float | None, float]] = {}
    troubles: list[StoreError] = []
    for place in places:
        left = [key for key in keys if found.get(key, ("absent",))[0] != "kept"]
        try:
            for start in range(0, len(left), _ONCE):
                some = left[start : start + _ONCE]
                for key, row in place.backend.fetch_many(some).items():
                    if place.where and look(place, key).state == "hidden":
                        continue
                    state = "evicted" if row.envelope is None else "kept"
                    found[key] = state, row.body.seconds, row.body.expires
        except StoreError as error:
            # As a call does, which asks the next place.
            troubles.append(error)
    if troubles and len(troubles) == len(places):
        raise troubles[0]
    return found


def _expected(kept: Kept[..., Any], made: Plan) -> float | None:
    """Return what a call takes on average, and note what all that are to be computed cost."""
    if not made.todo:
        return None
    some: dict[str, Call] = {}
    for place in layers(kept.cache):
        with suppress(StoreError):
            some |= {call.key: call for call in latest(place, made.function, _BY)}
    made.by = len(some)
    if not some:
        return None
    for call in some.values():
        for name, amount in call.metadata.get("cost", {}).items():
            made.costs[name] = made.costs.get(name, 0.0) + amount * len(made.todo) / len(some)
    return sum(call.seconds for call in some.values()) / len(some)


def _why(target: KeptTarget) -> Cause:
    looks = [look(place, target.key) for place in layers(target.cache)]
    return next(iter(why_missed(target, looks)), Cause("unknown", "it is not known why"))
