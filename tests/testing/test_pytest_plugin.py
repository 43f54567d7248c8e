"""The pytest plugin, in sessions of its own: whose cache a test uses, and what fixtures are told."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.pytest_entry import with_plugin

import wellkept

TESTS = """
import os, subprocess, sys
import pytest, wellkept
from wellkept import keep

@keep
def square(n):
    return [n * n]

@keep(cache="team")
def shared(n):
    return [n]

EARLY = square(3)

@pytest.mark.parametrize("again", range(2))
def test_one_test_does_not_see_another(again, wellkept_cache):
    assert wellkept.active_cache() is wellkept_cache
    assert not square.contains(3) and not shared.contains(3)
    square(3), shared(3)
    hits = square.stats().hits + shared.stats().hits
    square(3), shared(3)
    assert square.stats().hits + shared.stats().hits == hits + 2
    assert square.cache != shared.cache

def test_processes_have_it_too(wellkept_cache):
    code = "import wellkept; print(wellkept.active_cache())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(wellkept_cache)

def test_what_a_test_says_goes_first(tmp_path, monkeypatch):
    monkeypatch.setenv("WELLKEPT_CACHE", str(tmp_path / "own"))
    square(4)
    assert (tmp_path / "own").is_dir()

@pytest.mark.wellkept("off")
def test_one_without():
    square(3), shared(3)
    assert not square.contains(3) and not shared.contains(3)

def test_certificates(assert_faithful, assert_invalidates):
    assert_faithful(square, 5)
"""

CONFIGURED = """
import pytest
from wellkept import keep

@keep
def square(n):
    return [n * n]

@pytest.mark.wellkept("real")
def test_real():
    square(3)
    assert square.contains(3)

@pytest.mark.wellkept("read")
def test_read():
    assert square.contains(3)
    square(4)
    assert not square.contains(4)

@pytest.mark.wellkept("fresh")
def test_fresh():
    assert not square.contains(3)
    square(4)
    assert square.contains(4)

def test_off():
    square(3)
    assert not square.contains(3)
"""


def session(*arguments: str, **variables: str) -> str:
    """Run pytest in the working directory; return what it prints and its exit code."""
    without = [f"-pno:{name}" for name in ("cacheprovider", "hypothesispytest", "anyio", "timeout")]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", *without, *arguments],
        capture_output=True,
        text=True,
        env=with_plugin() | variables,
        timeout=100,
        check=False,
    )
    return f"{done.stdout}{done.stderr}\nexit {done.returncode}"


@pytest.fixture
def configured(home: Path) -> Path:
    """A project with a configuration of a default cache and a named one."""
    Path("wellkept.toml").write_text(
        'cache = "./mine"\n[caches.team]\nurl = "./team"\nlimit = "1 GB"\n', "utf-8"
    )
    os.environ.pop("WELLKEPT_CACHE", None)
    return home


def test_each_test_has_an_empty_cache_that_goes_with_it(configured: Path) -> None:
    Path("test_it.py").write_text(TESTS, "utf-8")
    temporary = configured / "temporary"
    temporary.mkdir()
    said = session("-n2", TMPDIR=str(temporary), WELLKEPT_CACHE=str(configured / "user"))
    assert "6 passed" in said
    assert not [path.name for path in configured.iterdir() if path.name in ("mine", "team", "user")]
    assert [path.name[:7] for path in temporary.iterdir()] == ["pytest-"]  # pytest keeps its own


def test_off_read_and_real(configured: Path) -> None:
    Path("test_it.py").write_text(CONFIGURED, "utf-8")
    assert "4 passed" in session("--wellkept=off", WELLKEPT_LIMIT="1 GB")
    assert wellkept.open("mine").query().count() == 1


def test_a_wrong_mode_is_told_before_tests_run(home: Path) -> None:
    Path("test_it.py").write_text(
        "import pytest\n@pytest.mark.wellkept('of')\ndef test_it(): assert False\n", "utf-8"
    )
    said = session()
    assert "@pytest.mark.wellkept takes one of fresh, off, read, real" in said
    assert "exit 4" in said


def test_keep_and_fixtures(home: Path) -> None:
    above = (
        "import pytest\nfrom wellkept import keep\n@keep\n@pytest.fixture\ndef made(): return 1\n"
    )
    Path("test_above.py").write_text(f"{above}def test_it(made): pass\n", "utf-8")
    below = above.replace("@keep\n@pytest.fixture", "@pytest.fixture\n@keep")
    Path("test_below.py").write_text(f"{below}def test_it(made): assert made == 1\n", "utf-8")
    yields = below.replace("return 1", "yield 1")
    Path("test_yields.py").write_text(f"{yields}def test_it(made): pass\n", "utf-8")
    said = session("--continue-on-collection-errors")
    assert "@keep stands above @pytest.fixture" in said
    assert "the fixture made yields, and a hit would skip what it sets up" in said
    assert "1 passed, 2 errors" in said


def test_a_session_without_kept_functions_imports_next_to_nothing(home: Path) -> None:
    Path("test_it.py").write_text(
        "import sys\ndef test_it(): print('loaded', *(n for n in sys.modules if 'wellkept' in n))\n",
        "utf-8",
    )
    said = session("-s")
    loaded = said.partition("loaded ")[2].partition("\n")[0].split()
    assert "wellkept.testing.pytest_plugin" in loaded
    assert not {"wellkept.caches", "wellkept.memo", "wellkept.errors", "wellkept.hashing"} & {
        *loaded
    }
