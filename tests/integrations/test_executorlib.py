"""wellkept's executors of executorlib, with two worker processes."""

import os
from pathlib import Path

import pytest

from wellkept import keep

pytest.importorskip("executorlib")

from wellkept.integrations import executorlib as kept_executorlib

pytestmark = pytest.mark.long
ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


@keep(ignore="where")
def triple(x: int, where: str = "") -> tuple[int, int]:
    if where:
        with Path(where).open("a") as file:
            file.write(f"{x}\n")
    return x * 3, os.getpid()


@keep
def add(pair: tuple[int, int], x: int = 1) -> int:
    return pair[0] + x


def test_a_sweep(home: Path) -> None:
    where = str(home / "ran")
    mine = triple(1)
    with kept_executorlib.SingleNodeExecutor(max_workers=2, block_allocation=True) as pool:
        futures = [pool.submit(triple, i % 3, where=where) for i in range(6)]
        sums = [pool.submit(add, future) for future in futures]
        assert [found.result(60) for found in sums] == [1, 4, 7] * 2
        assert futures[1].result() == mine
        assert futures[2].result()[1] != os.getpid()
    assert sorted(Path(where).read_text().split()) == ["0", "2"]
    assert add.contains(triple(2))


def test_resources_of_one_call() -> None:
    with kept_executorlib.SingleNodeExecutor(max_workers=2) as pool:
        assert pool.submit(triple, 4, resource_dict={"cores": 1}).result(60)[0] == 12
    assert triple.contains(4)


def test_names() -> None:
    assert "SlurmClusterExecutor" in kept_executorlib.__all__
    assert kept_executorlib.SingleNodeExecutor.__name__ == "SingleNodeExecutor"
    with pytest.raises(AttributeError, match="no attribute 'OtherExecutor'"):
        kept_executorlib.OtherExecutor
