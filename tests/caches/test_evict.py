"""What is evicted, what goes with it, and what must stay, also while others write."""

import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import wellkept
from wellkept import Cache, ConfigError, NotKept, StoreError, keep
from wellkept.caches import maintenance
from wellkept.conditions import matches
from wellkept.stores.collect import collect_blobs, references, unreferenced
from wellkept.stores.reports import Evicted


@keep(version=1)
def blob(i: int) -> bytearray:
    return bytearray(b"%06d" % i) * 20_000


@keep(version=1)
def small(i: int) -> list[int]:
    return [i]


@keep(version=1)
def text(i: int) -> str:
    return f"{i:05d}" * 1000


FUNCTIONS = (blob, small, text)


@pytest.fixture(params=["directory", "memory"])
def cache(request: pytest.FixtureRequest, home: Path) -> Iterator[Cache]:
    with wellkept.open("memory:" if request.param == "memory" else home / "evicting") as made:
        yield made


@pytest.fixture
def store(home: Path) -> Iterator[Cache]:
    with wellkept.open(home / "evicting") as made:
        yield made


def fill(cache: Cache, n: int = 4) -> None:
    with wellkept.use(cache):
        for i in range(n):
            for function in FUNCTIONS:
                function(i)


def left(cache: Cache) -> dict[str, int]:
    with wellkept.use(cache):
        return {f.__name__: sum(f.contains(i) for i in range(10)) for f in FUNCTIONS}


def blobs(cache: Cache) -> set[str]:
    return set(cache.backend.blobs.keys())


def test_a_function_s_calls_go_with_their_results(cache: Cache) -> None:
    fill(cache)
    done = cache.evict("blob")
    assert (done.calls, done.values, done.dry_run) == (4, 4, False)
    assert done.bytes >= 4 * 120_000
    assert left(cache) == {"blob": 0, "small": 4, "text": 4}
    assert cache.evict("blob") == Evicted(0, 0, 0, 0)


def test_the_blobs_files_are_gone(store: Cache) -> None:
    fill(store)
    assert len(blobs(store)) == 4
    assert store.evict("blob").blobs == 4
    assert blobs(store) == set()
    assert list(store.values.keys()), "the other results are there"


def test_a_dry_run_says_the_same_and_deletes_nothing(cache: Cache) -> None:
    fill(cache)
    before = sorted(cache.calls.keys()), sorted(cache.values.keys())
    would = cache.evict("[bt]*", dry_run=True)
    assert (sorted(cache.calls.keys()), sorted(cache.values.keys())) == before
    assert left(cache) == {"blob": 4, "small": 4, "text": 4}
    assert would.dry_run
    done = cache.evict("[bt]*")
    assert (would.calls, would.values, would.blobs) == (done.calls, done.values, done.blobs)
    assert would.bytes == done.bytes


def test_by_age(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(cache, 2)
    now = time.time()
    fill(cache, 4)
    assert cache.evict(older="1 h").calls == 0
    monkeypatch.setattr(maintenance, "time", SimpleNamespace(time=lambda: now + 3600))
    assert cache.evict(older="1 h").calls == 6
    assert left(cache) == {"blob": 2, "small": 2, "text": 2}


def test_by_key_and_prefix(cache: Cache) -> None:
    fill(cache)
    with wellkept.use(cache):
        keys = [blob.key(0), small.key(1)[:12]]
        assert cache.evict(keys=keys).calls == 2
        assert not blob.contains(0)
        assert not small.contains(1)
    assert left(cache) == {"blob": 3, "small": 3, "text": 4}


def test_all_that_is_said_must_fit(cache: Cache) -> None:
    fill(cache)
    with wellkept.use(cache):
        assert cache.evict("small", keys=[blob.key(0)]).calls == 0
        assert cache.evict("small", older="1 d").calls == 0
        assert cache.evict("small", keys=[small.key(0), blob.key(0)]).calls == 1


@pytest.mark.parametrize(
    "what", [{}, {"older": "soon"}, {"older": -1}, {"keys": "abcd1234"}], ids=str
)
def test_what_makes_no_sense_is_refused(cache: Cache, what: dict[str, object]) -> None:
    fill(cache, 1)
    with pytest.raises(ConfigError):
        cache.evict(**what)  # type: ignore[arg-type]  # that is the point
    assert left(cache) == {"blob": 1, "small": 1, "text": 1}


@pytest.mark.parametrize("key", ["0" * 64, "00000000", "zz", "z" * 64])
def test_an_unknown_key_is_refused_and_nothing_goes(cache: Cache, key: str) -> None:
    fill(cache, 1)
    with wellkept.use(cache), pytest.raises(NotKept):
        cache.evict(keys=[blob.key(0), key])
    assert left(cache) == {"blob": 1, "small": 1, "text": 1}


def test_names_fit_with_their_module_or_without() -> None:
    for pattern in ("pkg.mod:Class.method", "Class.method", "Class.*", "*method", "pkg.*"):
        assert matches("pkg.mod:Class.method", pattern), pattern
    for pattern in ("method", "mod:Class.method", "class.method", "", "pkg"):
        assert not matches("pkg.mod:Class.method", pattern), pattern
    assert matches("odd[name]", "odd[name]")


def test_a_result_that_another_call_gave_stays(cache: Cache) -> None:
    @keep(version=1, cache=cache)
    def again(i: int) -> bytearray:
        return blob.__wrapped__(0)

    with wellkept.use(cache):
        assert again(1) == blob(0)
        done = cache.evict("blob")
        assert (done.calls, done.values, done.blobs) == (1, 0, 0)
        assert again.load(1) == blob.__wrapped__(0)


def test_what_was_forgotten_and_replaced_before_is_freed(store: Cache) -> None:
    fill(store)
    with wellkept.use(store):
        blob.forget(0)
        assert len(blobs(store)) == 4
        assert store.evict("small").blobs == 1
    assert len(blobs(store)) == 3


def test_evicted_is_evicted_in_memory_too(cache: Cache) -> None:
    fill(cache)
    with wellkept.use(cache):
        before = small.counts.computed
        small(1)
        assert small.counts.computed == before
        cache.evict("small")
        small(1)
        assert small.counts.computed == before + 1


def test_a_read_only_store_refuses_cleanly(store: Cache, home: Path) -> None:
    fill(store, 1)
    store.close()
    store.backend.database.readonly = True  # a directory's mode does not stop a superuser
    with pytest.raises(StoreError, match="read-only"):
        store.evict("blob")
    store.backend.database.readonly = False
    assert left(store) == {"blob": 1, "small": 1, "text": 1}


def test_the_condition_that_skips_rows_skips_none_with_blobs(store: Cache) -> None:
    @keep(version=1, cache=store, codec="cloudpickle")
    def other(i: int) -> object:
        return [np.full(20_000, i), "x" * 2000, np.full(20_000, -i)]

    @keep(version=1, cache=store)
    def inline(i: int) -> object:
        return np.full(20_000, i + 0.5)

    @keep(version=1, cache=store, codec="json")
    def plain(i: int) -> str:
        return f"{i:06d}" * 20_000  # so long that the payload is a blob

    fill(store)
    for i in range(3):
        other(i)
        inline(i)
        plain(i)
    named = {part.name.hex() for found in references(store.backend) for part in found.blobs}
    assert named == blobs(store)
    assert len(named) == 4 + 5 + 3 + 3
    assert unreferenced(store.backend) == set()


def test_blobs_of_an_index_that_was_set_aside_wait_for_their_salvage(store: Cache) -> None:
    fill(store)
    store.close()
    root = store.backend.root
    (root / "index.sqlite").rename(root / f"index.damaged-{time.time_ns()}.sqlite")
    with wellkept.open(root) as cache:
        with wellkept.use(cache):
            blob(8)
            blob(9)
        assert cache.evict("blob").calls == 2
        assert len(blobs(cache)) == 4
        cache.verify(repair=True)
        assert left(cache) == {"blob": 4, "small": 4, "text": 4}


WRITER = """
import os, sys, time, wellkept
from wellkept import keep

@keep(version=1)
def made(i):
    return bytearray(b"%06d" % i) * 20_000

with wellkept.open(sys.argv[1]) as cache, wellkept.use(cache):
    i, end = 0, time.monotonic() + 100
    while not os.path.exists(sys.argv[2]) and time.monotonic() < end:
        got = made(i % 25)
        assert got == made.__wrapped__(i % 25), "wrong"
        i += 1
    print(i, cache.counts["write failures"])
"""


@pytest.mark.long
def test_evicting_while_another_process_writes_frees_what_is_free_and_nothing_else(
    store: Cache, home: Path
) -> None:
    fill(store)
    script = home / "writer.py"
    script.write_text(textwrap.dedent(WRITER))
    writer = subprocess.Popen(
        [sys.executable, "-W", "ignore", str(script), str(store.backend.root), "enough"],
        stdout=subprocess.PIPE,
        text=True,
    )
    rounds = freed = 0
    while writer.poll() is None:
        done = store.evict("made")
        freed += done.blobs
        rounds += 1
        if rounds > 30 and freed > 25:
            Path("enough").touch()
        # What is committed names only what is there.
        with store.backend.locks.collecting_blobs():
            named = {part.name.hex() for found in references(store.backend) for part in found.blobs}
            assert named <= blobs(store), rounds
    said, _ = writer.communicate()
    assert writer.returncode == 0
    calls, failures = map(int, said.split())
    assert calls > 25
    assert failures == 0
    assert freed > 25
    assert left(store) == {"blob": 4, "small": 4, "text": 4}
    store.evict("made")
    assert len(blobs(store)) == 4
    assert store.verify().ok


def test_a_blob_that_is_about_to_be_named_is_not_collected(store: Cache) -> None:
    """The window between a blob's writing and its record's commit, opened wide."""
    content = b"x" * 100_000
    name = wellkept.hashing.buffer_digest(content).hex()
    with store.backend.locks.writing_blobs():
        store.backend.blobs.put(name, content)
        with pytest.raises(StoreError, match="busy"):
            collect_blobs(store.backend, patience=0.05)
        assert blobs(store) == {name}
    assert collect_blobs(store.backend).items == 1
