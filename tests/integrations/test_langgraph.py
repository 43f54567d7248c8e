"""The cache of LangGraph's nodes."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import wellkept

pytest.importorskip("langgraph.cache.base")

from wellkept.integrations.langgraph import KeptCache


@pytest.fixture(params=["memory:", "directory"])
def cache(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    where = request.param if request.param == "memory:" else str(tmp_path / "cache")
    with wellkept.open(where) as found:
        yield found


def test_what_is_set_is_got_until_its_ttl_has_passed(cache: Any) -> None:
    kept: KeptCache[Any] = KeptCache(cache)
    one, other = (("a", "b"), "k"), (("a",), 'b","k')
    value = {"text": "ü", "set": {1, 2}, "bytes": b"\0"}
    kept.set({one: (value, 100), other: ([2], None), (("a",), "gone"): (3, 0)})
    assert KeptCache[Any](cache).get([one, other, (("a",), "gone")]) == {one: value, other: [2]}
    assert KeptCache[Any](cache, scope="x").get([one]) == {}
    kept._store.service.entries.ahead = 101.0
    assert kept.get([one, other]) == {other: [2]}


def test_a_namespace_is_cleared_alone(cache: Any) -> None:
    kept: KeptCache[Any] = KeptCache(cache)
    keys = [(("a",), "1"), (("a",), "2"), (("a", "b"), "1"), (("a" * 1000,), "k" * 2000), ((), "1")]

    async def go() -> None:
        await kept.aset({key: (i, None) for i, key in enumerate(keys)})
        assert await kept.aget(keys) == {key: i for i, key in enumerate(keys)}
        await kept.aclear([("a",)])
        assert set(await kept.aget(keys)) == set(keys[2:])
        await kept.aclear([("a" * 1000,), ("none",)])
        assert set(await kept.aget(keys)) == {keys[2], keys[4]}
        await kept.aclear()
        assert await kept.aget(keys) == {}

    asyncio.run(go())


def test_a_failure_of_the_cache_is_one_warning(cache: Any) -> None:
    kept: KeptCache[Any] = KeptCache(cache)
    with pytest.warns(wellkept.KeptWarning, match="not cached") as told:
        kept.set({((), "a"): (object(), None), ((), "b"): (object(), None)})
    assert len(told) == 1
    again: KeptCache[Any] = KeptCache(cache)
    again._store["[]/a"] = {1, 2}  # no JSON: it is not unpickled
    again._store["[]/b"] = ["msgpack", "none"]
    with pytest.warns(wellkept.KeptWarning, match="can't read"):
        assert again.get([((), "a"), ((), "b")]) == {}


def test_a_node_runs_once_in_all_processes(cache: Any) -> None:
    graph = pytest.importorskip("langgraph.graph")
    policy = pytest.importorskip("langgraph.types").CachePolicy
    ran: Counter[int] = Counter()

    def square(state: dict[str, int]) -> dict[str, int]:
        ran[state["x"]] += 1
        return {"y": state["x"] ** 2}

    def compiled() -> Any:
        builder = graph.StateGraph(dict)
        builder.add_node("square", square, cache_policy=policy(ttl=60))
        builder.add_edge(graph.START, "square")
        builder.add_edge("square", graph.END)
        return builder.compile(cache=KeptCache(cache))

    assert compiled().invoke({"x": 3})["y"] == 9
    assert compiled().invoke({"x": 3})["y"] == 9
    assert asyncio.run(compiled().ainvoke({"x": 4}))["y"] == 16
    assert ran == {3: 1, 4: 1}
