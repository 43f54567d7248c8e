"""What pages claim in a sentence, and no snippet there shows, is tried here: the sentence and a trial of it.

A sentence that is changed or gone fails, so that its trial is looked at again.
"""

import importlib
import io
import os
import re
import shutil
import subprocess
import sys
import textwrap
import types
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.conftest import forget_the_default_cache

import wellkept
from wellkept import keep

DOCS = Path(__file__).resolve().parents[2] / "docs"
FIRST, WHY = "tutorial/first-steps.md", "explanation/why-another-cache.md"

Trial = Callable[[], None]
CLAIMS: list[tuple[str, str, Trial]] = []


def claim(page: str, sentence: str) -> Callable[[Trial], Trial]:
    def register(trial: Trial) -> Trial:
        CLAIMS.append((page, sentence, trial))
        return trial

    return register


@pytest.fixture(autouse=True)
def project(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A project of modules in the working directory, forgotten afterwards."""
    monkeypatch.syspath_prepend(str(home))
    (home / "pyproject.toml").touch()
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if str(home) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


def written(**modules: str) -> types.ModuleType:
    """The last of these modules as a process that begins now imports it."""
    for name, text in modules.items():
        Path(f"{name}.py").write_text(textwrap.dedent(text))
        sys.modules.pop(name, None)
    importlib.invalidate_caches()
    return importlib.import_module(name)


def study(
    helper: str = "return x + RATE", rate: int = 1, body: str = "return helper(x)"
) -> types.ModuleType:
    return written(
        constants=f"RATE = {rate}",
        helpers=f"from constants import RATE\n\ndef helper(x):\n    {helper}\n",
        study=f"from wellkept import keep\nfrom helpers import helper\n\n@keep\ndef work(x):\n    {body}\n",
    )


@claim(
    FIRST,
    "its own source, and the helpers, classes and constants of your project that it uses, directly or",
)
@claim(
    WHY,
    "the function's own source into the key, and all that it reaches by name in the same project.",
)
def code() -> None:
    assert study().work(1) == 2
    assert study(helper="return x - RATE").work(1) == 0
    assert study(rate=5).work(1) == 6
    assert study(body="return helper(x) * 10").work(1) == 20


@claim(FIRST, "if you change it back, the old results are still there")
def changed_back() -> None:
    study().work(1)
    study(rate=5).work(1)
    assert study().work.contains(1)


@claim(FIRST, "Comments and layout are not.")
@claim(WHY, "Reformatting a function does not change it.")
def comments() -> None:
    study().work(1)
    assert study(body="# a comment\n    return helper(\n        x\n    )").work.contains(1)


@claim(FIRST, "Libraries do not count, or each upgrade would make all results stale.")
@claim(WHY, "It does not notice a changed library, unless it is named")
def libraries() -> None:
    site = Path("site-packages")
    site.mkdir()
    Path("study.py").write_text(
        "import sys; sys.path.insert(0, 'site-packages')\nimport lib\nfrom wellkept import keep\n"
        "@keep\ndef work(x):\n    return lib.twice(x)\n\nprint(work(2))\n"
    )
    printed = []
    for factor in ("2", "20"):
        (site / "lib.py").write_text(f"def twice(x):\n    return {factor} * x\n")
        command = [sys.executable, "study.py"]
        printed.append(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert printed == ["4\n", "4\n"]


@claim(FIRST, "If you stop early, nothing is cached.")
def stopped() -> None:
    @keep
    def numbers(n: int) -> Iterator[int]:
        yield from range(n)

    for number in numbers(3):
        if number == 1:
            break
    assert not numbers.contains(3)


@claim(FIRST, "The cache is a directory of files. Deleting it is safe.")
def deleted() -> None:
    module = study()
    module.work(1)
    place = Path(os.environ["WELLKEPT_CACHE"])
    assert place.is_dir()
    shutil.rmtree(place)
    forget_the_default_cache()  # as in the next process
    assert not module.work.contains(1)
    assert module.work(1) == 2


@claim(FIRST, "An exception is not cached: the next call tries again.")
def raised() -> None:
    runs = []

    @keep(ignore_globals=["runs"])
    def fails(x: int) -> None:
        runs.append(x)
        raise ZeroDivisionError

    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            fails(1)
    assert len(runs) == 2


@claim(WHY, "Some caches take it for a miss. In wellkept it is a result like any other.")
def none() -> None:
    @keep
    def nothing() -> None:
        return None

    nothing(), nothing()
    assert nothing.stats().hits == 1


@claim(WHY, "A generator that is an argument is not consumed to compute its key.")
def consumed() -> None:
    @keep
    def total(numbers: Iterator[int]) -> int:
        return sum(numbers)

    with pytest.warns(wellkept.KeptWarning):
        assert total(iter_of(1, 2, 3)) == 6


def iter_of(*items: int) -> Iterator[int]:
    yield from items


@claim(WHY, "A cache directory that others can write to is therefore refused")
def stranger() -> None:
    Path("open").mkdir()
    Path("open").chmod(0o777)
    with pytest.raises(wellkept.UntrustedSource):
        wellkept.open("./open")


@claim(WHY, "wellkept makes its own with access for the owner alone.")
def private() -> None:
    study().work(1)
    assert Path(os.environ["WELLKEPT_CACHE"]).stat().st_mode & 0o077 == 0


@claim(
    WHY,
    "It does not read the file that a path names: use `wellkept.File(path)`, which counts by content.",
)
def paths() -> None:
    @keep
    def size(path: object) -> int:
        return len(Path(path).read_text())  # type: ignore[arg-type]

    Path("data.txt").write_text("one")
    assert (size(Path("data.txt")), size(wellkept.File("data.txt"))) == (3, 3)
    Path("data.txt").write_text("three")
    assert (size(Path("data.txt")), size(wellkept.File("data.txt"))) == (3, 5)


@claim(WHY, "a result can't be pickled")
def unstorable() -> None:
    @keep
    def opened() -> io.BufferedReader:
        return Path("data.txt").open("rb")

    Path("data.txt").touch()
    with pytest.warns(wellkept.KeptWarning), opened() as file:
        assert file.read() == b""
    assert opened.stats().unstorable == 1


@claim(
    "how-to/share-work-between-processes.md",
    "A directory on a network file system (NFS, Lustre) can be shared",
)
def machines() -> None:
    # As two hosts would see it: no map of a log, no locks of this kernel.
    square = keep(cache=wellkept.open("./shared", network=True), name="square", version=1)(
        lambda n: n * n
    )
    assert square(3) == 9
    assert square.contains(3)
    assert not list(Path("shared").glob("*-wal"))


@pytest.mark.parametrize(
    ("page", "sentence", "trial"), CLAIMS, ids=lambda part: getattr(part, "__name__", None)
)
def test_a_claim_is_on_its_page_and_true(page: str, sentence: str, trial: Trial) -> None:
    text = re.sub(r"\s+", " ", (DOCS / page).read_text(encoding="utf-8"))
    assert sentence in text
    trial()
