# ruff: noqa: E501  a row is one line
"""Edits where code lies in other places than a directory of files: prompts, archives, workers, notebooks.

Each place runs one program that calls a function for each kind of edit, before and after all of them
were made; a real IPython shell runs cells, with edits of a file between them. See `edits.py`, which
shows the rows with its own.
"""

from __future__ import annotations

import compileall
import json
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from edits import started, verdict

__all__ = ["ROWS", "Row", "of_places"]


class Row(NamedTuple):
    """One edit in one place."""

    what: str
    seen: bool
    """Whether the function has to be computed again."""
    place: str
    name: str
    """The function of the program; of a shell, its steps."""


class Change(NamedTuple):
    what: str
    seen: bool
    text: str
    """The module."""
    call: str
    """What a function does with it, as `lib`."""
    old: str
    new: str


CHANGES = {
    "helper": Change("a helper", True, "def h(x):\n    return x + 1\n", "lib.h(x)", "x + 1", "x + 2"),
    "inner": Change("a helper's helper", True, "def h(x):\n    return deep(x)\ndef deep(x):\n    return x + 1\n", "lib.h(x)", "x + 1", "x + 2"),
    "constant": Change("a constant", True, "K = 1\n", "lib.K + x", "K = 1", "K = 2"),
    "nested": Change("an attribute of a class in a chain", True, "class sub:\n    class inner:\n        K = 1\n", "lib.sub.inner.K + x", "K = 1", "K = 2"),
    "listed": Change("a list of a class", True, "class C:\n    by = [1]\n    def of(self, x):\n        return x + self.by[0]\n", "lib.C().of(x)", "[1]", "[2]"),
    "method": Change("a method", True, "class C:\n    def of(self, x):\n        return x + 1\n", "lib.C().of(x)", "x + 1", "x + 2"),
    "member": Change("a member of an enum", True, "import enum\nclass E(enum.Enum):\n    A = 1\n", "lib.E.A.value + x", "A = 1", "A = 2"),
    "mapped": Change("a helper that is handed on", True, "def h(x):\n    return x + 1\n", "sum(map(lib.h, [x]))", "x + 1", "x + 2"),
    "state": Change("the first value of a counter", True, "n = 1\ndef h(x):\n    global n\n    n += 1\n    return n + x\n", "lib.h(x)", "n = 1", "n = 5"),
    "table": Change("a function in a table", True, "T = {}\ndef add(f):\n    T[f.__name__] = f\n    return f\n@add\ndef h(x):\n    return x + 1\n", "lib.T['h'](x)", "x + 1", "x + 2"),
    "comment": Change("a comment", False, "def h(x):\n    return x + 1\n", "lib.h(x)", "return", "# So.\n    return"),
    "unrelated": Change("a function that nothing calls", False, "def h(x):\n    return x + 1\ndef other(x):\n    return x\n", "lib.h(x)", "return x\n", "return -x\n"),
}  # fmt: skip

HEAD = "import json, os, sys\nfrom keeping import keep\n"
# Workers write at the same time: a line is one write.
FUNCTION = """
import {name}_lib
@keep
def {name}(x):
    os.write(1, b"ran {name}\\n")
    {bind}
    return {call}
"""
LATE = """
@keep
def late(x):
    os.write(1, b"ran late\\n")
    import pack.late as lib
    return lib.K + x
"""
CALLED = "print('---' + json.dumps({f: globals()[f](3) for f in NAMES}), flush=True)\n"
POOL = """
def call(name):
    return globals()[name](3)
if __name__ in ("__main__", "__mp_main__"):
    sys.stdout.reconfigure(line_buffering=True)
if __name__ == "__main__":
    import multiprocessing
    with multiprocessing.get_context("{how}").Pool(1) as pool:
        print('---' + json.dumps(dict(zip(NAMES, pool.map(call, NAMES)))), flush=True)
"""
LOKY = """
if __name__ == "__main__":
    from joblib import Parallel, delayed
    found = Parallel(n_jobs=2)(delayed(globals()[name])(3) for name in NAMES)
    print('---' + json.dumps(dict(zip(NAMES, found))), flush=True)
"""
FUTURES = """
if __name__ == "__main__":
    import cloudpickle, subprocess
    packed = cloudpickle.dumps([globals()[name] for name in NAMES])
    there = "import sys, pickle, json\\nfound = [f(3) for f in pickle.load(sys.stdin.buffer)]\\nprint('---' + json.dumps(found))"
    done = subprocess.run([sys.executable, "-c", there], input=packed, stdout=subprocess.PIPE, check=True)
    head, _, found = done.stdout.decode().rpartition('---')
    print(head, '---' + json.dumps(dict(zip(NAMES, json.loads(found)))), flush=True)
"""


def program(call: str) -> str:
    """The text of a program with a function for each change."""
    made = [HEAD]
    for name, change in CHANGES.items():
        late = name == "mapped"
        made.append(
            FUNCTION.format(
                name=name,
                bind=f"import {name}_lib as lib" if late else "pass",
                call=change.call if late else change.call.replace("lib.", f"{name}_lib."),
            )
        )
    made += [LATE, f"NAMES = {[*CHANGES, 'late']!r}\n", call]
    return "".join(made)


def files(after: bool) -> dict[str, str]:
    """The modules, before or after all edits."""
    found = {
        f"{name}_lib.py": change.text.replace(change.old, change.new) if after else change.text
        for name, change in CHANGES.items()
    }
    return found | {"pack/__init__.py": "", "pack/late.py": f"K = {2 if after else 1}\n"}


def written(room: Path, after: bool) -> None:
    for name, text in files(after).items():
        (room / name).parent.mkdir(exist_ok=True)
        (room / name).write_text(text)


Runner = Callable[[str, Path, bool], str]


def _prompt(library: str, room: Path, after: bool) -> str:
    written(room, after)
    return started(library, room, [sys.executable, "-c", program(CALLED)])


def _stdin(library: str, room: Path, after: bool) -> str:
    written(room, after)
    return started(library, room, [sys.executable, "-"], program(CALLED))


def _exec(library: str, room: Path, after: bool) -> str:
    written(room, after)
    (room / "run.py").write_text(f"exec({program(CALLED)!r}, {{'__name__': '__main__'}})\n")
    return started(library, room, [sys.executable, "run.py"])


def _zip(library: str, room: Path, after: bool) -> str:
    with zipfile.ZipFile(room / "new.zip", "w") as archive:
        for name, text in (files(after) | {"__main__.py": program(CALLED)}).items():
            archive.writestr(name, text)
    (room / "new.zip").replace(room / "all.zip")
    return started(library, room, [sys.executable, "all.zip"])


def _compiled(library: str, room: Path, after: bool) -> str:
    shutil.rmtree(room / "build", ignore_errors=True)
    (room / "build").mkdir()
    written(room / "build", after)
    (room / "build" / "run.py").write_text(program(CALLED))
    compileall.compile_dir(room / "build", legacy=True, quiet=1)
    for file in (room / "build").rglob("*.py"):
        file.unlink()
    return started(library, room, [sys.executable, "build/run.pyc"])


def _script(call: str) -> Runner:
    def run(library: str, room: Path, after: bool) -> str:
        written(room, after)
        (room / "run.py").write_text(program(call))
        return started(library, room, [sys.executable, "run.py"])

    return run


RUNNERS: dict[str, Runner] = {
    "python -c": _prompt,
    "standard input": _stdin,
    "exec": _exec,
    "a zip": _zip,
    ".pyc files alone": _compiled,
    "a worker by spawn": _script(POOL.replace("{how}", "spawn")),
    "a worker by fork": _script(POOL.replace("{how}", "fork")),
    "a worker of loky": _script(LOKY),
    "a process that unpickles it": _script(FUTURES),
}

Steps = tuple[str | tuple[str, str], ...]
SHELL = """
import json, os, sys, time
from pathlib import Path
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
later = 5
for step in json.load(sys.stdin):
    if isinstance(step, str):
        done = shell.run_cell(step)
        if not done.success:
            raise SystemExit(f"{step}: {done.error_in_exec or done.error_before_exec}")
    else:
        file = Path("lib.py")
        file.write_text(file.read_text().replace(*step))
        at = file.stat().st_mtime + later
        os.utime(file, (at, at))
        later += 5
        # No one edits a file and runs a cell within a tick of the file system's clock.
        while time.time_ns() < file.stat().st_ctime_ns + 20_000_000:
            pass
"""
LIB = "K = 1\ndef h(x):\n    return x + K\nclass C:\n    by = [1]\n    def of(self, x):\n        return x + self.by[0]\ndef unused(x):\n    return x\n"
AUTO = "%load_ext autoreload\n%autoreload 2"
START = "from keeping import keep\nimport lib"
FROM = "from keeping import keep\nfrom lib import h, C"
WORK = '@keep\ndef work(x):\n    print("ran")\n    return {}\n'
CALL = 'print("---")\nprint(work(3))'
VIA = WORK.format("lib.h(x)")
DIRECT = WORK.format("h(x)")
CLASS = WORK.format("lib.C().of(x)")
HELPER = "def helper(x):\n    return x + 1\n"
OWN = WORK.format("helper(x)")
MODEL = "class Model:\n    k = [1]\n    def of(self, x):\n        return x + self.k[0]\n"
MADE = WORK.format("Model().of(x)")

SHELLS: dict[str, tuple[bool, Steps]] = {
    "a helper's body, with autoreload": (True, (AUTO, START, VIA, CALL, ("x + K", "x - K"), CALL)),
    "a helper imported by name, with autoreload": (True, (AUTO, FROM, DIRECT, CALL, ("x + K", "x - K"), CALL)),
    "a helper changed and changed back, with autoreload": (False, (AUTO, START, VIA, CALL, ("x + K", "x - K"), CALL, ("x - K", "x + K"), CALL)),
    "a constant, with autoreload": (True, (AUTO, START, VIA, CALL, ("K = 1", "K = 2"), CALL)),
    "a method, with autoreload": (True, (AUTO, START, CLASS, CALL, ("x + self", "x - self"), CALL)),
    "a list of a class, with autoreload": (True, (AUTO, START, CLASS, CALL, ("[1]", "[2]"), CALL)),
    "a comment, with autoreload": (False, (AUTO, START, VIA, CALL, ("def h", "# So.\ndef h"), CALL)),
    "a function that nothing calls, with autoreload": (False, (AUTO, START, VIA, CALL, ("return x\n", "return -x\n"), CALL)),
    "a file that is not loaded again": (False, (START, VIA, CALL, ("x + K", "x - K"), CALL)),
    "a file that is edited before the first call": (True, (START, CLASS, ("[1]", "[2]"), CALL, "import importlib\nimportlib.reload(lib)", CALL)),
    "a helper's cell run again, changed": (True, ("from keeping import keep", HELPER, OWN, CALL, HELPER.replace("+ 1", "+ 2"), CALL)),
    "a helper's cell run again": (False, ("from keeping import keep", HELPER, OWN, CALL, HELPER, CALL)),
    "a class's cell run again, changed": (True, ("from keeping import keep", MODEL, MADE, CALL, MODEL.replace("[1]", "[2]"), CALL)),
    "a method's cell run again, changed": (True, ("from keeping import keep", MODEL, MADE, CALL, MODEL.replace("x + self", "x - self"), CALL)),
    "a class's cell run again": (False, ("from keeping import keep", MODEL, MADE, CALL, MODEL, CALL)),
    "its own cell run again, changed": (True, ("from keeping import keep", HELPER, OWN, CALL, OWN.replace("helper(x)", "helper(x) * 2"), CALL)),
    "its own cell run again, with a comment": (False, ("from keeping import keep", HELPER, OWN, CALL, OWN.replace("    return", "    # So.\n    return"), CALL)),
}  # fmt: skip

ROWS = [
    *(
        Row(f"{change.what}: {place}", change.seen, place, name)
        for place in RUNNERS
        for name, change in CHANGES.items()
    ),
    *(
        Row(f"a module imported when it is called: {place}", True, place, "late")
        for place in RUNNERS
    ),
    *(Row(f"{what}: IPython", seen, "IPython", what) for what, (seen, _) in SHELLS.items()),
]


def _answers(said: str) -> tuple[dict[str, int], set[str]]:
    """What the functions of a program gave, and those whose bodies ran."""
    line = next(line for line in said.splitlines() if "---" in line)
    ran = {line.split()[-1] for line in said.splitlines() if "ran " in line and "---" not in line}
    return json.loads(line.partition("---")[2]), ran


def _of_place(library: str, place: str) -> dict[str, str]:
    """What a library does with each change in a place."""
    with tempfile.TemporaryDirectory(prefix="wellkept-edits-") as made:
        room = Path(made)
        run = RUNNERS[place]
        first = _answers(run(library, room, False))
        plain = _answers(run("none", room, False))
        again = _answers(run(library, room, False))
        second = _answers(run(library, room, True))
        truth = _answers(run("none", room, True))
    found = {}
    for name in first[0]:
        seen = plain[0][name] != truth[0][name]
        right = first[0][name] == plain[0][name] and second[0][name] == truth[0][name]
        found[name] = verdict(name in second[1], seen) if right else "stale"
        if found[name] == "right" and name in again[1]:
            found[name] = "needless"
    return found


def _of_shell(library: str, steps: Steps) -> str:
    said = []
    for one in (library, "none"):
        with tempfile.TemporaryDirectory(prefix="wellkept-edits-") as made:
            room = Path(made)
            (room / "lib.py").write_text(LIB)
            out = started(one, room, [sys.executable, "-c", SHELL], json.dumps(steps))
            said.append([part.split() for part in out.split("---")[1:]])
    calls, truth = said
    before, last = truth[-2][-1], truth[-1][-1]
    if calls[-1][-1] != last:
        return "stale"
    seen = before != last and last not in [call[-1] for call in truth[:-2]]
    return verdict(calls[-1][0] == "ran", seen)


def of_places(library: str) -> list[str]:
    """What a library does with each of `ROWS`: `right`, `stale` or `needless`."""
    found = {place: _of_place(library, place) for place in RUNNERS}
    found["IPython"] = {what: _of_shell(library, steps) for what, (_, steps) in SHELLS.items()}
    return [found[row.place][row.name] for row in ROWS]


def main() -> int:
    """Print what is not right."""
    answers = of_places(sys.argv[1] if len(sys.argv) > 1 else "wellkept")
    bad = [(row, said) for row, said in zip(ROWS, answers, strict=True) if said != "right"]
    for row, said in bad:
        print(f"{said:10} {row.what}")
    print(f"{len(ROWS)} rows, {len(bad)} not right")
    return int(bool(bad))


if __name__ == "__main__":
    raise SystemExit(main())
