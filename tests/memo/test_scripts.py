"""Functions and classes of a script: one name, however it is run, by whom, and wherever it lies."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import wellkept

SRC = str(Path(wellkept.__path__[0]).parent)

JOB = """
import enum
import sys
from dataclasses import dataclass

from wellkept import keep


class Mode(enum.Enum):
    FAST = 1


@dataclass(frozen=True)
class Size:
    n: int


class Plain:
    def __init__(self, n):
        self.n = n

    def twice(self):
        return helper(self.n)


def helper(n):
    return n * 2


@keep
def compute(x, *rest):
    print("ran", x, flush=True)
    return Plain(x), Mode.FAST


def report():
    arguments = [1, Mode.FAST, Size(1), Plain(2), Plain, helper, {"m": [Mode.FAST]}]
    print(*[compute.key(0, each) for each in arguments])
    made, mode = compute(3, Mode.FAST, Size(2))
    print(compute.function_name, type(made) is Plain, mode is Mode.FAST)


if __name__ == "__main__":
    report()
"""


def project(top: Path, *, marker: str = "pyproject.toml", at: str = "scripts") -> Path:
    """Lay out a project with a script in it; the script's path."""
    script = top / at / "job.py"
    script.parent.mkdir(parents=True)
    if marker == ".git":
        (top / marker).mkdir()
    elif marker:
        (top / marker).write_text("")
    script.write_text(JOB)
    return script


def run(*arguments: str, cwd: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-B", "-W", "error", *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env={**os.environ, "PYTHONPATH": SRC},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def ways(top: Path, script: Path) -> dict[str, tuple[tuple[str, ...], Path]]:
    """The arguments and the directory that a script is run with, by how it is run."""
    beside = script.parent
    dotted = ".".join(script.relative_to(top).with_suffix("").parts)
    path = str(script)
    by_path = f"import runpy; runpy.run_path({path!r}, run_name='__main__')"
    by_name = f"import runpy; runpy.run_module({dotted!r}, run_name='__main__', alter_sys=True)"
    return {
        "script": ((path,), top),
        "from beside": (("job.py",), beside),
        "-m": (("-m", dotted), top),
        "-m from beside": (("-m", "job"), beside),
        "run_path": (("-c", by_path), top),
        "run_module": (("-c", by_name), top),
        "import": (("-c", f"import {dotted} as job; job.report()"), top),
        "import from beside": (("-c", "import job; job.report()"), beside),
    }


def test_one_name_however_it_is_run(tmp_path: Path) -> None:
    top = tmp_path / "one"
    script = project(top)
    said = {
        way: run(*arguments, cwd=where) for way, (arguments, where) in ways(top, script).items()
    }
    first = said.pop("script").splitlines()
    assert first[1:] == ["ran 3", "scripts.job:compute True True"]
    for way, text in said.items():
        lines = text.splitlines()
        assert lines[0] == first[0], way
        assert "ran 3" not in lines, way
        assert lines[-1] == "scripts.job:compute True True", way
    shutil.copytree(top, tmp_path / "elsewhere" / "two")
    moved = run("scripts/job.py", cwd=tmp_path / "elsewhere" / "two").splitlines()
    assert moved == [first[0], first[-1]]


@pytest.mark.parametrize("marker", ["setup.py", ".git", "wellkept.toml"])
def test_what_marks_the_root_of_a_project(tmp_path: Path, marker: str) -> None:
    script = project(tmp_path, marker=marker)
    assert run("job.py", cwd=script.parent).splitlines()[1:] == [
        "ran 3",
        "scripts.job:compute True True",
    ]


@pytest.mark.parametrize("at", ["pkg", "deep/down/pkg"])
def test_a_script_in_a_package(tmp_path: Path, at: str) -> None:
    script = project(tmp_path, at=at)
    (script.parent / "__init__.py").touch()
    above = script.parent.parent
    said = [
        run(str(script), cwd=tmp_path),
        run("-m", "pkg.job", cwd=above),
        run("-c", "import pkg.job; pkg.job.report()", cwd=above),
    ]
    assert said[0].splitlines()[1:] == ["ran 3", "pkg.job:compute True True"]
    assert said[1] == said[2] == said[0].replace("ran 3\n", "")


def test_without_a_project_a_script_is_what_it_is_imported_as(tmp_path: Path) -> None:
    script = project(tmp_path, marker="", at="here")
    said = [
        run(str(script), cwd=tmp_path),
        run("-c", "import job; job.report()", cwd=script.parent),
    ]
    assert said[0].splitlines()[1:] == ["ran 3", "job:compute True True"]
    assert said[1] == said[0].replace("ran 3\n", "")


def test_without_its_code_a_script_is_told_from_others_of_its_name(tmp_path: Path) -> None:
    """Two projects with a `main.py` each share a cache; a moved checkout keeps its hits."""
    text = "import wellkept\n@wellkept.keep(version=1)\ndef f():\n    return {}\nprint(f(), f.function_name)\n"
    for name, told in (("one", '[project]\nname = "a"\n'), ("two", '[project]\nname = "b"\n')):
        (tmp_path / name).mkdir()
        (tmp_path / name / "pyproject.toml").write_text(told)
        (tmp_path / name / "main.py").write_text(text.format(repr(name)))
    assert run("main.py", cwd=tmp_path / "one") == "one a/main:f\n"
    assert run("main.py", cwd=tmp_path / "two") == "two b/main:f\n"
    (tmp_path / "one").rename(tmp_path / "three")
    (tmp_path / "three" / "main.py").write_text(text.format("'never computed'"))
    assert run("main.py", cwd=tmp_path / "three") == "one a/main:f\n"
    for name in ("four", "five"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "main.py").write_text(text.format(repr(name)))
        assert run("main.py", cwd=tmp_path / name).startswith(
            f"{name} {tmp_path.resolve()}/{name}/"
        )


def test_classes_of_a_script_that_is_imported_elsewhere(tmp_path: Path) -> None:
    project(tmp_path, at="here")
    here = tmp_path / "here"
    other = "import job\nmade, mode = job.compute(3, job.Mode.FAST, job.Size(2))\n"
    other += "print(type(made) is job.Plain, mode is job.Mode.FAST)"
    (here / "other.py").write_text(other)
    assert run("job.py", cwd=here).splitlines()[-2:] == ["ran 3", "here.job:compute True True"]
    assert run("other.py", cwd=here) == "True True\n"
    wellkept.active_cache().evict(function="*")
    assert run("other.py", cwd=here) == "ran 3\nTrue True\n"  # and the other way round
    assert run("job.py", cwd=here).splitlines()[1:] == ["here.job:compute True True"]


WORKERS = """
import multiprocessing
import os
import sys
from concurrent.futures import ProcessPoolExecutor

{job}

if __name__ == "__main__":
    arguments = [1, Mode.FAST, Size(1), Plain(2), Plain, helper, {{"m": [Mode.FAST]}}]
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context(sys.argv[1])) as pool:
        keys = [pool.submit(compute.key, 0, each).result() for each in arguments]
        assert keys == [compute.key(0, each) for each in arguments]
        made, mode = pool.submit(compute, 3, Mode.FAST).result()
    assert type(made) is Plain and mode is Mode.FAST
    made, mode = compute(3, Mode.FAST)
    assert type(made) is Plain and mode is Mode.FAST
"""


@pytest.mark.parametrize(
    "how", ["fork", "spawn", pytest.param("forkserver", marks=pytest.mark.long)]
)
def test_in_workers_of_multiprocessing(tmp_path: Path, how: str) -> None:
    body = JOB.partition("def report")[0]
    (tmp_path / "job.py").write_text(textwrap.dedent(WORKERS.format(job=body)))
    assert run("job.py", how, cwd=tmp_path) == "ran 3\n"
    assert run("job.py", "fork", cwd=tmp_path) == ""


NOTEBOOK = """
import os
import wellkept
def f(): return 1
wellkept.keep(name="f")(f).function_name  # imports what children would, each
for names in {cases!r}:
    if os.fork() == 0:
        globals().update(names)
        print(wellkept.keep(f).function_name, flush=True)
        os._exit(0)
    assert os.wait()[1] == 0
"""


def test_a_notebook_is_called_as_its_file_where_that_is_known(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").touch()
    (tmp_path / "books").mkdir()

    one = str(tmp_path.resolve() / "books" / "one.ipynb")
    unknown = f"{tmp_path.resolve()}/books/notebook:f"
    cases: list[tuple[dict[str, str], str]] = [
        ({"__vsc_ipynb_file__": one}, "books/one.ipynb:f"),
        ({"__session__": one}, "books/one.ipynb:f"),
        ({"__session__": "sub/one.ipynb"}, "books/one.ipynb:f"),
        ({"__session__": "console-1"}, unknown),
        ({}, unknown),
    ]
    said = run("-c", NOTEBOOK.format(cases=[names for names, _ in cases]), cwd=tmp_path / "books")
    assert said.splitlines() == [name for _, name in cases]


ENGINE = """
import os
import sys
from joblib import Parallel, delayed

{job}
    open("log", "a").write("ran\\n")
    return Plain(x), Mode.FAST

if __name__ == "__main__":
    arguments = [1, "a", Mode.FAST, Size(1), Plain(1), Plain, helper, {{"m": Mode.FAST}}]
    Parallel(n_jobs=2)(delayed(compute)(1, each) for each in arguments)
    for each in arguments:
        compute(1, each)
        compute(2, each)
    Parallel(n_jobs=2)(delayed(compute)(2, each) for each in arguments)
    print(open("log").read().count("ran"))
"""


@pytest.mark.long
def test_in_workers_that_get_classes_by_value(tmp_path: Path) -> None:
    pytest.importorskip("joblib")
    body = JOB.partition('    print("ran", x, flush=True)')[0]
    (tmp_path / "job.py").write_text(ENGINE.format(job=body))
    assert run("job.py", cwd=tmp_path) == "16\n"
    assert run("job.py", cwd=tmp_path) == "16\n"


SENDER = """
import cloudpickle
{job}
    return 1

def edited(n):
    return {edited}

class Later:
    def method(self):
        return edited(1)

if __name__ == "__main__":
    arguments = [1, Mode.FAST, Size(1), Plain(1), Plain, helper, {{"m": Mode.FAST}}, Later()]
    print(*[compute.key(0, each) for each in arguments], sep="\\n")
    with open("sent", "wb") as file:
        cloudpickle.dump((compute, arguments), file)
"""
RECEIVER = """
import pickle
with open("sent", "rb") as file:
    compute, arguments = pickle.load(file)
print(*[compute.key(0, each) for each in arguments], sep="\\n")
"""


def test_in_a_process_that_has_no_such_script(tmp_path: Path) -> None:
    pytest.importorskip("cloudpickle")
    body = JOB.partition('    print("ran", x, flush=True)')[0]
    said = []
    for edited in ("n", "n + 1"):
        (tmp_path / "sender.py").write_text(SENDER.format(job=body, edited=edited))
        (tmp_path / "receiver.py").write_text(RECEIVER)
        said.append(run("sender.py", cwd=tmp_path))
        (tmp_path / "sender.py").unlink()
        assert run("receiver.py", cwd=tmp_path) == said[-1]
    first, second = said[0].splitlines(), said[1].splitlines()
    assert [a == b for a, b in zip(first, second, strict=True)] == [True] * 7 + [False]
