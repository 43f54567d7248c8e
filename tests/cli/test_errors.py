"""What goes wrong is one line on standard error and an exit code: 2 for what can't be asked."""

import json
import shutil
import sys
from pathlib import Path

import pytest
from tests.forks import Forks

import wellkept
from wellkept import keep
from wellkept.caches.option_text import redacted
from wellkept.cli import setup
from wellkept.cli.app import run


@keep(name="one", version=1)
def one(i: int) -> int:
    return i


@pytest.fixture
def filled(home: Path) -> Path:
    with wellkept.open(home / "cache") as cache, wellkept.use(cache):
        for i in range(300):
            one(i)
    return home / "cache"


def complaint(capsys: pytest.CaptureFixture[str], *arguments: str, code: int | None) -> str:
    got = run(list(arguments))
    assert got in ((1, 2) if code is None else (code,))
    out, err = capsys.readouterr()
    if "--json" in arguments:
        error = json.loads(out)["error"]
        assert (f"wellkept: {error['message']}\n", error["exit"]) == (err, got)
    else:
        assert out == ""
    assert err.startswith("wellkept: ")
    assert err.count("\n") == 1
    return err


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["show", "0" * 64], 1, "is kept in"),
        (["show", "00000000"], 1, "nothing that begins with 00000000"),
        (["show", "xyz"], 1, "no function xyz has calls"),
        (["show", "x" * 64], 1, "has calls in"),
        (["show", "one"], 2, "one names 300 calls"),
        (["show", "one", "--arg", "i=3", "--arg", "j=3"], 2, "--arg j: no such call"),
        (["show", "one", "--arg", "i=999"], 1, "has i=999"),
        (["show", "abcd", "--arg", "i=3"], 1, "nothing that begins with abcd"),
        (["lineage", "one", "--arg", "i=999"], 1, "no call of one in"),
        (["lineage", "abcd", "--arg", "i=999"], 2, "--arg goes with a function"),
        (["evict", "one", "abcd", "--yes"], 1, "nothing that begins with abcd"),
        (["evict", "one", "two", "--yes"], 2, "keys or one function"),
        (["evict", "--tag", "a>>b", "--yes"], 2, "there is no >>"),
        (["evict", "--arg", "j=3", "--yes"], 2, "there are i"),
        (["show"], 2, "wellkept show --help"),
        (["ls", "won"], 1, "did you mean 'one'?"),
        (["ls", "nothing*like"], 1, "no function nothing*like"),
        (["ls", "--limit", "-1"], 2, "--limit -1: "),
        (["--cache", "x", "ls"], 2, "options of a command stand behind it"),
        (["gc", "--grace", "soon"], 2, "--grace: not a duration"),
        (["store", "set", "s", "k", "v", "--ttl", "soon"], 2, "--ttl: not a duration: 'soon'"),
        (["tokens", "add", "ann", "write:"], 2, "'write:' names no namespace"),
        (["tokens", "add", "ann", "--days", "-3"], 2, "--days -3: "),
        (["keys", "rm", "nosuch"], 1, "begins with 'nosuch'"),
        (["ls", "--limit", "many"], 2, "many"),
        (["evict"], 2, "say what to delete"),
        (["evict", "--older", "soon"], 2, "not a duration: 'soon'"),
        (["evict", "--older", "-3d"], 2, "not a duration"),
        (
            ["evict", "--older", "30"],
            2,
            "--older: 30 of what? Give the unit: 30s, 30min, 30h, 30d or",
        ),
        (["evict", "--older", "30", "--yes"], 2, "30 of what?"),
        (["gc", "--grace", "30"], 2, "--grace: 30 of what?"),
        (["runs", "--forget", "--older", "30", "--yes"], 2, "--older: 30 of what?"),
        (["evict", "--free", "30", "--yes"], 2, "--free: 30 of what?"),
        (["evict", "--free", "lots", "--yes"], 2, "--free: not a size: 'lots'"),
        (["verify", "--function", "one", "--sample", "3"], 2, "'one' is no function"),
        (["evict", "--older", "30d"], 2, "say --yes"),
        (["evict", "one"], 2, "say --yes"),
        (["evict", "--free", "1 kB"], 2, "say --yes"),
        (["runs", "--forget"], 2, "say --yes"),
        (["review", "job:one", "--forget"], 2, "say --yes"),
        (["store", "rm", "jobs", "--store"], 2, "say --yes"),
        (["ls", "--cache", "./nosuch"], 1, "there is no cache in"),
        (["stats", "--cache", "./nosuch"], 1, "there is no cache in"),
        (["lineage", "abcd", "--cache", "./nosuch"], 1, "there is no cache in"),
        (["evict", "0" * 64, "--yes"], 1, "no call"),
        (["verify", "--discard"], 2, "--repair"),
        (["verify", "--no-such"], 2, "wellkept verify --help"),
        (["nosuch"], 2, "kept --help"),
        (["transfer", "nosuch", "./b"], 2, "wellkept: no cache is named 'nosuch'"),
        (["ls", "--cache", "nosuch"], 2, "--cache: no cache is named 'nosuch'"),
        (["ls", "--cache", ""], 2, "empty path"),
        (["ls", "--cache", "gopher://x/y"], 2, "no such scheme"),
    ],
    ids=lambda part: " ".join(part) if isinstance(part, list) else None,
)
def test_bad_input(
    filled: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    code: int,
    says: str,
) -> None:
    assert says in complaint(capsys, *arguments, code=code)
    if "--no-such" not in arguments and "nosuch" not in arguments[:1]:
        assert says in complaint(capsys, *arguments, "--json", code=code)


def test_what_is_not_there_yet_is_named_as_it_will_be(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for command in (
        ["show", "abcd"],
        ["explain", "one"],
        ["lineage", "abcd"],
        ["clear", "one", "--yes"],
    ):
        said = complaint(capsys, *command, code=1)
        assert str(home / "cache") in said
        assert "memory" not in said
    assert "abcd" in complaint(capsys, "show", "abcd", "--json", code=1)


def test_a_limit_at_the_end_of_a_path_is_no_part_of_it(
    filled: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["ls", "--cache", f"{filled}?limit=1GB", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["functions"][0]["calls"] == 300
    assert run(["where", "--cache", f"{filled}?limit=1GB", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["exists"] is True


def test_an_ambiguous_prefix(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with wellkept.open(home / "cache") as cache:
        for i in range(2):
            key = bytes([0xAB, 0xCD, i]) + b"\0" * 29
            cache.keep(key, i, function="f", code="none", arguments={})
    assert "abcd fits several" in complaint(capsys, "show", "abcd", code=2)
    with wellkept.open(home / "cache") as cache:
        keep(name="lab:abcd00", version=1, cache=cache)(lambda: 1)()
    for command in (["show"], ["evict", "--yes"], ["explain"], ["export"]):
        more = ["x.json"] if command == ["export"] else []
        said = complaint(capsys, *command, "abcd00", *more, code=2)
        assert (
            "is a function and the beginning of the key abcd000000000000: say 'lab:abcd00'" in said
        )
    assert run(["evict", "lab:abcd00", "--yes", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["calls"] == 1
    assert "abcd fits several" in complaint(capsys, "evict", "abcd", "--yes", code=2)


def test_a_malformed_configuration(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / "wellkept.toml").write_text("cache = \n")
    for command in ("where", "ls", "stats", "verify"):
        assert "wellkept.toml:1" in complaint(capsys, command, code=2)


def test_a_cache_that_is_a_file(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (home / "file").write_text("x")
    assert "file" in complaint(capsys, "ls", "--cache", str(home / "file"), code=1)


def test_a_cache_that_others_can_write_to(filled: Path, capsys: pytest.CaptureFixture[str]) -> None:
    filled.chmod(0o777)
    assert "chmod go-w" in complaint(capsys, "ls", code=1)


@pytest.mark.long
def test_a_read_only_directory(filled: Path) -> None:
    """Read by another user, if this one is a superuser, who can write anywhere."""
    shutil.copytree(filled, filled.parent / "other")
    (filled.parent / "other").chmod(0o700)
    for path in (filled.parent, filled, *filled.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)
    answered = [["ls", "--json"], ["verify"], ["stats"]]
    refused = [["evict", "--older", "0 s", "--yes"], ["verify", "--repair"]]
    # Another user may not be able to read the interpreter's modules: first all are imported.
    begin = f"""if True:
        import contextlib, importlib, io, json, os, pathlib, platformdirs, sys, wellkept
        from wellkept.cli.app import run
        root = pathlib.Path(wellkept.__file__).parent
        for path in sorted(root.rglob("*.py")):
            module = path.relative_to(root.parent).with_suffix("").parts
            if module[1] not in ("examples", "integrations", "testing", "web") and module[-1] != "__main__":
                with contextlib.suppress(ImportError):
                    importlib.import_module(".".join(module))
        for command in {(*answered, *refused)!r}:
            for more in (["--cache", "./other"], ["--cache", "./other", "nosuch"]):
                with contextlib.redirect_stdout(io.StringIO()):
                    with contextlib.redirect_stderr(io.StringIO()):
                        run([*command, *more])
    """
    source = """if True:
        import contextlib, io, json, os, sys
        from wellkept.cli.app import run
        if os.geteuid() == 0:
            os.setuid(65534)
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = run(sys.argv[1:])
        print(json.dumps([code, out.getvalue(), err.getvalue()]))
    """
    forks = Forks(begin)

    def ran(arguments: list[str]) -> tuple[int, str, str]:
        _, said = forks.run(source, ["wellkept", *arguments])
        code, out, err = json.loads(said)
        return code, out, err

    try:
        (_, listed, _), (_, verified, _), (code, _, _) = map(ran, answered)
        assert json.loads(listed)["functions"][0]["calls"] == 300
        assert verified.endswith("all is well\n")
        assert code == 0
        for arguments in refused:
            code, out, err = ran(arguments)
            assert (code, out) == (1, "")
            assert "read-only" in err
            assert err.count("\n") == 1
    finally:
        forks.close()
        for path in (filled.parent, filled, *filled.rglob("*")):
            path.chmod(0o700)


def test_a_newer_schema_is_refused(filled: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import sqlite3

    with sqlite3.connect(filled / "index.sqlite") as c:
        c.execute("UPDATE meta SET value = '99' WHERE name = 'schema'")
        c.execute("PRAGMA user_version = 99")
    c.close()
    assert "upgrade wellkept" in complaint(capsys, "ls", code=1)


def test_a_missing_extra_is_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(setup, "_NEEDS", ("no_such_module",))
    assert "pip install 'wellkept[demo]'" in complaint(capsys, "demo", code=2)


def test_secrets_are_never_printed(capsys: pytest.CaptureFixture[str]) -> None:
    for url in (
        "postgresql://me:secret@host/db",
        "redis://:secret@host",
        "redis://:sec/ret@host",
        "nosuch://me:secret@host",
        "https://me:s@secret@host/path",
        "s3://bucket/prefix?secret_key=secret&region=here",
        "https://host/?access_token=secret",
    ):
        for command in (["ls"], ["stats"], ["verify"], ["evict", "--older", "1d"]):
            said = complaint(capsys, *command, "--cache", url, code=None)
            assert "secret" not in said.replace("secret_key=***", "")
            assert "ret@" not in said
        run(["where", "--cache", url])
        said = "".join(capsys.readouterr())
        assert "host" in said or "bucket" in said
        assert "secret" not in said.replace("secret_key=***", "")
    assert redacted("no URL, me@example.org") == "no URL, me@example.org"


def test_asks_before_it_deletes_on_a_terminal(
    filled: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    asked: list[str] = []

    def confirm(text: str, **_: object) -> bool:
        asked.append(text)
        return len(asked) > 1

    monkeypatch.setattr("typer.confirm", confirm)
    assert "nothing was deleted" in complaint(capsys, "evict", "--function", "one", code=1)
    with wellkept.open(filled) as cache:
        assert len(list(cache.calls.keys())) == 300
    assert run(["evict", "--function", "one"]) == 0
    assert asked[0].startswith("Delete 300 calls")
    with wellkept.open(filled) as cache:
        assert not list(cache.calls.keys())
    assert run(["evict", "--older", "0", "--yes"]) == 0
    assert len(asked) == 2


def test_clear_asks_or_is_told_yes(
    filled: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stdin, "isatty", lambda: False, raising=False)
    assert "--yes" in complaint(capsys, "clear", code=2)
    assert "no function none has calls" in complaint(capsys, "clear", "none", "--yes", code=1)
    asked: list[str] = []
    monkeypatch.setattr("typer.confirm", lambda text, **_: asked.append(text))
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    assert "nothing was deleted" in complaint(capsys, "clear", code=1)
    with wellkept.open(filled) as cache:
        assert len(list(cache.calls.keys())) == 300
    assert run(["clear", "one", "--yes", "--json"]) == 0
    assert '"calls": 300' in capsys.readouterr().out
    assert run(["clear"]) == 0
    assert len(asked) == 1
