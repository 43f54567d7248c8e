"""Signals whose handlers raise, at any instant, by the thousand: nothing is lost, held or falsified."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.faults import storming
from tests.thorough import new_seed, often

PROGRAM = Path(storming.__file__)
ROOT = Path(__file__).parents[2]
LOCAL = ("{}/c", "memory:", "files:{}/f", "sqlite:///{}/x.db")
SERVERS = ("redis", "postgresql")


def storm(url: str, signals: int) -> None:
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    seed = new_seed()
    done = subprocess.run(
        [sys.executable, PROGRAM, url, str(signals), str(seed)],
        capture_output=True,
        text=True,
        timeout=1700,
        check=False,
        env={**os.environ, "PYTHONPATH": path},
    )
    print(seed, done.stdout)
    said = f"seed {seed}: {done.stdout[-1000:]} {done.stderr[-3000:]}"
    assert " 0 wrong" in done.stdout, said


@pytest.mark.parametrize("medium", LOCAL, ids=["embedded", "memory", "files", "sqlite"])
def test_a_few_signals(medium: str, home: Path) -> None:
    storm(medium.format(home), 20 if medium.startswith("sqlite") else 50)


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    "medium", [*LOCAL, *SERVERS], ids=["embedded", "memory", "files", "sqlite", *SERVERS]
)
def test_a_storm(medium: str, home: Path, request: pytest.FixtureRequest) -> None:
    url = request.getfixturevalue(f"{medium}_url") if medium in SERVERS else medium.format(home)
    # A server is connected to anew after each.
    few, many = {"redis": (300, 1000), "postgresql": (150, 400)}.get(medium, (800, 5000))
    storm(url, often(few, many))
