"""Hamilton's runs are kept runs: what they tell of each node, also to another process."""

import contextlib
import gc
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from hamilton import driver
from tests.integrations.hamilton import tasks
from tests.integrations.hamilton.flows import CHAIN, builder, module, runs

import wellkept
from wellkept.integrations.hamilton import (
    KeptAdapter,
    KeptMetadataStore,
    KeptResultStore,
    with_kept,
)
from wellkept.integrations.hamilton.run_history import ending
from wellkept.records import Event
from wellkept.runs.recorder import EVENTS, HEADS, notes_of
from wellkept.runs.run import Run
from wellkept.runs.run import run as begin_run

FLOW = (
    CHAIN
    + """
import wellkept

@wellkept.keep(name="helper", version=1)
def _helper(n: int) -> int:
    return n

def helped(c: int) -> int:
    return _helper(c)

def bad(c: int) -> int:
    raise ValueError(c)
"""
)

Make = Callable[[driver.Builder], driver.Builder]


def with_stores(made: driver.Builder) -> driver.Builder:
    return with_kept(made, "store")


def with_adapter(made: driver.Builder) -> driver.Builder:
    return made.with_adapters(KeptAdapter("store"))


both = pytest.mark.parametrize("make", [with_stores, with_adapter])


def last(dr: Any) -> Run:
    return dr.cache.metadata_store.kept_run()  # type: ignore[no-any-return]  # Hamilton is untyped


def by_node(run: Run) -> dict[str, Event]:
    return {event.function.rpartition(":")[2]: event for event in run.events()}


@both
def test_computed_then_hit(make: Make) -> None:
    dr = make(builder(module(CHAIN))).build()
    dr.execute(["c"], inputs={"x": 1})
    first = last(dr)
    events = by_node(first)
    assert [event.outcome for event in events.values()] == ["computed"] * 3
    assert list(events) == ["a", "b", "c"]
    assert all(event.seconds > 0 for event in events.values())
    assert all(event.code for event in events.values())
    versions = dr.cache.data_versions[dr.cache.last_run_id]
    assert {name: event.result for name, event in events.items()} == {
        name: versions[name] for name in ("a", "b", "c")
    }
    # What each was made of, which joins them to a graph.
    assert dict(events["b"].arguments) == {"a": events["a"].result}
    assert dict(events["c"].arguments) == {"b": events["b"].result}

    dr.execute(["c"], inputs={"x": 1})
    again = by_node(last(dr))
    assert [event.outcome for event in again.values()] == ["hit"] * 3
    assert {n: e.result for n, e in again.items()} == {n: e.result for n, e in events.items()}
    assert {n: e.key for n, e in again.items()} == {n: e.key for n, e in events.items()}
    assert all(event.seconds > 0 for event in again.values())  # what it took when it was kept
    assert (first.state, first.record.engine, first.name) == (
        "done",
        "hamilton",
        dr.cache.run_ids[0],
    )


@both
def test_a_failure_and_what_led_to_it(make: Make) -> None:
    dr = make(builder(module(FLOW))).build()
    with pytest.raises(ValueError, match="-4"):
        dr.execute(["bad"], inputs={"x": 1})
    run = last(dr)
    events = by_node(run)
    assert events.pop("bad")[0] == "failed"
    assert {event.outcome for event in events.values()} == {"computed"}
    assert (run.state, run.record.error) == ("failed", "ValueError")


@both
@pytest.mark.parametrize("behaviour", ["disable", "ignore", "recompute"])
def test_a_behaviour(make: Make, behaviour: str) -> None:
    flow = module(CHAIN)
    make(builder(flow)).build().execute(["c"], inputs={"x": 1})
    made = builder(flow)
    if make is with_stores:
        dr = with_kept(made, "store", **{behaviour: ["a"]}).build()
    else:
        dr = made.with_adapters(KeptAdapter("store", **{behaviour: ["a"]})).build()
    runs()
    dr.execute(["c"], inputs={"x": 1})
    ran = runs()
    found = {name: event.outcome for name, event in by_node(last(dr)).items()}
    assert found == {name: "computed" if name in ran else "hit" for name in ("a", "b", "c")}


@both
def test_kept_functions_that_a_node_calls_are_part_of_the_run(make: Make) -> None:
    dr = make(builder(module(FLOW))).build()
    with begin_run("around", cache=dr.cache.metadata_store.cache) as outer:
        dr.execute(["helped"], inputs={"x": 1})
    assert by_node(last(dr))["helper"].outcome == "computed"
    assert last(dr).record.outer == outer.id
    assert len(outer.events()) == 5


def test_a_bare_store_tells_of_what_was_computed_and_of_hits() -> None:
    flow = module(CHAIN)
    metadata = KeptMetadataStore("store")
    dr = (
        builder(flow)
        .with_cache(metadata_store=metadata, result_store=KeptResultStore("store"))
        .build()
    )
    for outcome in ("computed", "hit"):
        dr.execute(["c"], inputs={"x": 1})
        events = by_node(metadata.kept_run())
        assert [(name, event.outcome) for name, event in events.items()] == [
            ("a", outcome),
            ("b", outcome),
            ("c", outcome),
        ]
        assert all(event.seconds > 0 and event.code for event in events.values())
        assert events["c"].arguments == {"b": events["b"].result}
        assert [node["node_name"] for node in metadata.get_run(metadata.last_run_id)] == (
            ["a", "b", "c"] if outcome == "computed" else []
        )
    key = dr.cache.cache_keys[dr.cache.last_run_id]["c"]
    metadata.get(key)
    dr.cache.result_store.get(metadata.get(key))  # who looks by hand is no node
    dr.cache.result_store.delete(metadata.get(key))
    dr.execute(["c"], inputs={"x": 1})  # found, but its result is not
    outcomes = {name: event.outcome for name, event in by_node(metadata.kept_run()).items()}
    assert outcomes == {"a": "hit", "b": "hit", "c": "computed"}
    assert metadata.kept_run().state == "running"  # nobody says when it ends
    ids = metadata.get_run_ids()
    del metadata, dr
    gc.collect()
    again = KeptMetadataStore("store")
    assert [again.kept_run(name).state for name in ids] == ["done"] * 3
    text = str(again.kept_run(ids[0]).table())
    assert f"c(b=<{events['b'].result[:8]}>)" in text
    assert "cache_key" not in text


@both
def test_a_run_that_crashed_lost_no_result(make: Make) -> None:
    flow = module(CHAIN + "\ndef boom(c: int) -> int:\n    os._exit(7)\n", "crashing")
    pid = os.fork()
    if pid == 0:
        with contextlib.suppress(BaseException):
            make(builder(flow)).build().execute(["boom"], inputs={"x": 1})
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
    assert runs() == ["a", "b", "c"]
    dr = make(builder(flow)).build()
    assert last(dr).state == "crashed"
    dr.execute(["c"], inputs={"x": 1})
    assert runs() == []


def test_what_a_run_records_is_written_soon_by_itself() -> None:
    dr = with_stores(builder(module(CHAIN))).build()
    dr.execute(["c"], inputs={"x": 1})
    other = wellkept.open("store")  # that nobody here flushes
    notes = notes_of(other)
    (head,) = notes.keys(HEADS)

    def ended() -> bool:
        return b'"ended": null' not in (notes.get(head) or b"")

    import time

    deadline = time.monotonic() + 20
    while not ended() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert ended()
    assert KeptMetadataStore(other).get_last_run()


@pytest.mark.long
def test_what_a_worker_tells_is_written_before_it_goes_on() -> None:
    metadata = KeptMetadataStore("store")
    metadata.initialize("run")
    script = """
import os
from wellkept.integrations.hamilton import KeptMetadataStore
metadata = KeptMetadataStore("store")
metadata.set("key", "version", run_id="run", node_name="node", code_version="code")
os._exit(0)
"""
    subprocess.run([sys.executable, "-c", script], check=True)
    assert [node["node_name"] for node in metadata.get_run("run")] == ["node"]
    assert metadata.get_run_ids() == ["run"]


def test_the_end_of_a_run_waits_for_a_store_that_is_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    dr = with_adapter(builder(module(CHAIN))).build()
    store = type(dr.cache.kept.backend.notes)
    real = store.put_many

    def refuse(self: Any, items: Any) -> None:
        if any(key.startswith(EVENTS) for key in items):
            raise wellkept.StoreError("busy")
        real(self, items)

    with monkeypatch.context() as patch:
        patch.setattr(store, "put_many", refuse)
        dr.execute(["c"], inputs={"x": 1})
        with pytest.warns(wellkept.KeptWarning, match="busy"):
            ending.finish()
    run = last(dr)
    assert (run.state, len(run.events())) == ("done", 3)


def with_bare_stores(made: driver.Builder) -> driver.Builder:
    return made.with_cache(
        metadata_store=KeptMetadataStore("store"), result_store=KeptResultStore("store")
    )


def edges(graph: wellkept.Graph) -> set[tuple[str, str]]:
    def name(node: str) -> str:
        return graph.nodes[node].function.rpartition(":")[2]

    return {(name(edge.source), name(edge.target)) for edge in graph.edges}


@pytest.mark.parametrize("make", [with_stores, with_adapter, with_bare_stores])
def test_lineage_shows_nodes(make: Make) -> None:
    flow = module(
        "def a(x: int) -> list:\n    return [x, 'a']\n"
        "def b(a: list) -> list:\n    return [*a, 'b']\n"
        "def c(a: list, b: list) -> list:\n    return [*a, *b]\n"
    )
    make(builder(flow)).build().execute(["c"], inputs={"x": 1})
    expected = {("a", "b"), ("a", "c"), ("b", "c")}
    with wellkept.open("store") as cache, wellkept.use(cache):
        graph = wellkept.lineage([1, "a", "b"])  # by the value that a node gave
        assert edges(graph) == expected
        (focus,) = graph.focus
        assert graph.nodes[focus].function.rpartition(":")[2] == "b"
        assert edges(wellkept.lineage(focus)) == expected
        assert edges(wellkept.lineage(focus, up=0)) == {("b", "c")}
        assert "cache_key" not in str(graph)

        after = wellkept.keep(name="after", version=1)(len)
        after([1, "a", "b"])  # what a kept function made of it
        assert ("b", "after") in edges(wellkept.lineage([1, "a"], down=2))
        run = wellkept.runs()[0]
        assert edges(run.graph()) == expected
        assert {node.outcome for node in run.graph().nodes.values()} == {"computed"}


def test_the_graph_of_a_run_of_tasks() -> None:
    dr = (
        driver.Builder()
        .with_modules(tasks)
        .with_adapters(KeptAdapter("store"))
        .enable_dynamic_execution(allow_experimental_mode=True)
        .build()
    )
    dr.execute(["final"], inputs={"size": 2})
    found = edges(last(dr).graph())
    assert {("square", "described"), ("total", "final")} <= found
    assert any(target == "total" for _, target in found)  # what tasks gave, collected
