"""A pipe or a device in place of a file of a store: nobody waits for what never comes, or never ends."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import wellkept
from wellkept import Cache, StoreError, keep
from wellkept.stores.filesystem import open_regular

pytestmark = [
    pytest.mark.timeout(30),
    pytest.mark.filterwarnings("ignore::wellkept.KeptWarning"),  # told once a function
]

KINDS: dict[str, Callable[[Path], None]] = {
    "pipe": lambda path: os.mkfifo(path),
    "device": lambda path: path.symlink_to("/dev/zero"),
    "link to a pipe": lambda path: _linked(path),
    "directory": lambda path: path.mkdir(),
}


def _linked(path: Path) -> None:
    pipe = Path(tempfile.mkdtemp()) / "pipe"
    os.mkfifo(pipe)
    path.symlink_to(pipe)


every = pytest.mark.parametrize("kind", KINDS)


def instead(path: Path, kind: str) -> None:
    path.unlink(missing_ok=True)
    KINDS[kind](path)


@keep(name="large", version=1)
def large(n: int) -> Any:
    return bytearray(100_000 + n), n


def fresh(url: str) -> Cache:
    return wellkept.open(url, memory=0)


@every
def test_a_blob(home: Path, kind: str) -> None:
    with fresh(str(home / "c")) as cache, wellkept.use(cache):
        large(1)
    (blob,) = (home / "c" / "blobs").rglob("*/*")
    instead(blob, kind)
    with fresh(str(home / "c")) as cache, wellkept.use(cache):
        assert not cache.verify().ok
        if kind == "directory":
            return
        assert large(1)[1] == 1
        assert large(1)[1] == 1
        assert cache.verify().ok, "it was made anew"


@every
@pytest.mark.parametrize("part", ["calls", "blobs"])
def test_an_item_in_files(home: Path, kind: str, part: str) -> None:
    with fresh(f"files:{home / 'c'}") as cache, wellkept.use(cache):
        large(1)
    item = max(path for path in (home / "c" / part).rglob("*") if path.is_file())
    instead(item, kind)
    with fresh(f"files:{home / 'c'}") as cache, wellkept.use(cache):
        assert large(1)[1] == 1


@every
@pytest.mark.parametrize("end", ["", "-wal", "-journal"])
@pytest.mark.parametrize("url", ["{}/c", "sqlite:///{}/c.db"])
def test_an_index(home: Path, url: str, end: str, kind: str) -> None:
    with fresh(url.format(home)) as cache, wellkept.use(cache):
        large(1)
    index = home / "c.db" if "sqlite" in url else home / "c" / "index.sqlite"
    instead(Path(f"{index}{end}"), kind)
    with pytest.raises(StoreError, match=r"not a regular file|is a directory|can't"):
        fresh(url.format(home))


@every
def test_locks(home: Path, kind: str) -> None:
    fresh(str(home / "c")).close()
    instead(home / "c" / "locks", kind)
    with fresh(str(home / "c")) as cache, wellkept.use(cache):
        assert large(1)[1] == 1


@every
def test_what_is_pending(home: Path, kind: str) -> None:
    with fresh(str(home / "c")) as cache, wellkept.use(cache):
        large(1)
    instead(home / "c" / "pending", kind)
    with fresh(str(home / "c")) as cache, wellkept.use(cache):
        try:
            assert large(2)[1] == 2
            assert large.query().count() >= 1
        except StoreError as error:
            assert "pending" in str(error)  # noqa: PT017  it may do without


@every
def test_named_state(home: Path, kind: str) -> None:
    with fresh(str(home / "c")) as cache:
        wellkept.store("jobs", cache=cache).set("x", 1)
    instead(home / "c" / "state.sqlite", kind)
    with fresh(str(home / "c")) as cache, pytest.raises(StoreError):
        wellkept.store("jobs", cache=cache).get("x")


def test_a_file_is_opened(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content")
    fd = open_regular(tmp_path / "file")
    assert os.read(fd, 10) == b"content"
    os.close(fd)
    with pytest.raises(FileNotFoundError):
        open_regular(tmp_path / "none")
