"""Signals whose handlers raise, at any instant, by the thousand: nothing is lost, held or falsified."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.faults import storming

PROGRAM = Path(storming.__file__)
ROOT = Path(__file__).parents[2]
LOCAL = ("{}/c", "memory:", "files:{}/f", "sqlite:///{}/x.db")
SERVERS = ("redis", "postgresql")
ALL = int(os.environ.get("WELLKEPT_STORM", "0"))
"""Signals on each medium. The promise was tried with 20,000, which takes half an hour."""


def storm(url: str, signals: int) -> None:
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        [sys.executable, PROGRAM, url, str(signals), "1"],
        capture_output=True,
        text=True,
        timeout=1700,
        check=False,
        env={**os.environ, "PYTHONPATH": path},
    )
    print(done.stdout)
    assert " 0 wrong" in done.stdout, f"{done.stdout[-1000:]} {done.stderr[-3000:]}"


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
    storm(url, ALL or {"redis": 1000, "postgresql": 400}.get(medium, 5000))
