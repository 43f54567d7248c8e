"""What each library does, asked one question at a time: the table of docs/explanation/why-another-cache.md.

```bash
pip install . --group compare
python benchmarks/compare.py                                # a table of all that are installed
python benchmarks/compare.py wellkept joblib --only comment,none
python benchmarks/compare.py --markdown docs/explanation/why-another-cache.md
```

Every question is a small program that is run as a user would: in processes of its own, in a directory of
its own. Its answer is what happened, never what a document says. Each library is set so that it notices as
much as it can: fleche has `hash_code=True`, checkpointer `capture=True` and rubedo `code="auto"`, which are
not their defaults. What is cached in a dataflow only (CocoIndex, rubedo) is called through a flow of one
step, and marimo from a notebook.
"""

from __future__ import annotations

import argparse
import array as arrays
import functools
import importlib.metadata
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

START, END = "<!-- compare -->", "<!-- /compare -->"
PATIENCE = 60.0
LIFE = 3
# More do not fit on a page beside each other.
WIDE = 5


@dataclass(frozen=True)
class Library:
    """How it is used: a program's first lines, which bind `cached`."""

    name: str
    opening: str
    expiring: str = ""
    """What binds `cached` so that results expire after `LIFE` seconds; empty: it can't."""
    persistent: bool = True
    notebook: bool = False
    distribution: str = ""
    """As pip knows it, where that is not its name."""
    options: dict[str, tuple[str, str]] = field(default_factory=dict)
    """For a question whose answer is no: an option, and the opening with it."""

    @property
    def version(self) -> str:
        name = self.distribution or self.name
        return (
            platform.python_version() if name == "lru_cache" else importlib.metadata.version(name)
        )

    @property
    def here(self) -> bool:
        try:
            return bool(self.version)
        except importlib.metadata.PackageNotFoundError:
            return False


_COCOINDEX = """
import os, pathlib
os.environ["COCOINDEX_DISABLE_USAGE_TRACKING"] = "1"
import cocoindex as coco
def cached(function):
    step = coco.fn(memo=True)(function)
    def call(*given):
        @coco.fn
        async def flow():
            made = step(*given)
            return await made if inspect.isawaitable(made) else made
        place = coco.Environment(coco.Settings(db_path=pathlib.Path("store")))
        return coco.App(coco.AppConfig(name="probe", environment=place), flow).update_blocking()
    return call
"""
_RUBEDO = """
import os
os.environ["RUBEDO_HOME"] = os.path.abspath("store")
from rubedo import Home, pipeline, step
def cached(function):
    def call(given=None):
        def x():
            yield given
        made = pipeline(name="probe", steps=[step(force=True)(x), step(OPTIONS)(function)]).run()
        if made.failed_count:
            cells = Home.default().cells(run_id=made.run_id)
            raise RuntimeError([cell.error_message for cell in cells if cell.error_message])
        cells = Home.default().current(step=function.__name__, resolve_output=True)
        return cells[0].output
    return call
"""
_FLECHE = """
import fleche
from fleche.caches import BaseCache
fleche.cache(BaseCache.from_config({"template": "sql", "root": "store", "values": "pickle"}))
cached = fleche.fleche(hash_code=True)
"""

LIBRARIES = (
    Library(
        "wellkept",
        'from wellkept import keep\ncached = keep(cache="./store")',
        f'from wellkept import keep\ncached = keep(cache="./store", ttl={LIFE})',
    ),
    Library(
        "lru_cache", "from functools import lru_cache\ncached = lru_cache(None)", persistent=False
    ),
    Library(
        "joblib",
        'from joblib import Memory\ncached = Memory("store", verbose=0).cache',
        "from joblib import Memory, expires_after\n"
        f'cached = Memory("store", verbose=0).cache(cache_validation_callback=expires_after(seconds={LIFE}))',
        options={
            "mapped": (
                "mmap_mode",
                'from joblib import Memory\ncached = Memory("store", mmap_mode="r", verbose=0).cache',
            )
        },
    ),
    Library(
        "diskcache",
        'from diskcache import Cache\ncached = Cache("store").memoize()',
        f'from diskcache import Cache\ncached = Cache("store").memoize(expire={LIFE})',
    ),
    Library(
        "cachier",
        'from cachier import cachier\ncached = cachier(cache_dir="store", separate_files=True)',
        "from datetime import timedelta\nfrom cachier import cachier\n"
        f'cached = cachier(cache_dir="store", separate_files=True, stale_after=timedelta(seconds={LIFE}))',
        options={
            "none": (
                "allow_none",
                "from cachier import cachier\n"
                'cached = cachier(cache_dir="store", separate_files=True, allow_none=True)',
            )
        },
    ),
    Library("fleche", _FLECHE),
    Library(
        "cachau",
        'from cachau import cache\ncached = cache(persist="store")',
        f'from cachau import cache\ncached = cache(persist="store", ttl={LIFE})',
    ),
    Library(
        "checkpointer",
        "from checkpointer import checkpoint\n"
        'cached = checkpoint(directory="store", capture=True, verbosity=0)',
        "from datetime import timedelta\nfrom checkpointer import checkpoint\n"
        f'cached = checkpoint(directory="store", capture=True, verbosity=0, expiry=timedelta(seconds={LIFE}))',
    ),
    Library(
        "marimo",
        'import marimo as mo\ncached = functools.partial(mo.persistent_cache, save_path="store")()',
        notebook=True,
    ),
    Library("CocoIndex", _COCOINDEX, distribution="cocoindex"),
    Library(
        "rubedo",
        _RUBEDO.replace("OPTIONS", 'code="auto"'),
        _RUBEDO.replace("OPTIONS", f'code="auto", stale_after="{LIFE}s"'),
    ),
)

HEAD = """
import asyncio, functools, glob, inspect, os, sys, threading, time, warnings
from helpers import *
"""
# A coroutine and a generator become what they give.
RESULT = """
def result(made):
    if inspect.isawaitable(made):
        async def awaited():
            return await made
        return asyncio.run(awaited())
    return list(made) if inspect.isgenerator(made) else made
def together(processes):
    open(f"ready-{os.getpid()}", "w").close()
    while len(glob.glob("ready-*")) < processes:
        time.sleep(0.01)
def outcome(asked):
    try:
        return repr(asked())
    except BaseException as error:
        return f"raises {type(error).__name__}: {error}"
"""
RAN = 'open("ran", "a").write(".")'
NOTEBOOK = """
import marimo
app = marimo.App()
@app.cell
def _():
{cells}
    return
if __name__ == "__main__":
    app.run()
"""


@dataclass
class Trial:
    """One library and one question: a directory with a program."""

    library: Library
    place: Path
    said: list[str] = field(default_factory=list)

    def write(self, function: str, helpers: str = "", opening: str | None = None) -> None:
        """The function, below `@cached`; `RAN` in it tells that its body runs."""
        opening = self.library.opening if opening is None else opening
        work = f"{HEAD}{opening}\n{RESULT}\n@cached\n{function.replace('RAN', RAN)}\n"
        (self.place / "helpers.py").write_text(helpers or "NOTHING = 0\n")
        (self.place / "work.py").write_text(work)

    def begin(self, asked: str, **environment: str) -> subprocess.Popen[str]:
        """Ask for `asked` in a new process, which prints what came of it."""
        ask = f'print("OUTCOME", outcome(lambda: {asked}))'
        if self.library.notebook:
            text = (self.place / "work.py").read_text() + ask
            cells = "\n".join("    " + line for line in text.splitlines())
            # What a notebook imports by a star has no names that marimo knows.
            names = "from helpers import " + ", ".join(self._names())
            program = NOTEBOOK.format(cells=cells.replace("from helpers import *", names))
        else:
            program = f"from work import *\n{ask}\n"
        (self.place / "ask.py").write_text(program)
        return subprocess.Popen(
            [sys.executable, "ask.py"],
            cwd=self.place,
            env={
                **os.environ,
                "HOME": str(self.place),
                "PYTHONDONTWRITEBYTECODE": "1",
                **environment,
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def _names(self) -> list[str]:
        names: dict[str, object] = {}
        exec((self.place / "helpers.py").read_text(), names)  # noqa: S102  written above
        return [name for name in names if not name.startswith("_")]

    def end(self, process: subprocess.Popen[str]) -> str:
        try:
            out, _ = process.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            return "hangs"
        self.said.append(out)
        told = [line for line in out.splitlines() if line.startswith("OUTCOME ")]
        if told:
            return told[-1].removeprefix("OUTCOME ")
        return f"raises {(out.strip().splitlines() or ['nothing'])[-1]}"

    def ask(self, asked: str = "result(work(1))", **environment: str) -> str:
        return self.end(self.begin(asked, **environment))

    @property
    def ran(self) -> int:
        """How often the body ran."""
        file = self.place / "ran"
        return len(file.read_text()) if file.exists() else 0

    def twice(self, asked: str = "result(work(1))") -> str:
        """Whether a second process has what a first one asked for."""
        if not self.library.persistent:
            return self.once(asked)
        first = self.ask(asked)
        if first.startswith("raises"):
            return "raises"
        ran = self.ran
        again = self.ask(asked)
        if again.startswith("raises"):
            return "raises"
        if (ran, self.ran) != (1, 1):
            return "not kept"
        return "kept" if again == first else "**wrong result**"

    def once(self, asked: str) -> str:
        """Whether a second call of the same process has what the first one had."""
        told = self.ask(f"repr({asked}) == repr({asked})")
        if told.startswith("raises"):
            return "raises"
        if self.ran != 1:
            return "not kept"
        return "kept" if told == "True" else "**wrong result**"


Answer = Callable[[Trial], str]
QUESTIONS: dict[str, tuple[str, Answer]] = {}


def question(title: str, persistent: bool = False) -> Callable[[Answer], Answer]:
    """A row; `persistent`: it is none of a cache that ends with its process."""

    def register(answer: Answer) -> Answer:
        @functools.wraps(answer)
        def asked(trial: Trial) -> str:
            return "-" if persistent and not trial.library.persistent else answer(trial)

        QUESTIONS[answer.__name__] = title, asked
        return answer

    return register


PLAIN = "def work(x):\n    RAN\n    return x + 1\n"
HELPED = "def work(x):\n    RAN\n    return helper(x)\n"


def _yes(holds: bool) -> str:
    return "yes" if holds else "no"


@question("results outlive the process")
def outlives(trial: Trial) -> str:
    trial.write(PLAIN)
    trial.ask()
    trial.ask()
    return _yes(trial.ran == 1)


def _changed(trial: Trial, before: tuple[str, str], after: tuple[str, str]) -> str:
    """Whether the second process gives what the code of today does."""
    trial.write(*before)
    if (first := trial.ask()).startswith("raises"):
        return "raises"
    trial.write(*after)
    return "yes" if trial.ask() != first else "**no**"


@question("a changed body is noticed", persistent=True)
def body(trial: Trial) -> str:
    return _changed(trial, (PLAIN, ""), (PLAIN.replace("x + 1", "x + 2"), ""))


@question("a changed helper is noticed", persistent=True)
def helper(trial: Trial) -> str:
    text = "def helper(x):\n    return x + 1\n"
    return _changed(trial, (HELPED, text), (HELPED, text.replace("+ 1", "+ 2")))


@question("a changed constant is noticed", persistent=True)
def constant(trial: Trial) -> str:
    text = "RATE = 1\ndef helper(x):\n    return x + RATE\n"
    return _changed(trial, (HELPED, text), (HELPED, text.replace("= 1", "= 2")))


@question("a changed method of an argument's class is noticed", persistent=True)
def method(trial: Trial) -> str:
    text = (
        "class Part:\n    def __init__(self, size):\n        self.size = size\n"
        "    def cost(self):\n        return self.size * 2\n"
    )
    asked = "result(work(Part(3)))"
    work = "def work(x: Part):\n    RAN\n    return x.cost()\n"
    trial.write(work, text)
    if (first := trial.ask(asked)).startswith("raises"):
        return "raises"
    trial.write(work, text.replace("* 2", "* 3"))
    return "yes" if trial.ask(asked) != first else "**no**"


@question("a changed comment is no change", persistent=True)
def comment(trial: Trial) -> str:
    trial.write(PLAIN)
    trial.ask()
    trial.write(PLAIN.replace("    return", "    # one more\n    return"))
    trial.ask()
    return _yes(trial.ran == 1)


@question("`1` and `1.0` differ")
def types(trial: Trial) -> str:
    trial.write("def work(x):\n    RAN\n    return str(x)\n")
    return _yes(trial.ask("(result(work(1)), result(work(1.0)))") == "('1', '1.0')")


@question("`-1.0` and `-2.0` differ")
def negative(trial: Trial) -> str:
    trial.write("def work(x):\n    RAN\n    return str(x)\n")
    return _yes(trial.ask("(result(work(-1.0)), result(work(-2.0)))") == "('-1.0', '-2.0')")


@question("a set is found again by the next process", persistent=True)
def sets(trial: Trial) -> str:
    trial.write("def work(x):\n    RAN\n    return len(x)\n")
    asked = "result(work(set('abcdefghij')))"
    told = [trial.ask(asked, PYTHONHASHSEED=seed) for seed in "123"]
    return "raises" if told[0].startswith("raises") else _yes(trial.ran == 1)


@question("equal dicts in another order agree")
def dicts(trial: Trial) -> str:
    trial.write("def work(x):\n    RAN\n    return len(x)\n")
    told = trial.ask("[result(work({'a': 1, 'b': 2})), result(work({'b': 2, 'a': 1}))]")
    return "raises" if told.startswith("raises") else _yes(trial.ran == 1)


@question("a numpy array as an argument")
def array(trial: Trial) -> str:
    trial.write("def work(x):\n    RAN\n    return float(x.sum())\n", "import numpy as np\n")
    return trial.twice("result(work(np.arange(1000.0)))")


@question("an object of your own class as an argument")
def own(trial: Trial) -> str:
    text = "class Part:\n    def __init__(self, size):\n        self.size = size\n"
    trial.write("def work(x):\n    RAN\n    return x.size\n", text)
    return trial.twice("result(work(Part(3)))")


def _computed(trial: Trial, asked: str) -> str:
    if trial.ask(asked).startswith("raises"):
        return "raises"
    return "warns, computes" if "arning" in "".join(trial.said) else "computes"


@question("a lock as an argument")
def lock(trial: Trial) -> str:
    trial.write("def work(x):\n    RAN\n    return 1\n")
    return _computed(trial, "result(work(threading.Lock()))")


@question("a lock as a result")
def gives_lock(trial: Trial) -> str:
    trial.write("def work(x):\n    RAN\n    return threading.Lock()\n")
    return _computed(trial, "result(work(1))")


@question("`None` is a result like any other")
def none(trial: Trial) -> str:
    trial.write("def work(x):\n    RAN\n    return None\n")
    trial.ask("[result(work(1)), result(work(1))]")
    return _yes(trial.ran == 1)


@question("a caller that changes a result changes the next one's")
def shared(trial: Trial) -> str:
    trial.write("def work(x):\n    RAN\n    return [x]\n")
    told = trial.ask("[result(work(1)).append(2), result(work(1))][1]")
    return "**yes**" if told == "[1, 2]" else "no" if told == "[1]" else "raises"


@question("coroutines")
def coroutine(trial: Trial) -> str:
    trial.write("async def work(x):\n    RAN\n    return x + 1\n")
    return trial.twice()


@question("generators")
def generator(trial: Trial) -> str:
    trial.write("def work(x):\n    RAN\n    yield x\n    yield x + 1\n")
    return trial.twice()


@question("six processes make one call: bodies that run")
def six(trial: Trial) -> str:
    trial.write("def work(x):\n    RAN\n    time.sleep(3)\n    return x + 1\n")
    # The store is there already; only the call is new.
    trial.ask("result(work(0))")
    before = trial.ran
    asked = "[together(6), result(work(1))]"
    processes = [trial.begin(asked) for _ in range(6)]
    told = [trial.end(process) for process in processes]
    hung, failed = told.count("hangs"), sum(each.startswith("raises") for each in told)
    also = [f"{number} {what}" for number, what in ((hung, "hang"), (failed, "raise")) if number]
    return ", ".join([str(trial.ran - before), *also])


ARRAY = "def work(x):\n    RAN\n    return np.arange(100_000.0)\n"
WHOLE = "bool((result(work(1)) == np.arange(100_000.0)).all())"


def _damaged(trial: Trial, damage: Callable[[Path, int], None]) -> str:
    """What becomes of a stored array whose bytes are damaged while nobody looks."""
    trial.write(ARRAY, "import numpy as np\n")
    if trial.twice(WHOLE) != "kept":
        return "-"
    part = arrays.array("d", map(float, range(50_000, 50_004))).tobytes()
    files = [
        file for file in trial.place.rglob("*") if file.is_file() and file.stat().st_size > 400_000
    ]
    places = [(file, file.read_bytes().find(part)) for file in files]
    for file, at in places:
        # Where nothing is found it is compressed: any byte in the midst will do.
        damage(file, at if at >= 0 else file.stat().st_size // 2)
    told = trial.ask(WHOLE)
    if told == "False":
        return "**wrong array**"
    if told.startswith("raises") or told == "hangs":
        return "raises"
    return "computed again" if trial.ran == 2 else "no file is found"


@question("one bit of a stored array is flipped", persistent=True)
def flipped(trial: Trial) -> str:
    def flip(file: Path, at: int) -> None:
        with file.open("r+b") as stored:
            stored.seek(at)
            one = stored.read(1)
            stored.seek(at)
            stored.write(bytes([one[0] ^ 1]))

    return _damaged(trial, flip)


@question("a stored array is cut in half", persistent=True)
def cut(trial: Trial) -> str:
    return _damaged(trial, lambda file, at: os.truncate(file, file.stat().st_size // 2))


@question("large arrays are loaded memory-mapped", persistent=True)
def mapped(trial: Trial) -> str:
    text = """
import numpy as np
def is_mapped(made):
    address = made.__array_interface__["data"][0]
    for line in open("/proc/self/maps"):
        place, *_, path = line.split(None, 5)
        start, end = (int(part, 16) for part in place.split("-"))
        if start <= address < end:
            return path.startswith("/") and "/store" in path
"""
    trial.write("def work(x):\n    RAN\n    return np.arange(1_000_000.0)\n", text)
    trial.ask("is_mapped(result(work(1)))")
    told = trial.ask("is_mapped(result(work(1)))")
    return "yes" if told == "True" else "-" if told.startswith("raises") else "no"


@question("results can expire")
def expiry(trial: Trial) -> str:
    if not trial.library.expiring:
        return "no"
    trial.write(PLAIN, opening=trial.library.expiring)
    trial.ask(f"[result(work(1)), result(work(1)), time.sleep({LIFE + 1}), result(work(1))]")
    return _yes(trial.ran == 2)


def answer(library: Library, name: str) -> str:
    """Ask one library one question, in a fresh directory."""
    place = Path(tempfile.mkdtemp(prefix="compare-"))
    try:
        said = QUESTIONS[name][1](Trial(library, place))
    finally:
        shutil.rmtree(place, ignore_errors=True)
    if said == "no" and name in library.options:
        option, opening = library.options[name]
        if answer(replace(library, opening=opening, options={}), name) == "yes":
            return f"`{option}`"
    return said


def table(libraries: list[Library], names: list[str]) -> str:
    """The answers as Markdown: tables of `WIDE` libraries, each beside the first one."""
    rows: dict[str, list[str]] = {"": [library.name for library in libraries]}
    rows["---"] = ["---"] * len(libraries)
    for name in names:
        rows[QUESTIONS[name][0]] = [answer(library, name) for library in libraries]
        print(" | ".join([QUESTIONS[name][0], *rows[QUESTIONS[name][0]]]), file=sys.stderr)
    tables = []
    for begin in range(1, max(len(libraries), 2), WIDE):
        shown = [[name, row[0], *row[begin : begin + WIDE]] for name, row in rows.items()]
        tables.append("".join(f"| {' | '.join(row)} |\n" for row in shown).replace("|  |", "| |"))
    return "\n".join(tables)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("library", nargs="*", help="which; all that are installed")
    arguments.add_argument("--only", help="names of questions: " + ", ".join(QUESTIONS))
    arguments.add_argument("--markdown", type=Path, help="a page whose table is written anew")
    given = arguments.parse_args()
    wanted = [each for each in LIBRARIES if not given.library or each.name in given.library]
    for library in wanted:
        if not library.here:
            print(f"{library.name} is not installed", file=sys.stderr)
    libraries = [library for library in wanted if library.here]
    made = table(libraries, given.only.split(",") if given.only else list(QUESTIONS))
    others = [each for each in libraries if each.name not in ("wellkept", "lru_cache")]
    tried = ", ".join(f"{each.name} {each.version}" for each in others) or "nothing else"
    made += f"\nTried with {tried}; Python {platform.python_version()} on {platform.system()}.\n"
    if given.markdown:
        page = given.markdown.read_text(encoding="utf-8")
        before, _, rest = page.partition(START)
        after = rest.partition(END)[2]
        given.markdown.write_text(f"{before}{START}\n{made}{END}{after}", encoding="utf-8")
    else:
        print(made)


if __name__ == "__main__":
    main()
