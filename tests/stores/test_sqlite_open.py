"""A cache in a SQLite file that a user names."""

import sqlite3
import stat
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

import wellkept
from wellkept import KeptWarning, StoreError, UntrustedSource
from wellkept.errors import ConfigError
from wellkept.stores import Sqlite
from wellkept.stores.embedded import Embedded


def ones(n: int) -> np.ndarray:
    return np.ones(n)


def names(place: Path) -> set[str]:
    return {path.name for path in place.iterdir()}


def test_large_values_lie_beside_the_file(tmp_path: Path) -> None:
    with wellkept.open(f"sqlite:///{tmp_path}/calls.db") as cache:
        f = wellkept.keep(cache=cache, version=1)(ones)
        assert [len(f(n)) for n in (3, 100_000)] == [3, 100_000]
        assert isinstance(cache.backend, Embedded)
    assert names(tmp_path) == {"calls.db", "calls.db-files"}
    assert cache.size().blobs == 1
    for name in names(tmp_path):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) & 0o077 == 0
    (tmp_path / "link").symlink_to("calls.db")
    with wellkept.open(f"sqlite:///{tmp_path}/link") as again:
        assert wellkept.keep(cache=again, version=1)(ones).load(100_000).sum() == 100_000
    assert names(tmp_path) >= {"calls.db", "calls.db-files", "link"}
    assert "link-files" not in names(tmp_path)


def test_a_file_of_items_stays_one(tmp_path: Path) -> None:
    Sqlite(tmp_path / "items.db").close()
    with wellkept.open(f"sqlite:///{tmp_path}/items.db") as cache:
        f = wellkept.keep(cache=cache, version=1)(ones)
        assert [len(f(n)) for n in (3, 100_000, 3)] == [3, 100_000, 3]
    assert names(tmp_path) <= {"items.db", "items.db.locks"}
    with closing(Sqlite(tmp_path / "items.db")) as store:
        assert len(list(store.keys("calls/"))) == 2
    with pytest.raises(ConfigError, match="readonly"):
        wellkept.open(f"sqlite:///{tmp_path}/items.db", readonly=True)


def test_what_is_somebody_else_s_is_left_alone(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "theirs.db")) as c:
        c.execute("CREATE TABLE t (a)")
    (tmp_path / "text.csv").write_text("a,b\n1,2\n" * 1000)
    for name, says in (("theirs.db", "not one that kept made"), ("text.csv", "no SQLite database")):
        before = (tmp_path / name).read_bytes()
        with pytest.raises(StoreError, match=says):
            wellkept.open(f"sqlite:///{tmp_path}/{name}")
        assert (tmp_path / name).read_bytes() == before
    assert names(tmp_path) == {"theirs.db", "text.csv"}


def test_an_index_of_ours_that_is_damaged_heals(tmp_path: Path) -> None:
    with wellkept.open(f"sqlite:///{tmp_path}/calls.db") as cache:
        f = wellkept.keep(cache=cache, version=1)(ones)
        f(3)
    (tmp_path / "calls.db").write_bytes(b"no database at all" * 1000)
    with pytest.warns(KeptWarning, match="damaged"):
        again = wellkept.open(f"sqlite:///{tmp_path}/calls.db")
    g = wellkept.keep(cache=again, version=1)(ones)
    assert not g.contains(3)
    assert len(g(3)) == 3
    assert again.size().damaged_files == 1
    again.close()


def test_who_else_can_write(tmp_path: Path) -> None:
    place = tmp_path / "shared"
    place.mkdir()
    place.chmod(0o777)
    with pytest.raises(UntrustedSource, match="trust=True"):
        wellkept.open(f"sqlite:///{place}/calls.db")
    assert names(place) <= {"calls.db"}
    with wellkept.open(f"sqlite:///{place}/calls.db", trust=True) as cache:
        assert len(wellkept.keep(cache=cache, version=1)(ones)(3)) == 3
