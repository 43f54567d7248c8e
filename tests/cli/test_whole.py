"""Commands about the whole of a cache: du, config, gc, transfer, migrate."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import wellkept
from wellkept import keep
from wellkept.cli.app import run

Shell = Callable[..., Any]


@keep(name="big", version=1)
def big(i: int) -> bytearray:
    return bytearray(b"%06d" % i) * 20_000


@keep(name="small", version=1)
def small(i: int) -> list[int]:
    return [i]


def fill(url: str) -> None:
    with wellkept.open(url) as cache, wellkept.use(cache):
        for i in range(4):
            big(i)
            small(i)


@pytest.fixture(params=["here", "files:here", "sqlite:///here.db"])
def url(request: pytest.FixtureRequest) -> str:
    fill(request.param)
    return str(request.param)


@pytest.fixture
def shell(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Shell:
    monkeypatch.setenv("COLUMNS", "80")

    def command(*arguments: str, code: int = 0) -> Any:
        got = run(list(arguments))
        out, err = capsys.readouterr()
        assert got == code, (out, err)
        assert "Traceback" not in err
        return json.loads(out) if "--json" in arguments and out else out + err

    return command


def test_du_has_a_row_a_function(shell: Shell, url: str) -> None:
    lines = shell("du", "--cache", url).splitlines()
    assert lines[0].split() == ["size", "share", "calls", "function"]
    assert lines[1].split() == ["480", "kB", "100", "%", "4", "big"]
    assert lines[2].split()[-3:] == ["%", "4", "small"]
    assert "8 calls, 8 different results, 4 blobs" in lines[3]
    assert all(len(line) <= 80 for line in lines)
    found = shell("du", "--cache", url, "--json")
    assert (found["calls"], found["blobs"]) == (8, 4)
    assert [row["function"] for row in found["functions"]] == ["big", "small"]
    assert found["bytes"] > 480_000
    assert len(shell("du", "sm*", "--cache", url).splitlines()) == 2
    assert "no function nosuch" in shell("du", "nosuch", "--cache", url, code=1)


def test_calls_are_chosen_and_deleted(shell: Shell, url: str) -> None:
    with wellkept.open(url) as cache, wellkept.use(cache), wellkept.tags(paper="a"):
        small(7), small(8)
    place = ("--cache", url)
    assert shell("query", "small", "--arg", "i>=2", "--csv", *place).count("\n") == 5
    assert shell("show", "small", "--arg", "i=2", "--json", *place)["key"] == small.key(2)
    assert "there are i" in shell("query", "--arg", "j=2", *place, code=2)
    assert "there are i" in shell("query", "--order", "j", *place, code=2)
    assert shell("evict", "small", "--arg", "i<2", "--yes", "--json", *place)["calls"] == 2
    assert (
        shell("evict", "--tag", "paper=a", "--arg", "i=7", "--yes", "--json", *place)["calls"] == 1
    )
    assert shell("evict", "--where", "seconds<0", "--yes", *place).startswith("there is nothing")
    assert shell("query", "--count", "--json", *place)["total"] == 7
    assert "wrote big(i=1)" in shell("export", "big", "big.bin", "-a", "i=1", *place)
    assert Path("big.bin").read_bytes() == bytes(big.__wrapped__(1))
    assert "1 difference\n" in shell("diff", small.key(2), small.key(3), *place, code=1)


def test_gc_collects(shell: Shell, url: str) -> None:
    assert "nothing in" in shell("gc", "--grace", "0", "--cache", url)
    with wellkept.open(url) as cache:
        cache.calls.delete(big.key(1))
    would = shell("gc", "--grace", "0", "--dry-run", "--json", "--cache", url)
    assert would["dry_run"]
    assert would["bytes"] > 120_000
    assert shell("gc", "--grace", "0", "--dry-run", "--cache", url).startswith("would remove")
    done = shell("gc", "--grace", "0", "--json", "--cache", url)
    assert done == would | {"dry_run": False}
    assert "nothing" in shell("gc", "--grace", "0", "--cache", url)
    assert "not a duration" in shell("gc", "--grace", "soon", "--cache", url, code=2)


def test_transfer_copies_and_moves(shell: Shell, url: str, home: Path) -> None:
    would = shell("transfer", url, "./there", "--dry-run")
    assert would.startswith("would copy 8 calls (48")
    assert not (home / "there").exists()
    assert shell("transfer", url, "./there", "--function", "sm*").startswith("copied 4 calls")
    done = shell("transfer", url, "./there", "--move", "--json")
    assert (done["calls"], done["same"], done["skipped"], done["move"]) == (4, 4, 0, True)
    assert done["target"] == str(home / "there")
    assert "nothing is kept" in shell("ls", "--cache", url)
    assert [row["calls"] for row in shell("ls", "--cache", "./there", "--json")["functions"]] == [
        4,
        4,
    ]
    assert shell("transfer", "./there", "./more").startswith("copied 8 calls")
    assert "; 8 were so already" in shell("transfer", "./there", "./more")
    assert "no cache in" in shell("transfer", "./nosuch", "./there", code=1)
    assert "not to itself" in shell("transfer", "./there", "./there", code=2)


def test_migrate_says_what_it_did(shell: Shell, url: str) -> None:
    assert shell("migrate", "--cache", url, "--dry-run").startswith("would migrate 0 calls; 8 were")
    done = shell("migrate", "--cache", url, "--json")
    assert (done["calls"], done["same"], done["skipped"]) == (0, 8, 0)


CONFIG = """
cache = "team"
[caches.local]
url = "data"
memory = "1 MB"
[caches.db]
url = "postgresql://me:${WELLKEPT_DB}@host/db"
[caches.old]
url = "redis://:s3cret@host/0?token=s3cret"
[caches.team]
stack = ["local", "files:shared"]
limit = { bytes = "1 GB" }
"""


def test_config_shows_what_is_in_force_and_whence(
    shell: Shell, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("WELLKEPT_CACHE")
    assert shell("config") == f'# from default\ncache = "{home}/.cache/wellkept"\n'
    (home / "wellkept.toml").write_text(CONFIG)
    from wellkept.caches.active import reset

    reset()
    shown = shell("config")
    assert (
        shown.startswith(f"# from {home}/wellkept.toml\n")
        or f"# from {home}/wellkept.toml\n" in shown
    )
    assert "s3cret" not in shown
    assert 'cache = "team"' in shown
    assert f'url = "{home}/data"' in shown
    assert f'stack = ["local", "files:{home}/shared"]' in shown
    assert 'limit = { bytes = "1 GB" }' in shown
    found = shell("config", "--json")
    assert (found["cache"], found["source"]) == ("team", str(home / "wellkept.toml"))
    assert found["caches"]["old"]["url"] == "redis://***@host/0?token=***"
    assert not shell("config", "--toml").startswith("#")
    assert "stack of local, files:" in shell("where")
    assert shell("where", "--json")["cache"].startswith("stack of local")
    assert "nothing is kept" in shell("ls")
    monkeypatch.setenv("WELLKEPT_CACHE", "local")
    reset()
    assert "# from WELLKEPT_CACHE" in shell("config")


@pytest.mark.parametrize("command", ["du", "gc", "migrate", "verify"])
@pytest.mark.parametrize("place", ["./nosuch", "files:nosuch", "sqlite:///nosuch.db"])
def test_a_place_that_is_not_there_is_no_empty_cache(
    shell: Shell, command: str, place: str, home: Path
) -> None:
    assert "there is no cache in" in shell(command, "--cache", place, code=1)
    assert not list(home.glob("nosuch*"))


def test_nothing_is_moved_to_where_nothing_stays(shell: Shell, url: str) -> None:
    for place in ("void:", "memory:"):
        for options in (["--move"], []):
            assert "nothing left" in shell("transfer", url, place, *options, code=2)
    with wellkept.open(url) as cache, wellkept.open("void:") as void:
        done = cache.transfer(void, move=True)
        assert (done.calls, done.skipped) == (0, 8)
        assert cache.size().calls == 8
