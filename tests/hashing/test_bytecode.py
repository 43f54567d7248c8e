"""Names in byte code: they are followed where there is no source."""

from __future__ import annotations

import compileall
import os
import subprocess
import sys
from pathlib import Path
from types import CodeType

import pytest

import wellkept
from wellkept.hashing.code.definitions import compiled

TEXT = """
def chain(x):
    return lib.sub.h(x) + CONSTANT

def method(x):
    return lib.sub.h(x).attribute + other(lib.k[x].deep)

def imports():
    import a.b
    from c import d, e as f
    from . import g
    from ..up import h as i
    return a, d, f, g, i

def stores(v):
    global N
    N = v
    TABLE[v] = v
    TABLE.sub[v + 1] = v
    obj.attr = v
    del GONE["k"]
    cache.update(v)
    lib.cache.append(v)

def nested():
    x = 1
    def inner(y):
        return x + y + helper(y) + [other.z for _ in y][0]
    return inner

def flow(x):
    if x:
        return first.a(x) if x > 1 else second.b
    try:
        with third.c() as t:
            return t
    except errors.E:
        for i in fourth.d:
            yield from fifth.e(i)

def calls(x):
    return lib.f(lib.g(x), key=lib.h)(x).z

def formats(x):
    return f"{lib.a:{lib.b}}" + lib.c % x

class Body:
    attribute = lib.k
    def method(self):
        return helper(self.attribute)
"""


def of(name: str) -> CodeType:
    code = compile(TEXT, "<string>", "exec")
    return next(c for c in code.co_consts if isinstance(c, CodeType) and c.co_name == name)


@pytest.mark.parametrize(
    ("name", "chains"),
    [
        ("chain", {"lib.sub.h", "CONSTANT"}),
        ("method", {"lib.sub.h", "other", "lib.k"}),
        ("nested", {"helper", "other.z"}),
        ("flow", {"first.a", "second.b", "third.c", "errors.E", "fourth.d", "fifth.e"}),
        ("calls", {"lib.f", "lib.g", "lib.h"}),
        ("formats", {"lib.a", "lib.b", "lib.c"}),
        ("imports", set()),
    ],
)
def test_chains_of_attributes(name: str, chains: set[str]) -> None:
    assert {".".join(chain) for chain in compiled(of(name)).chains} == chains


def test_the_body_of_a_class() -> None:
    chains = {".".join(chain) for chain in compiled(of("Body")).chains}
    assert {"lib.k", "helper"} <= chains


def test_imports() -> None:
    assert set(compiled(of("imports")).imports) == {
        (0, "a.b", ""),
        (0, "c", "d"),
        (0, "c", "e"),
        (1, "", "g"),
        (2, "up", "h"),
    }


def test_what_is_written() -> None:
    found = compiled(of("stores"))
    assert {("N",), ("TABLE",), ("obj", "attr"), ("GONE",)} <= found.written
    assert ("TABLE", "sub") in found.written
    assert {("cache",), ("lib", "cache")} <= found.called
    assert "attr" in found.set_on


PROGRAM = """
import sys, os
import lib
import wellkept
@wellkept.keep(cache=os.environ["ROOM"])
def f(x):
    return lib.h(x)
@wellkept.keep(cache=os.environ["ROOM"])
def g(x):
    return lib.sub.K + x
@wellkept.keep(cache=os.environ["ROOM"])
def late(x):
    import deep.inner as d
    return d.k + x
class Scale:
    by = [1]
    def of(self, x):
        return lib.h(x) * self.by[0]
@wellkept.keep(cache=os.environ["ROOM"])
def method(x):
    return Scale().of(x)
@wellkept.keep(cache=os.environ["ROOM"])
def through(x):
    return sum(map(lib.h, [x]))
all = [f, g, late, method, through]
print(*(k(1) for k in all), "|", sum(k.stats().computed for k in all))
"""


def write(room: Path, n: int) -> None:
    (room / "lib.py").write_text(
        f"from deep import inner\ndef h(x):\n    return x + below(x)\n"
        f"def below(x):\n    return {n}\nclass sub:\n    K = {n}\n"
    )
    (room / "deep").mkdir(exist_ok=True)
    (room / "deep" / "__init__.py").write_text("")
    (room / "deep" / "inner.py").write_text(f"k = {n}\n")


def started(room: Path, command: list[str], given: str = "") -> str:
    env = {"ROOM": str(room / f"cache{command[0]}"), "PYTHONDONTWRITEBYTECODE": "1"}
    path = [str(room), str(Path(wellkept.__file__).parents[1])]
    done = subprocess.run(
        [sys.executable, *command],
        input=given,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        cwd=room,
        env=os.environ | env | {"PYTHONPATH": os.pathsep.join(path)},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize(
    "how",
    [
        "-c",
        "compiled.pyc",
        *(pytest.param(how, marks=pytest.mark.long) for how in ("-", "exec.py")),
    ],
)
def test_an_edit_is_seen_without_source(how: str, tmp_path: Path) -> None:
    def go(n: int) -> str:
        write(tmp_path, n)
        if how == "-c":
            return started(tmp_path, ["-c", PROGRAM])
        if how == "-":
            return started(tmp_path, ["-"], PROGRAM)
        if how == "exec.py":
            text = f"exec({PROGRAM!r}, {{'__name__': '__main__'}})\n"
            (tmp_path / how).write_text(text)
            return started(tmp_path, [how])
        (tmp_path / "compiled.py").write_text(PROGRAM)
        assert compileall.compile_dir(tmp_path, legacy=True, quiet=1, force=True)
        for file in tmp_path.rglob("*.py"):
            file.unlink()
        return started(tmp_path, [how])

    assert go(1) == "2 2 2 2 2 | 5"
    assert go(1) == "2 2 2 2 2 | 0"
    assert go(50) == "51 51 51 51 51 | 5"
