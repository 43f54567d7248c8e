"""What the distribution promises: its names, its weight on import, its files."""

import ast
import functools
import importlib.metadata
import inspect
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterable
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
    "D",
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
    "active_cache",
    "at_least",
    "at_most",
    "below",
    "between",
    "bless",
    "block",
    "clear",
    "constant",
    "digest",
    "env",
    "executor",
    "file",
    "keep",
    "kv",
    "like",
    "lineage",
    "meta",
    "named",
    "one_of",
    "open",
    "package",
    "refresh",
    "register_digest",
    "register_plain",
    "run",
    "runs",
    "set_cache",
    "store",
    "tags",
    "token",
    "ui",
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


def loaded_by(code: str) -> set[str]:
    """What a new interpreter has imported after this."""
    code += "\nimport sys; print('modules:', *sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.rpartition("modules:")[2].split())


def test_importing_the_package_imports_nothing_heavy() -> None:
    plain, asked = loaded_by("import wellkept"), loaded_by("from wellkept import keep")
    assert not plain & {*HEAVY, "typing", "pathlib", "wellkept.memo"}
    assert not asked & {*HEAVY, "inspect", "pickle", "sqlite3", "wellkept.memo.kept"}
    # What only few ask for is not imported with the first kept function either.
    first = loaded_by("from wellkept import keep\n@keep\ndef f(x): return x")
    rare = {f"wellkept.{room}" for room in ("query", "remote", "kv", "stores.stack", "runs.run")}
    assert not first & {*HEAVY, "sqlite3", "shutil", *rare}


def test_the_command_imports_nothing_heavy_to_say_little(tmp_path: Path) -> None:
    said = f"import os; os.environ['WELLKEPT_CACHE'] = {str(tmp_path / 'none')!r}\n"
    for arguments in (["--version"], ["ls"], ["ls", "--cache", str(tmp_path / "other")]):
        call = f"try: main({arguments!r})\nexcept SystemExit: pass"
        found = loaded_by(f"{said}from wellkept.cli import main\n{call}")
        assert not found & {*HEAVY, "pydantic", "wellkept.remote", "wellkept.query"}, arguments
    # Help imports the commands, and nothing that they work on.
    call = "try: main(['--help'])\nexcept SystemExit: pass"
    found = loaded_by(f"from wellkept.cli import main\n{call}")
    assert "wellkept.cli.doctor" in found
    assert not found & {"sqlite3", "wellkept.caches.health", "wellkept.caches.config"}


@pytest.mark.parametrize("room", ["caches", "codecs", "errors", "hashing", "kv", "memo", "stores"])
def test_a_room_can_be_named_after_the_package_alone(room: str) -> None:
    code = f"import wellkept; print(wellkept.{room}.__name__, wellkept.runs.__name__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [f"wellkept.{room}", "runs"]


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
    # What only users of other frameworks have, who bring them.
    for framework in ("dspy", "key-value", "langgraph", "litellm"):
        del named[framework]
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
    reason="wellkept is installed in place: there is no wheel to look into (`make test` has one)",
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
    assert {n: length for n, length in lengths.items() if length > 710} == {}


def modules() -> dict[str, Path]:
    """Each module of the package by its name, and its file."""
    found = {}
    for path in SOURCE.rglob("*.py"):
        name = ".".join(("wellkept", *path.relative_to(SOURCE).with_suffix("").parts))
        found[name.removesuffix(".__init__")] = path
    return found


def test_no_two_modules_have_one_name() -> None:
    by_name: dict[str, set[str]] = {}
    for name, path in modules().items():
        if path.name != "__init__.py":
            by_name.setdefault(path.stem, set()).add(name)
    assert {name: found for name, found in by_name.items() if len(found) > 1} == {}


@functools.cache
def parsed(source: str) -> ast.Module:
    return ast.parse(source)


def imports(name: str, path: Path, known: Iterable[str]) -> set[str]:
    """The modules of the package that a module imports outside functions, for the type checker too."""
    found = set()
    todo: list[ast.AST] = [parsed(path.read_text(encoding="utf-8"))]
    while todo:
        for node in ast.iter_child_nodes(todo.pop()):
            if isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{name} imports relatively"
                for one in node.names:
                    inside = f"{node.module}.{one.name}"
                    found.add(inside if inside in known else str(node.module))
            elif isinstance(node, ast.Import):
                found.update(one.name for one in node.names)
            elif not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                todo.append(node)
    return (found & set(known)) - {name}


# Classes that are still cut in two: each needs the other's name for its types alone. None may join them.
CIRCLES = [
    {"wellkept.memo.bound", "wellkept.memo.kept", "wellkept.memo.pickling"},
]


def test_imports_have_no_circle() -> None:
    files = modules()
    edges = {name: imports(name, path, files) for name, path in files.items()}
    reached: dict[str, set[str]] = {}
    for name in files:
        met = reached.setdefault(name, set())
        todo = [name]
        while todo:
            new = edges[todo.pop()] - met
            met |= new
            todo += new
    circles = {
        frozenset(other for other in reached[name] if name in reached[other])
        for name in files
        if name in reached[name]
    }
    assert [sorted(c) for c in circles if not any(c <= allowed for allowed in CIRCLES)] == []


PAGES = [
    "CONTRIBUTING.md",
    "docs/explanation/architecture.md",
    "docs/explanation/how-a-call-travels.md",
]


@pytest.mark.parametrize("page", PAGES)
def test_the_files_that_a_page_names_are_there(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    named = set(re.findall(r"`((?:[\w<>]+/)*[\w<>]+\.py)`", text))
    assert named
    roots = (ROOT, SOURCE)
    gone = [
        name for name in named if "<" not in name and not any((r / name).exists() for r in roots)
    ]
    assert gone == []


def test_the_modules_that_the_architecture_names_are_there() -> None:
    text = (ROOT / "docs/explanation/architecture.md").read_text(encoding="utf-8")
    classes = re.findall(r"(?m)^\| `(\w+)`.* \| `([\w/]+\.py)` \|", text)
    assert len(classes) == 5
    for name, file in classes:
        assert re.search(rf"(?m)^class {name}\b", (SOURCE / file).read_text(encoding="utf-8")), name
    rows = re.findall(r"(?m)^\| `([\w/]+)/` \| (.*) \|$", text)
    assert len(rows) == 11
    for room, about in rows:
        for name in re.findall(r"`(\w+)`", about):
            assert (SOURCE / room / f"{name}.py").exists(), f"{room}/{name}.py"


BACKENDS = {"Embedded", "ByteStoreBackend", "StackBackend", "RemoteBackend", "Http", "Ssh"}


def asked_of_backends(source: str) -> list[str]:
    """Type tests of concrete backends, and probes for attributes of a backend, in a module's source."""
    found = []
    for node in ast.walk(parsed(source)):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name) or not node.args:
            continue
        if node.func.id not in ("isinstance", "getattr", "hasattr"):
            continue
        text = ast.unparse(node)
        names = {
            part.id for arg in node.args[1:] for part in ast.walk(arg) if type(part) is ast.Name
        }
        of = ast.unparse(node.args[0]).rpartition(".")[2]
        if node.func.id == "isinstance" and names & BACKENDS:
            found.append(text)
        # A name that is computed is looked up on purpose; one that is written out is a probe.
        probe = node.func.id != "isinstance" and type(node.args[1]) is ast.Constant
        if probe and of in ("backend", "backends", "place", "beneath"):
            found.append(text)
    return found


def test_what_a_backend_can_do_is_a_method_of_it() -> None:
    found = {
        f"{path.relative_to(SOURCE)}: {text}"
        for path in SOURCE.rglob("*.py")
        if path.parent != SOURCE / "stores"
        for text in asked_of_backends(path.read_text())
    }
    assert found == set()
    assert (
        asked_of_backends("isinstance(x, (Embedded, ByteStoreBackend))\nhasattr(a.backend, 'root')")
        != []
    )


def test_the_random_numbers_of_the_program_are_left_alone() -> None:
    drawn = re.compile(r"\brandom\.(?!Random\b|SystemRandom\b)\w+\(")
    assert [path.name for path in SOURCE.rglob("*.py") if drawn.search(path.read_text())] == []
