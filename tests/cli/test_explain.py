"""`wellkept explain`: a key, a function, JSON, a narrow terminal, and what goes wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import wellkept
from wellkept.cli.app import run

Shell = Callable[..., Any]


@wellkept.keep(name="weather:report", version=1, arguments="scalars")
def report(day: int, place: str = "Rome", mesh: Any = None) -> list[Any]:
    return [day, place]


@wellkept.keep(name="weather:report", version=2)
def again(day: int, place: str = "Rome", mesh: Any = None) -> list[Any]:
    return [place, day]


@pytest.fixture(autouse=True)
def cache(home: Path) -> Any:
    with wellkept.open(home / "cache") as cache, wellkept.use(cache):
        report(1), report(2), report(2, "Oslo", {"dtype": "float32"})
        report(2, "Oslo", {"dtype": "float64"}), again(1)
        cache.flush()
        yield cache


@pytest.fixture
def shell(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Shell:
    monkeypatch.setenv("COLUMNS", "80")

    def command(*arguments: str, code: int = 0) -> Any:
        got = run(["explain", *arguments])
        out, err = capsys.readouterr()
        assert got == code, (out, err)
        assert "Traceback" not in err
        return json.loads(out) if "--json" in arguments else out + err

    return command


def test_a_function(shell: Shell) -> None:
    said = shell("report")
    lines = said.splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[0].split() == ["key", "call", "now", "computed", "because"], "what fits"
    assert "version 1 -> 2" in lines[1]
    assert """mesh["dtype"]: 'fl""" in lines[2]
    assert "day: 1 -> 2" in lines[4]
    assert "first call" in lines[5]
    assert len(shell("weather:report", "--limit", "2").splitlines()) == 4
    calls = shell("wea*", "--json")["calls"]
    assert [call["outcome"] for call in calls] == ["kept"] * 5
    assert calls[1]["causes"][0]["differences"][0]["after"] == "'float64'"


def test_a_function_with_arguments(shell: Shell) -> None:
    assert "a hit" in shell("report", "--arg", "day=2", "--arg", "place=Rome")
    assert len(shell("report", "--arg", "day=2", "--json")["calls"]) == 3
    assert "there are day, place, mesh" in shell("report", "--arg", "dya=2", code=2)


def test_a_key(shell: Shell, cache: wellkept.Cache) -> None:
    key = report.key(2, "Oslo", {"dtype": "float64"})
    said = shell(key[:12])
    assert "report(day=2, place='Oslo', mesh=<" in said
    assert "a hit" in said
    assert """arguments["mesh"]["dtype"]: 'float32' -> 'float64'""" in said
    data = shell(key, "--json")
    assert (data["outcome"], data["computed"][0]["kind"]) == ("hit", "arguments")


def test_what_has_become_of_a_call(shell: Shell, cache: wellkept.Cache) -> None:
    key = report.key(1)
    call = report.call(1)
    cache.calls.put(key, call.replace(expires=call.created))
    assert shell(key, "--json")["causes"][0]["kind"] == "expired"
    assert "expired" in shell("report")
    assert "a miss" in shell(key)
    cache.evict(keys=[key])
    data = shell(key, "--json")
    assert (data["outcome"], data["causes"][0]["kind"]) == ("miss", "evicted")
    assert "record and all" in shell(key)


def test_nothing_is_written(shell: Shell, cache: wellkept.Cache) -> None:
    before = {key: cache.backend.notes.get(key) for key in cache.backend.notes.keys("")}
    shell("report"), shell(report.key(1))
    assert {key: cache.backend.notes.get(key) for key in cache.backend.notes.keys("")} == before
    assert report.call(1).uses == 0


def test_what_is_not_there(shell: Shell) -> None:
    assert "no function nonesuch has calls" in shell("nonesuch", code=1)
    assert "nothing that begins with beef" in shell("beef", code=1)
    assert "nor known to have been evicted" in shell("0" * 64, code=1)


def test_beginnings_that_fit_several(shell: Shell) -> None:
    seen: dict[str, int] = {}
    n = 10
    while (prefix := report.key(n)[:4]) not in seen:
        seen[prefix] = n
        n += 1
    report(n), report(seen[prefix])
    assert "fits several" in shell(prefix, code=2)
