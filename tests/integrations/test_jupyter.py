"""`%%keep`: what a notebook's cell computes, in a real IPython shell and in a real kernel."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("IPython")
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config


class Notebook:
    """A shell with the magics, whose every cell runs under `%%keep`."""

    def __init__(self, directory: Path) -> None:
        quiet = Config({"HistoryManager": {"enabled": False}})
        self.shell = InteractiveShell.instance(config=quiet)
        self.shell.run_cell("%load_ext wellkept")
        self.cache = directory / "cache"

    def keep(self, cell: str, name: str = "it", more: str = "") -> Any:
        result = self.shell.run_cell(f"%%keep {name} --cache {self.cache} {more}\n{cell}")
        assert result.success or isinstance(result.error_in_exec, Exception)
        return result

    def run(self, cell: str) -> None:
        assert self.shell.run_cell(cell).success

    def __getitem__(self, name: str) -> Any:
        return self.shell.user_ns[name]


@pytest.fixture
def notebook(tmp_path: Path) -> Iterator[Notebook]:
    # A shell puts a module of its own in the place of `__main__`, which child processes ask about.
    before = sys.modules["__main__"]
    made = Notebook(tmp_path)
    yield made
    made.shell._atexit_once()
    InteractiveShell.clear_instance()
    sys.modules["__main__"] = before


COUNTED = "import builtins as b\nb.ran = getattr(b, 'ran', 0) + 1\n"


@pytest.fixture(autouse=True)
def ran(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    import builtins

    yield
    vars(builtins).pop("ran", None)


def count() -> int:
    import builtins

    return getattr(builtins, "ran", 0)


def test_a_cell_runs_once(notebook: Notebook, capsys) -> None:
    notebook.run("n = 3")
    cell = COUNTED + "x = n * 2\nprint('made', x)\ny = [x] * 2"
    notebook.keep(cell)
    first = capsys.readouterr()
    assert first.out.endswith("made 6\n")
    notebook.run("del x, y")
    notebook.keep(cell)
    again = capsys.readouterr()
    assert again.out == "made 6\n"
    assert "it is loaded: x, y" in again.err
    assert (count(), notebook["x"], notebook["y"]) == (1, 6, [6, 6])


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("n = 3", "n = 4"),
        ("def f():\n    return 1", "def f():\n    return 2"),
        ("k = 1\ndef f():\n    return k", "k = 2"),
        ("import numpy as np\nn = np.arange(3)", "n[1] = 7"),
    ],
)
def test_what_it_reads_counts(notebook: Notebook, before: str, after: str) -> None:
    cell = COUNTED + ("x = f()" if "def f" in before else "x = repr(n)")
    notebook.run(before)
    notebook.keep(cell)
    was = notebook["x"]
    notebook.keep(cell)
    assert count() == 1
    notebook.run(after)
    notebook.keep(cell)
    assert count() == 2
    assert notebook["x"] != was


def test_its_code_counts_and_its_layout_does_not(notebook: Notebook) -> None:
    notebook.keep(COUNTED + "x = 1")
    notebook.keep(COUNTED + "x  =  1  # the same")
    assert count() == 1
    notebook.keep(COUNTED + "x = 2")
    assert (count(), notebook["x"]) == (2, 2)


def test_what_it_assigns_itself_does_not_count(notebook: Notebook) -> None:
    loop = "for i in range(3):\n    last = i\ntotal = last\n"
    file = "with open('/dev/null') as f:\n    text = f.read()\nlength = len(text)\ndel f"
    cell = COUNTED + loop + file
    notebook.keep(cell)
    notebook.keep(cell)
    assert (count(), notebook["total"], notebook["length"]) == (1, 2, 0)


def test_what_it_reads_and_assigns_counts(notebook: Notebook) -> None:
    notebook.run("x = 1")
    notebook.keep(COUNTED + "x = x + 1")
    assert notebook["x"] == 2
    notebook.keep(COUNTED + "x = x + 1")
    assert (count(), notebook["x"]) == (2, 3)
    notebook.run("x = 1")
    notebook.keep(COUNTED + "x = x + 1")
    assert (count(), notebook["x"]) == (2, 2)


def test_a_variable_that_a_handler_may_miss_counts(notebook: Notebook) -> None:
    cell = COUNTED + "try:\n    y = z\nexcept NameError:\n    y = 'none'\nz = 5"
    notebook.keep(cell)
    assert notebook["y"] == "none"
    notebook.keep(cell)
    assert (count(), notebook["y"]) == (2, 5)


def test_definitions_at_the_top_run_each_time(notebook: Notebook) -> None:
    cell = "def g():\n    return 5\n" + COUNTED.replace("import", "import", 1) + "x = g()"
    assert cell.index("import") > 0
    notebook.keep(cell)
    notebook.run("del g, x")
    notebook.keep(cell)
    assert (count(), notebook["x"], notebook["g"]()) == (1, 5, 5)


@pytest.mark.parametrize(
    ("cell", "why"),
    [
        ("x = 1\nimport os", "line 2 is an import or a definition below"),
        ("def f(): pass", "nothing but definitions"),
        ("!true", "magics or shell commands"),
        ("x = 1\nif True:\n    import os as o", "it assigns o, a module"),
        ("x = lambda: 1", "it assigns x, a function"),
        ("x = globals()['__name__']", r"globals\(\) may read any variable"),
        ("import asyncio\nawait asyncio.sleep(0)", "it awaits"),
    ],
)
def test_what_can_t_be_kept_runs_and_says_why(
    notebook: Notebook, capsys, cell: str, why: str
) -> None:
    notebook.keep(cell)
    assert re.search(
        f"wellkept: it (runs without being|is not) kept: .*{why}", capsys.readouterr().err
    )
    assert not (notebook.cache / "index.sqlite").exists() or not _calls(notebook.cache)


def _calls(path: Path) -> list[Any]:
    import wellkept

    return list(wellkept.open(path).query())


def test_a_change_in_place_is_not_kept(notebook: Notebook, capsys) -> None:
    notebook.run("items = [1]")
    notebook.keep("items.append(2)\nx = len(items)")
    assert "it changes items in place" in capsys.readouterr().err
    assert notebook["items"] == [1, 2]
    assert not _calls(notebook.cache)


def test_what_a_function_assigns_is_loaded_too(notebook: Notebook) -> None:
    notebook.run("def setup():\n    global made\n    made = 7")
    notebook.keep("setup()\nx = 1")
    notebook.run("del made")
    notebook.keep("setup()\nx = 1")
    assert notebook["made"] == 7


def test_a_cell_that_fails_shows_its_error_once_and_is_not_kept(notebook: Notebook, capsys) -> None:
    cell = COUNTED + "1 / 0"
    notebook.keep(cell)
    out = re.sub(r"\x1b\[[\d;]*m", "", "".join(capsys.readouterr()))
    assert out.count("ZeroDivisionError: division by zero") == 1
    notebook.keep(cell)
    assert count() == 2


def test_again_and_why(notebook: Notebook, capsys) -> None:
    notebook.run("lr = 1")
    notebook.keep(COUNTED + "x = lr")
    notebook.keep(COUNTED + "x = lr", more="--again")
    assert count() == 2
    notebook.run("lr = 2")
    notebook.keep(COUNTED + "x = lr")
    capsys.readouterr()
    notebook.run("%keep why")
    said = capsys.readouterr().out
    assert "lr" in said
    assert said.startswith("cell ")


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("%%keep\nx = 1", "arguments are required: name"),
        ("%%keep a b\nx = 1", "unrecognized arguments: b; write %%keep NAME"),
        ("%%keep a --ttl soon\nx = 1", "UsageError: %%keep a: ttl=: not a duration: 'soon'"),
        ("%%keep a --cache fats\nx = 1", "UsageError: %%keep a: cell a: cache='fats'"),
        ("%keep what", "%keep takes `why`"),
        ("%keep why nothing", "no cell 'nothing' ran"),
    ],
)
def test_bad_lines(notebook: Notebook, capsys, line: str, why: str) -> None:
    notebook.shell.run_cell(line)
    out = capsys.readouterr()
    assert why in out.out + out.err


def test_a_kernel_shows_again_what_a_cell_displayed(tmp_path: Path) -> None:
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    cell = f"%%keep seen --cache {tmp_path / 'c'}\nprint('a')\ndisplay('shown')\nprint('b')\n1 + 1"
    bar = "import wellkept\nwith wellkept.use('memory:'):\n    "
    bar += "wellkept.keep(version=1)(abs).map([-1, 2], progress=True)"
    cells = [nbformat.v4.new_code_cell(text) for text in ("%load_ext wellkept", cell, cell, bar)]
    notebook = nbformat.v4.new_notebook(cells=cells)
    nbclient.NotebookClient(notebook, timeout=60).execute()
    first, second = notebook.cells[1].outputs, notebook.cells[2].outputs

    def seen(outputs: list[Any]) -> list[Any]:
        found = []
        for output in outputs:
            if output.get("name") != "stderr":
                found.append(output.get("text") or output["data"]["text/plain"])
        return found

    assert seen(first) == ["a\n", "'shown'", "b\n", "2"]
    assert seen(second) == seen(first)
    assert "seen is loaded" in str(second)
    # One line that changed, and no word of widgets.
    (line,) = notebook.cells[3].outputs
    assert line["data"].keys() == {"text/plain"}
    assert line["data"]["text/plain"].startswith("abs: 2 of 2, ")


@pytest.mark.parametrize(
    ("before", "cell", "between"),
    [
        # What is no variable of the cell stays as it is.
        ("x = 1", "ys = [x for x in range(3)]", "x = 2"),
        ("x = 1", "ys = {x: k for x in range(3) for k in range(2)}; f = None", "x = 2"),
        # What it assigns is loaded, also where it was that already.
        ("a = 1\nt = (1, 2)", "match t:\n    case (a, b):\n        pass", "a = 5"),
        ("a = []\nt = [1]", "match t:\n    case [*a]:\n        pass", "a = 5"),
        ("a = 1", "ys = [a := 1 for _ in range(2)]", "a = 5"),
        ("a = 1", "for a in (0, 1): pass", "a = 5"),
        # What it does not assign after all stays as it is.
        ("c = False\nx = 0", "if c:\n    x = 1", "x = 7"),
        ("x = 0", "for x in []:\n    pass", "x = 7"),
        ("c = False", "if c:\n    x = 1", "x = 7"),
        ("x = 0", "ys = [x := n for n in ()]", "x = 7"),
        # What it did not need to read the first time.
        (
            "y = 0\nimport contextlib",
            "with contextlib.suppress(NameError):\n    y = x\nx = 1",
            "x = 5\ny = 0",
        ),
    ],
)
def test_what_is_loaded_is_what_a_run_leaves(
    notebook: Notebook, before: str, cell: str, between: str
) -> None:
    notebook.run(before)
    notebook.keep(cell)
    notebook.run(between)
    notebook.keep(cell)
    names = [name for name in ("a", "b", "x", "y", "ys") if name in notebook.shell.user_ns]
    found = {name: notebook[name] for name in names}
    notebook.run(between)
    notebook.run(cell)
    assert found == {name: notebook[name] for name in names}


def test_an_import_below_the_top_is_not_kept(notebook: Notebook, capsys) -> None:
    notebook.run("import math as m")
    notebook.keep("if True:\n    import math as m\nx = 1")
    assert "it assigns m, a module" in capsys.readouterr().err
