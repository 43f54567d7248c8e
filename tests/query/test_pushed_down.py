"""Queries touch what they find, not all that is kept: the plans SQLite makes, and records read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

import wellkept
from wellkept import between, one_of
from wellkept.query import Matches
from wellkept.stores import Sql, Sqlite

COUNT = 3_000


@wellkept.keep(name="pushed.f", version=1, arguments="scalars")
def f(n: int, m: int = 0, data: Any = None) -> int:
    return n


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[wellkept.Cache]:
    root = tmp_path_factory.mktemp("filled")
    root.chmod(0o700)
    with wellkept.open(root / "store") as cache, wellkept.use(cache):
        for n in range(COUNT):
            f(n, n % 7, [n] if n % 3 else None)
        list(f.query(n=1))
        list(f.query().where(result=5))  # makes the index of results
        yield cache


QUERIES: dict[str, Callable[[], Matches]] = {
    "one argument": lambda: f.query(n=77),
    "few of many": lambda: f.query(m=3).limit(5),
    "a digest": lambda: f.query(data=[77]),
    "given": lambda: f.query().where(given=[77]),
    "none": lambda: f.query(n=10**9),
    "a range": lambda: f.query(n=between(100, 110)),
    "two": lambda: f.query(n=between(100, 150), m=3),
    "a choice": lambda: f.query(n=one_of(5, 6, 7)),
    "the latest": lambda: f.query().order_by("-created").limit(1),
    "the latest of some": lambda: f.query(m=3).order_by("-created").limit(1),
    "the latest of all": lambda: f.query().cache.query().order_by("-created").limit(1),
    "a result": lambda: f.query().where(result=5),
    "a key": lambda: f.query().where(key=f.key(5, 5, [5])),
    "part of a key": lambda: f.query().where(key=f.key(5, 5, [5])[:20]),
    "lately": lambda: f.query().where(since=f.query(n=COUNT - 3).one().created),
}


@pytest.fixture
def statements(filled: wellkept.Cache) -> Iterator[list[str]]:
    place: Any = filled.backend
    said: list[str] = []
    place.database.connection.set_trace_callback(said.append)
    with wellkept.use(filled):
        yield said
    place.database.connection.set_trace_callback(None)


@pytest.mark.parametrize("name", QUERIES)
def test_the_plan_scans_nothing(name: str, filled: wellkept.Cache, statements: list[str]) -> None:
    query = QUERIES[name]()
    statements.clear()
    list(query.calls())
    query.count()
    place: Any = filled.backend
    asked = [said for said in statements if said.startswith("SELECT")]
    assert any("listed" in said or "terms" in said for said in asked)
    for said in asked:
        rows = place.database.rows(f"EXPLAIN QUERY PLAN {said}")
        plan = [row[3] for row in rows]
        full = [
            step
            for step in plan
            if step.startswith("SCAN")
            and not step.startswith(("SCAN json_each", "SCAN t VIRTUAL", "SCAN (", "SCAN t"))
        ]
        if "FROM tally" in said:
            continue  # a row a function
        assert not full, (said, plan)
        assert not any(step in ("SCAN t", "SCAN l", "SCAN c") for step in plan), (said, plan)


@pytest.mark.parametrize("name", QUERIES)
def test_few_steps_are_made(name: str, filled: wellkept.Cache) -> None:
    """A scan of all calls takes some ten thousand."""
    place: Any = filled.backend
    steps = 0

    def step() -> int:
        nonlocal steps
        steps += 100
        return 0

    with wellkept.use(filled):
        query = QUERIES[name]()
        list(query.calls())
        c = place.database.connection
        c.set_progress_handler(step, 100)
        try:
            found = list(query.calls())
        finally:
            c.set_progress_handler(None, 0)
    assert steps < 6_000 + 400 * len(found), (steps, len(found))


def test_counting_all_reads_no_list(filled: wellkept.Cache, statements: list[str]) -> None:
    statements.clear()
    assert f.query().count() == filled.query().count() == COUNT
    assert not [said for said in statements if "FROM listed" in said or "FROM calls" in said]


def test_counts_by_argument_read_no_record(filled: wellkept.Cache, statements: list[str]) -> None:
    statements.clear()
    assert f.query(m=3).count() == len(range(3, COUNT, 7))
    assert f.query(n=between(10, 19)).count() == 10
    assert f.query(data=[77]).count() == 1
    assert not [said for said in statements if "c.body" in said]


def test_metadata_goes_through_json(filled: wellkept.Cache, statements: list[str]) -> None:
    statements.clear()
    assert f.query().where(metadata={"git": {"commit": "abc"}}).count() == 0
    assert [said for said in statements if "json_extract" in said]


def test_nothing_is_read_before_it_is_asked_for(
    filled: wellkept.Cache, statements: list[str]
) -> None:
    statements.clear()
    query = f.query(m=3).where(state="done").order_by("-n").limit(10)
    repr(query)
    assert statements == []
    first = iter(query)
    assert statements == []
    next(first)
    assert statements != []


def test_a_result_is_loaded_when_it_is_looked_at(filled: wellkept.Cache, monkeypatch: Any) -> None:
    loaded: list[bytes] = []
    find = type(filled).find
    monkeypatch.setattr(
        type(filled), "find", lambda self, key: loaded.append(key) or find(self, key)
    )
    with wellkept.use(filled):
        matches = list(f.query(n=between(5, 9)))
        assert loaded == []
        assert matches[2].result == 7
        assert loaded == [matches[2].key.raw]


class Counting:
    """A store of items that counts the records that are read."""

    def __init__(self, store: Any) -> None:
        self._store = store
        self.read = 0
        self.finds: list[Any] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def get(self, key: str) -> Any:
        self.read += key.startswith("calls/")
        return self._store.get(key)

    def put(self, key: str, item: Any, terms: Any = None) -> None:
        self._store.put(key, item, terms=terms)

    def delete(self, key: str) -> None:
        self._store.delete(key)

    def keys(self, prefix: str = "") -> Iterator[str]:
        return iter(self._store.keys(prefix))

    def get_many(self, keys: Any) -> Any:
        keys = list(keys)
        self.read += sum(key.startswith("calls/") for key in keys)
        return self._store.get_many(keys)

    def put_many(self, items: Any) -> None:
        self._store.put_many(items)

    def delete_many(self, keys: Any) -> None:
        self._store.delete_many(keys)

    def find(self, where: Any, prefix: str = "") -> Iterator[str]:
        self.finds.append(where)
        return iter(self._store.find(where, prefix))


class TestItems:
    @pytest.fixture
    def items(self, home: Any) -> Iterator[Counting]:
        items = Counting(Sqlite("items.db"))
        with wellkept.Cache(values=items, calls=items) as cache, wellkept.use(cache):  # type: ignore[arg-type]  # does for one
            other = wellkept.keep(name="other", version=1)(lambda n: n)
            for n in range(50):
                f(n, n % 7), other(n)
            yield items

    @pytest.mark.parametrize(
        ("made", "most"),
        [
            (lambda: f.query(n=7), 1),
            (lambda: f.query(m=3), 8),
            (lambda: f.query(), 50),
            (lambda: f.query().where(result=7), 1),
            (lambda: f.query(n=between(5, 9)), 50),
            (lambda: f.query().cache.query(result=7), 2),
        ],
    )
    def test_by_terms(self, items: Counting, made: Callable[[], Matches], most: int) -> None:
        query = made()
        query.cache.flush()
        items.read = 0
        found = list(query)
        assert found
        assert len(found) <= items.read <= most
        assert len(items.finds) >= 1

    @pytest.mark.parametrize(
        "kind", ["sqlite", *(pytest.param(n, marks=pytest.mark.long) for n in ("pg", "maria"))]
    )
    def test_metadata_by_terms(self, kind: str, home: Any, request: pytest.FixtureRequest) -> None:
        url = {"pg": "postgresql_url", "maria": "mariadb_url"}.get(kind)
        store = Sqlite("items.db") if url is None else Sql(request.getfixturevalue(url))
        items = Counting(store)
        with wellkept.Cache(values=items, calls=items) as cache, wellkept.use(cache):  # type: ignore[arg-type]  # does for one
            for n in range(30):
                f(n)
                call = f.call(n)
                said = {"git": {"commit": f"c{n % 10}", "dirty": n == 3}, "run": f"r{n % 3}"}
                said |= {"tags": {"n": n / 2, "none": None}, "wall": n, "\udcff": {"x": 1}}
                cache.calls.put(call.key, call.replace(metadata=said))
            for found, fits, most in (
                (f.query().where(metadata={"git": {"commit": "c7"}}), [7, 17, 27], 3),
                (f.query().where(metadata={"git": {"dirty": True}}), [3], 1),
                (cache.query(run="r1", metadata={"git": {"commit": "c4"}}), [4], 1),
                (cache.query(tags={"n": 2.0}), [4], 1),
                (cache.query(tags={"n": 2}), [], 1),
                (cache.query(tags={"n": wellkept.above(13)}), [27, 28, 29], 4),
                (cache.query(tags={"none": None, "n": wellkept.at_most(0.5)}), [0, 1], 2),
                (cache.query(metadata={"wall": 5}), [5], 30),
                (cache.query(metadata={"\udcff": {"x": 1}}), list(range(30)), 30),
            ):
                items.read = 0
                assert [match.arguments["n"] for match in found] == fits
                assert items.read <= most, found
            store.close()

    def test_not_without_terms(self, items: Counting) -> None:
        items.finds.clear()
        assert wellkept.Matches(f.cache).where(state="done").count() == 100
        assert items.finds == []
