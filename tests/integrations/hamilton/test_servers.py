"""Flows over the servers that teams share."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hamilton import driver
from hamilton.execution.executors import MultiProcessingExecutor
from tests.integrations.hamilton import tasks
from tests.integrations.hamilton.flows import builder, module, runs

import wellkept
from wellkept.integrations.hamilton import KeptAdapter, with_kept
from wellkept.integrations.hamilton.run_history import ending

FLOW = """
def a(x: int) -> int:
    ran("a")
    return x + 1

@cache(format="parquet")
def table(a: int) -> pd.DataFrame:
    ran("table")
    return pd.DataFrame({"a": range(a * 10_000)})

def rows(table: pd.DataFrame) -> int:
    ran("rows")
    return len(table)
"""


@pytest.fixture(
    params=[
        *("redis", "s3"),
        *(pytest.param(name, marks=pytest.mark.long) for name in ("postgresql", "mariadb")),
    ]
)
def cache(request: pytest.FixtureRequest, home: Path) -> Iterator[wellkept.Cache]:
    if request.param == "s3":
        made = wellkept.open(
            f"s3://{request.getfixturevalue('s3_bucket')}/wellkept",
            endpoint=request.getfixturevalue("s3_url"),
            region="us-east-1",
            access_key_id="test",
            secret_access_key="test",
        )
    else:
        made = wellkept.open(request.getfixturevalue(f"{request.param}_url"))
    with made:
        yield made
        ending.finish()  # before the server's database goes


def test_stores(cache: wellkept.Cache) -> None:
    flow = module(FLOW)
    for expected in (["a", "rows", "table"], []):
        dr = with_kept(builder(flow), cache).build()
        assert dr.execute(["rows"], inputs={"x": 1}) == {"rows": 20_000}
        assert runs() == expected
    metadata: Any = dr.cache.metadata_store
    first, second = metadata.get_run_ids()
    assert [node["node_name"] for node in metadata.get_run(first)] == ["a", "table", "rows"]
    assert [event.outcome for event in metadata.kept_run(second).events()] == ["hit"] * 3
    dr.cache.result_store.delete_all()
    metadata.delete_all()
    assert (metadata.size, metadata.get_run_ids()) == (0, [])


def test_the_adapter_in_processes(cache: wellkept.Cache) -> None:
    inside = ["described"] * 3 + ["square"] * 3
    # Forked processes can't use an object store: they compute, and keep nothing.
    again = inside if str(cache.url).startswith("s3:") else []
    for expected in (["count", *inside, "final", "total"], again):
        dr = (
            driver.Builder()
            .with_modules(tasks)
            .with_adapters(KeptAdapter(cache))
            .enable_dynamic_execution(allow_experimental_mode=True)
            .with_remote_executor(MultiProcessingExecutor(max_tasks=2))
            .build()
        )
        assert dr.execute(["final"], inputs={"size": 3}) == {"final": 6}
        assert runs() == sorted(expected)
