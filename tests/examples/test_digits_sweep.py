"""The sweep computes once, says what it saved, and goes on after it was stopped or killed."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import wellkept

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "examples" / "digits_sweep.py"
pytestmark = pytest.mark.timeout(600)
FEW = ("--folds", "2", "--settings", "15")


def start(*arguments: str, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(SCRIPT), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"COLUMNS": "80"} | environment,
    )


def sweep(*arguments: str, **environment: str) -> str:
    process = start(*arguments, **environment)
    said, _ = process.communicate(timeout=300)
    assert process.returncode == 0, said
    return said


def evaluations(cache: Path) -> list[wellkept.Call]:
    if not (cache / "index.sqlite").exists():
        return []
    with wellkept.open(cache) as found:
        calls = (found.calls.get(key) for key in list(found.calls.keys()))
        return [call for call in calls if call and call.function == "digits_sweep.evaluate"]


@pytest.fixture
def cache(home: Path) -> Path:
    return home / "cache"  # what WELLKEPT_CACHE says


@pytest.fixture
def half_way(cache: Path) -> Iterator[subprocess.Popen[str]]:
    """A sweep that has kept some of its settings and not all."""
    process = start(*FEW)
    try:
        while len(evaluations(cache)) < 3:
            assert process.poll() is None, process.communicate()[0]
            time.sleep(0.02)
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.mark.long
def test_the_second_run_is_answered_from_the_cache(cache: Path) -> None:
    first = sweep(*FEW)
    assert "15 settings computed" in first
    assert "(drawn" in first
    picture = Path("digits_sweep.png").read_bytes()
    assert picture.startswith(b"\x89PNG")

    second = sweep(*FEW)
    assert "all 15 settings from the cache" in second
    assert "(from the cache" in second
    assert Path("digits_sweep.png").read_bytes() == picture
    table = re.compile(r"^[│┃].*$", re.MULTILINE)
    assert table.findall(second) == table.findall(first)
    assert max(map(len, second.splitlines())) <= 80
    (times,) = re.findall(r"([\d,]+)\s+times\s+faster", second)
    assert int(times.replace(",", "")) > 1
    imports_nothing_heavy()


def imports_nothing_heavy() -> None:
    told = subprocess.run(
        [
            sys.executable,
            "-c",
            f"import runpy, sys; sys.argv = ['digits_sweep', *{FEW}]\n"
            f"try: runpy.run_path({str(SCRIPT)!r}, run_name='__main__')\n"
            "except SystemExit as end: assert end.code == 0\n"
            "heavy = {'numpy', 'sklearn', 'scipy', 'matplotlib', 'pandas'} & set(sys.modules)\n"
            "print('heavy:', heavy or 'nothing')",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "all 15 settings from the cache" in told.stdout  # runpy and python share what is kept
    assert "heavy: nothing" in told.stdout


@pytest.mark.long
def test_ctrl_c_says_one_line_and_the_next_run_goes_on(
    cache: Path, half_way: subprocess.Popen[str]
) -> None:
    half_way.send_signal(signal.SIGINT)
    said, _ = half_way.communicate(timeout=300)
    assert half_way.returncode == 130
    assert "Traceback" not in said
    assert re.search(r"^Stopped\. \d+ settings are kept: run it again to go on\.$", said, re.M)
    goes_on(cache)


@pytest.mark.long
def test_after_a_kill_the_next_run_goes_on(cache: Path, half_way: subprocess.Popen[str]) -> None:
    half_way.kill()
    half_way.wait()
    goes_on(cache)


def goes_on(cache: Path) -> None:
    before = {call.key: call.created for call in evaluations(cache)}
    assert 3 <= len(before) < 15
    said = sweep(*FEW)
    assert f"{15 - len(before)} settings computed" in said
    assert f"{len(before)} settings from the cache" in said
    after = {call.key: call.created for call in evaluations(cache)}
    assert len(after) == 15
    assert before.items() <= after.items()  # not computed again


@pytest.mark.long
def test_two_at_once_compute_each_setting_once(cache: Path) -> None:
    both = [start(*FEW, "--out", f"{i}.png") for i in range(2)]
    said = [process.communicate(timeout=300)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    counts = [re.findall(r"(\d+) settings computed", text) for text in said]
    assert sum(int(count) for found in counts for count in found) == 15
    assert Path("0.png").read_bytes() == Path("1.png").read_bytes()


def test_a_missing_library_is_named_with_what_installs_it() -> None:
    Path("sklearn.py").write_text("raise ModuleNotFoundError(\"No module named 'sklearn'\")")
    process = start(*FEW, PYTHONPATH=str(Path.cwd()))
    said, _ = process.communicate(timeout=300)
    assert process.returncode == 1
    assert "Traceback" not in said
    assert "pip install 'wellkept[demo]'" in said


@pytest.mark.long
def test_without_a_place_to_keep_it_still_works() -> None:
    Path("file").write_text("")
    said = sweep(
        "--folds", "2", "--settings", "3", WELLKEPT_CACHE=str(Path("file", "cache").resolve())
    )
    assert "3 settings computed" in said
    assert Path("digits_sweep.png").is_file()
