"""From an empty directory and the built wheel: README, the first steps and every how-to run as printed."""

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from tests.docs.pages import NEEDS, PAGES, ROOT

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


def environment(place: Path, requirement: str, *options: str) -> Path:
    """A fresh environment with that requirement and no other, and its Python."""
    run(sys.executable, "-m", "venv", place)
    python = place / "bin" / "python"
    run(python, "-m", "pip", "install", "-qq", "--disable-pip-version-check", *options, requirement)
    return python


@pytest.fixture(scope="module")
def plain(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With what the wheel brings along, and numpy, as the first steps say."""
    return environment(tmp_path_factory.mktemp("plain"), f"{wheel}[numpy]")


@pytest.fixture(scope="module")
def full(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With the optional packages too: those that the tests are installed with."""
    place = tmp_path_factory.mktemp("full")
    python = environment(place, str(wheel), "--no-deps")
    (site,) = place.glob("lib/python*/site-packages")
    # Behind the environment's own packages, so that wellkept is the wheel.
    (site / "zz-tests.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return python


def read(python: Path, page: str) -> None:
    """As a reader with this Python: nothing is set, and the working directory is empty."""
    unset = {"PYTHONPATH", "WELLKEPT_CACHE", "PYTHONDONTWRITEBYTECODE"}
    variables = {name: value for name, value in os.environ.items() if name not in unset}
    # A shell that uses an environment has its programs on the path.
    variables["PATH"] = f"{python.parent}{os.pathsep}{variables['PATH']}"
    inside = [python, "-c", "import wellkept; print(wellkept.__file__)"]
    assert Path(run(*inside, env=variables).strip()).is_relative_to(python.parents[1])
    run(python, ROOT / "tests" / "docs" / "pages.py", ROOT / page, env=variables)


@pytest.mark.parametrize("page", PLAIN)
def test_a_page_runs_with_the_wheel_alone(plain: Path, page: str) -> None:
    read(plain, page)


@pytest.mark.parametrize(
    "page", [name for path in PAGES if (name := path.relative_to(ROOT).as_posix()) not in PLAIN]
)
def test_a_page_runs_with_the_wheel(full: Path, page: str) -> None:
    for module in NEEDS.get(page, ()):
        pytest.importorskip(module)
    read(full, page)
