"""Kept functions in Dask, on a cluster of two worker processes."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import wellkept
from wellkept import ConfigError, keep

dask = pytest.importorskip("dask")
distributed = pytest.importorskip("distributed")

from dask.base import tokenize  # noqa: E402  only where there is Dask

from wellkept.integrations import dask as on_dask  # noqa: E402  the same


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=None
    ) as made:
        yield made


@pytest.fixture
def client(cluster: Any) -> Iterator[Any]:
    with distributed.Client(cluster) as made:
        yield made


def ran(where: str) -> None:
    with Path(where).open("a") as file:
        file.write("x")


@keep(ignore="where")
def triple(x: Any, where: str = "") -> tuple[Any, int]:
    if where:
        ran(where)
    return x * 3, os.getpid()


@keep
def total(parts: list[tuple[int, int]]) -> int:
    return sum(part for part, _ in parts)


@keep
def of_array(a: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return a * 2


@keep
def outer(x: int) -> int:
    return inner(x) + 1


@keep
def inner(x: int) -> int:
    return x * 10


@keep
async def later(x: int) -> int:
    return x + 1


class Grid:
    def __init__(self, n: int) -> None:
        self.n = n

    def __digest__(self) -> int:
        return self.n

    @keep
    def cell(self, i: int) -> int:
        return self.n * i


def test_tokens_are_identities() -> None:
    def source(version: int) -> Any:
        return keep(version=version, name="f")(lambda x: x)

    assert tokenize(source(1)) == tokenize(source(1))
    assert tokenize(source(1)) != tokenize(source(2))
    assert tokenize(triple) != tokenize(outer)
    assert tokenize(Grid(1).cell) == tokenize(Grid(1).cell)
    assert tokenize(Grid(1).cell) != tokenize(Grid(2).cell)
    assert tokenize(triple.bind(1)) == tokenize(triple.bind(1))
    assert tokenize(triple.bind(1)) != tokenize(triple.bind(1.0))


def test_keys_agree() -> None:
    lazy = on_dask.delayed(triple)
    assert lazy(1).key == lazy(1, where="ignored").key == f"triple-{triple.key(1)}"
    assert lazy(1).key != lazy(1.0).key
    assert lazy(lazy(1)).key == lazy(lazy(1)).key  # of what is not there yet Dask's own
    assert on_dask.key(triple, 1) == lazy(1).key


def test_graphs_without_a_cluster(home: Path) -> None:
    with wellkept.use("./here") as cache:
        lazy = on_dask.delayed(triple)
        parts = [lazy(i, where=str(home / "ran")) for i in range(3)]
        done = on_dask.delayed(total)(parts)
    assert done.compute(scheduler="threads") == 9
    assert done.compute(scheduler="threads") == 9
    assert (home / "ran").read_text() == "xxx"
    assert {call.function.rpartition(":")[2] for call in cache.query()} == {"triple", "total"}


@pytest.mark.long
def test_a_graph(client: Any, home: Path) -> None:
    with wellkept.use("./here"):
        lazy = on_dask.delayed(triple)
        parts = [lazy(i, where=str(home / "ran")) for i in range(4)]
        done = on_dask.delayed(total)(parts)
        assert client.compute(done).result(90) == 18
        value, process = triple(2)
        assert (value, process != os.getpid()) == (6, True)
        assert client.compute(on_dask.delayed(total)(parts)).result(90) == 18
        assert (home / "ran").read_text() == "xxxx"
        assert total.contains([triple(i) for i in range(4)])
    assert not (home / "cache").exists()


@pytest.mark.long
def test_submit_and_map(client: Any, home: Path) -> None:
    with wellkept.use("./here"):
        first = on_dask.submit(client, triple, 5, where=str(home / "ran"))
        again = on_dask.submit(client, triple, 5)
        assert first.key == again.key == on_dask.key(triple, 5)
        many = on_dask.map(client, triple, range(4, 7), priority=3)
        assert many[1].key == first.key
        assert [value for value, _ in client.gather(many)] == [12, 15, 18]
        assert triple(5) == first.result(90)
        assert (home / "ran").read_text() == "x"
        chained = on_dask.submit(client, total, many)
        assert chained.result(90) == 45
        assert total.contains([future.result() for future in many])
        assert on_dask.map(client, triple, []) == []
        # An array that is in the cluster's memory does not come here to be named.
        array = client.submit(np.arange, 1000)
        assert on_dask.submit(client, of_array, array).result(90)[-1] == 1998
        assert of_array.contains(np.arange(1000))
        assert on_dask.submit(client, Grid(3).cell, 2).result(90) == 6
        assert Grid(3).cell.contains(2)
        assert on_dask.submit(client, later, 2).result(90) == 3


@pytest.mark.long
def test_a_cluster_that_uses_a_cache(client: Any, home: Path) -> None:
    on_dask.use(client, "./shared")
    try:
        assert client.submit(outer, 3).result(90) == 31
        assert client.gather(client.map(outer, range(3))) == [1, 11, 21]
        assert client.compute(dask.delayed(outer)(7)).result(90) == 71
        with wellkept.use("./shared") as cache:
            assert outer.contains(3)
            assert inner.contains(3)
            cache.flush()
            assert cache.query(outer).count() == 5
    finally:
        client.unregister_worker_plugin("wellkept")
    assert client.submit(outer, 4).result(90) == 41
    with wellkept.use("./shared"):
        assert not outer.contains(4)


@pytest.mark.long
def test_a_run_reaches_the_workers(client: Any) -> None:
    with wellkept.use("./here"):
        with wellkept.run("sweep") as run:
            client.gather(on_dask.map(client, outer, range(3)))
        assert len([event for event in run.events() if event.outcome == "computed"]) == 6


def test_a_cache_that_workers_can_t_share() -> None:
    with pytest.raises(ConfigError, match="memory of this process"):
        on_dask.use(None, wellkept.open("memory:"))  # type: ignore[arg-type]  # not asked


def test_what_is_not_kept() -> None:
    with pytest.raises(ConfigError, match="not a kept function"):
        on_dask.delayed(abs)  # type: ignore[arg-type]  # bad input
    assert on_dask.key(triple, object()) is None
