"""Blobs: content-named files, written whole, verified when they are read."""

import mmap
import os
import shutil
import socket
import stat
import subprocess
import time
from pathlib import Path

import pytest
from blake3 import blake3

from wellkept.errors import DamagedValue, StoreError
from wellkept.stores.blobs import Blobs

CONTENT = bytes(range(256)) * 400
NAME = blake3(CONTENT).hexdigest()


@pytest.fixture
def blobs(tmp_path: Path) -> Blobs:
    (tmp_path / "blobs").mkdir()
    (tmp_path / "tmp").mkdir()
    return Blobs(tmp_path / "blobs", tmp_path / "tmp")


def again(blobs: Blobs, **options: bool) -> Blobs:
    return Blobs(blobs.root, blobs.root.parent / "tmp", **options)


def test_named_by_their_content(blobs: Blobs) -> None:
    blobs.put(NAME, CONTENT)
    path = blobs.root / NAME[:2] / NAME
    assert path.read_bytes() == CONTENT
    assert blake3(path.read_bytes()).hexdigest() == path.name
    if shutil.which("b3sum"):
        run = subprocess.run(["b3sum", path], capture_output=True, text=True, check=True)
        assert run.stdout.split()[0] == path.name


def test_nobody_may_write_to_one(blobs: Blobs) -> None:
    blobs.put(NAME, CONTENT)
    assert stat.S_IMODE(blobs.path(NAME).stat().st_mode) == 0o400
    assert stat.S_IMODE(blobs.path(NAME).parent.stat().st_mode) == 0o700


@pytest.mark.parametrize("item", [CONTENT, bytearray(CONTENT), memoryview(CONTENT).cast("I")])
def test_any_flat_buffer(blobs: Blobs, item: object) -> None:
    blobs.put(NAME, item)  # type: ignore[arg-type]  # buffers of several kinds
    found = blobs.get(NAME)
    assert found is not None
    assert bytes(found) == CONTENT


def test_empty(blobs: Blobs) -> None:
    name = blake3(b"").hexdigest()
    blobs.put(name, b"")
    assert blobs.get(name) == b""


def test_missing(blobs: Blobs) -> None:
    assert blobs.get(NAME) is None
    blobs.delete(NAME)


def test_a_loaded_blob_may_be_changed_by_who_loaded_it(blobs: Blobs) -> None:
    blobs.put(NAME, CONTENT)
    one, other = memoryview(blobs.get(NAME) or b""), memoryview(blobs.get(NAME) or b"")
    one[:4] = b"mine"
    assert bytes(other) == CONTENT
    assert blobs.path(NAME).read_bytes() == CONTENT
    assert bytes(memoryview(blobs.get(NAME) or b"")) == CONTENT


def test_read_only(blobs: Blobs) -> None:
    blobs.put(NAME, CONTENT)
    found = memoryview(again(blobs, readonly=True).get(NAME) or b"")
    assert found.readonly
    assert bytes(found) == CONTENT


def test_a_mapped_blob_outlives_its_file(blobs: Blobs) -> None:
    blobs.put(NAME, CONTENT)
    found = blobs.get(NAME)
    blobs.delete(NAME)
    assert blobs.get(NAME) is None
    assert bytes(found or b"") == CONTENT


def test_one_is_written_once(blobs: Blobs) -> None:
    blobs.put(NAME, CONTENT)
    path = blobs.path(NAME)
    first = path.stat()
    os.utime(path, (1, 1))
    blobs.put(NAME, CONTENT)
    assert path.stat().st_ino == first.st_ino
    assert path.stat().st_mtime > time.time() - 100, "not young again"


def test_one_cut_short_is_written_again(blobs: Blobs) -> None:
    blobs.put(NAME, CONTENT)
    path = blobs.path(NAME)
    path.chmod(0o600)
    os.truncate(path, 100)
    blobs.put(NAME, CONTENT)
    assert path.read_bytes() == CONTENT


def test_verified_on_the_first_load_and_when_the_file_changed(
    blobs: Blobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    from wellkept.stores import blobs as module

    count = []
    real = module.buffer_digest

    def counted(view: object) -> bytes:
        count.append(1)
        return real(view)

    monkeypatch.setattr(module, "buffer_digest", counted)
    blobs.put(NAME, CONTENT)
    for _ in range(3):
        blobs.get(NAME)
    assert len(count) == 1
    path = blobs.path(NAME)
    path.chmod(0o600)
    content = bytearray(CONTENT)
    content[500] ^= 1
    path.write_bytes(content)
    with pytest.raises(DamagedValue, match="not what its name says"):
        blobs.get(NAME)
    with pytest.raises(DamagedValue):
        again(blobs).get(NAME)


def test_a_failed_write_leaves_nothing(blobs: Blobs, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(fd: int, content: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(StoreError, match="No space left"):
        blobs.put(NAME, CONTENT)
    assert blobs.get(NAME) is None
    assert list((blobs.root.parent / "tmp").iterdir()) == []


def test_durable_ones_are_synced(blobs: Blobs, monkeypatch: pytest.MonkeyPatch) -> None:
    synced = []
    monkeypatch.setattr(os, "fsync", lambda fd: synced.append(stat.S_ISDIR(os.fstat(fd).st_mode)))
    blobs.put(NAME, CONTENT)
    assert synced == []
    blobs.delete(NAME)
    again(blobs, durable=True).put(NAME, CONTENT)
    assert synced[:1] == [False], "the file first"
    assert True in synced, "and its directory"


def test_keys(blobs: Blobs) -> None:
    names = []
    for n in range(20):
        content = b"%d" % n
        names.append(blake3(content).hexdigest())
        blobs.put(names[-1], content)
    assert sorted(blobs.keys()) == sorted(names)
    for length in (1, 2, 3, 64):
        prefix = names[0][:length]
        assert sorted(blobs.keys(prefix)) == sorted(n for n in names if n.startswith(prefix))


def test_sweeping_takes_what_the_dead_left(blobs: Blobs) -> None:
    tmp = blobs.root.parent / "tmp"
    host = socket.gethostname()[:40].replace("~", "-")
    dead = subprocess.Popen(["true"])
    dead.wait()
    mine, theirs, old = (
        tmp / f"{host}~{os.getpid()}~a",
        tmp / "elsewhere~1~b",
        tmp / "elsewhere~2~c",
    )
    left = tmp / f"{host}~{dead.pid}~d"
    for path in (mine, theirs, old, left):
        path.write_bytes(b"x")
    os.utime(old, (1, 1))
    assert blobs.sweep() == 2
    assert sorted(tmp.iterdir()) == sorted([mine, theirs])


def test_no_descriptor_is_kept_for_a_mapping(blobs: Blobs) -> None:
    if not Path("/proc/self/fd").exists():
        pytest.skip("descriptors can't be counted here")
    blobs.put(NAME, CONTENT)
    before = len(list(Path("/proc/self/fd").iterdir()))
    held = [blobs.get(NAME) for _ in range(50)]
    assert len(list(Path("/proc/self/fd").iterdir())) <= before + 1
    assert all(isinstance(found, (memoryview, mmap.mmap)) for found in held)
