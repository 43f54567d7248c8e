"""What named state promises, on every medium."""

from __future__ import annotations

import asyncio
import itertools
import warnings
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from tests.kv.conftest import Stores

from wellkept.errors import ConfigError, DamagedValue, EncodeError, NotKept, StoreError
from wellkept.kv import ExecutionStore, ExecutionStoreService, KeyPolicy

VALUES = [
    *(
        None,
        True,
        False,
        0,
        -1,
        2**70,
        1.5,
        float("inf"),
        "",
        "text",
        "é\U0001f600",
        "\ud800",
        "\0",
    ),
    *(b"", b"bytes", (), (1, [2, (3,)]), [], [1, 2.0, None], {}, {"a": {"b": [1]}}, {1: 2}, {3, 4}),
    *(frozenset("a"), complex(1, 2), range(3), 10**5000),
]


# -- values and keys ------------------------------------------------------------------------------


def test_each_value_comes_back_as_what_it_was(store: ExecutionStore) -> None:
    for number, value in enumerate(VALUES):
        store.set(f"key {number}", value)
    for number, value in enumerate(VALUES):
        found = store.get(f"key {number}", "nothing")
        assert type(found) is type(value)
        assert found == value
    assert np.isnan(_set(store, float("nan")))


def test_arrays_small_and_large(store: ExecutionStore) -> None:
    for array in (np.arange(3.0), np.ones((300, 100), np.float32), np.array(["a", "bc"])):
        found = _set(store, array)
        assert found.dtype == array.dtype
        assert (found == array).all()
        assert found.flags.writeable
        found[...] = found[::-1].copy()
        assert (store["key"] == array).all(), "one caller's change is seen by another"


def _set(store: ExecutionStore, value: Any) -> Any:
    store["key"] = value
    return store["key"]


def test_what_is_read_is_nobody_else_s(store: ExecutionStore) -> None:
    value = {"list": [1]}
    store["key"] = value
    value["list"].append(2)
    store["key"]["list"].append(3)
    assert store["key"] == {"list": [1]}


KEYS = [
    "",
    "a",
    "a/b",
    "A",
    "__store__",
    "%_[*?",
    "é",
    "\ud7ff"[0],
    "\ue000",
    "\U0010ffff",
    "a b\n",
    "1" * 1000,
]


def test_any_text_is_a_key(store: ExecutionStore) -> None:
    for key in KEYS:
        store[key] = key
    assert store.list_keys() == sorted(KEYS, key=str.encode)
    for key in KEYS:
        assert key in store
        assert store[key] == key
        assert store.list_keys(key[:1]) == sorted(
            (k for k in KEYS if k.startswith(key[:1])), key=str.encode
        )
        assert store.count(key[:1]) == len(store.list_keys(key[:1]))
    assert dict(store.items()) == {key: key for key in KEYS}
    for key in KEYS:
        del store[key]
    assert len(store) == 0


def test_a_user_s_key_named_store_is_a_key(stores: Stores) -> None:
    service = stores.service()
    service.create_store("s", {"owner": "me"})
    service.set_key("s", "__store__", "mine", policy="evict")
    assert service.list_keys("s") == ["__store__"]
    assert service.count_keys("s") == 1
    service.clear_cache()
    assert service.list_keys("s") == []
    assert service.get_store("s").metadata == {"owner": "me"}  # type: ignore[union-attr]


BAD: list[tuple[Callable[[ExecutionStore], Any], str]] = [
    (lambda s: s.set("k", 1, policy="forever"), "a policy is"),
    (lambda s: s.update_policy("k", "x"), "a policy is"),
    (lambda s: s.set("k", 1, ttl=-1), "duration|ttl"),
    (lambda s: s.set("k", 1, ttl=0), "ttl"),
    (lambda s: s.set("k", 1, ttl=float("nan")), "ttl|duration"),
    (lambda s: s.set("k", 1, ttl=True), "duration"),
    (lambda s: s.update_ttl("k", -5), "duration"),
    (lambda s: s.set(1, 1), "a key is text"),
    (lambda s: s.get(None), "a key is text"),
    (lambda s: s.get(["k"]), "a key is text"),
    (lambda s: s.set("k" * 1001, 1), "1000 bytes"),
    (lambda s: s.set("é" * 501, 1), "1000 bytes"),
    (lambda s: s.set("a\0b", 1), "NUL"),
    (lambda s: s.set("\ud800", 1), "surrogate"),
    (lambda s: s.increment("text"), "not a number"),
    (lambda s: s.compare_and_set("k", 1, 2, revision="x"), "revision"),
    (lambda s: s.service.create_store(""), "not empty"),
    (lambda s: s.service.create_store("m", {"a": {1, 2}}), "JSON"),
    (lambda s: s.service.create_store("m", max_keys=0), "max_keys"),
    (lambda s: s.service.create_store("m", max_bytes="big"), "size"),
    (lambda s: s.service.create_store("m", policy="x"), "a policy is"),
    (lambda s: ExecutionStoreService(dataset_id=[1]), "a scope is text"),
    (lambda s: ExecutionStoreService(repo="mongo"), "repo"),
    (lambda s: s.subscribe("no function"), "function"),
]


def test_bad_input_is_told_and_nothing_is_lost(store: ExecutionStore) -> None:
    store["text"] = "abc"
    before = store.revision
    for do, said in BAD:
        with pytest.raises(ConfigError, match=said):
            do(store)
    assert store["text"] == "abc"
    assert store.revision == before


def test_a_value_that_can_t_be_encoded(store: ExecutionStore) -> None:
    import threading

    store["key"] = 1
    with pytest.raises(EncodeError, match="lock"):
        store["key"] = threading.Lock()
    with pytest.raises(EncodeError):
        store.update({"key": 2, "other": threading.Lock()})
    assert dict(store.items()) == {"key": 1}


def test_no_key(store: ExecutionStore) -> None:
    assert store.get("k") is None
    assert store.get("k", 5) == 5
    assert store.get_metadata("k") is None
    assert not store.delete("k")
    assert store.update_ttl("k", 5) is None
    assert store.service.get_key("jobs", "k") is None
    for do in (lambda: store["k"], lambda: store.pop("k"), lambda: store.__delitem__("k")):
        with pytest.raises(NotKept, match="no key 'k'"):
            do()
    assert store.pop("k", 7) == 7
    assert "k" not in store
    assert 5 not in store
    assert bool(store)


# -- as a mapping ---------------------------------------------------------------------------------


def test_as_a_mapping(store: ExecutionStore) -> None:
    store.update({"b": 2, "a": 1, "c/x": 3, "c/y": 4})
    assert list(store) == ["a", "b", "c/x", "c/y"]
    assert len(store) == 4
    assert dict(store.items("c/")) == {"c/x": 3, "c/y": 4}
    assert list(store.values("c/")) == [3, 4]
    assert store.get_many(["a", "z", "b"]) == {"a": 1, "b": 2}
    assert store.setdefault("a", 9) == 1
    assert store.setdefault("d", []) == []
    assert store.pop("b") == 2
    del store["d"]
    assert store.list_keys() == ["a", "c/x", "c/y"]
    assert store.modify("a", lambda n: n * 10) == 10
    assert store.modify("new", lambda n: [n], default=0) == [0]
    store.clear()
    assert store.list_keys() == []


def test_increments(store: ExecutionStore) -> None:
    assert [store.increment("n") for _ in range(3)] == [1, 2, 3]
    assert store.increment("n", -5) == -2
    assert store.increment("x", 0.5, default=1.0) == 1.5
    store.set("t", 1, ttl=100)
    store.increment("t")
    assert store.get_metadata("t")["expires_at"] is not None  # type: ignore[index]


def test_an_update_is_one_transaction(stores: Stores) -> None:
    stores.service().create_store("small", max_keys=2)
    store = stores("small")
    store["a"] = 1
    with pytest.raises(StoreError, match="full"):
        store.update({"a": 2, "b": 3, "c": 4})
    assert dict(store.items()) == {"a": 1}


def test_pages_are_read_one_after_the_other(store: ExecutionStore) -> None:
    keys = [f"{number:05}" for number in range(2500)]
    store.update(dict.fromkeys(keys))
    assert store.list_keys() == keys
    assert [key for key, _ in store.items()] == keys
    assert store.count("00") == 1000


def test_the_async_twins(store: ExecutionStore) -> None:
    async def use() -> Any:
        aio = store.aio
        await aio.set("a", 1)
        await asyncio.gather(*(aio.increment("a") for _ in range(10)))
        got = [change.kind async for change in aio.watch(since=0, timeout=0)]
        with pytest.raises(AttributeError):
            aio.nonsense
        return await aio.get("a"), await aio.keys(), got

    assert asyncio.run(use()) == (11, ["a"], ["insert", *["set"] * 10])


# -- expiry ---------------------------------------------------------------------------------------


def test_an_expired_key_is_gone_for_every_verb(stores: Stores) -> None:
    store, service = stores(), stores.service()
    store.set("brief", 1, ttl=10)
    store.set("longer", 2, ttl="30 s")
    store.set("days", 3, ttl=timedelta(days=1))
    stores.later(9)
    assert store["brief"] == 1
    stores.later(2)
    assert store.get("brief") is None
    assert "brief" not in store
    assert store.list_keys() == ["days", "longer"]
    assert len(store) == 2
    assert store.count("b") == 0
    assert dict(store.items()) == {"longer": 2, "days": 3}
    assert service.get_key("jobs", "brief") is None
    assert store.get_metadata("brief") is None
    assert not store.delete("brief")
    assert store.update_ttl("brief", 100) is None
    assert store.get("brief") is None, "it came back"
    assert not store.compare_and_set("brief", 1, 2)
    assert store.set_if_absent("brief", 5)
    assert store["brief"] == 5
    assert store.get_metadata("brief")["expires_at"] is None  # type: ignore[index]


def test_a_ttl_is_refreshed_by_a_set_with_one_and_cleared_by_a_set_without(stores: Stores) -> None:
    store = stores()
    store.set("k", 1, ttl=10)
    stores.later(8)
    store.set("k", 2, ttl=10)
    stores.later(8)
    assert store["k"] == 2
    store.set("k", 3)
    stores.later(100)
    assert store["k"] == 3
    assert store.get_metadata("k")["policy"] is KeyPolicy.PERSIST  # type: ignore[index]
    store.update_ttl("k", 10)
    assert store.get_metadata("k")["policy"] is KeyPolicy.EVICT  # type: ignore[index]
    assert store.get_metadata("k")["ttl"] == pytest.approx(10, abs=2)  # type: ignore[index]
    store.update_ttl("k", None)
    stores.later(100)
    assert store["k"] == 3


def test_sweeping_removes_what_has_expired_and_nothing_else(stores: Stores) -> None:
    store, other = stores(), stores("other", "scope")
    store.update({f"brief/{number}": number for number in range(450)}, ttl=500)
    other.set("brief", 1, ttl=500)
    store.set("longer", 1, ttl=5000)
    store["stays"] = 1
    assert store.sweep() == 0
    stores.later(600)
    store.sweep()  # beside the one in the background
    expired = [
        c.key for of in (store, other) for c in of.watch(since=0, timeout=0) if c.kind == "expire"
    ]
    assert sorted(expired) == sorted(["brief", *(f"brief/{number}" for number in range(450))])
    assert store.sweep() == 0
    assert store.list_keys() == ["longer", "stays"]
    assert not other.service.has_store("other")


def test_what_expires_is_swept_in_the_background(stores: Stores) -> None:
    store = stores()
    changes = store.watch(timeout=20)
    store.set("k", 1, ttl=0.05)
    assert next(changes).kind == "insert"
    assert next(changes).kind == "expire"


# -- policies -------------------------------------------------------------------------------------


def test_clear_cache_removes_what_may_go_and_nothing_else(stores: Stores) -> None:
    store, service = stores(), stores.service()
    service.create_store("jobs", {"kept": True})
    store["stays"] = 1
    store.set("evictable", 2, policy="evict")
    store.set("expiring", 3, ttl=100)
    store.set_cache("cached", 4)
    store.set("changed", 5)
    store.update_policy("changed", "evict")
    store.set_cache("kept", 6)
    store.update_policy("kept", "persist")
    store.set("lasts", 7, ttl=5)
    store.update_policy("lasts", "persist")
    other = stores("other")
    other.set_cache("k", 1)
    store.clear_cache()
    assert other["k"] == 1
    stores.later(100)
    assert dict(store.items()) == {"stays": 1, "kept": 6, "lasts": 7}
    assert service.get_store("jobs").metadata == {"kept": True}  # type: ignore[union-attr]
    assert service.clear_cache() == 1
    assert len(other) == 0


def test_a_store_s_policy_is_that_of_its_keys(stores: Stores) -> None:
    store = ExecutionStore.create("a", default_policy="evict", cache=stores.cache)
    store["k"] = 1
    assert store.get_metadata("k")["policy"] == "evict"  # type: ignore[index]
    store.set("p", 1, policy="persist")
    store.clear_cache()
    assert store.list_keys() == ["p"]


def test_what_is_held_stays_until_its_ttl_has_passed(stores: Stores) -> None:
    stores.service().create_store("full", max_keys=4)
    store = stores("full")
    assert store.set_if_absent("lock", "mine", ttl=60)
    store.set("lease", "mine", ttl=60, policy="held")
    for i in range(20):
        store.set_cache(f"x{i}", i)
    store.clear_cache()
    assert (store.get("lock"), store.get("lease"), len(store)) == ("mine", "mine", 2)
    assert store.get_metadata("lock")["policy"] is KeyPolicy.HELD  # type: ignore[index]  # it is there
    assert store.compare_and_set("lock", "mine", "mine still", ttl=120), "a lock that is renewed"
    store.set("a", 1)
    store.set("b", 1)
    with pytest.raises(StoreError, match="full"):
        store.set_cache("c", 1)
    assert store.get("lock") == "mine still"
    stores.later(90)
    store.set_cache("c", 1)
    assert "lease" not in store
    assert store.get("lock") == "mine still"
    stores.later(90)
    assert store.set_if_absent("lock", "another's", ttl=60)
    store.update_policy("lock", "evict")
    store.clear_cache()
    assert "lock" not in store


def test_a_policy_of_a_store_holds_for_locks_too(stores: Stores) -> None:
    store = stores("cached", policy="evict")
    store.set_if_absent("x", 1, ttl=60)
    store.clear_cache()
    assert "x" not in store


def test_limits_evict_what_may_go_the_longest_unchanged_first(stores: Stores) -> None:
    stores.service().create_store("few", max_keys=3)
    store = stores("few")
    store["stays"] = 0
    store.set_cache("a", 1)
    store.set_cache("b", 2)
    store.set_cache("a", 3)
    store.set_cache("c", 4)
    assert store.list_keys() == ["a", "c", "stays"]
    store["one"], store["two"] = 1, 2
    assert store.list_keys() == ["one", "stays", "two"]
    with pytest.raises(StoreError, match="may have 3 keys"):
        store["three"] = 3
    store["two"] = 22
    assert store["two"] == 22
    del store["two"]
    store["three"] = 3
    assert store.list_keys() == ["one", "stays", "three"]
    assert [c.kind for c in store.watch(since=0, timeout=0) if c.kind == "evict"] == ["evict"] * 3


def test_limits_of_bytes(stores: Stores) -> None:
    stores.service().create_store("small", max_bytes="2 kB")
    store = stores("small")
    for number in range(30):
        store.set_cache(f"{number:02}", "x" * 200)
    assert 8 <= len(store) <= 10
    assert "29" in store
    with pytest.raises(StoreError, match="may have 2,000 bytes"):
        store["big"] = "x" * 3000
    assert "29" in store
    store.clear()
    store["all"] = "x" * 1900
    assert store["all"] == "x" * 1900


# -- revisions ------------------------------------------------------------------------------------


def test_each_write_has_a_revision_of_its_own(store: ExecutionStore) -> None:
    def revision() -> int:
        found: int = store.get_metadata("k")["revision"]  # type: ignore[index]
        return found

    seen = []
    for do in (
        lambda: store.set("k", 1),
        lambda: store.set("k", 1),
        lambda: store.update_ttl("k", 50),
        lambda: store.update_policy("k", "evict"),
        lambda: store.compare_and_set("k", 1, 2),
        lambda: (store.delete("k"), store.set("k", 1)),
    ):
        do()
        seen.append(revision())
    assert all(a < b for a, b in itertools.pairwise(seen))
    assert store.revision == seen[-1]


def test_compare_and_set(store: ExecutionStore) -> None:
    assert not store.compare_and_set("k", None, 1)
    store.set("k", {"a": [1], "b": (2,)}, ttl=50)
    assert not store.compare_and_set("k", {"a": [1], "b": [2]}, 1)
    assert store.compare_and_set("k", {"b": (2,), "a": [1]}, 1)
    assert store.get_metadata("k")["expires_at"] is not None  # type: ignore[index]
    for other in (True, 1.0, "1"):
        assert not store.compare_and_set("k", other, 2)
    assert store.compare_and_set("k", 1, np.arange(3), ttl=80)
    assert store.compare_and_set("k", np.arange(3), 5)
    revision = store.get_metadata("k")["revision"]  # type: ignore[index]
    assert not store.compare_and_set("k", 5, 6, revision=revision + 1)
    assert store.compare_and_set("k", "not looked at", 6, revision=revision)
    assert not store.compare_and_set("k", "not looked at", 6, revision=revision)
    assert store["k"] == 6


def test_set_if_absent(store: ExecutionStore) -> None:
    assert store.set_if_absent("k", 1)
    assert not store.set_if_absent("k", 2)
    assert store["k"] == 1


# -- scopes and stores ----------------------------------------------------------------------------


def test_scopes_are_apart_and_none_is_one_of_its_own(stores: Stores) -> None:
    scopes = [None, "", "a", "None", ".", "a:b"]
    for number, scope in enumerate(scopes):
        stores("jobs", scope)["k"] = number
    assert [stores("jobs", scope)["k"] for scope in scopes] == list(range(len(scopes)))
    service = stores.service()
    assert service.list_stores() == ["jobs"]
    assert service.count_stores() == 1
    assert service.count_stores_global() == len(scopes)
    assert {document.dataset_id for document in service.list_stores_global()} == set(scopes)
    stores("more", "a")["k"] = 1
    assert stores.service("a").cleanup() == 2
    assert stores.service("a").list_stores() == []
    assert service.count_stores_global() == len(scopes) - 1
    assert stores("jobs", "a").get("k") is None
    assert service.has_store_global("jobs")
    assert not service.has_store_global("more")
    assert service.delete_store_global("jobs") == len(scopes) - 1
    assert service.list_stores_global() == []


def test_collections_are_apart(stores: Stores) -> None:
    stores("s")["k"] = 1
    other = stores("s", collection="other")
    assert other.get("k") is None
    other["k"] = 2
    assert other.service.count_stores_global() == 1
    assert other.service.cleanup() == 1
    assert stores("s")["k"] == 1


def test_a_store_is_made_once(stores: Stores) -> None:
    service = stores.service()
    made = service.create_store("s", {"a": [1]}, "evict")
    assert made.store_name == "s"
    assert made.key == "__store__"
    assert made.metadata == {"a": [1]}
    assert made.policy is KeyPolicy.EVICT
    with pytest.raises(ConfigError, match="there is a store 's'"):
        service.create_store("s")
    stores("written")["k"] = 1
    with pytest.raises(ConfigError, match="there is a store"):
        service.create_store("written")
    stores.service("other").create_store("s")
    assert service.list_stores() == ["s", "written"]
    assert service.has_store("s")
    assert service.get_store("nothing") is None
    assert service.get_store("written").metadata == {}  # type: ignore[union-attr]
    assert service.delete_store("s").metadata == {"a": [1]}  # type: ignore[union-attr]
    assert service.delete_store("s") is None
    assert not service.has_store("s")
    service.create_store("s", {"b": 1})
    assert service.get_store("s").metadata == {"b": 1}  # type: ignore[union-attr]


def test_a_store_that_was_not_made_is_there_as_long_as_it_has_keys(stores: Stores) -> None:
    service, store = stores.service(), stores()
    assert not service.has_store("jobs")
    store.set("k", 1, ttl=5)
    assert service.has_store("jobs")
    assert service.count_stores() == 1
    stores.later(6)
    assert not service.has_store("jobs")
    assert service.list_stores() == []
    assert service.count_stores_global() == 0
    store["k"] = 1
    del store["k"]
    assert not service.has_store("jobs")


def test_documents(stores: Stores) -> None:
    service = stores.service("data")
    document = service.set_key("s", "k", (1, 2), ttl=60)
    assert (document.store_name, document.key, document.value) == ("s", "k", (1, 2))
    assert document.dataset_id == "data"
    assert document.policy is KeyPolicy.EVICT
    assert document.expires_at is not None
    assert document.updated_at is not None
    assert (document.expires_at - document.updated_at).total_seconds() == pytest.approx(
        60, abs=0.01
    )
    found = service.get_key("s", "k")
    assert found is not None
    assert found.value == (1, 2)
    assert found.revision == document.revision
    again = service.set_key("s", "k", 3)
    assert abs((again.created_at - found.created_at).total_seconds()) < 1e-3
    assert again.updated_at >= found.updated_at  # type: ignore[operator]
    assert type(found).from_dict(found.to_mongo_dict()) == found
    assert service.update_ttl("s", "k", 5).policy is KeyPolicy.EVICT  # type: ignore[union-attr]
    assert service.update_policy("s", "k", "persist").expires_at is None  # type: ignore[union-attr]
    assert service.set_cache_key("s", "c", 1).policy is KeyPolicy.EVICT
    assert service.set_key_if_absent("s", "n", 1, policy="evict")
    assert service.compare_and_set_key("s", "n", 1, 2)
    assert service.has_key("s", "n")
    assert service.count_keys("s") == 3
    assert service.delete_key("s", "n")
    shared = ExecutionStoreService(repo=service)
    assert shared.list_stores() == ["s"]


# -- changes --------------------------------------------------------------------------------------


def test_a_watch_tells_each_change_in_order(stores: Stores) -> None:
    store, other = stores(), stores("other")
    begin = store.revision
    store["a/1"] = 1
    other["a/1"] = "not told"
    store.update({"a/2": (2,), "b": 3})
    store.update_ttl("a/1", 50)
    del store["b"]
    store.set("a/3", 4, ttl=5)
    stores.later(6)
    store.set("a/3", 5)
    store.set("a/4", 6, ttl=5)
    stores.later(6)
    store.clear()
    told = [(c.kind, c.key, c.value) for c in store.watch(since=begin, timeout=0)]
    expected = [
        ("insert", "a/1", 1),
        ("insert", "a/2", (2,)),
        ("insert", "b", 3),
        ("touch", "a/1", 1),
        ("delete", "b", None),
        ("insert", "a/3", 4),
        ("expire", "a/3", None),
        ("insert", "a/3", 5),
        ("insert", "a/4", 6),
    ]
    assert told[: len(expected)] == expected
    ends = [("expire", "a/4", None), *(("delete", f"a/{n}", None) for n in (1, 2, 3))]
    assert sorted(told[len(expected) :]) == sorted(ends)
    revisions = [change.revision for change in store.watch(since=begin, timeout=0)]
    assert all(a < b for a, b in itertools.pairwise(revisions))
    for number, revision in enumerate(revisions):
        rest = [change.revision for change in store.watch(since=revision, timeout=0)]
        assert rest == revisions[number + 1 :], "resuming is not exact"
    assert {c.key for c in store.watch("b", since=begin, timeout=0)} == {"b"}


def test_a_large_value_is_told_until_it_is_replaced(store: ExecutionStore) -> None:
    store["k"] = "x" * 5000
    store["k"] = "y" * 5000
    first, second = store.watch(since=0, timeout=0)
    assert (first.whole, first.value) == (False, None)
    assert (second.whole, second.value) == (True, "y" * 5000)


def test_a_subscription_is_told_until_it_ends(stores: Stores) -> None:
    import queue

    store, told = stores(), queue.Queue[Any]()

    def callback(change: Any) -> None:
        told.put(change.key)
        if change.key == "bad":
            raise RuntimeError("of the user")

    number = store.subscribe(callback)
    elsewhere = stores("jobs", "elsewhere")
    quiet = elsewhere.subscribe(lambda change: told.put("elsewhere"))
    store["one"] = 1
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        store["bad"] = 1
        store["two"] = 2
        assert [told.get(timeout=20) for _ in range(3)] == ["one", "bad", "two"]
    assert any("failed at 'bad'" in str(warning.message) for warning in warned)
    elsewhere.clear()
    elsewhere.service.cleanup()
    store["three"] = 3
    assert told.get(timeout=20) == "three", "clearing a scope ended another's subscription"
    assert store.unsubscribe(number)
    assert not store.unsubscribe(number)
    assert elsewhere.unsubscribe(quiet)


def test_a_log_that_no_longer_goes_back_says_so(stores: Stores) -> None:
    store = stores()
    entries: Any = store.service.entries
    for name in ("_history", "history"):
        if hasattr(entries, name):
            setattr(entries, name, 1000)
    if hasattr(entries, "_state"):
        entries._state.history = 1000
    before = 0
    for number in range(9):
        before = store.revision
        store.update({f"{number} {n}": n for n in range(400)})
    with pytest.raises(StoreError, match="log begins after"):
        list(store.watch(since=1, timeout=0))
    assert len(list(store.watch(since=before, timeout=0))) == 400


def test_a_damaged_value_is_an_error_and_not_nothing(stores: Stores, monkeypatch: Any) -> None:
    from wellkept.kv import execution_store as module
    from wellkept.kv.entry import dump

    store = stores()
    damaged = bytearray(dump((1, 2)))
    damaged[-1] ^= 1
    monkeypatch.setattr(module, "dump", lambda value: bytes(damaged))
    store["k"] = 1
    with pytest.raises(DamagedValue, match="an entry is damaged"):
        store["k"]
