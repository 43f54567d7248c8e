"""`code="warn"`: what the former code gave is served, and told loudly."""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import warnings
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from typing import Any

import pytest
from tests.caches.places import KINDS, new

import wellkept
from wellkept import KeptWarning, keep


@pytest.fixture(params=KINDS)
def cache(request: pytest.FixtureRequest, home: Any) -> Iterator[wellkept.Cache]:
    with new(request.param) as made:
        yield made


def defined(source: str, **names: Any) -> Any:
    scope: dict[str, Any] = {"__name__": "lab", **names}
    exec(source, scope)
    return scope["f"]


def scaled(cache: wellkept.Cache, by: int, **options: Any) -> Any:
    options = {"name": "lab:f", "code": "warn"} | options
    return keep(cache=cache, **options)(defined(f"def f(x, y=0): return [x * {by}, y]"))


def test_it_is_served_and_told_once(
    cache: wellkept.Cache, caplog: pytest.LogCaptureFixture
) -> None:
    assert scaled(cache, 2).map([1, 2]) == [[2, 0], [4, 0]]
    f = scaled(cache, 3)
    caplog.set_level(logging.INFO, "wellkept.misses")
    with pytest.warns(KeptWarning, match="code changed.*wellkept review") as told:
        assert [f(1), f(2), f(1)] == [[2, 0], [4, 0], [2, 0]]
    assert len(told) == 1
    assert (f.stats().outdated, f.stats().hits, f.stats().computed) == (3, 3, 0)
    levels = [one.levelno for one in caplog.records if one.name == "wellkept.misses"]
    assert levels == [logging.WARNING, logging.INFO, logging.INFO]
    said = f.explain(1)
    assert (said.outcome, said.hit, said.causes[0].kind) == ("outdated", True, "code")
    assert "former code" in str(said)
    assert f.load(2) == [4, 0]
    plan = f.plan([1, 2, 3])
    assert (plan.kept, plan.outdated, plan.todo) == (2, 2, [2])
    # What nothing is kept of is computed and kept as usual.
    assert f(3) == [9, 0]
    assert f.explain(3).outcome == "hit"
    assert f.rerun(1) == [3, 0]
    assert (f(1), f.stats().outdated) == ([3, 0], 4)


def test_the_latest_former_code_is_served(cache: wellkept.Cache) -> None:
    scaled(cache, 2)(1)
    scaled(cache, 3).rerun(1)
    with pytest.warns(KeptWarning):
        assert scaled(cache, 4)(1) == [3, 0]


def test_only_the_code_may_differ(cache: wellkept.Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    scaled(cache, 2)(1, 5)
    f = scaled(cache, 3)
    assert f(1, 6) == [3, 6]
    on = {"depends": [wellkept.env("THRESHOLD")], "name": "lab:g"}
    monkeypatch.setenv("THRESHOLD", "1")
    scaled(cache, 2, **on)(1)
    monkeypatch.setenv("THRESHOLD", "2")
    assert scaled(cache, 3, **on)(1) == [3, 0]
    # A version is what somebody said: another one stands for other results.
    scaled(cache, 2, name="lab:h", code="deep", version=1)(1)
    assert scaled(cache, 3, name="lab:h")(1) == [3, 0]
    with pytest.raises(wellkept.ConfigError, match="version="):
        scaled(cache, 3, version=1)


def test_what_has_expired_or_is_to_be_computed_again_is_not_served(cache: wellkept.Cache) -> None:
    scaled(cache, 2, ttl=1e-9)(1)
    assert scaled(cache, 3, ttl=1e-9)(1) == [3, 0]
    scaled(cache, 2, name="lab:g")(1)
    with wellkept.refresh():
        assert scaled(cache, 3, name="lab:g")(1) == [3, 0]


def test_what_is_made_of_it_is_not_kept_as_that_of_today(cache: wellkept.Cache) -> None:
    scaled(cache, 2)(1)
    f = scaled(cache, 3)
    outer = keep(cache=cache, name="lab:outer", version=1)(lambda x: f(x)[0] + 100)
    items = keep(cache=cache, name="lab:items", version=1)(defined(
        "def f(x):\n    yield inner(x)", inner=f
    ))  # fmt: skip
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        assert outer(1) == 102
        assert list(items(1)) == [[2, 0]]
    assert sum("is not kept, for its body took" in str(one.message) for one in told) == 2
    assert not outer.contains(1)
    assert not items.contains(1)
    f.rerun(1)
    assert outer(1) == 103
    assert outer.contains(1)


def test_methods(cache: wellkept.Cache) -> None:
    def model(by: int) -> Any:
        scope: dict[str, Any] = {"__name__": "lab", "keep": keep, "cache": cache}
        exec(
            "class Model:\n"
            "    def __init__(self, w): self.w = w\n"
            f"    def by(self): return {by}\n"
            "    @keep(cache=cache, code='warn', name='lab:apply')\n"
            "    def apply(self, x): return [self.w, x * self.by()]\n",
            scope,
        )
        return scope["Model"]

    assert model(2)(7).apply(1) == [7, 2]
    with pytest.warns(KeptWarning, match="code changed"):
        assert model(3)(7).apply(1) == [7, 2]
    assert model(3)(8).apply(1) == [8, 3]


def test_coroutines_generators_and_many_items(cache: wellkept.Cache) -> None:
    def made(by: int) -> tuple[Any, Any, Any]:
        about = {"cache": cache, "code": "warn"}
        return (
            keep(name="lab:a", **about)(defined(f"async def f(x): return [x * {by}]")),
            keep(name="lab:b", **about)(defined(f"def f(x):\n    yield x * {by}\n    yield x")),
            keep(name="lab:c", each="xs", **about)(
                defined(f"def f(xs): return [x * {by} for x in xs]")
            ),
        )

    a, b, c = made(2)
    assert (asyncio.run(a(1)), list(b(1)), c([1, 2])) == ([2], [2, 1], [2, 4])
    a, b, c = made(3)
    with pytest.warns(KeptWarning):
        assert asyncio.run(a(1)) == [2]
    with pytest.warns(KeptWarning):
        assert list(b(1)) == [2, 1]
    with pytest.warns(KeptWarning):
        assert c([1, 2, 3]) == [2, 4, 9]
    assert c.stats().computed == 1
    assert c.plan([1, 2, 3, 4]).todo == [3]


def test_a_lease_is_not_left_held(cache: wellkept.Cache) -> None:
    scaled(cache, 2)(1)
    f = scaled(cache, 3)
    with pytest.warns(KeptWarning):
        f(1)
    assert cache.backend.locks.holder(bytes.fromhex(f.key(1))) is None


def test_in_an_executor_it_is_served_by_the_caller(cache: wellkept.Cache) -> None:
    scaled(cache, 2).map([1, 2])
    f = scaled(cache, 3)
    with ThreadPoolExecutor(1) as pool:
        outer = keep(cache=cache, name="lab:outer", version=1)(
            lambda x: [f.map([1, 2, x], executor=pool), f.submit(pool, 1).result()]
        )
        with pytest.warns(KeptWarning):
            assert outer(3) == [[[2, 0], [4, 0], [9, 0]], [2, 0]]
    assert not outer.contains(3)
    assert f.stats().outdated == 3


def test_what_an_unknown_thread_or_process_took_is_not_kept(home: Any) -> None:
    cache = new("embedded")
    scaled(cache, 2)(1)
    f = scaled(cache, 3)
    # Their threads and processes are there before the body that sends to them.
    threads = ThreadPoolExecutor(1)
    threads.submit(int).result()
    processes = ProcessPoolExecutor(1, multiprocessing.get_context("fork"), _take, (f,))
    processes.submit(int).result()
    for pool in (threads, processes):
        name = type(pool).__name__
        _take(f)
        outer = keep(cache=cache, name=name, version=1)(lambda: pool.submit(_call, 1).result())  # noqa: B023  called at once
        with pool, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            result = outer()
        assert result == [3, 0] or not outer.contains()
        assert f.contains(1) == (result == [3, 0])
        assert pool is threads or result == [3, 0]


_taken: list[Any] = []


def _take(f: Any) -> None:
    _taken[:] = [f]


def _call(x: int) -> Any:
    return _taken[0](x)


def test_code_that_came_back_is_served_too(cache: wellkept.Cache) -> None:
    first = scaled(cache, 2)
    first(1)
    with pytest.warns(KeptWarning):
        scaled(cache, 3)(1)
    scaled(cache, 3)(2)
    with pytest.warns(KeptWarning):
        assert first(2) == [6, 0]
