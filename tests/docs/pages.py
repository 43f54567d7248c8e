"""A page of the documentation is read as a reader would who begins at its top, in an empty directory.

What it shows is run, in one namespace, its fences in order:

- ``python`` is run. Where the last line of a statement ends in ``# -> text``, the statement must
  print that, or be an expression whose ``repr`` it is. ``...`` in it stands for anything.
- ``pycon`` is run as a doctest.
- ``console`` (or ``bash``, ``sh``): what follows ``$`` is run, and what stands below it, if
  anything, is what it must print, where one time (``0.0412 s``) is as good as another. ``make``,
  ``pip``, ``git`` and ``cd`` install things or need the clone, and are only shown.
- ``toml``, ``json`` and ``yaml`` must parse, and a ``dockerfile`` must have instructions only.
- Any of them with ``title="name"`` is written to that file and not run, for a later fence to use.
- ``text`` is the one kind that is shown and nothing else. Any other kind, or none, fails.
"""

import ast
import contextlib
import doctest
import io
import json
import linecache
import os
import re
import subprocess
import sys
import textwrap
import tomllib
import types
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
SHELLS = {"console", "bash", "sh", "shell"}
CHECKED = {"toml", "json", "yaml", "dockerfile"}
ONLY_SHOWN = {"make", "pip", "git", "cd"}

# Packages that a page shows and that are too large to be installed for tests.
NEEDS = {
    "docs/how-to/django.md": ("django",),
    "docs/how-to/fastapi.md": ("fastapi",),
    "docs/how-to/scikit-learn-torch-hugging-face.md": ("torch", "tokenizers"),
    "docs/how-to/zarr-xarray-dask.md": ("zarr",),
    "docs/how-to/key-value-stores.md": ("key_value", "langgraph.graph", "litellm", "dspy"),
}

_OPENING = re.compile(r"^(?P<indent>[ ]*)(?P<marks>`{3,}|~{3,})[ ]*(?P<kind>[\w+-]*)(?P<info>.*)$")
_TITLE = re.compile(r"""title=["']([^"']+)["']""")
_EXPECTED = re.compile(r"# -> (.+)$")
_TIME = re.compile(r"\b\d+\.\d{4} s\b")
_same = doctest.OutputChecker().check_output
_LOOSELY = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


@dataclass(frozen=True)
class Fence:
    kind: str
    title: str | None
    text: str
    line: int  # of its first line of text, from 1


def fences(page: str) -> Iterator[Fence]:
    lines = iter(enumerate(page.splitlines(), start=1))
    for number, line in lines:
        if not (opening := _OPENING.match(line)):
            continue
        marks, body = opening["marks"], []
        for _, inner in lines:
            if inner.strip().startswith(marks) and not inner.strip().strip(marks[0]):
                break
            body.append(inner)
        else:
            raise AssertionError(f"line {number}: the fence is never closed")
        title = _TITLE.search(opening["info"])
        text = textwrap.dedent("\n".join(body)) + "\n"
        yield Fence(opening["kind"], title and title[1], text, number + 1)


def in_bash(command: str, variables: Mapping[str, str]) -> tuple[int, str]:
    """Run a command line; return its exit code and what it printed."""
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        env=variables,
    )
    return done.returncode, done.stdout


class Page:
    """One reader, on one page."""

    def __init__(
        self,
        name: str,
        with_plugin: Callable[[], Mapping[str, str]] | None = None,
        run: Callable[[str, Mapping[str, str]], tuple[int, str]] = in_bash,
    ) -> None:
        self.name = name
        self.run = run
        self.with_plugin = with_plugin or (lambda: os.environ)
        # A module that can be imported by its name, so that what it defines can be pickled by it.
        self.module = types.ModuleType("page_" + re.sub(r"\W+", "_", name.removesuffix(".md")))
        sys.modules[self.module.__name__] = self.module

    def leave(self) -> None:
        del sys.modules[self.module.__name__]

    def read(self, fence: Fence) -> None:
        if fence.kind == "text":
            return
        if fence.kind == "toml":
            tomllib.loads(fence.text)
        if fence.kind == "json":
            json.loads(fence.text)
        if fence.kind == "yaml":
            import yaml  # not everywhere where a page is read

            yaml.safe_load(fence.text)
        if fence.kind == "dockerfile":
            assert re.fullmatch(
                r"(?:(?:FROM|RUN|COPY|USER|ENV|VOLUME|WORKDIR|CMD) .+\n)+", fence.text
            )
        if fence.title:
            Path(fence.title).parent.mkdir(parents=True, exist_ok=True)
            Path(fence.title).write_text(fence.text, encoding="utf-8")
        elif fence.kind == "python":
            self._python(fence)
        elif fence.kind == "pycon":
            self._session(fence)
        elif fence.kind in SHELLS:
            self._commands(fence)
        elif fence.kind not in CHECKED:
            raise AssertionError(
                f"a fence of kind {fence.kind!r} is neither run nor checked: "
                "say python, pycon, console, toml, json, yaml, or text for what is only shown"
            )

    def _python(self, fence: Fence) -> None:
        # kept reads the source of functions, so inspect must find it: linecache keeps an entry
        # that has no modification time.
        source = f"<{self.name}:{fence.line}>"
        lines = fence.text.splitlines(keepends=True)
        linecache.cache[source] = (len(fence.text), None, lines, source)
        for statement in ast.parse(fence.text, source).body:
            expected = _EXPECTED.search(lines[(statement.end_lineno or 1) - 1].rstrip())
            printed = io.StringIO()
            value = None
            with contextlib.redirect_stdout(printed) if expected else contextlib.nullcontext():
                if isinstance(statement, ast.Expr):
                    code = compile(ast.Expression(statement.value), source, "eval")
                    value = eval(code, vars(self.module))
                else:
                    code = compile(ast.Module([statement], []), source, "exec")
                    exec(code, vars(self.module))
            if expected:
                got = printed.getvalue() or repr(value)
                assert _same(expected[1].strip() + "\n", got.rstrip("\n") + "\n", _LOOSELY), (
                    f"shown: {expected[1]}\n  got: {got}"
                )

    def _session(self, fence: Fence) -> None:
        test = doctest.DocTestParser().get_doctest(
            fence.text, vars(self.module), self.name, None, 0
        )
        assert test.examples, "a pycon fence without >>>"
        complaints = io.StringIO()
        runner = doctest.DocTestRunner(optionflags=_LOOSELY)
        failed = runner.run(test, out=complaints.write, clear_globs=False).failed
        vars(self.module).update(test.globs)
        assert not failed, complaints.getvalue()

    def _commands(self, fence: Fence) -> None:
        prompted = re.split(r"^\$ ", fence.text, flags=re.MULTILINE)
        if len(prompted) > 1:
            assert not prompted[0].strip(), "output before the first $"
            commands = [part.partition("\n")[::2] for part in prompted[1:]]
        else:
            commands = [(line, "") for line in fence.text.splitlines() if line.strip()]
        beside = {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
        for command, expected in commands:
            if command.split()[0] in ONLY_SHOWN:
                continue
            variables = self.with_plugin() if " -m pytest " in command else os.environ
            code, printed = self.run(
                command, {**variables, **beside, "COLUMNS": "100", "NO_COLOR": "1"}
            )
            assert code == 0, f"$ {command}\n{printed}"
            if expected.strip():
                shown, got = (
                    _TIME.sub("(time)", text.strip()) + "\n" for text in (expected, printed)
                )
                assert _same(shown, got, _LOOSELY), (
                    f"$ {command}\nshown:\n{expected}\ngot:\n{printed}"
                )


def read(name: str, text: str, page: Page | None = None) -> None:
    """Run all that a page shows; an error says in which fence."""
    page = page or Page(name)
    try:
        for fence in fences(text):
            try:
                page.read(fence)
            except Exception as error:
                error.add_note(f"in {name}, the {fence.kind} fence at line {fence.line}")
                raise
    finally:
        page.leave()


if __name__ == "__main__":
    # Where nothing of the tests is installed: in the working directory, one page after the other.
    for _path in map(Path, sys.argv[1:]):
        read(_path.relative_to(ROOT).as_posix(), _path.read_text(encoding="utf-8"))
