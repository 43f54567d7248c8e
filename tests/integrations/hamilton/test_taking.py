"""A `.hamilton_cache` is taken over, and its nodes are not computed again."""

import json
from pathlib import Path
from typing import Any

import pytest
from tests.integrations.hamilton.flows import CHAIN, builder, module, runs

import wellkept
from wellkept.cli.app import run
from wellkept.errors import NotKept, StoreError, UntrustedSource
from wellkept.integrations.hamilton import Taken, take_over, with_kept

FLOW = (
    CHAIN
    + """
@cache(format="json")
def told(c: int) -> dict:
    ran("told")
    return {"c": c}
"""
)


@pytest.fixture
def flow() -> Any:
    """A flow that Hamilton's own stores have kept twice, with other inputs."""
    made = module(FLOW)
    Path(".hamilton_cache").mkdir(mode=0o700)
    dr = builder(made).with_cache().build()
    for x in (1, 2):
        dr.execute(["told"], inputs={"x": x})
    assert len(runs()) == 8
    made.theirs = dr.cache.metadata_store
    return made


def test_nothing_is_computed_again(flow: Any) -> None:
    before = sorted((path.name, path.read_bytes()) for path in Path(".hamilton_cache").iterdir())
    assert take_over(".hamilton_cache", "store") == Taken(nodes=8, results=8, runs=2)
    dr = with_kept(builder(flow), "store").build()
    for x in (1, 2):
        assert dr.execute(["told"], inputs={"x": x}) == {"told": {"c": -2 * (x + 1)}}
    assert runs() == []
    ours = dr.cache.metadata_store
    ids = flow.theirs.get_run_ids()
    assert ours.get_run_ids()[:2] == ids
    assert ours.get_run(ids[0]) == flow.theirs.get_run(ids[0])
    after = sorted((path.name, path.read_bytes()) for path in Path(".hamilton_cache").iterdir())
    assert after == before


def test_formats_stay_formats_where_the_directory_was_moved(flow: Any) -> None:
    Path(".hamilton_cache").rename("elsewhere")
    take_over("elsewhere", "store")
    files = sorted(Path("store/formats").glob("*.json"))
    assert sorted(json.loads(file.read_text())["c"] for file in files) == [-6, -4]
    store = with_kept(builder(flow), "store").build().cache.result_store
    assert store.get(files[0].stem) == json.loads(files[0].read_text())


def test_a_second_time_finds_all_there(flow: Any) -> None:
    take_over(".hamilton_cache", "store")
    assert take_over(".hamilton_cache", "store") == Taken(same=18)


def test_a_dry_run_writes_nothing(flow: Any) -> None:
    with wellkept.open("store") as cache:
        assert take_over(".hamilton_cache", cache, dry_run=True) == Taken(8, 8, 2)
        assert not list(cache.calls.keys())


def test_what_is_missing_or_damaged_is_computed_again(flow: Any) -> None:
    found = sorted(path for path in Path(".hamilton_cache").iterdir() if not path.suffix)
    found[0].unlink()
    found[1].write_bytes(b"garbage")
    done = take_over(".hamilton_cache", "store")
    assert (done.nodes, done.results, done.skipped) == (8, 6, 2)
    dr = with_kept(builder(flow), "store").build()
    for x in (1, 2):
        assert dr.execute(["told"], inputs={"x": x}) == {"told": {"c": -2 * (x + 1)}}
    assert runs()


def test_what_is_no_cache_of_hamilton(flow: Any) -> None:
    for path in ("nowhere", "."):
        with pytest.raises(NotKept, match=r"metadata_store\.db"):
            take_over(path, "store")
    assert not Path("nowhere").exists()
    Path("other").mkdir(mode=0o700)
    Path("other/metadata_store.db").write_bytes(b"no database" * 1000)
    with pytest.raises(StoreError, match="metadata_store"):
        take_over("other", "store")


def test_a_directory_that_others_write_to_is_refused(flow: Any) -> None:
    Path(".hamilton_cache").chmod(0o777)
    with pytest.raises(UntrustedSource, match="others can write"):
        take_over(".hamilton_cache", "store")
    assert take_over(".hamilton_cache", "store", trust=True).results == 8


def test_the_command(flow: Any, capsys: pytest.CaptureFixture[str]) -> None:
    where = ["import", "hamilton", ".hamilton_cache", "--cache", "./store"]
    assert run([*where, "--dry-run"]) == 0
    assert "would take 8 nodes, 8 results and 2 runs" in capsys.readouterr().out
    assert run(where) == 0
    assert capsys.readouterr().out.startswith("took 8 nodes, 8 results and 2 runs: ")
    assert run([*where, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["same"] == 18
    assert run(["import", "hamilton", "nowhere", "--cache", "./store"]) == 1
    assert "no cache of Hamilton" in capsys.readouterr().err
