"""What is in the committed stores, and how one is written: `python -m tests.stores.written`.

A schema that was released is written once and never again.
"""

from __future__ import annotations

import shutil
import sqlite3
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import wellkept
from wellkept import keep
from wellkept.stores.index_tables import SCHEMA

NOTE = b"what was noted"
PLACE = Path(__file__).parent / "data"


@keep(name="written.small", version=1)
def small(i: int, text: str) -> dict[str, Any]:
    return {"i": i, "text": text, "of": [1.5, None, True, b"bytes"]}


@keep(name="written.middling", version=1)
def middling(i: int) -> str:
    return f"{i} middling " * 300


@keep(name="written.long", version=1)
def long(i: int) -> str:
    return f"{i} long " * 10_000


@keep(name="written.buffer", version=1)
def buffer(i: int) -> bytearray:
    return bytearray(70_000 + i)


@keep(name="written.plain", version=1, codec="json")
def plain(i: int) -> list[int]:
    return [i, i + 1]


@keep(name="written.turned", version=1)
def turned(n: int) -> dict[str, int]:
    """Equal dicts of another order, which have one digest."""
    made = {f"key {i}": i for i in range(300)}
    return made if n == 1 else dict(reversed(made.items()))


@keep(name="written.alone", version=1)
def alone(n: int) -> dict[str, int]:
    return {f"another {i}": i + n for i in range(300)}


def calls() -> Iterator[tuple[Any, tuple[Any, ...]]]:
    for i in range(2):
        yield small, (i, "naïve 名")
        yield plain, (i,)
        yield middling, (i,)
    yield buffer, (1,)
    yield long, (1,)


def restored(schema: int, root: Path, kind: str = "schema") -> Path:
    """A copy of the store that a schema wrote."""
    shutil.copytree(PLACE / f"{kind}-{schema}", root)
    with closing(sqlite3.connect(root / "index.sqlite", isolation_level=None)) as c:
        c.executescript((root / "index.sql").read_text())
    (root / "index.sql").unlink()
    for path in (root, *root.rglob("*")):
        path.chmod(0o700 if path.is_dir() else 0o600)
    return root


def main() -> None:
    to = PLACE / f"schema-{SCHEMA}"
    if to.exists() and "--again" not in sys.argv:
        raise SystemExit(f"{to} is there already; a released one is never written again")
    shutil.rmtree(to, ignore_errors=True)
    with tempfile.TemporaryDirectory() as made:
        root = Path(made) / "store"
        with wellkept.open(root) as cache, wellkept.use(cache):
            for function, arguments in calls():
                function(*arguments)
            notes = cache.backend.notes
            notes.delete_many(list(notes.keys()))  # of the machine that this is written on
            notes.put("runs/written", NOTE)
            assert cache.query().count() == len(list(calls()))
        shutil.copytree(root / "blobs", to / "blobs")
        with closing(sqlite3.connect(root / "index.sqlite")) as c:
            version = c.execute("PRAGMA user_version").fetchone()[0]
            dump = "\n".join(c.iterdump())
        (to / "index.sql").write_text(f"{dump}\nPRAGMA user_version = {version};\n")
        (to / "README").write_text("A store as this schema was written; see written.py.\n")
    for path in to.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)


if __name__ == "__main__":
    main()
