"""Labels are made once, by whoever is left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import wellkept
from wellkept.kv import Jobs

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "examples" / "digits_labels.py"


def start(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(SCRIPT), *arguments], stdout=subprocess.PIPE, stderr=2, text=True
    )


@pytest.mark.long
@pytest.mark.timeout(600)
def test_a_killed_worker_s_batch_is_done_by_another_and_none_twice() -> None:
    state = wellkept.store("labels", scope="digits")
    jobs = Jobs(wellkept.store("jobs", scope="digits"))
    program = start("--workers", "2")
    deadline = time.monotonic() + 200
    while not (at_work := state.list_keys("workers/")):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(int(at_work[0].partition("/")[2]), signal.SIGKILL)
    said, _ = program.communicate(timeout=300)
    assert program.returncode == 0, said
    assert "of 899 are right" in said
    assert state.count("image/") == 899
    assert {job["state"] for job in jobs.list()} == {"completed"}
    revision = state.revision
    again, _ = start("--workers", "1").communicate(timeout=300)
    assert "0 labels came in" in again
    assert not list(state.watch("image/", since=revision, timeout=0))
