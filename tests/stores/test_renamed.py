"""Stores that were written while this library was called kept: all that is in them is found and read.

`data/named-kept/` was written by `write` in this file, with the release before the new name.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import wellkept
from wellkept import keep

DATA = Path(__file__).parent / "data" / "named-kept"
PLACES = ("./cache", "files:files", "sqlite:items.sqlite")
COMPUTED: list[str] = []


@keep(name="renamed.digests", version=1)
def digests(n: int) -> list[Any]:
    COMPUTED.append("digests")
    return [wellkept.digest(n), {"of": wellkept.ANY}]


@keep(name="renamed.rows", version=1)
def rows(table: wellkept.File) -> int:
    COMPUTED.append("rows")
    return len(Path(table).read_text().splitlines())


@keep(name="renamed.fails", version=1, errors=(wellkept.NotKept,))
def fails(n: int) -> None:
    COMPUTED.append("fails")
    raise wellkept.NotKept(f"number {n}")


@keep(name="renamed.chunk", version=1)
def chunk(n: int) -> bytes:
    COMPUTED.append("chunk")
    return bytes(range(256)) * n


def answers() -> Iterator[Any]:
    """What the four functions say of the same arguments, here and when the stores were written."""
    Path("table.csv").write_text("a\nb\n")
    one, held = digests(3)
    yield one == wellkept.digest(3) and type(held["of"]) is type(wellkept.ANY)
    yield rows(wellkept.File("table.csv")) == 2
    with pytest.raises(wellkept.NotKept, match="number 7"):
        fails(7)
    yield chunk(400) == bytes(range(256)) * 400


def write(to: Path) -> None:
    """Write the stores below the working directory `to`."""
    for place in PLACES:
        with wellkept.open(place) as cache, wellkept.use(cache):
            with wellkept.run("before", tags={"of": "written"}):
                assert all(answers())
            for note in [*cache.backend.notes.keys()]:
                if not note.startswith("runs/"):
                    cache.backend.notes.delete_many([note])
        if place == "./cache":
            store = wellkept.store("state", cache=place)
            store["digest"] = str(wellkept.digest("d"))
            store.set("list", [1, {"a": None}])


@pytest.mark.parametrize("place", PLACES)
def test_what_was_written_before_the_new_name(place: str, home: Path) -> None:
    for each in DATA.iterdir():
        (shutil.copytree if each.is_dir() else shutil.copy)(each, home / each.name)
    for each in home.rglob("*"):
        each.chmod(0o700 if each.is_dir() else 0o600)
    COMPUTED.clear()
    with wellkept.open(place) as cache, wellkept.use(cache):
        assert all(answers())
        assert COMPUTED == []
        assert cache.query().count() == 4
        (run,) = wellkept.runs(cache=cache)
        assert dict(run.tags) == {"of": "written"}
        assert len(list(run.events())) == 4
        assert cache.verify().problems == ()
    if place == "./cache":
        assert dict(wellkept.store("state", cache=place).items()) == {
            "digest": str(wellkept.digest("d")),
            "list": [1, {"a": None}],
        }
