"""Many streams that a stranger might send; see `fuzzing`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.thorough import new_seed, often

ROOT = Path(__file__).parents[2]


def watched(seed: int, count: int) -> None:
    """Decode streams in a process of their own, whose death would be seen here."""
    code = f"from tests.codecs.fuzzing import main; main({seed}, {count})"
    where = os.pathsep.join([str(ROOT / "src"), str(ROOT), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", code],
        capture_output=True,
        text=True,
        timeout=1200,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": where, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, f"seed {seed}: {done.returncode}\n{done.stderr[-3000:]}"
    assert "decoded" in done.stdout


def test_some_thousands() -> None:
    watched(1, 1500)


@pytest.mark.long
@pytest.mark.timeout(1300)
def test_many_thousands() -> None:
    for _ in range(often(1, 5)):
        watched(new_seed(), 40_000)
