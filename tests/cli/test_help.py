"""What `--help` lists and how, the version, completion in shells."""

import re
import shutil
import sys
from pathlib import Path

import pytest
import typer

import wellkept
from wellkept.cli import main
from wellkept.cli.app import run
from wellkept.cli.parser import _COMMANDS, _GROUPS, parser


def said(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> str:
    assert run([*words]) == code
    out, err = capsys.readouterr()
    return out + err


def test_commands_are_in_groups_and_none_is_cut(capsys: pytest.CaptureFixture[str]) -> None:
    text = said(capsys, "--help")
    assert "..." not in text.replace("[ARGS]...", "")
    for title, commands in _GROUPS.items():
        group = text.partition(f"\n{title}:\n")[2].partition("\n\n")[0]
        assert re.findall(r"^  (\w+) ", group, re.MULTILINE) == [*commands]
        assert len(group.strip().splitlines()) == len(commands), "a line each"


@pytest.mark.parametrize("command", [*_COMMANDS])
def test_names_of_arguments_are_plain(capsys: pytest.CaptureFixture[str], command: str) -> None:
    text = said(capsys, command, "--help")
    pages = [text]
    if "\nCommands:\n" in text:
        names = re.findall(r"^  ([a-z]+) ", text.partition("\nCommands:\n")[2], re.MULTILINE)
        assert not {*names} & {"list", "remove", "drop", "delete"}, "one name for one thing"
        pages += [said(capsys, command, name, "--help") for name in names]
    for page in pages:
        assert not re.search(r"<[a-z]|[{}]|\[\[|x>=", page.replace("${NAME}", "")), page


def test_the_version_has_a_short_name(capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("-V", "--version"):
        with pytest.raises(SystemExit) as left:
            main([name])
        assert left.value.code == 0
        assert capsys.readouterr().out == f"wellkept {wellkept.__version__}\n"


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("wellkept ex", {"explain", "export"}),
        ("wellkept store s", {"set"}),
        ("wellkept tokens ", {"add", "ls", "rm"}),
        ("wellkept evict --ol", {"--older"}),
        ("wellkept lineage --format d", {"dot"}),
    ],
)
def test_shells_complete(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    typed: str,
    offered: set[str],
) -> None:
    monkeypatch.setenv("_WELLKEPT_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", typed)
    monkeypatch.setenv("COMP_CWORD", str(typed.count(" ")))
    with pytest.raises(SystemExit) as left:
        run([])
    assert left.value.code == 0
    assert {*capsys.readouterr().out.split()} == offered


def test_shells_complete_functions(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, home: Path
) -> None:
    monkeypatch.setenv("_WELLKEPT_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_CWORD", "2")
    for command in ("show", "evict", "ls", "explain", "lineage", "export", "diff", "query"):
        monkeypatch.setenv("COMP_WORDS", f"wellkept {command} si")
        for names in ([], ["simulate", "sizes"]):
            for name in (*names, "other"):
                if names:
                    with wellkept.open(home / "cache") as cache:
                        wellkept.keep(name=f"lab:{name}", version=1, cache=cache)(lambda: 1)()
            with pytest.raises(SystemExit):
                run([])
            assert capsys.readouterr().out.split() == names
        shutil.rmtree(home / "cache")


def test_completion_is_to_be_had(capsys: pytest.CaptureFixture[str]) -> None:
    assert "--install-completion" in said(capsys, "--help")


def test_a_listing_imports_no_parser() -> None:
    import subprocess

    code = (
        "import sys; from wellkept.cli.app import run; run(['ls']); "
        "print(sorted({'typer', 'click', 'rich', 'numpy', 'asyncio'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_help_imports_no_caches() -> None:
    import subprocess

    code = (
        "import sys; from wellkept.cli.app import run; run(['--help']); run(['evict', '--help']); "
        "print(sorted({'wellkept.caches', 'wellkept.stores', 'wellkept.hashing'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_the_page_has_every_command_and_option() -> None:
    page = (Path(__file__).parents[2] / "docs" / "reference" / "cli.md").read_text()
    missing = []
    top = typer.main.get_command(parser([]))
    for name, command in top.commands.items():
        inner = getattr(command, "commands", {name: command})
        for own, one in inner.items():
            said = name if own == name else f"{name} {own}"
            if f"wellkept {name}" not in page:
                missing.append(said)
            for param in one.params:
                names = [word for word in (*param.opts, *param.secondary_opts) if word[:2] == "--"]
                if names and not any(option in page for option in names):
                    missing.append(f"{said} {names[0]}")
    assert missing == []
