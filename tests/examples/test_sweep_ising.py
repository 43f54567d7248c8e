"""The sweep is killed half way, with all its workers, and goes on: from each engine, on another."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import wellkept

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "examples" / "sweep_ising.py"
POINTS = 36

pytestmark = [pytest.mark.long, pytest.mark.timeout(600)]


def start(engine: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(SCRIPT), "--on", engine, "--workers", "2", "--sweeps", "600"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def run(engine: str) -> tuple[int, int, str]:
    """Computed, from the cache, and what was found."""
    process = start(engine)
    said, _ = process.communicate(timeout=300)
    assert process.returncode == 0, said
    match = re.search(r"(\d+) computed, (\d+) from the cache", said)
    assert match, said
    return int(match[1]), int(match[2]), "\n".join(re.findall(r".*greatest at.*", said))


def points(cache: Path) -> int:
    if not (cache / "index.sqlite").exists():
        return 0
    with wellkept.open(cache) as found:
        return found.query("sweep_ising.measure").count()


@pytest.mark.parametrize(
    ("first", "second"),
    [("processes", "dask"), ("dask", "ray"), ("ray", "processes")],
)
def test_killed_half_way(home: Path, first: str, second: str) -> None:
    for engine in (first, second):
        pytest.importorskip({"dask": "distributed", "ray": "ray"}.get(engine, "wellkept"))
    process = start(first)
    try:
        while points(home / "cache") < 5:
            assert process.poll() is None, process.communicate()[0]
            time.sleep(0.02)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.kill()
        process.wait()
    there = points(home / "cache")
    assert 5 <= there < POINTS
    computed, hits, found = run(second)
    # A worker that outlived its master for a moment may have kept a point more.
    assert computed + hits == POINTS
    assert hits >= there
    assert run("processes") == (0, POINTS, found)
    with wellkept.open(home / "cache") as cache:
        assert cache.verify().ok
