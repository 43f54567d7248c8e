# ruff: noqa: E501  a case is one line
"""The deep identity: which edits of a project change it, and which do not.

Each edit is made to the files of a small project, and each verdict is that of a process of its own.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = {
    "app/__init__.py": "",
    "app/constants.py": "RATE = 3\nUNUSED = 1\nTABLE = {'a': 1, 'b': [1, 2]}\nLIMITS = (1, 2)\n",
    "app/deep.py": (
        "from app.constants import TABLE\n\n\ndef deepest(x):\n    return x + TABLE['a']\n\n\n"
        "def unused(x):\n    return x\n"
    ),
    "app/helpers.py": (
        "import functools\n\nfrom app import deep\n\n\n"
        "def helper(x):\n    '''Doc.'''\n    total = x * 2  # twice\n    return deep.deepest(total)\n\n\n"
        "def scaled(x, factor=2):\n    return x * factor\n\n\n"
        "double = functools.partial(scaled, factor=4)\n\n\n"
        "def noisy(function):\n"
        "    @functools.wraps(function)\n    def inner(*a):\n        return function(*a) + 1\n"
        "    return inner\n\n\n"
        "def even(n):\n    return n == 0 or odd(n - 1)\n\n\n"
        "def odd(n):\n    return n != 0 and even(n - 1)\n"
    ),
    "app/models.py": (
        "from dataclasses import dataclass\n\n\nclass Base:\n    scale = 2\n\n"
        "    def run(self, x):\n        return x * self.scale\n\n\n"
        "class Model(Base):\n    @property\n    def bias(self):\n        return 5\n\n"
        "    def call(self, x):\n        return self.run(x) + self.bias\n\n\n"
        "@dataclass\nclass Config:\n    size: int = 3\n    name: str = 'n'\n"
    ),
    "main.py": (
        "import json as js\n\nimport app.helpers as h\n"
        "from app import constants\nfrom app.helpers import double, noisy\n"
        "from app.models import Config, Model\n\n\n"
        "@noisy\ndef decorated(x):\n    return x\n\n\n"
        "def other(x):\n    return x - 1\n\n\n"
        "def work(x, step=1):\n"
        '    """What it does."""\n'
        "    values = [h.helper(i) + constants.RATE for i in range(x)]\n"
        "    small = (lambda y: y + 10)(x)\n\n"
        "    def inner(z):\n        return z * 3\n\n"
        "    model = Model()\n"
        "    label = f'{x}-{small}'\n"
        "    return sum(values), small, inner(x), double(x), decorated(x), model.call(x), "
        "Config().size, js.dumps(label), h.even(4), step\n"
    ),
}

SAME = [
    ("a comment", "app/helpers.py", "# twice", "# two times, that is"),
    ("a docstring", "app/helpers.py", "'''Doc.'''", "'''Another doc.'''"),
    ("its own docstring", "main.py", '"""What it does."""', '"""What it does now."""'),
    ("an added docstring", "app/deep.py", "def deepest(x):\n", 'def deepest(x):\n    "Doc."\n'),
    (
        "layout",
        "app/deep.py",
        "return x + TABLE['a']",
        "return (\n        x\n        + TABLE[ 'a' ]\n    )",
    ),
    ("quotes", "app/deep.py", "TABLE['a']", 'TABLE["a"]'),
    ("a local's name", "app/helpers.py", "total", "product"),
    ("an annotation", "app/helpers.py", "def helper(x):", "def helper(x: int) -> int:"),
    (
        "a function that is not reached",
        "app/deep.py",
        "def unused(x):\n    return x",
        "def unused(x):\n    return -x",
    ),
    ("another that is not", "main.py", "return x - 1", "return x - 2"),
    ("a constant that is not", "app/constants.py", "UNUSED = 1", "UNUSED = 2"),
    ("a new constant", "app/constants.py", "RATE = 3", "NEW = 9\nRATE = 3"),
    (
        "an alias of an import",
        "main.py",
        ("import json as js", "js.dumps"),
        ("import json as j", "j.dumps"),
    ),
    (
        "an alias of a project's module",
        "main.py",
        ("import app.helpers as h", "h.helper", "h.even"),
        ("import app.helpers as hh", "hh.helper", "hh.even"),
    ),
    ("an unused import", "app/deep.py", "from app.constants", "import os\nfrom app.constants"),
    ("blank lines above", "main.py", "def work(", "\n\n\ndef work("),
    (
        "the order of functions",
        "app/helpers.py",
        (
            "def even(n):\n    return n == 0 or odd(n - 1)\n\n\ndef odd(n):\n    return n != 0 and even(n - 1)\n",
        ),
        (
            "def odd(n):\n    return n != 0 and even(n - 1)\n\n\ndef even(n):\n    return n == 0 or odd(n - 1)\n",
        ),
    ),
    ("brackets that do nothing", "main.py", "return z * 3", "return (z * 3)"),
    (
        "the order of a dict's items",
        "app/constants.py",
        "{'a': 1, 'b': [1, 2]}",
        "{'b': [1, 2], 'a': 1}",
    ),
    ("a number in other digits", "app/constants.py", "RATE = 3", "RATE = 0x3"),
]

CHANGED = [
    ("its own body", "main.py", "range(x)", "range(x + 1)"),
    ("its own default", "main.py", "step=1", "step=2"),
    ("a helper", "app/helpers.py", "x * 2  #", "x * 3  #"),
    ("a helper two modules away", "app/deep.py", "return x + TABLE", "return x - TABLE"),
    ("a constant", "app/constants.py", "RATE = 3", "RATE = 4"),
    ("a constant's type", "app/constants.py", "RATE = 3", "RATE = 3.0"),
    ("a constant three modules away", "app/constants.py", "'a': 1", "'a': 2"),
    ("within a constant", "app/constants.py", "[1, 2]", "[1, 3]"),
    ("a default of a helper's", "app/helpers.py", "x * factor", "x * factor * 1"),
    ("an argument of a partial", "app/helpers.py", "factor=4", "factor=5"),
    ("a decorator's body", "app/helpers.py", "function(*a) + 1", "function(*a) + 2"),
    ("a decorator taken away", "main.py", "@noisy\ndef decorated", "def decorated"),
    ("a decorated function", "main.py", "def decorated(x):\n    return x", "def decorated(x):\n    return -x"),
    ("a lambda", "main.py", "y + 10", "y + 11"),
    ("a nested function", "main.py", "z * 3", "z * 4"),
    ("a comprehension", "main.py", "h.helper(i) +", "h.helper(i) -"),
    ("a method of a base class", "app/models.py", "x * self.scale", "x ** self.scale"),
    ("a constant in a class body", "app/models.py", "scale = 2", "scale = 3"),
    ("a property", "app/models.py", "return 5", "return 6"),
    ("a method", "app/models.py", "self.run(x) + self.bias", "self.run(x) - self.bias"),
    ("a base class", "app/models.py", "class Model(Base):", "class Model(Base, dict):"),
    ("a field's default", "app/models.py", "size: int = 3", "size: int = 4"),
    ("one of two that call each other", "app/helpers.py", "n != 0 and even", "n == 0 or even"),
    ("an f-string", "main.py", "{x}-{small}", "{x}_{small}"),
    ("another function of the same name", "main.py", "from app.helpers import double, noisy", "from app.helpers import noisy, scaled as double"),
    ("an operator", "main.py", "js.dumps(label)", "js.dumps(not label)"),
    ("True for 1", "main.py", "h.even(4), step", "h.even(True), step"),
    ("the order of results", "main.py", "sum(values), small", "small, sum(values)"),
]  # fmt: skip

ASK = (
    "import json, sys; sys.path.insert(0, '.'); import main; from kept.hashing.code import deep; "
    "found = deep(main.work); print(json.dumps([found.hex, sorted(found.parts)]))"
)


def identity(place: Path, seed: str = "random") -> tuple[str, list[str]]:
    environment = dict(os.environ, PYTHONHASHSEED=seed, PYTHONDONTWRITEBYTECODE="1")
    done = subprocess.run(
        [sys.executable, "-c", ASK], cwd=place, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    hexed, parts = json.loads(done.stdout)
    return hexed, parts


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for name, text in PROJECT.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> str:
    place = tmp_path_factory.mktemp("project")
    for name, text in PROJECT.items():
        (place / name).parent.mkdir(exist_ok=True)
        (place / name).write_text(text)
    found, parts = identity(place)
    assert len(parts) > 8, parts
    assert identity(place, "7")[0] == found
    return found


def edit(path: Path, old: str | tuple[str, ...], new: str | tuple[str, ...]) -> None:
    text = path.read_text()
    olds, news = ((old,), (new,)) if isinstance(old, str) else (old, new)
    for one, other in zip(olds, news, strict=True):
        assert one in text
        text = text.replace(one, other)
    path.write_text(text)


@pytest.mark.parametrize(
    ("file", "old", "new"), [case[1:] for case in SAME], ids=[case[0] for case in SAME]
)
def test_what_changes_nothing(project: Path, before: str, file: str, old: str, new: str) -> None:
    edit(project / file, old, new)
    assert identity(project)[0] == before


@pytest.mark.parametrize(
    ("file", "old", "new"), [case[1:] for case in CHANGED], ids=[case[0] for case in CHANGED]
)
def test_what_changes_what_it_does(
    project: Path, before: str, file: str, old: str, new: str
) -> None:
    edit(project / file, old, new)
    assert identity(project)[0] != before
