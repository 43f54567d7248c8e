"""Results that are read part by part: only what is touched is loaded, verified, on every kind of place."""

from __future__ import annotations

import pickle
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.caches.places import Counted, every, new, shared

import wellkept
from wellkept import Cache, KeptWarning, Pool, Stack
from wellkept.errors import DamagedValue
from wellkept.stores.byte_store import CodedValues
from wellkept.stores.embedded import Embedded

dask = pytest.importorskip("dask")
da = pytest.importorskip("dask.array")

COUNT = 20_000


def made(x: int) -> Any:
    return da.arange(x, x + 10 * COUNT, chunks=COUNT)


def loads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The bytes of each buffer that any cache loads from now on."""
    seen: list[int] = []

    def counting(load: Any) -> Any:
        def counted(backend: Any, envelope: Any) -> Any:
            found = load(backend, envelope)
            seen.extend(memoryview(buffer).nbytes for buffer in found[1])
            return found

        return counted

    for kind in (Embedded, CodedValues):
        monkeypatch.setattr(kind, "load", counting(kind.load))
    return seen


@every
def test_only_what_is_touched_is_read(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    cache, counted = new(kind), Counted(made)
    f = counted.into(cache, codec="chunks")
    f(1)
    seen = loads(monkeypatch)
    found = f(1)
    assert wellkept.digest(found) == f.call(1).result
    assert wellkept.digest(cache.load(f.call(1).result)) == f.call(1).result
    assert seen == []
    assert found[COUNT * 3 + 5].compute() == COUNT * 3 + 6
    assert seen == [COUNT * 8]
    assert found[: COUNT + 1].compute().tolist() == list(range(1, COUNT + 2))
    assert seen == [COUNT * 8] * 3
    assert cache.load(f.call(1).result)[0].compute() == 1
    assert len(seen) == 4
    assert counted.runs == 1


@every
def test_a_damaged_or_missing_chunk_is_an_error_and_then_computed_again(kind: str) -> None:
    cache, counted = new(kind), Counted(made)
    f = counted.into(cache, codec="chunks")
    f(1)
    found = f(1)
    name = cache.backend.fetch(f.key(1).raw).envelope.blobs[3].name.hex()
    damage(cache, name)
    assert found[0].compute() == 1
    with pytest.warns(KeptWarning, match="computed again"), pytest.raises(DamagedValue):
        found[COUNT * 3].compute()
    assert f(1)[COUNT * 3].compute() == COUNT * 3 + 1
    assert counted.runs == 2
    # What was open reads what was made again.
    assert found[COUNT * 3].compute() == COUNT * 3 + 1
    assert f(1)[0].compute() == 1
    assert counted.runs == 2


def damage(cache: Cache, name: str) -> None:
    if cache.backend.blobs is not None:
        path = cache.backend.blobs.path(name)
        path.chmod(0o600)
        content = bytearray(path.read_bytes())
        content[100] ^= 1
        path.write_bytes(content)
    else:
        items = cache.backend.byte_stores[1]
        items.put(f"blobs/{name}", b"x" * (COUNT * 8))


@every
def test_eviction_under_an_open_result_gives_no_wrong_bytes(kind: str) -> None:
    cache, counted = new(kind), Counted(made)
    f = counted.into(cache, codec="chunks")
    f(1)
    found = f(1)
    read = found[:5]
    first = found.blocks[1].compute()
    f.forget(1)
    cache.gc(grace=0)
    assert first.tolist() == list(range(COUNT + 1, COUNT * 2 + 1))
    with pytest.raises(DamagedValue, match="make the call again"):
        read.compute()
    f(1)
    assert read.compute().tolist() == [1, 2, 3, 4, 5]


def test_a_result_of_a_stack_is_read_from_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    near, far, counted = new("embedded"), new("files"), Counted(made)
    counted.into(far, codec="chunks")(1)
    f = counted.into(Stack(near, far), codec="chunks")
    assert f(1)[COUNT * 3].compute() == COUNT * 3 + 1
    assert counted.runs == 1


def test_a_layer_that_does_not_answer_has_lost_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    near, far, counted = new("embedded"), new("embedded"), Counted(made)
    counted.into(far, codec="chunks")(1)
    found = counted.into(Pool(near, far), codec="chunks")(1)

    def load(envelope: Any) -> Any:
        raise wellkept.StoreError("gone")

    monkeypatch.setattr(far.backend, "load", load)
    kept = pytest.raises(wellkept.KeptError, match="does not answer")
    with pytest.warns(KeptWarning, match="left out"), kept as caught:
        found[0].compute()
    assert not isinstance(caught.value, DamagedValue)
    assert far.backend.fetch(counted.into(far, codec="chunks").key(1).raw) is not None


@shared
def test_an_open_result_can_be_sent(kind: str) -> None:
    cache, counted = new(kind), Counted(made)
    f = counted.into(cache, codec="chunks")
    f(1)
    sent = pickle.dumps(f(1))
    assert len(sent) < 10_000
    assert pickle.loads(sent)[COUNT * 3].compute() == COUNT * 3 + 1
    f.forget(1)
    with pytest.raises(wellkept.StoreError, match="not kept"):
        pickle.loads(sent)


def test_of_memory_alone_its_content_is_sent() -> None:
    f = Counted(made).into(new("memory"), codec="chunks")
    f(1)
    assert pickle.loads(pickle.dumps(f(1)))[COUNT * 3].compute() == COUNT * 3 + 1


def test_a_loaded_result_is_an_argument_without_being_read(monkeypatch: pytest.MonkeyPatch) -> None:
    cache = new("embedded")
    f = Counted(made).into(cache, codec="chunks")
    inner: list[int] = []

    @wellkept.keep(cache=cache, version=1)
    def total(array: Any) -> int:
        inner.append(1)
        return int(array.sum().compute())

    total(f(1))
    seen = loads(monkeypatch)
    assert total(f(1)) == sum(range(1, 10 * COUNT + 1))
    assert (inner, seen) == ([1], [])


def test_what_computing_the_chunks_took_counts() -> None:
    def slow(block: Any) -> Any:
        deadline = time.perf_counter() + 0.02
        while time.perf_counter() < deadline:
            pass
        return block

    f = Counted(lambda x: made(x).map_blocks(slow, dtype=int)).into(new("memory"), codec="chunks")
    with dask.config.set(scheduler="synchronous"):
        f(1)
    assert f.call(1).seconds > 0.2


def test_an_array_that_was_changed_is_not_what_was_loaded() -> None:
    f = Counted(made).into(new("embedded"), codec="chunks")
    f(1)
    found = f(1)
    before = wellkept.digest(found)
    found[3] = 100
    assert wellkept.digest(found) != before
    assert wellkept.digest(f(1)) == before


def test_many_threads_read_one_result() -> None:
    f = Counted(made).into(new("sqlite"), codec="chunks")
    f(1)
    found = f(1)
    sums: list[int] = []
    threads = [
        threading.Thread(target=lambda: sums.append(int(found.sum().compute()))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sums == [sum(range(1, 10 * COUNT + 1))] * 4


def test_zarr_reads_only_what_is_touched(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    zarr = pytest.importorskip("zarr")
    value = np.random.default_rng(0).random(10 * COUNT)
    cache = new("embedded")

    def array(x: int) -> Any:
        return zarr.create_array(str(home / "z"), data=value, chunks=(COUNT,), overwrite=True)

    f = Counted(array).into(cache, codec="chunks")
    f(1)
    seen = loads(monkeypatch)
    found = f(1)
    assert seen == []
    assert found[COUNT * 3] == value[COUNT * 3]
    assert len(seen) == 1
    assert np.array_equal(found[:], value)
