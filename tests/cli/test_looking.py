"""`wellkept ui`, `top`, `doctor` and `evict --free`: what they print, and what goes wrong."""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.web.sites import filled

import wellkept
from wellkept.cli.app import run

Shell = Callable[..., str]


@pytest.fixture
def shell(capsys: pytest.CaptureFixture[str]) -> Shell:
    def command(*arguments: str, code: int = 0) -> str:
        got = run(list(arguments))
        out, err = capsys.readouterr()
        assert got == code, (out, err)
        assert "Traceback" not in err
        return out + err

    return command


@pytest.fixture
def made(home: Path) -> Path:
    with wellkept.open(home / "cache", memory=0) as cache:
        filled(cache)
    return home / "cache"


def test_the_first_line_is_the_address(shell: Shell, made: Path) -> None:
    command = [sys.executable, "-m", "wellkept", "ui", str(made), "--no-browser"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            url = process.stdout.readline().strip()
            assert url.startswith("http://127.0.0.1:")
            answer = httpx.Client(follow_redirects=True, timeout=60).get(url)
            assert "lab.train:fit" in answer.text
            port = url.split(":")[2].partition("/")[0]
            again = shell("ui", str(made), "--no-browser", "--port", port, code=2)
            assert f"can't listen on 127.0.0.1:{port}" in again
        finally:
            process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
        assert "Traceback" not in errors


def test_pages_are_written(shell: Shell, made: Path, home: Path) -> None:
    assert "wrote" in shell("ui", str(made), "--export", str(home / "out"))
    assert "lab.train:fit" in (home / "out" / "index.html").read_text()
    (home / "file").write_text("")
    assert "can't write pages" in shell("ui", str(made), "--export", str(home / "file"), code=2)


@pytest.mark.parametrize("command", ["ui", "top", "doctor"])
def test_no_such_cache(shell: Shell, command: str) -> None:
    said = ["--no-browser"] if command == "ui" else ["--json"]
    assert "there is no cache in" in shell(command, "--cache", "./nowhere", *said, code=1)


def test_a_cache_of_a_newer_version(shell: Shell, made: Path) -> None:
    with sqlite3.connect(made / "index.sqlite") as c:
        c.execute("PRAGMA user_version = 99")
        c.execute("UPDATE meta SET value = '99' WHERE name = 'schema'")
    assert "a newer wellkept made this cache" in shell("ui", str(made), "--no-browser", code=1)
    assert "a newer wellkept made this cache" in shell("doctor", "--cache", str(made), code=1)


def test_a_damaged_cache(shell: Shell, made: Path) -> None:
    (made / "index.sqlite").write_bytes(b"this is no database " * 400)
    (made / "index.sqlite-wal").unlink(missing_ok=True)
    said = json.loads(
        shell("doctor", "--cache", str(made), "--json", code=1).partition("\nwellkept:")[0]
    )
    bad = {one["name"]: one for one in said["checks"] if one["state"] == "bad"}
    assert bad["damage"]["command"] == "wellkept verify --repair"


def test_a_price_and_a_cache_that_are_none(shell: Shell, made: Path) -> None:
    assert "--price" in shell("ui", str(made), "--price", "much", "--no-browser", code=2)
    assert "named twice" in shell("ui", str(made), "--cache", str(made), "--no-browser", code=2)


def test_looking_makes_no_cache(home: Path) -> None:
    from wellkept.cli.ui import _site
    from wellkept.web.overview import today

    with _site(None) as site:
        assert today(site, {})["calls"] == 0
        assert site.summary(60) is not None
        assert site.name == str(home / "cache")
        assert not (home / "cache").exists()
        with wellkept.open(home / "cache") as cache:
            filled(cache)
        site.look()
        # The sums of what stood in for it are not its own.
        assert site.summaries.value is None
        assert today(site, {})["calls"] == 11
        assert site.name == str(home / "cache")


def test_the_doctor(shell: Shell, made: Path) -> None:
    text = shell("doctor", "--cache", str(made))
    for name in ("schema", "damage", "file system", "space", "leases", "contents"):
        assert f" {name} " in text
    assert "all is well" in shell("doctor", "--verify", "--cache", str(made))


def test_top_looks_once(shell: Shell, made: Path) -> None:
    text = shell("top", "--once", "--cache", str(made))
    assert "version 1 -> 2" in text
    assert "computing: nothing" in text
    found: dict[str, Any] = json.loads(shell("top", "--json", "--cache", str(made)))
    assert found["today"]["calls"] == 11
    assert found["live"]["jobs"][0]["store"] == "jobs"


def test_as_much_as_is_asked_for_is_freed(shell: Shell, home: Path) -> None:
    with wellkept.open(home / "cache", memory=0) as cache:
        sized = wellkept.keep(cache=cache, name="lab:sized", version=1)(
            lambda x: b"x" * 10_000 + bytes([x])
        )
        for x in range(10):
            sized(x)
        place = ("--cache", str(home / "cache"))
        trial = json.loads(shell("evict", "--free", "25 kB", "--dry-run", "--json", *place))
        assert (trial["results"], trial["dry_run"]) == (3, True)
        assert cache.size().values == 10
        done = json.loads(shell("evict", "--free", "25 kB", "--yes", "--json", *place))
        assert (done["results"], done["bytes"]) == (3, trial["bytes"])
        assert cache.size().values == 7
        assert cache.query().count() == 10, "records stay"
    assert "nothing to delete" in shell("evict", "--free", "0 B", "--yes", *place)
    assert "give it alone" in shell("evict", "--free", "1 kB", "--older", "1 d", *place, code=2)
