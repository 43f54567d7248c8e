"""The misses of a run by cause, and two runs compared by it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.caches import places

import wellkept
from wellkept import keep
from wellkept.cli.app import run as command
from wellkept.records import Event
from wellkept.runs.causes import Miss, Why, grouped
from wellkept.runs.explain import Cause
from wellkept.runs.run import Run


def said(groups: Any) -> list[tuple[str, int]]:
    return sorted((one.label, one.calls) for one in groups)


def double(cache: wellkept.Cache, version: int, **options: Any) -> Any:
    return keep(cache=cache, name="lab:double", version=version, **options)(lambda x, lr=0.1: 2 * x)


@places.every
def test_misses_of_a_run_are_grouped_by_cause(
    kind: str, monkeypatch: pytest.MonkeyPatch, home: Path
) -> None:
    with places.new(kind, memory=0) as cache:
        with wellkept.run("one", cache=cache) as one:
            double(cache, 1).map(range(30))
        with wellkept.run("two", cache=cache) as two:
            again = double(cache, 2)
            again.map(range(29))
            again(3, 0.5)
        # Also on a busy machine.
        monkeypatch.setitem(Run.causes.__globals__, "_PATIENCE", 600.0)
        assert said(one.causes()) == [
            ("argument x of double", 19),
            ("first call of double", 1),
            ("more calls of double", 10),
        ]
        text = str(two.table(by="cause"))
        assert "version 1 -> 2" in text
        assert "computed: " in text.splitlines()[-1]
        with pytest.raises(wellkept.ConfigError, match="by='call', 'function' or 'cause'"):
            two.table(by="day")  # type: ignore[arg-type]  # as said


def test_of_many_calls_some_are_asked_evenly() -> None:
    asked: list[int] = []

    def miss(i: int, kind: str) -> Miss:
        def why() -> Cause:
            asked.append(i)
            return Cause(kind, f"it was {kind}")

        return Miss("lab:f", "code", str(i), 1.0, float(i), why)

    (group,), looked = grouped([miss(i, "expired") for i in range(1000)], 20)
    assert (group.label, group.calls, group.asked, group.seconds) == ("expired", 1000, 20, 1000)
    assert (looked, asked[:3]) == (20, [0, 50, 100])
    # Where reasons differ, none is taken for the others.
    groups, _ = grouped([miss(i, "expired" if i < 500 else "evicted") for i in range(1000)], 20)
    assert said(groups) == [("evicted", 10), ("expired", 10), ("more calls of f", 980)]


def test_runs_are_compared_by_cause(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with wellkept.open(home / "c", memory=0) as cache:
        with wellkept.run("one", cache=cache) as one:
            old = double(cache, 1)
            for x in range(5):
                old(x)
            old(9)
            short = keep(cache=cache, name="lab:short", version=1, ttl=1e-9)(lambda x: x)
            short(1)
        cache.evict(keys=[old.key(0)])
        with wellkept.run("two", cache=cache) as two:
            for x in range(3):
                old(x)
            double(cache, 2)(3)
            old(100)
            short(1)
            old.rerun(4)
        found = two.compare(one, by="cause")
        assert said(found.causes()) == [
            ("argument x of double", 1),
            ("evicted", 1),
            ("expired", 1),
            ("gone", 1),
            ("recomputed", 1),
            ("reused", 2),
            ("version 1 -> 2", 1),
        ]
        assert "version 1 -> 2" in str(found)
        assert "version 1 -&gt; 2" in found._repr_html_()
        assert "double(x=4" in str(two.compare(one))
        at = ["--cache", str(home / "c")]
        assert command(["runs", "two", "--compare", "one", "--by", "cause", "--json", *at]) == 0
        rows = json.loads(capsys.readouterr().out)["causes"]
        assert {row["label"]: row["calls"] for row in rows}["evicted"] == 1
        assert command(["runs", "two", "--by", "cause", *at]) == 0
        assert "version 1 -> 2" in capsys.readouterr().out
        assert command(["runs", "two", "--by", "cause", "--functions", *at]) == 2
        with pytest.raises(wellkept.ConfigError, match="by='call' or by='cause'"):
            two.compare(one, by="day")  # type: ignore[arg-type]  # as said


def test_what_is_not_recorded_is_said_to_be_so() -> None:
    why = Why(None)
    assert why.of_event(Event("computed", "f")).kind == "required"
    assert why.of_event(Event("computed", "f", "0" * 64)).kind == "unknown"
    assert "ValueError" in why.of_event(Event("failed", "f", "0" * 64, error="ValueError")).text
