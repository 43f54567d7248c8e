"""Each command, as a person and as a program reads it."""

import contextlib
import io
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import wellkept
from wellkept import keep
from wellkept.cli.app import run
from wellkept.stores.index_tables import SCHEMA

Kept = Callable[..., Any]


@keep(name="weather.simulate", version=1)
def simulate(i: int, words: tuple[str, ...] = ()) -> bytearray:
    time.sleep(0.002)
    return bytearray(b"%06d" % i) * 20_000


@keep(name="weather.report", version=1, codec="json")
def report(i: int, place: str = "Rome") -> dict[str, Any]:
    return {"i": i, "place": place}


@keep(name="weather.fail", version=1, errors=ValueError)
def fail(i: int) -> None:
    raise ValueError("the sky fell")


class Loud:
    """Says so when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return unpickled, ()


def unpickled() -> Loud:
    print("UNPICKLED")
    return Loud()


@keep(name="loud", version=1)
def loud() -> Loud:
    return Loud()


@pytest.fixture
def root(home: Path) -> Path:
    """A filled cache, which is the default one."""
    root = home / "cache"
    with wellkept.open(root) as cache, wellkept.use(cache):
        for i in range(5):
            simulate(i)
            report(i)
            report(i)
        with pytest.raises(ValueError, match="sky"):
            fail(1)
    return root


@pytest.fixture
def shell(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Kept:
    """Runs a command; gives what it printed, or with --json what that says."""
    monkeypatch.setenv("COLUMNS", "80")

    def command(*arguments: str, code: int = 0) -> Any:
        got = run(list(arguments))
        out, err = capsys.readouterr()
        assert got == code, (out, err)
        assert "Traceback" not in err
        if arguments[0] != "show" and "--json" not in arguments:  # a table
            assert max(map(len, out.splitlines()), default=0) <= 80
        return json.loads(out) if "--json" in arguments and out else out + err

    return command


def key_of(function: Any, *args: Any) -> str:
    return str(function.key(*args))


# -- where ----------------------------------------------------------------------------------------


def test_where_says_which_and_why_and_makes_nothing(shell: Kept, home: Path) -> None:
    assert f"{home / 'cache'}  (nothing is kept there yet)" in shell("where")
    assert shell("where", "--json") == {
        "cache": str(home / "cache"),
        "source": "WELLKEPT_CACHE",
        "exists": False,
        "options": {},
        "caches": {},
    }
    assert not (home / "cache").exists()


def test_where_reads_the_configuration(
    shell: Kept, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("WELLKEPT_CACHE")
    (home / "wellkept.toml").write_text(
        'cache = "main"\n[caches.main]\nurl = "data"\nmemory = "1 MB"\n'
        '[caches.far]\nurl = "redis://me:secret@host/1?token=secret&db=2"\n'
    )
    found = shell("where", "--json")
    assert found["cache"] == str(home / "data")
    assert found["source"] == str(home / "wellkept.toml")
    assert found["options"] == {"memory": "1 MB"}
    assert found["caches"]["far"] == "redis://***@host/1?token=***&db=2"
    assert shell("where", "--cache", "far", "--json")["exists"] is None
    assert "secret" not in shell("where") + shell("where", "--cache", "far")


# -- ls -------------------------------------------------------------------------------------------


def test_ls_has_a_row_a_function_the_largest_first(shell: Kept, root: Path) -> None:
    lines = shell("ls").splitlines()
    assert " ".join(lines[0].split()) == "function calls size computed uses saved last used"
    assert [line.split()[0] for line in lines[1:]] == [
        "weather.simulate",
        "weather.report",
        "weather.fail",
    ]
    assert "600 kB" in lines[1]
    assert lines[1].endswith("never")
    assert lines[2].endswith("ago")


def test_narrow_tables_drop_columns_and_keep_names(
    shell: Kept, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "laboratory.weather.simulation:the_temperature_of_a_region"
    with wellkept.open(root) as cache:
        long = keep(name=name, version=1, cache=cache)(lambda x, y: x)
        long(1, 2)
    lines = shell("ls").splitlines()
    assert lines[0].split() == ["function", "calls", "size", "uses"]
    assert any(line.startswith(name) for line in lines)
    lines = shell("profile").splitlines()
    assert "keeping" in lines[0]
    assert any(re.match(r"lab[\w.]+(….*|.*:the_.*)_region  ", line) for line in lines), lines
    lines = shell("explain", "*").splitlines()
    assert any("(x=1, y=2)" in line for line in lines)
    assert any("(x=1, y=2)" in line for line in shell("ls", "--calls").splitlines())
    monkeypatch.setenv("COLUMNS", "40")
    assert re.search(r"(?m)^lab\w+\.?…\w*_region  ", shell("ls"))
    monkeypatch.setenv("COLUMNS", "200")
    assert "last used" in run_wide("ls")


def run_wide(*words: str) -> str:
    with contextlib.redirect_stdout(io.StringIO()) as out:
        assert run([*words]) == 0
    return out.getvalue()


def test_ls_as_json(shell: Kept, root: Path) -> None:
    found = shell("ls", "--json")
    assert found["cache"] == str(root)
    first, second, third = found["functions"]
    assert first["function"] == "weather.simulate"
    assert (first["calls"], first["codes"], first["uses"]) == (5, 1, 0)
    assert first["bytes"] >= 600_000
    assert first["seconds"] >= 0.01
    assert first["seconds_saved"] == 0
    assert first["last_used"] is None
    assert abs(first["last_computed"] - time.time()) < 60
    assert (second["calls"], second["uses"]) == (5, 5)
    assert second["seconds_saved"] == pytest.approx(second["seconds"])
    assert third["function"] == "weather.fail"


def test_ls_of_a_function_lists_its_calls(shell: Kept, root: Path) -> None:
    text = shell("ls", "*report")
    assert "i=3, place='Rome'" in text
    assert key_of(report, 3)[:12] in text
    assert "more" not in text
    assert "3 more; --limit 0 lists all" in shell("ls", "weather.report", "--limit", "2")
    found = shell("ls", "weather.report", "--limit", "2", "--json")
    assert found["total"] == 5
    assert [call["arguments"]["i"]["value"] for call in found["calls"]] == [4, 3]
    assert len(shell("ls", "weather.report", "--limit", "0", "--json")["calls"]) == 5


def test_ls_calls_lists_those_of_all_functions(shell: Kept, root: Path) -> None:
    text = shell("ls", "--calls")
    assert "weather.fail(i=1) (raised)" in text
    assert "weather.simulate(i=0" in text
    found = shell("ls", "--calls", "--json")
    assert {call["state"] for call in found["calls"]} == {"done", "failed"}
    assert len(found["calls"]) == found["total"] == 11


def test_an_empty_cache_and_one_that_is_not_there(shell: Kept, home: Path) -> None:
    nowhere = str(home / "nowhere")
    for command in ("ls", "stats", "query", "profile", "du", "runs", "verify"):
        assert "there is no cache in" in shell(command, "--cache", nowhere, code=1)
    for arguments in (["ls"], ["ls", "--calls"]):
        assert "nothing is kept in" in shell(*arguments)
    assert shell("ls", "--json")["functions"] == []
    assert shell("stats", "--json")["calls"] == 0
    assert shell("verify", "--json")["ok"] is True
    assert not (home / "nowhere").exists()
    with wellkept.open(home / "cache"):
        pass
    assert "nothing is kept in" in shell("ls")
    assert shell("stats", "--json")["schema"] == SCHEMA


def test_what_a_name_holds_does_nothing_to_the_terminal(shell: Kept, root: Path) -> None:
    with wellkept.open(root) as cache:
        odd = keep(name="odd\x1b[31m\n[red]name[/red]", version=1, cache=cache)(lambda x: x)
        odd("\x1b]0;title\x07\ud800")
    text = shell("ls") + shell("ls", "odd*") + shell("show", odd.key("\x1b]0;title\x07\ud800"))
    assert "\x1b" not in text
    assert "\x07" not in text
    assert "[red]name[/red]" in text
    assert shell("ls", "odd*", "--json")["total"] == 1


# -- show -----------------------------------------------------------------------------------------


def test_show_takes_a_prefix_and_shows_json_results(shell: Kept, root: Path) -> None:
    key = key_of(report, 2)
    text = shell("show", key[:10])
    assert key in text
    assert "place = 'Rome'" in text
    assert '{"i":2,"place":"Rome"}' in text
    # A second may have begun between the two.
    ago = re.compile(r"\d+ s ago")
    assert ago.sub("", text) == ago.sub("", shell("show", key))
    found = shell("show", key.upper()[:10], "--json")
    assert found["key"] == key
    assert found["function"] == "weather.report"
    assert found["arguments"]["i"] == {"digest": str(wellkept.digest(2)), "value": 2}
    assert found["kept"] == {
        "codec": "json",
        "blobs": 0,
        "loaded": False,
        "text": '{"i":2,"place":"Rome"}',
    }


def test_show_unpickles_nothing_unless_asked(shell: Kept, root: Path) -> None:
    # What is kept first is decoded once, to see that it comes back as it was.
    with (
        wellkept.open(root) as cache,
        wellkept.use(cache),
        contextlib.redirect_stdout(io.StringIO()),
    ):
        loud()
    key = key_of(loud)
    text = shell("show", key)
    assert "UNPICKLED" not in text
    assert "not loaded: that may run code; --value does" in text
    assert shell("show", key, "--json")["kept"]["loaded"] is False
    assert "UNPICKLED" in shell("show", key, "--value")


def test_results_are_of_classes_of_this_directory(
    shell: Kept, root: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / "shapes.py").write_text(
        "from wellkept import keep\nclass Square:\n    def __repr__(self): return 'a square'\n"
        "@keep(name='shapes:draw')\ndef draw(n): return Square()\n"
    )
    subprocess.run([sys.executable, "-c", "import shapes; shapes.draw(1)"], check=True)
    monkeypatch.setattr(sys, "path", [one for one in sys.path if one and Path(one) != home])
    assert "a square" in shell("show", "draw", "--value")
    monkeypatch.delitem(sys.modules, "shapes")


def test_show_value_is_bounded(shell: Kept, root: Path) -> None:
    text = shell("show", key_of(simulate, 1), "--value")
    assert "bytearray(b'000001" in text
    assert len(text) < 3000
    assert "1 blob" in text
    assert "ValueError('the sky fell')" in shell("show", key_of(fail, 1), "--value")
    assert shell("show", key_of(report, 1), "--value", "--json")["kept"]["loaded"] is True


# -- stats ----------------------------------------------------------------------------------------


def test_stats_adds_up(shell: Kept, root: Path) -> None:
    found = shell("stats", "--json")
    assert (found["functions"], found["calls"], found["values"]) == (3, 11, 11)
    assert (found["blobs"], found["uses"], found["damaged_files"]) == (5, 5, 0)
    assert found["blob_bytes"] >= 600_000
    on_disk = sum(p.stat().st_size for p in [*root.glob("index*"), *root.rglob("blobs/*/*")])
    assert found["bytes"] == pytest.approx(on_disk, abs=100_000)
    assert found["seconds"] >= 0.01
    assert 0 < found["seconds_saved"] < found["seconds"]
    assert (found["schema"], found["journal"]) == (SCHEMA, "wal")
    text = shell("stats")
    assert "11 different" in text
    assert "by 5 uses" in text


# -- evict ----------------------------------------------------------------------------------------


def test_evict_says_what_went(shell: Kept, root: Path) -> None:
    would = shell("evict", "--function", "*.simulate", "--dry-run")
    assert would.startswith("would delete 5 calls, 5 results and 5 blobs: 601 kB")
    assert shell("stats", "--json")["calls"] == 11
    assert shell("evict", "--function", "*.simulate", "--yes").startswith("deleted 5 calls")
    assert not list(root.glob("blobs/*/*"))
    assert shell("stats", "--json")["calls"] == 6
    assert "nothing to delete in" in shell("evict", "--function", "*.simulate", "--yes")


def test_evict_by_key_and_age_as_json(shell: Kept, root: Path) -> None:
    keys = [key_of(report, 1)[:8], key_of(report, 2)]
    found = shell("evict", *keys, "--json", "--yes")
    assert found["calls"] == found["values"] == 2
    assert found["blobs"] == 0
    assert found["bytes"] > 0
    assert found["dry_run"] is False
    assert shell("evict", "--older", "30d", "--json", "--yes")["calls"] == 0
    assert shell("evict", "--older", "0 s", "--json", "--yes")["calls"] == 9


def test_evict_by_function_argument_and_tag(shell: Kept, root: Path) -> None:
    with wellkept.open(root) as cache, wellkept.use(cache), wellkept.tags(paper="a"):
        report(7), report(8)
    assert shell("evict", "weather.report", "--arg", "i>=3", "--yes", "--json")["calls"] == 4
    assert shell("evict", "--arg", "i=2", "--where", "seconds>=0", "--yes", "--json")["calls"] == 2
    with wellkept.open(root) as cache, wellkept.use(cache), wellkept.tags(paper="a"):
        report(7), report(8)
    assert shell("evict", "--tag", "paper=b", "--yes", "--json")["calls"] == 0
    assert shell("evict", "--tag", "paper", "--arg", "i=7", "--dry-run", "--json")["calls"] == 1
    assert shell("evict", "--tag", "paper=a", "--older", "1d", "--yes", "--json")["calls"] == 0
    assert shell("evict", "--tag", "paper=a", "--yes", "--json")["calls"] == 2
    assert shell("evict", "weather.simulate", "--yes", "--json")["calls"] == 4
    assert shell("ls", "--calls", "--json")["total"] == 3


def test_a_function_and_an_argument_stand_for_a_key(shell: Kept, root: Path) -> None:
    for command in ("show", "explain"):
        assert shell(command, "weather.report", "--arg", "i=2", "--json")["key"] == key_of(
            report, 2
        )
        assert shell(command, key_of(report, 2)[:9], "--json")["key"] == key_of(report, 2)
    assert shell("lineage", "weather.report", "-a", "i=2", "--json")["focus"] == [key_of(report, 2)]
    # A name that looks like the beginning of a key.
    with wellkept.open(root) as cache:
        face = keep(name="face", version=1, cache=cache)(lambda x: x)
        face(1)
    for command in ("show", "lineage", "explain"):
        assert "face" in shell(command, "face", "--arg", "x=1")


def test_a_script_names_its_functions(shell: Kept, root: Path, home: Path) -> None:
    (home / "pyproject.toml").touch()
    (home / "jobs").mkdir()
    script = home / "jobs" / "fit.py"
    script.write_text("from wellkept import keep\n@keep\ndef fit(n): return n\nfit(1)\n")
    subprocess.run([sys.executable, script], check=True)
    for command in ("ls", "show", "explain", "lineage", "du", "profile", "query"):
        assert "n=1" in (text := shell(command, "jobs/fit.py:fit")) or "jobs.fit:fit" in text
    assert shell("evict", f"{script}:fit", "--yes", "--json")["calls"] == 1
    assert "no function jobs.fit:fit has calls" in shell("clear", f"{script}:fit", "--yes", code=1)


# -- verify ---------------------------------------------------------------------------------------


def test_verify_finds_and_repairs(shell: Kept, root: Path) -> None:
    assert "11 calls, 11 results and 5 blobs (600 kB): all is well" in shell("verify")
    next(iter(root.glob("blobs/*/*"))).unlink()
    text = shell("verify", code=1)
    assert "missing blob" in text
    assert "1 problem: wellkept verify --repair" in text
    found = shell("verify", "--json", code=1)
    assert found["ok"] is False
    assert found["calls"] == 11
    (problem,) = found["problems"]
    assert problem["kind"] == "missing blob"
    assert problem["repaired"] is False
    assert "all problems are repaired" in shell("verify", "--repair")
    assert shell("verify", "--json")["problems"] == []
    assert shell("stats", "--json")["calls"] == 10


def test_verify_of_a_corrupt_index(shell: Kept, root: Path) -> None:
    path = root / "index.sqlite"
    path.write_bytes(b"nothing of the kind" + path.read_bytes()[19:])
    text = shell("verify", code=1)
    assert "wellkept: warning: " in text
    assert "set aside" in text
    assert shell("stats", "--json")["damaged_files"] == 1
    assert "1 damaged: wellkept verify --repair" in shell("stats")
    found = shell("verify", "--repair", "--json")
    assert found["salvaged_calls"] == 11
    assert shell("ls", "--json")["functions"][0]["calls"] == 5
    assert len(list(root.glob("index.salvaged-*.sqlite"))) == 1


# -- as a program ---------------------------------------------------------------------------------


def process(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "wellkept", *arguments],
        capture_output=True,
        text=True,
        env=os.environ | environment,
        stdin=subprocess.DEVNULL,
    )


def test_as_a_module_and_with_its_version() -> None:
    done = process("--version")
    assert (done.returncode, done.stdout, done.stderr) == (
        0,
        f"wellkept {wellkept.__version__}\n",
        "",
    )


def test_without_a_command_it_says_what_it_can() -> None:
    done = process()
    assert done.returncode == 0
    for command in ("where", "ls", "show", "stats", "evict", "verify", "demo"):
        assert f"  {command} " in done.stdout


def test_no_colours_where_there_is_no_terminal(root: Path) -> None:
    for command in (["ls"], ["verify"]):
        done = process(*command)
        assert done.returncode == 0, done.stderr
        assert "\x1b" not in done.stdout + done.stderr
        assert done.stderr == ""


def test_a_reader_that_leaves_early_is_no_error(root: Path) -> None:
    command = f"{sys.executable} -m wellkept ls --calls --json | head -n 1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    assert done.stdout == "{\n"
    assert done.stderr == ""


def test_where_imports_nothing_heavy() -> None:
    code = (
        "import sys; from wellkept.cli.app import run; run(['where']); "
        "print(sorted({'numpy', 'pandas', 'rich.console', 'asyncio'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.long
def test_demo_runs_the_example_as_a_program(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("sklearn")
    pytest.importorskip("matplotlib")
    arguments = ("demo", "--settings", "2", "--folds", "2")
    first = process(*arguments, "--cache", str(home / "demo"))
    assert first.returncode == 0, first.stderr
    assert "2 settings computed" in first.stdout
    second = process(*arguments, "--cache", str(home / "demo"), "--json")
    assert second.returncode == 0
    found = json.loads(second.stdout)
    assert found["exit"] == 0
    assert found["cache"] == str(home / "demo")
    assert found["seconds"] > 0
    assert "all 2 settings from the cache" in second.stderr
