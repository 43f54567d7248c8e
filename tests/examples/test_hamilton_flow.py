"""The dataflow computes once, keeps a file of its format, and computes again what has changed."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def script(home: Path) -> Path:
    """A copy of the example, which a test may edit."""
    shutil.copytree(ROOT / "examples" / "hamilton_flow", home / "flow")
    return home / "flow" / "run.py"


def run(script: Path) -> tuple[str, dict[str, int]]:
    """What it prints, and how many nodes were computed, hit and failed."""
    done = subprocess.run(
        [sys.executable, str(script), "--steps", "3", "--folds", "2"],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONWARNINGS": "ignore"},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    counts = re.findall(r"(\d+) (computed|hit|failed)", done.stdout)
    return done.stdout.rpartition("\n")[0], {name: int(count) for count, name in counts}


@pytest.mark.long
@pytest.mark.timeout(600)
def test_it_computes_once_and_then_what_has_changed(script: Path, home: Path) -> None:
    first, counts = run(script)
    assert "best: penalty" in first
    assert counts == {"computed": 11, "hit": 0, "failed": 0}
    (table,) = (home / "cache" / "formats").glob("*.parquet")
    assert len(pd.read_parquet(table)) == 569

    second, counts = run(script)
    assert counts == {"computed": 1, "hit": 10, "failed": 0}  # which penalties there are
    assert first.splitlines()[:4] == second.splitlines()[:4]

    flow = script.with_name("tumours.py")
    flow.write_text(flow.read_text().replace("C=1 / penalty", "C=2 / penalty"))
    third, counts = run(script)
    assert counts == {"computed": 1 + 3 + 2, "hit": 5, "failed": 0}
    assert third.splitlines()[:4] != first.splitlines()[:4]
