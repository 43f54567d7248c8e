"""Every engine that gives an executor, each with two worker processes of its own."""

import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

WORK = """
import os
from pathlib import Path
import numpy as np
from wellkept import keep

def ran(what):
    with open(os.environ["RAN"], "a") as file:
        file.write(f"{what}\\n")

@keep
def triple(x, by=3):
    ran(x)
    return x * by, os.getpid()

@keep
def array(n):
    ran("array")
    return np.full(100_000, n)

@keep(errors=ValueError)
def fails(x):
    ran(x)
    raise ValueError(x)
"""

RUN = """
import os, sys
from concurrent.futures import as_completed
import wellkept
from work import array, fails, triple

def check(inner, extra):
    mine = triple(0)
    with wellkept.executor(inner, **extra) as pool:
        futures = [pool.submit(triple, i % 4) for i in range(8)]
        found = [future.result(60) for future in futures]
        assert [value for value, _ in found] == [0, 3, 6, 9] * 2, found
        assert found[0] == mine
        assert found[1] == found[5]
        assert found[1][1] != os.getpid()
        assert triple(1) == found[1]  # kept where the caller looks
        large = pool.submit(array, 7).result(60)
        assert large.sum() == 700_000
        assert (array(7) == 7).all()
        try:
            pool.submit(fails, 5).result(60)
        except ValueError as error:
            assert error.args == (5,)
        else:
            raise AssertionError("it did not fail")
        assert isinstance(pool.submit(fails, 5).exception(), ValueError)
        assert len(list(as_completed(futures))) == 8
        assert [value for value, _ in triple.map(range(6), executor=pool)] == [0, 3, 6, 9, 12, 15]
    assert triple.stats().computed == 6, triple.stats()
    assert wellkept.open(os.environ["WELLKEPT_CACHE"]).query(triple).count() == 6
"""


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch, home: Path) -> Path:
    monkeypatch.setenv("RAN", str(home / "ran"))
    monkeypatch.setenv("PYTHONPATH", str(home))
    (home / "work.py").write_text(WORK)
    (home / "run.py").write_text(textwrap.dedent(RUN))
    return home


def run(script: Path, code: str, *before: str) -> None:
    (script / "main.py").write_text(f"from run import check\n{textwrap.dedent(code)}\n")
    command = [*before, sys.executable, *(["-m", "mpi4py.futures"] if before else []), "main.py"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=110)
    assert done.returncode == 0, done.stdout + done.stderr
    assert sorted((script / "ran").read_text().split()) == [
        "0",
        "1",
        "2",
        "3",
        "4",
        "5",
        "5",
        "array",
    ]


def test_loky(script: Path) -> None:
    pytest.importorskip("loky")
    run(
        script,
        """
        from loky import get_reusable_executor
        check(get_reusable_executor(2), {})
    """,
    )


@pytest.mark.long
def test_executorlib(script: Path) -> None:
    pytest.importorskip("executorlib")
    run(
        script,
        """
        from executorlib import SingleNodeExecutor
        check(SingleNodeExecutor(max_workers=2, block_allocation=True), {})
    """,
    )


@pytest.mark.long
def test_executorlib_with_resources(script: Path) -> None:
    pytest.importorskip("executorlib")
    run(
        script,
        """
        from executorlib import SingleNodeExecutor
        check(SingleNodeExecutor(max_workers=2), {"resource_dict": {"cores": 1}})
    """,
    )


@pytest.mark.long
def test_dask(script: Path) -> None:
    pytest.importorskip("distributed")
    run(
        script,
        """
        from distributed import Client, LocalCluster
        if __name__ == "__main__":
            with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
                with Client(cluster) as client:
                    check(client.get_executor(), {})
    """,
    )


@pytest.mark.long
def test_mpi(script: Path) -> None:
    pytest.importorskip("mpi4py")
    if shutil.which("mpirun") is None:
        pytest.skip("there is no mpirun")
    run(
        script,
        """
        from mpi4py.futures import MPIPoolExecutor
        if __name__ == "__main__":
            check(MPIPoolExecutor(2), {})
        """,
        "mpirun",
        "--allow-run-as-root",
        "--oversubscribe",
        "-n",
        "3",
    )
