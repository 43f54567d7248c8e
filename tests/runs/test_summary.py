"""A cache at one look: sums, when it computed, and why something was computed again."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.caches import places

import wellkept
from wellkept import keep
from wellkept.runs.summary import summarize


@places.every
def test_sums_are_those_of_the_calls(kind: str) -> None:
    with places.new(kind, memory=0) as cache:
        square = keep(cache=cache, name="lab:square", version=1)(lambda x: x * x)
        with wellkept.run("some", cache=cache):
            for x in (1, 2, 2, 3, 3, 3):
                square(x)
        found = summarize(cache)
        assert (found.calls, len(found.functions), found.looked) == (3, 1, 3)
        assert found.functions[0].uses == 3
        assert (sum(found.computed), sum(found.hits)) == (3, 3)
        assert found.expired == 0
        assert found.saved >= 0
        assert [(one.kind, one.calls) for one in found.groups] in (
            [("never called", 1), ("arguments", 2)],
            [("arguments", 2), ("never called", 1)],
        )


def test_an_empty_cache_has_a_summary(home: Path) -> None:
    with wellkept.open(home / "c") as cache:
        found = summarize(cache)
        assert (found.calls, found.groups, sum(found.computed)) == (0, [], 0)


def test_calls_of_one_reason_are_together(home: Path) -> None:
    with wellkept.open(home / "c", memory=0) as cache:
        for version in (1, 2):
            double = keep(cache=cache, name="lab:double", version=version)(lambda x, lr: 2 * x)
            for x in range(5):
                double(x, 0.1)
        double(0, 0.2)
        again, *rest = summarize(cache).groups
        assert (again.label, again.kind, again.calls) == ("version 1 -> 2", "version", 5)
        assert {one.label for one in rest} == {
            "first call of double", "argument x of double", "argument lr of double",
        }  # fmt: skip


def test_what_was_evicted_and_computed_again_is_told(home: Path) -> None:
    with wellkept.open(home / "c", memory=0) as cache:
        square = keep(cache=cache, name="lab:square", version=1)(lambda x: x * x)
        square(1)
        cache.evict(keys=[square.key(1)])
        square(1)
        (group,) = summarize(cache).groups
        assert (group.kind, group.key) == ("evicted", square.key(1))


def test_what_has_expired_is_counted(home: Path) -> None:
    with wellkept.open(home / "c", memory=0) as cache:
        keep(cache=cache, name="lab:soon", version=1, ttl=1e-6)(lambda: 1)()
        keep(cache=cache, name="lab:late", version=1, ttl="1 d")(lambda: 1)()
        assert summarize(cache).expired == 1


def test_costs_beside_time_are_summed(home: Path) -> None:
    with wellkept.open(home / "c", memory=0) as cache:
        ask = keep(cache=cache, name="lab:ask", version=1, cost={"EUR": lambda result: 0.5})(
            lambda q: q
        )
        ask("a"), ask("a"), ask("b")
        assert summarize(cache).costs["EUR"][1:] == pytest.approx((1.0, 0.5))
