"""Edits where code lies elsewhere than in a directory of files: prompts, archives, workers, IPython."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.thorough import some

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def places() -> Any:
    """The corpus of edits in other places."""
    sys.path.insert(0, str(ROOT / "benchmarks"))
    try:
        return importlib.import_module("edits_places")
    finally:
        sys.path.remove(str(ROOT / "benchmarks"))


@pytest.mark.long
@pytest.mark.timeout(600)
def test_every_edit_is_seen_in_every_place(places: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("IPython")
    pytest.importorskip("joblib")
    assert len(places.ROWS) >= 100
    # Each shell is two processes with IPython.
    shells = {name: places.SHELLS[name] for name in some(list(places.SHELLS), 5)}
    rows = [row for row in places.ROWS if row.place != "IPython" or row.name in shells]
    monkeypatch.setattr(places, "SHELLS", shells)
    monkeypatch.setattr(places, "ROWS", rows)
    found = zip(places.ROWS, places.of_places("wellkept"), strict=True)
    assert {row.what: said for row, said in found if said != "right"} == {}
