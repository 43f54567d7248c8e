"""The repository that FiftyOne's own service takes, beside modules that stand for FiftyOne's."""

from __future__ import annotations

import dataclasses
import inspect
import queue
import re
import sys
import types
from datetime import datetime
from enum import Enum
from pathlib import Path
from typing import Any

import pytest

from wellkept.integrations.fiftyone import KeptExecutionStoreRepo
from wellkept.kv import (
    ExecutionStore,
    ExecutionStoreService,
    KeyDocument,
    KeyPolicy,
    StoreDocument,
)

# What the service of FiftyOne 1.22 calls, with these arguments.
VERBS = {
    "create_store": ("store_name", "metadata", "policy"),
    "get_store": ("store_name",),
    "has_store": ("store_name",),
    "list_stores": (),
    "count_stores": (),
    "delete_store": ("store_name",),
    "set_key": ("store_name", "key", "value", "ttl", "policy"),
    "set_cache_key": ("store_name", "key", "value", "ttl"),
    "set_key_if_absent": ("store_name", "key", "value", "ttl", "policy"),
    "compare_and_set_key": ("store_name", "key", "expected", "value", "ttl", "policy"),
    "has_key": ("store_name", "key"),
    "get_key": ("store_name", "key"),
    "update_ttl": ("store_name", "key", "ttl"),
    "delete_key": ("store_name", "key"),
    "list_keys": ("store_name",),
    "list_values": ("store_name", "key_prefix", "exclude_fields"),
    "count_keys": ("store_name",),
    "cleanup": (),
    "clear_cache": ("store_name",),
    "has_store_global": ("store_name",),
    "list_stores_global": (),
    "count_stores_global": (),
    "delete_store_global": ("store_name",),
    "subscribe": ("store_name", "callback"),
    "unsubscribe": ("subscription_id",),
}


# What FiftyOne's page on `fiftyone.operators.store` lists, and how it is called there.
NAMES = {
    ExecutionStoreService: {
        "create_store": 3, "clear_cache": 1, "get_store": 1, "list_stores": 0, "count_stores": 0,
        "has_store": 1, "delete_store": 1, "set_key": 5, "set_cache_key": 4, "has_key": 2,
        "get_key": 2, "delete_key": 2, "update_ttl": 3, "list_keys": 1, "count_keys": 1,
        "cleanup": 0, "has_store_global": 1, "list_stores_global": 0, "count_stores_global": 0,
        "delete_store_global": 1,
    },
    ExecutionStore: {
        "create": 4, "list_stores": 0, "get": 1, "set": 4, "set_cache": 3, "delete": 1, "has": 1,
        "clear": 0, "clear_cache": 0, "update_ttl": 2, "update_policy": 2, "get_metadata": 1,
        "list_keys": 0,
    },
    StoreDocument: {"from_dict": 1, "get_expiration": 1, "to_mongo_dict": 1},
    KeyDocument: {"from_dict": 1, "get_expiration": 1, "to_mongo_dict": 1},
}  # fmt: skip
FIELDS = {
    *("store_name", "key", "value", "_id", "dataset_id", "created_at", "updated_at", "expires_at"),
    "policy",
}


def test_all_of_its_names_are_here_and_on_the_page() -> None:
    page = (Path(__file__).parents[2] / "docs/how-to/coming-from-fiftyone.md").read_text()
    rows = "".join(line for line in page.splitlines() if line.startswith("|"))
    said = {word for code in re.findall("`[^`]+`", rows) for word in re.findall(r"\w+", code)}
    for kind, methods in NAMES.items():
        assert kind.__name__ in said
        for name, count in methods.items():
            signature = inspect.signature(getattr(kind, name))
            signature.bind(*[None] * (count + ("self" in signature.parameters)))
            assert name in said, name
    assert {field.name for field in dataclasses.fields(StoreDocument)} >= FIELDS
    assert {field.name for field in dataclasses.fields(KeyDocument)} >= FIELDS
    assert said >= {*FIELDS, "metadata", "PERSIST", "EVICT", "repo", "collection_name"}
    assert (str(KeyPolicy("persist").value), KeyPolicy.EVICT) == ("persist", "evict")


class ObjectId:
    """As BSON's: 12 bytes, told by their digits."""

    def __init__(self, digits: str) -> None:
        self.digits = digits

    @staticmethod
    def is_valid(text: Any) -> bool:
        return isinstance(text, str) and len(text) == 24

    def __str__(self) -> str:
        return self.digits

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ObjectId) and other.digits == self.digits

    def __hash__(self) -> int:
        return hash(self.digits)


class Policy(str, Enum):  # noqa: UP042  as it is there
    PERSIST = "persist"
    EVICT = "evict"


@dataclasses.dataclass
class Document:
    store_name: str
    key: str
    value: Any
    _id: Any = None
    dataset_id: Any = None
    created_at: datetime = dataclasses.field(default_factory=datetime.now)
    updated_at: datetime | None = None
    expires_at: datetime | None = None
    policy: Policy = Policy.PERSIST

    @classmethod
    def from_dict(cls, doc: dict[str, Any]) -> Any:
        return cls(**{**doc, "policy": Policy(doc["policy"])})


@dataclasses.dataclass
class OfStore(Document):
    key: str = "__store__"
    value: Any = None


@dataclasses.dataclass
class Metadata:
    operation_type: str | None = None
    dataset_id: str | None = None
    timestamp: str | None = None


@dataclasses.dataclass
class Message:
    key: str
    value: Any
    metadata: Metadata


ONE, OTHER = ObjectId("0" * 24), ObjectId("a" * 24)


@pytest.fixture
def fiftyone(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the repository looks for of FiftyOne."""
    for name, content in {
        "bson": {"ObjectId": ObjectId},
        "fiftyone.operators.store.models": {"KeyDocument": Document, "StoreDocument": OfStore},
        "fiftyone.operators.message": {"MessageData": Message, "MessageMetadata": Metadata},
    }.items():
        module = types.ModuleType(name)
        vars(module).update(content)
        monkeypatch.setitem(sys.modules, name, module)


@pytest.mark.parametrize("verb", VERBS)
def test_each_verb_takes_what_the_service_gives(verb: str) -> None:
    code = getattr(KeptExecutionStoreRepo, verb).__code__
    taken = code.co_varnames[1 : code.co_argcount]
    assert taken[: len(VERBS[verb])] == VERBS[verb]
    defaults = getattr(KeptExecutionStoreRepo, verb).__defaults__ or ()
    assert len(taken) - len(VERBS[verb]) <= len(defaults)


@pytest.mark.usefixtures("fiftyone")
def test_documents_are_fiftyone_s_own() -> None:
    repo = KeptExecutionStoreRepo(dataset_id=ONE)
    made = repo.create_store("s", {"a": 1}, "evict")
    assert type(made) is OfStore
    assert (made.dataset_id, made.value, made.policy) == (ONE, {"a": 1}, Policy.EVICT)
    document = repo.set_key("s", "k", (1, 2), ttl=60)
    assert type(document) is Document
    assert document.policy is Policy.EVICT
    for time in (document.created_at, document.updated_at, document.expires_at):
        assert time.tzinfo is None
    assert document == repo.get_key("s", "k")
    assert repo.get_key("s", "nothing") is None
    KeptExecutionStoreRepo(dataset_id=OTHER).set_key("s", "k", 1)
    KeptExecutionStoreRepo().set_key("s", "k", 1)
    assert {document.dataset_id for document in repo.list_stores_global()} == {None, ONE, OTHER}
    KeptExecutionStoreRepo(dataset_id="text").set_key("s", "k", 1)
    listed = {document.dataset_id for document in repo.list_stores_global()}
    assert listed == {None, str(ONE), str(OTHER), "text"}


@pytest.mark.usefixtures("fiftyone")
def test_what_its_coordinator_of_jobs_relies_on_is_held_and_can_be_read() -> None:
    repo = KeptExecutionStoreRepo(dataset_id=ONE)
    assert repo.set_key_if_absent("s", "job", {"state": "requested"}, 60, "persist")
    repo.set_key("s", "held", 1, policy="held")
    repo.clear_cache()
    assert repo.get_key("s", "job").policy is Policy.EVICT
    assert repo.get_key("s", "held").policy is Policy.PERSIST


def test_without_fiftyone_they_are_kept_s() -> None:
    assert type(KeptExecutionStoreRepo().set_key("s", "k", 1)) is KeyDocument


def test_numbers_are_those_that_fiftyone_gives() -> None:
    repo, other = KeptExecutionStoreRepo("one"), KeptExecutionStoreRepo("other")
    repo.create_store("s")
    for of in (repo, other):
        for key in ("a", "b"):
            of.set_key("s", key, {"key": key, "heavy": 1})
    assert repo.set_key_if_absent("s", "c", 1)
    assert repo.compare_and_set_key("s", "c", 1, 2)
    assert repo.update_ttl("s", "c", 5)
    assert not repo.update_ttl("s", "nothing", 5)
    assert repo.update_policy("s", "a", "evict")
    assert repo.list_values("s", "a", ["heavy"]) == [{"key": "a"}]
    assert repo.clear_cache("s") == 2
    assert repo.has_key("s", "b")
    assert repo.list_keys("s") == ["b"]
    assert repo.count_keys("s") == 1
    assert repo.delete_key("s", "b")
    assert repo.count_stores_global() == 2
    assert repo.delete_store("s") == 1, "the store itself"
    assert repo.delete_store("s") == 0
    repo.set_cache_key("t", "k", 1)
    assert repo.cleanup() == 1
    assert repo.list_stores() == []
    assert repo.has_store_global("s")
    assert not repo.has_store("s")
    assert repo.delete_store_global("s") == 2
    assert repo.count_stores() == 0
    assert repo.get_store("s") is None


@pytest.mark.usefixtures("fiftyone")
def test_messages_begin_with_what_is_there() -> None:
    repo = KeptExecutionStoreRepo(dataset_id=ONE)
    told: queue.Queue[Message] = queue.Queue()
    repo.set_key("s", "k", 1)
    number = repo.subscribe("s", told.put)
    other = KeptExecutionStoreRepo(dataset_id=OTHER)
    other.set_key("s", "k", "another scope's")
    other.cleanup()
    repo.set_key("s", "k", 2)
    repo.delete_key("s", "k")
    repo.set_key("s", "k", "x" * 5000)
    seen = [told.get(timeout=20) for _ in range(4)]
    assert [(m.key, m.value, m.metadata.operation_type) for m in seen] == [
        ("k", 1, "initial"),
        ("k", 2, "update"),
        ("k", None, "delete"),
        ("k", "x" * 5000, "insert"),
    ]
    assert {message.metadata.dataset_id for message in seen} == {str(ONE)}
    assert repo.unsubscribe(number)


def test_a_key_named_as_the_store_s_own_document_is_safe() -> None:
    repo = KeptExecutionStoreRepo()
    repo.create_store("s", {"a": 1})
    repo.set_key("s", "__store__", "mine")
    repo.delete_key("s", "__store__")
    assert repo.get_store("s").value == {"a": 1}
