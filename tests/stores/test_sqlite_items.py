"""Items in one SQLite file: terms, plans, transactions, strangers' files, damage."""

import itertools
import math
import os
import shutil
import sqlite3
import stat
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.stores.agreement import check_agreement
from tests.stores.racing import check_races

from wellkept.errors import (
    ConfigError,
    DamagedValue,
    KeptWarning,
    NewerSchema,
    StoreError,
    UntrustedSource,
)
from wellkept.stores.base import Creates, Finds, Many, Maps, Paths, Replaces
from wellkept.stores.sqlite_items import _GET, UNINDEXED, Sqlite
from wellkept.testing import Accessor, StoreContract

DATA = Path(__file__).parent / "data"


class InTable:
    """Around a `Sqlite`: another connection."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def _do(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(self._path, isolation_level=None)) as c:
            return c.execute(query, values).fetchall()

    def read(self, key: str) -> Any:
        found = self._do("SELECT item FROM items WHERE key = ?", key)
        return found[0][0] if found else None

    def write(self, key: str, item: Any) -> None:
        self._do("INSERT OR REPLACE INTO items (key, item) VALUES (?,?)", key, item)

    def keys(self) -> list[str]:
        return [row[0] for row in self._do("SELECT key FROM items")]

    def damage(self, key: str) -> bool:
        return False  # a medium gives the bytes that are there; whoever wrote them verifies them


class TestSqlite(StoreContract):
    pickles = True

    def make(self, place: Path) -> Sqlite:
        return Sqlite(place / "items.sqlite")

    def accessor(self, store: Any, place: Path) -> Accessor:
        return InTable(place / "items.sqlite")


class TestOnANetwork(TestSqlite):
    def make(self, place: Path) -> Sqlite:
        return Sqlite(place / "items.sqlite", network=True, durable=True)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Sqlite]:
    with closing(Sqlite(tmp_path / "items.sqlite")) as made:
        yield made


def test_it_agrees_with_a_dict(tmp_path: Path) -> None:
    count = itertools.count()
    check_agreement(lambda: Sqlite(tmp_path / f"{next(count)}.sqlite"))


def test_what_it_can(store: Sqlite) -> None:
    for ability in (Creates, Finds, Many, Replaces):
        assert isinstance(store, ability)
    assert not isinstance(store, Paths)
    assert not isinstance(store, Maps)


def test_eight_processes(store: Sqlite) -> None:
    check_races(store, times=300)


# -- terms ----------------------------------------------------------------------------------------

VALUES: Any = st.one_of(
    st.none(),
    st.integers(-(2**63), 2**63 - 1),
    st.integers(-3, 3),
    st.floats(allow_nan=False),
    st.sampled_from([0.0, -0.0, 1.0, math.inf, -math.inf, "", "a", "b", "ab", "A", "é", "1"]),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=5),
)
NAMES = st.sampled_from(["x", "y", "function", "argument.naïve 名"])


def fits(value: Any, wanted: Any) -> bool:
    """What the documentation says."""

    def same_kind(one: Any, other: Any) -> bool:
        return isinstance(one, str) == isinstance(other, str) and None not in (one, other)

    if not isinstance(wanted, tuple):
        return value is None if wanted is None else same_kind(value, wanted) and value == wanted
    low, high = wanted
    if value is None:
        return False
    if low is None and high is None:
        return True
    sample = high if low is None else low
    return (
        same_kind(value, sample)
        and (low is None or low <= value)
        and (high is None or value <= high)
    )


def ranges() -> Any:
    numbers = st.one_of(st.none(), st.integers(-3, 3), st.floats(allow_nan=False))
    texts = st.one_of(st.none(), st.sampled_from(["", "a", "b"]))
    return st.one_of(st.tuples(numbers, numbers), st.tuples(texts, texts))


@given(
    rows=st.lists(
        st.tuples(
            st.sampled_from(["a/1", "a/2", "a/3", "b/1", "b/2"]),
            st.sampled_from(["put", "put", "put", "plain", "replace", "delete", "create"]),
            st.dictionaries(NAMES, VALUES, max_size=4),
        ),
        max_size=12,
    ),
    wheres=st.lists(
        st.dictionaries(NAMES, st.one_of(VALUES, ranges()), max_size=3), min_size=1, max_size=4
    ),
    prefix=st.sampled_from(["", "a/", "b/", "a/1", "c"]),
)
def test_finding_agrees_with_a_scan(rows: Any, wheres: Any, prefix: str) -> None:
    store = Sqlite(f"{time.time_ns()}.sqlite")
    model: dict[str, dict[str, Any]] = {}
    for key, what, terms in rows:
        if what == "put":
            store.put(key, b"item", terms)
            model[key] = terms
        elif what == "plain":
            store.put(key, b"item")
            model[key] = {}
        elif what == "delete":
            store.delete(key)
            model.pop(key, None)
        elif what == "create":
            store.create(key, b"item")
            model.setdefault(key, {})
        else:
            store.replace(key, b"item", b"item")
    # Also each term that is there, or most searches would find nothing.
    wheres += [{name: value} for terms in model.values() for name, value in terms.items()]
    wheres += list(model.values())
    for where in wheres:
        wanted = [
            key
            for key, terms in model.items()
            if key.startswith(prefix)
            and all(name in terms and fits(terms[name], value) for name, value in where.items())
        ]
        assert sorted(store.find(where, prefix)) == sorted(wanted), where
    store.delete_many(model)
    assert list(store.database.rows("SELECT * FROM terms")) == []
    store.close()


@pytest.mark.parametrize("term", [2**63, -(2**63) - 1, math.nan, b"x", [1], "\ud800", 1j])
def test_what_is_no_term(store: Sqlite, term: Any) -> None:
    with pytest.raises(ConfigError, match="a term"):
        store.put("a", b"x", {"t": term})
    with pytest.raises(ConfigError, match="a term"):
        list(store.find({"t": term}))
    with pytest.raises(ConfigError, match="term"):
        store.put("a", b"x", {7: 1})  # type: ignore[dict-item]
    with pytest.raises(ConfigError, match="no range"):
        list(store.find({"t": (1, "a")}))
    assert store.get("a") is None


def test_more_matches_than_a_page(store: Sqlite, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wellkept.stores.sqlite_items._PAGE", 10)
    for n in range(95):
        store.put(f"a/{n}", b"", {"same": "x", "n": n // 4, "text": f"{n:03}"})
    everything = sorted(f"a/{n}" for n in range(95))
    for where in (
        {"same": "x"},
        {"n": (0, 100)},
        {"n": (None, None)},
        {"same": "x", "n": (0, 30)},
        {"same": "x", "text": ("000", "999")},
    ):
        assert sorted(store.find(where)) == everything, where
    assert sorted(store.keys()) == everything
    assert len(list(store.find({"n": (1, 3)}))) == 12


def plan(store: Sqlite, where: Any, prefix: str = "") -> list[str]:
    """What SQLite says that it does for a search."""
    from wellkept.stores.terms import Wanted

    query, values, _, last = store._plan([Wanted.of(*item) for item in where.items()], prefix)
    rows = store.database.rows(f"EXPLAIN QUERY PLAN {query}", *values, *last)
    return [row[3] for row in rows]


@pytest.mark.parametrize(
    "where",
    [
        {"function": "f"},
        {"x": 5},
        {"x": (5, 7)},
        {"function": "f", "x": 5},
        {"function": "f", "x": (5, 7)},
        {"function": "f", "x": 5, "y": 7},
    ],
)
@pytest.mark.parametrize("prefix", ["", "calls/"])
def test_a_search_touches_only_matches(store: Sqlite, where: Any, prefix: str) -> None:
    for n in range(300):
        store.put(f"calls/{n}", b"", {"function": "f", "x": n % 50, "y": n})
    steps = plan(store, where, prefix)
    assert steps[0] in (
        "SEARCH t USING PRIMARY KEY (name=? AND value=? AND id>?)",
        "SEARCH t USING PRIMARY KEY (name=? AND (value,id)>(?,?) AND value<?)",
    )
    looks = {
        "SEARCH i USING INTEGER PRIMARY KEY (rowid=?)",
        "SEARCH o USING PRIMARY KEY (name=? AND value=? AND id=?)",
    }
    assert {step for step in steps[1:] if not step.startswith("CORRELATED")} <= looks, steps
    assert not [step for step in steps if "SCAN" in step or "TEMP B-TREE" in step], steps


def test_the_rarest_term_comes_first(store: Sqlite) -> None:
    from wellkept.stores.terms import Wanted

    for n in range(300):
        store.put(f"calls/{n}", b"", {"function": "f", "x": n})
    assert list(store.find({"function": "f", "x": 5})) == ["calls/5"]
    for names in (("function", "x"), ("x", "function")):
        where = {"function": "f", "x": 5}
        wanted = [Wanted.of(name, where[name]) for name in names]
        assert store._plan(wanted, "")[1][0] == "x"


@pytest.mark.long
@pytest.mark.timeout(900)
def test_ten_matches_among_a_million(tmp_path: Path) -> None:
    with closing(Sqlite(tmp_path / "items.sqlite")) as store, store.database.writing() as c:
        rows = ((n, f"calls/{n * 7919 % 2**32:064x}", b"x" * 100) for n in range(1_000_000))
        c.executemany("INSERT INTO items (id, key, item) VALUES (?,?,?)", rows)
        for name, value in (("argument.x", "id / 10"), ("function", "'f' || (id % 3)")):
            c.execute(f"INSERT INTO terms SELECT '{name}', {value}, id FROM items ORDER BY 2, 3")
        c.execute(
            "UPDATE items SET terms = json_array(json_array('argument.x', id / 10), "
            "json_array('function', 'f' || (id % 3)))"
        )
        c.execute("UPDATE indexed SET mark = 1000000")
    with closing(Sqlite(tmp_path / "items.sqlite")) as store:
        for where, count in (
            ({"argument.x": 77_777}, 10),
            ({"function": "f1", "argument.x": 77_777}, 3),
            ({"function": "f1", "argument.x": (77_777, 77_778)}, 7),
        ):
            took = []
            for _ in range(5):
                begun = time.process_time()
                found = list(store.find(where, "calls/"))
                took.append(time.process_time() - begun)
                assert abs(len(found) - count) <= 1
            print(f"{where}: {len(found)} of a million in {min(took) * 1e3:.2f} ms")
            assert min(took) <= 0.010


# -- transactions ---------------------------------------------------------------------------------


def test_a_get_is_one_point_read(store: Sqlite) -> None:
    store.put("a/b", b"x")
    rows = store.database.rows(f"EXPLAIN QUERY PLAN {_GET}", "a/b")
    assert [row[3] for row in rows] == ["SEARCH items USING INDEX sqlite_autoindex_items_1 (key=?)"]


def test_many_are_put_in_one_transaction_or_not_at_all(store: Sqlite) -> None:
    before = store.database.token()
    store.put_many({f"a/{n}": b"x" for n in range(1500)})
    after = store.database.token()
    assert before is not None
    assert after is not None
    assert after[0] - before[0] == 1, "one commit"
    assert len(store.get_many(f"a/{n}" for n in range(2000))) == 1500
    with pytest.raises(ConfigError):
        store.put_many({"b/1": b"x", "../b": b"x"})
    assert store.get("b/1") is None
    with pytest.raises(ConfigError):
        store.delete_many(["a/1", "../b"])
    assert store.get("a/1") == b"x"


def test_an_item_that_is_too_large_is_a_store_error(
    store: Sqlite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wellkept.stores.sqlite_items._LARGEST", 1000)
    for attempt in (
        lambda: store.put("a", b"x" * 1001),
        lambda: store.create("a", b"x" * 1001),
        lambda: store.replace("a", b"", b"x" * 1001),
    ):
        with pytest.raises(StoreError, match="can't hold an item of 1,001 bytes"):
            attempt()


def test_empty_items_of_every_kind_of_memory(store: Sqlite) -> None:
    for empty in (b"", bytearray(), memoryview(b""), memoryview(bytearray(5))[5:]):
        store.put("a", empty)
        assert store.get("a") == b""
        store.delete("a")
        assert store.create("a", empty)
        assert store.replace("a", b"", empty)


# -- what is not ours, and what is damaged --------------------------------------------------------


def test_a_stranger_s_database_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "theirs.db"
    with closing(sqlite3.connect(path)) as c:
        c.execute("CREATE TABLE items (id INTEGER)")
        c.commit()
    before = path.read_bytes()
    with pytest.raises(StoreError, match="not one of items that kept made"):
        Sqlite(path)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["theirs.db"]


def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "items.sqlite"
    Sqlite(path).close()
    with closing(sqlite3.connect(path)) as c:
        c.execute("PRAGMA user_version = 3")
    with pytest.raises(NewerSchema, match="upgrade wellkept"):
        Sqlite(path)


def test_a_store_of_the_first_schema(tmp_path: Path) -> None:
    """Whose terms were all indexed at once; it is taken over, also where it may only be read."""
    path = tmp_path / "items.sqlite"
    shutil.copy(DATA / "items-1" / "items.sqlite", path)
    even = {f"calls/{n:04d}" for n in range(0, 40, 2)}
    path.chmod(0o400)
    if os.getuid():
        with closing(Sqlite(path)) as store:
            assert set(store.find({"function": "g"})) == even
    path.chmod(0o600)
    with closing(Sqlite(path)) as store:
        assert len(list(store.keys())) == 40
        assert set(store.find({"function": "g"})) == even
        assert list(store.find({"function": "h"})) == ["calls/0009"]
        store.put("calls/0000", b"new", {"function": "h"})
        assert set(store.find({"function": "g"})) == even - {"calls/0000"}
        assert set(store.find({"function": "h"})) == {"calls/0000", "calls/0009"}
        store.put("calls/0041", b"new", {"n": (1 << 62)})
        assert list(store.find({"n": (40, None)})) == ["calls/0041"]
    with closing(sqlite3.connect(path)) as c:
        assert c.execute("PRAGMA user_version").fetchone() == (2,)


def test_the_first_schema_where_nothing_can_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "items.sqlite"
    shutil.copy(DATA / "items-1" / "items.sqlite", path)
    monkeypatch.setattr(os, "access", lambda *_: False)  # even for root
    with closing(Sqlite(path)) as store:
        assert store.database.readonly
        assert list(store.find({"function": "h"})) == ["calls/0009"]
    monkeypatch.undo()
    with closing(sqlite3.connect(path)) as c:
        assert c.execute("PRAGMA user_version").fetchone() == (1,)


def test_what_is_not_indexed_yet_is_found_where_nothing_can_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "items.sqlite"
    with closing(Sqlite(path)) as store:
        for n in range(20):
            store.put(f"a/{n}", b"x", {"n": n % 4, "of": "a"})
        assert len(list(store.find({"n": 1}))) == 5
        for n in range(20):
            store.put(f"b/{n}", b"x", {"n": n % 4, "of": "b"})
    monkeypatch.setattr(os, "access", lambda *_: False)
    with closing(Sqlite(path)) as store:
        assert len(list(store.find({"n": 1}))) == 10
        assert len(list(store.find({"n": (1, 2), "of": "b"}, "b/"))) == 10
        assert len(list(store.find({"n": 1}, "a/"))) == 5


def test_terms_of_a_number_that_is_given_again(store: Sqlite) -> None:
    for n in range(3):
        store.put(f"a{n}", b"x", {"t": n})
    assert list(store.find({"t": 2})) == ["a2"]
    store.delete("a2")
    store.put("b", b"x", {"t": 7})  # it gets a2's number, which lies before the mark
    assert list(store.find({"t": 7})) == ["b"]
    assert list(store.find({"t": 2})) == []


def test_terms_are_indexed_on_the_way(store: Sqlite) -> None:
    """So that whoever asks first need not index everything."""
    for n in range(1500):
        store.put(f"a/{n}", b"x", {"t": n})
    (waiting,) = next(store.database.rows(f"SELECT count(*) FROM ({UNINDEXED})"))
    assert waiting < 1001
    assert list(store.find({"t": (1400, None)})) == [f"a/{n}" for n in range(1400, 1500)]
    (waiting,) = next(store.database.rows(f"SELECT count(*) FROM ({UNINDEXED})"))
    assert waiting == 0


def test_a_damaged_file_is_set_aside(tmp_path: Path) -> None:
    path = tmp_path / "items.sqlite"
    path.write_bytes(b"no database at all" * 1000)
    with pytest.warns(KeptWarning, match="damaged"):
        store = Sqlite(path)
    store.put("a", b"x")
    assert store.get("a") == b"x"
    store.close()
    assert len(list(tmp_path.glob("items.damaged-*"))) == 1


def test_damaged_rows_are_not_served(store: Sqlite) -> None:
    around = InTable(store.file)
    store.put("a", b"x", {"t": 1, "u": 2})
    store.put("b", b"x", {"t": 1, "u": 2})
    for wrong in ("'text'", "5", "0.5"):
        around._do(f"UPDATE items SET item = {wrong} WHERE key = 'a'")
        with pytest.raises(DamagedValue):
            store.get("a")
        with pytest.raises(DamagedValue):
            store.get_many(["a"])
    assert sorted(store.find({"t": 1})) == ["a", "b"]
    for wrong in (
        "not json",
        "[1]",
        '[["t"]]',
        "[[1, 2, 3]]",
        '{"a": 1}',
        "[" * 5000,
        '[["t", [1]]]',
    ):
        around._do("UPDATE items SET terms = ? WHERE key = 'a'", wrong)
        with pytest.raises(DamagedValue):
            list(store.find({"t": 1, "u": (0, 9)}))
        store.put("a", b"y", {"t": 1, "u": 2})
        assert store.get("a") == b"y"
        assert sorted(store.find({"u": 2})) == ["a", "b"]
        assert len(around._do("SELECT * FROM terms")) == 4, "those of the damaged row are gone"
        assert sorted(store.find({"t": 1, "u": (0, 9)})) == ["a", "b"]


def test_who_may_read_it(tmp_path: Path) -> None:
    store = Sqlite(tmp_path / "new" / "items.sqlite")
    store.put("a", b"x")
    for path in (tmp_path / "new").iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
    store.close()
    (tmp_path / "new").chmod(0o777)
    with pytest.raises(UntrustedSource, match="trust=True"):
        Sqlite(tmp_path / "new" / "items.sqlite")
    again = Sqlite(tmp_path / "new" / "items.sqlite", trust=True)
    assert again.get("a") == b"x"
    again.close()


def test_a_directory_that_can_t_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="can't use"):
        Sqlite(tmp_path / "file" / "items.sqlite")
