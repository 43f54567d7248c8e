"""Memory: private mappings of large items, what forks and compaction may not change, its bounds."""

import gc
import os
import pickle
import random
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.stores.agreement import check_agreement

from wellkept.errors import ConfigError
from wellkept.stores import memory as arena_module
from wellkept.stores.base import Creates, Finds, Many, Maps, Paths, Replaces, Stamps
from wellkept.stores.memory import Memory, Void

LARGE = 64 * 1024


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def filled(n: int, size: int = LARGE) -> bytes:
    return n.to_bytes(4, "big") * (size // 4)


def test_it_agrees_with_a_dict() -> None:
    check_agreement(lambda: Memory[bytes]())


def test_it_agrees_with_a_dict_without_anonymous_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "memfd_create", raising=False)
    check_agreement(lambda: Memory[bytes](), examples=5)


def test_it_agrees_with_a_dict_without_any_files(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(self: Any, capacity: int) -> None:
        raise OSError("too many open files")

    monkeypatch.setattr(arena_module.Segment, "__init__", none)
    check_agreement(lambda: Memory[bytes](), examples=5)
    store = Memory[bytes]()
    store.put("a", filled(1))
    assert store.map("a") == filled(1)


def test_what_it_can() -> None:
    for ability in (Creates, Many, Maps, Replaces, Stamps):
        assert isinstance(Memory(), ability)
    for ability in (Paths, Finds):
        assert not isinstance(Memory(), ability)


@pytest.mark.parametrize("key", ["", "/x", "a/../b", "a b", "é", "x" * 201, None])
@pytest.mark.parametrize("kind", [Memory, Void])
def test_keys_are_those_of_any_medium(kind: Any, key: Any) -> None:
    store = kind()
    for attempt in (
        lambda: store.get(key),
        lambda: store.put(key, b"x"),
        lambda: store.create(key, b"x"),
        lambda: store.delete(key),
        lambda: store.get_many([key]),
        lambda: store.put_many({key: b"x"}),
        lambda: store.delete_many([key]),
    ):
        with pytest.raises(ConfigError, match="not a key"):
            attempt()


@pytest.mark.parametrize("size", [100, LARGE, 5 * LARGE + 1])
def test_a_mapping_is_private_and_outlives_its_item(size: int) -> None:
    store = Memory[Any]()
    source = bytearray(os.urandom(size))
    wanted = bytes(source)
    store.put("a", memoryview(source))
    source[:] = bytes(size)  # a copy was kept
    first: Any = store.map("a")
    second: Any = store.map("a")
    first[:10] = b"0123456789"
    assert store.get("a") == wanted
    assert bytes(second) == wanted
    store.put("a", filled(7))
    store.delete("a")
    for n in range(200):
        store.put(f"b/{n}", filled(n))
    assert bytes(second) == wanted
    assert bytes(first) == b"0123456789" + wanted[10:]
    assert store.map("a") is None


@pytest.mark.skipif(sys.platform != "linux", reason="counts descriptors in /proc")
def test_thousands_of_arrays_take_few_descriptors_and_little_unused_memory() -> None:
    gc.collect()
    before = descriptors()
    store = Memory[Any]()
    for n in range(2000):
        store.put(f"a/{n}", filled(n))
    held = [store.map(f"a/{n}") for n in range(1000)]
    assert descriptors() - before < 40
    for n in range(0, 2000):
        if n % 40:
            store.delete(f"a/{n}")
    used = 50 * LARGE
    assert store._arena.allocated() <= 2 * used + arena_module._SPARE
    assert descriptors() - before < 40
    for n in range(0, 2000, 40):
        assert store.get(f"a/{n}") == filled(n)
    assert all(bytes(mapped) == filled(n) for n, mapped in enumerate(held))
    del store, held
    gc.collect()
    # Threads that other tests left may open and close some.
    assert descriptors() - before < 40


def test_compaction_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arena_module, "_SEGMENT", 4 * LARGE)
    monkeypatch.setattr(arena_module, "_SPARE", 8 * LARGE)
    store, model, rng = Memory[Any](), dict[str, bytes](), random.Random(1)
    arenas = set()
    for step in range(3000):
        key = f"a/{rng.randrange(40)}"
        if rng.random() < 0.5:
            model[key] = filled(step, LARGE + 4 * rng.randrange(5000))
            store.put(key, model[key])
        else:
            model.pop(key, None)
            store.delete(key)
        arenas.add(id(store._arena))
        used = sum(kept.room for kept in store._items.values())
        assert store._used == used
        assert store._arena.allocated() <= 2 * used + 8 * LARGE
    assert len(arenas) > 1, "nothing was moved, so this tested nothing"
    assert {key: store.get(key) for key in store.keys()} == model  # noqa: SIM118  a store is no dict


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_parent_and_child_do_not_write_over_each_other() -> None:
    store = Memory[Any]()
    store.put("shared", filled(1))
    ready, go = os.pipe(), os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            store.put("own", filled(2))
            os.write(ready[1], b"x")
            os.read(go[0], 1)  # the parent has written, deleted and written again
            if [store.get("shared"), store.get("own")] == [filled(1), filled(2)]:
                status = 0
        finally:
            os._exit(status)
    os.read(ready[0], 1)
    store.put("own", filled(3))
    store.delete("shared")
    for n in range(50):
        store.put(f"more/{n}", filled(n + 10))
    os.write(go[1], b"x")
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert store.get("own") == filled(3)
    assert all(store.get(f"more/{n}") == filled(n + 10) for n in range(50))


def test_it_pickles_as_an_empty_one() -> None:
    store = Memory[Any]()
    store.put("a", b"x")
    assert list(pickle.loads(pickle.dumps(store)).keys()) == []


def test_arrays_in_memory_cost_no_copy() -> None:
    store = Memory[Any]()
    data = np.arange(2_000_000)
    store.put("a", memoryview(data).cast("B"))
    array = np.frombuffer(store.map("a"), data.dtype)  # type: ignore[arg-type]
    assert array.flags.writeable
    assert (array == data).all()


def test_anything_else_is_kept_as_it_is() -> None:
    store, thing = Memory[Any](), ["x"]
    store.put("a", thing)
    assert store.get("a") is thing
    assert store.map("a") is None


def test_a_stamp_is_never_that_of_other_bytes() -> None:
    store, seen = Memory[Any](), dict[Any, bytes]()
    for n in range(300):
        item = filled(n % 7, LARGE * (1 + n % 3))
        store.put(f"a/{n % 5}", item)
        mapped, stamp = store.map_stamped(f"a/{n % 5}") or (b"", None)
        assert bytes(mapped) == item
        assert stamp is not None
        assert stamp not in seen, "an item that was put anew has the stamp of one before it"
        seen[stamp] = item
        assert (store.map_stamped(f"a/{n % 5}") or (b"", None))[1] == stamp
    store.put("small", b"x")
    assert store.map_stamped("small") == (b"x", None)
    assert store.map_stamped("none") is None
