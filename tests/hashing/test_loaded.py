"""What runs is what counts, where a file is edited while its module is loaded, and in archives."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest

import wellkept
from wellkept.hashing import loaded

SOURCE = str(Path(wellkept.__file__).parents[1])

KINDS = {
    "default of a named tuple": (
        "from typing import NamedTuple\nclass P(NamedTuple):\n    k: int = 2\n",
        "int = 2",
        "int = 5",
        "P().k",
    ),
    "order of a named tuple's fields": (
        "from collections import namedtuple\nP = namedtuple('P', 'a b')\n",
        "'a b'",
        "'b a'",
        "P(2, 5).a",
    ),
    "value of an enum": (
        "import enum\nclass P(enum.Enum):\n    A = 2\n",
        "A = 2",
        "A = 5",
        "P.A.value",
    ),
    "default of a dataclass": (
        "import dataclasses\n@dataclasses.dataclass\nclass P:\n    k: int = 2\n",
        "int = 2",
        "int = 5",
        "P().k",
    ),
    "factory of a dataclass's field": (
        "import dataclasses\n@dataclasses.dataclass\nclass P:\n"
        "    k: list = dataclasses.field(default_factory=lambda: [2])\n",
        "[2]",
        "[5]",
        "P().k[0]",
    ),
    "decorator of a dataclass": (
        "import dataclasses\n@dataclasses.dataclass(eq=True)\nclass P:\n    k: int\n",
        "eq=True",
        "eq=False",
        "int(P(1) == P(1)) + 1",
    ),
    "default of a model": (
        "from pydantic import BaseModel\nclass P(BaseModel):\n    k: int = 2\n",
        "int = 2",
        "int = 5",
        "P().k",
    ),
    "constraint of a model": (
        "from pydantic import BaseModel, Field\nclass P(BaseModel):\n    k: int = Field(1, gt=2)\n",
        "gt=2",
        "gt=5",
        "P.model_json_schema()['properties']['k']['exclusiveMinimum']",
    ),
    "list of a class with a method": (
        "class P:\n    k = [2]\n    def run(self):\n        return self.k[0]\n",
        "[2]",
        "[5]",
        "P().run()",
    ),
    "object of a class": (
        "import struct\nclass P:\n    k = struct.Struct('2h')\n",
        "'2h'",
        "'5h'",
        "P.k.size",
    ),
    "base of a class": (
        "class A:\n    k = (2,)\nclass B:\n    k = (5,)\nclass P(A):\n"
        "    def run(self):\n        return self.k[0]\n",
        "P(A)",
        "P(B)",
        "P().run()",
    ),
    "metaclass": (
        "class A(type):\n    k = 2\nclass B(type):\n    k = 5\nclass P(metaclass=A):\n    pass\n",
        "metaclass=A",
        "metaclass=B",
        "P.k",
    ),
    "state": (
        "total = 2\ndef P():\n    global total\n    total += 1\n    return total\n",
        "total = 2",
        "total = 5",
        "P()",
    ),
    "state of a class": (
        "class P:\n    total = 2\n    @classmethod\n    def run(cls):\n"
        "        cls.total += 1\n        return cls.total\n",
        "total = 2",
        "total = 5",
        "P.run()",
    ),
    "method": (
        "class P:\n    def run(self):\n        return 2\n",
        "return 2",
        "return 5",
        "P().run()",
    ),
    "function": ("def P():\n    return 2\n", "return 2", "return 5", "P()"),
}

GIVES = {
    "decorator of a dataclass": (2, 1),
    "object of a class": (4, 10),
    "state": (3, 6),
    "state of a class": (3, 6),
}
"""What the body gives before and after, where that is not 2 and 5."""

APP = """
import os, wellkept
from {name} import *
@wellkept.keep(cache=os.environ["ROOM"])
def work(x):
    return ({body}) * x
"""

CALL = """
import json, sys
sys.path.insert(0, "")
names = json.load(sys.stdin)
import importlib
apps = {name: importlib.import_module(f"{name}_app") for name in names}
{before}
print(json.dumps({name: [app.work(3), app.work.stats().computed] for name, app in apps.items()}))
"""


def fresh(room: Path, text: str, given: Any = None, **env: str) -> Any:
    """What a new process prints, as JSON."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", text],
        input=json.dumps(given),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        cwd=room,
        env=os.environ
        | {"ROOM": str(room / "cache"), "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": SOURCE}
        | env,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def call(names: list[str], room: Path, before: str = "", **env: str) -> Any:
    return fresh(room, CALL.replace("{before}", before), names, **env)


def edit(room: Path, changes: Any) -> None:
    for file, old, new in changes:
        path = room / file
        path.write_text(path.read_text().replace(old, new))


EDIT = """
import pathlib
for file, old, new in {changes!r}:
    path = pathlib.Path(file)
    path.write_text(path.read_text().replace(old, new))
"""


@pytest.mark.parametrize("models", [False, pytest.param(True, marks=pytest.mark.long)])
def test_a_file_that_is_edited_before_the_first_call(tmp_path: Path, models: bool) -> None:
    if models:
        pytest.importorskip("pydantic")
    labels, changes, before, after = {}, [], {}, {}
    for number, (label, (text, old, new, body)) in enumerate(KINDS.items()):
        if ("pydantic" in text) is models:
            name = f"h{number}"
            (tmp_path / f"{name}.py").write_text(text)
            (tmp_path / f"{name}_app.py").write_text(APP.format(name=name, body=body))
            labels[name] = label
            changes.append((f"{name}.py", old, new))
            before[label], after[label] = (3 * given for given in GIVES.get(label, (2, 5)))

    def called(code: str = "") -> tuple[dict[str, int], set[str]]:
        ran = call(list(labels), tmp_path, code)
        return {labels[n]: v for n, (v, _) in ran.items()}, {labels[n] for n in ran if ran[n][1]}

    assert called(EDIT.format(changes=changes)) == (before, set(before))
    assert called()[0] == after
    # What is not edited any more is kept for all.
    assert called() == (after, set())


def test_byte_code_that_python_takes_for_that_of_another_text(tmp_path: Path) -> None:
    (tmp_path / "h.py").write_text("class P:\n    k = [2]\n")
    (tmp_path / "h_app.py").write_text(APP.format(name="h", body="P.k[0]"))
    os.utime(tmp_path / "h.py", (1_000_000_000, 1_000_000_000))
    compiled = {"PYTHONDONTWRITEBYTECODE": ""}
    assert call(["h"], tmp_path, ROOM="void:", **compiled) == {"h": [6, 1]}
    (tmp_path / "h.py").write_text("class P:\n    k = [5]\n")
    os.utime(tmp_path / "h.py", (1_000_000_000, 1_000_000_000))
    assert call(["h"], tmp_path, **compiled) == {"h": [6, 1]}  # Python runs what it compiled first
    (tmp_path / "h.py").touch()
    assert call(["h"], tmp_path, **compiled)["h"][0] == 15


LAZY = """
import os, wellkept
@wellkept.keep(cache=os.environ["ROOM"])
def work(x):
    if x > 1:
        import lazy
        return x * lazy.k
    return x
"""


def test_a_module_that_a_body_imports(tmp_path: Path) -> None:
    (tmp_path / "lazy.py").write_text("k = 2\n")
    (tmp_path / "h_app.py").write_text(LAZY)
    change = [("lazy.py", "k = 2", "k = 5")]
    ran = call(["h"], tmp_path, "import lazy\n" + EDIT.format(changes=change))
    assert ran["h"][0] == 6
    assert call(["h"], tmp_path)["h"] == [15, 1]
    # Edited after a call that did not import it.
    change = [("lazy.py", "k = 5", "k = 7")]
    before = f"apps['h'].work(1){EDIT.format(changes=change)}assert apps['h'].work(4) == 28"
    call(["h"], tmp_path, before)
    edit(tmp_path, [("lazy.py", "k = 7", "k = 5")])
    call(["h"], tmp_path, "assert apps['h'].work(4) == 20")


def test_a_link_that_points_elsewhere_when_the_module_is_loaded(tmp_path: Path) -> None:
    for name, text in (("one", "[2]"), ("two", "[5]")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "h.py").write_text(f"class P:\n    k = {text}\n")
    (tmp_path / "now").symlink_to("one")
    (tmp_path / "h_app.py").write_text(APP.format(name="h", body="P.k[0]"))
    swap = "import os; os.symlink('two', 'new'); os.rename('new', 'now')"
    assert call(["h"], tmp_path, swap, PYTHONPATH=paths(tmp_path / "now"))["h"][0] == 6
    assert call(["h"], tmp_path, PYTHONPATH=paths(tmp_path / "now"))["h"][0] == 15


def paths(first: Path) -> str:
    return os.pathsep.join([str(first), SOURCE])


def test_a_module_that_is_loaded_again_counts_as_it_is_now(tmp_path: Path) -> None:
    (tmp_path / "h.py").write_text("class P:\n    k = [2]\n")
    (tmp_path / "h_app.py").write_text(APP.format(name="h", body="P.k[0]"))
    change = EDIT.format(changes=[("h.py", "[2]", "[5]")])
    # The clock of a file system may be behind, by less than this.
    wait = "import time\nwhile time.time_ns() < path.stat().st_ctime_ns + 20_000_000: pass\n"
    before = f"apps['h'].work(3){change}{wait}import importlib, h; importlib.reload(h)\n"
    before += "importlib.reload(apps['h'])"
    assert call(["h"], tmp_path, before)["h"] == [15, 1]
    assert call(["h"], tmp_path)["h"] == [15, 0]  # the text was surely loaded


def test_a_module_in_an_archive(tmp_path: Path) -> None:
    def pack(text: str) -> None:
        with zipfile.ZipFile(tmp_path / "new.zip", "w") as archive:
            archive.writestr("h.py", text)
            archive.writestr("h_app.py", APP.format(name="h", body="P.k[0]"))
        (tmp_path / "new.zip").replace(tmp_path / "all.zip")

    env = {"PYTHONPATH": paths(tmp_path / "all.zip")}
    pack("class P:\n    k = [2]\n")
    assert call(["h"], tmp_path, **env) == {"h": [6, 1]}
    assert call(["h"], tmp_path, **env) == {"h": [6, 0]}
    pack("# A comment.\nclass P:\n    k = [2]  # the same\n")
    assert call(["h"], tmp_path, **env) == {"h": [6, 0]}  # by its source, which the loader has
    pack("class P:\n    k = [5]\n")
    assert call(["h"], tmp_path, **env) == {"h": [15, 1]}


def test_what_is_known_of_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "kept_loaded_probe.py"
    file.write_text("x = 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    # A clock of the file system may be behind.
    limit = time.time_ns() + 50_000_000
    while time.time_ns() < limit:
        os.stat(file)  # noqa: PTH116  only to spend the time
    import kept_loaded_probe  # type: ignore[import-not-found]  # made above

    space = vars(kept_loaded_probe)
    assert loaded.is_current(space)
    file.write_text("x = 2\n")
    assert not loaded.is_current(space)
    assert loaded.token(space) == loaded.token(space)
    file.write_text("x = 3\n")
    assert not loaded.is_current(space)
    sys.modules.pop("kept_loaded_probe")


def test_the_process_is_older_than_what_it_has_loaded() -> None:
    assert loaded._began() < time.time_ns()
    assert loaded.is_current(vars(loaded))


def test_a_function_that_was_compiled_by_itself(tmp_path: Path) -> None:
    # As IPython's autoreload puts the new code of a function into the old one.
    from wellkept.hashing.code import deep

    text = "LIMIT = 2\n\n\ndef h(x):\n    return [y + x for y in (1, LIMIT)]\n"
    file = tmp_path / "h.py"
    file.write_text(text)
    space: dict[str, Any] = {"__name__": "__main__", "__file__": str(file)}
    exec(compile(text, str(file), "exec"), space)
    before = deep(space["h"]).hex
    alone = text.partition("\n\n\n")[2]
    exec(compile(alone, str(file), "exec"), space)
    assert space["h"].__code__.co_firstlineno == 1
    assert deep(space["h"]).hex == before
    exec(compile(alone.replace("y + x", "y - x"), str(file), "exec"), space)
    assert deep(space["h"]).hex != before  # the file does not say that
