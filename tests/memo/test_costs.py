"""Calls that cost more than time: `cost=`, `replicate=`, `fresh`, `secret=`."""

from __future__ import annotations

import asyncio
import pickle
from pathlib import Path
from typing import Any

import pytest

import wellkept
from wellkept.errors import ConfigError
from wellkept.query.matches import Cost


@pytest.fixture(params=["", "files:", "memory:"])
def cache(request: pytest.FixtureRequest, tmp_path: Path) -> wellkept.Cache:
    at = {"": tmp_path / "c", "memory:": "memory:"}.get(request.param)
    return wellkept.open(at or f"{request.param}{tmp_path / 'c'}")


drawn = iter(range(1_000_000))


@wellkept.keep(name="test_costs.draw", version=1)
def draw(x: int) -> tuple[int, int]:
    return x, next(drawn)


def test_costs_are_added_up_as_seconds_are(cache: wellkept.Cache) -> None:
    prices = {"usd": lambda r: 0.5 * r, "tokens": lambda r: r}
    f = wellkept.keep(cache=cache, name="f", version=1, cost=prices)(lambda x: x)
    g = wellkept.keep(cache=cache, name="g", version=1)(lambda x: x)
    for x in (2, 4, 4, 4):
        f(x)
        g(x)
    cache.flush()
    assert cache.query().costs() == {"usd": Cost(2, 3.0, 4.0), "tokens": Cost(2, 6.0, 8.0)}
    assert f.query(2).costs()["usd"] == Cost(1, 1.0, 0.0)
    assert g.query().costs() == {}
    assert f.call(4).metadata["cost"] == {"usd": 2.0, "tokens": 4.0}


@pytest.mark.parametrize(
    "wrong", [lambda r: 1 / 0, lambda r: "much", lambda r: -1, lambda r: 1e999]
)
def test_a_cost_that_fails_is_told_and_left_out(cache: wellkept.Cache, wrong: Any) -> None:
    prices = {"usd": wrong, "eur": lambda r: 1}
    f = wellkept.keep(cache=cache, name="f", version=1, cost=prices, meta=False)(lambda: 7)
    with pytest.warns(wellkept.KeptWarning, match=r"cost= of 'usd' failed and is left out"):
        assert f() == 7
    assert f.call().metadata == {"cost": {"eur": 1.0}}


def test_a_replicate_finds_and_throws_away_its_own_calls(cache: wellkept.Cache) -> None:
    f = wellkept.keep(version=1, cache=cache)(float)
    every = [f, f.replicate(1), f.replicate(2)]
    for one in every:
        one(1), one(2)
    assert every[1].query().count() == 2
    every[1].evict(1)
    every[2].clear()
    assert [[one.contains(n) for n in (1, 2)] for one in every] == [
        [True, True],
        [False, True],
        [False, False],
    ]
    f.clear()
    assert not any(one.contains(2) for one in every)


def test_replicates_are_calls_of_their_own(cache: wellkept.Cache) -> None:
    with wellkept.use(cache):
        first = draw(1)
        second, third = draw.replicate(1)(1), draw.replicate(2)(1)
        assert len({first, second, third}) == 3
        assert draw.replicate(0) is draw
        assert (draw(1), draw.replicate(1)(1), draw.replicate(2)(1)) == (first, second, third)
        assert draw.query(1).count() == 3
        assert draw.query(1).where(arguments={"@replicate": 2}).one().result == third
        assert pickle.loads(pickle.dumps(draw.replicate(2))).key(1) == draw.replicate(2).key(1)
        assert draw.replicate(1).map([1, 2])[0] == second


def test_replicates_of_methods_and_coroutines(cache: wellkept.Cache) -> None:
    class Model:
        @wellkept.keep(cache=cache, version=1)
        def sample(self) -> int:
            return next(drawn)

        @wellkept.keep(cache=cache, version=1)
        async def later(self) -> int:
            return next(drawn)

    model = Model()
    assert model.sample.replicate(1)() == model.sample.replicate(1)() != model.sample()
    later = asyncio.run(model.later.replicate(1)())
    assert later == asyncio.run(model.later.replicate(1)()) != asyncio.run(model.later())


def test_a_fresh_call_is_computed_and_kept(cache: wellkept.Cache) -> None:
    with wellkept.use(cache):
        old = draw(5)
        new = draw.fresh(5)
        assert old != new
        assert draw(5) == new


@pytest.mark.parametrize("at", ["c", "files:c", "sqlite:///c.db"])
def test_of_a_secret_nothing_is_written(tmp_path: Path, monkeypatch: Any, at: str) -> None:
    monkeypatch.chdir(tmp_path)
    cache = wellkept.open(at)
    marks = [f"sk-{'0123456789abcdef' * 3}-{i}" for i in range(3)]

    @wellkept.keep(
        cache=cache,
        name="ask",
        version=1,
        secret=["api_key"],
        arguments="values",
        errors=ValueError,
    )
    def ask(prompt: Any, api_key: str) -> Any:
        if prompt == ["fails"]:
            raise ValueError("no")
        return prompt

    with wellkept.run("secret", cache=cache):
        assert ask(["hello"], marks[0]) == ask(["hello"], api_key=marks[1])
        for mark in marks:
            with pytest.raises(ValueError, match="no"):
                ask(["fails"], mark)
    assert (ask.stats().computed, ask.stats().failed) == (1, 1)
    assert "sk-" not in repr(list(ask.query())) + str(ask.explain(["other"], marks[0]))
    cache.close()
    written = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert written
    for mark in marks:
        assert not any(mark.encode() in data for data in written)


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"cost": {"usd": 3}}, "cost= takes functions of the result by what they count"),
        ({"cost": [1]}, "cost= takes functions"),
        ({"replicate": -1}, "replicate= is a number from 0 up, not -1"),
        ({"replicate": True}, "replicate= is a number from 0 up, not True"),
        ({"secret": 3}, "secret= takes names of parameters, not 3"),
        ({"secret": "key"}, "has no such parameter"),
        ({"secret": "x", "key": lambda x: x}, "secret= says nothing beside key="),
    ],
)
def test_bad_options(options: dict[str, Any], why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        wellkept.keep(**options)(lambda x: x)
    with pytest.raises(ConfigError, match="replicate="):
        draw.replicate("2")  # type: ignore[arg-type]  # wrong on purpose
