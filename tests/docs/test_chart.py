"""The chart of the benchmarks: of what was measured, and nothing else; the one that pages show is whole."""

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any
from xml.etree import ElementTree

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def chart(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    spec = importlib.util.spec_from_file_location("chart", ROOT / "benchmarks" / "chart.py")
    assert spec is not None
    assert spec.loader is not None
    before = set(sys.modules)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(ROOT / "benchmarks")):
            monkeypatch.delitem(sys.modules, name)
    return module


def row(**medians: float) -> dict[str, Any]:
    entrants = {name.replace("_", " "): {"median": value} for name, value in medians.items()}
    return {
        "name": "hit-small-disk",
        "title": "hit",
        "unit": "s",
        "entrants": entrants,
        "failed": {"joblib": "no"},
        "no_reference": ["cachau"],
    }


def test_bars_are_of_those_that_did_the_work(chart: ModuleType) -> None:
    made = row(
        wellkept=1e-6, fleche_SQL=9e-6, fleche_file=4e-6, joblib=2e-6, cachau=1e-7, BLAKE3=1.0
    )
    assert chart.bars(made) == [("wellkept", 1e-6), ("fleche", 4e-6)]


def test_the_longest_bar_is_the_slowest(chart: ModuleType) -> None:
    about = {"date": "2026-01-01", "python": "3.12", "cores": 2}
    drawn = chart.chart([row(wellkept=1e-6, diskcache=4e-6), {"name": "other"}], about)
    root = ElementTree.fromstring(drawn)
    wide = [float(bar.attrib["width"]) for bar in root.iter() if bar.tag.endswith("rect")]
    assert len(wide) == 2
    assert wide[1] == pytest.approx(4 * wide[0], abs=0.2)
    texts = [text.text for text in root.iter() if text.tag.endswith("text")]
    assert {"the same from disk", "1.0 us", "4.0 us"} <= set(texts)


def test_the_one_that_pages_show() -> None:
    drawn = (ROOT / "docs" / "benchmarks.svg").read_text()
    root = ElementTree.fromstring(drawn)
    assert "prefers-color-scheme: dark" in drawn
    assert not re.search(r"(?:href|url)\b", drawn)
    assert len([bar for bar in root.iter() if bar.tag.endswith("rect")]) > 20
