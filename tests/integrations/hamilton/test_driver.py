"""Whole flows under Hamilton's own adapter, with wellkept's stores: what it promises, and the faults
that end a run with Hamilton's stores.
"""

import json
import sqlite3
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
from wellkept.integrations.hamilton import (
    InMemoryMetadataStore,
    InMemoryResultStore,
    KeptMetadataStore,
    KeptResultStore,
    with_kept,
)


def adapter(where: Any = "store", **options: Any) -> HamiltonCacheAdapter:
    metadata = KeptMetadataStore(where)
    return HamiltonCacheAdapter(
        metadata_store=metadata, result_store=KeptResultStore(metadata.cache), **options
    )


def execute(cache: Any, text: str, wanted: str, **how: Any) -> tuple[Any, list[str]]:
    """What a flow gives, and which of its nodes ran."""
    dr = driver.Builder().with_modules(module(text)).with_adapters(cache).build()
    return dr.execute([wanted], **how)[wanted], runs()


A, B, C = (f"def {part}" for part in CHAIN.split("def ")[1:])
ONE = A.replace("x: int", "").replace("x + 1", "1")
OTHER = ONE.replace("return 1", "return 2")
SAME = ONE.replace("return 1", "return 1 + 0")


# -- what the adapter promises ---------------------------------------------------------------------


@pytest.mark.parametrize("kind", [*KINDS, "stack"])
def test_a_second_run_computes_nothing(kind: str) -> None:
    cache = wellkept.Stack(new("memory"), new("files")) if kind == "stack" else new(kind)
    for expected in (["a", "b", "c"], []):
        dr = with_kept(builder(module(CHAIN)), cache).build()
        assert dr.execute(["c"], inputs={"x": 1}) == {"c": -4}
        assert runs() == expected
    assert dr.cache.metadata_store.size == 3


def test_options_and_the_active_cache(home: Path) -> None:
    flow = module(CHAIN)
    dr = with_kept(builder(flow), recompute=["b"], default_behavior="default").build()
    for expected in (["a", "b", "c"], ["b"]):
        dr.execute(["c"], inputs={"x": 1})
        assert runs() == expected
    assert (home / "cache" / "index.sqlite").exists()
    with pytest.raises(ValueError, match="cache"):
        with_kept(with_kept(builder(flow)))
    with pytest.raises(ConfigError, match="AsyncKeptAdapter"):
        with_kept(async_driver.Builder().with_modules(flow))


def test_a_change_of_code_or_of_a_dependency() -> None:
    cache = adapter()
    assert execute(cache, ONE + B, "b") == (-1, ["a", "b"])
    assert execute(cache, ONE + B, "b") == (-1, [])
    assert execute(cache, SAME + B, "b") == (-1, ["a"])  # the same data version
    assert cache.metadata_store.size == 3
    assert execute(cache, OTHER + B, "b") == (-2, ["a", "b"])
    assert cache.metadata_store.size == 5


def test_a_change_of_input() -> None:
    cache = adapter()
    for x, expected in ((1, ["a"]), (1, []), (2, ["a"]), (1, [])):
        assert execute(cache, A, "a", inputs={"x": x}) == (x + 1, expected)


def test_overrides() -> None:
    cache = adapter()
    assert execute(cache, ONE + B, "b") == (-1, ["a", "b"])
    assert execute(cache, ONE + B, "b", overrides={"a": 1}) == (-1, [])
    assert execute(cache, ONE + B, "b", overrides={"a": 13}) == (-13, ["b"])
    assert cache.metadata_store.size == 3


def test_a_node_that_raises() -> None:
    cache = adapter()
    assert execute(cache, ONE + B, "b") == (-1, ["a", "b"])
    bad = B.replace("return -a", "raise ValueError(a)")
    with pytest.raises(ValueError, match="1"):
        execute(cache, ONE + bad, "b")
    assert runs() == ["b"]
    events = cache.logs(cache.last_run_id, level="debug")["b"]
    assert any(e.event_type == CachingEventType.FAILED_EXECUTION for e in events)
    assert cache.metadata_store.size == 2


@pytest.mark.parametrize(
    ("behavior", "then"),
    [
        ("_recompute", [["a"], ["a"]]),
        ("_disable", [["a", "b"], ["a", "b"]]),
        ("_ignore", [["a", "b"], ["a"]]),
        ("_default", [[], []]),
    ],
)
def test_behaviours(behavior: str, then: list[list[str]]) -> None:
    cache = adapter()
    flow = ONE + B + C
    assert execute(cache, flow, "c") == (-2, ["a", "b", "c"])
    setattr(cache, behavior, ["a"])
    for expected in then:
        assert execute(cache, flow, "c") == (-2, expected)
    # Everything that a run of this adapter names can be loaded.
    for run_id in cache.metadata_store.get_run_ids():
        for node in cache.metadata_store.get_run(run_id):
            assert cache.result_store.exists(node["data_version"])


def test_a_default_parameter_is_an_input_of_that_value() -> None:
    flow = 'def foo(n: int = 3) -> int:\n    ran("foo")\n    return n + 1\n'
    cache = adapter()
    assert execute(cache, flow, "foo") == (4, ["foo"])
    assert execute(cache, flow, "foo", inputs={"n": 3}) == (4, [])
    first, second = (cache.cache_keys[run]["foo"] for run in cache.run_ids)
    assert first == second


def test_frames() -> None:
    flow = """
def frame() -> pd.DataFrame:
    ran("frame")
    return pd.DataFrame({"foo": [0, 1], "bar": ["a", "b"]})

def more(frame: pd.DataFrame) -> pd.DataFrame:
    ran("more")
    return frame.assign(baz=[True, False])
"""
    cache = adapter()
    first, ran = execute(cache, flow, "more")
    assert ran == ["frame", "more"]
    second, ran = execute(cache, flow, "more")
    assert ran == []
    assert first.equals(second)


def test_a_log_file() -> None:
    cache = adapter(log_to_file=True)
    execute(cache, ONE, "a")
    lines = Path("store/cache_logs.jsonl").read_text().splitlines()
    assert "execute_node" in {json.loads(line)["event_type"] for line in lines}


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

    cache = adapter(new(kind))
    assert execute(cache, FORMATTED, "told") == ({"rows": 1000}, ["table", "told"])
    assert execute(cache, FORMATTED, "told") == ({"rows": 1000}, [])
    store: Any = cache.result_store
    (told,) = store.path.glob("*.json")
    assert json.loads(told.read_text()) == {"rows": 1000}
    (table,) = store.path.glob("*.parquet")
    assert len(pd.read_parquet(table)) == 1000


@pytest.mark.parametrize("ending", ["parquet", "json"])
def test_a_deleted_file_heals(ending: str) -> None:
    cache = adapter()
    execute(cache, FORMATTED, "told")
    (file,) = Path("store/formats").glob(f"*.{ending}")
    file.unlink()
    assert execute(cache, FORMATTED, "told") == ({"rows": 1000}, [])
    assert file.exists()


def test_a_damaged_file_heals() -> None:
    cache = adapter()
    execute(cache, FORMATTED, "told")
    (file,) = Path("store/formats").glob("*.json")
    file.chmod(0o600)
    file.write_text('{"rows": 999}')  # the blob has another name than that
    with pytest.warns(KeptWarning, match="damaged"):
        assert execute(cache, FORMATTED, "told") == ({"rows": 1000}, ["told"])
    assert execute(cache, FORMATTED, "told") == ({"rows": 1000}, [])


def test_materializers_and_loaders() -> None:
    from hamilton.io.materialization import from_, to

    Path("in.json").write_text('{"x": 20}')
    flow = module(
        'def plus(data: dict) -> dict:\n    ran("plus")\n    return {"x": data["x"] + 1}\n'
    )
    for expected in (["plus"], []):
        dr = (
            with_kept(builder(flow), "store")
            .with_materializers(
                from_.json(target="data", path="in.json"),
                to.json(id="saved", dependencies=["plus"], path="out.json"),
            )
            .build()
        )
        assert dr.execute(["saved", "plus"])["plus"] == {"x": 21}
        assert json.loads(Path("out.json").read_text()) == {"x": 21}
        assert runs() == expected


# -- faults ----------------------------------------------------------------------------------------

BIG = """
def big() -> list:
    ran("big")
    return [b"x" * 100_000]

def size(big: list) -> int:
    ran("size")
    return len(big[0])
"""


def blobs() -> list[Path]:
    return [path for path in Path("store/blobs").rglob("*") if path.is_file()]


@pytest.mark.parametrize("how", ["gone", "cut", "flipped"])
def test_a_damaged_result_is_computed_again(how: str) -> None:
    cache = adapter()
    assert execute(cache, BIG, "size") == (100_000, ["big", "size"])
    (blob,) = blobs()
    blob.chmod(0o600)
    content = blob.read_bytes()
    if how == "gone":
        blob.unlink()
    else:
        blob.write_bytes(content[:500] if how == "cut" else content[:-1] + b"y")
    with pytest.warns(KeptWarning, match="damaged"):
        assert execute(cache, BIG, "size") == (100_000, ["big"])
    assert blobs()[0].read_bytes() == content
    assert execute(cache, BIG, "size") == (100_000, [])


def test_a_damaged_row_is_computed_again() -> None:
    cache = adapter()
    assert execute(cache, ONE + B, "b") == (-1, ["a", "b"])
    kept_cache = cache.metadata_store.cache
    kept_cache.close()
    with sqlite3.connect("store/index.sqlite") as c:
        c.execute("UPDATE calls SET body = substr(body, 1, 20) || 'x' || substr(body, 22)")
    with pytest.warns(KeptWarning, match="damaged"):
        assert execute(cache, ONE + B, "b") == (-1, ["a", "b"])
    assert execute(cache, ONE + B, "b") == (-1, [])


def test_a_result_that_goes_between_the_look_and_the_load() -> None:
    cache = adapter()
    store: Any = cache.result_store
    store.set("v", [b"x" * 100_000])
    assert store.exists("v")
    (blob,) = blobs()
    blob.unlink()
    from wellkept.integrations.hamilton import ResultRetrievalError

    with pytest.warns(KeptWarning, match="damaged"), pytest.raises(ResultRetrievalError):
        store.get("v")


def test_what_has_no_encoding_is_returned() -> None:
    flow = """
def reader() -> Any:
    ran("reader")
    return open(__file__)

def line(reader: Any) -> str:
    ran("line")
    return reader.readline()
"""
    cache = adapter()
    with pytest.warns(KeptWarning, match="only returned"):
        assert execute(cache, flow, "line") == ("\n", ["line", "reader"])
    # To Hamilton's fingerprints, two open files are the same.
    assert execute(cache, flow, "line") == ("\n", ["reader"])


def test_delete_all_leaves_another_program_its_results() -> None:
    @wellkept.keep(cache="./store", name="mine", version=1)
    def mine(x: int) -> int:
        return x

    mine(1)
    cache = adapter()
    execute(cache, ONE, "a")
    cache.result_store.delete_all()
    assert execute(cache, ONE, "a") == (1, ["a"])
    cache.metadata_store.delete_all()
    cache.result_store.delete_all()
    assert mine.contains(1)
    assert execute(cache, ONE, "a") == (1, ["a"])


def test_a_store_that_fails_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    from wellkept.errors import StoreError

    cache = adapter(new("files"))
    place = cache.metadata_store.cache.backend

    def fail(*_: Any, **__: Any) -> Any:
        raise StoreError("the server is gone")

    for name in ("fetch", "commit"):
        monkeypatch.setattr(place, name, fail)
    with pytest.warns(KeptWarning, match="the server is gone"):
        assert execute(cache, ONE + B, "b") == (-1, ["a", "b"])
    assert execute(cache, ONE + B, "b") == (-1, ["a", "b"])


# -- tasks -----------------------------------------------------------------------------------------

EXECUTORS: dict[str, Any] = {
    "one by one": executors.SynchronousLocalTaskExecutor,
    "threads": lambda: executors.MultiThreadingExecutor(max_tasks=4),
    "processes": lambda: executors.MultiProcessingExecutor(max_tasks=2),
}
STORES: dict[str, Any] = {
    "kept": lambda: (KeptMetadataStore("store"), KeptResultStore("store")),
    "memory": lambda: (InMemoryMetadataStore(), InMemoryResultStore()),
}


@pytest.mark.parametrize("executor", EXECUTORS)
def test_tasks_with_kept(executor: str) -> None:
    inside = ["described"] * 4 + ["square"] * 4
    for expected in (["count", *inside, "final", "total"], []):
        dr = (
            with_kept(driver.Builder().with_modules(tasks), "store")
            .enable_dynamic_execution(allow_experimental_mode=True)
            .with_remote_executor(EXECUTORS[executor]())
            .build()
        )
        assert dr.execute(["final"], inputs={"size": 4}) == {"final": 15}
        assert runs() == sorted(expected)
        metadata: Any = dr.cache.metadata_store
        assert metadata.size == 12
        events = metadata.kept_run().events()
        outcomes = [event.outcome for event in events if event.function != "step"]
        assert outcomes == ["computed" if expected else "hit"] * 11


@pytest.mark.parametrize("executor", EXECUTORS)
@pytest.mark.parametrize("stores", STORES)
def test_tasks(executor: str, stores: str) -> None:
    if (executor, stores) == ("processes", "memory"):
        pytest.skip("processes share no memory")
    metadata, results = STORES[stores]()

    def dr() -> Any:
        return (
            driver.Builder()
            .with_modules(tasks)
            .with_cache(metadata_store=metadata, result_store=results)
            .enable_dynamic_execution(allow_experimental_mode=True)
            .with_remote_executor(EXECUTORS[executor]())
            .build()
        )

    inside = ["described"] * 4 + ["square"] * 4
    for expected in (["count", *inside, "final", "total"], []):
        made = dr()
        assert made.execute(["final"], inputs={"size": 4}) == {"final": 15}
        assert runs() == sorted(expected)
    store = made.cache.metadata_store
    assert store.size == 12  # `step` too, whose data version is of no use
    first = store.get_run(store.get_run_ids()[0])
    assert len(first) == 12
    for node in first:
        if node["node_name"] != "step":
            assert made.cache.result_store.exists(node["data_version"])
