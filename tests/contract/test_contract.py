"""The stores that come with kept, held to the suite that is shipped for everybody's."""

import os
import pickle
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from blake3 import blake3

from wellkept.records import Call, Value
from wellkept.stores.embedded import Embedded
from wellkept.stores.memory import Extent, Memory, Void
from wellkept.testing import Accessor, StoreContract


class InDict:
    """Around a `Memory`: its dict."""

    def __init__(self, store: Memory[Any]) -> None:
        self._items = store._items

    def read(self, key: str) -> Any:
        found = self._items.get(key)
        if isinstance(found, Extent):
            return os.pread(found.segment.fd, found.size, found.offset)
        return found

    def write(self, key: str, item: Any) -> None:
        self._items[key] = item

    def keys(self) -> list[str]:
        return list(self._items)

    def damage(self, key: str) -> bool:
        return False


class TestMemory(StoreContract):
    kind, persistent = "bytes", False

    def make(self, place: Path) -> Memory[bytes]:
        return Memory()

    def accessor(self, store: Any, place: Path) -> Accessor:
        return InDict(store)


class TestMemoryOfValues(TestMemory):
    kind = "value"


class TestMemoryOfCalls(TestMemory):
    kind = "call"


class TestVoid(StoreContract):
    keeps = persistent = False

    def make(self, place: Path) -> Void[bytes]:
        return Void()


class _Part:
    """One of the two stores of an embedded one, with the whole to close."""

    def __init__(self, whole: Embedded, name: str) -> None:
        self.whole = whole
        self._part = getattr(whole, name)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._part, name)

    def close(self) -> None:
        self.whole.close()


def _rowid(key: str) -> int:
    return int.from_bytes(bytes.fromhex(key)[:8], "big", signed=True)


def _unsealed(key: str, sealed: bytes) -> bytes:
    assert sealed[:16] == blake3(bytes.fromhex(key) + sealed[16:]).digest(16)
    return sealed[16:]


class InIndex:
    """Around an embedded store: SQL and files, by the layout that is documented."""

    table = ""

    def __init__(self, place: Path) -> None:
        self.backend = place

    def _sql(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        with closing(
            sqlite3.connect(self.backend / "c" / "index.sqlite", isolation_level=None)
        ) as c:
            return c.execute(query, values).fetchall()

    def keys(self) -> Iterator[str]:
        column = "key" if self.table == "calls" else "digest"
        return (row[0].hex() for row in self._sql(f'SELECT {column} FROM "{self.table}"'))


class ValuesInIndex(InIndex):
    table = "values"

    def read(self, key: str) -> Value | None:
        rows = self._sql('SELECT head FROM "values" WHERE id = ?', _rowid(key))
        if not rows:
            return None
        frame = _unsealed(key, rows[0][0])
        assert frame[:3] == b"kv\x01"
        flags, n = frame[3], frame[4]
        codec, at = frame[5 : 5 + n].decode(), 5 + n
        count = int.from_bytes(frame[at : at + 4], "little")
        at += 4
        buffers = []
        for _ in range(count):
            size, name = int.from_bytes(frame[at : at + 8], "little"), frame[at + 8 : at + 40].hex()
            buffers.append((self.backend / "c" / "blobs" / name[:2] / name).read_bytes())
            assert len(buffers[-1]) == size
            assert blake3(buffers[-1]).hexdigest() == name
            at += 40
        head = buffers.pop() if flags & 1 else frame[at:]
        return Value(codec, head, buffers)

    def write(self, key: str, item: Value) -> None:
        blobs = b""
        for buffer in item.buffers:
            content = bytes(buffer)
            name = blake3(content).hexdigest()
            path = self.backend / "c" / "blobs" / name[:2] / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            blobs += len(content).to_bytes(8, "little") + bytes.fromhex(name)
        codec = item.codec.encode()
        frame = b"kv\x01\x00" + bytes([len(codec)]) + codec
        frame += len(item.buffers).to_bytes(4, "little") + blobs + bytes(item.head)
        sealed = blake3(bytes.fromhex(key) + frame).digest(16) + frame
        row = (_rowid(key), bytes.fromhex(key), sealed, item.size)
        self._sql('INSERT OR REPLACE INTO "values" VALUES (?,?,?,?)', *row)

    def damage(self, key: str) -> bool:
        value = self.read(key)
        assert value is not None
        if value.buffers:
            name = blake3(value.buffers[0]).hexdigest()
            path = self.backend / "c" / "blobs" / name[:2] / name
            path.chmod(0o600)
            with path.open("r+b") as file:
                file.seek(1000)
                file.write(b"damage")
        else:
            query = 'UPDATE "values" SET head = substr(head, 1, 30) || ? WHERE id = ?'
            self._sql(query, b"x", _rowid(key))
        return True


class CallsInIndex(InIndex):
    table = "calls"

    def read(self, key: str) -> Call | None:
        rows = self._sql("SELECT id FROM calls WHERE id = ?", _rowid(key))
        if not rows:
            return None
        # A record is read by a store of its own, opened by itself: there is one way to read a row.
        store = Embedded(self.backend / "c")
        try:
            return store.calls.get(key)
        finally:
            store.close()

    def write(self, key: str, item: Call) -> None:
        store = Embedded(self.backend / "c")
        try:
            store.calls.put(key, item)
        finally:
            store.close()

    def damage(self, key: str) -> bool:
        query = "UPDATE calls SET body = substr(body, 1, 30) || ? WHERE id = ?"
        self._sql(query, b"x" * 60, _rowid(key))
        return True


class TestEmbeddedValues(StoreContract):
    kind = "value"
    network = False

    def make(self, place: Path) -> _Part:
        return _Part(Embedded(place / "c", network=self.network), "values")

    def accessor(self, store: Any, place: Path) -> Accessor:
        return ValuesInIndex(place)


class TestEmbeddedCalls(StoreContract):
    kind = "call"
    network = False

    def make(self, place: Path) -> _Part:
        return _Part(Embedded(place / "c", network=self.network), "calls")

    def accessor(self, store: Any, place: Path) -> Accessor:
        return CallsInIndex(place)

    def prepare(self, store: Any, item: Call) -> None:
        store.whole.values.put(item.result, Value("pickle", pickle.dumps(item.size)))


class TestEmbeddedValuesOnANetwork(TestEmbeddedValues):
    network = True


class TestEmbeddedCallsOnANetwork(TestEmbeddedCalls):
    network = True


def test_kept_itself_needs_no_pytest() -> None:
    code = "import sys, wellkept; assert 'pytest' not in sys.modules and 'wellkept.testing' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
