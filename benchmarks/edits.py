# ruff: noqa: E501  an edit is one line
"""Which edits of a project are seen, and which make no difference: kept and its peers.

```bash
python benchmarks/edits.py                     # a table of all that are installed
python benchmarks/edits.py --only kept,joblib
python benchmarks/edits.py --markdown docs/explanation/what-counts-as-the-same-call.md
```

Each edit is made to the files of a small project of its own. One process calls its function, the files
are edited, and another process calls it again: the body has to run if, and only if, what it returns
has changed. Whether it has is found out too, by running the same without any library. So an edit that
is not seen is a stale result, and one that is seen for nothing is needless work. Each library is set as
it sees most: fleche with `hash_code=True`, which is not its default.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from edits_kinds import CASES, Case

HERE = Path(__file__).resolve().parent
LIBRARIES = ("wellkept", "joblib", "cachau", "fleche", "checkpointer")
START, END = "<!-- edits -->", "<!-- /edits -->"


class Edit(NamedTuple):
    """One edit."""

    what: str
    seen: bool
    """Whether the function has to be computed again."""
    changes: tuple[tuple[str, str, str], ...]
    """In which file what becomes what. A file `old>new` is moved; one that is not there is written."""
    entry: str = "app"
    """The module of the function, or `app>other` where it is another afterwards."""
    explained: str = ""
    """Why kept computes again after an edit that makes no difference here."""


def edited(
    what: str, *changes: str, seen: bool = True, entry: str = "app", explained: str = ""
) -> Edit:
    """An edit, from file, old text, new text, and so on."""
    triples = tuple(zip(changes[::3], changes[1::3], changes[2::3], strict=True))
    return Edit(what, seen, triples, entry, explained)


def same(what: str, *changes: str, entry: str = "app", explained: str = "") -> Edit:
    """An edit that makes no difference."""
    return edited(what, *changes, seen=False, entry=entry, explained=explained)


PROJECT = {
    "__init__.py": '"""A project."""\n\nfrom PKG.deep import exported\n',
    "constants.py": "RATE = 3\nUNUSED = 1\nTABLE = {'a': 1, 'b': [1, 2]}\nWEIGHT = 2.5\n__all__ = ['WEIGHT']\n",
    "deep.py": """\
from PKG.constants import TABLE


def deepest(x):
    return x + TABLE['a']


def exported(x):
    return x + 100


def replaced(x):
    return x + 200


def unused(x):
    return x
""",
    "helpers.py": '''\
"""Helpers."""

import contextlib
import functools

from PKG import deep

OFFSET = 4


def helper(x, bias=1):
    """Doc."""
    total = x * 2  # twice
    return deep.deepest(total) + bias


def shifted(x):
    return x + OFFSET


def scaled(x, factor=2):
    return x * factor


double = functools.partial(scaled, factor=4)


def adder(step):
    def add(x):
        return x + step

    return add


add_five = adder(5)


def noisy(function):
    @functools.wraps(function)
    def inner(*a):
        return function(*a) + 1

    return inner


def even(n):
    return n == 0 or odd(n - 1)


def odd(n):
    return n != 0 and even(n - 1)


@functools.lru_cache
def cached(x):
    return x + 7


@contextlib.contextmanager
def held(x):
    yield x + 8


def items(n):
    for i in range(n):
        yield i * 2


def checked(x):
    try:
        return int(x)
    except ValueError:
        return -1


def sized(x):
    match x:
        case int():
            return "number"
        case _:
            return "thing"


HANDLERS = {}


def handler(function):
    HANDLERS[function.__name__] = function
    return function


@handler
def first(x):
    return x + 11


def handle(name, x):
    return HANDLERS[name](x)


def plus(x):
    return x + 14


OPERATIONS = {"plus": plus, "abs": abs}


@functools.singledispatch
def shown(x):
    return "thing"


@shown.register
def _(x: int):
    return "int"


def __getattr__(name):
    if name == "computed":
        return 15
    raise AttributeError(name)
''',
    "models.py": """\
import enum
from dataclasses import dataclass, fields
from typing import ClassVar, NamedTuple


class Base:
    scale = 2

    def __init__(self):
        self.offset = 7

    def run(self, x):
        return x * self.scale + self.offset


class Model(Base):
    def __init__(self):
        super().__init__()
        self.more = 1

    @property
    def bias(self):
        return 5

    @staticmethod
    def fixed(x):
        return x + 6

    @classmethod
    def made(cls):
        return cls().more + 1

    def call(self, x):
        return self.run(x) + self.bias + self.fixed(x) + self.made()


@dataclass
class Config:
    size: int = 3
    name: str = "n"


class Point(NamedTuple):
    x: int
    y: int = 2


class Level(enum.Enum):
    LOW = 1
    HIGH = 2


class Vector:
    def __init__(self, x):
        self.x = x

    def __add__(self, other):
        return Vector(self.x + other.x)


class Scorer:
    def __call__(self, x):
        return x + 9


scorer = Scorer()


class Plugin:
    known = {}

    def __init_subclass__(cls):
        cls.known[cls.__name__] = cls

    def patched(self):
        return 0


class Squares(Plugin):
    def of(self, x):
        return x * x
""",
    "lazy.py": "def late(x):\n    return x + 12\n",
    "extra.py": "def extra(x):\n    return x + 13\n",
    "patches.py": "from PKG import helpers, models\n\n\ndef patched(x, factor=2):\n    return x * factor\n\n\nhelpers.rebound = patched\n\n\ndef method(self):\n    return 16\n\n\nmodels.Plugin.patched = method\n",
    "app.py": '''\
"""The program."""

import json as js
import math

import PKG.helpers as hp
import PKG.patches
from keeping import keep
from PKG import constants, exported
from PKG.constants import *
from PKG.extra import extra
from PKG.helpers import double, noisy
from PKG.models import Config, Level, Model, Plugin, Point, Vector, fields, scorer

DEPTH = 2
LIMIT = DEPTH * 4


@noisy
def decorated(x):
    return x


def other(x):
    return x - 1


@keep
def work(x, step=1):
    """What it does."""
    print("ran")
    values = [hp.helper(i) + constants.RATE for i in range(x)]
    small = (lambda y: y + 10)(x)

    def inner(z):
        return z * 3

    def lazily(z):
        from PKG.lazy import late

        return late(z)

    label = f"{x}-{small}"
    with hp.held(x) as kept_open:
        total = kept_open
    if (rest := x % 2) > 0:
        total += rest
    return [
        sum(values), small, inner(x), double(x), decorated(x), Model().call(x), Config().size,
        js.dumps(label), hp.even(4), step, hp.shifted(x), hp.add_five(x), exported(x), WEIGHT, extra(x),
        hp.cached(x), total, list(hp.items(x)), hp.checked("?"), hp.sized(x), hp.handle("first", x),
        len(fields(Config)), Point(1).y, Level.HIGH.value, (Vector(1) + Vector(x)).x, scorer(x),
        lazily(x), hp.rebound(x), LIMIT, math.floor(x / 2), hp.OPERATIONS["plus"](x), hp.shown(x),
        hp.computed, Plugin.known["Squares"]().of(x), Plugin().patched(),
    ]
''',
}

# `black`, as far as it changes a file of this project: quotes, and a line for each item.
BLACK = (
    ('"{x}-{small}"', "'{x}-{small}'"),
    ("z * 3", "(\n            z * 3\n        )"),
    ("x - 1", "( x-1 )"),
)

EDITS = [
    same("nothing", "extra.py", "x + 13", "x + 13"),
    same("a comment", "helpers.py", "# twice", "# two times, that is"),
    same("a comment in the function itself", "app.py", 'print("ran")\n', 'print("ran")  # it did\n'),
    same("a docstring of a helper", "helpers.py", '"""Doc."""', '"""Another doc."""'),
    same("its own docstring", "app.py", '"""What it does."""', '"""What it does now."""'),
    same("a docstring added", "deep.py", "def deepest(x):\n", 'def deepest(x):\n    "Doc."\n'),
    same("a module's docstring", "helpers.py", '"""Helpers."""', '"""Other helpers."""'),
    same("a file reformatted, as by black", *(part for pair in BLACK for part in ("app.py", *pair))),
    same("a local variable renamed", "helpers.py", "total", "product"),
    same("its own local variable renamed", "app.py", "small", "little"),
    same("an annotation of a plain function", "helpers.py", "def helper(x, bias=1):", "def helper(x: int, bias: int = 1) -> int:"),
    same("its own annotation", "app.py", "def work(x, step=1):", "def work(x: int, step: int = 1) -> list:"),
    same("functions reordered", "helpers.py", "def shifted(x):\n    return x + OFFSET\n\n\n", "", "helpers.py", "double = ", "def shifted(x):\n    return x + OFFSET\n\n\ndouble = "),
    same("lines moved down", "app.py", "@keep", "\n\n# More to come.\n\n\n@keep"),
    same("a function that is not reached", "deep.py", "def unused(x):\n    return x", "def unused(x):\n    return -x"),
    same("one beside it that is not reached", "app.py", "return x - 1", "return x - 2"),
    same("a constant that is not reached", "constants.py", "UNUSED = 1", "UNUSED = 2"),
    same("a new function", "helpers.py", "def even", "def new():\n    return 1\n\n\ndef even"),
    same("an unused import", "deep.py", "from PKG.constants", "import os\nfrom PKG.constants"),
    same("an import under another alias", "app.py", "import json as js", "import json", "app.py", "js.dumps", "json.dumps"),
    same("a module of the project under another alias", "app.py", "PKG.helpers as hp", "PKG.helpers as tools", "app.py", "hp.", "tools."),
    same("a constant written as a sum", "constants.py", "RATE = 3", "RATE = 1 + 2"),
    same("a number in other digits", "constants.py", "RATE = 3", "RATE = 0x3"),
    same("brackets that do nothing", "app.py", "return z * 3", "return (z * 3)"),
    same("a dict's items reordered", "constants.py", "{'a': 1, 'b': [1, 2]}", "{'b': [1, 2], 'a': 1}", explained="the order of a dict that is part of the program counts"),
    same("a helper moved to another module", "deep.py", "def exported(x):\n    return x + 100\n\n\n", "", "moved.py", "", "def exported(x):\n    return x + 100\n", "__init__.py", "PKG.deep", "PKG.moved"),
    same("a file moved, with name=", "app.py", "@keep", "@keep", "app.py>inside/app.py", "", "", entry="named>inside.named"),
    edited("its own body", "app.py", "range(x)", "range(x + 1)"),
    edited("its own default", "app.py", "step=1", "step=2"),
    edited("a constant in its own module", "app.py", "DEPTH = 2", "DEPTH = 3"),
    edited("a function beside it", "app.py", "def decorated(x):\n    return x", "def decorated(x):\n    return -x"),
    edited("a helper", "helpers.py", "x * 2  #", "x * 3  #"),
    edited("a helper two modules away", "deep.py", "return x + TABLE", "return x - TABLE"),
    edited("a constant of another module", "constants.py", "RATE = 3", "RATE = 4"),
    edited("a constant's type", "constants.py", "RATE = 3", "RATE = 3.0"),
    edited("a constant three modules away", "constants.py", "'a': 1", "'a': 2"),
    edited("a name taken by a star import", "constants.py", "WEIGHT = 2.5", "WEIGHT = 3.5"),
    edited("a global that a helper reads", "helpers.py", "OFFSET = 4", "OFFSET = 5"),
    edited("a helper's default", "helpers.py", "bias=1", "bias=2"),
    edited("an argument of a partial", "helpers.py", "factor=4", "factor=5"),
    edited("what a closure holds", "helpers.py", "adder(5)", "adder(6)"),
    edited("the function that a factory makes", "helpers.py", "return x + step", "return x - step"),
    edited("a decorator's body", "helpers.py", "function(*a) + 1", "function(*a) + 2"),
    edited("a decorator taken away", "app.py", "@noisy\n", ""),
    edited("a function under lru_cache", "helpers.py", "x + 7", "x + 70"),
    edited("a context manager", "helpers.py", "yield x + 8", "yield x + 80"),
    edited("a generator", "helpers.py", "yield i * 2", "yield i * 3"),
    edited("an except branch", "helpers.py", "return -1", "return -2"),
    edited("a match statement", "helpers.py", '"number"', '"count"'),
    edited("one of two that call each other", "helpers.py", "n != 0 and even", "n == 0 and even"),
    edited("a function in a registry", "helpers.py", "x + 11", "x + 110"),
    edited("a function in a table", "helpers.py", "x + 14", "x + 140"),
    edited("an implementation of singledispatch", "helpers.py", '"int"', '"number"'),
    edited("a module's __getattr__", "helpers.py", "return 15", "return 150"),
    edited("a subclass that registers itself", "models.py", "return x * x", "return x ** 3"),
    edited("a method put into a class from outside", "patches.py", "return 16", "return 160"),
    edited("a nested function", "app.py", "z * 3", "z * 4"),
    edited("a lambda", "app.py", "y + 10", "y + 11"),
    edited("True for 1", "app.py", "hp.even(4), step", "hp.even(4), step == 1"),
    edited("the order of what it returns", "app.py", "sum(values), small", "small, sum(values)"),
    edited("a comprehension", "app.py", "hp.helper(i) +", "hp.helper(i) -"),
    edited("an f-string", "app.py", "{x}-{small}", "{x}_{small}"),
    edited("a method of a base class", "models.py", "x * self.scale", "x ** self.scale"),
    edited("a base class's __init__", "models.py", "self.offset = 7", "self.offset = 8"),
    edited("a class attribute", "models.py", "scale = 2", "scale = 3"),
    edited("a base class", "models.py", "class Model(Base):", "class Odd(Base):\n    scale = 9\n\n\nclass Model(Odd):"),
    edited("a method", "models.py", "self.run(x) + self.bias", "self.run(x) - self.bias"),
    edited("a property", "models.py", "return 5", "return 6"),
    edited("a staticmethod", "models.py", "return x + 6", "return x + 60"),
    edited("a classmethod", "models.py", "cls().more + 1", "cls().more + 2"),
    edited("an operator of a class", "models.py", "self.x + other.x", "self.x - other.x"),
    edited("__call__ of an object", "models.py", "x + 9", "x + 90"),
    edited("a dataclass field's default", "models.py", "size: int = 3", "size: int = 4"),
    edited("an annotation of a dataclass", "models.py", 'name: str = "n"', 'name: ClassVar[str] = "n"'),
    edited("a field's default of a named tuple", "models.py", "y: int = 2", "y: int = 3"),
    edited("a member of an enum", "models.py", "HIGH = 2", "HIGH = 3"),
    edited("what a package re-exports", "__init__.py", "import exported", "import replaced as exported"),
    edited("another function under the same name", "app.py", "from PKG.helpers import double, noisy", "from PKG.helpers import noisy, scaled as double"),
    edited("a function imported when it is called", "lazy.py", "x + 12", "x + 120"),
    edited("a function put in place of another at import", "patches.py", "x * factor", "x * factor + 1"),
]  # fmt: skip

NAMED = PROJECT["app.py"].replace("import keep", "import named as keep")


class Program(NamedTuple):
    """An edit of a script, or of a notebook's cells."""

    what: str
    seen: bool
    before: tuple[str, ...]
    """The text of a script, or cells."""
    after: tuple[str, ...]
    script: str = "run.py>run.py"
    """What the script is called, before and after; "" for cells."""


SCRIPT = """\
from keeping import keep, named

LIMIT = 2


def helper(x):
    return x * LIMIT


@keep
def work(x):
    print("ran")
    return helper(x) + 1


if __name__ == "__main__":
    print("---")
    print(work(3))
"""
RENAMED = SCRIPT.replace("@keep", "@named")
IMPORT = "from keeping import keep"
HELPER = "def helper(x):\n    return x * 2\n"
WORK = '@keep\ndef work(x):\n    print("ran")\n    return helper(x) + 1\n'
CALL = 'print("---")\nprint(work(3))'
OTHER = HELPER.replace("x * 2", "x * 3")
CELLS = IMPORT, HELPER, WORK, CALL

PROGRAMS = [
    Program("a comment in a script", False, (SCRIPT,), (SCRIPT.replace("LIMIT = 2", "LIMIT = 2  # so"),)),
    Program("a script renamed, with name=", False, (RENAMED,), (RENAMED,), "run.py>other.py"),
    Program("a helper in a script", True, (SCRIPT,), (SCRIPT.replace("x * LIMIT", "x + LIMIT"),)),
    Program("a constant in a script", True, (SCRIPT,), (SCRIPT.replace("LIMIT = 2", "LIMIT = 3"),)),
    Program("a notebook run again", False, CELLS, CELLS, ""),
    Program("a notebook's helper, run again", True, CELLS, (IMPORT, OTHER, WORK, CALL), ""),
    Program("a cell changed and run in the same kernel", True, CELLS, (*CELLS, OTHER, CALL), ""),
    Program("a cell run twice in the same kernel", False, CELLS, (*CELLS, HELPER, CALL), ""),
]  # fmt: skip

KEEPING = """
import os, sys
sys.dont_write_bytecode = True
library, cache = os.environ["EDITS_LIBRARY"], os.environ["EDITS_CACHE"]

def keep(function):
    return function

named = keep
if library == "wellkept":
    import wellkept
    keep = wellkept.keep(cache=cache)
    named = wellkept.keep(cache=cache, name="lab.work")
    def versioned(version):
        return wellkept.keep(cache=cache, version=version)
elif library == "joblib":
    from joblib import Memory
    keep = named = Memory(cache, verbose=0).cache
elif library == "cachau":
    from cachau import cache as cachau
    keep = named = cachau(persist=cache)
elif library == "fleche":
    import fleche
    from fleche.caches import BaseCache
    fleche.cache(BaseCache.from_config({"template": "pickle", "root": cache}))
    keep = fleche.fleche(hash_code=True)
    named = fleche.fleche(hash_code=True, hash_module=False)
elif library == "checkpointer":
    from checkpointer import checkpoint
    keep = named = checkpoint(directory=cache)
"""

CHILD = """
import contextlib, importlib, io, json, sys
import keeping
said = {}
for module in json.load(sys.stdin):
    out = io.StringIO()
    try:
        with contextlib.redirect_stdout(out):
            result = repr(importlib.import_module(module).work(3))
    except Exception as error:
        result = f"raised {error!r:.200}"
    said[module.partition(".")[0]] = ["ran" in out.getvalue(), result]
print(json.dumps(said))
"""

# As ipykernel runs cells: in `__main__`, from a file that exists only in linecache.
KERNEL = """
import json, linecache, os
for cell in json.load(__import__("sys").stdin):
    name = f"/tmp/ipykernel_{os.getpid()}/{abs(hash(cell))}.py"
    linecache.cache[name] = len(cell), None, cell.splitlines(keepends=True), name
    exec(compile(cell, name, "exec"))
"""


def write(room: Path, number: int) -> None:
    """The project of one edit, before it."""
    for name, text in {**PROJECT, "named.py": NAMED}.items():
        file = room / f"e{number}" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text.replace("PKG", f"e{number}"))


def apply(room: Path, number: int, edit: Edit) -> None:
    """Make the edit."""
    for name, old, new in edit.changes:
        old, new = (text.replace("PKG", f"e{number}") for text in (old, new))
        file = room / f"e{number}" / name
        if ">" in name:
            for moved in ("named.py",):
                target = room / f"e{number}" / "inside" / moved
                target.parent.mkdir(exist_ok=True)
                (room / f"e{number}" / moved).rename(target)
        elif not old:
            file.write_text(new)
        else:
            text = file.read_text()
            if old not in text:
                raise ValueError(f"{edit.what}: {old!r} is not in {name}")
            file.write_text(text.replace(old, new))


def started(library: str, room: Path, command: list[str], given: str = "") -> str:
    """What a fresh process prints."""
    (room / "keeping.py").write_text(KEEPING)
    environment = {
        "EDITS_LIBRARY": library,
        "EDITS_CACHE": str(room / "cache"),
        "PYTHONPATH": os.pathsep.join([str(room), os.environ.get("PYTHONPATH", "")]),
        "PYTHONWARNINGS": "ignore",
        # Python itself would run a module as it was before an edit of as many bytes in the same second. Those
        # that this process starts inherit it.
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    done = subprocess.run(
        command,
        input=given,
        capture_output=True,
        text=True,
        check=False,
        cwd=room,
        env=os.environ | environment,
    )
    if done.returncode:
        raise RuntimeError(f"{library}: {done.stderr[-2000:]}")
    return done.stdout


def ran(library: str, room: Path, python: str, after: bool) -> dict[str, tuple[bool, str]]:
    """Whether the bodies ran in a fresh process, and what the calls gave."""
    modules = [
        f"e{number}.{edit.entry.split('>')[-1 if after else 0]}"
        for number, edit in enumerate(EDITS)
    ]
    out = started(library, room, [python, "-c", CHILD], json.dumps(modules))
    said: dict[str, tuple[bool, str]] = json.loads(out.splitlines()[-1])
    return said


def of_edits(library: str, pythons: tuple[str, str] = (sys.executable,) * 2) -> list[str]:
    """What a library does with each edit: `right`, `stale` or `needless`.

    Args:
        library: one of `LIBRARIES`.
        pythons: the interpreters before and after the edit.

    Raises:
        RuntimeError: it fails, or the corpus itself is wrong.
    """
    with tempfile.TemporaryDirectory(prefix="wellkept-edits-") as made:
        room = Path(made)
        for number in range(len(EDITS)):
            write(room, number)
        first = ran(library, room, pythons[0], after=False)
        plain = ran("none", room, pythons[0], after=False)
        for number, edit in enumerate(EDITS):
            apply(room, number, edit)
        second = ran(library, room, pythons[1], after=True)
        truth = ran("none", room, pythons[1], after=True)
    found = []
    for number, edit in enumerate(EDITS):
        name = f"e{number}"
        if (plain[name][1] != truth[name][1]) is not edit.seen:
            raise RuntimeError(f"the corpus is wrong about {edit.what!r}")
        if not first[name][0] or first[name][1] != plain[name][1]:
            raise RuntimeError(f"{library} did not compute {edit.what!r} at first")
        found.append(verdict(second[name][0], edit.seen))
    return found


def of_cases(
    library: str,
    pythons: tuple[str, str] = (sys.executable,) * 2,
    cases: Sequence[Case] = CASES,
) -> list[str]:
    """The same of each project of `edits_kinds`; `error`: the library can't do it at all.

    Raises:
        RuntimeError: the corpus itself is wrong.
    """
    names = [f"e{number}" for number in range(len(cases))]
    modules = json.dumps([f"{name}.app" for name in names])

    def ran(library: str, python: str) -> dict[str, tuple[bool, str]]:
        out = started(library, room, [python, "-c", CHILD], modules)
        said: dict[str, tuple[bool, str]] = json.loads(out.splitlines()[-1])
        return said

    with tempfile.TemporaryDirectory(prefix="wellkept-edits-") as made:
        room = Path(made)
        for name, case in zip(names, cases, strict=True):
            for file, text in {"__init__.py": "", **case.files}.items():
                path = room / name / file
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text.replace("PKG", name))
        first, plain = ran(library, pythons[0]), ran("none", pythons[0])
        again = ran(library, pythons[0])
        for name, case in zip(names, cases, strict=True):
            for file, old, new in case.edits:
                path = room / name / file
                text = path.read_text() if old else ""  # a file that is new has no text before
                if old not in text:
                    raise RuntimeError(f"the corpus is wrong: {case.what!r}, {old!r}")
                path.write_text(text.replace(old, new) if old else new)
        second, truth = ran(library, pythons[1]), ran("none", pythons[1])
    found = []
    for name, case in zip(names, cases, strict=True):
        if (plain[name][1] != truth[name][1]) is not case.seen or "raised" in plain[name][1]:
            raise RuntimeError(f"the corpus is wrong about {case.what!r}")
        if first[name][1] != plain[name][1] or "raised" in second[name][1]:
            found.append("error")
        elif again[name][0] or (second[name][0] and not case.seen):
            found.append("needless")
        else:
            found.append("right" if second[name][1] == truth[name][1] else "stale")
    return found


def of_programs(library: str) -> list[str]:
    """The same of each script and notebook."""
    found = []
    for program in PROGRAMS:
        with tempfile.TemporaryDirectory(prefix="wellkept-edits-") as made:
            room = Path(made)
            first = program_ran(library, room, program.before, program.script.partition(">")[0])
            second = program_ran(library, room, program.after, program.script.partition(">")[2])
        if first != (True, "7"):
            raise RuntimeError(f"{library} did not compute {program.what!r} at first")
        found.append(verdict(second[0], program.seen))
    return found


def program_ran(library: str, room: Path, texts: tuple[str, ...], script: str) -> tuple[bool, str]:
    """Whether the last call of a script or notebook ran the body, and what it gave."""
    if script:
        for old in room.glob("*.py"):
            old.unlink()
        (room / script).write_text(texts[0])
        out = started(library, room, [sys.executable, script])
    else:
        out = started(library, room, [sys.executable, "-c", KERNEL], json.dumps(texts))
    said = out.rpartition("---")[2].split()
    return said[0] == "ran", said[-1]


def verdict(computed: bool, seen: bool) -> str:
    return "right" if computed is seen else "needless" if computed else "stale"


def verdicts(library: str) -> list[str]:
    """What a library does with each of `EDITS`, `CASES`, `PROGRAMS` and the rows of `edits_places`."""
    from edits_places import of_places  # which takes functions from here

    found = of_edits(library) + of_cases(library) + of_programs(library)
    try:
        return found + of_places(library)
    except RuntimeError as error:
        print(error, file=sys.stderr)
        return found + ["error"] * len(_places())


def _places() -> Sequence[Any]:
    from edits_places import ROWS

    return ROWS


def row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def table(found: dict[str, list[str]]) -> str:
    """As markdown: the sums, then each edit."""
    shown = {
        "right": "right",
        "stale": "**stale**",
        "needless": "needless",
        "error": "an error",
    }
    head = ["an edit", "must be", *found]
    lines = [row(*head), "|" + "---|" * len(head)]
    every: list[Any] = [*EDITS, *CASES, *PROGRAMS, *_places()]
    kind = ""
    for number, edit in enumerate(every):
        if getattr(edit, "kind", "") != kind:
            kind = getattr(edit, "kind", "")
            heading = kind.partition(" ")[2] or "scripts, notebooks, archives, workers, prompts"
            lines.append(row(f"*{heading}*", "", *("" for _ in found)))
        cells = [shown[each[number]] for each in found.values()]
        why = getattr(edit, "explained", "")
        what = f"{edit.what} ({why})" if why else edit.what
        lines.append(row(what, "computed" if edit.seen else "a hit", *cells))
    for name in ("stale", "needless", "error"):
        sums = [str(each.count(name)) for each in found.values()]
        lines.append(row(f"{name}, of {len(every)}", "0", *sums))
    return "\n".join(lines)


def main() -> int:
    """Print the table; the exit code is 1 if kept is wrong in one."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--only", default=",".join(LIBRARIES), help="libraries, with commas between"
    )
    parser.add_argument("--markdown", type=Path, help="put the table into this file too")
    asked = parser.parse_args()
    found = {}
    for library in asked.only.split(","):
        try:
            found[library] = verdicts(library)
        except RuntimeError as error:
            print(error, file=sys.stderr)
    text = table(found)
    print(text)
    if asked.markdown is not None:
        page = asked.markdown.read_text(encoding="utf-8")
        before, rest = page.split(START)
        asked.markdown.write_text(
            f"{before}{START}\n{text}\n{END}{rest.split(END)[1]}", encoding="utf-8"
        )
    return int(not set(found.get("wellkept", ["right"])) <= {"right", "needless"})


if __name__ == "__main__":
    raise SystemExit(main())
