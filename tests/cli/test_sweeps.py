"""`wellkept plan` and `wellkept review`, of a script."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from wellkept.cli.app import run
from wellkept.cli.options import looked_up

SCRIPT = """
import wellkept


@wellkept.keep(cost={"usd": lambda result: 0.5})
def square(n, shift=0):
    return n * n + shift
"""


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "__mp_main__", raising=False)
    monkeypatch.setenv("WELLKEPT_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "squares.py"
    path.write_text(SCRIPT)
    looked_up(f"{path}:square").map([1, 2, 3])
    return path


def edit(path: Path, before: str, after: str) -> None:
    source = path.read_text()
    assert before in source
    path.write_text(source.replace(before, after))


def said(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> Any:
    assert run([*arguments, "--json"]) == code
    return json.loads(capsys.readouterr().out)


def test_a_plan(
    script: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    name = f"{script}:square"
    found = said(capsys, "plan", name, "1", "5", "6")
    assert (found["kept"], found["todo"], found["costs"]) == (1, [1, 2], {"usd": 1.0})
    # Arguments that are said several times are varied, each with each.
    grid = said(capsys, "plan", name, "-a", "n=1", "-a", "n=2", "-a", "shift=0", "-a", "shift=1")
    assert (grid["items"], grid["kept"]) == (4, 2)
    lines = tmp_path / "items.jsonl"
    lines.write_text('1\n{"n": 2}\n{"n": 7}\n')
    assert said(capsys, "plan", name, "--items", str(lines))["todo"] == [2]
    assert run(["plan", name, "1", "9"]) == 0
    assert "square: 2 calls: 1 kept, 1 to compute" in capsys.readouterr().out
    edit(script, "n * n", "n ** 2")
    assert {g["kind"] for g in said(capsys, "plan", name, "1", "2")["groups"]} == {"code"}
    for wrong in (["-a", "n"], ["-a", "none=1"], ["1", "-a", "n=1"]):
        assert run(["plan", name, *wrong]) == 2
        assert "wellkept: " in capsys.readouterr().err
    lines.write_text("{")
    assert run(["plan", name, "--items", str(lines)]) == 2
    assert "line 1" in capsys.readouterr().err


def test_a_review_shows_what_changed_and_accepts(
    script: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = f"{script}:square"
    assert said(capsys, "review", name)["functions"] == []
    edit(script, "n * n", "n ** 2")
    assert run(["review", name]) == 0
    text = capsys.readouterr().out
    assert "3 calls of other code" in text
    assert "1.5 usd" in text
    assert "+    return n ** 2 + shift" in text
    (found,) = said(capsys, "review", name, "--recompute", "1", "--accept")["functions"]
    (former,) = found["former"]
    assert (former["calls"], former["same"], former["differs"], former["accepted"]) == (3, 3, [], 3)
    assert said(capsys, "plan", name, "1", "2", "3")["kept"] == 3


def test_what_differs_is_not_accepted_but_forgotten(
    script: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = f"{script}:square"
    edit(script, "n * n", "n * n * n")
    found = said(capsys, "review", name, "--recompute", "1", "--accept", code=1)["functions"][0]
    (former,) = found["former"]
    # Of 1 the cube is the square.
    assert (former["same"], len(former["differs"])) == (1, 2)
    assert "accepted" not in former
    assert run(["review", name, "--forget", "--yes"]) == 0
    assert "forgotten     3 calls" in capsys.readouterr().out
    assert said(capsys, "review", name)["functions"] == []


def test_it_asks_on_a_terminal(
    script: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    edit(script, "n * n", "n ** 2")
    answers = ["r", "a"]
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    monkeypatch.setattr("typer.prompt", lambda *_, **__: answers.pop(0))
    assert run(["review", f"{script}:square"]) == 0
    text = capsys.readouterr().out
    assert "1 same" in text
    assert "accepted      3 calls" in text


def test_what_is_asked_for_in_vain(script: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["review", "--accept"]) == 2
    assert "which functions?" in capsys.readouterr().err
    assert run(["review", f"{script}:square", "--forget", "--accept"]) == 2
    capsys.readouterr()
    assert run(["review", "nosuchmodule:f"]) == 2
    capsys.readouterr()
    # Of all functions, those that can't be imported are told.
    script.unlink()
    found = said(capsys, "review")
    assert found["functions"] == []
    assert len(found["left"]) == 1


def test_a_script_s_code_is_compared_with_its_import_s(home: Path) -> None:
    (home / "pyproject.toml").write_text("[project]\nname = 'p'\n")
    script = home / "scripted.py"
    text = "import wellkept\ndef helper(n):\n    return n * 2\n"
    text += "@wellkept.keep\ndef grow(n):\n    return helper(n)\n"
    text += "if __name__ == '__main__':\n    grow(1)\n"
    script.write_text(text)
    subprocess.run([sys.executable, script], check=True)
    script.write_text(text.replace("n * 2", "n * 3"))
    command = [sys.executable, "-m", "wellkept", "review", "scripted:grow"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=home, input="")
    assert "code changed: `scripted.helper`" in done.stdout, done.stderr
    assert "-    return n * 2" in done.stdout
