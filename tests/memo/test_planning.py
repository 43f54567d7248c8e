"""`f.plan(items)`: what would be computed, why, how long it takes and what it costs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from tests.caches.places import KINDS, new

import wellkept
from wellkept import keep


@pytest.fixture(params=KINDS)
def cache(request: pytest.FixtureRequest, home: Any) -> Iterator[wellkept.Cache]:
    with new(request.param) as made:
        yield made


def fit(cache: wellkept.Cache, **options: Any) -> Any:
    options = {"name": "lab:fit", "version": 1, "cost": {"usd": lambda result: 0.5}} | options
    return keep(cache=cache, **options)(lambda x, rate=0.1: x * rate)


def groups(plan: Any) -> dict[str, int]:
    return {group.label: group.calls for group in plan.groups}


def test_nothing_is_computed_or_written(cache: wellkept.Cache) -> None:
    f = fit(cache)
    first = f.plan(range(3))
    assert (first.items, first.kept, first.todo, first.seconds) == (3, 0, [0, 1, 2], None)
    assert groups(first) == {"first call of fit": 3}
    assert "unknown: no call" in str(first)
    f.map(range(3))
    before = [sorted(store.keys()) for store in (cache.calls, cache.backend.notes)]
    uses = f.query(1).one().uses
    plan = f.plan([0, 1, 7, 8, 7])
    assert (plan.kept, plan.todo, plan.repeated, plan.by) == (2, [2, 3], 1, 3)
    assert groups(plan) == {"argument x of fit": 2}
    assert plan.costs == {"usd": 1.0}
    assert plan.seconds is not None
    assert f.stats().computed == 3
    assert f.stats().hits == 0
    assert f.query(1).one().uses == uses
    assert before == [sorted(store.keys()) for store in (cache.calls, cache.backend.notes)]
    assert f.plan([]).todo == []
    assert f.plan([3], [0.5]).todo == [0]


def test_causes_are_told_apart(cache: wellkept.Cache) -> None:
    old = fit(cache)
    old.map(range(4))
    new_ = fit(cache, version=2)
    new_(0)
    plan = new_.plan(range(6))
    assert groups(plan) == {"version 1 -> 2": 3, "argument x of fit": 2}
    assert plan.todo == [1, 2, 3, 4, 5]
    brief = fit(cache, name="lab:brief", ttl=1e-9)
    brief(1)
    assert groups(brief.plan([1])) == {"expired": 1}
    assert fit(cache, name="lab:brief", ttl=1e-9, stale=600).plan([1]).kept == 1
    needs = fit(cache, name="lab:needs", require="rate")
    assert groups(needs.plan([1])) == {"required": 1}


def test_it_reads_well(cache: wellkept.Cache) -> None:
    f = fit(cache)
    f(1)
    plan = f.plan([1, 2])
    text = str(plan)
    assert text.startswith("fit: 2 calls: 1 kept, 1 to compute\n")
    assert "about 0.5 usd (by 1 kept call)" in text
    assert json.loads(json.dumps(plan.to_dict()))["todo"] == [1]
    assert "<table>" in plan._repr_html_()


def test_what_has_no_identity_is_one_error_each(cache: wellkept.Cache) -> None:
    f = fit(cache)
    with pytest.raises(wellkept.Undigestible) as error:
        f.plan([object(), 1, (i for i in ())])
    assert "2 of 3 calls" in str(error.value)
    assert 'items[0]: arguments["x"]' in str(error.value)
    assert 'items[2]: arguments["x"]' in str(error.value)
    with pytest.raises(TypeError, match="argument"):
        f.plan([1], [2], [3])
    assert f.stats().computed == 0


def test_of_many_items(cache: wellkept.Cache) -> None:
    @keep(cache=cache, name="lab:embed", version=1, each="texts")
    def embed(texts: list[str], size: int = 2) -> list[str]:
        return [text * size for text in texts]

    embed(["a", "b"])
    plan = embed.plan(["a", "b", "c", "c"])
    assert (plan.kept, plan.todo, plan.repeated) == (2, [2], 1)
    assert groups(embed.plan(["a"], size=3)) == {"argument size of embed": 1}
    with pytest.raises(wellkept.ConfigError):
        embed.plan(text for text in "ab")


def test_of_methods_and_coroutines(cache: wellkept.Cache) -> None:
    class Model:
        def __init__(self, weight: int) -> None:
            self.weight = weight

        @keep(cache=cache, name="lab:apply", version=1)
        def apply(self, x: int) -> int:
            return self.weight * x

    Model(2).apply(1)
    assert Model(2).apply.plan([1, 2]).todo == [1]
    assert Model(3).apply.plan([1, 2]).todo == [0, 1]

    @keep(cache=cache, name="lab:wait", version=1)
    async def wait(x: int) -> int:
        raise AssertionError("it ran")

    assert wait.plan([1]).todo == [0]


def test_what_names_what_counts_may_raise(cache: wellkept.Cache) -> None:
    f = keep(cache=cache, name="lab:k", version=1, key=lambda x: 1 / x)(lambda x: x)
    with pytest.raises(wellkept.Undigestible, match=r"items\[1\]: key= raised ZeroDivisionError"):
        f.plan([1, 0])
