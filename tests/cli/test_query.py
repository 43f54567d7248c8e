"""`wellkept query`: filters, order, limit, a table that fits, JSON, and what goes wrong."""

from __future__ import annotations

import csv
import datetime
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import wellkept
from wellkept.cli.app import run

Shell = Callable[..., Any]


@wellkept.keep(name="weather:report", version=1)
def report(day: int, place: str = "Rome", data: Any = None) -> dict[str, Any]:
    return {"day": day, "place": place}


@wellkept.keep(name="weather:fail", version=2, errors=ValueError)
def fail(day: int) -> None:
    raise ValueError(day)


@pytest.fixture(autouse=True)
def filled(home: Path) -> None:
    with wellkept.open(home / "cache") as cache, wellkept.use(cache):
        for day in range(8):
            report(day, "Rome" if day % 2 else "Oslo, in the far and cold north of the continent")
        report(9, "5"), report(1.5, "Rome", [1, 2])
        report(9, "5")
        with pytest.raises(ValueError, match="1"):
            fail(1)
        call = report.call(3, "Rome")
        said = {"run": "r1", "tags": {"for": "paper", "n": 1}, "git": {"commit": "abc"}}
        cache.calls.put(call.key, call.replace(metadata=said))


@pytest.fixture
def shell(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Shell:
    monkeypatch.setenv("COLUMNS", "60")

    def command(*arguments: str, code: int = 0) -> Any:
        got = run(["query", *arguments])
        out, err = capsys.readouterr()
        assert got == code, (out, err)
        assert "Traceback" not in err
        if "--json" in arguments:
            return json.loads(out)
        assert max(map(len, out.splitlines()), default=0) <= 60
        return out + err

    return command


def days(found: Any) -> list[Any]:
    return [call["arguments"]["day"]["value"] for call in found["calls"]]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["report", "-a", "day=3"], [3]),
        (["report", "-a", "day=2..4"], [4, 3, 2]),
        (["report", "-a", "day=1..2"], [1.5, 2, 1]),
        (["report", "-a", "day>=6"], [9, 7, 6]),
        (["report", "-a", "day>6", "-a", "place=Rome"], [7]),
        (["report", "-a", "day<1"], [0]),
        (["report", "-a", "day<=1"], [1, 0]),
        (["report", "-a", 'place="5"'], [9]),
        (["report", "-a", "place=5"], []),
        (["report", "-a", "data=[1, 2]"], [1.5]),
        (["report", "-a", f"data=@{wellkept.digest([1, 2])[:12]}"], [1.5]),
        (["report", "-a", "data=null", "-a", "day=9"], [9]),
        (["report", "-a", "data", "--limit", "2"], [1.5, 9]),
        (["report", "--order", "day", "--limit", "3"], [0, 1, 1.5]),
        (["report", "--order", "-day", "--limit", "2"], [9, 7]),
        (["w*:rep*", "--limit", "1"], [1.5]),
        (["--state", "failed"], [1]),
        (["--module", "weather", "--version", "2"], [1]),
        (["--run", "r1"], [3]),
        (["--tag", "for=paper"], [3]),
        (["--tag", "for"], [3]),
        (["--tag", "n=1"], [3]),
        (["--tag", "n=2"], []),
        (["--meta", "git.commit=abc"], [3]),
        (["--meta", "git"], [3]),
        (["--where", "uses>=1"], [9]),
        (["--where", "seconds>1000"], []),
        (["--since", "1h", "--until", "0 s", "--limit", "1"], [1]),
        (["--since", "2000-01-31", "--limit", "1"], [1]),
        (["--until", "2000-01-31"], []),
    ],
)
def test_filters(shell: Shell, arguments: list[str], expected: list[Any]) -> None:
    found = shell(*arguments, "--json")
    assert days(found) == expected
    assert found["total"] >= len(expected)


def test_keys_and_results(shell: Shell) -> None:
    key = report.key(3, "Rome")
    assert days(shell("--key", key[:10], "--json")) == [3]
    digest = wellkept.digest({"day": 3, "place": "Rome"})
    assert days(shell("--result", f"@{digest[:16]}", "--json")) == [3]
    assert days(shell("--result", '{"day": 3, "place": "Rome"}', "--json")) == [3]


def test_a_table_that_fits(shell: Shell) -> None:
    out = shell("report", "--limit", "4")
    assert out.splitlines()[0] == "weather:report"
    assert out.count("\n") == 7
    assert "6 more; --limit 0 lists all" in out
    assert "…" in out
    both = shell("--limit", "2")
    assert "fail(day=1)" in both
    assert "report(day=1.5" in both


def test_counts(shell: Shell) -> None:
    assert shell("--count") == "11\n"
    assert shell("report", "-a", "place=Rome", "--count") == "5\n"
    assert shell("--count", "--json")["total"] == 11


def test_none(shell: Shell) -> None:
    assert shell("report", "-a", "day=99").startswith("no call in ")
    assert shell("report", "-a", "day=99", "--json") | {"cache": ""} == {
        "cache": "",
        "total": 0,
        "calls": [],
    }


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["--state", "fine"], 2, "--state is one of"),
        (["--state=fine"], 2, "--state is one of"),
        (["--key", "xyz"], 2, "no digest"),
        (["-a", "=3"], 2, "NAME=VALUE"),
        (["-a", "day<[1]"], 2, "only numbers and texts are compared"),
        (["-a", "data>1"], 2, "data can't be compared"),
        (["--since", "lately"], 2, "--since: not a time: 'lately'; give a date"),
        (["--meta", "=3"], 2, "--meta: '=3' is not NAME=VALUE"),
        (["--where", "day=1"], 2, "of seconds, size, uses, created, used, expires; arguments are"),
        (["--where", "size"], 2, "say FIELD>VALUE"),
        (["--where", "size>abc"], 2, "size= is compared with a number, not with 'abc'"),
        (["--where", "size=abc"], 2, "--where 'size=abc'"),
        (["--where", "created>soon"], 2, "not a time"),
        (["--arg", "day=1.."], 2, "a range has two ends, such as 1..10; with one, say 'day>=1'"),
        (["--arg", "day=..3"], 2, "say 'day<=3'"),
        (
            ["-a", "dya=3"],
            2,
            "--arg dya: no such call has an argument of that name; there are day, pl",
        ),
        (["report", "-a", "dya"], 2, "there are day, place"),
        (["-a", "day>>3"], 2, "--arg: 'day>>3': there is no >>"),
        (["-a", "day==3"], 2, "there is no =="),
        (["--tag", "for>>a"], 2, "--tag: 'for>>a': there is no >>"),
        (
            ["--order", "dya"],
            2,
            "--order dya: no such call has an argument of that name; there are day",
        ),
        (["--order", "-dya"], 2, "fields are created, seconds"),
        (["--csv", "--json"], 2, "--csv goes without"),
        (["reprot"], 1, "no function reprot has calls"),
        (["reprot"], 1, "did you mean 'report'?"),
        (["--limit", "-1"], 2, "wellkept query --help"),
    ],
)
def test_mistakes(
    capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, says: str
) -> None:
    with wellkept.open("cache") as cache, wellkept.use(cache):
        cache.evict("fail")
    for call in report.query(data=None).calls():
        report.cache.calls.delete(call.key)
    assert run(["query", "--cache", "./cache", *arguments]) == code
    out, err = capsys.readouterr()
    assert out == "" or "--json" in arguments
    assert err.startswith("wellkept: ")
    assert err.count("\n") == 1
    assert says in err


def test_a_time_is_compared_with_a_date_or_an_age(shell: Shell) -> None:
    assert len(days(shell("--where", "created>1h", "--json"))) == 11
    assert days(shell("--where", "created<2020-01-31", "--json")) == []


def test_csv(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["query", "report", "--csv", "--order", "-day", "--limit", "2"]) == 0
    titles, first, second = csv.reader(io.StringIO(capsys.readouterr().out))
    assert titles[:5] == ["day", "place", "data", "key", "function"]
    assert (first[:2], second[0], first[3]) == (["9", "5"], "7", report.key(9, "5"))
    assert datetime.datetime.fromisoformat(first[titles.index("created")]).tzinfo is not None


def test_an_argument_may_be_text_that_looks_like_a_sign(shell: Shell) -> None:
    assert days(shell("report", "-a", 'place=">5"', "--json")) == []
    assert shell("--order", "day", "--json")["total"] == 11
