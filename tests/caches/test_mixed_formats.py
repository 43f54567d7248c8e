"""However items are written (compressed or not, by which method, in which medium, by which codec),
digests are the same, and whatever was written is read by whoever is told to write in another way."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.caches.places import Counted

import wellkept
from wellkept import Cache, ConfigError
from wellkept.stores import (
    Compressed,
    Files,
    Hdf5,
    Locked,
    Logged,
    Memory,
    Prefix,
    Retry,
    Sql,
    Sqlite,
)

MEDIA: dict[str, Callable[[Path], Any]] = {
    "memory": lambda home: Memory(),
    "files": lambda home: Files(home / "files"),
    "sqlite": lambda home: Sqlite(home / "items.sqlite"),
    "sql": lambda home: Sql(f"sqlite:///{home / 'sql.db'}"),
    "hdf5": lambda home: Hdf5(home / "items.h5"),
}
WAYS: dict[str, Callable[[Any], Any]] = {
    "plain": lambda store: store,
    "zstd": Compressed,
    "zstd, hard": lambda store: Compressed(store, "zstd", 19),
    "gzip": lambda store: Compressed(store, "gzip", 1),
    "locked gzip": lambda store: Locked(Compressed(store, "gzip")),
    "retried zstd": lambda store: Compressed(Retry(Logged(store), wait=0)),
}
RESULTS: list[Any] = [
    None,
    {"text": "a" * 5000, "n": 1},
    "x" * 100_000,
    np.zeros(100_000),
    np.random.default_rng(0).bytes(300_000),
    [np.arange(20_000), {"k": np.zeros(20_000)}],
    b"\x89kz\r\n\x1a\x01\x02" + b"like a compressed item" * 9000,
]


def on(store: Any) -> Cache:
    return Cache(values=store, calls=store)


def _room(name: str) -> str:
    return name.replace(",", "").replace(" ", "-") + "/"


def digests(cache: Cache) -> dict[str, tuple[str, list[str]]]:
    """Of each call, its result's digest, and the names of the blobs."""
    items = cache.backend.values.items
    blobs = sorted(items.keys("blobs/"))
    return {str(key): (str(cache.calls.get(key).result), blobs) for key in cache.calls.keys()}  # type: ignore[union-attr]  # noqa: SIM118  it is there; a store is no dict


LONGER = {"memory", "sqlite", "sql", "hdf5"}


@pytest.fixture(
    params=[pytest.param(m, marks=[pytest.mark.long] if m in LONGER else []) for m in MEDIA]
)
def store(request: pytest.FixtureRequest, home: Path) -> Any:
    return MEDIA[request.param](home)


def test_no_way_changes_a_digest_and_each_reads_all(store: Any) -> None:
    counted = Counted(lambda n: RESULTS[n])
    wanted: Any = None
    for name, way in WAYS.items():
        cache = on(Prefix(way(store), _room(name)))
        f = counted.into(cache, strict=True)
        for n in range(len(RESULTS)):
            f(n)
        found = digests(cache)
        wanted = wanted or found
        assert found == wanted, name
    assert counted.runs == len(RESULTS) * len(WAYS)
    for name in WAYS:
        for way in WAYS.values():
            cache = on(Prefix(way(store), _room(name)))
            f = counted.into(cache, strict=True)
            for n, result in enumerate(RESULTS):
                assert wellkept.digest(f(n)) == wellkept.digest(result)
                assert wellkept.digest(cache.load(f.call(n).result)) == wellkept.digest(result)
            assert digests(cache) == wanted
            assert cache.verify().problems == ()
            assert not cache.gc(grace=0).items
    assert counted.runs == len(RESULTS) * len(WAYS)


def test_ways_take_turns_in_one_store(store: Any) -> None:
    """Each writes some, repairs nothing, and throws nothing away that another wrote."""
    counted = Counted(lambda n: RESULTS[n])
    for n, way in enumerate([*WAYS.values()]):
        cache = on(way(store))
        f = counted.into(cache, strict=True)
        for m in range(n + 1):
            f(m)
        assert counted.runs == n + 1
        assert cache.verify(repair=True).problems == ()
        cache.gc(grace=0)
    assert counted.runs == len(WAYS)


@pytest.mark.parametrize("codec", ["pickle", "cloudpickle", "dill", "hdf5", "json", "arrow", "npy"])
def test_no_codec_changes_a_digest(codec: str, home: Path) -> None:
    results: dict[str, list[Any]] = {
        "json": [None, {"a": [1, "b", 2.5]}],
        "npy": [np.arange(5), np.zeros(30_000)],
    }
    if codec == "arrow":
        pyarrow = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
        results["arrow"] = [pyarrow.table({"a": [1, 2], "b": ["x", None]})]
    elif codec in ("dill", "hdf5"):
        pytest.importorskip({"dill": "dill", "hdf5": "bagofholding"}[codec], reason="not installed")
    some = results.get(codec, [None, {"a": [1, "b"]}, np.zeros(30_000)])
    for method in (None, "zstd", "gzip"):
        medium = Files(home / f"{codec}-{method}")
        store = medium if method is None else Compressed(medium, method)
        cache = on(store)
        for n, result in enumerate(some):
            f = Counted(lambda n: some[n]).into(cache, codec=codec, strict=True)
            f(n)
            assert f.call(n).result == wellkept.digest(result)
            assert wellkept.digest(f(n)) == wellkept.digest(result)


@pytest.mark.parametrize("url", ["files:c", "memory:"])
def test_a_cache_is_told_to_compress_where_it_is_opened(url: str) -> None:
    counted = Counted(lambda n: RESULTS[n])
    with wellkept.open(url, compression="gzip:9") as cache:
        f = counted.into(cache, strict=True)
        f(3)
        inside = cache.backend.values.items.store
        assert sum(len(inside.get(key)) for key in inside.keys()) < 9000  # noqa: SIM118  as above
    if url != "memory:":
        for how in ({}, {"compression": "zstd"}):
            with wellkept.open(url, **how) as cache:
                assert (counted.into(cache, strict=True)(3) == 0).all()
        assert counted.runs == 1
    for bad in ("lzma", "zstd:99", "zstd:x", ""):
        with pytest.raises(ConfigError, match=r"compression|level"):
            wellkept.open(url, compression=bad)
