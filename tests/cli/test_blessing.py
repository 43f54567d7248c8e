"""`wellkept bless` and `wellkept verify --function`: of a script that ran as such, and of a module."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from wellkept.cli.app import run

SCRIPT = """
import sys

import wellkept

LIMIT = 10


@wellkept.keep
def square(n):
    return min(n * n, LIMIT)


if __name__ == "__main__":
    print([square(int(n)) for n in sys.argv[1:]], square.stats().computed)
"""


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a script that ran, and its cache."""
    made = tmp_path_factory.mktemp("kept")
    (made / "squares.py").write_text(SCRIPT)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WELLKEPT_CACHE", str(made / "cache"))
        assert ran(made / "squares.py") == "[4, 9] 2"
    return made


@pytest.fixture
def script(kept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "__mp_main__", raising=False)
    monkeypatch.setenv("WELLKEPT_CACHE", str(tmp_path / "cache"))
    shutil.copytree(kept, tmp_path, dirs_exist_ok=True)
    return tmp_path / "squares.py"


def ran(path: Path) -> str:
    done = subprocess.run(
        [sys.executable, path, "2", "3"], capture_output=True, text=True, check=True, env=os.environ
    )
    return done.stdout.strip()


def test_an_edited_script_is_blessed_and_verified(
    script: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    at = ["--cache", str(tmp_path / "cache")]
    script.write_text(SCRIPT.replace("LIMIT = 10", "LIMIT = 9 + 1 - 1 + 1"))
    assert (
        run(["bless", f"{script}:square", *at]) == 0
    )  # the constant is what it was: no other code
    assert "has no results of other code" in capsys.readouterr().out
    script.write_text(SCRIPT.replace("min(n * n, LIMIT)", "min(LIMIT, n ** 2)"))
    assert run(["bless", f"{script}:square", "--json", *at]) == 0
    assert json.loads(capsys.readouterr().out)["calls"] == 2
    assert ran(script) == "[4, 9] 0"

    wrong = SCRIPT.replace("n * n, LIMIT", "n + 7, LIMIT")
    script.write_text(wrong)
    assert run(["bless", f"{script}:square", *at]) == 0
    assert "blessed 2 calls of" in capsys.readouterr().out
    assert run(["verify", "--function", f"{script}:square", "--sample", "1", *at]) == 1
    out = capsys.readouterr().out
    assert "square(n=2) differs" in out
    assert out.endswith(":square: 2 differs\n")
    assert run(["verify", *at]) == 0  # every row and byte of what was written


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["bless", "squares"], "say module:name"),
        (["bless", "no_such_module:f"], "ModuleNotFoundError"),
        (["bless", "{script}:cube"], "there is no cube"),
        (["bless", "{script}:LIMIT"], "is no kept function"),
        (["bless", "{script}:square", "--code", "deep:ab"], "no call of"),
        (["verify", "--sample", "0.5"], "--sample goes with --function"),
        (["verify", "--function", "{script}:square", "--repair"], "--repair goes without"),
        (["verify", "--function", "{script}:square", "--sample", "2"], "above 0 up to 1"),
    ],
)
def test_what_goes_wrong(
    command: list[str], said: str, script: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([part.format(script=script) for part in command]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1
