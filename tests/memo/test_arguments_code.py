"""What an argument brings of its project is part of the call: an edit makes it another call."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import warnings
from pathlib import Path
from typing import Any

import pytest

import wellkept
from wellkept import keep
from wellkept.errors import KeptWarning

SRC = str(Path(wellkept.__path__[0]).parent)

APP = """
import functools, sys
import numpy
import lib, conf
import wellkept
from wellkept import keep

class Pipe:
    def __init__(self):
        self.scaler = lib.Scaler(2)

    @keep
    def run(self, x):
        print("ran run")
        return self.scaler.scale(x)

    @keep
    def alone(self, x):
        print("ran alone")
        return x

    def unrelated(self):
        return 1

@keep
def call(f, x):
    print("ran call")
    return f(x)

@keep
def scale(scaler, x):
    print("ran scale")
    return scaler.scale(x)

@keep
def made(kind, x):
    print("ran made")
    return kind(x).scale(x)

@keep
def rate(module):
    print("ran rate")
    return module.RATE

@keep(version=1)
def versioned(scaler, x):
    print("ran versioned")
    return scaler.scale(x)

@keep(code="off")
def off(steps, x):
    print("ran off")
    return [step.scale(x) for step in steps["all"]]

scaler = lib.Scaler(2)
def results():
    return [
        call(lib.function, 3), call(functools.partial(lib.function), 3), call(scaler.scale, 3),
        call(lambda x: lib.function(x), 3), call(numpy.vectorize(lib.function), 3).tolist(),
        scale(scaler, 3), scale(lib.Sub(2), 3), made(lib.Scaler, 3), rate(conf),
        versioned(scaler, 3), off({"all": [scaler]}, 3), Pipe().run(3), Pipe().alone(3),
    ]
print(results())
with wellkept.use("void:"):
    print("computed", results())
"""
LIB = """
BY = 1

def helper(x):
    return x * BY

def function(x):
    return helper(x) + 1

class Scaler:
    def __init__(self, by):
        self.by = by

    def scale(self, x):
        return helper(x) * self.by

class Sub(Scaler):
    pass

class Other:
    def scale(self):
        return 1
"""
CONF = "RATE = 1\n"

ALL = {"call", "scale", "made", "versioned", "off", "run"}


def run(home: Path) -> set[str]:
    """What ran; what came of it is what comes of it where nothing is kept."""
    env = {**os.environ, "PYTHONPATH": SRC, "WELLKEPT_CACHE": str(home / "kept")}
    done = subprocess.run(
        [sys.executable, "-B", "-W", "error", "app.py"],
        cwd=home,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env=env,
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    (at,) = (at for at, line in enumerate(lines) if line.startswith("["))
    assert lines[-1] == f"computed {lines[at]}"
    return {line.removeprefix("ran ") for line in lines[:at]}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A program that ran once, and whose calls are kept."""
    made = tmp_path_factory.mktemp("project")
    for name, text in (("app.py", APP), ("lib.py", LIB), ("conf.py", CONF)):
        (made / name).write_text(text)
    assert run(made) == ALL | {"rate", "alone"}
    assert run(made) == set()
    return made


@pytest.mark.parametrize(
    ("file", "old", "new", "changed"),
    [
        ("lib.py", "return helper(x) * self.by", "return helper(x) * self.by + 1", ALL | {"alone"}),
        ("lib.py", "BY = 1", "BY = 2", ALL | {"alone"}),
        ("lib.py", "return helper(x) + 1", "return helper(x) + 2", {"call"}),
        ("lib.py", "return 1", "return 2", set()),
        ("lib.py", "class Sub", "# a comment\n\nclass Sub", set()),
        ("conf.py", "RATE = 1", "RATE = 50", {"rate"}),
        (
            "app.py",
            "def unrelated(self):\n        return 1",
            "def unrelated(self):\n        return 2",
            set(),
        ),
    ],
    ids=[
        "a method",
        "a constant",
        "a function",
        "another class",
        "a comment",
        "a module",
        "a receiver",
    ],
)
def test_an_edit_between_two_runs(
    project: Path, file: str, old: str, new: str, changed: set[str]
) -> None:
    text = (project / file).read_text()
    assert old in text
    (project / file).write_text(text.replace(old, new))
    try:
        assert run(project) == changed
    finally:
        (project / file).write_text(text)


class Scale:
    def __init__(self, by: int) -> None:
        self.by = by

    def scale(self, x: int) -> int:
        return x * self.by


def test_a_method_that_is_replaced_between_two_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    @keep
    def scale(scaler: Any, x: int) -> Any:
        return scaler.scale(x)

    @keep
    def called(f: Any, x: int) -> Any:
        return f(x)

    thing = Scale(2)
    assert (scale(thing, 3), called(thing.scale, 3)) == (6, 6)
    monkeypatch.setattr(Scale, "scale", lambda self, x: x + self.by)
    assert (scale(thing, 3), called(thing.scale, 3)) == (5, 5)
    monkeypatch.undo()
    assert (scale(thing, 3), called(thing.scale, 3)) == (6, 6)
    assert scale.stats().hits == 1


def test_two_of_one_name_in_one_process() -> None:
    def factory(k: int) -> Any:
        class C:
            def scale(self, x: int) -> int:
                return x * k

        return C

    @keep(version=1)
    def scale(thing: Any, x: int) -> Any:
        return thing.scale(x)

    one, two = factory(2), factory(3)
    assert [scale(one(), 10), scale(two(), 10), scale(one(), 10)] == [20, 30, 20]
    assert scale.stats().hits == 1


def test_the_object_that_a_method_is_called_on_is_found_by_a_query() -> None:
    class Grid:
        def __init__(self, n: int) -> None:
            self.n = n

        @keep
        def cell(self, x: int) -> int:
            return self.n * x

    one, two = Grid(1), Grid(2)
    assert (one.cell(3), two.cell(3)) == (3, 6)
    assert [call.arguments["x"].value for call in Grid.cell.query(one).calls()] == [3]
    assert Grid.cell.query(Grid(3)).count() == 0


def test_explain_says_that_the_class_is_another(home: Path) -> None:
    text = """
    import sys
    from wellkept import keep
    class Scaler:
        def __init__(self): self.by = 2
        def scale(self, x): return x * self.by {}
    @keep
    def scale(scaler, x): return getattr(scaler, "sc" + "ale")(x)
    if sys.argv[1:]: print(scale.explain(Scaler(), 3))
    else: scale(Scaler(), 3)
    """
    said = []
    for more, arguments in (("", []), ("+ 1", ["explain"])):
        (home / "app.py").write_text(textwrap.dedent(text.format(more)))
        done = subprocess.run(
            [sys.executable, "-B", "app.py", *arguments],
            capture_output=True,
            text=True,
            check=True,
            cwd=home,
            env={**os.environ, "PYTHONPATH": SRC},
            timeout=60,
        )
        said.append(done.stdout)
    assert "scaler" in said[1]
    assert "the code of app:Scaler" in said[1]


def test_what_a_test_has_replaced_is_not_kept() -> None:
    from unittest import mock

    @keep
    def scale(scaler: Any, x: int) -> Any:
        return scaler.scale(x)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", KeptWarning)
        with mock.patch.object(Scale, "scale", return_value="fake"):
            assert scale(Scale(2), 3) == "fake"
    assert scale(Scale(2), 3) == 6
    assert scale.query().count() == 1
