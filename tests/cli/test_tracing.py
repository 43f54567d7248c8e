"""`wellkept runs` and `wellkept lineage`: tables that fit, JSON, graphs, and what goes wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import wellkept
from wellkept.cli.app import run

Shell = Callable[..., Any]
LONG = "from the far and cold north of the whole continent, and further than that"


@wellkept.keep(name="mill:grind", version=1)
def grind(grain: str) -> list[str]:
    return [grain, "flour"]


@wellkept.keep(name="mill:bake", version=1)
def bake(flour: list[str], minutes: int = 40) -> list[Any]:
    return [*flour, minutes]


@pytest.fixture(autouse=True)
def filled(home: Path) -> None:
    with wellkept.open(home / "cache") as cache, wellkept.use(cache):
        with wellkept.run("monday", tags={"oven": 1, "by": "me"}):
            bake(grind(LONG)), bake(grind(LONG))
        with wellkept.run("tuesday", tags={"oven": 2}):
            bake(grind(LONG), 50), grind("rye")


@pytest.fixture
def shell(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Shell:
    monkeypatch.setenv("COLUMNS", "80")

    def command(*arguments: str, code: int = 0) -> Any:
        got = run(list(arguments))
        out, err = capsys.readouterr()
        assert got == code, (out, err)
        assert "Traceback" not in err
        if "--json" in arguments:
            return json.loads(out)
        if "--format" not in arguments:
            assert max(map(len, out.splitlines()), default=0) <= 80
        return out + err

    return command


def test_runs_are_listed(shell: Shell) -> None:
    lines = shell("runs").splitlines()
    assert lines[0].split() == [
        "id",
        "name",
        "state",
        "hits",
        "computed",
        "failed",
        "took",
        "saved",
    ]
    assert [line.split()[1:5] for line in lines[1:]] == [
        ["tuesday", "done", "1", "2"],
        ["monday", "done", "2", "2"],
    ]
    found = shell("runs", "--json")
    assert (found["total"], [one["name"] for one in found["runs"]]) == (2, ["tuesday", "monday"])
    assert found["runs"][1]["tags"] == {"oven": 1, "by": "me"}
    for said in (["--name", "mon*"], ["--tag", "oven=1"], ["--tag", "by=me", "--tag", "oven=1"]):
        assert [one["name"] for one in shell("runs", *said, "--json")["runs"]] == ["monday"]
    assert len(shell("runs", "--limit", "1", "--json")["runs"]) == 1
    assert "1 more" in shell("runs", "--limit", "1")


def test_one_run_is_shown(shell: Shell) -> None:
    text = shell("runs", "monday")
    assert "grind(grain='from the far" in text
    assert "…" in text
    found = shell("runs", "mond", "--json")
    assert (found["run"]["name"], found["run"]["hits"], found["total"]) == ("monday", 2, 4)
    assert [(one["function"], one["outcome"]) for one in found["calls"]] == [
        ("mill:grind", "computed"),
        ("mill:bake", "computed"),
        ("mill:grind", "hit"),
        ("mill:bake", "hit"),
    ]
    assert shell("runs", found["run"]["id"], "--json") == found
    functions = shell("runs", "monday", "--functions", "--json")["functions"]
    assert {one["function"]: one["hits"] for one in functions} == {"mill:grind": 1, "mill:bake": 1}
    assert "└─ as flour: bake(" in shell("runs", "monday", "--graph", "tree")
    assert len(shell("runs", "monday", "--graph", "dot", "--json")["nodes"]) == 2


def test_two_runs_are_compared(shell: Shell) -> None:
    found = shell("runs", "tuesday", "--compare", "monday", "--json")
    assert sorted(one["kind"] for one in found["calls"]) == ["gone", "new", "new", "reused"]
    assert shell("runs", "tuesday", "--compare", "monday").splitlines()[-1] == (
        "2 new, 1 reused, 1 gone"
    )


def test_runs_are_forgotten(shell: Shell) -> None:
    assert shell("runs", "--forget", "--older", "1h", "--yes") == "forgot 0 runs\n"
    assert shell("runs", "monday", "--forget", "--yes") == "forgot 1 run\n"
    assert len(shell("runs", "--name", "tue*", "--forget", "--yes", "--json")["runs"]) == 1
    assert shell("runs").startswith("no runs in ")
    assert shell("runs", "--json")["runs"] == []
    assert shell("ls", "mill:grind", "--json")["total"] == 2


def test_a_lineage(shell: Shell, home: Path) -> None:
    with wellkept.use(wellkept.open(home / "cache")) as cache:
        key, flour = str(bake.key(grind.load(LONG))), str(wellkept.digest(grind.load(LONG)))
        cache.close()
    text = shell("lineage", key[:10])
    assert "came from" in text
    assert "└─ flour: grind(grain='from" in text
    found = shell("lineage", flour, "--json")
    assert len(found["nodes"]) == 3
    assert len(found["focus"]) == 1
    assert found["edges"][0]["name"] == "flour"
    assert len(shell("lineage", flour, "--down", "0", "--json")["nodes"]) == 1
    assert len(shell("lineage", key, "--up", "0", "--json")["nodes"]) == 1
    assert shell("lineage", flour, "--limit", "1", "--json")["cut"]
    assert shell("lineage", key, "--format", "dot").startswith("digraph kept {")
    assert shell("lineage", key, "--format", "mermaid").startswith("flowchart LR")
    assert shell("lineage", key, "--format", "svg").startswith("<svg ")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["runs", "sunday"], 1, "no run 'sunday' is known"),
        (["runs", "2"], 2, "fits several runs"),
        (["runs", "--functions"], 2, "which run?"),
        (["runs", "--compare", "monday"], 2, "which run?"),
        (["runs", "--older", "1h"], 2, "--forget"),
        (["runs", "--forget", "--yes"], 2, "which runs?"),
        (["runs", "--tag", "oven"], 2, "is not NAME=VALUE"),
        (["runs", "monday", "--compare", "sunday"], 1, "no run 'sunday' is known"),
        (["lineage", "f" * 64], 1, "no call or value ffff"),
        (["lineage", "feed0123"], 1, "no call or value feed0123 is kept in"),
        (["lineage", "xyz"], 1, "no function xyz has calls"),
        (["lineage", "abc"], 1, "no function abc has calls"),
        (["lineage", "abcd", "--format", "png"], 2, "'png'"),
        (["lineage", "abcd", "--limit", "0"], 2, "--limit"),
    ],
)
def test_what_goes_wrong(shell: Shell, arguments: list[str], code: int, message: str) -> None:
    said = shell(*arguments, code=code)
    assert message in said
    assert said.startswith("wellkept: ")
    assert len(said.splitlines()) == 1
