"""A node's data version and its result are kept in one transaction, and never lost between."""

from types import SimpleNamespace
from typing import Any

import pytest

import wellkept
from wellkept.integrations.hamilton import KeptMetadataStore, KeptResultStore
from wellkept.integrations.hamilton.caching import Watch
from wellkept.integrations.hamilton.run_history import CLOCK

NODE = SimpleNamespace(name="node")


@pytest.fixture
def watch() -> Watch:
    return Watch(KeptMetadataStore("store"))


def end(watch: Watch) -> None:
    watch.post_node_execute(run_id="run", node_=NODE, success=True, error=None)


def set_version(watch: Watch, key: str = "key") -> None:
    watch.store.set(key, "version", node_name="node", code_version="code")


def commits(cache: wellkept.Cache) -> int:
    token = cache.backend.token()
    assert token is not None
    return token[0]


def seen(text: str = "key") -> Any:
    """By another cache on the same directory."""
    return KeptMetadataStore(wellkept.open("store")).get(text)


def test_both_in_one_transaction(watch: Watch) -> None:
    results = KeptResultStore("store")
    results.set("other", 0)
    watch.pre_node_execute()
    before = commits(watch.store.cache)
    set_version(watch)
    assert seen() is None
    results.set("version", [1])
    assert commits(watch.store.cache) == before + 1
    assert seen() == "version"
    assert KeptResultStore(wellkept.open("store")).get("version") == [1]
    assert (watch.store.get("key"), results.get("version")) == ("version", [1])
    end(watch)


@pytest.mark.parametrize("how", ["the node ends", "another begins", "it is asked for", "deleted"])
def test_without_a_result_it_is_kept_alone(watch: Watch, how: str) -> None:
    watch.pre_node_execute()
    set_version(watch)
    if how == "the node ends":
        end(watch)
    elif how == "another begins":
        watch.pre_node_execute()
    elif how == "it is asked for":
        assert watch.store.get("key") == "version"
    else:
        watch.store.delete("other")
    assert seen() == "version"
    CLOCK.spans.clear()


def test_outside_of_a_node_nothing_waits(watch: Watch) -> None:
    set_version(watch)
    assert seen() == "version"


def test_a_result_that_has_no_encoding_leaves_the_version(watch: Watch) -> None:
    watch.pre_node_execute()
    set_version(watch)
    with pytest.warns(wellkept.KeptWarning):
        KeptResultStore("store").set("version", (n for n in ()))
    end(watch)
    assert seen() == "version"


def test_where_there_are_no_transactions_each_is_kept_at_once() -> None:
    watch = Watch(KeptMetadataStore("files:items"))
    watch.pre_node_execute()
    set_version(watch)
    assert KeptMetadataStore(wellkept.open("files:items")).get("key") == "version"
    end(watch)
