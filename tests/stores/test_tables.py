"""The rows of the index: sealed, and read by every later version."""

import math
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from blake3 import blake3
from tests.stores import written

import wellkept
from wellkept.errors import DamagedValue, NewerSchema
from wellkept.records import Value
from wellkept.stores import index_tables
from wellkept.stores.embedded import Embedded
from wellkept.stores.index_tables import SCHEMA, make
from wellkept.stores.record_format import Body, rowid, seal, unseal

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


OLD = 4
"""The schema up to which an index that was made before is brought."""


def first_schema(c: sqlite3.Connection) -> None:
    for statement in index_tables._OLD[1]:
        c.execute(statement)
    c.execute("INSERT INTO meta VALUES ('schema', '1')")
    c.execute("PRAGMA user_version = 1")


class TestMake:
    @pytest.mark.parametrize("place", ["PRAGMA user_version = {}", "UPDATE meta SET value = '{}'"])
    @pytest.mark.parametrize("bit", range(7))
    @pytest.mark.parametrize("schema", [1, SCHEMA])
    def test_a_flipped_bit_is_no_version(self, schema: int, bit: int, place: str) -> None:
        with closing(sqlite3.connect(":memory:", isolation_level=None)) as c:
            make(c) if schema == SCHEMA else first_schema(c)
            then = SCHEMA if schema == SCHEMA else OLD
            wrong = schema ^ 1 << bit if "user" in place else chr(ord(str(schema)) ^ 1 << bit)
            c.execute(place.format(str(wrong).replace("'", "''")))
            make(c)
            assert c.execute("PRAGMA user_version").fetchone() == (then,)
            assert c.execute("SELECT value FROM meta").fetchone() == (str(then),)

    @pytest.mark.parametrize("places", [(1, "2"), (2, "1"), (0, "0"), (1, "x")])
    def test_what_no_bit_explains(self, places: tuple[int, str]) -> None:
        with closing(sqlite3.connect(":memory:", isolation_level=None)) as c:
            first_schema(c)
            c.execute(f"PRAGMA user_version = {places[0]}")
            c.execute("UPDATE meta SET value = ?", places[1:])
            with pytest.raises(sqlite3.DatabaseError, match="not those of a kept index"):
                make(c)

    def test_a_trigger_that_does_something_else(self) -> None:
        with closing(sqlite3.connect(":memory:", isolation_level=None)) as c:
            make(c)
            c.execute("DROP TRIGGER calls_gone")
            with pytest.raises(sqlite3.DatabaseError, match="not those of a kept index"):
                make(c)

    def test_the_first_schema_by_several_processes_at_once(self, home: Path) -> None:
        root = written.restored(1, home / "store")
        code = f"import wellkept; cache = wellkept.open({str(root)!r}); print(len(list(cache.calls.keys())))"
        running = [
            subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
            for _ in range(4)
        ]
        said = {process.communicate()[0].strip() for process in running}
        assert said == {str(len(list(written.calls())))}
        with closing(sqlite3.connect(root / "index.sqlite")) as c:
            assert c.execute("PRAGMA user_version").fetchone() == (OLD,)

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
            with pytest.raises(NewerSchema, match="upgrade wellkept"):
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
        return written.restored(schema, home / "store")

    def test_every_call_is_a_hit(self, root: Path, schema: int) -> None:
        with wellkept.open(root) as cache, wellkept.use(cache):
            for function, arguments in written.calls():
                assert function(*arguments) == function.__wrapped__(*arguments)
                assert function.stats().computed == 0, function
        assert cache.counts["damaged"] == 0

    def test_each_call_is_found(self, root: Path, schema: int) -> None:
        with wellkept.open(root) as cache, wellkept.use(cache):
            assert cache.query().count() == len(list(written.calls()))
            for function, arguments in written.calls():
                assert function.query(*arguments).one().result == function.__wrapped__(*arguments)

    def test_notes(self, root: Path, schema: int) -> None:
        with wellkept.open(root) as cache:
            noted = cache.backend.notes.get("runs/written")
            assert noted == (written.NOTE if schema >= 2 else None)

    def test_nothing_is_wrong_with_it(self, root: Path, schema: int) -> None:
        with wellkept.open(root) as cache:
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
