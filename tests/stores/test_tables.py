"""The rows of the index: sealed, and read by every later version."""

import math
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from blake3 import blake3
from tests.stores import written

import kept
from kept.errors import DamagedValue, NewerSchema
from kept.records import Value
from kept.stores.body import Body, rowid, seal, unseal
from kept.stores.embedded import Embedded
from kept.stores.tables import SCHEMA, make

NAME = blake3(b"name").digest()


class TestSeals:
    def test_what_was_sealed(self) -> None:
        for content in (b"", b"x", bytes(10_000)):
            assert unseal(NAME, seal(NAME, content)) == content

    def test_as_documented(self) -> None:
        assert seal(NAME, b"content") == blake3(NAME + b"content").digest(16) + b"content"

    def test_any_flipped_bit(self) -> None:
        sealed = seal(NAME, b"the content of a row")
        for at in range(len(sealed)):
            for bit in range(8):
                flipped = bytearray(sealed)
                flipped[at] ^= 1 << bit
                with pytest.raises(DamagedValue):
                    unseal(NAME, bytes(flipped))

    def test_any_length(self) -> None:
        sealed = seal(NAME, b"the content of a row")
        for n in range(len(sealed)):
            with pytest.raises(DamagedValue):
                unseal(NAME, sealed[:n])
        with pytest.raises(DamagedValue):
            unseal(NAME, sealed + b"x")

    def test_another_row(self) -> None:
        with pytest.raises(DamagedValue):
            unseal(blake3(b"other").digest(), seal(NAME, b"content"))

    @pytest.mark.parametrize("found", [None, 5, 1.5, "text", ""])
    def test_no_bytes_at_all(self, found: object) -> None:
        with pytest.raises(DamagedValue):
            unseal(NAME, found)  # type: ignore[arg-type]  # as a damaged row may have it


class TestBody:
    def test_there_and_back(self) -> None:
        for expires in (math.inf, 1.5):
            body = Body(NAME, 2, 1.25, 0.5, expires, 12345)
            assert Body.unpack(body.pack()) == body

    def test_as_documented(self) -> None:
        packed = Body(NAME, 1, 1.0, 2.0, math.inf, 7).pack()
        assert packed[:32] == NAME
        assert packed[32] == 1
        assert packed[33:41] == b"\0\0\0\0\0\0\xf0?"
        assert packed[-8:] == b"\x07" + bytes(7)
        assert len(packed) == 65


def test_a_row_is_found_by_its_first_eight_bytes() -> None:
    assert rowid(bytes(7) + b"\x05" + bytes(24)) == 5
    assert rowid(b"\xff" * 32) == -1
    assert -(2**63) <= rowid(NAME) < 2**63


class TestMake:
    def test_twice(self) -> None:
        with closing(sqlite3.connect(":memory:", isolation_level=None)) as c:
            make(c)
            make(c)
            assert c.execute("PRAGMA user_version").fetchone() == (SCHEMA,)

    def test_newer(self) -> None:
        with closing(sqlite3.connect(":memory:", isolation_level=None)) as c:
            make(c)
            c.execute(f"PRAGMA user_version = {SCHEMA + 1000}")
            c.execute("UPDATE meta SET value = ? WHERE name = 'schema'", (str(SCHEMA + 1000),))
            with pytest.raises(NewerSchema, match="upgrade kept"):
                make(c)

    def test_somebody_elses(self) -> None:
        with closing(sqlite3.connect(":memory:", isolation_level=None)) as c:
            c.execute("CREATE TABLE mine (x)")
            with pytest.raises(sqlite3.DatabaseError, match="not those of a kept index"):
                make(c)


@pytest.mark.parametrize(
    "schema", sorted(int(p.name.split("-")[1]) for p in written.PLACE.glob("schema-*"))
)
class TestWrittenBefore:
    """A store as each released schema wrote it, committed; every later version reads it."""

    @pytest.fixture
    def root(self, home: Path, schema: int) -> Path:
        root = home / "store"
        shutil.copytree(written.PLACE / f"schema-{schema}", root)
        root.chmod(0o700)
        for path in root.rglob("*"):
            path.chmod(0o700 if path.is_dir() else 0o600)
        dump = root / "index.sql"
        with closing(sqlite3.connect(root / "index.sqlite", isolation_level=None)) as c:
            c.executescript(dump.read_text())
        dump.unlink()
        return root

    def test_every_call_is_a_hit(self, root: Path, schema: int) -> None:
        with kept.open(root) as cache, kept.use(cache):
            for function, arguments in written.calls():
                assert function(*arguments) == function.__wrapped__(*arguments)
                assert function.stats().computed == 0, function
        assert cache.counts["damaged"] == 0

    def test_nothing_is_wrong_with_it(self, root: Path, schema: int) -> None:
        with kept.open(root) as cache:
            assert cache.verify().problems == ()

    def test_records(self, root: Path, schema: int) -> None:
        store = Embedded(root)
        try:
            calls = [store.calls.get(key) for key in store.calls.keys()]  # noqa: SIM118  a store
            assert len(calls) == len(list(written.calls()))
            for call in calls:
                assert call is not None
                assert isinstance(store.values.get(call.result), Value)
        finally:
            store.close()
