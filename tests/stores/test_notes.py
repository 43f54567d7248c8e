"""Small records beside the calls: on every kind of place, sealed, atomic, and never an error."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from tests.caches.places import KINDS, new
from tests.stores import written

import wellkept
from wellkept.errors import ConfigError, StoreError
from wellkept.stores import Files
from wellkept.stores.base import Creates, Many, Store
from wellkept.stores.record_format import sealed_note

ROOT = Path(__file__).resolve().parents[2]
DERIVED = ["limited", "filtered", "stack", "layered"]


def made(kind: str) -> wellkept.Cache:
    if kind == "limited":
        return new("embedded").limited(calls=1000)
    if kind == "filtered":
        return new("embedded").filtered(lambda call: False)
    if kind == "stack":
        return wellkept.Stack(new("memory"), new("embedded"))
    if kind == "layered":
        return wellkept.Stack(new("embedded"), new("files"), write="first")
    return new(kind)


@pytest.fixture(params=[*KINDS, *DERIVED])
def notes(home: Path, request: pytest.FixtureRequest) -> Iterator[Any]:
    with made(request.param) as cache:
        yield cache.backend.notes


class TestEveryPlace:
    def test_its_notes_are_a_store_that_creates_and_takes_many(self, notes: Any) -> None:
        assert isinstance(notes, Store)
        assert isinstance(notes, Creates)
        assert isinstance(notes, Many)

    def test_what_was_put(self, notes: Any) -> None:
        assert notes.get("runs/1") is None
        notes.put("runs/1", b"one")
        notes.put("runs/2", memoryview(b"two"))
        notes.put("runs/1", b"another")
        assert (notes.get("runs/1"), notes.get("runs/2")) == (b"another", b"two")
        notes.put("runs/empty", b"")
        assert notes.get("runs/empty") == b""

    def test_a_large_one(self, notes: Any) -> None:
        notes.put("code/large", bytes(range(256)) * 4000)
        assert notes.get("code/large") == bytes(range(256)) * 4000

    def test_keys_by_their_beginning(self, notes: Any) -> None:
        for key in ("a/1", "a/2", "ab/1", "b", "a", "a/~".replace("~", "z-_.9")):
            notes.put(key, key.encode())
        assert sorted(notes.keys("a/")) == ["a/1", "a/2", "a/z-_.9"]
        assert sorted(notes.keys()) == ["a", "a/1", "a/2", "a/z-_.9", "ab/1", "b"]
        assert list(notes.keys("c")) == []

    def test_created_once(self, notes: Any) -> None:
        assert notes.create("bless/1", b"first")
        assert not notes.create("bless/1", b"second")
        assert notes.get("bless/1") == b"first"
        notes.delete("bless/1")
        assert notes.create("bless/1", b"third")

    def test_created_by_one_of_many_threads(self, notes: Any) -> None:
        won: list[int] = []
        start = threading.Barrier(8)

        def race(n: int) -> None:
            start.wait()
            if notes.create("bless/1", b"%d" % n):
                won.append(n)

        threads = [threading.Thread(target=race, args=(n,)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(won) == 1
        assert notes.get("bless/1") == b"%d" % won[0]

    def test_many_at_once(self, notes: Any) -> None:
        items = {f"leaves/{n}": b"%d" % n for n in range(1200)}
        notes.put_many(items)
        assert notes.get_many([*items, "leaves/none"]) == items
        notes.delete_many(list(items)[:1000])
        assert notes.get_many(items) == dict(list(items.items())[1000:])
        notes.delete("leaves/none")

    @pytest.mark.parametrize("key", ["", "/a", "a/../b", "naïve", "a b", "x" * 201])
    def test_no_key(self, notes: Any, key: str) -> None:
        for asked in (lambda: notes.put(key, b""), lambda: notes.create(key, b"")):
            with pytest.raises(ConfigError, match="not a key"):
                asked()


@pytest.mark.parametrize("kind", ["embedded", "files", "sqlite"])
def test_they_are_there_tomorrow(home: Path, kind: str) -> None:
    with new(kind) as cache:
        cache.backend.notes.put("runs/1", b"one")
        url = cache.url
    with wellkept.open(url) as again:
        assert again.backend.notes.get("runs/1") == b"one"


class TestReadOnly:
    def test_a_read_only_cache_shows_them_and_takes_none(self, home: Path) -> None:
        with new("embedded") as cache:
            cache.backend.notes.put("runs/1", b"one")
            notes = cache.readonly().backend.notes
            assert isinstance(notes, Creates)
            assert isinstance(notes, Many)
            assert notes.get("runs/1") == b"one"
            assert notes.get_many(["runs/1", "runs/2"]) == {"runs/1": b"one"}
            assert list(notes.keys()) == ["runs/1"]
            for asked in (
                lambda: notes.put("runs/2", b""),
                lambda: notes.create("runs/2", b""),
                lambda: notes.delete("runs/1"),
                lambda: notes.put_many({"runs/2": b""}),
                lambda: notes.delete_many(["runs/1"]),
            ):
                with pytest.raises(StoreError, match="read-only"):
                    asked()
            assert list(cache.backend.notes.keys()) == ["runs/1"]

    def test_a_pool_takes_none(self, home: Path) -> None:
        with new("embedded") as cache, wellkept.Pool(cache) as pool:
            cache.backend.notes.put("runs/1", b"one")
            assert pool.backend.notes.get("runs/1") == b"one"
            for asked in (
                lambda: pool.backend.notes.put("runs/2", b""),
                lambda: pool.backend.notes.create("runs/2", b""),
                lambda: pool.backend.notes.delete("runs/1"),
            ):
                with pytest.raises(StoreError, match="read-only"):
                    asked()


class TestStack:
    def test_read_near_to_far(self, home: Path) -> None:
        near, far = new("memory"), new("embedded")
        far.backend.notes.put("runs/1", b"far")
        far.backend.notes.put("runs/2", b"far")
        near.backend.notes.put("runs/1", b"near")
        notes = wellkept.Stack(near, far).backend.notes
        assert notes.get_many(["runs/1", "runs/2"]) == {"runs/1": b"near", "runs/2": b"far"}
        assert sorted(notes.keys()) == ["runs/1", "runs/2"]

    @pytest.mark.parametrize(("write", "there"), [("all", b"x"), ("first", None)])
    def test_written_as_calls_are(self, home: Path, write: str, there: bytes | None) -> None:
        near, far = new("memory"), new("embedded")
        notes = wellkept.Stack(near, far, write=write).backend.notes
        notes.put("runs/1", b"x")
        assert notes.create("runs/2", b"x")
        for key in ("runs/1", "runs/2"):
            assert (near.backend.notes.get(key), far.backend.notes.get(key)) == (b"x", there)

    def test_two_stacks_meet_in_the_far_one(self, home: Path) -> None:
        far = new("embedded")
        one, two = (wellkept.Stack(new("memory"), far).backend.notes for _ in range(2))
        assert one.create("bless/1", b"one")
        assert not two.create("bless/1", b"two")
        assert two.get("bless/1") == b"one"


class TestDamage:
    def test_in_the_index(self, home: Path) -> None:
        with wellkept.open("store") as cache:
            notes = cache.backend.notes
            notes.put_many({"runs/1": b"one", "runs/2": b"two"})
            with closing(sqlite3.connect("store/index.sqlite")) as c:
                c.execute("UPDATE notes SET item = substr(item, 1, 18) || x'00' WHERE key='runs/1'")
                c.commit()
            assert notes.get_many(["runs/1", "runs/2"]) == {"runs/2": b"two"}
            assert notes.create("runs/1", b"again")
            assert notes.get("runs/1") == b"again"

    def test_of_another_key(self, home: Path) -> None:
        with wellkept.open("store") as cache:
            notes = cache.backend.notes
            notes.put_many({"runs/1": b"one", "runs/2": b"two"})
            with closing(sqlite3.connect("store/index.sqlite")) as c:
                stored = sealed_note("runs/2", b"two")
                c.execute("UPDATE notes SET item = ? WHERE key = 'runs/1'", (stored,))
                c.commit()
            assert notes.get("runs/1") is None

    def test_in_a_medium(self, home: Path) -> None:
        items: Any = Files(home / "files")
        with wellkept.Cache(values=items, calls=items) as cache:
            cache.backend.notes.put("runs/1", b"one")
            items.put("notes/runs/1", items.get("notes/runs/1")[:-1] + b"?")
            assert cache.backend.notes.get("runs/1") is None
            assert cache.backend.notes.get_many(["runs/1"]) == {}
            assert cache.backend.notes.create("runs/1", b"again")
            assert cache.backend.notes.get("runs/1") == b"again"

    def test_what_a_set_aside_index_holds_is_salvaged(self, home: Path) -> None:
        with wellkept.open("store") as cache:
            cache.backend.notes.put_many({f"runs/{n}": b"%d" % n for n in range(200)})
        index = Path("store/index.sqlite")
        content = bytearray(index.read_bytes())
        content[100:200] = bytes(100)  # what says where the tables are
        index.write_bytes(content)
        with pytest.warns(wellkept.KeptWarning, match="is damaged"):
            cache = wellkept.open("store")
        with cache:
            cache.backend.notes.put("runs/7", b"newer")
            cache.verify(repair=True)
            found = cache.backend.notes.get_many(f"runs/{n}" for n in range(200))
            assert found == {f"runs/{n}": b"%d" % n for n in range(200)} | {"runs/7": b"newer"}


READER = """if True:
    import contextlib, importlib, os, pathlib, platformdirs, sys, tempfile, warnings, wellkept
    from tests.stores import written
    root = pathlib.Path(wellkept.__file__).parent
    for path in sorted(root.rglob("*.py")):
        module = path.relative_to(root.parent).with_suffix("").parts
        if module[1] not in ("examples", "integrations", "testing", "web") and module[-1] != "__main__":
            with contextlib.suppress(ImportError, wellkept.ConfigError):
                importlib.import_module(".".join(module))
    with wellkept.open(tempfile.mkdtemp()) as warm, wellkept.use(warm):
        list(written.calls())[0][0](0, "warm")  # imports what the user can't read
    if os.getuid() == 0:
        os.setgid(65534), os.setuid(65534)
    warnings.simplefilter("error")
    with wellkept.open("old", trust=True) as cache, wellkept.use(cache):
        assert cache.backend.database.readonly
        notes = cache.backend.notes
        assert (list(notes.keys()), notes.get("runs/1")) == ([], None)
        for function, arguments in written.calls():
            computed = function.stats().computed
            assert function(*arguments) == function.__wrapped__(*arguments)
            assert function.stats().computed == computed
"""


@pytest.mark.long
def test_a_directory_of_the_first_schema_that_can_only_be_read(home: Path) -> None:
    root = written.restored(1, home / "old")
    index = (root / "index.sqlite").read_bytes()
    home.chmod(0o755)
    for path in (root, *root.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        done = subprocess.run(
            [sys.executable, "-c", READER],
            capture_output=True,
            text=True,
            cwd=home,
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])},
        )
        assert done.returncode == 0, done.stderr
        assert (root / "index.sqlite").read_bytes() == index
    finally:
        for path in (root, *root.rglob("*")):
            path.chmod(0o700)
