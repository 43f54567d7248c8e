"""What names a node's calls under `KeptAdapter`: options, tags, and the same node elsewhere."""

import asyncio
import functools
import json
import pickle
import time
import warnings
from pathlib import Path
from typing import Any

import pytest
from hamilton import async_driver
from hamilton.caching import fingerprinting
from tests.integrations.hamilton.flows import CHAIN, builder, module, runs

import wellkept
from wellkept.errors import ConfigError, KeptWarning
from wellkept.integrations.hamilton import AsyncKeptAdapter, KeptAdapter, with_kept

A = 'def a(x: int) -> int:\n    ran("a")\n    return x + 1\n'


def execute(cache: KeptAdapter, text: str, wanted: str = "a", name: str = "flow") -> list[str]:
    """Which nodes run."""
    dr = builder(module(text, name)).with_adapters(cache).build()
    dr.execute([wanted], inputs={"x": 1})
    return runs()


def tagged(**tags: Any) -> str:
    said = {f"wellkept.{name}": value for name, value in tags.items()}
    return f"@tag(**{said!r})\n{A}"


# -- the same node elsewhere -----------------------------------------------------------------------


def test_the_same_function_in_two_modules_is_one_node() -> None:
    helped = "def _more(x: int) -> int:\n    return x + 1\n\n" + A.replace("x + 1", "_more(x)")
    assert execute(KeptAdapter("store"), helped, name="one") == ["a"]
    assert execute(KeptAdapter("store"), helped, name="two") == []
    # What it reaches by name is another.
    other = helped.replace("x + 1", "x + 2")
    assert execute(KeptAdapter("store"), other, name="three") == ["a"]


def test_a_name_keeps_them_apart_and_survives_a_renaming() -> None:
    cache = KeptAdapter("store", options={"a": {"name": "team:a"}, "b": {"name": "team:a"}})
    assert execute(KeptAdapter("store"), A) == ["a"]
    assert execute(cache, A) == ["a"]
    assert execute(cache, A.replace("def a", "def b"), "b") == []
    (node,) = KeptAdapter("store").metadata_store.get_run(
        KeptAdapter("store").metadata_store.get_run_ids()[1]
    )
    assert node["node_name"] == "a"
    assert [call.function for call in cache.kept.query("team:a").calls()] == ["team:a"]


# -- what does not change what is computed ---------------------------------------------------------


@pytest.mark.parametrize(
    "decorator",
    [
        '@tag(owner="me")',
        '@tag_outputs(a={"owner": "me"})',
        '@cache(format="json")',
        '@cache(behavior="default")',
        '@tag(**{"wellkept.ttl": "1 d"})',
        '@tag(**{"wellkept.verify": "0"})',
    ],
)
@pytest.mark.parametrize("above", ["", '@parameterize(a={"y": value(1)})\n'])
def test_tags_and_cache_options_do_not_invalidate(decorator: str, above: str) -> None:
    flow = above + (A.replace("x: int", "x: int, y: int") if above else A)
    assert execute(KeptAdapter("store"), flow) == ["a"]
    assert execute(KeptAdapter("store"), f"{decorator}\n{flow}") == []


def test_what_else_a_function_is_given_counts() -> None:
    assert execute(KeptAdapter("store"), A) == ["a"]
    assert execute(KeptAdapter("store"), A + "\na.steps = [2]\n") == ["a"]


# -- options ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("by", ["tags", "options"])
def test_depends(by: str, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("data.txt").write_text("1")

    def run() -> list[str]:
        if by == "tags":
            return execute(KeptAdapter("store"), tagged(depends=["file:data.txt", "env:MODE"]))
        said = [wellkept.file("data.txt"), wellkept.env("MODE")]
        return execute(KeptAdapter("store", options={"a": {"depends": said}}), A)

    assert [run(), run()] == [["a"], []]
    Path("data.txt").write_text("2")
    assert [run(), run()] == [["a"], []]
    monkeypatch.setenv("MODE", "fast")
    assert run() == ["a"]


def test_what_it_depends_on_that_can_not_be_told_is_a_warning_and_not_kept() -> None:
    def asked() -> Any:
        raise RuntimeError("no answer")

    cache = KeptAdapter("store", options={"a": {"depends": [wellkept.token(asked)]}})
    with pytest.warns(KeptWarning, match="a: .*no answer"):
        assert [execute(cache, A), execute(cache, A)] == [["a"], ["a"]]


@pytest.mark.parametrize("above", ["", '@cache(format="json")\n'])
def test_ttl(above: str, monkeypatch: pytest.MonkeyPatch) -> None:
    flow = above + tagged(ttl="1 h").replace("-> int", "-> dict").replace("x + 1", '{"x": x}')
    assert [execute(KeptAdapter("store"), flow) for _ in range(2)] == [["a"], []]
    assert len(list(Path("store").glob("formats/*.json"))) == bool(above)
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 3601)
    assert [execute(KeptAdapter("store"), flow) for _ in range(2)] == [["a"], []]


@pytest.mark.parametrize("by", ["tags", "options"])
def test_version_replaces_the_code(by: str) -> None:
    for version, more, ran in (("1", 1, ["a"]), ("1", 2, []), ("2", 2, ["a"])):
        text = (tagged(version=version) if by == "tags" else A).replace("x + 1", f"x + {more}")
        said = {} if by == "tags" else {"a": {"version": version}}
        assert execute(KeptAdapter("store", options=said), text) == ran


def test_verify_computes_hits_again_and_tells_of_another_result() -> None:
    Path("n.txt").write_text("1")
    flow = tagged(verify="1").replace("x + 1", "int(open('n.txt').read())")
    assert execute(KeptAdapter("store"), flow) == ["a"]
    assert execute(KeptAdapter("store"), flow) == ["a"]
    Path("n.txt").write_text("2")
    with pytest.warns(KeptWarning, match=r"^a: .*gave another result"):
        assert execute(KeptAdapter("store"), flow) == ["a"]


@pytest.mark.parametrize(
    ("said", "match"),
    [
        ({"colour": "red"}, "no such option 'colour'"),
        ({"ttl": "soon"}, "node a: .*soon"),
        ({"verify": "2"}, "node a: verify= is a share"),
        ({"verify": "often"}, "node a: .*often"),
        ({"depends": "data.txt"}, "not 'data.txt'"),
        ({"name": ""}, "name= takes text"),
    ],
)
def test_an_option_that_is_not_one(said: dict[str, Any], match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        execute(KeptAdapter("store", options={"a": said}), A)
    with pytest.raises(ConfigError, match=match):
        execute(KeptAdapter("store"), tagged(**said))


def test_options_under_the_async_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    flow = module(
        A.replace("def a", "async def a").replace(
            "return x", "await asyncio.sleep(0)\n    return x"
        )
    )
    flow.asyncio = asyncio  # type: ignore[attr-defined]  # what its code names
    said = {"a": {"depends": [wellkept.env("MODE")], "ttl": "1 h"}}

    async def run() -> list[str]:
        adapter = AsyncKeptAdapter("store", options=said)
        dr = await async_driver.Builder().with_modules(flow).with_adapters(adapter).build()
        await dr.execute(["a"], inputs={"x": 1})
        return runs()

    assert [asyncio.run(run()) for _ in range(2)] == [["a"], []]
    monkeypatch.setenv("MODE", "fast")
    assert asyncio.run(run()) == ["a"]
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 3601)
    assert asyncio.run(run()) == ["a"]


def test_options_of_what_is_no_node() -> None:
    with pytest.raises(ConfigError, match="options= takes a dict of options by the name of a node"):
        KeptAdapter("store", options={"a": "1 d"})  # type: ignore[dict-item]  # what is refused
    with pytest.warns(KeptWarning, match="options= names 'typo'"):
        execute(KeptAdapter("store", options={"typo": {"ttl": 60}}), A)


def test_nodes_that_would_be_one_are_refused() -> None:
    above = '@tag(**{"wellkept.name": "n", "wellkept.version": "1"})\n'
    flow = above + "@parameterize(one={'y': value(1)}, a={'y': value(2)})\n"
    flow += "def plus(x: int, y: int) -> int:\n    return x + y\n"
    with pytest.raises(ConfigError, match="nodes one and a have"):
        execute(KeptAdapter("store"), flow)


def test_options_go_to_worker_processes() -> None:
    said = {"a": {"depends": [wellkept.file("data.txt"), wellkept.env("MODE")], "ttl": 60}}
    again = pickle.loads(pickle.dumps(KeptAdapter("store", options=said)))
    assert again.options["a"]["ttl"] == 60
    assert [type(one) for one in again.options["a"]["depends"]] == [
        type(one)
        for one in said["a"]["depends"]  # type: ignore[attr-defined]  # a list
    ]


# -- what is told ----------------------------------------------------------------------------------


def test_a_fingerprint_that_was_registered_with_hamilton_alone_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Nothing is ever taken out of a registry.
    registry = dict(fingerprinting.hash_value.registry)
    copied = functools.singledispatch(registry.pop(object))
    for kind, function in registry.items():
        copied.register(kind)(function)
    monkeypatch.setattr(fingerprinting, "hash_value", copied)

    class Model:
        pass

    class Known:
        def __digest__(self) -> str:
            return "known"

    for kind in (Model, Known):
        fingerprinting.hash_value.register(kind)(lambda obj, *args, **kwargs: "same")
    cache = KeptAdapter("store")
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        execute(cache, A)
        execute(cache, A)
    (text,) = (str(each.message) for each in told if each.category is KeptWarning)
    assert "Model) does not count" in text
    assert "wellkept.register_digest" in text


@pytest.mark.parametrize(
    "make", [with_kept, lambda made, cache: made.with_adapters(KeptAdapter(cache))]
)
def test_a_warning_names_its_node_and_each_node_has_its_own(make: Any) -> None:
    flow = "".join(
        f"def {name}() -> Any:\n    import threading\n    return threading.Lock()\n\n"
        for name in ("one", "two")
    )
    dr = make(builder(module(flow)), "store").build()
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        for _ in range(2):
            dr.execute(["one", "two"])
    texts = [str(each.message) for each in told if each.category is KeptWarning]
    assert sorted(text.partition(":")[0] for text in texts if "pickle" in text) == ["one", "two"]


@pytest.mark.parametrize(
    "make", [with_kept, lambda made, cache: made.with_adapters(KeptAdapter(cache))]
)
def test_damage_and_a_store_that_does_not_answer_name_the_node(
    make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    big = "".join(
        f"def {name}() -> list:\n    return [b'{name}' * 100_000]\n\n" for name in ("one", "two")
    )
    flow = module(big)
    make(builder(flow), "store").build().execute(["one", "two"])
    for blob in (path for path in Path("store/blobs").rglob("*") if path.is_file()):
        blob.chmod(0o600)
        blob.write_bytes(b"short")
    cache = wellkept.open("store")
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        make(builder(flow), cache).build().execute(["one", "two"])
    texts = [str(each.message) for each in told if each.category is KeptWarning]
    assert [name for name in ("one", "two") if any(f"(node {name})" in t for t in texts)] == [
        "one",
        "two",
    ]

    def fail(*_: Any, **__: Any) -> Any:
        raise wellkept.StoreError("the server is gone")

    cache = wellkept.open("files:other")
    dr = make(builder(flow), cache).build()
    for name in ("fetch", "commit"):
        monkeypatch.setattr(cache.backend, name, fail)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        dr.execute(["one", "two"])
        dr.execute(["one", "two"])
    texts = [str(each.message) for each in told if "server is gone" in str(each.message)]
    assert {"one", "two"} <= {text.partition(":")[0] for text in texts}
    assert len(texts) == len(set(texts))


# -- the views -------------------------------------------------------------------------------------


def test_the_results_of_an_adapter_go_to_another_store() -> None:
    from wellkept.integrations.hamilton import (
        InMemoryResultStore,
        KeptMetadataStore,
        KeptResultStore,
    )

    cache = KeptAdapter("store")
    execute(cache, CHAIN, "c")
    versions = cache.data_versions[cache.last_run_id]
    cache.result_store.persist_to(target := KeptResultStore("elsewhere"))
    assert sorted(target.data_versions()) == sorted(versions[name] for name in "abc")
    assert target.get(versions["b"]) == -2
    cache.metadata_store.persist_to(KeptMetadataStore("elsewhere"))
    assert KeptMetadataStore("elsewhere").last_run_id == cache.last_run_id
    memory = InMemoryResultStore.load_from(cache.result_store, cache.metadata_store)
    assert memory.get(versions["c"]) == -4
    with wellkept.use("./active"):
        cache.result_store.persist_to()
        assert KeptResultStore().get(versions["a"]) == 2
    assert cache.result_store.path.is_dir()
    assert json.loads(json.dumps(cache.metadata_store.get_last_run()))
