"""What Hamilton's adapter and its users rely on in a store, over each kind of cache."""

import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hamilton.caching.cache_key import create_cache_key
from hamilton.caching.stores import base, file, memory, sqlite
from tests.caches.places import KINDS, new, url_of

import wellkept
from wellkept.errors import ConfigError, KeptWarning, StoreError
from wellkept.integrations.hamilton import (
    InMemoryMetadataStore,
    InMemoryResultStore,
    KeptMetadataStore,
    KeptResultStore,
    ResultRetrievalError,
    search_data_adapter_registry,
)
from wellkept.runs.run import run as begin_run

RUN = "run-1"


def key(node: str = "foo", code: str = "code", **dependencies: str) -> str:
    return create_cache_key(node, code, dependencies)


@pytest.fixture(params=[*KINDS, "stack"])
def cache(request: pytest.FixtureRequest) -> wellkept.Cache:
    if request.param == "stack":
        return wellkept.Stack(new("memory"), new("embedded"))
    return new(request.param)


@pytest.fixture
def metadata(cache: wellkept.Cache) -> KeptMetadataStore:
    return KeptMetadataStore(cache)


@pytest.fixture
def results(cache: wellkept.Cache) -> KeptResultStore:
    return KeptResultStore(cache)


def test_they_are_stores_of_hamilton(metadata: Any, results: Any) -> None:
    assert isinstance(metadata, base.MetadataStore)
    assert isinstance(results, base.ResultStore)
    assert ResultRetrievalError is base.ResultRetrievalError
    assert search_data_adapter_registry is base.search_data_adapter_registry


# -- metadata --------------------------------------------------------------------------------------


def test_a_data_version_is_found_by_its_cache_key(metadata: KeptMetadataStore) -> None:
    metadata.initialize(run_id=RUN)
    assert metadata.get(cache_key=key()) is None
    assert metadata.exists(key()) is False
    metadata.set(cache_key=key(), data_version="foo-a", run_id=RUN)
    assert metadata.get(cache_key=key()) == "foo-a"
    assert metadata.exists(key()) is True
    assert metadata.get(cache_key=key("bar")) is None


def test_size_counts_distinct_keys_and_each_none(metadata: KeptMetadataStore) -> None:
    metadata.initialize(RUN)
    assert metadata.size == len(metadata) == 0
    assert metadata  # an empty store is a store
    for _ in range(2):
        metadata.set(cache_key=key(), data_version="foo-a", run_id=RUN)
    assert metadata.size == 1
    for _ in range(2):
        metadata.set(cache_key=None, data_version="x", run_id=RUN, node_name="n", code_version="c")
    assert metadata.size == 3
    assert metadata.get(None) is None
    assert metadata.exists(None) is False
    metadata.delete(None)
    assert metadata.size == 3
    assert [node["cache_key"] for node in metadata.get_run(RUN)] == [key()] * 2


def test_what_is_set_later_is_what_is_found(metadata: KeptMetadataStore) -> None:
    metadata.set(cache_key=key(), data_version="old", run_id=RUN)
    metadata.set(cache_key=key(), data_version="new", run_id=RUN)
    assert metadata.get(key()) == "new"


def test_runs_are_listed_by_their_beginning(metadata: KeptMetadataStore) -> None:
    assert metadata.get_run_ids() == []
    for name in ("foo", "bar", "baz"):
        metadata.initialize(run_id=name)
    assert metadata.get_run_ids() == ["foo", "bar", "baz"]
    assert metadata.last_run_id == "baz"
    assert metadata.get_last_run() == metadata.get_run("foo") == []
    with pytest.raises(IndexError, match="qux"):
        metadata.get_run("qux")


def test_a_run_lists_its_nodes_in_order(metadata: KeptMetadataStore) -> None:
    metadata.initialize(RUN)
    metadata.set(cache_key=key(), data_version="1", run_id=RUN)
    metadata.set(
        cache_key=key("bar", x="1"), data_version="2", run_id=RUN, node_name="n", code_version="v"
    )
    assert metadata.get_run(run_id=RUN) == [
        {"cache_key": key(), "data_version": "1", "node_name": "foo", "code_version": "code"},
        {
            "cache_key": key("bar", x="1"),
            "data_version": "2",
            "node_name": "n",
            "code_version": "v",
        },
    ]
    metadata.delete(key())
    assert [node["node_name"] for node in metadata.get_run(RUN)] == ["n"]
    metadata.delete(key())  # no error


def test_without_names_the_key_must_be_hamiltons(metadata: KeptMetadataStore) -> None:
    with pytest.raises(ValueError, match="create_cache_key"):
        metadata.set(cache_key="anything", data_version="x", run_id=RUN)
    metadata.set("anything", "x", node_name="n", code_version="c")  # and no run
    assert metadata.get("anything") == "x"


def test_a_run_that_was_never_begun_begins_with_its_first_node(metadata: KeptMetadataStore) -> None:
    metadata.set(cache_key=key(), data_version="x", run_id="late")
    assert metadata.get_run_ids() == ["late"]
    assert len(metadata.get_run("late")) == 1


def test_delete_all_takes_only_its_own(cache: wellkept.Cache) -> None:
    def plus(x: int) -> int:
        return x + 1

    function = wellkept.keep(cache=cache, name="plus", version=1)(plus)
    function(1)
    metadata, results = KeptMetadataStore(cache), KeptResultStore(cache)
    with begin_run("mine", cache=cache) as mine:
        function(1)
    metadata.initialize(RUN)
    metadata.set(cache_key=key(), data_version="v", run_id=RUN)
    results.set("v", "result")
    metadata.delete_all()
    assert (metadata.size, metadata.get_run_ids()) == (0, [])
    assert results.get("v") == "result"
    results.delete_all()
    assert not results.exists("v")
    assert function.contains(1)
    assert mine.events()
    metadata.initialize("again")  # and both go on working
    metadata.set(cache_key=key(), data_version="v", run_id="again")
    results.set("v", 1)
    assert (metadata.size, results.get("v")) == (1, 1)


# -- results ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [None, 0, "text", [1, {"a": (2,)}], b"x" * 200_000])
def test_a_result_comes_back(results: KeptResultStore, value: Any) -> None:
    assert results.exists("v") is False
    assert results.get("v") is None
    results.set(data_version="v", result=value)
    assert results.exists("v") is True
    assert results.get(data_version="v") == value
    assert results.get("v") == value  # without a look before
    results.set("v", value)
    assert results.data_versions() == ["v"]
    results.delete("v")
    assert results.exists("v") is False
    results.delete("v")


def test_a_reader_may_change_what_it_got(results: KeptResultStore) -> None:
    results.set("v", [1])
    results.get("v").append(2)
    assert results.get("v") == [1]


@pytest.mark.parametrize(
    ("name", "value"),
    [("json", {"a": 1, "b": [2]}), ("pickle", ("x", "y")), ("json", {"long": "x" * 100_000})],
)
def test_a_format_is_a_real_file(results: KeptResultStore, name: str, value: Any) -> None:
    saver, loader = search_data_adapter_registry(name, type(value))
    path = results._materialized_path("v", saver)
    assert path.suffix == f".{name}"
    assert not path.exists()
    results.set("v", value, saver_cls=saver, loader_cls=loader)
    assert path.exists()
    assert results.get("v") == value
    path.unlink()
    assert results.get("v") == value  # the bytes are kept, and get their name again
    assert path.exists()
    results.delete("v")
    assert not path.exists()


def test_a_parquet_file_is_read_by_others() -> None:
    import pandas as pd

    results = KeptResultStore("store")
    frame = pd.DataFrame({"a": range(10), "b": list("abcdefghij")})
    saver, loader = search_data_adapter_registry("parquet", pd.DataFrame)
    results.set("v", frame, saver_cls=saver, loader_cls=loader)
    path = results._materialized_path("v", saver)
    assert path.is_relative_to("store") or path.is_relative_to(Path("store").absolute())
    pd.testing.assert_frame_equal(pd.read_parquet(path), frame)
    pd.testing.assert_frame_equal(
        results.get("v"), frame, check_dtype=False
    )  # Hamilton's loader has nullable ones
    assert results.cache.verify().ok


def test_a_format_needs_a_pair_that_takes_a_place(results: KeptResultStore) -> None:
    saver, loader = search_data_adapter_registry("json", dict)
    with pytest.raises(ValueError, match="both"):
        results.set("v", {}, saver_cls=saver)
    with pytest.raises(ValueError, match="both"):
        results.set("v", {}, loader_cls=loader)

    class Elsewhere(saver):  # type: ignore[misc,valid-type]  # found at run time
        def __init__(self, bucket: str) -> None: ...

    with pytest.raises(ValueError, match="neither as `file` nor as `path`"):
        results.set("v", {}, saver_cls=Elsewhere, loader_cls=loader)
    with pytest.raises(KeyError, match="nonsense"):
        search_data_adapter_registry("nonsense", dict)


def test_what_has_no_encoding_is_a_warning(results: KeptResultStore) -> None:
    with pytest.warns(KeptWarning, match="only returned"):
        results.set("v", open(__file__))  # noqa: SIM115, PTH123  that nobody can pickle it is the point
    assert results.exists("v") is False


# -- from store to store ---------------------------------------------------------------------------


def filled(metadata: Any, results: Any) -> None:
    metadata.initialize(RUN)
    metadata.set(cache_key=key(), data_version="v", run_id=RUN)
    metadata.initialize("empty")
    results.set("v", {"a": 1})


PAIRS: dict[str, Any] = {
    "kept": lambda: (KeptMetadataStore(url_of("embedded")), KeptResultStore(url_of("embedded"))),
    "kept memory": lambda: (InMemoryMetadataStore(), InMemoryResultStore()),
    "hamilton": lambda: (
        sqlite.SQLiteMetadataStore(path="h"),
        file.FileResultStore(path="h"),
    ),
    "hamilton memory": lambda: (memory.InMemoryMetadataStore(), memory.InMemoryResultStore()),
}
LOADERS: dict[str, Any] = {
    "kept": (KeptMetadataStore, KeptResultStore),
    "kept memory": (InMemoryMetadataStore, InMemoryResultStore),
    "hamilton memory": (memory.InMemoryMetadataStore, memory.InMemoryResultStore),
}


@pytest.mark.parametrize("source", PAIRS)
@pytest.mark.parametrize("target", LOADERS)
def test_load_from(source: str, target: str) -> None:
    metadata, results = PAIRS[source]()
    filled(metadata, results)
    of_metadata, of_results = LOADERS[target]
    loaded = of_metadata.load_from(metadata)
    assert loaded.get(key()) == "v"
    assert loaded.size == metadata.size == 1
    assert loaded.get_run_ids() == metadata.get_run_ids() == [RUN, "empty"]
    assert of_results.load_from(results, metadata_store=metadata).get("v") == {"a": 1}
    assert of_results.load_from(results, data_versions=["v"]).get("v") == {"a": 1}
    if not isinstance(results, KeptResultStore):
        with pytest.raises(ValueError, match="data_versions"):
            of_results.load_from(results)


@pytest.mark.parametrize("source", ["kept", "kept memory", "hamilton memory"])
@pytest.mark.parametrize("target", PAIRS)
def test_persist_to(source: str, target: str) -> None:
    metadata, results = PAIRS[source]()
    filled(metadata, results)
    to_metadata, to_results = PAIRS[target]()
    metadata.persist_to(to_metadata)
    results.persist_to(to_results)
    assert to_metadata.get(key()) == "v"
    assert to_metadata.get_run_ids() == [RUN, "empty"]
    assert to_results.get("v") == {"a": 1}


def test_a_kept_none_is_copied_and_a_missing_one_is_not() -> None:
    results = InMemoryResultStore()
    results.set("none", None)
    loaded = KeptResultStore.load_from(results, data_versions=["none", "missing"], cache="c")
    assert loaded.exists("none")
    assert not loaded.exists("missing")


def test_persist_goes_to_the_active_cache_by_default(home: Path) -> None:
    metadata, results = InMemoryMetadataStore(), InMemoryResultStore()
    filled(metadata, results)
    metadata.persist_to()
    results.persist_to()
    assert KeptMetadataStore(home / "cache").get(key()) == "v"
    assert KeptResultStore().get("v") == {"a": 1}


@pytest.mark.long
def test_persist_on_exit(home: Path) -> None:
    text = (
        "from wellkept.integrations.hamilton import InMemoryResultStore\n"
        "InMemoryResultStore(persist_on_exit=True).set('v', [1, 2])\n"
    )
    subprocess.run([sys.executable, "-c", text], check=True)
    assert KeptResultStore().get("v") == [1, 2]


# -- where they are --------------------------------------------------------------------------------


@pytest.mark.parametrize("store", [KeptMetadataStore, KeptResultStore])
def test_a_store_is_made_again_from_its_state(store: Any) -> None:
    for made in (
        store("here"),
        store(path="here"),
        store(cache="here"),
        store(wellkept.open("here")),
    ):
        again = store(**made.__getstate__())
        assert again.cache.url == made.cache.url == str(Path("here").absolute())
        assert pickle.loads(pickle.dumps(made)).cache.url == made.cache.url


def test_both_stores_of_a_path_share_a_cache() -> None:
    assert KeptMetadataStore(path="here").cache is KeptResultStore(path=Path("here")).cache


def test_options_go_to_the_cache() -> None:
    store = KeptMetadataStore("here", {"durability": "power"})
    assert store.connection_kwargs == {"durability": "power"}
    assert store.cache.options["durability"] == "power"
    with pytest.raises(ConfigError, match="nonsense"):
        KeptMetadataStore("there", {"nonsense": 1})


@pytest.mark.parametrize("path", ["here", "sqlite:///here.db"])
def test_what_sqlite3_connects_with_is_taken(path: str) -> None:
    said = {"timeout": 30, "isolation_level": None, "check_same_thread": False}
    store = KeptMetadataStore(path, connection_kwargs=said)
    assert store.connection_kwargs == said
    # Both stores of a place are over one cache.
    assert store.cache is KeptResultStore(path).cache
    again = pickle.loads(pickle.dumps(store))
    assert (again.connection_kwargs, again.cache.url) == (said, store.cache.url)


def test_a_store_that_is_not_there() -> None:
    assert KeptResultStore("made").create_dir is True
    with pytest.raises(StoreError, match="create_dir"):
        KeptResultStore("nowhere", create_dir=False)
    assert not Path("nowhere").exists()
    with pytest.raises(ConfigError, match="not both"):
        KeptMetadataStore("here", path="there")
    with pytest.raises(ConfigError, match="nonsense"):
        KeptMetadataStore("nonsense://there")


def test_the_log_has_a_directory(metadata: KeptMetadataStore) -> None:
    assert Path(metadata._directory).is_dir()
