"""`wellkept doctor`: what is wrong with a set-up, what it says to do, and its exit code."""

from __future__ import annotations

import json
import os
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import wellkept
from wellkept._process import host_name
from wellkept.caches.active import reset
from wellkept.cli.app import run
from wellkept.cli.set_up_checks import VARIABLES
from wellkept.stores.keyring import Keyring
from wellkept.stores.leases import Lease

Doctor = Callable[..., dict[str, list[dict[str, str]]]]


@pytest.fixture
def doctor(capsys: pytest.CaptureFixture[str]) -> Doctor:
    """The checks, by name; each is in the text for people, too."""

    def command(*words: str, code: int = 0) -> dict[str, list[dict[str, str]]]:
        reset()
        assert run(["doctor", *words]) == code
        text = capsys.readouterr().out
        reset()
        assert run(["doctor", "--json", *words]) == code
        said = json.loads(capsys.readouterr().out)
        assert said["ok"] is (code == 0)
        found: dict[str, list[Any]] = {}
        for one in said["checks"]:
            found.setdefault(one["name"], []).append(one)
            assert one["state"] in ("ok", "info", "warn", "bad")
            assert f"{one['state']:<5}{one['name']} " in text
            assert one["command"] in text
        assert any(one["state"] == "bad" for one in said["checks"]) is (code == 1)
        return found

    return command


def test_a_set_up_that_is_well(doctor: Doctor, home: Path) -> None:
    with wellkept.open(home / "cache"):
        pass
    found = doctor()
    for name, says in {
        "configuration": "no file, so the defaults",
        "environment": f"WELLKEPT_CACHE={home / 'cache'}",
        "cache": f"{home / 'cache'}, by WELLKEPT_CACHE",
        "limit": "none: it grows",
        "file system": ", local",
        "keys": "none",
        "extras": "not installed: ",
        "versions": "SQLite",
    }.items():
        (check,) = found[name]
        assert says in check["text"]
        assert check["state"] in ("ok", "info")
    # Also those whose packages are for some versions of Python only.
    assert ("zstd" in found["extras"][0]["text"]) is (sys.version_info < (3, 14))


def test_nothing_is_kept_yet_and_nothing_is_made(doctor: Doctor, home: Path) -> None:
    assert "made by the first call" in doctor()["cache"][0]["text"]
    assert not (home / "cache").exists()


def test_where_no_cache_can_be_made(
    doctor: Doctor, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / "file").write_text("")
    monkeypatch.setenv("WELLKEPT_CACHE", str(home / "file" / "cache"))
    assert f"as {home / 'file'} can't be written to" in doctor(code=1)["cache"][0]["text"]
    (found,) = doctor("--cache", "./nosuch", code=1)["cache"]
    assert (found["state"], found["text"]) == ("bad", f"there is no cache in {home / 'nosuch'}")


def test_caching_that_is_switched_off(doctor: Doctor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WELLKEPT_CACHE", "off")
    (found,) = doctor()["cache"]
    assert (found["state"], "switched off" in found["text"]) == ("warn", True)


def test_files_and_variables(doctor: Doctor, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WELLKEPT_CACHE")
    (home / "wellkept.toml").write_text(
        'cache = "mine"\n[caches.mine]\nurl = "data"\nlimit = "1 GB"\n'
        '[caches.team]\nurl = "redis://:${TEAM_PASSWORD}@host/0"\n'
    )
    (home / "pyproject.toml").write_text('[tool.wellkept]\ncache = "./other"\n')
    monkeypatch.setenv("WELLKEPT_CAHCE", "x")
    found = doctor()
    assert found["configuration"][0]["state"] == "warn"
    assert str(home / "pyproject.toml") in found["configuration"][0]["text"]
    assert found["limit"][0] | {"name": ""} == {
        "name": "", "state": "ok", "text": "bytes = 1 GB", "command": "",
    }  # fmt: skip
    unset, unknown, _ = found["environment"]
    assert "TEAM_PASSWORD is not set, which the cache team needs" in unset["text"]
    assert unknown["text"].endswith("did you mean 'WELLKEPT_CACHE'?")
    (home / "wellkept.toml").write_text("cach = 1\n")
    found = doctor(code=1)
    assert f"{home / 'wellkept.toml'}:1: cach: is not known" in found["configuration"][0]["text"]
    assert "versions" in found


def test_secrets_that_others_can_read(doctor: Doctor, home: Path) -> None:
    Keyring().make()
    assert doctor()["keys"][0]["text"].startswith("1 in ")
    Keyring().path.chmod(0o644)
    (tokens := home / ".config" / "wellkept" / "tokens.json").write_text("{}")
    tokens.chmod(0o644)
    found = doctor(code=1)
    assert found["keys"][0]["command"] == f"chmod 600 {Keyring().path}"
    assert found["tokens"][0]["command"] == f"chmod 600 {tokens}"


def test_a_cache_that_can_not_be_opened(doctor: Doctor, home: Path) -> None:
    with wellkept.open(home / "cache"):
        pass
    (home / "cache").chmod(0o777)
    assert "chmod go-w" in doctor(code=1)["open"][0]["text"]


def test_leases_of_the_dead(doctor: Doctor, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WELLKEPT_CACHE")
    (home / "wellkept.toml").write_text('cache = "./net"\nnetwork = true\n')
    with wellkept.open(home / "net", network=True) as cache:
        records, now = cache.backend.locks.records, time.time()
        mine, dead = (f"{host_name()}|{pid}|0|0" for pid in (os.getpid(), 2**22 + 1))
        assert records.swap(b"a" * 32, None, Lease(mine, 1, 1, now + 4))
        assert "stale leases" not in doctor()
        assert records.swap(b"b" * 32, None, Lease(dead, 1, 1, now + 4))
        assert records.swap(b"c" * 32, None, Lease("elsewhere|1|0|0", 1, 1, now - 3600))
        (found,) = doctor()["stale leases"]
    assert found["state"] == "warn"
    assert found["text"].startswith("2 are of owners that are gone")


def test_each_variable_that_is_read_is_known() -> None:
    source = Path(wellkept.__file__).parent
    read = {
        name
        for path in source.rglob("*.py")
        for name in re.findall(r"environ[^\n]*?[\"'](WELLKEPT_[A-Z]+)", path.read_text())
    }
    assert read == {*VARIABLES}
