"""A cache seen in another way: read-only, filtered, limited; and digests made short and long."""

import dataclasses
import os
import pickle
import time
from typing import Any

import numpy as np
import pytest
from tests.caches.places import Counted, every, new, shared

import wellkept
from wellkept import AmbiguousDigest, Call, NotKept, StoreError


def even(call: Call) -> bool:
    return bool(call.arguments["x"].value % 2 == 0)


# -- read-only ------------------------------------------------------------------------------------


@every
def test_a_read_only_cache_is_never_written_to(kind: str) -> None:
    cache = new(kind)
    counted = Counted(lambda x: np.arange(x))
    counted.into(cache)(100_000)
    before = sorted(cache.calls.keys())
    view = cache.readonly()
    f = counted.into(view, strict=True)
    assert f(100_000).sum() == sum(range(100_000))
    assert counted.runs == 1
    assert len(f(5)) == len(f(5)) == 5
    assert counted.runs == 3
    view.flush()
    assert sorted(cache.calls.keys()) == sorted(view.calls.keys()) == before
    assert f.call(100_000).uses == 0
    for change in (
        lambda: f.forget(100_000),
        lambda: view.evict("counted"),
        lambda: view.gc(),
        lambda: view.verify(repair=True),
        lambda: view.migrate(),
        lambda: view.transform(lambda call: None),
        lambda: view.transfer(new("memory"), move=True),
        lambda: cache.transfer(view),
        lambda: view.values.delete("0" * 64),
        lambda: view.values.put("0" * 64, None),
    ):
        with pytest.raises(StoreError, match="read"):
            change()
    assert view.verify().ok
    assert view.size().calls == 1
    assert view.transfer(new("memory")).calls == 1
    assert "readonly" in repr(view)
    view.close()
    assert counted.into(cache).contains(100_000)


@every
def test_a_read_only_cache_sees_what_is_written_beside_it(kind: str) -> None:
    cache = new(kind)
    counted = Counted(lambda x: x)
    view = counted.into(cache.readonly())
    assert view(1) == 1
    counted.into(cache)(1)
    assert view(1) == 1
    assert counted.runs == 2
    counted.into(cache).forget(1)
    assert view(1) == 1
    assert counted.runs == 3


# -- filtered -------------------------------------------------------------------------------------


@every
def test_a_filtered_cache_has_some_and_takes_no_others(kind: str) -> None:
    cache = new(kind)
    counted = Counted(lambda x: [x] * 10)
    plain, f = counted.into(cache), counted.into(cache.filtered(even))
    for x in range(4):
        plain(x)
    assert [f.contains(x) for x in range(4)] == [True, False, True, False]
    assert sorted(f.cache.calls.keys()) == sorted(str(f.key(x)) for x in (0, 2))
    assert f.cache.size().calls == 2
    for x in range(6):
        f(x)
    assert [plain.contains(x) for x in range(6)] == [True, True, True, True, True, False]
    assert f.cache.transfer(new("memory")).calls == 3
    done = f.cache.evict("counted", dry_run=True)
    assert done.calls == 3
    assert f.cache.evict("counted") == dataclasses.replace(done, dry_run=False)
    assert [plain.contains(x) for x in range(6)] == [False, True, False, True, False, False]
    assert not f.forget(1)
    assert plain.contains(1)
    f.cache.gc(grace=0)
    assert plain(3) == [3] * 10
    assert f.cache.verify().ok


# -- pickling, forking ----------------------------------------------------------------------------


@shared
def test_derived_caches_pickle(kind: str) -> None:
    cache = new(kind)
    counted = Counted(lambda x: x)
    counted.into(cache)(2)
    for made in (
        cache.readonly(),
        cache.filtered(even),
        cache.limited(bytes="1 MB", calls=5, policy="lfu"),
        cache.filtered(even).readonly(),
        wellkept.Stack(cache.limited(calls=3), new("memory")),
        wellkept.Cache(values=wellkept.stores.Files("v"), calls=wellkept.stores.Sqlite("c.db")),
    ):
        copy = pickle.loads(pickle.dumps(made))
        assert repr(copy) == repr(made)
        assert counted.into(copy)(2) == 2
    assert counted.runs == 2  # the last is another place


@shared
def test_caches_survive_a_fork(kind: str) -> None:
    cache = new(kind)
    counted = Counted(lambda x: x)
    f = counted.into(cache.limited(calls=100).filtered(even))
    f(2)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            f(4)
            code = 0 if f(2) == 2 and counted.runs == 2 else 2
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0
    assert f(4) == 4
    assert counted.runs == 1


# -- short digests --------------------------------------------------------------------------------


@every
def test_digests_are_expanded_and_made_short(kind: str) -> None:
    cache = new(kind)
    f = Counted(lambda x: x).into(cache)
    keys = []
    for x in range(80):
        f(x)
        keys.append(str(f.key(x)))
    for key in keys[:20]:
        short = cache.shrink(key)
        assert key.startswith(short)
        assert len(short) >= 4
        assert cache.expand(short) == cache.expand(short.upper()) == key
        fits = [other for other in keys if other.startswith(short[:-1])]
        assert len(short) == 4 or len(fits) > 1
        assert [other for other in keys if other.startswith(short)] == [key]
        assert cache.shrink(short) == short
        result = f.call(keys.index(key)).result
        assert cache.expand(cache.shrink(result, cache.values), cache.values) == result
    with pytest.raises(NotKept, match="is not kept"):
        cache.shrink("0" * 64)
    for bad in ("", "abc", "xyzw", "0" * 65, "é" * 8):
        for ask in (cache.shrink, cache.expand, cache.load):
            with pytest.raises(NotKept, match="no digest"):
                ask(bad)


@every
def test_digests_that_begin_alike(kind: str) -> None:
    cache = new(kind)
    row = {"function": "f", "code": "none", "arguments": {}}
    # A directory finds a call by its first 16 digits, so that these two are the closest it has.
    a, b = ("ab" * 7 + end + "cd" * 24 for end in ("00", "01"))
    for key in (a, b):
        cache.keep(bytes.fromhex(key), 1, **row)
    assert (cache.shrink(a), cache.shrink(b)) == (a[:16], b[:16])
    with pytest.raises(AmbiguousDigest, match="fits several"):
        cache.expand(a[:15])
    with pytest.raises(AmbiguousDigest, match="fits several"):
        cache.shrink(a[:10])


@every
def test_a_key_that_is_no_digest(kind: str) -> None:
    cache = new(kind)
    for bad in ("", "abc", "Z" * 64, "../../etc/passwd", "0" * 63 + "\n"):
        for ask in (cache.calls.get, cache.values.get, cache.calls.delete, cache.values.delete):
            with pytest.raises(wellkept.KeptError, match="not a digest"):
                ask(bad)


# -- shared parts ---------------------------------------------------------------------------------


@every
def test_equal_arrays_inside_different_results_are_one_blob(kind: str) -> None:
    cache = new(kind)
    array = np.arange(50_000)
    f = Counted(lambda x: {"x": x, "array": array + 0}).into(cache)
    g = wellkept.keep(cache=cache, name="g", version=1)(lambda array: [array, "again"])
    for x in range(5):
        f(x)
    g(f(1)["array"])
    assert cache.size().blobs == 1
    cache.evict("counted")
    assert cache.size().blobs == 1
    assert np.array_equal(g(array)[0], array)
    cache.evict("g")
    assert cache.size().blobs == 0


@every
def test_a_dict_of_a_thousand_small_lists_is_one_item(kind: str) -> None:
    cache = new(kind)
    f = Counted(lambda x: {str(i): [i, x, "text"] for i in range(1000)}).into(cache)
    assert f(1) == f(1)
    assert (cache.size().blobs, cache.size().values) == (0, 1)
    if kind == "files":
        names = [key for key in cache.backend.calls.items.keys() if not key.startswith("notes/")]  # noqa: SIM118  a store is no dict
        assert len(names) == 1
    if kind == "embedded":
        root = cache.backend.root
        assert not [path for path in (root / "blobs").rglob("*") if path.is_file()]


def test_uses_are_counted(home: Any) -> None:
    for kind in ("embedded", "files", "sqlite", "memory"):
        cache = new(kind)
        f = Counted(lambda x: x).into(cache)
        for _ in range(4):
            f(1)
        cache.flush()
        f(1)
        call = f.call(1)
        assert (call.uses, call.used is not None) == (4, True)
        assert abs((call.used or 0) - time.time()) < 60
        f.forget(1)
        f(1)
        assert f.call(1).uses == 0
