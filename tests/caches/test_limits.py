"""Limits: what goes first, what stays, and what is told of a result that drifted."""

import os
import pickle
import random
import time
from pathlib import Path
from typing import Any

import pytest
from tests.caches.places import Counted, every, new, shared

import wellkept
from wellkept import ConfigError, KeptWarning
from wellkept.caches.building import build
from wellkept.caches.config import find
from wellkept.records import Argument, Digest

KB = 1000


def blob(x: int) -> bytes:
    return random.Random(x).randbytes(100 * KB)


def held(f: Any, keys: Any) -> list[int]:
    """Which results there are, by the store's own account."""
    there = set(f.cache.values.keys())
    return [x for x in keys if f.cache.calls.get(f.key(x)).result in there]


@every
def test_values_are_freed_and_records_stay(kind: str) -> None:
    cache = new(kind)
    counted = Counted(blob)
    f = counted.into(cache.limited(bytes="1 MB", policy="fifo"))
    for x in range(40):
        f(x)
    totals = cache.size()
    assert totals.calls == 40
    assert 8 <= totals.blobs <= 10
    assert totals.values == totals.blobs
    assert held(f, range(40)) == list(range(40 - totals.values, 40))
    if totals.blob_bytes:  # a directory
        assert totals.blob_bytes <= 1_050_000
        assert totals.bytes < 2_000_000
    record = f.call(0)
    assert (record.function, record.size > 100 * KB, record.seconds > 0) == ("counted", True, True)
    assert {p.kind for p in cache.verify().problems} == set()
    assert f(0) == blob(0)
    assert counted.runs == 41
    assert f.call(0).result == record.result
    assert cache.counts["drifted"] == f.cache.counts["drifted"] == 0


@every
def test_small_values_are_freed_too(kind: str) -> None:
    cache = new(kind)
    counted = Counted(lambda x: random.Random(x).randbytes(500))
    f = counted.into(cache.limited(bytes=20 * KB, policy="fifo"))
    for x in range(100):
        f(x)
    totals = cache.size()
    assert totals.calls == 100
    assert 30 <= totals.values <= 40
    assert held(f, range(100)) == list(range(100 - totals.values, 100))
    assert cache.verify().problems == ()


@every
def test_a_result_that_several_calls_gave_counts_once_and_goes_with_the_last(kind: str) -> None:
    counted = Counted(lambda x: blob(x // 10))
    f = counted.into(new(kind).limited(bytes=250 * KB, policy="fifo"))
    for x in range(50):
        f(x)
    assert held(f, range(50)) == list(range(30, 50))


@every
def test_a_limit_of_calls_takes_records_too(kind: str) -> None:
    cache = new(kind)
    f = Counted(blob).into(cache.limited(calls=10, policy="fifo"))
    for x in range(35):
        f(x)
        assert cache.size().calls <= 10
    assert [x for x in range(35) if f.contains(x)] == list(range(35 - cache.size().calls, 35))
    assert cache.size().blobs == cache.size().calls


@every
def test_lru_keeps_what_was_used(kind: str) -> None:
    f = Counted(blob).into(new(kind).limited(bytes="1 MB", policy="lru"))
    for x in range(9):
        f(x)
    for x in range(9, 30):
        f(0)
        f(1)
        f(x)
    assert held(f, (0, 1)) == [0, 1]
    assert len(held(f, range(30))) in range(7, 11)


@every
def test_lfu_keeps_what_is_used_often(kind: str) -> None:
    f = Counted(blob).into(new(kind).limited(bytes="1 MB", policy="lfu"))
    for x in range(5):
        for _ in range(10):
            f(x)
    for x in range(5, 30):
        f(x)
    assert held(f, range(5)) == [0, 1, 2, 3, 4]


@every
def test_cost_keeps_what_is_expensive_per_byte(kind: str) -> None:
    cache = new(kind)
    limited = cache.limited(bytes="1 MB")
    assert "cost" in pickle.loads(pickle.dumps(limited)).made_by[1].values()

    def keep_one(i: int, seconds: float, size: int) -> Digest:
        call = limited.keep(
            wellkept.digest(i).raw,
            random.Random(i).randbytes(size),
            function="work",
            code="none",
            arguments={"i": Argument(wellkept.digest(i), i, True)},
            seconds=seconds,
        )
        return call.result

    dear = [keep_one(i, 600.0, 100 * KB) for i in range(3)]
    small = [keep_one(100 + i, 1.0, 2 * KB) for i in range(20)]
    cheap = [keep_one(200 + i, 0.01, 100 * KB) for i in range(40)]
    there = set(cache.values.keys())
    assert there >= {*dear, *small}
    assert len(there & set(cheap)) <= 7
    assert cache.size().bytes < 1_200_000 + (KB * KB if kind in ("embedded", "sqlite") else 0)


def even_first(call: wellkept.Call) -> tuple[int, int]:
    x = call.arguments["x"].value
    return x % 2, x


@every
@pytest.mark.parametrize("limit", [{"calls": 12}, {"bytes": 1250 * KB}])
def test_a_policy_of_ones_own_sees_the_whole_record(kind: str, limit: dict[str, int]) -> None:
    cache = new(kind)
    f = Counted(blob).into(cache.limited(**limit, policy=even_first))
    for x in range(20):
        f(x)
    there = [x for x in range(20) if f.contains(x)]
    assert {*range(1, 20, 2)} <= {*there}
    assert len(there) <= 12
    if kind != "memory":
        copy = pickle.loads(pickle.dumps(f.cache))
        assert copy.made_by[1]["policy"] is even_first


@every
def test_a_policy_that_fails_evicts_nothing(kind: str) -> None:
    cache = new(kind)
    f = Counted(blob).into(cache.limited(calls=3, policy=lambda call: [1, "a"][call.uses]))
    with pytest.warns(KeptWarning, match="nothing is evicted, as the policy failed: TypeError"):
        list(map(f, (0, 1, 2, 0, 3)))
    assert all(f.contains(x) for x in range(4))


@every
def test_a_result_that_drifted_is_told(kind: str) -> None:
    cache = new(kind)
    state = [0]
    counted = Counted(lambda x: (x, state[0]))
    f = counted.into(cache)
    f(1), f(2)
    for x in (1, 2):
        cache.values.delete(f.call(x).result)
    assert not f.contains(1)
    f(2)
    state[0] = 1
    with pytest.warns(KeptWarning, match="counted gave another result .* than before .* evicted"):
        assert f(1) == (1, 1)
    assert cache.counts["drifted"] == 1
    assert f(1) == (1, 1)
    assert counted.runs == 4


@shared
def test_limits_hold_while_several_write(kind: str) -> None:
    from concurrent.futures import ThreadPoolExecutor

    cache = new(kind)
    f = Counted(blob).into(cache.limited(bytes="1 MB", policy="lru"), strict=True)
    with ThreadPoolExecutor(4) as pool:
        for x, found in enumerate(pool.map(f, range(60))):
            assert found == blob(x)
    assert cache.size().values <= 14
    assert cache.verify().ok


def test_wrong_limits() -> None:
    cache = new("memory")
    for options, says in [
        ({}, "give bytes= or calls="),
        ({"bytes": "lots"}, "not a size"),
        ({"calls": -1}, "number of calls"),
        ({"calls": True}, "number of calls"),
        ({"bytes": 1, "policy": "mru"}, "policy= is one of fifo, lru, lfu, cost"),
        ({"bytes": 1, "policy": ["lru"]}, "or a function of a call"),
    ]:
        with pytest.raises(ConfigError, match=says):
            cache.limited(**options)  # type: ignore[arg-type]  # wrong on purpose


class TestOneLine:
    """A limit is one line of a configuration, one part of a URL, or one variable."""

    def kept(self, cache: wellkept.Cache) -> int:
        f = wellkept.keep(cache=cache, name="f", version=1)(lambda i: os.urandom(2 * KB))
        for i in range(10):
            f(i)
        assert cache.size().calls == 10
        return len(set(cache.values.keys()))

    @pytest.mark.parametrize("at", ["{}?limit=9kB", "files:{}?limit=9kB", "sqlite:///{}?limit=9kB"])
    def test_in_a_url(self, tmp_path: Path, at: str) -> None:
        cache = wellkept.open(at.format(tmp_path / "c"))
        assert self.kept(cache) <= 4
        assert [path.name for path in tmp_path.iterdir() if "?" in path.name] == []

    @pytest.mark.parametrize("text", ['limit = "9 kB"', "limit = 9000", 'limit = {bytes = "9 kB"}'])
    def test_at_the_top_of_a_file(self, tmp_path: Path, monkeypatch: Any, text: str) -> None:
        monkeypatch.delenv("WELLKEPT_CACHE", raising=False)
        (tmp_path / "wellkept.toml").write_text(f'cache = "./c"\n{text}\n')
        cache = build(find(tmp_path).active, wellkept.open)
        assert self.kept(cache) <= 4

    def test_of_a_named_cache(self, tmp_path: Path) -> None:
        (tmp_path / "wellkept.toml").write_text('[caches.a]\nurl = "./c"\nlimit = "9 kB"\n')
        assert find(tmp_path).caches["a"].limit == {"bytes": "9 kB"}

    def test_of_the_environment(self, tmp_path: Path, monkeypatch: Any) -> None:
        (tmp_path / "wellkept.toml").write_text('cache = "./c"\nlimit = "1 GB"\n')
        monkeypatch.delenv("WELLKEPT_CACHE", raising=False)
        monkeypatch.setenv("WELLKEPT_LIMIT", "9 kB")
        assert find(tmp_path).active.limit == {"bytes": "9 kB"}
        monkeypatch.setenv("WELLKEPT_CACHE", str(tmp_path / "other"))
        assert find(tmp_path).active.limit == {"bytes": "9 kB"}

    @pytest.mark.parametrize(
        "end",
        [
            "?durability=power",
            "?limit=9kB&durability=power",
            "?memory=0&limit=9kB",
            "?limit=9kB&x=1",
        ],
    )
    def test_another_option_of_a_path_is_no_part_of_a_name(self, tmp_path: Path, end: str) -> None:
        with pytest.raises(ConfigError, match="a path takes no option but limit="):
            wellkept.open(f"{tmp_path / 'c'}{end}")
        assert list(tmp_path.iterdir()) == []

    def test_what_is_no_size_is_told(self, tmp_path: Path, monkeypatch: Any) -> None:
        with pytest.raises(ConfigError, match="limit=much: not a size: 'much'"):
            wellkept.open(f"{tmp_path / 'c'}?limit=much")
        assert list(tmp_path.iterdir()) == []
        (tmp_path / "wellkept.toml").write_text('limit = "much"\n')
        with pytest.raises(ConfigError, match=r"wellkept.toml:1: limit.*not a size: 'much'"):
            find(tmp_path)
        (tmp_path / "wellkept.toml").write_text("limit = true\n")
        with pytest.raises(ConfigError, match='must be a size, such as "10 GB"'):
            find(tmp_path)
        (tmp_path / "wellkept.toml").write_text("")
        monkeypatch.setenv("WELLKEPT_LIMIT", "10 parsecs")
        with pytest.raises(ConfigError, match="WELLKEPT_LIMIT: not a size: '10 parsecs'"):
            find(tmp_path)


class TestNotice:
    """A cache that grows without a limit is told, once a day."""

    def used(self, at: Any, **options: Any) -> Any:
        cache = wellkept.open(at, **options)
        wellkept.keep(cache=cache, name="f", version=1)(lambda: time.perf_counter())()
        wellkept.keep(cache=cache, name="g", version=time.time())(lambda: 1)()
        cache.close()
        return cache

    def test_once_a_day(self, tmp_path: Path, monkeypatch: Any) -> None:
        monkeypatch.setattr("wellkept.caches.core.LARGE", 1)
        with pytest.warns(KeptWarning, match=r"takes .* GB and has no limit. Set one"):
            self.used(tmp_path)
        self.used(tmp_path)
        later = time.time() + 90_000
        monkeypatch.setattr(time, "time", lambda: later)
        wellkept.open(tmp_path).close()
        with pytest.warns(KeptWarning, match="has no limit"):
            self.used(tmp_path)

    def test_a_small_one_and_a_limited_one_are_not(self, tmp_path: Path, monkeypatch: Any) -> None:
        self.used(tmp_path / "small")
        monkeypatch.setattr("wellkept.caches.core.LARGE", 1)
        self.used(tmp_path / "limited", limit="1 MB").source.close()
        self.used("memory:")
