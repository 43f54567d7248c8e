"""What only some systems have: named in one module, and the library keeps without it."""

import ast
import errno
import os
import subprocess
import sys
import time
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import bare_system
from tests.bare_system import MODULES, NAMES
from wellkept import _system
from wellkept.errors import StoreError
from wellkept.stores import openers
from wellkept.stores.leases import RangeLeases

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "wellkept"

# Looked for where they are used, with `hasattr`.
ELSEWHERE = {
    ("_process.py", "os.register_at_fork"),
    ("interrupts.py", "os.register_at_fork"),
}


def named(nodes: list[ast.AST]) -> Iterator[str]:
    """Yield what a file of source imports, and the attributes that it names."""
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (node.module or "", *(f"{node.module}.{name.name}" for name in node.names))
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            yield f"{node.value.id}.{node.attr}"


@pytest.fixture(scope="module")
def source() -> dict[str, list[ast.AST]]:
    """The nodes of each file of the library."""
    return {
        path.relative_to(SOURCE).as_posix(): list(ast.walk(ast.parse(path.read_text("utf-8"))))
        for path in SOURCE.rglob("*.py")
    }


def test_what_only_posix_has_is_named_in_one_module(source: dict[str, list[ast.AST]]) -> None:
    lacks = MODULES | {f"{module}.{name}" for module, names in NAMES.items() for name in names}
    found = {
        (path, name)
        for path, nodes in source.items()
        if path != "_system.py"
        for name in named(nodes)
        if name in lacks
    }
    assert found == ELSEWHERE


def test_text_is_utf8_whatever_the_system_prefers(source: dict[str, list[ast.AST]]) -> None:
    found = []
    for path, nodes in source.items():
        for node in nodes:
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                at = {"read_text": 0, "write_text": 1}.get(node.func.attr)
                said = any(word.arg == "encoding" for word in node.keywords)
                if at is not None and len(node.args) <= at and not said:
                    found.append(f"{path}:{node.lineno}")
    assert found == []


linux = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="what files are open is read from /proc"
)


def bare(*arguments: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    environment = os.environ | {"PYTHONPATH": f"{SOURCE.parent}{os.pathsep}{ROOT}"} | variables
    return subprocess.run(
        [sys.executable, "-m", "tests.bare_system", *arguments],
        capture_output=True,
        text=True,
        env=environment,
        timeout=300,
        check=False,
    )


KEEPS = """
import sys
import wellkept
from wellkept import keep, _system

assert not (_system.POSIX or _system.RANGES or _system.PIPES or _system.fcntl)

@keep
def double(n):
    return [bytes(200_000), n]

@keep(cache="files:./items")
def item(n):
    return [bytes(200_000), n]

@keep(cache="sqlite:///one.sqlite")
def row(n):
    return [n]

for f in (double, item, row):
    print(f.contains(3), f(3)[-1], f(3)[-1], f.stats().hits, f.stats().unavailable)
    f.forget(3)
    f(3)
state = wellkept.store("settings")
state["a"] = 1
print(state["a"], wellkept.active_cache().verify().ok)
from wellkept.remote.stdio import serve_stream
try:
    serve_stream(None, 0, 1)
except wellkept.ConfigError as error:
    print(error)
try:
    wellkept.open("ssh://nowhere/cache").find(bytes(32))
except wellkept.KeptError as error:
    print(type(error).__name__, error)
"""


@linux
def test_a_program_keeps_where_all_of_it_is_missing(home: Path) -> None:
    first, second = bare("-c", KEEPS), bare("-c", KEEPS)
    assert first.returncode == 0, first.stderr
    lines = first.stdout.splitlines()
    assert lines[:3] == ["False 3 3 1 0"] * 3
    assert second.stdout.splitlines()[:3] == ["True 3 3 2 0"] * 3
    assert lines[3] == "1 True"
    assert lines.pop(4).startswith("wellkept serve --stdio needs pipes")
    assert lines[4].startswith("ConfigError ssh://nowhere/cache")
    assert "a cache over ssh needs pipes that do not block" in lines[4]
    assert "https://" in lines[4]


def suites(chosen: str, *paths: str) -> None:
    done = bare(
        *(
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            "-n",
            "0",
            "-m",
            "not long",
            "-k",
            chosen,
        ),
        *(f"--rootdir={ROOT}", "-c", str(ROOT / "pyproject.toml")),
        *(str(ROOT / "tests" / path) for path in paths),
    )
    assert done.returncode == 0, done.stdout[-3000:]


# What these tests ask of modes, descriptors, mappings, forks and open files that go is of POSIX alone;
# keys with a dot at the end of a part are refused.
OTHER = """
    fork or durable or swept or sweeping or others_can_write or who_may or nobody_may or eight_processes
    or parent_and_child or link or pipe or many_are_put_in_one or gives_no_locks
    or agrees_with_a_dict or no_key_meets
"""


@linux
@pytest.mark.long
@pytest.mark.timeout(400)
def test_stores_hold_to_their_contracts_there(home: Path) -> None:
    files = ("files", "blobs", "memory", "sqlite_items", "leases")
    stores = [f"stores/test_{name}.py" for name in files]
    suites(f"not ({' '.join(OTHER.split())})", "contract", *stores, "caches/test_round_trips.py")


# -- what stands in -------------------------------------------------------------------------------


def test_reading_and_writing_at_a_place(tmp_path: Path) -> None:
    fd = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    try:
        assert _system._pwrite(fd, b"abcdef", 0) == 6
        assert _system._pwrite(fd, b"XY", 2) == 2
        assert _system._pread(fd, 3, 1) == b"bXY"
        into = memoryview(bytearray(4)), memoryview(bytearray(9))
        assert _system._preadv(fd, into, 1) == 5
        assert bytes(into[0]) + bytes(into[1][:1]) == b"bXYef"
    finally:
        os.close(fd)


def test_a_file_that_is_open_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_system, "POSIX", False)
    refusals = iter([PermissionError(errno.EACCES, "open"), PermissionError(errno.EACCES, "open")])

    def replace(*paths: Any) -> None:
        if error := next(refusals, None):
            raise error
        original(*paths)

    original = os.replace
    monkeypatch.setattr(os, "replace", replace)
    (tmp_path / "made").write_text("new", "utf-8")
    _system.replace(tmp_path / "made", tmp_path / "named")
    assert (tmp_path / "named").read_text("utf-8") == "new"

    monkeypatch.setattr(_system, "_PATIENCE", 0.0)
    refusals = iter([PermissionError(errno.EACCES, "open")] * 9)
    with pytest.raises(PermissionError):
        _system.replace(tmp_path / "named", tmp_path / "other")


def test_locks_of_windows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held: set[tuple[int, int]] = set()

    def locking(fd: int, kind: int, size: int) -> None:
        place = os.fstat(fd).st_ino, os.lseek(fd, 0, os.SEEK_CUR)
        if kind == 0:
            held.remove(place)
        elif place in held:
            raise PermissionError(errno.EACCES, "locked")
        else:
            held.add(place)

        assert size == 1

    windows = types.SimpleNamespace(LK_NBLCK=2, LK_UNLCK=0, locking=locking)
    monkeypatch.setattr(_system, "fcntl", None)
    monkeypatch.setattr(_system, "msvcrt", windows)
    with _system.locked(tmp_path):
        assert len(held) == 1
        with _system.locked(tmp_path, patience=0.0):
            pass  # it goes on all the same
    held.clear()
    monkeypatch.setattr(_system, "msvcrt", None)
    with pytest.raises(OSError, match="no locks on files"), _system.locked(tmp_path):
        pass


@linux
def test_who_collects_blobs_on_windows_is_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_system, "fcntl", None)
    monkeypatch.setattr(_system, "msvcrt", bare_system.WINDOWS)
    one, other, third = (RangeLeases(tmp_path / "locks") for _ in range(3))
    with one.writing_blobs(), other.writing_blobs():
        for patience in (0.0, 0.0):
            with pytest.raises(StoreError, match="locked"), third.collecting_blobs(patience):
                pass
    with third.collecting_blobs(0.0):
        monkeypatch.setattr(time, "monotonic", iter(range(0, 900, 30)).__next__)
        with pytest.raises(StoreError, match="locked"), one.writing_blobs():
            pass
    monkeypatch.undo()
    for locks in (one, other, third):
        locks.close()


@pytest.mark.parametrize(
    ("name", "is_one"),
    [("nul", True), ("COM1.txt", True), ("console", False), ("com10", False)],
)
def test_names_that_windows_reserves(
    name: str, is_one: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not _system.is_reserved(name)
    monkeypatch.setattr(_system, "POSIX", False)
    assert _system.is_reserved(name) is is_one


def test_drives_in_paths_and_urls(monkeypatch: pytest.MonkeyPatch) -> None:
    for path in ("C:\\caches\\mine", "c:/caches", "\\\\?\\C:\\caches"):
        assert openers.scheme_of(path) == ""
    assert openers.local_path("files:///C:/caches") == Path("/C:/caches")
    monkeypatch.setattr(openers, "POSIX", False)
    for url in ("files:C:/x", "files:///C:/x", "sqlite:///C:/x", "sqlite:////C:/x"):
        assert openers.local_path(url) == Path("C:/x")
    assert openers.local_path("sqlite:///caches") == Path("caches")
