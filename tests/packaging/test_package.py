"""What the distribution promises: its names, its weight on import, its files."""

import importlib.metadata
import inspect
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import wellkept
from wellkept import errors

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src" / "wellkept"

NAMES = {
    "ANY",
    "Argument",
    "BoundCall",
    "Cache",
    "Call",
    "Digest",
    "File",
    "Graph",
    "Ignored",
    "Kept",
    "Match",
    "Matches",
    "Ordered",
    "Pool",
    "Required",
    "Run",
    "Runs",
    "Stack",
    "Stats",
    "__version__",
    "above",
    "at_least",
    "at_most",
    "below",
    "between",
    "bless",
    "constant",
    "digest",
    "env",
    "executor",
    "file",
    "keep",
    "kv",
    "like",
    "lineage",
    "named",
    "one_of",
    "open",
    "package",
    "register_digest",
    "register_plain",
    "run",
    "runs",
    "store",
    "token",
    "use",
    "verify",
}

HEAVY = ["asyncio", "numpy", "pandas", "rich", "sqlalchemy", "typer"]


def test_the_public_names_are_these() -> None:
    assert set(wellkept.__all__) == NAMES | set(errors.__all__)
    assert len(wellkept.__all__) == len(set(wellkept.__all__))


@pytest.mark.parametrize("name", sorted(NAMES | set(errors.__all__)))
def test_a_public_name_is_there(name: str) -> None:
    assert hasattr(wellkept, name)


def test_nothing_else_looks_public() -> None:
    shown = {
        name
        for name, value in vars(wellkept).items()
        if not name.startswith("_") and not inspect.ismodule(value)
    }
    assert shown <= NAMES | set(errors.__all__)


def test_every_error_is_a_name_of_the_package() -> None:
    for name in errors.__all__:
        assert getattr(wellkept, name) is getattr(errors, name)


def drawn_tree(text: str) -> dict[str, str | None]:
    """Each error of a drawing, and the one it is drawn under."""
    parents: dict[str, str | None] = {}
    above: list[tuple[int, str]] = []
    for line in text.splitlines():
        if not (match := re.match(r"^(?P<branch>[ │├└─]*)(?P<name>[A-Z]\w+)(?:\s{2,}.*)?$", line)):
            continue
        depth = len(match["branch"])
        while above and above[-1][0] >= depth:
            above.pop()
        parents[match["name"]] = above[-1][1] if above else None
        above.append((depth, match["name"]))
    return parents


def test_the_tree_that_the_docstring_draws_is_the_tree() -> None:
    classes = [getattr(errors, name) for name in errors.__all__]
    tree = {
        error.__name__: next((base.__name__ for base in error.__bases__ if base in classes), None)
        for error in classes
        if issubclass(error, errors.KeptError)
    }
    drawing = inspect.getdoc(errors)
    assert drawing is not None
    drawn = drawn_tree(drawing.partition("::")[2].partition("\nA message")[0])
    assert drawn == tree
    defined = {name for name, value in vars(errors).items() if inspect.isclass(value)}
    assert defined == set(errors.__all__)


def test_errors_are_also_what_python_calls_them() -> None:
    assert issubclass(errors.Undigestible, TypeError)
    assert issubclass(errors.ConfigError, ValueError)
    assert issubclass(errors.AmbiguousDigest, ValueError)
    assert issubclass(errors.NotKept, KeyError)
    assert str(errors.NotKept("nothing under ab12")) == "nothing under ab12"
    assert issubclass(errors.KeptWarning, UserWarning)


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = f"import sys, wellkept; print(sorted(set({HEAVY!r}) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_version_is_the_distribution_s() -> None:
    assert wellkept.__version__ == importlib.metadata.version("wellkept")


def test_types_are_shipped() -> None:
    assert (Path(wellkept.__file__).parent / "py.typed").is_file()


def test_the_command_is_installed() -> None:
    (command,) = importlib.metadata.entry_points(group="console_scripts", name="wellkept")
    assert command.value == "wellkept.cli:main"


def test_the_licence_is_shipped() -> None:
    metadata = importlib.metadata.metadata("wellkept")
    assert metadata["License-Expression"] == "BSD-3-Clause"


def test_all_is_every_extra() -> None:
    named: dict[str, set[str]] = {}
    for requirement in importlib.metadata.requires("wellkept") or []:
        what, _, extra = requirement.partition("; extra == ")
        named.setdefault(extra.strip("'\""), set()).add(what)
    everything = named.pop("all")
    del named[""]
    assert named
    assert everything == set().union(*named.values())


def installed_in_place() -> bool:
    origin = importlib.metadata.distribution("wellkept").read_text("direct_url.json")
    return json.loads(origin or "{}").get("dir_info", {}).get("editable", False)


def files(top: Path) -> dict[str, bytes]:
    """What is below a directory, but for what running it leaves there."""
    return {
        path.relative_to(top).as_posix(): path.read_bytes()
        for path in top.rglob("*")
        if path.is_file() and not {"__pycache__", "out"} & set(path.relative_to(top).parts)
    }


@pytest.mark.skipif(
    installed_in_place() and "CI" not in os.environ,
    reason="kept is installed in place: there is no wheel to look into (`make test` has one)",
)
def test_the_wheel_holds_the_package_and_the_examples() -> None:
    examples = {f"examples/{name}": data for name, data in files(ROOT / "examples").items()}
    assert files(Path(wellkept.__file__).parent) == files(SOURCE) | examples


def test_no_file_is_longer_than_a_subject() -> None:
    lengths = {
        path.relative_to(SOURCE).as_posix(): len(path.read_text(encoding="utf-8").splitlines())
        for path in SOURCE.rglob("*.py")
    }
    assert lengths
    assert {n: length for n, length in lengths.items() if length > 700} == {}
