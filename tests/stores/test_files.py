"""Items as files: names, sharing, replacing under a reader, NFS's habits, dead writers."""

import errno
import itertools
import os
import stat
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.stores.agreement import check_agreement
from tests.stores.racing import create_each, race

from wellkept.errors import ConfigError, DamagedValue, StoreError, UntrustedSource
from wellkept.records import Value
from wellkept.stores import files as files_module
from wellkept.stores.base import Creates, Finds, Many, Maps, Paths, Replaces, Stamps
from wellkept.stores.files import Files
from wellkept.stores.filesystem import Parts
from wellkept.testing import Accessor, StoreContract

KEY = "blobs/" + "ab" * 32


class InFiles:
    """Around a `Files`: its directory."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def _path(self, key: str) -> Path:
        return self._root / "," / key[:2] / key

    def read(self, key: str) -> Any:
        return self._path(key).read_bytes() if self._path(key).exists() else None

    def write(self, key: str, item: Any) -> None:
        self._path(key).parent.mkdir(parents=True, exist_ok=True)
        self._path(key).write_bytes(item)

    def keys(self) -> list[str]:
        return [path.name for path in self._root.glob(",/*/*")]

    def damage(self, key: str) -> bool:
        return False  # a medium gives the bytes that are there; whoever wrote them verifies them


class TestFiles(StoreContract):
    pickles = True

    def make(self, place: Path) -> Files:
        return Files(place / "store")

    def accessor(self, store: Any, place: Path) -> Accessor:
        return InFiles(place / "store")


class TestDurable(TestFiles):
    def make(self, place: Path) -> Files:
        return Files(place / "store", durable=True)


def test_it_agrees_with_a_dict(tmp_path: Path) -> None:
    count = itertools.count()
    check_agreement(lambda: Files(tmp_path / str(next(count))), replaces=False)


def test_what_it_can() -> None:
    store = Files("store")
    assert isinstance(store, Creates)
    assert isinstance(store, Many)
    assert isinstance(store, Paths)
    assert isinstance(store, Maps)
    assert isinstance(store, Stamps)
    assert not isinstance(store, Replaces), "files have no compare-and-set"
    assert not isinstance(store, Finds)


def test_one_of_eight_processes_creates_each_key() -> None:
    names = [f"leases/{n}" for n in range(40)]
    store = Files("store")
    won = race(create_each, store, names)
    assert sorted(name for some in won for name in some) == sorted(names)
    for me, some in enumerate(won):
        assert len({store.get(name) for name in some}) <= 1, f"{me}: a loser's item is there"


def test_a_blob_lies_where_b3sum_can_be_run_on_it(tmp_path: Path) -> None:
    store = Files(tmp_path / "s")
    store.put(KEY, b"content")
    file = tmp_path / "s" / "blobs" / "ab" / ("ab" * 32)
    assert file.read_bytes() == b"content"
    assert store.path(KEY) == file
    assert store.path("blobs/other") is None


@pytest.mark.parametrize(
    "key",
    [
        "",
        "/x",
        "../x",
        "a/../b",
        "..",
        "a b",
        "a\0b",
        "é",
        "a\n",
        "x" * 201,
        "a\\b",
        "~x",
        None,
        b"x",
    ],
)
def test_a_key_that_is_none_reaches_no_file(tmp_path: Path, key: Any) -> None:
    store = Files(tmp_path / "s")
    before = sorted(tmp_path.rglob("*"))
    for attempt in (
        lambda: store.get(key),
        lambda: store.put(key, b"x"),
        lambda: store.create(key, b"x"),
        lambda: store.delete(key),
        lambda: store.path(key),
        lambda: store.map(key),
        lambda: store.get_many([key]),
        lambda: store.put_many({key: b"x"}),
        lambda: store.delete_many([key]),
    ):
        with pytest.raises(ConfigError, match="not a key"):
            attempt()
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    "key", ["CACHEDIR.TAG", "CACHEDIR.TAG/x", ".tmp", ".tmp/x", "tmp/x", "./x"]
)
def test_no_key_meets_what_the_store_has_beside_items(tmp_path: Path, key: str) -> None:
    store = Files(tmp_path / "s")
    store.put(key, b"1")
    store._parts.sweep(dead=0, old=0)
    assert store.get(key) == b"1"
    assert list(store.keys()) == [key]
    assert (tmp_path / "s" / "CACHEDIR.TAG").read_text().startswith("Signature: 8a477f597d28d17")


def test_listing_reads_only_the_shards_of_the_prefix(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Files(tmp_path / "s")
    for n in range(256):
        store.put(f"blobs/{n:02x}" + "0" * 62, b"x")
        store.put(f"calls/{n:02x}" + "0" * 62, b"x")
    read: list[str] = []
    names = store._names
    monkeypatch.setattr(store, "_names", lambda path: read.append(path) or names(path))
    assert list(store.keys("blobs/a7")) == ["blobs/a7" + "0" * 62]
    assert len(read) == 3, "the root, blobs, and one shard"
    assert len(list(store.keys("blobs/a"))) == 16
    assert len(read) == 3 + 2 + 16


def test_a_mapping_is_private_writable_and_holds_no_descriptor(tmp_path: Path) -> None:
    store = Files(tmp_path / "s")
    data = np.arange(100_000)
    store.put(KEY, memoryview(data).cast("B"))
    mapped: Any = store.map(KEY)
    array = np.frombuffer(mapped, data.dtype)
    array[:] = 7
    assert store.get(KEY) == data.tobytes()
    if sys.platform == "linux":
        before = len(list(Path("/proc/self/fd").iterdir()))
        held = [store.map(KEY) for _ in range(50)]
        # Others of this process may be opened or closed meanwhile, but not as many.
        assert len(list(Path("/proc/self/fd").iterdir())) < before + len(held) // 2
        del held
    store.put("blobs/empty", b"")
    assert store.map("blobs/empty") == b""
    assert store.map("blobs/none") is None


def test_putting_the_same_again_leaves_the_file_to_its_readers(tmp_path: Path) -> None:
    store = Files(tmp_path / "s")
    store.put(KEY, b"x" * 100_000)
    path = store.path(KEY)
    assert path is not None
    os.utime(path, (1, 1))
    inode = path.stat().st_ino
    store.put(KEY, b"x" * 100_000)
    assert path.stat().st_ino == inode
    assert path.stat().st_mtime > 1, "it is young again for those who collect what is old"
    store.put(KEY, b"y" + b"x" * 99_999)
    assert path.stat().st_ino != inode
    assert store.get(KEY) == b"y" + b"x" * 99_999


def test_a_reader_keeps_what_it_has_mapped_when_the_item_is_replaced(tmp_path: Path) -> None:
    store = Files(tmp_path / "s")
    store.put(KEY, b"a" * 1_000_000)
    mapped = store.map(KEY)
    store.put(KEY, b"b" * 2_000_000)
    store.delete(KEY)
    assert mapped is not None
    assert bytes(mapped) == b"a" * 1_000_000


def test_a_file_that_another_host_replaced_is_opened_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Files(tmp_path / "s")
    store.put(KEY, b"new")
    stale, real = [OSError(errno.ESTALE, "Stale file handle")] * 3, files_module._read

    def read(fd: int, file: Any) -> Any:
        if stale:
            raise stale.pop()
        return real(fd, file)

    monkeypatch.setattr(files_module, "_read", read)
    assert store.get(KEY) == b"new"
    stale += [OSError(errno.ESTALE, "Stale file handle")] * 9
    with pytest.raises(StoreError, match="Stale"):
        store.get(KEY)


def test_a_link_whose_reply_was_lost_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Files(tmp_path / "s")
    store.put("leases/other", b"")
    real = Path.hardlink_to

    def lossy(self: Path, target: Any) -> None:
        real(self, target)
        raise FileExistsError(errno.EEXIST, "the repeated request finds the first one's link")

    monkeypatch.setattr(Path, "hardlink_to", lossy)
    assert store.create("leases/x", b"mine") is True
    monkeypatch.undo()
    assert store.create("leases/x", b"yours") is False
    assert store.get("leases/x") == b"mine"


def test_without_hard_links_a_create_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Files(tmp_path / "s")

    def none(self: Path, target: Any) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(Path, "hardlink_to", none)
    with pytest.raises(StoreError, match="no hard links"):
        store.create("leases/x", b"1")
    assert store.get("leases/x") is None
    assert list((tmp_path / "s" / ".tmp").iterdir()) == []


def test_what_dead_writers_left_is_swept(tmp_path: Path) -> None:
    store = Files(tmp_path / "s")
    tmp = tmp_path / "s" / ".tmp"
    with store._parts.writing(memoryview(b"x")) as mine:
        host = mine.name.partition("~")[0]
        pid = os.fork() or os._exit(0)
        os.waitpid(pid, 0)
        dead, elsewhere, old = (
            tmp / f"{host}~{pid}~aa",
            tmp / "another-host~1~aa",
            tmp / "another-host~2~aa",
        )
        for file in (dead, elsewhere, old):
            file.write_bytes(b"half")
        hour, days = time.time() - 3600, time.time() - 3 * 86400
        os.utime(dead, (hour, hour))
        os.utime(old, (days, days))
        Files(tmp_path / "s")
        assert sorted(path.name for path in tmp.iterdir()) == sorted([mine.name, elsewhere.name])


def test_a_write_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Files(tmp_path / "s")
    store.put(KEY, b"old")

    def full(fd: int, data: Any) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(StoreError, match=r"can't write 3 bytes to .*No space left") as caught:
            store.put(KEY, b"new")
    assert isinstance(caught.value.__cause__, OSError)
    assert store.get(KEY) == b"old"
    assert list((tmp_path / "s" / ".tmp").iterdir()) == []


def test_who_may_read_it(tmp_path: Path) -> None:
    store = Files(tmp_path / "s")
    store.put(KEY, b"x")
    modes = {
        path.name: stat.S_IMODE(path.stat().st_mode)
        for path in [tmp_path / "s", *(tmp_path / "s").rglob("*")]
    }
    assert modes.pop("CACHEDIR.TAG")
    assert modes.pop("ab" * 32) == 0o400
    assert set(modes.values()) == {0o700}


def test_a_directory_that_others_can_write_to_is_refused_unless_trusted(tmp_path: Path) -> None:
    root = tmp_path / "team"
    root.mkdir()
    root.chmod(0o770)
    with pytest.raises(UntrustedSource, match="chmod go-w"):
        Files(root)
    store = Files(root, trust=True)
    store.put(KEY, b"x")
    path = store.path(KEY)
    assert path is not None
    assert stat.S_IMODE(path.stat().st_mode) == 0o440, "the team can read what is made in it"
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o770


def test_a_store_that_was_removed_is_made_again(tmp_path: Path) -> None:
    import shutil

    store = Files(tmp_path / "s")
    store.put(KEY, b"x")
    shutil.rmtree(tmp_path / "s")
    assert store.get(KEY) is None
    assert list(store.keys()) == []
    store.put(KEY, b"y")
    assert store.get(KEY) == b"y"


def test_a_root_that_is_a_file_is_a_store_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(StoreError, match="can't use"):
        Files(tmp_path / "file")


def test_capital_letters_where_a_system_does_not_tell_them(tmp_path: Path) -> None:
    (tmp_path / "s").mkdir(mode=0o700)
    (tmp_path / "s" / "cachedir.tag").write_text("what such a system would find")
    store = Files(tmp_path / "s")
    store.put("a/b", b"1")
    with pytest.raises(ConfigError, match="capital"):
        store.put("a/B", b"2")


def test_a_part_is_swept_only_when_its_writer_is_dead(tmp_path: Path) -> None:
    parts = Parts(tmp_path)
    with parts.writing(memoryview(b"x")) as part:
        assert parts.sweep(dead=0) == 0
        assert part.exists()
    assert not part.exists()


def test_a_stamp_changes_with_the_file(tmp_path: Path) -> None:
    store = Files(tmp_path)
    store.put(KEY, b"a" * 100)
    first = store.map_stamped(KEY)
    assert first is not None
    assert store.map_stamped(KEY) == first
    file = store.path(KEY)
    assert file is not None
    file.chmod(0o600)
    time.sleep(0.02)
    file.write_bytes(b"b" * 100)  # in place, as nobody should
    second = store.map_stamped(KEY)
    assert second is not None
    assert second[1] != first[1]
    store.put(KEY, b"c" * 100)
    third = store.map_stamped(KEY)
    assert third is not None
    assert third[1] not in (first[1], second[1])
    assert store.map_stamped("blobs/none") is None


def test_a_blob_is_verified_once_and_again_when_its_file_has_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from wellkept.stores import byte_store

    store, data = Files(tmp_path), b"x" * 200_000
    values = byte_store.CodedValues(store, store)
    frame = values.write_blobs(Value("pickle", b"", [data]))
    looked: list[int] = []
    real = byte_store.buffer_digest
    monkeypatch.setattr(byte_store, "buffer_digest", lambda b: looked.append(1) or real(b))
    for _ in range(3):
        assert bytes(values.load(frame)[1][0]) == data
    assert len(looked) == 1
    file = store.path(f"blobs/{frame.blobs[0].name.hex()}")
    assert file is not None
    file.chmod(0o600)
    time.sleep(0.02)
    file.write_bytes(b"y" + data[1:])
    with pytest.raises(DamagedValue):
        values.load(frame)
    assert values.write_blobs(Value("pickle", b"", [data])) == frame
    assert bytes(values.load(frame)[1][0]) == data
