"""How often a server is asked: counted where it answers."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import numpy as np
import pytest
from tests.caches.places import Counted, new
from tests.remote.hosts import Served
from tests.remote.webs import WebServed

import wellkept
from wellkept import Stack


def value(x: int) -> Any:
    return {"x": x, "text": "a" * 50 * abs(x), "array": np.arange(30_000) + x}


def test_a_miss_is_one_to_ask_and_one_to_commit_and_a_hit_is_one(host: Any) -> None:
    with host.client() as cache:
        f = Counted(value).into(cache, strict=True)
        f(1)  # the first of a process writes down its environment
        host.since()
        trips = cache.backend.line.trips
        for x in (0, 3000):  # the second is too large for its call's row
            f(x)
            assert host.since() == ["fetch", "commit"]
            for _ in range(3):
                assert f(x)["array"][1] == x + 1
            assert host.since() == ["fetch"] * 3
            trips += 5
            assert cache.backend.line.trips == trips


def test_what_is_larger_goes_on_its_own_and_only_where_it_is_not_yet(host: Any) -> None:
    with host.client(memory=0) as cache:
        counted = Counted(lambda x: [x, np.zeros(300_000)])
        f = counted.into(cache, strict=True)
        f(1)
        assert host.since() == ["fetch", "have", "send", "commit"]
        f(2)
        assert host.since() == ["fetch", "have", "commit"]
        assert f(2)[1].shape == (300_000,)
        assert host.since() == ["fetch", "blob"]


def test_a_miss_in_a_stack_asks_the_far_layer_once(host: Any) -> None:
    with host.client() as far:
        near = new("embedded")
        counted = Counted(value)
        f = counted.into(Stack(near, far), strict=True)
        f(1)
        host.since()
        for x in (2, 3):
            f(x)
            assert host.since() == ["fetch", "commit"]
        f(2)
        near.tier.clear()
        f(2)
        assert host.since() == []
        near.evict("counted")
        assert host.since() == []
        with Stack(near, far) as again:
            counted.into(again, strict=True)(3)
        assert host.since() == ["fetch", "get"], "once, and with it what the near one keeps"
        assert counted.runs == 3


def test_hundreds_of_hits_by_map_are_a_few_trips(host: Any) -> None:
    with host.client() as cache:
        counted = Counted(lambda x: {"x": x})
        f = counted.into(cache, strict=True)
        list(f.map(range(300)))
        host.since()
        assert [found["x"] for found in f.map(range(300))] == list(range(300))
        asked = host.since()
        assert set(asked) == {"fetch"}
        assert len(asked) <= 2
        assert counted.runs == 300


def test_what_nobody_computes_leaves_no_lease(host: Any) -> None:
    """A look that takes the lease gives it back where the body is not run after all."""
    with host.client() as cache, host.client() as other:
        f = Counted(value).into(cache, strict=True)
        key = f.key(1)
        assert cache.claim(key.raw) is None
        assert not other.backend.locks.acquire(key.raw)
        f(2)
        deadline = time.monotonic() + 10
        while not other.backend.locks.acquire(key.raw):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        other.backend.locks.release(key.raw)


@pytest.mark.parametrize("serve", [Served, pytest.param(WebServed, marks=pytest.mark.long)])
def test_many_keys_beyond_one_answer(host: Any) -> None:
    """More than fits in one answer comes in others, and none is left out."""
    with host.client() as cache:
        f = Counted(lambda x: bytes([x % 256]) * 60_000).into(cache, strict=True)
        list(f.map(range(320)))  # 19 MB, where 16 are the most
        found = cache.backend.fetch_many([f.key(n).raw for n in range(320)])
        assert len(found) == 320
        g = Counted(lambda x: 1 / 0).into(cache, strict=True)
        assert [found[0] for found in g.map(range(320))] == [n % 256 for n in range(320)]


def test_batched_with_others_that_are_there(host: Any) -> None:
    with host.client() as cache:
        counted = Counted(lambda x: x * 2)
        f = counted.into(cache, strict=True)
        f(3)
        assert list(f.map(range(6))) == [0, 2, 4, 6, 8, 10]
        assert counted.runs == 6


def test_hits_and_misses_of_coroutines(host: Any) -> None:
    with host.client() as cache:

        @wellkept.keep(cache=cache, strict=True)
        async def f(x: int) -> int:
            return x + 1

        asyncio.run(f(0))  # the first of an identity writes down its source
        host.since()
        assert asyncio.run(f(1)) == 2
        assert host.since() == ["fetch", "commit"]
        assert asyncio.run(f(1)) == 2
        assert host.since() == ["fetch"]
