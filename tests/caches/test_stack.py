"""Caches made of caches: near to far, back-filled, written to one or to all; and pools."""

import pickle
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.caches.places import KINDS, Counted, every, new

import wellkept
from wellkept import Cache, ConfigError, KeptWarning, Pool, Stack, StoreError
from wellkept.stores import stack

pairs = pytest.mark.parametrize("kinds", [(a, b) for a in KINDS for b in KINDS])

SMALL, LARGE = 3, 100_000


def value(x: int) -> Any:
    return {"x": x, "array": np.arange(x, dtype=np.float64)}


def same(found: Any, x: int) -> bool:
    return bool(found["x"] == x and np.array_equal(found["array"], np.arange(x)))


# -- reading and writing --------------------------------------------------------------------------


@pairs
@pytest.mark.parametrize("x", [SMALL, LARGE])
def test_what_the_far_one_has_is_copied_to_the_near_one(kinds: tuple[str, str], x: int) -> None:
    near, far = new(kinds[0]), new(kinds[1])
    counted = Counted(value)
    counted.into(far)(x)
    stack = Stack(near, far)
    assert same(counted.into(stack)(x), x)
    assert same(counted.into(near).load(x), x)
    assert counted.runs == 1
    first, copied = (counted.into(cache).call(x) for cache in (far, near))
    assert first._replace(uses=0, used=None) == copied._replace(uses=0, used=None)
    assert near.verify().ok


@pairs
@pytest.mark.parametrize("x", [SMALL, LARGE])
def test_all_layers_are_written_to(kinds: tuple[str, str], x: int) -> None:
    near, far = new(kinds[0]), new(kinds[1])
    counted = Counted(value)
    f = counted.into(Stack(near, far))
    assert same(f(x), x)
    assert same(f(x), x)
    assert counted.runs == 1
    for cache in (near, far):
        assert same(counted.into(cache).load(x), x)


@every
def test_only_the_first_is_written_to(kind: str) -> None:
    near, far = new(kind), new(kind)
    counted = Counted(value)
    f = counted.into(Stack(near, far, write="first"))
    f(1)
    assert counted.into(near).contains(1)
    assert not counted.into(far).contains(1)
    counted.into(far)(2)
    assert same(f(2), 2)
    assert counted.into(near).contains(2)
    assert counted.runs == 2


@every
def test_three_layers_are_filled_from_the_last(kind: str) -> None:
    caches = [new(kind) for _ in range(3)]
    counted = Counted(value)
    counted.into(caches[2])(1)
    assert same(counted.into(Stack(*caches))(1), 1)
    assert all(counted.into(cache).contains(1) for cache in caches)
    assert counted.runs == 1


@every
def test_results_that_are_none_or_raised(kind: str) -> None:
    near, far = new(kind), new(kind)
    counted = Counted(lambda x: None)
    counted.into(far)(1)
    assert counted.into(Stack(near, far))(1) is None

    def fails(x: int) -> None:
        raise ValueError("no")

    failing = Counted(fails)
    for cache in (far, Stack(near, far), near):
        with pytest.raises(ValueError, match="no"):
            failing.into(cache, errors=ValueError)(2)
    assert (counted.runs, failing.runs) == (1, 1)


# -- forgetting -----------------------------------------------------------------------------------


@pairs
def test_forgetting_and_evicting_reach_all(kinds: tuple[str, str]) -> None:
    near, far = new(kinds[0]), new(kinds[1])
    counted = Counted(value)
    stack = Stack(near, far)
    f = counted.into(stack)
    for x in (1, 2, LARGE):
        f(x)
    assert f.forget(1)
    would = stack.evict("counted", dry_run=True)
    done = stack.evict("counted")
    assert (would.calls, would.values, would.blobs) == (done.calls, done.values, done.blobs)
    assert (done.calls, done.values, done.blobs) == (4, 4, 2)
    for cache in (stack, near, far):
        assert list(cache.calls.keys()) == []
        assert cache.verify().problems == ()
        assert cache.size().blobs == 0
    f(2)
    assert counted.runs == 4


FORGET = """
import sys, wellkept
with wellkept.open(sys.argv[1]) as cache:
    for key in list(cache.calls.keys()):
        cache.calls.delete(key)
"""


def test_what_another_process_forgets_in_the_near_layer_is_not_served() -> None:
    near, far = wellkept.open("near"), wellkept.open("far")
    counted = Counted(lambda x: x)
    f = counted.into(Stack(near, far, write="first"))
    assert [f(1), f(1), f(1)] == [1, 1, 1]
    assert counted.runs == 1
    assert f.cache.tier.entries  # so it came from memory
    subprocess.run([sys.executable, "-c", FORGET, "near"], check=True)
    assert f(1) == 1
    assert counted.runs == 2


def test_what_is_only_in_the_far_layer_is_never_in_memory() -> None:
    near, far = wellkept.open("near"), wellkept.open("far")
    counted = Counted(lambda x: x)
    counted.into(far)(1)
    pool = Pool(near, far)
    assert counted.into(pool)(1) == 1
    assert not pool.tier.entries
    subprocess.run([sys.executable, "-c", FORGET, "far"], check=True)
    assert counted.into(pool)(1) == 1
    assert counted.runs == 2


# -- a layer that does not answer -----------------------------------------------------------------


class Flaky:
    """A store that can be switched off."""

    def __init__(self) -> None:
        self.store: Any = wellkept.stores.Memory()
        self.down = False
        self.asked = 0

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        getattr(self.store, name)  # an ability that it has, or has not
        return lambda *args: self._ask(name, *args)

    def _ask(self, name: str, *args: Any) -> Any:
        self.asked += 1
        if self.down:
            raise StoreError("can't reach the server")
        return getattr(self.store, name)(*args)

    def get(self, key: str) -> Any:
        return self._ask("get", key)

    def put(self, key: str, item: bytes) -> None:
        self._ask("put", key, item)

    def delete(self, key: str) -> None:
        self._ask("delete", key)

    def keys(self, prefix: str = "") -> Any:
        return self._ask("keys", prefix)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stack, "PAUSE", 0.0)


@every
def test_a_dead_far_layer_is_one_warning_and_a_miss(kind: str, impatient: None) -> None:
    items = Flaky()
    near, far = new(kind), Cache(items, items)
    counted = Counted(value)
    f = counted.into(Stack(near, far), strict=True)
    f(1)
    items.down = True

    def call_all() -> None:
        for x in range(20):
            assert same(f(x), x)

    with pytest.warns(KeptWarning, match=r"Cache.*does not answer.*can't reach the server") as told:
        call_all()
    assert len(told) == 1
    assert counted.runs == 20
    assert same(f(5), 5)
    assert f.forget(5)
    assert f.cache.evict("counted").calls == 19
    items.down = False
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        f(30)
        assert counted.into(far).contains(30)
        assert same(f(1), 1)  # it was away when all were evicted
    assert counted.runs == 21
    items.down = True
    with pytest.warns(KeptWarning, match="does not answer"):  # a new failure is told again
        f(31)


def test_a_dead_far_layer_is_not_asked_each_time() -> None:
    items = Flaky()
    f = Counted(value).into(Stack(new("memory"), Cache(items, items)))
    f(0)
    items.down = True
    items.asked = 0
    with pytest.warns(KeptWarning, match="does not answer"):
        f.map(range(1, 20))
    assert items.asked == 1


def test_a_far_layer_that_dies_while_it_is_read() -> None:
    items = Flaky()
    far = Cache(items, items)
    counted = Counted(value)
    counted.into(far)(LARGE)
    for cache in (Stack(new("memory"), far), Pool(new("memory"), far)):
        f = counted.into(cache, strict=True)
        fetch = cache.backend.backends[1].fetch

        def dying(key: bytes, fetch: Any = fetch) -> Any:
            found = fetch(key)
            items.down = True
            return found

        cache.backend.backends[1].fetch = dying
        items.down = False
        with pytest.warns(KeptWarning, match="does not answer"):
            assert same(f(LARGE), LARGE)
        cache.backend.backends[1].fetch = fetch
        items.down = False
    assert counted.runs <= 3


def test_a_dead_near_layer_is_told_and_the_far_one_is_written() -> None:
    items = Flaky()
    near, far = Cache(items, items), new("memory")
    counted = Counted(value)
    f = counted.into(Stack(near, far))
    items.down = True
    with pytest.warns(KeptWarning, match="can't reach"):
        assert same(f(1), 1)
    items.down = False
    f(2)
    assert counted.into(far).contains(2)
    items.down = True
    strict = counted.into(Stack(near, far), strict=True)
    with pytest.raises(StoreError, match="can't reach"):
        strict(3)


@every
def test_damage_in_the_near_layer_is_healed_by_the_far_one(kind: str) -> None:
    items = Flaky()
    near, far = Cache(items, items), new(kind)
    counted = Counted(value)
    f = counted.into(Stack(near, far), strict=True)
    f(1)
    name = f"calls/{f.key(1)}"
    items.store.put(name, items.store.get(name)[:-1] + b"?")
    assert same(f(1), 1)
    assert counted.runs == 1
    assert near.verify().ok


# -- pools ----------------------------------------------------------------------------------------


@every
def test_a_pool_reads_from_many_and_writes_to_none(kind: str) -> None:
    caches = [new(kind) for _ in range(3)]
    counted = Counted(value)
    for x, cache in enumerate(caches):
        counted.into(cache)(x)
    pool = Pool(*caches)
    f = counted.into(pool)
    for x in range(3):
        assert same(f(x), x)
    assert counted.runs == 3
    assert [same(f(9), 9), same(f(9), 9)] == [True, True]
    assert counted.runs == 5
    assert [len(list(cache.calls.keys())) for cache in caches] == [1, 1, 1]
    assert sorted(pool.calls.keys()) == sorted(str(f.key(x)) for x in range(3))
    assert pool.size().calls == 3
    for change in (
        lambda: f.forget(0),
        lambda: pool.evict("counted"),
        lambda: pool.gc(),
        lambda: pool.migrate(),
        lambda: pool.verify(repair=True),
        lambda: caches[0].transfer(pool),
    ):
        with pytest.raises(StoreError, match=r"read-only"):
            change()
    assert pool.verify().ok


@every
def test_one_computation_through_a_stack(kind: str) -> None:
    from concurrent.futures import ThreadPoolExecutor

    stack = Stack(new(kind), new(kind))
    counted = Counted(lambda x: time.sleep(0.05))
    f = counted.into(stack)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(f, [1] * 8))
    assert counted.runs == 1


# -- the whole ------------------------------------------------------------------------------------


def test_what_is_no_stack() -> None:
    cache = new("memory")
    for make, says in [
        (lambda: Stack(), "of which caches"),
        (lambda: Pool(), "of which caches"),
        (lambda: Stack(cache, "memory:"), "not a cache: 'memory:'"),
        (lambda: Stack(cache, cache), "twice"),
        (lambda: Stack(cache, write="none"), "write= is 'all', 'first' or 'behind'"),
    ]:
        with pytest.raises(ConfigError, match=says):
            make()


@every
def test_stacks_and_pools_pickle(kind: str) -> None:
    near, far = new(kind), wellkept.open("far")
    counted = Counted(value)
    counted.into(far)(1)
    for cache in (Stack(near, far, write="first"), Pool(near, far), Stack(Pool(far), near)):
        copy = pickle.loads(pickle.dumps(cache))
        assert repr(copy) == repr(cache)
        assert same(counted.into(copy)(1), 1)
    assert counted.runs == 1


def test_a_stack_of_stacks(home: Path) -> None:
    parts = [new(kind) for kind in ("memory", "embedded", "files")]
    counted = Counted(value)
    counted.into(parts[2])(LARGE)
    stack = Stack(parts[0], Stack(parts[1], parts[2]))
    assert same(counted.into(stack)(LARGE), LARGE)
    assert all(counted.into(cache).contains(LARGE) for cache in parts)
    stack.evict("counted")
    assert not any(counted.into(cache).contains(LARGE) for cache in parts)


def test_a_stack_survives_a_fork() -> None:
    import os

    counted = Counted(value)
    f = counted.into(Stack(wellkept.open("near"), wellkept.open("files:far")))
    f(1)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            f(2)
            code = 0 if same(f(1), 1) and counted.runs == 2 else 2
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0
    assert same(f(2), 2)
    assert counted.runs == 1
