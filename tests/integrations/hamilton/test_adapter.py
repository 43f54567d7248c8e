"""`KeptAdapter`: Hamilton's behaviours with wellkept's identities."""

import asyncio
import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from hamilton import async_driver, driver
from hamilton.caching.adapter import CachingEventType, HamiltonCacheAdapter
from hamilton.execution import executors
from tests.caches.places import KINDS, new
from tests.integrations.hamilton import tasks
from tests.integrations.hamilton.flows import CHAIN, builder, module, runs

import wellkept
from wellkept.errors import ConfigError, KeptWarning
from wellkept.integrations.hamilton import AsyncKeptAdapter, KeptAdapter

A, B, C = (f"def {part}" for part in CHAIN.split("def ")[1:])
ONE = A.replace("x: int", "").replace("x + 1", "1")


def execute(cache: Any, text: str, wanted: str, **how: Any) -> tuple[Any, list[str]]:
    """What a flow gives, and which of its nodes ran."""
    config = how.pop("config", {})
    dr = builder(module(text, how.pop("name", None)), **config).with_adapters(cache).build()
    return dr.execute([wanted], **how)[wanted], runs()


@pytest.mark.parametrize("kind", [*KINDS, "stack"])
def test_a_second_run_computes_nothing(kind: str) -> None:
    cache = wellkept.Stack(new("memory"), new("files")) if kind == "stack" else new(kind)
    for expected in (["a", "b", "c"], []):
        dr = builder(module(CHAIN, "chain")).with_adapters(KeptAdapter(cache)).build()
        assert dr.execute(["c"], inputs={"x": 1}) == {"c": -4}
        assert runs() == expected


def test_it_is_hamiltons_cache_of_the_driver() -> None:
    cache = KeptAdapter("store")
    dr = builder(module(CHAIN)).with_adapters(cache).build()
    assert dr.cache is cache
    assert isinstance(cache, HamiltonCacheAdapter)
    dr.execute(["c"], inputs={"x": 1})
    run_id = cache.last_run_id
    versions = cache.data_versions[run_id]
    assert versions["b"] == wellkept.digest(-2)
    assert cache.get_data_version(run_id, "b") == versions["b"]
    assert cache.get_cache_key(run_id, "b") == cache.cache_keys[run_id]["b"]
    assert cache.result_store.get(versions["b"]) == -2
    assert cache.result_store.exists(versions["b"])
    assert cache.metadata_store.get(cache.cache_keys[run_id]["b"]) == versions["b"]
    assert cache.metadata_store.size == 3
    assert cache.version_data(-2) == versions["b"]
    nodes = {node["node_name"]: node for node in cache.metadata_store.get_last_run()}
    assert nodes["b"] == {
        "cache_key": cache.cache_keys[run_id]["b"],
        "data_version": versions["b"],
        "node_name": "b",
        "code_version": cache.code_versions[run_id]["b"],
        "dependencies_data_versions": {"a": versions["a"]},
    }
    events = cache.logs(run_id, level="debug")
    assert [e.event_type for e in events["x"]][-1] == CachingEventType.IS_INPUT
    assert CachingEventType.EXECUTE_NODE in [e.event_type for e in events["b"]]
    assert len(cache.logs()[run_id]) == 3


def test_the_stores_of_an_adapter_are_only_read_and_deleted_from() -> None:
    @wellkept.keep(cache="./store", name="mine", version=1)
    def mine() -> int:
        return 1

    mine()
    cache = KeptAdapter("store")
    execute(cache, CHAIN, "c", inputs={"x": 1})
    metadata, results = cache.metadata_store, cache.result_store
    for store, arguments in ((metadata, ("k", "v")), (results, ("v", 1))):
        with pytest.raises(ConfigError, match="copy other"):
            store.set(*arguments)
    assert metadata.get("nonsense") is results.get("nonsense") is None
    keys = cache.cache_keys[cache.last_run_id]
    metadata.delete(keys["c"])
    assert metadata.size == 2
    results.delete(wellkept.digest(-2))
    assert not results.exists(wellkept.digest(-2))
    metadata.delete_all()
    assert (metadata.size, metadata.get_run_ids()) == (0, [])
    assert mine.contains()


# -- identities ------------------------------------------------------------------------------------


def test_values_of_different_types_are_never_exchanged() -> None:
    flow = """
def one(kind: str) -> Any:
    ran(f"one-{kind}")
    return {"int": 1, "float": 1.0, "text": "1", "truth": True}[kind]

def name(one: Any) -> str:
    ran("name")
    return type(one).__name__
"""
    cache = KeptAdapter("store")
    for kind, name in (("int", "int"), ("float", "float"), ("text", "str"), ("truth", "bool")):
        for expected in (["name", f"one-{kind}"], []):
            found, ran = execute(cache, flow, "name", inputs={"kind": kind}, name="typed")
            assert (found, ran) == (name, expected)


@pytest.mark.parametrize(
    ("before", "after", "ran"),
    [
        ("return 1", "return 1  # a comment", []),
        ("return 1", '"A docstring."\n    ran("a")\n    return 1', None),
        ("return 1", "return helper() - 40", ["a"]),
    ],
)
def test_code_counts_as_what_it_does(before: str, after: str, ran: list[str] | None) -> None:
    helper = "def _helper() -> int:\n    return 41\n\n"
    after = after.replace("helper", "_helper")
    cache = KeptAdapter("store")
    execute(cache, helper + ONE + B, "b", name="code")
    _, found = execute(cache, helper + ONE.replace(before, after) + B, "b", name="code")
    assert found == (["a", "a"] if ran is None else ran)  # the docstring's body runs it twice


def test_a_helper_counts() -> None:
    helper = "def _helper() -> int:\n    return {}\n\n"
    flow = helper + "def a() -> int:\n    ran('a')\n    return _helper()\n"
    cache = KeptAdapter("store")
    assert execute(cache, flow.format(1), "a", name="helped") == (1, ["a"])
    assert execute(cache, flow.format(1), "a", name="helped") == (1, [])
    assert execute(cache, flow.format(2), "a", name="helped") == (2, ["a"])


def test_a_helper_that_is_replaced_counts_in_the_next_run() -> None:
    flow = module("def _helper() -> int:\n    return 1\n\ndef a() -> int:\n    return _helper()\n")
    dr = builder(flow).with_adapters(KeptAdapter("store")).build()
    assert dr.execute(["a"]) == {"a": 1}
    flow._helper = lambda: 2
    assert dr.execute(["a"]) == {"a": 2}


DECORATED = """
@parameterize(one={{"n": value({0})}}, two={{"n": value(2)}})
def plus(x: int, n: int) -> int:
    ran("plus")
    return x + n

def _double(z: int, times: int) -> int:
    return z * times{1}

@pipe_output(step(_double, times={2}))
def piped(one: int, two: int) -> int:
    ran("piped")
    return one + two

@extract_fields({{"low": int, "high": int}})
def ends(piped: int) -> dict:
    ran("ends")
    return {{"low": 0, "high": piped}}

@config.when(mode="up")
def last__up(high: int) -> int:
    ran("last")
    return high + 1

@config.when(mode="down")
def last__down(high: int) -> int:
    ran("last")
    return high - 1
"""


def test_what_decorators_were_told_counts() -> None:
    cache = KeptAdapter("store")

    def run(*filled: Any, mode: str = "up") -> tuple[Any, list[str]]:
        flow = DECORATED.format(*filled)
        how: dict[str, Any] = {"config": {"mode": mode}, "inputs": {"x": 1}}
        return execute(cache, flow, "last", name="decorated", **how)

    assert run(1, "", 2) == (11, ["ends", "last", "piped", "plus", "plus"])
    assert run(1, "", 2) == (11, [])
    assert run(1, "", 2, mode="down") == (9, ["last"])
    # Another value of `one` is another decorator on both of its nodes.
    assert run(5, "", 2) == (19, ["ends", "last", "piped", "plus", "plus"])
    assert run(1, "", 3)[0] == 16
    runs()
    found, ran = run(1, " + 1", 3)  # a helper that only a decorator names
    assert (found, "ends" in ran) == (17, True)


def test_a_data_version_of_what_was_loaded_read_only_is_known(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import numpy as np

    from wellkept.hashing import buffers

    cache = wellkept.open("store", readonly=True)

    @wellkept.keep(cache=cache, name="large", version=1)
    def large() -> Any:
        return np.arange(1_000_000)

    large()
    loaded = large()
    flow = 'def total(data: Any) -> int:\n    ran("total")\n    return int(data.sum())\n'
    hashed: list[int] = []
    real = buffers.buffer_digest
    monkeypatch.setattr(
        buffers,
        "buffer_digest",
        lambda view: (hashed.append(memoryview(view).nbytes), real(view))[1],
    )
    assert execute(KeptAdapter(cache), flow, "total", inputs={"data": loaded})[1] == ["total"]
    assert not [size for size in hashed if size > 100_000]


def test_what_has_no_identity_is_computed_every_time_and_told() -> None:
    flow = """
def source() -> Any:
    ran("source")
    return (n for n in [1, 2, 3])

def total(source: Any) -> int:
    ran("total")
    return sum(source)

def fixed() -> int:
    ran("fixed")
    return 1

def both(total: int, fixed: int) -> int:
    ran("both")
    return total + fixed
"""
    cache = KeptAdapter("store")
    with pytest.warns(KeptWarning, match="computed every time"):
        assert execute(cache, flow, "both", name="u") == (7, ["both", "fixed", "source", "total"])
    assert execute(cache, flow, "both", name="u") == (7, ["source", "total"])


# -- behaviours ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("behaviour", "then"),
    [
        ("recompute", [["a"], ["a"]]),
        ("disable", [["a", "b"], ["a", "b"]]),
        ("ignore", [["a", "b"], ["a"]]),
        ("default", [[], []]),
    ],
)
def test_behaviours(behaviour: str, then: list[list[str]]) -> None:
    flow = ONE + B + C
    assert execute(KeptAdapter("store"), flow, "c", name="chain") == (-2, ["a", "b", "c"])
    for expected in then:
        cache = KeptAdapter("store", **{behaviour: ["a"]})
        assert execute(cache, flow, "c", name="chain") == (-2, expected)


def test_a_behaviour_of_all_nodes_and_of_a_decorator() -> None:
    assert execute(KeptAdapter("store"), ONE + B, "b", name="n") == (-1, ["a", "b"])
    assert execute(KeptAdapter("store", recompute=True), ONE + B, "b", name="n")[1] == ["a", "b"]
    assert execute(KeptAdapter("store", disable=True), ONE + B, "b", name="n")[1] == ["a", "b"]
    again = KeptAdapter("store", default_behavior="recompute")
    assert execute(again, ONE + B, "b", name="n")[1] == ["a", "b"]
    tagged = '@cache(behavior="recompute")\n' + ONE + B
    for expected in (["a"], ["a"]):
        assert execute(KeptAdapter("store"), tagged, "b", name="n")[1] == expected
    with pytest.raises(ValueError, match="mutually exclusive"):
        KeptAdapter("store", recompute=True, disable=True)


def test_a_behaviour_may_change_between_runs() -> None:
    cache = KeptAdapter("store")
    dr = builder(module(ONE + B)).with_adapters(cache).build()
    for said, expected in ((None, ["a", "b"]), (None, []), (["a"], ["a"]), (None, [])):
        cache._recompute = said
        dr.execute(["b"])
        assert runs() == expected


def test_overrides_and_defaults() -> None:
    cache = KeptAdapter("store")
    assert execute(cache, ONE + B, "b", name="o") == (-1, ["a", "b"])
    assert execute(cache, ONE + B, "b", name="o", overrides={"a": 1}) == (-1, [])
    assert execute(cache, ONE + B, "b", name="o", overrides={"a": 3}) == (-3, ["b"])
    flow = 'def foo(n: int = 3) -> int:\n    ran("foo")\n    return n + 1\n'
    assert execute(cache, flow, "foo", name="d") == (4, ["foo"])
    assert execute(cache, flow, "foo", name="d", inputs={"n": 3}) == (4, [])


def test_a_node_that_raises() -> None:
    cache = KeptAdapter("store")
    bad = B.replace("return -a", "raise ValueError(a)")
    for expected in (["a", "b"], ["b"]):
        with pytest.raises(ValueError, match="1"):
            execute(cache, ONE + bad, "b", name="bad")
        assert runs() == expected
    events = [e.event_type for e in cache.logs(cache.last_run_id, level="debug")["b"]]
    assert CachingEventType.FAILED_EXECUTION in events


LOADED = """
import json
from pathlib import Path

@dataloader()
def data(path: str) -> tuple[dict, dict]:
    ran("data")
    return json.loads(Path(path).read_text()), {"at": os.urandom(8).hex()}

def plus(data: dict) -> dict:
    ran("plus")
    return {"x": data["x"] + 1}

@datasaver()
def saved(plus: dict) -> dict:
    ran("saved")
    Path("out.json").write_text(json.dumps(plus))
    return {"at": os.urandom(8).hex()}

def after(saved: dict) -> int:
    ran("after")
    return 1
"""


def test_loaders_and_savers() -> None:
    how: dict[str, Any] = {"name": "loaded", "inputs": {"path": "in.json"}}
    Path("in.json").write_text('{"x": 1}')
    cache = KeptAdapter("store")
    for expected in (["after", "data", "plus", "saved"], []):
        assert execute(cache, LOADED, "after", **how) == (1, expected)
    assert json.loads(Path("out.json").read_text()) == {"x": 2}
    # A loader that is run again gives the same data at another time, and so does a saver.
    again = KeptAdapter(
        "store", default_loader_behavior="recompute", default_saver_behavior="recompute"
    )
    assert execute(again, LOADED, "after", **how) == (1, ["data", "saved"])
    Path("in.json").write_text('{"x": 5}')
    assert execute(again, LOADED, "after", **how) == (1, ["data", "plus", "saved"])


def test_data_that_is_a_tuple_stays_one() -> None:
    flow = """
@dataloader()
def pair() -> tuple[tuple, dict]:
    ran("pair")
    return (1, 2), {"at": os.urandom(8).hex()}
"""
    cache = KeptAdapter("store")
    for expected in (["pair"], []):
        assert execute(cache, flow, "pair", name="pair") == ((1, 2), expected)


def test_materializers() -> None:
    from hamilton.io.materialization import from_, to

    Path("in.json").write_text('{"x": 20}')
    flow = module(
        'def plus(data: dict) -> dict:\n    ran("plus")\n    return {"x": data["x"] + 1}\n'
    )
    for expected in (["plus"], []):
        dr = (
            builder(flow)
            .with_adapters(KeptAdapter("store"))
            .with_materializers(
                from_.json(target="data", path="in.json"),
                to.json(id="saved", dependencies=["plus"], path="out.json"),
            )
            .build()
        )
        assert dr.execute(["saved", "plus"])["plus"] == {"x": 21}
        assert json.loads(Path("out.json").read_text()) == {"x": 21}
        assert runs() == expected
    _, results = dr.materialize(
        to.json(id="again", dependencies=["plus"], path="more.json"), additional_vars=["plus"]
    )
    assert results["plus"] == {"x": 21}
    assert json.loads(Path("more.json").read_text()) == {"x": 21}


# -- formats ---------------------------------------------------------------------------------------

FORMATTED = """
@cache(format="parquet")
def table() -> pd.DataFrame:
    ran("table")
    return pd.DataFrame({"a": range(1000)})

@cache(format="json")
def told(table: pd.DataFrame) -> dict:
    ran("told")
    return {"rows": len(table)}
"""


@pytest.mark.parametrize("kind", ["embedded", "files", "memory"])
def test_formats(kind: str) -> None:
    import pandas as pd

    cache = KeptAdapter(new(kind))
    for expected in (["table", "told"], []):
        assert execute(cache, FORMATTED, "told", name="f") == ({"rows": 1000}, expected)
    versions = cache.data_versions[cache.last_run_id]
    assert cache.result_store.get(versions["told"]) == {"rows": 1000}
    store = cache.result_store
    assert len(pd.read_parquet(store.formats.path(versions["table"], "parquet"))) == 1000
    store.delete(versions["told"])
    assert execute(cache, FORMATTED, "told", name="f") == ({"rows": 1000}, ["told"])


def test_what_a_materializer_was_told_counts() -> None:
    from hamilton.io.materialization import from_

    flow = module('def plus(data: dict) -> int:\n    ran("plus")\n    return data["x"] + 1\n')
    for x, name in ((1, "one"), (2, "two"), (1, "one")):
        Path(f"{name}.json").write_text(f'{{"x": {x}}}')
        dr = (
            builder(flow)
            .with_adapters(KeptAdapter("store"))
            .with_materializers(from_.json(target="data", path=f"{name}.json"))
            .build()
        )
        assert dr.execute(["plus"]) == {"plus": x + 1}
    assert runs() == ["plus", "plus"]


LOADER = """
import dataclasses
from hamilton.function_modifiers.adapters import LoadFromDecorator
from hamilton.io.data_adapters import DataLoader

@dataclasses.dataclass
class Numbers(DataLoader):
    @classmethod
    def applicable_types(cls) -> list:
        return [dict]

    @classmethod
    def name(cls) -> str:
        return "numbers"

    def load_data(self, type_: type) -> tuple:
        return {"x": 1}, {}

@LoadFromDecorator([Numbers])
def plus(data: dict) -> int:
    ran("plus")
    return data["x"] + 1
"""


def test_the_code_of_a_loader_of_the_projects_counts() -> None:
    cache = KeptAdapter("store")
    for x, expected in ((1, ["plus"]), (1, []), (2, ["plus"])):
        text = LOADER.replace('"x": 1', f'"x": {x}')
        assert execute(cache, text, "plus", name="loading") == (x + 1, expected)


def test_a_format_that_has_no_saver_is_told_and_nothing_is_lost() -> None:
    flow = (
        '@cache(format="parquet")\ndef told() -> dict:\n    ran("told")\n    return {"rows": 1}\n'
    )
    cache = KeptAdapter("store")
    with pytest.warns(KeptWarning, match="parquet"):
        assert execute(cache, flow, "told", name="p") == ({"rows": 1}, ["told"])
    assert execute(cache, flow, "told", name="p") == ({"rows": 1}, [])


# -- faults ----------------------------------------------------------------------------------------


def test_a_damaged_result_is_computed_again() -> None:
    flow = 'def big() -> list:\n    ran("big")\n    return [b"x" * 100_000]\n'
    cache = KeptAdapter("store")
    first, ran = execute(cache, flow, "big", name="big")
    assert ran == ["big"]
    for expected in (["big"], []):
        (blob,) = (path for path in Path("store/blobs").rglob("*") if path.is_file())
        if expected:
            blob.chmod(0o600)
            blob.write_bytes(b"short")
        with pytest.warns(KeptWarning) if expected else _nothing():
            assert execute(KeptAdapter("store"), flow, "big", name="big") == (first, expected)


def _nothing() -> Any:
    import contextlib

    return contextlib.nullcontext()


def test_what_has_no_encoding_is_returned() -> None:
    flow = (
        'def lock() -> Any:\n    import threading\n    ran("lock")\n    return threading.Lock()\n'
    )
    cache = KeptAdapter("store")
    with pytest.warns(KeptWarning, match="lock"):
        found, ran = execute(cache, flow, "lock")
    assert ran == ["lock"]
    assert isinstance(found, type(threading.Lock()))


def test_a_store_that_fails_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    from wellkept.errors import StoreError

    cache = KeptAdapter(new("files"))

    def fail(*_: Any, **__: Any) -> Any:
        raise StoreError("the server is gone")

    for name in ("fetch", "commit"):
        monkeypatch.setattr(cache.kept.backend, name, fail)
    with pytest.warns(KeptWarning, match="the server is gone"):
        assert execute(cache, ONE + B, "b") == (-1, ["a", "b"])


# -- one computation a key -------------------------------------------------------------------------

SLOW = """
import time

def slow(x: int) -> int:
    ran("slow")
    time.sleep(0.5)
    return x + 1
"""
SCRIPT = """
import sys
sys.path.insert(0, {root!r})
sys.path.insert(0, ".")
from hamilton import driver
import slowflow
from wellkept.integrations.hamilton import KeptAdapter

dr = driver.Builder().with_modules(slowflow).with_adapters(KeptAdapter("store")).build()
print(dr.execute(["slow"], inputs={{"x": 1}})["slow"])
"""


@pytest.mark.long
@pytest.mark.timeout(400)
def test_one_process_computes_while_another_waits() -> None:
    module(SLOW, "slowflow")
    script = SCRIPT.format(root=str(Path(__file__).parents[3]))
    started = [
        subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    assert [process.communicate(timeout=300)[0].strip() for process in started] == ["2"] * 2
    assert runs() == ["slow"]


def test_who_waited_has_a_hit() -> None:
    flow = module(SLOW, "waited")
    caches = [KeptAdapter("store") for _ in range(2)]
    drivers = [builder(flow).with_adapters(cache).build() for cache in caches]
    threads = [
        threading.Thread(target=dr.execute, args=(["slow"],), kwargs={"inputs": {"x": 1}})
        for dr in drivers
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert runs() == ["slow"]
    found = [cache.logs(cache.last_run_id)["slow"][0].event_type for cache in caches]
    assert set(found) == {CachingEventType.EXECUTE_NODE, CachingEventType.GET_RESULT}


# -- tasks and the async driver --------------------------------------------------------------------

EXECUTORS: dict[str, Any] = {
    "one by one": executors.SynchronousLocalTaskExecutor,
    "threads": lambda: executors.MultiThreadingExecutor(max_tasks=4),
    "processes": lambda: executors.MultiProcessingExecutor(max_tasks=2),
}


@pytest.mark.parametrize("executor", EXECUTORS)
def test_tasks(executor: str) -> None:
    inside = ["described"] * 4 + ["square"] * 4
    for expected in (["count", *inside, "final", "total"], []):
        cache = KeptAdapter("store")
        dr = (
            driver.Builder()
            .with_modules(tasks)
            .with_adapters(cache)
            .enable_dynamic_execution(allow_experimental_mode=True)
            .with_remote_executor(EXECUTORS[executor]())
            .build()
        )
        assert dr.execute(["final"], inputs={"size": 4}) == {"final": 15}
        assert runs() == sorted(expected)
        events = cache.metadata_store.history.run(cache.last_run_id).events()
        outcome = "computed" if expected else "hit"
        assert sum(event.count for event in events if event.outcome == outcome) >= 11
    assert cache.metadata_store.size == 11


ASYNC = """
import asyncio

async def a(x: int) -> int:
    ran("a")
    await asyncio.sleep(0.01)
    return x + 1

def b(a: int) -> int:
    ran("b")
    return a * 2

async def c(a: int, b: int) -> int:
    ran("c")
    return a + b
"""


def test_the_async_driver() -> None:
    flow = module(ASYNC)
    adapter = AsyncKeptAdapter("store")

    async def main() -> None:
        dr = await async_driver.Builder().with_modules(flow).with_adapters(adapter).build()
        for expected in (["a", "b", "c"], []):
            assert await dr.execute(["c"], inputs={"x": 1}) == {"c": 6}
            assert runs() == expected
        together = [dr.execute(["c"], inputs={"x": x}) for x in (1, 2, 2, 3)]
        assert [found["c"] for found in await asyncio.gather(*together)] == [6, 9, 9, 12]
        assert runs() == ["a", "a", "b", "b", "c", "c"]
        adapter.cache._recompute = ["a"]
        assert await dr.execute(["c"], inputs={"x": 1}) == {"c": 6}
        assert runs() == ["a"]

    asyncio.run(main())
    assert len(adapter.cache.metadata_store.get_run_ids()) == 7


def test_a_failure_under_the_async_driver() -> None:
    flow = module('async def bad() -> int:\n    ran("bad")\n    raise ValueError("no")\n')
    adapter = AsyncKeptAdapter("store")

    async def main() -> None:
        dr = await async_driver.Builder().with_modules(flow).with_adapters(adapter).build()
        for _ in range(2):
            with pytest.raises(ValueError, match="no"):
                await dr.execute(["bad"])
            assert runs() == ["bad"]

    asyncio.run(main())
