"""Kept functions in Ray, with two worker processes."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import wellkept
from wellkept import ConfigError, keep

if sys.version_info >= (3, 13):
    pytest.skip("Ray has no wheels for this Python", allow_module_level=True)
ray = pytest.importorskip("ray")

from wellkept.integrations import ray as on_ray  # noqa: E402  only where there is Ray

pytestmark = pytest.mark.long

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module", autouse=True)
def started() -> Iterator[None]:
    ray.init(
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        object_store_memory=200_000_000,
        runtime_env={"env_vars": {"PYTHONPATH": str(ROOT)}},
    )
    yield
    ray.shutdown()


def ran(where: str, what: Any = "x") -> None:
    with Path(where).open("a") as file:
        file.write(f"{what}\n")


@keep(ignore="where")
def triple(x: Any, where: str = "") -> tuple[Any, int]:
    if where:
        ran(where, x)
    return x * 3, os.getpid()


@keep(ignore="where")
def array(n: int, where: str = "") -> np.ndarray[Any, Any]:
    if where:
        ran(where, n)
    return np.full(1_000_000, n)


@keep
def total(a: np.ndarray[Any, Any], by: int = 1) -> int:
    return int(a.sum()) * by


@keep
def outer(x: int) -> int:
    return inner(x) + 1


@keep
def inner(x: int) -> int:
    return x * 10


@keep(errors=ValueError)
def fails(x: int) -> int:
    raise ValueError(x)


class Grid:
    def __init__(self, n: int) -> None:
        self.n = n

    def __digest__(self) -> int:
        return self.n

    @keep(ignore="where")
    def cell(self, i: int, where: str = "") -> int:
        if where:
            ran(where, i)
        return self.n * i

    @keep
    async def later(self, i: int) -> int:
        return self.n + i

    def plain(self) -> tuple[int, int]:
        return self.n, os.getpid()


def test_tasks(home: Path) -> None:
    where = str(home / "ran")
    with wellkept.use("./here"):
        mine = triple(1)
        task = on_ray.remote(triple, num_cpus=1)
        first, again = task.remote(2, where=where), task.remote(2, where=where)
        assert first == again  # one task, while it is under way
        assert ray.get(task.remote(1)) == mine
        value, process = ray.get(first)
        assert (value, process != os.getpid()) == (6, True)
        assert triple(2) == (value, process)
        assert ray.get(task.remote(2, where=where)) == (value, process)
        assert [found for found, _ in ray.get(task.map(range(4)))] == [0, 3, 6, 9]
        assert Path(where).read_text() == "2\n"
        with pytest.raises(TypeError):
            task.remote()
        assert triple.forget(2)
        ray.get(task.remote(2, where=where))
        assert Path(where).read_text() == "2\n2\n"
    assert not (home / "cache").exists()


def test_large_results_go_once(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    where = str(home / "ran")
    with wellkept.use("./here"):
        make, add = on_ray.remote(array), on_ray.remote(total)
        reference = make.remote(3, where=where)
        # The reference is passed on: the value goes from worker to worker.
        assert ray.get(add.remote(reference)) == 3_000_000
        assert ray.get([add.remote(reference, by=by) for by in (1, 2)]) == [3_000_000, 6_000_000]
        assert make.remote(3) == reference  # kept, and still in the object store
        assert total.contains(array(3))
        assert Path(where).read_text() == "3\n"
        big = np.ones(1_000_000)
        put: list[Any] = []
        real = ray.put
        monkeypatch.setattr(ray, "put", lambda value: put.append(value) or real(value))
        assert ray.get(add.map([big] * 8, range(8))) == [1_000_000 * by for by in range(8)]
        assert sum(value is big for value in put) == 1
        assert sum(type(value) is int for value in put) == 0  # misses: their tasks put them


def test_failures() -> None:
    with wellkept.use("./here"):
        task = on_ray.remote(fails, max_retries=0)
        for _ in range(2):
            with pytest.raises(ValueError, match="5"):
                ray.get(task.remote(5))
        assert fails.contains(5)


def test_nested_calls_and_the_run() -> None:
    with wellkept.use("./here"):
        with wellkept.run("sweep") as run:
            assert ray.get(on_ray.remote(outer).remote(3)) == 31
        assert inner.contains(3)
        assert sum(event.outcome == "computed" for event in run.events()) == 2


def test_actors(home: Path) -> None:
    where = str(home / "ran")
    with wellkept.use("./here"):
        actor = on_ray.actor(Grid, num_cpus=0).remote(4)
        n, process = ray.get(actor.plain.remote())
        assert (n, process != os.getpid()) == (4, True)
        assert ray.get([actor.cell.remote(2, where) for _ in range(3)]) == [8] * 3
        assert ray.get(actor.later.remote(2)) == 6
        assert Grid(4).cell(2, where) == 8
        assert Path(where).read_text() == "2\n"
        assert Grid(4).cell(5, where) == 20
        assert ray.get(actor.cell.remote(5, where)) == 20
        assert Path(where).read_text() == "2\n5\n"
        other = on_ray.actor(Grid).remote(4)
        assert ray.get(other.cell.remote(5, where)) == 20
        assert ray.get(on_ray.remote(Grid(4).cell).remote(5)) == 20
        assert Path(where).read_text() == "2\n5\n"


def test_an_executor(home: Path) -> None:
    where = str(home / "ran")
    with wellkept.use("./here"), on_ray.executor(num_cpus=1) as pool:
        futures = [pool.submit(triple, i % 3, where=where) for i in range(6)]
        assert [future.result(60)[0] for future in futures] == [0, 3, 6] * 2
        assert sorted(Path(where).read_text().split()) == ["0", "1", "2"]
        assert triple(1)[1] != os.getpid()
        assert array.submit(pool, 2).result().sum() == 2_000_000
        with pytest.raises(ValueError, match="7"):
            fails.submit(pool, 7).result()
        assert isinstance(fails.submit(pool, 7).exception(), ValueError)
        assert pool.submit(abs, -1).result() == 1
    with pytest.raises(RuntimeError):
        pool.submit(triple, 1)


def test_a_cache_that_workers_can_t_share() -> None:
    with wellkept.use("memory:"):
        with pytest.raises(ConfigError, match="memory of this process"):
            on_ray.remote(triple)
        assert triple.map([1, 2], executor=on_ray.executor())[1][0] == 6
        assert triple.contains(2)
    with pytest.raises(ConfigError, match="not a kept function"):
        on_ray.remote(abs)  # type: ignore[arg-type]  # bad input
