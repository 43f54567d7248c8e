"""With the built wheel and nothing else: README, the first steps and what needs no extra run as printed.

The other pages are run by `tests/docs/test_snippets.py`, which `make test` runs against the wheel too.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.docs.pages import ROOT

pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]

# What a reader has who did nothing but `pip install wellkept[numpy]`.
PLAIN = (
    "README.md",
    "docs/index.md",
    "docs/tutorial/first-steps.md",
    "docs/how-to/keep-it-small.md",
    "docs/how-to/use-in-async-code.md",
    "docs/how-to/share-work-between-processes.md",
    "docs/how-to/cache-for-a-team.md",
    "docs/how-to/stack-caches.md",
)


def run(*command: str | Path, **options: object) -> str:
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, **options
    )  # type: ignore[call-overload]
    assert done.returncode == 0, f"{command}\n{done.stdout[-4000:]}"
    return str(done.stdout)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "pip", "wheel", "-qq", "--no-deps", "--wheel-dir", made, ROOT)
    return next(made.glob("*.whl"))


@pytest.fixture(scope="module")
def plain(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With what the wheel brings along, and numpy, as the first steps say."""
    place = tmp_path_factory.mktemp("plain")
    run(sys.executable, "-m", "venv", "--without-pip", place)
    python = place / "bin" / "python"
    quietly = ("-qq", "--disable-pip-version-check", "--no-compile")
    run(sys.executable, "-m", "pip", "--python", python, "install", *quietly, f"{wheel}[numpy]")
    return python


def read(python: Path, page: str, place: Path) -> None:
    """As a reader with this Python: nothing is set, and the home, which is the working directory, is empty."""
    unset = {"PYTHONPATH", "WELLKEPT_CACHE", "PYTHONDONTWRITEBYTECODE", "XDG_CACHE_HOME"}
    variables = {name: value for name, value in os.environ.items() if name not in unset}
    variables["HOME"] = str(place)
    # A shell that uses an environment has its programs on the path.
    variables["PATH"] = f"{python.parent}{os.pathsep}{variables['PATH']}"
    inside = [python, "-c", "import wellkept; print(wellkept.__file__)"]
    assert Path(run(*inside, env=variables).strip()).is_relative_to(python.parents[1])
    run(python, ROOT / "tests" / "docs" / "pages.py", ROOT / page, env=variables, cwd=place)


# One test, since each process of tests would make an environment.
def test_pages_run_with_the_wheel_alone(plain: Path, tmp_path: Path) -> None:
    for number, page in enumerate(PLAIN):
        place = tmp_path / str(number)
        place.mkdir()
        read(plain, page, place)
