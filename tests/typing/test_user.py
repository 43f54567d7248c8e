"""The types that users see: mypy (strict) finds the errors in `user.py` that it should, only."""

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from tests.typing import user

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.skipif(find_spec("mypy") is None, reason="mypy is in the group `check`, not in `test`")
@pytest.mark.long
def test_mypy_agrees() -> None:
    command = [
        sys.executable,
        "-m",
        "mypy",
        "--config-file",
        "pyproject.toml",
        "tests/typing/user.py",
    ]
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=ROOT, check=False, timeout=110
    )
    assert done.returncode == 0, done.stdout


def test_what_is_typed_is_true() -> None:
    import asyncio

    user.functions()
    asyncio.run(user.coroutines())
    asyncio.run(user.methods())
    user.wrapping()
    user.caches()
    user.queries()
