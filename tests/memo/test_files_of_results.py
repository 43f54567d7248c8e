"""Results that name files: a hit only as long as the files are what they were."""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

import wellkept
from wellkept import Cache, KeptWarning, keep


@pytest.fixture(params=["directory", "memory", "files", "no memory"])
def cache(request: pytest.FixtureRequest, home: Path) -> Iterator[Cache]:
    kind = request.param
    url = {"directory": str(home / "c"), "memory": "memory:", "files": f"files:{home / 'c'}"}
    options: dict[str, Any] = {"memory": 0} if kind == "no memory" else {}
    with wellkept.open(url.get(kind, str(home / "c")), **options) as found, wellkept.use(found):
        yield found


def writing(file: Path, made: Callable[[Path], Any] = lambda file: file) -> Any:
    @keep(name="writing", version=1)
    def write(text: str) -> Any:
        file.write_text(text)
        return made(file)

    return write


SHAPES: dict[str, Callable[[Path], Any]] = {
    "path": lambda file: file,
    "file": lambda file: wellkept.File(file),
    "in a dict": lambda file: {"model": [file], "loss": 0.5},
    "beside much else": lambda file: [bytearray(100_000), "x" * 100_000, file],
    "relative": lambda file: Path(os.path.relpath(file)),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_gone_or_changed_is_computed_again(cache: Cache, home: Path, shape: str) -> None:
    file = home / "out.txt"
    write = writing(file, SHAPES[shape])
    write("text")
    write("text")
    assert write.stats().computed == 1
    file.unlink()
    with pytest.warns(KeptWarning, match=r"out of date.*out\.txt, which it names, is gone"):
        write("text")
    assert file.read_text() == "text"
    file.write_text("else")  # as many bytes, perhaps within a tick of the clock
    write("text")
    assert file.read_text() == "text"
    assert write.stats().computed == 3
    write("text")
    assert write.stats().computed == 3
    assert cache.counts["damaged"] == 0


def test_the_same_content_is_a_hit(cache: Cache, home: Path) -> None:
    file = home / "out.txt"
    write = writing(file)
    write("text")
    os.utime(file)
    write("text")
    shutil.copy(file, home / "copy")
    (home / "copy").rename(file)
    write("text")
    assert write.stats().computed == 1


def test_times_that_were_set_back_deceive_nobody(cache: Cache, home: Path) -> None:
    file = home / "out.txt"
    old = time.time_ns() - 10**12

    def made(file: Path) -> Path:
        os.utime(file, ns=(old, old))
        return file

    write = writing(file, made)
    write("text")
    file.write_text("else")
    os.utime(file, ns=(old, old))
    write("text")
    assert file.read_text() == "text"


def test_a_large_file_is_known_by_its_times(
    cache: Cache, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from wellkept.codecs import paths

    monkeypatch.setattr(paths, "_ROOM", 3)
    file = home / "out.txt"
    write = writing(file)
    write("text")
    write("text")
    assert write.stats().computed == 1
    file.write_text("other text")
    write("text")
    assert write.stats().computed == 2


def test_directories_and_what_was_not_there(cache: Cache, home: Path) -> None:
    @keep(name="f", version=1)
    def f() -> Any:
        (home / "made").mkdir(exist_ok=True)
        return home / "made", home / "later", PurePosixPath("/nowhere"), "text"

    f()
    (home / "made" / "more").write_text("x")
    (home / "later").write_text("x")
    f()
    assert f.stats().computed == 1
    shutil.rmtree(home / "made")
    f()
    assert f.stats().computed == 2
    shutil.rmtree(home / "made")
    (home / "made").write_text("a file")
    with pytest.raises(FileExistsError):
        f()


def test_many_and_later_and_the_value_itself(cache: Cache, home: Path) -> None:
    @keep(name="each", version=1)
    def each(n: int) -> Path:
        file = home / f"{n}.txt"
        file.write_text(str(n))
        return file

    assert list(each.map(range(3))) == list(each.map(range(3)))
    assert each.stats().computed == 3
    (home / "1.txt").unlink()
    list(each.map(range(3)))
    assert each.stats().computed == 4
    (home / "2.txt").unlink()
    assert each.query(2).one().result == home / "2.txt", "what was kept can be looked at"
    assert cache.load(each.call(2).result) == home / "2.txt"


def test_of_a_coroutine(home: Path) -> None:
    @keep(cache=str(home / "c"), version=1)
    async def write() -> Path:
        (home / "out").write_text("x")
        return home / "out"

    asyncio.run(write())
    (home / "out").unlink()
    asyncio.run(write())
    assert (home / "out").exists()


def test_what_names_no_file_costs_nothing(cache: Cache) -> None:
    @keep(name="f", version=1)
    def f() -> Any:
        return ["text", 1]

    f()
    row = cache.backend.fetch(f.key().raw)
    assert row is not None
    assert row.envelope is not None
    assert row.envelope.codec == "pickle"
