"""Collecting what nothing references, while others write."""

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.caches.places import Counted, every, new, url_of

import wellkept
from wellkept import Cache, StoreError
from wellkept.stores import byte_maintenance

LARGE = 50_000


def fill(cache: Cache) -> tuple[Counted, Any]:
    counted = Counted(lambda x: np.arange(x) if x > 10 else list(range(30_000)))
    f = counted.into(cache)
    for x in (1, LARGE, LARGE + 1):
        f(x)
    return counted, f


def keys(cache: Cache) -> list[str]:
    return sorted(cache.backend.values.items.keys())


@every
def test_what_is_needed_stays(kind: str) -> None:
    cache = new(kind)
    counted, f = fill(cache)
    assert cache.gc(grace=0) == (0, 0)
    for x in (1, LARGE, LARGE + 1):
        assert np.array_equal(f(x), counted.function(x))
    assert counted.runs == 3


@every
def test_what_nothing_needs_goes(kind: str) -> None:
    cache = new(kind)
    counted, f = fill(cache)
    for x in (1, LARGE):
        cache.calls.delete(f.key(x))  # the record alone
    would = cache.gc(grace=0, dry_run=True)
    before = cache.size()
    assert cache.gc(grace=0) == would
    assert would.items >= 2
    assert would.bytes > 8 * LARGE
    after = cache.size()
    assert (before.calls, after.calls) == (1, 1)
    assert (after.values, after.blobs) == (1, 1)
    assert cache.gc(grace=0) == (0, 0)
    assert len(f(LARGE + 1)) == LARGE + 1
    assert counted.runs == 3
    f(LARGE)
    assert cache.verify().problems == ()


media = pytest.mark.parametrize("kind", ["files", "hdf5", "memory"])
GRACE = 10.0


class Clock:
    """The time by which collectors go."""

    ahead = 0.0

    def time(self) -> float:
        return time.time() + self.ahead


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(byte_maintenance, "time", made)
    return made


@media
def test_what_was_seen_lately_has_its_grace(kind: str, clock: Clock) -> None:
    cache = new(kind)
    _, f = fill(cache)
    cache.calls.delete(f.key(LARGE))
    there = keys(cache)
    assert cache.gc(grace="1 h", dry_run=True) == (0, 0)
    assert keys(cache) == there
    assert cache.gc(grace=GRACE) == (0, 0)  # noted
    assert cache.gc(grace=GRACE) == (0, 0)
    clock.ahead = 2 * GRACE
    assert cache.gc(grace=GRACE).items == 1
    assert next(key for key in there if key not in keys(cache)).startswith("blobs/")
    assert cache.gc(grace=0) == (0, 0)


@media
def test_what_is_needed_again_is_no_longer_noted(kind: str, clock: Clock) -> None:
    cache = new(kind)
    counted, f = fill(cache)
    cache.calls.delete(f.key(LARGE))
    cache.gc(grace=GRACE)
    f(LARGE)
    clock.ahead = 2 * GRACE
    assert cache.gc(grace=GRACE) == (0, 0)
    cache.calls.delete(f.key(LARGE))
    assert cache.gc(grace=GRACE) == (0, 0)  # noted anew
    assert counted.runs == 4


def test_leases_are_respected(clock: Clock) -> None:
    cache = new("files", network=True)
    _, f = fill(cache)
    key = bytes(32)
    assert cache.backend.locks.acquire(key)  # somebody computes, and has written a blob already
    cache.backend.values.items.put("blobs/" + "0" * 64, b"under way")
    cache.gc(grace=GRACE)
    clock.ahead = 2 * GRACE
    assert cache.gc(grace=GRACE) == (0, 0)
    cache.backend.locks.release(key)
    assert cache.gc(grace=GRACE).items == 1
    assert len(f(LARGE)) == LARGE


def test_leases_of_the_dead_go(clock: Clock) -> None:
    url = url_of("files")
    code = (
        f"import wellkept, os, json, time; c = wellkept.open({url!r}, network=True); "
        "items = c.backend.calls.items; "
        "c.backend.locks.acquire(bytes(32)); key, = items.keys('leases/'); "
        "lease = json.loads(items.get(key)); lease[3] -= 3600; "  # as if it were long ago
        "items.put(key, json.dumps(lease).encode()); os._exit(0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    cache = wellkept.open(url, network=True)
    items = cache.backend.calls.items
    assert len(list(items.keys("leases/"))) == 1
    assert cache.backend.locks.acquire(bytes([1]) * 32)
    cache.gc(grace=GRACE)
    clock.ahead = 2 * GRACE
    assert cache.gc(grace=GRACE).items == 1
    assert len(list(items.keys("leases/"))) == 1  # our own
    cache.backend.locks.release(bytes([1]) * 32)
    assert list(items.keys("leases/")) == []


@media
def test_what_a_call_came_to_name_in_that_moment_is_put_back(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = new(kind)
    counted, f = fill(cache)
    cache.calls.delete(f.key(LARGE))
    cache.calls.delete(f.key(1))
    find = byte_maintenance.loose

    def loose(place: Any, without: Any = ()) -> set[str]:
        found = find(place, without)
        f(LARGE), f(1)  # somebody keeps them now
        return found

    monkeypatch.setattr(byte_maintenance, "loose", loose)
    assert cache.gc(grace=0) == (0, 0)
    assert counted.runs == 5
    assert len(f(LARGE)) == LARGE
    assert cache.verify().problems == ()
    assert counted.runs == 5


WRITER = """
import itertools, os, sys
import numpy as np
import wellkept

cache = wellkept.open(sys.argv[1])

@wellkept.keep(cache=cache, name="write", version=1, strict=True)
def write(i: int) -> list[np.ndarray]:
    # Some parts are new, and some are what others have had and lost.
    return [np.full(9000, i), np.full(9000, i % 7), np.full(9000, -(i // 10))]

print("ready", flush=True)
for i in itertools.count():
    write(i)
    if i % 3 == 0:
        write.forget(i)
    if i >= 200 and os.path.exists(sys.argv[2]):
        break
print(i, flush=True)
"""


# Other places: tests/caches/test_servers.py.
@pytest.mark.parametrize("kind", ["embedded", pytest.param("files", marks=pytest.mark.long)])
def test_nothing_is_lost_while_another_process_writes(kind: str, home: Path) -> None:
    url, enough = url_of(kind), home / "enough"
    cache = wellkept.open(url)
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, url, str(enough)], stdout=subprocess.PIPE, text=True
    ) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
        removed = 0
        while writer.poll() is None:
            removed += cache.gc(grace=0 if kind == "embedded" else 0.5).items
            # It writes until something was removed beside it.
            if removed:
                enough.touch()
            time.sleep(0.01)
        count = int(writer.stdout.readline())
        assert writer.returncode == 0

    @wellkept.keep(cache=cache, name="write", version=1, strict=True)
    def write(i: int) -> Any:
        raise AssertionError(f"{i} was lost")

    for i in range(count):
        if i % 3:
            found = write(i)
            assert [int(part[0]) for part in found] == [i, i % 7, -(i // 10)]
    assert cache.verify().ok
    cache.gc(grace=0)
    assert {p.kind for p in cache.verify().problems} == set()


def test_a_stack_is_collected_layer_by_layer() -> None:
    near, far = new("embedded"), new("files")
    counted, f = fill(wellkept.Stack(near, far))
    for cache in (near, far):
        cache.calls.delete(f.key(LARGE))
    assert f.cache.gc(grace=0).items == 2
    assert near.size().blobs == far.size().blobs == 2
    assert counted.runs == 3


def test_a_directory_that_is_not_ours_to_write(home: Path) -> None:
    import os

    if os.getuid() == 0:
        pytest.skip("root may write anything")
    cache = new("embedded")
    fill(cache)
    cache.close()
    root = cache.backend.root
    root.chmod(0o500)
    try:
        with pytest.raises(StoreError, match="read-only"):
            wellkept.open(root).gc()
    finally:
        root.chmod(0o700)
