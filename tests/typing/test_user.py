"""The types that users see: mypy (strict) finds the errors in `user.py` that it should, only."""

import json
import os
import subprocess
import sys
import sysconfig
from importlib.util import find_spec
from pathlib import Path
from typing import get_args

import pytest
from tests.typing import user

import wellkept
from wellkept.codecs import NAMES
from wellkept.memo.keep_options import Codec

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


@pytest.mark.skipif(find_spec("pyright") is None, reason="pyright is in the group `check`")
@pytest.mark.long
def test_pyright_agrees() -> None:
    command = [sys.executable, "-m", "pyright", "--pythonpath", sys.executable]
    done = subprocess.run(
        [*command, "tests/typing/user.py"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
        timeout=110,
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.skipif(find_spec("pyright") is None, reason="as above")
@pytest.mark.long
def test_pyright_knows_the_types_of_the_package() -> None:
    # It looks for libraries where the package is.
    paths = [str(Path(wellkept.__file__).parents[1]), sysconfig.get_path("purelib")]
    command = [sys.executable, "-m", "pyright", "--verifytypes", "wellkept", "--ignoreexternal"]
    done = subprocess.run(
        [*command, "--outputjson", "--pythonpath", sys.executable],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
        check=False,
        timeout=110,
    )
    score = json.loads(done.stdout)["typeCompleteness"]["completenessScore"]
    assert score >= 0.98


def test_the_names_of_codecs_are_those_that_there_are() -> None:
    assert get_args(Codec) == NAMES


def test_what_is_typed_is_true() -> None:
    import asyncio

    user.functions()
    asyncio.run(user.coroutines())
    asyncio.run(user.methods())
    user.wrapping()
    user.caches()
    user.queries()
