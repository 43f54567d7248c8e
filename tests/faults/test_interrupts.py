"""An exception at any instruction: what comes after it is computed and kept, here and elsewhere."""

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from tests.faults import interrupting

PROGRAM = Path(interrupting.__file__)
KINDS = ("miss", "hit", "disk-hit", "set", "batch")
LOCAL = ("{}/c", "memory:", "files:{}/f", "sqlite:///{}/x.db")
SERVERS = ("redis", "postgresql")


def run(what: str, url: str, step: int, seed: int = 0) -> None:
    done = subprocess.run(
        [sys.executable, PROGRAM, what, url, str(step), str(seed)],
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    print(seed, done.stdout)
    assert " 0 wrong" in done.stdout, f"from {seed} on: {done.stdout[-500:]} {done.stderr[-2000:]}"


def url_of(medium: str, home: Path, request: pytest.FixtureRequest) -> str:
    url: str = medium.format(home)
    return request.getfixturevalue(f"{medium}_url") if medium in SERVERS else url


@pytest.mark.parametrize("medium", LOCAL, ids=["embedded", "memory", "files", "sqlite"])
def test_some_instructions(medium: str, home: Path, request: pytest.FixtureRequest) -> None:
    what = random.choice(KINDS)
    run(what, url_of(medium, home, request), 40, random.randrange(40))


@pytest.mark.long
@pytest.mark.parametrize("what", KINDS)
@pytest.mark.parametrize(
    "medium", [*LOCAL, *SERVERS], ids=["embedded", "memory", "files", "sqlite", *SERVERS]
)
def test_each_instruction(
    medium: str, what: str, home: Path, request: pytest.FixtureRequest
) -> None:
    # All of them at once with KEPT_EACH_INSTRUCTION=1; otherwise in turn, a few each time.
    step = 1 if os.environ.get("KEPT_EACH_INSTRUCTION") else 8 if medium in SERVERS else 4
    run(what, url_of(medium, home, request), step, random.randrange(step))
