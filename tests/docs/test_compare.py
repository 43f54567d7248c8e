"""The comparison with other libraries: of what was asked, whole, and what the README says of it."""

import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType

import pytest
from tests.thorough import some

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "explanation" / "why-another-cache.md"


@pytest.fixture(scope="module")
def compare() -> ModuleType:
    spec = importlib.util.spec_from_file_location("compare", ROOT / "benchmarks" / "compare.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["compare"] = module  # dataclasses look there for their annotations
    spec.loader.exec_module(module)
    return module


def rows(text: str) -> dict[str, dict[str, str]]:
    """The Markdown tables whose first column is wellkept's: cells by row and column."""
    found: dict[str, dict[str, str]] = {}
    for part in text.split("| | wellkept |")[1:]:
        lines = f"| | wellkept |{part}".partition("\n\n")[0].splitlines()
        head, _, *others = ([cell.strip() for cell in line.strip("|").split("|")] for line in lines)
        for name, *cells in others:
            found.setdefault(name, {}).update(zip(head[1:], cells, strict=True))
    return found


def test_the_page_has_all_questions_and_libraries(compare: ModuleType) -> None:
    table = rows(PAGE.read_text(encoding="utf-8"))
    assert list(table) == [title for title, _ in compare.QUESTIONS.values()]
    for row in table.values():
        assert list(row) == [library.name for library in compare.LIBRARIES]
        assert all(row.values())


def test_the_readme_shows_rows_of_it() -> None:
    table = rows(PAGE.read_text(encoding="utf-8"))
    shown = rows((ROOT / "README.md").read_text(encoding="utf-8"))
    assert len(shown) == 6
    for name, row in shown.items():
        cells = {library.strip("`"): cell for library, cell in row.items()}
        assert cells == {library: table[name][library] for library in cells}


def asked(
    compare: ModuleType, library: str, questions: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ask again, and compare with the page."""
    # The programs import the wellkept that is tested.
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))
    table = rows(PAGE.read_text(encoding="utf-8"))
    (found,) = (each for each in compare.LIBRARIES if each.name == library)
    said = {name: compare.answer(found, name) for name in questions}
    assert said == {name: table[compare.QUESTIONS[name][0]][library] for name in questions}


def test_a_question_is_asked(compare: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    asked(compare, "wellkept", ["helper"], monkeypatch)
    asked(compare, "lru_cache", ["outlives", "shared"], monkeypatch)


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize("library", ["wellkept", "lru_cache", "joblib"])
def test_many_are_asked(compare: ModuleType, library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    few = len(compare.QUESTIONS) // 2 if library == "wellkept" else 6
    asked(compare, library, some(list(compare.QUESTIONS), few), monkeypatch)
