"""What the service of named state does with keys and stores, on every medium."""

from __future__ import annotations

import uuid

import pytest
from tests.kv.conftest import Stores

from wellkept.errors import ConfigError
from wellkept.kv import ExecutionStore


def test_a_deletion_on_condition(store: ExecutionStore) -> None:
    store["a"] = (1, None)
    assert not store.delete("a", expected=[1, None])
    assert store.delete("a", expected=(1, None))
    assert not store.delete("a", expected=(1, None))
    store["n"] = None
    assert not store.delete("n", expected=False)
    assert store.delete("n", expected=None)
    store["e"] = ...
    assert not store.delete("e", expected=1)
    assert store.delete("e", expected=...)
    store["r"] = 1
    first = store.revision
    store["r"] = 1
    assert not store.delete("r", expected=1, revision=first)
    assert store.delete("r", expected=2, revision=store.revision)
    assert not store.delete("r", revision=first)
    for wrong in (0, -1, True, "1", 1.0):
        with pytest.raises(ConfigError, match="revision"):
            store.delete("r", revision=wrong)  # type: ignore[arg-type]  # wrong on purpose


def test_a_number_s_ttl_begins_with_its_first_increment(stores: Stores) -> None:
    store = stores()
    assert [store.increment("n", ttl=100) for _ in range(2)] == [1, 2]
    store.clear_cache()
    stores.later(60)
    assert store.increment("n", ttl=100) == 3
    assert 0 < store.get_metadata("n")["ttl"] <= 40  # type: ignore[index]  # may be None
    stores.later(60)
    assert store.increment("n", ttl=100, policy="evict") == 1
    store.clear_cache()
    assert store.increment("n") == 1
    assert store.get_metadata("n")["expires_at"] is None  # type: ignore[index]  # may be None
    assert store.modify("list", lambda x: [*x, 1], [], ttl="1 min") == [1]
    assert store.get_metadata("list")["policy"].value == "held"  # type: ignore[index]  # may be None
    with pytest.raises(ConfigError, match="duration"):
        store.increment("other", ttl=-1)
    assert "other" not in store


def test_touching_changes_when_it_was_changed_and_nothing_else(stores: Stores) -> None:
    stores.service().create_store("few", max_keys=2)
    store = stores("few")
    store.set_cache("a", (1,), ttl=100)
    store.set_cache("b", 2)
    before = store.get_metadata("a")
    stores.later(10)
    assert store.touch("a")
    assert not store.touch("nothing")
    after = store.get_metadata("a")
    assert before is not None
    assert after is not None
    assert after["updated_at"] > before["updated_at"]
    assert (after["created_at"], after["expires_at"]) == (
        before["created_at"],
        before["expires_at"],
    )
    store.set_cache("c", 3)
    assert dict(store.items()) == {"a": (1,), "c": 3}, "the other one went"
    assert [change.kind for change in store.watch("a", since=0, timeout=0)] == ["insert", "touch"]


def test_values_are_listed_without_some_fields(store: ExecutionStore) -> None:
    store.update({"run/1": {"n": 1, "heavy": 2}, "run/2": (2,), "other": 3})
    assert store.list_values() == [3, {"n": 1, "heavy": 2}, (2,)]
    assert store.list_values("run/", ["heavy"]) == [{"n": 1}, (2,)]
    assert store.service.list_values("jobs", exclude_fields=["n", "heavy"]) == [3, {}, (2,)]


def test_a_store_is_copied_for_a_cloned_dataset(stores: Stores) -> None:
    one, other = str(uuid.uuid4()), uuid.uuid4()
    service = stores.service(one)
    service.create_store("runs", {"by": "me"}, "evict", max_keys=500)
    store = stores("runs", one)
    store.update({f"{number:03}": number for number in range(250)})
    store.set(one, {"of": [one, (uuid.UUID(one), "text")], one: 1}, ttl=100)
    store.set("held", 1, ttl=100, policy="held")
    store.set("gone", 1, ttl=5)
    stores.later(50)
    assert service.copy_store("runs", other, {one: str(other)}) == 252
    copied = stores("runs", other)
    assert len(copied) == 252
    assert copied[str(other)] == {"of": [str(other), (other, "text")], str(other): 1}
    about = copied.get_metadata("held")
    assert about is not None
    assert about["policy"].value == "held"
    assert 0 < about["ttl"] <= 50
    document = stores.service(other).get_store("runs")
    assert document is not None
    assert (document.metadata, document.policy.value) == ({"by": "me"}, "evict")
    copied["000"] = "changed there"
    del copied["001"]
    assert service.copy_store("runs", other, {one: str(other)}) == 1, "what is there stays"
    assert (copied["000"], copied["001"]) == ("changed there", 1)
    assert len(store) == 252
    assert store[one]["of"][0] == one
    with pytest.raises(ConfigError, match="no store"):
        service.copy_store("nothing", other)
    with pytest.raises(ConfigError, match="scope that it is in"):
        service.copy_store("runs", one)


def test_scopes_in_a_list_are_of_one_type(stores: Stores) -> None:
    one, other = uuid.uuid4(), uuid.uuid4()
    for scope in (one, other, None, "", "text"):
        stores(scope=scope)["k"] = 1
    for scope in (one, None, ""):
        found = [document.dataset_id for document in stores.service(scope).list_stores_global()]
        assert found[0] is None
        assert sorted(found[1:]) == sorted(["", "text", str(one), str(other)])
