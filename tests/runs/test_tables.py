"""What a run tells of itself: its tables and graph, and how it compares with another."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import wellkept
from wellkept.caches import active
from wellkept.readable import duration
from wellkept.runs.table import Table

SOURCE = {"value": 1.5}


@wellkept.keep(name="plant:seed", version=1)
def seed(n: int) -> list[Any]:
    return [n, "seed"]


@wellkept.keep(name="plant:grow", version=1)
def grow(seed: list[Any]) -> list[Any]:
    return [*seed, "grown"]


@wellkept.keep(name="plant:garden", version=1)
def garden(n: int) -> list[Any]:
    return [*grow(seed(n)), "garden"]


@wellkept.keep(name="plant:weather", version=1)
def weather(day: int) -> float:
    return SOURCE["value"]


@wellkept.keep(name="plant:wilt", version=1)
def wilt(n: int) -> None:
    raise ValueError(n)


def made(version: int) -> Callable[[int], int]:
    return wellkept.keep(name="plant:edited", version=version)(lambda n: n * version + 5000)


def kinds(comparison: Any) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for one in comparison.differences:
        found.setdefault(one.kind, []).append(one.call)
    return {kind: sorted(calls) for kind, calls in found.items()}


def test_a_comparison(monkeypatch: pytest.MonkeyPatch) -> None:
    with wellkept.run("first") as first:
        garden(1), garden(2), weather(1), weather(2), made(1)(7), seed(100)
    active().evict(function="plant:weather")
    monkeypatch.setitem(SOURCE, "value", 1.5)
    with wellkept.run("second") as second:
        garden(1), garden(3), made(2)(7)
        weather.rerun(1)
        SOURCE["value"] = 2.5
        weather.rerun(2)
        with pytest.raises(ValueError, match="1"):
            wilt(1)
    comparison = second.compare(first)
    assert kinds(comparison) == {
        "reused": ["garden(n=1)"],
        "recomputed": ["weather(day=1)"],
        "drifted": ["weather(day=2)"],
        "changed": ["edited(n=7)"],
        "new": ["garden(n=3)", f"grow(seed=<{wellkept.digest([3, 'seed'])[:8]}>)", "seed(n=3)"],
        "failed": ["wilt(n=1)"],
        "spared": [f"grow(seed=<{wellkept.digest([1, 'seed'])[:8]}>)", "seed(n=1)"],
        "gone": [
            "garden(n=2)",
            f"grow(seed=<{wellkept.digest([2, 'seed'])[:8]}>)",
            "seed(n=100)",
            "seed(n=2)",
        ],
    }
    for kind in ("reused", "recomputed", "drifted", "changed", "new", "failed", "spared", "gone"):
        assert getattr(comparison, kind) == comparison.of(kind)
    (drifted,) = comparison.drifted
    assert drifted.now
    assert drifted.before
    assert (drifted.now.result, drifted.before.result) == (
        wellkept.digest(2.5),
        wellkept.digest(1.5),
    )
    table = comparison.table()
    assert [row["kind"] for row in table][:3] == ["drifted", "changed", "failed"]
    assert str(comparison).endswith(
        "1 drifted, 1 changed, 1 failed, 3 new, 1 recomputed, 1 reused, 2 spared, 4 gone"
    )
    assert "<table>" in comparison._repr_html_()
    same = kinds(first.compare(first))
    assert set(same) == {"recomputed"}
    with wellkept.run("nothing") as nothing:
        pass
    assert str(nothing.compare(nothing)).endswith("neither run made a call")


def test_a_comparison_of_runs_of_two_caches(home: Any) -> None:
    with wellkept.open(home / "one") as cache, wellkept.use(cache), wellkept.run("one") as one:
        seed(1)
    with wellkept.open(home / "two") as cache, wellkept.use(cache), wellkept.run("two") as two:
        seed(1), seed(2)
        assert kinds(two.compare(one)) == {"recomputed": ["seed(n=1)"], "new": ["seed(n=2)"]}


def test_the_graph_of_a_run() -> None:
    with wellkept.run("graph") as run:
        garden(1), garden(1)
        grow(seed(1))
        with pytest.raises(ValueError, match="1"):
            wilt(1)
    graph = run.graph()
    by_name = {node.function.partition(":")[2]: node for node in graph.nodes.values()}
    assert {name: node.outcome for name, node in by_name.items()} == {
        "garden": "computed",
        "grow": "computed",
        "seed": "computed",
        "wilt": "failed",
    }
    assert {(e.source, e.target, e.kind) for e in graph.edges} == {
        (by_name["garden"].id, by_name["grow"].id, "called"),
        (by_name["garden"].id, by_name["seed"].id, "called"),
        (by_name["seed"].id, by_name["grow"].id, "gave"),
    }
    assert str(run.graph()).startswith("garden(n=1)  [computed")
    active().evict(function="plant:*")  # what happened is known without the records
    again = wellkept.runs()["graph"].graph()
    assert {(e.source, e.target, e.kind) for e in again.edges} == {
        (e.source, e.target, e.kind) for e in graph.edges
    }


def test_the_tables_of_a_run() -> None:
    with wellkept.run("tables") as run:
        garden(1), garden(1), garden(1)
        with pytest.raises(ValueError, match="1"):
            wilt(1)
    table = run.table()
    assert [(row["function"], row["outcome"], row["count"]) for row in table] == [
        ("plant:seed", "computed", 1),
        ("plant:grow", "computed", 1),
        ("plant:garden", "computed", 1),
        ("plant:garden", "hit", 2),
        ("plant:wilt", "failed", 1),
    ]
    text = str(table).splitlines()
    assert text[0].split() == ["outcome", "call", "count", "seconds", "key"]
    assert text[1].startswith("computed  seed(n=1)")
    assert "wilt(n=1): ValueError" in text[5]
    assert text[-1].startswith("tables: done; 2 hits, 3 computed, 1 failed;")
    by_function = run.table(by="function")
    rows = {row["function"]: row for row in by_function}
    assert [rows["plant:garden"][name] for name in ("hits", "computed", "failed")] == [2, 1, 0]
    assert rows["plant:garden"]["saved"] == pytest.approx(2 * garden.call(1).seconds)
    assert rows["plant:wilt"]["failed"] == 1
    assert table.to_pandas().shape == (5, 10)
    assert run._repr_html_() == table._repr_html_()


# -- tables ----------------------------------------------------------------------------------------


@pytest.fixture
def table() -> Table:
    rows = [{"what": f"a <long>\x1b text of {i}", "n": None if i == 0 else i} for i in range(60)]
    columns: list[tuple[str, Callable[[Any], str]]] = [
        ("what", lambda row: row["what"]),
        ("n", lambda row: str(row["n"] or "-")),
    ]
    return Table(rows, columns, "what", "a summary")


@pytest.mark.parametrize("width", [16, 20, 24, 40, 200])
def test_a_table_fits(table: Table, width: int) -> None:
    lines = table.text(width).splitlines()
    assert max(map(len, lines)) <= width
    assert len(lines) == 1 + 50 + 1 + 1
    assert len(set(map(len, lines[1:51]))) == 1  # numbers to the right, also one that is not there


def test_a_table_says_how_many_more(table: Table) -> None:
    assert table.text(rows=58).splitlines()[-2:] == ["2 more", "a summary"]
    assert "more" not in table.text(rows=60)
    assert (len(table), table[1]["n"], len(list(table))) == (60, 1, 60)


def test_a_table_does_nothing_to_a_terminal_or_a_page(table: Table) -> None:
    assert "\x1b" not in str(table)
    assert "<long>" not in table._repr_html_()
    assert "&lt;long&gt;" in table._repr_html_()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, ""),
        (0, "0 us"),
        (1.25e-5, "12 us"),
        (0.0034, "3.4 ms"),
        (0.9996, "1000 ms"),
        (5.6, "5.6 s"),
        (150, "2.5 min"),
        (36_000, "10 h"),
    ],
)
def test_durations(seconds: float | None, text: str) -> None:
    assert duration(seconds) == text


def test_a_narrow_table_drops_columns_then_shortens_in_the_middle() -> None:
    rows = [{"function": "package.module:compute_all_of_it", "calls": 12, "size": "3 kB"}]
    columns = [
        (name, lambda row, name=name: str(row[name])) for name in ("calls", "size", "function")
    ]
    table = Table(rows, columns, "function", drop=("calls", "size"))
    for width, titles in ((80, 3), (44, 2), (36, 1), (20, 1)):
        lines = table.text(width).splitlines()
        assert len(lines[0].split()) == titles
        assert max(map(len, lines)) <= width
    assert table.text(20).splitlines()[1] == "package…te_all_of_it"
    assert table.text(33).splitlines()[1] == "package.module:compute_all_of_it"
