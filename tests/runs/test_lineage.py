"""Lineage: where a result came from and what became of it, the same from every medium."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import wellkept
from wellkept.runs.graph import CALLED, GAVE, Edge, Node


@wellkept.keep(name="lab:load", version=1)
def load(path: str) -> list[str]:
    return [path, "rows"]


@wellkept.keep(name="lab:clean", version=1)
def clean(table: list[str], threshold: float = 0.5) -> list[Any]:
    return [*table, threshold]


@wellkept.keep(name="lab:fit", version=1)
def fit(table: list[Any], rate: float) -> float:
    return rate * len(table) + 0.125


@wellkept.keep(name="lab:score", version=1)
def score(model: float) -> float:
    return model + 2000


@wellkept.keep(name="lab:study", version=1)
def study(path: str) -> float:
    return score(fit(clean(load(path)), 0.75))


@wellkept.keep(name="lab:nothing", version=1)
def nothing(of: Any) -> None:
    return None


@pytest.fixture(params=["embedded", "memory", "files", "sqlite items"])
def cache(request: pytest.FixtureRequest, home: Path) -> Iterator[wellkept.Cache]:
    url = {
        "embedded": str(home / "lab"),
        "memory": "memory:",
        "files": f"files:{home / 'lab-files'}",
        "sqlite items": f"sqlite:///{home / 'lab.sqlite'}",
    }[request.param]
    with wellkept.open(url) as opened, wellkept.use(opened):
        yield opened


def names(graph: wellkept.Graph) -> list[str]:
    return sorted(node.function.partition(":")[2] or node.label for node in graph.nodes.values())


def edges(graph: wellkept.Graph) -> set[tuple[str, str, str, str]]:
    def name(node: str) -> str:
        return graph.nodes[node].function.partition(":")[2] or "value"

    return {(name(e.source), name(e.target), e.kind, e.name) for e in graph.edges}


def test_up_and_down(cache: wellkept.Cache) -> None:
    study("a.csv")
    fit(clean(load("b.csv")), 0.75)
    table = clean.load(load.load("a.csv"))
    graph = wellkept.lineage(table)
    assert graph.focus == (clean.key(load.load("a.csv")),)
    assert edges(graph) == {
        ("study", "load", CALLED, ""),
        ("study", "clean", CALLED, ""),
        ("study", "fit", CALLED, ""),
        ("study", "score", CALLED, ""),
        ("load", "clean", GAVE, "table"),
        ("clean", "fit", GAVE, "table"),
        ("fit", "score", GAVE, "model"),
    }
    assert names(graph) == ["clean", "fit", "load", "score", "study"]  # and nothing of b.csv
    assert not graph.cut
    assert names(wellkept.lineage(table, down=0)) == ["clean", "load", "study"]
    assert names(wellkept.lineage(table, up=0)) == ["clean", "fit", "score"]
    assert names(wellkept.lineage(table, up=0, down=1)) == ["clean", "fit"]
    assert wellkept.lineage(table, limit=2).cut


def test_down_from_a_call_go_those_that_its_body_made(cache: wellkept.Cache) -> None:
    study("a.csv")
    load("b.csv")  # of nobody's body
    graph = wellkept.lineage(study.key("a.csv"), up=0, down=1)
    assert names(graph) == ["clean", "fit", "load", "score", "study"]
    assert {(source, target) for source, target, kind, _ in edges(graph) if kind == CALLED} == {
        ("study", "clean"),
        ("study", "fit"),
        ("study", "load"),
        ("study", "score"),
    }


def test_what_it_may_be_asked_of(cache: wellkept.Cache) -> None:
    model = fit(clean(load("a.csv")), 0.75)
    key = fit.key(clean(load("a.csv")), 0.75)
    expected = wellkept.lineage(model)
    assert expected.focus == (key,)
    same: list[Any] = [
        wellkept.digest(model),
        str(wellkept.digest(model))[:16],
        key,
        str(key)[:16],
        cache.calls.get(key),
        fit.query(),
        fit.query().first(),
    ]
    for of in same:
        assert wellkept.lineage(of).to_dict() == expected.to_dict(), of
    assert wellkept.lineage(model, cache=cache).to_dict() == expected.to_dict()


def test_a_value_that_no_kept_call_gave_but_some_took(cache: wellkept.Cache) -> None:
    score(fit(["given", "by", "hand"], 1.0))
    graph = wellkept.lineage(["given", "by", "hand"])
    assert graph.focus == (wellkept.digest(["given", "by", "hand"]),)
    assert ("value", "fit", GAVE, "table") in edges(graph)
    assert len(graph) == 3
    load("a.csv")
    assert edges(wellkept.lineage("a.csv")) == {("value", "load", GAVE, "path")}


def test_two_calls_that_gave_the_same_value_are_both_where_it_may_be_from(
    cache: wellkept.Cache,
) -> None:
    twice = wellkept.keep(name="lab:twice", version=1)(lambda path: [path, "rows"])
    assert twice("a.csv") == load("a.csv")
    clean(["a.csv", "rows"])
    found = wellkept.lineage(clean(["a.csv", "rows"]))
    assert {edge[0] for edge in edges(found)} == {"load", "twice"}


def test_none_and_what_is_empty_connects_nothing(cache: wellkept.Cache) -> None:
    load("a.csv")
    nothing([])
    nothing(None)
    nothing(nothing("x"))
    graph = wellkept.lineage(nothing.key("x"))
    assert (len(graph), len(graph.edges)) == (1, 0)


def test_a_circle_ends(cache: wellkept.Cache) -> None:
    turn = wellkept.keep(name="lab:turn", version=1)(lambda n: (n + 1) % 3 + 1000 * (n < 0) or 3)
    for n in (1, 2, 3):
        turn(n)
    graph = wellkept.lineage(turn.key(1))
    assert len(graph) == 3
    assert "…" in str(graph)
    assert graph.to_svg().startswith("<svg")


def test_of_something_never_kept(cache: wellkept.Cache) -> None:
    load("a.csv")
    for of, message in [
        ([1, 2], r"\[1, 2\] has no lineage in .*: no kept call gave it"),
        ("never", "'never' has no lineage"),
        ("f" * 64, f"no call or value {'f' * 64} is kept"),
        (wellkept.digest("x"), "no call or value .* is kept"),
        (fit.query(), "no call fits"),
    ]:
        with pytest.raises(wellkept.NotKept, match=message):
            wellkept.lineage(of)
    with pytest.raises(wellkept.Undigestible):
        wellkept.lineage(iter([1]))
    with pytest.raises(wellkept.ConfigError, match="up= is a number from 0 up"):
        wellkept.lineage("a.csv", up=-1)
    with pytest.raises(wellkept.ConfigError, match="limit= is a number from 1 up"):
        wellkept.lineage("a.csv", limit=0)


def test_digits_that_fit_several(cache: wellkept.Cache) -> None:
    results = [load(f"{n}.csv") for n in range(700)]
    by_digits: dict[str, set[str]] = {}
    for key in (*cache.calls.keys(), *map(wellkept.digest, results)):
        by_digits.setdefault(key[:4], set()).add(str(key))
    several = next(digits for digits, fit_ in by_digits.items() if len(fit_) > 1)
    with pytest.raises(wellkept.AmbiguousDigest, match="fits several"):
        wellkept.lineage(several)


def test_a_damaged_record_is_left_out() -> None:
    study("a.csv")
    store = load.cache.calls
    call = score.call(fit.load(clean.load(load.load("a.csv")), 0.75))
    store.put(call.key, call.replace(metadata={"parent": 3, "run": None}))
    assert ("study", "score", CALLED, "") not in edges(wellkept.lineage(call.key))
    assert ("fit", "score", GAVE, "model") in edges(wellkept.lineage(call.key))


def test_a_long_chain_is_no_deep_recursion() -> None:
    step = wellkept.keep(name="lab:step", version=1)(lambda n: f"<{n[1:-1]}+>")
    value = "<>"
    for _ in range(1_500):
        value = step(value)
    graph = wellkept.lineage(value, limit=5_000)
    assert len(graph) == 1_500
    assert str(graph).endswith("lines more")
    assert graph.to_svg().count("<rect") == 1_500


# -- a graph ---------------------------------------------------------------------------------------

AWKWARD = "f(x='<a> & \"b\" \\n\x1b[31m')"


@pytest.fixture
def graph() -> wellkept.Graph:
    nodes = [
        Node("1" * 64, AWKWARD, "m:f", "hit", 0.25, "a" * 64, 1.0),
        Node("2" * 64, "g(y=1)", "m:g", "failed", None, None, 2.0),
        Node("3" * 64, "h()", "m:h", "computed", 1.5, "c" * 64, 3.0),
        Node("d" * 64, "<dddd>"),
    ]
    return wellkept.Graph(
        nodes,
        [
            Edge("d" * 64, "1" * 64, GAVE, "x"),
            Edge("1" * 64, "2" * 64, GAVE, "y"),
            Edge("3" * 64, "2" * 64, CALLED),
            Edge("d" * 64, "2" * 64, GAVE, "far"),
            Edge("1" * 64, "9" * 64, GAVE, "to what is not shown"),
        ],
        ["1" * 64],
    )


def test_as_text(graph: wellkept.Graph) -> None:
    text = str(graph)
    assert "came from\n└─ x: <dddd>" in text
    assert "led to\n└─ as y: g(y=1)  [failed]" in text
    assert "\x1b" not in text
    assert repr(graph) == "<wellkept.Graph of 4 calls and 4 edges>"


def test_as_a_picture(graph: wellkept.Graph) -> None:
    svg = graph._repr_svg_()
    root = ET.fromstring(svg)
    space = "{http://www.w3.org/2000/svg}"
    boxes = [
        {name: float(box.get(name, 0)) for name in ("x", "y", "width", "height")}
        for box in root.iter(f"{space}rect")
    ]
    assert len(boxes) == 4
    assert len([path for path in root.iter(f"{space}path") if path.get("marker-end")]) == 4
    assert root.get("width") == "100%", "it fits the frame that a notebook has"
    _, _, width, height = map(float, str(root.get("viewBox")).split())
    for i, box in enumerate(boxes):
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= width
        assert 0 <= box["y"] <= height - box["height"]
        for other in boxes[:i]:
            apart = abs(box["x"] - other["x"]) >= 40 or abs(box["y"] - other["y"]) >= 40
            assert apart, "boxes lie on each other"


def test_the_names_of_edges_lie_on_nothing() -> None:
    nodes = [Node(f"{i:064x}", f"f{i}(x={'a' * 40})", "m:f") for i in range(9)]
    edges = [
        Edge(nodes[i].id, nodes[j].id, GAVE, f"argument_{i}_{name}")
        for i, j in ((0, 4), (1, 4), (2, 4), (3, 4), (4, 5), (4, 6), (5, 7), (6, 7), (0, 7), (7, 8))
        for name in ("one", "two")
    ]
    root = ET.fromstring(wellkept.Graph(nodes, edges).to_svg())
    space = "{http://www.w3.org/2000/svg}"
    rects = [
        tuple(float(b.get(n, 0)) for n in ("x", "y", "width", "height"))
        for b in root.iter(f"{space}rect")
    ]
    drawn = [(x, y, x + width, y + height) for x, y, width, height in rects]
    names = [text for text in root.iter(f"{space}text") if text.get("font-size") == "10"]
    assert len(names) >= 4
    for text in names:
        half = len(text.text or "") * 6 / 2
        x, y = float(text.get("x", 0)), float(text.get("y", 0))
        one = (x - half, y - 11, x + half, y + 2)
        for other in drawn:
            apart = (
                one[2] <= other[0] or other[2] <= one[0] or one[3] <= other[1] or other[3] <= one[1]
            )
            assert apart, f"{text.text} lies on something"
        drawn.append(one)
    assert len([p for p in root.iter(f"{space}path") if p.get("marker-end")]) == len(edges) / 2


def test_for_graphviz_and_mermaid(graph: wellkept.Graph) -> None:
    dot = graph.to_dot()
    assert dot.startswith("digraph kept {")
    assert '\\"b\\" \\\\n' in dot
    assert f'"{"1" * 64}" -> "{"2" * 64}" [label="y"];' in dot
    assert f'"{"3" * 64}" -> "{"2" * 64}" [style=dashed];' in dot
    mermaid = graph.to_mermaid().splitlines()
    assert mermaid[0] == "flowchart LR"
    assert '  n3(["#60;dddd#62;"])' in mermaid
    assert '  n0 -->|"y"| n1' in mermaid
    assert "  n2 -.-> n1" in mermaid
    assert "\x1b" not in "".join(mermaid) + dot


def test_for_networkx(graph: wellkept.Graph) -> None:
    networkx = pytest.importorskip("networkx", reason="an extra: wellkept[graph]")
    made = graph.to_networkx()
    assert networkx.ancestors(made, "2" * 64) == {"1" * 64, "3" * 64, "d" * 64}
    assert made.nodes["1" * 64]["seconds"] == 0.25
    assert made["3" * 64]["2" * 64][0] == {"kind": CALLED, "name": ""}


def test_without_networkx(graph: wellkept.Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "networkx", None)
    with pytest.raises(wellkept.ConfigError, match=r"wellkept\[graph\]"):
        graph.to_networkx()


def test_of_nothing() -> None:
    graph = wellkept.Graph([], [])
    assert str(graph) == ""
    assert ET.fromstring(graph.to_svg()) is not None
