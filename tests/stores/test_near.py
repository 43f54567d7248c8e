"""Large blobs held in memory before a medium that can't map them."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import wellkept
from wellkept import Cache
from wellkept.stores.byte_store import Near
from wellkept.stores.sqlite_items import Sqlite


def ones(n: int) -> Any:
    return np.ones(n)


@pytest.fixture
def cache(tmp_path: Path) -> Any:
    store = Sqlite(tmp_path / "items.db")
    with Cache(values=store, calls=store, memory="2 MB") as made:
        yield made


def reads(cache: Cache) -> list[str]:
    """The keys that are read from the medium from now on."""
    seen: list[str] = []
    items: Sqlite = cache.values.items  # type: ignore[attr-defined]  # of a medium
    get, get_many = items.get, items.get_many
    items.get = lambda key: (seen.append(key), get(key))[1]  # type: ignore[method-assign, func-returns-value]  # a spy
    items.get_many = lambda keys: (seen.extend(k := list(keys)), get_many(k))[1]  # type: ignore[method-assign, func-returns-value]  # a spy
    return seen


def test_a_blob_is_read_once_and_never_shared(cache: Cache) -> None:
    f = wellkept.keep(cache=cache, version=1)(ones)
    f(100_000)
    first = f(100_000)
    seen = reads(cache)
    second = f(100_000)
    assert [key.partition("/")[0] for key in seen] == ["calls"]
    first[0] = second[1] = 7
    assert f(100_000).sum() == 100_000
    assert cache.verify().ok
    assert any(key.startswith("blobs/") for key in seen), "verifying reads what is stored"


def test_what_is_forgotten_is_not_served(cache: Cache) -> None:
    f = wellkept.keep(cache=cache, version=1)(ones)
    f(100_000)
    assert len(f(100_000)) == 100_000
    f.forget(100_000)
    assert not f.contains(100_000)
    f(100_000)
    cache.evict("*ones")
    assert not f.contains(100_000)


def test_no_more_is_held_than_the_limit(cache: Cache) -> None:
    f = wellkept.keep(cache=cache, version=1)(ones)
    for n in (100_000, 100_001, 100_002, 500_000):  # 0.8 MB each, and one that is never held
        f(n)
        assert len(f(n)) == n
    near: Near = cache.backend._near  # type: ignore[attr-defined]  # what is tested
    assert near._total <= near.limit
    assert len(near._sizes) == 2
    assert all(len(f(n)) == n for n in (100_000, 100_001, 100_002, 500_000))


def test_memory_zero_holds_nothing(tmp_path: Path) -> None:
    store = Sqlite(tmp_path / "items.db")
    with Cache(values=store, calls=store, memory=0) as cache:
        assert cache.backend._near is None


def test_a_forked_child_has_its_own(cache: Cache) -> None:
    f = wellkept.keep(cache=cache, version=1)(ones)
    f(100_000)
    f(100_000)
    child = os.fork()
    if child == 0:
        found = f(100_000)
        found[:] = 3
        os._exit(0 if f(100_000).sum() == 100_000 else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert f(100_000).sum() == 100_000
